/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the Modbus connector's file (modbus.md 1, 2), and what is compiled of a device when it is loaded. */
#include "modbus_conf.h"

#include "base/map.h"
#include "data/json.h"
#include "modbus_fields.h"

enum {
    PORT = 502,
    PORT_TLS = 802,
    UNIT_MAX = 255,
    RETRIES = 3,
    RETRIES_MAX = 100,
    PAUSE_MIN_MS = 500,
    ATTEMPTS_MIN = 2,
    FAILED_PAUSE_MIN_MS = 1000
};

/* --- connections -------------------------------------------------------------------------------------------------------- */

static const struct field tls_fields[] = {
    F_STR(struct modbus_tls, cert, "certfile", .doc = "The gateway's own certificate, PEM."),
    F_STR(struct modbus_tls, key, "keyfile", .doc = "Its key, PEM."),
    F_SECRET(struct modbus_tls, password, "password", .doc = "Of the key."),
    F_STR(struct modbus_tls, ca, "caCert", .doc = "Whom to trust, PEM. Not in the peer."),
    F_BOOL(struct modbus_tls, verify, "verify",
           .doc = "The server's certificate and its name are checked. Not in the peer."),
    F_STR(struct modbus_tls, server_name, "serverName",
          .doc = "The name that the certificate must have; absent: host. Not in the peer."),
    F_END};
const struct conf_type modbus_tls_type = {
    .name = "modbus.tls", .size = sizeof(struct modbus_tls), .fields = tls_fields, .doc = "Modbus inside TLS."};

static enum err compile_type(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    static const struct {
        const char *name;
        enum modbus_medium medium;
    } media[] = {
        {"tcp", MODBUS_OVER_TCP}, {"udp", MODBUS_OVER_UDP}, {"serial", MODBUS_OVER_SERIAL}, {"tls", MODBUS_OVER_TCP}};
    static const char *const methods[] = {"socket", "rtu", "ascii", "tls"};
    struct str type = wire->type.n ? wire->type : STR("tcp");
    size_t i = 0, k = 0;

    while (i < COUNT_OF(media) && !str_eq_nocase(type, str_from(media[i].name)))
        i++;
    if (i == COUNT_OF(media)) {
        conf_error(load, at, "type",
                   "found \"" STR_FMT "\", expected \"tcp\", \"udp\" or \"serial\"; this entry is not used",
                   STR_ARG(type));
        return ERR_CONFIG;
    }
    wire->medium = media[i].medium;
    while (k < COUNT_OF(methods) && wire->method.n && !str_eq_nocase(wire->method, str_from(methods[k])))
        k++;
    if (!wire->method.n)
        k = wire->medium == MODBUS_OVER_SERIAL ? MODBUS_FRAMED_RTU : MODBUS_FRAMED_SOCKET;
    if (k == COUNT_OF(methods)) {
        conf_error(load, at, "method",
                   "found \"" STR_FMT "\", expected \"socket\", \"rtu\", \"ascii\" or \"tls\"; this entry is not used",
                   STR_ARG(wire->method));
        return ERR_CONFIG;
    }
    wire->framing = (enum modbus_method)k;
    if (wire->medium == MODBUS_OVER_SERIAL && k != MODBUS_FRAMED_RTU && k != MODBUS_FRAMED_ASCII) {
        conf_error(load, at, "method",
                   "found \"%s\", which is for tcp; expected \"rtu\" or \"ascii\" with type serial; "
                   "this entry is not used",
                   methods[k]);
        return ERR_CONFIG;
    }
    if (i == 3 && k == MODBUS_FRAMED_SOCKET)
        wire->framing = MODBUS_FRAMED_TLS;
    return ERR_OK;
}

static bool has_tls(const struct modbus_tls *tls)
{
    return tls &&
           (tls->cert.n || tls->key.n || tls->ca.n || tls->verify || tls->server_name.n || tls->password.value.n);
}

