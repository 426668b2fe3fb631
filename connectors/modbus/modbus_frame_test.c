/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of three kinds in whatever pieces, and what becomes of bytes that are none. */
#include "modbus_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const enum modbus_framing framings[] = {MODBUS_SOCKET, MODBUS_RTU, MODBUS_ASCII};

static struct modbus_pdu pdu_of(const char *bytes, size_t n)
{
    struct modbus_pdu pdu = {.n = (uint8_t)n};

    memcpy(pdu.bytes, bytes, n);
    return pdu;
}
#define PDU(bytes) pdu_of(bytes, sizeof(bytes) - 1)

/* What a framer finds in bytes that come step by step, as text: "1.7:0302…;" with transaction, unit and PDU. */
struct found {
    char text[4096];
    size_t n;
    enum modbus_fed last;
};

static void feed(struct modbus_framer *framer, struct found *found, const uint8_t *p, size_t n, size_t step)
{
    for (size_t at = 0; at < n; at += step) {
        size_t piece = step < n - at ? step : n - at, used = 0;

        while (used < piece) {
            struct modbus_adu adu;

            used += modbus_framer_feed(framer, p + at + used, piece - used, &adu, &found->last);
            if (found->last != MODBUS_FED_FRAME)
                continue;
            found->n +=
                (size_t)snprintf(found->text + found->n, sizeof found->text - found->n, "%u.%u:", adu.tid, adu.unit);
            for (unsigned i = 0; i < adu.pdu.n && found->n + 4 < sizeof found->text; i++)
                found->n += (size_t)snprintf(found->text + found->n, 3, "%02x", adu.pdu.bytes[i]);
            found->n += (size_t)snprintf(found->text + found->n, sizeof found->text - found->n, ";");
        }
        assert_int_equal(used, piece);
    }
}

static void test_frames_are_as_the_standards_write_them(void **state)
{
    struct modbus_pdu pdu = PDU("\x03\x00\x6b\x00\x03");
    uint8_t out[MODBUS_FRAME_MAX];

    (void)state;
    assert_int_equal(modbus_frame_put(out, MODBUS_SOCKET, 0x1501, 0xff, &pdu), 12);
    assert_memory_equal(out, "\x15\x01\x00\x00\x00\x06\xff\x03\x00\x6b\x00\x03", 12);
    assert_int_equal(modbus_frame_put(out, MODBUS_RTU, 0, 17, &pdu), 8);
    assert_memory_equal(out, "\x11\x03\x00\x6b\x00\x03\x76\x87", 8);
    assert_int_equal(modbus_frame_put(out, MODBUS_ASCII, 0, 17, &pdu), 17);
    assert_memory_equal(out, ":1103006B00037E\r\n", 17);
}

static void test_answers_are_found_in_pieces_of_any_size(void **state)
{
    static const struct {
        const char *ask, *answer;
        size_t n_ask, n_answer;
    } cases[] = {
#define CASE(a, b) {a, b, sizeof(a) - 1, sizeof(b) - 1}
        CASE("\x01\x00\x13\x00\x13", "\x01\x03\xcd\x6b\x05"),
        CASE("\x03\x00\x6b\x00\x03", "\x03\x06\x02\x2b\x00\x00\x00\x64"),
        CASE("\x03\x00\x6b\x00\x03", "\x83\x02"),
        CASE("\x05\x00\xac\xff\x00", "\x05\x00\xac\xff\x00"),
        CASE("\x16\x00\x04\x00\xf2\x00\x25", "\x16\x00\x04\x00\xf2\x00\x25"),
        CASE("\x08\x00\x00\xa5\x37", "\x08\x00\x00\xa5\x37"),
        CASE("\x11", "\x11\x02\x01\xff"),
        CASE("\x2b\x0e\x01\x00", "\x2b\x0e\x01\x01\x00\x00\x02\x00\x03"
                                 "Acm"
                                 "\x01\x00"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases) * COUNT_OF(framings); i++) {
        enum modbus_framing framing = framings[i % COUNT_OF(framings)];
        size_t c = i / COUNT_OF(framings);
        struct modbus_pdu ask = pdu_of(cases[c].ask, cases[c].n_ask),
                          answer = pdu_of(cases[c].answer, cases[c].n_answer);
        uint8_t frame[MODBUS_FRAME_MAX];
        size_t n = modbus_frame_put(frame, framing, 9, 5, &answer);

        for (size_t step = 1; step <= n; step++) {
            struct modbus_framer framer;
            struct found found = {0};

            modbus_framer_init(&framer, framing, false);
            for (unsigned twice = 0; twice < 2; twice++) {
                modbus_framer_expect(&framer, 5, &ask);
                feed(&framer, &found, frame, n, step);
                modbus_framer_expect_nothing(&framer);
            }
            assert_int_equal(strncmp(found.text, framing == MODBUS_SOCKET ? "9.5:" : "0.5:", 4), 0);
            assert_int_equal(found.n, 2 * (4 + 2 * answer.n + 1));
            assert_int_equal(framer.n_bad_checks + framer.n_garbage, 0);
            assert_false(modbus_framer_is_partial(&framer));
        }
    }
}

