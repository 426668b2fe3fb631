/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uplink/scripted_platform.h"

/* --- delivery and order ------------------------------------------------------------------------------------------------------ */

/* Invariant 5. */
static void test_an_idle_line_sends_at_once_and_connect_precedes_data(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push(0, 1, "");
    loop_advance(loop, 0);
    assert_int_equal(pf.n_connects, 1);
    assert_int_equal(pf.n_data, 1);
    assert_int_equal(oldest()->is_data, false);
    answer_all();
    assert_true(deliver_is_idle(deliver));
    assert_int_equal(store_stats(store).n_events, 0);
    push(0, 1, ""); /* announced already */
    loop_advance(loop, 0);
    assert_int_equal(pf.n_connects, 1);
    answer_all();
    check_ledger();
    close_all();
}

static void test_while_packs_are_in_flight_values_wait_for_company(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push(0, 1, "");
    loop_advance(loop, 0);
    assert_int_equal(pf.n_data, 1);
    push(0, 3, "");
    loop_advance(loop, 10);
    push(1, 3, "");
    loop_advance(loop, 10);
    assert_int_equal(pf.n_data, 1);
    answer_others();
    assert_int_equal(pf.n_data, 2); /* an answer ends the waiting */
    push(0, 1, "");
    loop_advance(loop, 49);
    assert_int_equal(pf.n_data, 2);
    loop_advance(loop, 2);
    assert_int_equal(pf.n_data, 3); /* or the delay */
    push(0, 1000, "");
    loop_advance(loop, 0);
    assert_true(pf.n_data > 3); /* or a full pack */
    answer_all();
    check_stored(0, 1005, 1);
    check_ledger();
    close_all();
}

static void test_answers_in_any_order_free_the_store_from_its_front(void **state)
{
    (void)state;
    open_all(&usual, 4000, 1000, true);
    for (unsigned i = 0; i < 8; i++)
        push(i, 3000, "");
    loop_advance(loop, 100);
    assert_true(pf.n_data > 100);
    answer_others();
    struct message *first = oldest_data();
    uint64_t waiting = store_stats(store).n_events;

    srand(1);
    while (pf.n_open > 1) { /* all but the first, in random order */
        unsigned skip = 1 + (unsigned)rand() % (pf.n_open - 1);
        struct list *node = pf.open.next;

        for (; skip && node->next != &pf.open; skip--)
            node = node->next;
        struct message *message = CONTAINER_OF(node, struct message, node);

        if (message != first)
            answer(message, 0);
        loop_advance(loop, 0);
    }
    assert_int_equal(store_stats(store).n_events, waiting); /* the first holds back the position, not the flow */
    check_ledger();
    answer_all();
    assert_int_equal(store_stats(store).n_events, 0);
    for (unsigned i = 0; i < 8; i++)
        check_stored(i, 3000, 1);
    check_ledger();
    close_all();
}

static void test_the_window_is_kept(void **state)
{
    (void)state;
    open_all(&usual, 1000, 7, true);
    push(0, 2000, "");
    for (unsigned i = 0; i < 1000; i++) {
        loop_advance(loop, 0);
        assert_true(pf.n_open <= 7);
        if (!oldest())
            break;
        answer(oldest(), 0);
    }
    check_stored(0, 2000, 1);
    check_ledger();
    close_all();
}

static void test_attributes_leave_before_the_telemetry_of_the_same_events(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    struct batch *batch = new_batch();

    add_record(batch, 0, RECORD_TELEMETRY, "\"n\":0", 1);
    add_record(batch, 0, RECORD_ATTRIBUTES, "\"a\":1,\"b\":1", 2);
    add_record(batch, 0, RECORD_ATTRIBUTES, "\"a\":2", 1);
    store_append(store, batch);
    loop_advance(loop, 0);
    answer_others();
    assert_true(str_eq(oldest_data()->topic, STR("v1/gateway/attributes")));
    assert_non_null(strstr(oldest_data()->copy, "{\"a\":2,\"b\":1}"));
    answer_all();
    check_ledger();
    close_all();
}

/* Invariants 3 and 4. */
static void test_a_reconnect_sends_the_same_packs_again_in_the_same_order_before_anything_new(void **state)
{
    char *before[64];
    unsigned n = 0;

    (void)state;
    open_all(&usual, 1000, 10, true);
    for (unsigned i = 0; i < 4; i++)
        push(i, 300, "");
    loop_advance(loop, 0);
    answer_others();
    loop_advance(loop, 100);
    answer_others();
    answer(oldest_data(), 0); /* this one is not sent again */
    LIST_EACH(node, &pf.open) {
        struct message *message = CONTAINER_OF(node, struct message, node);

        if (message->is_data)
            before[n++] = mem_dup(message->copy);
    }
    assert_true(n > 5);
    disconnect(true);
    for (unsigned i = 0; i < 4; i++)
        push(i, 5, "");
    loop_advance(loop, 1000);
    assert_int_equal(pf.n_open, 0);
    connect_again();
    unsigned i = 0;

    for (; i < n; i++) {
        while (!oldest_data()) {
            assert_non_null(oldest());
            answer(oldest(), 0);
            loop_advance(loop, 0);
        }
        assert_true(oldest_data()->is_resent);
        assert_string_equal(oldest_data()->copy, before[i]);
        answer(oldest_data(), 0);
        loop_advance(loop, 0);
        mem_free(before[i]);
    }
    answer_all();
    for (i = 0; i < 4; i++)
        check_stored(i, 305, 1); /* and nothing twice */
    assert_int_equal(deliver_stats(deliver).n_resent, n);
    check_ledger();
    close_all();
}

