/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_TALLY_H
#define IOTGW_SIM_TALLY_H
/*
 * What arrived at the platform, and whether it is what was sent. Keeps the latest value of each key of each device, and
 * judges two members of telemetry that the generators put in: "seq", a number counted by the sender, marks a bit (a second
 * time is a duplicate; one that comes for the first time and is smaller than the last such of its device is out of order;
 * what is missing can be listed), and "sent", CLOCK_MONOTONIC in µs, gives the latency. seq is counted per device, or by one
 * generator for all devices (is_shared). One thread.
 *
 * Documents must be read with TALLY_READ: numbers stay text, so that what is shown is what was sent.
 */
#include "base/buf.h"
#include "base/map.h"

#include <yyjson.h>

#define TALLY_READ YYJSON_READ_NUMBER_AS_RAW

/* Logarithmic, 32 steps an octave: 3 % wide. */
struct histogram {
    uint32_t counts[64 * 32];
    uint64_t n, max;
};
void histogram_add(struct histogram *histogram, uint64_t value);
/* The value below which share (0 … 1) of all lie; 0 if there are none. */
uint64_t histogram_at(const struct histogram *histogram, double share);

struct bits { /* a growing set of numbers below 2^31, in pages */
    uint64_t **pages;
    size_t n_pages;
};
void bits_fini(struct bits *bits);
bool bits_has(const struct bits *bits, uint64_t i);
bool bits_set(struct bits *bits, uint64_t i); /* false: was set before */

struct tally_value {
    struct str key; /* owned */
    enum { TALLY_PLAIN, TALLY_SEQ, TALLY_SENT } role;
    bool is_text; /* a JSON string; else text is JSON */
    char *text;
    uint32_t n, cap;
    int64_t ts_ms; /* of the newest value */
};
struct tally_values {
    struct tally_value *slots;
    uint32_t n, next; /* next: where the next member is expected */
};

struct tally_device {
    struct str name; /* owned */
    char *profile;   /* NULL: never named */
    struct tally_values telemetry, attributes;
    struct bits seen;
    uint64_t last_seq;
    int64_t last_ts_ms;
    bool has_seq, has_ts;
    uint64_t n_entries, n_values, last_us; /* last_us: monotonic, of the last data */
    uint64_t active_us;                    /* the user's: last activity, monotonic */
    bool is_deleted;                       /* the user's */
    uint32_t session;                      /* the user's: gateway session in which it is open; 0: not open */
    uint64_t n_shown;                      /* the user's: n_entries at the last picture */
};

struct tally {
    bool is_shared;
    struct map devices; /* struct tally_device */
    struct bits seen;   /* is_shared */
    struct histogram latency;
    uint64_t n_entries, n_values, n_attributes;
    uint64_t n_unique, n_duplicates, n_disordered,
        n_same_ts;              /* by seq; same_ts: neighbours of a device with equal stamp */
    uint64_t n_bad_seq;         /* not a whole number below 2^31 */
    uint64_t first_us, last_us; /* monotonic, arrival of the first and last entry; 0: none */
    uint64_t max_seq;
};

void tally_fini(struct tally *tally);
void tally_reset(struct tally *tally); /* forgets values and counts; devices stay known */
struct tally_device *tally_device(struct tally *tally, struct str name); /* made if unknown */
struct tally_device *tally_find(const struct tally *tally, struct str name);
/* values: object. Members that are null count for nothing (the platform skips them). Gives the number of values. */
unsigned tally_entry(struct tally *tally, struct tally_device *device, int64_t ts_ms, yyjson_val *values,
                     uint64_t now_us);
unsigned tally_attributes(struct tally *tally, struct tally_device *device, int64_t ts_ms, yyjson_val *values);
/* Keeps values without counting: the gateway's own telemetry and attributes. */
unsigned tally_keep(struct tally_values *into, int64_t ts_ms, yyjson_val *values);
void tally_values_fini(struct tally_values *values);

/* Ranges of numbers of [from, to) that never came, as JSON [[first,last],…], at most 1000 ranges; gives how many numbers. */
uint64_t tally_missing(const struct bits *seen, uint64_t from, uint64_t to, struct buf *out);
/* {"key":{"ts":…,"value":…},…} */
void tally_add_values(struct buf *out, const struct tally_values *values);
#endif
