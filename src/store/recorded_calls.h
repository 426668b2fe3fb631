/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_RECORDED_CALLS_H
#define IOTGW_RECORDED_CALLS_H
/*
 * The system's calls of this process that change files below one directory, whoever makes them: libraries too. A test sees
 * each before it is done and may have it fail. Syncs are never done, only told. For tests only, and for one thread.
 */
#include <stdint.h>
#include <sys/types.h>

enum recorded {
    RECORDED_MAKE, /* a file is made, or emptied */
    RECORDED_WRITE,
    RECORDED_SIZE, /* it has n bytes from now on */
    RECORDED_SYNC,
    RECORDED_SYNC_DIRECTORY,
    RECORDED_RENAME,
    RECORDED_UNLINK
};
struct recorded_call {
    enum recorded what;
    const char *name, *to; /* relative to the directory */
    uint64_t at, n;
    const void *bytes;
};
/* 0, or the error it fails with. No directory: nobody is told. */
typedef int recorded_fn(const struct recorded_call *call);
void recorded_begin(const char *directory, recorded_fn *told);
#endif
