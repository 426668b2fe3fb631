/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOG_H
#define IOTGW_LOG_H
/*
 * Structured logging: a constant phrase, then values. LOG_WARN(log, "no reply", KV_UINT("unit", u), KV_ERR(err));
 *
 * Levels: error: someone must act; warn: the gateway helped itself and something may be missing; info: a life-cycle
 * change; debug: a line a request; trace: bytes. A struct log has the names of its connector and device and a level
 * that may change at run time (atomic). Lines go to standard error as text (colour only on a terminal and without
 * NO_COLOR), or to the journal when standard error is connected to it (prefix <N>, sd-daemon(3)). Equal lines of one
 * log are folded: the first goes out, then one summary a minute ("… 412 more in 60 s"), which names the device if the line did.
 * Of one phrase with other values each time 20 lines a minute go out, the rest is counted. Any thread; one mutex.
 * A value that comes from outside is printed with control characters escaped and cut at 512 bytes.
 *
 * With a writer (log_start_writer) nobody but its thread waits for files or terminals: lines are queued, at most 4096 and
 * 2 MiB; more are dropped, counted and told of. Without one they are written by whoever logs.
 */
#include "base/str.h"

#include <stdatomic.h>

enum log_level { LOG_LEVEL_TRACE, LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };

enum log_kind { LOG_OF_GATEWAY, LOG_OF_CONNECTOR, LOG_OF_CONVERTER };
struct log_errors; /* of all logs of one name, also of those that are gone */

struct log {
    const char *name;           /* "service", "storage", a connector's name; lives as long as the log */
    _Atomic(int) level;         /* enum log_level: what lines are made for, the lower one of the two below */
    _Atomic(int) own_level;     /* of what stays on this machine */
    _Atomic(int) remote_level;  /* of what the platform gets as well, plus 1; 0: nothing */
    _Atomic(unsigned) n_errors; /* lines of level error since start; statistics */
    enum log_kind kind;
    struct log_errors *errors; /* NULL: not counted by name */
};

struct log_place {
    const char *file, *function;
    unsigned line;
};
/* One line on its way out; views. */
struct log_line {
    enum log_level level;
    enum log_kind kind;
    struct str logger, message; /* message: phrase and values */
    const struct log_place *place;
    int64_t wall_ms;
    char thread[16];
    bool is_local, is_remote; /* who wants it */
};

struct kv {
    const char *key;
    enum { KV_T_STR, KV_T_INT, KV_T_UINT, KV_T_DOUBLE, KV_T_MS } type;
    union {
        struct str str;
        int64_t i;
        uint64_t u;
        double d;
    };
};

#define KV_STR(k, s) ((struct kv){.key = (k), .type = KV_T_STR, .str = (s)})
#define KV_Z(k, z) ((struct kv){.key = (k), .type = KV_T_STR, .str = str_from(z)})
#define KV_INT(k, v) ((struct kv){.key = (k), .type = KV_T_INT, .i = (int64_t)(v)})
#define KV_UINT(k, v) ((struct kv){.key = (k), .type = KV_T_UINT, .u = (uint64_t)(v)})
#define KV_DOUBLE(k, v) ((struct kv){.key = (k), .type = KV_T_DOUBLE, .d = (v)})
#define KV_MS(k, v) ((struct kv){.key = (k), .type = KV_T_MS, .u = (uint64_t)(v)})
#define KV_ERR(e) KV_Z("error", err_text(e))
#define KV_WHY(w) KV_Z("error", why_text(w))

#define LOG_AT(log, lvl, phrase, ...)                                                                                  \
    do {                                                                                                               \
        if ((int)(lvl) >= atomic_load_explicit(&(log)->level, memory_order_relaxed)) {                                 \
            static const struct log_place log_place_ = {__FILE__, __func__, __LINE__};                                 \
            const struct kv log_kvs_[] = {{.key = NULL}, ##__VA_ARGS__};                                               \
            log_write_at((log), (lvl), "" phrase, log_kvs_ + 1, COUNT_OF(log_kvs_) - 1, &log_place_);                  \
        }                                                                                                              \
    } while (0)
#define LOG_ERROR(log, ...) LOG_AT(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(log, ...) LOG_AT(log, LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(log, ...) LOG_AT(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(log, ...) LOG_AT(log, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_TRACE(log, ...) LOG_AT(log, LOG_LEVEL_TRACE, __VA_ARGS__)

void log_init(struct log *log, const char *name, enum log_level level);
/* A connector's or a converter's. */
void log_init_of(struct log *log, enum log_kind kind, const char *name, enum log_level level);
/* Writes what is folded of this log; to be called before its memory goes. */
void log_fini(struct log *log);
void log_write(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n);
void log_write_at(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n,
                  const struct log_place *place);

/* Any thread. Remote: what the platform gets, LOG_LEVEL_OFF: nothing; does not change what stays here. */
void log_set_level(struct log *log, enum log_level level);
void log_set_remote_level(struct log *log, enum log_level level);
static inline enum log_level log_own_level(const struct log *log)
{
    return (enum log_level)atomic_load_explicit(&log->own_level, memory_order_relaxed);
}
const char *log_level_name(enum log_level level); /* "WARNING"; "NONE": off */

/* Lines of level error by name since the program started, folded ones too; any thread. */
void log_each_error_count(void (*fn)(void *arg, const char *name, uint64_t n), void *arg);

/* Where lines go; NULL: standard error. line has no line feed. Called under the log's mutex. For tests and log files. */
typedef void log_sink_fn(void *arg, enum log_level level, struct str line);
void log_set_sink(log_sink_fn *sink, void *arg);

/* Lines are queued from now on and written by a thread of their own. An error: there is no thread, all goes on as before. */
NODISCARD enum err log_start_writer(void);
/* Writes what is queued, for at most 2 s. False: the writer hangs in a write, and may yet use its output and all that was queued. */
NODISCARD bool log_stop_writer(void);
/*
 * What the writer's thread does with a line; NULL: standard error. idle comes when nothing more is queued. Set before
 * log_start_writer or after log_stop_writer.
 */
typedef void log_output_fn(void *arg, const struct log_line *line);
void log_set_output(log_output_fn *output, void (*idle)(void *arg), void *arg);
/* Runs fn on the writer's thread, behind what is queued; without a writer at once. */
void log_on_writer(void (*fn)(void *arg), void *arg);
uint64_t log_n_dropped(void); /* lines, for want of room */
/* "2026-01-02 03:04:05.678 INFO    name: message", or the journal's form, to a descriptor. */
void log_put_plain(int fd, const struct log_line *line);
bool log_is_journal(int fd);
char log_priority(enum log_level level); /* of the journal: '3' … '7' */
/* Writes the summaries of folded lines that are due; the main thread calls it every few seconds, and at exit with all. */
void log_flush(bool all);
#endif
