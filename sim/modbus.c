/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modbus servers for the demo, the tests and the bench: many ports, many units, three framings over four kinds of lines,
 * with faults on command, and with what is measured of the polls that come.
 */
#include "base/clock.h"
#include "main.h"
#include "modbus_server.h"
#include "modbus_station.h"
#include "opts.h"
#include "program.h"

#include <stdio.h>

enum { PORTS_MAX = 10000, HOLES_MAX = 64, LOG_SIZE = 512 };

struct asked_entry {
    uint16_t port_index, address, n;
    uint8_t unit, fc;
};

struct port {
    struct modbus_server server;
    struct station *stations[256];
};

struct sim {
    struct program program;
    struct modbus_server_conf conf;
    struct station_conf station;
    struct faults faults;
    struct station_hole holes[HOLES_MAX];
    size_t n_holes;
    struct port *ports;
    uint64_t n_ports, first_port, n_units, delay_ms, size, period_ms;
    struct station_counts counts;
    uint64_t started_us, n_unknown;
    struct asked_entry log[LOG_SIZE];
    uint64_t n_log;
    struct down *downs; /* being closed */
};

/* --- answers -------------------------------------------------------------------------------------------------------------- */
static struct station *station_of(struct sim *sim, unsigned port, uint8_t unit)
{
    struct station **station = &sim->ports[port].stations[unit];

    if (!*station)
        *station = station_new(unit);
    return *station;
}

static void remember(struct sim *sim, unsigned port, uint8_t unit, const struct modbus_pdu *ask)
{
    struct asked_entry *entry = &sim->log[sim->n_log++ % LOG_SIZE];

    *entry = (struct asked_entry){.port_index = (uint16_t)port, .unit = unit, .fc = ask->bytes[0]};
    if (ask->n >= 5) {
        entry->address = modbus_be16(ask->bytes + 1);
        entry->n = modbus_be16(ask->bytes + 3);
    }
}

static bool answer(void *arg, unsigned port, uint8_t unit, const struct modbus_pdu *ask, struct modbus_pdu *reply)
{
    struct sim *sim = arg;
    unsigned first = unit, last = unit;

    sim->counts.n_requests++;
    remember(sim, port, unit, ask);
    if (sim->n_units && unit > sim->n_units) {
        sim->n_unknown++;
        return false;
    }
    if (unit == 0 && sim->conf.framing != MODBUS_SOCKET) { /* a broadcast reaches all */
        first = 1;
        last = sim->n_units ? (unsigned)sim->n_units : 1;
    }
    for (unsigned i = first; i <= last; i++)
        station_answer(station_of(sim, port, (uint8_t)i), &sim->station, sim->holes, sim->n_holes, ask, reply,
                       &sim->counts);
    if (modbus_exception_of(reply))
        sim->counts.n_exceptions++;
    else
        sim->counts.n_answers++;
    return true;
}

/* --- what is measured -------------------------------------------------------------------------------------------------------- */
struct intervals {
    uint64_t n_polled;
    double min_ms, max_ms, sum_ms;
    uint64_t n_with, fewest;
};

static void add_station(struct intervals *intervals, const struct station *station)
{
    double mean_ms;

    if (!station || !station->n_polls)
        return;
    if (!intervals->n_polled++ || station->n_polls < intervals->fewest)
        intervals->fewest = station->n_polls;
    if (station->n_polls < 2)
        return;
    mean_ms = (double)(station->last_us - station->first_us) / 1000 / (double)(station->n_polls - 1);
    if (!intervals->n_with++ || mean_ms < intervals->min_ms)
        intervals->min_ms = mean_ms;
    if (mean_ms > intervals->max_ms)
        intervals->max_ms = mean_ms;
    intervals->sum_ms += mean_ms;
}

