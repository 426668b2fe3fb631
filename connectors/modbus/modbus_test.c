/* SPDX-License-Identifier: Apache-2.0 */
/* The whole connector: time moves as the test says, and the test is the links, the devices, the storage and the gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/slab.h"
#include "conf/conf.h"
#include "connector/ctx.h"
#include "connector/endpoint.h"
#include "modbus_conf.h"
#include "modbus_link.h"

#include <stdio.h>

extern const struct connector_type iotgw_module;

enum { MAX_ASKED = 20000, MAX_LINKS = 8, HOLES = 8 };

struct asked {
    uint64_t at_ms;
    uint8_t unit, fc;
    uint16_t address, n;
    bool is_command;
};

struct modbus_link {
    struct loop *loop;
    struct modbus_link_conf conf;
    const struct modbus_link_events *events;
    void *arg;
    struct list queue; /* not answered yet */
    struct timer answer, up, close;
    closed_fn *closed;
    void *closed_arg;
};

struct rig {
    struct loop *loop;
    struct modbus_link links[MAX_LINKS];
    unsigned n_links, n_open_links, n_asked, n_open, n_most;
    struct asked asked[MAX_ASKED];
    uint64_t latency_ms;
    uint16_t holes[HOLES]; /* refused addresses */
    unsigned n_holes;
    uint16_t silent;   /* an address that is never answered; 0: none */
    uint8_t exception; /* of a hole; 0: 2 */
    bool never_up;
    uint8_t dead_unit;
    struct modbus_pdu last_write;
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
    bool is_stopped;
    unsigned n_replies;
    enum err reply_err;
    char reply[400];
    struct command_box boxes[16];
    unsigned n_commands;
    uint16_t there[3]; /* the only registers of a sparse device; 0: none */
    struct buf items;  /* what browsing tells */
    unsigned n_browse_ends;
    enum err browse_err;
};
static struct rig *the_rig; /* for the links, which the connector makes */

/* --- links and devices ------------------------------------------------------------------------------------------------- */

static bool has_hole(const struct modbus_pdu *ask)
{
    uint16_t address = modbus_be16(ask->bytes + 1), n = modbus_be16(ask->bytes + 3);

    if (ask->bytes[0] == MODBUS_WRITE_COIL || ask->bytes[0] == MODBUS_WRITE_REGISTER)
        n = 1;
    if (the_rig->there[0])
        for (unsigned i = 0; i < n; i++)
            if (address + i != the_rig->there[0] && address + i != the_rig->there[1] &&
                address + i != the_rig->there[2])
                return true;
    for (unsigned i = 0; i < the_rig->n_holes; i++)
        if (the_rig->holes[i] >= address && the_rig->holes[i] < address + n)
            return true;
    return false;
}

static bool is_silent(const struct modbus_request *request)
{
    uint16_t address = modbus_be16(request->pdu.bytes + 1), n = modbus_be16(request->pdu.bytes + 3);

    return (the_rig->silent && the_rig->silent >= address && the_rig->silent < address + n) ||
           request->unit == the_rig->dead_unit;
}

/* Each register holds its address. */
static void answer(struct modbus_request *request)
{
    const struct modbus_pdu *ask = &request->pdu;
    struct modbus_pdu reply = {0};
    struct modbus_asked asked;

    the_rig->n_open--;
    if (is_silent(request)) {
        request->done(request, ERR_TIMEOUT, NULL);
        return;
    }
    if (ask->bytes[0] == MODBUS_ENCAPSULATED) {
        modbus_refuse(&reply, ask->bytes[0], MODBUS_ILLEGAL_FUNCTION);
        request->done(request, ERR_OK, &reply);
        return;
    }
    assert_int_equal(modbus_read_request(&asked, ask), 0);
    if (has_hole(ask)) {
        modbus_refuse(&reply, ask->bytes[0], the_rig->exception ? the_rig->exception : MODBUS_ILLEGAL_ADDRESS);
    } else if (modbus_is_write(ask->bytes[0])) {
        the_rig->last_write = *ask;
        modbus_confirm(&reply, ask);
    } else {
        uint8_t *p = modbus_answer_values(&reply, &asked);

        for (unsigned i = 0; i < asked.n && ask->bytes[0] >= MODBUS_READ_HOLDING; i++)
            modbus_put_be16(p + 2 * i, (uint16_t)(asked.address + i));
    }
    request->latency_ms = 1;
    request->done(request, ERR_OK, &reply);
}

