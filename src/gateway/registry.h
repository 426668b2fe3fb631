/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REGISTRY_H
#define IOTGW_REGISTRY_H
/*
 * The devices that the gateway knows (core.md 9): kept over restarts in connected_devices.json, announced when their connector
 * runs, renamed and deleted by the platform, given up when they are silent for too long.
 *
 * Owner thread: the main loop, but for registry_seen, registry_attached and registry_platform_name (any thread). The file is written by the
 * worker pool, at most once a second, and never for each device. What the uplink must do is told through struct registry_link.
 *
 * How it learns of devices: a connector's first sight of one (owner, or profile, changes) raises one flag; a second
 * later the registry looks through all devices once.
 */
#include "base/log.h"
#include "connector/ctx.h"
#include "uplink/uplink.h"

struct registry;

struct registry_link {
    /* Copies, crosses to the uplink's loop and never waits. wires: only with UPLINK_DEVICE_RENAME. */
    void (*devices)(void *arg, enum uplink_device_op op, struct device *const *devs, const char *const *wires,
                    size_t n);
    void *arg;
};

struct registry_conf {
    struct loop *loop;
    struct log *log;
    const char *dir;  /* of connected_devices.json */
    const char *like; /* a file whose owner and mode the list takes */
    bool handle_renaming;
    uint32_t inactive_s, check_s; /* 0: no device is given up */
    struct registry_link link;
};

struct registry *registry_new(const struct registry_conf *conf);
/* A configured connector, before registry_load or later: whose devices are kept. id may be empty. */
void registry_add_connector(struct registry *registry, const char *type, const char *name, struct str id);
/* It is configured no more. Its devices go to the configured one of the same id, if there is one; else they are forgotten, but for
 * those that the platform has renamed. */
void registry_remove_connector(struct registry *registry, const char *type, const char *name);
/* Renaming and inactivity as in conf from now on; the rest of it is not looked at. */
void registry_tune(struct registry *registry, const struct registry_conf *conf);
/* Reads the list; a broken one is put aside with a warning. Blocks. */
void registry_load(struct registry *registry);
/* Devices seen so far are known now, not within a second: their connector is about to leave them. */
void registry_look(struct registry *registry);
/* Writes what has changed since, in the worker pool: the main loop ends after it. What comes later is not looked at. */
void registry_stop(struct registry *registry);
void registry_free(struct registry *registry); /* NULL allowed; when no loop runs any more */

/* For struct ctx_host; arg: the registry. Any thread. */
void registry_seen(void *arg, struct ctx *ctx, struct device *dev);
void registry_attached(void *arg, struct ctx *ctx);

struct device *registry_by_platform_name(struct registry *registry, struct str name); /* NULL: unknown */
struct str registry_platform_name(const struct device *dev);                          /* any thread; lives for ever */

/* The platform calls the device that it called from, to. ERR_EXISTS: another device has that name; ERR_RANGE: no name. */
NODISCARD enum err registry_rename(struct registry *registry, struct str from, struct str to, struct why *why);
/* The platform has deleted it: forgotten, with its new name, until its next data. Unknown ones are ignored. */
void registry_delete(struct registry *registry, struct str name);
/* Parameters of the platform's requests gateway_device_renamed and gateway_device_deleted; appends the reply. */
void registry_renamed(struct registry *registry, yyjson_val *params, struct buf *reply);
void registry_deleted(struct registry *registry, yyjson_val *params, struct buf *reply);
/* fn for each known device, in no order. */
void registry_each(struct registry *registry, void (*fn)(void *arg, struct device *dev), void *arg);
#endif
