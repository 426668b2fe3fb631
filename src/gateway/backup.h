/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_BACKUP_H
#define IOTGW_BACKUP_H
/*
 * Copies of configuration files (remote-config.md 3.3), in "backup/" of the configuration directory as
 * STEM.backup.SECONDS.json; the newest ten of each stem stay, where "mqtt" and "mqtt_2" are two stems. And the same content
 * with one part changed, all else kept as it stands there (remote-config.md 3.2).
 *
 * Everything blocks, and may run on any thread. dir ends with "/".
 */
#include "gateway/gateway_conf.h"

/* A copy of a file of the configuration. One of the same second gives way to the newer. ERR_OK also if it is not there. */
NODISCARD enum err backup_copy(const char *dir, const char *path, int64_t now_s, struct why *why);
/* The file goes to the backups, and is there no more. */
NODISCARD enum err backup_move(const char *dir, const char *path, int64_t now_s, struct why *why);
/* The main file and all connectors' files; the first failure is the answer, the others are copied all the same. */
NODISCARD enum err backup_all(const struct gateway_conf *conf, int64_t now_s, struct why *why);
/* A name that may come from outside: of a file beside the others, and none of the gateway's own (the main file, logs.json,
 * .credentials …). */
bool backup_is_free_name(const struct gateway_conf *conf, struct str name);

/* The object in text with member key set to the value in json, in its place or at the end; json.p NULL: without that member. Indented by
 * 2. */
NODISCARD enum err edit_member(struct buf *out, struct str text, struct str key, struct str json, struct why *why);
/* The main file's text with the entry of connectors[] whose name is former set to what json has (other members of the entry stay);
 * one more if there is none; json.p NULL: without it. */
NODISCARD enum err edit_connector(struct buf *out, struct str text, struct str former, struct str json,
                                  struct why *why);
#endif
