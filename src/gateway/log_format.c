/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/log_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum what {
    TEXT,
    ASCTIME,
    MSECS,
    LEVELNAME,
    LEVELNO,
    NAME,
    FILENAME,
    MODULE,
    FUNCNAME,
    LINENO,
    THREADNAME,
    MESSAGE,
    PATHNAME,
    PROCESS,
    PROCESSNAME,
    CREATED,
    THREAD
};
static const char *const names[] = {[TEXT] = "",
                                    [ASCTIME] = "asctime",
                                    [MSECS] = "msecs",
                                    [LEVELNAME] = "levelname",
                                    [LEVELNO] = "levelno",
                                    [NAME] = "name",
                                    [FILENAME] = "filename",
                                    [MODULE] = "module",
                                    [FUNCNAME] = "funcName",
                                    [LINENO] = "lineno",
                                    [THREADNAME] = "threadName",
                                    [MESSAGE] = "message",
                                    [PATHNAME] = "pathname",
                                    [PROCESS] = "process",
                                    [PROCESSNAME] = "processName",
                                    [CREATED] = "created",
                                    [THREAD] = "thread"};

enum { WIDTH_MAX = 256, STAMP_MAX = 128 };

struct piece {
    enum what what;
    struct str text;
    bool is_left, is_zero;
    int width, precision; /* precision -1: none */
};
struct log_format {
    const char *datefmt; /* NULL: Python's default */
    size_t n;
    struct piece *pieces;
};

