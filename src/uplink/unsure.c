/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/*
 * Values that came before the clock was set hold time since the machine's boot. They wait here, and what follows them with
 * them, until the clock says what time that was. A clock that is never set does not hold them for ever: after a while their times are
 * counted from the program's own date, which is wrong, but keeps their order and distances, and no two of a key are equal.
 */
enum { UNSURE_WAIT_MS = 10 * 60 * 1000, UNSURE_LOOK_MS = 1000 };

struct deliver_times deliver_times(const struct deliver *d)
{
    struct deliver_times times = {.offset_ms = d->unsure_base_ms};

    (void)loop_offset_ms(d->loop, &times.offset_ms);
    if (!loop_stamp(d->loop, &times.published_ms))
        times.published_ms += times.offset_ms;
    return times;
}

bool deliver_awaits_clock(const struct deliver *d)
{
    return d->unsure_since_ms && !d->is_unsure_sent;
}

static bool must_wait(const struct deliver *d)
{
    if (d->is_finishing && d->is_reading) /* what is not sent now is lost */
        return false;
    return !d->unsure_since_ms || now_ms(d) - d->unsure_since_ms < UNSURE_WAIT_MS;
}

bool deliver_may_time(struct deliver *d, const struct record *record)
{
    int64_t ignored_ms;

    if (loop_offset_ms(d->loop, &ignored_ms)) {
        if (d->unsure_since_ms)
            LOG_INFO(d->log, "the clock is set: values that came before get their times",
                     KV_MS("after", now_ms(d) - d->unsure_since_ms));
        d->unsure_since_ms = 0;
        d->is_unsure_sent = false;
        return true;
    }
    if (d->is_unsure_sent)
        return true;
    if (must_wait(d)) {
        if (!d->unsure_since_ms) {
            d->unsure_since_ms = now_ms(d);
            LOG_WARN(d->log, "the clock is not set: values without a time of their own wait for it",
                     KV_MS("at most", UNSURE_WAIT_MS));
        }
        deliver_wait_for(d, UNSURE_LOOK_MS);
        return false;
    }
    /* Negative: of an earlier boot, before this one (store/file_boots.h); the first to be sent is the oldest. */
    d->unsure_base_ms = loop_earliest_ms(d->loop) - (record->ts < 0 ? record->ts : 0);
    d->is_unsure_sent = true;
    LOG_WARN(d->log, "the clock is still not set: times are counted from this program's date, and are wrong");
    return true;
}
