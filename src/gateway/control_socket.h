/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONTROL_SOCKET_H
#define IOTGW_CONTROL_SOCKET_H
/*
 * The Unix socket of local control, and the rule that a configuration has one gateway.
 *
 * Where: control.sock, in the first of these directories that the gateway may use: /run/iotgw, $XDG_RUNTIME_DIR/iotgw, run in the
 * configuration directory. A configuration that does not stand at its usual place has a name of its own,
 * control-HASH.sock, so that several gateways of one machine do not meet. Mode 0600; of a client the kernel
 * says who it is, and only root and the gateway's own user are let in.
 * One gateway: a lock on a file beside the socket, held as long as the process lives; so a socket file that is there at
 * start is stale and replaced.
 *
 * Owner thread: the main loop.
 */
#include "base/log.h"
#include "gateway/control.h"

/* The lock alone. ERR_BUSY with a reason: another gateway has this configuration directory. */
NODISCARD enum err control_lock(int *fd, const char *config_dir, struct why *why);
void control_unlock(int fd); /* negative: does nothing */

struct control_socket;
/* Listens from the time the loop runs. An error leaves the gateway without local control; why says what was tried. */
NODISCARD enum err control_socket_new(struct control_socket **out, struct control *control, struct loop *loop,
                                      struct log *log, const char *config_dir, struct why *why);
const char *control_socket_path(const struct control_socket *socket);
/* No new clients; those that are there are cut off when what waits for them is written, or at once if that cannot be. The
 * socket file is removed. Then done. */
void control_socket_stop(struct control_socket *socket, closed_fn *done, void *arg);
void control_socket_free(struct control_socket *socket); /* after done; NULL allowed */

/* The client's side. Blocks; any thread. Gives a connected socket; ERR_NOTFOUND: no gateway runs with this configuration,
 * ERR_DENIED: it runs, as another user. */
NODISCARD enum err control_connect(int *fd, const char *config_dir, struct why *why);
#endif
