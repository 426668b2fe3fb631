/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/session.h"

/*
 * Another platform, or another way to log in, while the program runs (remote-config.md 3.1, 4):
 *
 *   the session ends ──► attempts with the new settings ──READY──► they stay
 *                            └── refused, or 30 s ──► the former ones again
 */
enum { CHANGE_MS = 30 * 1000, NEGOTIATING_MS = 6000, PAUSE_MS = 2000 };

static void use(struct uplink *u, const struct mqtt_conf *mqtt, uint8_t qos)
{
    u->conf.mqtt = *mqtt;
    u->conf.qos = qos;
    u->is_v3 = u->is_version_known = false;
    u->n_silent_closes = 0;
    u->n_attempts = 0;
}

/* The session, or the attempt, is given up for another one at once. */
static void begin_anew(struct uplink *u)
{
    retry_stop(&u->retry);
    if (!u->is_busy) {
        retry_start_deaf(&u->retry, 0);
        return;
    }
    u->change.is_fresh = true;
    u->is_own_close = true;
    mqtt_disconnect(u->mqtt, 0);
}

static void end(struct uplink *u, enum err err, const char *reason)
{
    uplink_changed_fn *done = u->change.done;

    u->change.done = NULL;
    timer_stop(&u->change.timer);
    if (done)
        done(u->change.arg, err, reason);
}

static void take_back(struct uplink *u)
{
    LOG_ERROR(u->log, "the platform is not reached with the new settings, the former ones are used again",
              KV_Z("reason", u->reason));
    use(u, &u->change.before, u->change.before_qos);
}

static void due(void *arg)
{
    struct uplink *u = arg;
    char reason[sizeof u->reason];

    if (u->state == UPLINK_NEGOTIATING && !u->change.is_extended) {
        u->change.is_extended = true;
        timer_start(&u->change.timer, NEGOTIATING_MS);
        return;
    }
    memcpy(reason, u->reason, sizeof reason);
    take_back(u);
    begin_anew(u);
    end(u, ERR_TIMEOUT, reason);
}

void change_init(struct uplink *u)
{
    timer_init(&u->change.timer, u->loop, due, u);
}

void change_ready(struct uplink *u)
{
    if (u->change.done)
        end(u, ERR_OK, "");
}

uint64_t change_closed(struct uplink *u, uint64_t pause_ms)
{
    char reason[sizeof u->reason];

    if (u->change.is_fresh) {
        u->change.is_fresh = false;
        return 0;
    }
    if (!u->change.done)
        return pause_ms;
    if (u->state != UPLINK_REFUSED)
        return pause_ms < PAUSE_MS ? pause_ms : PAUSE_MS;
    memcpy(reason, u->reason, sizeof reason);
    take_back(u);
    end(u, ERR_AUTH, reason);
    return 0;
}

void change_stop(struct uplink *u)
{
    timer_stop(&u->change.timer);
    if (u->change.done)
        end(u, ERR_CANCELLED, "the gateway stops");
}

void uplink_change(struct uplink *u, const struct uplink_conf *conf, uplink_changed_fn *done, void *arg)
{
    bool is_provisioning = u->provision && (provision_is_busy(u->provision) || !u->is_provisioned);

    loop_assert(u->loop);
    if (u->is_stopping || u->change.done || is_provisioning || conf->provision) {
        done(arg, ERR_REFUSED,
             conf->provision   ? "provisioning is begun by a start of the gateway only"
             : is_provisioning ? "the gateway asks the platform for credentials"
                               : "another change is under way, or the gateway stops");
        return;
    }
    LOG_INFO(u->log, "the connection to the platform changes", KV_Z("host", conf->mqtt.stream.host),
             KV_UINT("port", conf->mqtt.stream.port));
    u->change.done = done;
    u->change.arg = arg;
    u->change.before = u->conf.mqtt;
    u->change.before_qos = u->conf.qos;
    u->change.is_extended = false;
    use(u, &conf->mqtt, conf->qos);
    timer_start(&u->change.timer, CHANGE_MS);
    begin_anew(u);
}
