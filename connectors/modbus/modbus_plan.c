/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_plan.h"

#include <stdlib.h>

/* Largest address that a run of values may reach, and how far it goes now. */
struct run {
    uint32_t first, end, limit;
};

static uint32_t limit_of(const struct modbus_plan *plan, const struct modbus_read *read)
{
    if (modbus_reads_coils(read->function_code))
        return plan->max_bits;
    return read->limit && read->limit < plan->max_registers ? read->limit : plan->max_registers;
}

static int by_address(const void *a, const void *b, void *arg)
{
    const struct modbus_read *reads = arg, *x = &reads[*(const uint32_t *)a], *y = &reads[*(const uint32_t *)b];

    if (x->function_code != y->function_code)
        return x->function_code < y->function_code ? -1 : 1;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    if (x->span != y->span)
        return x->span < y->span ? -1 : 1;
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

void modbus_plan_init(struct modbus_plan *plan, const struct modbus_slave *limits, const struct modbus_read *reads,
                      size_t n)
{
    *plan = (struct modbus_plan){.reads = reads,
                                 .n = n,
                                 .max_gap = limits->max_gap,
                                 .max_registers = limits->max_registers,
                                 .max_bits = limits->max_bits,
                                 .merges = limits->merges,
                                 .next_change_ms = UINT64_MAX};
    plan->order = mem_zero((n + 1) * sizeof *plan->order);
    plan->sorted = mem_zero((n + 1) * sizeof *plan->sorted);
    plan->states = mem_zero((n + 1) * sizeof *plan->states);
    plan->blocks = mem_zero((n + 1) * sizeof *plan->blocks);
    for (size_t i = 0; i < n; i++)
        plan->sorted[i] = (uint32_t)i;
    qsort_r(plan->sorted, n, sizeof *plan->sorted, by_address, (void *)(uintptr_t)reads);
}

void modbus_plan_fini(struct modbus_plan *plan)
{
    mem_free(plan->order);
    mem_free(plan->sorted);
    mem_free(plan->states);
    mem_free(plan->blocks);
    mem_free(plan->memory);
    *plan = (struct modbus_plan){0};
}

static bool is_left_alone(const struct modbus_plan *plan, size_t read, uint64_t now_ms)
{
    return plan->states[read].bad_until_ms > now_ms;
}

/* Whether an address that a value was refused for lies in the gap: then it stays out of the request. */
static bool gap_is_bad(const struct modbus_plan *plan, size_t from, size_t to, uint32_t end, uint32_t address)
{
    for (size_t k = from; k < to; k++) {
        const struct modbus_read *between = &plan->reads[plan->sorted[k]];

        if (plan->states[plan->sorted[k]].bad_until_ms && between->address < address &&
            (uint32_t)between->address + between->span > end)
            return true;
    }
    return false;
}

/* Whether the value at place k of the sorted ones may be read with the run that ends before it; last: the place of its newest. */
static bool fits(const struct modbus_plan *plan, const struct run *run, const struct modbus_block *block, size_t last,
                 size_t k, uint32_t *limit)
{
    size_t at = plan->sorted[k];
    const struct modbus_read *read = &plan->reads[at];
    uint32_t end = (uint32_t)read->address + read->span, own = limit_of(plan, read);
    uint32_t gap = modbus_reads_coils(read->function_code) ? 2 * plan->max_gap : plan->max_gap;

    *limit = own < run->limit ? own : run->limit;
    if (!plan->merges || read->function_code != block->function_code || plan->states[at].is_cut ||
        plan->states[at].bad_until_ms || block->is_probe)
        return false;
    if (read->address > run->end &&
        (read->address - run->end > gap || gap_is_bad(plan, last + 1, k, run->end, read->address)))
        return false;
    return (end > run->end ? end : run->end) - run->first <= *limit;
}

static void end_block(struct modbus_plan *plan, struct modbus_block *block, const struct run *run)
{
    uint32_t most = modbus_reads_coils(block->function_code) ? plan->max_bits & ~7u : plan->max_registers;

    if (!most)
        most = plan->max_bits; /* fewer than 8: whole bytes cannot be put together, so that one request must do */
    block->count = (uint16_t)(run->end - run->first);
    block->piece = (uint16_t)(block->count <= run->limit || block->count <= most ? block->count : most);
}

void modbus_plan_build(struct modbus_plan *plan, uint64_t now_ms)
{
    struct modbus_block *block = NULL;
    struct run run = {0};
    size_t last = 0, n_order = 0, n_bytes = 0;
    uint32_t limit;

    if (plan->cuts_end_ms && now_ms >= plan->cuts_end_ms) {
        for (size_t i = 0; i < plan->n; i++)
            plan->states[i].is_cut = false;
        plan->cuts_end_ms = 0;
    }
    plan->n_blocks = 0;
    plan->next_change_ms = UINT64_MAX;
    for (size_t k = 0; k < plan->n; k++) {
        size_t at = plan->sorted[k];
        const struct modbus_read *read = &plan->reads[at];
        uint32_t end = (uint32_t)read->address + read->span;

        if (is_left_alone(plan, at, now_ms)) {
            if (plan->states[at].bad_until_ms < plan->next_change_ms)
                plan->next_change_ms = plan->states[at].bad_until_ms;
            continue;
        }
        if (!block || !fits(plan, &run, block, last, k, &limit)) {
            if (block)
                end_block(plan, block, &run);
            block = &plan->blocks[plan->n_blocks++];
            *block = (struct modbus_block){.function_code = read->function_code,
                                           .address = read->address,
                                           .first = n_order,
                                           .is_probe = plan->states[at].bad_until_ms != 0};
            run = (struct run){read->address, end, limit_of(plan, read)};
        } else {
            run.limit = limit;
            if (end > run.end)
                run.end = end;
        }
        block->n++;
        plan->order[n_order++] = (uint32_t)at;
        last = k;
    }
    if (block)
        end_block(plan, block, &run);
    for (size_t b = 0; b < plan->n_blocks; b++)
        n_bytes += 2u * plan->blocks[b].count;
    plan->memory = mem_grow(plan->memory, n_bytes + 1);
    n_bytes = 0;
    for (size_t b = 0; b < plan->n_blocks; b++) {
        plan->blocks[b].data = plan->memory + n_bytes;
        n_bytes += 2u * plan->blocks[b].count;
    }
}

/* Cuts where there is a gap; false: there is none. */
static bool cut(struct modbus_plan *plan, const struct modbus_block *block, bool everywhere)
{
    uint32_t end = 0;
    bool has_cut = false;

    for (size_t i = 0; i < block->n; i++) {
        size_t at = modbus_plan_read_at(plan, block, i);
        const struct modbus_read *read = &plan->reads[at];

        if (i && (everywhere || read->address > end))
            has_cut = plan->states[at].is_cut = true;
        if ((uint32_t)read->address + read->span > end)
            end = (uint32_t)read->address + read->span;
    }
    return has_cut;
}

void modbus_plan_learn(struct modbus_plan *plan, const struct modbus_block *block, const bool *is_bad, uint64_t now_ms,
                       uint32_t first_pause_ms)
{
    bool has_bad = false;

    for (size_t i = 0; i < block->n; i++) {
        if (!is_bad[i])
            continue;
        has_bad = true;
        (void)modbus_plan_bad(plan, modbus_plan_read_at(plan, block, i), now_ms, first_pause_ms);
    }
    if (has_bad)
        return;
    plan->cuts_end_ms = now_ms + MODBUS_CUT_MS;
    if (!cut(plan, block, false))
        (void)cut(plan, block, true);
}

bool modbus_plan_bad(struct modbus_plan *plan, size_t read, uint64_t now_ms, uint32_t first_pause_ms)
{
    struct modbus_plan_read *state = &plan->states[read];
    bool is_news = !state->bad_until_ms;

    if (is_news)
        state->pause_ms = first_pause_ms < MODBUS_BAD_MAX_MS ? first_pause_ms : MODBUS_BAD_MAX_MS;
    state->bad_until_ms = now_ms + state->pause_ms;
    state->pause_ms = state->pause_ms < MODBUS_BAD_MAX_MS / 2 ? state->pause_ms * 2 : MODBUS_BAD_MAX_MS;
    if (state->bad_until_ms < plan->next_change_ms)
        plan->next_change_ms = state->bad_until_ms;
    return is_news;
}

bool modbus_plan_well(struct modbus_plan *plan, size_t read)
{
    bool is_news = plan->states[read].bad_until_ms != 0;

    plan->states[read].bad_until_ms = 0;
    return is_news;
}

size_t modbus_plan_bad_count(const struct modbus_plan *plan)
{
    size_t n = 0;

    for (size_t i = 0; i < plan->n; i++)
        n += plan->states[i].bad_until_ms != 0;
    return n;
}

bool modbus_plan_silent(struct modbus_plan *plan, size_t read, uint64_t now_ms, uint32_t first_pause_ms)
{
    struct modbus_plan_read *state = &plan->states[read];
    bool is_news = !state->silence_ms;

    if (is_news)
        state->silence_ms = first_pause_ms < MODBUS_BAD_MAX_MS ? first_pause_ms : MODBUS_BAD_MAX_MS;
    state->silent_until_ms = now_ms + state->silence_ms;
    state->silence_ms = state->silence_ms < MODBUS_BAD_MAX_MS / 2 ? state->silence_ms * 2 : MODBUS_BAD_MAX_MS;
    return is_news;
}

bool modbus_plan_heard(struct modbus_plan *plan, size_t read)
{
    bool is_news = plan->states[read].silence_ms != 0;

    plan->states[read].silent_until_ms = 0;
    plan->states[read].silence_ms = 0;
    return is_news;
}
