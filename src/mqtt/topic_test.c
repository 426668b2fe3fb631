/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/topic.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct match_case {
    const char *filter, *topic;
    bool matches;
} match_cases[] = {
    {"a", "a", true},
    {"a", "b", false},
    {"a", "a/b", false},
    {"a/b", "a", false},
    {"a/", "a", false},
    {"a", "a/", false},
    {"a/", "a/", true},
    {"/a", "/a", true},
    {"/a", "a", false},
    {"/", "/", true},
    {"ab", "a", false},
    {"a", "ab", false},
    {"ab/c", "a/c", false},
    {"A", "a", false},
    {"+", "a", true},
    {"+", "/", false},
    {"+", "/finance", false},
    {"+/+", "/finance", true},
    {"/+", "/finance", true},
    {"+/+", "/", true},
    {"+/a", "/a", true},
    {"a/+", "a/", true},
    {"a/+", "a", false},
    {"a/+/c", "a//c", true},
    {"a/+/c", "a/b/c", true},
    {"a/+/c", "a/b/d", false},
    {"a/+/c", "a/b/b/c", false},
    {"+/tennis/#", "sport/tennis", true},
    {"+/tennis/#", "sport/tennis/x/y", true},
    {"sport/tennis/player1/#", "sport/tennis/player1", true},
    {"sport/tennis/player1/#", "sport/tennis/player1/", true},
    {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
    {"sport/tennis/player1/#", "sport/tennis/player12", false},
    {"sport/tennis/+", "sport/tennis/player1/ranking", false},
    {"sport/+", "sport", false},
    {"sport/+", "sport/", true},
    {"#", "a/b/c", true},
    {"#", "/", true},
    {"/#", "/a", true},
    {"/#", "a", false},
    {"/#", "/", true},
    {"+/#", "a", true},
    {"+/#", "a/b", true},
    {"#", "$SYS/broker", false},
    {"+/broker", "$SYS/broker", false},
    {"+/#", "$SYS/broker", false},
    {"$SYS/#", "$SYS/broker/load", true},
    {"$SYS/#", "$SYS", true},
    {"$SYS/+/load", "$SYS/broker/load", true},
    {"a/+", "a/$b", true},
    {"a/#", "a/$b", true},
    {"$aws/things/+/shadow/#", "$aws/things/x/shadow/update", true},
    {"$share/g/a/+", "a/b", true},
    {"$share/g/#", "a/b", true},
    {"$share/g/#", "$SYS/b", false},
    {"$share/g/a", "$share/g/a", false},
    {"$share/g//a", "/a", true},
    {"$share/g/$SYS/#", "$SYS/x", true},
    {"$shared", "$shared", true},
    {"\xc3\xa4/+", "\xc3\xa4/x", true},
    {"a b/+", "a b/x", true},
};

struct found {
    void *values[64];
    size_t n;
};

static void collect(void *arg, void *value)
{
    struct found *found = arg;

    assert_in_range(found->n, 0, 63);
    found->values[found->n++] = value;
}

static size_t n_found(const struct topic_trie *trie, const char *topic)
{
    struct found found = {.n = 0};

    topic_trie_match(trie, str_from(topic), collect, &found);
    return found.n;
}

static void test_filters_match_as_the_standard_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(match_cases); i++) {
        const struct match_case *c = &match_cases[i];
        struct topic_trie *trie = topic_trie_new();
        int value;

        assert_int_equal(topic_filter_check(str_from(c->filter), NULL), ERR_OK);
        if (topic_matches(str_from(c->filter), str_from(c->topic)) != c->matches)
            fail_msg("topic_matches(%s, %s) is not %d", c->filter, c->topic, c->matches);
        topic_trie_add(trie, str_from(c->filter), &value);
        if (n_found(trie, c->topic) != c->matches)
            fail_msg("trie of %s with %s is not %d", c->filter, c->topic, c->matches);
        topic_trie_free(trie);
    }
}

