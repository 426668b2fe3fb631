/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_IO_H
#define IOTGW_FILE_IO_H
/*
 * What the file store does with its directory, as a table: the system's calls, so that tests can let them fail, cut them
 * short and record them; or another medium that keeps the segments its own way (sqlite.h).
 * All behave as the calls of the same name: -1 and errno; the table itself comes first, for kinds that embed it.
 * allocate reserves the first size bytes of a file; list names the directory's plain files and their sizes.
 * The directory itself is always a descriptor of the system's. Any thread.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef void file_io_name_fn(void *arg, const char *name, uint64_t size);
struct file_io {
    int (*open)(const struct file_io *io, int dir, const char *name, int flags, mode_t mode);
    ssize_t (*pread)(const struct file_io *io, int fd, void *to, size_t n, off_t at);
    ssize_t (*pwritev)(const struct file_io *io, int fd, const struct iovec *parts, int n_parts, off_t at);
    int (*fdatasync)(const struct file_io *io, int fd);
    int (*fsync)(const struct file_io *io, int fd); /* of a directory */
    int (*allocate)(const struct file_io *io, int fd, off_t size);
    int (*truncate)(const struct file_io *io, int fd, off_t size);
    int (*rename)(const struct file_io *io, int dir, const char *from, const char *to);
    int (*unlink)(const struct file_io *io, int dir, const char *name);
    int (*mkdir)(const struct file_io *io, int dir, const char *name, mode_t mode);
    int (*close)(const struct file_io *io, int fd);
    int (*list)(const struct file_io *io, int dir, file_io_name_fn *each, void *arg);
    bool (*has_room)(const struct file_io *io, uint64_t n); /* for one more segment of n bytes; NULL: always */
    void (*set_limits)(const struct file_io *io, uint64_t file_bytes, unsigned n_files); /* NULL: it has none */
    bool is_elastic; /* allocate reserves nothing: a full disk is met in the middle of a segment */
    void (*free)(const struct file_io *io); /* after the last descriptor is closed; NULL: nothing to free */
};
extern const struct file_io file_io_system;

/* All of the parts, or -1: short writes are continued. parts is used up. */
int file_io_write_all(const struct file_io *io, int fd, struct iovec *parts, int n_parts, off_t at);
/* n bytes; what lies behind the end, or cannot be read, is zero. Gives how many bytes could not be read. */
size_t file_io_read_all(const struct file_io *io, int fd, void *to, size_t n, off_t at);
#endif
