/* SPDX-License-Identifier: Apache-2.0 */
/* Forms of the peer's older versions (modbus.md 1, 9). What is converted is converted in memory; the file is left alone. */
#include "data/json.h"
#include "modbus_conf.h"
#include "modbus_fields.h"

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
