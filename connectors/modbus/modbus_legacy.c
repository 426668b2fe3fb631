/* SPDX-License-Identifier: Apache-2.0 */
/* Forms of the peer's older versions (modbus.md 1, 9). What is converted is converted in memory; the file is left alone. */
#include "data/json.h"
#include "modbus_conf.h"
#include "modbus_fields.h"

void modbus_load_rpcs(struct conf_load *load, const struct conf_at *at, const struct yyjson_val *raw, const char *key,
                      const struct conf_type *type, struct conf_list *out)
{
    yyjson_val *val = (yyjson_val *)(uintptr_t)raw;
    const struct conf_at *list_at = conf_at_member(load, at, key, 0, raw);
    size_t index = 0;

    if (!val || yyjson_is_null(val))
        return;
    if (!yyjson_is_arr(val) && !yyjson_is_obj(val)) {
        conf_error(load, at, key, "expected a list of entries; it is not used");
        return;
    }
    out->items =
        arena_alloc(conf_arena(load),
                    ((yyjson_is_arr(val) ? yyjson_arr_size(val) : yyjson_obj_size(val)) + 1) * sizeof *out->items);
    if (yyjson_is_arr(val)) {
        yyjson_arr_iter iter = yyjson_arr_iter_with(val);

        for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)); index++) {
            const struct conf_at *item_at = conf_at_member(load, list_at, NULL, index, item);
            struct modbus_point *point = conf_load_val(load, type, item, item_at);

            if (point && !point->tag.n)
                conf_error(load, item_at, "tag", "missing; expected the name of the method; this entry is not used");
            else if (point)
                out->items[out->n++] = point;
        }
    } else {
        yyjson_obj_iter iter = yyjson_obj_iter_with(val);

        if (yyjson_obj_size(val))
            conf_note(load, at, key,
                      "is an object of method → entry; a list of entries with \"tag\" is the present form");
        for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter));) {
            yyjson_val *item = yyjson_obj_iter_get_val(name);
            const char *method = arena_text(conf_arena(load), json_str(name));
            struct modbus_point *point =
                conf_load_val(load, type, item, conf_at_member(load, list_at, method, 0, item));

            if (!point)
                continue;
            point->tag = str_from(method);
            out->items[out->n++] = point;
        }
    }
}

/* --- "server" with "devices" -------------------------------------------------------------------------------------------- */

struct server {
    struct conf_at at;
    struct modbus_wire wire;
    struct str name;
    struct conf_list devices;
};

static const struct field server_fields[] = {
    F_AT(struct server, at),
    MODBUS_WIRE_FIELDS(struct server),
    F_OBJECT(struct server, wire.tls, "tls", &modbus_tls_type, .doc = "Not empty: Modbus inside TLS."),
    F_STR(struct server, name, "name", .doc = "Accepted without effect."),
    F_LIST(struct server, devices, "devices", &modbus_former_slave_type, .need = true, .doc = "The devices."),
    F_END};
static const struct conf_type server_type = {.name = "modbus.server",
                                             .size = sizeof(struct server),
                                             .fields = server_fields,
                                             .doc =
                                                 "One connection and its devices, as files before version 3 have it."};

static bool is_falsy(const struct yyjson_val *raw)
{
    yyjson_val *val = (yyjson_val *)(uintptr_t)raw;
    double number;

    return !val || yyjson_is_null(val) || yyjson_is_false(val) ||
           (json_to_double(val, &number) == ERR_OK && number == 0) || (yyjson_is_str(val) && !json_str(val).n);
}

static void take_text(struct str *own, struct str servers)
{
    if (!own->n)
        *own = servers;
}

static void inherit(struct modbus_wire *own, const struct modbus_wire *server)
{
    take_text(&own->type, server->type);
    take_text(&own->method, server->method);
    take_text(&own->host, server->host);
    take_text(&own->port, server->port);
    take_text(&own->byte_order, server->byte_order);
    take_text(&own->word_order, server->word_order);
    take_text(&own->parity, server->parity);
    if (!own->tls)
        own->tls = server->tls;
    if (is_falsy(own->retries))
        own->retries = server->retries;
    if (!own->has_timeout)
        own->timeout_s = server->timeout_s;
    if (!own->has_baudrate)
        own->baudrate = server->baudrate;
    if (!own->has_bytesize)
        own->bytesize = server->bytesize;
    if (!own->has_stopbits)
        own->stopbits = server->stopbits;
}

void modbus_legacy_server(struct conf_load *load, const struct modbus_file *file, struct conf_list *slaves)
{
    struct server *server = conf_load_val(load, &server_type, file->server,
                                          conf_at_member(load, &file->common.at, "server", 0, file->server));
    void **items;

    if (!server)
        return;
    conf_warning(
        load, &file->common.at, "server",
        "former layout; \"master\": {\"slaves\": [...]} is the present one. It works, and the file stays as it is");
    items = arena_alloc(conf_arena(load), (slaves->n + server->devices.n + 1) * sizeof *items);
    if (slaves->n)
        memcpy(items, slaves->items, slaves->n * sizeof *items);
    slaves->items = items;
    for (size_t i = 0; i < server->devices.n; i++) {
        struct modbus_slave *slave = server->devices.items[i];

        inherit(&slave->wire, &server->wire);
        if (!slave->has_period && slave->has_period_old)
            slave->period_ms = slave->period_old_ms;
        else if (!slave->has_period && slave->has_attributes_period)
            slave->period_ms = slave->attributes_period_ms;
        if (modbus_slave_compile(load, slave) == ERR_OK)
            slaves->items[slaves->n++] = slave;
    }
}
