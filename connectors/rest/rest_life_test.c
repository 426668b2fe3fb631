/* SPDX-License-Identifier: Apache-2.0 */
/* The whole connector: time moves as the test says, and the test is the HTTP server, the storage and the gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/slab.h"
#include "conf/conf.h"
#include "connector/ctx.h"
#include "http/http_server.h"
#include "rest_conf.h"

#include <stdio.h>
#include <stdlib.h>

extern const struct connector_type iotgw_module;

enum { MAX_ASKED = 32 };

struct http_server {
    struct loop *loop;
    struct http_server_conf conf;
    struct http_server_events events;
    void *arg;
    bool is_quiet;
    struct timer close_timer;
    closed_fn *closed;
    void *closed_arg;
};

struct asked {                   /* one request of a client */
    struct http_request request; /* first */
    struct buf head;
    unsigned n_answers, status;
    char body[300], fields[600];
};

struct rig {
    struct loop *loop;
    struct http_server server;
    unsigned n_opened;
    bool cannot_listen;
    struct asked asked[MAX_ASKED];
    unsigned n_asked;
    struct store store;
    struct node *first, **last;
    unsigned n_events;
    struct ctx_host host;
    struct conf *conf;
    struct problems problems;
    struct ctx *ctx;
    void *self;
    bool is_quiet, is_stopped;
    uint64_t questions[8];
    unsigned n_questions, n_replies;
    struct command_box box;
};
static struct rig *the_rig; /* for the server, which the connector makes */

/* --- the HTTP server -------------------------------------------------------------------------------------------------- */

enum err http_server_new(struct http_server **out, struct loop *loop, struct log *log,
                         const struct http_server_conf *conf, const struct http_server_events *events, void *arg,
                         struct why *why)
{
    (void)log;
    the_rig->n_opened++;
    if (the_rig->cannot_listen)
        return why_set(why, ERR_EXISTS, "cannot listen on h:1: Address already in use");
    the_rig->server = (struct http_server){.loop = loop, .conf = *conf, .events = *events, .arg = arg};
    *out = &the_rig->server;
    return ERR_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->conf.port;
}

void http_answer(struct http_request *request, const struct http_answer *answer)
{
    struct asked *asked = CONTAINER_OF(request, struct asked, request);

    asked->n_answers++;
    asked->status = answer->status;
    snprintf(asked->body, sizeof asked->body, STR_FMT, STR_ARG(answer->body));
    snprintf(asked->fields, sizeof asked->fields, STR_FMT, STR_ARG(answer->fields));
}

void http_server_quiesce(struct http_server *server)
{
    server->is_quiet = true;
}

static void server_closed(void *arg)
{
    struct http_server *server = arg;

    server->closed(server->closed_arg);
}

void http_server_close(struct http_server *server, closed_fn *done, void *arg)
{
    server->closed = done;
    server->closed_arg = arg;
    timer_init(&server->close_timer, server->loop, server_closed, server);
    timer_start(&server->close_timer, 0);
}

void http_server_served(const struct http_server *server, struct served *out)
{
    (void)server;
    *out = (struct served){.size = sizeof *out, .n_requests = 7};
}

enum err http_server_renew(struct http_server *server, const char *cert_file, const char *key_file, struct why *why)
{
    (void)server, (void)cert_file, (void)key_file, (void)why;
    fail_msg("nobody has asked for it");
    return ERR_OK;
}

/* What a client sends, and its answer if that is known at once. */
static struct asked *ask(struct rig *rig, const char *method, const char *path, const char *fields, const char *body)
{
    struct asked *asked = &rig->asked[rig->n_asked++];

    assert_true(rig->n_asked <= MAX_ASKED);
    buf_printf(&asked->head, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n%s\r\n", method, path, strlen(body),
               fields);
    assert_int_equal(http_head_read(&asked->request.head, buf_str(&asked->head), NULL), HTTP_HEAD_WHOLE);
    asked->request.max_body = rig->server.conf.max_body;
    rig->server.events.head(rig->server.arg, &asked->request);
    if (!asked->n_answers) {
        asked->request.body = str_from(body);
        rig->server.events.request(rig->server.arg, &asked->request);
    }
    loop_advance(rig->loop, 0);
    return asked;
}

static struct asked *post(struct rig *rig, const char *path, const char *body)
{
    return ask(rig, "POST", path, "", body);
}

/* --- storage and gateway ---------------------------------------------------------------------------------------------- */

static void append(struct store *store, struct batch *batch)
{
    struct rig *rig = CONTAINER_OF(store, struct rig, store);

    rig->n_events += batch->n_events;
    batch_drop_bytes(batch);
    batch->node.next = NULL;
    *rig->last = &batch->node;
    rig->last = &batch->node.next;
}

