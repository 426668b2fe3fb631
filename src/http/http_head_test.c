/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define H "Host: a\r\n"

static enum http_head_state read_text(struct http_head *head, const char *text)
{
    *head = (struct http_head){0};
    return http_head_read(head, str_from(text), NULL);
}

static void a_whole_head_is_taken_apart(void **state)
{
    struct http_head head;

    (void)state;
    assert_int_equal(read_text(&head, "POST /a%20b?x=1?2 HTTP/1.1\r\nhOST: h\r\nContent-Length: 5\r\n"
                                      "X-A:  b \r\nExpect: 100-Continue\r\n\r\nhello"),
                     HTTP_HEAD_WHOLE);
    assert_true(str_eq(head.method, STR("POST")) && str_eq(head.path, STR("/a%20b")) &&
                str_eq(head.query, STR("x=1?2")));
    assert_true(head.is_kept_alive && head.wants_continue && !head.is_chunked);
    assert_int_equal(head.length, 5);
    assert_int_equal(head.minor, 1);
    assert_true(str_eq(http_head_get(&head, STR("x-a")), STR("b")));
    assert_null(http_head_get(&head, STR("x-b")).p);
    assert_int_equal(read_text(&head, "GET http://h:1 HTTP/1.1\r\n" H "Expect: \r\n\r\n"), HTTP_HEAD_WHOLE);
    assert_true(str_eq(head.path, STR("/")) && !head.query.n && !head.wants_continue);
    assert_int_equal(read_text(&head, "GET http://h?a/b HTTP/1.1\r\n" H "\r\n"), HTTP_HEAD_WHOLE);
    assert_true(str_eq(head.path, STR("/")) && str_eq(head.query, STR("a/b")));
    assert_int_equal(read_text(&head, "GET http://h:1/p HTTP/1.1\r\n" H "\r\n"), HTTP_HEAD_WHOLE);
    assert_true(str_eq(head.path, STR("/p")) && !head.query.p);
    assert_int_equal(read_text(&head, "PUT /p HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"), HTTP_HEAD_WHOLE);
    assert_true(head.is_chunked);
}

static void connections_are_kept_as_version_and_field_say(void **state)
{
    static const struct {
        const char *text;
        bool is_kept_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: x, Close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(read_text(&head, cases[i].text), HTTP_HEAD_WHOLE);
        assert_int_equal(head.is_kept_alive, cases[i].is_kept_alive);
    }
}

static void heads_that_can_be_read_in_two_ways_are_refused(void **state)
{
    static const struct {
        const char *text;
        unsigned status;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "X: a\r\n folded\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "X: a\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H ": a\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H H "\r\n", 400},
        {"POST / HTTP/1.1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Expect: wonders\r\n\r\n", 417},
        {"GET / HTTP/2.0\r\n" H "\r\n", 505},
        {"GET / http/1.1\r\n" H "\r\n", 400},
        {"GET /\r\n" H "\r\n", 400},
        {"GET / a HTTP/1.1\r\n" H "\r\n", 400},
        {"GET  / HTTP/1.1\r\n" H "\r\n", 400},
        {"GET a HTTP/1.1\r\n" H "\r\n", 400},
        {"GET http:// HTTP/1.1\r\n" H "\r\n", 400},
        {"GET http://?q HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", 400},
        {"G(T / HTTP/1.1\r\n" H "\r\n", 400},
        {"SSH-2.0-what\r\n\r\n", 400},
        {"\x16\x03\x01\r\n\r\n", 400},
        {"\x16\x03\x01\x02", 400}, /* before its end: there will be none */
        {"GET / HTTP/1.1\nHost: a\n\n", 400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding:\x0b"
         "chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\x0c\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" H "Content-Length: \x0b"
         "2\r\n\r\n",
         400},
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct why why = {0};

        head = (struct http_head){0};
        if (http_head_read(&head, str_from(cases[i].text), &why) != HTTP_HEAD_REFUSED ||
            head.status != cases[i].status || !why.text[0])
            fail_msg("%zu: status %u for %s", i, head.status, cases[i].text);
    }
}

static void a_head_may_come_in_any_pieces(void **state)
{
    static const char text[] = "GET /a HTTP/1.1\r\n" H "X: y\r\n\r\n";
    struct http_head head = {0};

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_int_equal(http_head_read(&head, str_of(text, n), NULL), HTTP_HEAD_MORE);
    assert_int_equal(http_head_read(&head, str_of(text, sizeof text - 1), NULL), HTTP_HEAD_WHOLE);
    assert_int_equal(head.n_bytes, sizeof text - 1);
}

static void empty_lines_before_a_head_are_passed_over(void **state)
{
    struct http_head head = {0};

    (void)state;
    assert_int_equal(http_head_blank(STR("\r\n\r\nGET")), 4);
    assert_int_equal(http_head_blank(STR("\r")), 0);
    assert_int_equal(http_head_blank(STR("GET\r\n")), 0);
    assert_int_equal(http_head_read(&head, STR("\r"), NULL), HTTP_HEAD_MORE);
    assert_int_equal(http_head_blank(STR("\r\nG")), 2);
    assert_int_equal(head.n_seen, 0);
}

static void heads_without_end_are_refused_at_the_limit(void **state)
{
    static char text[HTTP_HEAD_MAX_BYTES + 10];
    struct http_head head = {0};

    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(http_head_read(&head, str_of(text, HTTP_HEAD_MAX_BYTES - 1), NULL), HTTP_HEAD_MORE);
    assert_int_equal(http_head_read(&head, str_of(text, HTTP_HEAD_MAX_BYTES), NULL), HTTP_HEAD_REFUSED);
    assert_int_equal(head.status, 414);
    memcpy(text, "GET / HTTP/1.1\r\n", 16);
    memcpy(text + HTTP_HEAD_MAX_BYTES - 2, "\r\n\r\n", 4);
    head = (struct http_head){0};
    assert_int_equal(http_head_read(&head, str_of(text, sizeof text), NULL), HTTP_HEAD_REFUSED);
    assert_int_equal(head.status, 431);
}

static void too_many_fields_are_refused(void **state)
{
    char text[1000] = "GET / HTTP/1.0\r\n";
    struct http_head head;
    size_t n = strlen(text);

    (void)state;
    for (unsigned i = 0; i <= HTTP_HEAD_MAX_FIELDS; i++, n += 4)
        memcpy(text + n, "X:\r\n", 4);
    memcpy(text + n, "\r\n", 3);
    assert_int_equal(read_text(&head, text), HTTP_HEAD_REFUSED);
    assert_int_equal(head.status, 431);
    memcpy(text + n - 4, "\r\n", 3);
    assert_int_equal(read_text(&head, text), HTTP_HEAD_WHOLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_head_is_taken_apart),
        cmocka_unit_test(connections_are_kept_as_version_and_field_say),
        cmocka_unit_test(heads_that_can_be_read_in_two_ways_are_refused),
        cmocka_unit_test(a_head_may_come_in_any_pieces),
        cmocka_unit_test(empty_lines_before_a_head_are_passed_over),
        cmocka_unit_test(heads_without_end_are_refused_at_the_limit),
        cmocka_unit_test(too_many_fields_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