static void add_stats(const struct sim *sim, struct buf *out)
{
    const struct station_counts *counts = &sim->counts;
    uint64_t n_open = 0, n_accepted = 0, n_dropped = 0;
    struct intervals intervals = {0};

    for (uint64_t i = 0; i < sim->n_ports; i++) {
        n_open += sim->ports[i].server.n_open;
        n_accepted += sim->ports[i].server.n_accepted;
        n_dropped += sim->ports[i].server.n_dropped;
        for (unsigned unit = 0; unit < 256; unit++)
            add_station(&intervals, sim->ports[i].stations[unit]);
    }
    buf_printf(
        out,
        "\"requests\":%llu,\"answers\":%llu,\"exceptions\":%llu,\"writes\":%llu,\"polls\":%llu,\"unanswered\":%llu,"
        "\"connections\":%llu,\"accepted\":%llu,\"seconds\":%.3f,\"requests_per_poll\":%.3f,",
        (unsigned long long)counts->n_requests, (unsigned long long)counts->n_answers,
        (unsigned long long)counts->n_exceptions, (unsigned long long)counts->n_writes,
        (unsigned long long)counts->n_polls, (unsigned long long)n_dropped, (unsigned long long)n_open,
        (unsigned long long)n_accepted, (double)(clock_mono_us() - sim->started_us) / 1e6,
        counts->n_polls ? (double)counts->n_requests / (double)counts->n_polls : 0);
    buf_printf(out,
               "\"units_polled\":%llu,\"fewest_polls\":%llu,\"jitter_p50_ms\":%.3f,\"jitter_p99_ms\":%.3f,"
               "\"jitter_max_ms\":%.3f,\"interval_min_ms\":%.4f,\"interval_mean_ms\":%.4f,\"interval_max_ms\":%.4f",
               (unsigned long long)intervals.n_polled, (unsigned long long)intervals.fewest,
               (double)histogram_at(&counts->jitter, 0.5) / 1000, (double)histogram_at(&counts->jitter, 0.99) / 1000,
               (double)counts->jitter.max / 1000, intervals.min_ms,
               intervals.n_with ? intervals.sum_ms / (double)intervals.n_with : 0, intervals.max_ms);
}

static void reset_stats(struct sim *sim)
{
    sim->counts = (struct station_counts){0};
    sim->started_us = clock_mono_us();
    sim->n_log = sim->n_unknown = 0;
    for (uint64_t i = 0; i < sim->n_ports; i++) {
        sim->ports[i].server.n_dropped = sim->ports[i].server.n_accepted = 0;
        for (unsigned unit = 0; unit < 256; unit++) {
            struct station *station = sim->ports[i].stations[unit];

            if (station)
                station->n_polls = station->max_jitter_us = 0;
        }
    }
}

static void add_units(const struct sim *sim, struct buf *out)
{
    const char *comma = "";

    buf_add_z(out, "\"units\":[");
    for (uint64_t i = 0; i < sim->n_ports; i++) {
        for (unsigned unit = 0; unit < 256; unit++) {
            const struct station *station = sim->ports[i].stations[unit];

            if (!station)
                continue;
            buf_printf(out, "%s{\"port\":%llu,\"unit\":%u,\"polls\":%llu,\"interval_ms\":%.4f,\"jitter_max_ms\":%.3f}",
                       comma, (unsigned long long)i, unit, (unsigned long long)station->n_polls,
                       station->n_polls > 1
                           ? (double)(station->last_us - station->first_us) / 1000 / (double)(station->n_polls - 1)
                           : 0,
                       (double)station->max_jitter_us / 1000);
            comma = ",";
        }
    }
    buf_add_z(out, "]");
}

static void add_log(const struct sim *sim, struct buf *out)
{
    uint64_t first = sim->n_log > LOG_SIZE ? sim->n_log - LOG_SIZE : 0;

    buf_add_z(out, "\"requests\":[");
    for (uint64_t i = first; i < sim->n_log; i++) {
        const struct asked_entry *entry = &sim->log[i % LOG_SIZE];

        buf_printf(out, "%s{\"port\":%u,\"unitId\":%u,\"functionCode\":%u,\"address\":%u,\"count\":%u}",
                   i > first ? "," : "", entry->port_index, entry->unit, entry->fc, entry->address, entry->n);
    }
    buf_add_z(out, "]");
}

/* --- commands -------------------------------------------------------------------------------------------------------------------- */
static bool next_word(struct str *rest, struct str *word)
{
    *rest = str_trim(*rest);
    return rest->n && str_split(rest, ' ', word);
}

static bool next_number(struct str *rest, uint64_t max, uint64_t *out)
{
    struct str word;

    return next_word(rest, &word) && str_to_u64(word, out) == ERR_OK && *out <= max;
}

