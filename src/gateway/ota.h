/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_OTA_H
#define IOTGW_OTA_H
/*
 * Firmware that the platform assigns to the gateway itself (platform-api.md 9), with otaHook only: it is loaded in chunks into
 * firmware/firmware.bin of the configuration directory, its checksum is compared, and the hook is run with path, title and
 * version. Exit code 0: it is installed, and noted in firmware/installed.json, so that it is not installed again. Own telemetry
 * tells the states; with FAILED also fw_error. What has failed is tried again when the platform assigns anew, or after a restart.
 *
 * Owner thread: main; files are written, read and compared in the worker pool. What the platform sends is bounded: OTA_MAX bytes,
 * one chunk at a time, an hour for the hook.
 */
#include "gateway/north.h"

enum { OTA_MAX = 1 << 30 };

struct ota;
struct ota_conf {
    struct loop *loop;
    struct log *log;
    const char *dir;  /* of the configuration; ends with "/" or is empty */
    const char *hook; /* path of a program; relative to dir. Copied */
};
struct ota *ota_new(const struct ota_conf *conf);
void ota_attach(struct ota *ota, struct north *north);
/* From north_events; NULL: nothing happens. */
void ota_state(struct ota *ota, enum uplink_state state);
void ota_attributes(struct ota *ota, yyjson_val *root);
void ota_chunk(struct ota *ota, uint64_t request, uint64_t chunk, struct str bytes);
void ota_stop(struct ota *ota); /* ends a running hook; NULL allowed */
void ota_free(struct ota *ota); /* no loop runs any more; NULL allowed */
#endif
