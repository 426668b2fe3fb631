/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/crc.h"
#include "base/hex.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/queue.h"
#include "base/slab.h"
#include "base/utf8.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_arena_survives_reset_without_allocating(void **state)
{
    struct arena arena;
    void *first;

    (void)state;
    arena_init(&arena, 1024);
    first = arena_alloc(&arena, 100);
    assert_int_equal((uintptr_t)first % 16, 0);
    for (int i = 0; i < 100; i++)
        memset(arena_alloc(&arena, 333), 7, 333);
    assert_true(arena_bytes(&arena) >= 33300);
    arena_reset(&arena);
    assert_ptr_equal(arena_alloc(&arena, 100), first);
    assert_true(str_eq(arena_printf(&arena, "%d-%s", 5, "x"), STR("5-x")));
    memset(arena_alloc(&arena, 100000), 1, 100000);
    arena_fini(&arena);
}

static void test_numbers_are_read_whole_or_not_at_all(void **state)
{
    static const struct {
        const char *text;
        enum err err;
        int64_t value;
    } ints[] = {{"0", ERR_OK, 0},
                {"-1", ERR_OK, -1},
                {"9223372036854775807", ERR_OK, INT64_MAX},
                {"-9223372036854775808", ERR_OK, INT64_MIN},
                {"9223372036854775808", ERR_RANGE, 0},
                {"", ERR_SYNTAX, 0},
                {"-", ERR_SYNTAX, 0},
                {"1 ", ERR_SYNTAX, 0},
                {"0x1", ERR_SYNTAX, 0}};
    static const char *const not_doubles[] = {"", ".", "1e", "1e+", "nan", "inf", "0x1p3", "1,5", " 1", "1 "};
    double d;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ints); i++) {
        int64_t v = 0;

        assert_int_equal(str_to_i64(str_from(ints[i].text), &v), ints[i].err);
        assert_true(v == ints[i].value);
    }
    for (size_t i = 0; i < COUNT_OF(not_doubles); i++)
        assert_int_not_equal(str_to_double(str_from(not_doubles[i]), &d), ERR_OK);
    assert_int_equal(str_to_double(STR("-1.5e3"), &d), ERR_OK);
    assert_true(d == -1500.0);
    assert_int_equal(str_to_double(STR(".5"), &d), ERR_OK);
    assert_true(d == 0.5);
}

static void test_distance_finds_typos(void **state)
{
    (void)state;
    assert_int_equal(str_distance(STR("topicFilter"), STR("topicFliter"), 3), 1);
    assert_int_equal(str_distance(STR("host"), STR("hots"), 3), 1);
    assert_int_equal(str_distance(STR("Host"), STR("host"), 3), 0);
    assert_int_equal(str_distance(STR("abc"), STR("xyz"), 2), 3);
    assert_int_equal(str_distance(STR(""), STR("ab"), 3), 2);
}

static void test_split_and_find(void **state)
{
    struct str rest = STR("a,,b"), part;

    (void)state;
    assert_true(str_split(&rest, ',', &part) && str_eq(part, STR("a")));
    assert_true(str_split(&rest, ',', &part) && part.n == 0);
    assert_true(str_split(&rest, ',', &part) && str_eq(part, STR("b")));
    assert_false(str_split(&rest, ',', &part));
    assert_int_equal(str_find(STR("abcabc"), STR("ca"), 0), 2);
    assert_true(str_find(STR("abc"), STR("x"), 0) == SIZE_MAX);
    assert_true(str_eq(str_trim(STR(" \t x y\n")), STR("x y")));
}

static void test_map_holds_what_was_put_through_growth_and_deletion(void **state)
{
    struct map map = {0};
    static char keys[1000][8];
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        assert_null(map_put(&map, str_from(keys[i]), keys[i]));
    }
    for (int i = 0; i < 1000; i += 3)
        assert_ptr_equal(map_del(&map, str_from(keys[i])), keys[i]);
    for (int i = 0; i < 1000; i++)
        assert_ptr_equal(map_get(&map, str_from(keys[i])), i % 3 ? keys[i] : NULL);
    for (struct map_slot *slot = NULL; (slot = map_next(&map, slot));)
        n++;
    assert_int_equal(n, map.n);
    assert_null(map_del(&map, STR("nobody")));
    map_fini(&map);
}

static void test_crc_by_instruction_and_by_table_agree(void **state)
{
    uint8_t bytes[300];

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u); /* RFC 3720 B.4's check value */
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    for (size_t n = 0; n < sizeof bytes; n++)
        assert_int_equal(crc32c(5, bytes, n), crc32c_table(5, bytes, n));
}