static void test_a_random_platform_gets_everything_at_least_once_and_in_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        unsigned n_pushed = 0;

        srand(seed);
        open_all(&usual, 700 + (unsigned)rand() % 3000, 1 + (unsigned)rand() % 20, true);
        while (n_pushed < 200 || !deliver_is_idle(deliver)) {
            switch (rand() % 8) {
            case 0:
            case 1:
                if (n_pushed < 200) {
                    push((unsigned)rand() % 10, 1 + (unsigned)rand() % 60, rand() % 4 ? "" : ",\"s\":\"text\"");
                    n_pushed++;
                }
                break;
            case 2:
                if (rand() % 20 == 0) {
                    disconnect(false);
                    connect_again();
                }
                break;
            default:
                if (pf.n_open) {
                    unsigned skip = (unsigned)rand() % pf.n_open;
                    struct list *node = pf.open.next;

                    while (skip--)
                        node = node->next;
                    answer(CONTAINER_OF(node, struct message, node), 0);
                }
            }
            loop_advance(loop, (unsigned)rand() % 20);
            check_ledger();
        }
        for (unsigned i = 0; i < 10; i++)
            for (int64_t n = 0; n < next_value[i]; n++)
                assert_int_equal(pf.stored[i][n], 1); /* an answered message is never sent again */
        close_all();
    }
}

static void test_pieces_that_are_read_while_something_is_stuck_are_bounded(void **state)
{
    char text[500];

    (void)state;
    open_all(&usual, 60000, 1000, true);
    memset(text, 'x', sizeof text);
    memcpy(text, ",\"s\":\"", 6);
    text[498] = '"';
    text[499] = 0;
    push(0, 1, "");
    loop_advance(loop, 0);
    answer_others();
    struct message *stuck = oldest_data();

    for (unsigned i = 0; i < 35; i++) {
        push(1, 1000, text);
        loop_advance(loop, 0);
        for (struct message *message;
             pf.n_open > 1 && (message = CONTAINER_OF(pf.open.prev, struct message, node)) != stuck;) {
            answer(message, 0);
            loop_advance(loop, 0);
        }
    }
    assert_in_range(pf.n_stored[1], 20000, 32000); /* 16 MiB of 35000 x 0.56 KiB */
    answer_all();
    check_stored(1, 35000, 1);
    check_ledger();
    close_all();
}

/* --- refusals ---------------------------------------------------------------------------------------------------------------- */

/* Answers until all is quiet: code for messages with POISON in them; gives the number of data messages. */
static unsigned answer_poison(uint8_t code, bool closes)
{
    unsigned from = pf.n_data;

    for (unsigned i = 0; i < 20000; i++) {
        struct message *message = oldest();

        if (!message && deliver_is_idle(deliver))
            break;
        if (message && message->is_data && strstr(message->copy, "POISON")) {
            if (code)
                answer(message, code);
            if (closes) {
                disconnect(true);
                connect_again();
            }
        } else if (message) {
            answer(message, 0);
        }
        loop_advance(loop, message ? 0 : 100);
    }
    assert_true(deliver_is_idle(deliver));
    return pf.n_data - from;
}

static void check_one_poisoned(uint8_t code, bool closes, unsigned max_messages)
{
    open_all(&usual, 4000000, 100, true);
    pf.is_lax = true; /* the good rest of a bisected pack may be late */
    for (unsigned i = 0; i < 10; i++)
        push(i, 500, "");
    push(5, 1, ",\"s\":\"POISON\"");
    for (unsigned i = 0; i < 10; i++)
        push(i, 500, "");
    unsigned n = answer_poison(code, closes);

    assert_int_equal(pf.n_rejected, 1);
    buf_add_u8(&pf.rejected, 0);
    assert_non_null(strstr((char *)pf.rejected.p, "\"n\":500,\"s\":\"POISON\""));
    if (n > max_messages)
        fail_msg("%u messages for code %u", n, code);
    for (unsigned i = 0; i < 10; i++)
        for (int64_t j = 0; j < next_value[i]; j++)
            if (i == 5 && j == 500)
                assert_int_equal(pf.stored[i][j], 0);
            else
                assert_true(pf.stored[i][j] >= 1);
    check_ledger();
    close_all();
}

/* Invariant 10; check_one_poisoned counts the messages. */
static void test_a_poisonous_record_among_ten_thousand_costs_itself_and_few_messages(void **state)
{
    (void)state;
    check_one_poisoned(0x99, false, 40);
    check_one_poisoned(0x80, false, 40);
    check_one_poisoned(0x90, false, 40);
}

/* Invariant 10. */
static void test_a_record_at_which_the_platform_closes_is_found_too(void **state)
{
    (void)state;
    check_one_poisoned(0x83, true, 60);
    check_one_poisoned(0, true, 60); /* closed without a word */
}

static void test_a_device_that_is_refused_does_not_take_others_with_it(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    pf.is_lax = true;
    for (unsigned i = 0; i < 20; i++)
        push(i, 5, i == 7 ? ",\"s\":\"POISON\"" : "");
    answer_poison(0x80, false);
    assert_int_equal(pf.n_rejected, 5);
    for (unsigned i = 0; i < 20; i++)
        check_stored(i, 5, i == 7 ? 0 : 1);
    check_ledger();
    close_all();
}

static void test_quota_puts_the_message_back_in_its_place_and_waits(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    push(0, 10, "");
    loop_advance(loop, 0);
    answer_others();
    answer(oldest_data(), 0x97);
    loop_advance(loop, 0);
    disconnect(true);
    connect_again();
    assert_int_equal(pf.n_quotas, 1);
    push(0, 10, "");
    loop_advance(loop, 900);
    assert_null(oldest_data());
    loop_advance(loop, 200);
    answer_others();
    assert_non_null(oldest_data());
    answer(oldest_data(), 0x97); /* again: the pause doubles */
    disconnect(true);
    connect_again();
    loop_advance(loop, 1900);
    assert_null(oldest_data());
    loop_advance(loop, 200);
    answer_all();
    check_stored(0, 20, 1);
    assert_int_equal(pf.n_rejected, 0);
    check_ledger();
    close_all();
}