static void test_requests_are_found_in_pieces_of_any_size(void **state)
{
    const struct modbus_pdu asks[] = {PDU("\x03\x00\x6b\x00\x03"),
                                      PDU("\x10\x00\x01\x00\x02\x04\x00\x0a\x01\x02"),
                                      PDU("\x17\x00\x03\x00\x06\x00\x0e\x00\x01\x02\x00\xff"),
                                      PDU("\x16\x00\x04\x00\xf2\x00\x25"),
                                      PDU("\x2b\x0e\x01\x00"),
                                      PDU("\x11")};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(framings); i++) {
        for (size_t step = 1; step < 40; step++) {
            struct modbus_framer framer;
            struct found found = {0};
            uint8_t frames[6 * MODBUS_FRAME_MAX];
            size_t n = 0, n_text = 0;

            modbus_framer_init(&framer, framings[i], true);
            for (size_t j = 0; j < COUNT_OF(asks); j++) {
                n += modbus_frame_put(frames + n, framings[i], 1, 1, &asks[j]);
                n_text += 4 + 2u * asks[j].n + 1;
            }
            feed(&framer, &found, frames, n, step);
            assert_int_equal(found.n, n_text);
            assert_int_equal(framer.n_bad_checks + framer.n_garbage, 0);
        }
    }
}

static void test_a_header_that_is_none_breaks_a_stream(void **state)
{
    static const char *const heads[] = {"\x00\x01\x00\x01\x00\x06\x01", "\x00\x01\x00\x00\x00\x01\x01",
                                        "\x00\x01\x00\x00\x00\xff\x01", "GET / H"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct modbus_framer framer;
        struct found found = {0};

        modbus_framer_init(&framer, MODBUS_SOCKET, false);
        feed(&framer, &found, (const uint8_t *)heads[i], 7, 3);
        assert_int_equal(found.last, MODBUS_FED_BROKEN);
        feed(&framer, &found, (const uint8_t *)"\x00\x01\x00\x00\x00\x03\x01\x83\x02", 9, 9);
        assert_int_equal(found.last, MODBUS_FED_BROKEN);
        assert_int_equal(found.n, 0);
        modbus_framer_reset(&framer);
        feed(&framer, &found, (const uint8_t *)"\x00\x01\x00\x00\x00\x03\x01\x83\x02", 9, 9);
        assert_string_equal(found.text, "1.1:8302;");
    }
}

/* Noise before an answer, among it what looks like its beginning. */
static void test_an_rtu_answer_is_found_behind_noise(void **state)
{
    static const char *const noises[] = {
        "\x00", "\xff\xff", "\x05", "\x05\x03", "\x05\x03\x06\x01\x02", "\x05\x83\x02", "\x07\x03\x06\x05\x03"};
    static const size_t sizes[] = {1, 2, 1, 2, 5, 3, 5};
    struct modbus_pdu ask = PDU("\x03\x00\x6b\x00\x03"), answer = PDU("\x03\x06\x02\x2b\x00\x00\x00\x64");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(noises); i++) {
        uint8_t bytes[64];
        size_t n = sizes[i];

        memcpy(bytes, noises[i], n);
        n += modbus_frame_put(bytes + n, MODBUS_RTU, 0, 5, &answer);
        for (size_t step = 1; step <= n; step++) {
            struct modbus_framer framer;
            struct found found = {0};

            modbus_framer_init(&framer, MODBUS_RTU, false);
            modbus_framer_expect(&framer, 5, &ask);
            feed(&framer, &found, bytes, n, step);
            assert_string_equal(found.text, "0.5:0306022b00000064;");
        }
    }
}

static void test_a_wrong_check_is_no_frame(void **state)
{
    struct modbus_pdu ask = PDU("\x03\x00\x6b\x00\x03"), answer = PDU("\x03\x06\x02\x2b\x00\x00\x00\x64");

    (void)state;
    for (size_t i = 1; i < COUNT_OF(framings); i++) {
        uint8_t frame[MODBUS_FRAME_MAX];
        size_t n = modbus_frame_put(frame, framings[i], 0, 5, &answer);

        for (size_t bad = 0; bad < n; bad++) {
            struct modbus_framer framer;
            struct found found = {0};

            modbus_framer_init(&framer, framings[i], false);
            modbus_framer_expect(&framer, 5, &ask);
            frame[bad] ^= 0x01;
            feed(&framer, &found, frame, n, 4);
            frame[bad] ^= 0x01;
            assert_int_equal(found.n, 0);
            modbus_framer_silence(&framer);
            feed(&framer, &found, frame, n, 4);
            assert_string_equal(found.text, "0.5:0306022b00000064;");
        }
    }
}

