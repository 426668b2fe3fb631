/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/slab.h"
#include "connector/ctx.h"
#include "connector/report.h"

#include <assert.h>
#include <pthread.h>

/* A store that keeps what it gets and answers when told to. */
struct fake_store {
    struct store store;
    struct node *first, **last;
    unsigned n;
    uint32_t n_events, n_values;
    struct buf bytes;
};

struct instance {
    struct ctx *ctx;
    unsigned n_done, n_room;
    uint64_t cookies[16];
    enum err results[16];
};

struct fixture {
    struct loop *loop;
    struct fake_store store;
    struct ctx_host host;
    struct instance instance;
    struct ctx *ctx;
    struct device *denied;
};

static void fake_append(struct store *store, struct batch *batch)
{
    struct fake_store *fake = CONTAINER_OF(store, struct fake_store, store);

    buf_add(&fake->bytes, batch->bytes, batch->n_bytes);
    fake->n_events += batch->n_events;
    fake->n_values += batch->n_values;
    batch_drop_bytes(batch);
    batch->node.next = NULL;
    *fake->last = &batch->node;
    fake->last = &batch->node.next;
    fake->n++;
}

static void answer(struct fake_store *fake, unsigned n, enum err result)
{
    for (; n; n--) {
        struct batch *batch = CONTAINER_OF(fake->first, struct batch, node);

        fake->first = batch->node.next;
        if (!fake->first)
            fake->last = &fake->first;
        fake->n--;
        batch->result = result;
        store_answer(batch);
    }
}

static void on_done(void *self, uint64_t cookie, enum err result)
{
    struct instance *instance = self;

    instance->cookies[instance->n_done] = cookie;
    instance->results[instance->n_done++] = result;
}

static void on_room(void *self)
{
    ((struct instance *)self)->n_room++;
}

static const struct connector_type type = {
    .size = sizeof type, .abi = IOTGW_CONNECTOR_ABI, .name = "test", .done = on_done, .room = on_room};
static const struct store_ops ops = {.append = fake_append};

static int setup(void **state)
{
    struct fixture *f = mem_zero(sizeof *f);

    log_set_sink(NULL, NULL);
    ctx_setup();
    f->loop = loop_new_fake(1700000000000);
    f->store.store.ops = &ops;
    f->store.last = &f->store.first;
    f->host.store = &f->store.store;
    f->ctx = ctx_new(&type, "test", f->loop, &f->host, NULL);
    f->instance.ctx = f->ctx;
    ctx_attach(f->ctx, &f->instance);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->ctx) {
        ctx_attach(f->ctx, NULL);
        ctx_unref(f->ctx);
    }
    answer(&f->store, f->store.n, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(slab_in_use(), 0);
    buf_fini(&f->store.bytes);
    loop_free(f->loop);
    mem_free(f);
    return 0;
}

static enum err put(struct fixture *f, const char *name, const char *key, struct str text)
{
    struct event *event = ctx_event(f->ctx, device_get(str_from(name)), STR("pump"));

    event_add(event, RECORD_TELEMETRY, str_from(key), text, 1);
    return ctx_put(f->ctx);
}

static bool message(struct fixture *f, uint64_t cookie)
{
    assert_int_equal(put(f, "ctx 1", "\"a\":", STR("1")), ERR_OK);
    return ctx_mark(f->ctx, cookie);
}

static const struct record *record_at(struct fixture *f, unsigned i)
{
    const struct record *record = (const struct record *)(const void *)f->store.bytes.p;

    for (; i; i--)
        record = record_next(record);
    assert_true((const uint8_t *)record < f->store.bytes.p + f->store.bytes.n);
    return record;
}

static void test_a_burst_is_one_batch_and_one_completion(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 10; i++)
        assert_true(message(f, i));
    assert_int_equal(f->store.n, 0);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 1);
    assert_int_equal(f->store.n_events, 10);
    assert_int_equal(f->store.n_values, 10);
    assert_int_equal(f->instance.n_done, 0);
    assert_false(ctx_is_idle(f->ctx));
    answer(&f->store, 1, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(f->instance.cookies[0], 10);
    assert_int_equal(f->instance.results[0], ERR_OK);
    assert_true(ctx_is_idle(f->ctx));
    assert_int_equal(device_get(STR("ctx 1"))->n_collected, 10);
    assert_string_equal(device_get(STR("ctx 1"))->profile, "pump");
}

