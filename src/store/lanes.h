/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LANES_H
#define IOTGW_LANES_H
/*
 * To which lane a device's next record belongs: the rule that all kinds of store share. Private to them.
 *
 * Owner thread: the one that appends. Positions are multiples of 8 and grow with every record of a lane. They begin above
 * those of each earlier store of the process, so that a mark that one of them left says nothing here. What is put into the
 * live lane after a split stands above split_at.
 *
 * While one store takes the place of another both append, on threads of their own: they use different marks (slot).
 *
 * A device's mark is the position behind its newest record, whether that was put into the backlog of a split, and of
 * which one. So a comparison or two say whether something of the device still waits in the backlog.
 */
#include "data/device.h"
#include "store/store.h"

#include <assert.h>

struct lanes {
    bool is_split;
    uint8_t slot; /* 0 or 1: of the device's marks */
    unsigned n_splits;
    uint64_t split_at; /* behind what was appended before the split */
};

/* Where the positions of a new store begin. Any thread. */
uint64_t lanes_first_position(void);

static inline void lanes_split(struct lanes *lanes, uint64_t pos)
{
    lanes->is_split = true;
    lanes->n_splits++;
    lanes->split_at = pos;
}

/* dev: NULL for a record without a valid name. acked: of the backlog lane. */
static inline int lanes_choose(const struct lanes *lanes, const struct device *dev, uint64_t acked)
{
    uint64_t mark = dev ? dev->store_marks[lanes->slot] : 0, pos = mark & ~(uint64_t)7;
    bool is_of_backlog = mark & 1 ? (mark >> 1 & 3) == (lanes->n_splits & 3) : pos <= lanes->split_at;

    return lanes->is_split && pos > acked && is_of_backlog ? LANE_BACKLOG : LANE_LIVE;
}

/* pos: behind the record. */
static inline void lanes_mark(const struct lanes *lanes, struct device *dev, uint64_t pos, int lane)
{
    assert(pos % 8 == 0);
    if (dev)
        dev->store_marks[lanes->slot] = pos | (lane == LANE_BACKLOG ? (lanes->n_splits & 3) << 1 | 1 : 0);
}
#endif
