/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DEVICE_H
#define IOTGW_DEVICE_H
/*
 * What the platform sees. Devices are interned once for the whole process: any thread finds or makes one; a lock is
 * taken at a first sight only (each mapping keeps its own cache of names it has seen; a look-up here is lock-free). The pointer stays valid and the
 * identity never changes for the life of the process; a deleted device is a tombstone.
 *
 * Beyond identity each field has one writer, named here; readers on other threads use relaxed atomics. At most 400 bytes
 * a device, name included (of up to 100 bytes).
 */
#include "base/str.h"

#include <stdatomic.h>

struct device {
    uint32_t number; /* from 0, dense: index for side tables */
    uint16_t name_n, json_n;
    uint64_t hash;                 /* of the name */
    const char *name;              /* as the connector gives it; not terminated */
    const char *json;              /* the name as JSON string, quotes included; what packing copies */
    _Atomic(const char *) profile; /* connector: as last given; NULL: never (then "default"); interned */
    _Atomic(struct ctx *) owner;   /* connector: who serves it; NULL: nobody */
    /* loop 0, as the registry says: its name on the platform, as device_wire_name made it; NULL: its own */
    _Atomic(const char *) platform_json;
    _Atomic(uint32_t) state_number; /* connector: counts CONNECT and DISCONNECT; only the newest acts */
    _Atomic(uint32_t) verdict;      /* device filter: what was decided for whom (gateway/filter.c); 0: nothing yet */
    _Atomic(uint16_t) source;       /* connector: what it comes from, see device_source; 0: nothing yet */
    _Atomic(uint8_t) link;          /* connector: enum device_link */
    _Atomic(uint8_t)
        has_attributes; /* connector: some were collected since the start, which what is older must not hide */
    _Atomic(uint64_t) n_collected; /* connector: values behind the report filter */
    _Atomic(uint64_t) n_adjusted;  /* any: taken over from an earlier life, less those that were not stored after all */
    _Atomic(uint64_t) n_unchanged; /* connector: values that the report filter held back */
    _Atomic(uint64_t) n_repeated;  /* connector: of n_collected, those of periodic reports */
    _Atomic(uint64_t) n_failed;    /* connector: values that could not be converted or encoded */
    _Atomic(uint64_t) n_appended;  /* stores */
    _Atomic(uint64_t) n_overflowed; /* stores: dropped by limits */
    _Atomic(uint64_t) n_aged;       /* stores: of n_overflowed, those that were too old; counted after it */
    _Atomic(uint64_t) n_delivered;  /* uplink */
    _Atomic(uint64_t) n_rejected;   /* uplink */
    uint64_t store_marks[2];        /* stores, one each: where its newest record stands (store/lanes.h) */
    uint32_t announced;             /* uplink: session in which its connect was written */
    uint32_t pack_slot;             /* uplink: place in the pack being built */
    uint32_t active_s;              /* uplink: monotonic, when the platform last heard of it or was told of it */
    uint16_t told_source;           /* uplink: the source that the platform knows, or is being told */
    _Atomic(uint64_t) last_ms;      /* connector: monotonic, last data */
    int64_t assigned_ms;            /* connector: see device_assign_ts */
    int64_t assigned_wall_ms;       /* connector: latest reading of the wall clock given there */
};

enum device_link { DEVICE_LINK_UNKNOWN, DEVICE_LINK_UP, DEVICE_LINK_DOWN };

/* Never NULL for a name of 1–255 bytes of valid UTF-8 without control characters or what looks like HTML ('<' before a
 * letter: the platform refuses it); else NULL (device_name_check says why). */
struct device *device_get(struct str name);
struct device *device_find(struct str name); /* NULL: never seen. Any thread, no lock */
NODISCARD enum err device_name_check(struct str name, struct why *why);
uint32_t device_count(void);
struct device *device_at(uint32_t number); /* number < device_count() */
/* Gives an interned, zero-terminated copy that lives as long as the process. For profiles, which are few: takes a lock.
 * NULL for what cannot be a profile: empty, more than 255 bytes, invalid UTF-8, control characters. */
const char *device_profile_intern(struct str profile);
/* An interned, zero-terminated JSON string, quotes included, behind which the plain name stands, terminated too. Lives as long as
 * the process. NULL for what is no device name. Takes a lock. */
const char *device_wire_name(struct str name);
static inline struct str device_wire_plain(const char *wire)
{
    return str_from(wire + strlen(wire) + 1);
}
/* What the platform calls the device now, as JSON string. */
static inline struct str device_wire_json(const struct device *dev)
{
    const char *wire = atomic_load_explicit(&dev->platform_json, memory_order_acquire);

    return UNLIKELY(wire != NULL) ? str_from(wire) : (struct str){dev->json, dev->json_n};
}

/* What a device comes from: a connector by its type and name. Interned, lives as long as the process. */
struct device_source {
    uint16_t number;  /* from 1 */
    const char *json; /* "connectorType":T,"connectorName":N */
    const char *type, *name;
};
/* NULL: there are too many. Takes a lock. */
const struct device_source *device_source_intern(const char *type, const char *name);
const struct device_source *device_source_at(uint16_t number); /* NULL: none of that number */
/*
 * A time for data that came without one: the wall clock's, but one more than the last for this device where that would
 * repeat it, so that no key ever repeats a ms (the platform overwrites equal times), and never back when the clock steps
 * back by up to a second. A longer step back is followed. Connector only; once an event.
 */
int64_t device_assign_ts(struct device *dev, int64_t wall_ms);
/* The same for times of the past, which are no business of the device's connector. Both INT64_MIN at first. */
int64_t device_assign_past(int64_t *assigned_ms, int64_t *latest_ms, int64_t stored_ms);

/*
 * Counters of values. Release: whoever sees (acquire) that a value has come to its end also sees that it was counted on its way
 * there, as each hand-over between threads orders the two.
 */
static inline void device_count_values(_Atomic(uint64_t) *counter, uint64_t n) /* one writer at a time */
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_release);
}
static inline void device_add_values(_Atomic(uint64_t) *counter, uint64_t n) /* any thread */
{
    atomic_fetch_add_explicit(counter, n, memory_order_release);
}

static inline struct str device_name(const struct device *dev)
{
    return (struct str){dev->name, dev->name_n};
}
#endif
