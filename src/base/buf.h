/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_BUF_H
#define IOTGW_BUF_H
/*
 * A growing byte buffer for what is being written, and struct rd, a cursor over bytes that are being read.
 * The cursor turns to failed when it is asked for more than there is, and stays failed (values are 0 then), so that a
 * parser needs one check at its end.
 */
#include "base/mem.h"
#include "base/str.h"

struct buf {
    uint8_t *p;
    size_t n, cap;
};

void buf_fini(struct buf *buf);
void buf_grow(struct buf *buf, size_t more);                                 /* makes room for more bytes behind n */
NODISCARD enum err buf_try_grow(struct buf *buf, size_t more, size_t limit); /* ERR_LIMIT if n + more > limit */
void buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Removes the first n bytes; what follows moves to the front. */
void buf_drop(struct buf *buf, size_t n);

static inline uint8_t *buf_room(struct buf *buf, size_t n)
{
    if (UNLIKELY(buf->cap - buf->n < n))
        buf_grow(buf, n);
    return buf->p + buf->n;
}

static inline void buf_add(struct buf *buf, const void *p, size_t n)
{
    if (n) {
        memcpy(buf_room(buf, n), p, n);
        buf->n += n;
    }
}

static inline void buf_add_str(struct buf *buf, struct str s)
{
    buf_add(buf, s.p, s.n);
}

static inline void buf_add_z(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

static inline void buf_add_u8(struct buf *buf, uint8_t v)
{
    *buf_room(buf, 1) = v;
    buf->n++;
}

static inline void buf_add_be16(struct buf *buf, uint16_t v)
{
    uint8_t *p = buf_room(buf, 2);

    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    buf->n += 2;
}

static inline void buf_add_be32(struct buf *buf, uint32_t v)
{
    buf_add_be16(buf, (uint16_t)(v >> 16));
    buf_add_be16(buf, (uint16_t)v);
}

static inline struct str buf_str(const struct buf *buf)
{
    return (struct str){(const char *)buf->p, buf->n};
}

static inline void buf_autofini(struct buf *buf)
{
    buf_fini(buf);
}
#define autobuf __attribute__((cleanup(buf_autofini)))

struct rd {
    const uint8_t *p, *end;
    bool failed;
};

static inline struct rd rd_of(const void *p, size_t n)
{
    return (struct rd){p, (const uint8_t *)p + n, false};
}

static inline bool rd_ok(const struct rd *rd)
{
    return !rd->failed;
}

static inline size_t rd_left(const struct rd *rd)
{
    return (size_t)(rd->end - rd->p);
}

static inline const uint8_t *rd_take(struct rd *rd, size_t n)
{
    const uint8_t *p = rd->p;

    if (UNLIKELY(rd->failed || rd_left(rd) < n)) {
        rd->failed = true;
        return NULL;
    }
    rd->p += n;
    return p;
}

static inline uint8_t rd_u8(struct rd *rd)
{
    const uint8_t *p = rd_take(rd, 1);

    return p ? *p : 0;
}

static inline uint16_t rd_be16(struct rd *rd)
{
    const uint8_t *p = rd_take(rd, 2);

    return p ? (uint16_t)((unsigned)p[0] << 8 | p[1]) : (uint16_t)0;
}

static inline uint32_t rd_be32(struct rd *rd)
{
    const uint8_t *p = rd_take(rd, 4);

    return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static inline struct str rd_str(struct rd *rd, size_t n)
{
    const uint8_t *p = rd_take(rd, n);

    return p ? (struct str){(const char *)p, n} : STR_NONE;
}
#endif
