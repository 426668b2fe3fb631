/* SPDX-License-Identifier: Apache-2.0 */
#include "data/formula.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* value 21.5, n 7, s "Hello Wörld", d four bytes, l [3, 1, 2.5], o {"a": 1, "b": [1, 2]}, big 2**100. */
static bool look_up(void *arg, struct str name, struct value *out)
{
    static struct value items[3] = {{VALUE_INT, .i = 3}, {VALUE_INT, .i = 1}, {VALUE_DOUBLE, .d = 2.5}};
    static struct value members[2] = {{VALUE_INT, .i = 1}, {VALUE_LIST, .list = {items, 3}}};
    static struct str keys[2] = {{"a", 1}, {"b", 1}};

    (void)arg;
    if (str_eq_z(name, "value"))
        *out = (struct value){VALUE_DOUBLE, .d = 21.5};
    else if (str_eq_z(name, "n"))
        *out = (struct value){VALUE_INT, .i = 7};
    else if (str_eq_z(name, "s"))
        *out = (struct value){VALUE_TEXT, .text = STR("Hello Wörld")};
    else if (str_eq_z(name, "d"))
        *out = (struct value){VALUE_BYTES, .text = STR("\x01\x02\xff\x10")};
    else if (str_eq_z(name, "l"))
        *out = (struct value){VALUE_LIST, .list = {items, 3}};
    else if (str_eq_z(name, "o"))
        *out = (struct value){VALUE_OBJECT, .object = {keys, members, 2}};
    else if (str_eq_z(name, "big"))
        *out = (struct value){VALUE_INT, .i = (__int128)1 << 100};
    else if (str_eq_z(name, "straße"))
        *out = (struct value){VALUE_INT, .i = 9};
    else
        return false;
    return true;
}

/* Python's repr() of the result, or the error. */
static struct str result_of(struct str text)
{
    struct formula *formula;
    struct value value, list = {.kind = VALUE_LIST, .list = {&value, 1}};
    struct why why = {0};
    struct str shown;

    if (formula_compile(&formula, &arena, text, false, NULL, 0, &why) ||
        formula_eval(formula, look_up, NULL, &arena, &value, &why))
        return arena_printf(&arena, "! %s", why_text(&why));
    shown = value_text(&list, &arena);
    return (struct str){shown.p + 1, shown.n - 2};
}

struct formula_case {
    const char *text, *want;
};

static void check(const struct formula_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct str got = result_of(str_from(cases[i].text));

        if (!str_eq_z(got, cases[i].want))
            fail_msg("%s gives " STR_FMT ", not %s", cases[i].text, STR_ARG(got), cases[i].want);
        arena_reset(&arena);
    }
}
#define CHECK(...)                                                                                                     \
    do {                                                                                                               \
        static const struct formula_case cases_[] = {__VA_ARGS__};                                                     \
        check(cases_, COUNT_OF(cases_));                                                                               \
    } while (0)

/* The expected texts of these tables are what Python 3.11 prints, but where a comment says otherwise. */
static void test_operators_bind_as_in_python(void **state)
{
    (void)state;
    CHECK({"1+2*3", "7"}, {"(1+2)*3", "9"}, {"-2**2", "-4"}, {"2**-1", "0.5"}, {"2**3**2", "512"}, {"-7//2", "-4"},
          {"not 1 == 2", "True"}, {"1 < 2 < 3", "True"}, {"1 < 3 < 2", "False"}, {"1 == 1.0 == True", "True"},
          {"5 & 3 == 1", "True"}, {"1 | 2 ^ 3 & 4", "3"}, {"1 << 2 + 1", "8"}, {"~5 + 1", "-5"}, {"- - 3", "3"},
          {"3 and 0 or 9", "9"}, {"0 or ''", "''"}, {"1 or 1/0", "1"}, {"0 and 1/0", "0"},
          {"1 if 0 else 2 if 0 else 3", "3"}, {"not not 3", "True"}, {"1 in [1, 2] and 3 not in [1, 2]", "True"},
          {"None is None", "True"}, {"None is not None", "False"}, {"not  in_", "! unknown name \"in_\" at offset 5"},
          {"10 - 3 - 2", "5"}, {"100 / 10 / 5", "2.0"}, {"8 >> 1 >> 1", "2"}, {"1 < 2 == True", "False"},
          {"a if True else b", "! unknown name \"a\" at offset 0"});
}

