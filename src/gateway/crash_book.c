/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/crash_book.h"

#include "data/json.h"

#include <inttypes.h>
#include <stdio.h>

enum { ROW_S = 10 * 60, FIRST_PAUSE_S = 60, LONGEST_PAUSE_S = 60 * 60 };

static void copy(char *to, size_t size, struct str from)
{
    snprintf(to, size, STR_FMT, STR_ARG(str_cut(from, size - 1)));
}

static bool read_record(struct crash_record *record, struct str line)
{
    yyjson_doc *doc = yyjson_read(line.p, line.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc);
    int64_t signal = 0;
    bool is_right = yyjson_is_obj(root) && !json_to_i64(json_get(root, STR("at")), &record->at_s) &&
                    !json_to_i64(json_get(root, STR("signal")), &signal) && signal > 0 && signal < 128;

    record->signal = (int)signal;
    copy(record->where, sizeof record->where, json_str(json_get(root, STR("where"))));
    copy(record->connector, sizeof record->connector, json_str(json_get(root, STR("connector"))));
    copy(record->type, sizeof record->type, json_str(json_get(root, STR("type"))));
    yyjson_doc_free(doc);
    return is_right;
}

/* Before those that are newer; the oldest gives way. */
static void insert(struct crash_book *book, const struct crash_record *record)
{
    size_t at = book->n;

    while (at > 0 && book->records[at - 1].at_s > record->at_s)
        at--;
    if (book->n == CRASH_KEPT) {
        if (at == 0)
            return;
        memmove(&book->records[0], &book->records[1], --at * sizeof *record);
    } else {
        memmove(&book->records[at + 1], &book->records[at], (book->n++ - at) * sizeof *record);
    }
    book->records[at] = *record;
}

void crash_book_read(struct crash_book *book, struct str text, int64_t now_s)
{
    struct str line;

    *book = (struct crash_book){0};
    while (str_split(&text, '\n', &line)) {
        struct crash_record record;

        line = str_trim(line);
        if (line.n && read_record(&record, line) && record.at_s <= now_s && record.at_s > now_s - CRASH_FORGET_S)
            insert(book, &record);
    }
}

static void print_record(struct buf *out, const struct crash_record *record)
{
    buf_printf(out, "{\"at\":%" PRId64 ",\"signal\":%d,\"where\":", record->at_s, record->signal);
    json_add_string(out, str_from(record->where));
    if (*record->connector) {
        buf_add_z(out, ",\"connector\":");
        json_add_string(out, str_from(record->connector));
        buf_add_z(out, ",\"type\":");
        json_add_string(out, str_from(record->type));
    }
    buf_add_u8(out, '}');
}

void crash_book_print(struct buf *out, const struct crash_book *book)
{
    for (size_t i = 0; i < CRASH_LINES; i++) {
        autobuf struct buf line = {0};

        if (i < book->n)
            print_record(&line, &book->records[i]);
        if (line.n >= CRASH_LINE) /* a name all of control characters */
            line.n = 0;
        while (line.n < CRASH_LINE - 1)
            buf_add_u8(&line, ' ');
        buf_add_u8(&line, '\n');
        buf_add_str(out, buf_str(&line));
    }
}

static int64_t pause_of(unsigned n)
{
    int64_t pause = FIRST_PAUSE_S;

    if (n < 2)
        return 0;
    while (n-- > 2 && pause < LONGEST_PAUSE_S)
        pause *= 2;
    return pause < LONGEST_PAUSE_S ? pause : LONGEST_PAUSE_S;
}

struct crash_verdict crash_book_judge(const struct crash_book *book, struct str connector)
{
    struct crash_verdict verdict = {0};

    for (size_t i = 0; i < book->n; i++) {
        const struct crash_record *record = &book->records[i];

        if (!connector.n || !str_eq_z(str_cut(connector, sizeof record->connector - 1), record->connector))
            continue;
        if (verdict.last && record->at_s - verdict.last->at_s > ROW_S + pause_of(verdict.n))
            verdict.n = 0; /* it has run for long enough since */
        verdict.n++;
        verdict.last = record;
    }
    if (verdict.n >= 2)
        verdict.until_s = verdict.last->at_s + pause_of(verdict.n);
    return verdict;
}
