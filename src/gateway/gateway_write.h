/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_GATEWAY_WRITE_H
#define IOTGW_GATEWAY_WRITE_H
/*
 * What the gateway itself writes into the configuration directory when it starts: the JSON form of what was read from YAML,
 * and identities of connectors (core.md 1, 2.2). Nothing else is changed; where nothing can be written the gateway runs all
 * the same. Blocks; for the time of loading only.
 */
#include "base/uuid.h"
#include "conf/conf.h"

/* The file was read from an older form beside path. */
bool gateway_is_converted(const struct json_file *file, const char *path);
/* Reports it, for those that only read. */
void gateway_report_yaml(const struct json_file *file, const char *path, struct problems *problems);
/* Writes a file that was read from YAML as path, unless there is one by now. Takes over file and gives what counts from now
 * on: what was written, or file if that could not be. */
struct json_file *gateway_write_json(struct json_file *file, const char *path, struct problems *problems);
/* The same for a connector's file, which has an id then. If it has none, and none can be written, or it is no text, id is one made
 * of name; else id is empty. */
struct json_file *gateway_write_connector(struct json_file *file, const char *path, const char *name,
                                          char id[UUID_SIZE], struct problems *problems);
/* For one that was added while the gateway runs: its file was read without an id, and can hold one. */
bool gateway_lacks_id(const struct json_file *file, const char *path);
/* Puts it there. ERR_BUSY: by now the file has other content, which will be read. */
NODISCARD enum err gateway_write_id(const struct json_file *file, const char *path, const char *id, struct why *why);
#endif
