/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/session.h"

#include <stdio.h>

/*
 * Another platform, or another way to log in, while the program runs (remote-config.md 3.1, 4):
 *
 *   the session ends ──► attempts with the new settings ──READY──► they stay
 *                            └── refused, or 30 s ──► the former ones again
 *
 * With the new settings credentials may have to be asked for first. Who did that for the former ones stays until the change has
 * ended: their texts are its.
 */
enum { CHANGE_MS = 30 * 1000, NEGOTIATING_MS = 6000, PAUSE_MS = 2000 };

static struct provision *if_busy(struct provision *provision)
{
    return provision && provision_is_busy(provision) ? provision : NULL;
}

struct provision *change_busy_provision(const struct uplink *u)
{
    struct provision *former = if_busy(u->change.before_provision);

    return former ? former : if_busy(u->provision);
}

static void use(struct uplink *u, const struct mqtt_conf *mqtt, uint8_t qos)
{
    u->conf.mqtt = *mqtt;
    u->conf.qos = qos;
    u->is_v3 = u->is_version_known = false;
    u->n_silent_closes = 0;
    u->n_attempts = 0;
}

static void put_away(struct uplink *u, struct provision *provision)
{
    provision_free(u->change.unused);
    u->change.unused = provision;
}

/* The session, or the attempt, is given up for another one at once. */
static void begin_anew(struct uplink *u, struct provision *busy)
{
    retry_stop(&u->retry);
    if (!u->is_busy) {
        retry_start_deaf(&u->retry, 0);
        return;
    }
    u->change.is_fresh = true;
    if (busy) {
        provision_stop(busy);
        return;
    }
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
    put_away(u, u->provision);
    u->provision = u->change.before_provision;
    u->change.before_provision = NULL;
    u->conf.provision = u->change.before_provisioning;
    u->conf.no_login = u->change.before_no_login;
    u->is_provisioned = u->change.before_is_provisioned;
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
    if (change_busy_provision(u)) {
        u->change.is_late = true;
        provision_stop(change_busy_provision(u)); /* what it still stores is stored before the change has ended */
        return;
    }
    memcpy(reason, u->reason, sizeof reason);
    take_back(u);
    begin_anew(u, NULL);
    end(u, ERR_TIMEOUT, reason);
}

void change_init(struct uplink *u)
{
    timer_init(&u->change.timer, u->loop, due, u);
}

void change_fini(struct uplink *u)
{
    timer_stop(&u->change.timer);
    provision_free(u->change.before_provision);
    provision_free(u->change.unused);
}

void change_attempt(struct uplink *u)
{
    put_away(u, NULL);
}

void change_ready(struct uplink *u)
{
    if (!u->change.done)
        return;
    put_away(u, u->change.before_provision);
    u->change.before_provision = NULL;
    end(u, ERR_OK, "");
}

bool change_provisioned(struct uplink *u, enum err err, const struct credentials *credentials)
{
    char reason[sizeof u->reason];

    if (u->change.is_fresh && !u->change.is_late) { /* of the former settings */
        u->change.is_fresh = false;
        u->change.before_is_provisioned = !err;
        if (!err)
            session_log_in_with(&u->change.before, credentials, u->change.before_provisioning);
        retry_start_deaf(&u->retry, 0);
        return true;
    }
    if (!u->change.done || (!u->change.is_late && err != ERR_AUTH))
        return false;
    u->change.is_fresh = false;
    if (u->change.is_late)
        snprintf(u->reason, sizeof u->reason, "provisioning: not within %u s", CHANGE_MS / 1000);
    memcpy(reason, u->reason, sizeof reason);
    take_back(u);
    retry_start_deaf(&u->retry, 0);
    end(u, u->change.is_late ? ERR_TIMEOUT : err, reason);
    return true;
}

uint64_t change_pause(const struct uplink *u, uint64_t pause_ms)
{
    return u->change.done && pause_ms > PAUSE_MS ? PAUSE_MS : pause_ms;
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
        return change_pause(u, pause_ms);
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
    struct provision *busy = change_busy_provision(u);

    loop_assert(u->loop);
    if (u->is_stopping || u->change.done) {
        done(arg, ERR_REFUSED, "another change is under way, or the gateway stops");
        return;
    }
    if (conf->no_login) {
        done(arg, ERR_CONFIG, conf->no_login);
        return;
    }
    LOG_INFO(u->log, "the connection to the platform changes", KV_Z("host", conf->mqtt.stream.host),
             KV_UINT("port", conf->mqtt.stream.port));
    u->change.done = done;
    u->change.arg = arg;
    u->change.before = u->conf.mqtt;
    u->change.before_qos = u->conf.qos;
    u->change.before_provision = u->provision;
    u->change.before_provisioning = u->conf.provision;
    u->change.before_no_login = u->conf.no_login;
    u->change.before_is_provisioned = u->is_provisioned;
    u->change.is_extended = u->change.is_late = false;
    use(u, &conf->mqtt, conf->qos);
    u->conf.provision = conf->provision;
    u->conf.no_login = NULL;
    u->provision = conf->provision ? session_provision_new(u, conf->provision) : NULL;
    u->is_provisioned = false;
    timer_start(&u->change.timer, CHANGE_MS);
    begin_anew(u, busy);
}
