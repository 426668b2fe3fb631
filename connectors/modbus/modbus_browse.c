/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_browse.h"

#include "base/utf8.h"
#include "data/json.h"
#include "modbus_command.h"

/*
 *     unit → who are you → area → block → readable: run of addresses
 *      ↑                    ↑       └── refused: its halves, first the lower one
 *      └────────────────────┴── nothing left
 */
enum {
    LAST_DEFAULT = 99,
    PAUSE_MS = 10,
    HELLO_MS = 1000,
    ANSWER_MAX_MS = 4000,
    SILENCES_MAX = 3, /* blocks of a unit without answer */
    SAMPLES_MAX = 8,
    STACK_MAX = 64,
    WHOLE_MAX = 128,   /* addresses of a range that are looked at one by one */
    SPARSE_AFTER = 32, /* addresses refused in a row; then of a longer range those that STRIDE divides */
    STRIDE = 10
};

struct span {
    uint32_t at, n;
};

enum step { STEP_HELLO, STEP_IDENTITY, STEP_BLOCK };

struct scan { /* a connection */
    struct modbus_browse *browse;
    const struct modbus_slave *first;
    struct modbus_link *link;
    struct modbus_request request;
    bool units[256];
    unsigned unit, n_silences;
    enum step step;
    unsigned area; /* MODBUS_AREAS: all are done */
    struct span stack[STACK_MAX], run;
    unsigned n_stack, n_refused; /* n_refused: addresses in a row */
    uint32_t n_passed, n_unseen; /* passed over: directly before the block that is asked for; for good */
    uint32_t limit, largest;     /* objects of one request: may be asked for, have been given */
    struct buf identity, sample, timeseries;
    bool was_up, is_open, is_listed;
};

struct modbus_browse {
    struct ctx *ctx;
    const struct modbus_file *file;
    void *request;
    struct modbus_range range;
    struct scan *scans;
    size_t n, n_open, n_failed;
    struct why why; /* of the first connection that could not be made */
    unsigned n_closing;
    bool is_over;
    closed_fn *closed;
    void *closed_arg;
};

/* --- PATH ------------------------------------------------------------------------------------------------------------------- */

/* "7", "1-247" */
static bool read_span(struct str text, uint32_t max, uint32_t *first, uint32_t *last)
{
    size_t dash = str_chr(text, '-');
    uint64_t from, to;

    if (str_to_u64(str_cut(text, dash), &from) != ERR_OK)
        return false;
    to = from;
    if (dash < text.n && str_to_u64(str_skip(text, dash + 1), &to) != ERR_OK)
        return false;
    *first = (uint32_t)from;
    *last = (uint32_t)to;
    return from <= to && to <= max;
}

static bool read_units(struct modbus_range *range, struct str text)
{
    struct str part;
    uint32_t first, last;

    while (str_split(&text, ',', &part)) {
        if (!read_span(part, 255, &first, &last))
            return false;
        for (uint32_t unit = first; unit <= last; unit++)
            range->units[unit] = true;
        range->is_given = true;
    }
    return range->is_given;
}

static bool read_area(struct modbus_range *range, struct str text)
{
    bool is_any = false;

    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        range->areas[area] = str_eq_z(text, "*") || str_eq_nocase(text, str_from(modbus_area_names[area]));
        is_any |= range->areas[area];
    }
    return is_any;
}

enum err modbus_browse_path(struct modbus_range *range, struct str path, struct why *why)
{
    struct str part;
    unsigned n = 0;

    *range = (struct modbus_range){.areas = {true, true, true, true}, .last = LAST_DEFAULT};
    while (path.n && str_split(&path, '/', &part)) {
        bool is_right = n == 0   ? str_eq_z(part, "*") || read_units(range, part)
                        : n == 1 ? read_area(range, part)
                                 : n == 2 && read_span(part, UINT16_MAX, &range->first, &range->last);

        if (!is_right)
            return why_set(why, ERR_USAGE,
                           "\"" STR_FMT
                           "\" is not understood: expected UNITS/AREA/ADDRESSES, like 1-247/*/0-999; areas "
                           "are coils, discrete_inputs, input_registers, holding_registers and *",
                           STR_ARG(part));
        n++;
    }
    return ERR_OK;
}