static void answer_due(void *arg)
{
    struct modbus_link *link = arg;
    struct list *node = list_take_first(&link->queue);

    if (!node)
        return;
    answer(CONTAINER_OF(node, struct modbus_request, node));
    if (!list_is_empty(&link->queue) && !timer_is_running(&link->answer))
        timer_start(&link->answer, the_rig->latency_ms);
}

static void come_up(void *arg)
{
    struct modbus_link *link = arg;

    link->events->up(link->arg);
}

static void link_closed(void *arg)
{
    struct modbus_link *link = arg;

    the_rig->n_open_links--;
    link->closed(link->closed_arg);
}

struct modbus_link *modbus_link_new(struct loop *loop, struct log *log, const struct modbus_link_conf *conf,
                                    const struct modbus_link_events *events, void *arg)
{
    struct modbus_link *link = &the_rig->links[the_rig->n_links++];

    (void)log;
    assert_true(the_rig->n_links <= MAX_LINKS);
    the_rig->n_open_links++;
    *link = (struct modbus_link){.loop = loop, .conf = *conf, .events = events, .arg = arg};
    list_init(&link->queue);
    timer_init(&link->answer, loop, answer_due, link);
    timer_init(&link->up, loop, come_up, link);
    timer_init(&link->close, loop, link_closed, link);
    if (events->up && !the_rig->never_up)
        timer_start(&link->up, 0);
    return link;
}

void modbus_link_send(struct modbus_link *link, struct modbus_request *request)
{
    struct asked *asked = &the_rig->asked[the_rig->n_asked++];

    assert_true(the_rig->n_asked < MAX_ASKED);
    *asked = (struct asked){.at_ms = loop_mono_ms(link->loop),
                            .unit = request->unit,
                            .fc = request->pdu.bytes[0],
                            .address = modbus_be16(request->pdu.bytes + 1),
                            .n = modbus_be16(request->pdu.bytes + 3),
                            .is_command = request->is_command};
    list_add_tail(&link->queue, &request->node);
    if (++the_rig->n_open > the_rig->n_most)
        the_rig->n_most = the_rig->n_open;
    if (!timer_is_running(&link->answer))
        timer_start(&link->answer, the_rig->latency_ms);
}

const struct modbus_counts *modbus_link_unit_counts(const struct modbus_link *link, uint8_t unit)
{
    static const struct modbus_counts counts = {.n_retries = 5, .by_exception = {[2] = 3}};

    (void)link;
    assert_int_equal(unit, 1);
    return &counts;
}

struct modbus_link_status modbus_link_status(const struct modbus_link *link)
{
    (void)link;
    return (struct modbus_link_status){.n_bad_checks = 4};
}

void modbus_link_cancel(struct modbus_link *link, struct modbus_request *request)
{
    (void)link;
    (void)request; /* is on its way, and ends as it will */
}

void modbus_link_close(struct modbus_link *link, closed_fn *closed, void *arg)
{
    struct list *node;

    while ((node = list_take_first(&link->queue))) {
        struct modbus_request *request = CONTAINER_OF(node, struct modbus_request, node);

        the_rig->n_open--;
        request->done(request, ERR_CLOSED, NULL);
    }
    timer_stop(&link->answer);
    timer_stop(&link->up);
    link->closed = closed;
    link->closed_arg = arg;
    timer_start(&link->close, 0);
}

static unsigned n_asked(const struct rig *rig, uint8_t fc, uint16_t address, uint16_t n)
{
    unsigned count = 0;

    for (unsigned i = 0; i < rig->n_asked; i++)
        count += rig->asked[i].fc == fc && rig->asked[i].address == address && rig->asked[i].n == n;
    return count;
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
                             .params = str_from(params),
                             .deadline_ms = loop_mono_ms(rig->loop) + 5000};
    assert_true(ctx_command(rig->ctx, made));
    loop_advance(rig->loop, 0);
}

static void take_item(void *arg, struct ctx *ctx, void *request, struct str json)
{
    struct rig *rig = arg;

    (void)ctx;
    assert_ptr_equal(request, rig);
    buf_add_str(&rig->items, json);
    buf_add_u8(&rig->items, '\n');
}

