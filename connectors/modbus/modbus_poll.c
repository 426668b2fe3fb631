/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_poll.h"

/*
 *     IDLE ──due──► blocks, as many requests at once as the link takes ──► refused ones, value by value ──► values to the
 *     platform, what was learned into the plan ──► IDLE
 */
enum { SILENCE_MAX_MS = 600000, SILENCE_MIN_MS = 2000 };
static const uint32_t NO_SINGLE = UINT32_MAX, NO_BLOCK = UINT32_MAX;

static uint64_t now_ms(const struct poll *poll)
{
    return loop_mono_ms(ctx_loop(poll->ctx));
}

/* --- what others know of it ---------------------------------------------------------------------------------------------- */

static enum endpoint_result result_of(enum err err, const struct modbus_pdu *reply)
{
    uint8_t code = reply ? modbus_exception_of(reply) : 0;

    if (err)
        return err == ERR_PROTO ? ENDPOINT_PROTOCOL : endpoint_result_of(err, 0);
    return code == 0 ? ENDPOINT_OK : code <= MODBUS_ILLEGAL_VALUE ? ENDPOINT_REFUSED : ENDPOINT_FAILED;
}

void modbus_count(struct ctx *ctx, struct endpoint *figures, const struct modbus_request *request, enum err err,
                  const struct modbus_pdu *reply)
{
    uint64_t n_in = reply ? reply->n : 0;

    if (figures)
        endpoint_count(figures, result_of(err, reply), reply ? request->latency_ms * 1000u : 0, n_in, request->pdu.n);
    ctx_count(ctx, IOTGW_MESSAGES_IN, reply != NULL);
    ctx_count(ctx, IOTGW_BYTES_IN, n_in);
    if (err != ERR_OK && err != ERR_TIMEOUT && err != ERR_PROTO)
        return; /* most likely nothing was sent */
    ctx_count(ctx, IOTGW_MESSAGES_OUT, 1);
    ctx_count(ctx, IOTGW_BYTES_OUT, request->pdu.n);
}

void modbus_tell_wire(struct ctx *ctx, bool is_out, struct str device, const struct modbus_pdu *pdu)
{
    if (ctx_is_tapped(CTX_TAP_WIRE))
        ctx_tell_wire(ctx, is_out, device, str_of(pdu->bytes, pdu->n));
}

void poll_presence(struct poll *poll, bool is_up)
{
    struct modbus_device *device = poll->device;

    if (poll->is_up == is_up || poll->is_stopped)
        return;
    poll->is_up = is_up;
    if (is_up && device->n_up++ == 0)
        ctx_connect(poll->ctx, device->dev, device->profile);
    else if (!is_up && --device->n_up == 0)
        ctx_disconnect(poll->ctx, device->dev);
    (void)ctx_mark(poll->ctx, ++*poll->cookie);
}

static const char *reason_of(enum err err, uint8_t exception)
{
    return exception ? modbus_exception_name(exception) : err_text(err);
}

static void log_bad(const struct poll *poll, const struct modbus_read *read, const char *reason)
{
    LOG_WARN(ctx_log(poll->ctx), "a value cannot be read and is left alone for a while; the others go on",
             KV_STR("device", poll->slave->device_name), KV_STR("tag", read->point->tag),
             KV_UINT("function", read->function_code), KV_UINT("address", read->address), KV_Z("reason", reason));
}

static void log_well(const struct poll *poll, const struct modbus_read *read)
{
    LOG_INFO(ctx_log(poll->ctx), "a value can be read again", KV_STR("device", poll->slave->device_name),
             KV_STR("tag", read->point->tag), KV_UINT("address", read->address));
}

/* --- what is asked ------------------------------------------------------------------------------------------------------- */

static uint32_t first_pause(const struct poll *poll)
{
    uint64_t pause = 2 * (uint64_t)poll->beat->period_ms;

    return (uint32_t)(pause < SILENCE_MIN_MS ? SILENCE_MIN_MS : pause < SILENCE_MAX_MS ? pause : SILENCE_MAX_MS);
}

