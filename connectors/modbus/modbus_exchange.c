/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked and answered over a link that is up; what becomes of requests over one that is not. */
#include "modbus_link_impl.h"

enum {
    BUSY_MS = 200,       /* until a device that is busy is asked again */
    TURNAROUND_MS = 100, /* after a broadcast: MODBUS over Serial Line V1.02, 2.4.1 */
    SILENT_AFTER = 2,    /* failed requests in a row of a unit */
    REOPEN_AFTER = 3,    /* and of a link */
    SILENT_SHARE = 10,   /* a unit that is probed takes at most this part of a link's time */
    SILENT_MAX_MS = 60000,
    GUARD_MIN_MS = 200, /* how long an overdue answer is waited for, at least and at most */
    GUARD_MAX_MS = 60000,
    GUARD_STREAM_MS = 10000, /* over TCP, where something between may keep it back for long; a bus is over with it */
    GUARD_SHARE = 4,         /* and by how much the slowest answer of late is exceeded */
    QUICK_MS = 20,
    HOLD_MS = 1000,       /* how long an answer is waited for before other units are asked */
    HOLD_FAILED_MS = 100, /* of a unit that has failed before */
};

static bool is_broadcast(const struct modbus_link *link, const struct modbus_request *request)
{
    return request->unit == 0 && link->conf.framing != MODBUS_SOCKET;
}

/* --- units that do not answer --------------------------------------------------------------------------------------------- */
static void tell_unit(struct modbus_link *link, struct modbus_unit *unit, bool is_answering)
{
    if (unit->is_answering == is_answering)
        return;
    unit->is_answering = is_answering;
    if (is_answering)
        LOG_DEBUG(link->log, "unit answers again", KV_Z("link", link->conf.name), KV_UINT("unit", unit->id));
    else
        LOG_DEBUG(link->log, "unit does not answer", KV_Z("link", link->conf.name), KV_UINT("unit", unit->id));
    if (link->events.unit)
        link->events.unit(link->arg, unit->id, is_answering);
}

static void unit_failed(struct modbus_link *link, struct modbus_unit *unit, uint32_t spent_ms)
{
    uint64_t now_ms = loop_mono_ms(link->loop), pause_ms;

    if (++unit->n_failed < SILENT_AFTER)
        return;
    tell_unit(link, unit, false);
    if (!modbus_link_is_shared(link) || link->state == MODBUS_LINK_ENDED)
        return;
    pause_ms = backoff_next(&unit->backoff, now_ms);
    if (pause_ms < (uint64_t)spent_ms * SILENT_SHARE) {
        pause_ms = (uint64_t)spent_ms * SILENT_SHARE;
        if (pause_ms > SILENT_MAX_MS)
            pause_ms = spent_ms * 2ull > SILENT_MAX_MS ? spent_ms * 2ull : SILENT_MAX_MS;
    }
    unit->is_silent = true;
    unit->silent_until_ms = now_ms + pause_ms;
    modbus_turn_flush(link, unit, ERR_UNREACHABLE);
}

static void unit_answered(struct modbus_link *link, struct modbus_unit *unit)
{
    if (unit->n_failed)
        backoff_init(&unit->backoff, (uint64_t)(uintptr_t)unit + unit->id);
    unit->n_failed = 0;
    unit->is_silent = false;
    tell_unit(link, unit, true);
}

/* --- sending --------------------------------------------------------------------------------------------------------------- */
static void arm_deadline(struct modbus_link *link)
{
    uint64_t due_ms = UINT64_MAX;

    for (unsigned i = 0; i < link->n_in_flight; i++) {
        if (link->in_flight[i]->due_ms < due_ms)
            due_ms = link->in_flight[i]->due_ms;
    }
    if (due_ms == UINT64_MAX)
        timer_stop(&link->deadline);
    else if (!timer_is_running(&link->deadline) || link->deadline.due_ms != due_ms)
        timer_start_at(&link->deadline, due_ms);
}

/*
 * How long a request holds its place in the window while others wait. With transaction identifiers the other units of a link
 * need not wait for one that is silent: servers put what comes meanwhile in a queue. Not where a gap between requests is asked for.
 */