static enum err compile_tls(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    if (has_tls(wire->tls) && wire->medium == MODBUS_OVER_TCP && wire->framing == MODBUS_FRAMED_SOCKET)
        wire->framing = MODBUS_FRAMED_TLS;
    if (wire->framing == MODBUS_FRAMED_TLS && wire->medium != MODBUS_OVER_TCP) {
        conf_error(load, at, "method", "found \"tls\", which needs type tcp; this entry is not used");
        return ERR_CONFIG;
    }
    if (has_tls(wire->tls) && wire->framing != MODBUS_FRAMED_TLS)
        conf_warning(load, at, "tls", "has no effect: it is for type tcp with method socket or tls");
    return ERR_OK;
}

static enum err compile_place(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    struct str port = str_trim(wire->port);
    uint64_t number = wire->framing == MODBUS_FRAMED_TLS ? PORT_TLS : PORT;

    if (wire->medium == MODBUS_OVER_SERIAL) {
        wire->link = arena_str(conf_arena(load), port);
        if (!port.n)
            conf_error(load, at, "port", "missing; expected the path of the serial port; this entry is not used");
        return port.n ? ERR_OK : ERR_CONFIG;
    }
    if (!wire->host.n) {
        conf_error(load, at, "host", "missing; expected the address or name of the device; this entry is not used");
        return ERR_CONFIG;
    }
    if (port.n && (str_to_u64(port, &number) != ERR_OK || number > UINT16_MAX)) {
        conf_error(load, at, "port", "found \"" STR_FMT "\", expected a number from 0 to 65535; this entry is not used",
                   STR_ARG(port));
        return ERR_CONFIG;
    }
    wire->port_number = (uint16_t)number;
    wire->link = arena_printf(conf_arena(load), "%s://" STR_FMT ":%u", wire->medium == MODBUS_OVER_UDP ? "udp" : "tcp",
                              STR_ARG(wire->host), wire->port_number);
    return ERR_OK;
}

static enum err compile_retries(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    yyjson_val *val = (yyjson_val *)(uintptr_t)wire->retries;
    int64_t n = RETRIES;

    if (yyjson_is_bool(val)) {
        n = yyjson_get_bool(val) ? RETRIES : 0;
    } else if (val && !yyjson_is_null(val) && (json_to_i64(val, &n) != ERR_OK || n < 0 || n > RETRIES_MAX)) {
        conf_error(load, at, "retries", "expected a whole number from 0 to %d, true or false; this entry is not used",
                   RETRIES_MAX);
        return ERR_CONFIG;
    }
    wire->n_retries = (uint32_t)n;
    return ERR_OK;
}

/* Anything but BIG is little. */
static bool is_little(struct conf_load *load, const struct conf_at *at, const char *key, struct str order)
{
    if (str_eq_nocase(order, STR("BIG")))
        return false;
    if (!order.n)
        conf_note(load, at, key, "absent, so it is LITTLE; most devices need BIG: with LITTLE 0x0100 is read as 1");
    else if (!str_eq_nocase(order, STR("LITTLE")))
        conf_warning(load, at, key, "found \"" STR_FMT "\", expected \"BIG\" or \"LITTLE\"; it counts as LITTLE",
                     STR_ARG(order));
    return true;
}

static enum err compile_line(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    struct str parity = str_trim(wire->parity);
    char c = parity.n ? (char)(parity.p[0] & ~0x20) : 'N';

    if (!strchr("NEOMS", c) || !c) {
        conf_error(load, at, "parity",
                   "found \"" STR_FMT "\", expected \"N\", \"E\", \"O\", \"M\" or \"S\"; this entry "
                   "is not used",
                   STR_ARG(parity));
        return ERR_CONFIG;
    }
    wire->parity_char = c;
    wire->half_stopbits = (uint8_t)(wire->stopbits * 2 + 0.5);
    if (wire->half_stopbits < 2 || wire->half_stopbits > 4 || wire->half_stopbits != wire->stopbits * 2) {
        conf_error(load, at, "stopbits", "expected 1, 1.5 or 2; this entry is not used");
        return ERR_CONFIG;
    }
    return ERR_OK;
}