/* set|get PORT UNIT AREA ADDRESS VALUE… */
static NODISCARD enum err touch(struct sim *sim, struct str rest, bool is_set, struct buf *out, struct why *why)
{
    uint64_t port, unit, address, value;
    enum station_area area;
    struct station *station;
    struct str name;

    if (!next_number(&rest, sim->n_ports - 1, &port) || !next_number(&rest, 255, &unit) || !next_word(&rest, &name) ||
        !station_area_of(name, &area) || !next_number(&rest, 65535, &address))
        return why_set(why, ERR_USAGE, "set|get PORT UNIT AREA ADDRESS VALUE…|COUNT, PORT from 0, AREA as coils");
    station = station_of(sim, (unsigned)port, (uint8_t)unit);
    if (is_set) {
        for (; next_number(&rest, 65535, &value) && address <= 65535; address++)
            station_set(station, area, (uint16_t)address, (uint16_t)value);
        return ERR_OK;
    }
    if (!next_number(&rest, 1000, &value))
        value = 1;
    buf_add_z(out, "\"values\":[");
    for (uint64_t i = 0; i < value && address + i <= 65535; i++)
        buf_printf(out, "%s%u", i ? "," : "", station_get(station, &sim->station, area, (uint16_t)(address + i)));
    buf_add_z(out, "]");
    return ERR_OK;
}

static NODISCARD enum err add_hole(struct sim *sim, struct str rest, struct why *why)
{
    struct station_hole hole;
    uint64_t from, to;
    struct str name;

    if (sim->n_holes == HOLES_MAX || !next_word(&rest, &name) || !station_area_of(name, &hole.area) ||
        !next_number(&rest, 65535, &from) || !next_number(&rest, 65535, &to))
        return why_set(why, ERR_USAGE, "hole AREA FROM TO");
    hole.from = (uint32_t)from;
    hole.to = (uint32_t)to;
    sim->holes[sim->n_holes++] = hole;
    return ERR_OK;
}

/* What a server that goes down has open; the program may go on meanwhile. */
struct down {
    struct closer closer;
    bool is_over;
    struct down *next;
};

static void on_down(void *arg)
{
    struct down *down = arg;

    down->is_over = true; /* freed at the end: few of them ever are */
}

static NODISCARD enum err each_port(struct sim *sim, struct str word, struct str rest, struct why *why)
{
    uint64_t first = 0, last = sim->n_ports - 1;
    enum err err = ERR_OK;

    if (str_trim(rest).n) {
        if (!next_number(&rest, sim->n_ports - 1, &first))
            return why_set(why, ERR_USAGE, STR_FMT " [PORT], PORT from 0", STR_ARG(word));
        last = first;
    }
    for (uint64_t i = first; i <= last && !err; i++) {
        struct modbus_server *server = &sim->ports[i].server;
        struct down *down = mem_zero(sizeof *down);

        closer_begin(&down->closer, sim->program.loop, on_down, down);
        if (str_eq(word, STR("drop")))
            modbus_server_drop(server);
        else if (str_eq(word, STR("stall")))
            modbus_server_stall(server, true);
        else if (str_eq(word, STR("unstall")))
            modbus_server_stall(server, false);
        else if (str_eq(word, STR("up")))
            err = modbus_server_up(server, &down->closer, why);
        else
            modbus_server_down(server, &down->closer);
        closer_end(&down->closer);
        down->next = sim->downs;
        sim->downs = down;
    }
    return err;
}

static NODISCARD enum err obey(struct sim *sim, struct str word, struct str rest, struct buf *out, struct why *why)
{
    static const char *const of_ports[] = {"down", "up", "drop", "stall", "unstall"};

    for (unsigned i = 0; i < COUNT_OF(of_ports); i++) {
        if (str_eq_z(word, of_ports[i]))
            return each_port(sim, word, rest, why);
    }
    if (str_eq(word, STR("stats")))
        add_stats(sim, out);
    else if (str_eq(word, STR("units")))
        add_units(sim, out);
    else if (str_eq(word, STR("log")))
        add_log(sim, out);
    else if (str_eq(word, STR("reset")))
        reset_stats(sim);
    else if (str_eq(word, STR("fault")))
        return faults_add(&sim->faults, rest, why);
    else if (str_eq(word, STR("heal")))
        sim->faults.n = sim->n_holes = 0;
    else if (str_eq(word, STR("hole")))
        return add_hole(sim, rest, why);
    else if (str_eq(word, STR("set")) || str_eq(word, STR("get")))
        return touch(sim, rest, str_eq(word, STR("set")), out, why);
    else
        return why_set(
            why, ERR_USAGE,
            "commands: stats, units, log, reset, set, get, fault, hole, heal, down, up, drop, stall, unstall, "
            "quit");
    return ERR_OK;
}

