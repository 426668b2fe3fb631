/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_fini(struct buf *buf)
{
    mem_free(buf->p);
    *buf = (struct buf){0};
}

static size_t next_cap(const struct buf *buf, size_t more)
{
    size_t want = buf->n + more, cap = buf->cap ? buf->cap : 64;

    if (want < more || want > SIZE_MAX / 2)
        mem_die(more);
    while (cap < want)
        cap *= 2;
    return cap;
}

void buf_grow(struct buf *buf, size_t more)
{
    size_t cap = next_cap(buf, more);

    buf->p = mem_grow(buf->p, cap);
    buf->cap = cap;
}

enum err buf_try_grow(struct buf *buf, size_t more, size_t limit)
{
    size_t cap;
    void *p;

    if (buf->n > limit || more > limit - buf->n)
        return ERR_LIMIT;
    if (buf->cap - buf->n >= more)
        return ERR_OK;
    cap = next_cap(buf, more);
    if (cap > limit)
        cap = limit;
    p = mem_try_grow(buf->p, cap);
    if (!p)
        return ERR_NOMEM;
    buf->p = p;
    buf->cap = cap;
    return ERR_OK;
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args, again;
    int n;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n > 0) {
        vsnprintf((char *)buf_room(buf, (size_t)n + 1), (size_t)n + 1, fmt, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void buf_drop(struct buf *buf, size_t n)
{
    if (n >= buf->n) {
        buf->n = 0;
        return;
    }
    memmove(buf->p, buf->p + n, buf->n - n);
    buf->n -= n;
}
