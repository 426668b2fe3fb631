/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DEVICE_LIST_H
#define IOTGW_DEVICE_LIST_H
/*
 * The form of connected_devices.json (core.md 9.2): pure. The peer's former forms are read too.
 */
#include "base/buf.h"

struct listed_device {
    struct str name, connector_id, connector_name, profile;
    struct str renaming; /* empty: none */
    bool is_disconnected;
};

/* Sorts devices by name. */
void device_list_write(struct buf *out, struct listed_device *devices, size_t n);
/* fn for each device, whose texts live until it returns. An entry of no known form is told as a problem, the others are read.
 * ERR_SYNTAX: the whole text cannot be used, fn was not called. */
NODISCARD enum err device_list_read(struct str text, void (*fn)(void *arg, const struct listed_device *device),
                                    void (*problem)(void *arg, struct str name), void *arg, struct why *why);
#endif
