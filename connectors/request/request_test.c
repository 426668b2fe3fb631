/* SPDX-License-Identifier: Apache-2.0 */
/* The whole connector: time moves as the test says, and the test is the HTTP client, the storage and the gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "base/slab.h"
#include "connector/ctx.h"
#include "connector/endpoint.h"
#include "http/http_client.h"
#include "request_conf.h"

extern const struct connector_type iotgw_module;

enum { MAX_CALLS = 64, MAX_ASKED = 4096 };

struct asked {
    char url[100], body[60];
    uint64_t at_ms;
};
struct http_run { /* a call under way */
    struct http_call *call;
};
struct http_client {
    struct loop *loop;
    struct http_run runs[MAX_CALLS];
    unsigned n_open, n_most, n_asked, n_cancelled;
    struct asked asked[MAX_ASKED];
    struct timer answer_timer;
    struct str auto_body; /* p not NULL: every call but those to /hang gets it, in the next turn */
    closed_fn *closed;
    void *closed_arg;
    struct timer close_timer;
};

struct rig {
    struct loop *loop;
    struct http_client client;
    struct store store;
    struct node *first, **last;
    struct buf bytes;
    unsigned n_events;
    bool keeps; /* the store does not answer */
    struct ctx_host host;
    struct conf *conf;
    struct problems problems;
    struct ctx *ctx;
    void *self;
    bool is_quiet, is_stopped;
    unsigned n_replies;
    enum err reply_err;
    char reply[300];
    struct command_box boxes[8];
    unsigned n_commands;
};
static struct rig *the_rig; /* for the client, which the connector makes */

/* --- the HTTP client ------------------------------------------------------------------------------------------------- */

static void answer_call(struct http_call *call, unsigned status, const char *body)
{
    struct http_reply reply = {.status = status,
                               .reason = str_from(http_reason(status)),
                               .body = str_from(body),
                               .n_bytes_in = 100,
                               .n_bytes_out = 50,
                               .latency_us = 3000};

    call->run->call = NULL;
    call->run = NULL;
    the_rig->client.n_open--;
    call->done(call, ERR_OK, &reply);
}

static void fail_call(struct http_call *call, enum err err)
{
    struct why why = {0};
    struct http_reply reply = {.why = &why, .is_unsent = err == ERR_REFUSED};

    (void)why_set(&why, err, "h:80 does not want to");
    call->run->call = NULL;
    call->run = NULL;
    the_rig->client.n_open--;
    call->done(call, err, &reply);
}

static void answer_all(void *arg)
{
    struct http_client *client = arg;

    for (size_t i = 0; i < MAX_CALLS; i++) {
        struct http_call *call = client->runs[i].call;

        if (call && str_find(call->url, STR("/hang"), 0) == SIZE_MAX)
            answer_call(call, 200, client->auto_body.p);
    }
}

struct http_client *http_client_new(struct loop *loop, struct log *log, struct why *why)
{
    struct http_client *client = &the_rig->client;

    (void)log;
    (void)why;
    client->loop = loop;
    timer_init(&client->answer_timer, loop, answer_all, client);
    return client;
}

void http_client_start(struct http_client *client, struct http_call *call)
{
    struct http_run *run = client->runs;
    struct asked *asked = &client->asked[client->n_asked++];

    while (run->call)
        run++;
    assert_true(run < client->runs + MAX_CALLS && client->n_asked < MAX_ASKED);
    run->call = call;
    call->run = run;
    asked->at_ms = loop_mono_ms(client->loop);
    snprintf(asked->url, sizeof asked->url, STR_FMT, STR_ARG(call->url));
    snprintf(asked->body, sizeof asked->body, STR_FMT, STR_ARG(call->body));
    client->n_open++;
    if (client->n_open > client->n_most)
        client->n_most = client->n_open;
    if (client->auto_body.p)
        timer_start(&client->answer_timer, 0);
}

void http_client_cancel(struct http_client *client, struct http_call *call)
{
    if (!call->run)
        return;
    call->run->call = NULL;
    call->run = NULL;
    client->n_open--;
    client->n_cancelled++;
}

static void client_closed(void *arg)
{
    struct http_client *client = arg;

    client->closed(client->closed_arg);
}