static void answer_batches(struct rig *rig, enum err result)
{
    while (rig->first) {
        struct batch *batch = CONTAINER_OF(rig->first, struct batch, node);

        rig->first = batch->node.next;
        batch->result = result;
        store_answer(batch);
    }
    rig->last = &rig->first;
    loop_advance(rig->loop, 0);
}

static void request_attributes(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                               uint64_t cookie)
{
    struct rig *rig = arg;

    (void)ctx, (void)dev, (void)client;
    assert_true(str_eq(shared, STR("[\"limit\"]")));
    rig->questions[rig->n_questions++] = cookie;
}

static void take_reply(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct rig *rig = arg;

    (void)ctx, (void)command, (void)err, (void)json;
    rig->n_replies++;
}

static void update(struct rig *rig, const char *device, const char *values)
{
    rig->box.command = (struct command){.size = sizeof rig->box.command,
                                        .kind = COMMAND_ATTRIBUTES,
                                        .dev = device_get(str_from(device)),
                                        .params = str_from(values)};
    assert_true(ctx_command(rig->ctx, &rig->box.command));
    loop_advance(rig->loop, 0);
}

#define CONVERTER                                                                                                      \
    "\"converter\":{\"deviceInfo\":{\"deviceNameExpression\":\"${n}\"},\"timeseries\":[{\"key\":\"t\",\"value\":"      \
    "\"${t}\"}]}"
#define ENDPOINT(path, more) "{\"endpoint\":\"" path "\",\"HTTPMethods\":[\"POST\"]," CONVERTER more "}"

static const char file_text[] =
    "{\"server\":{\"host\":\"h\",\"port\":81,\"maxBodyBytes\":77,\"maxConnections\":9,\"allowedOrigins\":[\"https://"
    "a.x\"]},"
    "\"mapping\":[" ENDPOINT("/d", ",\"response\":{\"successResponse\":\"STORED\"}") "," ENDPOINT(
        "/w",
        ",\"response\":{\"responseExpected\":true,\"responseAttribute\":\"r\",\"timeout\":8,"
        "\"unsuccessfulResponse\":\"LATE\"}") "],\"requestsMapping\":{\"attributeRequests\":[{\"endpoint\":\"/q\","
                                              "\"HTTPMethods\":[\"POST\"],\"timeout\":3,\"deviceNameExpression\":"
                                              "\"${n}\",\"attributeNameExpression\":\"limit\"}]}}";

static const struct store_ops ops = {.append = append};

static void rig_open(struct rig *rig, bool cannot_listen)
{
    struct why why = {0};

    *rig = (struct rig){.cannot_listen = cannot_listen};
    the_rig = rig;
    rig->last = &rig->first;
    ctx_setup();
    rig->store.ops = &ops;
    rig->host = (struct ctx_host){
        .store = &rig->store, .reply = take_reply, .request_attributes = request_attributes, .arg = rig};
    rig->loop = loop_new_fake(1700000000000);
    problems_init(&rig->problems);
    rig->conf = conf_load_text(&rest_conf_type, ".", "test", str_from(file_text), &rig->problems);
    if (!rig->conf)
        fail_msg("%s: %s", rig->problems.first->path, rig->problems.first->text);
    rig->ctx = ctx_new(&iotgw_module, "test", rig->loop, &rig->host, rig->conf);
    ctx_set_log_levels(rig->ctx, LOG_LEVEL_OFF, LOG_LEVEL_OFF);
    rig->self = mem_zero(iotgw_module.state_size);
    assert_int_equal(iotgw_module.open(rig->self, rig->ctx, conf_root(rig->conf), &why), ERR_OK);
    ctx_attach(rig->ctx, rig->self);
    iotgw_module.start(rig->self);
    loop_advance(rig->loop, 0);
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
    for (unsigned i = 0; i < rig->n_asked; i++) {
        assert_int_equal(rig->asked[i].n_answers, 1); /* each exactly once, whatever happened */
        buf_fini(&rig->asked[i].head);
    }
    iotgw_module.close(rig->self);
    ctx_attach(rig->ctx, NULL);
    ctx_unref(rig->ctx);
    answer_batches(rig, ERR_OK);
    loop_advance(rig->loop, 100);
    assert_int_equal(slab_in_use(), 0);
    loop_free(rig->loop);
    mem_free(rig->self);
    conf_unref(rig->conf);
    problems_fini(&rig->problems);
}