/* --- what is told ----------------------------------------------------------------------------------------------------------- */

static void add_text(struct buf *out, const char *name, struct str text)
{
    buf_printf(out, ",\"%s\":", name);
    json_add_string(out, text);
}

static void tell(struct scan *scan, const char *what, const char *type, struct str sample, struct str configuration)
{
    autobuf struct buf name = {0};
    autobuf struct buf item = {0};

    buf_add_str(&name, scan->first->wire.link);
    buf_add_z(&name, what);
    buf_add_z(&item, "{\"name\":");
    json_add_string(&item, buf_str(&name));
    add_text(&item, "type", str_from(type));
    add_text(&item, "sample", sample);
    if (configuration.n) {
        buf_add_z(&item, ",\"configuration\":");
        buf_add_str(&item, configuration);
    }
    buf_add_u8(&item, '}');
    ctx_host_functions.browse_item(scan->browse->ctx, scan->browse->request, buf_str(&item));
}

static void tell_of_unit(struct scan *scan, const char *type, struct str sample, struct str configuration)
{
    char what[24];

    snprintf(what, sizeof what, " unit %u", scan->unit);
    tell(scan, what, type, sample, configuration);
}

static const struct modbus_slave *configured(const struct scan *scan, unsigned unit)
{
    for (size_t i = 0; i < scan->first->carried.n; i++)
        if (((const struct modbus_slave *)scan->first->carried.items[i])->unit == unit)
            return scan->first->carried.items[i];
    return NULL;
}

static void add_tls(struct buf *out, const struct modbus_tls *tls)
{
    if (!tls)
        return;
    buf_printf(out, ",\"tls\":{\"verify\":%s", tls->verify ? "true" : "false");
    if (tls->cert.n)
        add_text(out, "certfile", tls->cert);
    if (tls->key.n)
        add_text(out, "keyfile", tls->key);
    if (tls->ca.n)
        add_text(out, "caCert", tls->ca);
    if (tls->server_name.n)
        add_text(out, "serverName", tls->server_name);
    buf_add_u8(out, '}');
}

static void add_way(struct buf *out, const struct modbus_wire *wire)
{
    static const char *const media[] = {
        [MODBUS_OVER_TCP] = "tcp", [MODBUS_OVER_UDP] = "udp", [MODBUS_OVER_SERIAL] = "serial"};
    static const char *const methods[] = {[MODBUS_FRAMED_SOCKET] = "socket",
                                          [MODBUS_FRAMED_RTU] = "rtu",
                                          [MODBUS_FRAMED_ASCII] = "ascii",
                                          [MODBUS_FRAMED_TLS] = "tls"};

    buf_printf(out, "\"type\":\"%s\",\"method\":\"%s\"", media[wire->medium], methods[wire->framing]);
    if (wire->medium != MODBUS_OVER_SERIAL) {
        add_text(out, "host", wire->host);
        buf_printf(out, ",\"port\":%u", wire->port_number);
        add_tls(out, wire->tls);
    } else {
        add_text(out, "port", wire->link);
        buf_printf(
            out,
            ",\"baudrate\":%u,\"bytesize\":%u,\"stopbits\":%g,\"parity\":\"%c\",\"rs485\":%s,\"handleLocalEcho\":%s",
            wire->baudrate, wire->bytesize, wire->half_stopbits / 2.0, wire->parity_char,
            wire->rs485 ? "true" : "false", wire->local_echo ? "true" : "false");
    }
}

/* An entry of master.slaves. */
static void tell_configuration(struct scan *scan)
{
    const struct modbus_slave *slave = configured(scan, scan->unit);
    autobuf struct buf name = {0};
    autobuf struct buf out = {0};

    if (!scan->timeseries.n)
        return;
    if (slave)
        buf_add_str(&name, slave->device_name);
    else
        buf_printf(&name, "Modbus unit %u at " STR_FMT, scan->unit, STR_ARG(scan->first->wire.link));
    buf_add_u8(&out, '{');
    add_way(&out, &scan->first->wire);
    buf_printf(&out, ",\"unitId\":%u", scan->unit);
    add_text(&out, "deviceName", buf_str(&name));
    buf_printf(&out,
               ",\"pollPeriod\":5000,\"timeout\":%.10g,\"byteOrder\":\"BIG\",\"wordOrder\":\"BIG\",\"timeseries\":[",
               scan->first->wire.timeout_ms / 1000.0);
    buf_add_str(&out, buf_str(&scan->timeseries));
    buf_add_z(&out, "]}");
    tell_of_unit(scan, "entry", buf_str(&name), buf_str(&out));
}

