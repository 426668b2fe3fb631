/* SPDX-License-Identifier: Apache-2.0 */
/* A link on a fake line and a fake clock: each order, each deadline, each answer that is not to be believed. */
#include "base/log.h"
#include "modbus_fake_line.h"
#include "modbus_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* --- rig ------------------------------------------------------------------------------------------------------------------- */
enum { REQUESTS = 24, TIMEOUT_MS = 1000 };

static struct rig {
    struct loop *loop;
    struct modbus_link *link;
    struct log log;
    struct modbus_link_conf conf;
    struct modbus_request requests[REQUESTS];
    char told[2048]; /* "3=OK:0302000a;" "4=TIMEOUT;" "up;" "down:CLOSED;" "unit 7 silent;" */
    size_t n_told;
    unsigned n_closed;
    struct modbus_request *again; /* sent from within .done, once */
    bool close_in_done;
} rig;

static void tell(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void tell(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    rig.n_told += (size_t)vsnprintf(rig.told + rig.n_told, sizeof rig.told - rig.n_told, fmt, args);
    va_end(args);
    assert_true(rig.n_told < sizeof rig.told);
}

static void on_closed(void *arg)
{
    (void)arg;
    rig.n_closed++;
}

static void on_done(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    struct modbus_request *again = rig.again;

    tell("%td=%s", request - rig.requests, err_name(err));
    for (unsigned i = 0; reply && i < reply->n; i++)
        tell("%s%02x", i ? "" : ":", reply->bytes[i]);
    tell(";");
    rig.again = NULL;
    if (again)
        modbus_link_send(rig.link, again);
    if (rig.close_in_done) {
        rig.close_in_done = false;
        modbus_link_close(rig.link, on_closed, NULL);
    }
}

static void on_up(void *arg)
{
    (void)arg;
    tell("up;");
}

static void on_down(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    assert_true(why_text(why)[0] != 0);
    tell("down:%s;", err_name(err));
}

static void on_unit(void *arg, uint8_t unit, bool is_answering)
{
    (void)arg;
    tell("unit %u %s;", unit, is_answering ? "answers" : "silent");
}

static void begin(void)
{
    static const struct modbus_link_events events = {on_up, on_down, on_unit};

    rig.conf.name = "test";
    rig.link = modbus_link_new(rig.loop, &rig.log, &rig.conf, &events, NULL);
    loop_advance(rig.loop, 0);
    assert_non_null(fake_line.line);
}

static void begin_up(void)
{
    begin();
    fake_line_open();
    loop_advance(rig.loop, 20); /* the silence before the first frame of a line */
    rig.n_told = 0;
    rig.told[0] = 0;
}

static void check_told(const char *expected, int line)
{
    if (strcmp(rig.told, expected) != 0)
        print_message("line %d\n", line);
    assert_string_equal(rig.told, expected);
    rig.n_told = 0;
    rig.told[0] = 0;
}
#define TOLD(expected) check_told(expected, __LINE__)

/* A read of n registers at that address, by its index. */
static void prepare(unsigned i, uint8_t unit, uint16_t address, unsigned n, bool is_command)
{
    struct modbus_request *request = &rig.requests[i];

    *request = (struct modbus_request){
        .unit = unit, .retries = 2, .timeout_ms = TIMEOUT_MS, .is_command = is_command, .done = on_done};
    assert_int_equal(modbus_ask_read(&request->pdu, MODBUS_READ_HOLDING, address, n), ERR_OK);
}

static void send_read(unsigned i, uint8_t unit)
{
    prepare(i, unit, (uint16_t)i, 1, false);
    modbus_link_send(rig.link, &rig.requests[i]);
}

static void send_command(unsigned i, uint8_t unit)
{
    prepare(i, unit, (uint16_t)i, 1, true);
    modbus_link_send(rig.link, &rig.requests[i]);
}

/* The frames written since, as "unit/address " each, in order; transaction identifiers are kept by address. */
static uint16_t tids[REQUESTS];
static const char *written(void)
{
    static char text[1024];
    struct modbus_framer framer;
    size_t at = 0, n_text = 0;

    text[0] = 0;
    loop_advance(rig.loop, 0);
    modbus_framer_init(&framer, rig.conf.framing, true);
    while (at < fake_line.out.n) {
        struct modbus_adu adu;
        enum modbus_fed fed;
        unsigned address;

        at += modbus_framer_feed(&framer, fake_line.out.p + at, fake_line.out.n - at, &adu, &fed);
        assert_int_equal(fed, MODBUS_FED_FRAME);
        address = modbus_be16(adu.pdu.bytes + 1);
        if (address < REQUESTS)
            tids[address] = adu.tid;
        n_text += (size_t)snprintf(text + n_text, sizeof text - n_text, "%u/%u ", adu.unit, address);
    }
    fake_line.out.n = 0;
    return text;
}

static void put_answer(struct buf *out, uint16_t tid, uint8_t unit, const char *pdu, size_t n)
{
    struct modbus_pdu answer = {.n = (uint8_t)n};

    memcpy(answer.bytes, pdu, n);
    out->n += modbus_frame_put(buf_room(out, MODBUS_FRAME_MAX), rig.conf.framing, tid, unit, &answer);
}

static void answer_as(uint16_t tid, uint8_t unit, const char *pdu, size_t n, size_t step)
{
    autobuf struct buf frame = {0};

    put_answer(&frame, tid, unit, pdu, n);
    fake_line_feed(frame.p, frame.n, step);
    loop_advance(rig.loop, 0);
}
#define ANSWER(i, pdu) answer_as(tids[i], rig.requests[i].unit, pdu, sizeof(pdu) - 1, 0)

static int set_up(void **state)
{
    (void)state;
    rig = (struct rig){.loop = loop_new_fake(1700000000000)};
    log_init(&rig.log, "test", LOG_LEVEL_OFF);
    rig.conf.line.kind = MODBUS_LINE_STREAM;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (rig.n_closed == 0)
        modbus_link_close(rig.link, on_closed, NULL);
    loop_advance(rig.loop, 0);
    assert_int_equal(rig.n_closed, 1);
    fake_line_reset();
    loop_free(rig.loop);
    return 0;
}

/* --- one request ------------------------------------------------------------------------------------------------------------- */
static void test_a_request_is_answered(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    assert_int_equal(rig.n_told, 0);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, 30);
    ANSWER(1, "\x03\x02\x12\x34");
    TOLD("1=OK:03021234;");
    assert_int_equal(rig.requests[1].latency_ms, 30);
    loop_advance(rig.loop, 10 * TIMEOUT_MS);
    TOLD("");
}

