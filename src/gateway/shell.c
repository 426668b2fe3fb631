/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shell.h"

#include "gateway/router_impl.h"
#include "io/child.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
    OUTPUT_MAX = 256 * 1024,
    KILL_MS = 2000,        /* from SIGTERM to SIGKILL */
    ANSWER_MAX = 8196 / 2, /* while the platform's limit is not known */
    ANSWER_MIN = 256,      /* of output, whatever the limit */
    AROUND = 256,          /* what stands around output and directory in an answer, and around the answer */
    PIECE = 64             /* bytes of output that are made JSON at once: at most 6 times as many */
};

struct shell {
    struct router *router;
    struct child *child; /* NULL: no command runs */
    struct buf output;   /* since it was asked for last */
    char *home, *cwd;    /* where it begins; where it is */
    struct timer kill;
};

/* --- the command that runs -------------------------------------------------------------------------------------------------- */

static void on_output(void *arg, struct str bytes)
{
    struct shell *shell = arg;

    buf_add_str(&shell->output, bytes);
    if (shell->output.n >= OUTPUT_MAX)
        child_pause(shell->child, true);
}

static void on_ended(void *arg, int64_t status UNUSED, int signal UNUSED)
{
    struct shell *shell = arg;

    timer_stop(&shell->kill);
    shell->child = NULL;
}

static void kill_is_due(void *arg)
{
    struct shell *shell = arg;

    child_pause(shell->child, false);
    child_signal(shell->child, SIGKILL);
}

static void end_command(struct shell *shell)
{
    timer_stop(&shell->kill);
    child_abandon(shell->child);
    shell->child = NULL;
    shell->output.n = 0;
}

static NODISCARD enum err run(struct shell *shell, struct str command, struct why *why)
{
    autofree char *text = mem_zero(command.n + 1);
    const char *const argv[] = {"/bin/sh", "-c", memcpy(text, command.p, command.n), NULL};
    const struct child_conf conf = {.argv = argv,
                                    .directory = shell->cwd,
                                    .has_errors_in_output = true,
                                    .output = on_output,
                                    .ended = on_ended,
                                    .arg = shell};

    LOG_INFO(shell->router->log, "runs a shell command of the platform", KV_Z("directory", shell->cwd));
    return child_start(&shell->child, shell->router->main, &conf, why);
}

/* --- directories --------------------------------------------------------------------------------------------------------------- */

/* Where to leads from here; false: not to a directory, and errno says why. */
static bool go(struct shell *shell, struct str to)
{
    autobuf struct buf path = {0};
    const char *home = getenv("HOME");
    struct stat info;
    char *real;

    if (!to.n || *to.p == '~') {
        buf_add_z(&path, home ? home : "/");
        to = str_skip(to, 1);
    } else if (*to.p != '/') {
        buf_add_z(&path, shell->cwd);
        buf_add_u8(&path, '/');
    }
    buf_add_str(&path, to);
    buf_add_u8(&path, 0);
    real = realpath((const char *)path.p, NULL);
    if (!real)
        return false;
    if (stat(real, &info) || !S_ISDIR(info.st_mode)) {
        free(real);
        errno = ENOTDIR;
        return false;
    }
    mem_free(shell->cwd);
    shell->cwd = mem_dup(real);
    free(real);
    return true;
}

/* "cd DIR" and nothing else; all that a shell would interpret is the shell's. */
static bool is_cd(struct str command, struct str *to)
{
    struct str rest = str_trim(str_skip(command, 2));

    if (!str_starts(command, STR("cd")) || (command.n > 2 && command.p[2] != ' ' && command.p[2] != '\t'))
        return false;
    if (rest.n >= 2 && (*rest.p == '"' || *rest.p == '\'') && rest.p[rest.n - 1] == *rest.p)
        rest = str_of(rest.p + 1, rest.n - 2);
    for (size_t i = 0; i < rest.n; i++)
        if (strchr(";&|<>$`*?\"'()\\\n", rest.p[i]))
            return false;
    *to = rest;
    return true;
}

static void change_directory(struct shell *shell, struct str to)
{
    if (!go(shell, to))
        buf_printf(&shell->output, "cd: " STR_FMT ": %s\n", STR_ARG(to), strerror(errno));
}

/* --- methods --------------------------------------------------------------------------------------------------------------------- */

static void term_info(struct shell *shell, struct router_request *request, yyjson_val *params UNUSED)
{
    autobuf struct buf out = {0};
    struct utsname system = {0};

    (void)uname(&system);
    buf_add_z(&out, "{\"platform\":");
    json_add_string(&out, str_from(system.sysname));
    buf_add_z(&out, ",\"release\":");
    json_add_string(&out, str_from(system.release));
    buf_add_z(&out, ",\"cwd\":");
    json_add_string(&out, str_from(shell->cwd));
    buf_add_u8(&out, '}');
    router_answer(request, buf_str(&out), 1);
}

