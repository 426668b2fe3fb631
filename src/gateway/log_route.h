/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOG_ROUTE_H
#define IOTGW_LOG_ROUTE_H
/*
 * Which handlers of logs.json a line goes to. Compiled on the main loop (log_routes_new copies all it needs), then used by the
 * log's writer thread alone, which also frees it.
 */
#include "base/log.h"
#include "gateway/gateway_conf.h"

struct log_routes;
/* A file that cannot be written; once each. Writer's thread. */
typedef void log_trouble_fn(void *arg, struct str reason);

/* logs NULL: standard error in the plain form; is_bad: INFO to standard output. directory NULL: as the handlers say. */
struct log_routes *log_routes_new(const struct logs_conf *logs, bool is_bad, const char *directory);
void log_routes_on_trouble(struct log_routes *routes, log_trouble_fn *trouble, void *arg);
void log_routes_free(struct log_routes *routes); /* NULL allowed */
void log_routes_write(struct log_routes *routes, const struct log_line *line);
void log_routes_reopen(struct log_routes *routes);
#endif
