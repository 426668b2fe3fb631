/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/log_route.h"

#include "base/clock.h"
#include "base/map.h"
#include "gateway/log_file.h"
#include "gateway/log_format.h"
#include "gateway/logging.h"

#include <errno.h>
#include <unistd.h>

enum { TARGETS_MAX = 16, FILE_NAME_MAX = 120 };

struct handler {
    struct str name;
    int fd; /* standard output or error; -1: a file */
    int level;
    const struct log_format *format; /* NULL: the plain form */
    struct log_file_conf file;
};
struct logger {
    struct str name;
    size_t handlers[TARGETS_MAX], n;
    bool propagates;
};
struct opened { /* each path once, whoever writes to it */
    struct opened *next;
    struct log_file *file;
    bool is_broken; /* as told */
};
struct target {
    const struct handler *handler;
    struct opened *file; /* NULL: a stream */
};
struct route { /* of one logger that has logged */
    struct target targets[2 * TARGETS_MAX];
    size_t n;
    size_t key_n;
    char key[];
};

struct log_routes {
    struct arena arena;
    bool is_plain, is_bad;
    struct handler *handlers;
    struct logger *loggers, root;
    size_t n_handlers, n_loggers;
    struct opened *files;
    struct map routes; /* kind and name → struct route */
    struct buf text;
    log_trouble_fn *trouble;
    void *arg;
};

/* --- making ---------------------------------------------------------------------------------------------------------------- */

static const struct formatter_conf *formatter_of(const struct logs_conf *logs, struct str name)
{
    for (size_t i = 0; i < logs->formatters.n; i++)
        if (name.n && str_eq(logs->formatters.items[i].key, name))
            return logs->formatters.items[i].value;
    return NULL;
}

static struct str base_of(struct str path)
{
    size_t n = path.n;

    while (n && path.p[n - 1] != '/')
        n--;
    return str_skip(path, n);
}

static void make_handler(struct log_routes *routes, struct handler *out, struct str name, const struct logs_conf *logs,
                         const struct handler_conf *conf, const char *directory)
{
    const struct formatter_conf *formatter = formatter_of(logs, conf->formatter);
    bool is_timed = str_ends(conf->class_name, STR("TimedRotatingFileHandler"));
    bool is_rotating = str_ends(conf->class_name, STR("RotatingFileHandler"));
    struct arena *arena = &routes->arena;

    *out = (struct handler){.name = arena_str(arena, name), .fd = -1, .level = conf->level};
    if (formatter)
        out->format = log_format_new(arena, formatter->format, formatter->datefmt);
    if (str_ends(conf->class_name, STR("StreamHandler"))) {
        out->fd = str_eq(conf->stream, STR("ext://sys.stdout")) ? STDOUT_FILENO : STDERR_FILENO;
        return;
    }
    out->file = (struct log_file_conf){.when = is_timed ? (enum log_when)conf->when : LOG_BY_SIZE,
                                       .interval = conf->interval,
                                       .n_kept = conf->backup_count,
                                       .max_bytes = is_rotating && conf->max_bytes > 0 ? (uint64_t)conf->max_bytes : 0,
                                       .is_utc = conf->utc};
    if (directory) {
        struct str base = base_of(conf->filename);

        out->file.path =
            arena_printf(arena, "%s%s" STR_FMT "%c", directory,
                         *directory && str_ends(str_from(directory), STR("/")) ? "" : "/", STR_ARG(base), 0)
                .p;
    } else {
        out->file.path = arena_text(arena, conf->filename);
    }
}

static void make_logger(struct log_routes *routes, struct logger *out, struct str name, const struct logger_conf *conf)
{
    *out = (struct logger){.name = arena_str(&routes->arena, name), .propagates = conf->propagate};
    for (size_t i = 0; i < conf->handlers.n; i++)
        for (size_t k = 0; k < routes->n_handlers && out->n < TARGETS_MAX; k++)
            if (str_eq(conf->handlers.items[i], routes->handlers[k].name))
                out->handlers[out->n++] = k;
}

struct log_routes *log_routes_new(const struct logs_conf *logs, bool is_bad, const char *directory)
{
    struct log_routes *routes = mem_zero(sizeof *routes);