static bool next_piece(struct poll *poll, struct modbus_work *work)
{
    for (; poll->next_block < poll->plan.n_blocks; poll->next_block++) {
        const struct modbus_block *block = &poll->plan.blocks[poll->next_block];
        struct block_state *state = &poll->states[poll->next_block];
        uint32_t left = block->count - state->at;

        if (state->is_left_out || state->is_failed || !left)
            continue;
        *work = (struct modbus_work){poll->next_block, state->at, left < block->piece ? left : block->piece, NO_SINGLE};
        state->at += work->n;
        return true;
    }
    return false;
}

static bool next_single(struct poll *poll, struct modbus_work *work)
{
    while (poll->redo != NO_BLOCK) {
        const struct modbus_block *block = &poll->plan.blocks[poll->redo];
        struct block_state *state = &poll->states[poll->redo];

        if (state->single < block->n) {
            size_t read = modbus_plan_read_at(&poll->plan, block, state->single);

            *work = (struct modbus_work){poll->redo, (uint32_t)modbus_plan_offset(&poll->plan, block, read),
                                         poll->plan.reads[read].span, state->single++};
            return true;
        }
        poll->redo = state->next_redo;
    }
    return false;
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply);

static void ask(struct poll *poll, struct modbus_slot *slot)
{
    const struct modbus_block *block = &poll->plan.blocks[slot->work.block];
    struct modbus_request *request = &slot->request;
    enum err err = modbus_ask_read(&request->pdu, (enum modbus_fc)block->function_code,
                                   (uint16_t)(block->address + slot->work.at), slot->work.n);

    assert(err == ERR_OK); /* the plan keeps to the limits */
    (void)err;
    poll->states[slot->work.block].n_open++;
    poll->n_open++;
    slot->is_open = true;
    request->unit = (uint8_t)poll->slave->unit;
    request->retries = (uint8_t)poll->slave->wire.n_retries;
    request->timeout_ms = poll->slave->wire.timeout_ms;
    request->is_command = false;
    request->done = answered;
    request->arg = poll;
    modbus_tell_wire(poll->ctx, true, poll->slave->device_name, &request->pdu);
    modbus_link_send(poll->link, request);
}

/* --- the end of a poll --------------------------------------------------------------------------------------------------- */

static void undecodable(void *arg, const struct modbus_read *read, const struct why *why)
{
    struct poll *poll = arg;

    LOG_WARN(ctx_converter_log(poll->ctx), "a value cannot be converted", KV_STR("device", poll->slave->device_name),
             KV_STR("tag", read->point->tag), KV_WHY(why));
}

static void deliver(struct poll *poll)
{
    const struct modbus_slave *slave = poll->slave;
    struct event *event = ctx_event(poll->ctx, poll->device->dev, slave->device_type);
    size_t n_failed;

    event_set_report(event, slave->report);
    event->keys_unique = slave->keys_unique;
    n_failed = modbus_collect(poll->beat->reads, poll->samples, poll->beat->n_reads, event, undecodable, poll);
    ctx_count(poll->ctx, IOTGW_CONVERSION_ERRORS, n_failed);
    device_count_values(&event->dev->n_failed, n_failed);
    ctx_count(poll->ctx, IOTGW_CONVERTED, event->n > 0);
    (void)!ctx_put(poll->ctx); /* without a value it is nothing */
    (void)ctx_mark(poll->ctx, ++*poll->cookie);
}

/* What got no answer, or is refused without a cause in its addresses, while the device answers the rest. */
static void leave_out(struct poll *poll, const struct modbus_block *block, const struct block_state *state)
{
    size_t read = modbus_plan_read_at(&poll->plan, block, 0);

    if (!modbus_plan_silent(&poll->plan, read, now_ms(poll), first_pause(poll)))
        return;
    LOG_WARN(ctx_log(poll->ctx), "a request gets no values and is left out for a while; the others go on",
             KV_STR("device", poll->slave->device_name), KV_UINT("function", block->function_code),
             KV_UINT("address", block->address), KV_UINT("count", block->count),
             KV_Z("reason", reason_of(state->err, state->exception)));
}

