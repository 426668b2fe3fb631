/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIMULATION_DISK_H
#define IOTGW_SIMULATION_DISK_H
/*
 * A disk in memory behind struct file_io: what the process sees, and what would be there after a loss of power. Data are
 * durable once their file was synced, names once the directory was; everything else may be lost, in any order, and a write
 * may be torn anywhere. One disk in a process, one thread.
 */
#include "base/err.h"
#include "store/file_io.h"

enum disk_call {
    DISK_OPEN,
    DISK_WRITE,
    DISK_SYNC,
    DISK_SYNC_DIR,
    DISK_ALLOCATE,
    DISK_RENAME,
    DISK_UNLINK,
    DISK_LOOK,
    DISK_CALLS
};

extern const struct file_io disk_io;
void disk_clear(void); /* empty, no faults */
/* The next calls of that kind fail with number, after so many that work; times 0: until disk_mend. After a failed sync, what
 * it should have written may be lost although the process still reads it. */
void disk_fail(enum disk_call call, int number, unsigned after, unsigned times);
void disk_mend(void);
/* After n more calls that change something nothing reaches the disk any more: the process is as good as dead. */
void disk_die_after(unsigned n);
bool disk_is_dead(void);
void disk_is_full_at(uint64_t bytes); /* so many bytes reserved or written; 0: never */
/* The machine loses its power; chance: of what is not durable to be lost, in percent. Open files are closed. */
void disk_lose_power(unsigned chance, uint32_t (*roll)(uint32_t n));
void disk_close_all(void); /* the process ends, the machine goes on */
uint64_t disk_bytes(void);
#endif