static void test_an_answer_in_pieces_is_one_answer(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    answer_as(tids[1], 7, "\x03\x02\x12\x34", 4, 1);
    TOLD("1=OK:03021234;");
}

static void test_no_answer_is_asked_for_again_and_then_fails(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    assert_string_equal(written(), "7/1 ");
    TOLD("");
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("1=TIMEOUT;");
    assert_string_equal(written(), "");
    assert_int_equal(modbus_link_counts(rig.link).n_timeouts, 3);
    assert_int_equal(modbus_link_counts(rig.link).n_retries, 2);
}

static void test_an_exception_is_an_answer(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    ANSWER(1, "\x83\x02");
    TOLD("1=OK:8302;");
    assert_int_equal(modbus_link_unit_counts(rig.link, 7)->by_exception[2], 1);
}

static void test_a_busy_device_is_asked_again_after_200_ms_while_others_go_on(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    send_read(2, 8);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x83\x06");
    assert_string_equal(written(), "8/2 ");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("2=OK:03020002;");
    loop_advance(rig.loop, 199);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 1);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x83\x05");
    loop_advance(rig.loop, 200);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x83\x06");
    TOLD("1=OK:8306;"); /* retries are used up */
}

/* --- whose turn ---------------------------------------------------------------------------------------------------------------- */
static void test_commands_overtake_polls_and_units_take_turns(void **state)
{
    static const unsigned order[] = {1, 5, 6, 2, 4, 3};

    (void)state;
    begin_up();
    send_read(1, 7);
    assert_string_equal(written(), "7/1 ");
    send_read(2, 7);
    send_read(3, 7);
    send_read(4, 8);
    send_command(5, 9);
    send_command(6, 7);
    for (unsigned i = 0; i < COUNT_OF(order); i++) {
        char expected[16];

        ANSWER(order[i], "\x03\x02\x00\x00");
        snprintf(expected, sizeof expected, "%u/%u ", i + 1 < COUNT_OF(order) ? rig.requests[order[i + 1]].unit : 0,
                 i + 1 < COUNT_OF(order) ? order[i + 1] : 0);
        assert_string_equal(written(), i + 1 < COUNT_OF(order) ? expected : "");
    }
    TOLD("1=OK:03020000;5=OK:03020000;6=OK:03020000;2=OK:03020000;4=OK:03020000;3=OK:03020000;");
}

