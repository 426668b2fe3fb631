/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_plant.h"
#include "store/sqlite.h"
#include "store/sqlite_db.h"

/* --- SQLite's system calls ------------------------------------------------------------------------------------------------ */

/* A file of the system's, with our methods before its own. */
struct shim_file {
    sqlite3_file base;
    sqlite3_file real[];
};
static sqlite3_vfs *real_vfs, shim_vfs;
static sqlite3_io_methods shim_methods;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct shim_file *)(void *)file)->real;
}

static int code_of(int other)
{
    return errno == ENOSPC ? SQLITE_FULL : other;
}

static int shim_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int shim_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), to, n, at);
}

static int shim_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    return fails(CALL_WRITE) ? code_of(SQLITE_IOERR_WRITE)
                             : real_of(file)->pMethods->xWrite(real_of(file), from, n, at);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails(CALL_TRUNCATE) ? SQLITE_IOERR_TRUNCATE : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    (void)flags; /* the machine does not lose its power */
    (void)file;
    return fails(CALL_SYNC) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int shim_lock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xLock(real_of(file), lock);
}

static int shim_unlock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), lock);
}

static int shim_check_lock(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int shim_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int shim_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int shim_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int shim_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, out);
}

static int shim_shm_lock(sqlite3_file *file, int off, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), off, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int shim_shm_unmap(sqlite3_file *file, int remove)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static bool is_read_only; /* the file system */

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    int code;

    (void)vfs;
    file->pMethods = NULL;
    if (flags & SQLITE_OPEN_CREATE && fails(CALL_OPEN))
        return SQLITE_CANTOPEN;
    if (is_read_only)
        flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    code = real_vfs->xOpen(real_vfs, name, real_of(file), flags, out_flags);
    if (!code)
        file->pMethods = &shim_methods;
    return code;
}

static void shim_init(void)
{
    real_vfs = sqlite3_vfs_find("unix");
    shim_vfs = *real_vfs;
    shim_vfs.zName = "shim";
    shim_vfs.szOsFile = (int)sizeof(struct shim_file) + real_vfs->szOsFile;
    shim_vfs.xOpen = shim_open;
    shim_methods = (sqlite3_io_methods){
        .iVersion = 2,
        .xClose = shim_close,
        .xRead = shim_read,
        .xWrite = shim_write,
        .xTruncate = shim_truncate,
        .xSync = shim_sync,
        .xFileSize = shim_size,
        .xLock = shim_lock,
        .xUnlock = shim_unlock,
        .xCheckReservedLock = shim_check_lock,
        .xFileControl = shim_control,
        .xSectorSize = shim_sector,
        .xDeviceCharacteristics = shim_device,
        .xShmMap = shim_shm_map,
        .xShmLock = shim_shm_lock,
        .xShmBarrier = shim_shm_barrier,
        .xShmUnmap = shim_shm_unmap,
    };
    sqlite3_vfs_register(&shim_vfs, 1);
}

/* --- the store ------------------------------------------------------------------------------------------------------------- */

extern const struct sqlite_api iotgw_sqlite;
static uint64_t db_bytes;
static unsigned max_dbs;

static enum err open_sqlite(struct store **out, struct loop *loop, const struct file_conf *conf,
                            const struct store_events *events, void *arg, struct why *why)
{
    struct sqlite_conf sqlite = {.file = *conf, .db_bytes = db_bytes, .max_dbs = max_dbs};

    return store_sqlite_with(&iotgw_sqlite, out, loop, &sqlite, events, arg, why);
}

static void begin(void)
{
    begin_test();
    open_kind = open_sqlite;
    db_bytes = 64 * 1000 * 1000;
    max_dbs = 10;
}

/* How many files of the directory begin and end so. */
static unsigned count_files(const char *directory, const char *start, const char *end)
{
    DIR *list = opendir(directory);
    unsigned n = 0;

    if (!list)
        return 0;
    for (const struct dirent *entry; (entry = readdir(list));)
        n += str_starts(str_from(entry->d_name), str_from(start)) && str_ends(str_from(entry->d_name), str_from(end));
    closedir(list);
    return n;
}

static unsigned n_dbs(void)
{
    return count_files(dir_path, "events-", ".db");
}

static void assert_all_accepted_arrived(void)
{
    for (uint64_t i = 0; i < n_made; i++)
        if (was_ok[i] && !was_read[i])
            fail_msg("record %" PRIu64 " is lost", i);
}

/* The size of all that is waiting, for tests that want more than one file. */
static void append_much(unsigned n_batches)
{
    for (unsigned i = 0; i < n_batches; i++) {
        append_from("plant/one", 20, 3000, true);
        loop_advance(the_loop, 0);
    }
}

/* --- tests -------------------------------------------------------------------------------------------------------------------- */

