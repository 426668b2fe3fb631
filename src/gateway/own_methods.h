/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_OWN_METHODS_H
#define IOTGW_OWN_METHODS_H
/*
 * Methods of the gateway that its operator has added (core.md 8.2): the program <config>/rpc/<name> answers gateway_<name>. It
 * gets the parameters as JSON on standard input and says the answer on standard output: JSON, or a text. Used only where
 * remoteShell is on.
 *
 * Owner thread: the main loop, which never waits for a program.
 * Bounds: 5 s (then it is ended), 8 at once, 64 KiB of answer.
 */
#include "gateway/router.h"

struct own_methods;
struct own_methods *own_methods_new(struct router *router, const char *config_dir);
/* False: there is no such program. Else it answers, now or later, exactly once. params: JSON text. */
bool own_methods_request(struct own_methods *methods, struct router_request *request, struct str name,
                         struct str params);
void own_methods_stop(struct own_methods *methods); /* ends what runs, and answers it */
void own_methods_free(struct own_methods *methods); /* after own_methods_stop; NULL allowed */
#endif
