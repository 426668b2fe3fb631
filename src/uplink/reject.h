/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REJECT_H
#define IOTGW_REJECT_H
/*
 * The rejected file (storage.md 5, rule 4): what the platform will not take, one JSON object a line, for a person. Bounded: beyond 10 MB it
 * becomes FILE.1. Owner thread: the loop's; the writing itself is a short job on the pool, one at a time, in order.
 */
#include "base/buf.h"
#include "base/log.h"
#include "io/loop.h"

struct reject_file {
    struct loop *loop;
    struct log *log;
    char *path;
    struct buf pending, writing; /* writing: belongs to the job while it runs */
    struct work work;
    struct why why;        /* of the job */
    struct closer *closer; /* waits for the job */
    uint64_t n_lost;       /* lines for which there was no room */
    bool is_busy;
};

void reject_init(struct reject_file *file, struct loop *loop, struct log *log, const char *path); /* path is copied */
void reject_add(struct reject_file *file, struct str line);                                       /* with line feed */
void reject_close(struct reject_file *file, struct closer *closer); /* what was added is written */
void reject_fini(struct reject_file *file);                         /* after closing; accepts zeroed */
#endif
