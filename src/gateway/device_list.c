/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/device_list.h"

#include "data/json.h"

#include <stdlib.h>

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct listed_device *)a)->name, ((const struct listed_device *)b)->name);
}

static void add_member(struct buf *out, const char *name, struct str value, bool is_text)
{
    buf_printf(out, "    \"%s\": ", name);
    if (is_text)
        json_add_string(out, value);
    else
        buf_add_str(out, value);
}

void device_list_write(struct buf *out, struct listed_device *devices, size_t n)
{
    if (n)
        qsort(devices, n, sizeof *devices, by_name);
    buf_add_u8(out, '{');
    for (size_t i = 0; i < n; i++) {
        const struct listed_device *device = &devices[i];

        buf_add_z(out, i ? ",\n  " : "\n  ");
        json_add_string(out, device->name);
        buf_add_z(out, ": {\n");
        add_member(out, "connectorId", device->connector_id, true);
        buf_add_z(out, ",\n");
        add_member(out, "connectorName", device->connector_name, true);
        buf_add_z(out, ",\n");
        add_member(out, "deviceType", device->profile, true);
        buf_add_z(out, ",\n");
        add_member(out, "disconnected", device->is_disconnected ? STR("true") : STR("false"), false);
        buf_add_z(out, ",\n");
        add_member(out, "renaming", device->renaming.n ? device->renaming : STR("null"), device->renaming.n > 0);
        buf_add_z(out, "\n  }");
    }
    buf_add_z(out, n ? "\n}\n" : "}\n");
}

static struct str member(yyjson_val *object, const char *name)
{
    return json_str(json_get(object, str_from(name)));
}

/* [connector's name, profile] and [connector's name, profile, new name] */
static bool read_array(yyjson_val *value, struct listed_device *out)
{
    if (!yyjson_is_str(yyjson_arr_get(value, 0)))
        return false;
    out->connector_name = json_str(yyjson_arr_get(value, 0));
    out->profile = json_str(yyjson_arr_get(value, 1));
    out->renaming = json_str(yyjson_arr_get(value, 2));
    return true;
}

static bool read_object(yyjson_val *value, struct listed_device *out)
{
    out->connector_id = member(value, "connectorId");
    out->connector_name = member(value, "connectorName");
    out->profile = member(value, "deviceType");
    out->renaming = member(value, "renaming");
    out->is_disconnected = yyjson_get_bool(json_get(value, STR("disconnected")));
    return out->connector_id.n || out->connector_name.n || out->renaming.n;
}

static enum err read_all(yyjson_val *root, void (*fn)(void *arg, const struct listed_device *device),
                         void (*problem)(void *arg, struct str name), void *arg, struct why *why)
{
    size_t i, max;
    yyjson_val *key, *value;

    if (!yyjson_is_obj(root))
        return why_set(why, ERR_SYNTAX, "expected an object of devices");
    yyjson_obj_foreach(root, i, max, key, value)
    {
        if (yyjson_is_str(value))
            return why_set(why, ERR_SYNTAX, "it has a form that is too old: the devices' values are texts");
    }
    yyjson_obj_foreach(root, i, max, key, value)
    {
        struct listed_device device = {.name = json_str(key)};

        if (yyjson_is_arr(value) ? read_array(value, &device) : yyjson_is_obj(value) && read_object(value, &device))
            fn(arg, &device);
        else
            problem(arg, device.name);
    }
    return ERR_OK;
}

enum err device_list_read(struct str text, void (*fn)(void *arg, const struct listed_device *device),
                          void (*problem)(void *arg, struct str name), void *arg, struct why *why)
{
    yyjson_doc *doc = json_read(text, why);
    enum err err = doc ? read_all(yyjson_doc_get_root(doc), fn, problem, arg, why) : ERR_SYNTAX;

    yyjson_doc_free(doc);
    return err;
}