static void test_several_are_on_their_way_and_answered_in_any_order(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 3;
    begin_up();
    for (unsigned i = 1; i <= 5; i++)
        send_read(i, 7);
    assert_string_equal(written(), "7/1 7/2 7/3 ");
    ANSWER(3, "\x03\x02\x00\x03");
    assert_string_equal(written(), "7/4 ");
    ANSWER(1, "\x03\x02\x00\x01");
    assert_string_equal(written(), "7/5 ");
    ANSWER(5, "\x03\x02\x00\x05");
    ANSWER(2, "\x03\x02\x00\x02");
    ANSWER(4, "\x03\x02\x00\x04");
    TOLD("3=OK:03020003;1=OK:03020001;5=OK:03020005;2=OK:03020002;4=OK:03020004;");
}

static void test_commands_of_a_unit_follow_one_another(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 4;
    begin_up();
    send_command(1, 7);
    send_command(2, 7);
    send_command(3, 8);
    assert_string_equal(written(), "7/1 8/3 ");
    ANSWER(1, "\x83\x06");
    assert_string_equal(written(), ""); /* busy: the second one still waits for the first */
    loop_advance(rig.loop, 200);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    assert_string_equal(written(), "7/2 ");
}

static void test_a_gap_is_kept_between_requests(void **state)
{
    (void)state;
    rig.conf.delay_ms = 50;
    rig.conf.max_in_flight = 4;
    begin_up();
    loop_advance(rig.loop, 50);
    send_read(1, 7);
    send_read(2, 7);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    loop_advance(rig.loop, 49);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 1);
    assert_string_equal(written(), "7/2 ");
}

/* --- what is not to be believed ------------------------------------------------------------------------------------------------ */
static void test_late_foreign_and_duplicated_answers_are_not_taken_for_the_next_request(void **state)
{
    uint16_t first;

    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    first = tids[1];
    loop_advance(rig.loop, TIMEOUT_MS);
    (void)written();
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("1=OK:03020001;");
    ANSWER(1, "\x03\x02\x00\x01"); /* twice */
    send_read(2, 7);
    (void)written();
    answer_as(first, 7, "\x03\x02\x66\x66", 4, 0);                     /* late */
    answer_as((uint16_t)(tids[2] + 100), 7, "\x03\x02\x66\x66", 4, 0); /* of somebody else */
    answer_as((uint16_t)(tids[2] + 100), 99, "\x03\x02\x66\x66", 4, 0);
    TOLD("");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("2=OK:03020002;");
    assert_int_equal(modbus_link_counts(rig.link).n_foreign, 4);
}

static void test_an_answer_of_a_wrong_form_is_asked_for_again_and_then_a_protocol_error(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    ANSWER(1, "\x03\x04\x12\x34\x00\x00");
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x04\x02\x12\x34");
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x12");
    TOLD("1=PROTO;");
    assert_int_equal(modbus_link_counts(rig.link).n_bad, 3);
}

