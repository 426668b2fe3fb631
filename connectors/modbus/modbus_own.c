/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway as a server: the keys of "slave" (modbus.md 10). */
#include "data/json.h"
#include "modbus_conf.h"
#include "modbus_fields.h"

const char *const modbus_area_names[MODBUS_AREAS] = {"coils", "discrete_inputs", "input_registers",
                                                     "holding_registers"};

unsigned modbus_area_read(enum modbus_area area)
{
    static const unsigned codes[MODBUS_AREAS] = {MODBUS_READ_COILS, MODBUS_READ_DISCRETE, MODBUS_READ_INPUT,
                                                 MODBUS_READ_HOLDING};

    return codes[area];
}

unsigned modbus_area_write(enum modbus_area area, uint32_t n)
{
    if (modbus_area_is_bits(area))
        return n > 1 ? MODBUS_WRITE_COILS : MODBUS_WRITE_COIL;
    return MODBUS_WRITE_REGISTERS;
}

static const struct field section_fields[] = {
    F_LIST(struct modbus_section, attributes, "attributes", &modbus_served_type, .doc = "Reported as attributes."),
    F_LIST(struct modbus_section, timeseries, "timeseries", &modbus_served_type, .doc = "Reported as telemetry."),
    F_LIST(struct modbus_section, updates, "attributeUpdates", &modbus_served_down_type,
           .doc = "Changed when the platform changes an attribute."),
    F_LIST(struct modbus_section, rpcs, "rpc", &modbus_served_down_type,
           .doc = "Read or changed when the platform calls the device."),
    F_END};
static enum err section_of_list(struct conf_load *load, void *object, const struct yyjson_val *val,
                                const struct conf_at *at);
static const struct conf_type section_type = {.name = "modbus.values.area",
                                              .size = sizeof(struct modbus_section),
                                              .fields = section_fields,
                                              .from_other = section_of_list,
                                              .doc =
                                                  "What one area holds. With an entry it serves exactly the addresses "
                                                  "of its entries; without any, all 65536 as 0."};

/* Formerly a list of one. */
static enum err section_of_list(struct conf_load *load, void *object, const struct yyjson_val *raw,
                                const struct conf_at *at)
{
    yyjson_val *val = (yyjson_val *)(uintptr_t)raw, *first = yyjson_arr_get_first(val);
    struct modbus_section *made;

    if (!yyjson_is_arr(val) || yyjson_arr_size(val) > 1 || (first && !yyjson_is_obj(first)))
        return ERR_TYPE;
    made = conf_load_val(load, &section_type, first, conf_at_member(load, at, NULL, 0, first));
    if (made)
        *(struct modbus_section *)object = *made;
    return ERR_OK;
}

#define F_AREA(index, key, text)                                                                                       \
    F_OBJECT(struct modbus_values, areas[index], key, &section_type, .skip = true, .doc = text)
static const struct field values_fields[] = {
    F_AREA(MODBUS_HOLDING, "holding_registers", "Read and written by masters."),
    F_AREA(MODBUS_INPUT, "input_registers", "Read by masters."),
    F_AREA(MODBUS_COILS, "coils_initializer", "Read and written by masters."),
    F_AREA(MODBUS_DISCRETE, "discrete_inputs", "Read by masters."), F_END};
static const struct conf_type values_type = {
    .name = "modbus.values", .size = sizeof(struct modbus_values), .fields = values_fields, .doc = "What is served."};

static const struct field identity_fields[] = {
    F_STR(struct modbus_identity, vendor_name, "vendorName"),
    F_STR(struct modbus_identity, product_code, "productCode"),
    F_STR(struct modbus_identity, vendor_url, "vendorUrl"),
    F_STR(struct modbus_identity, product_name, "productName"),
    F_STR(struct modbus_identity, model_name, "modelName"),
    F_STR(struct modbus_identity, model_name_old, "ModelName", .doc = "Other spelling of modelName."),
    F_END};
static const struct conf_type identity_type = {.name = "modbus.identity",
                                               .size = sizeof(struct modbus_identity),
                                               .fields = identity_fields,
                                               .doc = "What the server says of itself (function 43/14)."};

static const struct field own_fields[] = {
    F_AT(struct modbus_own, at),
    MODBUS_WIRE_FIELDS(struct modbus_own),
    F_OBJECT(struct modbus_own, security, "security", &modbus_tls_type, .doc = "TLS, with type tls or tcp."),
    F_UINT(struct modbus_own, unit, "unitId", .def = 1, .max = 255, .doc = "The server's address."),
    F_BOOL(struct modbus_own, strict_unit, "strictUnitId",
           .doc = "Only requests for unitId are answered. Not in the peer."),
    F_STR(struct modbus_own, device_name, "deviceName", .def_str = "Modbus Slave",
          .doc = "The platform's name of the device that stands for what is served."),
    F_STR(struct modbus_own, device_type, "deviceType", .def_str = "default", .doc = "Its profile."),
    F_MS(struct modbus_own, period_ms, "pollPeriod", .def = 5000, .min = 1, .max = 31 * 86400 * INT64_C(1000),
         .doc = "Between two reports of all values."),
    F_BOOL(struct modbus_own, sends_data, "sendDataToThingsBoard",
           .doc = "The server runs, and its values are reported. false: neither, see enabled."),
    F_BOOL(struct modbus_own, enabled, "enabled",
           .doc = "The server runs also if nothing is reported. Not in the peer."),
    F_BOOL(struct modbus_own, repack, "repack",
           .doc = "Each register of an initial value is swapped once more if byteOrder is LITTLE."),
    F_OBJECT(struct modbus_own, identity, "identity", &identity_type, .doc = "For function 43/14."),
    F_OBJECT(struct modbus_own, values, "values", &values_type, .need = true, .doc = "What is served."),
    F_REPORT_STRATEGY(struct modbus_own, report),
    F_END};