void http_client_close(struct http_client *client, closed_fn *done, void *arg)
{
    timer_stop(&client->answer_timer);
    for (size_t i = 0; i < MAX_CALLS; i++)
        if (client->runs[i].call)
            http_client_cancel(client, client->runs[i].call);
    client->closed = done;
    client->closed_arg = arg;
    timer_init(&client->close_timer, client->loop, client_closed, client);
    timer_start(&client->close_timer, 0);
}

/* The call under way to a URL that ends so; fails if there is none. */
static struct http_call *call_to(struct rig *rig, const char *end)
{
    for (size_t i = 0; i < MAX_CALLS; i++) {
        struct http_call *call = rig->client.runs[i].call;

        if (call && str_ends(call->url, str_from(end)))
            return call;
    }
    fail_msg("nobody has asked for %s", end);
    return NULL;
}

static unsigned n_asked(const struct rig *rig, const char *end)
{
    unsigned n = 0;

    for (unsigned i = 0; i < rig->client.n_asked; i++)
        n += str_ends(str_from(rig->client.asked[i].url), str_from(end));
    return n;
}

/* --- storage and gateway ---------------------------------------------------------------------------------------------- */

static void answer_batches(struct rig *rig)
{
    while (rig->first) {
        struct batch *batch = CONTAINER_OF(rig->first, struct batch, node);

        rig->first = batch->node.next;
        batch->result = ERR_OK;
        store_answer(batch);
    }
    rig->last = &rig->first;
}

static void append(struct store *store, struct batch *batch)
{
    struct rig *rig = CONTAINER_OF(store, struct rig, store);

    if (rig->bytes.n < 65536)
        buf_add(&rig->bytes, batch->bytes, batch->n_bytes);
    rig->n_events += batch->n_events;
    batch_drop_bytes(batch);
    batch->node.next = NULL;
    *rig->last = &batch->node;
    rig->last = &batch->node.next;
    if (!rig->keeps)
        answer_batches(rig);
}

static void take_reply(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct rig *rig = arg;

    (void)ctx;
    (void)command;
    rig->n_replies++;
    rig->reply_err = err;
    snprintf(rig->reply, sizeof rig->reply, STR_FMT, STR_ARG(json));
}

static void give_command(struct rig *rig, enum command_kind kind, const char *device, const char *method,
                         const char *params)
{
    struct command *made = &rig->boxes[rig->n_commands++].command;

    *made = (struct command){.size = sizeof *made,
                             .kind = kind,
                             .dev = device ? device_get(str_from(device)) : NULL,
                             .method = str_from(method),
                             .id = STR("1"),
                             .params = str_from(params)};
    assert_true(ctx_command(rig->ctx, made));
    loop_advance(rig->loop, 0);
}

static const struct store_ops ops = {.append = append};

static void rig_open(struct rig *rig, const char *text)
{
    struct why why = {0};

    *rig = (struct rig){0};
    the_rig = rig;
    rig->last = &rig->first;
    ctx_setup();
    rig->store.ops = &ops;
    rig->host = (struct ctx_host){.store = &rig->store, .reply = take_reply, .arg = rig};
    rig->loop = loop_new_fake(1700000000000);
    problems_init(&rig->problems);
    rig->conf = conf_load_text(&request_conf_type, ".", "test", str_from(text), &rig->problems);
    if (!rig->conf)
        fail_msg("%s: %s", rig->problems.first->path, rig->problems.first->text);
    rig->ctx = ctx_new(&iotgw_module, "test", rig->loop, &rig->host, rig->conf);
    atomic_store(&ctx_log(rig->ctx)->level, LOG_LEVEL_OFF);
    rig->self = mem_zero(iotgw_module.state_size);
    assert_int_equal(iotgw_module.open(rig->self, rig->ctx, conf_root(rig->conf), &why), ERR_OK);
    ctx_attach(rig->ctx, rig->self);
    iotgw_module.start(rig->self);
}

static void stopped(void *arg)
{
    ((struct rig *)arg)->is_stopped = true;
}

static void quiet(void *arg)
{
    ((struct rig *)arg)->is_quiet = true;
}

static void rig_close(struct rig *rig)
{
    iotgw_module.stop(rig->self, stopped, rig);
    loop_advance(rig->loop, 100);
    assert_true(rig->is_stopped);
    assert_int_equal(rig->client.n_open, 0);
    iotgw_module.close(rig->self);
    ctx_attach(rig->ctx, NULL);
    ctx_unref(rig->ctx);
    answer_batches(rig);
    loop_advance(rig->loop, 100);
    assert_int_equal(slab_in_use(), 0);
    loop_free(rig->loop);
    mem_free(rig->self);
    buf_fini(&rig->bytes);
    conf_unref(rig->conf);
    problems_fini(&rig->problems);
}

