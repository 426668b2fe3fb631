/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_APPLY_H
#define IOTGW_APPLY_H
/*
 * Changing the configuration of the running gateway: from files that were edited, or from content that comes from elsewhere
 * and is written to the files only once it runs.
 *
 *   load and validate (on a helper thread) → plan → general keys, by their owners → connectors, each for itself → write
 *
 * One change at a time; later ones wait, and a waiting one that a newer one covers is answered ERR_CANCELLED. What cannot be
 * used is left as it is, and named: a file with errors, a connector that cannot be opened, a general key whose owner refuses
 * it (then all that owners have taken of this change is taken back, and of the main file nothing is taken). Nothing waits for
 * the store or the platform.
 *
 * Owner thread: main. Callbacks run there, never before the function that took them has returned.
 */
#include "gateway/fleet.h"
#include "gateway/plan.h"

struct apply;
struct apply_conf {
    struct runner *main;
    struct fleet *fleet;
    const struct gateway_types *types;
    struct gateway_conf *running; /* taken over; its memory stays until apply_free, for those who keep views */
    const struct problems *known; /* what the log has told of running; not used later */
    struct log *log;
};
struct apply *apply_new(const struct apply_conf *conf);
/* No further change is begun; what runs ends by itself. Waiting ones are answered ERR_CANCELLED. */
void apply_end(struct apply *apply);
void apply_free(struct apply *apply); /* when the fleet has ended; NULL allowed */

/* The owner of general keys. */
struct apply_step;
struct apply_owner {
    const char *const *keys; /* ends with NULL: "thingsboard.reportStrategy", "list.json": these and all below them */
    /* Takes over what has changed among its keys, once a change. ERR_OK: it has; ERR_BUSY: it calls apply_answer later, exactly
     * once; else it has not, and before goes on. Called with the two changed about when a later owner refuses. What it keeps it
     * copies: both live until the change has ended. */
    enum err (*take)(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why);
    void *arg;
};
void apply_add_owner(struct apply *apply, const struct apply_owner *owner); /* copied; keys stay */
void apply_answer(struct apply_step *step, enum err err, const struct why *why);
/* Before the owner refuses: it is because of this key, if that is one of the changed ones; else it is the first of them. */
void apply_blame(struct apply_step *step, const char *key);

struct apply_result {
    enum err
        err; /* ERR_OK: all of it runs (and is written); ERR_CONFIG: something was refused or failed, see plan and problems */
    struct why why;                  /* the first reason */
    const char *path;                /* the key of the main file that it is about; NULL: no single one */
    const struct plan *plan;         /* with outcomes; NULL: nothing was compared */
    const struct problems *problems; /* all that `check` would say; NULL: nothing was loaded */
};
/* The result lives until the callback returns. */
typedef void apply_done_fn(void *arg, const struct apply_result *result);
/* From the files as they are. */
void apply_reload(struct apply *apply, apply_done_fn *done, void *arg);
/* With this content of some files, and what runs of the others: all or nothing, and nothing if these files have errors. Written (temp, fsync,
 * rename) when it runs, removed where text.p is NULL. texts are copied. One subject a change: a connector's file and its entry,
 * or general keys. */
void apply_change(struct apply *apply, const struct conf_text *texts, size_t n, apply_done_fn *done, void *arg);
/* What apply_reload would do now: plan and problems, nothing is touched. */
void apply_preview(struct apply *apply, apply_done_fn *done, void *arg);

/* The configuration that runs: general parts and connectors as they were taken. Valid until the main loop goes on. */
const struct gateway_conf *apply_running(const struct apply *apply);
bool apply_is_busy(const struct apply *apply);
/* Called after each change of which something was taken. */
typedef void apply_changed_fn(void *arg, const struct gateway_conf *before, const struct gateway_conf *after);
void apply_on_change(struct apply *apply, apply_changed_fn *changed, void *arg);

/* A line a problem, as `check` says it. */
void apply_log_problems(struct log *log, const struct problems *problems);
#endif
