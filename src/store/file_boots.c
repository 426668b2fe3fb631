/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_boots.h"

static bool is_ours(const struct boots *boots, const struct machine_boot *boot)
{
    static const uint8_t unknown[16];

    return memcmp(boot->machine, boots->ours, sizeof unknown) == 0 && memcmp(boot->machine, unknown, sizeof unknown);
}

void boots_init(struct boots *boots)
{
    *boots = (struct boots){0};
    segment_machine(boots->ours);
}

void boots_fini(struct boots *boots)
{
    mem_free(boots->all);
    *boots = (struct boots){0};
}

size_t boots_add(struct boots *boots, const uint8_t *machine)
{
    for (size_t i = 0; i < boots->n; i++)
        if (memcmp(boots->all[i].machine, machine, sizeof boots->ours) == 0)
            return i;
    boots->all = mem_grow(boots->all, (boots->n + 1) * sizeof *boots->all);
    boots->all[boots->n] = (struct machine_boot){0};
    memcpy(boots->all[boots->n].machine, machine, sizeof boots->ours);
    return boots->n++;
}

/* The latest counts: a clock may have been set more than once. */
void boots_note_group(struct boots *boots, size_t number, const struct group_head *group, int64_t earliest_ms)
{
    struct machine_boot *boot = &boots->all[number];

    if (!group->up_tenths || group->wall_ms < earliest_ms)
        return;
    boot->offset_ms = group->wall_ms - (int64_t)group->up_tenths * 100;
    boot->is_known = true;
}

void boots_note_record(struct boots *boots, size_t number, const struct record *record)
{
    struct machine_boot *boot = &boots->all[number];

    if (LIKELY(!(record->flags & RECORD_TIME_UNSURE)))
        return;
    if (!boot->has_unsure || record->ts > boot->end_ms)
        boot->end_ms = record->ts;
    boot->has_unsure = true;
}

void boots_settle(struct boots *boots)
{
    bool is_known = false;
    int64_t next_ms = 0; /* when the boot behind began: since ours, or since the epoch */

    for (size_t i = boots->n; i-- > 0;) {
        struct machine_boot *boot = &boots->all[i];

        if (is_ours(boots, boot)) {
            *boot = (struct machine_boot){0};
            continue;
        }
        if (!boot->has_unsure)
            continue;
        if (!boot->is_known) {
            boot->offset_ms = next_ms - boot->end_ms - 1;
            boot->is_known = is_known;
        }
        is_known = boot->is_known;
        next_ms = boot->offset_ms;
    }
}

void boots_adopt(const struct boots *boots, size_t number, struct record *record)
{
    const struct machine_boot *boot = &boots->all[number];

    if (LIKELY(!(record->flags & RECORD_TIME_UNSURE)))
        return;
    record->ts += boot->offset_ms;
    if (boot->is_known)
        record->flags &= (uint16_t)~RECORD_TIME_UNSURE;
}