static void test_latency_mode_tells_when_values_came_and_ends_with_the_next_value(void **state)
{
    struct fixture *f = *state;
    const struct str want = STR("{\"connector\":\"test\",\"receivedTs\":1700000000000,\"convertedTs\":1700000000000,"
                                "\"sendToStorageTs\":1700000000000,\"putToStorageTs\":1700000000000}");

    assert_true(message(f, 1));
    f->host.adds_meta = true;
    assert_true(message(f, 2));
    f->host.adds_meta = false;
    assert_true(message(f, 3));
    f->host.adds_meta = true;
    loop_set_earliest(f->loop, 1800000000000); /* the clock is not set: no time is better than a wrong one */
    assert_true(message(f, 4));
    loop_advance(f->loop, 0);
    assert_null(record_meta(record_at(f, 0)).p);
    assert_true(str_eq(record_meta(record_at(f, 1)), want));
    assert_true(str_eq(record_body(record_at(f, 1)), STR("\"a\":1")));
    assert_null(record_meta(record_at(f, 2)).p);
    assert_null(record_meta(record_at(f, 3)).p);
}

static void test_answers_of_one_burst_are_told_at_once_unless_they_differ(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 1; i <= 6; i++) {
        (void)message(f, i);
        ctx_flush(f->ctx);
    }
    answer(&f->store, 3, ERR_OK);
    answer(&f->store, 1, ERR_IO);
    answer(&f->store, 2, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 3);
    assert_int_equal(f->instance.cookies[0], 3);
    assert_int_equal(f->instance.cookies[1], 4);
    assert_int_equal(f->instance.results[1], ERR_IO);
    assert_int_equal(f->instance.cookies[2], 6);
    assert_int_equal(f->instance.results[2], ERR_OK);
}

static void test_a_mark_without_values_is_answered_behind_what_came_before(void **state)
{
    struct fixture *f = *state;

    assert_true(ctx_mark(f->ctx, 1));
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(f->instance.cookies[0], 1);
    (void)message(f, 2);
    loop_advance(f->loop, 0);
    assert_true(ctx_mark(f->ctx, 3));
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    answer(&f->store, 1, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 2);
    assert_int_equal(f->instance.cookies[1], 3);
    assert_true(ctx_is_idle(f->ctx));
}

static void test_without_credit_the_source_is_told_to_stop_and_later_to_go_on(void **state)
{
    struct fixture *f = *state;
    autofree char *text = mem_new(50000);
    uint64_t cookie = 0;
    bool more = true;

    memset(text, '1', 50000);
    while (more) {
        assert_int_equal(put(f, "ctx 2", "\"long\":", str_of(text, 50000)), ERR_OK);
        more = ctx_mark(f->ctx, ++cookie);
    }
    loop_advance(f->loop, 0);
    assert_in_range(ctx_in_flight_bytes(f->ctx), 4 * 1024 * 1024, 4 * 1024 * 1024 + 51000);
    answer(&f->store, f->store.n / 4, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_room, 0);
    answer(&f->store, f->store.n / 2, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_room, 1);
    assert_true(ctx_has_room(f->ctx));
    answer(&f->store, f->store.n, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_room, 1);
    assert_int_equal(ctx_in_flight_bytes(f->ctx), 0);
}

static void test_connectors_share_the_credit(void **state)
{
    struct fixture *f = *state;
    struct ctx *others[63];
    autofree char *text = mem_new(60000);
    uint64_t cookie = 0;

    memset(text, '1', 60000);
    for (unsigned i = 0; i < COUNT_OF(others); i++)
        others[i] = ctx_new(&type, "other", f->loop, &f->host, NULL);
    do
        assert_int_equal(put(f, "ctx 2", "\"long\":", str_of(text, 60000)), ERR_OK);
    while (ctx_mark(f->ctx, ++cookie));
    assert_in_range(ctx_in_flight_bytes(f->ctx), 256 * 1024, 256 * 1024 + 61000);
    for (unsigned i = 0; i < COUNT_OF(others); i++)
        ctx_unref(others[i]);
    assert_true(ctx_has_room(f->ctx));
}

