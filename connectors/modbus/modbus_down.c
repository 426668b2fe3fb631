/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_down.h"

#include "data/json.h"

/* --- answers ------------------------------------------------------------------------------------------------------------ */

static struct str wrapped(struct arena *arena, const char *before, struct str json, const char *after)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, before);
    buf_add_str(&text, json);
    buf_add_z(&text, after);
    return arena_str(arena, buf_str(&text));
}

struct str modbus_answer_error(struct str text, struct arena *arena)
{
    return wrapped(arena, "{\"result\":{\"error\":", json_quote(arena, text), "}}");
}

struct str modbus_answer_refused(struct str text, struct arena *arena)
{
    return wrapped(arena, "{\"error\":", json_quote(arena, text), ",\"success\":false}");
}

static struct str item(const char *member, struct str json, const struct modbus_call *call, struct arena *arena)
{
    autobuf struct buf text = {0};

    buf_printf(&text, "{\"%s\":", member);
    buf_add_str(&text, json);
    if (call->slave) {
        buf_add_z(&text, ",\"device_name\":");
        json_add_string(&text, call->slave->device_name);
    }
    buf_add_u8(&text, '}');
    return arena_str(arena, buf_str(&text));
}

struct str modbus_answer_value(const struct modbus_call *call, struct str json, struct arena *arena)
{
    return call->of_connector ? item("result", json, call, arena)
                              : wrapped(arena, "{\"result\":{\"value\":", json, "}}");
}

struct str modbus_answer_failure(const struct modbus_call *call, struct str text, struct arena *arena)
{
    return call->of_connector ? item("error", json_quote(arena, text), call, arena) : modbus_answer_error(text, arena);
}

/* --- calls -------------------------------------------------------------------------------------------------------------- */

static enum err make_call(struct modbus_call *out, const struct modbus_shape *shape, uint16_t address,
                          const struct yyjson_val *value, struct arena *arena, struct why *why)
{
    struct modbus_write write;
    const char *key = "";
    struct why reason = {0};
    enum err err;

    out->function_code = (uint8_t)shape->function_code;
    out->address = address;
    if (modbus_reads(shape->function_code)) {
        unsigned most = modbus_reads_coils(shape->function_code) ? MODBUS_READ_BITS_MAX : MODBUS_READ_REGISTERS_MAX;

        err = modbus_decoder_make(&out->decoder, shape, arena, &key, &reason);
        if (err)
            return why_set(why, err, "%s %s", key, why_text(&reason));
        out->count = out->decoder.span;
        if (out->count > most)
            return why_set(why, ERR_RANGE, "objectsCount %u is more than one request can read, %u", out->count, most);
    } else if (modbus_writes(shape->function_code)) {
        err = modbus_encode(shape, value, &write, why);
        if (err)
            return err;
        write.address = address;
        out->is_write = true;
        out->function_code = write.function_code;
        out->count = write.count;
        out->write = memcpy(arena_alloc(arena, sizeof write), &write, sizeof write);
    } else {
        return why_set(why, ERR_UNSUPPORTED, "functionCode %u is not supported: 1 to 6, 15 or 16",
                       shape->function_code);
    }
    return (uint32_t)address + out->count > 65536u ? why_set(why, ERR_RANGE, "the value ends beyond address 65535")
                                                   : ERR_OK;
}

static enum err call_of_point(struct modbus_call *out, const struct modbus_point *point, yyjson_val *params,
                              struct arena *arena, struct why *why)
{
    yyjson_val *value = yyjson_is_obj(params) ? json_get(params, STR("value")) : NULL;

    out->tag = point->tag;
    if (params)
        out->echo = json_final_text(arena, params);
    return make_call(out, &point->shape, point->address, value ? value : params, arena, why);
}

