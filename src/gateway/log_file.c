/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/log_file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DAY_S = 86400, LOOK_MS = 1000, STAMP_MAX = 32, INTERVAL_MAX = 100000 };

struct log_file {
    struct log_file_conf conf;
    char *path;
    int fd; /* -1: closed */
    dev_t dev;
    ino_t ino;
    uint64_t size;
    int64_t due_s, looked_ms;
    char last_stamp[STAMP_MAX]; /* of the archive made last, and its number */
    unsigned last_number;
};

/* --- times ---------------------------------------------------------------------------------------------------------------- */

static void split_time(const struct log_file *file, int64_t at_s, struct tm *out)
{
    time_t t = (time_t)at_s;

    if (file->conf.is_utc)
        gmtime_r(&t, out);
    else
        localtime_r(&t, out);
}

/* The midnight at which the day begins that is so many days after at_s's; by the calendar, as days differ in length. */
static int64_t midnight_at(const struct log_file *file, int64_t at_s, int n_days)
{
    struct tm tm;

    split_time(file, at_s, &tm);
    tm.tm_mday += n_days;
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    tm.tm_isdst = -1;
    return file->conf.is_utc ? timegm(&tm) : mktime(&tm);
}

static int64_t unit_s(enum log_when when)
{
    static const int64_t units[] = {[LOG_S] = 1, [LOG_M] = 60, [LOG_H] = 3600, [LOG_D] = DAY_S};

    return when <= LOG_D ? units[when] : when == LOG_MIDNIGHT ? DAY_S : 7 * DAY_S;
}

static int64_t step_s(const struct log_file *file)
{
    return unit_s(file->conf.when) * (int64_t)file->conf.interval;
}

static int64_t next_due(const struct log_file *file, int64_t begin_s, int64_t now_s)
{
    enum log_when when = file->conf.when;
    int64_t step = when == LOG_BY_SIZE ? 0 : step_s(file);

    if (when == LOG_BY_SIZE)
        return INT64_MAX;
    if (when <= LOG_D) {
        int64_t due = begin_s + step;

        return due > now_s ? due : due + (now_s - due) / step * step + step;
    }
    for (int64_t due = 0;; begin_s = due) {
        if (when == LOG_MIDNIGHT) {
            due = midnight_at(file, begin_s, (int)(step / DAY_S));
        } else {
            struct tm tm;
            int day;

            split_time(file, begin_s, &tm);
            day = (tm.tm_wday + 6) % 7; /* Monday is 0 */
            due = midnight_at(file, begin_s, ((int)(when - LOG_W0) - day + 7) % 7 + (int)(step / DAY_S) - 6);
        }
        if (due > now_s || due <= begin_s)
            return due > now_s ? due : now_s + step;
        if (now_s - due > 2 * step) /* a file of long ago */
            due = now_s - 2 * step;
    }
}

/* --- archives ------------------------------------------------------------------------------------------------------------- */

static const char *stamp_format(const struct log_file *file)
{
    if (file->conf.max_bytes || file->conf.when == LOG_S || file->conf.when == LOG_BY_SIZE)
        return "%Y-%m-%d_%H-%M-%S";
    if (file->conf.when == LOG_M)
        return "%Y-%m-%d_%H-%M";
    return file->conf.when == LOG_H ? "%Y-%m-%d_%H" : "%Y-%m-%d";
}

/* Whether text is a stamp of this format, perhaps with a number behind: then the stamp's length and the number. */
static size_t match_stamp(const char *format, const char *text, unsigned *number)
{
    size_t n = 0;
    char *end;
    unsigned long value = 0;

    for (const char *f = format; *f; f++) {
        int digits = *f != '%' ? 0 : f[1] == 'Y' ? 4 : 2;

        if (!digits) {
            if (text[n++] != *f)
                return 0;
            continue;
        }
        for (f++; digits > 0; digits--)
            if (text[n] < '0' || text[n++] > '9')
                return 0;
    }
    if (text[n] == '.') {
        value = text[n + 1] >= '0' && text[n + 1] <= '9' ? strtoul(text + n + 1, &end, 10) : ULONG_MAX;
        if (value > UINT_MAX || *end)
            return 0;
    } else if (text[n]) {
        return 0;
    }
    *number = (unsigned)value;
    return n;
}

struct archive {
    unsigned number;
    size_t stamp_n;
    char *name; /* behind "FILE." */
};

static int older_first(const void *a, const void *b)
{
    const struct archive *x = a, *y = b;
    size_t n = x->stamp_n < y->stamp_n ? x->stamp_n : y->stamp_n;
    int order = memcmp(x->name, y->name, n);

    return order ? order : x->number < y->number ? -1 : x->number > y->number;
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *out = mem_dup(slash ? path : ".");

    if (slash)
        out[slash == path ? 1 : slash - path] = 0;
    return out;
}

static size_t list_archives(const struct log_file *file, struct archive **out)
{
    const char *slash = strrchr(file->path, '/'), *base = slash ? slash + 1 : file->path;
    autofree char *dir_name = directory_of(file->path);
    size_t base_n = strlen(base), n = 0, cap = 0;
    DIR *dir = opendir(dir_name);

    *out = NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        unsigned number;
        size_t stamp_n;

        if (strncmp(entry->d_name, base, base_n) != 0 || entry->d_name[base_n] != '.')
            continue;
        stamp_n = match_stamp(stamp_format(file), entry->d_name + base_n + 1, &number);
        if (!stamp_n)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            *out = mem_grow(*out, cap * sizeof **out);
        }
        (*out)[n++] = (struct archive){number, stamp_n, mem_dup(entry->d_name + base_n + 1)};
    }
    if (dir)
        closedir(dir);
    if (n)
        qsort(*out, n, sizeof **out, older_first);
    return n;
}