static void test_a_wrong_unit_resets_the_connection(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    answer_as(tids[1], 8, "\x03\x02\x00\x01", 4, 0);
    TOLD("down:PROTO;");
    loop_advance(rig.loop, 700);
    fake_line_open();
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("up;1=OK:03020001;");
}

static void test_bytes_that_are_not_modbus_reset_the_connection(void **state)
{
    (void)state;
    begin_up();
    fake_line_feed("HTTP/1.1 400 Bad Request\r\n", 26, 0);
    loop_advance(rig.loop, 0);
    TOLD("down:PROTO;");
    assert_null(fake_line.line);
}

/* The answer to 1 lacks its end; that to 2 follows, and would complete it, wherever it is cut. */
static void test_a_cut_answer_is_not_completed_by_the_next_one(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 2;
    begin_up();
    for (unsigned missing = 1; missing <= 16; missing++) {
        autobuf struct buf frames = {0};

        prepare(1, 7, 1, 8, false);
        prepare(2, 7, 2, 1, false);
        modbus_link_send(rig.link, &rig.requests[1]);
        modbus_link_send(rig.link, &rig.requests[2]);
        (void)written();
        put_answer(&frames, tids[1], 7, "\x03\x10\x11\x12\x13\x14\x15\x16\x17\x18\x11\x12\x13\x14\x15\x16\x17\x18", 18);
        frames.n -= missing;
        put_answer(&frames, tids[2], 7, missing % 2 ? "\x03\x02\x00\x02" : "\x83\x02", missing % 2 ? 4 : 2);
        put_answer(&frames, (uint16_t)(tids[2] + 9), 7, "\x83\x02", 2);
        fake_line_feed(frames.p, frames.n, 0);
        assert_null(strstr(rig.told, "=OK"));
        loop_advance(rig.loop, 0);
        assert_null(fake_line.line); /* begun anew */
        while (!fake_line.line)
            loop_advance(rig.loop, 100);
        fake_line_open();
        assert_string_equal(written(), "7/2 "); /* one at a time, as for any that are repeated */
        ANSWER(2, "\x83\x02");
        assert_string_equal(written(), "7/1 ");
        ANSWER(1, "\x83\x02");
        TOLD("down:PROTO;up;2=OK:8302;1=OK:8302;");
    }
}

static void test_a_frame_that_does_not_go_on_resets_the_connection(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    fake_line_feed("\x00\x01\x00", 3, 0);
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("down:PROTO;");
}

/* Without transaction identifiers: the answer to the first attempt comes after the second has been sent, and that to the
 * second when the next request would be under way. */
static void test_an_overdue_rtu_answer_is_not_taken_for_the_next_request(void **state)
{
    (void)state;
    rig.conf.framing = MODBUS_RTU;
    begin_up();
    send_read(1, 7);
    send_read(2, 7);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, 200);
    ANSWER(1, "\x03\x02\x00\x01"); /* to the first attempt, 1.2 s late */
    TOLD("1=OK:03020001;");
    assert_string_equal(written(), ""); /* the second answer is awaited */
    loop_advance(rig.loop, TIMEOUT_MS - 10);
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("");
    loop_advance(rig.loop, 10);
    assert_string_equal(written(), "7/2 ");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("2=OK:03020002;");
    assert_int_equal(modbus_link_counts(rig.link).n_foreign, 1);
}

/* Something between keeps answers back for longer than anybody would guess. */
static void test_a_very_late_answer_over_a_stream_is_not_taken_for_the_next_request(void **state)
{
    (void)state;
    rig.conf.framing = MODBUS_RTU;
    begin_up();
    send_read(3, 7);
    (void)written();
    loop_advance(rig.loop, 10);
    ANSWER(3, "\x03\x02\x00\x03"); /* a quick device so far */
    prepare(1, 7, 1, 1, false);
    rig.requests[1].retries = 0;
    modbus_link_send(rig.link, &rig.requests[1]);
    (void)written();
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("3=OK:03020003;1=TIMEOUT;");
    send_read(2, 7);
    loop_advance(rig.loop, 3 * TIMEOUT_MS);
    assert_string_equal(written(), "");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("");
    assert_string_equal(written(), "7/2 ");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("2=OK:03020002;");
}

