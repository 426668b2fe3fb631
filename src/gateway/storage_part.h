/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STORAGE_PART_H
#define IOTGW_STORAGE_PART_H
/*
 * One store of the storage, as a section of the configuration describes it. Private to storage.c.
 */
#include "gateway/runner.h"
#include "gateway/storage.h"

struct storage_part {
    struct storage_part *next; /* uplink's loop: towards the one that is written */
    struct storage *storage;
    struct arena arena;
    struct store *store;
    int type;               /* enum storage_type */
    const char *path;       /* NULL: memory */
    struct str section;     /* as configured, JSON */
    uint8_t slot;           /* store.h */
    atomic_bool is_settled; /* nothing comes to it any more */
    bool is_clean;          /* stopped, and nothing of it is on the disk */
    struct call call;
};

struct storage_part *storage_part_new(struct storage *storage, struct str section);
/* Any thread. May take a second per gigabyte that waits in the directory. */
NODISCARD enum err storage_part_open(struct storage_part *part, const struct storage_conf *conf,
                                     const struct storage_conf_of *of, struct why *why);
void storage_part_tune(struct storage_part *part, const struct storage_conf *conf); /* uplink's loop */
void storage_part_free(struct storage_part *part);                                  /* NULL allowed */
/* It lies where conf would: memory, or the same directory under whatever name. */
bool storage_part_is_at(const struct storage_part *part, const struct storage_conf *conf);
struct str storage_path_of(const struct storage_conf *conf); /* empty: memory */
#endif
