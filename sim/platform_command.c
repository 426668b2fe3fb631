/* SPDX-License-Identifier: Apache-2.0 */
/* The lines that steer the platform stand-in. Each is answered by one JSON line. */
#include "platform.h"

#include "base/file.h"
#include "base/clock.h"
#include "lines.h"

typedef enum err command_fn(struct platform *platform, struct str rest, struct buf *out, struct why *why);

static const char *const outcome_names[] = {
#define X(name) #name,
    OUTCOMES
#undef X
};

static void add_uint(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "\"%s\":%llu,", name, (unsigned long long)value);
}

static uint64_t count_open(const struct platform *platform)
{
    uint64_t n = 0;

    LIST_EACH(node, server_clients(platform->server))
        n += CONTAINER_OF(node, struct server_client, node)->user != NULL;
    return n;
}

static uint64_t count_withheld(const struct platform *platform)
{
    uint64_t n = 0;

    LIST_EACH(node, server_clients(platform->server)) {
        const struct session *session = CONTAINER_OF(node, struct server_client, node)->user;

        n += session ? session->n_withheld : 0;
    }
    return n;
}

void platform_add_stats(struct platform *platform, struct buf *out)
{
    const struct tally *tally = &platform->tally;
    const struct histogram *latency = &tally->latency;

    add_uint(out, "packets", platform->n_packets);
    add_uint(out, "bytes", platform->n_bytes);
    add_uint(out, "telemetry", platform->n_telemetry);
    add_uint(out, "entries", tally->n_entries);
    add_uint(out, "values", tally->n_values);
    add_uint(out, "attributes", tally->n_attributes);
    add_uint(out, "uniq", tally->n_unique);
    add_uint(out, "dup", tally->n_duplicates);
    add_uint(out, "ooo", tally->n_disordered);
    add_uint(out, "same_ts", tally->n_same_ts);
    add_uint(out, "bad_seq", tally->n_bad_seq);
    add_uint(out, "max_seq", tally->max_seq);
    add_uint(out, "devices", tally->devices.n);
    add_uint(out, "connects", platform->n_connects);
    add_uint(out, "disconnects", platform->n_disconnects);
    add_uint(out, "before_connect", platform->n_early);
    add_uint(out, "dup_flags", platform->n_dup_flags);
    add_uint(out, "own_values", platform->n_own_values);
    add_uint(out, "own_telemetry", platform->n_own_telemetry); /* of these */
    add_uint(out, "pubacks", platform->n_pubacks);
    add_uint(out, "withheld", count_withheld(platform));
    add_uint(out, "sessions", platform->n_sessions);
    add_uint(out, "open", count_open(platform));
    add_uint(out, "provisioned", platform->n_provisioned);
    add_uint(out, "refused_logins", platform->n_refused);
    add_uint(out, "now_us", clock_mono_us());
    add_uint(out, "connected_us", platform->ready_us);
    add_uint(out, "first_us", tally->first_us);
    add_uint(out, "last_us", tally->last_us);
    buf_printf(out, "\"lat_p50_ms\":%.3f,\"lat_p99_ms\":%.3f,\"lat_max_ms\":%.3f,\"outcomes\":{",
               (double)histogram_at(latency, 0.5) / 1000, (double)histogram_at(latency, 0.99) / 1000,
               (double)latency->max / 1000);
    for (unsigned i = 0; i < OUTCOME_COUNT; i++)
        buf_printf(out, "%s\"%s\":%llu", i ? "," : "", outcome_names[i], (unsigned long long)platform->outcomes[i]);
    buf_add_u8(out, '}');
}

/* --- commands --------------------------------------------------------------------------------------------------- */
static enum err cmd_stats(struct platform *platform, struct str rest UNUSED, struct buf *out, struct why *why UNUSED)
{
    platform_add_stats(platform, out);
    return ERR_OK;
}

static enum err cmd_reset(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                          struct why *why UNUSED)
{
    platform_reset(platform);
    return ERR_OK;
}