static void take_end(void *arg, struct ctx *ctx, void *request, enum err err, struct str reason)
{
    struct rig *rig = arg;

    (void)ctx;
    (void)reason;
    assert_ptr_equal(request, rig);
    rig->n_browse_ends++;
    rig->browse_err = err;
}

static const struct store_ops ops = {.append = append};

static void rig_open(struct rig *rig, const char *text)
{
    struct why why = {0};

    the_rig = rig;
    rig->last = &rig->first;
    ctx_setup();
    rig->store.ops = &ops;
    rig->host = (struct ctx_host){
        .store = &rig->store, .reply = take_reply, .browse_item = take_item, .browse_end = take_end, .arg = rig};
    rig->loop = loop_new_fake(1700000000000);
    problems_init(&rig->problems);
    rig->conf = conf_load_text(&modbus_conf_type, ".", "test", str_from(text), &rig->problems);
    if (!rig->conf || rig->problems.n_errors)
        fail_msg("%s: %s", rig->problems.first->path, rig->problems.first->text);
    rig->ctx = ctx_new(&iotgw_module, "test", rig->loop, &rig->host, rig->conf);
    atomic_store(&ctx_log(rig->ctx)->level, LOG_LEVEL_OFF);
    atomic_store(&ctx_converter_log(rig->ctx)->level, LOG_LEVEL_OFF);
    rig->self = mem_zero(iotgw_module.state_size);
    assert_int_equal(iotgw_module.open(rig->self, rig->ctx, conf_root(rig->conf), &why), ERR_OK);
    ctx_attach(rig->ctx, rig->self);
    iotgw_module.start(rig->self);
}

static void stopped(void *arg)
{
    ((struct rig *)arg)->is_stopped = true;
}

static void rig_close(struct rig *rig)
{
    iotgw_module.stop(rig->self, stopped, rig);
    assert_false(rig->is_stopped);
    loop_advance(rig->loop, 100);
    assert_true(rig->is_stopped);
    assert_int_equal(rig->n_open, 0);
    assert_int_equal(rig->n_open_links, 0);
    iotgw_module.close(rig->self);
    ctx_attach(rig->ctx, NULL);
    ctx_unref(rig->ctx);
    answer_batches(rig);
    loop_advance(rig->loop, 100);
    assert_int_equal(slab_in_use(), 0);
    loop_free(rig->loop);
    mem_free(rig->self);
    buf_fini(&rig->bytes);
    buf_fini(&rig->items);
    conf_unref(rig->conf);
    problems_fini(&rig->problems);
}

static bool delivered(struct rig *rig, const char *text)
{
    return str_find(buf_str(&rig->bytes), str_from(text), 0) != SIZE_MAX;
}

static void forget(struct rig *rig)
{
    rig->bytes.n = 0;
    rig->n_asked = 0;
}

#define POINT(tag, address) "{\"tag\":\"" tag "\",\"type\":\"16uint\",\"functionCode\":3,\"address\":" address "}"
#define SLAVE(name, unit, members)                                                                                     \
    "{\"deviceName\":\"" name "\",\"host\":\"h\",\"unitId\":" unit ",\"byteOrder\":\"BIG\",\"wordOrder\":\"BIG\","     \
    "\"pollPeriod\":1000" members "}"
#define FILE_OF(slaves) "{\"master\":{\"slaves\":[" slaves "]}}"
#define THREE ",\"timeseries\":[" POINT("a", "10") "," POINT("b", "12") "," POINT("c", "13") "]"

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void count_calls(void *arg, const struct endpoint *endpoint)
{
    *(uint64_t *)arg += endpoint->n_calls;
}

static void test_polls_keep_their_beat_and_are_skipped_while_one_is_under_way(void **state)
{
    static struct rig rig;
    uint64_t first_ms;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("D", "1", THREE)));
    loop_advance(rig.loop, 0);
    first_ms = rig.asked[0].at_ms;
    loop_advance(rig.loop, 5000);
    assert_int_equal(rig.n_asked, 6);
    assert_true(delivered(&rig, "\"a\":10") && delivered(&rig, "\"c\":13"));
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(rig.asked[i].at_ms, first_ms + 1000 * i);
        assert_int_equal(rig.asked[i].n, 4);
    }
    rig.latency_ms = 2500;
    loop_advance(rig.loop, 9000);
    assert_true(ctx_counter(rig.ctx, IOTGW_SKIPPED) >= 5);
    for (unsigned i = 0; i < rig.n_asked; i++)
        assert_int_equal((rig.asked[i].at_ms - first_ms) % 1000, 0); /* no drift */
    assert_int_equal(rig.n_most, 1);
    rig_close(&rig);
}