static void test_what_was_appended_is_read_in_order_and_each_record_once(void **state)
{
    (void)state;
    begin();
    open_store();
    for (unsigned i = 0; i < 100; i++)
        append(7);
    assert_int_equal(n_ok, 100);
    assert_int_equal(read_all(), 700);
    assert_int_equal(store_stats(the_store).n_events, 700);
    assert_int_equal(n_dbs(), 1);
    assert_balanced();
    end_test();
}

static void test_a_reader_far_behind_gets_all_of_it_from_the_database(void **state)
{
    unsigned n_read;

    (void)state;
    begin();
    open_store();
    append_much(200); /* 12 MB */
    assert_int_equal(n_ok, 200);
    read_up_to(64 * 1024, UINT64_MAX, &n_read);
    assert_int_equal(n_read, 4000);
    end_test();
}

static void test_after_a_stop_and_after_a_kill_what_was_not_acknowledged_is_there(void **state)
{
    unsigned n_read;
    uint64_t pos;

    (void)state;
    for (int is_stopped = 0; is_stopped < 2; is_stopped++) {
        begin();
        open_store();
        append_much(50);
        pos = read_up_to(30000, 200, &n_read);
        acknowledge(pos);
        loop_advance(the_loop, 1000);
        if (is_stopped)
            stop_store();
        else
            kill_store();
        memset(was_read, 0, sizeof was_read);
        open_store();
        assert_int_equal(store_stats(the_store).n_events, 1000 - n_read);
        assert_int_equal(read_all(), 1000 - n_read);
        append(3);
        assert_int_equal(read_all(), 3);
        assert_balanced();
        end_test();
    }
}

static void test_what_is_acknowledged_leaves_the_database_and_its_room_is_used_again(void **state)
{
    struct stat info;
    unsigned n_read;

    (void)state;
    begin();
    open_store();
    for (unsigned i = 0; i < 12; i++) {
        n_made = 0;
        append_much(100); /* 6 MB */
        acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n_read));
        assert_int_equal(n_read, 2000);
        loop_advance(the_loop, 1000);
    }
    assert_int_equal(n_dbs(), 1);
    assert_int_equal(stat(path_in("events-000001.db"), &info), 0);
    assert_true(info.st_size < 30 * 1000 * 1000);
    assert_int_equal(store_stats(the_store).n_events, 0);
    end_test();
}

static void test_a_full_file_is_followed_by_the_next_and_an_emptied_one_is_removed(void **state)
{
    unsigned n_read;

    (void)state;
    begin();
    db_bytes = 4 * 1000 * 1000;
    open_store();
    append_much(300); /* 18 MB */
    assert_in_range(n_dbs(), 4, 7);
    assert_false(store_stats(the_store).is_blocked);
    acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n_read));
    assert_int_equal(n_read, 6000);
    loop_advance(the_loop, 1000);
    append(1);
    loop_advance(the_loop, 1000);
    assert_in_range(n_dbs(), 1, 2);
    end_test();
}

static void test_with_as_many_files_as_are_allowed_the_overflow_policy_acts(void **state)
{
    static const struct {
        enum overflow overflow;
        bool waits, drops_old;
    } cases[] = {
        {OVERFLOW_BLOCK, true, false}, {OVERFLOW_DROP_NEWEST, false, false}, {OVERFLOW_DROP_OLDEST, false, true}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned n_read;

        begin();
        db_bytes = 2 * 1000 * 1000;
        max_dbs = 3;
        the_conf.overflow = cases[i].overflow;
        open_store();
        append_much(250); /* 15 MB into 6 */
        assert_in_range(n_dbs(), 3, 3);
        assert_int_equal(store_stats(the_store).is_blocked, cases[i].waits);
        assert_int_equal(n_full > 0, cases[i].overflow == OVERFLOW_DROP_NEWEST);
        assert_int_equal(n_drops > 0, cases[i].overflow != OVERFLOW_BLOCK);
        if (cases[i].drops_old)
            assert_int_equal(n_ok, 250);
        assert_in_range(store_stats(the_store).n_bytes, 4500 * 1000, 6000 * 1000);
        assert_balanced();
        for (unsigned turn = 0; turn < 10; turn++) {
            acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n_read));
            loop_advance(the_loop, 1000);
        }
        assert_int_equal(n_answers, 250);
        if (!cases[i].drops_old)
            assert_all_accepted_arrived();
        assert_int_equal(store_stats(the_store).n_events, 0);
        assert_balanced();
        end_test();
    }
}

