/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/console.h"

void console_start(struct console *console, const struct console_conf *conf, const char *config_dir)
{
    struct loop *loop = conf->status.main->loop;
    struct why why = {0};

    console->conf = *conf;
    console->ledger = console->conf.status.ledger = ledger_new(&conf->ledger);
    console->control = control_new(loop);
    console->status = status_new(&console->conf.status);
    status_add_methods(console->status, console->control);
    console_add_methods(console);
    console->tail = tail_new(loop);
    tail_add_methods(console->tail, console->control);
    if (control_socket_new(&console->socket, console->control, loop, conf->log, config_dir, &why))
        LOG_WARN(conf->log, "no local control: iotgw status and its like will not find this gateway", KV_WHY(&why));
    else
        LOG_DEBUG(conf->log, "local control", KV_Z("socket", control_socket_path(console->socket)));
}

static void ledger_is_written(void *arg)
{
    struct console *console = arg;

    if (console->socket)
        control_socket_stop(console->socket, console->stopped, console->arg);
    else
        console->stopped(console->arg);
}

void console_stop(struct console *console, closed_fn *done, void *arg)
{
    console->stopped = done;
    console->arg = arg;
    ledger_stop(console->ledger, ledger_is_written, console);
}

void console_fini(struct console *console)
{
    control_socket_free(console->socket);
    status_free(console->status);
    control_free(console->control);
    tail_free(console->tail);
    ledger_free(console->ledger);
}
