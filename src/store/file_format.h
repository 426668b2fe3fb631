/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_FORMAT_H
#define IOTGW_FILE_FORMAT_H
/*
 * The bytes of the file store's directory (described at the top of file.c): heads, names, the state file, and a walk
 * over a segment that believes nothing it reads. No threads; used by the store and by `iotgw store`.
 */
#include "base/buf.h"
#include "data/record.h"
#include "store/file_io.h"

enum { SEGMENT_VERSION = 2, STATE_VERSION = 1, SEGMENT_NAME = 32, QUARANTINE_NAME = 80 };
static const uint32_t GROUP_MAGIC = 0x31475247; /* no multiple of 8, so that no record begins like it */

struct segment_head { /* at offset 0; every version begins like this */
    char magic[8];
    uint32_t version;
    uint32_t crc;        /* CRC-32C of what follows */
    uint64_t base;       /* position of this file's first byte */
    uint64_t boot;       /* number of the process that wrote it, random: device numbers are valid within it */
    int64_t created_ms;  /* wall */
    uint8_t machine[16]; /* boot of the machine: within it times since boot are comparable */
    uint64_t order; /* of reading after a restart, before base: twice the number of splits, 1 more in the live lane */
};
_Static_assert(sizeof(struct segment_head) == 64, "the segment's head is part of the disk format");

struct group_head { /* before the records of one commit */
    uint32_t magic;
    uint32_t crc;     /* CRC-32C of what follows, the records not included: each has its own */
    int64_t wall_ms;  /* when they were appended */
    uint32_t n_bytes; /* of the records */
    uint32_t n_events, n_values;
    uint32_t up_tenths; /* tenths of a second since the machine's boot, then; 0: not known */
};
_Static_assert(sizeof(struct group_head) == 32, "the group's head is part of the disk format");

/*
 * Behind the head of a segment that was begun because another one could not be trusted any more: what stood in that one
 * from end on was not durable, and stands here again. Of several that say so of the same place the newest has it.
 */
struct cut_head {
    uint32_t magic; /* GROUP_MAGIC */
    uint32_t crc;   /* CRC-32C of what follows */
    uint64_t base;  /* of that segment */
    uint32_t zero;  /* where a group has its bytes, which are never 0 */
    uint32_t spare;
    uint64_t end; /* offset in it */
};
_Static_assert(sizeof(struct cut_head) == sizeof(struct group_head), "whoever skips a group's head skips a cut, too");

void segment_head_make(struct segment_head *head, uint64_t base, uint64_t boot, int64_t created_ms, uint64_t order);
void segment_machine(uint8_t out[16]); /* the machine's boot; zero: not known */
/* ERR_UNSUPPORTED: a newer format, nothing else can be said; ERR_CORRUPT; ERR_OK. */
NODISCARD enum err segment_head_check(const struct segment_head *head);
void segment_name(char name[SEGMENT_NAME], uint64_t base);
bool segment_name_parse(const char *name, uint64_t *base);
void group_head_seal(struct group_head *head);
bool group_head_is_right(const void *p);
void cut_head_make(struct cut_head *cut, uint64_t base, uint64_t end);
bool cut_head_is_right(const void *p);

/* --- walking over a segment ------------------------------------------------------------------------------------------ */

enum walk_step { WALK_END, WALK_GROUP, WALK_RECORD, WALK_BAD };
struct walk {
    const struct file_io *io;
    int fd;
    uint64_t off, end;           /* next offset to look at; where to stop */
    const struct record *record; /* of WALK_RECORD: valid until the next step */
    struct group_head group;     /* the last one that was passed */
    uint64_t from;               /* offset of what the last step gave */
    bool is_zero;                /* WALK_BAD: nothing but zeroes */
    uint64_t n_unread;           /* bytes the disk could not give */
    uint8_t *window;
    size_t window_n, window_cap;
    uint64_t window_at;
};
void walk_init(struct walk *walk, const struct file_io *io, int fd, uint64_t off, uint64_t end);
void walk_fini(struct walk *walk); /* leaves fd open */
/* Reads again from the disk, from off on. */
void walk_again(struct walk *walk, uint64_t off);
/* WALK_BAD: [from, off) holds nothing that can be used, and something that can stands at off, or off is the end. */
enum walk_step walk_next(struct walk *walk);

/* --- the state file --------------------------------------------------------------------------------------------------- */

struct state_segment {
    uint64_t base, boot;
    uint64_t acked;                        /* offset: all before it is acknowledged */
    uint64_t end;                          /* offset behind the last valid byte; 0: by what is in it */
    uint64_t n_lost_events, n_lost_values; /* found corrupt, and counted as dropped */
};
struct state {
    uint64_t next; /* positions below were given before */
    uint64_t n_acked_values, n_dropped_events, n_dropped_values;
    struct state_segment *segments;
    size_t n_segments;
};
void state_print(const struct state *state, struct buf *out);
/* ERR_NOTFOUND: none; ERR_CORRUPT; ERR_UNSUPPORTED: newer. The result is empty then. */
NODISCARD enum err state_read(struct state *state, const struct file_io *io, int dir);
void state_fini(struct state *state);
const struct state_segment *state_find(const struct state *state, uint64_t base, uint64_t boot);

/* --- the directory ------------------------------------------------------------------------------------------------------ */

struct found_segment {
    uint64_t base;
    uint64_t size; /* of the file */
    uint64_t order;
    uint64_t end;   /* offset: what lies behind it stands in another segment, too; UINT64_MAX: all is its own */
    bool is_unread; /* for the caller: the disk did not give all of it */
    char name[SEGMENT_NAME];
};
/* In the order of their positions; freed by mem_free. */
NODISCARD enum err segments_find(const struct file_io *io, int dir, struct found_segment **out, size_t *n);
/* Looks into their heads, puts them in the order of reading, and finds their ends. One whose head is corrupt stays behind the one
 * before it. */
void segments_order(const struct file_io *io, int dir, struct found_segment *found, size_t n);
/* Copies a corrupt stretch to quarantine/; ERR_EXISTS if it is there; ERR_LIMIT: there is too much in it. */
NODISCARD enum err quarantine(const struct file_io *io, int dir, int fd, uint64_t base, uint64_t from, uint64_t to,
                              char name[QUARANTINE_NAME]);
/* Moves a whole segment there; ERR_UNSUPPORTED: it is no file of its own. */
NODISCARD enum err quarantine_segment(const struct file_io *io, int dir, const char *segment);
#endif
