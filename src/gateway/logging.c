/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/logging.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/utf8.h"
#include "gateway/fleet.h"
#include "gateway/log_route.h"
#include "gateway/north.h"
#include "gateway/uplink_conf.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    OWN_LOGS = 8,
    REMOTE_LINES = 1000, /* waiting for the platform */
    REMOTE_A_MESSAGE = 20,
    REMOTE_MESSAGES = 5, /* a second */
    REMOTE_MS = 1000,
    LINE_BYTES = 2048,
    ERRORS_MS = 5000,
    ERRORS_RESET_MS = 60000,
    PAYLOAD_MIN = 1024
};

struct remote_line { /* writer → main loop */
    struct node node;
    int64_t ts;
    bool is_own, is_trouble; /* trouble: text says why a file cannot be written */
    struct str key, text;
    char bytes[];
};

struct count { /* of a logger */
    uint64_t base, now, sent;
    char name[];
};

struct logging {
    struct log *logs[OWN_LOGS];
    size_t n_logs;
    enum log_level remote_level;
    struct buf reason; /* what LOGS says at the next session; empty: nothing */

    /* The writer's. */
    struct log_routes *routes;

    pthread_mutex_t
        gate;         /* of what follows; held for a few instructions: the writer may hang while the main loop ends */
    bool is_taken;    /* false: nobody takes what is for the platform */
    struct buf early; /* trouble that there was before */
    struct mailbox box;

    _Atomic(unsigned) n_remote, n_remote_dropped;

    struct runner *main;
    struct fleet *fleet;
    struct north *north;
    bool is_up;
    struct timer remote_timer, errors_timer;
    struct node *first, **last; /* lines that wait; of struct remote_line */
    int64_t last_ts;
    struct map counts;
    uint64_t all_sent, reset_ms;
};

/* --- lines for the platform: the writer's thread ---------------------------------------------------------------------------- */

static const struct {
    const char *logger, *key;
} own_keys[] = {{"service", "SERVICE_LOGS"},
                {"extension", "EXTENSION_LOGS"},
                {"tb_connection", "CONNECTION_LOGS"},
                {"storage", "STORAGE_LOGS"}};

/* What is said of sending itself: sent, it would beget the next one. */
static bool is_of_sending(const struct log_line *line)
{
    static const char *const files[] = {"/north.c", "/downlink.c", "/logging.c", "/limits.c"};
    struct str file = str_from(line->place->file);

    for (size_t i = 0; i < COUNT_OF(files); i++)
        if (str_ends(file, str_from(files[i])))
            return true;
    return false;
}

static struct remote_line *new_line(struct str key, struct str text)
{
    struct remote_line *line = mem_zero(sizeof *line + key.n + text.n);

    if (key.n)
        memcpy(line->bytes, key.p, key.n);
    if (text.n)
        memcpy(line->bytes + key.n, text.p, text.n);
    line->key = str_of(line->bytes, key.n);
    line->text = str_of(line->bytes + key.n, text.n);
    return line;
}

static bool post(struct logging *logging, struct remote_line *line)
{
    bool is_taken;

    pthread_mutex_lock(&logging->gate);
    is_taken = logging->is_taken;
    if (is_taken)
        mailbox_post(&logging->box, &line->node);
    pthread_mutex_unlock(&logging->gate);
    return is_taken;
}

