/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote_form.h"

/* --- documents ------------------------------------------------------------------------------------------------------------ */

void form_free(struct form *form)
{
    yyjson_mut_doc_free(form->doc);
    *form = (struct form){0};
}

struct form form_copy(yyjson_val *val)
{
    struct form form = {.doc = yyjson_mut_doc_new(NULL)};

    form.root = form.doc ? yyjson_val_mut_copy(form.doc, val) : NULL;
    return form;
}

void form_text(struct buf *out, yyjson_mut_val *val)
{
    yyjson_doc *doc = yyjson_mut_val_imut_copy(val, NULL);

    if (doc)
        json_add_value(out, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

void form_pretty(struct buf *out, yyjson_mut_val *val)
{
    yyjson_doc *doc = yyjson_mut_val_imut_copy(val, NULL);

    if (doc) {
        json_add_pretty(out, yyjson_doc_get_root(doc));
        buf_add_z(out, "\n");
    }
    yyjson_doc_free(doc);
}

bool form_equal(yyjson_mut_val *a, yyjson_mut_val *b)
{
    yyjson_doc *left = yyjson_mut_val_imut_copy(a, NULL), *right = yyjson_mut_val_imut_copy(b, NULL);
    bool is_equal = !a && !b; /* neither is there */

    if (left && right)
        is_equal = json_equal(yyjson_doc_get_root(left), yyjson_doc_get_root(right));
    yyjson_doc_free(left);
    yyjson_doc_free(right);
    return is_equal;
}

bool form_set(struct form *form, yyjson_mut_val *object, const char *key, yyjson_mut_val *val)
{
    yyjson_mut_val *name;

    if (!val) {
        yyjson_mut_obj_remove_key(object, key);
        return true;
    }
    name = yyjson_mut_strcpy(form->doc, key);
    if (yyjson_mut_obj_get(object, key))
        return name && yyjson_mut_obj_replace(object, name, val);
    return name && yyjson_mut_obj_add(object, name, val);
}

yyjson_mut_val *form_take_str(struct form *form, struct str text)
{
    return yyjson_mut_strncpy(form->doc, text.p ? text.p : "", text.n);
}

static bool set_copy(struct form *form, const char *key, yyjson_val *val)
{
    yyjson_mut_val *copy = yyjson_val_mut_copy(form->doc, val);

    return copy && form_set(form, form->root, key, copy);
}

static bool is_given(yyjson_val *val)
{
    return val && !yyjson_is_null(val);
}

/* --- general_configuration ---------------------------------------------------------------------------------------------- */

yyjson_val *form_platform_section(yyjson_val *main, const char **name)
{
    static const char *const names[] = {"thingsboard", "industryos", "platform"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        yyjson_val *section = json_get(main, str_from(names[i]));

        if (yyjson_is_obj(section)) {
            *name = names[i];
            return section;
        }
    }
    *name = names[0];
    return NULL;
}

/* enableCustom and commands are always there. */
static void complete_statistics(struct form *form, yyjson_mut_val *statistics, struct str commands)
{
    yyjson_doc *doc = NULL;
    yyjson_mut_val *list;

    yyjson_mut_obj_remove_key(statistics, "ts");
    if (!yyjson_mut_obj_get(statistics, "enableCustom")) {
        bool enable = yyjson_mut_get_bool(yyjson_mut_obj_get(statistics, "enable"));

        form_set(form, statistics, "enableCustom", yyjson_mut_bool(form->doc, enable));
    }
    if (yyjson_mut_obj_get(statistics, "commands"))
        return;
    if (commands.n)
        doc = yyjson_read(commands.p, commands.n, YYJSON_READ_NUMBER_AS_RAW);
    list = yyjson_is_arr(yyjson_doc_get_root(doc)) ? yyjson_val_mut_copy(form->doc, yyjson_doc_get_root(doc))
                                                   : yyjson_mut_arr(form->doc);
    form_set(form, statistics, "commands", list);
    yyjson_doc_free(doc);
}

struct form form_general(yyjson_val *section, struct str commands)
{
    struct form form = form_copy(section);
    yyjson_mut_val *statistics;

    if (!form.root)
        return form;
    yyjson_mut_obj_remove_key(form.root, "ts");
    statistics = yyjson_mut_obj_get(form.root, "statistics");
    if (yyjson_mut_is_obj(statistics))
        complete_statistics(&form, statistics, commands);
    return form;
}

/* --- connectors ------------------------------------------------------------------------------------------------------------ */

static const char *const moved_up[] = {"logLevel", "enableRemoteLogging", "reportStrategy", "configVersion"};

static void set_inside(struct form *form, yyjson_val *file, struct str name, struct str id)
{
    yyjson_mut_val *inside = yyjson_val_mut_copy(form->doc, file);

    if (!inside)
        return;
    for (size_t i = 0; i < COUNT_OF(moved_up); i++)
        yyjson_mut_obj_remove_key(inside, moved_up[i]);
    yyjson_mut_obj_remove_key(inside, "ts");
    form_set(form, inside, "id", form_take_str(form, id));
    form_set(form, inside, "name", form_take_str(form, name));
    form_set(form, form->root, "configurationJson", inside);
}

struct form form_connector(yyjson_val *file, yyjson_val *entry, struct str id)
{
    static const char *const of_entry[] = {"name", "type", "configuration", "class", "key"};
    struct form form = {.doc = yyjson_mut_doc_new(NULL)};
    yyjson_val *own_id = json_get(file, STR("id")), *value;

    form.root = form.doc ? yyjson_mut_obj(form.doc) : NULL;
    if (!form.root)
        return form;
    for (size_t i = 0; i < COUNT_OF(of_entry); i++)
        if (is_given(value = json_get(entry, str_from(of_entry[i]))))
            set_copy(&form, of_entry[i], value);
    if (yyjson_is_str(own_id) && yyjson_get_len(own_id))
        id = json_str(own_id);
    form_set(&form, form.root, "id", form_take_str(&form, id));
    form_set(&form, form.root, "logLevel", yyjson_mut_str(form.doc, "INFO"));
    form_set(&form, form.root, "enableRemoteLogging", yyjson_mut_bool(form.doc, false));
    for (size_t i = 0; i < COUNT_OF(moved_up); i++)
        if (is_given(value = json_get(file, str_from(moved_up[i]))))
            set_copy(&form, moved_up[i], value);
    set_inside(&form, file, json_str(json_get(entry, STR("name"))), id);
    return form;
}

/* --- secrets ---------------------------------------------------------------------------------------------------------------- */

static const struct field *field_of(const struct conf_type *type, struct str key)
{
    for (; type; type = type->base)
        for (const struct field *field = type->fields; field->type != FIELD_END; field++)
            if (field->type != FIELD_AT && str_eq_z(key, field->key))
                return field;
    return NULL;
}

/* Where no descriptor says it: forms of former versions, and values that are no table. */
static bool is_called_secret(struct str key)
{
    static const char *const usual[] = {"accessToken", "access_token",         "token", "password", "passphrase",
                                        "secret",      "provisionDeviceSecret"};

    for (size_t i = 0; i < COUNT_OF(usual); i++)
        if (str_eq_nocase(key, str_from(usual[i])))
            return true;
    return false;
}

void form_mask(yyjson_mut_val *val, const struct conf_type *type)
{
    yyjson_mut_val *key, *member;
    size_t i, n;

    if (yyjson_mut_is_arr(val))
        yyjson_mut_arr_foreach(val, i, n, member) form_mask(member, type);
    if (!yyjson_mut_is_obj(val))
        return;
    yyjson_mut_obj_foreach(val, i, n, key, member)
    {
        struct str name = str_of(yyjson_mut_get_str(key), yyjson_mut_get_len(key));
        const struct field *field = field_of(type, name);
        bool is_secret = field ? field->type == FIELD_SECRET : is_called_secret(name);

        if (is_secret && yyjson_mut_is_str(member) && yyjson_mut_get_len(member))
            yyjson_mut_set_str(member, "***");
        else
            form_mask(member, field ? field->object : NULL);
    }
}

static bool is_masked(yyjson_mut_val *val)
{
    return yyjson_mut_is_str(val) && yyjson_mut_equals_str(val, "***");
}

static bool unmask(struct form *form, yyjson_mut_val *val, yyjson_mut_val *known, struct buf *path)
{
    yyjson_mut_val *key, *member;
    size_t i, n, before = path->n;

    if (is_masked(val)) {
        if (!yyjson_mut_is_str(known) || is_masked(known))
            return false;
        known = form_take_str(form, str_of(yyjson_mut_get_str(known), yyjson_mut_get_len(known)));
        return known && yyjson_mut_set_strn(val, yyjson_mut_get_str(known), yyjson_mut_get_len(known));
    }
    if (yyjson_mut_is_arr(val))
        yyjson_mut_arr_foreach(val, i, n, member)
        {
            buf_printf(path, "[%zu]", i);
            if (!unmask(form, member, yyjson_mut_is_arr(known) ? yyjson_mut_arr_get(known, i) : NULL, path))
                return false;
            path->n = before;
        }
    if (yyjson_mut_is_obj(val))
        yyjson_mut_obj_foreach(val, i, n, key, member)
        {
            struct str name = str_of(yyjson_mut_get_str(key), yyjson_mut_get_len(key));
            yyjson_mut_val *same = yyjson_mut_is_obj(known) ? yyjson_mut_obj_getn(known, name.p, name.n) : NULL;

            buf_printf(path, "%s" STR_FMT, before ? "." : "", STR_ARG(name));
            if (!unmask(form, member, same, path))
                return false;
            path->n = before;
        }
    return true;
}

bool form_unmask(struct form *form, yyjson_mut_val *known, struct buf *path)
{
    return unmask(form, form->root, known, path);
}
