/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/expression.h"

static void regex_fini(void *regex)
{
    regex_free(regex);
}

void conf_own_regex(struct conf_load *load, struct regex *regex)
{
    conf_own(load, regex_fini, regex);
}

enum err conf_regex(struct conf_load *load, const struct conf_at *at, const char *key, struct str pattern,
                    enum regex_use use, struct regex **out)
{
    struct why why = {0};

    if (regex_compile(out, pattern, use, &why) != ERR_OK) {
        conf_error(load, at, key, "\"" STR_FMT "\" is not a regular expression: %s", STR_ARG(pattern), why_text(&why));
        return ERR_CONFIG;
    }
    conf_own_regex(load, *out);
    return ERR_OK;
}

enum err conf_template(struct conf_load *load, const struct conf_at *at, const char *key, struct str text,
                       struct template **out)
{
    struct why why = {0};

    if (template_compile(out, conf_arena(load), text, &why) == ERR_OK)
        return ERR_OK;
    conf_error(load, at, key, "\"" STR_FMT "\" is not an expression: %s", STR_ARG(text), why_text(&why));
    return ERR_CONFIG;
}
