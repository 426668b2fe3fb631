/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_refused.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/json.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { CHECKSUM = 64, FILE_LIMIT = 4096 };
#define KEPT STR("general_configuration")

struct refusal {
    struct str attribute;
    char checksum[CHECKSUM + 1];
    char bytes[];
};

static void checksum_of(char *out, struct str json)
{
    autobuf struct buf hex = {0};

    digest_hex(&hex, DIGEST_SHA256, json.p, json.n);
    snprintf(out, CHECKSUM + 1, STR_FMT, STR_ARG(buf_str(&hex)));
}

static const char *note(struct refusals *refusals, struct str attribute, const char *checksum)
{
    struct refusal *refusal = mem_zero(sizeof *refusal + attribute.n);

    refusal->attribute = str_of(memcpy(refusal->bytes, attribute.p, attribute.n), attribute.n);
    snprintf(refusal->checksum, sizeof refusal->checksum, "%s", checksum);
    mem_free(map_put(&refusals->values, refusal->attribute, refusal));
    return refusal->checksum;
}

/* --- the file ------------------------------------------------------------------------------------------------------------- */

static void save(struct refusals *refusals);

static void write_file(void *arg)
{
    struct refusals *refusals = arg;

    refusals->why = (struct why){0};
    if (refusals->text.n) {
        if (file_put(refusals->path, refusals->text, FILE_REPLACE, NULL, &refusals->why))
            return; /* told of on the loop */
    } else if (unlink(refusals->path) && errno != ENOENT) {
        (void)why_set(&refusals->why, err_from_errno(errno), "%s: cannot be removed", refusals->path);
    }
}

static void written(void *arg)
{
    struct refusals *refusals = arg;

    refusals->is_writing = false;
    mem_free((char *)(uintptr_t)refusals->text.p);
    refusals->text = STR_NONE;
    if (refusals->why.err)
        LOG_WARN(refusals->log, "which configuration of the platform was refused is not known after a restart",
                 KV_WHY(&refusals->why));
    if (refusals->is_behind)
        save(refusals);
}

static void save(struct refusals *refusals)
{
    const struct refusal *refusal = map_get(&refusals->values, KEPT);
    autobuf struct buf text = {0};

    refusals->is_behind = refusals->is_writing;
    if (refusals->is_writing)
        return;
    if (refusal) {
        buf_add_u8(&text, '{');
        json_add_string(&text, KEPT);
        buf_printf(&text, ":\"%s\"}\n", refusal->checksum);
        refusals->text = str_of(memcpy(mem_new(text.n), text.p, text.n), text.n);
    }
    refusals->is_writing = true;
    work_start(&refusals->work, refusals->loop, write_file, written, refusals);
}

static void load(struct refusals *refusals)
{
    autobuf struct buf text = {0};
    yyjson_doc *doc =
        file_read(&text, refusals->path, FILE_LIMIT, NULL) ? NULL : yyjson_read((const char *)text.p, text.n, 0);
    const char *checksum = yyjson_get_str(json_get(yyjson_doc_get_root(doc), KEPT));

    if (checksum && strlen(checksum) == CHECKSUM)
        note(refusals, KEPT, checksum);
    yyjson_doc_free(doc);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

void refusals_init(struct refusals *refusals, struct loop *loop, struct log *log, const char *dir)
{
    autobuf struct buf path = {0};

    *refusals = (struct refusals){.loop = loop, .log = log};
    buf_printf(&path, "%s/.refused", dir);
    buf_add_u8(&path, 0);
    refusals->path = mem_dup((const char *)path.p);
    load(refusals);
}

void refusals_fini(struct refusals *refusals)
{
    for (struct map_slot *slot = NULL; (slot = map_next(&refusals->values, slot));)
        mem_free(slot->value);
    map_fini(&refusals->values);
    mem_free((char *)(uintptr_t)refusals->text.p);
    mem_free(refusals->path);
}

void refusals_note(struct refusals *refusals, struct str attribute, struct str json)
{
    char checksum[CHECKSUM + 1];

    checksum_of(checksum, json);
    note(refusals, attribute, checksum);
    if (str_eq(attribute, KEPT))
        save(refusals);
}

void refusals_forget(struct refusals *refusals, struct str attribute)
{
    struct refusal *refusal = map_del(&refusals->values, attribute);

    if (refusal && str_eq(attribute, KEPT))
        save(refusals);
    mem_free(refusal);
}

void refusals_keep(struct refusals *refusals, bool (*is_kept)(void *arg, struct str attribute), void *arg)
{
    for (bool is_found = true; is_found;) {
        is_found = false;
        for (struct map_slot *slot = NULL; !is_found && (slot = map_next(&refusals->values, slot));)
            if (!is_kept(arg, slot->key)) {
                refusals_forget(refusals, slot->key);
                is_found = true;
            }
    }
}

bool refusals_know(const struct refusals *refusals, struct str attribute)
{
    return map_get(&refusals->values, attribute) != NULL;
}

bool refusals_has(const struct refusals *refusals, struct str attribute, struct str json)
{
    const struct refusal *refusal = map_get(&refusals->values, attribute);
    char checksum[CHECKSUM + 1];

    if (!refusal)
        return false;
    checksum_of(checksum, json);
    return strcmp(checksum, refusal->checksum) == 0;
}