struct found {
    const char *end;
    struct endpoint endpoint;
    bool is_there;
};

static void find(void *arg, const struct endpoint *endpoint)
{
    struct found *found = arg;

    if (!str_ends(endpoint->name, str_from(found->end)))
        return;
    found->endpoint = *endpoint;
    found->is_there = true;
}

static struct endpoint endpoint_of(struct rig *rig, const char *end)
{
    struct found found = {.end = end};

    ctx_each_endpoint(rig->ctx, find, &found);
    assert_true(found.is_there);
    return found.endpoint;
}

#define CONVERTER                                                                                                      \
    "\"converter\":{\"deviceNameJsonExpression\":\"D\",\"telemetry\":[{\"key\":\"t\",\"value\":\"${t}\"},"             \
    "{\"key\":\"s\",\"value\":\"${s}\"}]}"
#define MAPPING(url, period, members) "{\"url\":\"" url "\",\"scanPeriod\":" period "," CONVERTER members "}"
#define FILE_OF(mappings) "{\"host\":\"h\",\"mapping\":[" mappings "]}"

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void test_polls_keep_their_beat_whatever_the_answers_take(void **state)
{
    static struct rig rig;
    uint64_t first_ms;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "0.5", "")));
    loop_advance(rig.loop, 0);
    first_ms = rig.client.asked[0].at_ms;
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(rig.client.n_asked, i + 1);
        assert_int_equal(rig.client.asked[i].at_ms, first_ms + 500 * i);
        loop_advance(rig.loop, 1 + i * 7 % 499); /* the answer takes some time, another one each time */
        answer_call(call_to(&rig, "/a"), 200, "{\"t\":1}");
        loop_advance(rig.loop, 500 - (1 + i * 7 % 499));
    }
    assert_int_equal(rig.n_events, 50);
    assert_int_equal(endpoint_of(&rig, "/a").n_overdue, 0);
    rig_close(&rig);
}

static void test_a_poll_is_never_begun_twice_and_keeps_its_phase(void **state)
{
    static struct rig rig;
    uint64_t first_ms;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    loop_advance(rig.loop, 0);
    first_ms = rig.client.asked[0].at_ms;
    loop_advance(rig.loop, 3600);
    assert_int_equal(rig.client.n_asked, 1);
    assert_int_equal(endpoint_of(&rig, "/a").n_overdue, 3);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_SKIPPED), 3);
    answer_call(call_to(&rig, "/a"), 200, "{\"t\":1}");
    loop_advance(rig.loop, 500);
    assert_int_equal(rig.client.n_asked, 2);
    assert_int_equal(rig.client.asked[1].at_ms, first_ms + 4000);
    rig_close(&rig);
}

static void test_first_polls_are_spread_over_a_second_in_small_groups(void **state)
{
    static struct rig rig;
    autobuf struct buf text = {0};
    unsigned at_once = 0, most = 0;

    (void)state;
    buf_add_z(&text, "{\"host\":\"h\",\"mapping\":[");
    for (unsigned i = 0; i < 400; i++)
        buf_printf(&text, "%s{\"url\":\"m%u\",\"scanPeriod\":30," CONVERTER "}", i ? "," : "", i);
    buf_add_z(&text, "]}");
    buf_add_u8(&text, 0);
    rig_open(&rig, (const char *)text.p);
    rig.client.auto_body = STR("{}");
    loop_advance(rig.loop, 999);
    assert_int_equal(rig.client.n_asked, 400);
    for (unsigned i = 0; i < 400; i++) {
        at_once = i && rig.client.asked[i].at_ms == rig.client.asked[i - 1].at_ms ? at_once + 1 : 1;
        most = at_once > most ? at_once : most;
    }
    assert_true(most <= 16);
    assert_true(rig.client.asked[399].at_ms - rig.client.asked[0].at_ms > 900);
    rig_close(&rig);
}

static void test_a_short_period_spreads_over_itself(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "0.2", "") "," MAPPING("b", "0.2", "")));
    loop_advance(rig.loop, 99);
    assert_int_equal(rig.client.n_asked, 1);
    loop_advance(rig.loop, 1);
    assert_int_equal(n_asked(&rig, "/b"), 1);
    rig_close(&rig);
}

