/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SHELL_H
#define IOTGW_SHELL_H
/*
 * The remote shell (core.md 8.3): methods of the gateway without a prefix. One command at a time, run by /bin/sh in a process
 * group of its own; its output, with its errors in it, waits for getCommandStatus. Used only where remoteShell is on.
 *
 * Owner thread: the main loop, which never waits for a command.
 * Bounds: 256 KiB of output that was not asked for; then the command waits. An answer fits into one message of the platform.
 * What a command leaves in the background ends with it.
 */
#include "gateway/router.h"

struct shell;
struct shell *shell_new(struct router *router);
/* False: not one of its methods. params: JSON, as they came; else it has answered. */
bool shell_request(struct shell *shell, struct router_request *request, yyjson_val *params);
void shell_stop(struct shell *shell); /* ends what runs */
void shell_free(struct shell *shell); /* after shell_stop; NULL allowed */
#endif
