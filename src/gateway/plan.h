/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_PLAN_H
#define IOTGW_PLAN_H
/*
 * What has to happen so that one configuration becomes another: the least that does it. Pure: two configurations in, a list
 * out; what apply does and what `iotgw check --diff` prints. Any thread; both configurations must outlive the plan.
 *
 * Configurations are compared as they are understood: key order, "ts", keys without effect and defaults that are written out
 * change nothing.
 */
#include "gateway/gateway_conf.h"

enum plan_kind {
    PLAN_REMOVE,          /* a connector that is no more named */
    PLAN_ADD,             /* one that was not */
    PLAN_RESTART,         /* changed, renamed, or usable at last */
    PLAN_LIVE,            /* all that changed may change while it runs; its type has the last word */
    PLAN_LIVE_BY_GATEWAY, /* the same, and the connector itself is not concerned: its log level … */
    PLAN_REFUSED, /* a connector's file, or its entry (then there is no after), with errors: it is left as it is */
    PLAN_GENERAL, /* a key of the main file or of one beside it */
    PLAN_GENERAL_REFUSED /* one of these files has errors: nothing of it is taken */
};
enum plan_outcome { PLAN_OPEN, PLAN_DONE, PLAN_FAILED };

struct plan_item {
    enum plan_kind kind;
    const char *name;                               /* connector, as it is called now; else the file */
    const char *new_name;                           /* when it is renamed; else NULL */
    const struct gateway_connector *before, *after; /* NULL: there is none */
    const char *paths; /* GENERAL: one. Else the first few: "broker.host, mapping[2].converter" */
    unsigned n_paths;
    bool is_live;              /* GENERAL: takes effect now; else at the next start */
    enum plan_outcome outcome; /* apply's */
    const char *error;         /* FAILED, REFUSED */
};
struct plan {
    struct arena arena;
    struct plan_item
        *items; /* general ones first, then removals, then the rest in the order of the new configuration */
    size_t n;
    bool is_main_refused; /* then connectors are neither added nor removed */
};

/* Whether a change at that path ("thingsboard.statistics.enable", "logs.json") takes effect while the gateway runs. */
typedef bool plan_live_fn(void *arg, const char *file, const char *path);
struct plan *plan_new(const struct gateway_conf *before, const struct gateway_conf *after, plan_live_fn *is_live,
                      void *arg);
/* An error in the main file of after that was there before: in an entry that is as it was, or in other parts, where none of them
 * changes. */
bool plan_is_old_problem(const struct gateway_conf *before, const struct gateway_conf *after,
                         const struct problem *problem);
void plan_free(struct plan *plan); /* NULL allowed */
/* "Plant: restart: broker.host" and so on, a line an item; "nothing changes" if there is none. */
void plan_add_text(struct buf *out, const struct plan *plan);
void plan_add_item_text(struct buf *out, const struct plan_item *item); /* without the line feed */
/* [{"connector"|"file","action","newName","changed":…,"error"}] */
void plan_add_json(struct buf *out, const struct plan *plan);
#endif