static uint32_t whole(yyjson_val *val, uint32_t absent)
{
    struct str text = str_trim(json_str(val));
    int64_t number;

    if (text.n ? str_to_i64(text, &number) != ERR_OK : json_to_i64(val, &number) != ERR_OK)
        return absent;
    return number < 0 || number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

static yyjson_val *first_of(yyjson_val *object, const char *a, const char *b, const char *c)
{
    yyjson_val *found = json_get(object, str_from(a));

    if (!found)
        found = json_get(object, str_from(b));
    return found ? found : json_get(object, str_from(c));
}

/* With a connection in the parameters, "type" may be the one of either. */
static struct str type_of_params(yyjson_val *params)
{
    static const char *const media[] = {"tcp", "udp", "serial", "tls"};
    struct str type = str_trim(json_str(json_get(params, STR("type"))));
    uint32_t function_code = whole(json_get(params, STR("functionCode")), 0);

    if (json_get(params, STR("dataType")))
        return str_trim(json_str(json_get(params, STR("dataType"))));
    for (size_t i = 0; i < COUNT_OF(media); i++)
        if (str_eq_nocase(type, str_from(media[i])))
            return modbus_reads_coils(function_code) || function_code == MODBUS_WRITE_COIL ||
                           function_code == MODBUS_WRITE_COILS
                       ? STR("bits")
                       : STR("uint");
    return type;
}

enum err modbus_call_of_params(struct modbus_call *out, const struct modbus_slave *slave, const struct yyjson_val *raw,
                               struct arena *arena, struct why *why)
{
    yyjson_val *params = (yyjson_val *)(uintptr_t)raw, *value = json_get(params, STR("value"));
    uint32_t address = whole(json_get(params, STR("address")), UINT32_MAX);
    struct str target = json_str(json_get(params, STR("bitTargetType")));
    yyjson_val *bit = json_get(params, STR("bit")), *round = json_get(params, STR("round"));
    struct modbus_shape shape = {.type = type_of_params(params),
                                 .function_code = whole(json_get(params, STR("functionCode")), 0),
                                 .count = whole(first_of(params, "objectsCount", "registersCount", "registerCount"), 0),
                                 .byte_little = slave->wire.byte_little,
                                 .word_little = slave->wire.word_little,
                                 .repack = slave->repack,
                                 .has_bit = bit != NULL,
                                 .bit = whole(bit, 0),
                                 .bits_as_numbers = target.n && !str_eq_nocase(target, STR("bool")),
                                 .has_round = round && json_to_i64(round, &(int64_t){0}) == ERR_OK,
                                 .divider = json_get(params, STR("divider")),
                                 .multiplier = json_get(params, STR("multiplier")),
                                 .variants = json_get(params, STR("variants"))};

    *out = (struct modbus_call){.slave = slave, .of_connector = true};
    if (shape.has_round)
        (void)!json_to_i64(round, &shape.round);
    if (!yyjson_is_obj(params))
        return why_set(why, ERR_USAGE, "params must be an object with type, functionCode, objectsCount and address");
    if (address > UINT16_MAX)
        return why_set(why, ERR_USAGE, "params need \"address\", a number from 0 to 65535");
    if (value)
        out->echo = json_final_text(arena, value);
    return make_call(out, &shape, (uint16_t)address, value, arena, why);
}

/* --- devices ------------------------------------------------------------------------------------------------------------ */

static const struct modbus_slave *find_slave(const struct modbus_file *file, struct str device, size_t *from)
{
    for (; *from < file->slaves.n; (*from)++) {
        const struct modbus_slave *slave = file->slaves.items[*from];

        if (str_eq(slave->device_name, device))
            return slave;
    }
    return NULL;
}

static const struct modbus_point *find_point(const struct conf_list *list, struct str tag)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct modbus_point *point = list->items[i];

        if (str_eq(point->tag, tag))
            return point;
    }
    return NULL;
}

/* The area that a function code is about. */
static enum modbus_area area_of(unsigned function_code)
{
    switch (function_code) {
    case MODBUS_READ_COILS:
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_COILS:
        return MODBUS_COILS;
    case MODBUS_READ_DISCRETE:
        return MODBUS_DISCRETE;
    case MODBUS_READ_INPUT:
        return MODBUS_INPUT;
    default:
        return MODBUS_HOLDING;
    }
}

static bool is_own(const struct modbus_file *file, struct str device)
{
    return file->own && file->own->is_served && str_eq(file->own->device_name, device);
}

/* Where a call to a device goes. */
struct target {
    const struct modbus_slave *slave;
    const struct modbus_point *point; /* NULL: no entry of that name */
    enum modbus_area area;            /* of the own memory, with point */
    bool is_known, is_own;
};

static struct target find_target(const struct modbus_file *file, struct str device, struct str method)
{
    struct target target = {0};
    const struct modbus_slave *slave;

