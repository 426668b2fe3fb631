/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <signal.h>

static void on_all_closed(void *arg)
{
    struct program *program = arg;

    loop_stop(program->loop);
}

void program_end(struct program *program)
{
    if (program->is_ending)
        return;
    program->is_ending = true;
    closer_begin(&program->closer, program->loop, on_all_closed, program);
    lines_close(&program->lines, &program->closer);
    for (unsigned i = 0; i < COUNT_OF(program->signals); i++)
        uv_close((uv_handle_t *)&program->signals[i], NULL);
    program->close(program->arg, &program->closer);
    closer_end(&program->closer);
}

static void on_line(void *arg, struct str word, struct str rest)
{
    struct program *program = arg;

    if (program->is_ending)
        return;
    if (str_eq(word, STR("quit")))
        program_end(program);
    else
        program->handler(program->arg, word, rest);
}

static void on_signal(uv_signal_t *signal, int number UNUSED)
{
    program_end(signal->data);
}

enum err program_init(struct program *program, const char *name, line_fn *handler,
                      void (*close)(void *arg, struct closer *closer), void *arg)
{
    *program = (struct program){.handler = handler, .close = close, .arg = arg};
    return loop_new(&program->loop, name);
}

void program_run(struct program *program)
{
    static const int numbers[] = {SIGINT, SIGTERM};

    for (unsigned i = 0; i < COUNT_OF(program->signals); i++) {
        uv_signal_init(loop_uv(program->loop), &program->signals[i]);
        program->signals[i].data = program;
        uv_signal_start(&program->signals[i], on_signal, numbers[i]);
    }
    lines_start(&program->lines, program->loop, on_line, program);
    loop_run(program->loop);
    loop_free(program->loop);
}
