/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/holdback.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { TOLD_S = 60 }; /* a fault that is younger was the end of the run before */

static struct crash_verdict judge(const struct holdback *holdback, const char *name)
{
    return crash_book_judge(&holdback->book, str_from(name));
}

static void tell_faults(const struct holdback *holdback)
{
    for (size_t i = 0; i < holdback->book.n; i++) {
        const struct crash_record *record = &holdback->book.records[i];

        if (record->at_s < holdback->begun_s - TOLD_S)
            continue;
        LOG_ERROR(holdback->log, "a fault has ended the program, which has begun anew",
                  KV_Z("connector", *record->connector ? record->connector : "none"),
                  KV_Z("type", *record->type ? record->type : "-"), KV_INT("signal", record->signal),
                  KV_Z("where", record->where), KV_INT("seconds ago", holdback->begun_s - record->at_s));
        log_flush(true);
    }
}

static void hold(struct holdback *holdback, const char *name, const struct crash_verdict *verdict)
{
    time_t until_s = (time_t)verdict->until_s;
    char at[40] = "", text[200];
    struct tm tm;

    if (gmtime_r(&until_s, &tm))
        strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S UTC", &tm);
    snprintf(text, sizeof text, "held back until %s: it has ended the program %u times in a row, last by signal %d", at,
             verdict->n, verdict->last->signal);
    fleet_hold(holdback->fleet, str_from(name), text);
}

/* The next one is due; the others wait on. */
static void release(void *arg)
{
    struct holdback *holdback = arg;
    uint64_t now_ms = loop_mono_ms(holdback->timer.loop), next_ms = UINT64_MAX;

    for (size_t i = 0; i < fleet_count(holdback->fleet); i++) {
        struct fleet_connector connector = fleet_at(holdback->fleet, i);
        struct crash_verdict verdict = judge(holdback, connector.name);
        uint64_t due_ms = holdback->begun_ms + (uint64_t)(verdict.until_s - holdback->begun_s) * 1000;

        if (!connector.is_held)
            continue;
        if (due_ms <= now_ms)
            fleet_start(holdback->fleet, str_from(connector.name), NULL, NULL);
        else if (due_ms < next_ms)
            next_ms = due_ms;
    }
    if (next_ms != UINT64_MAX)
        timer_start_at(&holdback->timer, next_ms);
}

void holdback_begin(struct holdback *holdback, struct loop *main, struct fleet *fleet, struct log *log)
{
    holdback->fleet = fleet;
    holdback->log = log;
    holdback->begun_ms = loop_mono_ms(main);
    holdback->begun_s = loop_wall_ms(main) / 1000;
    timer_init(&holdback->timer, main, release, holdback);
    tell_faults(holdback);
    for (size_t i = 0; i < fleet_count(fleet); i++) {
        struct fleet_connector connector = fleet_at(fleet, i);
        struct crash_verdict verdict = judge(holdback, connector.name);

        if (connector.conf && verdict.until_s > holdback->begun_s)
            hold(holdback, connector.name, &verdict);
    }
    release(holdback);
}

void holdback_stop(struct holdback *holdback)
{
    if (holdback->fleet)
        timer_stop(&holdback->timer);
}
