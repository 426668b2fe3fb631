/* SPDX-License-Identifier: Apache-2.0 */
#include "data/convert.h"
#include "base/hex.h"
#include "data/formula.h"
#include "data/number.h"

#include <math.h>

/* --- one value ---------------------------------------------------------------------------------------------------- */

enum value_class value_class_of(struct str type)
{
    if (str_has_nocase(type, STR("int")) || str_has_nocase(type, STR("long")))
        return CLASS_INTEGER;
    if (str_has_nocase(type, STR("float")) || str_has_nocase(type, STR("double")))
        return CLASS_DOUBLE;
    if (str_has_nocase(type, STR("bool")))
        return CLASS_BOOLEAN;
    if (type.n == 0 || str_eq_nocase(type, STR("json")))
        return CLASS_JSON;
    return CLASS_TEXT;
}

/* A number's text that was made on the stack moves to the arena; one that is borrowed stays. */
static struct str keep(struct arena *arena, struct str text, const char *stack)
{
    return text.p == stack ? arena_str(arena, text) : text;
}

static struct str print_i64(struct arena *arena, int64_t v)
{
    char text[NUMBER_MAX];

    return arena_str(arena, (struct str){text, number_put_i64(text, v)});
}

static struct str print_double(struct arena *arena, double v)
{
    char text[NUMBER_MAX];

    return arena_str(arena, (struct str){text, number_put_double(text, v)});
}

static enum convert_result fall_back(struct str text, struct arena *arena, struct str *out)
{
    *out = json_quote(arena, text);
    return CONVERT_FALLBACK;
}

/* Text that already is an integer in its final form: at most n_max digits, no zero in front. */
static bool is_final_integer(struct str text, size_t n_max)
{
    size_t sign = text.n && text.p[0] == '-';

    return text.n - sign <= n_max && number_is_integer(text) && (text.p[sign] != '0' || text.n == 1);
}

static struct str with_fraction(struct str integer, struct arena *arena)
{
    char *p = arena_chars(arena, integer.n + 2);

    memcpy(p, integer.p, integer.n);
    memcpy(p + integer.n, ".0", 2);
    return (struct str){p, integer.n + 2};
}

/* A double's text from a number's: JSON, or as people write it. False: not a finite number. */
static bool double_text(struct str text, struct arena *arena, struct str *out)
{
    double v;

    if (LIKELY(number_is_final_double(text))) {
        *out = text;
    } else if (is_final_integer(text, 15)) {
        *out = with_fraction(text, arena);
    } else {
        if (number_read(text, &v))
            return false;
        *out = print_double(arena, v);
    }
    return true;
}

/* cut: toward zero (strict); else what is not integral stays a double. */
static enum convert_result integer_of(struct str text, bool cut, struct arena *arena, struct str *out)
{
    bool integral;
    int64_t v;
    double d;

    if (LIKELY(is_final_integer(text, 18))) {
        *out = text;
        return CONVERT_OK;
    }
    if (number_truncate(text, &v, &integral) == ERR_OK && (cut || integral)) {
        *out = print_i64(arena, v);
        return CONVERT_OK;
    }
    if (number_read(text, &d))
        return CONVERT_FAILED;
    *out = print_double(arena, cut ? trunc(d) : d);
    return CONVERT_OK;
}

static bool word_is(struct str text, const char *const *words)
{
    for (; *words; words++)
        if (str_eq_nocase(text, str_from(*words)))
            return true;
    return false;
}

static enum convert_result convert_text(enum value_class class, enum convert_mode mode, struct str text,
                                        struct arena *arena, struct str *out)
{
    static const char *const yes[] = {"y", "yes", "t", "true", "on", "1", NULL};
    static const char *const no[] = {"n", "no", "f", "false", "off", "0", NULL};
    struct str trimmed = str_trim(text);

    switch (class) {
    case CLASS_INTEGER:
        if (integer_of(trimmed, mode == CONVERT_STRICT, arena, out) == CONVERT_OK)
            return CONVERT_OK;
        return fall_back(text, arena, out);
    case CLASS_DOUBLE:
        return double_text(trimmed, arena, out) ? CONVERT_OK : fall_back(text, arena, out);
    case CLASS_BOOLEAN:
        if (!word_is(trimmed, yes) && !word_is(trimmed, no))
            return fall_back(text, arena, out);
        *out = word_is(trimmed, yes) ? STR("true") : STR("false");
        return CONVERT_OK;
    case CLASS_JSON:
    case CLASS_TEXT:
        break;
    }
    *out = json_quote(arena, text);
    return CONVERT_OK;
}

/* text: a number as JSON has it. */
static enum convert_result convert_number(enum value_class class, enum convert_mode mode, struct str text,
                                          struct arena *arena, struct str *out)
{
    char stack[NUMBER_MAX];
    double v;

