/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILTER_H
#define IOTGW_FILTER_H
/*
 * The device filter (core.md 9.5): which devices a connector may bring, by their names before renaming. Patterns must match
 * the whole name; what is allowed is not asked whether it is denied. Immutable: any thread. The decision about a device is kept
 * in it (struct device .verdict), so that the patterns run once.
 */
#include "data/device.h"
#include "gateway/gateway_conf.h"

struct filter;
struct filter *filter_new(const struct filter_conf *conf);
void filter_free(struct filter *filter); /* NULL allowed */
/* is_first: it has just been decided. */
bool filter_allows(const struct filter *filter, const struct device_source *source, struct device *dev, bool *is_first);
#endif