static void end_run(struct scan *scan)
{
    const char *area = modbus_area_names[scan->area];
    bool is_bits = modbus_area_is_bits((enum modbus_area)scan->area);
    const struct span run = scan->run;
    struct buf *out = &scan->timeseries;
    char what[96];

    if (!run.n)
        return;
    snprintf(what, sizeof what, run.n > 1 ? " unit %u %s %u-%u" : " unit %u %s %u", scan->unit, area, run.at,
             run.at + run.n - 1);
    tell(scan, what, is_bits ? "bits" : "registers", buf_str(&scan->sample), STR_NONE);
    buf_printf(out, "%s{\"type\":\"%s\",\"functionCode\":%u,\"objectsCount\":1", out->n ? "," : "",
               is_bits ? "bits" : "16uint", modbus_area_read((enum modbus_area)scan->area));
    if (run.n > 1)
        buf_printf(out, ",\"tag\":\"%s_${address}\",\"address\":\"%u-%u\",\"maxRegistersPerRequest\":%u}", area, run.at,
                   run.at + run.n - 1, scan->largest);
    else
        buf_printf(out, ",\"tag\":\"%s_%u\",\"address\":%u}", area, run.at, run.at);
    scan->run = (struct span){0};
    scan->sample.n = 0;
}

/* --- one connection ----------------------------------------------------------------------------------------------------------- */

static void ask(struct scan *scan);

static void end_scan(struct scan *scan)
{
    struct modbus_browse *browse = scan->browse;

    scan->is_open = false;
    if (--browse->n_open || browse->is_over)
        return;
    browse->is_over = true;
    ctx_host_functions.browse_end(browse->ctx, browse->request,
                                  browse->n_failed == browse->n ? browse->why.err : ERR_OK,
                                  str_from(why_text(&browse->why)));
}

static void begin_area(struct scan *scan)
{
    const struct modbus_range *range = &scan->browse->range;

    while (scan->area < MODBUS_AREAS && !range->areas[scan->area])
        scan->area++;
    if (scan->area == MODBUS_AREAS)
        return;
    scan->limit = modbus_area_is_bits((enum modbus_area)scan->area) ? MODBUS_READ_BITS_MAX : MODBUS_READ_REGISTERS_MAX;
    scan->largest = 1;
    scan->n_refused = 0;
    scan->n_passed = scan->n_unseen = 0;
    scan->stack[0] = (struct span){range->first, range->last - range->first + 1};
    scan->n_stack = 1;
}

static void end_unit(struct scan *scan)
{
    if (scan->step == STEP_BLOCK && scan->area < MODBUS_AREAS)
        end_run(scan);
    tell_configuration(scan);
    scan->timeseries.n = 0;
    scan->identity.n = 0;
    scan->n_silences = 0;
    scan->step = STEP_HELLO;
}

/* From scan->unit on. */
static void begin_unit(struct scan *scan)
{
    while (scan->unit < COUNT_OF(scan->units) && !scan->units[scan->unit])
        scan->unit++;
    if (scan->unit == COUNT_OF(scan->units)) {
        end_scan(scan);
        return;
    }
    scan->step = STEP_HELLO;
    ask(scan);
}

static void next_unit(struct scan *scan)
{
    end_unit(scan);
    scan->unit++;
    begin_unit(scan);
}

static void tell_of_unseen(struct scan *scan)
{
    char what[64], how_many[96];

    if (!scan->n_unseen)
        return;
    snprintf(what, sizeof what, " unit %u %s", scan->unit, modbus_area_names[scan->area]);
    snprintf(how_many, sizeof how_many, "%u addresses between refused ones; ranges of up to %d are looked at wholly",
             scan->n_unseen, (int)WHOLE_MAX);
    tell(scan, what, "passed over", str_from(how_many), STR_NONE);
    scan->n_unseen = 0;
}