static void test_a_server_that_hangs_changes_nothing_for_the_others(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("hang", "1", ",\"timeout\":60") "," MAPPING("a", "1", "")));
    rig.client.auto_body = STR("{\"t\":1}");
    loop_advance(rig.loop, 30000);
    assert_int_equal(n_asked(&rig, "/hang"), 1);
    assert_int_equal(n_asked(&rig, "/a"), 30);
    rig_close(&rig);
}

static void test_what_is_converted_reaches_the_storage(void **state)
{
    static struct rig rig;
    const struct record *record;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    loop_advance(rig.loop, 0);
    answer_call(call_to(&rig, "/a"), 200, "[{\"t\":1.25},{\"s\":\"x\"},{},7]");
    loop_advance(rig.loop, 10);
    assert_int_equal(rig.n_events, 2);
    record = (const struct record *)(const void *)rig.bytes.p;
    assert_true(str_eq(record_name(record), STR("D")));
    assert_true(str_eq(record_body(record), STR("\"t\":1.25")));
    assert_int_equal(record->ts, 1700000000000);
    assert_true(str_eq(record_body(record_next(record)), STR("\"s\":\"x\"")));
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_CONVERTED), 2);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_DROPPED), 2);
    rig_close(&rig);
}

static void test_large_answers_are_converted_in_pieces(void **state)
{
    static struct rig rig;
    autobuf struct buf body = {0};

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    loop_advance(rig.loop, 0);
    buf_add_u8(&body, '[');
    for (unsigned i = 0; i < 1000; i++)
        buf_printf(&body, "%s{\"t\":%u}", i ? "," : "", i);
    buf_add_u8(&body, ']');
    buf_add_u8(&body, 0);
    answer_call(call_to(&rig, "/a"), 200, (const char *)body.p);
    assert_true(ctx_counter(rig.ctx, IOTGW_CONVERTED) < 100);
    loop_advance(rig.loop, 10);
    assert_int_equal(rig.n_events, 1000);
    rig_close(&rig);
}

static void test_a_full_storage_makes_polls_skip_beats_and_then_goes_on(void **state)
{
    static struct rig rig;
    autobuf struct buf body = {0};
    unsigned n;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    buf_add_z(&body, "[{\"s\":\"");
    for (unsigned i = 0; i < 50; i++) {
        for (unsigned k = 0; k < 60000; k++)
            buf_add_u8(&body, 'x');
        buf_add_z(&body, i < 49 ? "\"},{\"s\":\"" : "\"}]");
    }
    buf_add_u8(&body, 0);
    rig.keeps = true;
    rig.client.auto_body = str_from((const char *)body.p); /* 3 MB each time */
    loop_advance(rig.loop, 5000);
    n = rig.client.n_asked;
    assert_true(n < 4);
    loop_advance(rig.loop, 10000);
    assert_int_equal(rig.client.n_asked, n);
    assert_true(endpoint_of(&rig, "/a").n_no_room >= 10);
    assert_int_equal(endpoint_of(&rig, "/a").n_overdue, 0);
    rig.keeps = false;
    answer_batches(&rig);
    rig.client.auto_body = STR("{}");
    loop_advance(rig.loop, 5000);
    assert_true(rig.client.n_asked >= n + 4);
    assert_int_equal(rig.n_events, 50 * n); /* also what was left of the answer under conversion */
    rig_close(&rig);
}

static void test_each_end_of_a_poll_is_counted_and_told(void **state)
{
    static const struct {
        unsigned status;
        enum err err;
        const char *body;
        enum endpoint_result result;
        const char *reason;
    } cases[] = {{200, ERR_OK, "{}", ENDPOINT_OK, NULL},
                 {500, ERR_OK, "{}", ENDPOINT_FAILED, "HTTP 500 Internal Server Error"},
                 {404, ERR_OK, "{}", ENDPOINT_REFUSED, "HTTP 404 Not Found"},
                 {302, ERR_OK, "{}", ENDPOINT_MOVED, "see \"allowRedirects\""},
                 {200, ERR_OK, "{", ENDPOINT_CONTENT, ""},
                 {0, ERR_TIMEOUT, NULL, ENDPOINT_TIMEOUT, "h:80 does not want to"},
                 {0, ERR_TLS, NULL, ENDPOINT_TLS, "h:80 does not want to"},
                 {200, ERR_OK, "[]", ENDPOINT_OK, NULL}};
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    loop_advance(rig.loop, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t before = endpoint_of(&rig, "/a").results[cases[i].result];
        struct ctx_status status;

        if (cases[i].err)
            fail_call(call_to(&rig, "/a"), cases[i].err);
        else
            answer_call(call_to(&rig, "/a"), cases[i].status, cases[i].body);
        assert_int_equal(endpoint_of(&rig, "/a").results[cases[i].result], before + 1);
        assert_int_equal(endpoint_of(&rig, "/a").n_calls, i + 1);
        status = ctx_status(rig.ctx);
        assert_int_equal(status.state, cases[i].reason ? LINK_DOWN : LINK_UP);
        if (cases[i].reason && !strstr(status.reason, cases[i].reason))
            fail_msg("case %zu: %s", i, status.reason);
        loop_advance(rig.loop, 1000);
    }
    rig_close(&rig);
}