static void archive_path(const struct log_file *file, const char *name, struct buf *out)
{
    buf_printf(out, "%s.%s", file->path, name);
    buf_add_u8(out, 0);
}

/* The time in an archive's name. */
static int64_t archive_time(const struct log_file *file, int64_t now_s)
{
    if (file->conf.max_bytes || file->conf.when == LOG_BY_SIZE)
        return now_s;
    return file->conf.when >= LOG_MIDNIGHT ? midnight_at(file, file->due_s, -(int)(step_s(file) / DAY_S))
                                           : file->due_s - step_s(file);
}

/* Closes the file and renames it. Without a place for it, it goes on as it is. */
static void put_aside(struct log_file *file, int64_t now_s)
{
    int64_t of_s = archive_time(file, now_s);
    struct archive *archives;
    size_t n = list_archives(file, &archives), n_after = n + 1;
    bool is_taken;
    unsigned number = 0;
    char stamp[STAMP_MAX];
    autobuf struct buf path = {0};
    struct tm tm;

    split_time(file, of_s, &tm);
    strftime(stamp, sizeof stamp, stamp_format(file), &tm);
    is_taken = !strcmp(stamp, file->last_stamp);
    if (is_taken)
        number = file->last_number;
    for (size_t i = 0; i < n; i++)
        if (!strncmp(archives[i].name, stamp, archives[i].stamp_n) && strlen(stamp) == archives[i].stamp_n) {
            number = archives[i].number > number ? archives[i].number : number;
            is_taken = true;
        }
    number += is_taken;
    buf_printf(&path, "%s.%s", file->path, stamp);
    if (number)
        buf_printf(&path, ".%u", number);
    buf_add_u8(&path, 0);
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    if (rename(file->path, (char *)path.p) == 0) {
        memcpy(file->last_stamp, stamp, sizeof stamp);
        file->last_number = number;
    } else {
        n_after = n;
    }
    for (size_t i = 0; i < n && file->conf.n_kept && n_after > file->conf.n_kept; i++, n_after--) {
        path.n = 0;
        archive_path(file, archives[i].name, &path);
        (void)unlink((char *)path.p);
    }
    for (size_t i = 0; i < n; i++)
        mem_free(archives[i].name);
    mem_free(archives);
}

/* --- the file ------------------------------------------------------------------------------------------------------------- */

static void make_directories(const char *path)
{
    autofree char *copy = mem_dup(path);

    for (char *at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        (void)mkdir(copy, 0755);
        *at = '/';
    }
}

struct log_file *log_file_new(const struct log_file_conf *conf)
{
    struct log_file *file = mem_zero(sizeof *file);

    file->conf = *conf;
    file->conf.interval = !conf->interval ? 1 : conf->interval < INTERVAL_MAX ? conf->interval : INTERVAL_MAX;
    file->path = mem_dup(conf->path);
    file->conf.path = file->path;
    file->fd = -1;
    return file;
}

void log_file_free(struct log_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    mem_free(file->path);
    mem_free(file);
}

const char *log_file_path(const struct log_file *file)
{
    return file->path;
}

enum err log_file_open(struct log_file *file, int64_t now_ms, struct why *why)
{
    struct stat st;
    int64_t now_s = now_ms / 1000;
    int error;

    if (file->fd >= 0)
        return ERR_OK;
    file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (file->fd < 0 && errno == ENOENT) {
        make_directories(file->path);
        file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    }
    error = errno;
    if (file->fd < 0)
        return why_set(why, err_from_errno(error), "%s: %s", file->path, strerror(error));
    if (fstat(file->fd, &st) != 0)
        st = (struct stat){0};
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    file->size = (uint64_t)st.st_size;
    file->looked_ms = now_ms;
    if (!file->due_s || file->due_s <= now_s) /* an older file may be due at once, as with Python */
        file->due_s = file->size && !file->due_s && st.st_mtime < now_s ? next_due(file, st.st_mtime, st.st_mtime)
                                                                        : next_due(file, now_s, now_s);
    return ERR_OK;
}

static void look_for(struct log_file *file, int64_t now_ms)
{
    struct stat st;

    if (file->fd < 0 || (now_ms - file->looked_ms < LOOK_MS && now_ms >= file->looked_ms))
        return;
    file->looked_ms = now_ms;
    if (stat(file->path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino) {
        file->size = (uint64_t)st.st_size; /* others may have cut it off */
        return;
    }
    close(file->fd);
    file->fd = -1;
}

enum err log_file_write(struct log_file *file, struct str text, int64_t now_ms, struct why *why)
{
    int64_t now_s = now_ms / 1000;
    bool is_full;
    enum err err;

    look_for(file, now_ms);
    err = log_file_open(file, now_ms, why);
    if (err)
        return err;
    is_full = file->conf.max_bytes && file->size && file->size + text.n > file->conf.max_bytes;
    if (is_full || now_s >= file->due_s) {
        if (file->size || is_full)
            put_aside(file, now_s);
        if (now_s >= file->due_s)
            file->due_s = next_due(file, file->due_s, now_s);
        err = log_file_open(file, now_ms, why);
        if (err)
            return err;
    }
    while (text.n) {
        ssize_t n = write(file->fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return why_set(why, err_from_errno(errno), "%s: %s", file->path, strerror(errno));
        file->size += (uint64_t)n;
        text = str_skip(text, (size_t)n);
    }
    return ERR_OK;
}

void log_file_reopen(struct log_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int64_t log_file_due_s(const struct log_file *file)
{
    return file->due_s;
}
