/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_probe.h"

#include "modbus_command.h"
#include "modbus_server.h"

enum { ANSWER_MAX_MS = 4000, CONNECT_MAX_MS = 10000, RETRIES = 1 };

struct target { /* a device */
    struct modbus_probe *probe;
    const struct modbus_slave *slave;
    struct str name;
    struct modbus_request request;
    bool is_done;
};

struct line { /* a connection */
    struct modbus_probe *probe;
    const struct modbus_slave *first;
    struct modbus_link *link;
    struct target *targets;
    size_t n;
    bool was_up;
};

struct modbus_probe {
    struct ctx *ctx;
    struct arena arena;
    struct line *lines;
    struct target *targets;
    size_t n_lines;
    unsigned n_closing;
    bool is_closing;
    closed_fn *closed;
    void *closed_arg;
};

/* --- devices ---------------------------------------------------------------------------------------------------------------- */

static void tell(struct target *target, enum link_state state, const struct why *why)
{
    target->is_done = true;
    ctx_state(target->probe->ctx, target->name, state, why ? str_from(why_text(why)) : STR_NONE);
}

static void tell_exception(struct target *target, uint8_t exception)
{
    const struct modbus_pdu *ask = &target->request.pdu;
    struct why why = {0};

    if (exception == MODBUS_GATEWAY_PATH || exception == MODBUS_GATEWAY_TARGET) {
        (void)why_set(&why, ERR_UNREACHABLE, "what it is behind does not reach it: %s (exception %u)",
                      modbus_exception_name(exception), exception);
        tell(target, LINK_DOWN, &why);
    } else if (!target->slave->n_reads) {
        tell(target, LINK_UP, NULL); /* it was asked for something that it need not have */
    } else {
        (void)why_set(&why, ERR_REFUSED, "it refuses to %s %u to %u: %s (exception %u)", modbus_fc_name(ask->bytes[0]),
                      modbus_be16(ask->bytes + 1),
                      (unsigned)modbus_be16(ask->bytes + 1) + modbus_be16(ask->bytes + 3) - 1,
                      modbus_exception_name(exception), exception);
        tell(target, LINK_DEGRADED, &why);
    }
}

static void answered(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    struct target *target = request->arg;
    struct why why = {0};

    if (target->probe->is_closing)
        return;
    if (err == ERR_OK && reply && modbus_exception_of(reply)) {
        tell_exception(target, modbus_exception_of(reply));
        return;
    }
    if (err == ERR_OK && reply) {
        tell(target, LINK_UP, NULL);
        return;
    }
    if (err == ERR_TIMEOUT)
        (void)why_set(&why, err, "unit %u has not answered within %u ms, %u times", request->unit, request->timeout_ms,
                      request->retries + 1u);
    else if (err == ERR_PROTO)
        (void)why_set(&why, err, "what unit %u answers is no answer to what it was asked", request->unit);
    else if (err == ERR_OK || err == ERR_USAGE)
        (void)why_set(&why, err, "unit %u cannot be read from", request->unit);
    else
        (void)why_set(&why, err, "%s", err_text(err));
    tell(target, LINK_DOWN, &why);
}

static void ask(struct target *target, struct modbus_link *link)
{
    static const struct modbus_read anything = {.function_code = MODBUS_READ_HOLDING, .span = 1};
    const struct modbus_slave *slave = target->slave;
    const struct modbus_read *read = slave->n_reads ? &slave->reads[0] : &anything;
    bool is_bits = modbus_reads_coils(read->function_code);
    unsigned most = read->limit ? read->limit : is_bits ? slave->max_bits : slave->max_registers;
    struct why why = {0};

    target->request = (struct modbus_request){.unit = (uint8_t)slave->unit,
                                              .retries = (uint8_t)MIN(slave->wire.n_retries, RETRIES),
                                              .timeout_ms = MIN(slave->wire.timeout_ms, ANSWER_MAX_MS),
                                              .done = answered,
                                              .arg = target};
    if (modbus_ask_read(&target->request.pdu, (enum modbus_fc)read->function_code, read->address,
                        MIN(read->span, most)) != ERR_OK) {
        (void)why_set(&why, ERR_RANGE, "its first value cannot be asked for");
        tell(target, LINK_DEGRADED, &why);
        return;
    }
    ctx_state(target->probe->ctx, target->name, LINK_CONNECTING, STR_NONE);
    modbus_link_send(link, &target->request);
}

/* --- connections ------------------------------------------------------------------------------------------------------------ */

