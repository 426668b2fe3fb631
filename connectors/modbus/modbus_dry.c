/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `iotgw convert`: one poll of a device whose memory is given, or one request of the platform, through what the running
 * connector uses; or the initial memory of the server (modbus.md 13).
 */
#include "modbus_dry.h"

#include "convert/web_convert.h"
#include "modbus_collect.h"
#include "modbus_down.h"
#include "modbus_image.h"

struct dry {
    const struct modbus_file *file;
    struct arena *arena;
    struct modbus_image image; /* of the device */
    bool has_memory, has_cells[MODBUS_AREAS];
    struct buf messages, requests, left_out, response, memory;
};

static void comma(struct buf *buf)
{
    if (buf->n)
        buf_add_u8(buf, ',');
}

static void leave_out(struct dry *dry, struct str what, const char *why)
{
    comma(&dry->left_out);
    json_add_string(&dry->left_out, arena_printf(dry->arena, STR_FMT ": %s", STR_ARG(str_cut(what, 100)), why));
}

/* --- memory ------------------------------------------------------------------------------------------------------------- */

static enum err load_run(struct dry *dry, enum modbus_area area, yyjson_val *start, yyjson_val *values, struct why *why)
{
    yyjson_arr_iter iter;
    uint64_t at;

    if (str_to_u64(json_str(start), &at) != ERR_OK || !yyjson_is_arr(values) || at + yyjson_arr_size(values) > 65536)
        return why_set(why, ERR_USAGE, "\"memory\" needs {area: {address: [values]}}");
    iter = yyjson_arr_iter_with(values);
    modbus_image_define(&dry->image, area, (uint32_t)at, (uint32_t)yyjson_arr_size(values));
    dry->has_cells[area] = dry->has_cells[area] || yyjson_arr_size(values);
    for (yyjson_val *val; (val = yyjson_arr_iter_next(&iter)); at++) {
        int64_t word = yyjson_is_true(val);

        if ((!yyjson_is_bool(val) && json_to_i64(val, &word) != ERR_OK) || word < 0 || word > UINT16_MAX)
            return why_set(why, ERR_USAGE, "a register is a number from 0 to 65535");
        modbus_image_set(&dry->image, area, (uint32_t)at, (uint16_t)word);
    }
    return ERR_OK;
}

static enum err load_memory(struct dry *dry, yyjson_val *memory, struct why *why)
{
    dry->has_memory = memory != NULL;
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        yyjson_val *runs = json_get(memory, str_from(modbus_area_names[area])), *start;
        yyjson_obj_iter iter = yyjson_obj_iter_with(runs);

        modbus_image_define(&dry->image, (enum modbus_area)area, 0, 0);
        while ((start = yyjson_obj_iter_next(&iter)))
            if (load_run(dry, (enum modbus_area)area, start, yyjson_obj_iter_get_val(start), why) != ERR_OK)
                return why->err;
    }
    return ERR_OK;
}

static enum modbus_area area_of(unsigned function_code)
{
    for (size_t area = 0; area < MODBUS_AREAS; area++)
        if (modbus_area_read((enum modbus_area)area) == function_code)
            return (enum modbus_area)area;
    return function_code == MODBUS_WRITE_COIL || function_code == MODBUS_WRITE_COILS ? MODBUS_COILS : MODBUS_HOLDING;
}

/* --- a poll ------------------------------------------------------------------------------------------------------------- */

static bool read_into(struct dry *dry, struct modbus_block *block, uint32_t address, uint32_t n)
{
    enum modbus_area area = area_of(block->function_code);
    uint8_t bytes[MODBUS_PDU_MAX];

    if (!modbus_image_has(&dry->image, area, address, n))
        return false;
    (void)modbus_image_copy(&dry->image, area, address, n, bytes);
    modbus_block_store(block, address - block->address, n, bytes);
    return true;
}

static void read_block(struct dry *dry, const struct modbus_plan *plan, struct modbus_block *block,
                       struct modbus_sample *samples)
{
    bool is_whole = true;

    for (uint32_t at = 0; at < block->count && is_whole; at += block->piece)
        is_whole = read_into(dry, block, block->address + at,
                             block->count - at < block->piece ? block->count - at : block->piece);
    if (is_whole) {
        modbus_collect_block(plan, block, 0, block->n, samples);
        return;
    }
    for (size_t i = 0; i < block->n; i++) {
        const struct modbus_read *read = &plan->reads[modbus_plan_read_at(plan, block, i)];

        if (block->n > 1 && read_into(dry, block, read->address, read->span))
            modbus_collect_block(plan, block, i, 1, samples);
        else
            leave_out(dry, read->point->tag, "illegal data address");
    }
}

static void undecodable(void *arg, const struct modbus_read *read, const struct why *why)
{
    leave_out(arg, read->point->tag, why_text(why));
}