static void test_a_trie_of_all_filters_agrees_with_each_filter_alone(void **state)
{
    struct topic_trie *trie = topic_trie_new();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(match_cases); i++)
        topic_trie_add(trie, str_from(match_cases[i].filter), (void *)(uintptr_t)(i + 1));
    for (size_t i = 0; i < COUNT_OF(match_cases); i++) {
        size_t n = 0;

        for (size_t k = 0; k < COUNT_OF(match_cases); k++)
            n += topic_matches(str_from(match_cases[k].filter), str_from(match_cases[i].topic));
        assert_int_equal(n_found(trie, match_cases[i].topic), n);
    }
    topic_trie_free(trie);
}

static void test_values_of_one_filter_keep_their_order(void **state)
{
    struct topic_trie *trie = topic_trie_new();
    struct found found = {.n = 0};
    int a, b;

    (void)state;
    topic_trie_add(trie, STR("x/+"), &b);
    topic_trie_add(trie, STR("x/+"), &a);
    topic_trie_add(trie, STR("x/+"), &b);
    topic_trie_match(trie, STR("x/1"), collect, &found);
    assert_int_equal(found.n, 3);
    assert_ptr_equal(found.values[0], &b);
    assert_ptr_equal(found.values[1], &a);
    assert_ptr_equal(found.values[2], &b);
    topic_trie_free(trie);
}

static void test_filters_of_thousands_of_levels_need_no_stack(void **state)
{
    struct topic_trie *trie = topic_trie_new();
    autobuf struct buf filter = {0}, topic = {0};
    int value;

    (void)state;
    for (int i = 0; i < 32767; i++) {
        buf_add_z(&filter, i % 2 ? "+/" : "a/");
        buf_add_z(&topic, "a/");
    }
    topic_trie_add(trie, buf_str(&filter), &value);
    topic_trie_add(trie, buf_str(&topic), &value);
    buf_add_z(&filter, "b");
    topic_trie_add(trie, buf_str(&filter), &value);
    assert_int_equal(topic_filter_check(buf_str(&filter), NULL), ERR_OK);
    struct found found = {.n = 0};
    topic_trie_match(trie, buf_str(&topic), collect, &found);
    assert_int_equal(found.n, 2);
    topic_trie_free(trie);
}

static void test_wrong_filters_and_names_are_refused_with_a_reason(void **state)
{
    static const char *const filters[] = {
        "",         "a#",        "a/#/b",      "#/a",        "a/b#",      "a+",          "a/+b/c",   "++",
        "$share/g", "$share//a", "$share/",    "$share/+/a", "$share/g/", "$share/g/a#", "\xff\xfe", "a/\xed\xa0\x80",
        "\xc0\x80", "##",        "$share/#/a",
    };
    static const char *const names[] = {
        "", "a/+", "#", "a#b", "\x80", "long enough to be read by words+", "aaaaaaaa\xff"};
    autobuf struct buf big = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        struct why why = {0};

        if (topic_filter_check(str_from(filters[i]), &why) == ERR_OK)
            fail_msg("%s is taken for a filter", filters[i]);
        assert_true(strlen(why_text(&why)) > 0);
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (topic_name_check(str_from(names[i]), NULL) == ERR_OK)
            fail_msg("%s is taken for a name", names[i]);
    }
    assert_int_not_equal(topic_name_check(STR("a\0b"), NULL), ERR_OK);
    assert_int_not_equal(topic_filter_check(STR("a\0b"), NULL), ERR_OK);
    assert_int_equal(topic_name_check(STR("factory/line 1/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), NULL), ERR_OK);
    assert_int_equal(topic_name_check(STR("a"), NULL), ERR_OK);
    assert_int_equal(topic_name_check(STR("/"), NULL), ERR_OK);
    memset(buf_room(&big, 65536), 'a', 65536);
    assert_int_equal(topic_name_check(str_of(big.p, 65535), NULL), ERR_OK);
    assert_int_equal(topic_name_check(str_of(big.p, 65536), NULL), ERR_LIMIT);
    assert_int_equal(topic_filter_check(str_of(big.p, 65536), NULL), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters_match_as_the_standard_says),
        cmocka_unit_test(test_a_trie_of_all_filters_agrees_with_each_filter_alone),
        cmocka_unit_test(test_values_of_one_filter_keep_their_order),
        cmocka_unit_test(test_filters_of_thousands_of_levels_need_no_stack),
        cmocka_unit_test(test_wrong_filters_and_names_are_refused_with_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