static enum err cmd_await(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    return str_to_u64(rest, &platform->awaited) ? why_set(why, ERR_USAGE, "await N: how many different seq") : ERR_OK;
}

static void add_device(const struct platform *platform, const struct tally_device *device, struct buf *out)
{
    bool is_open = false;

    LIST_EACH(node, server_clients(platform->server)) {
        const struct session *session = CONTAINER_OF(node, struct server_client, node)->user;

        is_open |=
            session && session->number == device->session && !platform_is_over(device, clock_mono_us(), platform);
    }
    buf_add_z(out, "\"device\":");
    json_add_text(out, device->name);
    buf_add_z(out, ",\"profile\":");
    json_add_text(out, str_from(device->profile ? device->profile : "default"));
    buf_printf(out, ",\"open\":%s,\"entries\":%llu,\"values\":%llu", is_open ? "true" : "false",
               (unsigned long long)device->n_entries, (unsigned long long)device->n_values);
}

static enum err cmd_values(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    const struct tally_device *device = rest.n ? tally_find(&platform->tally, rest) : NULL;

    if (rest.n && !device)
        return why_set(why, ERR_NOTFOUND, "no device of that name");
    if (device)
        add_device(platform, device, out);
    else
        buf_add_z(out, "\"device\":null");
    buf_add_z(out, ",\"telemetry\":");
    tally_add_values(out, device ? &device->telemetry : &platform->own_telemetry);
    buf_add_z(out, ",\"attributes\":");
    tally_add_values(out, device ? &device->attributes : &platform->own_attributes);
    return ERR_OK;
}

static enum err cmd_devices(struct platform *platform, struct str rest UNUSED, struct buf *out, struct why *why UNUSED)
{
    bool is_first = true;

    buf_add_z(out, "\"devices\":[");
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->tally.devices, slot));) {
        if (((const struct tally_device *)slot->value)->is_deleted)
            continue;
        buf_add_z(out, is_first ? "{" : ",{");
        add_device(platform, slot->value, out);
        buf_add_u8(out, '}');
        is_first = false;
    }
    buf_add_u8(out, ']');
    return ERR_OK;
}

static enum err cmd_missing(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    const struct bits *seen = &platform->tally.seen;
    struct str from_text, to_text;
    uint64_t from, to, n;

    if (!str_split(&rest, ' ', &from_text) || !str_split(&rest, ' ', &to_text) || str_to_u64(from_text, &from) ||
        str_to_u64(to_text, &to) || to > (uint64_t)1 << 31)
        return why_set(why, ERR_USAGE, "missing FROM TO [DEVICE]: seq from FROM up to but not including TO");
    if (!platform->tally.is_shared) {
        const struct tally_device *device = tally_find(&platform->tally, str_trim(rest));

        if (!device)
            return why_set(why, ERR_NOTFOUND, "seq is counted per device: name one");
        seen = &device->seen;
    }
    buf_add_z(out, "\"missing\":");
    n = tally_missing(seen, from, to, out);
    buf_printf(out, ",\"n\":%llu", (unsigned long long)n);
    return ERR_OK;
}

static enum err cmd_delay(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    uint64_t ms;

    if (str_to_u64(rest, &ms) || ms > 3600000)
        return why_set(why, ERR_USAGE, "delay MS: milliseconds before each PUBACK");
    platform->delay_ms = ms;
    return ERR_OK;
}

static enum err cmd_stop_acking(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                                struct why *why UNUSED)
{
    platform->is_acking = false;
    return ERR_OK;
}

static enum err cmd_ack(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                        struct why *why UNUSED)
{
    platform->is_acking = true;
    platform_release(platform);
    return ERR_OK;
}

static enum err cmd_drop(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                         struct why *why UNUSED)
{
    server_drop_all(platform->server);
    return ERR_OK;
}

static enum err read_code(struct str text, uint8_t *out)
{
    uint64_t code;

