/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connector that ends the program when it is told to: while the file "trigger" is there, in the way that stands in it. Its timer is
 * libuv's own, so that the host does not know whose turn it is.
 */
#include "conf/common.h"
#include "iotgw/connector.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

extern const struct host *iotgw_host;
const struct host *iotgw_host;

struct crasher_conf {
    struct connector_common common;
    struct str trigger;
};
static const struct field fields[] = {F_STR(struct crasher_conf, trigger, "trigger", .need = true), F_END};
static const struct conf_type conf_type = {
    .name = "crasher", .size = sizeof(struct crasher_conf), .fields = fields, .base = &connector_common_type};

struct crasher {
    struct ctx *ctx;
    const struct crasher_conf *conf;
    uv_timer_t *timer;
    connector_done_fn *stopped;
    void *arg;
};

static volatile int zero;

static int overflow(volatile char *above)
{
    volatile char here[4096];

    here[0] = above[0];
    return zero ? 0 : overflow(here) + here[0] + 1;
}

static void fall(const char *how)
{
    volatile char first = 1;

    if (strcmp(how, "null") == 0)
        *(volatile int *)(uintptr_t)(8 + zero) = 1; /* NOLINT */
    if (strcmp(how, "library") == 0)
        memset((void *)(uintptr_t)(8 + zero), 1, 4096); /* NOLINT */
    if (strcmp(how, "jump") == 0)
        ((void (*)(void))(uintptr_t)(16 + zero))(); /* NOLINT */
    if (strcmp(how, "divide") == 0)
        __builtin_trap();
    if (strcmp(how, "stack") == 0)
        zero = overflow(&first);
    abort();
}

static void do_as_told(struct crasher *crasher, bool is_stopping)
{
    char path[512], how[32] = "";
    FILE *file;

    snprintf(path, sizeof path, "%.*s", (int)crasher->conf->trigger.n, crasher->conf->trigger.p);
    file = fopen(path, "r");
    if (!file)
        return;
    if (fgets(how, sizeof how, file) && is_stopping == (strcmp(how, "stop") == 0))
        fall(how);
    fclose(file);
}

static void look(uv_timer_t *timer)
{
    do_as_told(timer->data, false);
}

static enum err crasher_open(void *self, struct ctx *ctx, const void *conf, struct why *why)
{
    struct crasher *crasher = self;

    (void)why;
    crasher->ctx = ctx;
    crasher->conf = conf;
    return ERR_OK;
}

static void crasher_close(void *self)
{
    (void)self;
}

static void crasher_start(void *self)
{
    struct crasher *crasher = self;

    crasher->timer = calloc(1, sizeof *crasher->timer);
    uv_timer_init(iotgw_host->uv_loop(crasher->ctx), crasher->timer);
    crasher->timer->data = crasher;
    uv_timer_start(crasher->timer, look, 5, 5);
    iotgw_host->state(crasher->ctx, (struct str){"", 0}, LINK_UP, (struct str){"", 0});
}

static void closed(uv_handle_t *handle)
{
    struct crasher *crasher = handle->data;

    free(handle);
    crasher->stopped(crasher->arg);
}

static void crasher_stop(void *self, connector_done_fn *done, void *arg)
{
    struct crasher *crasher = self;

    do_as_told(crasher, true);
    crasher->stopped = done;
    crasher->arg = arg;
    uv_close((uv_handle_t *)crasher->timer, closed);
}

static void crasher_room(void *self)
{
    (void)self;
}

extern const struct connector_type iotgw_module;
const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "crasher",
    .title = "Ends the program",
    .conf = &conf_type,
    .state_size = sizeof(struct crasher),
    .open = crasher_open,
    .close = crasher_close,
    .start = crasher_start,
    .stop = crasher_stop,
    .room = crasher_room,
};
