/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_plant.h"

#include "base/crc.h"

#include <pthread.h>

static const char *trouble(void)
{
    return store_stats(the_store).trouble;
}

/* --- the ordinary ---------------------------------------------------------------------------------------------------- */

static void test_what_was_appended_is_read_in_order_and_each_record_once(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    for (unsigned i = 0; i < 60; i++)
        append(100);
    assert_int_equal(n_ok, 60);
    uint64_t pos = read_up_to(10000, UINT64_MAX, &n);

    assert_int_equal(n, 6000);
    assert_int_equal(store_stats(the_store).n_events, 6000);
    assert_int_equal(store_stats(the_store).n_values, 12000);
    assert_true(store_stats(the_store).oldest_ms > 0);
    acknowledge(pos);
    struct store_stats stats = store_stats(the_store);

    assert_true(stats.n_events == 0 && stats.n_values == 0 && stats.n_bytes == 0 && stats.oldest_ms == 0);
    assert_int_equal(stats.n_acked_values, 12000);
    assert_balanced();
    end_test();
}

static void test_a_reader_far_behind_gets_all_of_it_from_the_disk(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    the_conf.segment_events = 700;
    open_store();
    for (unsigned i = 0; i < 100; i++) {
        append_from("behind", 50, 600, true);
        loop_advance(the_loop, 0);
    }
    uint64_t pos = read_up_to(64 * 1024, UINT64_MAX, &n);

    assert_int_equal(n, 5000);
    acknowledge(pos);
    loop_advance(the_loop, 300);
    assert_int_equal(list_segments(NULL, 0), 1); /* the active one */
    assert_int_equal(store_stats(the_store).n_events, 0);
    end_test();
}

static void test_single_records_are_read_together_when_they_have_piled_up(void **state)
{
    unsigned n, n_chunks = 0;

    (void)state;
    begin_test();
    open_store();
    for (unsigned i = 0; i < 500; i++)
        append(1);
    for (struct chunk *chunk; (chunk = store_read(the_store, 0, 64 * 1024)) ||
                              (loop_advance(the_loop, 0), (chunk = store_read(the_store, 0, 64 * 1024)));) {
        chunk_release(chunk);
        n_chunks++;
    }
    assert_true(n_chunks < 60);
    append(3);
    read_up_to(1, UINT64_MAX, &n);
    assert_int_equal(n, 3);
    end_test();
}

static void test_one_commit_answers_all_that_arrived_with_one_write_and_one_sync(void **state)
{
    (void)state;
    begin_test();
    open_store();
    append(1);
    memset(n_calls, 0, sizeof n_calls);
    for (unsigned i = 0; i < 200; i++)
        append_from("plant/one", 3, 60, true);
    assert_int_equal(n_ok, 1); /* nothing before the sync */
    loop_advance(the_loop, 0);
    assert_int_equal(n_ok, 201);
    assert_int_equal(n_calls[CALL_WRITE], 1);
    assert_int_equal(n_calls[CALL_SYNC], 1);
    end_test();
}

static void test_an_event_larger_than_a_block_is_kept_whole(void **state)
{
    (void)state;
    begin_test();
    open_store();
    append(1);
    append_from("giant", 1, 3 * 1024 * 1024, true);
    append_from("giant", 1, 20 * 1024 * 1024, true);
    append(1);
    assert_int_equal(n_ok, 4);
    kill_store();
    open_store();
    assert_int_equal(read_all(), 4);
    end_test();
}

static void test_after_a_stop_and_after_a_kill_what_was_not_acknowledged_is_there(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    for (unsigned i = 0; i < 10; i++)
        append(70);
    uint64_t pos = read_up_to(5000, 400, &n);

    acknowledge(pos);
    uint64_t n_left = 700 - n;

    stop_store();
    for (unsigned round = 0; round < 3; round++) {
        open_store();
        assert_int_equal(store_stats(the_store).n_events, n_left);
        assert_int_equal(store_stats(the_store).n_acked_values, 2 * n);
        assert_balanced();
        assert_int_equal(read_all(), n_left);
        kill_store();
    }
    end_test();
}

static void test_the_totals_of_the_ledger_survive_a_restart(void **state)
{
    struct store_stats before, after;
    unsigned n;

    (void)state;
    begin_test();
    the_conf.max_events = 120;
    the_conf.overflow = OVERFLOW_DROP_NEWEST;
    open_store();
    for (unsigned i = 0; i < 20; i++)
        append(10);
    acknowledge(read_up_to(1000, 30, &n));
    before = store_stats(the_store);
    assert_int_equal(before.n_dropped_events, 80);
    stop_store();
    open_store();
    after = store_stats(the_store);
    assert_int_equal(after.n_appended_values, before.n_appended_values);
    assert_int_equal(after.n_acked_values, before.n_acked_values);
    assert_int_equal(after.n_dropped_values, before.n_dropped_values);
    assert_int_equal(after.n_events, before.n_events);
    end_test();
}

static void test_an_emptied_store_leaves_no_segment(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    append(10);
    acknowledge(read_up_to(100000, UINT64_MAX, &n));
    stop_store();
    assert_int_equal(list_segments(NULL, 0), 0);
    open_store();
    append(10); /* at positions that were never given before */
    kill_store();
    open_store();
    assert_int_equal(read_all(), 10);
    end_test();
}