static void test_integers_are_exact_to_128_bits_and_doubles_beyond(void **state)
{
    (void)state;
    CHECK({"2**126", "85070591730234615865843651857942052864"}, {"9007199254740993 + 0", "9007199254740993"},
          {"12345678901234567890 * 10**18", "12345678901234567890000000000000000000"},
          {"10**38 + 1", "100000000000000000000000000000000000001"}, {"10**39", "1e+39"}, {"10**38 * 10", "1e+39"},
          {"2**127", "1.7014118346046923e+38"}, {"-2**126 - 2**126", "-170141183460469231731687303715884105728"},
          {"-(-2**126 - 2**126)", "1.7014118346046923e+38"}, {"abs(-2**126 - 2**126)", "1.7014118346046923e+38"},
          {"(-2**126 - 2**126) // -1", "1.7014118346046923e+38"}, {"(-2**126 - 2**126) % -1", "0"},
          {"1 << 126", "85070591730234615865843651857942052864"}, {"1 << 127", "1.7014118346046923e+38"},
          {"-1 >> 1000", "-1"}, {"5 >> 1000", "0"}, {"0 << 100000", "0"},
          {"10**400", "! the number is too large at offset 2"},
          {"1 << 100000", "! the number is too large at offset 2"}, {"big / 3", "4.2255020007607644e+29"},
          {"big // 3", "422550200076076467165567735125"}, {"big % 1000", "376"},
          {"9007199254740993 / 1", "9007199254740992.0"}, {"(2**80 + 1) / 2**27", "9007199254740992.0"},
          {"1 / 3", "0.3333333333333333"}, {"2**53 + 1 == 2.0**53", "False"}, {"2**53 + 1 > 2.0**53", "True"},
          {"10**30 < 1e300", "True"}, {"-10**30 > -1e300", "True"}, {"0x_ff + 0b1_0 + 0o17", "272"}, {"1_000", "1000"},
          {"(-1)**1000001", "-1"}, {"0**0", "1"},
          {"1 << -1", "! the number of bits to shift by is negative at offset 2"});
}

static void test_division_floors_and_modulo_takes_the_divisors_sign(void **state)
{
    (void)state;
    CHECK({"7 // 2", "3"}, {"-7 // 2", "-4"}, {"7 // -2", "-4"}, {"-7 // -2", "3"}, {"7 % 3", "1"}, {"-7 % 3", "2"},
          {"7 % -3", "-2"}, {"-7 % -3", "-1"}, {"7.5 % 2", "1.5"}, {"-7.5 % 2", "0.5"}, {"7.5 % -2", "-0.5"},
          {"-7.5 // 2", "-4.0"}, {"7 // 2.0", "3.0"}, {"-0.5 % 1e22", "1e+22"}, {"0.0 // -1", "-0.0"}, {"6 / 3", "2.0"},
          {"True + True", "2"}, {"True & False", "False"}, {"True ^ 1", "0"}, {"-True", "-1"}, {"~True", "-2"},
          {"1 / 0", "! division by zero at offset 2"}, {"1 // 0.0", "! division by zero at offset 2"},
          {"1 % 0", "! division by zero at offset 2"}, {"0 ** -1", "! division by zero at offset 2"},
          {"0.0 ** -1", "! division by zero at offset 4"}, {"(-8) ** 0.5", "! a root of a negative number at offset 5"},
          {"10.0 ** 400", "! the number is too large at offset 5"}, {"0.1 + 0.2", "0.30000000000000004"},
          {"2 ** 0.5", "1.4142135623730951"}, {"1e308 * 10", "inf"});
}

