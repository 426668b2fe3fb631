/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_BOOTS_H
#define IOTGW_FILE_BOOTS_H
/*
 * Times since the machine's boot (RECORD_TIME_UNSURE) in what earlier boots of the machine have left. Where a group of the same boot
 * shows that the clock was set later, it says when that boot was, and times become real ones. Else nobody knows how long the
 * machine was off: such a boot is taken to have ended when the next one began, so its times become ms before this boot, which
 * are negative, stay unsure, and are corrected with those of this boot. No two boots overlap. One thread.
 */
#include "store/file_format.h"

struct machine_boot {
    uint8_t machine[16];
    bool has_unsure, is_known; /* known: offset_ms, wall less monotonic clock */
    int64_t end_ms;            /* latest time since boot that was seen */
    int64_t offset_ms;         /* after boots_settle: what is added to its times */
};

struct boots {
    struct machine_boot *all; /* in the order of first sight */
    size_t n;
    uint8_t ours[16];
};

void boots_init(struct boots *boots);
void boots_fini(struct boots *boots);
size_t boots_add(struct boots *boots, const uint8_t *machine); /* all zero: not known, never ours; gives its number */
void boots_note_group(struct boots *boots, size_t number, const struct group_head *group, int64_t earliest_ms);
void boots_note_record(struct boots *boots, size_t number, const struct record *record);
void boots_settle(struct boots *boots); /* after all was noted, before the first boots_adopt */
/* Its time and flags; it must be sealed again. */
void boots_adopt(const struct boots *boots, size_t number, struct record *record);
#endif