static void poll_slave(struct dry *dry, const struct modbus_slave *slave, struct device *dev)
{
    struct modbus_sample *samples = arena_zero(dry->arena, (slave->n_reads + 1) * sizeof *samples);
    struct modbus_plan plan;
    struct event event;

    modbus_plan_init(&plan, slave, slave->reads, slave->n_reads);
    modbus_plan_build(&plan, 0);
    for (size_t i = 0; i < plan.n_blocks; i++)
        read_block(dry, &plan, &plan.blocks[i], samples);
    event_init(&event);
    event_begin(&event, dev, slave->device_type);
    (void)modbus_collect(slave->reads, samples, slave->n_reads, &event, undecodable, dry);
    if (event.n) {
        comma(&dry->messages);
        web_describe_event(&dry->messages, &event);
    }
    event_fini(&event);
    modbus_plan_fini(&plan);
}

static enum err dry_poll(struct dry *dry, yyjson_val *input, struct why *why)
{
    struct str name = json_str(json_get(input, STR("device")));
    struct device *dev = name.n ? device_get(name) : NULL;
    bool is_there = false;

    if (!dev)
        return why_set(why, ERR_USAGE, "\"device\" is the name of a device of the file");
    if (load_memory(dry, json_get(input, STR("memory")), why) != ERR_OK)
        return why->err;
    for (size_t i = 0; i < dry->file->slaves.n; i++) {
        const struct modbus_slave *slave = dry->file->slaves.items[i];

        if (!str_eq(slave->device_name, name))
            continue;
        is_there = true;
        poll_slave(dry, slave, dev);
    }
    if (!is_there)
        leave_out(dry, name, "no device of that name can be used");
    return ERR_OK;
}

/* --- from the platform ---------------------------------------------------------------------------------------------------- */

static void add_request(struct dry *dry, const struct modbus_call *call)
{
    bool is_coils = call->function_code == MODBUS_WRITE_COIL || call->function_code == MODBUS_WRITE_COILS;

    comma(&dry->requests);
    buf_printf(&dry->requests, "{\"unitId\":%u,\"functionCode\":%u,\"address\":%u,",
               call->slave ? call->slave->unit : dry->file->own->unit, call->function_code, call->address);
    if (!call->is_write) {
        buf_printf(&dry->requests, "\"count\":%u}", call->count);
        return;
    }
    buf_printf(&dry->requests, "\"%s\":[", is_coils ? "coils" : "registers");
    for (unsigned i = 0; i < call->count; i++)
        buf_printf(&dry->requests, "%s%u", i ? "," : "", is_coils ? call->write->coils[i] : call->write->registers[i]);
    buf_add_z(&dry->requests, "]}");
}

/* What the device would answer; empty: nothing comes. */
static struct str execute(struct dry *dry, const struct modbus_call *call)
{
    enum modbus_area area = area_of(call->function_code);
    bool is_refused = dry->has_memory && (dry->has_cells[area] || !call->is_write) &&
                      !modbus_image_has(&dry->image, area, call->address, call->count);
    uint8_t bytes[MODBUS_PDU_MAX];
    struct why why = {0};
    struct str json;

    add_request(dry, call);
    if (is_refused)
        return modbus_answer_failure(call, STR("illegal data address"), dry->arena);
    if (call->is_write)
        return modbus_answer_value(call, call->echo, dry->arena);
    if (!dry->has_memory)
        return STR_NONE;
    (void)modbus_image_copy(&dry->image, area, call->address, call->count, bytes);
    if (modbus_decode(&call->decoder, bytes, 0, dry->arena, &json, &why) != ERR_OK)
        return modbus_answer_failure(call, str_from(why_text(&why)), dry->arena);
    return modbus_answer_value(call, json, dry->arena);
}

static void call_ad_hoc(struct dry *dry, struct modbus_calls *calls)
{
    struct modbus_call call;
    struct why why = {0};
    struct conf *conf = modbus_ad_hoc_load(calls->ad_hoc, &why);

    if (conf && modbus_call_of_params(&call, conf_root(conf), calls->ad_hoc_params, dry->arena, &why) == ERR_OK)
        buf_add_str(&dry->response, execute(dry, &call));
    else
        buf_add_str(&dry->response, modbus_answer_refused(str_from(why_text(&why)), dry->arena));
    conf_unref(conf);
}

static enum err dry_rpc(struct dry *dry, yyjson_val *rpc, struct why *why)
{
    yyjson_val *params = json_get(rpc, STR("params"));
    const struct modbus_asked_for asked = {.device = json_str(json_get(rpc, STR("device"))),
                                           .method = json_str(json_get(rpc, STR("method"))),
                                           .params = params ? json_text(dry->arena, params) : STR_NONE};
    struct modbus_calls calls;
    struct str answer;

    if (!asked.method.p)
        return why_set(why, ERR_USAGE, "\"rpc\" needs \"method\"");
    if (modbus_rpc(dry->file, &asked, dry->arena, &calls, &answer) != ERR_OK) {
        buf_add_str(&dry->response, answer);
        return ERR_OK;
    }
    if (calls.of_connector)
        buf_add_u8(&dry->response, '[');
    if (calls.ad_hoc.p)
        call_ad_hoc(dry, &calls);
    for (size_t i = 0; i < calls.n; i++) {
        answer = execute(dry, &calls.items[i]);
        if (i && answer.n)
            buf_add_u8(&dry->response, ',');
        buf_add_str(&dry->response, answer);
    }
    if (calls.of_connector)
        buf_add_u8(&dry->response, ']');
    modbus_calls_fini(&calls);
    return ERR_OK;
}