static void test_values_with_a_period_of_their_own_keep_it(void **state)
{
    static struct rig rig;
    uint64_t n_calls = 0;

    (void)state;
    rig_open(
        &rig,
        FILE_OF(SLAVE(
            "A", "1",
            ",\"timeseries\":[" POINT(
                "a",
                "10") ","
                      "{\"tag\":\"b\",\"type\":\"16uint\",\"functionCode\":3,\"address\":11,\"pollPeriod\":100}]")));
    loop_advance(rig.loop, 4950);
    assert_int_equal(n_asked(&rig, 3, 10, 1), 5);
    assert_in_range(n_asked(&rig, 3, 11, 1), 49, 50);
    assert_int_equal(n_asked(&rig, 3, 10, 2), 0);
    ctx_each_endpoint(rig.ctx, count_calls, &n_calls);
    assert_in_range(n_calls, 54, 55);
    rig_close(&rig);
}

static void test_first_polls_of_a_connection_are_spread(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("A", "1", THREE) "," SLAVE("B", "2", THREE) "," SLAVE("C", "3", THREE) "," SLAVE(
                       "D", "4", THREE)));
    loop_advance(rig.loop, 999);
    assert_int_equal(rig.n_links, 1);
    assert_int_equal(rig.n_asked, 4);
    for (unsigned i = 1; i < 4; i++)
        assert_true(rig.asked[i].at_ms - rig.asked[i - 1].at_ms >= 200);
    rig_close(&rig);
}

static void test_nothing_is_read_that_could_not_be_stored(void **state)
{
    static struct rig rig;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("D", "1", THREE)));
    rig.keeps = true;
    loop_advance(rig.loop, 3600000); /* an hour: far more than there is credit for */
    assert_true(ctx_counter(rig.ctx, IOTGW_SKIPPED) > 0 || rig.n_asked >= 3600);
    rig.keeps = false;
    answer_batches(&rig);
    forget(&rig);
    loop_advance(rig.loop, 2000);
    assert_true(rig.n_asked >= 1);
    rig_close(&rig);
}

static void test_a_refused_hole_costs_no_value_and_is_learned(void **state)
{
    static struct rig rig;

    (void)state;
    rig.n_holes = 1;
    rig.holes[0] = 11; /* between a and b */
    rig_open(&rig, FILE_OF(SLAVE("D", "1", THREE)));
    loop_advance(rig.loop, 500);
    assert_int_equal(n_asked(&rig, 3, 10, 4), 1); /* refused as a whole, then one by one in the same poll */
    assert_int_equal(rig.n_asked, 4);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_CONVERTED), 1);
    assert_true(delivered(&rig, "\"a\":10") && delivered(&rig, "\"b\":12") && delivered(&rig, "\"c\":13"));
    forget(&rig);
    loop_advance(rig.loop, 1000);
    assert_int_equal(rig.n_asked, 2);
    assert_int_equal(n_asked(&rig, 3, 12, 2), 1);
    loop_advance(rig.loop, 600000); /* ten minutes later it is tried again */
    assert_int_equal(n_asked(&rig, 3, 10, 4), 1);
    rig_close(&rig);
}

static void test_a_bad_value_is_left_alone_and_comes_back(void **state)
{
    static struct rig rig;

    (void)state;
    rig.n_holes = 1;
    rig.holes[0] = 12; /* b itself */
    rig_open(&rig, FILE_OF(SLAVE("D", "1", THREE)));
    loop_advance(rig.loop, 500);
    assert_true(delivered(&rig, "\"a\":10") && !delivered(&rig, "\"b\":") && delivered(&rig, "\"c\":13"));
    forget(&rig);
    loop_advance(rig.loop, 1000);
    assert_int_equal(rig.n_asked, 2);
    loop_advance(rig.loop, 60000);
    assert_true(n_asked(&rig, 3, 12, 1) >= 2 && n_asked(&rig, 3, 12, 1) < 8); /* at growing intervals */
    assert_true(n_asked(&rig, 3, 10, 1) >= 59);                               /* its neighbours keep their beat */
    rig.n_holes = 0;
    loop_advance(rig.loop, 130000);
    forget(&rig);
    loop_advance(rig.loop, 1000);
    assert_int_equal(n_asked(&rig, 3, 10, 4), 1); /* in one request again */
    assert_true(delivered(&rig, "\"b\":12"));
    rig_close(&rig);
}