static void next_block(struct scan *scan)
{
    if (!scan->n_stack) {
        end_run(scan);
        tell_of_unseen(scan);
        scan->area++;
        begin_area(scan);
    }
    if (scan->area == MODBUS_AREAS)
        next_unit(scan);
    else
        ask(scan);
}

static void push(struct scan *scan, uint32_t at, uint32_t n)
{
    if (n)
        scan->stack[scan->n_stack++] = (struct span){at, n};
}

static void block_read(struct scan *scan, struct span span, const struct modbus_pdu *reply)
{
    bool is_bits = modbus_area_is_bits((enum modbus_area)scan->area);

    scan->n_refused = 0;
    if (scan->n_passed) { /* here is something: what was passed over may begin it */
        push(scan, span.at - scan->n_passed, scan->n_passed + span.n);
        scan->n_passed = 0;
        return;
    }
    if (!scan->run.n)
        scan->run.at = span.at;
    for (uint32_t i = 0; i < span.n && scan->run.n + i < SAMPLES_MAX; i++)
        buf_printf(&scan->sample, scan->sample.n ? " %u" : "%u",
                   is_bits ? modbus_answer_bit(reply, i) : modbus_answer_register(reply, i));
    if (scan->run.n < SAMPLES_MAX && scan->run.n + span.n > SAMPLES_MAX)
        buf_add_z(&scan->sample, " …");
    scan->run.n += span.n;
    scan->largest = MAX(scan->largest, span.n);
}

static void block_refused(struct scan *scan, struct span span, uint8_t exception)
{
    if (exception == MODBUS_ILLEGAL_FUNCTION) { /* there is no such area */
        scan->n_stack = 0;
        return;
    }
    if (span.n == 1) {
        scan->n_unseen += scan->n_passed;
        scan->n_passed = 0;
        if (exception == MODBUS_ILLEGAL_ADDRESS)
            scan->n_refused++;
        end_run(scan);
        return;
    }
    if (exception == MODBUS_ILLEGAL_VALUE)
        scan->limit = span.n / 2; /* 6.3: so many at once are too many */
    push(scan, span.at + span.n / 2, span.n - span.n / 2);
    push(scan, span.at, span.n / 2);
}

static struct span asked_span(const struct scan *scan)
{
    return (struct span){modbus_be16(scan->request.pdu.bytes + 1), modbus_be16(scan->request.pdu.bytes + 3)};
}

static void block_silent(struct scan *scan)
{
    struct span span = asked_span(scan);
    char what[96];

    scan->n_unseen += scan->n_passed;
    scan->n_passed = 0;
    end_run(scan);
    snprintf(what, sizeof what, " unit %u %s %u-%u", scan->unit, modbus_area_names[scan->area], span.at,
             span.at + span.n - 1);
    tell(scan, what, "no answer", STR_NONE, STR_NONE);
    if (++scan->n_silences < SILENCES_MAX)
        return;
    tell_of_unit(scan, "not looked at any further", STR("it has stopped to answer"), STR_NONE);
    scan->n_stack = 0;
    scan->area = MODBUS_AREAS - 1;
}

static void identity_read(struct scan *scan, const struct modbus_pdu *reply)
{
    struct str value;
    size_t at = 0;
    uint8_t id;

    while (modbus_answer_object(reply, &at, &id, &value)) {
        if (scan->identity.n && value.n)
            buf_add_u8(&scan->identity, ' ');
        utf8_add_valid(&scan->identity, value);
    }
}