static void test_functions_do_what_pythons_do(void **state)
{
    (void)state;
    CHECK({"abs(-2.5)", "2.5"}, {"abs(True)", "1"}, {"all([1, 'a'])", "True"}, {"all([])", "True"},
          {"any([0, ''])", "False"}, {"any(x > 200 for x in d)", "True"}, {"bin(-5)", "'-0b101'"},
          {"hex(255)", "'0xff'"}, {"bool('False')", "True"}, {"bool([])", "False"}, {"chr(8364)", "'€'"},
          {"ord('€')", "8364"}, {"float(' 1_0.5 ')", "10.5"}, {"float('-inf')", "-inf"}, {"float('nan')", "nan"},
          {"int('12') + 1", "13"}, {"int(' -1_0 ')", "-10"}, {"int(-3.9)", "-3"}, {"int('ff', 16)", "255"},
          {"int('0xff', 16)", "255"}, {"int('0b11', 0)", "3"}, {"int(True)", "1"},
          {"int(1e30)", "1000000000000000019884624838656"}, {"len('Wörld')", "5"}, {"len(d)", "4"}, {"len(l)", "3"},
          {"len(o)", "2"}, {"max(1, 2.5, True)", "2.5"}, {"min(l)", "1"}, {"max('abc')", "'c'"}, {"max(d)", "255"},
          {"pow(2, 10)", "1024"}, {"pow(3, 200, 13)", "9"}, {"pow(-3, 3, -5)", "-2"}, {"round(2.5)", "2"},
          {"round(3.5)", "4"}, {"round(-2.5)", "-2"}, {"round(2.675, 2)", "2.67"}, {"round(3.14159, 2)", "3.14"},
          {"round(1234.5, -2)", "1200.0"}, {"round(1250, -2)", "1200"}, {"round(1350, -2)", "1400"},
          {"round(-15, -1)", "-20"}, {"round(5, -1)", "0"}, {"round(15.0, -1)", "20.0"}, {"round(5.0, -1)", "0.0"},
          {"round(5.1, -1)", "10.0"}, {"round(1.5, None)", "2"}, {"round(1e22, 3)", "1e+22"}, {"round(7, 3)", "7"},
          {"sorted([3, 1, 2.0])", "[1, 2.0, 3]"}, {"sorted('cab')", "['a', 'b', 'c']"}, {"str(1.0)", "'1.0'"},
          {"str(True)", "'True'"}, {"str(None)", "'None'"}, {"str(d)", "\"b'\\\\x01\\\\x02\\\\xff\\\\x10'\""},
          {"str([1, 'a\\n', \"it's\"])", "'[1, \\'a\\\\n\\', \"it\\'s\"]'"}, {"sum(d)", "274"},
          {"sum([1, 2.5], 10)", "13.5"}, {"sum([[1], [2]], [])", "[1, 2]"}, {"str()", "''"}, {"int()", "0"},
          {"int('1.5')", "! int() of a text that is no integer: \"1.5\" at offset 0"},
          {"int('010', 0)", "! int() of a text that is no integer: \"010\" at offset 0"},
          {"float('1,5')", "! float() of a text that is no number: \"1,5\" at offset 0"},
          {"min([])", "! min() of nothing at offset 0"},
          {"max(1, 'a')", "! text and integer have no order at offset 0"},
          {"len(5)", "! len() of integer is not possible at offset 0"},
          {"round(1e300 * 1e300)", "! round() of what is not finite at offset 0"},
          {"chr(-1)", "! chr() of what is no character at offset 0"},
          {"sum(['a'])", "! integer + text is not possible at offset 0"});
}