static enum err check_own(struct conf_load *load, void *object, const struct conf_at *at)
{
    (void)at;
    return modbus_own_compile(load, object);
}

const struct conf_type modbus_own_type = {.name = "modbus.slave",
                                          .size = sizeof(struct modbus_own),
                                          .fields = own_fields,
                                          .check = check_own,
                                          .doc = "The gateway serves values to Modbus masters, and is a device too."};

/* --- entries ------------------------------------------------------------------------------------------------------------ */

static uint32_t objects_of(const struct modbus_point *point, enum modbus_area area)
{
    uint32_t width = modbus_type_width(point->shape.type, modbus_area_is_bits(area));

    return point->count > width ? point->count : width;
}

/* False: left out. */
static bool compile_value(struct conf_load *load, const struct modbus_own *own, enum modbus_area area,
                          struct modbus_point *point, bool is_down)
{
    struct modbus_decoder decoder;
    struct modbus_shape shape;
    const char *key = NULL;
    struct why why = {0};
    unsigned becomes;
    enum err err;

    modbus_orders(&point->shape, &own->wire, own->repack);
    shape = point->shape;
    shape.function_code = modbus_area_read(area);
    err = modbus_decoder_make(&decoder, &shape, conf_arena(load), &key, &why);
    if (!err) {
        shape.function_code = modbus_area_write(area, point->count);
        err = modbus_encoder_check(&shape, &becomes, &key, &why);
    }
    if (err) {
        conf_error(load, &point->at, key, "%s; this entry is not used", why_text(&why));
        return false;
    }
    if (point->address + objects_of(point, area) > 65536u) {
        conf_error(load, &point->at, "address", "the value ends beyond 65535; this entry is not used");
        return false;
    }
    if (!is_down)
        point->function_code = modbus_area_read(area);
    else if (!point->has_function_code)
        point->function_code = modbus_area_write(area, point->count);
    point->shape.function_code = point->function_code;
    return true;
}

static void compile_list(struct conf_load *load, const struct modbus_own *own, enum modbus_area area,
                         struct conf_list *list, bool is_down)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++)
        if (compile_value(load, own, area, list->items[i], is_down))
            list->items[n++] = list->items[i];
    list->n = n;
}

static void add_reads(struct conf_load *load, struct modbus_own *own, bool is_attributes)
{
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        const struct modbus_section *section = own->values->areas[area];
        const struct conf_list *list;

        if (!section)
            continue;
        list = is_attributes ? &section->attributes : &section->timeseries;
        for (size_t i = 0; i < list->n; i++)
            own->n_reads +=
                modbus_point_reads(load, list->items[i], own->unit,
                                   is_attributes ? RECORD_ATTRIBUTES : RECORD_TELEMETRY, own->reads + own->n_reads);
    }
}

enum err modbus_own_compile(struct conf_load *load, struct modbus_own *own)
{
    struct why why = {0};
    size_t n = 0;

    if (device_name_check(own->device_name, &why) != ERR_OK) {
        conf_error(load, &own->at, "deviceName", "%s; nothing is served", why_text(&why));
        return ERR_CONFIG;
    }
    own->is_served = own->sends_data || own->enabled;
    own->wire.tls = own->security;
    if (modbus_wire_compile(load, &own->wire, &own->at) != ERR_OK)
        return ERR_CONFIG;
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        struct modbus_section *section = own->values->areas[area];

        if (!section)
            continue;
        compile_list(load, own, (enum modbus_area)area, &section->attributes, false);
        compile_list(load, own, (enum modbus_area)area, &section->timeseries, false);
        compile_list(load, own, (enum modbus_area)area, &section->updates, true);
        compile_list(load, own, (enum modbus_area)area, &section->rpcs, true);
        n += section->attributes.n + section->timeseries.n;
    }
    own->reads = arena_zero(conf_arena(load), (n + 1) * sizeof *own->reads);
    add_reads(load, own, true);
    add_reads(load, own, false);
    own->keys_unique = modbus_keys_unique(own->reads, own->n_reads);
    if (!own->is_served)
        conf_note(load, &own->at, "sendDataToThingsBoard",
                  "is not true, so nothing is served; \"enabled\": true serves without reporting");
    return ERR_OK;
}