static void on_line(void *arg, struct str word, struct str rest)
{
    struct sim *sim = arg;
    autobuf struct buf line = {0};
    struct why why = {0};

    buf_add_u8(&line, '{');
    if (obey(sim, word, rest, &line, &why)) {
        line_say_error(word, why_text(&why));
        return;
    }
    if (line.n == 1)
        buf_add_z(&line, "\"ok\":true");
    buf_add_u8(&line, '}');
    line_say(&line);
}

static void on_end(void *arg, struct closer *closer)
{
    struct sim *sim = arg;

    for (uint64_t i = 0; i < sim->n_ports; i++)
        modbus_server_down(&sim->ports[i].server, closer);
}

/* --- the program --------------------------------------------------------------------------------------------------------------- */
static NODISCARD enum err choose(struct sim *sim, const char *method, const char *over, const char *pattern,
                                 struct why *why)
{
    static const char *const methods[] = {"socket", "rtu", "ascii"}, *const overs[] = {"tcp", "udp", "pty"},
                             *const patterns[] = {"address", "bench", "wave"};
    const struct {
        const char *value, *const *names, *option;
        int *out;
    } choices[] = {{method, methods, "--method socket, rtu or ascii", (int *)&sim->conf.framing},
                   {over, overs, "--over tcp, udp or pty", (int *)&sim->conf.over},
                   {pattern, patterns, "--pattern address, bench or wave", (int *)&sim->station.pattern}};

    for (unsigned i = 0; i < COUNT_OF(choices); i++) {
        int found = -1;

        for (int j = 0; j < 3; j++) {
            if (!strcmp(choices[i].value, choices[i].names[j]))
                found = j;
        }
        if (found < 0)
            return why_set(why, ERR_USAGE, "%s", choices[i].option);
        *choices[i].out = found;
    }
    return ERR_OK;
}

static NODISCARD enum err listen_all(struct sim *sim, struct closer *closer, struct why *why)
{
    for (uint64_t i = 0; i < sim->n_ports; i++) {
        struct modbus_server *server = &sim->ports[i].server;
        enum err err;

        *server = (struct modbus_server){.loop = sim->program.loop,
                                         .conf = &sim->conf,
                                         .faults = &sim->faults,
                                         .index = (unsigned)i,
                                         .port = (uint16_t)(sim->first_port ? sim->first_port + i : 0)};
        err = modbus_server_up(server, closer, why);
        if (err)
            return err;
    }
    return ERR_OK;
}

static void say_ports(const struct sim *sim)
{
    autobuf struct buf line = {0};
    const char *device = modbus_server_device(&sim->ports[0].server);

    buf_printf(&line, "{\"port\":%u,\"ports\":[", sim->ports[0].server.port);
    for (uint64_t i = 0; i < sim->n_ports; i++)
        buf_printf(&line, "%s%u", i ? "," : "", sim->ports[i].server.port);
    buf_add_u8(&line, ']');
    if (device) {
        buf_add_z(&line, ",\"device\":");
        json_add_text(&line, str_from(sim->conf.link ? sim->conf.link : device));
    }
    buf_add_u8(&line, '}');
    line_say(&line);
}

static void sim_fini(struct sim *sim)
{
    for (uint64_t i = 0; i < sim->n_ports; i++) {
        for (unsigned unit = 0; unit < 256; unit++)
            station_free(sim->ports[i].stations[unit]);
    }
    mem_free(sim->ports);
    while (sim->downs) {
        struct down *down = sim->downs;

        sim->downs = down->next;
        mem_free(down);
    }
}

