/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_FORM_H
#define IOTGW_REMOTE_FORM_H
/*
 * The forms of a configuration on the platform (remote-config.md 1), made from what lies in the files: pure, JSON in and
 * JSON out. Any thread.
 *
 * A form has no "ts": two of them are the same configuration exactly if json_equal says so.
 */
#include "gateway/gateway_conf.h"

/* Root of the new document, or NULL without memory; yyjson_mut_doc_free(root's) by the caller. */
struct form {
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;
};
void form_free(struct form *form);
static inline void form_autofree(struct form *form)
{
    form_free(form);
}
#define autoform __attribute__((cleanup(form_autofree)))
struct form form_copy(yyjson_val *val);
/* Compact, or indented by 2 with a line feed at the end. Nothing is added without memory. */
void form_text(struct buf *out, yyjson_mut_val *val);
void form_pretty(struct buf *out, yyjson_mut_val *val);
bool form_equal(yyjson_mut_val *a, yyjson_mut_val *b);
/* Replaces member key or adds it; val NULL: removes it. val belongs to the form afterwards. */
bool form_set(struct form *form, yyjson_mut_val *object, const char *key, yyjson_mut_val *val);
yyjson_mut_val *form_take_str(struct form *form, struct str text);

/* The platform's section of the main file, whatever it is called; *name is how. */
yyjson_val *form_platform_section(yyjson_val *main, const char **name);
/* general_configuration: section with statistics in remote form. commands: content of the file that it names, empty: none. */
struct form form_general(yyjson_val *section, struct str commands);
/* The attribute of a connector: of its file, its entry in the main file, and the id it has if the file has none. */
struct form form_connector(yyjson_val *file, yyjson_val *entry, struct str id);

/* Values of members that the descriptor calls secret, or, where it knows none, that are called like one, become "***". type NULL:
 * there is none. */
void form_mask(yyjson_mut_val *val, const struct conf_type *type);
/* Texts "***" become what known has at that place. False: it has none there; path says where. */
bool form_unmask(struct form *form, yyjson_mut_val *known, struct buf *path);
#endif