static void test_records_of_one_source_message_are_never_spread_over_two_batches(void **state)
{
    struct fixture *f = *state;
    autofree char *text = mem_new(40000);

    memset(text, '1', 40000);
    assert_int_equal(put(f, "ctx 3", "\"a\":", str_of(text, 40000)), ERR_OK);
    (void)ctx_mark(f->ctx, 1);
    assert_int_equal(put(f, "ctx 3", "\"b\":", str_of(text, 20000)), ERR_OK);
    assert_int_equal(f->store.n, 0);
    assert_int_equal(put(f, "ctx 4", "\"c\":", str_of(text, 20000)), ERR_OK);
    assert_int_equal(f->store.n, 0); /* the slab is full: the second message moves as a whole, the first goes … */
    assert_true(ctx_in_flight_bytes(f->ctx) > 80000);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 1); /* … at the end of the turn */
    assert_int_equal(CONTAINER_OF(f->store.first, struct batch, node)->cookie, 1);
    assert_int_equal(f->store.n_events, 1);
    assert_int_equal(put(f, "ctx 5", "\"d\":", str_of(text, 40000)),
                     ERR_OK); /* larger than a slab: a block of its own */
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 1); /* unfinished: waits for its mark */
    (void)ctx_mark(f->ctx, 2);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 2);
    assert_int_equal(f->store.n_events, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(record_check(record_at(f, i), record_at(f, i)->size), ERR_OK);
}

/* So that the store's thread is woken once, and finds all of it. */
static void test_what_fills_several_slabs_in_a_turn_goes_to_the_store_together_at_its_end(void **state)
{
    struct fixture *f = *state;
    autofree char *text = mem_new(40000);

    memset(text, '1', 40000);
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(put(f, "ctx several", "\"a\":", str_of(text, 40000)), ERR_OK);
        assert_true(ctx_mark(f->ctx, i));
    }
    assert_int_equal(f->store.n, 0);
    assert_false(ctx_is_idle(f->ctx));
    assert_in_range(ctx_in_flight_bytes(f->ctx), 200000, 201000);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 5);
    for (unsigned i = 0; i < 5; i++)
        answer(&f->store, 1, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(f->instance.cookies[0], 5);
    assert_true(ctx_is_idle(f->ctx));
    assert_int_equal(ctx_in_flight_bytes(f->ctx), 0);
}

static void test_connects_and_disconnects_stand_between_the_data(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_get(STR("ctx 6"));

    ctx_connect(f->ctx, dev, STR("valve"));
    assert_int_equal(put(f, "ctx 6", "\"a\":", STR("1")), ERR_OK);
    ctx_disconnect(f->ctx, dev);
    (void)ctx_mark(f->ctx, 1);
    loop_advance(f->loop, 0);
    assert_int_equal(record_at(f, 0)->kind, RECORD_CONNECT);
    assert_int_equal(record_at(f, 0)->ts, 1);
    assert_memory_equal(record_profile(record_at(f, 0)).p, "valve", 5);
    assert_int_equal(record_at(f, 1)->kind, RECORD_TELEMETRY);
    assert_int_equal(record_at(f, 2)->kind, RECORD_DISCONNECT);
    assert_int_equal(record_at(f, 2)->ts, 2);
    assert_int_equal(dev->state_number, 2);
    assert_int_equal(dev->link, DEVICE_LINK_DOWN);
    assert_ptr_equal(dev->owner, f->ctx);
}