static bool is_there(enum err err, const struct modbus_pdu *reply)
{
    uint8_t exception = err == ERR_OK && reply ? modbus_exception_of(reply) : 0;

    return err == ERR_OK && reply && exception != MODBUS_GATEWAY_PATH && exception != MODBUS_GATEWAY_TARGET;
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    struct scan *scan = request->arg;
    bool is_value = err == ERR_OK && reply && !modbus_exception_of(reply);

    if (!scan->is_open || scan->browse->is_over || (err == ERR_CLOSED && !scan->was_up))
        return; /* why there is no connection is told by its own event */
    if (err == ERR_CLOSED) {
        end_unit(scan);
        tell(scan, "", "not looked at any further", STR("the connection was lost"), STR_NONE);
        end_scan(scan);
        return;
    }
    if (scan->step == STEP_HELLO) {
        if (is_there(err, reply)) {
            scan->step = STEP_IDENTITY;
            ask(scan);
            return;
        }
        if (configured(scan, scan->unit))
            tell_of_unit(scan, "no answer", STR_NONE, STR_NONE);
        scan->unit++;
        begin_unit(scan);
        return;
    }
    if (scan->step == STEP_IDENTITY) {
        if (is_value)
            identity_read(scan, reply);
        tell_of_unit(scan, "unit", buf_str(&scan->identity), STR_NONE);
        scan->step = STEP_BLOCK;
        scan->area = 0;
        begin_area(scan);
        ask(scan);
        return;
    }
    if (is_value)
        block_read(scan, asked_span(scan), reply);
    else if (is_there(err, reply))
        block_refused(scan, asked_span(scan), modbus_exception_of(reply));
    else
        block_silent(scan);
    next_block(scan);
}

static bool is_sparse(const struct scan *scan)
{
    const struct modbus_range *range = &scan->browse->range;

    return scan->n_refused >= SPARSE_AFTER && range->last - range->first >= WHOLE_MAX;
}

/* The next address that STRIDE divides, or the last one there is; what lies before it is passed over. */
static struct span take_far(struct scan *scan)
{
    struct span *top = &scan->stack[scan->n_stack - 1];

    for (;;) {
        uint32_t at = top->at++;

        if (!--top->n && --scan->n_stack)
            top = &scan->stack[scan->n_stack - 1];
        if (at % STRIDE == 0 || !scan->n_stack)
            return (struct span){at, 1};
        scan->n_passed++;
    }
}

static void ask_block(struct scan *scan)
{
    struct span span = is_sparse(scan) ? take_far(scan) : scan->stack[--scan->n_stack];
    enum err err;

    if (span.n > scan->limit) {
        push(scan, span.at + scan->limit, span.n - scan->limit);
        span.n = scan->limit;
    }
    err = modbus_ask_read(&scan->request.pdu, (enum modbus_fc)modbus_area_read((enum modbus_area)scan->area),
                          (uint16_t)span.at, span.n);
    assert(err == ERR_OK);
}

static void ask(struct scan *scan)
{
    uint32_t timeout_ms = MIN(scan->first->wire.timeout_ms, ANSWER_MAX_MS);
    bool is_first = scan->step != STEP_BLOCK && !configured(scan, scan->unit);

    scan->request = (struct modbus_request){.unit = (uint8_t)scan->unit,
                                            .retries = scan->step == STEP_BLOCK ? 1 : 0,
                                            .timeout_ms = is_first ? MIN(timeout_ms, HELLO_MS) : timeout_ms,
                                            .done = answered,
                                            .arg = scan};
    if (scan->step == STEP_HELLO)
        (void)!modbus_ask_read(&scan->request.pdu, MODBUS_READ_HOLDING, (uint16_t)scan->browse->range.first, 1);
    else if (scan->step == STEP_IDENTITY)
        modbus_ask_identity(&scan->request.pdu, 1, 0);
    else
        ask_block(scan);
    modbus_link_send(scan->link, &scan->request);
}

static void link_up(void *arg)
{
    struct scan *scan = arg;
    bool is_first = !scan->was_up;

    scan->was_up = true;
    if (is_first && scan->is_open && !scan->browse->is_over)
        begin_unit(scan);
}

static void link_down(void *arg, enum err err, const struct why *why)
{
    struct scan *scan = arg;
    struct modbus_browse *browse = scan->browse;

    if (scan->was_up || !scan->is_open || browse->is_over)
        return;
    if (!browse->n_failed++) {
        browse->why = *why;
        browse->why.err = err;
    }
    if (browse->n > 1)
        tell(scan, "", "not connected", str_from(why_text(why)), STR_NONE);
    end_scan(scan);
}

/* --- life --------------------------------------------------------------------------------------------------------------------- */