static void test_texts_are_characters_and_their_methods_are_pythons(void **state)
{
    (void)state;
    CHECK({"s.upper()", "'HELLO WÖRLD'"}, {"'ÄÖÜ ЖД'.lower()", "'äöü жд'"}, {"'straße'.upper()", "'STRASSE'"},
          {"'  x '.strip()", "'x'"}, {"'xxaxx'.strip('x')", "'a'"}, {"'xxa'.lstrip('x')", "'a'"},
          {"'axx'.rstrip('x')", "'a'"}, {"'a-b-c'.replace('-', '+', 1)", "'a+b-c'"},
          {"'ab'.replace('', '.')", "'.a.b.'"}, {"'a, b'.split(', ')", "['a', 'b']"},
          {"' a  b c '.split()", "['a', 'b', 'c']"}, {"' a  b c '.split(None, 1)", "['a', 'b c ']"},
          {"'a,b,c'.split(',', 1)", "['a', 'b,c']"}, {"''.split(',')", "['']"}, {"''.split()", "[]"},
          {"'-'.join(['a', 'b'])", "'a-b'"}, {"'-'.join('ab')", "'a-b'"}, {"s.startswith('He')", "True"},
          {"s.endswith(('x', 'ld'))", "True"}, {"s.find('ö')", "7"}, {"s.find('z')", "-1"},
          {"'abcabc'.find('a', 1)", "3"}, {"'abc'.find('', 4)", "-1"}, {"'abc'.startswith('b', 1, 2)", "True"},
          {"'42'.zfill(5)", "'00042'"}, {"'-42'.zfill(5)", "'-0042'"}, {"\"they're ok\".title()", "\"They'Re Ok\""},
          {"'hELLO'.capitalize()", "'Hello'"}, {"'12'.isdigit()", "True"}, {"''.isdigit()", "False"},
          {"'1.2'.isdigit()", "False"}, {"'{} {}'.format(1, 'a')", "'1 a'"}, {"'{1}{0}{{}}'.format(1, 2)", "'21{}'"},
          {"'{a}'.format(a=value)", "'21.5'"}, {"f\"{s[0]}-{n + 1}{{}}\"", "'H-8{}'"}, {"f'{\"x\"}'", "'x'"},
          {"'\\x41\\u00e9\\\\\\''", "\"Aé\\\\'\""}, {"'ab' + 'c' * 3", "'abccc'"}, {"-1 * 'ab'", "''"},
          {"'a' < 'b'", "True"}, {"'Z' < 'a' < 'ä'", "True"}, {"'ell' in s", "True"}, {"'1' == 1", "False"},
          {"'a' + 1", "! text + integer is not possible at offset 4"},
          {"'%d' % 5", "! text % integer is not possible at offset 5"},
          {"'{:>5}'.format(1)", "! format(): a format within the braces is not supported at offset 8"},
          {"'{}'.format()", "! format(): nothing for {} at offset 5"},
          {"'-'.join([1])", "! join() takes a text, not integer at offset 4"},
          {"n.upper()", "! upper() is a method of texts, not of integer at offset 2"},
          {"1 in 'a'", "! integer cannot be looked for in text at offset 2"});
}

static void test_indexes_slices_lists_and_objects(void **state)
{
    (void)state;
    CHECK({"s[0]", "'H'"}, {"s[-4]", "'ö'"}, {"s[7:9]", "'ör'"}, {"s[::-1]", "'dlröW olleH'"}, {"s[100:]", "''"},
          {"s[-3:100]", "'rld'"}, {"d[2]", "255"}, {"d[1:3]", "b'\\x02\\xff'"}, {"d[::-2]", "b'\\x10\\x02'"},
          {"l[-1]", "2.5"}, {"l[1:]", "[1, 2.5]"}, {"l[:-1]", "[3, 1]"}, {"l[::2]", "[3, 2.5]"},
          {"[1, 2] + [3]", "[1, 2, 3]"}, {"[0] * 3", "[0, 0, 0]"}, {"[1, 2] == [1.0, 2]", "True"},
          {"[1, 2] < [1, 3]", "True"}, {"[x * 2 for x in l if x > 1]", "[6, 5.0]"}, {"[c for c in 'aö']", "['a', 'ö']"},
          {"[[y for y in [x]] for x in [1, 2]]", "[[1], [2]]"}, {"[n for n in [1]] + [n]", "[1, 7]"}, {"[]", "[]"},
          {"[1, 2, ]", "[1, 2]"}, {"{}", "{}"}, {"{'a': 1, 'b': [2]}", "{'a': 1, 'b': [2]}"},
          {"{0: 'off', 1: 'on'}[1]", "'on'"}, {"{0: 'off', 1: 'on'}[True]", "'on'"}, {"{'a': 1, 'a': 2}", "{'a': 2}"},
          {"o['b'][0]", "3"}, {"'a' in o", "True"}, {"'z' in o", "False"},
          {"{'a': 1, 'b': 2} == {'b': 2, 'a': 1.0}", "True"}, {"255 in d", "True"}, {"[k for k in o]", "['a', 'b']"},
          {"(1, 2)", "[1, 2]"}, {"(1,)", "[1]"}, {"()", "[]"}, /* a tuple is a list */
          {"l[3]", "! the index is out of range at offset 1"},
          {"l[1.0]", "! an index is an integer, not double at offset 1"},
          {"l[::0]", "! the step of a slice is not 0 at offset 1"},
          {"o['z']", "! the object has no member \"z\" at offset 1"}, {"5[0]", "! integer has no [index] at offset 1"},
          {"{[1]: 2}", "! list cannot be a key at offset 0"},
          {"[x for x in 5]", "! integer has no elements at offset 3"},
          {"1 < 'a'", "! integer and text have no order at offset 2"},
          {"None < 1", "! None and integer have no order at offset 5"}, {"straße + 1", "10"});
}

