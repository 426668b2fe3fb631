/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_PUBLISH_H
#define IOTGW_REMOTE_PUBLISH_H
/*
 * What the platform is told of the configuration (remote-config.md 1, 2): exactly what runs, under the names of the
 * attributes. What was told last is remembered, and told again only if it differs or is_forced. Main loop.
 */
#include "base/map.h"
#include "gateway/north.h"
#include "gateway/remote_change.h"

struct published {
    struct north *north;
    const struct gateway_types *types;
    const char *dir;
    struct map last;   /* attribute → its value without "ts" */
    struct map errors; /* attribute → list of its errors, JSON */
    struct str error_key;
    struct buf error; /* of error_key, while it is made */
};
void published_init(struct published *published, struct north *north, const struct gateway_types *types,
                    const char *dir);
void published_fini(struct published *published);

void published_all(struct published *published, const struct gateway_conf *running, const struct remote_files *files,
                   int64_t ts_ms);
/* Of the first four kinds. */
void published_section(struct published *published, const struct gateway_conf *running,
                       const struct remote_files *files, enum remote_kind kind, int64_t ts_ms, bool is_forced);
void published_connector(struct published *published, const struct gateway_conf *running, struct str name,
                         int64_t ts_ms, bool is_forced);
void published_active(struct published *published, const struct gateway_conf *running, bool is_forced);
void published_text(struct published *published, struct str key, struct str json); /* as it came */
/* What was told of connectors that are no more there is forgotten, what was wrong with them too. */
void published_names(struct published *published, const struct gateway_conf *running);

/* configuration_errors: begin, add …, end. */
void published_error_begin(struct published *published, struct str key);
void published_error_add(struct published *published, struct str path, struct str message);
void published_error_end(struct published *published);
void published_error_clear(struct published *published, struct str key);
/* Clears the others. */
void published_errors_keep(struct published *published, bool (*is_kept)(void *arg, struct str key), void *arg);
bool published_has_error(const struct published *published, struct str key);
#endif