static void test_utf8_refuses_what_the_standard_refuses(void **state)
{
    static const char *const bad[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "a\x80", "\xe2\x82"};
    autobuf struct buf out = {0};
    size_t i = 0;

    (void)state;
    assert_true(utf8_is_valid(STR("häß€𝄞 plain text")));
    for (size_t k = 0; k < COUNT_OF(bad); k++)
        assert_false(utf8_is_valid(str_from(bad[k])));
    assert_int_equal(utf8_next(STR("€"), &i), 0x20ac);
    assert_int_equal(utf8_count(STR("a€𝄞")), 3);
    assert_int_equal(utf8_offset(STR("a€𝄞"), 2), 4);
    assert_true(utf8_offset(STR("a"), 2) == SIZE_MAX);
    utf8_add_valid(&out, STR("a\xff"
                             "b"));
    assert_true(str_eq(buf_str(&out), STR("ab")));
}

static void test_hex_round_trip(void **state)
{
    autobuf struct buf out = {0}, back = {0};

    (void)state;
    hex_add(&out, "\x00\xab\xff", 3);
    assert_true(str_eq(buf_str(&out), STR("00abff")));
    assert_int_equal(hex_decode(&back, STR("00ABff")), ERR_OK);
    assert_memory_equal(back.p, "\x00\xab\xff", 3);
    assert_int_equal(hex_decode(&back, STR("0")), ERR_SYNTAX);
    assert_int_equal(hex_decode(&back, STR("0g")), ERR_SYNTAX);
}

static void test_cursor_stays_failed(void **state)
{
    struct rd rd = rd_of("\x01\x02\x03", 3);

    (void)state;
    assert_int_equal(rd_be16(&rd), 0x0102);
    assert_int_equal(rd_be16(&rd), 0);
    assert_false(rd_ok(&rd));
    assert_int_equal(rd_u8(&rd), 0);
}

static void test_buffer_limits_what_comes_from_outside(void **state)
{
    autobuf struct buf buf = {0};

    (void)state;
    assert_int_equal(buf_try_grow(&buf, 100, 50), ERR_LIMIT);
    mem_fail_after(1);
    assert_int_equal(buf_try_grow(&buf, 10, 50), ERR_NOMEM);
    assert_int_equal(buf_try_grow(&buf, 10, 50), ERR_OK);
    buf_printf(&buf, "%s", "0123456789");
    buf_drop(&buf, 4);
    assert_true(str_eq(buf_str(&buf), STR("456789")));
}

struct item {
    struct node node;
    unsigned thread, i;
};
enum { PER_THREAD = 20000 };
static struct queue shared;

static void *produce(void *arg)
{
    struct item *items = arg;

    for (unsigned i = 0; i < PER_THREAD; i++)
        (void)queue_push(&shared, &items[i].node);
    return NULL;
}

