/* SPDX-License-Identifier: Apache-2.0 */
#include "store/drop_log.h"

#include "base/log.h"

#include <time.h>

enum { PAUSE_MS = 60 * 1000, STAMP_SIZE = 32 };

/* As the log writes its own. */
static const char *stamp_of(int64_t wall_ms, char to[STAMP_SIZE])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    return localtime_r(&seconds, &tm) && strftime(to, STAMP_SIZE, "%Y-%m-%d %H:%M:%S", &tm) ? to : "?";
}

static void say(struct drop_log *drops)
{
    char first[STAMP_SIZE], last[STAMP_SIZE];

    if (!drops->n_events)
        return;
    LOG_ERROR(drops->log, "events are dropped: the storage takes no more", KV_UINT("events", drops->n_events),
              KV_UINT("values", drops->n_values), KV_Z("first", stamp_of(drops->first_ms, first)),
              KV_Z("last", stamp_of(drops->last_ms, last)));
    drops->n_events = drops->n_values = 0;
    timer_start(&drops->timer, PAUSE_MS);
}

static void pause_is_over(void *arg)
{
    say(arg);
}

void drop_log_init(struct drop_log *drops, struct loop *loop, struct log *log)
{
    *drops = (struct drop_log){.loop = loop, .log = log};
    timer_init(&drops->timer, loop, pause_is_over, drops);
}

void drop_log_note(struct drop_log *drops, uint64_t n_events, uint64_t n_values)
{
    if (!drops->log)
        return;
    drops->last_ms = loop_wall_ms(drops->loop);
    if (!drops->n_events)
        drops->first_ms = drops->last_ms;
    drops->n_events += n_events;
    drops->n_values += n_values;
    if (!timer_is_running(&drops->timer))
        say(drops);
}

void drop_log_fini(struct drop_log *drops)
{
    if (drops->log)
        say(drops);
    timer_stop(&drops->timer);
}
