/* SPDX-License-Identifier: Apache-2.0 */
/* The live picture of the platform stand-in on standard error: devices and rates, once a second. */
#include "platform.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PERIOD_MS = 1000 };

struct view {
    struct platform *platform;
    struct timer timer;
    bool is_terminal;
    uint64_t shown_us, n_values, n_entries;
    unsigned n_lines; /* of the last picture */
};

static int by_name(const void *a, const void *b)
{
    const struct tally_device *const *left = a, *const *right = b;

    return str_cmp((*left)->name, (*right)->name);
}

/* What comes from outside does not steer the terminal. */
static void add_clean(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        buf_add_u8(out, (unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f ? '?' : (uint8_t)text.p[i]);
}

static void add_name(struct buf *out, struct str name, unsigned width)
{
    size_t n = utf8_count(name);

    add_clean(out, n > width ? str_cut(name, utf8_offset(name, width)) : name);
    for (; n < width; n++)
        buf_add_u8(out, ' ');
}

/* Latest values, "temperature 21.4  running true", up to width bytes of text. */
static void add_latest(struct buf *out, const struct tally_values *values, size_t width)
{
    size_t start = out->n;

    for (uint32_t i = 0; i < values->n; i++) {
        const struct tally_value *value = &values->slots[i];

        if (value->role != TALLY_PLAIN)
            continue;
        if (out->n - start + value->key.n + value->n + 3 > width)
            return;
        add_clean(out, value->key);
        buf_add_u8(out, ' ');
        add_clean(out, str_of(value->text, value->n));
        buf_add_z(out, "  ");
    }
}

static struct tally_device **sorted(const struct tally *tally, size_t *n)
{
    struct tally_device **devices = mem_new((tally->devices.n + 1) * sizeof *devices);

    *n = 0;
    for (struct map_slot *slot = NULL; (slot = map_next(&tally->devices, slot));)
        devices[(*n)++] = slot->value;
    qsort(devices, *n, sizeof *devices, by_name);
    return devices;
}

static void add_devices(struct view *view, struct buf *out, unsigned rows, unsigned columns, double seconds)
{
    size_t n;
    struct tally_device **devices = sorted(&view->platform->tally, &n);
    size_t n_shown = n > rows ? rows : n;

    for (size_t i = 0; i < n; i++) {
        struct tally_device *device = devices[i];
        double rate = seconds > 0 ? (double)(device->n_entries - device->n_shown) / seconds : 0;

        device->n_shown = device->n_entries;
        if (i >= n_shown)
            continue;
        buf_add_z(out, "\033[K  \033[1m");
        add_name(out, device->name, 20);
        buf_printf(out, "\033[0m %7.1f/s %9llu  ", rate, (unsigned long long)device->n_entries);
        add_latest(out, &device->telemetry, columns > 48 ? columns - 48 : 0);
        buf_add_u8(out, '\n');
        view->n_lines++;
    }
    if (n > n_shown) {
        buf_printf(out, "\033[K  … and %zu more\n", n - n_shown);
        view->n_lines++;
    }
    mem_free(devices);
}

static void show(void *arg)
{
    struct view *view = arg;
    struct platform *platform = view->platform;
    const struct tally *tally = &platform->tally;
    uint64_t now_us = clock_mono_us();
    double seconds = view->shown_us ? (double)(now_us - view->shown_us) / 1e6 : 0;
    double values = seconds > 0 ? (double)(tally->n_values - view->n_values) / seconds : 0;
    double entries = seconds > 0 ? (double)(tally->n_entries - view->n_entries) / seconds : 0;
    struct winsize size = {.ws_row = 24, .ws_col = 100};
    autobuf struct buf out = {0};

    if (tally->n_values < view->n_values) /* after a reset */
        values = entries = 0;
    if (view->is_terminal) {
        (void)!ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
        if (view->n_lines)
            buf_printf(&out, "\033[%uA\r", view->n_lines);
        view->n_lines = 2;
        buf_printf(&out,
                   "\033[K  \033[1mPlatform\033[0m  %zu devices   %.0f messages/s   %.0f values/s   %llu values   "
                   "latency %.1f ms\n",
                   tally->devices.n, entries, values, (unsigned long long)tally->n_values,
                   (double)histogram_at(&tally->latency, 0.5) / 1000);
        buf_printf(&out, "\033[K  \033[2m%-20s %9s %9s  %s\033[0m\n", "device", "rate", "messages", "latest values");
        add_devices(view, &out, size.ws_row > 8 ? size.ws_row - 6u : 2, size.ws_col ? size.ws_col : 100, seconds);
        buf_add_z(&out, "\033[J");
    } else {
        buf_printf(&out, "platform: %zu devices, %.0f messages/s, %.0f values/s, %llu values, latency %.1f ms\n",
                   tally->devices.n, entries, values, (unsigned long long)tally->n_values,
                   (double)histogram_at(&tally->latency, 0.5) / 1000);
    }
    view->shown_us = now_us;
    view->n_values = tally->n_values;
    view->n_entries = tally->n_entries;
    fwrite(out.p, 1, out.n, stderr);
}

struct view *view_start(struct platform *platform)
{
    struct view *view = mem_zero(sizeof *view);

    view->platform = platform;
    view->is_terminal = isatty(STDERR_FILENO) == 1;
    timer_init(&view->timer, platform->loop, show, view);
    timer_start_periodic(&view->timer, PERIOD_MS, PERIOD_MS);
    return view;
}

void view_stop(struct view *view)
{
    if (!view)
        return;
    timer_stop(&view->timer);
    mem_free(view);
}