static void test_without_links_a_device_that_had_left_is_back_with_its_next_connect_or_data(void **state)
{
    static const struct connector_type without_links = {
        .size = sizeof type, .abi = IOTGW_CONNECTOR_ABI, .name = "test", .flags = CONNECTOR_NO_LINKS};
    struct fixture *f = *state;
    struct device *dev = device_get(STR("ctx 7"));

    ctx_attach(f->ctx, NULL);
    ctx_unref(f->ctx);
    f->ctx = ctx_new(&without_links, "test", f->loop, &f->host, NULL);
    ctx_attach(f->ctx, &f->instance);
    ctx_disconnect(f->ctx, dev);
    assert_int_equal(dev->link, DEVICE_LINK_DOWN);
    ctx_connect(f->ctx, dev, STR_NONE);
    assert_int_equal(dev->link, DEVICE_LINK_UNKNOWN);
    ctx_disconnect(f->ctx, dev);
    assert_int_equal(dev->link, DEVICE_LINK_DOWN);
    assert_int_equal(put(f, "ctx 7", "\"a\":", STR("1")), ERR_OK);
    assert_int_equal(dev->link, DEVICE_LINK_UNKNOWN);
    (void)ctx_mark(f->ctx, 1);
}

/* Invariant 8. */
static void test_answers_for_a_connector_that_is_gone_vanish(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_get(STR("ctx 1"));

    (void)message(f, 1);
    ctx_flush(f->ctx);
    (void)message(f, 2); /* what is marked goes out even so */
    ctx_attach(f->ctx, NULL);
    assert_int_equal(f->store.n, 2);
    assert_null(dev->owner);
    ctx_unref(f->ctx);
    f->ctx = NULL;
    answer(&f->store, 2, ERR_OK);
    loop_advance(f->loop, 0); /* frees it: the address sanitizer would tell */
    assert_int_equal(f->instance.n_done, 0);
}

/* Invariant 8: what was answered before is told once, the rest comes back here and to nobody else. */
static void test_each_batch_comes_back_once_also_when_its_connector_ends_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct ctx *ctx = ctx_ref(f->ctx);

    for (uint64_t i = 1; i <= 10; i++) {
        (void)message(f, i);
        ctx_flush(f->ctx);
        if (i == 4)
            answer(&f->store, 2, ERR_OK);
    }
    answer(&f->store, 3, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(f->instance.cookies[0], 5);
    answer(&f->store, 1, ERR_OK); /* on its way when the connector ends */
    ctx_attach(f->ctx, NULL);
    ctx_unref(f->ctx);
    f->ctx = NULL;
    assert_true(ctx_in_flight_bytes(ctx) > 0);
    answer(&f->store, 4, ERR_FULL);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(ctx_in_flight_bytes(ctx), 0);
    ctx_unref(ctx);
}

static void *answer_all(void *arg)
{
    struct fixture *f = arg;

    answer(&f->store, f->store.n, ERR_OK);
    return NULL;
}

static void test_answers_may_come_from_another_thread(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;

    for (uint64_t i = 1; i <= 8; i++) {
        (void)message(f, i);
        ctx_flush(f->ctx);
    }
    assert_int_equal(pthread_create(&thread, NULL, answer_all, f), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, 1);
    assert_int_equal(f->instance.cookies[0], 8);
}

static bool allow(void *arg, struct ctx *ctx, struct device *dev)
{
    (void)ctx;
    return dev != ((struct fixture *)arg)->denied;
}

static void test_a_denied_device_gives_nothing(void **state)
{
    struct fixture *f = *state;

    f->denied = device_get(STR("ctx 7"));
    f->host.device_allowed = allow;
    f->host.arg = f;
    assert_int_equal(put(f, "ctx 7", "\"a\":", STR("1")), ERR_DENIED);
    ctx_connect(f->ctx, f->denied, STR("valve"));
    assert_int_equal(put(f, "ctx 8", "\"a\":", STR("1")), ERR_OK);
    (void)ctx_mark(f->ctx, 1);
    loop_advance(f->loop, 0);
    assert_int_equal(f->store.n_events, 1);
    assert_null(f->denied->owner);
}

static void test_an_item_without_values_is_told_apart(void **state)
{
    struct fixture *f = *state;

    (void)ctx_event(f->ctx, device_get(STR("ctx 1")), STR("pump"));
    assert_int_equal(ctx_put(f->ctx), ERR_NOTFOUND);
}

