/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_REFUSED_H
#define IOTGW_REMOTE_REFUSED_H
/*
 * What of the platform's values could not be applied: it still has them and is asked at each reconnect, but trying them each time would
 * cut the connection, or stop the connector, for ever. Somebody has to send them again.
 *
 * That of general_configuration is known after a restart, too: trying it ends the session for half a minute. The others may be right
 * after a restart, and are tried. The file has a checksum, not the value, which may have secrets in it.
 *
 * Owner thread: main. Embedded.
 */
#include "base/log.h"
#include "base/map.h"
#include "io/loop.h"

struct refusals {
    struct map values; /* attribute → struct refusal */
    struct loop *loop;
    struct log *log;
    char *path;
    struct work work;
    bool is_writing, is_behind;
    struct str text; /* for the work */
    struct why why;
};
void refusals_init(struct refusals *refusals, struct loop *loop, struct log *log, const char *dir);
void refusals_fini(struct refusals *refusals);
void refusals_note(struct refusals *refusals, struct str attribute, struct str json);
void refusals_forget(struct refusals *refusals, struct str attribute);
/* Forgets the others. */
void refusals_keep(struct refusals *refusals, bool (*is_kept)(void *arg, struct str attribute), void *arg);
bool refusals_know(const struct refusals *refusals, struct str attribute); /* whatever its value */
bool refusals_has(const struct refusals *refusals, struct str attribute, struct str json);
#endif
