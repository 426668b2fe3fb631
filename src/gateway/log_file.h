/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOG_FILE_H
#define IOTGW_LOG_FILE_H
/*
 * A log file that is put aside by time or size, as Python's TimedRotatingFileHandler does it, and its old ones deleted.
 *
 * One thread, which may block: the log's writer. Time is given with each call, so that tests have their own.
 * Archives: by time "FILE.2026-01-02" (as exact as the unit), of the time the file was begun; with max_bytes > 0
 * "FILE.2026-01-02_03-04-05", of the time it was put aside. A second one of the same name gets ".1", ".2" …, never one that
 * was there before. Beyond n_kept the oldest are deleted; files with other names are left alone.
 * A file that somebody else has moved away is made anew, within a second or at log_file_reopen.
 */
#include "base/buf.h"

enum log_when { LOG_S, LOG_M, LOG_H, LOG_D, LOG_MIDNIGHT, LOG_W0, LOG_W6 = LOG_W0 + 6, LOG_BY_SIZE };

struct log_file_conf {
    const char *path; /* copied */
    enum log_when when;
    uint32_t interval, n_kept; /* kept: archives; 0: all */
    uint64_t max_bytes;        /* 0: none */
    bool is_utc;
};

struct log_file;
struct log_file *log_file_new(const struct log_file_conf *conf);
void log_file_free(struct log_file *file); /* NULL allowed */
const char *log_file_path(const struct log_file *file);
/* Makes missing directories and opens the file for appending, if it is not open. The reason is told by why. */
NODISCARD enum err log_file_open(struct log_file *file, int64_t now_ms, struct why *why);
/* Appends the text, which is whole lines, in one write; puts the file aside before that when it is due. */
NODISCARD enum err log_file_write(struct log_file *file, struct str text, int64_t now_ms, struct why *why);
void log_file_reopen(struct log_file *file);         /* at the next line */
int64_t log_file_due_s(const struct log_file *file); /* when it is put aside next, wall clock; INT64_MAX: never */
#endif