static void test_readable_is_told_once_after_a_read_that_found_nothing(void **state)
{
    (void)state;
    begin_test();
    open_store();
    assert_null(store_read(the_store, 0, 1000));
    append(1);
    assert_int_equal(n_readable, 1);
    append(1);
    assert_int_equal(n_readable, 1);
    assert_int_equal(read_all(), 2);
    append(1);
    assert_int_equal(n_readable, 2);
    end_test();
}

static void test_two_processes_cannot_share_a_directory(void **state)
{
    struct why why = {0};
    struct store *store;
    const struct store_events events = {0};

    (void)state;
    begin_test();
    open_store();
    assert_int_equal(store_file_new(&store, the_loop, &the_conf, &events, NULL, &why), ERR_BUSY);
    assert_true(strstr(why_text(&why), "in use by another process") != NULL);
    end_test();
}

static void test_a_directory_is_made_when_it_is_missing(void **state)
{
    char top[64];

    (void)state;
    begin_test();
    memcpy(top, dir_path, sizeof top);
    snprintf(dir_path, sizeof dir_path, "%s/a/b/", top);
    open_store();
    append(1);
    assert_int_equal(n_ok, 1);
    kill_store();
    snprintf(dir_path, sizeof dir_path, "%s", top);
    end_test();
}

/* --- records of an earlier life ---------------------------------------------------------------------------------------- */

static void test_device_numbers_of_an_earlier_boot_are_those_of_the_names_when_read(void **state)
{
    struct found_segment found[4];
    size_t n;

    (void)state;
    begin_test();
    open_store();
    append_from("old number", 3, 60, true);
    loop_advance(the_loop, 0);
    kill_store();
    assert_int_equal(list_segments(found, 4), 1);
    autofree uint8_t *bytes = get_file(found[0].name, &n);

    for (size_t at = sizeof(struct segment_head) + sizeof(struct group_head);;) {
        struct record *record = (struct record *)(void *)(bytes + at);

        if (!record->size)
            break;
        record->dev = 12345678; /* as another process may have had it */
        record_seal(record, record_body(record).n);
        at += record->size;
    }
    put_file(found[0].name, bytes, n);
    open_store();
    assert_int_equal(read_all(), 3); /* which looks at names and numbers */
    end_test();
}

static void test_the_state_of_a_link_is_not_replayed_from_an_earlier_boot(void **state)
{
    struct device *dev = device_get(STR("linked"));
    struct batch *batch = mem_zero(sizeof *batch);
    struct record *record;

    (void)state;
    begin_test();
    open_store();
    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    record = (struct record *)(void *)batch->bytes;
    *record = (struct record){
        .ts = 0, .dev = dev->number, .flags = RECORD_END, .kind = RECORD_CONNECT, .name_n = dev->name_n};
    memcpy(record + 1, dev->name, dev->name_n);
    record_seal(record, 0);
    batch->n_bytes = record->size;
    batch->n_events = 1;
    store_append(the_store, batch);
    loop_advance(the_loop, 0);
    kill_store();
    open_store();
    struct chunk *chunk = store_read(the_store, 0, 1000);

    record = (struct record *)(void *)(uintptr_t)chunk->bytes;
    assert_int_equal(record->kind, RECORD_CONNECT);
    assert_int_equal(record->ts, -1);
    chunk_release(chunk);
    end_test();
}

/* --- recovery ---------------------------------------------------------------------------------------------------------------- */

/* A directory with one segment of three groups: 0–4, 5–9, 10–14. Gives its bytes, without the reserved end. */
static uint8_t *three_groups(struct found_segment *found, size_t *n)
{
    open_store();
    append(5);
    append(5);
    append(5);
    stop_store();
    assert_int_equal(list_segments(found, 1), 1);
    return get_file(found->name, n);
}

static unsigned records_before(const uint8_t *bytes, size_t n)
{
    unsigned count = 0;

    for (size_t at = sizeof(struct segment_head); at + sizeof(struct record) <= n;) {
        uint32_t size = ((const struct record *)(const void *)(bytes + at))->size;

        if (size == GROUP_MAGIC) {
            at += sizeof(struct group_head);
            continue;
        }
        if (at + size > n)
            break;
        count++;
        at += size;
    }
    return count;
}

static void test_a_file_cut_at_any_byte_gives_every_whole_record_before_it(void **state)
{
    struct found_segment found;
    size_t n;

    (void)state;
    work_in_memory(true);
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    for (size_t cut = 0; cut <= n; cut++) {
        memset(was_read, 0, sizeof was_read);
        put_file(found.name, bytes, cut);
        open_store();
        unsigned expected = cut < sizeof(struct segment_head) ? 0 : records_before(bytes, cut);

        assert_int_equal(store_stats(the_store).n_events, expected);
        assert_int_equal(read_all(), expected);
        for (unsigned i = 0; i < 15; i++)
            assert_int_equal(was_read[i], i < expected);
        append(1); /* and it goes on */
        assert_int_equal(read_all(), 1);
        n_made--;
        kill_store();
        struct found_segment others[8];

        for (size_t i = list_segments(others, 8); i-- > 0;)
            assert_int_equal(unlink(path_in(others[i].name)), 0);
        remove_all(path_in("quarantine"));
        unlink(path_in("state"));
    }
    end_test();
    work_in_memory(false);
}

