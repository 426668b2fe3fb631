/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TAIL_H
#define IOTGW_TAIL_H
/*
 * What passes through the gateway, as it passes: values behind the report filter, and what connectors receive and send, for whoever
 * listens over local control (method "tail": {"device":NAME,"wire":true}; both may be left out). Lines of the stream:
 *
 *   {"at":ms,"connector":C,"device":D,"values":[{"kind":"telemetry","ts":ms or null,"key":K,"value":V},…],"more":n}
 *   {"at":ms,"connector":C,"direction":"in","subject":TOPIC,"bytes":n,"text":T} (or "hex":H for what is no text)
 *   {"leftOut":n}: so many lines before this one, because they came faster than they can be shown
 *
 * When nobody listens it costs a branch an event. Else connectors make lines on their own loops, at most 256 KiB of them on
 * their way to the main loop, and never wait: what is beyond is counted and left out; so is what a slow client does not take.
 *
 * Owner thread: main, but for tail_values and tail_wire (any).
 */
#include "connector/ctx.h"
#include "gateway/control.h"

struct tail;
struct tail *tail_new(struct loop *loop);
void tail_add_methods(struct tail *tail, struct control *control);
void tail_free(struct tail *tail); /* data loops have ended, and the control has been freed; NULL allowed */
void tail_values(struct tail *tail, struct ctx *ctx, const struct event *event);
void tail_wire(struct tail *tail, struct ctx *ctx, bool is_out, struct str subject, struct str bytes);
#endif
