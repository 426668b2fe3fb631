/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `iotgw convert`: an answer through what converts those of the running connector, or one request of the platform through
 * what makes HTTP requests of it; and what would be sent, as JSON (request.md 8).
 */
#include "request_dry.h"

#include "base/clock.h"
#include "request_down.h"
#include "request_item.h"

struct dry {
    struct web_out out; /* first */
    struct event event;
    const struct request_file *file;
    struct arena *arena;
    struct buf messages, requests, left_out, response;
};

static void comma(struct buf *buf)
{
    if (buf->n)
        buf_add_u8(buf, ',');
}

static struct event *dry_begin(struct web_out *out, struct device *dev, struct str profile)
{
    struct dry *dry = CONTAINER_OF(out, struct dry, out);

    event_begin(&dry->event, dev, profile);
    return &dry->event;
}

static enum err dry_end(struct web_out *out)
{
    struct dry *dry = CONTAINER_OF(out, struct dry, out);

    comma(&dry->messages);
    web_describe_event(&dry->messages, &dry->event);
    return ERR_OK;
}

static void leave_out(struct dry *dry, const char *what, struct str detail)
{
    comma(&dry->left_out);
    json_add_string(&dry->left_out,
                    arena_printf(dry->arena, "%s%s" STR_FMT, what, detail.n ? ": " : "", STR_ARG(detail)));
}

static void dry_dropped(struct web_out *out, enum web_drop drop, struct str detail)
{
    leave_out(CONTAINER_OF(out, struct dry, out), web_drop_text(drop), detail);
}

static void add_request(struct dry *dry, const struct web_request *request)
{
    comma(&dry->requests);
    web_describe(&dry->requests, request, dry->file->username, dry->file->password);
}

/* --- an answer ----------------------------------------------------------------------------------------------------------- */

/* False: there is none, or one that says no. */
static bool body_of(struct dry *dry, yyjson_val *response, struct str *out)
{
    yyjson_val *body = json_get(response, STR("body"));
    int64_t status = 0;

    *out = body ? json_text(dry->arena, body) : json_str(json_get(response, STR("body_text")));
    return json_to_i64(json_get(response, STR("status")), &status) == ERR_OK && status >= 200 && status < 300;
}

static void dry_item(struct dry *dry, const struct request_mapping *mapping, yyjson_val *item, yyjson_val *responses)
{
    struct str *answers = arena_zero(dry->arena, (mapping->n_uses + 1) * sizeof *answers);
    yyjson_doc *merged;

    for (size_t i = 0; i < mapping->n_uses; i++) {
        struct web_request request;
        struct why why = {0};

        if (item_request(dry->file, mapping, mapping->uses[i].sub, item, dry->arena, &request, &why) != ERR_OK) {
            leave_out(dry, "a sub request", str_from(why_text(&why)));
            continue;
        }
        add_request(dry, &request);
        if (!body_of(dry, json_get(responses, request.url), &answers[i]))
            answers[i] = STR_NONE;
    }
    merged = mapping->n_uses ? item_merge(mapping, item, answers, dry->arena) : NULL;
    (void)web_convert(mapping->converter, mapping->report, &dry->out, merged ? yyjson_doc_get_root(merged) : item,
                      clock_wall_ms(), dry->arena);
    yyjson_doc_free(merged);
}

static enum err dry_uplink(struct dry *dry, yyjson_val *input, struct why *why)
{
    const struct request_mapping *mapping;
    struct answer answer;
    struct why reason = {0};
    yyjson_val *item;
    struct str body;
    int64_t index = 0;

    if (json_get(input, STR("mapping")) && json_to_i64(json_get(input, STR("mapping")), &index) != ERR_OK)
        return why_set(why, ERR_USAGE, "\"mapping\" is the index of one");
    if (index < 0 || (uint64_t)index >= dry->file->mappings.n)
        return why_set(why, ERR_USAGE, "there is no such entry in \"mapping\"");
    mapping = dry->file->mappings.items[index];
    add_request(dry, &mapping->request);
    if (!body_of(dry, json_get(input, STR("response")), &body))
        return ERR_OK;
    if (answer_open(&answer, mapping, body, STR_NONE, dry->arena, &reason) != ERR_OK) {
        leave_out(dry, "the answer", str_from(why_text(&reason)));
        return ERR_OK;
    }
    while ((item = answer_next(&answer)))
        dry_item(dry, mapping, item, json_get(input, STR("sub_responses")));
    answer_close(&answer);
    return ERR_OK;
}