static void test_a_flipped_bit_costs_the_record_it_is_in_and_a_copy_is_kept(void **state)
{
    struct found_segment found;
    size_t n;

    (void)state;
    work_in_memory(true);
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    for (size_t at = 0; at < n; at += 3) {
        memset(was_read, 0, sizeof was_read);
        bytes[at] ^= (uint8_t)(1 << at % 8);
        put_file(found.name, bytes, n);
        open_store();
        unsigned n_read = read_all();

        assert_true(n_read == 15 || n_read == 14);
        /* but for the last one, which may be torn */
        assert_true(store_stats(the_store).n_dropped_events == (was_read[14] ? 15 - n_read : 0));
        for (unsigned i = 0; i < 15; i++)
            assert_true(was_read[i] <= 1);
        if (n_read == 14)
            assert_int_equal(access(path_in("quarantine"), F_OK), 0);
        assert_balanced();
        kill_store();
        bytes[at] ^= (uint8_t)(1 << at % 8);
        remove_all(path_in("quarantine"));
        unlink(path_in("state"));
    }
    end_test();
    work_in_memory(false);
}

static void test_what_was_lost_to_corruption_is_counted_once(void **state)
{
    struct found_segment found;
    size_t n;

    (void)state;
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    bytes[sizeof(struct segment_head) + sizeof(struct group_head) + 50] ^= 4;
    put_file(found.name, bytes, n);
    for (unsigned round = 0; round < 3; round++) {
        open_store();
        struct store_stats stats = store_stats(the_store);

        assert_int_equal(stats.n_events, 14);
        assert_int_equal(stats.n_dropped_events, 1);
        assert_int_equal(stats.n_dropped_values, 2);
        assert_balanced();
        loop_advance(the_loop, 300); /* the state is saved */
        kill_store();
    }
    end_test();
}

static void test_records_whose_group_head_is_lost_too_are_counted(void **state)
{
    enum { FIRST = sizeof(struct segment_head), BEHIND = sizeof(struct group_head) };
    struct found_segment found;
    size_t n, size;

    (void)state;
    work_in_memory(true);
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    size = ((const struct record *)(const void *)(bytes + FIRST + BEHIND))->size;
    for (unsigned i = 0; i < 5; i++) { /* of the first group */
        for (size_t in = 0; in < size; in += 3) {
            size_t at = FIRST + BEHIND + i * size + in;

            memset(was_read, 0, sizeof was_read);
            bytes[FIRST + 9] ^= 2;
            bytes[at] ^= (uint8_t)(1 << in % 8);
            put_file(found.name, bytes, n);
            open_store();
            assert_int_equal(read_all(), 14);
            assert_int_equal(was_read[i], 0);
            bool is_flags = in >= offsetof(struct record, n_values) && in < offsetof(struct record, kind);

            if (!is_flags) { /* what it would be counted by */
                assert_int_equal(store_stats(the_store).n_dropped_events, 1);
                assert_int_equal(store_stats(the_store).n_dropped_values, 2);
                assert_int_equal(store_stats(the_store).n_damaged_values, 2);
            }
            assert_balanced();
            kill_store();
            bytes[FIRST + 9] ^= 2;
            bytes[at] ^= (uint8_t)(1 << in % 8);
            remove_all(path_in("quarantine"));
            unlink(path_in("state"));
        }
    }
    end_test();
    work_in_memory(false);
}

static void test_a_record_that_rots_while_the_store_runs_is_counted_as_dropped(void **state)
{
    struct found_segment found;
    unsigned n_read;

    (void)state;
    begin_test();
    open_store();
    for (unsigned i = 0; i < 40; i++) {
        append_from("rot", 50, 900, true);
        loop_advance(the_loop, 0);
    }
    assert_int_equal(list_segments(&found, 1), 1);
    int fd = open(path_in(found.name), O_RDWR);

    assert_int_equal(pwrite(fd, "rotten", 6, 1200000), 6);
    close(fd);
    uint64_t pos = read_up_to(64 * 1024, UINT64_MAX, &n_read);

    assert_int_equal(n_read, 1999);
    acknowledge(pos);
    stop_store(); /* seals it */
    open_store();
    assert_int_equal(store_stats(the_store).n_events, 0);
    assert_int_equal(store_stats(the_store).n_dropped_events, 1);
    assert_balanced();
    end_test();
}

static void test_a_damaged_head_costs_no_record(void **state)
{
    struct found_segment found;
    size_t n;

    (void)state;
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    memset(bytes, 0x55, sizeof(struct segment_head) + sizeof(struct group_head));
    put_file(found.name, bytes, n);
    open_store();
    assert_int_equal(read_all(), 15);
    end_test();
}

static void test_without_its_state_file_everything_comes_again_and_nothing_is_lost(void **state)
{
    static const char *const contents[] = {"", "garbage\n", "iotgw store state 1\nnext 0\ncrc 00000000\n"};
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    append(20);
    acknowledge(read_up_to(1000, 7, &n));
    stop_store();
    for (size_t i = 0; i <= COUNT_OF(contents); i++) {
        if (i == COUNT_OF(contents))
            unlink(path_in("state"));
        else
            put_file("state", contents[i], strlen(contents[i]));
        open_store();
        assert_int_equal(read_all(), 20);
        kill_store();
    }
    end_test();
}

