/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_ERROR_H
#define IOTGW_REMOTE_ERROR_H
/*
 * From what the loader says of the files that an attribute would become to what is told of the attribute: which problems are its
 * own, and where in its value they are. Pure.
 */
#include "gateway/remote_change.h"

/* Of one change; views. */
struct remote_error {
    const struct gateway_conf *running;
    const struct remote_change *change;
    enum remote_kind kind;
    yyjson_val *value;
    char at[40]; /* of the main file: the section, or the connector's entry; empty: none */
};
void remote_error_init(struct remote_error *error, const struct gateway_conf *running,
                       const struct remote_change *change, enum remote_kind kind, yyjson_val *value);
/* What else is wrong in the main file is not. */
bool remote_error_is_own(const struct remote_error *error, const struct problem *problem);
/* path: in that file, as the loader says it; NULL: the file as a whole. */
void remote_error_add_path(struct buf *out, const struct remote_error *error, const char *file, const char *path);
#endif
