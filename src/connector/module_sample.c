/* SPDX-License-Identifier: Apache-2.0 */
/* Modules for module_test.c, which differ by what the build defines: SAMPLE_NAME, SAMPLE_ABI, SAMPLE_BUILD, SAMPLE_SIZE. */
#include "iotgw/connector.h"

#ifndef SAMPLE_ABI
#define SAMPLE_ABI IOTGW_CONNECTOR_ABI
#endif
#ifndef SAMPLE_BUILD
#define SAMPLE_BUILD NULL
#endif
#ifndef SAMPLE_SIZE
#define SAMPLE_SIZE sizeof(struct connector_type)
#endif

#ifndef SAMPLE_EMPTY
extern const struct host *iotgw_host;
const struct host *iotgw_host;

static enum err sample_open(void *self, struct ctx *ctx, const void *conf, struct why *why)
{
    (void)self;
    (void)ctx;
    (void)conf;
    (void)why;
    return iotgw_host && iotgw_host->abi == IOTGW_CONNECTOR_ABI ? ERR_OK : ERR_UNSUPPORTED;
}

static void sample_nothing(void *self)
{
    (void)self;
}

extern const struct connector_type iotgw_module;
const struct connector_type iotgw_module = {
    .size = SAMPLE_SIZE,
    .abi = SAMPLE_ABI,
    .name = SAMPLE_NAME,
    .title = "Sample",
    .build_id = SAMPLE_BUILD,
    .open = sample_open,
    .close = sample_nothing,
    .start = sample_nothing,
    .room = sample_nothing,
};
#else
extern const int nothing;
const int nothing = 0;
#endif
