/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LANES_H
#define IOTGW_LANES_H
/*
 * To which lane a device's next record belongs: the rule that all kinds of store share. Private to them.
 *
 * Owner thread: the one that appends. Positions are multiples of 8, grow with every record of the store whatever its lane,
 * and begin above those of each earlier store of the process, so that a mark that one of them left says nothing here.
 *
 * A device's mark is the position behind its newest record, and one bit: whether that record was put into a backlog
 * lane. Marks from before the split have no bit and are at most split_at; so one comparison with the acknowledged
 * position of the backlog says whether something of the device still waits there.
 */
#include "data/device.h"
#include "store/store.h"

#include <assert.h>

struct lanes {
    bool is_split;
    uint64_t split_at; /* behind what was appended before the split */
};

/* Where the positions of a new store begin. Any thread. */
uint64_t lanes_first_position(void);

/* dev: NULL for a record without a valid name. acked: of the backlog lane. */
static inline int lanes_choose(const struct lanes *lanes, const struct device *dev, uint64_t acked)
{
    uint64_t mark = dev ? dev->store_mark : 0, pos = mark & ~(uint64_t)7;

    return lanes->is_split && pos > acked && (mark & 1) == (pos > lanes->split_at) ? LANE_BACKLOG : LANE_LIVE;
}

static inline void lanes_mark(struct device *dev, uint64_t pos, int lane)
{
    assert(pos % 8 == 0);
    if (dev)
        dev->store_mark = pos | (uint64_t)lane;
}
#endif