static void test_one_lost_rtu_frame_of_a_quick_device_costs_little(void **state)
{
    (void)state;
    rig.conf.framing = MODBUS_RTU;
    begin_up();
    send_read(1, 7);
    (void)written();
    loop_advance(rig.loop, 10);
    ANSWER(1, "\x03\x02\x00\x01");
    send_read(2, 7);
    (void)written();
    loop_advance(rig.loop, TIMEOUT_MS + 10); /* lost; then the retry is answered as quickly as ever */
    assert_string_equal(written(), "7/2 ");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("1=OK:03020001;2=OK:03020002;");
    send_read(3, 7);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 200);
    assert_string_equal(written(), "7/3 ");
}

static void test_rtu_answers_of_other_units_and_functions_are_passed_over(void **state)
{
    (void)state;
    rig.conf.framing = MODBUS_RTU;
    begin_up();
    send_read(1, 7);
    (void)written();
    answer_as(0, 8, "\x03\x02\x66\x66", 4, 0);
    answer_as(0, 7, "\x04\x02\x66\x66", 4, 0);
    fake_line_feed("\x07\x03\x02\x12\x34\xff\xff", 7, 0); /* the check is wrong */
    TOLD("");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("1=OK:03020001;");
    assert_int_equal(modbus_link_status(rig.link).n_bad_checks, 1);
}

/* --- units that are dead -------------------------------------------------------------------------------------------------------- */
static void test_a_dead_unit_is_left_alone_and_the_others_go_on(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7); /* dead */
    send_read(2, 8);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    assert_string_equal(written(), "8/2 "); /* between the attempts */
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("2=OK:03020002;");
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("1=TIMEOUT;");
    send_read(1, 7); /* once more, without retries */
    send_read(3, 7);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("unit 7 silent;1=TIMEOUT;3=UNREACHABLE;");
    send_read(1, 7);
    send_read(2, 8);
    assert_string_equal(written(), "8/2 ");
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("1=UNREACHABLE;2=OK:03020002;");
    loop_advance(rig.loop, 10 * TIMEOUT_MS); /* at most a tenth of the time goes to it */
    send_read(1, 7);
    send_read(3, 7);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("3=UNREACHABLE;unit 7 answers;1=OK:03020001;");
    send_read(3, 7);
    assert_string_equal(written(), "7/3 ");
}

static void test_others_need_not_wait_for_the_timeout_of_a_silent_unit(void **state)
{
    (void)state;
    begin_up();
    prepare(1, 7, 1, 1, false);
    rig.requests[1].timeout_ms = 30000;
    rig.requests[1].retries = 0;
    modbus_link_send(rig.link, &rig.requests[1]);
    send_read(2, 8);
    send_read(3, 7);
    send_read(4, 9);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, 999);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 1);
    assert_string_equal(written(), "8/2 "); /* one at a time, as ever */
    loop_advance(rig.loop, 20);
    ANSWER(2, "\x03\x02\x00\x02");
    assert_string_equal(written(), "9/4 ");
    ANSWER(4, "\x03\x02\x00\x04");
    assert_string_equal(written(), ""); /* that unit itself is busy */
    loop_advance(rig.loop, 28980);
    TOLD("2=OK:03020002;4=OK:03020004;1=TIMEOUT;");
    assert_string_equal(written(), "7/3 ");
    send_read(2, 8);
    loop_advance(rig.loop, 99);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 1);
    assert_string_equal(written(), "8/2 ");
    ANSWER(3, "\x03\x02\x00\x03"); /* late, and yet its own */
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("3=OK:03020003;2=OK:03020002;");
}

