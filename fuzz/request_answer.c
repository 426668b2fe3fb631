/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What servers answer, through the Request connector: index of a mapping, answers to the sub requests of each item, one a
 * line, and the body of the poll. Every event is encoded, and the records must be sound. The same body as an answer to
 * calls of the platform must give JSON.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "request_down.h"
#include "request_item.h"

#define POINTS                                                                                                         \
    "\"attributes\":[{\"key\":\"a\",\"value\":\"${a}\"},{\"type\":\"string\",\"key\":\"${k}\",\"value\":\"${a} "       \
    "${b.c[0]}\"}],\"telemetry\":[{\"type\":\"double\",\"key\":\"t\",\"value\":\"${t}\",\"tsField\":\"${at}\"},"       \
    "{\"type\":\"int\",\"key\":\"i\",\"value\":\"${$..i}\",\"tsField\":\"at2\",\"dayfirst\":true},"                    \
    "{\"key\":\"l\",\"value\":\"${l[1:]}\"},{\"type\":\"bool\",\"key\":\"c\",\"value\":\"1\"}]"
static const char file_text[] =
    "{\"host\":\"h\",\"mapping\":["
    "{\"url\":\"a\",\"converter\":{\"deviceNameJsonExpression\":\"D${n}\",\"deviceTypeJsonExpression\":\"${p}\"," POINTS
    "}},{\"url\":\"b\",\"dataUnpackExpression\":\"d.items[*]\",\"converter\":{\"deviceNameJsonExpression\":"
    "\"D\"," POINTS "}},{\"url\":\"c\",\"subRequests\":{\"a\":{\"url\":\"${n}/a\"},\"t\":{\"url\":\"/t/${n}/"
    "${k}\",\"value\":\"${v.x}\","
    "\"type\":\"double\"},\"l\":{\"url\":\"http://o/${$..i}\",\"value\":\"${v}\"}},\"converter\":{\"deviceInfo\":{"
    "\"deviceNameExpressionSource\":\"request\",\"deviceNameExpression\":\"${n}\"}," POINTS "}}],\"serverSideRpc\":["
    "{\"deviceNameFilter\":\"D\",\"methodFilter\":\"whole\",\"requestUrlExpression\":\"u\"},"
    "{\"deviceNameFilter\":\"D\",\"methodFilter\":\"pure\",\"requestUrlExpression\":\"u\",\"responseValueExpression\":"
    "\"${a.b[0]}\"},"
    "{\"deviceNameFilter\":\"D\",\"methodFilter\":\"mixed\",\"requestUrlExpression\":\"u\",\"responseValueExpression\":"
    "\"${a}:${b.c}\"}]}";

enum { N_MAPPINGS = 3, ITEMS_MAX = 64 };

static struct {
    struct web_out out;
    struct event event;
    struct batch_sink sink;
    const struct request_file *file;
} fuzz;

static struct event *begin(struct web_out *out, struct device *dev, struct str profile)
{
    (void)out;
    event_begin(&fuzz.event, dev, profile);
    return &fuzz.event;
}

static void full(void *arg, struct batch *batch)
{
    uint32_t at = 0;

    (void)arg;
    while (at < batch->n_bytes) {
        FUZZ_CHECK(record_check(batch->bytes + at, batch->n_bytes - at) == ERR_OK);
        at += ((const struct record *)(const void *)(batch->bytes + at))->size;
    }
    batch_sink_reuse(&fuzz.sink, batch);
}

static enum err end(struct web_out *out)
{
    static const struct event_limits limits = {.max_bytes = 4000, .max_values = 100};
    unsigned n;

    (void)out;
    return event_encode(&fuzz.event, 1, &limits, &fuzz.sink.sink, &n);
}

static void dropped(struct web_out *out, enum web_drop drop, struct str detail)
{
    (void)out;
    (void)detail;
    FUZZ_CHECK(web_drop_text(drop)[0]);
}

static void begin_all(void)
{
    static struct problems problems; /* kept: the file lives as long as the process */
    static struct conf *conf;

    problems_init(&problems);
    conf = conf_load_text(&request_conf_type, ".", "fuzz", str_from(file_text), &problems);
    FUZZ_CHECK(conf);
    fuzz.file = conf_root(conf);
    FUZZ_CHECK(fuzz.file->mappings.n == N_MAPPINGS && fuzz.file->rpcs.n == 3);
    fuzz.out = (struct web_out){.begin = begin, .end = end, .dropped = dropped};
    event_init(&fuzz.event);
    batch_sink_init(&fuzz.sink, NULL, full, NULL);
}

static void convert(const struct request_mapping *mapping, yyjson_val *item, const struct str *answers,
                    struct arena *arena)
{
    yyjson_doc *merged = NULL;
    struct web_request request;
    struct why why = {0};

    for (size_t i = 0; i < mapping->n_uses; i++)
        if (item_request(fuzz.file, mapping, mapping->uses[i].sub, item, arena, &request, &why) == ERR_OK)
            FUZZ_CHECK(web_is_absolute(request.url) && !memchr(request.url.p, ' ', request.url.n));
    if (mapping->n_uses)
        merged = item_merge(mapping, item, answers, arena);
    (void)web_convert(mapping->converter, mapping->report, &fuzz.out, merged ? yyjson_doc_get_root(merged) : item,
                      1700000000000, arena);
    yyjson_doc_free(merged);
}

static void check_json(struct str text)
{
    yyjson_doc *doc = json_read(text, NULL);

    FUZZ_CHECK(doc);
    yyjson_doc_free(doc);
}

static void answer_calls(struct str body, unsigned status, struct arena *arena)
{
    static const char *const methods[] = {"whole", "pure", "mixed"};

    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        const struct down_rpc rpc = {STR("D"), str_from(methods[i]), STR("1"), STR("1")};
        struct down_call call;
        struct str answer;

        FUZZ_CHECK(down_rpc(fuzz.file, &rpc, arena, &call, &answer) == ERR_OK);
        check_json(down_result(&call, status, str_cut(body, 100), body, arena));
        call.is_connector_rpc = true;
        check_json(down_result(&call, status, str_cut(body, 100), body, arena));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of(data, size), head = fuzz_part(&rest), answers[3] = {STR_NONE};
    const struct request_mapping *mapping;
    struct answer answer;
    struct arena arena;
    struct batch *batch;
    struct why why = {0};
    yyjson_val *item;

    if (!fuzz.file)
        begin_all();
    mapping = fuzz.file->mappings.items[head.n ? (unsigned char)head.p[0] % N_MAPPINGS : 0];
    for (size_t i = 0; i < mapping->n_uses; i++)
        answers[i] = fuzz_part(&rest);
    if (!rest.p)
        rest = STR("");
    arena_init(&arena, 0);
    if (answer_open(&answer, mapping, rest, head.n > 2 ? str_skip(head, 2) : STR_NONE, &arena, &why) == ERR_OK) {
        for (unsigned n = 0; n < ITEMS_MAX && (item = answer_next(&answer)); n++)
            convert(mapping, item, answers, &arena);
        answer_close(&answer);
    }
    answer_calls(rest, head.n > 1 && head.p[1] == '5' ? 500 : 200, &arena);
    arena_fini(&arena);
    batch = batch_sink_take(&fuzz.sink);
    if (batch)
        full(NULL, batch);
    return 0;
}
