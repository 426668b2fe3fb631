/* SPDX-License-Identifier: Apache-2.0 */
#include "payload.h"

#include <math.h>

static uint64_t next_random(struct payload_state *state)
{
    state->random ^= state->random << 13;
    state->random ^= state->random >> 7;
    state->random ^= state->random << 17;
    return state->random;
}

/* 0 … 1 */
static double next_share(struct payload_state *state)
{
    return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static NODISCARD enum err read_bounds(struct payload_place *place, struct str rest, bool has_decimals, struct why *why)
{
    struct str min, max, decimals = STR("0");
    uint64_t n = 0;

    if (!str_split(&rest, ':', &min) || !str_split(&rest, ':', &max) ||
        (has_decimals && !str_split(&rest, ':', &decimals)) || str_to_double(min, &place->min) ||
        str_to_double(max, &place->max) || str_to_u64(decimals, &n) || n > 9 || place->max < place->min)
        return why_set(why, ERR_SYNTAX, "bounds are written MIN:MAX%s", has_decimals ? ":DECIMALS" : "");
    place->decimals = (unsigned)n;
    return ERR_OK;
}

static NODISCARD enum err read_place(struct payload *payload, struct payload_place *place, struct str inner,
                                     struct why *why)
{
    static const char *const plain[] = {[PLACE_DEVICE] = "device",
                                        [PLACE_NUMBER] = "number",
                                        [PLACE_SEQ] = "seq",
                                        [PLACE_TS] = "ts",
                                        [PLACE_SENT] = "sent"};
    struct str kind;

    for (unsigned i = 0; i < COUNT_OF(plain); i++) {
        if (plain[i] && str_eq_z(inner, plain[i])) {
            place->kind = i;
            return ERR_OK;
        }
    }
    (void)!str_split(&inner, ':', &kind);
    place->text = inner;
    place->state = payload->n_states;
    if (str_eq(kind, STR("walk"))) {
        place->kind = PLACE_WALK;
        payload->n_states++;
        return read_bounds(place, inner, true, why);
    }
    if (str_eq(kind, STR("int"))) {
        place->kind = PLACE_INT;
        return read_bounds(place, inner, false, why);
    }
    if (str_eq(kind, STR("bool"))) {
        place->kind = PLACE_BOOL;
        payload->n_states++;
        return ERR_OK;
    }
    if (str_eq(kind, STR("pick")) && inner.n) {
        place->kind = PLACE_PICK;
        return ERR_OK;
    }
    return why_set(why, ERR_SYNTAX, "${" STR_FMT "} is not a place", STR_ARG(kind));
}

static struct payload_place *add_place(struct payload *payload)
{
    payload->places = mem_grow(payload->places, (payload->n + 1) * sizeof *payload->places);
    payload->places[payload->n] = (struct payload_place){.kind = PLACE_TEXT};
    return &payload->places[payload->n++];
}

enum err payload_init(struct payload *payload, struct str text, struct why *why)
{
    enum err err = ERR_OK;

    *payload = (struct payload){0};
    while (text.n && !err) {
        size_t open = str_find(text, STR("${"), 0), close;

        if (open == SIZE_MAX)
            open = text.n;
        if (open)
            add_place(payload)->text = str_cut(text, open);
        text = str_skip(text, open);
        if (!text.n)
            break;
        close = str_chr(text, '}');
        if (close == text.n)
            err = why_set(why, ERR_SYNTAX, "\"${\" has no \"}\"");
        else
            err = read_place(payload, add_place(payload), str_of(text.p + 2, close - 2), why);
        text = str_skip(text, close + 1);
    }
    if (err)
        payload_fini(payload);
    return err;
}

void payload_fini(struct payload *payload)
{
    mem_free(payload->places);
    *payload = (struct payload){0};
}

void payload_state_init(struct payload_state *state, const struct payload *payload, unsigned number, struct str name)
{
    *state = (struct payload_state){.number = number, .name = name, .random = (number + 1) * 0x9e3779b97f4a7c15ull};
    state->values = mem_zero((payload->n_states + 1) * sizeof *state->values);
    for (size_t i = 0; i < payload->n; i++) {
        const struct payload_place *place = &payload->places[i];

        if (place->kind == PLACE_WALK)
            state->values[place->state] = place->min + (place->max - place->min) * next_share(state);
        else if (place->kind == PLACE_BOOL)
            state->values[place->state] = 1;
    }
}

void payload_state_fini(struct payload_state *state)
{
    mem_free(state->values);
    state->values = NULL;
}

static double walk(const struct payload_place *place, struct payload_state *state)
{
    double *value = &state->values[place->state], span = place->max - place->min;

    *value += (next_share(state) - 0.5) * span * 0.05;
    *value = *value < place->min ? place->min : *value > place->max ? place->max : *value;
    return *value;
}

static struct str pick(const struct payload_place *place, struct payload_state *state)
{
    struct str rest = place->text, choice = STR_NONE;
    uint64_t skip = next_random(state) % 16;

    /* Three of four times the first. */
    for (skip = skip < 12 ? 0 : skip - 11; str_split(&rest, '|', &choice) && skip; skip--) {
        if (!rest.n)
            rest = place->text;
    }
    return choice;
}

void payload_add(struct buf *out, const struct payload *payload, struct payload_state *state, int64_t wall_ms,
                 uint64_t mono_us)
{
    for (size_t i = 0; i < payload->n; i++) {
        const struct payload_place *place = &payload->places[i];

        switch (place->kind) {
        case PLACE_TEXT:
            buf_add_str(out, place->text);
            break;
        case PLACE_DEVICE:
            buf_add_str(out, state->name);
            break;
        case PLACE_NUMBER:
            buf_printf(out, "%u", state->number);
            break;
        case PLACE_SEQ:
            buf_printf(out, "%llu", (unsigned long long)state->seq);
            break;
        case PLACE_TS:
            buf_printf(out, "%lld", (long long)wall_ms);
            break;
        case PLACE_SENT:
            buf_printf(out, "%llu", (unsigned long long)mono_us);
            break;
        case PLACE_WALK:
            buf_printf(out, "%.*f", (int)place->decimals, walk(place, state));
            break;
        case PLACE_INT:
            buf_printf(out, "%.0f", floor(place->min + (place->max - place->min + 1) * next_share(state)));
            break;
        case PLACE_BOOL:
            if (next_random(state) % 16 == 0)
                state->values[place->state] = state->values[place->state] == 0;
            buf_add_z(out, state->values[place->state] != 0 ? "true" : "false");
            break;
        case PLACE_PICK:
            buf_add_str(out, pick(place, state));
            break;
        }
    }
    state->seq++;
}