/* Not the link's or the whole unit's trouble, nor one that passes. */
static bool is_own_trouble(const struct block_state *state)
{
    return state->err == ERR_TIMEOUT || state->err == ERR_PROTO ||
           (state->exception && state->exception != MODBUS_ACKNOWLEDGE && state->exception != MODBUS_DEVICE_BUSY &&
            state->exception != MODBUS_GATEWAY_PATH && state->exception != MODBUS_GATEWAY_TARGET);
}

static void end(struct poll *poll)
{
    deliver(poll);
    for (size_t b = 0; b < poll->plan.n_blocks && poll->n_answers; b++) {
        const struct block_state *state = &poll->states[b];

        if (state->is_failed && !state->is_single && is_own_trouble(state))
            leave_out(poll, &poll->plan.blocks[b], state);
    }
    poll->is_busy = false;
}

/* --- answers ------------------------------------------------------------------------------------------------------------- */

static bool is_about_values(uint8_t exception)
{
    return exception == MODBUS_ILLEGAL_ADDRESS || exception == MODBUS_ILLEGAL_VALUE ||
           exception == MODBUS_DEVICE_FAILURE;
}

/* All of a block's requests have ended. */
static void block_ended(struct poll *poll, uint32_t index)
{
    struct modbus_block *block = &poll->plan.blocks[index];
    struct block_state *state = &poll->states[index];
    size_t read = modbus_plan_read_at(&poll->plan, block, 0);

    if (!state->is_failed) {
        modbus_collect_block(&poll->plan, block, 0, block->n, poll->samples);
        (void)modbus_plan_heard(&poll->plan, read);
        if (block->is_probe && modbus_plan_well(&poll->plan, read)) {
            log_well(poll, &poll->plan.reads[read]);
            poll->has_news = true;
        }
        return;
    }
    if (!is_about_values(state->exception))
        return;
    if (block->n > 1) {
        state->is_single = true;
        state->next_redo = poll->redo;
        poll->redo = index;
        return;
    }
    if (modbus_plan_bad(&poll->plan, read, now_ms(poll), first_pause(poll)))
        log_bad(poll, &poll->plan.reads[read], reason_of(state->err, state->exception));
    state->exception = 0;
    poll->has_news = true;
}

static void singles_ended(struct poll *poll, uint32_t index)
{
    struct modbus_block *block = &poll->plan.blocks[index];

    for (size_t i = 0; i < block->n; i++)
        if (poll->is_bad[block->first + i])
            log_bad(poll, &poll->plan.reads[modbus_plan_read_at(&poll->plan, block, i)],
                    reason_of(ERR_OK, poll->states[index].exception));
    modbus_plan_learn(&poll->plan, block, poll->is_bad + block->first, now_ms(poll), first_pause(poll));
    poll->has_news = true;
}

static void take(struct poll *poll, const struct modbus_work *work, enum err err, const struct modbus_pdu *reply)
{
    struct modbus_block *block = &poll->plan.blocks[work->block];
    struct block_state *state = &poll->states[work->block];
    uint8_t exception = reply ? modbus_exception_of(reply) : 0;

    state->n_open--;
    if (!err && !exception) {
        modbus_block_store(block, work->at, work->n, reply->bytes + 2);
        if (work->single != NO_SINGLE)
            modbus_collect_block(&poll->plan, block, work->single, 1, poll->samples);
    } else if (work->single != NO_SINGLE) {
        poll->is_bad[block->first + work->single] = is_about_values(exception);
    } else {
        state->is_failed = true;
        state->err = err;
        state->exception = exception;
    }
    if (state->n_open)
        return;
    if (state->is_single && state->single == block->n)
        singles_ended(poll, work->block);
    else if (!state->is_single && (state->is_failed || state->at == block->count))
        block_ended(poll, work->block);
}

