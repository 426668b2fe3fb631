/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/statistics.h"

#include "base/clock.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PROC_MAX = 64 * 1024 };

void statistics_size(struct buf *out, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double size = (double)bytes;
    size_t i = 0;

    for (; size >= 1024 && i < sizeof units - 2; i++)
        size /= 1024;
    buf_printf(out, "%.1f%c", size, units[i]);
}

/* The number behind "\nName:" of a file of /proc, in bytes; kB is what these files count in. */
static uint64_t field_bytes(struct str text, const char *name)
{
    size_t at = str_find(text, str_from(name), 0);
    struct str rest = str_skip(text, at < text.n ? at + strlen(name) : text.n);
    struct str line = str_trim(str_cut(rest, str_chr(rest, '\n')));
    uint64_t value = 0;

    if (str_to_u64(str_cut(line, str_chr(line, ' ')), &value))
        return 0;
    return value * 1024;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* Where its part of the machine is bounded (a container), that counts. */
static uint64_t all_memory(uint64_t total)
{
    uint64_t here = uv_get_constrained_memory();

    return here && here < total ? here : total;
}

static void add_memory(struct buf *out, uint64_t total)
{
    uint64_t pages[7] = {0}, page = (uint64_t)sysconf(_SC_PAGESIZE);
    autobuf struct buf statm = {0}, rollup = {0};
    struct str rest;
    static const char *const names[] = {"vms", "rss", "shared", "text", "lib", "data", "dirty"};

    if (file_read(&statm, "/proc/self/statm", PROC_MAX, NULL))
        statm.n = 0;
    rest = buf_str(&statm);
    for (size_t i = 0; i < COUNT_OF(pages); i++) {
        struct str part;

        if (!str_split(&rest, ' ', &part) || str_to_u64(str_trim(part), &pages[i]))
            break;
    }
    if (file_read(&rollup, "/proc/self/smaps_rollup", PROC_MAX, NULL))
        rollup.n = 0;
    buf_printf(out, ",\"gwMemory\":%.2f,\"gwProcessMemoryFullInfo\":{", percent(pages[1] * page, total));
    for (size_t i = 0; i < COUNT_OF(pages); i++)
        buf_printf(out, "\"%s\":%llu,", names[i], (unsigned long long)(pages[i] * page));
    buf_printf(out, "\"uss\":%llu,\"pss\":%llu,\"swap\":%llu}",
               (unsigned long long)(field_bytes(buf_str(&rollup), "\nPrivate_Clean:") +
                                    field_bytes(buf_str(&rollup), "\nPrivate_Dirty:")),
               (unsigned long long)field_bytes(buf_str(&rollup), "\nPss:"),
               (unsigned long long)field_bytes(buf_str(&rollup), "\nSwap:"));
}

static double cpu_usage(struct machine_clock *since)
{
    struct rusage usage;
    uint64_t now = clock_mono_us(), cpu, passed = now - since->mono_us, used;

    if (getrusage(RUSAGE_SELF, &usage))
        return 0;
    cpu = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
          (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    used = cpu - since->cpu_us;
    *since = (struct machine_clock){now, cpu};
    return passed ? 100.0 * (double)used / (double)passed : 0;
}

void statistics_machine(struct buf *out, struct machine_clock *since)
{
    struct statvfs disk = {0};
    double load[3] = {0};
    autobuf struct buf meminfo = {0};
    uint64_t total, available, used_blocks, free_bytes;

    if (statvfs("/", &disk))
        disk = (struct statvfs){0};
    used_blocks = disk.f_blocks - disk.f_bfree;
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (getloadavg(load, 3) < 3)
        load[2] = 0;
    buf_add_u8(&meminfo, '\n');
    if (file_read(&meminfo, "/proc/meminfo", PROC_MAX, NULL))
        meminfo.n = 0;
    total = field_bytes(buf_str(&meminfo), "\nMemTotal:");
    available = field_bytes(buf_str(&meminfo), "\nMemAvailable:");
    buf_printf(out, "\"totalCpuUsage\":%.2f,\"diskUsage\":%.1f,\"freeMemory\":%.1f,\"freeDisk\":\"",
               100 * load[2] / (double)uv_available_parallelism(),
               percent(used_blocks, used_blocks + (uint64_t)disk.f_bavail), percent(total - available, total));
    statistics_size(out, free_bytes);
    buf_printf(out, "\",\"gwProcessCpuUsage\":%.2f", cpu_usage(since));
    add_memory(out, all_memory(total));
}

void statistics_own_attributes(struct buf *out)
{
    struct statvfs disk = {0};

    if (statvfs("/", &disk))
        disk = (struct statvfs){0};
    buf_add_z(out, "{\"totalMemory\":\"");
    statistics_size(out, uv_get_total_memory());
    buf_add_z(out, "\",\"totalDisk\":\"");
    statistics_size(out, (uint64_t)disk.f_blocks * disk.f_frsize);
    buf_printf(out, "\",\"cpuCount\":%u}", uv_available_parallelism());
}
