/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CTX_IMPL_H
#define IOTGW_CTX_IMPL_H
/* What ctx.c and ctx_report.c share. */
#include "connector/ctx.h"
#include "connector/report.h"

struct link {
    struct link *next;
    enum link_state state;
    unsigned n_attempts;
    int64_t since_ms; /* up, or not */
    char reason[400]; /* of the last failure */
    size_t name_n;
    char name[];
};

enum { STATUS_WORDS = sizeof(struct ctx_status) / sizeof(uint64_t) };
_Static_assert(sizeof(struct ctx_status) % sizeof(uint64_t) == 0, "status is copied in words");

struct ctx {
    atomic_uint refs;
    const struct connector_type *type;
    struct loop *loop;
    const struct ctx_host *host;
    struct conf *conf;
    void *instance; /* NULL: gone, or not there yet */
    char *name;
    const struct device_source *source; /* what its devices come from; NULL: it cannot be said */
    struct log log, converter_log;
    char *converter_name;
    struct ctx_counters counters;

    struct event event;
    struct report_outer outer;
    bool filters_all;      /* outer.filters, for the hot path */
    struct report *report; /* NULL: nothing has been filtered yet */
    struct event repeated; /* of periodic reports */
    struct timer report_timer, cleanup_timer;
    bool is_quiet, reports_wait; /* wait: for credit */
    bool is_repeating;           /* what is handed over is of periodic reports: no source waits for it */
    struct buf text;             /* values of third-party modules are checked and printed here */

    struct batch_sink sink;
    uint64_t cookie, cookie_given; /* last marked, and the last that a batch or blank carries */
    struct late late;

    struct mailbox box;
    struct node *given, **given_end; /* of this turn, for the store at its end */
    struct batch *last;              /* given last and unanswered; NULL: nothing is */
    size_t n_unanswered;
    struct batch blank; /* carries a cookie that has no batch to ride on, to itself */
    bool blank_is_posted;
    size_t in_flight_bytes;
    bool wants_room;

    struct mailbox down;
    bool is_hushed;        /* takes no commands */
    atomic_bool is_moving; /* run_moved is on its way */

    struct link *links;
    unsigned n_attempts;
    int64_t since_ms;
    bool is_working;
    bool keeps_devices;
    atomic_bool is_barred;
    _Atomic(unsigned) status_version; /* odd while it is being written */
    _Atomic(uint64_t) status[STATUS_WORDS];
};

static inline bool is_barred(const struct ctx *ctx)
{
    return atomic_load_explicit(&ctx->is_barred, memory_order_relaxed);
}

/* ctx_give.c */
void ctx_give(void *ctx, struct batch *batch); /* to the store: whole source messages, all of them marked */
void ctx_hand_over_given(struct ctx *ctx);     /* at the end of a turn */

/* ctx.c */
NODISCARD enum err ctx_encode(struct ctx *ctx, struct event *event, unsigned *n_values); /* behind the report filter */

/* ctx_report.c */
void ctx_read_report_levels(struct ctx *ctx);
void ctx_hold_back(struct ctx *ctx);                          /* filters ctx->event */
void ctx_resume_reports(struct ctx *ctx, struct device *dev); /* NULL: of all */
void ctx_await_reports(struct ctx *ctx);
bool ctx_is_cut_off(const struct ctx *ctx);
void ctx_discard_reports(struct ctx *ctx);
void ctx_send_reports(void *ctx); /* timers */
void ctx_clean_up_reports(void *ctx);
#endif
