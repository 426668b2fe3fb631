/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FOLD_SLOTS = 64, FOLD_MS = 60000, CROWD_MAX = 20, VALUE_MAX = 512 };

/* One of the four mutexes of the program: a line is rare, and lines of two threads must not mix. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static log_sink_fn *sink;
static void *sink_arg;

/* A line that was written in the last minute, by its hash; n_more counts what was held back since. */
static struct fold {
    uint64_t hash, since_ms;
    struct log *log;
    const char *phrase;
    enum log_level level;
    unsigned n_more;
} folds[FOLD_SLOTS];

/* Lines of one phrase with other values each time, a device for example: after some in a minute they are counted only. */
static struct crowd {
    uint64_t since_ms;
    struct log *log;
    const char *phrase;
    enum log_level level;
    unsigned n_lines, n_more;
} crowds[FOLD_SLOTS];

static const char *const level_names[] = {"TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "NONE"};

void log_init(struct log *log, const char *name, enum log_level level)
{
    log->name = name;
    atomic_store(&log->level, (int)level);
    atomic_store(&log->n_errors, 0);
}

static void add_escaped(struct buf *out, struct str s)
{
    bool quote = s.n == 0;

    for (size_t i = 0; i < s.n && !quote; i++)
        quote = s.p[i] == ' ' || s.p[i] == '"' || s.p[i] == '=' || (unsigned char)s.p[i] < 0x20;
    if (quote)
        buf_add_u8(out, '"');
    for (size_t i = 0; i < s.n && i < VALUE_MAX; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_add_u8(out, c);
    }
    if (s.n > VALUE_MAX)
        buf_add_str(out, STR("…"));
    if (quote)
        buf_add_u8(out, '"');
}

static void add_kv(struct buf *out, const struct kv *kv)
{
    buf_printf(out, " %s=", kv->key);
    switch (kv->type) {
    case KV_T_STR:
        add_escaped(out, kv->str);
        break;
    case KV_T_INT:
        buf_printf(out, "%lld", (long long)kv->i);
        break;
    case KV_T_UINT:
        buf_printf(out, "%llu", (unsigned long long)kv->u);
        break;
    case KV_T_DOUBLE:
        buf_printf(out, "%g", kv->d);
        break;
    case KV_T_MS:
        if (kv->u < 10000)
            buf_printf(out, "%llums", (unsigned long long)kv->u);
        else
            buf_printf(out, "%.1fs", (double)kv->u / 1000);
        break;
    }
}

static void to_stderr(enum log_level level, struct str line)
{
    static const char priority[] = {'7', '7', '6', '4', '3', '3'};
    static const char *const colours[] = {"\033[2m", "\033[2m", "", "\033[33m", "\033[31m", ""};
    static int is_journal = -1, is_colour;
    autobuf struct buf out = {0};

    if (is_journal < 0) {
        struct stat st;
        unsigned long dev, ino;
        const char *stream = getenv("JOURNAL_STREAM"), *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

        is_journal = stream && sscanf(stream, "%lu:%lu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                     st.st_dev == dev && st.st_ino == ino;
        is_colour =
            !is_journal && isatty(STDERR_FILENO) && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
    }
    if (is_journal) {
        buf_printf(&out, "<%c>", priority[level]);
    } else {
        int64_t now = clock_wall_ms();
        time_t seconds = (time_t)(now / 1000);
        struct tm tm;
        char stamp[32];

        localtime_r(&seconds, &tm);
        strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
        buf_printf(&out, "%s.%03d %s%-7s%s ", stamp, (int)(now % 1000), is_colour ? colours[level] : "",
                   level_names[level], is_colour ? "\033[0m" : "");
    }
    buf_add_str(&out, line);
    buf_add_u8(&out, '\n');
    for (size_t done = 0; done < out.n;) {
        ssize_t n = write(STDERR_FILENO, out.p + done, out.n - done);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
}

static void put_line(enum log_level level, struct str line)
{
    if (sink)
        sink(sink_arg, level, line);
    else
        to_stderr(level, line);
}

static void put_more(const struct log *log, enum log_level level, const char *phrase, const char *of_what,
                     unsigned n_more, uint64_t passed_ms)
{
    autobuf struct buf out = {0};

    if (n_more == 0)
        return;
    buf_printf(&out, "%s: %s … %u more%s in %llu s", log->name, phrase, n_more, of_what,
               (unsigned long long)((passed_ms + 999) / 1000));
    put_line(level, buf_str(&out));
}

static void unfold(struct fold *fold, uint64_t now)
{
    if (fold->log)
        put_more(fold->log, fold->level, fold->phrase, "", fold->n_more, now - fold->since_ms);
    *fold = (struct fold){0};
}

static void disperse(struct crowd *crowd, uint64_t now)
{
    if (crowd->log)
        put_more(crowd->log, crowd->level, crowd->phrase, " of other values", crowd->n_more, now - crowd->since_ms);
    *crowd = (struct crowd){0};
}

void log_fini(struct log *log)
{
    uint64_t now = clock_mono_ms();

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FOLD_SLOTS; i++)
        if (folds[i].log == log)
            unfold(&folds[i], now);
    for (size_t i = 0; i < FOLD_SLOTS; i++)
        if (crowds[i].log == log)
            disperse(&crowds[i], now);
    pthread_mutex_unlock(&lock);
}

/* Two phrases that share a slot take turns in it: then more lines are written, never fewer. */
static bool is_crowded(struct log *log, enum log_level level, const char *phrase, uint64_t now)
{
    struct crowd *crowd = &crowds[hash_mix((uintptr_t)log, (uintptr_t)phrase) % FOLD_SLOTS];

    if (crowd->log != log || crowd->phrase != phrase || crowd->level != level || now - crowd->since_ms >= FOLD_MS) {
        disperse(crowd, now);
        *crowd = (struct crowd){.since_ms = now, .log = log, .phrase = phrase, .level = level};
    }
    if (crowd->n_lines < CROWD_MAX) {
        crowd->n_lines++;
        return false;
    }
    crowd->n_more++;
    return true;
}

/* True if the line is to be held back. */
static bool fold_line(struct log *log, enum log_level level, const char *phrase, struct str line)
{
    uint64_t hash = hash_str(line), now = clock_mono_ms();
    struct fold *fold = &folds[hash % FOLD_SLOTS];

    if (fold->log && fold->hash == hash && now - fold->since_ms < FOLD_MS) {
        fold->n_more++;
        return true;
    }
    if (is_crowded(log, level, phrase, now))
        return true;
    unfold(fold, now);
    *fold = (struct fold){.hash = hash, .since_ms = now, .log = log, .phrase = phrase, .level = level};
    return false;
}

void log_write(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n)
{
    autobuf struct buf line = {0};

    if (level == LOG_LEVEL_ERROR)
        atomic_fetch_add_explicit(&log->n_errors, 1, memory_order_relaxed);
    buf_printf(&line, "%s: %s", log->name, phrase);
    for (size_t i = 0; i < n; i++)
        add_kv(&line, &kvs[i]);
    pthread_mutex_lock(&lock);
    if (level < LOG_LEVEL_INFO || !fold_line(log, level, phrase, buf_str(&line)))
        put_line(level, buf_str(&line));
    pthread_mutex_unlock(&lock);
}

void log_set_sink(log_sink_fn *fn, void *arg)
{
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_arg = arg;
    pthread_mutex_unlock(&lock);
}

void log_flush(bool all)
{
    uint64_t now = clock_mono_ms();

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FOLD_SLOTS; i++)
        if (folds[i].log && (all || now - folds[i].since_ms >= FOLD_MS))
            unfold(&folds[i], now);
    for (size_t i = 0; i < FOLD_SLOTS; i++)
        if (crowds[i].log && (all || now - crowds[i].since_ms >= FOLD_MS))
            disperse(&crowds[i], now);
    pthread_mutex_unlock(&lock);
}