static void test_third_parties_values_are_checked_and_brought_into_final_form(void **state)
{
    struct fixture *f = *state;
    const struct host *host = &ctx_host_functions;
    struct str body;

    host->event(f->ctx, host->device(f->ctx, STR("ctx 9")), STR("pump"), NULL);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR("a"), STR(" 1.50 "), 5, NULL), ERR_OK);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR("b"), STR("{\"x\": [1, 1e3]}"), 5, NULL), ERR_OK);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR("c"), STR("1,\"d\":2"), 5, NULL), ERR_SYNTAX);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR(""), STR("1"), 5, NULL), ERR_RANGE);
    assert_int_equal(host->put(f->ctx), ERR_OK);
    (void)host->mark(f->ctx, 1);
    loop_advance(f->loop, 0);
    body = record_body(record_at(f, 0));
    assert_true(str_eq(body, STR("\"a\":1.5,\"b\":{\"x\":[1,1000.0]}")));
    assert_int_equal(record_at(f, 0)->ts, 5);
}

static void test_status_sums_up_the_links_and_keeps_the_last_reason(void **state)
{
    struct fixture *f = *state;
    struct ctx_status status;

    ctx_state(f->ctx, STR("a"), LINK_CONNECTING, STR_NONE);
    ctx_state(f->ctx, STR("b"), LINK_CONNECTING, STR_NONE);
    assert_int_equal(ctx_status(f->ctx).state, LINK_CONNECTING);
    ctx_state(f->ctx, STR("a"), LINK_UP, STR_NONE);
    assert_int_equal(ctx_status(f->ctx).state, LINK_DEGRADED);
    loop_advance(f->loop, 1000);
    ctx_state(f->ctx, STR("b"), LINK_DOWN, STR("no answer"));
    ctx_state(f->ctx, STR("b"), LINK_CONNECTING, STR_NONE);
    status = ctx_status(f->ctx);
    assert_int_equal(status.state, LINK_DEGRADED);
    assert_string_equal(status.reason, "no answer");
    assert_int_equal(status.n_attempts, 3);
    assert_int_equal(status.since_ms, 1700000000000);
    ctx_state(f->ctx, STR("b"), LINK_UP, STR_NONE);
    status = ctx_status(f->ctx);
    assert_int_equal(status.state, LINK_UP);
    assert_int_equal(status.n_attempts, 0);
    ctx_state(f->ctx, STR("a"), LINK_DOWN, STR_NONE);
    ctx_state(f->ctx, STR("b"), LINK_DOWN, STR("gone"));
    assert_int_equal(ctx_status(f->ctx).state, LINK_DOWN);
    assert_int_equal(ctx_status(f->ctx).since_ms, 1700000001000);
}

/* --- helper threads --------------------------------------------------------------------------------------------------- */

struct jobs {
    struct loop *loop;
    struct helper *helper;
    pthread_t loop_thread;
    unsigned n_run, n_done, n_skipped, order[4], n_order;
    bool is_stopped;
};
struct one_job {
    struct jobs *jobs;
    unsigned number;
};

static void run_job(void *arg)
{
    struct one_job *job = arg;

    assert(!pthread_equal(pthread_self(), job->jobs->loop_thread));
    job->jobs->n_run++;
}

static void jobs_stopped(void *arg)
{
    struct jobs *jobs = arg;

    jobs->is_stopped = true;
    loop_stop(jobs->loop);
}

static void job_done(void *arg, bool ran)
{
    struct one_job *job = arg;
    struct jobs *jobs = job->jobs;

    assert(pthread_equal(pthread_self(), jobs->loop_thread));
    jobs->order[jobs->n_order++] = job->number;
    jobs->n_done += ran;
    jobs->n_skipped += !ran;
    if (jobs->n_order == 2)
        helper_stop(jobs->helper, jobs_stopped, jobs);
}

static void begin_jobs(void *arg)
{
    static struct one_job all[2];
    struct jobs *jobs = arg;

    for (unsigned i = 0; i < 2; i++) {
        all[i] = (struct one_job){jobs, i};
        helper_post(jobs->helper, run_job, job_done, &all[i]);
    }
}