static void test_a_code_that_says_nothing_against_the_message_loses_nothing(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    push(0, 10, "");
    loop_advance(loop, 0);
    answer_others();
    for (unsigned i = 0; i < 10; i++) {
        answer(oldest_data(), 0x87);
        loop_advance(loop, 130000);
        assert_non_null(oldest_data());
    }
    answer_all();
    check_stored(0, 10, 1);
    assert_int_equal(pf.n_rejected, 0);
    close_all();
}

static void test_three_closes_are_counted_only_at_the_same_message(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    for (unsigned i = 0; i < 30; i++) { /* a link that dies again and again, but something gets through between */
        push(0, 10, "");
        loop_advance(loop, 0);
        answer_others();
        disconnect(true);
        connect_again();
        answer_others();
        disconnect(true);
        connect_again();
        answer_all();
    }
    check_stored(0, 300, 1);
    assert_int_equal(pf.n_rejected, 0);
    check_ledger();
    close_all();
}

static void test_a_message_that_is_never_answered_is_found_while_others_flow(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    pf.is_lax = true;
    push(0, 100, "");
    push(1, 1, ",\"s\":\"POISON\"");
    push(2, 100, "");
    for (unsigned i = 0; i < 1000 && !(pf.n_rejected && pf.n_open == pf.n_messages); i++) {
        LIST_EACH_SAFE(node, &pf.open) {
            struct message *message = CONTAINER_OF(node, struct message, node);

            if (!strstr(message->copy, "POISON"))
                answer(message, 0);
        }
        loop_advance(loop, 1000);
        if (i % 10 == 0)
            push(3, 1, "");
        if (pf.n_rejected)
            break;
    }
    assert_int_equal(pf.n_rejected, 1);
    assert_int_equal(pf.n_closes, 0);
    answer_others();
    LIST_EACH_SAFE(node, &pf.open) {
        struct message *message = CONTAINER_OF(node, struct message, node);

        if (!strstr(message->copy, "POISON"))
            answer(message, 0);
    }
    loop_advance(loop, 0);
    check_stored(0, 100, 1);
    check_stored(2, 100, 1);
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

static void test_a_platform_that_acknowledges_nothing_loses_nothing(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    push(0, 100, "");
    loop_advance(loop, 0);
    answer_others();
    for (unsigned i = 0; i < 5; i++) {
        loop_advance(loop, 70000);
        assert_int_equal(pf.n_rejected, 0);
        assert_true(pf.n_closes >= 1);
        pf.n_closes = 0;
        disconnect(false); /* what on_close asked for */
        connect_again();
    }
    answer_all();
    check_stored(0, 100, 1);
    check_ledger();
    close_all();
}

/* --- devices that the platform does not stand ------------------------------------------------------------------------------------ */

/* The platform works through what arrives and closes at a connect of the device. Before that it answers, or it is not heard. */
static unsigned run_closing_at(unsigned index, bool is_heard, uint64_t for_ms)
{
    uint64_t start = loop_mono_ms(loop);
    unsigned n_hang_ups = 0;
    char name[40];

    snprintf(name, sizeof name, STR_FMT "\"", STR_ARG(device_name(devices[index])));
    while (loop_mono_ms(loop) - start < for_ms) {
        bool has_closed = false;

        LIST_EACH(node, &pf.open) {
            const struct message *message = CONTAINER_OF(node, struct message, node);

            has_closed |= str_eq(message->topic, STR("v1/gateway/connect")) && strstr(message->copy, name);
        }
        while (oldest() && (is_heard || !has_closed)) {
            if (str_eq(oldest()->topic, STR("v1/gateway/connect")) && strstr(oldest()->copy, name))
                break;
            answer(oldest(), 0);
        }
        if (has_closed) {
            disconnect(true);
            n_hang_ups++;
            connect_again();
        }
        loop_advance(loop, 100);
    }
    return n_hang_ups;
}

static void check_closing_connect(bool is_heard, bool is_known_before)
{
    open_all(&usual, 60000, 20, true);
    pf.is_lax = true;
    if (is_known_before) { /* then the announcing after a reconnect is where it happens */
        for (unsigned i = 0; i < 30; i++)
            push(i, 1, "");
        loop_advance(loop, 0);
        answer_all();
        disconnect(false);
        connect_again();
    }
    int64_t first = next_value[7];

    for (unsigned i = 0; i < 30; i++)
        push(i, 5, "");
    unsigned n = run_closing_at(7, is_heard, 30000);

    assert_in_range(n, 3, 6);
    for (unsigned i = 0; i < 30; i++)
        for (int64_t j = first; j < first + 5; j++)
            assert_true(i == 7 ? !pf.stored[i][j] : pf.stored[i][j] > 0);
    assert_int_equal(pf.n_rejected, 5);
    buf_add_u8(&pf.rejected, 0);
    assert_non_null(strstr((char *)pf.rejected.p, "closes the connection when the device is announced"));
    push(7, 2, "");
    push(8, 2, "");
    assert_int_equal(run_closing_at(7, is_heard, 20000), 0); /* it is not announced while it is parked */
    assert_true(pf.stored[8][first + 6] > 0);
    assert_int_equal(pf.n_rejected, 7);
    loop_advance(loop, 60000);
    push(7, 2, "");
    assert_int_equal(run_closing_at(7, is_heard, 30000), 1); /* tried once more, then left alone for longer */
    loop_advance(loop, 70000);
    push(7, 1, "");
    assert_int_equal(run_closing_at(7, is_heard, 1000), 0);
    loop_advance(loop, 60000);
    push(7, 1, "");
    loop_advance(loop, 100);
    answer_all(); /* it is taken now */
    loop_advance(loop, 100);
    answer_all();
    assert_true(pf.stored[7][next_value[7] - 1] > 0);
    assert_true(deliver_is_idle(deliver));
    check_ledger();
    close_all();
}

static void test_a_device_whose_connect_makes_the_server_close_is_parked_and_all_else_flows(void **state)
{
    (void)state;
    check_closing_connect(true, false);
    check_closing_connect(false, false);
    check_closing_connect(true, true);
    check_closing_connect(false, true);
}

static void test_a_link_that_dies_at_connects_parks_nobody_that_is_taken_later(void **state)
{
    (void)state;
    open_all(&usual, 60000, 20, true);
    pf.is_lax = true;
    for (unsigned i = 0; i < 30; i++)
        push(i, 2, "");
    loop_advance(loop, 0);
    for (unsigned i = 0; i < 10; i++) { /* nothing is heard each second time */
        disconnect(true);
        connect_again();
        loop_advance(loop, 15000);
        answer_all();
    }
    for (unsigned i = 0; i < 100 && !deliver_is_idle(deliver); i++) {
        loop_advance(loop, 1000);
        answer_all();
    }
    assert_true(deliver_is_idle(deliver));
    assert_int_equal(pf.n_rejected, 0);
    for (unsigned i = 0; i < 30; i++)
        check_stored(i, 2, 1);
    close_all();
}

static void test_a_close_at_a_connect_makes_the_announcing_slower(void **state)
{
    struct why why = {0};

    (void)state;
    open_all(&usual, 60000, 100, true);
    assert_int_equal(limiter_parse(&limiters[LIMIT_DEVICE_MESSAGES], STR("100:10"), STR("h"), 100, &why), ERR_OK);
    for (unsigned i = 0; i < 20; i++)
        push(i, 1, "");
    loop_advance(loop, 0);
    assert_int_equal(pf.n_connects, 20);
    disconnect(true);
    connect_again();
    assert_int_equal(pf.n_connects, 20); /* the bucket is empty */
    loop_advance(loop, 1000);
    answer_all();
    assert_in_range(pf.n_connects, 20, 26);
    for (unsigned i = 0; i < 100 && !deliver_is_idle(deliver); i++) {
        loop_advance(loop, 500);
        answer_all();
    }
    for (unsigned i = 0; i < 20; i++)
        check_stored(i, 1, 1);
    close_all();
}

/* Answers 0x97 to what names the device, 0 to the rest. */
static void run_quota_for(unsigned index, bool has_connects, uint64_t for_ms)
{
    uint64_t start = loop_mono_ms(loop);
    char name[40];

    snprintf(name, sizeof name, STR_FMT "\"", STR_ARG(device_name(devices[index])));
    for (unsigned i = 0; loop_mono_ms(loop) - start < for_ms; i++) {
        while (oldest())
            answer(oldest(), strstr(oldest()->copy, name) && (has_connects || oldest()->is_data) ? 0x97 : 0);
        if (i % 10 == 0)
            push(1, 1, "");
        loop_advance(loop, 100);
    }
}

static void test_a_device_above_the_tenants_limit_does_not_stop_the_others(void **state)
{
    (void)state;
    for (unsigned has_connects = 0; has_connects < 2; has_connects++) {
        open_all(&usual, 60000, 100, true);
        pf.is_lax = true;
        for (unsigned i = 0; i < 20; i++)
            push(i, 5, "");
        run_quota_for(7, has_connects, 40000);
        assert_int_equal(pf.n_rejected, 5);
        buf_add_u8(&pf.rejected, 0);
        assert_non_null(strstr((char *)pf.rejected.p, "limit of devices"));
        for (unsigned i = 0; i < 20; i++)
            check_stored(i, i == 7 ? 0 : 5, 1);
        push(2, 1, "");
        loop_advance(loop, 100);
        answer_all();
        loop_advance(loop, 100);
        answer_all();
        check_stored(2, 6, 1);
        assert_true(deliver_is_idle(deliver));
        check_ledger();
        close_all();
    }
}

static void test_a_quota_that_hits_everything_rejects_nothing(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    pf.is_lax = true;
    for (unsigned i = 0; i < 5; i++)
        push(i, 5, "");
    for (unsigned i = 0; i < 3000; i++) {
        if (oldest())
            answer(oldest(), oldest()->is_data ? 0x97 : 0);
        loop_advance(loop, 1000);
    }
    assert_int_equal(pf.n_rejected, 0);
    for (unsigned i = 0; i < 1000 && !deliver_is_idle(deliver); i++) {
        answer_all();
        loop_advance(loop, 1000);
    }
    assert_int_equal(pf.n_rejected, 0);
    for (unsigned i = 0; i < 5; i++)
        check_stored(i, 5, 1);
    check_ledger();
    close_all();
}

static void test_a_platform_that_closes_and_refuses_at_random_stalls_nothing(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++) {
        unsigned n_pushed = 0;

        srand(seed);
        open_all(&usual, 700 + (unsigned)rand() % 3000, 1 + (unsigned)rand() % 20, seed % 4 != 0);
        pf.is_lax = true;
        for (unsigned i = 0; i < 200000 && (n_pushed < 100 || !deliver_is_idle(deliver)); i++) {
            unsigned skip = pf.n_open ? (unsigned)rand() % pf.n_open : 0;
            struct list *node = pf.open.next;

            if (n_pushed < 100 && rand() % 4 == 0) {
                push((unsigned)rand() % 20, 1 + (unsigned)rand() % 20, "");
                n_pushed++;
            } else if (rand() % 40 == 0) {
                disconnect(rand() % 4 != 0);
                loop_advance(loop, 500);
                connect_again();
            } else if (pf.n_open) {
                while (skip--)
                    node = node->next;
                answer(CONTAINER_OF(node, struct message, node), rand() % 30 ? 0 : rand() % 2 ? 0x97 : 0x80);
            }
            loop_advance(loop, (unsigned)rand() % 200);
            check_ledger();
        }
        assert_true(deliver_is_idle(deliver));
        assert_int_equal(store_stats(store).n_events, 0);
        close_all();
    }
}

