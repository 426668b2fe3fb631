/* SPDX-License-Identifier: Apache-2.0 */
/* As file_crash_test.c, of the calls that SQLite and the medium make. */
#include "store/crash_plant.h"
#include "store/recorded_calls.h"
#include "store/sqlite.h"

extern const struct sqlite_api iotgw_sqlite;
static uint64_t db_bytes;

/* The index of the log in shared memory holds nothing that counts after a crash. */
static bool is_index(const char *name)
{
    return str_ends(str_from(name), STR("-shm"));
}

static int on_call(const struct recorded_call *call)
{
    static const enum call calls[] = {[RECORDED_MAKE] = CALL_OPEN,
                                      [RECORDED_WRITE] = CALL_WRITE,
                                      [RECORDED_SIZE] = CALL_TRUNCATE,
                                      [RECORDED_SYNC] = CALL_SYNC,
                                      [RECORDED_RENAME] = CALL_RENAME,
                                      [RECORDED_UNLINK] = CALL_UNLINK,
                                      [RECORDED_SYNC_DIRECTORY] = CALL_SYNC_DIR};
    enum call what = calls[call->what];
    struct deed *deed;

    if (!is_recording || is_index(call->name))
        return 0;
    if (fails(what))
        return errno;
    deed = note((int)what, call->name);
    deed->at = call->at;
    deed->n = call->n;
    if (call->to)
        snprintf(deed->to, sizeof deed->to, "%s", call->to);
    if (call->bytes) {
        deed->bytes = mem_new(call->n + 1);
        memcpy(deed->bytes, call->bytes, call->n);
    }
    return 0;
}

static enum err open_sqlite(struct store **out, struct loop *loop, const struct file_conf *conf,
                            const struct store_events *events, void *arg, struct why *why)
{
    struct sqlite_conf sqlite = {.file = *conf, .db_bytes = db_bytes, .max_dbs = 20};

    recorded_begin(conf->path, on_call);
    return store_sqlite_with(&iotgw_sqlite, out, loop, &sqlite, events, arg, why);
}

/* So much that the log is brought home more than once, and databases are emptied, removed and followed by others. */
static void live_with_much(unsigned n_steps, bool has_faults)
{
    for (unsigned i = 0; i < n_steps; i++) {
        if (has_faults && roll(30) == 0)
            faults[roll(2) ? CALL_SYNC : CALL_WRITE] =
                (struct fault){.number = roll(2) ? EIO : ENOSPC, .times = 1 + roll(2), .after = roll(40)};
        append_from("crash/a", 20, 3000, true);
        loop_advance(the_loop, 0);
        while (i >= n_steps / 2 && roll(8))
            acknowledge_some();
        loop_advance(the_loop, roll(8) ? 0 : 5000);
    }
    memset(faults, 0, sizeof faults);
}

static bool is_database(const struct deed *deed)
{
    return str_ends(str_from(deed->name), STR(".db"));
}

/* Around what is done to the databases themselves; of the many pages that are brought home, and of all the rest, a few. */
static bool is_of_a_database(size_t cut)
{
    static const unsigned share = 100;
    const struct deed *deed = cut < n_deeds ? &deeds[cut] : NULL;

    if (!deed || (deed->what == CALL_WRITE && deed->n == 1)) /* reserving */
        return !deed;
    if (deed->what == CALL_UNLINK || deed->what == CALL_RENAME || (deed->what == CALL_SYNC && is_database(deed)))
        return true;
    return roll(share) == 0;
}

static void test_invariant_1_holds_where_the_log_is_brought_home_and_databases_come_and_go(void **state)
{
    (void)state;
    live_as = live_with_much;
    is_judged = is_of_a_database;
    segment_events = 1000;
    for (uint64_t i = 1; i <= (n_seeds() + 2) / 3; i++) {
        run(2000 + i, 80, false);
        run(3000 + i, 80, true);
    }
    live_as = live;
    is_judged = NULL;
    segment_events = 100;
}

static void test_invariant_1_holds_at_every_cut_of_a_run_of_sqlite(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= (n_seeds() + 1) / 2; i++)
        run(i, 30, false);
}

static void test_invariant_1_holds_at_every_cut_of_a_run_of_sqlite_on_a_failing_disk(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= (n_seeds() + 1) / 2; i++)
        run(1000 + i, 30, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invariant_1_holds_at_every_cut_of_a_run_of_sqlite),
        cmocka_unit_test(test_invariant_1_holds_at_every_cut_of_a_run_of_sqlite_on_a_failing_disk),
        cmocka_unit_test(test_invariant_1_holds_where_the_log_is_brought_home_and_databases_come_and_go),
    };

    open_kind = open_sqlite;
    db_bytes = 1500 * 1000;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