static void open_scan(struct modbus_browse *browse, const struct modbus_slave *first)
{
    static const struct modbus_link_events events = {.up = link_up, .down = link_down};
    struct scan *scan = &browse->scans[browse->n++];
    struct modbus_link_conf conf = modbus_link_conf_of(&first->wire);

    *scan = (struct scan){.browse = browse, .first = first, .is_open = true};
    for (size_t i = 0; i < first->carried.n && !browse->range.is_given; i++)
        scan->units[((const struct modbus_slave *)first->carried.items[i])->unit & 0xff] = true;
    if (browse->range.is_given)
        memcpy(scan->units, browse->range.units, sizeof scan->units);
    if (first->wire.medium == MODBUS_OVER_SERIAL)
        scan->units[0] = false; /* a broadcast: nobody answers */
    conf.attempts = 1;
    conf.max_in_flight = 1;
    conf.delay_ms = MAX(conf.delay_ms, PAUSE_MS);
    browse->n_open++;
    scan->link = modbus_link_new(ctx_loop(browse->ctx), ctx_log(browse->ctx), &conf, &events, scan);
}

static bool is_carrier(const struct modbus_slave *slave)
{
    return slave->carrier == slave;
}

/* The connection that path begins with, which is then taken from it; NULL: none. */
static const struct modbus_slave *chosen(const struct modbus_file *file, struct str *path)
{
    for (size_t i = 0; i < file->slaves.n; i++) {
        const struct modbus_slave *slave = file->slaves.items[i];
        struct str link = slave->wire.link;

        if (!is_carrier(slave) || !str_starts(*path, link) || (path->n > link.n && path->p[link.n] != '/'))
            continue;
        *path = str_skip(*path, MIN(path->n, link.n + 1));
        return slave;
    }
    return NULL;
}

enum err modbus_browse_start(struct modbus_browse **out, struct ctx *ctx, const struct modbus_file *file,
                             struct str path, void *request, struct why *why)
{
    const struct modbus_slave *only = chosen(file, &path);
    struct modbus_browse *browse;
    struct modbus_range range;
    enum err err = modbus_browse_path(&range, path, why);

    if (err)
        return err;
    if (!file->slaves.n)
        return why_set(why, ERR_USAGE, "\"master.slaves\" names no device whose connection could be looked at");
    browse = mem_zero(sizeof *browse);
    *browse = (struct modbus_browse){.ctx = ctx, .file = file, .request = request, .range = range};
    browse->scans = mem_zero(file->slaves.n * sizeof *browse->scans);
    for (size_t i = 0; i < file->slaves.n; i++)
        if (only ? file->slaves.items[i] == only : is_carrier(file->slaves.items[i]))
            open_scan(browse, file->slaves.items[i]);
    *out = browse;
    return ERR_OK;
}

void modbus_browse_end(struct modbus_browse *browse)
{
    if (browse->is_over)
        return;
    browse->is_over = true;
    for (size_t i = 0; i < browse->n; i++) {
        struct scan *scan = &browse->scans[i];

        if (!scan->is_open)
            continue;
        if (scan->was_up)
            end_unit(scan);
        if (scan->was_up)
            tell_of_unit(scan, "not looked at to the end", STR("--seconds gives more time"), STR_NONE);
        else
            tell(scan, "", "not connected", STR("no answer so far"), STR_NONE);
    }
}

static void part_closed(void *arg)
{
    struct modbus_browse *browse = arg;
    closed_fn *closed = browse->closed;
    void *closed_arg = browse->closed_arg;

    if (--browse->n_closing)
        return;
    for (size_t i = 0; i < browse->n; i++) {
        buf_fini(&browse->scans[i].identity);
        buf_fini(&browse->scans[i].sample);
        buf_fini(&browse->scans[i].timeseries);
    }
    mem_free(browse->scans);
    mem_free(browse);
    closed(closed_arg);
}

void modbus_browse_close(struct modbus_browse *browse, closed_fn *closed, void *arg)
{
    browse->is_over = true;
    browse->closed = closed;
    browse->closed_arg = arg;
    browse->n_closing = 1;
    for (size_t i = 0; i < browse->n; i++) {
        browse->n_closing++;
        modbus_link_close(browse->scans[i].link, part_closed, browse);
    }
    part_closed(browse);
}