static void link_up(void *arg)
{
    struct line *line = arg;

    ctx_state(line->probe->ctx, line->first->wire.link, LINK_UP, STR_NONE);
    for (size_t i = 0; i < line->n && !line->was_up; i++)
        ask(&line->targets[i], line->link);
    line->was_up = true;
}

static void link_down(void *arg, enum err err, const struct why *why)
{
    struct line *line = arg;

    (void)err;
    if (!line->was_up) {
        ctx_state(line->probe->ctx, line->first->wire.link, LINK_DOWN, str_from(why_text(why)));
        return;
    }
    for (size_t i = 0; i < line->n; i++) /* they are asked again when it is back */
        if (!line->targets[i].is_done)
            ctx_state(line->probe->ctx, line->targets[i].name, LINK_CONNECTING, str_from(why_text(why)));
}

static void open_line(struct line *line)
{
    static const struct modbus_link_events events = {.up = link_up, .down = link_down};
    struct modbus_link_conf conf = modbus_link_conf_of(&line->first->wire);

    conf.attempts = 1;
    conf.line.timeout_ms = MIN(conf.line.timeout_ms, CONNECT_MAX_MS);
    ctx_state(line->probe->ctx, line->first->wire.link, LINK_CONNECTING, STR_NONE);
    line->link = modbus_link_new(ctx_loop(line->probe->ctx), ctx_log(line->probe->ctx), &conf, &events, line);
}

static void try_server(struct modbus_probe *probe, const struct modbus_own *own)
{
    struct why why = {0}, more = {0};
    enum err err = modbus_server_check(own, &why);
    struct str name = arena_printf(&probe->arena, "server at " STR_FMT, STR_ARG(own->wire.link));

    if (err == ERR_EXISTS || err == ERR_BUSY)
        (void)why_set(&more, err, "%s: a gateway that runs, or another program, has it", why_text(&why));
    ctx_state(probe->ctx, name, err ? LINK_FAILED : LINK_UP,
              err ? str_from(why_text(more.text[0] ? &more : &why)) : STR_NONE);
}

static void add_line(struct modbus_probe *probe, const struct modbus_slave *first, struct target *targets)
{
    struct line *line = &probe->lines[probe->n_lines++];

    *line = (struct line){.probe = probe, .first = first, .targets = targets, .n = first->carried.n};
    for (size_t i = 0; i < line->n; i++) {
        const struct modbus_slave *slave = first->carried.items[i];

        targets[i] =
            (struct target){.probe = probe,
                            .slave = slave,
                            .name = arena_printf(&probe->arena, STR_FMT ", unit %u at " STR_FMT,
                                                 STR_ARG(slave->device_name), slave->unit, STR_ARG(first->wire.link))};
    }
}

struct modbus_probe *modbus_probe_start(struct ctx *ctx, const struct modbus_file *file)
{
    struct modbus_probe *probe = mem_zero(sizeof *probe);
    size_t n = 0;

    probe->ctx = ctx;
    arena_init(&probe->arena, 1024);
    probe->lines = mem_zero((file->slaves.n + 1) * sizeof *probe->lines);
    probe->targets = mem_zero((file->slaves.n + 1) * sizeof *probe->targets);
    for (size_t i = 0; i < file->slaves.n; i++) {
        const struct modbus_slave *slave = file->slaves.items[i];

        if (slave->carrier != slave)
            continue;
        add_line(probe, slave, probe->targets + n);
        n += slave->carried.n;
    }
    for (size_t i = 0; i < probe->n_lines; i++)
        open_line(&probe->lines[i]);
    if (file->own && file->own->is_served)
        try_server(probe, file->own);
    return probe;
}

static void line_closed(void *arg)
{
    struct modbus_probe *probe = arg;
    closed_fn *closed = probe->closed;
    void *closed_arg = probe->closed_arg;

    if (--probe->n_closing)
        return;
    arena_fini(&probe->arena);
    mem_free(probe->lines);
    mem_free(probe->targets);
    mem_free(probe);
    closed(closed_arg);
}

void modbus_probe_close(struct modbus_probe *probe, closed_fn *closed, void *arg)
{
    probe->is_closing = true;
    probe->closed = closed;
    probe->closed_arg = arg;
    probe->n_closing = 1;
    for (size_t i = 0; i < probe->n_lines; i++) {
        probe->n_closing++;
        modbus_link_close(probe->lines[i].link, line_closed, probe);
    }
    line_closed(probe);
}
