/* SPDX-License-Identifier: Apache-2.0 */
/* The telemetry that a platform took, a payload a line: written before it is acknowledged, so that one that is killed knows it again. */
#include "platform.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void take_again(struct platform *platform, char *line, size_t n)
{
    yyjson_doc *doc = yyjson_read(line, n, TALLY_READ);
    size_t i, i_max, j, j_max;
    yyjson_val *name, *entries, *entry;

    yyjson_obj_foreach(yyjson_doc_get_root(doc), i, i_max, name, entries)
    {
        struct tally_device *device =
            tally_device(&platform->tally, str_of(yyjson_get_str(name), yyjson_get_len(name)));

        yyjson_arr_foreach(entries, j, j_max, entry)
        {
            yyjson_val *ts = yyjson_obj_get(entry, "ts"), *values = yyjson_obj_get(entry, "values");
            int64_t ts_ms = ts && yyjson_is_raw(ts) ? strtoll(yyjson_get_raw(ts), NULL, 10) : 0;

            tally_entry(&platform->tally, device, ts_ms, values ? values : entry, clock_mono_us());
        }
    }
    yyjson_doc_free(doc);
}

enum err platform_journal_open(struct platform *platform, const char *path, struct why *why)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    off_t end = 0;
    ssize_t n;

    while (file && (n = getline(&line, &cap, file)) > 0 && line[n - 1] == '\n') {
        take_again(platform, line, (size_t)n - 1);
        end += n;
    }
    free(line);
    if (file)
        fclose(file);
    platform->journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* A line without its end was never acknowledged. */
    return platform->journal < 0 || ftruncate(platform->journal, end)
               ? why_set(why, err_from_errno(errno), "%s: cannot be written", path)
               : ERR_OK;
}

void platform_journal_add(struct platform *platform, const struct mqtt_message *message)
{
    autobuf struct buf line = {0};

    buf_add(&line, message->payload, message->payload_n);
    buf_add_u8(&line, '\n');
    if (write(platform->journal, line.p, line.n) != (ssize_t)line.n)
        abort(); /* it would acknowledge what it does not keep */
}
