/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula.h"
#include "fuzz.h"

/* value: a double; n: an integer; s: the second part of the input; d: its bytes; l: a list of them. */
static bool look_up(void *arg, struct str name, struct value *out)
{
    static struct value items[3];
    const struct str *text = arg;

    if (str_eq_z(name, "value"))
        *out = (struct value){VALUE_DOUBLE, .d = -21.5};
    else if (str_eq_z(name, "n"))
        *out = (struct value){VALUE_INT, .i = (__int128)text->n << 100};
    else if (str_eq_z(name, "s"))
        *out = (struct value){VALUE_TEXT, .text = *text};
    else if (str_eq_z(name, "d"))
        *out = (struct value){VALUE_BYTES, .text = *text};
    else if (str_eq_z(name, "l")) {
        items[0] = (struct value){VALUE_TEXT, .text = *text};
        items[1] = (struct value){VALUE_BYTES, .text = *text};
        items[2] = (struct value){VALUE_NONE};
        *out = (struct value){VALUE_LIST, .list = {items, COUNT_OF(items)}};
    } else {
        return false;
    }
    return true;
}

static void check_value(const struct value *value, struct arena *arena)
{
    struct str json;
    yyjson_doc *doc;

    (void)value_text(value, arena);
    if (!value_json(value, arena, &json))
        return;
    FUZZ_CHECK(utf8_is_valid(json));
    doc = yyjson_read(json.p, json.n, 0);
    FUZZ_CHECK(doc != NULL);
    yyjson_doc_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, text = fuzz_part(&rest);
    const struct str names[] = {STR("value"), STR("n"), STR("s"), STR("d"), STR("l")};
    struct formula *formula;
    struct why why = {0};
    struct value value;
    struct arena arena;
    enum err err;

    arena_init(&arena, 0);
    err = formula_compile(&formula, &arena, text, false, names, COUNT_OF(names), &why);
    FUZZ_CHECK(!err == !why.text[0]);
    if (!err) {
        err = formula_eval(formula, look_up, &rest, &arena, &value, &why);
        FUZZ_CHECK(err != ERR_NOTFOUND || why.text[0]);
        FUZZ_CHECK(!err == !why.text[0]);
        if (!err)
            check_value(&value, &arena);
        FUZZ_CHECK(arena_bytes(&arena) < 16 * 1024 * 1024);
    }
    if (value_from_literal((struct str){(const char *)data, size}, &arena, &value) == ERR_OK)
        check_value(&value, &arena);
    arena_fini(&arena);
    return 0;
}