    switch (class) {
    case CLASS_BOOLEAN:
        if (number_read(text, &v) == ERR_OK && (v == 0 || v == 1)) {
            *out = v == 1 ? STR("true") : STR("false");
            return CONVERT_OK;
        }
        *out = json_quote(arena, number_in_template(text, stack));
        return CONVERT_FALLBACK;
    case CLASS_TEXT:
        *out = json_quote(arena, number_in_template(text, stack));
        return CONVERT_OK;
    case CLASS_INTEGER:
        if (mode == CONVERT_STRICT)
            return integer_of(text, true, arena, out);
        break;
    case CLASS_DOUBLE:
        if (mode == CONVERT_STRICT)
            return double_text(text, arena, out) ? CONVERT_OK : CONVERT_FAILED;
        break;
    case CLASS_JSON:
        break;
    }
    *out = keep(arena, number_final(text, stack), stack);
    return *out->p == 'n' ? CONVERT_FAILED : CONVERT_OK; /* 1e999 is infinite: left out */
}

static enum convert_result convert_bool(enum value_class class, bool v, struct str *out)
{
    switch (class) {
    case CLASS_INTEGER:
        *out = v ? STR("1") : STR("0");
        break;
    case CLASS_DOUBLE:
        *out = v ? STR("1.0") : STR("0.0");
        break;
    case CLASS_TEXT:
        *out = v ? STR("\"True\"") : STR("\"False\"");
        break;
    case CLASS_BOOLEAN:
    case CLASS_JSON:
        *out = v ? STR("true") : STR("false");
        break;
    }
    return CONVERT_OK;
}

/* Objects and arrays stay what they are for json and where nothing may be lost; else they become their compact text. */
static bool container_is_kept(enum value_class class, enum convert_mode mode)
{
    return class == CLASS_JSON || (mode == CONVERT_LOSSLESS && class != CLASS_TEXT);
}

static enum convert_result convert_container(enum value_class class, enum convert_mode mode, struct str json,
                                             struct arena *arena, struct str *out)
{
    *out = container_is_kept(class, mode) ? json : json_quote(arena, json);
    return class == CLASS_TEXT || container_is_kept(class, mode) ? CONVERT_OK : CONVERT_FALLBACK;
}

/* A number that was not kept as raw text. */
static struct str number_text(yyjson_val *val, char *stack)
{
    return yyjson_is_raw(val) ? (struct str){yyjson_get_raw(val), yyjson_get_len(val)}
                              : json_number_in_template(val, stack);
}

enum convert_result convert_value(enum value_class class, enum convert_mode mode, yyjson_val *val, struct str text,
                                  struct arena *arena, struct str *out)
{
    char stack[NUMBER_MAX];

    if (!val)
        return convert_text(class, mode, text, arena, out);
    if (LIKELY(yyjson_is_raw(val)))
        return convert_number(class, mode, number_text(val, NULL), arena, out);
    if (yyjson_is_str(val))
        return convert_text(class, mode, json_str(val), arena, out);
    if (yyjson_is_bool(val))
        return convert_bool(class, yyjson_get_bool(val), out);
    if (yyjson_is_null(val))
        return CONVERT_SKIPPED;
    if (yyjson_is_num(val)) {
        enum convert_result result = convert_number(class, mode, number_text(val, stack), arena, out);

        *out = keep(arena, *out, stack);
        return result;
    }
    return convert_container(
        class, mode, container_is_kept(class, mode) ? json_final_text(arena, val) : json_text(arena, val), arena, out);
}

/* --- useEval: the template is a formula -------------------------------------------------------------------------- */

/* Characters that would grow together with the text of a tag: 2${a} is not two operands. */
static bool grows_together(char c)
{
    return c == '_' || c == '.' || c == '"' || c == '\'' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z') || (uint8_t)c >= 0x80;
}

/*
 * A tag may stand as a variable if what is put in its place, a number that is not negative or a boolean, is one operand there:
 * not inside a text, and not beside a character that would become part of it.
 */
static bool tags_stand_alone(const struct template *template)
{
    size_t n_tags = template_n_tags(template);

    for (size_t i = 0; i <= n_tags; i++) {
        struct str literal = template_literal(template, i);

        if (literal.n == 0 && i > 0 && i < n_tags)
            return false;
        if (literal.n &&
            ((i > 0 && grows_together(literal.p[0])) || (i < n_tags && grows_together(literal.p[literal.n - 1]))))
            return false;
    }
    return true;
}

/* Whether a quote is open at the end of any literal: then a tag stands inside a text. */
static bool is_in_text(const struct template *template)
{
    char quote = 0;

    for (size_t i = 0; i < template_n_tags(template); i++) {
        struct str literal = template_literal(template, i);

        for (size_t k = 0; k < literal.n; k++) {
            char c = literal.p[k];

            if (c == '\\')
                k++;
            else if (quote ? c == quote : c == '"' || c == '\'')
                quote = quote ? 0 : c;
        }
        if (quote)
            return true;
    }
    return false;
}