static void test_queue_keeps_each_producers_order(void **state)
{
    static struct item items[2][PER_THREAD];
    pthread_t threads[2];
    unsigned next[2] = {0};

    (void)state;
    for (unsigned t = 0; t < 2; t++) {
        for (unsigned i = 0; i < PER_THREAD; i++)
            items[t][i] = (struct item){.thread = t, .i = i};
        assert_int_equal(pthread_create(&threads[t], NULL, produce, items[t]), 0);
    }
    while (next[0] < PER_THREAD || next[1] < PER_THREAD)
        for (struct node *node = queue_take(&shared), *after; node; node = after) {
            struct item *item = CONTAINER_OF(node, struct item, node);

            after = node->next;
            assert_int_equal(item->i, next[item->thread]++);
        }
    for (unsigned t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    assert_null(queue_take(&shared));
}

static void test_slabs_come_back(void **state)
{
    void *a = slab_get(), *b = slab_get();

    (void)state;
    assert_int_equal(slab_in_use(), 2);
    memset(a, 1, SLAB_SIZE);
    slab_put(a);
    assert_ptr_equal(slab_get(), a);
    slab_put(a);
    slab_put(b);
    slab_put(NULL);
    assert_int_equal(slab_in_use(), 0);
    slab_trim();
    slab_trim();
}

static struct buf lines;

static void collect(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    (void)level;
    buf_add_str(&lines, line);
    buf_add_u8(&lines, '\n');
}

static void test_log_folds_repeats_and_escapes_values(void **state)
{
    struct log log;

    (void)state;
    log_set_sink(collect, NULL);
    log_init(&log, "plant", LOG_LEVEL_INFO);
    for (int i = 0; i < 5; i++)
        LOG_WARN(&log, "no reply", KV_UINT("unit", 3), KV_STR("name", STR("a b\n")));
    LOG_DEBUG(&log, "not shown");
    LOG_ERROR(&log, "gone", KV_ERR(ERR_TIMEOUT));
    log_flush(true);
    log_fini(&log);
    log_set_sink(NULL, NULL);
    assert_int_equal(log.n_errors, 1);
    assert_true(str_starts(buf_str(&lines), STR("plant: no reply unit=3 name=\"a b\\x0a\"\n")));
    assert_true(str_find(buf_str(&lines), STR("plant: gone error=\"timed out\"\n"), 0) !=
                SIZE_MAX); /* a summary may precede */
    assert_true(str_find(buf_str(&lines), STR("plant: no reply … 4 more in"), 0) != SIZE_MAX);
    assert_true(str_find(buf_str(&lines), STR("not shown"), 0) == SIZE_MAX);
    buf_fini(&lines);
}

static sem_t output_came, output_may_go;
static _Atomic(unsigned) n_output;

static void hang_in_output(void *arg, const struct log_line *line)
{
    (void)arg;
    (void)line;
    if (atomic_fetch_add(&n_output, 1))
        return;
    sem_post(&output_came);
    sem_wait(&output_may_go);
}

static void note_idle(void *arg)
{
    (void)arg;
    sem_post(&output_came);
}

static void test_a_log_writer_that_hangs_is_left_with_what_it_uses(void **state)
{
    struct log log;

    (void)state;
    sem_init(&output_came, 0, 0);
    sem_init(&output_may_go, 0, 0);
    log_init(&log, "plant", LOG_LEVEL_INFO);
    log_set_output(hang_in_output, note_idle, NULL);
    assert_int_equal(log_start_writer(), ERR_OK);
    LOG_INFO(&log, "first");
    sem_wait(&output_came);
    LOG_INFO(&log, "second");
    assert_false(log_stop_writer());
    assert_true(log_stop_writer()); /* there is none any more */
    sem_post(&output_may_go);
    for (unsigned n = 0; n < 2; n++) /* what was queued is still written, to the output it had */
        sem_wait(&output_came);
    assert_int_equal(n_output, 2);
    log_set_output(NULL, NULL, NULL);
    log_fini(&log);
}

static void test_log_counts_lines_of_one_phrase_when_there_are_too_many(void **state)
{
    struct log log;
    unsigned n_lines = 0;

    (void)state;
    log_set_sink(collect, NULL);
    log_init(&log, "plant", LOG_LEVEL_INFO);
    for (unsigned i = 0; i < 1000; i++)
        LOG_WARN(&log, "refused", KV_UINT("device", i));
    LOG_WARN(&log, "another");
    log_flush(true);
    for (unsigned i = 0; i < 5; i++)
        LOG_WARN(&log, "refused", KV_UINT("device", 2000 + i));
    log_fini(&log);
    log_set_sink(NULL, NULL);
    for (size_t i = 0; i < lines.n; i++)
        n_lines += lines.p[i] == '\n';
    assert_int_equal(n_lines, 20 + 1 + 1 + 5);
    assert_true(str_find(buf_str(&lines), STR("plant: refused … 980 more of other values in"), 0) != SIZE_MAX);
    assert_true(str_find(buf_str(&lines), STR("plant: refused device=2004\n"), 0) != SIZE_MAX);
    buf_fini(&lines);
}

static void test_lists_link_and_unlink(void **state)
{
    struct list head, a = {0}, b = {0};

    (void)state;
    list_init(&head);
    list_del(&a);
    list_add_tail(&head, &a);
    list_add_tail(&head, &b);
    LIST_EACH_SAFE(node, &head)
        list_del(node);
    assert_true(list_is_empty(&head));
    assert_false(list_is_linked(&a));
    assert_null(list_take_first(&head));
}

static void test_what_is_wrong_with_a_path_is_named(void **state)
{
    static const struct {
        int number;
        const char *text;
    } cases[] = {{ENOENT, "not found"},
                 {ENOTDIR, "not a directory"},
                 {EISDIR, "is a directory"},
                 {EACCES, "permission denied"},
                 {EROFS, "the file system is read-only"},
                 {EDQUOT, "no space left"},
                 {EIO, "input/output error"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(err_text(err_from_errno(cases[i].number)), cases[i].text);
}

static void test_why_keeps_the_first_reason(void **state)
{
    struct why why = {0};

    (void)state;
    assert_int_equal(why_set(&why, ERR_RANGE, "unit %d", 300), ERR_RANGE);
    assert_int_equal(why_set(&why, ERR_PROTO, "later"), ERR_PROTO);
    why_prefix(&why, "%s", "link");
    assert_string_equal(why_text(&why), "link: unit 300");
    assert_int_equal(why_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_survives_reset_without_allocating),
        cmocka_unit_test(test_numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(test_distance_finds_typos),
        cmocka_unit_test(test_split_and_find),
        cmocka_unit_test(test_map_holds_what_was_put_through_growth_and_deletion),
        cmocka_unit_test(test_crc_by_instruction_and_by_table_agree),
        cmocka_unit_test(test_utf8_refuses_what_the_standard_refuses),
        cmocka_unit_test(test_hex_round_trip),
        cmocka_unit_test(test_cursor_stays_failed),
        cmocka_unit_test(test_buffer_limits_what_comes_from_outside),
        cmocka_unit_test(test_queue_keeps_each_producers_order),
        cmocka_unit_test(test_slabs_come_back),
        cmocka_unit_test(test_log_folds_repeats_and_escapes_values),
        cmocka_unit_test(test_log_counts_lines_of_one_phrase_when_there_are_too_many),
        cmocka_unit_test(test_lists_link_and_unlink),
        cmocka_unit_test(test_a_log_writer_that_hangs_is_left_with_what_it_uses),
        cmocka_unit_test(test_what_is_wrong_with_a_path_is_named),
        cmocka_unit_test(test_why_keeps_the_first_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