static void test_a_server_on_a_line_waits_for_silence_behind_a_frame_of_others(void **state)
{
    struct modbus_pdu ask = PDU("\x03\x00\x6b\x00\x03"), answer = PDU("\x03\x06\x02\x2b\x00\x00\x00\x64");
    struct modbus_framer framer;
    struct found found = {0};
    uint8_t bytes[64];
    size_t n;

    (void)state;
    modbus_framer_init(&framer, MODBUS_RTU, true);
    framer.is_line = true;
    n = modbus_frame_put(bytes, MODBUS_RTU, 0, 9, &answer);
    feed(&framer, &found, bytes, n, 1);
    assert_int_equal(found.n, 0);
    n = modbus_frame_put(bytes, MODBUS_RTU, 0, 5, &ask);
    feed(&framer, &found, bytes, n, 1);
    assert_int_equal(found.n, 0); /* no silence yet */
    modbus_framer_silence(&framer);
    feed(&framer, &found, bytes, n, 1);
    assert_string_equal(found.text, "0.5:03006b0003;");
}

static void test_a_server_on_a_stream_finds_the_next_request_behind_garbage(void **state)
{
    struct modbus_pdu ask = PDU("\x03\x00\x6b\x00\x03");
    struct modbus_framer framer;
    struct found found = {0};
    uint8_t bytes[64] = {0xff, 1, 2};
    size_t n = 3 + modbus_frame_put(bytes + 3, MODBUS_RTU, 0, 5, &ask);

    (void)state;
    modbus_framer_init(&framer, MODBUS_RTU, true);
    feed(&framer, &found, bytes, n, 2);
    assert_string_equal(found.text, "0.5:03006b0003;");
}

static void test_an_rtu_client_takes_nothing_that_it_has_not_asked_for(void **state)
{
    struct modbus_pdu answer = PDU("\x03\x06\x02\x2b\x00\x00\x00\x64");
    struct modbus_framer framer;
    struct found found = {0};
    uint8_t frame[64];
    size_t n = modbus_frame_put(frame, MODBUS_RTU, 0, 5, &answer);

    (void)state;
    modbus_framer_init(&framer, MODBUS_RTU, false);
    feed(&framer, &found, frame, n, 3);
    assert_int_equal(found.n, 0);
    assert_int_equal(framer.n_garbage, n);
}

static void test_ascii_begins_anew_at_each_colon_and_reads_both_cases(void **state)
{
    static const char bytes[] = "noise:1103:11030\r\n:zz\r\n:1103006b00037e\r\n:1103006B00037F\r\n::1103006B00037E\r\n";
    struct modbus_framer framer;

    (void)state;
    for (size_t step = 1; step < sizeof bytes; step++) {
        struct found found = {0};

        modbus_framer_init(&framer, MODBUS_ASCII, true);
        feed(&framer, &found, (const uint8_t *)bytes, sizeof bytes - 1, step);
        assert_string_equal(found.text, "0.17:03006b0003;0.17:03006b0003;");
        assert_int_equal(framer.n_bad_checks, 1);
    }
}

static void test_endless_noise_fills_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(framings); i++) {
        struct modbus_pdu ask = PDU("\x03\x00\x6b\x00\x03");
        struct modbus_framer framer;
        struct found found = {0};
        uint8_t noise[997];

        for (size_t j = 0; j < sizeof noise; j++)
            noise[j] = (uint8_t)(j * 7919u >> 3);
        noise[0] = ':';
        modbus_framer_init(&framer, framings[i], false);
        modbus_framer_expect(&framer, 5, &ask);
        for (unsigned k = 0; k < 20; k++)
            feed(&framer, &found, noise, sizeof noise, 41);
        assert_int_equal(found.n, 0);
        assert_true(framer.n <= MODBUS_ADU_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_as_the_standards_write_them),
        cmocka_unit_test(test_answers_are_found_in_pieces_of_any_size),
        cmocka_unit_test(test_requests_are_found_in_pieces_of_any_size),
        cmocka_unit_test(test_a_header_that_is_none_breaks_a_stream),
        cmocka_unit_test(test_an_rtu_answer_is_found_behind_noise),
        cmocka_unit_test(test_a_wrong_check_is_no_frame),
        cmocka_unit_test(test_a_server_on_a_line_waits_for_silence_behind_a_frame_of_others),
        cmocka_unit_test(test_a_server_on_a_stream_finds_the_next_request_behind_garbage),
        cmocka_unit_test(test_an_rtu_client_takes_nothing_that_it_has_not_asked_for),
        cmocka_unit_test(test_ascii_begins_anew_at_each_colon_and_reads_both_cases),
        cmocka_unit_test(test_endless_noise_fills_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