static void raise_to(struct conf_load *load, const struct conf_at *at, const char *key, uint32_t *value, uint32_t least)
{
    if (*value >= least)
        return;
    conf_note(load, at, key, "found %u; at least %u is used", *value, least);
    *value = least;
}

enum err modbus_wire_compile(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at)
{
    if (compile_type(load, wire, at) != ERR_OK || compile_tls(load, wire, at) != ERR_OK ||
        compile_place(load, wire, at) != ERR_OK || compile_retries(load, wire, at) != ERR_OK ||
        compile_line(load, wire, at) != ERR_OK)
        return ERR_CONFIG;
    wire->timeout_ms = (uint32_t)(wire->timeout_s * 1000 + 0.5);
    wire->byte_little = is_little(load, at, "byteOrder", wire->byte_order);
    wire->word_little = is_little(load, at, "wordOrder", wire->word_order);
    raise_to(load, at, "connectAttemptTimeMs", &wire->attempt_pause_ms, PAUSE_MIN_MS);
    raise_to(load, at, "connectAttemptCount", &wire->attempts, ATTEMPTS_MIN);
    raise_to(load, at, "waitAfterFailedAttemptsMs", &wire->failed_pause_ms, FAILED_PAUSE_MIN_MS);
    return ERR_OK;
}

/* --- devices ------------------------------------------------------------------------------------------------------------ */

#define SLAVE_FIELDS                                                                                                   \
    F_AT(struct modbus_slave, at), MODBUS_WIRE_FIELDS(struct modbus_slave),                                            \
        F_OBJECT(struct modbus_slave, wire.tls, "tls", &modbus_tls_type, .doc = "Not empty: Modbus inside TLS."),      \
        F_UINT(struct modbus_slave, unit, "unitId", .def = 1, .max = UNIT_MAX, .strict = true,                         \
               .doc = "Address of the device; 0 is broadcast on a serial line, where writes get no answer."),          \
        F_STR(struct modbus_slave, device_name, "deviceName", .need = true, .min = 1,                                  \
              .doc = "The device's name on the platform."),                                                            \
        F_STR(struct modbus_slave, device_type, "deviceType", .def_str = "default", .doc = "Its profile."),            \
        F_BOOL(struct modbus_slave, repack, "repack",                                                                  \
               .doc = "Each register that is written is swapped once more if byteOrder is LITTLE."),                   \
        F_REPORT_STRATEGY(struct modbus_slave, report),                                                                \
        F_STR(struct modbus_slave, uplink_converter, "uplink_converter", .doc = "Class of an extension."),             \
        F_STR(struct modbus_slave, downlink_converter, "downlink_converter", .doc = "Class of an extension."),         \
        F_BOOL(struct modbus_slave, on_change, "sendDataOnlyOnChange",                                                 \
               .doc = "true without a reportStrategy: ON_CHANGE."),                                                    \
        F_BOOL(struct modbus_slave, retry_on_empty, "retryOnEmpty", .doc = "Accepted without effect."),                \
        F_BOOL(struct modbus_slave, retry_on_invalid, "retryOnInvalid", .doc = "Accepted without effect."),            \
        F_BOOL(struct modbus_slave, strict, "strict", .doc = "Accepted without effect."),                              \
        F_UINT(struct modbus_slave, max_gap, "maxGap", .def = 8, .max = MODBUS_READ_REGISTERS_MAX,                     \
               .doc = "Registers nobody asked for that one request may read between two values; coils: twice that. "   \
                      "Not in the peer."),                                                                             \
        F_UINT(struct modbus_slave, max_registers, "maxRegistersPerRequest", .def = MODBUS_READ_REGISTERS_MAX,         \
               .min = 1, .max = MODBUS_READ_REGISTERS_MAX, .doc = "Registers in one request. Not in the peer."),       \
        F_UINT(struct modbus_slave, max_bits, "maxBitsPerRequest", .def = MODBUS_READ_BITS_MAX, .min = 1,              \
               .max = MODBUS_READ_BITS_MAX, .doc = "Coils or inputs in one request. Not in the peer."),                \
        F_BOOL(struct modbus_slave, merges, "mergeReads", .def = true,                                                 \
               .doc = "false: one request for each value. Not in the peer."),                                          \
        F_LIST(struct modbus_slave, attributes, "attributes", &modbus_point_type,                                      \
               .doc = "Values polled as attributes."),                                                                 \
        F_LIST(struct modbus_slave, timeseries, "timeseries", &modbus_point_type,                                      \
               .doc = "Values polled as telemetry."),                                                                  \
        F_LIST(struct modbus_slave, updates, "attributeUpdates", &modbus_update_type,                                  \
               .doc = "What is written when the platform changes an attribute."),                                      \
        F_LIST(struct modbus_slave, rpcs, "rpc", &modbus_rpc_type, .named = "tag",                                     \
               .doc = "What is read or written when the platform calls the device. Formerly an object of method and "  \
                      "entry.")

