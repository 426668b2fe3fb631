/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FOLD_SLOTS = 64, FOLD_MS = 60000, CROWD_MAX = 20, VALUE_MAX = 512, DEVICE_MAX = 64, NAMES_MAX = 4096 };
enum { QUEUE_LINES = 4096, QUEUE_BYTES = 2 * 1024 * 1024, END_S = 2, WRITER_STACK = 192 * 1024 };

/* One of the program's few mutexes: a line is rare, and lines of two threads must not mix. */
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
    const struct log_place *place;
    char device[DEVICE_MAX];
} folds[FOLD_SLOTS];

/* Lines of one phrase with other values each time, a device for example: after some in a minute they are counted only. */
static struct crowd {
    uint64_t since_ms;
    struct log *log;
    const char *phrase;
    enum log_level level;
    unsigned n_lines, n_more;
    const struct log_place *place;
    char device[DEVICE_MAX]; /* the last one held back */
} crowds[FOLD_SLOTS];

static const char *const level_names[] = {"TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "NONE"};

/* Never given back: names are those of connectors, and what counts must outlast a restart of one. */
static struct log_errors {
    struct log_errors *next;
    _Atomic(uint64_t) n;
    char name[];
} * _Atomic error_names;
static unsigned n_error_names;

static struct queued {
    struct queued *next;
    void (*fn)(void *arg); /* NULL: a line */
    void *arg;
    struct log_line line;
    char bytes[];
} * queue_first, **queue_last = &queue_first;
static size_t queue_n, queue_bytes;
static uint64_t n_dropped, n_dropped_told;               /* n_dropped: under the lock */
static bool has_writer, is_ending, is_writing, is_stuck; /* is_stuck: someone has waited in vain */
static pthread_t writer;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER, queue_emptied;
static log_output_fn *output;
static void (*output_idle)(void *arg);
static void *output_arg;
static const struct log_place nowhere = {"", "", 0};

static struct log_errors *errors_of(const char *name)
{
    struct log_errors *errors;
    size_t n = strlen(name) + 1;

    pthread_mutex_lock(&lock);
    for (errors = atomic_load(&error_names); errors && strcmp(errors->name, name) != 0;)
        errors = errors->next;
    if (!errors && n_error_names < NAMES_MAX) {
        n_error_names++;
        errors = mem_zero(sizeof *errors + n);
        memcpy(errors->name, name, n);
        errors->next = atomic_load(&error_names);
        atomic_store(&error_names, errors);
    }
    pthread_mutex_unlock(&lock);
    return errors;
}

void log_init_of(struct log *log, enum log_kind kind, const char *name, enum log_level level)
{
    log->name = name;
    log->kind = kind;
    atomic_store(&log->level, (int)level);
    atomic_store(&log->own_level, (int)level);
    atomic_store(&log->remote_level, 0);
    atomic_store(&log->n_errors, 0);
    log->errors = errors_of(name);
}

void log_init(struct log *log, const char *name, enum log_level level)
{
    log_init_of(log, LOG_OF_GATEWAY, name, level);
}

static void set_level(struct log *log)
{
    int own = atomic_load(&log->own_level), remote = atomic_load(&log->remote_level);

    atomic_store(&log->level, remote && remote - 1 < own ? remote - 1 : own);
}

void log_set_level(struct log *log, enum log_level level)
{
    atomic_store(&log->own_level, (int)level);
    set_level(log);
}

void log_set_remote_level(struct log *log, enum log_level level)
{
    atomic_store(&log->remote_level, level == LOG_LEVEL_OFF ? 0 : (int)level + 1);
    set_level(log);
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

void log_each_error_count(void (*fn)(void *arg, const char *name, uint64_t n), void *arg)
{
    for (struct log_errors *errors = atomic_load(&error_names); errors; errors = errors->next)
        fn(arg, errors->name, atomic_load_explicit(&errors->n, memory_order_relaxed));
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

bool log_is_journal(int fd)
{
    static _Atomic(int) known[3] = {-1, -1, -1};
    struct stat st;
    unsigned long dev, ino;
    const char *stream = getenv("JOURNAL_STREAM");
    int is;

    if (fd < 0 || fd > 2)
        return false;
    is = atomic_load_explicit(&known[fd], memory_order_relaxed);
    if (is < 0) {
        is = stream && sscanf(stream, "%lu:%lu", &dev, &ino) == 2 && fstat(fd, &st) == 0 && st.st_dev == dev &&
             st.st_ino == ino;
        atomic_store_explicit(&known[fd], is, memory_order_relaxed);
    }
    return is > 0;
}

char log_priority(enum log_level level)
{
    static const char priority[] = {'7', '7', '6', '4', '3', '3'};

    return priority[level];
}

static bool is_coloured(int fd)
{
    static _Atomic(int) known = -1;
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    int is;

    if (fd != STDERR_FILENO)
        return false;
    is = atomic_load_explicit(&known, memory_order_relaxed);
    if (is < 0) {
        is = isatty(fd) && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
        atomic_store_explicit(&known, is, memory_order_relaxed);
    }
    return is > 0;
}

static void put_all(int fd, struct str text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        text = str_skip(text, (size_t)n);
    }
}

static void put_text(int fd, enum log_level level, int64_t wall_ms, struct str logger, struct str message)
{
    static const char *const colours[] = {"\033[2m", "\033[2m", "", "\033[33m", "\033[31m", ""};
    autobuf struct buf out = {0};

    if (log_is_journal(fd)) {
        buf_printf(&out, "<%c>", log_priority(level));
    } else {
        bool is_colour = is_coloured(fd);
        time_t seconds = (time_t)(wall_ms / 1000);
        struct tm tm;
        char stamp[32];

        localtime_r(&seconds, &tm);
        strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
        buf_printf(&out, "%s.%03d %s%-7s%s ", stamp, (int)(wall_ms % 1000), is_colour ? colours[level] : "",
                   level_names[level], is_colour ? "\033[0m" : "");
    }
    buf_add_str(&out, logger);
    buf_add_str(&out, STR(": "));
    buf_add_str(&out, message);
    buf_add_u8(&out, '\n');
    put_all(fd, buf_str(&out));
}

void log_put_plain(int fd, const struct log_line *line)
{
    put_text(fd, line->level, line->wall_ms, line->logger, line->message);
}

/* --- the writer ------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static struct queued *queue_add(size_t n_bytes)
{
    struct queued *item = mem_zero(sizeof *item + n_bytes);

    *queue_last = item;
    queue_last = &item->next;
    queue_n++;
    queue_bytes += sizeof *item + n_bytes;
    pthread_cond_signal(&queue_filled);
    return item;
}

static void queue_line(const struct log *log, enum log_level level, struct str message, const struct log_place *place)
{
    struct str name = str_from(log->name);
    int remote = atomic_load_explicit(&log->remote_level, memory_order_relaxed);
    struct queued *item;

    if (queue_n >= QUEUE_LINES || queue_bytes >= QUEUE_BYTES) {
        n_dropped++;
        return;
    }
    item = queue_add(name.n + message.n);
    memcpy(item->bytes, name.p, name.n);
    if (message.n)
        memcpy(item->bytes + name.n, message.p, message.n);
    item->line =
        (struct log_line){.level = level,
                          .kind = log->kind,
                          .logger = str_of(item->bytes, name.n),
                          .message = str_of(item->bytes + name.n, message.n),
                          .place = place ? place : &nowhere,
                          .wall_ms = clock_wall_ms(),
                          .is_local = (int)level >= atomic_load_explicit(&log->own_level, memory_order_relaxed),
                          .is_remote = remote && (int)level >= remote - 1};
    pthread_getname_np(pthread_self(), item->line.thread, sizeof item->line.thread);
}

static void write_line(const struct log_line *line)
{
    if (output)
        output(output_arg, line);
    else if (line->is_local)
        log_put_plain(STDERR_FILENO, line);
}

static void tell_dropped(uint64_t n)
{
    autobuf struct buf text = {0};

    buf_printf(&text, "log lines dropped: they came faster than they could be written lines=%llu",
               (unsigned long long)n);
    write_line(&(struct log_line){.level = LOG_LEVEL_WARN,
                                  .logger = STR("service"),
                                  .message = buf_str(&text),
                                  .place = &nowhere,
                                  .wall_ms = clock_wall_ms(),
                                  .thread = "log",
                                  .is_local = true});
}

/* All that is queued is taken at once: whoever logs waits for no more than a few pointers. */
static void *write_lines(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "log");
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!queue_first && !is_ending)
            pthread_cond_wait(&queue_filled, &lock);
        if (!queue_first)
            break;
        struct queued *items = queue_first;
        uint64_t n_new = n_dropped - n_dropped_told;

        queue_first = NULL;
        queue_last = &queue_first;
        queue_n = queue_bytes = 0;
        n_dropped_told = n_dropped;
        is_writing = true;
        pthread_mutex_unlock(&lock);
        for (struct queued *item = items, *next; item; item = next) {
            next = item->next;
            if (item->fn)
                item->fn(item->arg);
            else
                write_line(&item->line);
            mem_free(item);
        }
        if (n_new)
            tell_dropped(n_new);
        if (output_idle)
            output_idle(output_arg);
        pthread_mutex_lock(&lock);
        is_writing = is_stuck = false;
        pthread_cond_broadcast(&queue_emptied);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

enum err log_start_writer(void)
{
    pthread_attr_t attr;
    pthread_condattr_t clock;
    int failed;

    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&queue_emptied, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WRITER_STACK);
    is_ending = false;
    failed = pthread_create(&writer, &attr, write_lines, NULL);
    pthread_attr_destroy(&attr);
    if (failed)
        return err_from_errno(failed);
    pthread_mutex_lock(&lock);
    has_writer = true;
    pthread_mutex_unlock(&lock);
    return ERR_OK;
}