static void test_what_gets_no_answer_is_not_split_and_delays_the_rest_ever_less(void **state)
{
    static struct rig rig;

    (void)state;
    rig.silent = 200;
    rig_open(
        &rig,
        FILE_OF(SLAVE("D", "1", ",\"timeseries\":[" POINT("a", "10") "," POINT("x", "200") "," POINT("y", "201") "]")));
    loop_advance(rig.loop, 60500);
    assert_true(n_asked(&rig, 3, 200, 2) >= 2 && n_asked(&rig, 3, 200, 2) < 8);
    assert_int_equal(n_asked(&rig, 3, 200, 1) + n_asked(&rig, 3, 201, 1), 0);
    assert_int_equal(n_asked(&rig, 3, 10, 1), 61);
    assert_false(delivered(&rig, "\"y\":"));
    rig.silent = 0;
    loop_advance(rig.loop, 130000);
    forget(&rig);
    loop_advance(rig.loop, 1000);
    assert_true(delivered(&rig, "\"y\":201"));
    rig_close(&rig);
}

static void test_a_dead_device_is_asked_at_each_beat_and_told_to_have_gone(void **state)
{
    static struct rig rig;
    struct device *dev;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("Dead or alive", "9", THREE)));
    loop_advance(rig.loop, 500);
    dev = device_get(STR("Dead or alive"));
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_UP);
    rig.dead_unit = 9;
    rig.links[0].events->unit(rig.links[0].arg, 9, false); /* as the link tells */
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_DOWN);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_DEGRADED);
    forget(&rig);
    loop_advance(rig.loop, 5000);
    assert_int_equal(rig.n_asked, 5); /* when it is asked is the link's affair */
    rig.dead_unit = 0;
    loop_advance(rig.loop, 1000);
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_UP);
    rig.links[0].events->down(rig.links[0].arg, ERR_CLOSED, &(struct why){0});
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_DOWN);
    assert_int_equal(ctx_status(rig.ctx).state, LINK_DOWN);
    rig_close(&rig);
}

static void test_entries_of_one_device_are_one_device(void **state)
{
    static struct rig rig;
    struct device *dev;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("Twin", "1", THREE) "," SLAVE("Twin", "2", ",\"timeseries\":[" POINT("z", "1") "]")));
    loop_advance(rig.loop, 1000);
    dev = device_get(STR("Twin"));
    rig.links[0].events->unit(rig.links[0].arg, 1, false);
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_UP); /* its other half answers */
    rig.links[0].events->unit(rig.links[0].arg, 2, false);
    assert_int_equal(atomic_load(&dev->link), DEVICE_LINK_DOWN);
    rig_close(&rig);
}

#define DOWN                                                                                                           \
    THREE                                                                                                              \
    ",\"rpc\":[{\"tag\":\"set\",\"type\":\"16int\",\"functionCode\":6,\"address\":50},{\"tag\":\"show\",\"type\":"     \
    "\"16int\",\"functionCode\":3,\"address\":51}],\"attributeUpdates\":[{\"tag\":\"x\",\"type\":\"16int\","           \
    "\"functionCode\":6,\"address\":60},{\"tag\":\"y\",\"type\":\"16int\",\"functionCode\":6,\"address\":61}]"

