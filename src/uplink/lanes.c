/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/*
 * Which lane is gathered from next. Both share window and rate limits; where these are scarce the backlog gets a quarter of the
 * values, where they are not the live lane waits for nothing.
 */
enum { LIVE_SHARE = 3, BURST_MS = 200 };

/* When more waits than one window takes, or than what is sent of a backlog at once, it becomes the backlog, with what was read of
 * it. */
void deliver_split(struct deliver *d)
{
    uint64_t window_bytes = (uint64_t)d->limits.window * d->limits.payload_bytes;
    struct list *node;

    deliver_merge(d);
    if (!d->store || d->is_split)
        return;
    window_bytes = window_bytes < BACKLOG_FLYING_MAX ? window_bytes : BACKLOG_FLYING_MAX;
    if (store_stats(d->store).n_bytes <= window_bytes)
        return;
    store_split(d->store);
    struct store_stats stats = store_stats(d->store);

    if (!stats.is_split)
        return;
    LOG_INFO(d->log, "what waits is delivered beside what is new", KV_UINT("events", stats.n_events),
             KV_UINT("values", stats.n_values), KV_UINT("values a second at most", d->conf.backlog_rate));
    assert(list_is_empty(&d->spans[LANE_BACKLOG]));
    while ((node = list_take_first(&d->spans[LANE_LIVE])))
        list_add_tail(&d->spans[LANE_BACKLOG], node);
    d->streams[LANE_BACKLOG] = d->streams[LANE_LIVE];
    d->streams[LANE_LIVE] = (struct stream){0};
    LIST_EACH(at, &d->open)
        CONTAINER_OF(at, struct pack, node)->lane = LANE_BACKLOG;
    LIST_EACH(at, &d->rejects)
        CONTAINER_OF(at, struct reject, node)->lane = LANE_BACKLOG;
    d->lane = LANE_BACKLOG;
    d->is_split = true;
    d->lead = 0;
    d->bucket = (struct bucket){.at_ms = now_ms(d)};
}

/* The store has one lane again. */
void deliver_merge(struct deliver *d)
{
    if (!d->is_split || !list_is_empty(&d->spans[LANE_BACKLOG]) || store_stats(d->store).is_split)
        return;
    LOG_INFO(d->log, "the backlog is delivered");
    d->streams[LANE_BACKLOG] = (struct stream){0};
    d->lane = LANE_LIVE;
    d->is_split = false;
}

/* Leave for one record more of the backlog, by backlogRate. Once all is spent, some are let gather. */
bool deliver_has_tokens(struct deliver *d)
{
    struct bucket *bucket = &d->bucket;
    double rate = d->conf.backlog_rate / 1000.0, burst = rate * BURST_MS;
    uint64_t now = now_ms(d);

    if (!d->conf.backlog_rate)
        return true;
    bucket->tokens += rate * (double)(now - bucket->at_ms);
    bucket->at_ms = now;
    if (bucket->tokens > burst)
        bucket->tokens = burst;
    if (now < bucket->after_ms)
        return false;
    if (bucket->tokens > 0)
        return true;
    bucket->after_ms = now + (uint64_t)((burst - bucket->tokens) / rate) + 1;
    deliver_wait_for(d, bucket->after_ms - now);
    return false;
}

static bool may_backlog(struct deliver *d)
{
    const struct stream *backlog = &d->streams[LANE_BACKLOG];
    unsigned window = d->limits.window, kept = window >= 4 ? window / 4 : window > 1 ? 1 : 0;

    return backlog->n_flying < window - kept && backlog->flying_bytes < BACKLOG_FLYING_MAX && deliver_has_tokens(d);
}

bool deliver_pick_lane(struct deliver *d)
{
    bool has_live = deliver_has_records(d, LANE_LIVE);
    bool has_backlog = may_backlog(d) && deliver_has_records(d, LANE_BACKLOG);

    d->is_contended = has_live && has_backlog;
    d->lane = has_live && !(has_backlog && d->lead > 0) ? LANE_LIVE : LANE_BACKLOG;
    return has_live || has_backlog;
}

bool deliver_other_waits(struct deliver *d)
{
    return d->lane == LANE_LIVE ? may_backlog(d) && deliver_has_records(d, LANE_BACKLOG)
                                : deliver_has_records(d, LANE_LIVE);
}

void deliver_note_gathered(struct deliver *d, uint32_t n_values)
{
    if (d->lane == LANE_BACKLOG) {
        d->lead -= (int64_t)n_values * LIVE_SHARE;
        d->bucket.tokens -= d->conf.backlog_rate ? n_values : 0;
    } else if (d->is_contended) {
        d->lead += n_values;
    }
    if (d->lead > LEAD_MAX)
        d->lead = LEAD_MAX;
    if (d->lead < -LEAD_MAX)
        d->lead = -LEAD_MAX;
}