static void answer_error(struct router_request *request, struct str text)
{
    autobuf struct buf out = {0};

    buf_add_z(&out, "{\"ok\":false,\"error\":");
    json_add_string(&out, text);
    buf_add_u8(&out, '}');
    router_answer(request, buf_str(&out), 0);
}

static void send_command(struct shell *shell, struct router_request *request, yyjson_val *params)
{
    struct str command = str_trim(json_str(json_get(params, STR("command"))));
    struct str directory = json_str(json_get(params, STR("cwd"))), to;
    struct why why = {0};

    if (!command.n || str_chr(command, 0) < command.n || str_chr(directory, 0) < directory.n) {
        answer_error(request, STR("The request has no command"));
        return;
    }
    end_command(shell);
    if (directory.n && !go(shell, directory)) {
        answer_error(request, str_from(strerror(errno)));
        return;
    }
    if (str_eq_z(command, "quit") || str_eq_z(command, "exit")) {
        mem_free(shell->cwd);
        shell->cwd = mem_dup(shell->home);
    } else if (is_cd(command, &to)) {
        change_directory(shell, to);
    } else if (run(shell, command, &why)) {
        answer_error(request, str_from(why_text(&why)));
        return;
    }
    router_answer(request, STR("{\"ok\":true}"), 0);
}

static size_t length_of(uint8_t lead)
{
    return lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
}

/* Bytes at the front that are whole characters; 0: the rest of one may still come. */
static size_t whole(struct str text, bool is_all)
{
    size_t n = text.n < PIECE ? text.n : PIECE;

    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t byte = (uint8_t)text.p[n - back];

        if ((byte & 0xc0) == 0x80)
            continue;
        if (length_of(byte) > back && (n < text.n || !is_all))
            return n - back;
        break;
    }
    return n;
}

static void take_output(struct shell *shell, struct buf *out, size_t limit)
{
    struct str text = buf_str(&shell->output);
    size_t n;

    while (text.n && out->n < limit && (n = whole(text, !shell->child))) {
        json_add_escaped(out, str_of(text.p, n));
        text = str_skip(text, n);
    }
    buf_drop(&shell->output, shell->output.n - text.n);
    if (shell->child && shell->output.n < OUTPUT_MAX)
        child_pause(shell->child, false);
}

static void command_status(struct shell *shell, struct router_request *request, yyjson_val *params UNUSED)
{
    struct router *router = shell->router;
    size_t limit = router->north ? north_status(router->north).payload_limit : 0, around;
    autobuf struct buf out = {0}, cwd = {0};

    json_add_string(&cwd, str_from(shell->cwd));
    around = cwd.n + AROUND + (size_t)PIECE * 6;
    limit = limit ? limit : ANSWER_MAX;
    limit = limit > around + ANSWER_MIN ? limit - around : ANSWER_MIN;
    buf_add_z(&out, "{\"data\":[{\"stdout\":\"");
    take_output(shell, &out, limit);
    buf_add_z(&out, "\",\"stderr\":\"\"}],\"cwd\":");
    buf_add_str(&out, buf_str(&cwd));
    buf_printf(&out, ",\"done\":%s}", shell->child || shell->output.n ? "false" : "true");
    router_answer(request, buf_str(&out), 1);
}

static void terminate_command(struct shell *shell, struct router_request *request, yyjson_val *params UNUSED)
{
    if (!shell->child) {
        router_answer(request, STR("{\"ok\":false,\"error\":\"No command is running\"}"), 1);
        return;
    }
    child_signal(shell->child, SIGTERM);
    timer_start(&shell->kill, KILL_MS);
    router_answer(request, STR("{\"ok\":true}"), 1);
}

bool shell_request(struct shell *shell, struct router_request *request, yyjson_val *params)
{
    static const struct {
        const char *name;
        void (*fn)(struct shell *shell, struct router_request *request, yyjson_val *params);
    } methods[] = {{"getTermInfo", term_info},
                   {"sendCommand", send_command},
                   {"getCommandStatus", command_status},
                   {"terminateCommand", terminate_command}};

    if (yyjson_is_arr(params)) /* a list is spread over the arguments */
        params = yyjson_arr_get_first(params);
    for (size_t i = 0; i < COUNT_OF(methods); i++)
        if (str_eq_z(request->method, methods[i].name)) {
            methods[i].fn(shell, request, params);
            return true;
        }
    return false;
}

/* --- life ------------------------------------------------------------------------------------------------------------------------- */

struct shell *shell_new(struct router *router)
{
    struct shell *shell = mem_zero(sizeof *shell);
    char *here = getcwd(NULL, 0);

    shell->router = router;
    shell->home = mem_dup(here ? here : "/");
    shell->cwd = mem_dup(shell->home);
    free(here);
    timer_init(&shell->kill, router->main, kill_is_due, shell);
    return shell;
}

void shell_stop(struct shell *shell)
{
    end_command(shell);
}

void shell_free(struct shell *shell)
{
    if (!shell)
        return;
    buf_fini(&shell->output);
    mem_free(shell->home);
    mem_free(shell->cwd);
    mem_free(shell);
}