/* --- versions and qualities ---------------------------------------------------------------------------------------------------- */

static void test_with_version_3_an_answer_counts_after_half_a_second(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, false);
    push(0, 10, "");
    loop_advance(loop, 0);
    answer_others();
    answer(oldest_data(), 0);
    loop_advance(loop, 400);
    assert_int_equal(store_stats(store).n_events, 10);
    disconnect(true);
    connect_again();
    loop_advance(loop,
                 2100); /* its connect was answered half a second ago too, and may be what the server does not stand */
    answer_others();
    loop_advance(loop, 600);
    assert_true(oldest_data()->is_resent);
    answer(oldest_data(), 0);
    loop_advance(loop, 600);
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

static void test_version_3_finds_the_message_at_which_the_server_closes_after_its_answer(void **state)
{
    (void)state;
    open_all(&usual, 500, 100, false);
    pf.is_lax = true;
    for (unsigned i = 0; i < 5; i++)
        push(i, 20, i == 3 ? ",\"s\":\"POISON\"" : "");
    for (unsigned i = 0; i < 20000 && !deliver_is_idle(deliver); i++) {
        struct message *message = oldest();
        bool is_poison = message && strstr(message->copy, "POISON");

        if (message)
            answer(message, 0);
        if (is_poison) {
            loop_advance(loop, 1);
            disconnect(true);
            connect_again();
        }
        loop_advance(loop, message ? 0 : 50);
    }
    assert_true(deliver_is_idle(deliver));
    assert_int_equal(pf.n_rejected, 20);
    check_ledger();
    close_all();
}