static void test_a_helper_thread_does_its_jobs_in_order_and_ends(void **state)
{
    struct fixture *f = *state;
    struct jobs jobs = {.loop_thread = pthread_self()};
    struct ctx *ctx;
    struct timer timer;

    (void)f;
    assert_int_equal(loop_new(&jobs.loop, "test"), ERR_OK);
    ctx = ctx_new(&type, "jobs", jobs.loop, &f->host, NULL);
    jobs.helper = helper_start(ctx, "test");
    assert_non_null(jobs.helper);
    timer_init(&timer, jobs.loop, begin_jobs, &jobs);
    timer_start(&timer, 0);
    loop_run(jobs.loop);
    assert_true(jobs.is_stopped);
    assert_int_equal(jobs.n_run, 2);
    assert_int_equal(jobs.n_done, 2);
    assert_int_equal(jobs.order[1], 1);
    ctx_unref(ctx);
    loop_free(jobs.loop);
}

/* --- reports --------------------------------------------------------------------------------------------------------- */

static const struct report_strategy periodic = {
    .type = REPORT_ON_CHANGE_OR_REPORT_PERIOD, .period_ms = 1000, .ttl_ms = 86400000};

static enum err put_reported(struct fixture *f, const char *name, struct str text, const struct report_strategy *report,
                             uint64_t cookie)
{
    const struct host *host = &ctx_host_functions;
    enum err err;

    host->event(f->ctx, host->device(f->ctx, str_from(name)), STR("pump"), report);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR("a"), text, IOTGW_NO_TS, NULL), ERR_OK);
    err = host->put(f->ctx);
    (void)host->mark(f->ctx, cookie);
    loop_advance(f->loop, 0);
    return err;
}

static void test_what_is_held_back_is_accepted_and_counted(void **state)
{
    struct fixture *f = *state;
    const struct host *host = &ctx_host_functions;
    struct device *dev = device_get(STR("ctx report 1"));

    assert_int_equal(put_reported(f, "ctx report 1", STR("1"), &report_on_change, 1), ERR_OK);
    answer(&f->store, 1, ERR_OK);
    assert_int_equal(put_reported(f, "ctx report 1", STR("1.0"), &report_on_change, 2), ERR_OK);
    assert_int_equal(f->store.n_values, 1);
    assert_int_equal(f->instance.n_done, 2);
    assert_int_equal(f->instance.cookies[1], 2);
    assert_int_equal(f->instance.results[1], ERR_OK);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_UNCHANGED), 1);
    assert_int_equal(dev->n_unchanged, 1);
    assert_int_equal(dev->n_collected, 1);
    /* A point's own strategy goes before its device's. */
    host->event(f->ctx, dev, STR("pump"), &report_on_change);
    assert_int_equal(host->value(f->ctx, IOTGW_TELEMETRY, STR("a"), STR("1"), 5, &periodic), ERR_OK);
    assert_int_equal(host->put(f->ctx), ERR_OK);
    assert_int_equal(ctx_report_stats(f->ctx).n_periodic, 1);
    assert_int_equal(ctx_report_stats(f->ctx).n_values, 1);
    /* Without a strategy nothing is held back. */
    assert_int_equal(put_reported(f, "ctx report 1", STR("1"), NULL, 3), ERR_OK);
    assert_int_equal(f->store.n_values, 2);
    answer(&f->store, f->store.n, ERR_OK);
}

static void test_periodic_reports_are_stamped_when_they_are_made_and_no_source_waits_for_them(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_get(STR("ctx report 2"));
    unsigned n_done;

    ctx_connect(f->ctx, dev, STR("pump"));
    assert_int_equal(put_reported(f, "ctx report 2", STR("7"), &periodic, 1), ERR_OK);
    answer(&f->store, f->store.n, ERR_OK);
    loop_advance(f->loop, 0);
    n_done = f->instance.n_done;
    f->store.bytes.n = 0;
    loop_advance(f->loop, 2500);
    assert_int_equal(f->store.n, 2);
    answer(&f->store, 2, ERR_OK);
    loop_advance(f->loop, 0);
    assert_int_equal(f->instance.n_done, n_done);
    assert_int_equal(record_at(f, 0)->ts, 1700000001000);
    assert_int_equal(record_at(f, 1)->ts, 1700000002000);
    assert_int_equal(dev->n_repeated, 2);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 2);
    /* Away: nothing. Back: at the next time of its beat. */
    ctx_disconnect(f->ctx, dev);
    (void)ctx_mark(f->ctx, 2);
    loop_advance(f->loop, 2000);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 2);
    ctx_connect(f->ctx, dev, STR("pump"));
    (void)ctx_mark(f->ctx, 3);
    loop_advance(f->loop, 499);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 2);
    loop_advance(f->loop, 1);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 3);
    /* The connector's own link. */
    ctx_state(f->ctx, STR_NONE, LINK_UP, STR_NONE);
    ctx_state(f->ctx, STR_NONE, LINK_DOWN, STR("cable"));
    loop_advance(f->loop, 3500);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 3);
    ctx_state(f->ctx, STR_NONE, LINK_UP, STR_NONE);
    loop_advance(f->loop, 499);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 3);
    loop_advance(f->loop, 1);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 4);
    ctx_quiesce(f->ctx);
    loop_advance(f->loop, 5000);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 4);
    answer(&f->store, f->store.n, ERR_OK);
}

