/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONTROL_H
#define IOTGW_CONTROL_H
/*
 * Local control: what a person at the machine asks the running gateway. Clients send JSON, a request a line,
 *
 *   {"id":1,"method":"status","params":{…}}  →  {"id":1,"result":…}  or  {"id":1,"error":{"code":"NOTFOUND","message":…}}
 *
 * and a method may stream: {"id":1,"stream":…} again and again until the client goes, or the method ends it by its answer. This is
 * the protocol and its methods; control_socket.h has the socket.
 *
 * Owner thread: the main loop. Bounds: a request line 1 MiB, 16 open requests a client, 64 MiB of answers that a client does not
 * take (then it is cut off), 256 KiB of a stream (then lines are left out). Nothing here waits for a client.
 */
#include "data/json.h"
#include "io/loop.h"

enum { CONTROL_PEERS_MAX = 32 };

struct control;
struct control_request; /* one request, until it is answered */

struct control *control_new(struct loop *loop);
/* After the last peer has closed and when nobody answers any more; what is open is given up. NULL allowed. */
void control_free(struct control *control);

/* params: NULL, or an object; they live until fn returns. To be answered exactly once, at once or later. name must stay. */
typedef void control_fn(void *arg, struct control_request *request, yyjson_val *params);
void control_add(struct control *control, const char *name, control_fn *fn, void *arg);
void control_answer(struct control_request *request, struct str json); /* json: a JSON text without line feeds */
void control_fail(struct control_request *request, enum err err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The request is a stream from now on. ended runs when the client goes, as the last thing of the request; then it must not be
 * answered any more. It does not run after an answer. */
typedef void control_ended_fn(void *arg, struct control_request *request);
void control_stream(struct control_request *request, control_ended_fn *ended, void *arg);
bool control_has_room(const struct control_request *request, size_t n); /* for so many bytes of a stream */
/* False: the client does not keep up, the line is left out. */
bool control_send(struct control_request *request, struct str json);

/* --- for the transport ------------------------------------------------------------------------------------------------ */
struct control_link {
    void (*wake)(void *arg);  /* there is something to write, or it may be read again */
    void (*close)(void *arg); /* cut it off: control_peer_close comes from the transport, later */
};
struct control_peer;
/* NULL: there are too many. */
struct control_peer *control_peer_new(struct control *control, const struct control_link *link, void *arg);
void control_peer_feed(struct control_peer *peer, struct str bytes);
bool control_peer_awaits(const struct control_peer *peer);  /* an answer, other than parts of streams */
bool control_peer_is_idle(const struct control_peer *peer); /* nothing is asked, nothing is to be written */
bool control_peer_wants_input(const struct control_peer *peer);
/* Takes what is to be written, in exchange for out's memory; n bytes then count as being written until control_peer_wrote. */
void control_peer_take(struct control_peer *peer, struct buf *out);
void control_peer_wrote(struct control_peer *peer);
void control_peer_close(struct control_peer *peer); /* it is gone, peer too. Its streams end */
#endif
