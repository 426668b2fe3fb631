/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/metrics.h"

#include <inttypes.h>

const struct metric_info metric_infos[METRIC_COUNT] = {
#define X(id, section, member, name, type, unit, help, action)                                                         \
    [METRIC_##id] = {METRICS_##section, METRIC_##type, member, name, unit, help, action},
#include "gateway/metrics.def"
#undef X
};

const char *metric_section_name(enum metric_section section)
{
    static const char *const names[] = {[METRICS_PLATFORM] = "platform",        [METRICS_WAIT] = "platform.waits",
                                        [METRICS_STORAGE] = "storage",          [METRICS_LEDGER] = "ledger",
                                        [METRICS_CONNECTOR] = "connectors",     [METRICS_ENDPOINT] = "connectors.polls",
                                        [METRICS_SERVER] = "connectors.server", [METRICS_LOOP] = "loops",
                                        [METRICS_COMMANDS] = "commands",        [METRICS_MEMORY] = "memory"};

    return section < METRICS_SECTIONS ? names[section] : "";
}

void metrics_add_json(struct buf *out, enum metric_section section, const struct metrics *values)
{
    const char *comma = "";

    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        if (metric_infos[i].section != section)
            continue;
        buf_printf(out, "%s\"%s\":%" PRIu64, comma, metric_infos[i].member, values->v[i]);
        comma = ",";
    }
}

void metrics_add_reference(struct buf *out)
{
    static const char *const labels[] = {
        [METRICS_WAIT] = "limit",       [METRICS_CONNECTOR] = "connector", [METRICS_ENDPOINT] = "connector",
        [METRICS_SERVER] = "connector", [METRICS_LOOP] = "loop",           [METRICS_MEMORY] = NULL};

    buf_add_z(out,
              "# Metrics\n\n"
              "What the gateway counts. `iotgw status --json` has each under its section and member; counters begin "
              "with the process, but those of the ledger with the storage.\n");
    for (unsigned section = 0; section < METRICS_SECTIONS; section++) {
        buf_printf(out, "\n## %s\n\n", metric_section_name((enum metric_section)section));
        if (labels[section])
            buf_printf(out, "One set for each %s.\n\n", labels[section]);
        buf_add_z(out,
                  "| member | name | type | unit | meaning | when it moves |\n| --- | --- | --- | --- | --- | --- |\n");
        for (unsigned i = 0; i < METRIC_COUNT; i++) {
            const struct metric_info *info = &metric_infos[i];

            if (info->section == section)
                buf_printf(out, "| `%s` | `%s` | %s | %s | %s | %s |\n", info->member, info->name,
                           info->type == METRIC_COUNTER ? "counter" : "gauge", info->unit, info->help, info->action);
        }
    }
}
