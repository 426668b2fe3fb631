/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The age limit. Ages are kept on the monotonic clock, so that a step of the wall clock makes nothing old. What an earlier
 * process left is as old as the wall clock said the first time it was believable; what was stored before, or after that, by
 * a clock that was wrong counts from then on. A segment goes when the newest in it is too old; it is closed early enough
 * that this is soon after the oldest was.
 */
#include "store/file_impl.h"

enum { SEGMENTS_IN_AGE = 16, AGAIN_MS = 1000 };
static const int64_t earliest_ms = INT64_C(1672531200000); /* 2023: no clock is behind */
static const int64_t latest_ms = INT64_C(2303683200000);   /* 2043: nor ahead */

static bool is_believable(int64_t wall_ms)
{
    return wall_ms >= earliest_ms && wall_ms < latest_ms;
}

static void give_age(const struct file_store *s, struct segment *segment, int64_t now_ms)
{
    int64_t wall_ms = loop_wall_ms(s->own), since_ms = segment->newest_wall_ms;

    if (segment->has_age)
        return;
    segment->has_age = true;
    segment->newest_ms = is_believable(since_ms) && since_ms < wall_ms ? now_ms - (wall_ms - since_ms) : now_ms;
}

static void check_lane(struct lane *lane, int64_t now_ms)
{
    struct file_store *s = lane->store;
    int64_t max_ms = (int64_t)s->conf.max_age_ms;
    struct segment *active = lane->active;

    if (active && active->all.n_bytes && !lane->open.n_bytes && now_ms - active->oldest_ms > max_ms / SEGMENTS_IN_AGE)
        file_segment_seal(lane);
    LIST_EACH_SAFE(node, &lane->segments) {
        struct segment *segment = segment_of(node);

        if (segment == lane->active)
            continue;
        give_age(s, segment, now_ms);
        if (now_ms - segment->newest_ms > max_ms && segment->all.n_bytes > segment->given.n_bytes)
            file_drop(lane, segment, true);
    }
}

void file_check_ages(void *arg)
{
    struct file_store *s = arg;

    if (s->is_recalling) { /* what is on its way back has a segment until it is there */
        timer_start_coarse(&s->age, AGAIN_MS);
        return;
    }
    timer_start_coarse(&s->age, s->conf.age_check_ms);
    if (!is_believable(loop_wall_ms(s->own)) || atomic_load(&s->trouble))
        return;
    check_lane(&s->lanes[LANE_BACKLOG], (int64_t)loop_mono_ms(s->own));
    check_lane(&s->lanes[LANE_LIVE], (int64_t)loop_mono_ms(s->own));
    file_after_drop(s);
}

void file_age_start(struct file_store *s)
{
    enum { FIRST_MS = 60 * 1000 };

    if (s->conf.max_age_ms)
        timer_start_coarse(&s->age, s->conf.age_check_ms < FIRST_MS ? s->conf.age_check_ms : FIRST_MS);
}
