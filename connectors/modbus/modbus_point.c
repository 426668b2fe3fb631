/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of a device: what is read, what is written (modbus.md 3, 4.3, 5, 9). */
#include "base/map.h"
#include "data/json.h"
#include "modbus_conf.h"

enum { RANGE_REQUEST = 16, COUNT_MAX = 65536 };

#define POINT_FIELDS                                                                                                   \
    F_AT(struct modbus_point, at),                                                                                     \
        F_STR(struct modbus_point, type, "type", .need = true, .min = 1,                                               \
              .doc = "8int 16int 32int 64int, the same with uint, 16float 32float 64float; int, uint, float: as wide " \
                     "as objectsCount; string, bytes, bits."),                                                         \
        F_STR(struct modbus_point, address_text, "address", .need = true, .min = 1,                                    \
              .doc = "From 0. Of what is polled also a range \"10-19\", both ends included."),                         \
        F_UINT(struct modbus_point, count, "objectsCount", .max = COUNT_MAX,                                           \
               .doc = "Registers, or coils. Absent: as the type has it."),                                             \
        F_UINT(struct modbus_point, count, "registersCount", .max = COUNT_MAX, .now = "objectsCount",                  \
               .equal_name = true, .doc = "Other name of objectsCount."),                                              \
        F_UINT(struct modbus_point, count, "registerCount", .max = COUNT_MAX, .now = "objectsCount",                   \
               .equal_name = true, .doc = "Other name of objectsCount."),                                              \
        F_JSON(struct modbus_point, divider, "divider", .doc = "The value is divided by it; registers only."),         \
        F_JSON(struct modbus_point, multiplier, "multiplier",                                                          \
               .doc = "The value is multiplied by it, if there is no divider; registers only."),                       \
        F_INT(struct modbus_point, round, "round", .def = 6, .has_offset = offsetof(struct modbus_point, has_round),   \
              .doc = "Decimals of a float, before divider and multiplier."),                                           \
        F_UINT(struct modbus_point, bit, "bit", .has_offset = offsetof(struct modbus_point, has_bit),                  \
               .doc = "bits: the one that is taken, as 0 or 1."),                                                      \
        F_STR(struct modbus_point, bit_target, "bitTargetType", .def_str = "bool",                                     \
              .doc = "bits: bool gives true and false, anything else 0 and 1."),                                       \
        F_JSON(struct modbus_point, variants, "variants", .doc = "Object: text of a value → what is sent for it."),    \
        F_REPORT_STRATEGY(struct modbus_point, report)

