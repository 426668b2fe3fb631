/* SPDX-License-Identifier: Apache-2.0 */
/* What the report filter costs: ns a value, and bytes for each value remembered.   report_bench [devices] [keys] [rounds] */
#include "connector/report.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

enum { KEYS_MAX = 1000 };
enum pattern { PATTERN_SAME, PATTERN_NEAR, PATTERN_CHANGED };

static struct str keys[KEYS_MAX];

/* Values of a round, as final texts: equal, fractions within the tolerance, or different from round to round. */
static struct str text_of(enum pattern pattern, unsigned key, unsigned round, char out[32])
{
    static const unsigned steps[] = {[PATTERN_SAME] = 0, [PATTERN_NEAR] = 1, [PATTERN_CHANGED] = 1000};

    return str_of(out, (size_t)snprintf(out, 32, "%u.%04u", 20 + key, 1000 + steps[pattern] * (round % 2)));
}

static double measure(struct report *report, struct device *const *devices, unsigned n_devices, unsigned n_keys,
                      unsigned rounds, enum pattern pattern)
{
    static char texts[2][KEYS_MAX][32];
    static struct str values[2][KEYS_MAX];
    struct event event;
    double begin;

    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < n_keys; k++)
            values[i][k] = text_of(pattern, k, i, texts[i][k]);
    event_init(&event);
    begin = now_ns();
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned d = 0; d < n_devices; d++) {
            event_begin(&event, devices[d], STR_NONE);
            for (unsigned k = 0; k < n_keys; k++)
                event_add(&event, RECORD_TELEMETRY, keys[k], values[round % 2][k], 1);
            if (report)
                (void)report_filter(report, &event, 1000 + round);
        }
    begin = (now_ns() - begin) / rounds / n_devices / n_keys;
    event_fini(&event);
    return begin;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"equal", "within the tolerance", "changed"};
    unsigned n_devices = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000,
             n_keys = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 10,
             rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 200;
    const struct report_outer outer = report_outer(&report_on_change, NULL);
    struct device **devices = mem_new((n_devices + 1) * sizeof *devices);
    struct report *report = report_new(&outer);
    struct arena arena;
    size_t before;
    double bare;

    n_keys = n_keys < KEYS_MAX ? n_keys : KEYS_MAX;
    arena_init(&arena, 0);
    for (unsigned k = 0; k < n_keys; k++)
        if (event_key(&arena, arena_printf(&arena, "key %u", k), &keys[k], NULL))
            return 1;
    for (unsigned d = 0; d < n_devices; d++)
        devices[d] = device_get(arena_printf(&arena, "device %u", d));
    bare = measure(NULL, devices, n_devices, n_keys, rounds, PATTERN_SAME);
    before = mallinfo2().uordblks;
    (void)measure(report, devices, n_devices, n_keys, 1, PATTERN_SAME);
    printf("%u devices, %u keys: %.1f bytes a value\n", n_devices, n_keys,
           (double)(mallinfo2().uordblks - before) / n_devices / n_keys);
    for (unsigned i = 0; i < COUNT_OF(names); i++)
        printf("%-22s %6.1f ns a value\n", names[i],
               measure(report, devices, n_devices, n_keys, rounds, (enum pattern)i) - bare);
    report_free(report);
    arena_fini(&arena);
    mem_free(devices);
    return 0;
}
