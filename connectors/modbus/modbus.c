/* SPDX-License-Identifier: Apache-2.0 */
/* Life cycle of the Modbus connector. */
#include "build_id.h"
#include "connector/ctx.h"
#include "modbus_conf.h"
#include "modbus_dry.h"

struct connector {
    struct ctx *ctx;
    const struct modbus_file *file;
};

static enum err connector_open(void *arg, struct ctx *ctx, const void *conf, struct why *why)
{
    struct connector *self = arg;

    (void)why;
    self->ctx = ctx;
    self->file = conf;
    return ERR_OK;
}

static void connector_close(void *arg)
{
    (void)arg;
}

static void connector_start(void *arg)
{
    struct connector *self = arg;

    ctx_state(self->ctx, STR_NONE, LINK_FAILED,
              STR("this build converts Modbus data, and has no connections to devices"));
}

static void connector_quiesce(void *arg, connector_done_fn *done, void *done_arg)
{
    (void)arg;
    done(done_arg);
}

const struct connector_type iotgw_module = {
    .size = sizeof(struct connector_type),
    .abi = IOTGW_CONNECTOR_ABI,
    .name = "modbus",
    .title = "Modbus",
    .build_id = IOTGW_BUILD_ID,
    .conf = &modbus_conf_type,
    .state_size = sizeof(struct connector),
    .open = connector_open,
    .close = connector_close,
    .start = connector_start,
    .quiesce = connector_quiesce,
    .stop = connector_quiesce,
    .convert = modbus_dry_run,
};