static uint64_t hold_ms(const struct modbus_link *link, const struct modbus_request *request)
{
    uint64_t ms = (uint64_t)link->latency_ms * GUARD_SHARE, least_ms = request->of->n_failed ? HOLD_FAILED_MS : HOLD_MS;

    if (link->conf.framing != MODBUS_SOCKET || link->conf.delay_ms || !modbus_link_is_shared(link))
        return UINT64_MAX;
    return ms < least_ms ? least_ms : ms;
}

/* May one more be sent? *beyond: only of units that have none on their way. */
static bool has_place(struct modbus_link *link, bool *beyond)
{
    uint64_t now_ms = loop_mono_ms(link->loop);
    unsigned n_held = 0;

    *beyond = link->n_in_flight >= link->window;
    if (!*beyond)
        return true;
    if (link->n_in_flight == MODBUS_IN_FLIGHT_MAX)
        return false;
    for (unsigned i = 0; i < link->n_in_flight; i++) {
        uint64_t ms = hold_ms(link, link->in_flight[i]), until_ms = link->in_flight[i]->sent_ms + ms;

        if (ms == UINT64_MAX || until_ms > now_ms)
            n_held++;
        if (ms != UINT64_MAX && until_ms > now_ms && until_ms < link->wake_ms && link->n_queued)
            link->wake_ms = until_ms;
    }
    return n_held < link->window;
}

static void arm_pace(struct modbus_link *link)
{
    if (link->n_queued && link->n_in_flight < link->window && link->free_ms > loop_mono_ms(link->loop) &&
        link->free_ms < link->wake_ms)
        link->wake_ms = link->free_ms;
    if (!list_is_empty(&link->delayed)) {
        uint64_t due_ms = CONTAINER_OF(list_first(&link->delayed), struct modbus_request, node)->due_ms;

        if (due_ms < link->wake_ms)
            link->wake_ms = due_ms;
    }
    if (link->wake_ms == UINT64_MAX)
        timer_stop(&link->pace);
    else
        timer_start_at(&link->pace, link->wake_ms);
}

/* How long n bytes take on the line; elsewhere nothing. */
static uint32_t line_ms(const struct modbus_link *link, size_t n)
{
    return (uint32_t)((n * link->char_us + 999) / 1000);
}

static uint16_t new_tid(struct modbus_link *link)
{
    uint16_t tid = link->next_tid++;

    for (unsigned i = 0; i < link->n_in_flight; i++) {
        if (link->in_flight[i]->tid == tid) {
            tid = link->next_tid++;
            i = UINT_MAX; /* from the first one again */
        }
    }
    return tid;
}

static void transmit(struct modbus_link *link, struct modbus_request *request)
{
    struct modbus_unit *unit = request->of;
    uint64_t now_ms = loop_mono_ms(link->loop);
    uint8_t frame[MODBUS_FRAME_MAX];
    size_t n;

    request->tid = link->conf.framing == MODBUS_SOCKET ? new_tid(link) : 0;
    n = modbus_frame_put(frame, link->conf.framing, request->tid, request->unit, &request->pdu);
    if (request->n_sent++ == 0) {
        unit->counts.n_requests++;
        request->first_sent_ms = now_ms;
    } else {
        unit->counts.n_retries++;
    }
    if (link->conf.framing != MODBUS_SOCKET) {
        modbus_framer_reset(&link->framer);
        modbus_framer_expect(&link->framer, request->unit, &request->pdu);
    }
    if (link->echo) {
        memcpy(link->echo, frame, n);
        link->echo_n = n;
        link->echo_at = 0;
    }
    request->due_ms = now_ms + line_ms(link, n);
    request->due_ms += is_broadcast(link, request)
                           ? TURNAROUND_MS
                           : request->timeout_ms + line_ms(link, modbus_answer_size(&request->pdu) + 4);
    request->sent_ms = now_ms;
    request->state = MODBUS_IN_FLIGHT;
    link->in_flight[link->n_in_flight++] = request;
    unit->n_in_flight++;
    if (request->is_command)
        unit->command = request;
    modbus_line_write(link->line, frame, n);
}

