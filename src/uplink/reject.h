/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REJECT_H
#define IOTGW_REJECT_H
/*
 * The rejected file (storage.md 5, rule 4): what the platform will not take, one JSON object a line, for a person. Bounded: beyond 10 MB it
 * becomes FILE.1. Owner thread: the loop's; the writing itself is a short job on the pool, one at a time, in order: all
 * lines that wait, one fdatasync. What could not be written is tried again until it can; no line is given up before the end.
 * Lines have numbers, from 1; synced says up to which they are durable. Nobody bounds what waits here: whoever adds looks at
 * reject_waiting_bytes.
 */
#include "base/buf.h"
#include "base/log.h"
#include "io/loop.h"

struct reject_file {
    struct loop *loop;
    struct log *log;
    char *path, *next_path;                 /* next_path: from the next job on; NULL: the same */
    void (*synced)(void *arg, uint64_t to); /* NULL: nobody wants to know */
    void *arg;
    struct buf pending, writing; /* writing, path: belong to the job while it runs */
    uint64_t n_added, n_writing, n_synced;
    struct work work;
    struct timer again;
    struct why why;                     /* of the job */
    struct closer *closer;              /* waits for the job */
    bool is_busy, is_failing, is_named; /* named: the file's name is durable */
};

void reject_init(struct reject_file *file, struct loop *loop, struct log *log, const char *path); /* path is copied */
void reject_tell(struct reject_file *file, void (*synced)(void *arg, uint64_t to), void *arg);
uint64_t reject_add(struct reject_file *file, struct str line); /* with line feed; gives its number */
static inline size_t reject_waiting_bytes(const struct reject_file *file)
{
    return file->pending.n + file->writing.n;
}
void reject_move(struct reject_file *file, const char *path);       /* what is written from now on */
void reject_close(struct reject_file *file, struct closer *closer); /* what was added is written, if it can be */
void reject_fini(struct reject_file *file);                         /* after closing; accepts zeroed */
#endif
