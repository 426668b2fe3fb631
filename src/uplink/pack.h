/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_PACK_H
#define IOTGW_PACK_H
/*
 * Records → payloads of the Gateway MQTT API (platform-api.md 3, 6, 7): pure but for the devices' pack_slot. A pack is one
 * PUBLISH: telemetry or attributes of several devices, grouped in order of first appearance, or one connect or
 * disconnect. Stored bytes are concatenated, never parsed, but for attributes of one device that meet in a pack (a later value of a
 * key wins, at the place of the first) and for records above a limit that has shrunk since they were made.
 *
 * One thread. One packer of telemetry and one of attributes may be filled at the same time; two of the same kind only with packer_reclaim.
 */
#include "data/device.h"
#include "data/record.h"
#include "base/buf.h"

enum pack_kind { PACK_TELEMETRY, PACK_ATTRIBUTES, PACK_CONNECT, PACK_DISCONNECT };

struct pack_limits {
    size_t max_bytes;    /* of the payload, exact; 0: none */
    unsigned max_values; /* of a device's share; 0: none */
    unsigned max_events; /* 0: none */
    bool batch_devices;
    int64_t unsure_offset_ms; /* added to the time of records that are RECORD_TIME_UNSURE: wall less monotonic clock */
    int64_t published_ms;     /* "publishedTs" of records with metadata */
};

/* A growing pack: add gives false when the record does not fit (then finish, and add it to the next one). The first record of a pack
 * always fits. */
struct packer;
struct packer *packer_new(void);
void packer_free(struct packer *packer); /* NULL allowed */
/* TELEMETRY or ATTRIBUTES. limits are copied. */
void packer_begin(struct packer *packer, enum pack_kind kind, const struct pack_limits *limits);
/* The times of limits, of now: before the first record of a pack. */
void packer_set_time(struct packer *packer, int64_t unsure_offset_ms, int64_t published_ms);
/* record must stay until packer_finish. name: on the wire (after renaming), as JSON string with quotes; stays too. */
bool packer_add(struct packer *packer, struct device *dev, struct str name_json, const struct record *record);
bool packer_is_empty(const struct packer *packer);
/* Size of the payload as it stands: exact, or more than that where attributes will be merged. */
size_t packer_bytes(const struct packer *packer);
unsigned packer_values(const struct packer *packer);
unsigned packer_events(const struct packer *packer); /* whose last record is in it */
bool packer_has(const struct packer *packer, const struct device *dev);
/* After another packer of the same kind was used while this one is being filled: marks its devices again. */
void packer_reclaim(struct packer *packer);
struct pack_part {
    struct device *dev;
    uint32_t n_records, n_values;
};
/* The time of publication, for what was gathered for a while; before packer_finish. */
void packer_set_published(struct packer *packer, int64_t published_ms);
/* Writes the payload (replaces out's content) and gives the parts, valid until the next begin. */
void packer_finish(struct packer *packer, struct buf *out, const struct pack_part **parts, size_t *n_parts);
/* The n records of the finished pack in the order of the payload, grouped as the parts; valid until the next begin. */
const struct record *const *packer_records(const struct packer *packer, size_t *n);

/* Payload size of a pack with this record alone. */
size_t pack_alone_bytes(struct str name_json, const struct record *record);
/* Writes the record's values as several sealed records, back to back, each within the limits where it has more than one
 * value; time and metadata repeat, RECORD_END stays with the last. Gives their number; 0: the body is not what an encoder makes. */
size_t pack_split(struct buf *out, struct str name_json, const struct record *record, const struct pack_limits *limits);

/* {"device":…,"type":…} and {"device":…}; appended to out. */
void pack_connect(struct buf *out, struct str name_json, struct str profile);
void pack_disconnect(struct buf *out, struct str name_json);
#endif