#define F_PERIOD(T, m, k, ...)                                                                                         \
    F_MS(T, m, k, .def = 5000, .min = 1, .max = MODBUS_PERIOD_MAX_MS, .strict = true, ##__VA_ARGS__)

static const struct field slave_fields[] = {
    SLAVE_FIELDS,
    F_PERIOD(struct modbus_slave, period_ms, "pollPeriod", .doc = "From the start of a poll to the start of the next."),
    F_MS(struct modbus_slave, attributes_period_ms, "attributesPollPeriod", .doc = "Accepted without effect."), F_END};

static enum err check_slave(struct conf_load *load, void *object, const struct conf_at *at)
{
    (void)at;
    return modbus_slave_compile(load, object);
}

const struct conf_type modbus_slave_type = {.name = "modbus.master.slave",
                                            .size = sizeof(struct modbus_slave),
                                            .fields = slave_fields,
                                            .check = check_slave,
                                            .doc = "A device that is polled and written."};

/* Compiled when what it inherits is known. */
static const struct field former_slave_fields[] = {
    SLAVE_FIELDS,
    F_PERIOD(struct modbus_slave, period_ms, "pollPeriod", .has_offset = offsetof(struct modbus_slave, has_period),
             .doc = "From the start of a poll to the start of the next."),
    F_PERIOD(struct modbus_slave, period_old_ms, "timeseriesPollPeriod",
             .has_offset = offsetof(struct modbus_slave, has_period_old), .doc = "Former name of pollPeriod."),
    F_PERIOD(struct modbus_slave, attributes_period_ms, "attributesPollPeriod",
             .has_offset = offsetof(struct modbus_slave, has_attributes_period),
             .doc = "Used where timeseriesPollPeriod is absent."),
    F_END};
const struct conf_type modbus_former_slave_type = {.name = "modbus.server.device",
                                                   .size = sizeof(struct modbus_slave),
                                                   .fields = former_slave_fields,
                                                   .doc = "A device, as files before version 3 have it."};

static const struct field master_fields[] = {
    F_LIST(struct modbus_master, slaves, "slaves", &modbus_slave_type, .doc = "The devices."), F_END};
static const struct conf_type master_type = {.name = "modbus.master",
                                             .size = sizeof(struct modbus_master),
                                             .fields = master_fields,
                                             .doc = "The gateway asks devices."};

static bool is_built_in(struct str converter)
{
    return !converter.n || str_eq_nocase(converter, STR("BytesModbusUplinkConverter")) ||
           str_eq_nocase(converter, STR("BytesModbusDownlinkConverter"));
}

static void compile_reads(struct conf_load *load, struct modbus_slave *slave)
{
    const struct conf_list *lists[] = {&slave->attributes, &slave->timeseries};
    static const uint8_t kinds[] = {RECORD_ATTRIBUTES, RECORD_TELEMETRY};
    size_t n = 0;

    for (size_t l = 0; l < COUNT_OF(lists); l++)
        for (size_t i = 0; i < lists[l]->n; i++)
            n += modbus_point_values(lists[l]->items[i]);
    slave->reads = arena_zero(conf_arena(load), (n + 1) * sizeof *slave->reads);
    for (size_t l = 0; l < COUNT_OF(lists); l++) {
        for (size_t i = 0; i < lists[l]->n; i++) {
            struct modbus_point *point = lists[l]->items[i];

            modbus_orders(&point->shape, &slave->wire, slave->repack);
            slave->n_reads += modbus_point_reads(load, point, slave->unit, kinds[l], slave->reads + slave->n_reads);
        }
    }
    slave->keys_unique = modbus_keys_unique(slave->reads, slave->n_reads);
}

static uint32_t period_of(const struct modbus_slave *slave, const struct modbus_read *read)
{
    return read->point->has_period ? read->point->period_ms : slave->period_ms;
}

static bool has_beat(const struct modbus_slave *slave, uint32_t period_ms)
{
    for (size_t i = 0; i < slave->n_beats; i++)
        if (slave->beats[i].period_ms == period_ms)
            return true;
    return false;
}

/* The reads of each period together, the device's own first, the others as they come. */
static void compile_beats(struct conf_load *load, struct modbus_slave *slave)
{
    struct modbus_read *reads = arena_alloc(conf_arena(load), (slave->n_reads + 1) * sizeof *reads);
    size_t n = 0;

    slave->beats = arena_zero(conf_arena(load), (slave->n_reads + 1) * sizeof *slave->beats);
    slave->n_beats = 1;
    slave->beats[0].period_ms = slave->period_ms;
    for (size_t i = 0; i < slave->n_reads; i++)
        if (!has_beat(slave, period_of(slave, &slave->reads[i])))
            slave->beats[slave->n_beats++].period_ms = period_of(slave, &slave->reads[i]);
    for (size_t b = 0; b < slave->n_beats; b++) {
        struct modbus_beat *beat = &slave->beats[b];

        beat->reads = reads + n;
        for (size_t i = 0; i < slave->n_reads; i++)
            if (period_of(slave, &slave->reads[i]) == beat->period_ms)
                reads[n++] = slave->reads[i];
        beat->n_reads = (size_t)(reads + n - beat->reads);
    }
    slave->reads = reads;
}

static void set_orders(const struct modbus_slave *slave, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        modbus_orders(&((struct modbus_point *)list->items[i])->shape, &slave->wire, slave->repack);
}

static void drop_nameless(struct conf_load *load, struct conf_list *rpcs)
{
    size_t n = 0;

    for (size_t i = 0; i < rpcs->n; i++) {
        const struct modbus_point *point = rpcs->items[i];

        if (point->tag.n)
            rpcs->items[n++] = rpcs->items[i];
        else
            conf_error(load, &point->at, "tag", "missing; expected the name of the method; this entry is not used");
    }
    rpcs->n = n;
}

enum err modbus_slave_compile(struct conf_load *load, struct modbus_slave *slave)
{
    struct why why = {0};

    if (device_name_check(slave->device_name, &why) != ERR_OK) {
        conf_error(load, &slave->at, "deviceName", "%s; this entry is not used", why_text(&why));
        return ERR_CONFIG;
    }
    if (!is_built_in(slave->uplink_converter) || !is_built_in(slave->downlink_converter)) {
        conf_error(load, &slave->at, is_built_in(slave->uplink_converter) ? "downlink_converter" : "uplink_converter",
                   "extensions are not supported in this version: this entry is left out, the others work");
        return ERR_CONFIG;
    }
    if (modbus_wire_compile(load, &slave->wire, &slave->at) != ERR_OK)
        return ERR_CONFIG;
    if (slave->on_change && !slave->report)
        slave->report = &report_on_change;
    drop_nameless(load, &slave->rpcs);
    set_orders(slave, &slave->updates);
    set_orders(slave, &slave->rpcs);
    if (slave->unit == 0 && slave->wire.medium == MODBUS_OVER_SERIAL && slave->attributes.n + slave->timeseries.n)
        conf_warning(load, &slave->at, "unitId", "0 is broadcast, which nobody answers: nothing can be read");
    compile_reads(load, slave);
    compile_beats(load, slave);
    return ERR_OK;
}

/* --- shared connections ------------------------------------------------------------------------------------------------- */

static const char *difference(const struct modbus_wire *a, const struct modbus_wire *b)
{
    if (a->framing != b->framing)
        return "method";
    if (a->medium == MODBUS_OVER_SERIAL) {
        if (a->baudrate != b->baudrate)
            return "baudrate";
        if (a->bytesize != b->bytesize)
            return "bytesize";
        if (a->parity_char != b->parity_char)
            return "parity";
        if (a->half_stopbits != b->half_stopbits)
            return "stopbits";
        if (a->local_echo != b->local_echo)
            return "handleLocalEcho";
    }
    if (a->framing == MODBUS_FRAMED_TLS &&
        (!a->tls != !b->tls || (a->tls && (a->tls->verify != b->tls->verify || !str_eq(a->tls->cert, b->tls->cert) ||
                                           !str_eq(a->tls->ca, b->tls->ca)))))
        return "tls";
    if (a->delay_ms != b->delay_ms)
        return "delayBetweenRequestsMs";
    return NULL;
}

/* The first with a connection says how it is made. */
static void share(struct conf_load *load, struct modbus_file *file)
{
    struct map links = {0};

    for (size_t i = 0; i < file->slaves.n; i++) {
        struct modbus_slave *slave = file->slaves.items[i];
        struct modbus_slave *first = map_get(&links, slave->wire.link);
        const char *key = first ? difference(&first->wire, &slave->wire) : NULL;

        if (!first)
            map_put(&links, slave->wire.link, first = slave);
        if (key)
            conf_warning(load, &slave->at, key,
                         "differs from %s, which has the same connection and comes first: that "
                         "one's counts",
                         first->at.path);
        slave->carrier = first;
        first->carried.n++;
    }
    for (size_t i = 0; i < file->slaves.n; i++) {
        struct modbus_slave *slave = file->slaves.items[i];

        if (slave->carrier != slave)
            continue;
        slave->carried.items = arena_alloc(conf_arena(load), slave->carried.n * sizeof(void *));
        slave->carried.n = 0;
    }
    for (size_t i = 0; i < file->slaves.n; i++) {
        struct modbus_slave *slave = file->slaves.items[i];
        struct conf_list *carried = &((struct modbus_slave *)(uintptr_t)slave->carrier)->carried;

        carried->items[carried->n++] = slave;
    }
    map_fini(&links);
}

/* --- file --------------------------------------------------------------------------------------------------------------- */

static const struct field file_fields[] = {
    F_OBJECT(struct modbus_file, master, "master", &master_type, .doc = "Devices that are polled."),
    F_OBJECT(struct modbus_file, own, "slave", &modbus_own_type, .skip = true,
             .has_offset = offsetof(struct modbus_file, has_own), .doc = "The gateway serves values to others."),
    F_JSON(struct modbus_file, server, "server",
           .doc = "Former layout, in place of master: one connection and its devices."),
    F_END};

static enum err check_file(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct modbus_file *file = object;

    if (file->master)
        file->slaves = file->master->slaves;
    if (file->server)
        modbus_legacy_server(load, file, &file->slaves);
    if (!file->master && !file->server && !file->has_own) {
        conf_error(load, at, "master", "missing; expected \"master\" with \"slaves\", or \"slave\"");
        return ERR_CONFIG;
    }
    share(load, file);
    return ERR_OK;
}

const struct conf_type modbus_conf_type = {.name = "modbus",
                                           .size = sizeof(struct modbus_file),
                                           .fields = file_fields,
                                           .check = check_file,
                                           .base = &connector_common_type,
                                           .doc =
                                               "Modbus devices over TCP, UDP, TLS or serial lines, as master; and the "
                                               "gateway as a slave."};
