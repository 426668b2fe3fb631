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
#endif