void modbus_exchange_tell(struct modbus_link *link)
{
    for (unsigned n = link->n_finished; n; n--) { /* what is finished meanwhile waits for the next call */
        struct modbus_request *request = CONTAINER_OF(list_take_first(&link->finished), struct modbus_request, node);

        link->n_finished--;
        request->state = MODBUS_IDLE;
        request->done(request, request->err, NULL);
    }
    if (link->n_finished && link->state != MODBUS_LINK_ENDED)
        late_arm(link->loop, &link->pump);
}

void modbus_exchange_pump(struct modbus_link *link)
{
    uint64_t now_ms = loop_mono_ms(link->loop);
    struct modbus_request *request;
    bool beyond;

    if (link->is_pumping)
        return;
    link->is_pumping = true;
    modbus_exchange_tell(link);
    link->wake_ms = UINT64_MAX;
    while (link->state == MODBUS_LINK_UP && now_ms >= link->free_ms && has_place(link, &beyond) &&
           (request = modbus_turn_take(link, beyond)))
        transmit(link, request);
    if (link->state != MODBUS_LINK_ENDED) {
        arm_deadline(link);
        arm_pace(link);
    }
    link->is_pumping = false;
}

static void on_pace(void *arg)
{
    struct modbus_link *link = arg;
    struct list *node;

    while ((node = list_first(&link->delayed))) {
        struct modbus_request *request = CONTAINER_OF(node, struct modbus_request, node);

        if (request->due_ms > loop_mono_ms(link->loop))
            break;
        list_del(node);
        modbus_turn_add(link, request, true);
    }
    modbus_exchange_pump(link);
}

/* --- the end of an attempt ---------------------------------------------------------------------------------------------------- */
/* Out of the window; the gap before the next one begins. */
static void land(struct modbus_link *link, unsigned i)
{
    struct modbus_request *request = link->in_flight[i];
    uint64_t free_ms = loop_mono_ms(link->loop) + link->conf.delay_ms;

    link->in_flight[i] = link->in_flight[--link->n_in_flight];
    request->of->n_in_flight--;
    request->state = MODBUS_IDLE;
    if (link->free_ms < free_ms)
        link->free_ms = free_ms;
}

static bool has_retry(const struct modbus_link *link, const struct modbus_request *request)
{
    return request->n_sent <= request->retries && !(request->of->n_failed && modbus_link_is_shared(link));
}

/* An answer to the request may yet come, without anything that tells it from the next one's. */
static void remember_owed(struct modbus_link *link, const struct modbus_request *request)
{
    struct modbus_owed *owed = &request->of->owed;
    uint8_t fc = request->pdu.bytes[0];
    unsigned size = modbus_answer_size(&request->pdu);

    if (link->conf.framing == MODBUS_SOCKET)
        return;
    if (owed->fc != fc || owed->size != size)
        owed->n = 0;
    owed->n++;
    owed->fc = fc;
    owed->size = size;
}

/* For so long from the last attempt on; the slower the unit answers, the longer. */
static void guard_owed(struct modbus_link *link, const struct modbus_request *request, uint64_t guard_ms)
{
    uint64_t now_ms = loop_mono_ms(link->loop), until_ms = request->sent_ms + guard_ms;

    if (until_ms < now_ms + GUARD_MIN_MS)
        until_ms = now_ms + GUARD_MIN_MS;
    if (until_ms > now_ms + GUARD_MAX_MS)
        until_ms = now_ms + GUARD_MAX_MS;
    request->of->owed.until_ms = until_ms;
}

/* All attempts are used up. */
static void fail(struct modbus_link *link, struct modbus_request *request, enum err err)
{
    struct modbus_unit *unit = request->of;

    modbus_turn_finish(link, request, err);
    if (err == ERR_TIMEOUT)
        unit_failed(link, unit, request->timeout_ms);
    if (++link->n_failed >= REOPEN_AFTER && link->conf.line.kind == MODBUS_LINE_STREAM) {
        link->n_failed = 0;
        modbus_link_lose(link, ERR_TIMEOUT, "no answer to three requests in a row");
    }
}

