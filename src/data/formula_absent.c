/* SPDX-License-Identifier: Apache-2.0 */
#include "data/formula.h"

#define WEAK __attribute__((weak))

WEAK enum err formula_compile(struct formula **out, struct arena *arena, struct str text, bool no_calls,
                              const struct str *names, size_t n_names, struct why *why)
{
    (void)out, (void)arena, (void)text, (void)no_calls, (void)names, (void)n_names;
    return why_set(why, ERR_UNSUPPORTED, "formulas are not part of this build");
}

WEAK enum err formula_eval(const struct formula *formula, formula_lookup_fn *lookup, void *arg, struct arena *arena,
                           struct value *out, struct why *why)
{
    (void)formula, (void)lookup, (void)arg, (void)arena, (void)out;
    return why_set(why, ERR_UNSUPPORTED, "formulas are not part of this build");
}

WEAK bool value_json(const struct value *value, struct arena *arena, struct str *out)
{
    (void)value, (void)arena, (void)out;
    return false;
}

WEAK void value_from_json(yyjson_val *val, struct arena *arena, struct value *out)
{
    (void)val, (void)arena;
    *out = (struct value){0};
}

WEAK enum err value_from_literal(struct str text, struct arena *arena, struct value *out)
{
    (void)text, (void)arena, (void)out;
    return ERR_UNSUPPORTED;
}