static void test_each_call_gets_one_reply_whatever_happens(void **state)
{
    static struct rig rig;
    static const struct {
        const char *device, *method, *params, *reply;
    } cases[] = {
        {"A", "set", "7", "{\"result\":{\"value\":7}}"},
        {"A", "show", "", "{\"result\":{\"value\":51}}"},
        {"A", "set", "70000", "{\"result\":{\"error\":\"the value 70000 is out of the range of the type\"}}"},
        {"A", "get", "\"type=16uint;functionCode=3;objectsCount=1;address=77;\"",
         "{\"result\":{\"error\":\"illegal data address (exception 2)\"}}"},
        {"B", "show", "", "{\"result\":{\"error\":\"timed out: the device does not answer\"}}"},
        {NULL, "modbus_read", "{\"type\":\"16uint\",\"functionCode\":3,\"address\":5}",
         "[{\"result\":5,\"device_name\":\"A\"},{\"error\":\"timed out: the device does not "
         "answer\",\"device_name\":\"B\"}]"},
        {NULL, "modbus_read", "{\"type\":\"16uint\",\"functionCode\":3,\"address\":5,\"host\":\"other\"}",
         "[{\"result\":5,\"device_name\":\"modbus\"}]"},
    };

    (void)state;
    rig.n_holes = 1;
    rig.holes[0] = 77;
    rig.dead_unit = 2;
    rig_open(&rig, FILE_OF(SLAVE("A", "1", DOWN) "," SLAVE("B", "2", DOWN)));
    loop_advance(rig.loop, 600);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        give_command(&rig, COMMAND_RPC, cases[i].device, cases[i].method, cases[i].params);
        loop_advance(rig.loop, 10);
        assert_int_equal(rig.n_replies, i + 1);
        if (i + 1 < COUNT_OF(cases))
            assert_string_equal(rig.reply, cases[i].reply);
        else
            assert_true(strncmp(rig.reply, "[{\"result\":", 11) == 0);
    }
    assert_int_equal(rig.last_write.bytes[4], 7);
    assert_int_equal(rig.n_links, 2);      /* one was made for the last call */
    assert_int_equal(rig.n_open_links, 1); /* and has closed */
    rig_close(&rig);
}

static void test_attributes_are_written_one_by_one_and_fail_alone(void **state)
{
    static struct rig rig;

    (void)state;
    rig.n_holes = 1;
    rig.holes[0] = 60;
    rig_open(&rig, FILE_OF(SLAVE("A", "1", DOWN)));
    loop_advance(rig.loop, 500);
    forget(&rig);
    give_command(&rig, COMMAND_ATTRIBUTES, "A", "", "{\"y\":8,\"x\":3,\"other\":1}");
    loop_advance(rig.loop, 10);
    assert_int_equal(rig.n_asked, 2);
    assert_int_equal(rig.asked[0].address, 60);
    assert_true(rig.asked[0].is_command);
    assert_int_equal(modbus_be16(rig.last_write.bytes + 1), 61);
    assert_int_equal(rig.n_replies, 1);
    assert_int_equal(rig.reply_err, ERR_REFUSED);
    rig_close(&rig);
}

static void test_a_stop_answers_what_is_under_way(void **state)
{
    static struct rig rig;

    (void)state;
    rig.latency_ms = 100000;
    rig_open(&rig, FILE_OF(SLAVE("A", "1", DOWN)));
    loop_advance(rig.loop, 500);
    give_command(&rig, COMMAND_RPC, "A", "set", "7");
    give_command(&rig, COMMAND_RPC, NULL, "modbus_read",
                 "{\"type\":\"16uint\",\"functionCode\":3,\"address\":5,\"host\":\"other\"}");
    assert_int_equal(rig.n_replies, 0);
    rig_close(&rig);
    assert_int_equal(rig.n_replies, 2);
    assert_int_equal(rig.reply_err, ERR_CLOSED);
}

/* UINT64_MAX: there is none of that name. */
static uint64_t figure_of(const struct endpoint *endpoint, const char *name)
{
    for (size_t i = 0; i < endpoint->n_figures; i++)
        if (strcmp(endpoint->figures[i].name, name) == 0)
            return endpoint->figures[i].n;
    return UINT64_MAX;
}

static void find_name(void *arg, const struct endpoint *endpoint)
{
    *(uint64_t *)arg += endpoint->n_calls;
    assert_int_equal(figure_of(endpoint, "requestsPerPoll"), 1);
    assert_int_equal(figure_of(endpoint, "retries"), 5);
    assert_int_equal(figure_of(endpoint, "exception2"), 3);
    assert_int_equal(figure_of(endpoint, "exception3"), UINT64_MAX);
    assert_int_equal(figure_of(endpoint, "badChecksumsOfConnection"), 4);
    assert_true(str_find(endpoint->name, STR("unit 1 at tcp://h:502"), 0) != SIZE_MAX);
}

