/* SPDX-License-Identifier: Apache-2.0 */
#include "data/yaml_file.h"
#include "data/yaml_scalar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_plain_scalars_are_resolved_as_yaml_1_1_does(void **state)
{
    static const char *const cases[][2] = {
        /* null and bool */
        {"", "null"},
        {"~", "null"},
        {"null", "null"},
        {"Null", "null"},
        {"nUll", NULL},
        {"true", "true"},
        {"Yes", "true"},
        {"on", "true"},
        {"FALSE", "false"},
        {"no", "false"},
        {"Off", "false"},
        {"y", NULL},
        {"N", NULL},
        {"oN", NULL},
        /* integers */
        {"0", "0"},
        {"-0", "0"},
        {"+12", "12"},
        {"-1883", "-1883"},
        {"1_000_000", "1000000"},
        {"1_", "1"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"0x1F", "31"},
        {"-0xff_ff", "-65535"},
        {"0xFFFFFFFFFFFFFFFF", "18446744073709551615"},
        {"0b1010_1010", "170"},
        {"010", "8"},
        {"00", "0"},
        {"08", NULL},
        {"0o10", NULL},
        {"0x", NULL},
        {"0x_", NULL},
        {"0b", NULL},
        {"0b2", NULL},
        {"1:30", "90"},
        {"190:20:30", "685230"},
        {"-1:30", "-90"},
        {"12:60", NULL},
        {"1:5:", NULL},
        {"01:30", NULL},
        {"127.0.0.1", NULL},
        {"1-2", NULL},
        {"-", NULL},
        {"+", NULL},
        {"--1", NULL},
        {"_1", NULL},
        /* floats */
        {"1.5", "1.5"},
        {"-1.50", "-1.50"},
        {"+1.", "1.0"},
        {".5", "0.5"},
        {"007.25", "7.25"},
        {"1_000.2_5", "1000.25"},
        {"1.5e+3", "1.5e+3"},
        {"1.5E-3", "1.5E-3"},
        {"-0.0", "-0.0"},
        {"1.5e3", NULL},
        {"1e5", NULL},
        {"1.5e+", NULL},
        {"1.e+5", "1.0e+5"},
        {".", NULL},
        {"._5", NULL},
        {".e+1", NULL},
        {"1.2.3", NULL},
        {"190:20:30.15", "685230.15"},
        {"0:30.", "30.0"},
        {"0:30", NULL},
        /* text */
        {"tcp", NULL},
        {"2001-12-14", NULL},
        {"=", NULL},
        {"NaN", NULL},
        {".Nan", NULL},
        {"Infinity", NULL},
    };
    static const struct {
        const char *text;
        enum err err;
    } refused[] = {
        {".inf", ERR_UNSUPPORTED},
        {"-.INF", ERR_UNSUPPORTED},
        {".nan", ERR_UNSUPPORTED},
        {"0x10000000000000000", ERR_RANGE},
        {"99999999999999999999:00", ERR_RANGE},
        {"9999999999999999999:00", ERR_RANGE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf out = {0};
        enum err err = yaml_scalar_add(&out, str_from(cases[i][0]));

        if (err != (cases[i][1] ? ERR_OK : ERR_TYPE) || !str_eq(buf_str(&out), str_from(cases[i][1])))
            fail_msg("\"%s\": %s, \"" STR_FMT "\"", cases[i][0], err_name(err), STR_ARG(buf_str(&out)));
    }
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        autobuf struct buf out = {0};

        assert_int_equal(yaml_scalar_add(&out, str_from(refused[i].text)), refused[i].err);
        assert_int_equal(out.n, 0);
    }
}