/* Under the lock. A terminal that takes nothing does not keep the program from ending: it is waited for once. */
static bool wait_written(void)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_S;
    while ((queue_first || is_writing) && !is_stuck)
        is_stuck = pthread_cond_timedwait(&queue_emptied, &lock, &until) == ETIMEDOUT && (queue_first || is_writing);
    return !queue_first && !is_writing;
}

bool log_stop_writer(void)
{
    bool is_done;

    pthread_mutex_lock(&lock);
    if (!has_writer) {
        pthread_mutex_unlock(&lock);
        return true;
    }
    is_done = wait_written();
    has_writer = false;
    is_ending = true;
    pthread_cond_signal(&queue_filled);
    pthread_mutex_unlock(&lock);
    if (is_done)
        pthread_join(writer, NULL);
    else
        pthread_detach(writer); /* it hangs in a write; the process ends */
    return is_done;
}

void log_set_output(log_output_fn *fn, void (*idle)(void *arg), void *arg)
{
    output = fn;
    output_idle = idle;
    output_arg = arg;
}

void log_on_writer(void (*fn)(void *arg), void *arg)
{
    bool is_queued;

    pthread_mutex_lock(&lock);
    is_queued = has_writer;
    if (is_queued) {
        struct queued *item = queue_add(0);

        item->fn = fn;
        item->arg = arg;
    }
    pthread_mutex_unlock(&lock);
    if (!is_queued)
        fn(arg);
}