    if (str_starts(text, STR("0x"))) {
        code = 0;
        for (size_t i = 2; i < text.n; i++) {
            int digit = text.p[i] >= '0' && text.p[i] <= '9'                 ? text.p[i] - '0'
                        : (text.p[i] | 32) >= 'a' && (text.p[i] | 32) <= 'f' ? (text.p[i] | 32) - 'a' + 10
                                                                             : -1;

            if (digit < 0 || i > 3)
                return ERR_SYNTAX;
            code = code * 16 + (unsigned)digit;
        }
    } else if (str_to_u64(text, &code) || code > 255) {
        return ERR_SYNTAX;
    }
    *out = (uint8_t)code;
    return ERR_OK;
}

static enum err cmd_refuse(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    return read_code(rest, &platform->refusal)
               ? why_set(why, ERR_USAGE, "refuse CODE: CONNACK code of MQTT 5, as 0x86; 0 ends it")
               : ERR_OK;
}

static enum err cmd_puback(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    struct str code = STR_NONE;

    (void)!str_split(&rest, ' ', &code);
    rest = str_trim(rest);
    if (read_code(code, &platform->forced))
        return why_set(why, ERR_USAGE, "puback CODE [PART]: 0x80 0x83 0x8b 0x90 0x97 0x99, 0xff: none; 0 ends it");
    mem_free((void *)platform->forced_part.p);
    platform->forced_part = (struct str){memcpy(mem_zero(rest.n + 1), rest.n ? rest.p : "", rest.n), rest.n};
    return ERR_OK;
}

static enum err cmd_down(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                         struct why *why UNUSED)
{
    server_down(platform->server);
    return ERR_OK;
}

static enum err cmd_up(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED, struct why *why)
{
    return server_up(platform->server, why);
}

static enum err cmd_stall(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                          struct why *why UNUSED)
{
    server_stall(platform->server, true);
    return ERR_OK;
}

static enum err cmd_resume(struct platform *platform, struct str rest UNUSED, struct buf *out UNUSED,
                           struct why *why UNUSED)
{
    server_stall(platform->server, false);
    return ERR_OK;
}

static enum err cmd_limits(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    return platform_set_limits(platform, rest, why);
}

static enum err cmd_is_gateway(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    if (!str_eq(rest, STR("on")) && !str_eq(rest, STR("off")))
        return why_set(why, ERR_USAGE, "is-gateway on|off");
    platform->is_gateway = str_eq(rest, STR("on"));
    return ERR_OK;
}

static enum err cmd_shuffle(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    if (!str_eq(rest, STR("on")) && !str_eq(rest, STR("off")))
        return why_set(why, ERR_USAGE, "shuffle on|off");
    platform->is_shuffling = str_eq(rest, STR("on"));
    return ERR_OK;
}

static enum err cmd_credential(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    return platform_credential(platform, rest, why);
}

static enum err cmd_logins(struct platform *platform, struct str rest UNUSED, struct buf *out, struct why *why UNUSED)
{
    bool is_first = true;

    buf_add_z(out, "\"logins\":[");
    LIST_EACH(node, server_clients(platform->server)) {
        const struct server_client *client = CONTAINER_OF(node, struct server_client, node);
        const struct session *session = client->user;

        if (!session)
            continue;
        buf_add_z(out, is_first ? "{\"username\":" : ",{\"username\":");
        json_add_text(out, str_from(session->username));
        buf_add_z(out, ",\"device\":");
        if (session->device)
            json_add_text(out, str_from(session->device));
        else
            buf_add_z(out, "null");
        buf_printf(out, ",\"version\":%d,\"gateway\":%s}", (int)client->version,
                   session->is_gateway ? "true" : "false");
        is_first = false;
    }
    buf_add_u8(out, ']');
    return ERR_OK;
}

static enum err cmd_publish(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    struct str topic;

    if (!str_split(&rest, ' ', &topic) || !topic.n)
        return why_set(why, ERR_USAGE, "publish TOPIC PAYLOAD");
    buf_printf(out, "\"sent\":%u", platform_send(platform, topic, str_trim(rest)));
    return ERR_OK;
}