static struct rig rig;
#define DATA "{\"n\":\"A\",\"t\":1}"

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void an_answer_waits_until_the_data_is_durable(void **state)
{
    struct asked *one, *two;

    (void)state;
    rig_open(&rig, false);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_UP);
    one = post(&rig, "/d", DATA);
    two = post(&rig, "/d", "[{\"n\":\"B\",\"t\":1},{\"n\":\"C\",\"t\":2}]");
    loop_advance(rig.loop, 10);
    assert_true(!one->n_answers && !two->n_answers && rig.n_events == 3);
    answer_batches(&rig, ERR_OK);
    assert_int_equal(one->status, 200);
    assert_string_equal(one->body, "STORED");
    assert_int_equal(two->status, 200);
    rig_close(&rig);
}

static void what_could_not_be_stored_is_to_be_sent_again(void **state)
{
    struct asked *asked;

    (void)state;
    rig_open(&rig, false);
    asked = post(&rig, "/d", DATA);
    answer_batches(&rig, ERR_IO);
    assert_int_equal(asked->status, 503);
    assert_non_null(strstr(asked->fields, "Retry-After: 1\r\n"));
    rig_close(&rig);
}

static void a_storage_that_stands_still_is_told_once_and_to_whoever_comes(void **state)
{
    struct asked *first, *second;

    (void)state;
    rig_open(&rig, false);
    first = post(&rig, "/d", DATA);
    loop_advance(rig.loop, 2000);
    assert_int_equal(first->n_answers, 0);
    second = post(&rig, "/d", DATA); /* at the head: its body is not waited for */
    assert_int_equal(second->status, 503);
    assert_non_null(strstr(second->fields, "Retry-After: 1\r\n"));
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_SKIPPED), 1);
    loop_advance(rig.loop, 4000);
    assert_int_equal(first->status, 503);
    assert_non_null(strstr(first->body, "may be stored yet"));
    answer_batches(&rig, ERR_OK); /* too late: nothing more is said */
    assert_int_equal(first->n_answers, 1);
    first = post(&rig, "/d", DATA);
    answer_batches(&rig, ERR_OK);
    assert_int_equal(first->status, 200);
    rig_close(&rig);
}

static void an_awaited_attribute_is_the_answer_or_its_time_runs_out(void **state)
{
    struct asked *early, *late, *never;

    (void)state;
    rig_open(&rig, false);
    early = post(&rig, "/w", DATA);
    update(&rig, "A", "{\"other\":1}");
    update(&rig, "B", "{\"r\":1}");
    update(&rig, "A", "{\"r\":true}"); /* before it is durable: the answer waits for both */
    assert_int_equal(early->n_answers, 0);
    answer_batches(&rig, ERR_OK);
    assert_int_equal(early->status, 200);
    assert_string_equal(early->body, "True");
    late = post(&rig, "/w", DATA);
    never = post(&rig, "/w", DATA);
    answer_batches(&rig, ERR_OK);
    update(&rig, "A", "{\"r\":5}"); /* the oldest one's */
    assert_int_equal(late->status, 200);
    assert_string_equal(late->body, "5");
    loop_advance(rig.loop, 7900);
    assert_int_equal(never->n_answers, 0);
    loop_advance(rig.loop, 200);
    assert_int_equal(never->status, 408);
    assert_string_equal(never->body, "LATE");
    rig_close(&rig);
}

static void each_item_of_an_attribute_request_is_asked_for(void **state)
{
    struct asked *two, *silent, *failed;

    (void)state;
    rig_open(&rig, false);
    two = post(&rig, "/q", "[{\"n\":\"A\"},{\"n\":\"B\"}]");
    assert_int_equal(rig.n_questions, 2);
    ctx_answer_attributes(rig.ctx, rig.questions[1], ERR_OK, STR("{}"));
    loop_advance(rig.loop, 0);
    assert_int_equal(two->n_answers, 0);
    ctx_answer_attributes(rig.ctx, rig.questions[0], ERR_OK, STR("{\"limit\":7}"));
    loop_advance(rig.loop, 0);
    assert_int_equal(two->status, 200);
    assert_string_equal(two->body,
                        "[{\"device\":\"A\",\"id\":1,\"value\":7},{\"device\":\"B\",\"id\":2,\"value\":null}]");
    failed = post(&rig, "/q", "[{\"n\":\"A\"},{\"n\":\"B\"}]");
    ctx_answer_attributes(rig.ctx, rig.questions[2], ERR_CLOSED, STR_NONE);
    ctx_answer_attributes(rig.ctx, rig.questions[3], ERR_OK, STR("{}")); /* nobody waits for it any more */
    loop_advance(rig.loop, 0);
    assert_int_equal(failed->status, 503);
    silent = post(&rig, "/q", "{\"n\":\"A\"}");
    loop_advance(rig.loop, 3100);
    assert_int_equal(silent->status, 408);
    assert_int_equal(post(&rig, "/q", "[{\"n\":\"A\"},{}]")->status, 422);
    rig_close(&rig);
}