static void test_version_3_finds_the_device_at_whose_connect_the_server_closes_after_its_answer(void **state)
{
    unsigned n_closes = 0;

    (void)state;
    open_all(&usual, 60000, 20, false);
    pf.is_lax = true;
    for (unsigned i = 0; i < 30; i++)
        push(i, 5, "");
    for (unsigned i = 0; i < 2000 && !deliver_is_idle(deliver); i++) {
        struct message *message = oldest();
        bool is_guilty = message && str_eq(message->topic, STR("v1/gateway/connect")) &&
                         str_find(str_from(message->copy), device_name(devices[7]), 0) != SIZE_MAX;

        if (message)
            answer(message, 0);
        if (is_guilty) {
            n_closes++;
            loop_advance(loop, 1);
            disconnect(true);
            connect_again();
        }
        loop_advance(loop, message ? 0 : 50);
    }
    assert_true(deliver_is_idle(deliver));
    assert_in_range(n_closes, 3, 6);
    assert_int_equal(pf.n_rejected, 5);
    for (unsigned i = 0; i < 30; i++)
        for (int64_t j = 0; j < 5; j++)
            assert_true(i == 7 || pf.stored[i][j] > 0);
    check_ledger();
    close_all();
}

static void test_quality_0_counts_when_the_server_was_heard_after_the_bytes_left(void **state)
{
    struct deliver_conf conf = usual;

    (void)state;
    conf.qos = 0;
    open_all(&conf, 60000, 100, true);
    push(0, 10, "");
    loop_advance(loop, 10);
    assert_int_equal(store_stats(store).n_events, 10);
    pf.last_in_ms = loop_mono_ms(loop);
    deliver_wake(deliver);
    loop_advance(loop, 10);
    assert_int_equal(store_stats(store).n_events, 10); /* not with the kernel yet */
    pf.sent = pf.queued;
    deliver_wake(deliver);
    loop_advance(loop, 10);
    assert_int_equal(store_stats(store).n_events, 10);
    assert_true(pf.n_provoked > 0);
    pf.last_in_ms = loop_mono_ms(loop);
    deliver_wake(deliver);
    loop_advance(loop, 0);
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

/* --- devices ---------------------------------------------------------------------------------------------------------------------- */

static void test_connect_and_disconnect_stay_in_line_and_only_the_newest_acts(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    push_state(0, true);
    push(0, 2, "");
    push_state(0, false);
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.n_connects, 1); /* by the data: its own was overtaken by the disconnect */
    assert_int_equal(pf.n_disconnects, 1);
    assert_false(pf.connected[0]);
    push_state(0, false);
    push_state(0, true);
    loop_advance(loop, 0);
    answer_all();
    assert_true(pf.connected[0]);
    assert_int_equal(pf.n_disconnects, 1);
    close_all();
}

/* Invariant 5. */
static void test_after_a_reconnect_known_devices_are_announced_but_those_that_are_down_are_not(void **state)
{
    (void)state;
    open_all(&usual, 60000, 8, true);
    for (unsigned i = 0; i < 50; i++) {
        push_state(i, true);
        push(i, 1, "");
    }
    push_state(7, false);
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.n_connects, 50);
    disconnect(true);
    connect_again();
    assert_true(pf.n_open <= 5); /* at most half of the window */
    answer_all();
    assert_int_equal(pf.n_connects, 99);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(pf.connected[i], i != 7);
    close_all();
}

/* Invariant 5. */
static void test_a_device_that_is_down_is_not_left_open_by_its_backlog(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    push_state(0, true);
    push(0, 5, "");
    loop_advance(loop, 0);
    answer_others();
    push_state(0, false);
    loop_advance(loop, 100);
    assert_false(pf.connected[0]);
    disconnect(true); /* before the data were answered */
    connect_again();
    answer_others();
    assert_true(pf.connected[0]);
    answer_all();
    assert_false(pf.connected[0]);
    check_stored(0, 5, 1);
    close_all();
}