static void test_a_newer_format_is_refused_and_left_untouched(void **state)
{
    struct found_segment found;
    struct why why = {0};
    size_t n, n_after;

    (void)state;
    begin_test();
    autofree uint8_t *bytes = three_groups(&found, &n);

    struct segment_head *head = (struct segment_head *)(void *)bytes;

    head->version = SEGMENT_VERSION + 1;
    head->crc = crc32c(crc32c(0, &head->version, 4), &head->base, sizeof *head - offsetof(struct segment_head, base));
    bytes[200] ^= 1; /* what this version would call damage */
    put_file(found.name, bytes, n);
    assert_int_equal(try_open_store(&why), ERR_UNSUPPORTED);
    assert_true(strstr(why_text(&why), "newer version") != NULL);
    autofree uint8_t *after = get_file(found.name, &n_after);

    assert_int_equal(n_after, n);
    assert_memory_equal(after, bytes, n);
    assert_int_equal(access(path_in("quarantine"), F_OK), -1);
    end_test();
}

static void test_what_lies_behind_a_failed_sync_is_not_read_again(void **state)
{
    (void)state;
    begin_test();
    open_store();
    append(5);
    faults[CALL_SYNC] = (struct fault){.number = EIO, .times = 1};
    faults[CALL_TRUNCATE] = (struct fault){.number = EIO}; /* it cannot even be cut off */
    append(5);
    assert_int_equal(n_ok, 1);
    loop_advance(the_loop, 5000);
    assert_int_equal(n_ok, 2);
    loop_advance(the_loop, 1000);
    kill_store();
    open_store();
    assert_int_equal(store_stats(the_store).n_events, 10);
    assert_int_equal(read_all(), 10); /* read_up_to asserts that none comes twice */
    end_test();
}

/* Invariant 4. */
static void test_what_was_written_again_is_there_once_though_nothing_was_cut_off_and_no_state_saved(void **state)
{
    (void)state;
    for (unsigned n_syncs = 1; n_syncs < 5; n_syncs++) {
        begin_test();
        open_store();
        append(5);
        faults[CALL_SYNC] = (struct fault){.number = EIO, .times = n_syncs};
        faults[CALL_TRUNCATE] = (struct fault){.number = EIO};
        faults[CALL_RENAME] = (struct fault){.number = EIO};
        faults[CALL_UNLINK] = (struct fault){.number = EIO};
        append(5);
        append(5);
        assert_int_equal(n_ok, 1);
        loop_advance(the_loop, 30000);
        assert_int_equal(n_ok, 3);
        append(5);
        assert_int_equal(n_ok, 4);
        kill_store();
        open_store();
        assert_int_equal(store_stats(the_store).n_events, 20);
        assert_int_equal(read_all(), 20); /* read_up_to asserts that none comes twice */
        kill_store();
        faults[CALL_TRUNCATE] = (struct fault){0};
        open_store();
        assert_int_equal(read_all(), 20);
        end_test();
    }
}

static void test_what_a_stop_on_a_failing_disk_leaves_is_there_once(void **state)
{
    (void)state;
    begin_test();
    open_store();
    faults[CALL_SYNC] = (struct fault){.number = EIO};
    faults[CALL_TRUNCATE] = (struct fault){.number = EIO};
    faults[CALL_UNLINK] = (struct fault){.number = EIO};
    append(5);
    loop_advance(the_loop, 20000);
    append(5);
    stop_store();
    assert_int_equal(n_ok, 0);
    memset(faults, 0, sizeof faults);
    open_store();
    (void)read_all(); /* asserts that none comes twice */
    end_test();
}

/* --- a disk in trouble ------------------------------------------------------------------------------------------------------------ */

static void test_on_a_failing_disk_nothing_completes_reading_goes_on_and_it_recovers_by_itself(void **state)
{
    static const struct {
        enum call call;
        int number;
        const char *says;
    } cases[] = {
        {CALL_WRITE, ENOSPC, "disk full"}, {CALL_WRITE, EIO, "disk error"},  {CALL_WRITE, EDQUOT, "disk full"},
        {CALL_SYNC, EIO, "disk error"},    {CALL_SYNC, ENOSPC, "disk full"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin_test();
        open_store();
        append(10);
        faults[cases[i].call] = (struct fault){.number = cases[i].number};
        append(10);
        append(10);
        append_from("udp", 1, 60, false); /* cannot wait */
        loop_advance(the_loop, 0);
        assert_int_equal(n_ok, 1);
        assert_int_equal(n_full, 1);
        assert_string_equal(trouble(), cases[i].says);
        assert_true(store_stats(the_store).is_blocked);
        assert_int_equal(read_all(), 10);
        loop_advance(the_loop, 60000);
        assert_int_equal(n_ok, 1);
        assert_true(faults[cases[i].call].n_failed >= 12); /* tried again at least every five seconds */
        faults[cases[i].call].number = 0;
        loop_advance(the_loop, 5000);
        assert_int_equal(n_ok, 3);
        assert_null(trouble());
        assert_false(store_stats(the_store).is_blocked);
        assert_int_equal(read_all(), 20);
        assert_balanced();
        kill_store();
        memset(was_read, 0, sizeof was_read);
        open_store();
        assert_int_equal(read_all(), 30);
        for (unsigned n = 0; n < 30; n++)
            assert_int_equal(was_read[n], 1);
        end_test();
    }
}

static void test_a_directory_that_cannot_be_written_is_read_and_delivered(void **state)
{
    static const int numbers[] = {EROFS, EACCES, ENOSPC};
    unsigned n;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        begin_test();
        open_store();
        append(20);
        kill_store();
        for (int call = CALL_OPEN; call < CALL_LOOK; call++)
            faults[call].number = numbers[i];
        open_store();
        append(5);
        assert_int_equal(n_ok, 1);
        assert_non_null(trouble());
        acknowledge(read_up_to(1000, UINT64_MAX, &n));
        assert_int_equal(n, 20);
        loop_advance(the_loop, 10000);
        assert_int_equal(store_stats(the_store).n_events, 0);
        memset(faults, 0, sizeof faults);
        loop_advance(the_loop, 6000);
        assert_int_equal(n_ok, 2);
        assert_null(trouble());
        assert_int_equal(read_all(), 5);
        end_test();
    }
}

