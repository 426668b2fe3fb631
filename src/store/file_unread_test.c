/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that cannot be read, or with files of strange names: nothing that waits on it is taken for rubbish. */
#include "store/file_plant.h"

static void append_for_the_disk(const char *name)
{
    for (unsigned i = 0; i < 20; i++) {
        append_from(name, 60, 900, true);
        loop_advance(the_loop, 0);
    }
}

static void test_what_the_disk_cannot_read_now_is_read_later(void **state)
{
    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    append_for_the_disk("unread");
    faults[CALL_READ] = (struct fault){.number = EIO};
    unsigned n = read_all();

    loop_advance(the_loop, 3000);
    assert_true(n + read_all() < 1200);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    faults[CALL_READ].number = 0;
    loop_advance(the_loop, 1000);
    (void)read_all();
    for (unsigned i = 0; i < 1200; i++)
        assert_int_equal(was_read[i], 1);
    assert_int_equal(store_stats(the_store).n_dropped_events, 0);
    end_test();
}

static void test_what_the_disk_never_reads_is_counted_as_dropped_and_its_file_is_kept(void **state)
{
    struct found_segment found[32];

    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    append_for_the_disk("bad");
    faults[CALL_READ] = (struct fault){.number = EIO};
    unsigned n = read_all();

    for (unsigned i = 0; i < 60; i++) {
        loop_advance(the_loop, 1000);
        n += read_all();
        faults[CALL_READ].number = i < 30 ? EIO : 0;
    }
    assert_true(n > 0 && n < 1200);
    assert_int_equal(store_stats(the_store).n_dropped_events, 1200 - n);
    acknowledge(UINT64_MAX);
    loop_advance(the_loop, 1000);
    assert_true(list_segments(found, 32) <= 1);
    assert_int_equal(access(path_in("quarantine"), F_OK), 0);
    assert_balanced();
    end_test();
}

static void test_a_start_on_a_disk_that_cannot_be_read_takes_nothing_away(void **state)
{
    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    append_for_the_disk("start");
    kill_store();
    faults[CALL_READ] = (struct fault){.number = EIO};
    open_store();
    assert_int_equal(read_all(), 0);
    loop_advance(the_loop, 1000);
    kill_store();
    memset(was_read, 0, sizeof was_read);
    faults[CALL_READ] = (struct fault){.number = EIO, .after = 60, .times = 2};
    open_store(); /* it stumbles once, in the midst of it */
    assert_int_equal(read_all(), 1200);
    kill_store();
    faults[CALL_READ].number = 0;
    memset(was_read, 0, sizeof was_read);
    open_store();
    (void)read_all();
    for (unsigned i = 0; i < 1200; i++)
        assert_int_equal(was_read[i], 1);
    end_test();
}

static void test_a_name_near_the_end_of_all_positions_overwrites_nothing(void **state)
{
    (void)state;
    begin_test();
    the_conf.segment_events = 100;
    open_store();
    append_for_the_disk("first");
    kill_store();
    int fd = open(path_in("events-ffffffffffeffff8.log"), O_WRONLY | O_CREAT, 0640); /* 1 MiB and 8 before it */

    assert_int_equal(write(fd, "garbage!", 8), 8);
    close(fd);
    open_store();
    append_for_the_disk("second");
    kill_store();
    memset(was_read, 0, sizeof was_read);
    open_store();
    (void)read_all();
    for (unsigned i = 0; i < 2400; i++)
        assert_int_equal(was_read[i], 1);
    end_test();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_disk_cannot_read_now_is_read_later),
        cmocka_unit_test(test_what_the_disk_never_reads_is_counted_as_dropped_and_its_file_is_kept),
        cmocka_unit_test(test_a_start_on_a_disk_that_cannot_be_read_takes_nothing_away),
        cmocka_unit_test(test_a_name_near_the_end_of_all_positions_overwrites_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
