/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `iotgw convert`: a request through what the running connector does with one, or one request of the platform through what
 * makes HTTP requests of it; and what would be sent and answered, as JSON (rest.md 9).
 */
#include "rest_dry.h"

#include "base/clock.h"
#include "base/hex.h"
#include "rest_down.h"
#include "rest_up.h"

struct dry {
    struct rest_sink sink; /* first */
    struct event event;
    const struct rest_file *file;
    struct arena *arena;
    struct buf messages, requests, left_out, questions, response;
    unsigned status;
    struct str body;
};

static void comma(struct buf *buf)
{
    if (buf->n)
        buf_add_u8(buf, ',');
}

static struct event *dry_begin(struct rest_sink *sink, struct device *dev, struct str profile)
{
    struct dry *dry = CONTAINER_OF(sink, struct dry, sink);

    event_begin(&dry->event, dev, profile);
    return &dry->event;
}

static enum err dry_end(struct rest_sink *sink)
{
    struct dry *dry = CONTAINER_OF(sink, struct dry, sink);

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

static void dry_dropped(struct rest_sink *sink, enum web_drop drop, struct str detail)
{
    leave_out(CONTAINER_OF(sink, struct dry, sink), web_drop_text(drop), detail);
}

/* --- a request ----------------------------------------------------------------------------------------------------------- */

static enum err body_of(struct dry *dry, yyjson_val *from, struct str *out, struct why *why)
{
    yyjson_val *json = json_get(from, STR("body")), *hex = json_get(from, STR("body_hex"));
    autobuf struct buf bytes = {0};

    if (json)
        *out = json_text(dry->arena, json);
    else
        *out = json_str(json_get(from, STR("body_text")));
    if (json || !hex)
        return ERR_OK;
    if (hex_decode(&bytes, json_str(hex)) != ERR_OK)
        return why_set(why, ERR_SYNTAX, "\"body_hex\" is not hexadecimal");
    *out = arena_str(dry->arena, buf_str(&bytes));
    return ERR_OK;
}

static struct str header_of(yyjson_val *headers, struct str name)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(headers);
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter)))
        if (str_eq_nocase(json_str(key), name))
            return json_str(yyjson_obj_iter_get_val(key));
    return STR_NONE;
}

static void dry_answer(struct dry *dry, const struct rest_endpoint *endpoint, unsigned status, struct str text)
{
    struct str configured = endpoint && status != 200 ? rest_failure_text(endpoint, status) : STR_NONE;

    dry->status = status;
    if (configured.p || status == 200)
        dry->body = configured.p ? configured : text;
    else
        dry->body = arena_printf(dry->arena, "{\"error\":%.*s}", (int)json_quote(dry->arena, text).n,
                                 json_quote(dry->arena, text).p);
}

static void dry_question(struct dry *dry, const struct rest_endpoint *endpoint, const struct rest_data *data,
                         yyjson_val *answer)
{
    bool is_client = endpoint->scope == SCOPE_CLIENT;
    struct rest_question *questions;
    autobuf struct buf answers = {0};
    struct str why;
    unsigned status = rest_questions(endpoint, data, dry->arena, &questions, &why);

    if (status) {
        dry_answer(dry, endpoint, status, why);
        return;
    }
    for (size_t i = 0; i < data->n; i++) {
        comma(&dry->questions);
        buf_add_z(&dry->questions, "{\"device\":");
        json_add_string(&dry->questions, questions[i].device);
        buf_printf(&dry->questions, ",\"scope\":\"%s\",\"keys\":", is_client ? "client" : "shared");
        buf_add_str(&dry->questions, questions[i].names);
        buf_add_u8(&dry->questions, '}');
        if (answer)
            rest_add_answer(&answers, i, data->n,
                            rest_answer_to_question(questions[i].device, i + 1, questions[i].is_one,
                                                    json_text(dry->arena, answer), dry->arena));
    }
    if (answer)
        dry_answer(dry, endpoint, 200, arena_str(dry->arena, buf_str(&answers)));
    else
        dry_answer(dry, endpoint, 408, STR("the platform did not answer in time"));
}

