/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"
#include "store/legacy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static const char *const names[] = {"state_file.txt", "state_file.txt.new", "data_1.txt", "data_2.txt"};
static struct log quiet;
static struct legacy_chunk chunk;

static void path_of(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
}

static bool put(const char *name, struct str text)
{
    char path[128];

    path_of(name, path);
    return file_put(path, text, FILE_REPLACE, NULL, NULL) == ERR_OK;
}

static void remove_folder(void)
{
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[128];

        path_of(names[i], path);
        unlink(path);
    }
    rmdir(folder);
}

static bool make_folder(void)
{
    if (!*folder) {
        log_init(&quiet, "storage", LOG_LEVEL_OFF);
        atexit(remove_folder);
    }
    snprintf(folder, sizeof folder, "%s/iotgw-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(folder) != NULL;
}

static struct legacy *begin(void)
{
    struct legacy *legacy;

    FUZZ_CHECK(legacy_files_open(&legacy, folder, "", &quiet, NULL) == ERR_OK && legacy);
    return legacy;
}

struct content { /* of what was read */
    uint64_t n_chunks, n_items;
    uint32_t sum; /* of all items */
};

/* All that is left to be read; passes_first: but for what the first chunk holds. */
static struct content read_all(struct legacy *legacy, bool passes_first)
{
    struct content content = {0};

    for (;;) {
        FUZZ_CHECK(legacy_read(legacy, &chunk, NULL) == ERR_OK);
        if (!chunk.n_items)
            return content;
        content.n_chunks++;
        FUZZ_CHECK(content.n_chunks < LEGACY_AHEAD && chunk.n_items <= LEGACY_ITEMS);
        for (size_t i = 0; i < chunk.n_items; i++) {
            FUZZ_CHECK(chunk.items[i].at + chunk.items[i].n <= chunk.bytes.n);
            if (passes_first && content.n_chunks == 1)
                continue;
            content.n_items++;
            content.sum = crc32c(content.sum, chunk.bytes.p + chunk.items[i].at, chunk.items[i].n);
        }
    }
}

/*
 * A position and two files of events, of any bytes: reading ends, gives the same each time, and behind what is said to be done
 * only the rest; when all is done nothing is left.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, state = fuzz_part(&rest), first = str_cut(rest, rest.n / 2);
    struct content all, again;
    struct legacy *legacy;

    if (!make_folder())
        return 0;
    FUZZ_CHECK(put("state_file.txt", state) && put("data_1.txt", first) && put("data_2.txt", str_skip(rest, first.n)));
    legacy = begin();
    all = read_all(legacy, true);
    legacy_free(legacy);
    legacy = begin();
    if (all.n_chunks > 1) {
        FUZZ_CHECK(legacy_read(legacy, &chunk, NULL) == ERR_OK && chunk.n_items);
        FUZZ_CHECK(legacy_done(legacy, chunk.number, NULL) == ERR_OK);
        legacy_free(legacy); /* killed */
        legacy = begin();
        again = read_all(legacy, false);
        FUZZ_CHECK(again.n_chunks == all.n_chunks - 1 && again.n_items == all.n_items && again.sum == all.sum);
    } else {
        again = read_all(legacy, true);
        FUZZ_CHECK(again.n_chunks == all.n_chunks);
    }
    FUZZ_CHECK(legacy_done(legacy, again.n_chunks, NULL) == ERR_OK);
    FUZZ_CHECK(legacy_finish(legacy, NULL) == ERR_OK);
    legacy_free(legacy);
    FUZZ_CHECK(rmdir(folder) == 0);
    return 0;
}
