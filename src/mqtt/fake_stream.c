/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/fake_stream.h"

#include <assert.h>

struct stream {
    struct loop *loop;
    const struct stream_events *events;
    void *arg;
    struct buf in;
    size_t need;
    uint64_t queued, sent, last_in_ms, last_out_ms;
    bool is_open, is_paused, is_closing, is_closed;
    struct timer closed, again;
};

struct fake_stream fake;

static void on_closed(void *arg)
{
    struct stream *stream = arg;

    stream->is_closed = true;
    stream->events->closed(stream->arg, ERR_OK, &(struct why){0});
}

/* Offers a copy that ends where the allocation does but for the slack, so that the address sanitizer sees who reads on. */
static void offer(struct stream *stream)
{
    while (fake.stream == stream && !stream->is_closing && !stream->is_paused && stream->in.n &&
           stream->in.n >= stream->need) {
        uint8_t *copy = mem_new(stream->in.n + 16);
        size_t used;

        memcpy(copy, stream->in.p, stream->in.n);
        used = stream->events->read(stream->arg, copy, stream->in.n);
        mem_free(copy);
        assert(used <= stream->in.n);
        buf_drop(&stream->in, used);
        if (used == 0)
            return;
    }
}

static void on_again(void *arg)
{
    offer(arg);
}

enum err stream_new(struct stream **out, struct loop *loop, const struct stream_events *events, void *arg)
{
    struct stream *stream;

    if (fake.fail_new) {
        fake.fail_new = false;
        return ERR_LIMIT;
    }
    assert(!fake.stream);
    stream = mem_zero(sizeof *stream);
    stream->loop = loop;
    stream->events = events;
    stream->arg = arg;
    timer_init(&stream->closed, loop, on_closed, stream);
    timer_init(&stream->again, loop, on_again, stream);
    fake.stream = stream;
    fake.n_made++;
    *out = stream;
    return ERR_OK;
}

void stream_connect(struct stream *stream, const struct stream_conf *conf)
{
    (void)stream;
    (void)conf;
}

void stream_write(struct stream *stream, const void *p, size_t n, bool copy)
{
    (void)copy;
    assert(stream->is_open && !stream->is_closing);
    buf_add(&fake.out, p, n);
    stream->queued += n;
    if (!fake.hold) {
        stream->sent = stream->queued;
        stream->last_out_ms = loop_mono_ms(stream->loop);
    }
}

uint64_t stream_queued(const struct stream *stream)
{
    return stream->queued;
}

uint64_t stream_sent(const struct stream *stream)
{
    return stream->sent;
}

void stream_need(struct stream *stream, size_t n)
{
    stream->need = n;
}

void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
}

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
    timer_start(&stream->again, 0);
}

bool stream_is_paused(const struct stream *stream)
{
    return stream->is_paused;
}

void stream_close(struct stream *stream, bool now)
{
    (void)now;
    if (!stream || stream->is_closing)
        return;
    stream->is_closing = true;
    timer_start(&stream->closed, 0);
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    assert(stream->is_closed);
    timer_stop(&stream->closed);
    timer_stop(&stream->again);
    buf_fini(&stream->in);
    mem_free(stream);
    fake.stream = NULL;
}

const char *stream_peer(const struct stream *stream)
{
    return stream->is_open ? "fake:1883" : "";
}

uint64_t stream_last_in_ms(const struct stream *stream)
{
    return stream->last_in_ms;
}

uint64_t stream_last_out_ms(const struct stream *stream)
{
    return stream->last_out_ms;
}

struct loop *stream_loop(const struct stream *stream)
{
    return stream->loop;
}

/* --- the test's side ---------------------------------------------------------------------------------------------------- */

void fake_open(void)
{
    fake.stream->is_open = true;
    fake.stream->events->open(fake.stream->arg);
}

void fake_feed(const void *p, size_t n, size_t step)
{
    const uint8_t *from = p;

    for (size_t piece; n && fake.stream && !fake.stream->is_closing; from += piece, n -= piece) {
        piece = step && step < n ? step : n;
        buf_add(&fake.stream->in, from, piece);
        fake.stream->last_in_ms = loop_mono_ms(fake.stream->loop);
        offer(fake.stream);
    }
}

void fake_release(void)
{
    fake.hold = false;
    fake.stream->sent = fake.stream->queued;
    fake.stream->last_out_ms = loop_mono_ms(fake.stream->loop);
    fake.stream->events->sent(fake.stream->arg);
}

void fake_hang_up(enum err err, const char *text)
{
    struct stream *stream = fake.stream;
    struct why why = {0};

    (void)why_set(&why, err, "%s", text);
    timer_stop(&stream->closed);
    stream->is_closing = stream->is_closed = true;
    stream->events->closed(stream->arg, err, &why);
}

size_t fake_unread(void)
{
    return fake.stream ? fake.stream->in.n : 0;
}

void fake_reset(void)
{
    assert(!fake.stream);
    buf_fini(&fake.out);
    fake = (struct fake_stream){0};
}
