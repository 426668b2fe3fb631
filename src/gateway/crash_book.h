/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CRASH_BOOK_H
#define IOTGW_CRASH_BOOK_H
/*
 * The records of faults, and what follows from them: a connector that has ended the program twice within ten minutes is held back, for
 * a minute at first, and twice as long each further time, up to an hour. Pure.
 *
 * A record is a line: {"at":seconds,"signal":11,"where":"iotgw-x.so+0x12","connector":"Plant","type":"x"}; without a connector it
 * was the gateway's own turn. Lines are as long as each other, filled up with blanks.
 */
#include "base/buf.h"

enum { CRASH_LINE = 1024, CRASH_LINES = 32, CRASH_KEPT = 24, CRASH_FORGET_S = 24 * 60 * 60 };

struct crash_record {
    int64_t at_s;
    int signal;
    char where[120], connector[256], type[64]; /* connector empty: none */
};
struct crash_book {
    struct crash_record records[CRASH_KEPT]; /* oldest first */
    size_t n;
};
/* Lines that are no records are left out; so is what is older than a day, or of a time to come. */
void crash_book_read(struct crash_book *book, struct str text, int64_t now_s);
/* CRASH_LINES lines: the records, and blank ones. */
void crash_book_print(struct buf *out, const struct crash_book *book);

struct crash_verdict {
    unsigned n;      /* faults in a row; 0: none */
    int64_t until_s; /* held back until then; 0: not at all */
    const struct crash_record *last;
};
struct crash_verdict crash_book_judge(const struct crash_book *book, struct str connector);
#endif