static NODISCARD enum err check(struct sim *sim, struct why *why)
{
    if (!sim->n_ports || !sim->size || !sim->period_ms)
        return why_set(why, ERR_USAGE, "--ports, --size and --period must be at least 1");
    if (sim->first_port && sim->first_port + sim->n_ports > 65536)
        return why_set(why, ERR_USAGE, "--port and --ports go beyond 65535");
    if (sim->conf.over == MODBUS_SERVE_PTY && sim->n_ports > 1 && sim->conf.link)
        return why_set(why, ERR_USAGE, "--link is for one pseudo terminal");
    if (!sim->conf.cert_file != !sim->conf.key_file || (sim->conf.cert_file && sim->conf.over != MODBUS_SERVE_TCP))
        return why_set(why, ERR_USAGE, "--cert and --key belong together, and to --over tcp");
    sim->station.size = (uint32_t)sim->size;
    sim->station.period_ms = (uint32_t)sim->period_ms;
    if (sim->delay_ms)
        sim->faults.rules[sim->faults.n++] = (struct fault_rule){
            .kind = FAULT_DELAY, .value = (uint32_t)sim->delay_ms, .percent = 100, .unit = -1, .port = -1};
    return ERR_OK;
}

int modbus_main(int argc, char **argv)
{
    static const char usage[] =
        "iotgw-sim modbus [OPTIONS]\n\nModbus servers. Prints {\"port\":N,\"ports\":[…]}, then answers commands on "
        "standard "
        "input: stats, units, log, reset,\nset and get PORT UNIT AREA ADDRESS …, fault KIND NUMBER[:PERCENT] [unit=N] "
        "[port=N], hole AREA FROM TO, heal,\ndown, up, drop, stall, unstall [PORT], quit. PORT counts from 0; AREA is "
        "coils, "
        "discrete_inputs, holding_registers\nor input_registers. Faults: delay, late, drop, exception, length, cut, "
        "split, "
        "tid, unit, check, twice, noise, hangup.";
    static struct sim sim = {.n_ports = 1, .size = 65536, .period_ms = 1000};
    const char *method = "socket", *over = "tcp", *pattern = "address";
    const struct opt opts[] = {
        {"--host", OPT_TEXT, &sim.conf.host, "ADDRESS", "where to listen (127.0.0.1)", 0},
        {"--port", OPT_UINT, &sim.first_port, "P", "first port; 0: any free ones (0)", 65535},
        {"--ports", OPT_UINT, &sim.n_ports, "N", "number of ports, or of pseudo terminals (1)", PORTS_MAX},
        {"--units", OPT_UINT, &sim.n_units, "N", "units 1 to N are there; 0: all (0)", 255},
        {"--over", OPT_TEXT, &over, "KIND", "tcp, udp or pty (tcp)", 0},
        {"--method", OPT_TEXT, &method, "FRAMING", "socket, rtu or ascii (socket)", 0},
        {"--cert", OPT_TEXT, &sim.conf.cert_file, "FILE", "certificate: TLS", 0},
        {"--key", OPT_TEXT, &sim.conf.key_file, "FILE", "its key", 0},
        {"--link", OPT_TEXT, &sim.conf.link, "PATH", "symbolic link to the pseudo terminal", 0},
        {"--echo", OPT_FLAG, &sim.conf.echoes, NULL, "what comes is sent back before the answer", 0},
        {"--size", OPT_UINT, &sim.size, "N", "registers and bits of each area (65536)", 65536},
        {"--pattern", OPT_TEXT, &pattern, "NAME", "address, bench or wave: what registers hold (address)", 0},
        {"--period", OPT_UINT, &sim.period_ms, "MS", "expected between two polls of a unit (1000)", 86400000},
        {"--delay", OPT_UINT, &sim.delay_ms, "MS", "time that each answer takes (0)", 3600000},
    };
    struct closer closer = {0};
    struct why why = {0};
    enum err err;

    sim.conf.host = "127.0.0.1";
    sim.conf.answer = answer;
    sim.conf.arg = &sim;
    err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);
    if (!err)
        err = choose(&sim, method, over, pattern, &why);
    if (!err)
        err = check(&sim, &why);
    if (!err)
        err = program_init(&sim.program, "modbus", on_line, on_end, &sim);
    if (!err) {
        sim.ports = mem_zero(sim.n_ports * sizeof *sim.ports);
        err = listen_all(&sim, &closer, &why);
    }
    if (err) {
        fprintf(stderr, "iotgw-sim modbus: %s\n", why_text(&why));
        return err == ERR_USAGE ? 64 : 1;
    }
    sim.started_us = clock_mono_us();
    say_ports(&sim);
    program_run(&sim.program);
    sim_fini(&sim);
    return 0;
}