static void test_with_a_gap_between_requests_nothing_overtakes(void **state)
{
    (void)state;
    rig.conf.delay_ms = 5;
    begin_up();
    loop_advance(rig.loop, 5);
    prepare(1, 7, 1, 1, false);
    rig.requests[1].timeout_ms = 30000;
    modbus_link_send(rig.link, &rig.requests[1]);
    send_read(2, 8);
    assert_string_equal(written(), "7/1 ");
    loop_advance(rig.loop, 29000);
    assert_string_equal(written(), "");
}

static void test_a_command_to_a_unit_that_is_left_alone_is_tried_once(void **state)
{
    (void)state;
    begin_up();
    send_read(2, 8);
    (void)written();
    ANSWER(2, "\x83\x0a");
    TOLD("unit 8 silent;2=OK:830a;"); /* alone on its link: it is not left alone */
    send_read(1, 7);
    (void)written();
    ANSWER(1, "\x83\x0b");
    TOLD("unit 7 silent;1=OK:830b;");
    send_read(3, 7);
    send_command(4, 7);
    send_command(5, 7);
    assert_string_equal(written(), "7/4 ");
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("3=UNREACHABLE;4=TIMEOUT;5=UNREACHABLE;");
}

static void test_three_requests_in_a_row_without_an_answer_open_the_connection_anew(void **state)
{
    (void)state;
    begin_up();
    for (unsigned i = 1; i <= 3; i++) {
        prepare(i, 7, (uint16_t)i, 1, false);
        rig.requests[i].retries = 0;
        modbus_link_send(rig.link, &rig.requests[i]);
    }
    loop_advance(rig.loop, 2 * TIMEOUT_MS);
    TOLD("1=TIMEOUT;unit 7 silent;2=TIMEOUT;");
    loop_advance(rig.loop, TIMEOUT_MS);
    TOLD("3=TIMEOUT;down:TIMEOUT;");
    loop_advance(rig.loop, 700);
    assert_int_equal(fake_line.n_made, 2);
}

/* --- the connection --------------------------------------------------------------------------------------------------------------- */
static void test_requests_wait_for_the_first_connection_and_end_when_it_fails(void **state)
{
    (void)state;
    begin();
    send_read(1, 7);
    loop_advance(rig.loop, 0);
    TOLD("");
    fake_line_lose(ERR_REFUSED);
    loop_advance(rig.loop, 0);
    TOLD("down:REFUSED;1=CLOSED;");
    send_read(2, 7);
    TOLD("");
    loop_advance(rig.loop, 0);
    TOLD("2=CLOSED;");
    loop_advance(rig.loop, 700);
    fake_line_lose(ERR_REFUSED); /* told once */
    TOLD("");
    loop_advance(rig.loop, 1300);
    fake_line_open();
    TOLD("up;");
    assert_int_equal(modbus_link_status(rig.link).n_attempts, 0);
}

static void test_a_reading_that_was_on_its_way_goes_over_the_next_connection_and_a_write_does_not(void **state)
{
    (void)state;
    rig.conf.max_in_flight = 2;
    begin_up();
    send_read(1, 7);
    prepare(2, 7, 0, 1, true);
    modbus_ask_write_register(&rig.requests[2].pdu, 2, 5);
    modbus_link_send(rig.link, &rig.requests[2]);
    assert_string_equal(written(), "7/2 7/1 ");
    fake_line_lose(ERR_CLOSED);
    TOLD("down:CLOSED;2=CLOSED;");
    loop_advance(rig.loop, 700);
    fake_line_open();
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("up;1=OK:03020001;");
}

static void test_attempts_follow_the_numbers_of_the_file(void **state)
{
    (void)state;
    rig.conf.attempts = 2;
    rig.conf.attempt_pause_ms = 500;
    rig.conf.failed_pause_ms = 30000;
    begin();
    for (unsigned round = 0; round < 3; round++) {
        fake_line_lose(ERR_REFUSED);
        loop_advance(rig.loop, 399);
        assert_null(fake_line.line);
        loop_advance(rig.loop, 202);
        assert_non_null(fake_line.line);
        fake_line_lose(ERR_REFUSED);
        loop_advance(rig.loop, 23999);
        assert_null(fake_line.line);
        loop_advance(rig.loop, 12002);
        assert_non_null(fake_line.line);
    }
}

