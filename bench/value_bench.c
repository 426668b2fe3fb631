/* SPDX-License-Identifier: Apache-2.0 */
/* What one datapoint costs, without the parsing of the payload: ns a value. */
#include "data/convert.h"

#include <stdio.h>
#include <time.h>

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double measure(const char *expression, const char *type, const char *data, bool use_eval, bool is_found)
{
    enum { ROUNDS = 200000, PER_MESSAGE = 10 };
    yyjson_doc *doc = json_read(str_from(data), NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *found = is_found ? json_get(root, STR("v")) : NULL;
    struct datapoint_value value;
    struct arena conf, message;
    double start;
    size_t n = 0;

    arena_init(&conf, 0);
    arena_init(&message, 65536);
    if (datapoint_compile(&value, &conf, str_from(expression), str_from(type), CONVERT_STRICT, use_eval, NULL))
        return -1;
    start = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < PER_MESSAGE; k++) {
            struct str out = STR_NONE;

            (void)datapoint_eval(&value, root, found, &message, &out, NULL);
            n += out.n;
        }
        arena_reset(&message);
    }
    start = (now_ns() - start) / ROUNDS / PER_MESSAGE;
    arena_fini(&message);
    arena_fini(&conf);
    yyjson_doc_free(doc);
    return n ? start : -1;
}

int main(void)
{
    static const struct {
        const char *what, *expression, *type, *data;
        bool use_eval, is_found;
    } cases[] = {
        {"double, final, looked up", "${v}", "double", "{\"v\":21.5}", false, true},
        {"double of an integer, looked up", "${v}", "double", "{\"v\":21}", false, true},
        {"double, 17 digits, looked up", "${v}", "double", "{\"v\":0.30000000000000004}", false, true},
        {"integer, looked up", "${v}", "int", "{\"v\":12345}", false, true},
        {"integer of a fraction, looked up", "${v}", "int", "{\"v\":12.9}", false, true},
        {"text of 16 bytes, looked up", "${v}", "string", "{\"v\":\"abcdefghijklmnop\"}", false, true},
        {"text of a number, looked up", "${v}", "string", "{\"v\":21.5}", false, true},
        {"json number, looked up", "${v}", "json", "{\"v\":21.5}", false, true},
        {"double, one member of five", "${v}", "double", "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"v\":21.5}", false, false},
        {"path of three members", "${a.b.v}", "double", "{\"a\":{\"b\":{\"v\":21.5}}}", false, false},
        {"search ..v", "${$..v}", "double", "{\"a\":{\"b\":{\"v\":21.5}}}", false, false},
        {"mixed", "x ${a} y ${v}", "string", "{\"a\":1,\"v\":21.5}", false, false},
        {"constant", "42", "int", "{}", false, false},
        {"formula", "${v}*1.8+32", "double", "{\"v\":21.5}", true, false},
        {"formula, text put in", "${v}*1.8+32", "double", "{\"v\":\"21.5\"}", true, false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        printf("%-36s %8.1f ns\n", cases[i].what,
               measure(cases[i].expression, cases[i].type, cases[i].data, cases[i].use_eval, cases[i].is_found));
    return 0;
}