/* --- from the platform ------------------------------------------------------------------------------------------------- */

static void dry_call(void *arg, const struct down_call *call)
{
    add_request(arg, &call->request);
}

static void dry_failed(void *arg, struct str key, const struct why *why)
{
    struct dry *dry = arg;

    leave_out(dry, arena_text(dry->arena, key), str_from(why_text(why)));
}

static struct str reply_of(struct dry *dry, const struct down_call *call, yyjson_val *reply)
{
    struct str error = json_str(json_get(reply, STR("error")));
    int64_t status = 200;
    struct str body;

    if (error.p)
        return down_failure(call, str_eq_z(error, "timeout") ? ERR_TIMEOUT : ERR_UNREACHABLE, error, dry->arena);
    (void)body_of(dry, reply, &body);
    if (json_get(reply, STR("status")) && json_to_i64(json_get(reply, STR("status")), &status) != ERR_OK)
        status = 500;
    return down_result(call, (unsigned)status, json_str(json_get(reply, STR("reason"))), body, dry->arena);
}

static enum err dry_rpc(struct dry *dry, yyjson_val *rpc, yyjson_val *reply, struct why *why)
{
    yyjson_val *id = json_get(rpc, STR("id")), *params = json_get(rpc, STR("params"));
    const struct down_rpc asked = {.device = json_str(json_get(rpc, STR("device"))),
                                   .method = json_str(json_get(rpc, STR("method"))),
                                   .id = id ? json_text(dry->arena, id) : STR_NONE,
                                   .params = params ? json_text(dry->arena, params) : STR_NONE};
    struct down_call call;
    struct str answer;

    if (!asked.method.p)
        return why_set(why, ERR_USAGE, "\"rpc\" needs \"method\"");
    if (down_rpc(dry->file, &asked, dry->arena, &call, &answer) != ERR_OK) {
        buf_add_str(&dry->response, answer);
        return ERR_OK;
    }
    add_request(dry, &call.request);
    if (reply)
        buf_add_str(&dry->response, reply_of(dry, &call, reply));
    return ERR_OK;
}

static enum err dry_downlink(struct dry *dry, yyjson_val *input, struct why *why)
{
    yyjson_val *rpc = json_get(input, STR("rpc")), *attributes = json_get(input, STR("attributes"));
    yyjson_val *device = json_get(attributes, STR("device")), *values = json_get(attributes, STR("values"));

    if (!rpc == !attributes)
        return why_set(why, ERR_USAGE, "the input needs one of \"rpc\", \"attributes\"");
    if (rpc)
        return dry_rpc(dry, rpc, json_get(input, STR("reply")), why);
    if (!yyjson_is_str(device) || !yyjson_is_obj(values))
        return why_set(why, ERR_USAGE, "\"attributes\" needs \"device\" and the object \"values\"");
    down_attributes(dry->file, json_str(device), values, dry->arena, dry_call, dry_failed, dry);
    return ERR_OK;
}

enum err request_dry_run(const void *conf, const struct convert_io *io, struct why *why)
{
    yyjson_val *input = (yyjson_val *)(uintptr_t)io->input;
    bool is_uplink = str_eq_z(io->direction, "uplink");
    struct dry dry = {
        .out = {.begin = dry_begin, .end = dry_end, .dropped = dry_dropped}, .file = conf, .arena = io->arena};
    autobuf struct buf all = {0};
    enum err err;

    event_init(&dry.event);
    err = is_uplink ? dry_uplink(&dry, input, why) : dry_downlink(&dry, input, why);
    buf_add_z(&all, "{\"requests\":[");
    buf_add_str(&all, buf_str(&dry.requests));
    buf_add_u8(&all, ']');
    if (is_uplink) {
        buf_add_z(&all, ",\"messages\":[");
        buf_add_str(&all, buf_str(&dry.messages));
        buf_add_u8(&all, ']');
    }
    if (dry.response.n) {
        buf_add_z(&all, ",\"response\":");
        buf_add_str(&all, buf_str(&dry.response));
    }
    if (dry.left_out.n) {
        buf_add_z(&all, ",\"left_out\":[");
        buf_add_str(&all, buf_str(&dry.left_out));
        buf_add_u8(&all, ']');
    }
    buf_add_u8(&all, '}');
    *io->output = arena_str(io->arena, buf_str(&all));
    event_fini(&dry.event);
    buf_fini(&dry.messages);
    buf_fini(&dry.requests);
    buf_fini(&dry.left_out);
    buf_fini(&dry.response);
    return err;
}