static enum err cmd_requests(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    if (str_trim(rest).n)
        return platform_load_start(platform, str_trim(rest), why);
    platform_load_add(platform, out);
    return ERR_OK;
}

/* Shared attributes; those of the gateway itself have the device name "". */
static enum err cmd_replies(struct platform *platform, struct str rest UNUSED, struct buf *out, struct why *why UNUSED)
{
    buf_add_z(out, "\"replies\":[");
    buf_add_str(out, buf_str(&platform->replies));
    buf_add_u8(out, ']');
    platform->replies.n = 0;
    return ERR_OK;
}

static enum err cmd_shared(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    size_t brace = str_chr(rest, '{');
    struct str name = str_trim(str_cut(rest, brace)), json = str_skip(rest, brace);
    yyjson_doc *doc = yyjson_read(json.p, json.n, TALLY_READ);
    struct tally_device *shared;

    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return why_set(why, ERR_USAGE, "shared [DEVICE] {…}");
    }
    shared = map_get(&platform->shared, name);
    if (!shared) {
        shared = mem_zero(sizeof *shared);
        shared->name = (struct str){memcpy(mem_zero(name.n + 1), name.n ? name.p : "", name.n), name.n};
        map_put(&platform->shared, shared->name, shared);
    }
    tally_keep(&shared->attributes, clock_wall_ms(), yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return ERR_OK;
}

static enum err cmd_firmware(struct platform *platform, struct str rest, struct buf *out UNUSED, struct why *why)
{
    enum { FIRMWARE_MAX = 256 * 1024 * 1024 };
    autobuf struct buf path = {0};

    platform->firmware.n = 0;
    buf_add_str(&path, str_trim(rest));
    buf_add_u8(&path, 0);
    return path.n == 1 ? ERR_OK : file_read(&platform->firmware, (char *)path.p, FIRMWARE_MAX, why);
}

/* Own-device requests without an answer that anybody waits for. */
static unsigned tell_gateway(struct platform *platform, const struct buf *request)
{
    autobuf struct buf topic = {0};

    buf_printf(&topic, "v1/devices/me/rpc/request/%u", platform->n_requests++);
    return platform_send(platform, buf_str(&topic), buf_str(request));
}

static enum err cmd_rename(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    yyjson_doc *doc = yyjson_read(rest.p, rest.n, 0);
    yyjson_val *from = yyjson_arr_get(yyjson_doc_get_root(doc), 0), *to = yyjson_arr_get(yyjson_doc_get_root(doc), 1);
    struct str from_name = str_of(yyjson_get_str(from), yyjson_get_len(from)),
               to_name = str_of(yyjson_get_str(to), yyjson_get_len(to));
    autobuf struct buf request = {0};
    enum err err = ERR_OK;

    if (!from_name.p || !to_name.p) {
        err = why_set(why, ERR_USAGE, "rename [\"OLD\",\"NEW\"]");
    } else if (!platform_rename(platform, from_name, to_name)) {
        err = why_set(why, ERR_NOTFOUND, "no device of that name, or another of the new one");
    } else {
        buf_add_z(&request, "{\"method\":\"gateway_device_renamed\",\"params\":{");
        json_add_text(&request, from_name);
        buf_add_u8(&request, ':');
        json_add_text(&request, to_name);
        buf_add_z(&request, "}}");
        buf_printf(out, "\"sent\":%u", tell_gateway(platform, &request));
    }
    yyjson_doc_free(doc);
    return err;
}

static enum err cmd_delete(struct platform *platform, struct str rest, struct buf *out, struct why *why)
{
    autobuf struct buf request = {0};

    if (!platform_delete(platform, rest))
        return why_set(why, ERR_NOTFOUND, "no device of that name");
    buf_add_z(&request, "{\"method\":\"gateway_device_deleted\",\"params\":");
    json_add_text(&request, rest);
    buf_add_u8(&request, '}');
    buf_printf(out, "\"sent\":%u", tell_gateway(platform, &request));
    return ERR_OK;
}