uint64_t log_n_dropped(void)
{
    uint64_t n;

    pthread_mutex_lock(&lock);
    n = n_dropped;
    pthread_mutex_unlock(&lock);
    return n;
}

/* --- lines -------------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void put_line(const struct log *log, enum log_level level, struct str message, const struct log_place *place)
{
    if (sink) {
        autobuf struct buf line = {0};

        buf_printf(&line, "%s: ", log->name);
        buf_add_str(&line, message);
        sink(sink_arg, level, buf_str(&line));
    } else if (has_writer) {
        queue_line(log, level, message, place);
    } else {
        put_text(STDERR_FILENO, level, clock_wall_ms(), str_from(log->name), message);
    }
}

static void put_more(const struct log *log, enum log_level level, const char *phrase, const char *of_what,
                     const char *device, unsigned n_more, uint64_t passed_ms, const struct log_place *place)
{
    autobuf struct buf out = {0};

    if (n_more == 0)
        return;
    buf_printf(&out, "%s … %u more%s in %llu s", phrase, n_more, of_what,
               (unsigned long long)((passed_ms + 999) / 1000));
    if (*device)
        add_kv(&out, &KV_Z(*of_what ? "last_device" : "device", device));
    put_line(log, level, buf_str(&out), place);
}

static void unfold(struct fold *fold, uint64_t now)
{
    if (fold->log)
        put_more(fold->log, fold->level, fold->phrase, "", fold->device, fold->n_more, now - fold->since_ms,
                 fold->place);
    *fold = (struct fold){0};
}

static void disperse(struct crowd *crowd, uint64_t now)
{
    if (crowd->log)
        put_more(crowd->log, crowd->level, crowd->phrase, " of other values", crowd->device, crowd->n_more,
                 now - crowd->since_ms, crowd->place);
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

static void keep_device(char *kept, struct str device)
{
    size_t n = device.n < DEVICE_MAX - 1 ? device.n : DEVICE_MAX - 1;

    if (n)
        memcpy(kept, device.p, n);
    kept[n] = 0;
}

/* Two phrases that share a slot take turns in it: then more lines are written, never fewer. */
static bool is_crowded(struct log *log, enum log_level level, const char *phrase, struct str device,
                       const struct log_place *place, uint64_t now)
{
    struct crowd *crowd = &crowds[hash_mix((uintptr_t)log, (uintptr_t)phrase) % FOLD_SLOTS];

    if (crowd->log != log || crowd->phrase != phrase || crowd->level != level || now - crowd->since_ms >= FOLD_MS) {
        disperse(crowd, now);
        *crowd = (struct crowd){.since_ms = now, .log = log, .phrase = phrase, .level = level, .place = place};
    }
    if (crowd->n_lines < CROWD_MAX) {
        crowd->n_lines++;
        return false;
    }
    crowd->n_more++;
    keep_device(crowd->device, device);
    return true;
}

