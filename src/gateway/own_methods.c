/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/own_methods.h"

#include "gateway/router_impl.h"
#include "io/child.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_MS = 5000, RUNS_MAX = 8, ANSWER_MAX = 64 * 1024, NAME_MAX_BYTES = 64 };

struct own_methods {
    struct router *router;
    char *dir; /* absolute: programs run in it */
    struct list runs;
    unsigned n_runs;
};

struct method_run {
    struct own_methods *methods;
    struct list node;
    struct router_request *request;
    struct child *child;
    struct timer limit;
    struct buf output;
    char name[NAME_MAX_BYTES + 1];
};

static void answer_error(struct router_request *request, struct str text, int code)
{
    autobuf struct buf out = {0};

    buf_add_z(&out, "{\"error\":");
    json_add_string(&out, text);
    buf_printf(&out, ",\"code\":%d}", code);
    router_answer(request, buf_str(&out), 1);
}

static void run_free(struct method_run *run)
{
    timer_stop(&run->limit);
    child_abandon(run->child);
    list_del(&run->node);
    run->methods->n_runs--;
    buf_fini(&run->output);
    mem_free(run);
}

static void run_failed(struct method_run *run, const char *what, int code)
{
    struct router_request *request = run->request;

    LOG_WARN(run->methods->router->log, "a method of the gateway's operator failed", KV_Z("method", run->name),
             KV_Z("because", what));
    run_free(run);
    answer_error(request, str_from(what), code);
}

static void on_output(void *arg, struct str bytes)
{
    struct method_run *run = arg;

    if (run->output.n + bytes.n > ANSWER_MAX)
        run_failed(run, "The program answers more than 64 KiB", 413);
    else
        buf_add_str(&run->output, bytes);
}

static void on_ended(void *arg, int64_t status, int signal)
{
    struct method_run *run = arg;
    struct router_request *request = run->request;
    struct str text = str_trim(buf_str(&run->output));
    autobuf struct buf out = {0}, reason = {0};

    run->child = NULL;
    if (status || signal) {
        buf_printf(&reason, signal ? "The program was ended by signal %d" : "The program ended with status %d",
                   signal ? signal : (int)status);
        buf_add_u8(&reason, 0);
        run_failed(run, (const char *)reason.p, 500);
        return;
    }
    if (text.n)
        form_checked(&out, text);
    else
        buf_add_z(&out, "{\"success\":true}");
    run_free(run);
    router_answer(request, buf_str(&out), 1);
}

static void limit_is_due(void *arg)
{
    run_failed(arg, "The program takes longer than 5 s", 408);
}

/* One name in one directory: nothing that leads elsewhere, nothing hidden. */
static bool is_name(struct str name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

    if (!name.n || name.n > NAME_MAX_BYTES || *name.p == '.' || *name.p == '-')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!name.p[i] || !strchr(allowed, name.p[i]))
            return false;
    return true;
}

static bool is_program(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

bool own_methods_request(struct own_methods *methods, struct router_request *request, struct str name,
                         struct str params)
{
    autobuf struct buf path = {0};
    struct why why = {0};
    struct method_run *run;
    enum err err;

    if (!is_name(name))
        return false;
    buf_printf(&path, "%s/rpc/" STR_FMT, methods->dir, STR_ARG(name));
    buf_add_u8(&path, 0);
    if (!is_program((const char *)path.p))
        return false;
    if (methods->n_runs >= RUNS_MAX) {
        answer_error(request, STR("The gateway is busy"), 503);
        return true;
    }
    run = mem_zero(sizeof *run);
    run->methods = methods;
    run->request = request;
    memcpy(run->name, name.p, name.n);
    timer_init(&run->limit, methods->router->main, limit_is_due, run);
    list_add_tail(&methods->runs, &run->node);
    methods->n_runs++;
    err = child_start(&run->child, methods->router->main,
                      &(struct child_conf){.argv = (const char *const[]){(const char *)path.p, NULL},
                                           .directory = methods->dir,
                                           .input = params,
                                           .output = on_output,
                                           .ended = on_ended,
                                           .arg = run},
                      &why);
    if (err)
        run_failed(run, why_text(&why), 500);
    else
        timer_start(&run->limit, LIMIT_MS);
    return true;
}

struct own_methods *own_methods_new(struct router *router, const char *config_dir)
{
    struct own_methods *methods = mem_zero(sizeof *methods);
    char *real = realpath(config_dir ? config_dir : ".", NULL);

    methods->router = router;
    methods->dir = mem_dup(real ? real : "/");
    free(real);
    list_init(&methods->runs);
    return methods;
}

void own_methods_stop(struct own_methods *methods)
{
    struct list *node;

    while ((node = list_first(&methods->runs)))
        run_failed(CONTAINER_OF(node, struct method_run, node), "The gateway is stopping", 503);
}

void own_methods_free(struct own_methods *methods)
{
    if (!methods)
        return;
    mem_free(methods->dir);
    mem_free(methods);
}