static void test_a_segment_that_cannot_be_opened_now_is_read_later(void **state)
{
    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    for (unsigned i = 0; i < 20; i++) {
        append_from("later", 60, 900, true);
        loop_advance(the_loop, 0);
    }
    faults[CALL_LOOK] = (struct fault){.number = EMFILE};
    unsigned n = read_all();

    loop_advance(the_loop, 20000);
    assert_true(n + read_all() < 1200);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    faults[CALL_LOOK].number = 0;
    loop_advance(the_loop, 1000);
    (void)read_all();
    for (unsigned i = 0; i < 1200; i++)
        assert_int_equal(was_read[i], 1);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    end_test();
}

static void test_short_writes_are_continued(void **state)
{
    (void)state;
    begin_test();
    open_store();
    short_write = 100;
    append(20);
    append(20);
    assert_int_equal(n_ok, 2);
    kill_store();
    open_store();
    assert_int_equal(read_all(), 40);
    end_test();
}

static void test_a_segment_that_cannot_be_begun_is_begun_later(void **state)
{
    static const enum call calls[] = {CALL_OPEN, CALL_ALLOCATE, CALL_SYNC_DIR};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        begin_test();
        open_store();
        faults[calls[i]] = (struct fault){.number = ENOSPC, .times = 20}; /* with less to reserve, too */
        append(5);
        assert_int_equal(n_ok, 0);
        loop_advance(the_loop, 200 * 1000);
        assert_int_equal(n_ok, 1);
        assert_int_equal(read_all(), 5);
        kill_store();
        open_store();
        assert_int_equal(read_all(), 5);
        end_test();
    }
}

static void test_a_state_file_that_cannot_be_written_is_trouble_but_stops_nothing(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    append(10);
    faults[CALL_RENAME] = (struct fault){.number = ENOSPC};
    acknowledge(read_up_to(1000, 4, &n));
    loop_advance(the_loop, 300);
    assert_string_equal(trouble(), "the state file cannot be written");
    append(10);
    assert_int_equal(n_ok, 2);
    faults[CALL_RENAME].number = 0;
    loop_advance(the_loop, 6000);
    assert_null(trouble());
    kill_store();
    open_store();
    assert_int_equal(store_stats(the_store).n_events, 20 - n);
    end_test();
}

static void test_stopping_on_a_failing_disk_cancels_what_is_not_durable(void **state)
{
    (void)state;
    begin_test();
    open_store();
    append(5);
    faults[CALL_WRITE] = (struct fault){.number = ENOSPC};
    append(5);
    append(5);
    stop_store();
    assert_int_equal(n_ok, 1);
    assert_int_equal(n_cancelled, 2);
    memset(faults, 0, sizeof faults);
    open_store();
    assert_int_equal(read_all(), 5);
    end_test();
}

/* What is left of a segment that could not be begun, or removed: its name must not be given again. */
static void test_invariant_1_an_empty_file_that_cannot_be_removed_takes_nothing_with_it(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 64; n += 32) {
        const uint8_t zeroes[64] = {0};

        begin_test();
        put_file("events-0000000000000000.log", zeroes, n);
        faults[CALL_UNLINK] = (struct fault){.number = EIO};
        open_store();
        append(5);
        assert_int_equal(n_ok, 1);
        memset(faults, 0, sizeof faults);
        append(5);
        assert_int_equal(n_ok, 2);
        stop_store(); /* what was delivered, and what there was nothing in, is removed */
        open_store();
        assert_int_equal(read_all(), 10);
        end_test();
    }
}

/* --- full --------------------------------------------------------------------------------------------------------------------------- */

static void test_blocked_sources_wait_until_there_is_room_and_others_lose_their_newest(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    the_conf.max_events = 50;
    the_conf.segment_events = 3; /* raised: only the total counts */
    open_store();
    append(30);
    append(30);
    append_from("udp", 5, 60, false);
    loop_advance(the_loop, 0);
    assert_int_equal(n_ok, 1);
    assert_int_equal(n_full, 1);
    assert_int_equal(n_drops, 1);
    assert_true(store_stats(the_store).is_blocked);
    acknowledge(read_up_to(1000, 30, &n));
    assert_int_equal(n_ok, 2);
    assert_false(store_stats(the_store).is_blocked);
    assert_balanced();
    end_test();
}