static void test_periodic_reports_wait_for_credit_and_then_come_once(void **state)
{
    struct fixture *f = *state;
    autofree char *text = mem_new(60000);
    uint64_t cookie = 1;

    memset(text, '1', 60000);
    assert_int_equal(put_reported(f, "ctx report 3", STR("7"), &periodic, 1), ERR_OK);
    do
        assert_int_equal(put(f, "ctx report 3", "\"long\":", str_of(text, 60000)), ERR_OK);
    while (ctx_mark(f->ctx, ++cookie));
    loop_advance(f->loop, 4200);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 0);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPORTS_WAITED), 1);
    answer(&f->store, f->store.n, ERR_OK);
    loop_advance(f->loop, 1);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 1);
    loop_advance(f->loop, 798);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 1);
    loop_advance(f->loop, 1);
    assert_int_equal(ctx_counter(f->ctx, IOTGW_REPEATED), 2);
    answer(&f->store, f->store.n, ERR_OK);
}

/* Invariant 9. What is dropped instead is counted in its device, which report_test looks at. */
static void test_a_value_that_was_not_stored_is_sent_again(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put_reported(f, "ctx report 4", STR("1"), &report_on_change, 1), ERR_OK);
    answer(&f->store, 1, ERR_IO);
    loop_advance(f->loop, 0);
    assert_int_equal(put_reported(f, "ctx report 4", STR("1"), &report_on_change, 2), ERR_OK);
    assert_int_equal(f->store.n_values, 2);
    assert_int_equal(put_reported(f, "ctx report 4", STR("1"), &report_on_change, 3), ERR_OK);
    assert_int_equal(f->store.n_values, 2);
    answer(&f->store, f->store.n, ERR_OK);
}

static void test_the_main_level_filters_what_has_no_strategy_and_disabled_switches_all_off(void **state)
{
    struct fixture *f = *state;

    f->host.report = report_on_change;
    ctx_reset_report(f->ctx);
    assert_int_equal(put_reported(f, "ctx report 5", STR("1"), NULL, 1), ERR_OK);
    assert_int_equal(put_reported(f, "ctx report 5", STR("1"), NULL, 2), ERR_OK);
    assert_int_equal(f->store.n_values, 1);
    ctx_reset_report(f->ctx); /* the next value counts as first */
    assert_int_equal(put_reported(f, "ctx report 5", STR("1"), NULL, 3), ERR_OK);
    assert_int_equal(f->store.n_values, 2);
    f->host.report.type = REPORT_DISABLED;
    ctx_reset_report(f->ctx);
    assert_int_equal(put_reported(f, "ctx report 5", STR("1"), &report_on_change, 4), ERR_OK);
    assert_int_equal(put_reported(f, "ctx report 5", STR("1"), &report_on_change, 5), ERR_OK);
    assert_int_equal(f->store.n_values, 4);
    assert_int_equal(ctx_report_stats(f->ctx).n_values, 0);
    answer(&f->store, f->store.n, ERR_OK);
}