    for (size_t i = 0; (slave = find_slave(file, device, &i)) && !target.point; i++) {
        if (!target.slave)
            target.slave = slave;
        target.point = find_point(&slave->rpcs, method);
        if (target.point)
            target.slave = slave;
    }
    target.is_own = !target.slave && is_own(file, device);
    for (size_t area = 0; target.is_own && area < MODBUS_AREAS && !target.point; area++) {
        const struct modbus_section *section = file->own->values->areas[area];

        if (section)
            target.point = find_point(&section->rpcs, method);
        target.area = (enum modbus_area)area;
    }
    target.is_known = target.slave || target.is_own;
    return target;
}

static struct modbus_call *add_call(struct modbus_calls *calls, struct arena *arena)
{
    calls->items = arena_zero(arena, sizeof *calls->items);
    calls->n = 1;
    return calls->items;
}

static enum err configured(const struct target *target, yyjson_val *params, struct arena *arena,
                           struct modbus_calls *out, struct str *answer)
{
    struct modbus_call *call = add_call(out, arena);
    struct why why = {0};

    call->slave = target->slave;
    call->area = target->area;
    if (call_of_point(call, target->point, params, arena, &why) == ERR_OK)
        return ERR_OK;
    *answer = modbus_answer_error(str_from(why_text(&why)), arena);
    return ERR_USAGE;
}

/* --- reserved get and set ------------------------------------------------------------------------------------------------- */

/* "key=value;" off the front; false: something else stands there. */
static bool take_pair(struct str *rest, const char *key, struct str *value)
{
    struct str name = str_from(key);
    size_t end;

    if (!str_starts(*rest, name) || rest->n == name.n || rest->p[name.n] != '=')
        return false;
    *rest = str_skip(*rest, name.n + 1);
    end = str_chr(*rest, ';');
    *value = str_cut(*rest, end);
    if (end == rest->n || !end)
        return false;
    *rest = str_skip(*rest, end + 1);
    return true;
}

struct reserved {
    struct modbus_shape shape;
    uint16_t address;
    struct str value; /* set */
};

static bool is_reserved_type(struct str type)
{
    static const char *const names[] = {"string",  "bytes", "bits",   "8int",    "8uint", "16int",  "16uint",
                                        "16float", "32int", "32uint", "32float", "64int", "64uint", "64float"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq_nocase(type, str_from(names[i])))
            return true;
    return false;
}

static bool parse_reserved(struct reserved *out, struct str params, bool is_set)
{
    struct str rest = str_trim(params), type, code, count, address;
    uint64_t function_code, n, at;

    if (!take_pair(&rest, "type", &type) || !take_pair(&rest, "functionCode", &code) ||
        !take_pair(&rest, "objectsCount", &count) || !take_pair(&rest, "address", &address))
        return false;
    if (!is_reserved_type(type) || str_to_u64(code, &function_code) != ERR_OK || str_to_u64(count, &n) != ERR_OK ||
        str_to_u64(address, &at) != ERR_OK || n < 1 || n > UINT16_MAX || at > UINT16_MAX || function_code > 255)
        return false;
    *out = (struct reserved){.shape = {.type = type, .function_code = (unsigned)function_code, .count = (uint32_t)n},
                             .address = (uint16_t)at};
    if (!is_set)
        return !rest.n && modbus_reads((unsigned)function_code);
    if (!str_starts(rest, STR("value=")) || !str_ends(rest, STR(";")) || rest.n < 7)
        return false;
    out->value = str_of(rest.p + 6, rest.n - 7);
    return modbus_writes((unsigned)function_code);
}

static enum err reserved_call(const struct modbus_file *file, const struct target *target,
                              const struct reserved *reserved, bool is_set, struct arena *arena,
                              struct modbus_calls *out, struct str *answer)
{
    struct modbus_call *call = add_call(out, arena);
    const struct modbus_wire *wire = target->slave ? &target->slave->wire : &file->own->wire;
    struct modbus_shape shape = reserved->shape;
    struct why why = {0};
    yyjson_doc *doc = NULL;
    enum err err;

    shape.byte_little = wire->byte_little;
    shape.word_little = wire->word_little;
    shape.repack = target->slave ? target->slave->repack : file->own->repack;
    call->slave = target->slave;
    call->area = area_of(shape.function_code);
    if (is_set) {
        call->echo = json_quote(arena, reserved->value);
        doc = json_read(call->echo, NULL);
    }
    err = make_call(call, &shape, reserved->address, yyjson_doc_get_root(doc), arena, &why);
    yyjson_doc_free(doc);
    if (err)
        *answer = modbus_answer_error(str_from(why_text(&why)), arena);
    return err ? ERR_USAGE : ERR_OK;
}