static void take_remote(struct logging *logging, const struct log_line *line)
{
    struct str file = str_from(line->place->file);
    autobuf struct buf key = {0}, text = {0};
    struct remote_line *out;
    bool is_own = false;

    if (is_of_sending(line))
        return;
    if (atomic_fetch_add(&logging->n_remote, 1) >= REMOTE_LINES) {
        atomic_fetch_sub(&logging->n_remote, 1);
        atomic_fetch_add(&logging->n_remote_dropped, 1);
        return;
    }
    for (size_t i = 0; line->kind == LOG_OF_GATEWAY && i < COUNT_OF(own_keys); i++)
        if (str_eq_z(line->logger, own_keys[i].logger)) {
            buf_add_z(&key, own_keys[i].key);
            is_own = true;
        }
    if (!is_own)
        buf_printf(&key, STR_FMT "_LOGS", STR_ARG(line->logger));
    while (str_chr(file, '/') < file.n)
        file = str_skip(file, str_chr(file, '/') + 1);
    buf_printf(&text, "|%s| - [" STR_FMT "] - %s - %u - ", log_level_name(line->level), STR_ARG(file),
               line->place->function, line->place->line);
    utf8_add_valid(&text, str_cut(line->message, LINE_BYTES));
    out = new_line(buf_str(&key), buf_str(&text));
    out->ts = line->wall_ms;
    out->is_own = is_own;
    if (post(logging, out))
        return;
    mem_free(out);
    atomic_fetch_sub(&logging->n_remote, 1);
}

static void take_line(void *arg, const struct log_line *line)
{
    struct logging *logging = arg;

    if (line->is_local)
        log_routes_write(logging->routes, line);
    if (line->is_remote)
        take_remote(logging, line);
}

/* --- what goes to the platform: main loop ------------------------------------------------------------------------------------- */

static void say_reason(struct logging *logging)
{
    autobuf struct buf json = {0};

    if (!logging->reason.n || !logging->is_up)
        return;
    buf_add_z(&json, "{\"LOGS\":");
    json_add_string(&json, buf_str(&logging->reason));
    buf_add_u8(&json, '}');
    north_own_telemetry(logging->north, buf_str(&json));
    logging->reason.n = 0;
}

/* The writer's thread. */
static void note_trouble(void *arg, struct str reason)
{
    struct logging *logging = arg;
    struct remote_line *line = new_line(STR_NONE, reason);

    line->is_trouble = true;
    if (post(logging, line))
        return;
    mem_free(line);
    pthread_mutex_lock(&logging->gate);
    logging->early.n = 0;
    buf_add_str(&logging->early, reason);
    pthread_mutex_unlock(&logging->gate);
}

static void add_line(struct logging *logging, struct buf *json, int64_t ts, struct str key, struct str text,
                     bool is_own)
{
    if (UNLIKELY(ts < clock_build_ms) &&
        !loop_stamp(logging->main->loop, &ts)) /* the clock was not set when it was said */
        ts = clock_build_ms;
    logging->last_ts = ts > logging->last_ts ? ts : logging->last_ts + 1; /* else one would replace the other */
    buf_printf(json, "%s{\"ts\":%lld,\"values\":{", json->n > 1 ? "," : "", (long long)logging->last_ts);
    json_add_string(json, key);
    buf_add_u8(json, ':');
    json_add_string(json, text);
    if (is_own) {
        buf_add_z(json, ",\"LOGS\":");
        json_add_string(json, text);
    }
    buf_add_z(json, "}}");
}

/* A line that is larger than a message is cut. */
static void add_alone(struct logging *logging, struct buf *json, const struct remote_line *line, size_t limit)
{
    size_t before = json->n, n = line->text.n;
    int64_t ts = logging->last_ts;

    do {
        autobuf struct buf text = {0};

        n /= 2;
        json->n = before;
        logging->last_ts = ts;
        utf8_add_valid(&text, str_cut(line->text, n));
        buf_add_z(&text, "…");
        add_line(logging, json, line->ts, line->key, buf_str(&text), line->is_own);
    } while (json->n + 1 > limit && n > 0);
}

/* How many were dropped; another time, if it does not fit into this message. */
static void add_lost(struct logging *logging, struct buf *json, unsigned n_lost, size_t limit)
{
    size_t before = json->n;
    int64_t ts = logging->last_ts;
    autobuf struct buf text = {0};

    buf_printf(&text, "|WARNING| - %u log lines were not sent: they came faster than they can be", n_lost);
    add_line(logging, json, loop_wall_ms(logging->main->loop), STR("SERVICE_LOGS"), buf_str(&text), true);
    if (json->n + 1 <= limit)
        return;
    json->n = before;
    logging->last_ts = ts;
    atomic_fetch_add(&logging->n_remote_dropped, n_lost);
}

