/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite.h"
#include "store/legacy.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic(const struct sqlite_api *) loaded;
static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER; /* once a store that is opened */

const struct sqlite_api *sqlite_load(struct why *why)
{
    const struct sqlite_api *api = atomic_load_explicit(&loaded, memory_order_acquire);

    if (api)
        return api;
    pthread_mutex_lock(&load_mutex);
    api = atomic_load_explicit(&loaded, memory_order_relaxed);
    if (!api) {
        api = own_module_load("iotgw-sqlite.so", "iotgw_sqlite", sizeof *api, "sqlite storage", ERR_NOTFOUND, why);
        atomic_store_explicit(&loaded, api, memory_order_release);
    }
    pthread_mutex_unlock(&load_mutex);
    return api;
}

void sqlite_limits(struct file_conf *out, const struct sqlite_conf *conf)
{
    uint64_t all = conf->db_bytes > UINT64_MAX / conf->max_dbs ? UINT64_MAX : conf->db_bytes * conf->max_dbs;

    *out = conf->file;
    if (!out->max_bytes || out->max_bytes > all)
        out->max_bytes = all;
    out->segment_bytes = conf->db_bytes / SQLITE_SEGMENTS;
}

enum err store_sqlite_with(const struct sqlite_api *api, struct store **out, struct loop *loop,
                           const struct sqlite_conf *conf, const struct store_events *events, void *arg,
                           struct why *why)
{
    struct file_conf file;

    sqlite_limits(&file, conf);
    file.io = api->open(conf);
    return store_file_new(out, loop, &file, events, arg, why);
}

enum err store_sqlite_new(struct store **out, struct loop *loop, const struct sqlite_conf *conf,
                          const struct store_events *events, void *arg, struct why *why)
{
    const struct sqlite_api *api = sqlite_load(why);

    return api ? store_sqlite_with(api, out, loop, conf, events, arg, why) : why->err;
}

bool sqlite_is_there(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    bool is_there = false;

    if (fd >= 0 && !list)
        close(fd);
    if (!list)
        return false;
    for (const struct dirent *entry; (entry = readdir(list));) {
        unsigned number;
        int n = 0;

        is_there |= sscanf(entry->d_name, "events-%6u.db%n", &number, &n) == 1 && n && !entry->d_name[n];
    }
    closedir(list);
    return is_there;
}

bool sqlite_has_peer(const char *dir)
{
    DIR *list = opendir(dir);
    bool is_there = false;

    if (!list)
        return false;
    for (const struct dirent *entry; (entry = readdir(list));) {
        uint64_t ms;

        is_there |= strcmp(entry->d_name, "data.db") == 0 || legacy_name_parse(entry->d_name, "", ".db", &ms);
    }
    closedir(list);
    return is_there;
}