/* --- limits -------------------------------------------------------------------------------------------------------------------------- */

static void test_tokens_are_taken_for_each_device_in_a_message(void **state)
{
    struct why why = {0};

    (void)state;
    open_all(&usual, 60000, 100, true);
    assert_int_equal(limiter_parse(&limiters[LIMIT_DEVICE_VALUES], STR("100:1"), STR("h"), 100, &why), ERR_OK);
    push(0, 1000, "");
    uint64_t start = loop_mono_ms(loop);

    for (unsigned i = 0; i < 2000 && !deliver_is_idle(deliver); i++) {
        answer_all();
        uint64_t passed = loop_mono_ms(loop) - start;

        assert_true((uint64_t)pf.n_stored[0] <= 100 + passed / 10 + 1);
        loop_advance(loop, 10);
    }
    check_stored(0, 1000, 1);
    assert_in_range(loop_mono_ms(loop) - start, 8900, 9500);
    assert_true(pf.n_data < 30); /* not one for each token that drips in */
    check_ledger();
    close_all();
}

static void test_a_limit_that_shrank_splits_records_once_more_and_rejects_what_is_too_large_alone(void **state)
{
    struct deliver_limits limits = {.payload_bytes = 60, .hard_bytes = 120, .window = 100};
    char body[300] = "\"n\":1,\"long\":\"";

    (void)state;
    open_all(&usual, 60, 100, true);
    struct batch *batch = new_batch();

    pf.is_lax = true;
    deliver_set_limits(deliver, &limits);
    memset(body + strlen(body), 'x', 200);
    strncat(body, "\",\"n\":2", sizeof body - strlen(body) - 1);
    add_record(batch, 0, RECORD_ATTRIBUTES, body, 3);
    store_append(store, batch);
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.n_rejected, 1);
    assert_int_equal(pf.n_stored[0], 1); /* both other parts in one message */
    assert_int_equal(atomic_load(&devices[0]->n_rejected), 1);
    assert_int_equal(atomic_load(&devices[0]->n_delivered), 2);
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

static void test_quota_and_rate_limits_together_stall_nothing(void **state)
{
    struct why why = {0};

    (void)state;
    open_all(&usual, 60000, 100, true);
    assert_int_equal(limiter_parse(&limiters[LIMIT_DEVICE], STR("20:1"), STR("h"), 100, &why), ERR_OK);
    assert_int_equal(limiter_parse(&limiters[LIMIT_DEVICE_MESSAGES], STR("5:1"), STR("h"), 100, &why), ERR_OK);
    for (unsigned i = 0; i < 40; i++) {
        push(i, 3, "");
        loop_advance(loop, 30);
        if (i % 10 == 0 && oldest_data())
            answer(oldest_data(), 0x97);
    }
    for (unsigned i = 0; i < 600 && !deliver_is_idle(deliver); i++) { /* only time and answers, nobody wakes it */
        answer_all();
        loop_advance(loop, 100);
    }
    assert_true(deliver_is_idle(deliver));
    for (unsigned i = 0; i < 40; i++)
        check_stored(i, 3, 1);
    check_ledger();
    close_all();
}

static void test_a_record_without_a_valid_device_name_is_rejected_with_its_bytes(void **state)
{
    struct device *dev = mem_zero(sizeof *dev), *known;

    (void)state;
    open_all(&usual, 60000, 100, true);
    known = devices[0];
    *dev = (struct device){.number = UINT32_MAX, .name = "<b>\"x", .name_n = 5}; /* what the platform takes for HTML */
    devices[0] = dev;
    struct batch *batch = new_batch();

    add_record(batch, 0, RECORD_TELEMETRY, "\"n\":5,\"s\":\"a\"", 2);
    add_record(batch, 0, RECORD_ATTRIBUTES, "\"a\":6", 1);
    add_record(batch, 0, RECORD_TELEMETRY, "no JSON\"", 1);
    devices[0] = known;
    store_append(store, batch);
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.n_rejected, 3);
    buf_add_u8(&pf.rejected, 0);
    const char *text = (char *)pf.rejected.p;

    assert_non_null(
        strstr(text, "\"payload\":{\"<b>\\\"x\":[{\"ts\":1700000000000,\"values\":{\"n\":5,\"s\":\"a\"}}]}}\n"));
    assert_non_null(strstr(text, "\"payload\":{\"<b>\\\"x\":{\"a\":6}}}\n"));
    assert_non_null(strstr(text, "\"payload\":\"no JSON\\\"\"}\n"));
    assert_int_equal(store_stats(store).n_events, 0);
    mem_free(dev);
    close_all();
}

static void test_events_per_message_are_bounded(void **state)
{
    struct deliver_conf conf = usual;

    (void)state;
    conf.max_pack_events = 100;
    open_all(&conf, 60000, 100, true);
    push(0, 1000, "");
    loop_advance(loop, 100);
    answer_all();
    assert_int_equal(pf.n_data, 10);
    close_all();
}

static void test_the_gateways_own_messages_pass_and_are_not_kept(void **state)
{
    (void)state;
    open_all(&usual, 60000, 100, true);
    assert_true(deliver_own(deliver, STR("v1/devices/me/telemetry"), STR("[{\"a\":1}]"), 1));
    assert_int_equal(pf.n_own, 1);
    disconnect(true);
    assert_false(deliver_own(deliver, STR("v1/devices/me/telemetry"), STR("[{\"a\":1}]"), 1));
    connect_again();
    assert_int_equal(pf.n_own, 1);
    assert_true(deliver_is_idle(deliver));
    close_all();
}