    arena_init(&routes->arena, 1024);
    routes->is_bad = is_bad;
    routes->is_plain = is_bad || !logs;
    if (routes->is_plain)
        return routes;
    routes->handlers = arena_zero(&routes->arena, (logs->handlers.n + 1) * sizeof *routes->handlers);
    routes->loggers = arena_zero(&routes->arena, (logs->loggers.n + 1) * sizeof *routes->loggers);
    for (size_t i = 0; i < logs->handlers.n; i++)
        if (logs->handlers.items[i].value)
            make_handler(routes, &routes->handlers[routes->n_handlers++], logs->handlers.items[i].key, logs,
                         logs->handlers.items[i].value, directory);
    for (size_t i = 0; i < logs->loggers.n; i++)
        if (logs->loggers.items[i].value)
            make_logger(routes, &routes->loggers[routes->n_loggers++], logs->loggers.items[i].key,
                        logs->loggers.items[i].value);
    if (logs->root)
        make_logger(routes, &routes->root, STR("root"), logs->root);
    return routes;
}

void log_routes_on_trouble(struct log_routes *routes, log_trouble_fn *trouble, void *arg)
{
    routes->trouble = trouble;
    routes->arg = arg;
}

void log_routes_free(struct log_routes *routes)
{
    if (!routes)
        return;
    for (struct map_slot *slot = NULL; (slot = map_next(&routes->routes, slot));)
        mem_free(slot->value);
    map_fini(&routes->routes);
    while (routes->files) {
        struct opened *opened = routes->files;

        routes->files = opened->next;
        log_file_free(opened->file);
        mem_free(opened);
    }
    buf_fini(&routes->text);
    arena_fini(&routes->arena);
    mem_free(routes);
}

/* --- finding --------------------------------------------------------------------------------------------------------------- */

void logging_file_name(struct buf *out, struct str name)
{
    size_t begin = out->n;

    for (size_t i = 0; i < name.n && out->n - begin < FILE_NAME_MAX; i++) {
        unsigned char c = (unsigned char)name.p[i];

        if (c >= 'A' && c <= 'Z')
            buf_add_u8(out, (uint8_t)(c - 'A' + 'a'));
        else if (c == ' ')
            buf_add_u8(out, '_');
        else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c >= 0x80)
            buf_add_u8(out, c);
    }
    if (out->n == begin)
        buf_add_z(out, "unnamed");
}

static struct opened *open_file(struct log_routes *routes, const struct log_file_conf *conf)
{
    struct opened *opened = routes->files;

    while (opened && strcmp(log_file_path(opened->file), conf->path) != 0)
        opened = opened->next;
    if (!opened) {
        opened = mem_zero(sizeof *opened);
        opened->file = log_file_new(conf);
        opened->next = routes->files;
        routes->files = opened;
    }
    return opened;
}

static const struct logger *logger_named(const struct log_routes *routes, struct str name)
{
    for (size_t i = 0; i < routes->n_loggers; i++)
        if (str_eq(routes->loggers[i].name, name))
            return &routes->loggers[i];
    return NULL;
}

/* own: the file's name is of this logger instead of the handler's own. */
static void add_targets(struct log_routes *routes, struct route *route, const struct logger *logger, struct str own,
                        const char *suffix)
{
    bool is_converter = !strcmp(suffix, "_converter");

    for (size_t i = 0; i < logger->n && route->n < COUNT_OF(route->targets); i++) {
        const struct handler *handler = &routes->handlers[logger->handlers[i]];
        struct log_file_conf file = handler->file;
        struct target *target = &route->targets[route->n];
        autobuf struct buf path = {0};

        *target = (struct target){.handler = handler};
        if (handler->fd < 0) {
            if (own.n) {
                struct str model = str_from(file.path), name = own;

                if (is_converter && str_ends(own, str_from(suffix)))
                    name = str_cut(own, own.n - strlen(suffix));
                buf_add_str(&path, str_cut(model, model.n - base_of(model).n));
                logging_file_name(&path, name);
                buf_printf(&path, "%s.log%c", suffix, 0);
                file.path = (const char *)path.p;
            }
            target->file = open_file(routes, &file);
        }
        for (size_t k = 0; k < route->n; k++) /* a stream named twice, by root for example, gets a line once */
            if (target && route->targets[k].handler == handler)
                target = NULL;
        route->n += target != NULL;
    }
}

