/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_impl.h"

#include "gateway/crash.h"
#include "gateway/notify.h"
#include "gateway/ota.h"
#include "gateway/remote.h"
#include "gateway/storage.h"
#include "gateway/statistics.h"
#include "gateway/watch.h"

/* The way down, from the signal to the end of the last loop. */

enum {
    MEMORY_DRAIN_MS = 5000,
    STOP_MS = 9500,      /* all of stopping: ten seconds with what rounding and the end of threads add */
    STOP_LAST_MS = 3000, /* of it, for the last PUBACKs and disconnects */
    STOP_HUNG_MS = 500   /* after it: a loop hangs, the process ends without it */
};

/* Threads that hang cannot be ended, only left, and with them what they may still touch. */
_Noreturn void gateway_leave(int code)
{
    log_flush(true);
    _exit(code);
}

void gateway_overdue(void *arg)
{
    struct gateway *gateway = arg;

    LOG_ERROR(gateway->log, "stopping takes too long, what is not delivered is lost");
    gateway_leave(1);
}

static void console_is_closed(void *arg)
{
    struct gateway *gateway = arg;

    loops_end(&gateway->loops, gateway_end_loop0, gateway);
    timer_stop(&gateway->housekeeping);
    logging_stop(gateway->logging);
    cert_watch_stop(&gateway->cert_watch);
    timer_stop(&gateway->watchdog);
    timer_stop(&gateway->overdue);
    signals_stop(&gateway->signals);
    loop_stop(gateway->main.loop);
}

static void fleet_is_closed(void *arg)
{
    struct gateway *gateway = arg;

    console_stop(&gateway->console, console_is_closed, gateway);
}

static void loop0_is_stopped(void *arg)
{
    struct gateway *gateway = arg;

    gateway->phase = PHASE_CLOSING;
    fleet_close(gateway->fleet, fleet_is_closed, gateway);
}

static void drain(void *arg)
{
    struct gateway *gateway = arg;
    uint64_t past_ms = loop_mono_ms(gateway->main.loop) - gateway->stop_since_ms, left_ms = STOP_MS - STOP_LAST_MS;

    left_ms -= past_ms < left_ms ? past_ms : left_ms;
    gateway->drain_ms = left_ms < MEMORY_DRAIN_MS ? (uint32_t)left_ms : MEMORY_DRAIN_MS;
    if (!storage_is_volatile(gateway->storage))
        gateway->drain_ms = 0; /* it is there after the next start */
    gateway->phase = PHASE_DRAINING;
    router_stop(gateway->router);
    gateway->to_loop0 = (struct call){.fn = gateway_stop_loop0, .arg = gateway};
    gateway->to_main = (struct call){.fn = loop0_is_stopped, .arg = gateway};
    runner_call(&gateway->loops.all[0]->runner, &gateway->to_loop0);
}

static void takeover_is_stopped(void *arg)
{
    struct gateway *gateway = arg;

    gateway->phase = PHASE_STOPPING;
    fleet_stop_all(gateway->fleet, drain, gateway);
}

static void fleet_is_quiet(void *arg)
{
    struct gateway *gateway = arg;

    if (gateway->takeover)
        takeover_stop(gateway->takeover, takeover_is_stopped, gateway);
    else
        takeover_is_stopped(gateway);
}

void gateway_stop_parts(struct gateway *gateway)
{
    registry_stop(gateway->registry);
    statistics_stop(gateway->statistics, NULL, NULL);
    watch_stop(gateway->watch);
    remote_stop(gateway->remote);
    ota_stop(gateway->ota);
    apply_end(gateway->apply);
    holdback_stop(&gateway->holdback);
    storage_end(gateway->storage);
    fleet_quiesce_all(gateway->fleet, fleet_is_quiet, gateway);
}

void gateway_begin_stop(struct gateway *gateway, const char *why)
{
    if (gateway->phase >= PHASE_QUIESCING)
        return;
    gateway->phase = PHASE_QUIESCING;
    gateway->stop_since_ms = loop_mono_ms(gateway->main.loop);
    timer_start(&gateway->overdue, STOP_MS + STOP_HUNG_MS);
    if (!gateway->restart)
        crash_stay_down();
    notify_send(STR("STOPPING=1"));
    LOG_INFO(gateway->log, "stopping", KV_Z("reason", why));
    if (gateway->is_loop0_there)
        gateway_stop_parts(gateway);
}