static void test_closing_ends_every_request_once(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    send_read(2, 8);
    send_command(3, 7);
    (void)written();
    modbus_link_close(rig.link, on_closed, NULL);
    TOLD("");
    loop_advance(rig.loop, 0);
    assert_int_equal(rig.n_closed, 1);
    TOLD("3=CLOSED;1=CLOSED;2=CLOSED;");
}

static void test_a_link_may_be_closed_and_used_within_done(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    (void)written();
    prepare(2, 7, 2, 1, false);
    rig.again = &rig.requests[2];
    ANSWER(1, "\x03\x02\x00\x01");
    assert_string_equal(written(), "7/2 ");
    rig.close_in_done = true;
    ANSWER(2, "\x03\x02\x00\x02");
    TOLD("1=OK:03020001;2=OK:03020002;");
    assert_int_equal(rig.n_closed, 1);
}

static void test_a_waiting_request_can_be_cancelled(void **state)
{
    (void)state;
    begin_up();
    send_read(1, 7);
    send_read(2, 7);
    (void)written();
    modbus_link_cancel(rig.link, &rig.requests[1]); /* on its way: nothing happens */
    modbus_link_cancel(rig.link, &rig.requests[2]);
    TOLD("");
    loop_advance(rig.loop, 0);
    TOLD("2=CANCELLED;");
    ANSWER(1, "\x03\x02\x00\x01");
    TOLD("1=OK:03020001;");
    assert_string_equal(written(), "");
}

/* --- serial lines ------------------------------------------------------------------------------------------------------------------- */
static void be_serial(enum modbus_framing framing)
{
    rig.conf.framing = framing;
    rig.conf.line.kind = MODBUS_LINE_SERIAL;
    rig.conf.line.serial =
        (struct serial_conf){.path = "/dev/null", .baudrate = 9600, .bytesize = 8, .half_stopbits = 2, .parity = 'N'};
}

static void test_a_line_is_silent_before_each_frame(void **state)
{
    (void)state;
    be_serial(MODBUS_RTU);
    begin_up();
    send_read(1, 7);
    send_read(2, 7);
    assert_string_equal(written(), "7/1 ");
    ANSWER(1, "\x03\x02\x00\x01");
    loop_advance(rig.loop, 3);
    assert_string_equal(written(), "");
    loop_advance(rig.loop, 2); /* 3.5 characters at 9600 baud are 3.6 ms */
    assert_string_equal(written(), "7/2 ");
}

static void test_a_broadcast_is_answered_by_nobody(void **state)
{
    (void)state;
    be_serial(MODBUS_RTU);
    begin_up();
    prepare(1, 0, 1, 1, true);
    modbus_ask_write_register(&rig.requests[1].pdu, 1, 5);
    modbus_link_send(rig.link, &rig.requests[1]);
    send_read(2, 7);
    send_read(3, 0);
    assert_string_equal(written(), "0/1 ");
    TOLD("3=USAGE;");
    loop_advance(rig.loop, 112);
    TOLD("1=OK;");
    assert_string_equal(written(), "7/2 ");
    assert_int_equal(modbus_link_counts(rig.link).n_timeouts, 0);
}

static void test_what_a_line_echoes_is_passed_over(void **state)
{
    autobuf struct buf bytes = {0};

    (void)state;
    be_serial(MODBUS_RTU);
    rig.conf.local_echo = true;
    begin_up();
    prepare(1, 7, 1, 1, true);
    modbus_ask_write_register(&rig.requests[1].pdu, 1, 5); /* its answer is the same as what was sent */
    modbus_link_send(rig.link, &rig.requests[1]);
    loop_advance(rig.loop, 0);
    buf_add(&bytes, fake_line.out.p, fake_line.out.n);
    assert_string_equal(written(), "7/1 ");
    fake_line_feed(bytes.p, bytes.n, 3);
    TOLD("");
    fake_line_feed(bytes.p, bytes.n, 3);
    TOLD("1=OK:0600010005;");
}

