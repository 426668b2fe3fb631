/* SPDX-License-Identifier: Apache-2.0 */
#include "io/child.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/*
 *   running ──exit──► exited ──end of output, or after a moment──► closing ──► freed
 *      └───abandon──► abandoned ──exit, or after a moment────────────┘
 */
enum {
    LAST_OUTPUT_MS = 300, /* after the exit: somebody who left the group may keep the pipe open for ever */
    LAST_EXIT_MS = 1000,  /* after SIGKILL: one that hangs in the kernel is not waited for */
    CHUNK = 16 * 1024
};

struct child {
    struct loop *loop;
    uv_process_t process;
    uv_pipe_t output, input;
    uv_write_t write;
    char *text; /* of input */
    struct timer last;
    child_output_fn *fn;
    child_ended_fn *ended;
    void *arg;
    unsigned n_open;
    bool is_paused, is_exited, is_at_end, is_abandoned, is_closing;
    int64_t status;
    int signal;
    char chunk[CHUNK];
};

static void on_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;

    if (--child->n_open > 0)
        return;
    mem_free(child->text);
    mem_free(child);
}

/* data is set once it is open */
static void close_handle(void *handle)
{
    if (((uv_handle_t *)handle)->data && !uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void close_all(struct child *child)
{
    if (child->is_closing)
        return;
    child->is_closing = true;
    timer_stop(&child->last);
    close_handle(&child->process);
    close_handle(&child->output);
    close_handle(&child->input);
}

static void look_for_end(struct child *child)
{
    if (!child->is_exited || !child->is_at_end || child->is_closing || child->is_abandoned)
        return;
    close_all(child); /* frees it in a later turn */
    child->ended(child->arg, child->status, child->signal);
}

static void last_is_due(void *arg)
{
    struct child *child = arg;

    if (child->is_abandoned) {
        close_all(child);
        return;
    }
    child->is_at_end = true;
    look_for_end(child);
}

static void on_room(uv_handle_t *handle, size_t size UNUSED, uv_buf_t *buf)
{
    struct child *child = handle->data;

    *buf = uv_buf_init(child->chunk, sizeof child->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct child *child = stream->data;

    if (n < 0) {
        uv_read_stop(stream);
        child->is_at_end = true;
        look_for_end(child);
    } else if (n > 0 && !child->is_abandoned) {
        child->fn(child->arg, str_of(buf->base, (size_t)n));
    }
}

static void on_written(uv_write_t *write, int status UNUSED) /* one that reads nothing is its own affair */
{
    struct child *child = write->handle->data;

    close_handle(&child->input);
}

static void on_exit(uv_process_t *process, int64_t status, int number)
{
    struct child *child = process->data;

    child->is_exited = true;
    child->status = status;
    child->signal = number;
    (void)kill(-process->pid, SIGKILL); /* what it has left behind */
    if (child->is_abandoned) {
        close_all(child);
        return;
    }
    if (!child->is_paused)
        timer_start(&child->last, LAST_OUTPUT_MS);
    look_for_end(child);
}

void child_pause(struct child *child, bool is_paused)
{
    if (child->is_closing || child->is_abandoned || child->is_paused == is_paused)
        return;
    child->is_paused = is_paused;
    if (is_paused) {
        uv_read_stop((uv_stream_t *)&child->output);
        timer_stop(&child->last);
        return;
    }
    if (!child->is_at_end)
        (void)uv_read_start((uv_stream_t *)&child->output, on_room, on_read);
    if (child->is_exited)
        timer_start(&child->last, LAST_OUTPUT_MS);
}

void child_signal(struct child *child, int number)
{
    if (!child->is_exited) /* later its number may be another's */
        (void)kill(-child->process.pid, number);
}

void child_abandon(struct child *child)
{
    if (!child || child->is_closing || child->is_abandoned)
        return;
    child_signal(child, SIGKILL);
    child->is_abandoned = true;
    uv_read_stop((uv_stream_t *)&child->output);
    if (child->is_exited)
        close_all(child);
    else
        timer_start(&child->last, LAST_EXIT_MS);
}

static void open_pipe(struct child *child, uv_pipe_t *pipe, int fd)
{
    int failed = uv_pipe_init(loop_uv(child->loop), pipe, 0);

    pipe->data = child;
    child->n_open++;
    failed = failed ? failed : uv_pipe_open(pipe, fd);
    assert(!failed); /* a pipe of our own */
}

static void begin_io(struct child *child, int output, int input, struct str text)
{
    uv_buf_t buf;

    open_pipe(child, &child->output, output);
    (void)uv_read_start((uv_stream_t *)&child->output, on_room, on_read);
    open_pipe(child, &child->input, input);
    child->text = mem_new(text.n + 1);
    if (text.n)
        memcpy(child->text, text.p, text.n);
    buf = uv_buf_init(child->text, (unsigned)text.n);
    if (uv_write(&child->write, (uv_stream_t *)&child->input, &buf, 1, on_written))
        close_handle(&child->input);
}

static enum err spawn(struct child *child, const struct child_conf *conf, int input, int output, struct why *why)
{
    uv_stdio_container_t stdio[] = {
        {.flags = UV_INHERIT_FD, .data.fd = input},
        {.flags = UV_INHERIT_FD, .data.fd = output},
        {.flags = UV_INHERIT_FD, .data.fd = conf->has_errors_in_output ? output : STDERR_FILENO}};
    const uv_process_options_t options = {.file = conf->argv[0],
                                          .args = (char **)(uintptr_t)conf->argv,
                                          .cwd = conf->directory,
                                          .flags = UV_PROCESS_DETACHED,
                                          .stdio_count = COUNT_OF(stdio),
                                          .stdio = stdio,
                                          .exit_cb = on_exit};
    int failed = uv_spawn(loop_uv(child->loop), &child->process, &options);

    child->process.data = child;
    child->n_open = 1;
    return failed ? why_set(why, err_from_uv(failed), "%s: %s", conf->argv[0], uv_strerror(failed)) : ERR_OK;
}

enum err child_start(struct child **out, struct loop *loop, const struct child_conf *conf, struct why *why)
{
    int to[2], from[2];
    struct child *child;
    enum err err;

    if (loop_is_fake(loop))
        return why_set(why, ERR_UNSUPPORTED, "%s: a fake loop runs no programs", conf->argv[0]);
    if (pipe2(to, O_CLOEXEC))
        return why_set(why, err_from_errno(errno), "%s: no pipe", conf->argv[0]);
    if (pipe2(from, O_CLOEXEC)) {
        close(to[0]);
        close(to[1]);
        return why_set(why, err_from_errno(errno), "%s: no pipe", conf->argv[0]);
    }
    child = mem_zero(sizeof *child);
    child->loop = loop;
    child->fn = conf->output;
    child->ended = conf->ended;
    child->arg = conf->arg;
    timer_init(&child->last, loop, last_is_due, child);
    err = spawn(child, conf, to[0], from[1], why);
    close(to[0]);
    close(from[1]);
    if (err) {
        close(to[1]);
        close(from[0]);
        close_all(child);
        return err;
    }
    begin_io(child, from[0], to[1], conf->input);
    *out = child;
    return ERR_OK;
}