static void test_what_is_not_the_language_does_not_compile(void **state)
{
    static const struct {
        const char *text;
        enum err err;
        const char *says;
    } cases[] = {
        {"", ERR_SYNTAX, "the formula ends where a value is expected at offset 0"},
        {"1 +", ERR_SYNTAX, "the formula ends where a value is expected at offset 3"},
        {"1 2", ERR_SYNTAX, "unexpected \"2\" where the end is expected at offset 2"},
        {"value + foo", ERR_NOTFOUND, "unknown name \"foo\" at offset 8"},
        {"[x for x in value] + x", ERR_NOTFOUND, "unknown name \"x\" at offset 21"},
        {"[y for x in value]", ERR_NOTFOUND, "unknown name \"y\" at offset 1"},
        {"__import__('os')", ERR_NOTFOUND, "unknown function \"__import__\" at offset 0"},
        {"value.__class__", ERR_NOTFOUND, "unknown method \"__class__\" at offset 6"},
        {"value.upper", ERR_SYNTAX, "the formula ends where \"(\" is expected at offset 11"},
        {"lambda x: x", ERR_SYNTAX, "unexpected \"x\" where the end is expected at offset 7"},
        {"value = 1", ERR_SYNTAX, "unexpected \"=\" where the end is expected at offset 6"},
        {"(value := 1)", ERR_SYNTAX, "unexpected \":\" where \",\" or \")\" is expected at offset 7"},
        {"1, 2", ERR_SYNTAX, "unexpected \",\" where the end is expected at offset 1"},
        {"010", ERR_SYNTAX, "\"010\" is not a number at offset 0"},
        {"1__0", ERR_SYNTAX, "\"1__0\" is not a number at offset 0"},
        {"12abc", ERR_SYNTAX, "\"12abc\" is not a number at offset 0"},
        {"0xfg", ERR_SYNTAX, "\"0xfg\" is not a number at offset 0"},
        {"1e", ERR_SYNTAX, "\"1e\" is not a number at offset 0"},
        {"'abc", ERR_SYNTAX, "the text that begins here has no end at offset 0"},
        {"'a\\q'", ERR_SYNTAX,
         "unknown escape in a text; known are \\\\ \\' \\\" \\n \\r \\t \\xHH \\uHHHH at offset 2"},
        {"f'{value:>5}'", ERR_SYNTAX, "a format behind \":\" is not supported at offset 8"},
        {"f'{value!r}'", ERR_SYNTAX, "unexpected '!' at offset 8"},
        {"f'}'", ERR_SYNTAX, "a single \"}\" in a text; write \"}}\" at offset 2"},
        {"value $ 1", ERR_SYNTAX, "unexpected '$' at offset 6"},
        {"1 + not 2", ERR_SYNTAX, "unexpected \"not\" where a value is expected at offset 4"},
        {"[1, 2", ERR_SYNTAX, "the formula ends where \",\" or \"]\" is expected at offset 5"},
        {"{1, 2}", ERR_SYNTAX, "unexpected \",\" where \":\" is expected at offset 2"},
        {"len()", ERR_SYNTAX, "len() takes 1 argument, not 0 at offset 0"},
        {"round(1, 2, 3)", ERR_SYNTAX, "round() takes 1 to 2 arguments, not 3 at offset 0"},
        {"max(key=1)", ERR_SYNTAX, "unexpected \"=\" where \",\" or \")\" is expected at offset 7"},
        {"value(1)", ERR_NOTFOUND, "unknown function \"value\" at offset 0"},
        {"(len)(value)", ERR_SYNTAX, "only functions can be called at offset 5"},
        {"1 if 2", ERR_SYNTAX, "the formula ends where \"else\" is expected at offset 6"},
        {"ü", ERR_NOTFOUND, "unknown name \"ü\" at offset 0"},
        {"1\xff", ERR_SYNTAX, "the formula is not valid UTF-8"},
    };
    const struct str names[] = {STR("value")};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct formula *formula;
        struct why why = {0};
        enum err err = formula_compile(&formula, &arena, str_from(cases[i].text), false, names, 1, &why);

        if (err != cases[i].err)
            fail_msg("%s: %s", cases[i].text, err_name(err));
        assert_string_equal(why_text(&why), cases[i].says);
        arena_reset(&arena);
    }
}