static void time_out(struct modbus_link *link, unsigned i)
{
    struct modbus_request *request = link->in_flight[i];
    struct modbus_unit *unit = request->of;
    uint64_t guard_ms;

    land(link, i);
    if (is_broadcast(link, request)) {
        modbus_turn_finish(link, request, ERR_OK);
        return;
    }
    unit->counts.n_timeouts++;
    remember_owed(link, request);
    guard_ms = request->timeout_ms +
               (unit->latency_ms == UINT32_MAX ? request->timeout_ms : (uint64_t)unit->latency_ms * GUARD_SHARE);
    guard_owed(link, request, link->conf.line.kind == MODBUS_LINE_STREAM ? MAX(guard_ms, GUARD_STREAM_MS) : guard_ms);
    LOG_DEBUG(link->log, "no answer in time", KV_Z("link", link->conf.name), KV_UINT("unit", request->unit),
              KV_UINT("function", request->pdu.bytes[0]), KV_UINT("attempt", request->n_sent));
    if (has_retry(link, request))
        modbus_turn_add(link, request, true);
    else
        fail(link, request, ERR_TIMEOUT);
    if (link->conf.framing == MODBUS_SOCKET && modbus_framer_is_partial(&link->framer))
        modbus_link_lose(link, ERR_PROTO, "a frame began and did not go on");
}

/* Behind the sockets of this turn: what has come in time is not overdue because the loop was late. */
static void on_pump(void *arg)
{
    struct modbus_link *link = arg;

    for (unsigned i = link->n_in_flight; i-- > 0;) {
        if (i < link->n_in_flight && link->in_flight[i]->due_ms <= loop_mono_ms(link->loop))
            time_out(link, i);
    }
    modbus_exchange_pump(link);
}

static void on_deadline(void *arg)
{
    struct modbus_link *link = arg;

    late_arm(link->loop, &link->pump);
}

static void count_exception(struct modbus_unit *unit, uint8_t code)
{
    unit->counts.n_exceptions++;
    unit->counts.by_exception[code < COUNT_OF(unit->counts.by_exception) ? code : 0]++;
}

/*
 * An answer behind several attempts is the last one's if it came as quickly as this unit's do; else it may be the first
 * one's, and those of the others may take as long.
 */
static void learn_latency(struct modbus_link *link, struct modbus_request *request)
{
    struct modbus_unit *unit = request->of;
    uint64_t now_ms = loop_mono_ms(link->loop);
    uint32_t ms = (uint32_t)(now_ms - request->first_sent_ms), last_ms = (uint32_t)(now_ms - request->sent_ms);

    request->latency_ms = ms;
    if (unit->latency_ms != UINT32_MAX && last_ms <= (uint64_t)unit->latency_ms * 2 + QUICK_MS)
        ms = last_ms;
    if (unit->latency_ms == UINT32_MAX || ms >= unit->latency_ms)
        unit->latency_ms = ms;
    else
        unit->latency_ms -= (unit->latency_ms - ms) / 16; /* forgets slowly */
    if (unit->latency_ms >= link->latency_ms)
        link->latency_ms = unit->latency_ms;
    else
        link->latency_ms -= (link->latency_ms - unit->latency_ms) / 16;
    if (unit->owed.n)
        guard_owed(link, request, (uint64_t)unit->latency_ms * GUARD_SHARE);
}

static void take_answer(struct modbus_link *link, unsigned i, const struct modbus_pdu *answer)
{
    struct modbus_request *request = link->in_flight[i];
    struct modbus_unit *unit = request->of;
    uint8_t code = modbus_exception_of(answer);

    land(link, i);
    link->n_failed = 0;
    learn_latency(link, request);
    if (code)
        count_exception(unit, code);
    else
        unit->counts.n_answers++;
    if ((code == MODBUS_ACKNOWLEDGE || code == MODBUS_DEVICE_BUSY) && request->n_sent <= request->retries) {
        request->due_ms = loop_mono_ms(link->loop) + BUSY_MS;
        request->state = MODBUS_DELAYED;
        list_add_tail(&link->delayed, &request->node);
        return;
    }
    if (code == MODBUS_GATEWAY_PATH || code == MODBUS_GATEWAY_TARGET) {
        if (unit->n_failed < SILENT_AFTER - 1)
            unit->n_failed = SILENT_AFTER - 1;
        unit_failed(link, unit, request->latency_ms);
    } else {
        unit_answered(link, unit);
    }
    if (unit->command == request)
        unit->command = NULL;
    request->done(request, ERR_OK, answer);
}

