/* SPDX-License-Identifier: Apache-2.0 */
#include "data/number.h"
#include "data/template_impl.h"

enum { MAX_TAGS = 1000 };

/* --- compiling ---------------------------------------------------------------------------------------------------- */

/* Index of the "}" that ends the tag whose body starts at i, or SIZE_MAX. A quote that is never closed is no string. */
static size_t tag_end(struct str text, size_t i)
{
    while (i < text.n && text.p[i] != '}') {
        char c = text.p[i++];

        if (c == '"' || c == '\'') {
            size_t close = i + str_chr(str_skip(text, i), c);

            if (close < text.n)
                i = close + 1;
        }
    }
    return i < text.n ? i : SIZE_MAX;
}

/* Finds the next tag at or after from; its body is not trimmed. */
static bool next_tag(struct str text, size_t from, size_t *start, size_t *end)
{
    *start = str_find(text, STR("${"), from);
    if (*start == SIZE_MAX)
        return false;
    *end = tag_end(text, *start + 2);
    return *end != SIZE_MAX;
}

static enum tag_name name_of(struct str body)
{
    static const struct {
        const char *text;
        enum tag_name name;
    } names[] = {{"deviceName", TAG_DEVICE_NAME},         {"attributeKey", TAG_ATTRIBUTE_KEY},
                 {"attributeValue", TAG_ATTRIBUTE_VALUE}, {"methodName", TAG_METHOD_NAME},
                 {"requestId", TAG_REQUEST_ID},           {"restId", TAG_REQUEST_ID}};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq_z(body, names[i].text))
            return names[i].name;
    return TAG_DATA;
}

/* Follows the quotes of JSON text; *in_string is the state before and behind. */
static void follow_quotes(struct str literal, bool *in_string)
{
    for (size_t i = 0; i < literal.n; i++) {
        if (literal.p[i] == '\\' && *in_string)
            i++;
        else if (literal.p[i] == '"')
            *in_string = !*in_string;
    }
}

static NODISCARD enum err compile_tag(struct tag *tag, struct arena *arena, struct str source, size_t start, size_t end,
                                      struct why *why)
{
    struct str inside = {source.p + start + 2, end - start - 2}, single;
    enum err err;

    *tag = (struct tag){.body = str_trim(inside)};
    tag->name = name_of(tag->body);
    if (tag->body.n == 0)
        return ERR_OK;
    err = path_compile(&tag->path, arena, tag->body, why);
    if (err) {
        why_prefix(why, "${" STR_FMT "}", STR_ARG(tag->body));
        return err;
    }
    single = path_single_member(tag->path);
    if (single.p && str_eq(single, tag->body))
        tag->single = tag->body;
    return ERR_OK;
}

enum err template_compile(struct template **out, struct arena *arena, struct str text, struct why *why)
{
    struct template *template = arena_zero(arena, sizeof *template);
    size_t n = 0, at = 0, start, end;
    bool in_string = false;

    template->source = arena_str(arena, text);
    text = template->source;
    while (next_tag(text, at, &start, &end)) {
        at = end + 1;
        n++;
    }
    if (n > MAX_TAGS)
        return why_set(why, ERR_LIMIT, "%zu tags in one template; %d are allowed", n, MAX_TAGS);
    template->tags = arena_zero(arena, n * sizeof *template->tags);
    template->literals = arena_zero(arena, (n + 1) * sizeof *template->literals);
    for (at = 0; next_tag(text, at, &start, &end); at = end + 1) {
        struct tag *tag = &template->tags[template->n_tags];
        enum err err = compile_tag(tag, arena, text, start, end, why);

        if (err)
            return err;
        template->literals[template->n_tags++] = (struct str){text.p + at, start - at};
        follow_quotes((struct str){text.p + at, start - at}, &in_string);
        tag->in_string = in_string;
    }
    template->literals[n] = (struct str){text.p + at, text.n - at};
    template->kind = n == 0                                                                   ? TEMPLATE_CONSTANT
                     : n == 1 && template->literals[0].n == 0 && template->literals[1].n == 0 ? TEMPLATE_PURE
                                                                                              : TEMPLATE_MIXED;
    *out = template;
    return ERR_OK;
}

enum template_kind template_kind(const struct template *template)
{
    return template->kind;
}

struct str template_source(const struct template *template)
{
    return template->source;
}

size_t template_n_tags(const struct template *template)
{
    return template->n_tags;
}

struct str template_literal(const struct template *template, size_t i)
{
    return template->literals[i];
}

struct str template_single_member(const struct template *template)
{
    return template->kind == TEMPLATE_PURE ? template->tags[0].single : STR_NONE;
}

const struct path *template_path(const struct template *template, size_t i)
{
    return template->tags[i].path;
}

/* --- evaluating --------------------------------------------------------------------------------------------------- */

yyjson_val *template_resolve(const struct template *template, size_t i, yyjson_val *data, struct arena *arena,
                             struct str *text_out)
{
    const struct tag *tag = &template->tags[i];
    yyjson_val *val;

    *text_out = STR_NONE;
    if (!tag->path)
        return NULL;
    val = json_get(data, tag->body);
    if (val || tag->single.p)
        return yyjson_is_null(val) ? NULL : val;
    return path_first(tag->path, data, arena, text_out);
}

struct str template_value_text(yyjson_val *val, struct arena *arena)
{
    char text[NUMBER_MAX];
    struct str number;

    if (yyjson_is_str(val))
        return json_str(val);
    if (yyjson_is_bool(val))
        return yyjson_get_bool(val) ? STR("True") : STR("False");
    if (!json_is_number(val))
        return json_text(arena, val);
    number = json_number_in_template(val, text);
    return number.p == text ? arena_str(arena, number) : number;
}

static bool mixed_text(const struct template *template, yyjson_val *data, enum template_missing missing,
                       struct arena *arena, struct str *out)
{
    struct str *texts = arena_alloc(arena, template->n_tags * sizeof *texts);
    size_t n = template->literals[0].n, n_found = 0;
    char *p;

    for (size_t i = 0; i < template->n_tags; i++) {
        yyjson_val *val = template_resolve(template, i, data, arena, &texts[i]);

        if (val)
            texts[i] = template_value_text(val, arena);
        if (texts[i].p)
            n_found++;
        else if (missing == TEMPLATE_SKIP)
            return false;
        else
            texts[i] = STR("null");
        n += texts[i].n + template->literals[i + 1].n;
    }
    if (n_found == 0)
        return false;
    p = arena_chars(arena, n);
    *out = (struct str){p, n};
    p = mempcpy(p, template->literals[0].p, template->literals[0].n);
    for (size_t i = 0; i < template->n_tags; i++) {
        p = mempcpy(p, texts[i].p, texts[i].n);
        p = mempcpy(p, template->literals[i + 1].p, template->literals[i + 1].n);
    }
    return true;
}

bool template_text(const struct template *template, yyjson_val *data, enum template_missing missing,
                   struct arena *arena, struct str *out)
{
    yyjson_val *val;

    switch (template->kind) {
    case TEMPLATE_CONSTANT:
        *out = template->source;
        return true;
    case TEMPLATE_MIXED:
        return mixed_text(template, data, missing, arena, out);
    case TEMPLATE_PURE:
        break;
    }
    val = template_resolve(template, 0, data, arena, out);
    if (val)
        *out = template_value_text(val, arena);
    return out->p != NULL;
}
