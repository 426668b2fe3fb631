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

static void found(void *arg)
{
    struct cert_watch *watch = arg;
    int64_t first_ms = watch->cert.until_ms;

    watch->is_working = false;
    if (watch->is_stopped)
        return;
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
    if (!watch->loop || watch->is_working || watch->is_stopped)
        return;
    watch->is_working = true;
    work_start(&watch->work, watch->loop, find_ends, found, watch);
}

void cert_watch_start(struct cert_watch *watch, struct loop *loop, struct log *log, const struct cert_watch_conf *conf,
                      cert_watch_fn *tell, void *arg)
{
    *watch = (struct cert_watch){.loop = loop, .log = log, .conf = *conf, .tell = tell, .arg = arg};
    timer_init(&watch->timer, loop, look, watch);
    cert_watch_look(watch);
}

void cert_watch_stop(struct cert_watch *watch)
{
    watch->is_stopped = true;
    timer_stop(&watch->timer);
}