/* What came is for this request, and wrong. */
static void refuse_answer(struct modbus_link *link, unsigned i, const struct why *why)
{
    struct modbus_request *request = link->in_flight[i];

    request->of->counts.n_bad++;
    LOG_WARN(link->log, "an answer is not to be believed", KV_Z("link", link->conf.name),
             KV_UINT("unit", request->unit), KV_WHY(why));
    land(link, i);
    if (has_retry(link, request))
        modbus_turn_add(link, request, true);
    else
        fail(link, request, ERR_PROTO);
}

/* --- answers -------------------------------------------------------------------------------------------------------------------- */
static void drop_foreign(struct modbus_link *link, const struct modbus_adu *adu)
{
    struct modbus_unit *unit = link->units[adu->unit];

    if (!unit)
        link->n_foreign++;
    else
        unit->counts.n_foreign++;
    if (unit && unit->owed.n && unit->owed.fc == (adu->pdu.bytes[0] & ~MODBUS_EXCEPTION))
        unit->owed.n--;
    LOG_DEBUG(link->log, "an answer that nobody waits for", KV_Z("link", link->conf.name), KV_UINT("unit", adu->unit),
              KV_UINT("transaction", adu->tid), KV_UINT("function", adu->pdu.bytes[0]));
}

/* Does the frame hold the header of another answer that is awaited? Then the end of its own was lost, and this one's taken. */
static bool has_swallowed(const struct modbus_adu *adu, const struct modbus_request *other)
{
    uint8_t head[] = {(uint8_t)(other->tid >> 8), (uint8_t)other->tid, 0, 0};
    const uint8_t *bytes = adu->pdu.bytes, *end = bytes + adu->pdu.n;

    for (const uint8_t *p = bytes; (p = memmem(p, (size_t)(end - p), head, sizeof head)); p++) {
        if (end - p < MODBUS_MBAP_SIZE)
            return true;
        if (modbus_be16(p + 4) >= 2 && modbus_be16(p + 4) <= 1 + MODBUS_PDU_MAX && p[6] == other->unit)
            return true;
    }
    return false;
}

/* With several answers awaited on a stream, one that is cut would be completed by the next. rest: what follows the frame. */
static bool is_in_step(const struct modbus_link *link, const struct modbus_adu *adu, unsigned own, const uint8_t *rest,
                       size_t n)
{
    if (link->conf.line.kind != MODBUS_LINE_STREAM)
        return true;
    if ((n >= 4 && modbus_be16(rest + 2) != 0) ||
        (n >= 6 && (modbus_be16(rest + 4) < 2 || modbus_be16(rest + 4) > 1 + MODBUS_PDU_MAX)))
        return false;
    for (unsigned i = 0; i < link->n_in_flight; i++) {
        if (i != own && has_swallowed(adu, link->in_flight[i]))
            return false;
    }
    return true;
}

static void take_socket(struct modbus_link *link, const struct modbus_adu *adu, const uint8_t *rest, size_t n_rest)
{
    struct why why = {0};

    for (unsigned i = 0; i < link->n_in_flight; i++) {
        struct modbus_request *request = link->in_flight[i];

        if (request->tid != adu->tid)
            continue;
        if (request->unit != adu->unit && link->conf.line.kind == MODBUS_LINE_DATAGRAM)
            break;
        if (request->unit != adu->unit) {
            (void)why_set(&why, ERR_PROTO, "it is of unit %u", adu->unit);
            refuse_answer(link, i, &why);
            modbus_link_lose(link, ERR_PROTO, "an answer had the wrong unit identifier");
        } else if (modbus_check_answer(&request->pdu, &adu->pdu, &why)) {
            refuse_answer(link, i, &why);
        } else if (!is_in_step(link, adu, i, rest, n_rest)) {
            (void)why_set(&why, ERR_PROTO, "its frame is cut, and the next one follows within");
            refuse_answer(link, i, &why);
            modbus_link_lose(link, ERR_PROTO, "the frames of the stream are out of step");
        } else {
            take_answer(link, i, &adu->pdu);
        }
        return;
    }
    drop_foreign(link, adu);
}