static void test_the_connector_is_up_while_one_mapping_works(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "") "," MAPPING("b", "1", "")));
    loop_advance(rig.loop, 600);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_CONNECTING);
    answer_call(call_to(&rig, "/a"), 200, "{}");
    assert_int_equal(ctx_status(rig.ctx).state, LINK_UP);
    fail_call(call_to(&rig, "/b"), ERR_REFUSED);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_DEGRADED);
    loop_advance(rig.loop, 1000);
    fail_call(call_to(&rig, "/a"), ERR_REFUSED);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_DOWN);
    rig_close(&rig);
}

static void test_sub_requests_run_eight_at_once_and_are_merged(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("list", "10", ",\"subRequests\":{\"t\":{\"url\":\"${id}/t\"}}")));
    loop_advance(rig.loop, 0);
    answer_call(call_to(&rig, "/list"), 200,
                "[{\"id\":0},{\"id\":1},{\"id\":2},{\"id\":3},{\"id\":4},{\"id\":5},{\"id\":6},{\"id\":7},{\"id\":8},{"
                "\"id\":9}]");
    assert_int_equal(rig.client.n_open, 8);
    answer_call(call_to(&rig, "/list/7/t"), 200, "{\"t\":70}"); /* not in order */
    assert_int_equal(n_asked(&rig, "/list/8/t"), 1);
    fail_call(call_to(&rig, "/list/0/t"), ERR_TIMEOUT);
    rig.client.auto_body = STR("{\"t\":5}");
    answer_all(&rig.client);
    loop_advance(rig.loop, 10);
    assert_int_equal(rig.client.n_most, 8);
    assert_int_equal(rig.n_events, 9); /* the first item has no t */
    assert_int_equal(endpoint_of(&rig, "sub requests of http://h/list").n_calls, 10);
    assert_int_equal(endpoint_of(&rig, "sub requests of http://h/list").results[ENDPOINT_TIMEOUT], 1);
    assert_int_equal(n_asked(&rig, "/t"), 10);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_MESSAGES_OUT), 11);
    rig_close(&rig);
}

static void test_a_call_of_the_platform_is_answered_beside_the_polls(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig,
             "{\"host\":\"h\",\"mapping\":[" MAPPING(
                 "hang", "1",
                 "") "],\"serverSideRpc\":[{\"deviceNameFilter\":\".*\","
                     "\"methodFilter\":\"m\",\"requestUrlExpression\":\"c\",\"tries\":2,\"responseTimeout\":1}]}");
    loop_advance(rig.loop, 0);
    give_command(&rig, COMMAND_RPC, "D", "m", "5");
    assert_string_equal(rig.client.asked[1].body, "5");
    answer_call(call_to(&rig, "/c"), 200, "{\"x\":1}");
    assert_int_equal(rig.n_replies, 1);
    assert_string_equal(rig.reply, "{\"result\":{\"value\":{\"x\":1}}}");

    give_command(&rig, COMMAND_RPC, "D", "m", "5"); /* fails at first, is tried again after a pause */
    fail_call(call_to(&rig, "/c"), ERR_CLOSED);
    assert_int_equal(rig.n_replies, 1);
    loop_advance(rig.loop, 200);
    answer_call(call_to(&rig, "/c"), 200, "ok");
    assert_string_equal(rig.reply, "{\"result\":{\"value\":\"ok\"}}");

    give_command(&rig, COMMAND_RPC, "D", "m", "5"); /* and no more than twice */
    fail_call(call_to(&rig, "/c"), ERR_CLOSED);
    loop_advance(rig.loop, 200);
    fail_call(call_to(&rig, "/c"), ERR_CLOSED);
    assert_int_equal(rig.n_replies, 3);
    assert_string_equal(rig.reply, "{\"result\":{\"error\":\"No response received from RPC execution\"}}");
    rig_close(&rig);
}