static void test_what_becomes_of_requests_is_counted_for_each_device(void **state)
{
    static struct rig rig;
    uint64_t n_calls = 0;

    (void)state;
    rig_open(&rig, FILE_OF(SLAVE("A", "1", THREE)));
    loop_advance(rig.loop, 4500);
    ctx_each_endpoint(rig.ctx, find_name, &n_calls);
    assert_int_equal(n_calls, 5);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_MESSAGES_IN), 5);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_MESSAGES_OUT), 5);
    assert_int_equal(ctx_counter(rig.ctx, IOTGW_CONVERTED), 5);
    rig_close(&rig);
}

/* The device has three registers at the most, and refuses every block that is not only these. */
static void browse(struct rig *rig, const char *path)
{
    struct why why = {0};

    rig_open(rig, FILE_OF(SLAVE("A", "1", THREE)));
    forget(rig);
    assert_int_equal(iotgw_module.browse(rig->self, str_from(path), rig, &why), ERR_OK);
    for (unsigned i = 0; i < 4000 && !rig->n_browse_ends; i++)
        loop_advance(rig->loop, 100);
    assert_int_equal(rig->n_browse_ends, 1);
    assert_int_equal(rig->browse_err, ERR_OK);
}

static bool is_told(const struct rig *rig, const char *text)
{
    return str_find(buf_str(&rig->items), str_from(text), 0) != SIZE_MAX;
}

static void test_browsing_passes_through_empty_stretches_and_tells_so(void **state)
{
    static struct rig rig;

    (void)state;
    rig.there[0] = 4999;
    rig.there[1] = 5000;
    rig.there[2] = 5001;
    browse(&rig, "1/holding_registers/0-9999");
    assert_true(is_told(&rig, "holding_registers 4999-5001\""));
    assert_true(is_told(&rig, "\"passed over\""));
    assert_true(rig.n_asked < 1500);
    rig_close(&rig);
}

static void test_browsing_looks_at_each_address_of_a_short_range(void **state)
{
    static struct rig rig;

    (void)state;
    rig.there[0] = rig.there[1] = rig.there[2] = 4097;
    browse(&rig, "1/holding_registers/4000-4127");
    assert_true(is_told(&rig, "holding_registers 4097\""));
    assert_false(is_told(&rig, "passed over"));
    rig_close(&rig);
}

static void test_browsing_asks_for_the_last_address_of_an_empty_stretch(void **state)
{
    static struct rig rig;

    (void)state;
    rig.there[0] = rig.there[1] = 65534;
    rig.there[2] = 65535;
    browse(&rig, "1/holding_registers/60000-65535");
    assert_true(is_told(&rig, "holding_registers 65534-65535\""));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_polls_keep_their_beat_and_are_skipped_while_one_is_under_way),
        cmocka_unit_test(test_values_with_a_period_of_their_own_keep_it),
        cmocka_unit_test(test_first_polls_of_a_connection_are_spread),
        cmocka_unit_test(test_nothing_is_read_that_could_not_be_stored),
        cmocka_unit_test(test_a_refused_hole_costs_no_value_and_is_learned),
        cmocka_unit_test(test_a_bad_value_is_left_alone_and_comes_back),
        cmocka_unit_test(test_what_gets_no_answer_is_not_split_and_delays_the_rest_ever_less),
        cmocka_unit_test(test_a_dead_device_is_asked_at_each_beat_and_told_to_have_gone),
        cmocka_unit_test(test_entries_of_one_device_are_one_device),
        cmocka_unit_test(test_each_call_gets_one_reply_whatever_happens),
        cmocka_unit_test(test_attributes_are_written_one_by_one_and_fail_alone),
        cmocka_unit_test(test_a_stop_answers_what_is_under_way),
        cmocka_unit_test(test_what_becomes_of_requests_is_counted_for_each_device),
        cmocka_unit_test(test_browsing_passes_through_empty_stretches_and_tells_so),
        cmocka_unit_test(test_browsing_looks_at_each_address_of_a_short_range),
        cmocka_unit_test(test_browsing_asks_for_the_last_address_of_an_empty_stretch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