/* Without transaction identifiers there is one request on its way at most. */
static void take_serial(struct modbus_link *link, const struct modbus_adu *adu)
{
    struct modbus_request *request = link->n_in_flight ? link->in_flight[0] : NULL;
    struct why why = {0};

    if (!request || is_broadcast(link, request) || request->unit != adu->unit ||
        request->pdu.bytes[0] != (adu->pdu.bytes[0] & ~MODBUS_EXCEPTION))
        drop_foreign(link, adu);
    else if (!modbus_check_answer(&request->pdu, &adu->pdu, &why))
        take_answer(link, 0, &adu->pdu);
    else if (request->of->owed.n)
        drop_foreign(link, adu);
    else
        refuse_answer(link, 0, &why);
}

/* Our own bytes come back first, where that is expected; gives how many of these they are. */
static size_t skip_echo(struct modbus_link *link, const uint8_t *p, size_t n)
{
    size_t i = 0;

    for (; i < n && link->echo_at < link->echo_n; i++, link->echo_at++) {
        if (p[i] != link->echo[link->echo_at]) { /* a collision, or there is no echo: let the checks decide */
            link->echo_n = 0;
            break;
        }
    }
    return i;
}

void modbus_exchange_bytes(struct modbus_link *link, const uint8_t *p, size_t n)
{
    struct modbus_adu adu;
    enum modbus_fed fed;
    size_t at = link->echo ? skip_echo(link, p, n) : 0;

    if (link->silence_ms && link->free_ms < loop_mono_ms(link->loop) + link->silence_ms)
        link->free_ms = loop_mono_ms(link->loop) + link->silence_ms;
    while (at < n && link->state == MODBUS_LINK_UP) {
        at += modbus_framer_feed(&link->framer, p + at, n - at, &adu, &fed);
        if (fed == MODBUS_FED_BROKEN && link->conf.line.kind == MODBUS_LINE_STREAM)
            modbus_link_lose(link, ERR_PROTO, "what came is not Modbus TCP: the frame's header is wrong");
        if (fed != MODBUS_FED_FRAME)
            continue;
        if (link->conf.framing == MODBUS_SOCKET)
            take_socket(link, &adu, p + at, n - at);
        else
            take_serial(link, &adu);
    }
    if (link->conf.line.kind == MODBUS_LINE_DATAGRAM)
        modbus_framer_reset(&link->framer); /* a frame is whole in its datagram */
    modbus_exchange_pump(link);
}

/* --- life ----------------------------------------------------------------------------------------------------------------------- */
void modbus_exchange_init(struct modbus_link *link)
{
    list_init(&link->command_turns);
    list_init(&link->poll_turns);
    list_init(&link->delayed);
    list_init(&link->finished);
    link->window = link->conf.framing != MODBUS_SOCKET || link->conf.delay_ms || !link->conf.max_in_flight
                       ? 1
                       : link->conf.max_in_flight;
    if (link->window > MODBUS_IN_FLIGHT_MAX)
        link->window = MODBUS_IN_FLIGHT_MAX;
    if (link->conf.line.kind == MODBUS_LINE_SERIAL) {
        link->char_us = serial_char_us(&link->conf.line.serial);
        if (link->conf.framing == MODBUS_RTU) { /* V1.02, 2.5.1.1: t3.5; the loop's clock may be a millisecond off */
            uint32_t us = link->conf.line.serial.baudrate > 19200 ? 1750 : link->char_us * 7 / 2;

            link->silence_ms = (us + 999) / 1000 + 1;
        }
    }
    if (link->conf.local_echo)
        link->echo = mem_new(MODBUS_FRAME_MAX);
    link->wake_ms = UINT64_MAX;
    timer_init(&link->deadline, link->loop, on_deadline, link);
    timer_init(&link->pace, link->loop, on_pace, link);
    late_init(&link->pump, LATE_EMIT, on_pump, link);
    modbus_framer_init(&link->framer, link->conf.framing, false);
}

