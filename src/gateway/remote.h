/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_H
#define IOTGW_REMOTE_H
/*
 * Remote configuration (remote-config.md): shared attributes of the gateway become its configuration, and what runs is told
 * as client attributes of the same names. On with thingsboard.remoteConfiguration, and as long as no connector is configured;
 * RemoteLoggingLevel counts always.
 *
 * Owner thread: main; files are looked at, copied and written on helper threads. One attribute is applied at a time, in the
 * order of arrival; of several values of one attribute that wait only the newest counts. What is equal to what runs
 * touches nothing; what has errors changes nothing, and "configuration_errors" says why.
 */
#include "gateway/apply.h"
#include "gateway/logging.h"
#include "gateway/north.h"

struct remote_conf {
    struct runner *main;
    struct apply *apply;
    struct north *north;
    const struct gateway_types *types;
    struct logging *logging; /* of RemoteLoggingLevel; NULL: none */
    struct log *log;
};
struct remote;
struct remote *remote_new(const struct remote_conf *conf);
void remote_start(struct remote *remote);                          /* copies all files to the backups, if it is on */
void remote_state(struct remote *remote, enum uplink_state state); /* north_events.state; NULL allowed */
void remote_attributes(struct remote *remote, yyjson_val *root);   /* north_events.own_attributes */
/* apply's; also after what this part has changed itself. */
void remote_changed(struct remote *remote);
bool remote_is_on(const struct remote *remote);
void remote_stop(struct remote *remote); /* nothing more is begun; NULL allowed */
void remote_free(struct remote *remote); /* after apply and north have ended; NULL allowed */
#endif