static void pump(struct poll *poll)
{
    for (unsigned i = 0; i < poll->n_slots; i++)
        if (!poll->slots[i].is_open &&
            (next_piece(poll, &poll->slots[i].work) || next_single(poll, &poll->slots[i].work)))
            ask(poll, &poll->slots[i]);
    if (!poll->n_open)
        end(poll);
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    struct modbus_slot *slot = CONTAINER_OF(request, struct modbus_slot, request);
    struct poll *poll = request->arg;
    uint8_t exception = reply ? modbus_exception_of(reply) : 0;

    slot->is_open = false;
    poll->n_open--;
    modbus_count(poll->ctx, &poll->figures, request, err, reply);
    if (poll->is_stopped)
        return;
    if (reply) {
        modbus_tell_wire(poll->ctx, false, poll->slave->device_name, reply);
        if (exception != MODBUS_GATEWAY_PATH && exception != MODBUS_GATEWAY_TARGET) {
            poll->n_answers++;
            poll_presence(poll, true);
        }
    } else {
        LOG_DEBUG(ctx_log(poll->ctx), "no answer", KV_STR("device", poll->slave->device_name),
                  KV_UINT("function", request->pdu.bytes[0]), KV_UINT("address", modbus_be16(request->pdu.bytes + 1)),
                  KV_ERR(err));
    }
    take(poll, &slot->work, err, reply);
    pump(poll);
}

/* --- beats ----------------------------------------------------------------------------------------------------------------- */

static void plan_anew(struct poll *poll)
{
    modbus_plan_build(&poll->plan, now_ms(poll));
    poll->states = mem_grow(poll->states, (poll->plan.n_blocks + 1) * sizeof *poll->states);
    poll->has_news = false;
}

static void due(void *arg)
{
    struct poll *poll = arg;

    if (poll->is_busy || !ctx_has_room(poll->ctx)) {
        poll->figures.n_overdue += poll->is_busy;
        poll->figures.n_no_room += !poll->is_busy;
        ctx_count(poll->ctx, IOTGW_SKIPPED, 1);
        return;
    }
    if (poll->has_news || modbus_plan_is_due(&poll->plan, now_ms(poll)))
        plan_anew(poll);
    memset(poll->states, 0, poll->plan.n_blocks * sizeof *poll->states);
    memset(poll->is_bad, 0, poll->plan.n * sizeof *poll->is_bad);
    for (size_t b = 0; b < poll->plan.n_blocks; b++)
        poll->states[b].is_left_out = modbus_plan_is_silent(
            &poll->plan, modbus_plan_read_at(&poll->plan, &poll->plan.blocks[b], 0), now_ms(poll));
    poll->next_block = 0;
    poll->redo = NO_BLOCK;
    poll->n_answers = 0;
    poll->is_busy = true;
    pump(poll);
}

void poll_init(struct poll *poll, struct ctx *ctx, const struct modbus_slave *slave, const struct modbus_beat *beat,
               struct modbus_device *device, uint64_t *cookie)
{
    const struct modbus_wire *wire = &slave->carrier->wire;

    *poll =
        (struct poll){.ctx = ctx, .slave = slave, .beat = beat, .device = device, .cookie = cookie, .has_news = true};
    poll->figures.size = sizeof poll->figures;
    poll->n_slots =
        wire->medium == MODBUS_OVER_TCP && wire->framing != MODBUS_FRAMED_RTU && wire->framing != MODBUS_FRAMED_ASCII
            ? wire->max_in_flight
            : 1;
    poll->slots = mem_zero(poll->n_slots * sizeof *poll->slots);
    poll->samples = mem_zero((beat->n_reads + 1) * sizeof *poll->samples);
    poll->is_bad = mem_zero((beat->n_reads + 1) * sizeof *poll->is_bad);
    modbus_plan_init(&poll->plan, slave, beat->reads, beat->n_reads);
    timer_init(&poll->timer, ctx_loop(ctx), due, poll);
}

void poll_start(struct poll *poll, struct modbus_link *link, uint64_t delay_ms)
{
    poll->link = link;
    if (poll->beat->n_reads)
        timer_start_periodic(&poll->timer, delay_ms, poll->beat->period_ms);
}

void poll_stop(struct poll *poll)
{
    poll->is_stopped = true;
    timer_stop(&poll->timer);
    for (unsigned i = 0; i < poll->n_slots; i++)
        if (poll->slots[i].is_open)
            modbus_link_cancel(poll->link, &poll->slots[i].request);
}

void poll_fini(struct poll *poll)
{
    modbus_plan_fini(&poll->plan);
    mem_free(poll->slots);
    mem_free(poll->samples);
    mem_free(poll->states);
    mem_free(poll->is_bad);
}