static void test_drop_oldest_drops_whole_segments_of_which_nothing_is_in_flight(void **state)
{
    struct device *dev;
    unsigned n;

    (void)state;
    begin_test();
    the_conf.max_events = 1600;
    the_conf.overflow = OVERFLOW_DROP_OLDEST;
    open_store();
    dev = device_get(STR("dropping"));
    atomic_store(&dev->n_overflowed, 0);
    for (unsigned i = 0; i < 500; i++) {
        append_from("dropping", 20, 1500, true);
        loop_advance(the_loop, 0);
    }
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(n_ok, 500);
    assert_true(stats.n_events <= 1600 && stats.n_events > 1400);
    assert_int_equal(stats.n_dropped_events, 10000 - stats.n_events);
    assert_int_equal(atomic_load(&dev->n_overflowed), stats.n_dropped_values);
    assert_true(n_drops > 0);
    assert_balanced();
    acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
    assert_int_equal(n, stats.n_events);
    assert_int_equal(store_stats(the_store).n_events, 0);
    end_test();
}

static void test_a_tiny_store_that_drops_the_oldest_keeps_the_newest(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_events = 15;
    the_conf.segment_events = 3;
    the_conf.overflow = OVERFLOW_DROP_OLDEST;
    open_store();
    for (unsigned i = 0; i < 60; i++)
        append(5);
    struct store_stats stats = store_stats(the_store);

    assert_int_equal(n_answers, 60);
    assert_true(stats.n_events <= 15);
    assert_int_equal(stats.n_dropped_events, 300 - stats.n_events);
    assert_balanced();
    assert_int_equal(read_all(), stats.n_events);
    assert_int_equal(was_read[299], n_full ? 0 : 1);
    end_test();
}

static void test_what_is_delivered_gives_its_room_at_once_to_what_comes(void **state)
{
    static const enum overflow policies[] = {OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(policies); i++) {
        unsigned n;

        begin_test();
        the_conf.max_bytes = 512 * 1024;
        the_conf.overflow = policies[i];
        open_store();
        for (unsigned k = 0; k < 100; k++) { /* many times what it may take, and no time passes */
            append_from("quick", 5, 1500, k % 2);
            append_from("quicker", 11 + k % 7, 1500, k % 2);
            loop_advance(the_loop, 0);
            acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
            assert_int_equal(n, 16 + k % 7);
        }
        assert_int_equal(n_ok, 200);
        assert_int_equal(store_stats(the_store).n_dropped_events, 0);
        end_test();
    }
}

static void test_a_full_disk_takes_what_comes_once_delivered_segments_are_gone(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    the_conf.segment_bytes = 64 * 1024;
    the_conf.overflow = OVERFLOW_DROP_NEWEST;
    open_store();
    for (unsigned k = 0; k < 4; k++) {
        append_from("quick", 20, 1500, false);
        loop_advance(the_loop, 0);
        acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
    }
    faults[CALL_ALLOCATE] = (struct fault){.number = ENOSPC, .times = 1};
    for (unsigned k = 0; k < 4; k++) {
        append_from("quick", 20, 1500, false);
        loop_advance(the_loop, 0);
    }
    assert_int_equal(n_ok, 8);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    assert_null(store_stats(the_store).trouble);
    end_test();
}

static void test_a_disk_with_less_room_than_a_segment_is_filled_and_segments_grow_again_later(void **state)
{
    struct found_segment found[64];
    uint64_t bytes = 0, largest = 0;
    unsigned n;

    (void)state;
    begin_test();
    the_conf.segment_bytes = 2 * 1024 * 1024;
    disk_room = 1500 * 1000;
    open_store();
    while (!store_stats(the_store).trouble) {
        append_from("tight", 20, 1500, true);
        loop_advance(the_loop, 0);
    }
    assert_string_equal(store_stats(the_store).trouble, "disk full");
    n = list_segments(found, 64) > 20 ? 64 : (unsigned)list_segments(found, 64);
    assert_in_range(n, 2, 20);
    for (unsigned i = 0; i < n; i++)
        bytes += found[i].size;
    assert_in_range(bytes, 1500 * 1000 - 40 * 1024, 1500 * 1000);
    assert_int_equal(store_stats(the_store).n_events, 20 * n_ok);
    assert_in_range(20 * n_ok * 1500, 1400 * 1000, 1500 * 1000);
    kill_store();
    open_store(); /* and nothing is wrong with it */
    for (unsigned i = 0; i < 40; i++) {
        acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
        loop_advance(the_loop, 1000);
    }
    assert_int_equal(store_stats(the_store).n_events, 0);
    disk_room = 0;
    for (unsigned i = 0; i < 300; i++) {
        append_from("tight", 20, 1500, true);
        loop_advance(the_loop, 0);
    }
    assert_null(store_stats(the_store).trouble);
    for (size_t i = list_segments(found, 64); i-- > 0;)
        largest = found[i].size > largest ? found[i].size : largest;
    assert_int_equal(largest, 2 * 1024 * 1024);
    end_test();
}

static void test_what_a_killed_process_had_reserved_is_room_again(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_bytes = 200 * 1024; /* segments of 64 KiB */
    open_store();
    append(1);
    kill_store(); /* its file is as large as it was reserved, until the start cuts it */
    open_store();
    for (unsigned i = 0; i < 5; i++) {
        append_from("bounded", 20, 1500, true);
        loop_advance(the_loop, 0);
    }
    assert_int_equal(n_ok, 6); /* three segments fit behind the little that is there */
    end_test();
}