static void test_attributes_of_an_update_are_told_one_after_the_other(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(
        &rig,
        "{\"host\":\"h\",\"mapping\":[],\"attributeUpdates\":[{\"deviceNameFilter\":\"D\",\"attributeFilter\":\".*\","
        "\"requestUrlExpression\":\"u/${attributeKey}\",\"httpMethod\":\"PUT\"}]}");
    give_command(&rig, COMMAND_ATTRIBUTES, "D", "", "{\"b\":1,\"a\":true}");
    assert_int_equal(rig.client.n_open, 1);
    answer_call(call_to(&rig, "/u/b"), 500, "");
    assert_int_equal(rig.n_replies, 0);
    answer_call(call_to(&rig, "/u/a"), 200, "");
    assert_string_equal(rig.client.asked[1].body, "true");
    assert_int_equal(rig.n_replies, 1);
    assert_int_equal(rig.reply_err, ERR_REFUSED);
    give_command(&rig, COMMAND_ATTRIBUTES, "Nobody", "", "{\"b\":1}");
    assert_int_equal(rig.n_replies, 2);
    assert_int_equal(rig.reply_err, ERR_OK);
    rig_close(&rig);
}

static void test_stopping_cancels_what_is_under_way_and_answers_what_is_open(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, "{\"host\":\"h\",\"mapping\":[" MAPPING(
                       "a", "1", "") "],\"serverSideRpc\":[{\"deviceNameFilter\":\".*\","
                                     "\"methodFilter\":\"m\",\"requestUrlExpression\":\"c\"}]}");
    loop_advance(rig.loop, 0);
    give_command(&rig, COMMAND_RPC, "D", "m", "5");
    iotgw_module.quiesce(rig.self, quiet, &rig);
    loop_advance(rig.loop, 0);
    assert_true(rig.is_quiet);
    assert_int_equal(rig.client.n_cancelled, 1); /* the poll; the call goes on */
    assert_int_equal(rig.n_replies, 0);
    rig_close(&rig);
    assert_int_equal(rig.n_replies, 1);
    assert_int_equal(rig.reply_err, ERR_CLOSED);
}

static void test_quiescing_waits_for_what_was_handed_over(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(MAPPING("a", "1", "")));
    rig.keeps = true;
    loop_advance(rig.loop, 0);
    answer_call(call_to(&rig, "/a"), 200, "{\"t\":1}");
    loop_advance(rig.loop, 1);
    iotgw_module.quiesce(rig.self, quiet, &rig);
    loop_advance(rig.loop, 100);
    assert_false(rig.is_quiet);
    answer_batches(&rig);
    loop_advance(rig.loop, 1);
    assert_true(rig.is_quiet);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_polls_keep_their_beat_whatever_the_answers_take),
        cmocka_unit_test(test_a_poll_is_never_begun_twice_and_keeps_its_phase),
        cmocka_unit_test(test_first_polls_are_spread_over_a_second_in_small_groups),
        cmocka_unit_test(test_a_short_period_spreads_over_itself),
        cmocka_unit_test(test_a_server_that_hangs_changes_nothing_for_the_others),
        cmocka_unit_test(test_what_is_converted_reaches_the_storage),
        cmocka_unit_test(test_large_answers_are_converted_in_pieces),
        cmocka_unit_test(test_a_full_storage_makes_polls_skip_beats_and_then_goes_on),
        cmocka_unit_test(test_each_end_of_a_poll_is_counted_and_told),
        cmocka_unit_test(test_the_connector_is_up_while_one_mapping_works),
        cmocka_unit_test(test_sub_requests_run_eight_at_once_and_are_merged),
        cmocka_unit_test(test_a_call_of_the_platform_is_answered_beside_the_polls),
        cmocka_unit_test(test_attributes_of_an_update_are_told_one_after_the_other),
        cmocka_unit_test(test_stopping_cancels_what_is_under_way_and_answers_what_is_open),
        cmocka_unit_test(test_quiescing_waits_for_what_was_handed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
