/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_fake_line.h"

struct modbus_line {
    struct modbus_line_events events;
    void *arg;
    bool is_open, is_closing;
    struct timer closed;
};

struct fake_line fake_line;

static void on_closed(void *arg)
{
    struct modbus_line *line = arg;

    line->events.closed(line->arg, ERR_OK, &(struct why){0});
}

struct modbus_line *modbus_line_new(struct loop *loop, const struct modbus_line_conf *conf UNUSED,
                                    const struct modbus_line_events *events, void *arg)
{
    struct modbus_line *line = mem_zero(sizeof *line);

    assert(!fake_line.line);
    line->events = *events;
    line->arg = arg;
    timer_init(&line->closed, loop, on_closed, line);
    fake_line.line = line;
    fake_line.n_made++;
    return line;
}

void modbus_line_write(struct modbus_line *line, const uint8_t *p, size_t n)
{
    assert(line->is_open && !line->is_closing);
    buf_add(&fake_line.out, p, n);
    fake_line.n_writes++;
}

void modbus_line_close(struct modbus_line *line)
{
    if (!line || line->is_closing)
        return;
    line->is_closing = true;
    timer_start(&line->closed, 0);
}

void modbus_line_free(struct modbus_line *line)
{
    if (!line)
        return;
    timer_stop(&line->closed);
    mem_free(line);
    fake_line.line = NULL;
}

void fake_line_open(void)
{
    fake_line.line->is_open = true;
    fake_line.line->events.open(fake_line.line->arg);
}

/* From memory of its own size, so that the address sanitizer sees who reads on. */
void fake_line_feed(const void *p, size_t n, size_t step)
{
    const uint8_t *from = p;

    for (size_t piece; n && fake_line.line && !fake_line.line->is_closing; from += piece, n -= piece) {
        uint8_t *copy;

        piece = step && step < n ? step : n;
        copy = mem_new(piece);
        memcpy(copy, from, piece);
        fake_line.line->events.read(fake_line.line->arg, copy, piece);
        mem_free(copy);
    }
}

void fake_line_lose(enum err err)
{
    struct why why = {0};

    (void)why_set(&why, err, "the test says so");
    fake_line.line->events.closed(fake_line.line->arg, err, &why);
}

void fake_line_reset(void)
{
    assert(!fake_line.line);
    buf_fini(&fake_line.out);
    fake_line = (struct fake_line){0};
}
