/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cert_watch.h"

#include "base/buf.h"
#include "io/tls.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

enum { DAY_MS = 24 * 60 * 60 * 1000 };

/* --- helper thread ---------------------------------------------------------------------------------------------------- */

static void find_end(const struct tls_api *tls, const char *file, bool is_bundle, struct cert_end *end)
{
    *end = (struct cert_end){0};
    if (!file || access(file, F_OK) != 0) /* not there: connecting says so, or provisioning makes it */
        return;
    if (tls->expiry(file, is_bundle, &end->until_ms, &end->why))
        end->until_ms = 0;
}

static void find_ends(void *arg)
{
    struct cert_watch *watch = arg;
    const struct tls_api *tls = tls_load(NULL); /* without it there is no link either, which says why */

    watch->cert = watch->ca = (struct cert_end){0};
    if (!tls)
        return;
    find_end(tls, watch->conf.cert_file, false, &watch->cert);
    find_end(tls, watch->conf.ca_file, true, &watch->ca);
    tls->forget_thread();
}

/* --- main loop ---------------------------------------------------------------------------------------------------------- */

static void judge(struct cert_watch *watch, const struct cert_end *end, const char *file, const char *what,
                  const char *key)
{
    int64_t left_ms = end->until_ms - loop_wall_ms(watch->loop);
    time_t until_s = (time_t)(end->until_ms / 1000);
    char date[40] = "";
    struct tm tm;

    if (end->why.err)
        LOG_WARN(watch->log, "a certificate cannot be looked at", KV_WHY(&end->why));
    if (!end->until_ms || left_ms > (int64_t)watch->conf.days_left * DAY_MS)
        return;
    if (gmtime_r(&until_s, &tm))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
    if (left_ms <= 0)
        LOG_ERROR(watch->log, "a certificate of the platform link has expired: replace the file", KV_Z("what", what),
                  KV_Z("file", file), KV_Z("on", date), KV_Z("key", key));
    else
        LOG_WARN(watch->log, "a certificate of the platform link expires soon: replace the file", KV_Z("what", what),
                 KV_Z("file", file), KV_Z("on", date), KV_INT("days left", left_ms / DAY_MS), KV_Z("key", key));
}

static void take_next(struct cert_watch *watch)
{
    arena_fini(&watch->arena);
    watch->arena = watch->next_arena;
    watch->next_arena = (struct arena){0};
    watch->conf = watch->next;
    watch->has_next = false;
    timer_stop(&watch->timer);
    cert_watch_look(watch);
}

static void found(void *arg)
{
    struct cert_watch *watch = arg;
    int64_t first_ms = watch->cert.until_ms;

    watch->is_working = false;
    if (watch->is_stopped)
        return;
    if (watch->has_next) {
        take_next(watch);
        return;
    }
    timer_start_coarse(&watch->timer, watch->conf.period_ms);
    judge(watch, &watch->cert, watch->conf.cert_file, "client certificate", "cert");
    judge(watch, &watch->ca, watch->conf.ca_file, "CA", "caCert");
    if (!first_ms || (watch->ca.until_ms && watch->ca.until_ms < first_ms))
        first_ms = watch->ca.until_ms;
    if (first_ms) {
        autobuf struct buf json = {0};

        buf_printf(&json, "{\"certificateExpiryTs\":%" PRId64 "}", first_ms);
        watch->tell(watch->arg, buf_str(&json));
    }
}

static void look(void *arg)
{
    cert_watch_look(arg);
}

void cert_watch_look(struct cert_watch *watch)
{
    if (!watch->loop || watch->is_working || watch->is_stopped || (!watch->conf.cert_file && !watch->conf.ca_file))
        return;
    watch->is_working = true;
    work_start(&watch->work, watch->loop, find_ends, found, watch);
}

static const char *copied(struct arena *arena, const char *text)
{
    return text ? arena_text(arena, str_from(text)) : NULL;
}

static bool is_same_file(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

void cert_watch_change(struct cert_watch *watch, const struct cert_watch_conf *conf)
{
    const struct cert_watch_conf *now = watch->has_next ? &watch->next : &watch->conf;

    if (!watch->loop || watch->is_stopped ||
        (is_same_file(now->cert_file, conf->cert_file) && is_same_file(now->ca_file, conf->ca_file) &&
         now->period_ms == conf->period_ms && now->days_left == conf->days_left))
        return;
    arena_fini(&watch->next_arena);
    arena_init(&watch->next_arena, 256);
    watch->next = *conf;
    watch->next.cert_file = copied(&watch->next_arena, conf->cert_file);
    watch->next.ca_file = copied(&watch->next_arena, conf->ca_file);
    watch->has_next = true;
    if (!watch->is_working)
        take_next(watch);
}

void cert_watch_start(struct cert_watch *watch, struct loop *loop, struct log *log, const struct cert_watch_conf *conf,
                      cert_watch_fn *tell, void *arg)
{
    *watch = (struct cert_watch){.loop = loop, .log = log, .tell = tell, .arg = arg};
    timer_init(&watch->timer, loop, look, watch);
    cert_watch_change(watch, conf);
}

void cert_watch_stop(struct cert_watch *watch)
{
    watch->is_stopped = true;
    timer_stop(&watch->timer);
}

void cert_watch_fini(struct cert_watch *watch)
{
    arena_fini(&watch->arena);
    arena_fini(&watch->next_arena);
}
