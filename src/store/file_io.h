/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_IO_H
#define IOTGW_FILE_IO_H
/*
 * The system calls of the file store, as a table, so that tests can let them fail, cut them short and record them.
 * All behave as the calls of the same name: -1 and errno. allocate reserves the first size bytes of a file. Any thread.
 */
#include "base/err.h"

#include <sys/types.h>
#include <sys/uio.h>

struct file_io {
    int (*open)(int dir, const char *name, int flags, mode_t mode);
    ssize_t (*pread)(int fd, void *to, size_t n, off_t at);
    ssize_t (*pwritev)(int fd, const struct iovec *parts, int n_parts, off_t at);
    int (*fdatasync)(int fd);
    int (*fsync)(int fd); /* of a directory */
    int (*allocate)(int fd, off_t size);
    int (*truncate)(int fd, off_t size);
    int (*rename)(int dir, const char *from, const char *to);
    int (*unlink)(int dir, const char *name);
    int (*mkdir)(int dir, const char *name, mode_t mode);
};
extern const struct file_io file_io_system;

/* All of the parts, or -1: short writes are continued. parts is used up. */
int file_io_write_all(const struct file_io *io, int fd, struct iovec *parts, int n_parts, off_t at);
/* n bytes; what lies behind the end, or cannot be read, is zero. Gives how many bytes could not be read. */
size_t file_io_read_all(const struct file_io *io, int fd, void *to, size_t n, off_t at);
#endif
