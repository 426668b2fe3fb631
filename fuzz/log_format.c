/* SPDX-License-Identifier: Apache-2.0 */
/* Formatters of logs.json: format, date format and the line's message, a line feed between them; and the name of a log's file. */
#include "fuzz.h"
#include "gateway/log_format.h"
#include "gateway/logging.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct log_place place = {"src/a/b.c", "f", 7};
    struct str rest = str_of(data, size), format = fuzz_part(&rest), datefmt = fuzz_part(&rest);
    struct arena arena;
    autobuf struct buf out = {0}, name = {0};

    arena_init(&arena, 512);
    log_format_put(log_format_new(&arena, format, datefmt),
                   &(struct log_line){.level = LOG_LEVEL_INFO,
                                      .logger = rest,
                                      .message = rest,
                                      .place = &place,
                                      .wall_ms = 1700000000123,
                                      .thread = "main"},
                   &out);
    /* Each placeholder takes four bytes at least, and gives a bounded text or the line's own. */
    FUZZ_CHECK(out.n <= format.n + (format.n / 4 + 1) * (rest.n + 600));
    (void)log_format_unknown(format);
    logging_file_name(&name, rest);
    FUZZ_CHECK(name.n > 0 && name.n < 200 && !memchr(name.p, '/', name.n) && !memchr(name.p, '.', name.n));
    arena_fini(&arena);
    return 0;
}
