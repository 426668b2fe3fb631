/* SPDX-License-Identifier: Apache-2.0 */
/* Where a value stands: file, line, column and path, or what goes before the file. */
#include "conf/load.h"

static bool is_plain_key(struct str key)
{
    for (size_t i = 0; i < key.n; i++) {
        char c = key.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
              c == '$'))
            return false;
    }
    return key.n > 0;
}

const struct conf_at *where_at(struct conf_load *load, const struct where *where)
{
    struct conf_at *at = arena_zero(&load->conf->arena, sizeof *at);
    autobuf struct buf path = {0};

    *at = *where->parent;
    buf_add_z(&path, at->path);
    if (!where->key.p) {
        buf_printf(&path, "[%zu]", where->index);
    } else if (is_plain_key(where->key)) {
        buf_printf(&path, path.n ? ".%.*s" : "%.*s", (int)where->key.n, where->key.p);
    } else {
        buf_add_z(&path, "[");
        json_add_string(&path, where->key);
        buf_add_z(&path, "]");
    }
    at->path = arena_text(&load->conf->arena, buf_str(&path));
    if (where->origin) {
        at->file = where->origin;
        at->line = at->column = 0;
    } else if (where->val && load->conf->file && at->line) {
        struct json_pos pos = json_file_pos(load->conf->file, where->val);

        at->line = pos.line;
        at->column = pos.column;
    }
    return at;
}

void place_remember(struct conf_load *load, const struct conf_type *type, yyjson_val *val, const struct conf_at *at)
{
    if (load->n_places == load->cap_places) {
        load->cap_places = load->cap_places ? 2 * load->cap_places : 64;
        load->places = mem_grow(load->places, load->cap_places * sizeof *load->places);
    }
    load->places[load->n_places++] = (struct place){at->path, val, type};
}

bool conf_override_find(const struct conf_load *load, const struct conf_type *type, struct str key, struct where *where)
{
    bool found = false;

    for (size_t i = 0; i < load->n_overrides; i++) {
        const struct conf_override *override = &load->overrides[i];

        if (override->type != type || !str_eq_z(key, override->key))
            continue;
        where->val = load->override_vals[i]; /* the last one counts */
        where->origin = override->origin;
        found = true;
    }
    return found;
}

bool conf_has_overrides(const struct conf_load *load, const struct conf_type *type)
{
    for (size_t i = 0; i < load->n_overrides; i++)
        if (load->overrides[i].type == type)
            return true;
    return false;
}

/* The place of the member's value, or of the object when it is not there. */
struct conf_at conf_place(struct conf_load *load, const struct conf_at *at, const char *key)
{
    struct where where = {.parent = at, .key = str_from(key)};

    if (!key)
        return *at;
    for (size_t i = load->n_places; i-- > 0;) {
        const struct place *place = &load->places[i];

        if (place->path != at->path)
            continue;
        where.val = json_get(place->val, where.key);
        conf_override_find(load, place->type, where.key, &where);
        break;
    }
    return *where_at(load, &where);
}