static void dry_mapping(struct dry *dry, const struct rest_endpoint *endpoint, const struct rest_data *data,
                        yyjson_val *update)
{
    const struct rest_response *response = endpoint->response;
    yyjson_val *device = json_get(update, STR("device")), *values = json_get(update, STR("values"));
    struct web_out counted = {0};
    struct rest_result result;
    struct str text;

    rest_convert(endpoint, data, &dry->sink, clock_wall_ms(), dry->arena, &counted, &result);
    if (result.status != 200)
        dry_answer(dry, endpoint, result.status, result.text);
    else if (!response->is_expected || !result.n_events)
        dry_answer(dry, endpoint, 200, response->success);
    else if (update && str_eq(json_str(device), device_name(dry->event.dev)) &&
             rest_awaited(response, values, dry->arena, &text))
        dry_answer(dry, endpoint, 200, text);
    else
        dry_answer(dry, endpoint, 408, STR("the awaited attribute did not come in time"));
}

static enum err dry_request(struct dry *dry, yyjson_val *input, struct why *why)
{
    yyjson_val *request = json_get(input, STR("request")), *headers = json_get(request, STR("headers"));
    struct str path = json_str(json_get(request, STR("path")));
    struct rest_input in = {.method = json_str(json_get(request, STR("method")))};
    struct rest_match match = {0};
    struct rest_data data = {0};
    struct why reason = {0};
    size_t question;
    unsigned status;

    if (!path.p || !in.method.p)
        return why_set(why, ERR_USAGE, "\"request\" needs \"method\" and \"path\"");
    if (body_of(dry, request, &in.body, why) != ERR_OK)
        return ERR_SYNTAX;
    question = str_chr(path, '?');
    in.query = str_skip(path, question + 1);
    in.content_type = header_of(headers, STR("Content-Type"));
    if (!in.content_type.p && json_get(request, STR("body")))
        in.content_type = STR("application/json");
    in.match = &match;
    switch (rest_route_find(dry->file, in.method, str_cut(path, question), dry->arena, &match)) {
    case ROUTE_NONE:
        dry_answer(dry, NULL, 404, STR("there is nothing at this path"));
        return ERR_OK;
    case ROUTE_METHOD:
        dry_answer(dry, match.endpoint, 405, STR("the method is not served at this path"));
        return ERR_OK;
    case ROUTE_FOUND:
        break;
    }
    if (!rest_is_allowed(match.endpoint->security, header_of(headers, STR("Authorization")))) {
        dry_answer(dry, match.endpoint, 401, STR("name or password is wrong"));
        return ERR_OK;
    }
    if (in.body.n > dry->file->server->max_body) {
        dry_answer(dry, match.endpoint, 413, STR("the body is too long"));
        return ERR_OK;
    }
    status = rest_data_open(&data, &in, dry->arena, &reason);
    if (status)
        dry_answer(dry, match.endpoint, status, str_from(why_text(&reason)));
    else if (match.endpoint->converter)
        dry_mapping(dry, match.endpoint, &data, json_get(input, STR("attribute_update")));
    else
        dry_question(dry, match.endpoint, &data, json_get(input, STR("attribute_response")));
    rest_data_close(&data);
    return ERR_OK;
}

/* --- from the platform ------------------------------------------------------------------------------------------------- */

static void dry_form(struct dry *dry, const struct rest_call *call)
{
    yyjson_doc *doc = json_read(call->form, NULL);
    yyjson_obj_iter iter = yyjson_obj_iter_with(yyjson_doc_get_root(doc));
    bool is_first = true;
    yyjson_val *key;

    if (!yyjson_is_obj(yyjson_doc_get_root(doc)))
        leave_out(dry, "the fields of the form", STR("valueExpression does not give a JSON object"));
    buf_add_z(&dry->requests, "\"multipart\":{");
    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);

        if (!is_first)
            buf_add_u8(&dry->requests, ',');
        is_first = false;
        json_add_string(&dry->requests, json_str(key));
        buf_add_u8(&dry->requests, ':');
        json_add_string(&dry->requests, yyjson_is_str(val) ? json_str(val) : json_text(dry->arena, val));
    }
    buf_add_u8(&dry->requests, '}');
    yyjson_doc_free(doc);
}

static void dry_call(void *arg, const struct rest_call *call)
{
    const struct rest_security *security = call->security;
    bool is_basic = security && security->login == LOGIN_BASIC;
    struct web_request request = call->request;
    struct dry *dry = arg;
    struct web_field *fields;

    if (call->form.p) { /* its content type goes with the fields */
        fields = arena_alloc(dry->arena, (request.n_headers + 1) * sizeof *fields);
        request.n_headers = 0;
        for (size_t i = 0; i < call->request.n_headers; i++)
            if (!str_eq_nocase(call->request.headers[i].name, STR("Content-Type")))
                fields[request.n_headers++] = call->request.headers[i];
        request.headers = fields;
    }
    comma(&dry->requests);
    web_describe(&dry->requests, &request, is_basic ? security->username.value : STR_NONE,
                 is_basic ? security->password.value : STR_NONE);
    if (call->form.p) {
        dry->requests.p[dry->requests.n - 1] = ',';
        dry_form(dry, call);
        buf_add_u8(&dry->requests, '}');
    }
}