/* One message; false: nothing waits. */
static bool send_lines(struct logging *logging, size_t limit)
{
    unsigned n = 0, n_lost = atomic_exchange(&logging->n_remote_dropped, 0);
    autobuf struct buf json = {0};

    buf_add_u8(&json, '[');
    while (logging->first && n < REMOTE_A_MESSAGE) {
        struct remote_line *line = CONTAINER_OF(logging->first, struct remote_line, node);
        size_t before = json.n;
        int64_t ts = logging->last_ts;

        add_line(logging, &json, line->ts, line->key, line->text, line->is_own);
        if (json.n + 1 > limit) {
            json.n = before;
            logging->last_ts = ts;
            if (n > 0)
                break;
            add_alone(logging, &json, line, limit);
        }
        logging->first = line->node.next;
        if (!logging->first)
            logging->last = &logging->first;
        mem_free(line);
        atomic_fetch_sub(&logging->n_remote, 1);
        n++;
    }
    if (n_lost)
        add_lost(logging, &json, n_lost, limit);
    if (json.n == 1)
        return false;
    buf_add_u8(&json, ']');
    north_own_telemetry(logging->north, buf_str(&json));
    return true;
}

static void send_remote(void *arg)
{
    struct logging *logging = arg;
    struct uplink_status status;
    size_t limit;

    if (!logging->is_up)
        return;
    status = north_status(logging->north);
    limit = status.payload_limit > PAYLOAD_MIN ? status.payload_limit : PAYLOAD_MIN;
    for (int i = 0; i < REMOTE_MESSAGES && send_lines(logging, limit); i++)
        ;
    if (logging->first)
        timer_start(&logging->remote_timer, REMOTE_MS);
}

static void lines_came(void *arg, struct node *nodes)
{
    struct logging *logging = arg;

    for (struct node *next; nodes; nodes = next) {
        struct remote_line *line = CONTAINER_OF(nodes, struct remote_line, node);

        next = nodes->next;
        nodes->next = NULL;
        if (line->is_trouble) {
            logging->reason.n = 0;
            buf_add_str(&logging->reason, line->text);
            say_reason(logging);
            mem_free(line);
            continue;
        }
        *logging->last = nodes;
        logging->last = &nodes->next;
    }
    if (logging->first && logging->is_up && !timer_is_running(&logging->remote_timer))
        timer_start(&logging->remote_timer, REMOTE_MS);
}

/* --- error counters -------------------------------------------------------------------------------------------------------------- */

static void note_count(void *arg, const char *name, uint64_t n)
{
    struct logging *logging = arg;
    struct count *count = map_get(&logging->counts, str_from(name));

    if (!count) {
        size_t name_n = strlen(name) + 1;

        if (!n)
            return;
        count = mem_zero(sizeof *count + name_n);
        memcpy(count->name, name, name_n);
        map_put(&logging->counts, str_from(count->name), count);
    }
    count->now = n;
}

/* Counters begin anew each minute, each once its last number is told; a message has those that have changed. */
static void send_errors(void *arg)
{
    struct logging *logging = arg;
    uint64_t now = loop_mono_ms(logging->main->loop), all = 0;
    bool is_reset = now - logging->reset_ms >= ERRORS_RESET_MS;
    autobuf struct buf json = {0};

    log_each_error_count(note_count, logging);
    if (!logging->is_up)
        return;
    buf_add_u8(&json, '{');
    for (struct map_slot *slot = NULL; (slot = map_next(&logging->counts, slot));) {
        struct count *count = slot->value;
        uint64_t n = count->now - count->base;

        if (is_reset) {
            n = n == count->sent ? 0 : n;
            count->base = count->now;
        }
        all += n;
        if (n == count->sent)
            continue;
        autobuf struct buf key = {0};

        buf_printf(&key, "%s_ERRORS_COUNT", count->name);
        json_add_string(&json, buf_str(&key));
        buf_printf(&json, ":%llu,", (unsigned long long)n);
        count->sent = n;
    }
    if (is_reset)
        logging->reset_ms = now;
    if (json.n == 1 && all == logging->all_sent)
        return;
    logging->all_sent = all;
    buf_printf(&json, "\"ALL_ERRORS_COUNT\":%llu}", (unsigned long long)all);
    north_own_telemetry(logging->north, buf_str(&json));
}