static void test_files_take_no_more_than_they_may(void **state)
{
    struct found_segment found[64];
    uint64_t bytes = 0;
    unsigned n;

    (void)state;
    begin_test();
    the_conf.max_bytes = 4 * 1024 * 1024;
    open_store();
    for (unsigned i = 0; i < 200; i++) {
        append_from("bounded", 20, 2000, true);
        loop_advance(the_loop, 0);
    }
    assert_true(store_stats(the_store).is_blocked);
    for (size_t i = list_segments(found, 64); i-- > 0;)
        bytes += found[i].size;
    assert_true(bytes <= 4 * 1024 * 1024 && bytes > 3 * 1024 * 1024);
    for (unsigned i = 0; i < 100 && n_ok < 200; i++) {
        acknowledge(read_up_to(64 * 1024, UINT64_MAX, &n));
        loop_advance(the_loop, 250);
    }
    assert_int_equal(n_ok, 200);
    end_test();
}

static void test_a_store_that_goes_leaves_nothing_of_it_in_a_loop_that_runs_on(void **state)
{
    (void)state;
    begin_test();
    the_conf.max_events = 20;
    the_conf.overflow = OVERFLOW_DROP_NEWEST;
    open_store();
    assert_null(store_read(the_store, 0, 1000));
    for (unsigned i = 0; i < 30; i++)
        append_from("gone", 1, 60, false);
    loop_advance(the_loop, 0);
    append_from("gone", 1, 60, true);
    store_split(the_store);
    store_stop(the_store, on_stopped, &(bool){false});
    loop_advance(the_loop, 0);
    append_from("gone", 1, 60, true);
    n_readable = 0;
    store_free(the_store);
    the_store = NULL;
    loop_advance(the_loop, 60000);
    assert_int_equal(n_readable, 0);
    assert_int_equal(n_answers, 32);
    loop_free(the_loop);
    end_test();
}

static void test_blocks_are_given_back_when_nothing_happens(void **state)
{
    unsigned n;

    (void)state;
    begin_test();
    open_store();
    append(10);
    acknowledge(read_up_to(100000, UINT64_MAX, &n));
    loop_advance(the_loop, 30000);
    append(10);
    assert_int_equal(read_all(), 10);
    kill_store();
    open_store();
    assert_true(read_all() >= 10);
    end_test();
}

/* --- threads ---------------------------------------------------------------------------------------------------------------------------- */

enum { THREAD_BATCHES = 400, THREAD_RECORDS = 20 };
static atomic_uint n_thread_ok;
static unsigned n_thread_read;
static struct timer look;

static void thread_answer(struct batch *batch)
{
    assert_int_equal(batch->result, ERR_OK);
    atomic_fetch_add(&n_thread_ok, 1);
    mem_free(batch);
}

static void thread_read(void *arg)
{
    struct chunk *chunk;

    (void)arg;
    while ((chunk = store_read(the_store, 0, 32 * 1024))) {
        for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n; n_thread_read++)
            p += ((const struct record *)(const void *)p)->size;
        store_ack(the_store, 0, chunk->to);
        chunk_release(chunk);
    }
}

static void loop_ends(void *arg)
{
    loop_stop(arg);
}

static void look_for_end(void *arg)
{
    if (atomic_load(&n_thread_ok) < 2 * THREAD_BATCHES || store_stats(the_store).n_events)
        return;
    timer_stop(&look);
    store_stop(the_store, loop_ends, arg);
}

static void *producer(void *arg)
{
    static const char *const names[] = {"thread/a", "thread/b"};
    const char *name = names[*(int *)arg];

    for (unsigned i = 0; i < THREAD_BATCHES; i++) {
        struct device *dev = device_get(str_from(name));
        struct batch *batch = mem_zero(sizeof *batch);

        batch->bytes = slab_get();
        batch->cap = SLAB_SIZE;
        batch->can_wait = true;
        batch->n_events = batch->n_values = THREAD_RECORDS;
        for (unsigned k = 0; k < THREAD_RECORDS; k++) {
            struct record *record = (struct record *)(void *)(batch->bytes + batch->n_bytes);

            *record = (struct record){.ts = i * THREAD_RECORDS + k,
                                      .dev = dev->number,
                                      .n_values = 1,
                                      .flags = RECORD_END,
                                      .kind = RECORD_TELEMETRY,
                                      .name_n = dev->name_n};
            memcpy(record + 1, dev->name, dev->name_n);
            memcpy((char *)(record + 1) + dev->name_n, "\"v\":1", 5);
            record_seal(record, 5);
            batch->n_bytes += record->size;
        }
        store_append(the_store, batch);
    }
    return NULL;
}

static void test_producers_store_and_reader_work_on_threads_of_their_own(void **state)
{
    static const struct store_events events = {.readable = thread_read};
    struct file_conf conf = {.segment_events = 1000, .log = &quiet, .path = dir_path};
    struct why why = {0};
    struct loop *loop;
    pthread_t threads[2];
    int which[2] = {0, 1};

    (void)state;
    begin_test();
    log_init(&quiet, "storage", LOG_LEVEL_OFF);
    store_answer_fn = thread_answer;
    assert_int_equal(loop_new(&loop, "reader"), ERR_OK);
    assert_int_equal(store_file_new(&the_store, loop, &conf, &events, NULL, &why), ERR_OK);
    timer_init(&look, loop, look_for_end, loop);
    timer_start_periodic(&look, 5, 5);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, producer, &which[i]), 0);
    loop_run(loop);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_thread_read, 2 * THREAD_BATCHES * THREAD_RECORDS);
    store_free(the_store);
    the_store = NULL;
    loop_free(loop);
    end_test();
}