static void dry_failed(void *arg, struct str key, const struct why *why)
{
    struct dry *dry = arg;

    leave_out(dry, arena_text(dry->arena, key), str_from(why_text(why)));
}

static enum err reply_of(struct dry *dry, yyjson_val *reply, struct why *why)
{
    struct str error = json_str(json_get(reply, STR("error"))), body;
    int64_t status = 200;

    if (error.p) {
        bool is_timeout = str_eq_z(error, "timeout");

        buf_add_str(&dry->response, rest_failure(is_timeout ? ERR_TIMEOUT : ERR_UNREACHABLE, error, dry->arena));
        return ERR_OK;
    }
    if (body_of(dry, reply, &body, why) != ERR_OK)
        return ERR_SYNTAX;
    if (json_get(reply, STR("status")) && json_to_i64(json_get(reply, STR("status")), &status) != ERR_OK)
        status = 500;
    buf_add_str(&dry->response,
                rest_result_text((unsigned)status, json_str(json_get(reply, STR("reason"))), body, dry->arena));
    return ERR_OK;
}

static enum err dry_rpc(struct dry *dry, yyjson_val *rpc, yyjson_val *reply, struct why *why)
{
    yyjson_val *id = json_get(rpc, STR("id")), *params = json_get(rpc, STR("params"));
    const struct rest_rpc asked = {.device = json_str(json_get(rpc, STR("device"))),
                                   .method = json_str(json_get(rpc, STR("method"))),
                                   .id = id ? json_text(dry->arena, id) : STR_NONE,
                                   .params = params ? json_text(dry->arena, params) : STR_NONE};
    struct rest_call call;
    struct str answer;

    if (!asked.method.p)
        return why_set(why, ERR_USAGE, "\"rpc\" needs \"method\"");
    if (rest_rpc(dry->file, &asked, dry->arena, &call, &answer) != ERR_OK) {
        buf_add_str(&dry->response, answer);
        return ERR_OK;
    }
    dry_call(dry, &call);
    return reply ? reply_of(dry, reply, why) : ERR_OK;
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
    rest_attributes(dry->file, json_str(device), values, dry->arena, dry_call, dry_failed, dry);
    return ERR_OK;
}

static void add_list(struct buf *all, const char *name, const struct buf *items)
{
    buf_printf(all, "%s\"%s\":[", all->n > 1 ? "," : "", name);
    buf_add_str(all, buf_str(items));
    buf_add_u8(all, ']');
}

static void dry_fini(struct dry *dry)
{
    event_fini(&dry->event);
    buf_fini(&dry->messages);
    buf_fini(&dry->requests);
    buf_fini(&dry->left_out);
    buf_fini(&dry->questions);
    buf_fini(&dry->response);
}

enum err rest_dry_run(const void *conf, const struct convert_io *io, struct why *why)
{
    yyjson_val *input = (yyjson_val *)(uintptr_t)io->input;
    bool is_uplink = str_eq_z(io->direction, "uplink");
    struct dry dry = {
        .sink = {.begin = dry_begin, .end = dry_end, .dropped = dry_dropped}, .file = conf, .arena = io->arena};
    autobuf struct buf all = {0};
    enum err err;

    event_init(&dry.event);
    err = is_uplink ? dry_request(&dry, input, why) : dry_downlink(&dry, input, why);
    buf_add_u8(&all, '{');
    if (is_uplink) {
        add_list(&all, "messages", &dry.messages);
        buf_printf(&all, ",\"http\":{\"status\":%u,\"body\":", dry.status);
        json_add_string(&all, dry.body);
        buf_add_u8(&all, '}');
        if (dry.questions.n)
            add_list(&all, "attribute_requests", &dry.questions);
    } else {
        add_list(&all, "requests", &dry.requests);
    }
    if (dry.response.n) {
        buf_add_z(&all, ",\"response\":");
        buf_add_str(&all, buf_str(&dry.response));
    }
    if (dry.left_out.n)
        add_list(&all, "left_out", &dry.left_out);
    buf_add_u8(&all, '}');
    *io->output = arena_str(io->arena, buf_str(&all));
    dry_fini(&dry);
    return err;
}