void modbus_exchange_fini(struct modbus_link *link)
{
    for (unsigned i = 0; i < COUNT_OF(link->units); i++)
        mem_free(link->units[i]);
    mem_free(link->echo);
}

void modbus_exchange_up(struct modbus_link *link)
{
    uint64_t now_ms = loop_mono_ms(link->loop);

    modbus_framer_reset(&link->framer);
    link->n_failed = 0;
    link->echo_n = 0;
    link->free_ms = now_ms + link->silence_ms;
    for (unsigned i = 0; i < COUNT_OF(link->units); i++) {
        if (!link->units[i])
            continue;
        if (link->units[i]->silent_until_ms > now_ms)
            link->units[i]->silent_until_ms = now_ms; /* it may have been the way to it that was lost */
        if (link->conf.line.kind != MODBUS_LINE_SERIAL)
            link->units[i]->owed.n = 0; /* was owed by the former connection */
    }
    modbus_exchange_pump(link);
}

void modbus_exchange_down(struct modbus_link *link, bool is_failing)
{
    while (link->n_in_flight) {
        struct modbus_request *request = link->in_flight[link->n_in_flight - 1];

        land(link, link->n_in_flight - 1);
        if (!is_failing && !modbus_is_write(request->pdu.bytes[0]) && request->n_sent <= request->retries)
            modbus_turn_add(link, request, true); /* to the next connection; reading twice does no harm */
        else
            modbus_turn_finish(link, request, ERR_CLOSED);
    }
    if (is_failing) {
        struct list *node;

        while ((node = list_take_first(&link->delayed)))
            modbus_turn_finish(link, CONTAINER_OF(node, struct modbus_request, node), ERR_CLOSED);
        modbus_turn_flush(link, NULL, ERR_CLOSED);
    }
    link->free_ms = 0;
}

void modbus_exchange_end(struct modbus_link *link)
{
    timer_stop(&link->deadline);
    timer_stop(&link->pace);
    late_cancel(&link->pump);
    modbus_exchange_down(link, true);
}

/* --- requests -------------------------------------------------------------------------------------------------------------------- */
/* A unit that is left alone: one request at a time may probe it. */
static bool is_left_alone(const struct modbus_link *link, const struct modbus_unit *unit,
                          const struct modbus_request *request)
{
    if (!unit->is_silent || !modbus_link_is_shared(link))
        return false;
    if (request->is_command)
        return false;
    return loop_mono_ms(link->loop) < unit->silent_until_ms || unit->n_in_flight || !list_is_empty(&unit->polls);
}

void modbus_link_send(struct modbus_link *link, struct modbus_request *request)
{
    struct modbus_unit *unit = modbus_unit_of(link, request->unit);

    loop_assert(link->loop);
    assert(request->state == MODBUS_IDLE);
    request->of = unit;
    request->n_sent = 0;
    request->latency_ms = 0;
    if (!request->pdu.n || (is_broadcast(link, request) && !modbus_is_write(request->pdu.bytes[0])))
        modbus_turn_finish(link, request, ERR_USAGE);
    else if (link->state == MODBUS_LINK_ENDED || (link->is_failing && link->state != MODBUS_LINK_UP))
        modbus_turn_finish(link, request, ERR_CLOSED);
    else if (is_left_alone(link, unit, request))
        modbus_turn_finish(link, request, ERR_UNREACHABLE);
    else
        modbus_turn_add(link, request, false);
    if (link->state != MODBUS_LINK_ENDED)
        late_arm(link->loop, &link->pump);
}

void modbus_link_cancel(struct modbus_link *link, struct modbus_request *request)
{
    loop_assert(link->loop);
    if (request->state == MODBUS_QUEUED)
        modbus_turn_remove(link, request);
    else if (request->state == MODBUS_DELAYED)
        list_del(&request->node);
    else
        return;
    modbus_turn_finish(link, request, ERR_CANCELLED);
    late_arm(link->loop, &link->pump);
}