/* --- routes ---------------------------------------------------------------------------------------------------------------------- */

/* The first error of logs.json. */
static const struct problem *find_problem(const struct problems *known)
{
    for (const struct problem *problem = known ? known->first : NULL; problem; problem = problem->next)
        if (problem->severity == CONF_ERROR && problem->file && str_ends(str_from(problem->file), STR("logs.json")))
            return problem;
    return NULL;
}

static const char *logs_directory(void)
{
    static const char *const names[] = {"TB_GW_LOGS_PATH", "IOTGW_LOGS_PATH", "INDUSTRYOS_GW_LOGS_PATH"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (getenv(names[i]) && *getenv(names[i]))
            return getenv(names[i]);
    return NULL;
}

static struct log_routes *make_routes(struct logging *logging, const struct gateway_conf *conf)
{
    struct log_routes *routes = log_routes_new(conf->logs, !conf->logs && conf->n_errors.logs > 0, logs_directory());

    log_routes_on_trouble(routes, note_trouble, logging);
    return routes;
}

struct change { /* main loop → writer */
    struct logging *logging;
    struct log_routes *routes;
};

static void change_routes(void *arg)
{
    struct change *change = arg;

    log_routes_free(change->logging->routes);
    change->logging->routes = change->routes;
    mem_free(change);
}

static void reopen(void *arg)
{
    log_routes_reopen(((struct logging *)arg)->routes);
}

static void free_lines(struct logging *logging, struct node *nodes)
{
    for (struct node *next; nodes; nodes = next) {
        struct remote_line *line = CONTAINER_OF(nodes, struct remote_line, node);

        next = nodes->next;
        if (!line->is_trouble)
            atomic_fetch_sub(&logging->n_remote, 1);
        mem_free(line);
    }
}

/* --- exported -------------------------------------------------------------------------------------------------------------------- */

struct logging *logging_new(const struct gateway_conf *conf, const struct problems *known)
{
    struct logging *logging = mem_zero(sizeof *logging);
    const struct problem *problem = find_problem(known);

    pthread_mutex_init(&logging->gate, NULL);
    logging->remote_level = LOG_LEVEL_OFF;
    logging->last = &logging->first;
    logging->routes = make_routes(logging, conf);
    if (problem) {
        buf_add_z(&logging->reason, "logs.json: ");
        problem_add_text(&logging->reason, problem);
    }
    log_set_output(take_line, NULL, logging);
    (void)!log_start_writer(); /* without it whoever logs writes, to standard error */
    return logging;
}

void logging_free(struct logging *logging)
{
    if (!logging)
        return;
    log_flush(true);
    if (!log_stop_writer())
        return; /* it hangs in a write, and all of this stays its own */
    log_set_output(NULL, NULL, NULL);
    log_routes_free(logging->routes);
    pthread_mutex_destroy(&logging->gate);
    buf_fini(&logging->reason);
    buf_fini(&logging->early);
    mem_free(logging);
}

void logging_add(struct logging *logging, struct log *log)
{
    assert(logging->n_logs < OWN_LOGS);
    logging->logs[logging->n_logs++] = log;
}

void logging_attach(struct logging *logging, struct runner *main, struct fleet *fleet, struct north *north)
{
    logging->main = main;
    logging->fleet = fleet;
    logging->north = north;
    logging->reset_ms = loop_mono_ms(main->loop);
    mailbox_init(&logging->box, main->loop, lines_came, logging);
    timer_init(&logging->remote_timer, main->loop, send_remote, logging);
    timer_init(&logging->errors_timer, main->loop, send_errors, logging);
    timer_start_periodic(&logging->errors_timer, ERRORS_MS, ERRORS_MS);
    pthread_mutex_lock(&logging->gate);
    logging->is_taken = true;
    if (logging->early.n && !logging->reason.n)
        buf_add_str(&logging->reason, buf_str(&logging->early));
    logging->early.n = 0;
    pthread_mutex_unlock(&logging->gate);
}

void logging_stop(struct logging *logging)
{
    logging->is_up = false;
    timer_stop(&logging->remote_timer);
    timer_stop(&logging->errors_timer);
}

void logging_detach(struct logging *logging)
{
    if (!logging->main)
        return;
    pthread_mutex_lock(&logging->gate);
    logging->is_taken = false;
    pthread_mutex_unlock(&logging->gate);
    log_flush(true);
    logging->n_logs = 0;
    logging->is_up = false;
    free_lines(logging, logging->first);
    free_lines(logging, mailbox_fini(&logging->box)); /* what came after the loop's last turn */
    logging->first = NULL;
    logging->last = &logging->first;
    for (struct map_slot *slot = NULL; (slot = map_next(&logging->counts, slot));)
        mem_free(slot->value);
    map_fini(&logging->counts);
    logging->main = NULL;
}

void logging_session(struct logging *logging, bool is_up)
{
    logging->is_up = is_up;
    say_reason(logging);
    if (is_up && logging->first && !timer_is_running(&logging->remote_timer))
        timer_start(&logging->remote_timer, REMOTE_MS);
}

void logging_apply(struct logging *logging, const struct gateway_conf *conf)
{
    struct change *change = mem_new(sizeof *change);

    *change = (struct change){logging, make_routes(logging, conf)};
    log_on_writer(change_routes, change);
    for (size_t i = 0; i < logging->n_logs; i++)
        log_set_level(logging->logs[i], logger_level(conf, str_from(logging->logs[i]->name)));
}

void logging_reopen(struct logging *logging)
{
    log_on_writer(reopen, logging);
}

enum err logging_level_of(struct str text, enum log_level *out)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"NONE", LOG_LEVEL_OFF},    {"NOTSET", LOG_LEVEL_OFF},   {"CRITICAL", LOG_LEVEL_ERROR},
                  {"ERROR", LOG_LEVEL_ERROR}, {"WARNING", LOG_LEVEL_WARN}, {"WARN", LOG_LEVEL_WARN},
                  {"INFO", LOG_LEVEL_INFO},   {"DEBUG", LOG_LEVEL_DEBUG},  {"TRACE", LOG_LEVEL_TRACE},
                  {"0", LOG_LEVEL_TRACE},     {"5", LOG_LEVEL_TRACE},      {"10", LOG_LEVEL_DEBUG},
                  {"20", LOG_LEVEL_INFO},     {"30", LOG_LEVEL_WARN},      {"40", LOG_LEVEL_ERROR},
                  {"50", LOG_LEVEL_ERROR},    {"100", LOG_LEVEL_OFF}};

    for (size_t i = 0; i < COUNT_OF(levels); i++)
        if (str_eq_nocase(text, str_from(levels[i].name))) {
            *out = levels[i].level;
            return ERR_OK;
        }
    return ERR_RANGE;
}

enum err logging_set_level(struct logging *logging, struct str name, enum log_level level)
{
    const struct str suffix = STR("_converter");
    struct ctx *ctx;

    for (size_t i = 0; i < logging->n_logs; i++)
        if (str_eq_z(name, logging->logs[i]->name)) {
            log_set_level(logging->logs[i], level);
            return ERR_OK;
        }
    ctx = logging->fleet ? fleet_ctx(logging->fleet, name) : NULL;
    if (ctx) {
        log_set_level(ctx_log(ctx), level);
        log_set_level(ctx_converter_log(ctx), level);
        return ERR_OK;
    }
    if (logging->fleet && str_ends(name, suffix))
        ctx = fleet_ctx(logging->fleet, str_cut(name, name.n - suffix.n));
    if (!ctx)
        return ERR_NOTFOUND;
    log_set_level(ctx_converter_log(ctx), level);
    return ERR_OK;
}

void logging_set_remote_level(struct logging *logging, enum log_level level)
{
    logging->remote_level = level;
    for (size_t i = 0; i < logging->n_logs; i++)
        log_set_remote_level(logging->logs[i], level);
}