/* --- the connector -------------------------------------------------------------------------------------------------------- */

static bool is_truthy(yyjson_val *val)
{
    double number;

    return val && !yyjson_is_null(val) && !yyjson_is_false(val) && !(yyjson_is_str(val) && !json_str(val).n) &&
           !(json_is_number(val) && json_to_double(val, &number) == ERR_OK && number == 0);
}

/* The parameters as one entry of master.slaves. */
static struct str ad_hoc_of(yyjson_val *params, struct arena *arena)
{
    static const char *const of_point[] = {
        "type",          "dataType",   "functionCode",  "objectsCount",     "registersCount",
        "registerCount", "address",    "value",         "divider",          "multiplier",
        "round",         "bit",        "bitTargetType", "variants",         "tag",
        "connectorId",   "timeseries", "attributes",    "attributeUpdates", "rpc",
        "timeout",       "connector",  "connectorName"};
    yyjson_obj_iter iter = yyjson_obj_iter_with(params);
    struct str type = json_str(json_get(params, STR("type"))), port = json_str(json_get(params, STR("port")));
    autobuf struct buf text = {0};
    yyjson_val *name;

    if (!(str_eq_nocase(type, STR("tcp")) || str_eq_nocase(type, STR("udp")) || str_eq_nocase(type, STR("serial")) ||
          str_eq_nocase(type, STR("tls"))))
        type = port.n && port.p[0] == '/' ? STR("serial") : STR("tcp");
    buf_add_z(&text, "{\"type\":");
    json_add_string(&text, type);
    if (!json_get(params, STR("deviceName")))
        buf_add_z(&text, ",\"deviceName\":\"modbus\"");
    while ((name = yyjson_obj_iter_next(&iter))) {
        bool is_point = false;

        for (size_t i = 0; i < COUNT_OF(of_point); i++)
            is_point |= str_eq_z(json_str(name), of_point[i]);
        if (is_point)
            continue;
        buf_add_u8(&text, ',');
        json_add_string(&text, json_str(name));
        buf_add_u8(&text, ':');
        json_add_value(&text, yyjson_obj_iter_get_val(name));
    }
    buf_add_u8(&text, '}');
    return arena_str(arena, buf_str(&text));
}

struct conf *modbus_ad_hoc_load(struct str text, struct why *why)
{
    struct problems problems;
    const struct problem *problem;
    struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&modbus_slave_type, ".", "params", text, &problems);
    for (problem = problems.first; problem && problem->severity != CONF_ERROR; problem = problem->next)
        ;
    if (!conf)
        why_set(why, ERR_CONFIG, "%s: %s", problem ? problem->path : "params",
                problem ? problem->text : "are no device");
    problems_fini(&problems);
    return conf;
}

static enum err connector_call(const struct modbus_file *file, struct modbus_calls *out, struct arena *arena,
                               struct str *answer)
{
    yyjson_val *params = out->doc ? yyjson_doc_get_root(out->doc) : NULL;
    struct why why = {0};

    out->of_connector = true;
    if (!yyjson_is_obj(params)) {
        *answer = modbus_answer_refused(
            STR("params must be an object with type, functionCode, objectsCount and address"), arena);
        return ERR_USAGE;
    }
    if (is_truthy(json_get(params, STR("host"))) || is_truthy(json_get(params, STR("port"))) ||
        is_truthy(json_get(params, STR("unitId")))) {
        out->ad_hoc = ad_hoc_of(params, arena);
        out->ad_hoc_params = params;
        return ERR_OK;
    }
    out->items = arena_zero(arena, (file->slaves.n + 1) * sizeof *out->items);
    for (size_t i = 0; i < file->slaves.n; i++) {
        if (modbus_call_of_params(&out->items[out->n++], file->slaves.items[i], params, arena, &why) == ERR_OK)
            continue;
        *answer = modbus_answer_refused(str_from(why_text(&why)), arena); /* so it would be of every other one */
        return ERR_USAGE;
    }
    if (out->n)
        return ERR_OK;
    *answer = modbus_answer_refused(STR("the connector has no device"), arena);
    return ERR_USAGE;
}