static void test_goodbye_disconnects_what_was_announced(void **state)
{
    (void)state;
    open_all(&usual, 60000, 10, true);
    for (unsigned i = 0; i < 30; i++)
        push(i, 1, "");
    loop_advance(loop, 0);
    answer_all();
    deliver_finish(deliver, true);
    assert_true(deliver_is_idle(deliver));
    while (!deliver_goodbye(deliver))
        answer(oldest(), 0);
    answer_all();
    assert_int_equal(pf.n_disconnects, 30);
    close_all();
}

static void test_what_is_rejected_stays_in_a_durable_store_until_its_line_is(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    store->is_durable = true; /* as far as delivery can tell */
    pf.holds_rejects = true;
    push(0, 1, ",\"s\":\"POISON\"");
    loop_advance(loop, 0);
    answer_others();
    answer(oldest_data(), 0x99);
    loop_advance(loop, 0);
    assert_int_equal(pf.n_rejected, 1);
    push(0, 2, "");
    loop_advance(loop, 0);
    answer_all();
    assert_int_equal(pf.stored[0][0], 0);
    assert_int_equal(pf.stored[0][2], 1);
    assert_int_equal(store_stats(store).n_events, 3); /* the position waits, the flow does not */
    assert_false(deliver_is_idle(deliver));
    deliver_rejected_to(deliver, 1);
    loop_advance(loop, 0);
    assert_int_equal(store_stats(store).n_events, 0);
    assert_true(deliver_is_idle(deliver));
    check_ledger();
    close_all();
}

