/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_PLAN_H
#define IOTGW_CONNECTOR_MODBUS_PLAN_H
/*
 * Which values of a device are read by which request (modbus.md 6): the fewest blocks that its limits allow, and what was
 * learned about addresses that it refuses. Pure: no time but what it is given, no I/O. One thread.
 *
 * A block is read by one request, but for a single value that is larger than a request can be: then by several, one after
 * the other. Blocks stay as they are until modbus_plan_build is called again, which nobody does while a poll is under way.
 */
#include "modbus_conf.h"

enum modbus_point_state { MODBUS_POINT_WELL, MODBUS_POINT_BAD };

struct modbus_plan_read {     /* beside each struct modbus_read */
    uint64_t bad_until_ms;    /* 0: well; else not asked for before, and then alone */
    uint32_t pause_ms;        /* of its next quarantine */
    bool is_cut;              /* not in one request with the one before, in the order of addresses */
    uint64_t silent_until_ms; /* of the first value of a block: until then the block is left out */
    uint32_t silence_ms;      /* of the next time; 0: it was heard */
};

struct modbus_block {
    uint8_t function_code;
    uint16_t address, count, piece; /* piece: objects of one request */
    size_t first, n;                /* its values: plan->order[first …] */
    uint8_t *data;                  /* as the answer has it, of all its requests */
    bool is_probe;                  /* a single value that has been bad */
};

struct modbus_plan {
    const struct modbus_read *reads;
    size_t n;
    uint32_t max_gap, max_registers, max_bits;
    bool merges;
    uint32_t *order; /* the reads that a block takes, by function code and address */
    struct modbus_plan_read *states;
    struct modbus_block *blocks;
    size_t n_blocks;
    uint8_t *memory;         /* of the blocks' data */
    uint64_t cuts_end_ms;    /* when what was cut is tried in one again; 0: nothing is */
    uint64_t next_change_ms; /* when a value may be asked for again; UINT64_MAX: never */
    uint32_t *sorted;        /* all reads */
};

enum { MODBUS_CUT_MS = 600000, MODBUS_BAD_MAX_MS = 600000 };

/* limits: the device's. reads must outlive the plan. */
void modbus_plan_init(struct modbus_plan *plan, const struct modbus_slave *limits, const struct modbus_read *reads,
                      size_t n);
void modbus_plan_fini(struct modbus_plan *plan); /* accepts a zeroed one */
/* Makes the blocks anew, without the values that are to be left alone at that time. */
void modbus_plan_build(struct modbus_plan *plan, uint64_t now_ms);
static inline bool modbus_plan_is_due(const struct modbus_plan *plan, uint64_t now_ms)
{
    return now_ms >= plan->next_change_ms || (plan->cuts_end_ms && now_ms >= plan->cuts_end_ms);
}
/*
 * A block was refused as a whole and its values were then read one by one. is_bad[i]: of its i-th value. Those that are
 * refused alone are left alone for first_pause_ms, growing; if there are none, the block is cut where nobody asked for what lies
 * between, or, if there is no such place, everywhere. Call modbus_plan_build afterwards.
 */
void modbus_plan_learn(struct modbus_plan *plan, const struct modbus_block *block, const bool *is_bad, uint64_t now_ms,
                       uint32_t first_pause_ms);
/* A single value was refused, or read after all. True: that is news. */
bool modbus_plan_bad(struct modbus_plan *plan, size_t read, uint64_t now_ms, uint32_t first_pause_ms);
bool modbus_plan_well(struct modbus_plan *plan, size_t read);
/* A block, named by its first value, has got no answer, or has got one. True: that is news. */
bool modbus_plan_silent(struct modbus_plan *plan, size_t read, uint64_t now_ms, uint32_t first_pause_ms);
bool modbus_plan_heard(struct modbus_plan *plan, size_t read);
static inline bool modbus_plan_is_silent(const struct modbus_plan *plan, size_t read, uint64_t now_ms)
{
    return plan->states[read].silent_until_ms > now_ms;
}
size_t modbus_plan_bad_count(const struct modbus_plan *plan);
/* The read at place i of a block, and where in its data it begins. */
static inline size_t modbus_plan_read_at(const struct modbus_plan *plan, const struct modbus_block *block, size_t i)
{
    return plan->order[block->first + i];
}
static inline size_t modbus_plan_offset(const struct modbus_plan *plan, const struct modbus_block *block, size_t read)
{
    return (size_t)(plan->reads[read].address - block->address);
}
#endif
