/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_fault.h"

static const struct {
    const char *name;
    bool has_number;
} kinds[FAULTS] = {
    [FAULT_DELAY] = {"delay", true},         [FAULT_LATE] = {"late", true},      [FAULT_DROP] = {"drop", false},
    [FAULT_EXCEPTION] = {"exception", true}, [FAULT_LENGTH] = {"length", false}, [FAULT_CUT] = {"cut", false},
    [FAULT_SPLIT] = {"split", false},        [FAULT_TID] = {"tid", false},       [FAULT_UNIT] = {"unit", false},
    [FAULT_CHECK] = {"check", false},        [FAULT_TWICE] = {"twice", false},   [FAULT_NOISE] = {"noise", false},
    [FAULT_HANGUP] = {"hangup", false},
};

static bool take_number(struct str text, uint64_t max, uint64_t *out)
{
    return str_to_u64(text, out) == ERR_OK && *out <= max;
}

static NODISCARD enum err take_where(struct fault_rule *rule, struct str word, struct why *why)
{
    struct str rest = word, name;
    uint64_t number;

    if (!str_split(&rest, '=', &name) || !take_number(rest, 65535, &number) ||
        (!str_eq(name, STR("unit")) && !str_eq(name, STR("port"))))
        return why_set(why, ERR_USAGE, STR_FMT ": unit=N or port=N", STR_ARG(word));
    if (str_eq(name, STR("unit")))
        rule->unit = (int)number;
    else
        rule->port = (int)number;
    return ERR_OK;
}

static NODISCARD enum err take_numbers(struct fault_rule *rule, struct str word, struct why *why)
{
    struct str rest = word, first;
    uint64_t number = 0, percent = 100;
    bool is_right = str_split(&rest, ':', &first) && take_number(first, 3600000, &number);

    if (is_right && first.n < word.n)
        is_right = kinds[rule->kind].has_number && take_number(rest, 100, &percent);
    if (is_right && !kinds[rule->kind].has_number) {
        percent = number;
        number = 1;
        is_right = percent <= 100;
    }
    rule->value = (uint32_t)number;
    rule->percent = (uint32_t)percent;
    return is_right ? ERR_OK
                    : why_set(why, ERR_USAGE, STR_FMT ": a number, and behind a colon a percentage", STR_ARG(word));
}

enum err faults_add(struct faults *faults, struct str text, struct why *why)
{
    struct fault_rule rule = {.unit = -1, .port = -1};
    struct str word;
    unsigned n = 0;

    if (faults->n == COUNT_OF(faults->rules))
        return why_set(why, ERR_LIMIT, "there are %zu faults already; heal takes them away", faults->n);
    while (str_split(&text, ' ', &word)) {
        enum err err = ERR_OK;

        if (!word.n)
            continue;
        if (n == 0) {
            for (; rule.kind < FAULTS && !str_eq_z(word, kinds[rule.kind].name); rule.kind++)
                ;
            if (rule.kind == FAULTS)
                return why_set(why, ERR_USAGE, STR_FMT ": no such fault", STR_ARG(word));
        } else if (n == 1) {
            err = take_numbers(&rule, word, why);
        } else {
            err = take_where(&rule, word, why);
        }
        if (err)
            return err;
        n++;
    }
    if (n < 2)
        return why_set(why, ERR_USAGE, "fault KIND NUMBER[:PERCENT] [unit=N] [port=N]");
    faults->rules[faults->n++] = rule;
    return ERR_OK;
}

static uint32_t roll(struct faults *faults)
{
    faults->dice = faults->dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(faults->dice >> 33) % 100;
}

void faults_ask(struct faults *faults, uint8_t unit, unsigned port, struct fault_verdict *verdict)
{
    *verdict = (struct fault_verdict){{0}};
    for (size_t i = 0; i < faults->n; i++) {
        const struct fault_rule *rule = &faults->rules[i];

        if ((rule->unit < 0 || rule->unit == unit) && (rule->port < 0 || rule->port == (int)port) &&
            roll(faults) < rule->percent)
            verdict->values[rule->kind] = rule->value;
    }
}