static void test_when_lines_cannot_be_written_only_so_many_wait_and_then_the_flow_does(void **state)
{
    unsigned n_rejected;

    (void)state;
    open_all(&usual, 60000, 1000, true);
    store->is_durable = true;
    pf.holds_rejects = true;
    for (unsigned i = 0; i < 20; i++)
        push(i, 1500, ",\"s\":\"POISON POISON POISON POISON POISON POISON POISON POISON POISON POISON\"");
    loop_advance(loop, 100);
    for (unsigned i = 0; i < 200000 && oldest(); i++) {
        answer(oldest(), oldest()->is_data ? 0x99 : 0);
        loop_advance(loop, 0);
    }
    n_rejected = pf.n_rejected;
    assert_in_range(n_rejected, 1000, 29999);
    assert_true(pf.rejected.n < 12 * 1024 * 1024);
    loop_advance(loop, 100000);
    assert_int_equal(pf.n_rejected, n_rejected);
    for (unsigned i = 0; i < 200000 && pf.n_rejected < 30000; i++) {
        deliver_rejected_to(deliver, pf.n_rejected);
        loop_advance(loop, 100);
        while (oldest()) {
            answer(oldest(), oldest()->is_data ? 0x99 : 0);
            loop_advance(loop, 0);
        }
    }
    deliver_rejected_to(deliver, pf.n_rejected);
    loop_advance(loop, 0);
    assert_int_equal(pf.n_rejected, 30000);
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

static void test_a_device_that_is_down_is_closed_also_when_what_tells_of_it_was_dropped(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push(0, 1, "");
    push(1, 1, "");
    loop_advance(loop, 0);
    answer_all();
    push(1, 1, "");
    loop_advance(loop, 0);
    for (unsigned i = 0; i < 3; i++) { /* the third is up */
        atomic_store(&devices[i]->state_number, 1);
        atomic_store(&devices[i]->link, i == 2 ? DEVICE_LINK_UP : DEVICE_LINK_DOWN);
        deliver_dropped(deliver, devices[i]);
        deliver_dropped(deliver, devices[i]);
    }
    loop_advance(loop, 0);
    assert_int_equal(pf.n_disconnects, 1);
    assert_int_equal(pf.connected[0], 0);
    assert_int_equal(pf.connected[1], 1); /* something of it is under way */
    answer_all();
    assert_int_equal(pf.n_disconnects, 2);
    assert_int_equal(pf.connected[1], 0);
    check_ledger();
    close_all();
}

static void test_a_device_that_is_down_is_closed_also_when_its_last_record_is_rejected(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push(0, 1, ",\"s\":\"POISON\"");
    loop_advance(loop, 0);
    answer_others();
    atomic_store(&devices[0]->link, DEVICE_LINK_DOWN);
    answer(oldest_data(), 0x99);
    loop_advance(loop, 0);
    assert_int_equal(pf.n_rejected, 1);
    assert_int_equal(pf.connected[0], 0);
    close_all();
}

static void push_attribute(unsigned index, const char *body)
{
    struct batch *batch = new_batch();

    add_record(batch, index, RECORD_ATTRIBUTES, body, 1);
    store_append(store, batch);
    loop_advance(loop, 100); /* beyond the delay for company: a pack of its own */
}

static const char *last_sent(void)
{
    static char line[256];
    const char *text, *end, *begin;

    buf_add_u8(&pf.history, 0);
    text = (const char *)pf.history.p;
    end = text + pf.history.n - 2; /* its line feed */
    for (begin = end; begin > text && begin[-1] != '\n'; begin--)
        ;
    snprintf(line, sizeof line, "%.*s", (int)(end - begin), begin);
    pf.history.n--;
    return line;
}

static void test_an_attribute_that_is_sent_again_does_not_stay_above_a_newer_one(void **state)
{
    (void)state;
    for (unsigned late = 0; late < 2; late++) {
        open_all(&usual, 8000, 100, true);
        push_attribute(0, "\"a\":1");
        push_attribute(1, "\"a\":7");
        push_attribute(0, "\"a\":2");
        answer_others();
        assert_int_equal(pf.n_data, 3);
        struct message *older = oldest_data(), *other = CONTAINER_OF(older->node.next, struct message, node),
                       *newer = CONTAINER_OF(other->node.next, struct message, node);

        answer(late ? older : newer, late ? 0x97 : 0);
        answer(late ? newer : older, late ? 0 : 0x97);
        answer(other, 0);
        loop_advance(loop, 0);
        assert_int_equal(store_stats(store).n_events, 3);
        loop_advance(loop, 10000);
        answer_all();
        assert_int_equal(pf.n_data, 5); /* the other device's is not sent again */
        assert_non_null(strstr(last_sent(), "\"a\":2"));
        assert_int_equal(store_stats(store).n_events, 0);
        check_ledger(); /* counted once */
        close_all();
    }
}

static void test_attributes_that_come_back_in_any_order_are_sent_once(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push_attribute(0, "\"a\":1");
    push_attribute(0, "\"a\":2");
    push_attribute(0, "\"a\":3");
    answer_others();
    while (pf.n_open) {
        answer(CONTAINER_OF(pf.open.prev, struct message, node), 0);
        loop_advance(loop, 0);
    }
    assert_int_equal(pf.n_data, 3);
    assert_int_equal(store_stats(store).n_events, 0);
    assert_true(deliver_is_idle(deliver));
    check_ledger();
    close_all();
}

/* Its PUBACK is lost with the session, and the newer one's was not. */
static void test_after_a_reconnect_the_newest_attribute_is_the_last(void **state)
{
    (void)state;
    open_all(&usual, 8000, 100, true);
    push_attribute(0, "\"a\":1");
    push_attribute(0, "\"a\":2");
    answer_others();
    answer(CONTAINER_OF(pf.open.prev, struct message, node), 0);
    loop_advance(loop, 0);
    disconnect(false);
    connect_again();
    answer_all();
    assert_non_null(strstr(last_sent(), "\"a\":2"));
    assert_int_equal(store_stats(store).n_events, 0);
    check_ledger();
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_line_sends_at_once_and_connect_precedes_data),
        cmocka_unit_test(test_while_packs_are_in_flight_values_wait_for_company),
        cmocka_unit_test(test_answers_in_any_order_free_the_store_from_its_front),
        cmocka_unit_test(test_the_window_is_kept),
        cmocka_unit_test(test_attributes_leave_before_the_telemetry_of_the_same_events),
        cmocka_unit_test(test_a_reconnect_sends_the_same_packs_again_in_the_same_order_before_anything_new),
        cmocka_unit_test(test_a_random_platform_gets_everything_at_least_once_and_in_order),
        cmocka_unit_test(test_pieces_that_are_read_while_something_is_stuck_are_bounded),
        cmocka_unit_test(test_a_poisonous_record_among_ten_thousand_costs_itself_and_few_messages),
        cmocka_unit_test(test_a_record_at_which_the_platform_closes_is_found_too),
        cmocka_unit_test(test_a_device_that_is_refused_does_not_take_others_with_it),
        cmocka_unit_test(test_quota_puts_the_message_back_in_its_place_and_waits),
        cmocka_unit_test(test_a_code_that_says_nothing_against_the_message_loses_nothing),
        cmocka_unit_test(test_three_closes_are_counted_only_at_the_same_message),
        cmocka_unit_test(test_a_message_that_is_never_answered_is_found_while_others_flow),
        cmocka_unit_test(test_a_platform_that_acknowledges_nothing_loses_nothing),
        cmocka_unit_test(test_a_device_whose_connect_makes_the_server_close_is_parked_and_all_else_flows),
        cmocka_unit_test(test_a_link_that_dies_at_connects_parks_nobody_that_is_taken_later),
        cmocka_unit_test(test_a_close_at_a_connect_makes_the_announcing_slower),
        cmocka_unit_test(test_a_device_above_the_tenants_limit_does_not_stop_the_others),
        cmocka_unit_test(test_a_quota_that_hits_everything_rejects_nothing),
        cmocka_unit_test(test_a_platform_that_closes_and_refuses_at_random_stalls_nothing),
        cmocka_unit_test(test_with_version_3_an_answer_counts_after_half_a_second),
        cmocka_unit_test(test_version_3_finds_the_message_at_which_the_server_closes_after_its_answer),
        cmocka_unit_test(test_version_3_finds_the_device_at_whose_connect_the_server_closes_after_its_answer),
        cmocka_unit_test(test_quality_0_counts_when_the_server_was_heard_after_the_bytes_left),
        cmocka_unit_test(test_connect_and_disconnect_stay_in_line_and_only_the_newest_acts),
        cmocka_unit_test(test_after_a_reconnect_known_devices_are_announced_but_those_that_are_down_are_not),
        cmocka_unit_test(test_a_device_that_is_down_is_not_left_open_by_its_backlog),
        cmocka_unit_test(test_tokens_are_taken_for_each_device_in_a_message),
        cmocka_unit_test(test_a_limit_that_shrank_splits_records_once_more_and_rejects_what_is_too_large_alone),
        cmocka_unit_test(test_quota_and_rate_limits_together_stall_nothing),
        cmocka_unit_test(test_a_record_without_a_valid_device_name_is_rejected_with_its_bytes),
        cmocka_unit_test(test_events_per_message_are_bounded),
        cmocka_unit_test(test_the_gateways_own_messages_pass_and_are_not_kept),
        cmocka_unit_test(test_goodbye_disconnects_what_was_announced),
        cmocka_unit_test(test_what_is_rejected_stays_in_a_durable_store_until_its_line_is),
        cmocka_unit_test(test_when_lines_cannot_be_written_only_so_many_wait_and_then_the_flow_does),
        cmocka_unit_test(test_a_device_that_is_down_is_closed_also_when_what_tells_of_it_was_dropped),
        cmocka_unit_test(test_a_device_that_is_down_is_closed_also_when_its_last_record_is_rejected),
        cmocka_unit_test(test_an_attribute_that_is_sent_again_does_not_stay_above_a_newer_one),
        cmocka_unit_test(test_attributes_that_come_back_in_any_order_are_sent_once),
        cmocka_unit_test(test_after_a_reconnect_the_newest_attribute_is_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