static void test_strict_formulas_have_no_calls(void **state)
{
    static const char *const refused[] = {"abs(value)", "'a'.upper()", "f'{abs(1)}'", "[len(x) for x in value]"};
    const struct str names[] = {STR("value")};
    struct formula *formula;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct why why = {0};

        assert_int_equal(formula_compile(&formula, &arena, str_from(refused[i]), true, names, 1, &why), ERR_DENIED);
        assert_non_null(strstr(why_text(&why), "not allowed here"));
    }
    assert_int_equal(
        formula_compile(&formula, &arena, STR("[x / 10 for x in value][0] if value else 0"), true, names, 1, NULL),
        ERR_OK);
}

/* piece × n between two ends. */
static struct str repeated(const char *begin, const char *piece, const char *middle, const char *end_piece, size_t n)
{
    struct buf buf = {0};
    struct str text;

    buf_add_z(&buf, begin);
    for (size_t i = 0; i < n; i++)
        buf_add_z(&buf, piece);
    buf_add_z(&buf, middle);
    for (size_t i = 0; i < n; i++)
        buf_add_z(&buf, end_piece);
    text = arena_str(&arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

static void test_limits_of_size_depth_and_steps_hold(void **state)
{
    static const struct {
        const char *begin, *piece, *middle, *end_piece;
        size_t n;
        const char *says; /* NULL: works */
    } cases[] = {
        {"", "(", "1", ")", 60, NULL},
        {"", "(", "1", ")", 200, "nested deeper than 64"},
        {"", "[", "", "]", 200, "nested deeper than 64"},
        {"", "-", "1", "", 60, NULL},
        {"", "-", "1", "", 4000, "nested deeper than 64"},
        {"", "not ", "1", "", 1000, "nested deeper than 64"},
        {"", "1 if 0 else ", "1", "", 300, "nested deeper than 64"},
        {"1", "**1", "", "", 1000, "nested deeper than 64"},
        {"", "1|1^1&1<<1+1*(", "1", ")", 60, "nested deeper than 64"},
        {"l", "[0]", "", "", 100, "nested deeper than 64"},
        {"1", "+1", "", "", 2000, NULL},
        {"1", " < 1", "", "", 1000, NULL},
        {"1", "+1", "", "", 2100, "at most 4096 are allowed"},
        {"[1", "+1", " for x in 'a' * 100]", "", 100, "more than 10000 steps"},
        {"'a' * 65536", "", "", "", 0, NULL},
        {"'a' * 65537", "", "", "", 0, "larger than 64 KiB"},
        {"'a' * 10**30", "", "", "", 0, "larger than 64 KiB"},
        {"[1] * 5000", "", "", "", 0, "larger than 64 KiB"},
        {"[0, 0]", " + ['a' * 65000]", "", "", 2, "larger than 64 KiB"},
        {"str(['\\x00' * 60000])", "", "", "", 0, "larger than 64 KiB"},
        {"('a' * 60000).replace('a', 'bb')", "", "", "", 0, "larger than 64 KiB"},
        {"f\"{'a' * 60000}{'a' * 60000}\"", "", "", "", 0, "larger than 64 KiB"},
        {"'0'.zfill(10**9)", "", "", "", 0, "larger than 64 KiB"},
        {"[x for x in [y for y in 'a' * 5000]", " if 'b' in 'a' * 60000", "]", "", 1, "more than 10000 steps"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str text = repeated(cases[i].begin, cases[i].piece, cases[i].middle, cases[i].end_piece, cases[i].n);
        struct str got = result_of(text);

        if (cases[i].says ? str_find(got, str_from(cases[i].says), 0) == SIZE_MAX : got.p[0] == '!')
            fail_msg("case %zu (%s): " STR_FMT, i, cases[i].piece, STR_ARG(str_cut(got, 200)));
        arena_reset(&arena);
    }
}

static void test_an_unknown_name_at_run_time_is_an_error_of_this_value_only(void **state)
{
    struct formula *formula;
    struct value value;
    struct why why = {0};

    (void)state;
    assert_int_equal(formula_compile(&formula, &arena, STR("n + column"), false, NULL, 0, NULL), ERR_OK);
    assert_int_equal(formula_eval(formula, look_up, NULL, &arena, &value, &why), ERR_NOTFOUND);
    assert_string_equal(why_text(&why), "unknown name \"column\" at offset 4");
    assert_int_equal(formula_eval(formula, NULL, NULL, &arena, &value, NULL), ERR_NOTFOUND);
}

static void test_results_leave_as_json_by_the_platforms_number_rule(void **state)
{
    static const struct formula_case cases[] = {{"5", "5"},
                                                {"5.0", "5.0"},
                                                {"2**63", "9223372036854775808"},
                                                {"2**64 - 1", "18446744073709551615"},
                                                {"2**64", "18446744073709552000.0"},
                                                {"-2**63", "-9223372036854775808"},
                                                {"-2**63 - 1", "-9223372036854776000.0"},
                                                {"1e22", "10000000000000000000000.0"},
                                                {"True", "true"},
                                                {"None", "null"},
                                                {"d", "\"0102ff10\""},
                                                {"'a\"\\n'", "\"a\\\"\\n\""},
                                                {"[1, 2.0, 'x', None, d[:1]]", "[1,2.0,\"x\",null,\"01\"]"},
                                                {"{'a': {'b': float('nan')}}", "{\"a\":{\"b\":null}}"}};
    struct formula *formula;
    struct value value;
    struct str json;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(formula_compile(&formula, &arena, str_from(cases[i].text), false, NULL, 0, NULL), ERR_OK);
        assert_int_equal(formula_eval(formula, look_up, NULL, &arena, &value, NULL), ERR_OK);
        assert_true(value_json(&value, &arena, &json));
        assert_int_equal(json.n, strlen(cases[i].want));
        assert_memory_equal(json.p, cases[i].want, json.n);
    }
    value = (struct value){VALUE_DOUBLE, .d = NAN};
    assert_false(value_json(&value, &arena, &json));
    value.d = INFINITY;
    assert_false(value_json(&value, &arena, &json));
}

static void test_json_becomes_values_with_all_digits(void **state)
{
    static const char text[] = "{\"i\":9007199254740993,\"b\":123456789012345678901234567890,\"f\":1e3,\"t\":\"x\","
                               "\"n\":null,\"l\":[true,[]]}";

    (void)state;
    for (int raw = 0; raw < 2; raw++) {
        yyjson_doc *doc = yyjson_read(text, strlen(text), raw ? YYJSON_READ_NUMBER_AS_RAW : 0);
        struct value value;

        assert_non_null(doc);
        value_from_json(yyjson_doc_get_root(doc), &arena, &value);
        assert_true(
            str_eq_z(value_text(&value, &arena), raw ? "{'i': 9007199254740993, 'b': 123456789012345678901234567890, "
                                                       "'f': 1000.0, 't': 'x', 'n': None, 'l': [True, []]}"
                                                     : "{'i': 9007199254740993, 'b': 1.2345678901234568e+29, 'f': "
                                                       "1000.0, 't': 'x', 'n': None, 'l': [True, []]}"));
        yyjson_doc_free(doc);
    }
}

static void test_json_nested_without_end_is_cut(void **state)
{
    struct str text = repeated("", "[", "", "]", 100000);
    yyjson_doc *doc = yyjson_read(text.p, text.n, 0);
    struct value value;

    (void)state;
    assert_non_null(doc);
    value_from_json(yyjson_doc_get_root(doc), &arena, &value);
    assert_true(value_text(&value, &arena).n < 200);
    yyjson_doc_free(doc);
}

static void test_python_literals_become_json(void **state)
{
    static const struct formula_case cases[] = {
        {"{'a': 1}", "{\"a\":1}"},
        {"(1,2)", "[1,2]"},
        {"(1)", "1"},
        {"(1,)", "[1]"},
        {"()", "[]"},
        {" [1, 2.50, -3, True, None, 'x', ] ", "[1,2.5,-3,true,null,\"x\"]"},
        {"{'a': true, \"b\": null}", "{\"a\":true,\"b\":null}"},
        {"'it\\'s \\u00e9\\ud83d\\ude00\\d'", "\"it's é😀\\\\d\""},
        {"{'a': {'b': (1, [2])}, 3: 'c'}", "{\"a\":{\"b\":[1,[2]]},\"3\":\"c\"}"},
        {"{}", "{}"},
        {"0x1F", "31"},
        {"1e3", "1000.0"},
        {"- 1", NULL},
        {"{'a'}", NULL},
        {"[1 2]", NULL},
        {"[1,,2]", NULL},
        {"[,]", NULL},
        {"{'a': }", NULL},
        {"'a", NULL},
        {"[1", NULL},
        {"1 2", NULL},
        {"abc", NULL},
        {"", NULL},
        {"a + 1", NULL},
        {"012", NULL},
        {"{'a': f(1)}", NULL},
        {"'\\ud800'", NULL},
        {"'a\nb'", NULL}};
    struct value value;
    struct str json;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        enum err err = value_from_literal(str_from(cases[i].text), &arena, &value);

        if ((err == ERR_OK) != (cases[i].want != NULL))
            fail_msg("%s: %s", cases[i].text, err_name(err));
        if (err)
            continue;
        assert_true(value_json(&value, &arena, &json));
        if (!str_eq_z(json, cases[i].want))
            fail_msg("%s gives " STR_FMT, cases[i].text, STR_ARG(json));
    }
    assert_int_equal(value_from_literal(repeated("", "[", "", "]", 100000), &arena, &value), ERR_LIMIT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_operators_bind_as_in_python),
        T(test_integers_are_exact_to_128_bits_and_doubles_beyond),
        T(test_division_floors_and_modulo_takes_the_divisors_sign),
        T(test_functions_do_what_pythons_do),
        T(test_texts_are_characters_and_their_methods_are_pythons),
        T(test_indexes_slices_lists_and_objects),
        T(test_what_is_not_the_language_does_not_compile),
        T(test_strict_formulas_have_no_calls),
        T(test_limits_of_size_depth_and_steps_hold),
        T(test_an_unknown_name_at_run_time_is_an_error_of_this_value_only),
        T(test_results_leave_as_json_by_the_platforms_number_rule),
        T(test_json_becomes_values_with_all_digits),
        T(test_json_nested_without_end_is_cut),
        T(test_python_literals_become_json),
    };
    return cmocka_run_group_tests_name("formula", tests, NULL, NULL);
}