static enum err cmd_metrics(struct platform *platform, struct str rest UNUSED, struct buf *out, struct why *why UNUSED)
{
    platform_metrics_add(platform, out);
    return ERR_OK;
}

static enum err cmd_help(struct platform *platform, struct str rest, struct buf *out, struct why *why);

static const struct {
    const char *name, *doc;
    command_fn *run;
} commands[] = {
    {"stats", "counts, verification and latency since the start or the last reset", cmd_stats},
    {"reset", "forget values and counts", cmd_reset},
    {"await", "N: tell {\"event\":\"arrived\",…} once N different seq are there", cmd_await},
    {"missing", "FROM TO [DEVICE]: which seq never came", cmd_missing},
    {"values", "[DEVICE]: latest telemetry and attributes; without a device those of the gateway", cmd_values},
    {"devices", "every device that was seen", cmd_devices},
    {"delay", "MS: wait before each PUBACK", cmd_delay},
    {"stop-acking", "withhold PUBACKs", cmd_stop_acking},
    {"ack", "send what was withheld, and go on", cmd_ack},
    {"drop", "close every connection without a word", cmd_drop},
    {"refuse", "CODE: refuse logins with this CONNACK code (of MQTT 5); 0 ends it", cmd_refuse},
    {"puback", "CODE [PART]: answer publications with this part in topic or payload so; 0 ends it", cmd_puback},
    {"down", "stop listening and close every connection", cmd_down},
    {"up", "listen again", cmd_up},
    {"stall", "stop reading", cmd_stall},
    {"resume", "read again", cmd_resume},
    {"limits", "JSON: the answer to getSessionLimits; its rate limits are kept", cmd_limits},
    {"is-gateway", "on|off: the flag that the device has on the platform, for new sessions", cmd_is_gateway},
    {"shuffle", "on|off: acknowledge what came in one read in reverse order", cmd_shuffle},
    {"credential", "token|basic|certificate|remove …: who is let in; without any, everybody is", cmd_credential},
    {"logins", "the open sessions and who is behind them", cmd_logins},
    {"publish", "TOPIC PAYLOAD: send to the gateway", cmd_publish},
    {"requests",
     "N RATE DEVICES: so many to devices, RATE a second, tell {\"event\":\"answered\",…} at the end; alone: how it "
     "stands",
     cmd_requests},
    {"replies", "to requests of the platform, since the last time this was asked", cmd_replies},
    {"rename", "[OLD,NEW]: rename a device (two JSON texts); the gateway is told", cmd_rename},
    {"delete", "DEVICE: delete a device; the gateway is told", cmd_delete},
    {"shared", "[DEVICE] {…}: set shared attributes", cmd_shared},
    {"firmware", "FILE: what the gateway may load as its firmware; nothing: none", cmd_firmware},
    {"metrics", "write gatewayMetrics of the metadata that came, as each minute; tell the last of each connector",
     cmd_metrics},
    {"help", "this list", cmd_help},
    {"quit", "end", NULL},
};

static enum err cmd_help(struct platform *platform UNUSED, struct str rest UNUSED, struct buf *out,
                         struct why *why UNUSED)
{
    buf_add_z(out, "\"commands\":{");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        buf_printf(out, "%s\"%s\":", i ? "," : "", commands[i].name);
        json_add_text(out, str_from(commands[i].doc));
    }
    buf_add_u8(out, '}');
    return ERR_OK;
}

void platform_command(struct platform *platform, struct str word, struct str rest)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        autobuf struct buf line = {0};
        struct why why = {0};

        if (!commands[i].run || !str_eq_z(word, commands[i].name))
            continue;
        buf_add_u8(&line, '{');
        if (commands[i].run(platform, rest, &line, &why)) {
            line_say_error(word, why_text(&why));
            return;
        }
        if (line.n == 1)
            buf_add_z(&line, "\"ok\":true");
        buf_add_u8(&line, '}');
        line_say(&line);
        return;
    }
    line_say_error(word, "unknown command; \"help\" lists them");
}