static void update_call(void *arg, const struct modbus_call *call)
{
    (void)execute(arg, call);
}

static void update_failed(void *arg, struct str tag, const struct why *why)
{
    leave_out(arg, tag, why_text(why));
}

static enum err dry_downlink(struct dry *dry, yyjson_val *input, struct why *why)
{
    yyjson_val *rpc = json_get(input, STR("rpc")), *attributes = json_get(input, STR("attributes"));
    yyjson_val *device = json_get(attributes, STR("device")), *values = json_get(attributes, STR("values"));

    if (!rpc == !attributes)
        return why_set(why, ERR_USAGE, "the input needs one of \"rpc\", \"attributes\"");
    if (load_memory(dry, json_get(input, STR("memory")), why) != ERR_OK)
        return why->err;
    if (rpc)
        return dry_rpc(dry, rpc, why);
    if (!yyjson_is_str(device) || !yyjson_is_obj(values))
        return why_set(why, ERR_USAGE, "\"attributes\" needs \"device\" and the object \"values\"");
    modbus_updates(dry->file, json_str(device), values, dry->arena, update_call, update_failed, dry);
    return ERR_OK;
}

/* --- the server ----------------------------------------------------------------------------------------------------------- */

static void fill_failed(void *arg, const struct modbus_point *point, const struct why *why)
{
    leave_out(arg, point->tag, why_text(why));
}

static void describe_area(struct dry *dry, enum modbus_area area)
{
    bool is_open = false, is_first = true;

    for (uint32_t at = 0; at < 65536; at++) {
        if (!modbus_image_has(&dry->image, area, at, 1)) {
            buf_add_z(&dry->memory, is_open ? "]" : "");
            is_open = false;
            continue;
        }
        if (!is_open)
            buf_printf(&dry->memory, "%s\"%u\":[", is_first ? "" : ",", at);
        buf_printf(&dry->memory, "%s%u", is_open ? "," : "", modbus_image_get(&dry->image, area, at));
        is_open = true;
        is_first = false;
    }
    buf_add_z(&dry->memory, is_open ? "]" : "");
}

static enum err dry_server(struct dry *dry, struct why *why)
{
    if (!dry->file->own)
        return why_set(why, ERR_USAGE, "the file has no \"slave\" that can be used");
    modbus_image_fill(&dry->image, dry->file->own, fill_failed, dry);
    for (size_t area = 0; area < MODBUS_AREAS; area++) {
        if (!dry->image.areas[area].is_exact)
            continue;
        comma(&dry->memory);
        buf_printf(&dry->memory, "\"%s\":{", modbus_area_names[area]);
        describe_area(dry, (enum modbus_area)area);
        buf_add_u8(&dry->memory, '}');
    }
    return ERR_OK;
}

/* --- output --------------------------------------------------------------------------------------------------------------- */

static void add_part(struct buf *all, const char *name, char open, const struct buf *part, char close)
{
    if (all->n > 1)
        buf_add_u8(all, ',');
    buf_printf(all, "\"%s\":", name);
    if (open)
        buf_add_u8(all, (uint8_t)open);
    buf_add_str(all, buf_str(part));
    if (close)
        buf_add_u8(all, (uint8_t)close);
}

enum err modbus_dry_run(const void *conf, const struct convert_io *io, struct why *why)
{
    yyjson_val *input = (yyjson_val *)(uintptr_t)io->input;
    bool is_server = str_eq_z(io->direction, "slave"), is_uplink = str_eq_z(io->direction, "uplink");
    struct dry dry = {.file = conf, .arena = io->arena};
    autobuf struct buf all = {0};
    enum err err;

    modbus_image_init(&dry.image);
    err = is_server ? dry_server(&dry, why) : is_uplink ? dry_poll(&dry, input, why) : dry_downlink(&dry, input, why);
    buf_add_u8(&all, '{');
    if (is_server)
        add_part(&all, "memory", '{', &dry.memory, '}');
    else if (is_uplink)
        add_part(&all, "messages", '[', &dry.messages, ']');
    else
        add_part(&all, "requests", '[', &dry.requests, ']');
    if (dry.response.n)
        add_part(&all, "response", 0, &dry.response, 0);
    if (dry.left_out.n)
        add_part(&all, "left_out", '[', &dry.left_out, ']');
    buf_add_u8(&all, '}');
    *io->output = arena_str(io->arena, buf_str(&all));
    modbus_image_fini(&dry.image);
    buf_fini(&dry.messages);
    buf_fini(&dry.requests);
    buf_fini(&dry.left_out);
    buf_fini(&dry.response);
    buf_fini(&dry.memory);
    return err;
}