/* One "%(name)<flags><width>.<precision><type>" at text.p; its length, 0: it is none. */
static size_t read_piece(struct str text, struct piece *out)
{
    size_t close = str_chr(text, ')'), i;
    struct str name;

    if (!str_starts(text, STR("%(")) || close == text.n)
        return 0;
    name = str_of(text.p + 2, close - 2);
    *out = (struct piece){.precision = -1};
    for (i = ASCTIME; i < COUNT_OF(names) && !str_eq_z(name, names[i]);)
        i++;
    if (i == COUNT_OF(names))
        return 0;
    out->what = (enum what)i;
    for (i = close + 1; i < text.n && strchr("-0 +#", text.p[i]); i++) {
        out->is_left |= text.p[i] == '-';
        out->is_zero |= text.p[i] == '0';
    }
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        if (out->width < WIDTH_MAX)
            out->width = out->width * 10 + (text.p[i] - '0');
    if (i < text.n && text.p[i] == '.')
        for (out->precision = 0, i++; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
            if (out->precision < WIDTH_MAX)
                out->precision = out->precision * 10 + (text.p[i] - '0');
    return i < text.n && strchr("sdifrgeFG", text.p[i]) ? i + 1 : 0;
}

struct log_format *log_format_new(struct arena *arena, struct str format, struct str datefmt)
{
    struct log_format *self = arena_alloc(arena, sizeof *self);
    struct str text = str_from(arena_text(arena, format));
    size_t begin = 0;

    /* At most a piece for each percent sign, and a text before each and behind the last. */
    size_t n_max = 1;
    for (size_t i = 0; i < text.n; i++)
        n_max += 2 * (text.p[i] == '%');
    *self = (struct log_format){.datefmt = datefmt.n ? arena_text(arena, datefmt) : NULL,
                                .pieces = arena_alloc(arena, n_max * sizeof *self->pieces)};
    for (size_t i = 0; i < text.n;) {
        struct piece piece;
        bool is_percent = str_starts(str_skip(text, i), STR("%%"));
        size_t n = is_percent ? 0 : read_piece(str_skip(text, i), &piece);

        if (!n && !is_percent) {
            i++;
            continue;
        }
        if (i + is_percent > begin) /* of "%%" the first stays */
            self->pieces[self->n++] =
                (struct piece){.what = TEXT, .precision = -1, .text = str_of(text.p + begin, i + is_percent - begin)};
        if (n)
            self->pieces[self->n++] = piece;
        i += n ? n : 2;
        begin = i;
    }
    if (begin < text.n)
        self->pieces[self->n++] = (struct piece){.what = TEXT, .precision = -1, .text = str_skip(text, begin)};
    return self;
}

struct str log_format_unknown(struct str format)
{
    struct piece piece;

    for (size_t i = 0; i < format.n; i++) {
        struct str rest = str_skip(format, i);

        if (str_starts(rest, STR("%%")))
            i++;
        else if (str_starts(rest, STR("%(")) && !read_piece(rest, &piece))
            return str_of(rest.p, str_chr(rest, ')') < rest.n ? str_chr(rest, ')') + 1 : rest.n);
    }
    return STR_NONE;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static unsigned level_number(enum log_level level)
{
    static const unsigned numbers[] = {5, 10, 20, 30, 40, 100};

    return numbers[level];
}

static struct str asctime_of(const struct log_format *format, int64_t wall_ms, char *out)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    size_t n;

    localtime_r(&seconds, &tm);
    n = strftime(out, STAMP_MAX, format->datefmt ? format->datefmt : "%Y-%m-%d %H:%M:%S", &tm);
    if (!format->datefmt)
        n += (size_t)snprintf(out + n, STAMP_MAX - n, ",%03d", (int)(wall_ms % 1000));
    return str_of(out, n);
}

static struct str number(char *out, const struct piece *piece, unsigned long long value)
{
    int width = piece->is_zero && !piece->is_left ? piece->width : 1;

    return str_of(out, (size_t)snprintf(out, STAMP_MAX, "%0*llu", width < 40 ? width : 40, value));
}

static struct str text_of(const struct log_format *format, const struct piece *piece, const struct log_line *line,
                          char *out)
{
    const char *file = base_of(line->place->file);
    struct str text = str_from(file);

    switch (piece->what) {
    case TEXT:
        return piece->text;
    case ASCTIME:
        return asctime_of(format, line->wall_ms, out);
    case MSECS:
        return number(out, piece, (unsigned long long)(line->wall_ms % 1000));
    case LEVELNAME:
        return str_from(log_level_name(line->level));
    case LEVELNO:
        return number(out, piece, level_number(line->level));
    case NAME:
        return line->logger;
    case FILENAME:
        return text;
    case MODULE:
        return str_cut(text, str_chr(text, '.'));
    case FUNCNAME:
        return str_from(line->place->function);
    case LINENO:
        return number(out, piece, line->place->line);
    case THREADNAME:
        return str_from(line->thread);
    case MESSAGE:
        return line->message;
    case PATHNAME:
        return str_from(line->place->file);
    case PROCESS:
        return number(out, piece, (unsigned long long)getpid());
    case PROCESSNAME:
        return STR("iotgw");
    case CREATED:
        return str_of(out, (size_t)snprintf(out, STAMP_MAX, "%.3f", (double)line->wall_ms / 1000));
    case THREAD:
        return str_from(line->thread);
    }
    return STR_NONE;
}

void log_format_default(const struct log_line *line, struct buf *out)
{
    buf_add_z(out, log_level_name(line->level));
    buf_add_u8(out, ' ');
    buf_add_str(out, line->logger);
    buf_add_z(out, ": ");
    buf_add_str(out, line->message);
}

void log_format_put(const struct log_format *format, const struct log_line *line, struct buf *out)
{
    for (size_t i = 0; i < format->n; i++) {
        const struct piece *piece = &format->pieces[i];
        char scratch[STAMP_MAX];
        struct str text = text_of(format, piece, line, scratch);
        size_t width = (size_t)piece->width;

        if (piece->precision >= 0 && text.p != scratch)
            text = str_cut(text, (size_t)piece->precision);
        for (size_t pad = text.n; !piece->is_left && pad < width; pad++)
            buf_add_u8(out, ' ');
        buf_add_str(out, text);
        for (size_t pad = text.n; piece->is_left && pad < width; pad++)
            buf_add_u8(out, ' ');
    }
}