static void test_expired_values_are_given_back(void **state)
{
    static const struct report_strategy brief = {.type = REPORT_ON_CHANGE, .period_ms = 10000, .ttl_ms = 2000};
    struct fixture *f = *state;

    f->host.report_cleanup_s = 60;
    assert_int_equal(put_reported(f, "ctx report 6", STR("1"), &brief, 1), ERR_OK);
    assert_int_equal(ctx_report_stats(f->ctx).n_values, 1);
    loop_advance(f->loop, 61000);
    assert_int_equal(ctx_report_stats(f->ctx).n_values, 0);
    answer(&f->store, f->store.n, ERR_OK);
}

static void put_times(struct fixture *f, int64_t ts)
{
    struct event *event = ctx_event(f->ctx, device_get(STR("unsure 1")), STR("pump"));

    event_add(event, RECORD_TELEMETRY, STR("\"a\":"), STR("1"), EVENT_NO_TS);
    event_add(event, RECORD_TELEMETRY, STR("\"b\":"), STR("2"), ts);
    assert_int_equal(ctx_put(f->ctx), ERR_OK);
    assert_true(ctx_mark(f->ctx, 1));
    loop_advance(f->loop, 0);
}

static void test_only_what_has_no_time_of_its_own_is_unsure_and_only_until_the_clock_is_set(void **state)
{
    struct fixture *f = *state;
    int64_t up_ms = (int64_t)loop_mono_ms(f->loop);

    loop_set_earliest(f->loop, 1800000000000);
    put_times(f, 1700000000000);
    assert_int_equal(record_at(f, 0)->ts, up_ms);
    assert_true(record_at(f, 0)->flags & RECORD_TIME_UNSURE);
    assert_int_equal(record_at(f, 1)->ts, 1700000000000);
    assert_false(record_at(f, 1)->flags & RECORD_TIME_UNSURE);
    put_times(f, up_ms + 1); /* a source that counts since its own boot, too */
    assert_int_equal(record_at(f, 2)->ts, up_ms + 2);
    assert_true(record_at(f, 2)->flags & RECORD_TIME_UNSURE);
    assert_int_equal(record_at(f, 3)->ts, up_ms + 1);
    assert_false(record_at(f, 3)->flags & RECORD_TIME_UNSURE);
    loop_set_wall(f->loop, 1800000000000);
    put_times(f, 1);
    assert_int_equal(record_at(f, 4)->ts, 1800000000000);
    assert_false(record_at(f, 4)->flags & RECORD_TIME_UNSURE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_only_what_has_no_time_of_its_own_is_unsure_and_only_until_the_clock_is_set),
        TEST(test_a_burst_is_one_batch_and_one_completion),
        TEST(test_latency_mode_tells_when_values_came_and_ends_with_the_next_value),
        TEST(test_answers_of_one_burst_are_told_at_once_unless_they_differ),
        TEST(test_a_mark_without_values_is_answered_behind_what_came_before),
        TEST(test_without_credit_the_source_is_told_to_stop_and_later_to_go_on),
        TEST(test_connectors_share_the_credit),
        TEST(test_records_of_one_source_message_are_never_spread_over_two_batches),
        TEST(test_what_fills_several_slabs_in_a_turn_goes_to_the_store_together_at_its_end),
        TEST(test_connects_and_disconnects_stand_between_the_data),
        TEST(test_without_links_a_device_that_had_left_is_back_with_its_next_connect_or_data),
        TEST(test_answers_for_a_connector_that_is_gone_vanish),
        TEST(test_each_batch_comes_back_once_also_when_its_connector_ends_meanwhile),
        TEST(test_answers_may_come_from_another_thread),
        TEST(test_a_denied_device_gives_nothing),
        TEST(test_an_item_without_values_is_told_apart),
        TEST(test_third_parties_values_are_checked_and_brought_into_final_form),
        TEST(test_status_sums_up_the_links_and_keeps_the_last_reason),
        TEST(test_a_helper_thread_does_its_jobs_in_order_and_ends),
        TEST(test_what_is_held_back_is_accepted_and_counted),
        TEST(test_periodic_reports_are_stamped_when_they_are_made_and_no_source_waits_for_them),
        TEST(test_periodic_reports_wait_for_credit_and_then_come_once),
        TEST(test_a_value_that_was_not_stored_is_sent_again),
        TEST(test_the_main_level_filters_what_has_no_strategy_and_disabled_switches_all_off),
        TEST(test_expired_values_are_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