static void test_a_document_becomes_the_json_it_stands_for(void **state)
{
    static const char *const cases[][2] = {
        {"a: 1", "{\"a\":1}"},
        {"---\na: 1\n...\n", "{\"a\":1}"},
        {"\xef\xbb\xbf# what it is\na: 1 # why\n", "{\"a\":1}"},
        {"a: '1'\nb: \"true\"\nc: |\n  x\n  y\nd: >-\n  x\n  y\n",
         "{\"a\":\"1\",\"b\":\"true\",\"c\":\"x\\ny\\n\",\"d\":\"x y\"}"},
        {"a:\nb: ~\nc: ''", "{\"a\":null,\"b\":null,\"c\":\"\"}"},
        {"- 1\n- [x, {y: z}]\n-\n  k: v\n  l: no\n", "[1,[\"x\",{\"y\":\"z\"}],{\"k\":\"v\",\"l\":false}]"},
        {"{}", "{}"},
        {"[]", "[]"},
        {"text", "\"text\""},
        {"1: one\ntrue: yes\non: off\n1.50: x\n~: y\n",
         "{\"1\":\"one\",\"true\":true,\"on\":false,\"1.50\":\"x\",\"~\":\"y\"}"},
        {"'<<': 1", "{\"<<\":1}"},
        {"a: \"\\x00\\u00fc\\\"\\t\"", "{\"a\":\"\\u0000\u00fc\\\"\\t\"}"},
        {"\xc3\xbc: \xe4\xb8\xad", "{\"\u00fc\":\"\u4e2d\"}"},
        {"a: 1\na: 2", "{\"a\":1,\"a\":2}"},
        {"expr: ${serialNumber}\nregex: ^a.*$\ntopic: /devices/+/data", "{\"expr\":\"${serialNumber}\",\"regex\":"
                                                                        "\"^a.*$\",\"topic\":\"/devices/+/data\"}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autojson struct json_file *file = NULL;
        struct why why = {0};

        if (yaml_file_parse(&file, "x.yaml", str_from(cases[i][0]), &why) != ERR_OK)
            fail_msg("\"%s\": %s", cases[i][0], why_text(&why));
        if (!str_eq_z(json_file_text(file), cases[i][1]))
            fail_msg("\"%s\": " STR_FMT, cases[i][0], STR_ARG(json_file_text(file)));
    }
}

static void test_what_is_refused_is_named_with_its_place(void **state)
{
    static const char *const cases[][2] = {
        {"", "x.yaml:1:1: the file is empty; a mapping is needed"},
        {"# nothing\n---\n# but comments\n", NULL},
        {"# nothing but comments\n", "x.yaml:1:1: the file is empty; a mapping is needed"},
        {"a: &x 1\n", "x.yaml:1:4: anchors (&name) are not supported; write the value where it is needed"},
        {"&x\na: 1\n", "x.yaml:1:1: anchors (&name) are not supported; write the value where it is needed"},
        {"a: [&x []]\n", "x.yaml:1:5: anchors (&name) are not supported; write the value where it is needed"},
        {"a: 1\nb: *a\n", "x.yaml:2:4: aliases (*name) are not supported; write the value itself"},
        {"a: !!str 1\n", "x.yaml:1:4: tags (!name) are not supported"},
        {"a: !!python/object/apply:os.system [x]\n", "x.yaml:1:4: tags (!name) are not supported"},
        {"a:\n  <<: {b: 1}\n", "x.yaml:2:3: merge keys are not supported; write the members themselves"},
        {"a: 1\n---\nb: 1\n", "x.yaml:2:1: a second document; a file has one"},
        {"? [a]\n: 1\n", "x.yaml:1:3: the name of a key is one text here, no list or mapping"},
        {"? {a: 1}\n: 1\n", "x.yaml:1:3: the name of a key is one text here, no list or mapping"},
        {"a:\n  b: .inf\n", "x.yaml:2:6: JSON has no such number; in quotes it is a text"},
        {"a: 0xfffffffffffffffff\n", "x.yaml:1:4: an integer of more than 64 bits; in quotes it is a text"},
        {"a:\n\tb: 1\n", "x.yaml:2:1: a tab stands here; YAML indents with spaces only"},
        {"a: @x\n", "x.yaml:1:4: not YAML: found character that cannot start any token, while scanning for the next "
                    "token"},
        {"a: b: c\n", "x.yaml:1:5: not YAML: mapping values are not allowed in this context"},
        {"a: [1,\nb: 2\n", "x.yaml:3:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence that "
                           "begins in line 1"},
        {"a: \"x\n", "x.yaml:2:1: not YAML: found unexpected end of stream, while scanning a quoted scalar that begins "
                     "in line 1"},
        {"%FOO bar\n--- a\n", "x.yaml:1:5: not YAML: found unknown directive name, while scanning a directive"},
        {"\xff\xfe\x61\x00", "x.yaml:1:1: not YAML: invalid leading UTF-8 octet"},
        {"a: 1\nb: \xff\n", "x.yaml:2:4: not YAML: invalid leading UTF-8 octet"},
        {"a: 1\nb: \x01\n", "x.yaml:2:4: not YAML: control characters are not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autojson struct json_file *file = NULL;
        struct why why = {0};
        enum err err = yaml_file_parse(&file, "x.yaml", str_from(cases[i][0]), &why);

        if (!cases[i][1]) { /* a document that holds nothing is null, as the marker says there is one */
            assert_int_equal(err, ERR_OK);
            assert_true(yyjson_is_null(json_file_root(file)));
            continue;
        }
        if (err == ERR_OK)
            fail_msg("\"%s\" is accepted", cases[i][0]);
        if (strcmp(why_text(&why), cases[i][1]) != 0)
            fail_msg("\"%s\": \"%s\"", cases[i][0], why_text(&why));
        assert_int_equal(why.err, err);
    }
}

static void test_values_and_names_know_their_place_in_the_yaml_text(void **state)
{
    const char *text =
        "# \xc3\xbc\nthingsboard:\n  host:   h\n  \xc3\xbc: x\nconnectors:\n  - name: 'a b'\n    type: mqtt\n"
        "  - {name: c,\n     type: d}\nnothing:\n";
    autojson struct json_file *file = NULL;
    yyjson_val *root, *host, *list;
    struct json_pos pos;

    (void)state;
    assert_int_equal(yaml_file_parse(&file, "x.yaml", str_from(text), NULL), ERR_OK);
    root = json_file_root(file);
    pos = json_file_pos(file, root);
    assert_true(pos.line == 2 && pos.column == 1);
    host = json_get(json_get(root, STR("thingsboard")), STR("host"));
    pos = json_file_pos(file, host);
    assert_true(pos.line == 3 && pos.column == 11);
    pos = json_file_pos(file, host - 1);
    assert_true(pos.line == 3 && pos.column == 3);
    pos = json_file_pos(file, json_get(json_get(root, STR("thingsboard")), STR("\xc3\xbc")));
    assert_true(pos.line == 4 && pos.column == 6);
    list = json_get(root, STR("connectors"));
    pos = json_file_pos(file, json_get(yyjson_arr_get(list, 0), STR("type")));
    assert_true(pos.line == 7 && pos.column == 11);
    pos = json_file_pos(file, json_get(yyjson_arr_get(list, 1), STR("type")));
    assert_true(pos.line == 9 && pos.column == 12);
    pos = json_file_pos(file, json_get(root, STR("nothing")));
    assert_true(pos.line == 10 && pos.column == 9);
    assert_string_equal(json_file_name(file), "x.yaml");
}

static void test_depth_and_size_have_their_limits(void **state)
{
    struct why why = {0};
    struct json_file *file = NULL;
    autobuf struct buf text = {0};

    (void)state;
    for (unsigned i = 0; i < JSON_MAX_DEPTH; i++)
        buf_add_u8(&text, '[');
    for (unsigned i = 0; i < JSON_MAX_DEPTH; i++)
        buf_add_u8(&text, ']');
    assert_int_equal(yaml_file_parse(&file, "x.yaml", buf_str(&text), &why), ERR_OK);
    json_file_free(file);
    text.n = 0;
    for (unsigned i = 0; i < 100000; i++)
        buf_add_u8(&text, '[');
    assert_int_equal(yaml_file_parse(&file, "x.yaml", buf_str(&text), &why), ERR_LIMIT);
    assert_string_equal(why_text(&why), "x.yaml:1:257: nested too deep");
    text.n = 0;
    for (unsigned i = 0; i < 100000; i++)
        buf_add_z(&text, "- ");
    assert_int_equal(yaml_file_parse(&file, "x.yaml", buf_str(&text), NULL), ERR_LIMIT);
    text.n = 0;
    for (unsigned i = 0; i < 100000; i++)
        buf_printf(&text, "%%TAG !%u! x\n", i);
    why = (struct why){0};
    assert_int_equal(yaml_file_parse(&file, "x.yaml", buf_str(&text), &why), ERR_LIMIT);
    assert_string_equal(why_text(&why), "x.yaml:17:1: more than 16 lines with %TAG");
    text.n = 0;
    memset(buf_room(&text, YAML_MAX_BYTES + 1), ' ', YAML_MAX_BYTES + 1);
    text.n = YAML_MAX_BYTES + 1;
    why = (struct why){0};
    assert_int_equal(yaml_file_parse(&file, "x.yaml", buf_str(&text), &why), ERR_LIMIT);
    assert_string_equal(why_text(&why), "x.yaml: larger than the limit of 8388608 bytes");
}

static void test_a_file_that_is_not_there_is_named(void **state)
{
    struct why why = {0};
    struct json_file *file = NULL;

    (void)state;
    assert_int_equal(yaml_file_read(&file, "/nonexistent/x.yaml", &why), ERR_NOTFOUND);
    assert_string_equal(why_text(&why), "/nonexistent/x.yaml: cannot be opened: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_scalars_are_resolved_as_yaml_1_1_does),
        cmocka_unit_test(test_a_document_becomes_the_json_it_stands_for),
        cmocka_unit_test(test_what_is_refused_is_named_with_its_place),
        cmocka_unit_test(test_values_and_names_know_their_place_in_the_yaml_text),
        cmocka_unit_test(test_depth_and_size_have_their_limits),
        cmocka_unit_test(test_a_file_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
