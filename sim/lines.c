/* SPDX-License-Identifier: Apache-2.0 */
#include "lines.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 20 };

/* The handler may close us: what is in hand belongs to this function. */
static void take_lines(struct lines *lines)
{
    struct buf taken = lines->pending;
    struct str all = buf_str(&taken);
    size_t used = 0, eol;

    lines->pending = (struct buf){0};
    while ((eol = str_chr(str_skip(all, used), '\n')) < all.n - used && !lines->is_closed) {
        struct str line = str_trim(str_cut(str_skip(all, used), eol));
        size_t word_n = str_chr(line, ' ');

        used += eol + 1;
        if (line.n)
            lines->handler(lines->arg, str_cut(line, word_n), str_trim(str_skip(line, word_n)));
    }
    if (!lines->is_closed && used < all.n)
        buf_add(&lines->pending, all.p + used, all.n - used);
    buf_fini(&taken);
}

/* One read; false at the end. */
static bool read_some(struct lines *lines)
{
    ssize_t n = read(STDIN_FILENO, buf_room(&lines->pending, 4096), 4096);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0)
        return false;
    lines->pending.n += (size_t)n;
    take_lines(lines);
    if (lines->pending.n > MAX_LINE) {
        line_say_error(STR_NONE, "line too long");
        lines->pending.n = 0;
    }
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events UNUSED)
{
    struct lines *lines = poll->data;

    if (status >= 0 && read_some(lines))
        return;
    uv_poll_stop(poll);
    lines->handler(lines->arg, STR("quit"), STR_NONE);
}

void lines_start(struct lines *lines, struct loop *loop, line_fn *handler, void *arg)
{
    *lines = (struct lines){.handler = handler, .arg = arg};
    lines->poll.data = lines;
    if (uv_poll_init(loop_uv(loop), &lines->poll, STDIN_FILENO) == 0) {
        lines->is_polling = true;
        uv_poll_start(&lines->poll, UV_READABLE, on_readable);
        return;
    }
    while (!lines->is_closed && read_some(lines)) {
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct lines *lines = handle->data;

    closer_release(lines->closer);
}

void lines_close(struct lines *lines, struct closer *closer)
{
    lines->is_closed = true;
    buf_fini(&lines->pending);
    if (!lines->is_polling)
        return;
    lines->is_polling = false;
    lines->closer = closer;
    closer_hold(closer);
    uv_close((uv_handle_t *)&lines->poll, on_closed);
}

void json_add_text(struct buf *out, struct str text)
{
    autobuf struct buf valid = {0};

    utf8_add_valid(&valid, text);
    buf_add_u8(out, '"');
    for (size_t i = 0; i < valid.n; i++) {
        uint8_t c = valid.p[i];

        if (c == '"' || c == '\\') {
            buf_add_u8(out, '\\');
            buf_add_u8(out, c);
        } else if (c < 0x20) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_add_u8(out, c);
        }
    }
    buf_add_u8(out, '"');
}

void line_say(struct buf *line)
{
    buf_add_u8(line, '\n');
    fwrite(line->p, 1, line->n, stdout);
    fflush(stdout);
}

void line_say_error(struct str command, const char *what)
{
    autobuf struct buf line = {0};

    buf_add_z(&line, "{\"error\":");
    json_add_text(&line, str_from(what));
    if (command.n) {
        buf_add_z(&line, ",\"command\":");
        json_add_text(&line, command);
    }
    buf_add_u8(&line, '}');
    line_say(&line);
}