static void test_on_a_failing_disk_nothing_completes_and_all_of_it_does_later(void **state)
{
    static const struct {
        enum call call;
        int number;
        const char *trouble;
    } cases[] = {{CALL_WRITE, ENOSPC, "disk full"}, {CALL_WRITE, EIO, "disk error"}, {CALL_SYNC, EIO, "disk error"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin();
        open_store();
        append(5);
        assert_int_equal(n_ok, 1);
        faults[cases[i].call] = (struct fault){.number = cases[i].number};
        append(6);
        append(7);
        assert_int_equal(n_ok, 1);
        assert_string_equal(store_stats(the_store).trouble, cases[i].trouble);
        assert_int_equal(read_all(), 5); /* delivery goes on */
        loop_advance(the_loop, 20000);
        assert_int_equal(n_ok, 1);
        faults[cases[i].call] = (struct fault){0};
        loop_advance(the_loop, 5000);
        assert_int_equal(n_ok, 3);
        assert_null(store_stats(the_store).trouble);
        assert_int_equal(read_all(), 13);
        kill_store();
        memset(was_read, 0, sizeof was_read);
        open_store();
        assert_int_equal(read_all(), 18);
        assert_all_accepted_arrived();
        assert_balanced();
        end_test();
    }
}

static unsigned n_lines;

static void count_line(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    (void)line;
    n_lines += level == LOG_LEVEL_WARN || level == LOG_LEVEL_ERROR;
}

static void
test_a_store_opened_on_a_read_only_file_system_stores_as_soon_as_it_can_and_is_quiet_until_then(void **state)
{
    unsigned n_read;

    (void)state;
    begin();
    open_store();
    append(5);
    kill_store();
    n_ok = 0;
    memset(was_read, 0, sizeof was_read);
    is_read_only = true;
    open_store();
    acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n_read));
    assert_int_equal(n_read, 5);
    append(6);
    loop_advance(the_loop, 20000);
    assert_string_equal(store_stats(the_store).trouble, "the file system is read-only");
    assert_int_equal(n_ok, 0);
    assert_in_range(n_dbs(), 1, 1);
    log_set_level(&quiet, LOG_LEVEL_WARN);
    log_set_sink(count_line, NULL);
    n_lines = 0;
    loop_advance(the_loop, 60 * 1000);
    assert_int_equal(n_lines, 0);
    log_set_sink(NULL, NULL);
    log_set_level(&quiet, LOG_LEVEL_OFF);
    is_read_only = false;
    loop_advance(the_loop, 5000);
    assert_int_equal(n_ok, 1);
    assert_null(store_stats(the_store).trouble);
    assert_int_equal(read_all(), 6);
    assert_balanced();
    kill_store();
    memset(was_read, 0, sizeof was_read);
    open_store();
    assert_int_equal(read_all(), 6); /* what was acknowledged is gone */
    end_test();
}

static void test_after_a_failed_sync_a_new_file_is_begun(void **state)
{
    (void)state;
    begin();
    open_store();
    append(5);
    faults[CALL_SYNC] = (struct fault){.number = EIO, .times = 1};
    append(6);
    faults[CALL_SYNC] = (struct fault){0};
    loop_advance(the_loop, 5000);
    assert_int_equal(n_ok, 2);
    assert_int_equal(n_dbs(), 2);
    end_test();
}

static void test_a_database_that_is_none_goes_to_quarantine_and_the_others_are_read(void **state)
{
    char garbage[5000];

    (void)state;
    begin();
    memset(garbage, 'x', sizeof garbage);
    open_store();
    append(5);
    kill_store();
    put_file("events-000002.db", garbage, sizeof garbage);
    open_store();
    assert_int_equal(read_all(), 5);
    append(4);
    assert_int_equal(n_ok, 2);
    assert_int_equal(count_files(path_in("quarantine"), "events-000002", ".db"), 1);
    end_test();
}

static void test_of_a_damaged_database_what_can_be_read_is_delivered(void **state)
{
    uint8_t *bytes;
    unsigned n_read;
    size_t n;

    (void)state;
    begin();
    open_store();
    append_much(100);
    stop_store();
    bytes = get_file("events-000001.db", &n);
    memset(bytes + n / 2, 0xa5, 3 * DB_PAGE);
    put_file("events-000001.db", bytes, n);
    mem_free(bytes);
    open_store();
    n_read = read_all();
    assert_in_range(n_read, 1500, 1999);
    append(5);
    assert_int_equal(n_ok, 101);
    assert_int_equal(read_all(), 5);
    assert_balanced();
    end_test();
}