/*
 * The formula with variables instead of tags, each as long as its tag, so that the offsets of errors are those of the
 * template: ${a.b} becomes _0_____. False: so many tags or so short ones that names would be doubled.
 */
static bool variable_text(const struct template *template, struct arena *arena, struct str *text, struct str *names)
{
    struct str source = template_source(template);
    char *p = arena_text(arena, source);

    *text = (struct str){p, source.n};
    for (size_t i = 0, at = 0; i < template_n_tags(template); i++) {
        size_t before = template_literal(template, i).n, end;
        struct str next;
        char number[24];
        int n = snprintf(number, sizeof number, "_%zu", i);

        at += before;
        next = template_literal(template, i + 1);
        end = (size_t)(next.p - source.p);
        if (end - at < (size_t)n + 1)
            return false;
        memset(p + at, '_', end - at);
        memcpy(p + at, number, (size_t)n);
        names[i] = (struct str){p + at, end - at};
        at = end;
    }
    return true;
}

static NODISCARD enum err compile_formula(struct datapoint_value *value, struct arena *arena, struct why *why)
{
    size_t n_tags = template_n_tags(value->template);
    struct str *names = arena_alloc(arena, (n_tags + 1) * sizeof *names), text;

    if (n_tags == 0)
        return formula_compile(&value->formula, arena, template_source(value->template), false, names, 0, why);
    if (!tags_stand_alone(value->template) || is_in_text(value->template) ||
        !variable_text(value->template, arena, &text, names))
        return ERR_OK;
    /* One that does not compile with variables may do so with what is put in: then at run time. */
    if (formula_compile(&value->formula, arena, text, false, names, n_tags, NULL))
        value->formula = NULL;
    value->has_power = str_find(text, STR("**"), 0) != SIZE_MAX;
    value->names = names;
    return ERR_OK;
}

/* The formula with something in the place of each tag, as long as the tag, so that offsets stay. */
static struct str filled_text(const struct template *template, struct arena *arena, char first, char middle, char last)
{
    struct str source = template_source(template);
    char *p = arena_text(arena, source);
    size_t n_tags = template_n_tags(template), at = 0;

    for (size_t i = 0; i < n_tags; i++) {
        struct str next = template_literal(template, i + 1);
        size_t begin = at + template_literal(template, i).n, end = (size_t)(next.p - source.p);

        memset(p + begin, middle, end - begin);
        p[begin] = first;
        p[end - 1] = last;
        at = end;
    }
    return (struct str){p, source.n};
}

bool datapoint_may_work(const struct datapoint_value *value, struct arena *arena, struct why *why)
{
    static const char fillings[][3] = {{'1', '1', '1'}, {'[', ' ', ']'}, {'+', ' ', ' '}};
    struct formula *formula;
    struct str no_names;

    if (!value->use_eval || value->formula || !template_n_tags(value->template))
        return true;
    for (size_t i = 0; i < COUNT_OF(fillings); i++) {
        struct str text = filled_text(value->template, arena, fillings[i][0], fillings[i][1], fillings[i][2]);

        if (formula_compile(&formula, arena, text, false, &no_names, 0, i ? NULL : why) == ERR_OK)
            return true;
    }
    return false;
}

enum err datapoint_compile(struct datapoint_value *out, struct arena *arena, struct str expression, struct str type,
                           enum convert_mode mode, bool use_eval, struct why *why)
{
    enum err err;

    *out = (struct datapoint_value){.class = value_class_of(type), .mode = mode};
    err = template_compile(&out->template, arena, expression, why);
    if (err)
        return err;
    out->use_eval = use_eval && !(out->class == CLASS_TEXT && str_has_nocase(type, STR("str")));
    if (out->use_eval)
        return compile_formula(out, arena, why);
    if (template_kind(out->template) == TEMPLATE_CONSTANT)
        out->constant_result = convert_text(out->class, mode, template_source(out->template), arena, &out->constant);
    return ERR_OK;
}

struct variables {
    const struct str *names;
    struct value *values;
    size_t n;
};

static bool look_up(void *arg, struct str name, struct value *out)
{
    const struct variables *variables = arg;

    for (size_t i = 0; i < variables->n; i++) {
        if (str_eq(variables->names[i], name)) {
            *out = variables->values[i];
            return true;
        }
    }
    return false;
}

static bool look_up_nothing(void *arg, struct str name, struct value *out)
{
    (void)arg;
    (void)name;
    (void)out;
    return false;
}

