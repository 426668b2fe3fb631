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
 * log are folded: the first goes out, then one summary a minute ("… 412 more in 60 s"). Of one phrase with
 * other values each time 20 lines a minute go out, the rest is counted. Any thread; one mutex.
 * A value that comes from outside is printed with control characters escaped and cut at 512 bytes.
 */
#include "base/str.h"

#include <stdatomic.h>

enum log_level { LOG_LEVEL_TRACE, LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };

struct log {
    const char *name;           /* "service", "storage", a connector's name; lives as long as the log */
    _Atomic(int) level;         /* enum log_level */
    _Atomic(unsigned) n_errors; /* lines of level error since start; statistics */
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
            const struct kv log_kvs_[] = {{.key = NULL}, ##__VA_ARGS__};                                               \
            log_write((log), (lvl), "" phrase, log_kvs_ + 1, COUNT_OF(log_kvs_) - 1);                                  \
        }                                                                                                              \
    } while (0)
#define LOG_ERROR(log, ...) LOG_AT(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(log, ...) LOG_AT(log, LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(log, ...) LOG_AT(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(log, ...) LOG_AT(log, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_TRACE(log, ...) LOG_AT(log, LOG_LEVEL_TRACE, __VA_ARGS__)

void log_init(struct log *log, const char *name, enum log_level level);
/* Writes what is folded of this log; to be called before its memory goes. */
void log_fini(struct log *log);
void log_write(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n);

/* Where lines go; NULL: standard error. line has no line feed. Called under the log's mutex. For tests and log files. */
typedef void log_sink_fn(void *arg, enum log_level level, struct str line);
void log_set_sink(log_sink_fn *sink, void *arg);
/* Writes the summaries of folded lines that are due; the main thread calls it every few seconds, and at exit with all. */
void log_flush(bool all);
#endif
