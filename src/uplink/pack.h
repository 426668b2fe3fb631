/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_PACK_H
#define IOTGW_PACK_H
/*
 * Records → payloads of the Gateway MQTT API (platform-api.md 3, 6, 7): pure but for the devices' pack_slot. A pack is one
 * PUBLISH: telemetry or attributes of several devices, grouped in order of first appearance, or one connect or
 * disconnect. Stored bytes are concatenated, never parsed, but for attributes of one device that meet in a pack.
 */
#include "data/device.h"
#include "data/record.h"
#include "base/buf.h"

enum pack_kind { PACK_TELEMETRY, PACK_ATTRIBUTES, PACK_CONNECT, PACK_DISCONNECT };

struct pack_limits {
    size_t max_bytes;      /* of the payload, exact */
    unsigned max_values;   /* of a device's share; 0: none */
    unsigned max_events;   /* 0: none */
    bool batch_devices;
};

/* A growing pack: add gives false when the record does not fit (then finish, and add it to the next one). */
struct packer;
struct packer *packer_new(void);
void packer_free(struct packer *packer);
void packer_begin(struct packer *packer, enum pack_kind kind, const struct pack_limits *limits);
/* record must stay until packer_finish. name: on the wire (after renaming), as JSON string with quotes. */
bool packer_add(struct packer *packer, struct device *dev, struct str name_json, const struct record *record);
bool packer_is_empty(const struct packer *packer);
size_t packer_bytes(const struct packer *packer); /* exact size of the payload as it stands */
unsigned packer_values(const struct packer *packer);
bool packer_has(const struct packer *packer, const struct device *dev);
struct pack_part {
    struct device *dev;
    uint32_t n_records, n_values;
};
/* Writes the payload (replaces out's content) and gives the parts, valid until the next begin. */
void packer_finish(struct packer *packer, struct buf *out, const struct pack_part **parts, size_t *n_parts);
/* {"device":…,"type":…} and {"device":…} */
void pack_connect(struct buf *out, struct str name_json, struct str profile);
void pack_disconnect(struct buf *out, struct str name_json);
#endif
