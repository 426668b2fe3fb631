/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request through the REST connector's conversion: lines of path, query, content type and Authorization, then the body. What
 * comes out are objects, and events whose records are sound; what is refused has a status and a reason.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "rest_up.h"

static const char file_text[] =
    "{\"server\":{\"host\":\"h\"},\"mapping\":["
    "{\"endpoint\":\"/d\",\"HTTPMethods\":[\"POST\"],\"converter\":{\"deviceInfo\":{\"deviceNameExpression\":\"D${n}\","
    "\"deviceProfileExpression\":\"${p}\"},\"attributes\":[{\"key\":\"${k}\",\"value\":\"${a} ${b[0]}\"}],"
    "\"timeseries\":[{\"type\":\"double\",\"key\":\"t\",\"value\":\"${t}\",\"tsField\":\"at\"},{\"key\":\"all\","
    "\"value\":"
    "\"${$}\"}]}},"
    "{\"endpoint\":\"/v/{n}/"
    "{x:[a-z]+}\",\"HTTPMethods\":[\"POST\"],\"security\":{\"type\":\"basic\",\"username\":\"u\","
    "\"password\":\"p\"},\"converter\":{\"deviceInfo\":{\"deviceNameExpression\":\"${n}\"},\"timeseries\":[{\"key\":"
    "\"x\","
    "\"value\":\"${x}\"},{\"key\":\"text\",\"value\":\"${text}\"}]}}],"
    "\"requestsMapping\":{\"attributeRequests\":[{\"endpoint\":\"/"
    "q\",\"HTTPMethods\":[\"POST\"],\"deviceNameExpression\":"
    "\"${n}\",\"attributeNameExpression\":\"${k}${l}\"}]}}";

struct fuzz {
    struct rest_sink sink; /* first */
    struct event event;
    struct buf records;
    size_t n;
};
static struct fuzz fuzz;
static struct conf *conf;

static struct event *begin(struct rest_sink *sink, struct device *dev, struct str profile)
{
    (void)sink;
    event_begin(&fuzz.event, dev, profile);
    return &fuzz.event;
}

static enum err end(struct rest_sink *sink)
{
    autobuf struct buf text = {0};
    yyjson_doc *doc;

    (void)sink;
    web_describe_event(&text, &fuzz.event);
    doc = json_read(buf_str(&text), NULL);
    FUZZ_CHECK(doc != NULL || text.n > 1024 * 1024);
    yyjson_doc_free(doc);
    fuzz.n++;
    return ERR_OK;
}

static void dropped(struct rest_sink *sink, enum web_drop drop, struct str detail)
{
    (void)sink;
    (void)detail;
    FUZZ_CHECK(*web_drop_text(drop));
}

static void setup(void)
{
    struct problems problems;

    problems_init(&problems);
    conf = conf_load_text(&rest_conf_type, ".", "rest.json", str_from(file_text), &problems);
    FUZZ_CHECK(conf != NULL);
    problems_fini(&problems);
    event_init(&fuzz.event);
    fuzz.sink = (struct rest_sink){.begin = begin, .end = end, .dropped = dropped};
}

static void use(const struct rest_endpoint *endpoint, const struct rest_data *data, struct arena *arena)
{
    struct web_out counted = {0};
    struct rest_result result;
    struct rest_question *questions;
    struct str cause = {0};
    unsigned status;

    if (endpoint->converter) {
        fuzz.n = 0;
        rest_convert(endpoint, data, &fuzz.sink, 1700000000000, arena, &counted, &result);
        FUZZ_CHECK(result.n_events == fuzz.n && result.n_events <= data->n);
        FUZZ_CHECK(result.status == 200 || result.text.n);
        return;
    }
    status = rest_questions(endpoint, data, arena, &questions, &cause);
    FUZZ_CHECK(!status || (cause.n && (status == 413 || status == 422)));
    for (size_t i = 0; i < data->n && !status; i++) {
        yyjson_doc *doc = json_read(questions[i].names, NULL);
        size_t n = yyjson_arr_size(yyjson_doc_get_root(doc));

        FUZZ_CHECK(doc && n && (n == 1) == questions[i].is_one && questions[i].device.n);
        yyjson_doc_free(doc);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct str rest = str_of(bytes, size), path = STR_NONE, login = STR_NONE;
    struct rest_match match = {0};
    struct rest_input input = {.method = STR("POST"), .match = &match};
    struct rest_data data = {0};
    struct why why = {0};
    struct arena arena;
    unsigned status;

    if (!conf)
        setup();
    (void)str_split(&rest, '\n', &path);
    (void)str_split(&rest, '\n', &input.query);
    (void)str_split(&rest, '\n', &input.content_type);
    (void)str_split(&rest, '\n', &login);
    input.body = rest;
    arena_init(&arena, 4096);
    if (rest_route_find(conf_root(conf), input.method, path, &arena, &match) == ROUTE_FOUND) {
        (void)rest_is_allowed(match.endpoint->security, login);
        status = rest_data_open(&data, &input, &arena, &why);
        FUZZ_CHECK(status == 0 ? data.n > 0 : status >= 400 && why.text[0]);
        for (size_t i = 0; i < data.n; i++)
            FUZZ_CHECK(yyjson_is_obj(data.items[i]));
        if (!status)
            use(match.endpoint, &data, &arena);
        rest_data_close(&data);
    }
    arena_fini(&arena);
    return 0;
}