/* May this value stand for its text? -3 ** 2 is not what (-3) ** 2 is. NULL, which is not resolved, may not. */
static bool is_operand(const struct datapoint_value *value, yyjson_val *val)
{
    struct str text;

    if (yyjson_is_bool(val))
        return true;
    if (!yyjson_is_raw(val))
        return false;
    text = number_text(val, NULL);
    return text.p[0] != '-' || !value->has_power;
}

/* True: *out is the result or *err why there is none. False: the texts must be put in and parsed. */
static bool eval_with_variables(const struct datapoint_value *value, yyjson_val *data, struct arena *arena,
                                struct value *out, enum err *err, struct why *why)
{
    size_t n = template_n_tags(value->template);
    struct variables variables = {value->names, arena_alloc(arena, n * sizeof *variables.values), n};

    if (!value->formula)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct str character;
        yyjson_val *val = template_resolve(value->template, i, data, arena, &character);

        if (!is_operand(value, val))
            return false;
        value_from_json(val, arena, &variables.values[i]);
    }
    *err = formula_eval(value->formula, look_up, &variables, arena, out, why);
    return true;
}

/* The peer's way: texts are put in, then the whole is parsed. */
static NODISCARD enum err eval_text(struct str text, struct arena *arena, struct value *out, struct why *why)
{
    struct formula *formula;
    struct str no_names;
    enum err err = formula_compile(&formula, arena, text, false, &no_names, 0, why);

    return err ? err : formula_eval(formula, look_up_nothing, NULL, arena, out, why);
}

static struct str print_i128(struct arena *arena, __int128 v)
{
    char text[48], *p = text + sizeof text;
    unsigned __int128 rest = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;

    do {
        *--p = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest);
    if (v < 0)
        *--p = '-';
    return arena_str(arena, (struct str){p, (size_t)(text + sizeof text - p)});
}

static struct str bytes_text(struct str bytes, struct arena *arena)
{
    struct buf out = {(uint8_t *)arena_chars(arena, 2 * bytes.n + 1), 0, 2 * bytes.n};

    hex_add(&out, bytes.p, bytes.n);
    return buf_str(&out);
}

static enum convert_result convert_formula_value(const struct datapoint_value *value, const struct value *v,
                                                 struct arena *arena, struct str *out)
{
    char stack[NUMBER_MAX];
    struct str text;

    switch (v->kind) {
    case VALUE_NONE:
        return CONVERT_SKIPPED;
    case VALUE_BOOL:
        return convert_bool(value->class, v->b, out);
    case VALUE_INT:
        return convert_number(value->class, value->mode, print_i128(arena, v->i), arena, out);
    case VALUE_DOUBLE:
        if (!isfinite(v->d))
            return CONVERT_FAILED;
        text = arena_str(arena, (struct str){stack, number_put_python(stack, v->d)});
        return convert_number(value->class, value->mode, text, arena, out);
    case VALUE_TEXT:
        return convert_text(value->class, value->mode, v->text, arena, out);
    case VALUE_BYTES:
        return convert_text(value->class, value->mode, bytes_text(v->text, arena), arena, out);
    case VALUE_LIST:
    case VALUE_OBJECT:
        if (!value_json(v, arena, &text))
            return CONVERT_FAILED;
        return convert_container(value->class, value->mode, text, arena, out);
    }
    return CONVERT_FAILED;
}

static enum convert_result eval_formula(const struct datapoint_value *value, yyjson_val *data, struct arena *arena,
                                        struct str *out, struct why *why)
{
    struct value result;
    struct str text;
    enum err err;

    if (!eval_with_variables(value, data, arena, &result, &err, why)) {
        if (!template_text(value->template, data, TEMPLATE_SKIP, arena, &text))
            return CONVERT_SKIPPED;
        err = eval_text(text, arena, &result, why);
    }
    return err ? CONVERT_FAILED : convert_formula_value(value, &result, arena, out);
}

/* --- a datapoint -------------------------------------------------------------------------------------------------- */

enum convert_result datapoint_eval(const struct datapoint_value *value, yyjson_val *data, yyjson_val *found,
                                   struct arena *arena, struct str *out, struct why *why)
{
    struct str text;

    if (UNLIKELY(value->use_eval))
        return eval_formula(value, data, arena, out, why);
    if (LIKELY(found))
        return convert_value(value->class, value->mode, found, STR_NONE, arena, out);
    switch (template_kind(value->template)) {
    case TEMPLATE_CONSTANT:
        *out = value->constant;
        return value->constant_result;
    case TEMPLATE_PURE:
        found = template_resolve(value->template, 0, data, arena, &text);
        if (!found && !text.p)
            return CONVERT_SKIPPED;
        return convert_value(value->class, value->mode, found, text, arena, out);
    case TEMPLATE_MIXED:
        break;
    }
    if (!template_text(value->template, data, TEMPLATE_NULL, arena, &text))
        return CONVERT_SKIPPED;
    return convert_text(value->class, value->mode, text, arena, out);
}
