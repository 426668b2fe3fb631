/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to devices at a steady rate, whether answers come or not, and how long those take. */
#include "platform.h"

#include "base/clock.h"
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOAD_MAX = 1000000, UNANSWERED = UINT32_MAX };

struct load {
    struct platform *platform;
    struct timer tick;
    uint64_t first; /* id of the first request */
    uint64_t n, n_sent, n_answered, n_twice, n_failed, rate, devices, start_us, end_us;
    uint64_t *sent_us;
    uint32_t *took_us; /* UNANSWERED: not yet */
};

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

void platform_load_add(const struct platform *platform, struct buf *out)
{
    const struct load *load = platform->load;
    uint32_t *took;
    uint64_t n = 0, end;

    if (!load)
        return;
    took = mem_new((load->n + 1) * sizeof *took);
    for (uint64_t i = 0; i < load->n; i++)
        if (load->took_us[i] != UNANSWERED)
            took[n++] = load->took_us[i];
    qsort(took, n, sizeof *took, by_size);
    end = load->end_us ? load->end_us : clock_mono_us();
    buf_printf(out, "\"requests\":%llu,\"answered\":%llu,\"twice\":%llu,\"failed\":%llu,\"seconds\":%.3f",
               (unsigned long long)load->n_sent, (unsigned long long)load->n_answered,
               (unsigned long long)load->n_twice, (unsigned long long)load->n_failed,
               (double)(end - load->start_us) / 1e6);
    if (n)
        buf_printf(out, ",\"lat_p50_ms\":%.3f,\"lat_p99_ms\":%.3f,\"lat_max_ms\":%.3f", took[n / 2] / 1e3,
                   took[n * 99 / 100] / 1e3, took[n - 1] / 1e3);
    mem_free(took);
}

static void say_end(struct load *load)
{
    autobuf struct buf line = {0};

    load->end_us = clock_mono_us();
    timer_stop(&load->tick);
    buf_add_z(&line, "{\"event\":\"answered\",");
    platform_load_add(load->platform, &line);
    buf_add_u8(&line, '}');
    line_say(&line);
}

static void send_request(struct load *load, uint64_t i)
{
    char text[160];
    int n =
        snprintf(text, sizeof text,
                 "{\"device\":\"dev%05llu\",\"data\":{\"id\":%llu,\"method\":\"echo\",\"params\":{\"i\":%llu}}}",
                 (unsigned long long)(i % load->devices), (unsigned long long)(load->first + i), (unsigned long long)i);

    load->sent_us[i] = clock_mono_us();
    platform_send(load->platform, STR("v1/gateway/rpc"), str_of(text, (size_t)n));
}

static void on_tick(void *arg)
{
    struct load *load = arg;
    uint64_t due = (clock_mono_us() - load->start_us) * load->rate / 1000000 + 1;

    for (; load->n_sent < due && load->n_sent < load->n; load->n_sent++)
        send_request(load, load->n_sent);
    if (load->n_sent == load->n)
        timer_stop(&load->tick);
}

bool platform_load_replied(struct platform *platform, yyjson_val *root)
{
    struct load *load = platform->load;
    yyjson_val *data = yyjson_obj_get(root, "data"), *number = yyjson_obj_get(root, "id");
    uint64_t id;

    if (!load || load->end_us || !yyjson_is_raw(number) ||
        str_to_u64(str_of(yyjson_get_raw(number), yyjson_get_len(number)), &id) || id < load->first ||
        id - load->first >= load->n_sent)
        return false;
    id -= load->first;
    if (load->took_us[id] != UNANSWERED) {
        load->n_twice++;
        return true;
    }
    load->took_us[id] = (uint32_t)(clock_mono_us() - load->sent_us[id]);
    load->n_failed += !yyjson_obj_get(data, "i");
    if (++load->n_answered == load->n)
        say_end(load);
    return true;
}

enum err platform_load_start(struct platform *platform, struct str rest, struct why *why)
{
    uint64_t numbers[3];
    struct load *load;
    struct str word;

    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        if (!str_split(&rest, ' ', &word) || str_to_u64(word, &numbers[i]) || !numbers[i] || numbers[i] > LOAD_MAX)
            return why_set(why, ERR_USAGE, "requests N RATE DEVICES, each from 1 to %d", LOAD_MAX);
    platform_load_free(platform);
    platform->load = load = mem_zero(sizeof *load);
    load->platform = platform;
    load->n = numbers[0];
    load->rate = numbers[1];
    load->devices = numbers[2];
    load->first = platform->next_load_id;
    platform->next_load_id += load->n;
    load->sent_us = mem_new(load->n * sizeof *load->sent_us);
    load->took_us = mem_new(load->n * sizeof *load->took_us);
    memset(load->took_us, 0xff, load->n * sizeof *load->took_us);
    load->start_us = clock_mono_us();
    timer_init(&load->tick, platform->loop, on_tick, load);
    timer_start_periodic(&load->tick, 1, 1);
    return ERR_OK;
}

void platform_load_free(struct platform *platform)
{
    struct load *load = platform->load;

    if (!load)
        return;
    timer_stop(&load->tick);
    mem_free(load->sent_us);
    mem_free(load->took_us);
    mem_free(load);
    platform->load = NULL;
}
