/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/statistics.h"

#include "data/number.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

enum { OUTPUT_MAX = 64 * 1024, LINGER_MS = 1000 };

static void closed(void *arg)
{
    struct run_command *command = arg;
    enum err err = command->is_late                                                  ? ERR_TIMEOUT
                   : command->is_too_much                                            ? ERR_LIMIT
                   : command->signal || command->exit_status || !command->has_exited ? ERR_REFUSED
                                                                                     : ERR_OK;
    struct buf output = command->output;

    command->output = (struct buf){0};
    command->done(command, err, buf_str(&output));
    buf_fini(&output);
}

static void handle_closed(uv_handle_t *handle)
{
    struct run_command *command = handle->data;

    closer_release(&command->closer);
}

/* What the command left in its group ends with it; so does whoever holds its output open. */
static void finish(struct run_command *command)
{
    if (command->is_closing)
        return;
    command->is_closing = true;
    timer_stop(&command->timer);
    closer_begin(&command->closer, command->timer.loop, closed, command);
    closer_hold(&command->closer);
    uv_close((uv_handle_t *)&command->pipe, handle_closed);
    closer_hold(&command->closer);
    uv_close((uv_handle_t *)&command->process, handle_closed);
    closer_end(&command->closer);
}

void run_command_kill(struct run_command *command)
{
    if (!command->has_exited && !command->is_closing && command->process.pid > 0)
        (void)kill(-command->process.pid, SIGKILL);
}

static void too_late(void *arg)
{
    struct run_command *command = arg;

    if (command->has_exited) { /* somebody else holds its output */
        finish(command);
        return;
    }
    command->is_late = true;
    if (command->process.pid > 0)
        run_command_kill(command);
    else
        finish(command);
}

static void exited(uv_process_t *process, int64_t status, int number)
{
    struct run_command *command = process->data;

    (void)kill(-process->pid, SIGKILL); /* what it has left behind */
    command->has_exited = true;
    command->exit_status = status;
    command->signal = number;
    if (!uv_is_active((uv_handle_t *)&command->pipe))
        finish(command);
    else
        timer_start(&command->timer, LINGER_MS);
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct run_command *command = handle->data;

    (void)suggested;
    *out = uv_buf_init((char *)buf_room(&command->output, 4096), 4096);
}

static void take_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct run_command *command = stream->data;

    (void)buf;
    if (n > 0) {
        command->output.n += (size_t)n;
        if (command->output.n > OUTPUT_MAX) {
            command->is_too_much = true;
            command->output.n = 0;
            uv_read_stop(stream);
            run_command_kill(command);
        }
    } else if (n < 0) {
        uv_read_stop(stream);
        if (command->has_exited)
            finish(command);
    }
}

void run_command_start(struct run_command *command, struct loop *loop, const char *const *argv, uint64_t timeout_ms,
                       void (*done)(struct run_command *command, enum err err, struct str output))
{
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&command->pipe},
        {.flags = UV_IGNORE}};
    const uv_process_options_t options = {.file = argv[0],
                                          .args = (char **)(uintptr_t)argv,
                                          .exit_cb = exited,
                                          .flags = UV_PROCESS_DETACHED, /* a session and group of its own */
                                          .stdio = stdio,
                                          .stdio_count = COUNT_OF(stdio)};

    command->done = done;
    timer_init(&command->timer, loop, too_late, command);
    uv_pipe_init(loop_uv(loop), &command->pipe, 0);
    command->pipe.data = command;
    command->process.data = command;
    if (uv_spawn(loop_uv(loop), &command->process, &options)) {
        finish(command);
        return;
    }
    uv_read_start((uv_stream_t *)&command->pipe, give_room, take_output);
    timer_start(&command->timer, timeout_ms);
}

bool statistics_add_result(struct buf *out, struct str output)
{
    struct str text = str_trim(output);
    double number;

    if (!text.n)
        return false;
    if (!str_to_double(text, &number) && isfinite(number)) {
        yyjson_doc *doc = json_read(text, NULL);

        if (doc && json_is_number(yyjson_doc_get_root(doc))) {
            json_add_final(out, yyjson_doc_get_root(doc));
        } else {
            char digits[NUMBER_MAX];

            buf_add(out, digits, number_put_double(digits, number));
        }
        yyjson_doc_free(doc);
        return true;
    }
    json_add_string(out, text);
    return true;
}