/* True if the line is to be held back. */
static bool fold_line(struct log *log, enum log_level level, const char *phrase, struct str line, struct str device,
                      const struct log_place *place)
{
    uint64_t hash = hash_mix(hash_str(line), (uintptr_t)log), now = clock_mono_ms();
    struct fold *fold = &folds[hash % FOLD_SLOTS];

    if (fold->log && fold->hash == hash && now - fold->since_ms < FOLD_MS) {
        fold->n_more++;
        return true;
    }
    if (is_crowded(log, level, phrase, device, place, now))
        return true;
    unfold(fold, now);
    *fold = (struct fold){.hash = hash, .since_ms = now, .log = log, .phrase = phrase, .level = level, .place = place};
    keep_device(fold->device, device);
    return false;
}

void log_write_at(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n,
                  const struct log_place *place)
{
    autobuf struct buf line = {0};
    struct str device = STR_NONE;

    if (level == LOG_LEVEL_ERROR) {
        atomic_fetch_add_explicit(&log->n_errors, 1, memory_order_relaxed);
        if (log->errors)
            atomic_fetch_add_explicit(&log->errors->n, 1, memory_order_relaxed);
    }
    buf_add_z(&line, phrase);
    for (size_t i = 0; i < n; i++) {
        add_kv(&line, &kvs[i]);
        if (kvs[i].type == KV_T_STR && !strcmp(kvs[i].key, "device"))
            device = kvs[i].str;
    }
    pthread_mutex_lock(&lock);
    if (level < LOG_LEVEL_INFO || !fold_line(log, level, phrase, buf_str(&line), device, place))
        put_line(log, level, buf_str(&line), place);
    pthread_mutex_unlock(&lock);
}

void log_write(struct log *log, enum log_level level, const char *phrase, const struct kv *kvs, size_t n)
{
    log_write_at(log, level, phrase, kvs, n, NULL);
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
    if (all && has_writer)
        (void)wait_written();
    pthread_mutex_unlock(&lock);
}