static bool is_connector_method(struct str method)
{
    struct str rest = str_skip(method, 7);

    return str_starts(method, STR("modbus_")) && str_chr(rest, '_') == rest.n;
}

static enum err rpc(const struct modbus_file *file, const struct modbus_asked_for *asked, struct arena *arena,
                    struct modbus_calls *out, struct str *answer)
{
    struct str method = asked->method;
    bool is_set = str_eq_z(method, "set"), is_reserved = is_set || str_eq_z(method, "get");
    yyjson_val *params = out->doc ? yyjson_doc_get_root(out->doc) : NULL;
    struct reserved reserved;
    struct target target;

    if (!asked->device.p)
        return is_connector_method(method)
                   ? connector_call(file, out, arena, answer)
                   : (*answer = modbus_answer_refused(STR("the method is not modbus_ and one word"), arena),
                      ERR_NOTFOUND);
    target = find_target(file, asked->device, method);
    if (!target.is_known) {
        *answer = modbus_answer_error(STR("the connector has no such device"), arena);
        return ERR_NOTFOUND;
    }
    if (is_reserved && yyjson_is_str(params) && parse_reserved(&reserved, json_str(params), is_set))
        return reserved_call(file, &target, &reserved, is_set, arena, out, answer);
    if (target.point)
        return configured(&target, params, arena, out, answer);
    if (is_reserved) {
        *answer = modbus_answer_refused(is_set ? STR("params must be the text type=T;functionCode=F;objectsCount=N;"
                                                     "address=A;value=V; with these keys in this order")
                                               : STR("params must be the text type=T;functionCode=F;objectsCount=N;"
                                                     "address=A; with these keys in this order"),
                                        arena);
        return ERR_USAGE;
    }
    if (is_connector_method(method))
        return connector_call(file, out, arena, answer);
    *answer =
        modbus_answer_error(arena_printf(arena, "Method not found for " STR_FMT, STR_ARG(str_cut(method, 100))), arena);
    return ERR_NOTFOUND;
}

enum err modbus_rpc(const struct modbus_file *file, const struct modbus_asked_for *asked, struct arena *arena,
                    struct modbus_calls *out, struct str *answer)
{
    enum err err;

    *out = (struct modbus_calls){0};
    *answer = STR_NONE;
    out->doc = asked->params.n ? json_read(asked->params, NULL) : NULL;
    err = rpc(file, asked, arena, out, answer);
    if (err)
        modbus_calls_fini(out);
    return err;
}

void modbus_calls_fini(struct modbus_calls *calls)
{
    yyjson_doc_free(calls->doc);
    *calls = (struct modbus_calls){0};
}

/* --- attribute updates ------------------------------------------------------------------------------------------------------ */

static void update_list(const struct conf_list *list, const struct modbus_slave *slave, enum modbus_area area,
                        yyjson_val *values, struct arena *arena,
                        void (*call)(void *arg, const struct modbus_call *call),
                        void (*failed)(void *arg, struct str tag, const struct why *why), void *arg)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct modbus_point *point = list->items[i];
        yyjson_val *value = json_get(values, point->tag);
        struct modbus_call made = {.slave = slave, .area = area, .tag = point->tag};
        struct why why = {0};

        if (!value)
            continue;
        if (make_call(&made, &point->shape, point->address, value, arena, &why) == ERR_OK)
            call(arg, &made);
        else
            failed(arg, point->tag, &why);
    }
}

void modbus_updates(const struct modbus_file *file, struct str device, const struct yyjson_val *raw,
                    struct arena *arena, void (*call)(void *arg, const struct modbus_call *call),
                    void (*failed)(void *arg, struct str tag, const struct why *why), void *arg)
{
    yyjson_val *values = (yyjson_val *)(uintptr_t)raw;
    const struct modbus_slave *slave;

    for (size_t i = 0; (slave = find_slave(file, device, &i)); i++)
        update_list(&slave->updates, slave, MODBUS_HOLDING, values, arena, call, failed, arg);
    for (size_t area = 0; is_own(file, device) && area < MODBUS_AREAS; area++)
        if (file->own->values->areas[area])
            update_list(&file->own->values->areas[area]->updates, NULL, (enum modbus_area)area, values, arena, call,
                        failed, arg);
}
