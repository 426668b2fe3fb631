/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LEGACY_EVENT_H
#define IOTGW_LEGACY_EVENT_H
/* An event as the Python gateway stores it (core.md 6.1), in its current and its legacy form. Pure but for device names. */
#include "data/event.h"

/*
 * Fills the event, which then has a device; keys and texts are in its arena. Values without time get EVENT_NO_TS.
 * n_left_out: values whose key the platform would not take, or entries that hold none. no_attributes: whether those of
 * this device are to be left out (n_superseded counts them); NULL: never.
 * ERR_SYNTAX, ERR_TYPE, ERR_RANGE with a reason: nothing of it can be used.
 */
struct legacy_event {
    unsigned n_left_out, n_superseded;
    bool (*no_attributes)(const struct device *dev);
};
NODISCARD enum err legacy_event_read(struct legacy_event *in, struct str json, struct event *event, struct why *why);
#endif