static void web_pages_of_allowed_origins_may_read_the_answers(void **state)
{
    struct asked *asked;

    (void)state;
    rig_open(&rig, false);
    asked = ask(&rig, "POST", "/none", "Origin: https://a.x\r\n", "");
    assert_int_equal(asked->status, 404);
    assert_non_null(strstr(asked->fields, "Access-Control-Allow-Origin: https://a.x\r\n"));
    asked = ask(&rig, "POST", "/none", "Origin: https://b.x\r\n", "");
    assert_null(strstr(asked->fields, "Access-Control"));
    asked = ask(&rig, "OPTIONS", "/d", "Origin: https://a.x\r\nAccess-Control-Request-Method: POST\r\n", "");
    assert_int_equal(asked->status, 204);
    assert_non_null(strstr(asked->fields, "Access-Control-Allow-Methods: POST\r\n"));
    asked = ask(&rig, "OPTIONS", "/d", "Origin: https://b.x\r\nAccess-Control-Request-Method: POST\r\n", "");
    assert_int_equal(asked->status, 405);
    asked = ask(&rig, "OPTIONS", "/d", "Origin: https://a.x\r\nAccess-Control-Request-Method: PUT\r\n", "");
    assert_int_equal(asked->status, 405);
    rig_close(&rig);
}

static void the_server_has_the_limits_of_the_configuration(void **state)
{
    struct served served;

    (void)state;
    rig_open(&rig, false);
    assert_int_equal(rig.server.conf.max_body, 77);
    assert_int_equal(rig.server.conf.max_connections, 9);
    assert_int_equal(rig.server.conf.port, 81);
    assert_true(ctx_served(rig.ctx, &served) && served.n_requests == 7);
    rig_close(&rig);
}

static void a_port_in_use_is_tried_again(void **state)
{
    struct served served;

    (void)state;
    rig_open(&rig, true);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_FAILED);
    assert_non_null(strstr(ctx_status(rig.ctx).reason, "already in use"));
    assert_false(ctx_served(rig.ctx, &served));
    rig.cannot_listen = false;
    loop_advance(rig.loop, 120000);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_UP);
    assert_int_equal(rig.n_opened, 2);
    rig_close(&rig);
}

static void quiescing_takes_nothing_more_and_answers_what_is_under_way(void **state)
{
    struct asked *before, *after;

    (void)state;
    rig_open(&rig, false);
    before = post(&rig, "/d", DATA);
    iotgw_module.quiesce(rig.self, quiet, &rig);
    loop_advance(rig.loop, 0);
    after = post(&rig, "/d", DATA);
    assert_int_equal(after->status, 503);
    assert_true(rig.server.is_quiet && !rig.is_quiet && !before->n_answers);
    answer_batches(&rig, ERR_OK);
    loop_advance(rig.loop, 0);
    assert_true(rig.is_quiet);
    assert_int_equal(before->status, 200);
    rig_close(&rig);
}

static void stopping_answers_whoever_still_waits(void **state)
{
    struct asked *stored, *awaits, *asks;

    (void)state;
    rig_open(&rig, false);
    awaits = post(&rig, "/w", DATA);
    answer_batches(&rig, ERR_OK);
    stored = post(&rig, "/d", DATA);
    asks = post(&rig, "/q", "[{\"n\":\"A\"},{\"n\":\"B\"}]");
    assert_true(!stored->n_answers && !awaits->n_answers && !asks->n_answers);
    rig_close(&rig);
    assert_true(stored->status == 503 && awaits->status == 503 && asks->status == 503);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_waits_until_the_data_is_durable),
        cmocka_unit_test(what_could_not_be_stored_is_to_be_sent_again),
        cmocka_unit_test(a_storage_that_stands_still_is_told_once_and_to_whoever_comes),
        cmocka_unit_test(an_awaited_attribute_is_the_answer_or_its_time_runs_out),
        cmocka_unit_test(each_item_of_an_attribute_request_is_asked_for),
        cmocka_unit_test(web_pages_of_allowed_origins_may_read_the_answers),
        cmocka_unit_test(the_server_has_the_limits_of_the_configuration),
        cmocka_unit_test(a_port_in_use_is_tried_again),
        cmocka_unit_test(quiescing_takes_nothing_more_and_answers_what_is_under_way),
        cmocka_unit_test(stopping_answers_whoever_still_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