static struct route *route_of(struct log_routes *routes, const struct log_line *line)
{
    static const char *const models[] = {
        [LOG_OF_GATEWAY] = "service", [LOG_OF_CONNECTOR] = "connector", [LOG_OF_CONVERTER] = "converter"};
    static const char *const suffixes[] = {"", "_connector", "_converter"};
    autobuf struct buf key = {0};
    const struct logger *logger;
    struct route *route;
    bool is_own;

    buf_add_u8(&key, (uint8_t)('0' + line->kind));
    buf_add_str(&key, line->logger);
    route = map_get(&routes->routes, buf_str(&key));
    if (route)
        return route;
    route = mem_zero(sizeof *route + key.n);
    route->key_n = key.n;
    memcpy(route->key, key.p, key.n);
    map_put(&routes->routes, str_of(route->key, key.n), route);
    logger = logger_named(routes, line->logger);
    is_own = logger != NULL;
    if (!logger)
        logger = logger_named(routes, str_from(models[line->kind]));
    if (logger)
        add_targets(routes, route, logger, is_own || line->kind == LOG_OF_GATEWAY ? STR_NONE : line->logger,
                    suffixes[line->kind]);
    if (!logger || logger->propagates)
        add_targets(routes, route, &routes->root, STR_NONE, "");
    return route;
}

/* --- writing --------------------------------------------------------------------------------------------------------------- */

static void put_stream(int fd, const struct log_line *line, struct str text)
{
    char priority[] = {'<', log_priority(line->level), '>'};

    if (log_is_journal(fd) && write(fd, priority, sizeof priority) < 0)
        return;
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text = str_skip(text, (size_t)n);
    }
}

static void tell_trouble(struct log_routes *routes, struct opened *opened, const struct why *why)
{
    if (opened->is_broken)
        return;
    opened->is_broken = true;
    buf_fini(&routes->text);
    routes->text = (struct buf){0};
    buf_printf(&routes->text, "log file cannot be written, its lines go to standard error: %s", why_text(why));
    log_put_plain(STDERR_FILENO, &(struct log_line){.level = LOG_LEVEL_ERROR,
                                                    .logger = STR("service"),
                                                    .message = buf_str(&routes->text),
                                                    .wall_ms = clock_wall_ms()});
    if (routes->trouble)
        routes->trouble(routes->arg, buf_str(&routes->text));
}

static bool put_target(struct log_routes *routes, const struct target *target, const struct log_line *line)
{
    struct buf *text = &routes->text;
    struct why why = {0};

    if ((int)line->level < target->handler->level)
        return true;
    if (!target->file && !target->handler->format) {
        log_put_plain(target->handler->fd, line);
        return true;
    }
    text->n = 0;
    if (target->handler->format)
        log_format_put(target->handler->format, line, text);
    else
        log_format_default(line, text);
    buf_add_u8(text, '\n');
    if (!target->file) {
        put_stream(target->handler->fd, line, buf_str(text));
        return true;
    }
    if (log_file_write(target->file->file, buf_str(text), line->wall_ms, &why)) {
        tell_trouble(routes, target->file, &why);
        return false;
    }
    target->file->is_broken = false;
    return true;
}

void log_routes_write(struct log_routes *routes, const struct log_line *line)
{
    const struct route *route;
    bool is_lost = false, is_shown = false;

    if (routes->is_plain) {
        if (!routes->is_bad || line->level >= LOG_LEVEL_INFO)
            log_put_plain(routes->is_bad ? STDOUT_FILENO : STDERR_FILENO, line);
        return;
    }
    route = route_of(routes, line);
    for (size_t i = 0; i < route->n; i++) {
        bool is_put = put_target(routes, &route->targets[i], line);

        is_lost = is_lost || !is_put;
        is_shown = is_shown || (is_put && !route->targets[i].file);
    }
    if (is_lost && !is_shown)
        log_put_plain(STDERR_FILENO, line);
}

void log_routes_reopen(struct log_routes *routes)
{
    for (struct opened *opened = routes->files; opened; opened = opened->next)
        log_file_reopen(opened->file);
}
