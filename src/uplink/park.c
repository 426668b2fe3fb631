/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/*
 * Devices that the platform does not stand. A connect has no data that could be bisected: the device itself is to blame.
 *
 *   in flight at a close ──► suspect: its next connect flies alone ──acknowledged──► forgotten
 *   first in flight at a close: its next connect waits a while (it may have been a limit); at the third: parked
 *   parked: no connect, its data go to the rejected file; after a pause it is tried once more, the pauses double
 */
enum { PARK_MIN_MS = 60 * 1000, PARK_MAX_MS = 60 * 60 * 1000 };
static const uint64_t retry_ms[] = {0, 2000, 10 * 1000}; /* after so many closes */
static_assert(COUNT_OF(retry_ms) == CLOSES_MAX, "a pause for each close before the last");

static struct park *park_find(const struct deliver *d, const struct device *dev)
{
    return dev->number < d->cap_parks ? d->parks[dev->number] : NULL;
}

static struct park *park_make(struct deliver *d, struct device *dev)
{
    if (dev->number >= d->cap_parks) {
        size_t cap = (dev->number + 64) / 64 * 64;

        d->parks = mem_grow(d->parks, cap * sizeof(void *));
        memset(d->parks + d->cap_parks, 0, (cap - d->cap_parks) * sizeof(void *));
        d->cap_parks = cap;
    }
    struct park **park = &d->parks[dev->number];

    if (!*park) {
        *park = mem_zero(sizeof **park);
        d->n_parks++;
    }
    return *park;
}

static void park_drop(struct deliver *d, const struct device *dev)
{
    if (park_find(d, dev)) {
        mem_free(d->parks[dev->number]);
        d->parks[dev->number] = NULL;
        d->n_parks--;
    }
}

const struct park *deliver_parked(const struct deliver *d, const struct device *dev)
{
    const struct park *park = UNLIKELY(d->n_parks) ? park_find(d, dev) : NULL;

    return park && park->is_parked && now_ms(d) < park->until_ms ? park : NULL;
}

void deliver_park(struct deliver *d, struct device *dev, uint8_t code, const char *reason)
{
    struct park *park = park_make(d, dev);

    park->pause_ms = !park->pause_ms                    ? PARK_MIN_MS
                     : park->pause_ms < PARK_MAX_MS / 2 ? park->pause_ms * 2
                                                        : PARK_MAX_MS;
    park->until_ms = now_ms(d) + park->pause_ms;
    park->code = code;
    park->reason = reason;
    park->is_parked = true;
    if (dev->announced == d->session)
        dev->announced = 0;
    LOG_ERROR(d->log, "the platform does not take this device, its data go to the rejected file",
              KV_STR("device", device_name(dev)), KV_UINT("code", code), KV_Z("reason", reason),
              KV_MS("tried again after", park->pause_ms));
}

bool deliver_is_suspect(const struct deliver *d, const struct device *dev)
{
    return UNLIKELY(d->n_parks) && park_find(d, dev) && park_find(d, dev)->is_suspect;
}

uint64_t deliver_device_wait(const struct deliver *d, const struct device *dev)
{
    const struct park *park = UNLIKELY(d->n_parks) ? park_find(d, dev) : NULL;

    return park && now_ms(d) < park->until_ms ? park->until_ms - now_ms(d) : 0;
}

void deliver_device_taken(struct deliver *d, const struct device *dev)
{
    if (UNLIKELY(d->n_parks))
        park_drop(d, dev);
}

/* The server closed while the device's connect or disconnect was first in flight. That is also what opening too many devices
 * looks like (platform-behaviour.md 7). */
void deliver_blame_device(struct deliver *d, struct device *dev)
{
    struct park *park = park_make(d, dev);

    limiter_quota(&d->limiters[LIMIT_DEVICE_MESSAGES], now_ms(d));
    park->is_suspect = true;
    if (++park->n_closes < CLOSES_MAX) {
        park->until_ms = now_ms(d) + retry_ms[park->n_closes];
        return;
    }
    park->n_closes = CLOSES_MAX;
    deliver_park(d, dev, 0, "the platform closes the connection when the device is announced");
}

void deliver_suspect_device(struct deliver *d, struct device *dev)
{
    park_make(d, dev)->is_suspect = true;
}

bool deliver_device_quota(struct deliver *d, struct device *dev)
{
    struct park *park = park_make(d, dev);

    if (park->session != d->session || !park->n_quotas) {
        park->session = d->session;
        park->n_quotas = 0;
        park->n_taken = d->n_taken;
    }
    if (park->n_quotas < QUOTAS_MAX)
        park->n_quotas++;
    if (park->n_quotas < QUOTAS_MAX || d->n_taken == park->n_taken)
        return false;
    deliver_park(d, dev, 0x97, REASON_NO_MORE_DEVICES);
    return true;
}

void deliver_parks_free(struct deliver *d)
{
    for (size_t i = 0; i < d->cap_parks; i++)
        mem_free(d->parks[i]);
    mem_free(d->parks);
}