#define F_TAG .doc = "Key on the platform."
#define F_FUNCTION(...)                                                                                                \
    F_UINT(struct modbus_point, function_code, "functionCode", .max = 255,                                             \
           .has_offset = offsetof(struct modbus_point, has_function_code), ##__VA_ARGS__)
#define F_VALUE F_JSON(struct modbus_point, value, "value", .doc = "What the address holds at first; absent: 0.")

static const struct field point_fields[] = {
    POINT_FIELDS,
    F_STR(struct modbus_point, tag, "tag", .need = true, .min = 1,
          .doc =
              "Key on the platform; of a range with ${address}, ${unitId}, ${functionCode}, ${type}, ${objectsCount}."),
    F_FUNCTION(.need = true, .doc = "1 coils, 2 discrete inputs, 3 holding registers, 4 input registers."),
    F_MS(struct modbus_point, period_ms, "pollPeriod", .min = 1, .max = MODBUS_PERIOD_MAX_MS,
         .has_offset = offsetof(struct modbus_point, has_period),
         .doc = "From one poll of it to the next; absent: as the device. Not in the peer."),
    F_UINT(struct modbus_point, max_registers, "maxRegistersPerRequest", .def = RANGE_REQUEST, .min = 1,
           .max = MODBUS_READ_REGISTERS_MAX, .has_offset = offsetof(struct modbus_point, has_max_registers),
           .doc = "Ranges: registers in one request."),
    F_END};
static const struct field update_fields[] = {
    POINT_FIELDS, F_STR(struct modbus_point, tag, "tag", .need = true, .min = 1, .doc = "The attribute's name."),
    F_FUNCTION(.need = true, .doc = "5 one coil, 6 one register, 15 coils, 16 registers."), F_END};
static const struct field rpc_fields[] = {
    POINT_FIELDS, F_STR(struct modbus_point, tag, "tag", .doc = "The method's name."),
    F_FUNCTION(.need = true, .doc = "1 to 4: reads; 5, 6, 15, 16: writes."), F_VALUE, F_END};
static const struct field served_fields[] = {
    POINT_FIELDS, F_STR(struct modbus_point, tag, "tag", .need = true, .min = 1, .doc = "Key on the platform."),
    F_VALUE, F_FUNCTION(.doc = "Accepted without effect: the area says it."), F_END};
static const struct field served_down_fields[] = {
    POINT_FIELDS,
    F_STR(struct modbus_point, tag, "tag", .need = true, .min = 1, .doc = "Name of the attribute, or method."), F_VALUE,
    F_FUNCTION(.doc = "As in a device's section; absent: as the area is written."), F_END};

static enum err not_used(struct conf_load *load, const struct modbus_point *point, const char *key, const char *text)
{
    conf_error(load, &point->at, key, "%s; this entry is not used", text);
    return ERR_CONFIG;
}

static enum err compile_address(struct conf_load *load, struct modbus_point *point)
{
    struct str text = str_trim(point->address_text);
    size_t dash = str_chr(text, '-');
    uint64_t first, last;

    if (str_to_u64(str_trim(str_cut(text, dash)), &first) != ERR_OK || first > UINT16_MAX)
        return not_used(load, point, "address", "expected a number from 0 to 65535, or a range such as \"10-19\"");
    last = first;
    point->is_range = dash < text.n;
    if (point->is_range && (str_to_u64(str_trim(str_skip(text, dash + 1)), &last) != ERR_OK || last > UINT16_MAX))
        return not_used(load, point, "address", "expected a range such as \"10-19\", up to 65535");
    if (last < first)
        return not_used(load, point, "address", "the range ends before it begins");
    point->address = (uint16_t)first;
    point->last = (uint32_t)last;
    return ERR_OK;
}

static void compile_shape(struct modbus_point *point)
{
    point->shape = (struct modbus_shape){.type = str_trim(point->type),
                                         .function_code = point->function_code,
                                         .count = point->count,
                                         .has_bit = point->has_bit,
                                         .bit = point->bit,
                                         .bits_as_numbers = !str_eq_nocase(point->bit_target, STR("bool")),
                                         .has_round = point->has_round,
                                         .round = point->round,
                                         .divider = point->divider,
                                         .multiplier = point->multiplier,
                                         .variants = point->variants};
}

static enum err check_span(struct conf_load *load, const struct modbus_point *point, unsigned n)
{
    return (uint32_t)point->address + n > 65536u ? not_used(load, point, "address", "the value ends beyond 65535")
                                                 : ERR_OK;
}

/* The decoder is made again for the reads; here it only shows what is wrong. */
static enum err check_readable(struct conf_load *load, struct modbus_point *point)
{
    struct modbus_decoder decoder;
    const char *key = NULL;
    struct why why = {0};

    if (modbus_decoder_make(&decoder, &point->shape, conf_arena(load), &key, &why) != ERR_OK)
        return not_used(load, point, key, why_text(&why));
    if (decoder.kind == MODBUS_BITS && !decoder.is_coils && decoder.count > 1)
        conf_note(
            load, &point->at, "objectsCount",
            "bits of a register are listed 8 to 15, then 0 to 7; with objectsCount 1, \"bit\" counts from the least "
            "significant");
    return point->is_range ? ERR_OK : check_span(load, point, decoder.span);
}

static enum err check_writable(struct conf_load *load, struct modbus_point *point)
{
    unsigned becomes;
    const char *key = NULL;
    struct why why = {0};

    if (modbus_encoder_check(&point->shape, &becomes, &key, &why) != ERR_OK)
        return not_used(load, point, key, why_text(&why));
    if (becomes != point->shape.function_code)
        conf_warning(load, &point->at, "functionCode", "%u cannot carry it: %u is sent", point->shape.function_code,
                     becomes);
    return check_span(load, point, 1);
}

static enum err no_range(struct conf_load *load, const struct modbus_point *point)
{
    return point->is_range ? not_used(load, point, "address", "a range is for what is polled") : ERR_OK;
}

static enum err check_point(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct modbus_point *point = object;

    (void)at;
    compile_shape(point);
    return compile_address(load, point) != ERR_OK ? ERR_CONFIG : check_readable(load, point);
}

static enum err check_update(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct modbus_point *point = object;

    (void)at;
    compile_shape(point);
    if (compile_address(load, point) != ERR_OK || no_range(load, point) != ERR_OK)
        return ERR_CONFIG;
    return check_writable(load, point);
}

/* A function code that is none stays, as the call must be answered. */
static enum err check_rpc(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct modbus_point *point = object;

    compile_shape(point);
    if (compile_address(load, point) != ERR_OK || no_range(load, point) != ERR_OK)
        return ERR_CONFIG;
    if (modbus_reads(point->function_code))
        return check_readable(load, point);
    if (modbus_writes(point->function_code))
        return check_writable(load, point);
    conf_warning(load, at, "functionCode", "%u is none of 1 to 6, 15, 16: calls are answered with an error",
                 point->function_code);
    return ERR_OK;
}

static enum err check_served(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct modbus_point *point = object;

    (void)at;
    compile_shape(point);
    return compile_address(load, point) != ERR_OK ? ERR_CONFIG : no_range(load, point);
}

const struct conf_type modbus_point_type = {.name = "modbus.point",
                                            .size = sizeof(struct modbus_point),
                                            .fields = point_fields,
                                            .check = check_point,
                                            .doc = "A value that is polled."};
const struct conf_type modbus_update_type = {.name = "modbus.attributeUpdate",
                                             .size = sizeof(struct modbus_point),
                                             .fields = update_fields,
                                             .check = check_update,
                                             .doc = "A value that is written when an attribute changes."};
const struct conf_type modbus_rpc_type = {.name = "modbus.rpc",
                                          .size = sizeof(struct modbus_point),
                                          .fields = rpc_fields,
                                          .check = check_rpc,
                                          .doc = "A value that is read or written when the platform calls."};
const struct conf_type modbus_served_type = {.name = "modbus.served",
                                             .size = sizeof(struct modbus_point),
                                             .fields = served_fields,
                                             .check = check_served,
                                             .doc = "A value that is served, and reported."};
const struct conf_type modbus_served_down_type = {.name = "modbus.servedDown",
                                                  .size = sizeof(struct modbus_point),
                                                  .fields = served_down_fields,
                                                  .check = check_served,
                                                  .doc = "A value that is served, and that the platform changes."};

/* --- ranges ------------------------------------------------------------------------------------------------------------- */

/* Coils of a range are one value each; else objectsCount apart, but not closer than the type is wide. */
static uint32_t step_of(const struct modbus_point *point)
{
    bool is_coils = modbus_reads_coils(point->function_code);
    uint32_t width = modbus_type_width(point->shape.type, is_coils);

    if (is_coils && (str_eq_nocase(point->shape.type, STR("bits")) || str_eq_nocase(point->shape.type, STR("bit"))))
        return 1;
    if (is_coils && point->count)
        return point->count;
    return point->count > width ? point->count : width;
}

size_t modbus_point_values(const struct modbus_point *point)
{
    return point->is_range ? (point->last - point->address + 1) / step_of(point) : 1;
}

static void add_placeholder(struct buf *out, struct str name, const struct modbus_point *point, unsigned unit,
                            uint32_t address, uint32_t count)
{
    if (str_eq_z(name, "address"))
        buf_printf(out, "%u", address);
    else if (str_eq_z(name, "unitId"))
        buf_printf(out, "%u", unit);
    else if (str_eq_z(name, "functionCode"))
        buf_printf(out, "%u", point->function_code);
    else if (str_eq_z(name, "type"))
        buf_add_str(out, point->type);
    else if (str_eq_z(name, "objectsCount"))
        buf_printf(out, "%u", count);
    else
        buf_printf(out, "${" STR_FMT "}", STR_ARG(name));
}

static struct str range_tag(const struct modbus_point *point, unsigned unit, uint32_t address, uint32_t count,
                            struct buf *out)
{
    struct str rest = point->tag;
    size_t at, end;

    out->n = 0;
    while ((at = str_find(rest, STR("${"), 0)) != SIZE_MAX && (end = str_find(rest, STR("}"), at)) != SIZE_MAX) {
        buf_add_str(out, str_cut(rest, at));
        add_placeholder(out, str_of(rest.p + at + 2, end - at - 2), point, unit, address, count);
        rest = str_skip(rest, end + 1);
    }
    buf_add_str(out, rest);
    if (str_find(point->tag, STR("address"), 0) == SIZE_MAX)
        buf_printf(out, "_%u", address);
    return buf_str(out);
}

static bool put_read(struct conf_load *load, const struct modbus_point *point, struct str tag, uint32_t address,
                     const struct modbus_decoder *decoder, uint8_t kind, struct modbus_read *out)
{
    struct why why = {0};

    *out = (struct modbus_read){.decoder = decoder,
                                .point = point,
                                .report = point->report,
                                .address = (uint16_t)address,
                                .span = decoder->span,
                                .function_code = (uint8_t)point->shape.function_code,
                                .kind = kind,
                                .limit = (uint16_t)(point->is_range ? point->max_registers : 0)};
    if (event_key(conf_arena(load), tag, &out->key, &why) == ERR_OK)
        return true;
    conf_error(load, &point->at, "tag", "\"" STR_FMT "\": %s; this value is not read", STR_ARG(str_cut(tag, 80)),
               why_text(&why));
    return false;
}

size_t modbus_point_reads(struct conf_load *load, const struct modbus_point *point, unsigned unit, uint8_t kind,
                          struct modbus_read *out)
{
    struct modbus_decoder *decoder = arena_zero(conf_arena(load), sizeof *decoder);
    struct modbus_shape shape = point->shape;
    uint32_t step = step_of(point), n_all = point->last - point->address + 1;
    autobuf struct buf tag = {0};
    const char *key = NULL;
    struct why why = {0};
    size_t n = 0;

    if (point->is_range)
        shape.count = step;
    if (modbus_decoder_make(decoder, &shape, conf_arena(load), &key, &why) != ERR_OK)
        return 0; /* has been said when the entry was checked */
    if (!point->is_range)
        return put_read(load, point, point->tag, point->address, decoder, kind, out);
    if (n_all % step)
        conf_warning(load, &point->at, "address",
                     "the last %u of the range are fewer than a value has, and are left out", n_all % step);
    for (uint32_t at = point->address; at + step <= point->last + 1; at += step)
        n += put_read(load, point, range_tag(point, unit, at, point->count ? point->count : step, &tag), at, decoder,
                      kind, out + n);
    return n;
}

bool modbus_keys_unique(const struct modbus_read *reads, size_t n)
{
    struct map seen[2] = {{0}};
    bool is_unique = true;

    for (size_t i = 0; i < n && is_unique; i++)
        is_unique = !map_put(&seen[reads[i].kind == RECORD_ATTRIBUTES], reads[i].key, (void *)(uintptr_t)&reads[i]);
    map_fini(&seen[0]);
    map_fini(&seen[1]);
    return is_unique;
}
