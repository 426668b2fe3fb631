/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOGGING_H
#define IOTGW_LOGGING_H
/*
 * Where the gateway's log lines go: to the files and streams that logs.json names, in its formats, or plainly to standard error
 * where there is none; and, for those that are asked for, to the platform.
 *
 * Owner thread: main. Lines are handed to the log's writer thread (base/log.h), which alone opens and writes files; whoever logs
 * waits for nothing. A file that cannot be written is told of once, its lines go to standard error.
 * Connectors have a file each, made like that of the logger "connector": <name>_connector.log; what is said of their messages goes
 * to one like "converter"'s: <name>_converter.log.
 * Own telemetry: LOGS with the reason where logs.json cannot be used; <logger>_ERRORS_COUNT; <logger>_LOGS lines.
 */
#include "base/log.h"
#include "gateway/gateway_conf.h"

struct logging;
struct fleet;
struct north;
struct runner;

/* Before the gateway has a loop; lines go to the writer from now on. known: what was wrong with the configuration. */
struct logging *logging_new(const struct gateway_conf *conf, const struct problems *known);
void logging_free(struct logging *logging); /* writes what is queued; NULL allowed */

/* One of the gateway's own loggers, by its name; outlives logging_detach. */
void logging_add(struct logging *logging, struct log *log);
/* From here to logging_detach lines and counters also go to the platform. */
void logging_attach(struct logging *logging, struct runner *main, struct fleet *fleet, struct north *north);
void logging_stop(struct logging *logging); /* timers; the main loop is about to end */
void logging_detach(struct logging *logging);
void logging_session(struct logging *logging, bool is_up); /* the platform's */

/* A new logs.json; copied. Also the levels of the gateway's own loggers. */
void logging_apply(struct logging *logging, const struct gateway_conf *conf);
void logging_reopen(struct logging *logging); /* files, at their next line: they were moved away */

/* Until the next restart or change of its configuration. name: a logger of the gateway's own, a connector, or "<connector>_converter".
 * ERR_NOTFOUND: there is none of that name. */
NODISCARD enum err logging_set_level(struct logging *logging, struct str name, enum log_level level);
/* "debug", "WARNING", "NONE", or Python's number. ERR_RANGE: none of them. */
NODISCARD enum err logging_level_of(struct str text, enum log_level *out);
/* RemoteLoggingLevel: lines of service, extension, tb_connection and storage. LOG_LEVEL_OFF: none. */
void logging_set_remote_level(struct logging *logging, enum log_level level);

/* "Plant MQTT" → "plant_mqtt": what of a connector's name stands in the name of its file. */
void logging_file_name(struct buf *out, struct str name);
#endif