static void test_ascii_is_spoken_too(void **state)
{
    (void)state;
    be_serial(MODBUS_ASCII);
    begin_up();
    send_read(1, 7);
    assert_string_equal(written(), "7/1 ");
    answer_as(0, 7, "\x03\x02\x00\x01", 4, 2);
    TOLD("1=OK:03020001;");
}

/* Whatever comes, nothing is believed that is not the answer, every request ends once, and the link lives on. */
static void test_random_bytes_and_mangled_answers_are_survived(void **state)
{
    uint64_t random = 88172645463325252u;

    (void)state;
    rig.conf.framing = MODBUS_RTU;
    begin_up();
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t bytes[40];
        size_t n;

        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        loop_advance(rig.loop, 0);
        if (!fake_line.line) {
            loop_advance(rig.loop, 80000);
            fake_line_open();
        }
        rig.n_told = 0;
        rig.told[0] = 0;
        send_read(1, 7);
        (void)written();
        n = random % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(random >> i % 50);
        if (n > 2 && random & 1 << 20)
            bytes[0] = 7, bytes[1] = 3;
        fake_line_feed(bytes, n, 1 + random % 7);
        for (unsigned i = 0; rig.n_told == 0 && i < 16; i++)
            loop_advance(rig.loop, TIMEOUT_MS);
        assert_true(strstr(rig.told, "1=TIMEOUT;") || strstr(rig.told, "1=CLOSED;"));
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_request_is_answered),
        T(test_an_answer_in_pieces_is_one_answer),
        T(test_no_answer_is_asked_for_again_and_then_fails),
        T(test_an_exception_is_an_answer),
        T(test_a_busy_device_is_asked_again_after_200_ms_while_others_go_on),
        T(test_commands_overtake_polls_and_units_take_turns),
        T(test_several_are_on_their_way_and_answered_in_any_order),
        T(test_commands_of_a_unit_follow_one_another),
        T(test_a_gap_is_kept_between_requests),
        T(test_late_foreign_and_duplicated_answers_are_not_taken_for_the_next_request),
        T(test_an_answer_of_a_wrong_form_is_asked_for_again_and_then_a_protocol_error),
        T(test_a_wrong_unit_resets_the_connection),
        T(test_bytes_that_are_not_modbus_reset_the_connection),
        T(test_a_cut_answer_is_not_completed_by_the_next_one),
        T(test_a_frame_that_does_not_go_on_resets_the_connection),
        T(test_an_overdue_rtu_answer_is_not_taken_for_the_next_request),
        T(test_a_very_late_answer_over_a_stream_is_not_taken_for_the_next_request),
        T(test_one_lost_rtu_frame_of_a_quick_device_costs_little),
        T(test_rtu_answers_of_other_units_and_functions_are_passed_over),
        T(test_a_dead_unit_is_left_alone_and_the_others_go_on),
        T(test_others_need_not_wait_for_the_timeout_of_a_silent_unit),
        T(test_with_a_gap_between_requests_nothing_overtakes),
        T(test_a_command_to_a_unit_that_is_left_alone_is_tried_once),
        T(test_three_requests_in_a_row_without_an_answer_open_the_connection_anew),
        T(test_requests_wait_for_the_first_connection_and_end_when_it_fails),
        T(test_a_reading_that_was_on_its_way_goes_over_the_next_connection_and_a_write_does_not),
        T(test_attempts_follow_the_numbers_of_the_file),
        T(test_closing_ends_every_request_once),
        T(test_a_link_may_be_closed_and_used_within_done),
        T(test_a_waiting_request_can_be_cancelled),
        T(test_a_line_is_silent_before_each_frame),
        T(test_a_broadcast_is_answered_by_nobody),
        T(test_what_a_line_echoes_is_passed_over),
        T(test_ascii_is_spoken_too),
        T(test_random_bytes_and_mangled_answers_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