/* --- a disk that hangs -------------------------------------------------------------------------------------------------- */

static pthread_mutex_t stuck = PTHREAD_MUTEX_INITIALIZER;

static int hang(const struct file_io *io, int fd)
{
    (void)io;
    (void)fd;
    pthread_mutex_lock(&stuck);
    pthread_mutex_unlock(&stuck);
    return 0;
}

static void test_invariant_6_on_a_disk_that_hangs_appending_and_stopping_do_not(void **state)
{
    static const struct store_events events = {0};
    static struct file_io io; /* its thread outlives the test */
    struct file_conf conf = {.log = &quiet, .path = dir_path, .io = &io};
    struct why why = {0};
    bool is_stopped = false;

    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* the thread that hangs on purpose would be reported at the end of the process */
#endif
    begin_test();
    log_init(&quiet, "storage", LOG_LEVEL_OFF);
    store_answer_fn = on_answer;
    io = file_io_system;
    io.fdatasync = hang;
    pthread_mutex_lock(&stuck);
    the_loop = loop_new_fake(1700000000000); /* the reader's; the store has a thread */
    assert_int_equal(store_file_new(&the_store, the_loop, &conf, &events, NULL, &why), ERR_OK);
    for (unsigned i = 0; i < 50; i++)
        append_from("hung", 5, 60, true);
    assert_null(store_read(the_store, 0, 1000));
    assert_int_equal(store_stats(the_store).n_events, 0); /* nothing is durable */
    store_stop(the_store, on_stopped, &is_stopped);
    loop_advance(the_loop, 6000);
    assert_true(is_stopped);
    assert_int_equal(n_answers, 0);
    the_store = NULL; /* its thread hangs until the process ends, which is next */
    remove_all(dir_path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_appended_is_read_in_order_and_each_record_once),
        TEST(test_a_reader_far_behind_gets_all_of_it_from_the_disk),
        TEST(test_single_records_are_read_together_when_they_have_piled_up),
        TEST(test_one_commit_answers_all_that_arrived_with_one_write_and_one_sync),
        TEST(test_an_event_larger_than_a_block_is_kept_whole),
        TEST(test_after_a_stop_and_after_a_kill_what_was_not_acknowledged_is_there),
        TEST(test_the_totals_of_the_ledger_survive_a_restart),
        TEST(test_an_emptied_store_leaves_no_segment),
        TEST(test_readable_is_told_once_after_a_read_that_found_nothing),
        TEST(test_two_processes_cannot_share_a_directory),
        TEST(test_a_directory_is_made_when_it_is_missing),
        TEST(test_device_numbers_of_an_earlier_boot_are_those_of_the_names_when_read),
        TEST(test_the_state_of_a_link_is_not_replayed_from_an_earlier_boot),
        TEST(test_a_file_cut_at_any_byte_gives_every_whole_record_before_it),
        TEST(test_a_flipped_bit_costs_the_record_it_is_in_and_a_copy_is_kept),
        TEST(test_what_was_lost_to_corruption_is_counted_once),
        TEST(test_records_whose_group_head_is_lost_too_are_counted),
        TEST(test_a_record_that_rots_while_the_store_runs_is_counted_as_dropped),
        TEST(test_a_damaged_head_costs_no_record),
        TEST(test_without_its_state_file_everything_comes_again_and_nothing_is_lost),
        TEST(test_a_newer_format_is_refused_and_left_untouched),
        TEST(test_what_lies_behind_a_failed_sync_is_not_read_again),
        TEST(test_what_was_written_again_is_there_once_though_nothing_was_cut_off_and_no_state_saved),
        TEST(test_what_a_stop_on_a_failing_disk_leaves_is_there_once),
        TEST(test_on_a_failing_disk_nothing_completes_reading_goes_on_and_it_recovers_by_itself),
        TEST(test_a_directory_that_cannot_be_written_is_read_and_delivered),
        TEST(test_a_segment_that_cannot_be_opened_now_is_read_later),
        TEST(test_short_writes_are_continued),
        TEST(test_a_segment_that_cannot_be_begun_is_begun_later),
        TEST(test_a_state_file_that_cannot_be_written_is_trouble_but_stops_nothing),
        TEST(test_stopping_on_a_failing_disk_cancels_what_is_not_durable),
        TEST(test_invariant_1_an_empty_file_that_cannot_be_removed_takes_nothing_with_it),
        TEST(test_blocked_sources_wait_until_there_is_room_and_others_lose_their_newest),
        TEST(test_drop_oldest_drops_whole_segments_of_which_nothing_is_in_flight),
        TEST(test_a_tiny_store_that_drops_the_oldest_keeps_the_newest),
        TEST(test_what_is_delivered_gives_its_room_at_once_to_what_comes),
        TEST(test_a_full_disk_takes_what_comes_once_delivered_segments_are_gone),
        TEST(test_a_disk_with_less_room_than_a_segment_is_filled_and_segments_grow_again_later),
        TEST(test_what_a_killed_process_had_reserved_is_room_again),
        TEST(test_files_take_no_more_than_they_may),
        TEST(test_a_store_that_goes_leaves_nothing_of_it_in_a_loop_that_runs_on),
        TEST(test_blocks_are_given_back_when_nothing_happens),
        TEST(test_producers_store_and_reader_work_on_threads_of_their_own),
        TEST(test_invariant_6_on_a_disk_that_hangs_appending_and_stopping_do_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
