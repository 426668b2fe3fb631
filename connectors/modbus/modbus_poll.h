/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_POLL_H
#define IOTGW_CONNECTOR_MODBUS_POLL_H
/*
 * Polling one device: at fixed times, counted from the first poll, so that nothing drifts. A poll that is due while the one
 * before is under way, or while there is no credit, is skipped and counted. What is refused as a whole is read value by value in
 * the same poll, and remembered (modbus_plan.h); what gets no answer while the rest of the device does is left out for a
 * growing while. Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "connector/endpoint.h"
#include "modbus_collect.h"
#include "modbus_link.h"

struct modbus_device { /* what the platform sees: of all entries with that name */
    struct device *dev;
    struct str profile;
    unsigned n_up; /* its entries that answer */
};

struct modbus_work {       /* what a request is about */
    uint32_t block, at, n; /* objects at … at + n of the block */
    uint32_t single;       /* the value that is read alone; NO_SINGLE: all of the block */
};

struct poll;
struct modbus_slot {
    struct modbus_request request;
    struct modbus_work work;
    bool is_open;
};

struct block_state {
    uint32_t at, single, n_open; /* objects, and single values, that were asked for; without answer yet */
    uint32_t next_redo;
    bool is_single, is_failed, is_left_out;
    uint8_t exception;
    enum err err;
};

struct poll {
    struct ctx *ctx;
    const struct modbus_slave *slave;
    const struct modbus_beat *beat; /* of the slave */
    struct modbus_link *link;
    struct modbus_device *device;
    uint64_t *cookie; /* the connector's */
    struct timer timer;
    struct modbus_plan plan;
    struct modbus_sample *samples;
    struct block_state *states; /* of the plan's blocks */
    bool *is_bad;               /* by place in plan->order */
    struct modbus_slot *slots;
    unsigned n_slots, n_open;
    uint32_t next_block, redo; /* redo: blocks that are read value by value; NO_BLOCK: none */
    unsigned n_answers;        /* of this poll */
    bool is_busy, is_stopped, is_up, has_news;
    struct endpoint figures;
};

void poll_init(struct poll *poll, struct ctx *ctx, const struct modbus_slave *slave, const struct modbus_beat *beat,
               struct modbus_device *device, uint64_t *cookie);
/* link must live until poll_stop and the end of all its requests. */
void poll_start(struct poll *poll, struct modbus_link *link, uint64_t delay_ms);
void poll_stop(struct poll *poll); /* begins nothing more, and tells nothing more */
void poll_fini(struct poll *poll); /* after the link has closed */
/* The device answers, or does not: told to the platform where that is news. */
void poll_presence(struct poll *poll, bool is_up);
/* How a request has ended, for its endpoint's figures. */
void modbus_count(struct ctx *ctx, struct endpoint *figures, const struct modbus_request *request, enum err err,
                  const struct modbus_pdu *reply);
/* For `iotgw tail --wire`. */
void modbus_tell_wire(struct ctx *ctx, bool is_out, struct str device, const struct modbus_pdu *pdu);
#endif