static void test_the_peers_database_and_a_newer_one_are_not_touched(void **state)
{
    struct why why = {0};
    sqlite3 *handle;
    uint8_t *before, *after;
    size_t n, n_after;

    (void)state;
    begin();
    assert_int_equal(sqlite3_open(path_in("events-000001.db"), &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "CREATE TABLE messages(id INTEGER PRIMARY KEY, message TEXT)", 0, 0, 0), 0);
    sqlite3_close(handle);
    before = get_file("events-000001.db", &n);
    open_store();
    append(5);
    assert_int_equal(n_ok, 1);
    assert_int_equal(n_dbs(), 2);
    kill_store();
    after = get_file("events-000001.db", &n_after);
    assert_int_equal(n, n_after);
    assert_memory_equal(before, after, n);
    mem_free(before);
    mem_free(after);
    assert_int_equal(sqlite3_open(path_in("events-000002.db"), &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "PRAGMA user_version=99; PRAGMA wal_checkpoint", 0, 0, 0), SQLITE_OK);
    sqlite3_close(handle);
    assert_int_equal(try_open_store(&why), ERR_UNSUPPORTED);
    end_test();
}

static void test_what_is_too_old_is_dropped_and_counted_and_a_clock_that_steps_makes_nothing_old(void **state)
{
    enum { DAY_MS = 24 * 3600 * 1000, READ_AHEAD = 300 };
    const int64_t years_ms = INT64_C(50) * 365 * DAY_MS;
    uint64_t n, n_aged = 0;

    (void)state;
    begin();
    for (uint32_t i = 0; i < device_count(); i++)
        n_aged -= atomic_load(&device_at(i)->n_aged);
    the_conf.max_age_ms = 7 * (uint64_t)DAY_MS;
    the_conf.age_check_ms = 3600 * 1000;
    open_store();
    append_much(100);
    loop_set_wall(the_loop, 1700000000000 + years_ms);
    loop_advance(the_loop, DAY_MS);
    loop_set_wall(the_loop, 1700000000000 - years_ms);
    loop_advance(the_loop, DAY_MS);
    loop_set_wall(the_loop, 1700000000000 + 2 * (int64_t)DAY_MS);
    loop_advance(the_loop, 4 * (uint64_t)DAY_MS);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    append_much(50);
    loop_advance(the_loop, 2 * (uint64_t)DAY_MS); /* the first are eight days old, the last are two */
    n = store_stats(the_store).n_events;
    assert_in_range(n, 1000, 1000 + READ_AHEAD); /* what the reader has is his */
    assert_int_equal(store_stats(the_store).n_dropped_events, 3000 - n);
    assert_true(n_drops > 0);
    for (uint32_t i = 0; i < device_count(); i++)
        n_aged += atomic_load(&device_at(i)->n_aged);
    assert_int_equal(n_aged, store_stats(the_store).n_dropped_values);
    assert_balanced();
    kill_store();
    open_store(); /* by the wall clock, since it was believed */
    loop_set_wall(the_loop, 1700000000000 + 20 * (int64_t)DAY_MS);
    loop_advance(the_loop, 2 * 3600 * 1000);
    assert_in_range(store_stats(the_store).n_events, 0, READ_AHEAD);
    assert_balanced();
    end_test();
}

static void test_what_looks_at_a_directory_changes_nothing_in_it(void **state)
{
    struct log log;
    struct found_segment *found;
    const struct file_io *io;
    size_t n;
    int dir;

    (void)state;
    begin();
    open_store();
    append(5);
    stop_store();
    log_init(&log, "test", LOG_LEVEL_OFF);
    io = iotgw_sqlite.look(dir_path, &log);
    dir = open(dir_path, O_RDONLY | O_DIRECTORY);
    assert_true(sqlite_is_there(dir));
    assert_int_equal(segments_find(io, dir, &found, &n), ERR_OK);
    assert_int_equal(n, 1);
    mem_free(found);
    close(dir);
    io->free(io);
    log_fini(&log);
    end_test();
}

int main(void)
{
#define TEST(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_appended_is_read_in_order_and_each_record_once),
        TEST(test_a_reader_far_behind_gets_all_of_it_from_the_database),
        TEST(test_after_a_stop_and_after_a_kill_what_was_not_acknowledged_is_there),
        TEST(test_what_is_acknowledged_leaves_the_database_and_its_room_is_used_again),
        TEST(test_a_full_file_is_followed_by_the_next_and_an_emptied_one_is_removed),
        TEST(test_with_as_many_files_as_are_allowed_the_overflow_policy_acts),
        TEST(test_on_a_failing_disk_nothing_completes_and_all_of_it_does_later),
        TEST(test_a_store_opened_on_a_read_only_file_system_stores_as_soon_as_it_can_and_is_quiet_until_then),
        TEST(test_after_a_failed_sync_a_new_file_is_begun),
        TEST(test_a_database_that_is_none_goes_to_quarantine_and_the_others_are_read),
        TEST(test_of_a_damaged_database_what_can_be_read_is_delivered),
        TEST(test_the_peers_database_and_a_newer_one_are_not_touched),
        TEST(test_what_is_too_old_is_dropped_and_counted_and_a_clock_that_steps_makes_nothing_old),
        TEST(test_what_looks_at_a_directory_changes_nothing_in_it),
    };

    shim_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
