/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_H
#define IOTGW_FILE_H
/*
 * Whole files: read within a limit, and written so that whoever looks sees the old content or the new one, also after a
 * loss of power. Blocks; any thread. Reasons begin with the path.
 */
#include "base/buf.h"

/* Appends the file's bytes. ERR_LIMIT if there are more than that. */
NODISCARD enum err file_read(struct buf *out, const char *path, size_t limit_bytes, struct why *why);

enum file_put {
    FILE_NEW,    /* ERR_EXISTS if there is one of that name, which stays as it is */
    FILE_REPLACE /* a symbolic link stays, and what it points at is replaced */
};
/* Mode and, where that is allowed, owner are those of the file like; NULL: mode 0600, for secrets. */
NODISCARD enum err file_put(const char *path, struct str content, enum file_put how, const char *like, struct why *why);

/* FILE_REPLACE in two steps, for several files that change together: first all of them are on the disk, beside what they
 * replace, then they take its place, which needs no room any more. */
struct file_staged {
    char *temp, *to; /* NULL: nothing is staged */
};
NODISCARD enum err file_stage(struct file_staged *out, const char *path, struct str content, const char *like,
                              struct why *why);
NODISCARD enum err file_staged_put(struct file_staged *staged, struct why *why); /* an error leaves it staged */
void file_staged_drop(struct file_staged *staged);                               /* nothing staged allowed */
#endif
