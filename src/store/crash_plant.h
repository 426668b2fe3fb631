/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CRASH_PLANT_H
#define IOTGW_CRASH_PLANT_H
/*
 * Invariant 1 below the process, for stores on a disk: what a run did to its directory is recorded call by call; then the
 * directory is built anew as it may look after a crash at every cut, and a store is started in it. Whatever was answered
 * before the cut, and not acknowledged by the reader, must be there, once. For test files only.
 */
#include "store/file_plant.h"

static uint64_t seed;
static bool has_lanes;
static uint64_t segment_events = 100;

static uint32_t roll(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 11) % n);
}

/* --- a run ------------------------------------------------------------------------------------------------------------- */

static void acknowledge_some(void)
{
    unsigned n;
    uint64_t pos = read_up_to(200 + roll(20000), 1 + roll(40), &n);
    uint64_t next = 0;

    if (!n)
        return;
    for (uint64_t i = 0; i < n_made; i++) /* the reader goes in order: all up to the last one it read */
        if (was_read[i])
            next = i + 1;
    struct deed *deed = note(MADE_ACK, "");

    deed->n = next;
    acknowledge(pos);
}

/* With lanes what is acknowledged is no prefix of all: the deed has the numbers. */
static void acknowledge_some_of(int lane)
{
    struct chunk *chunk = store_read(the_store, lane, 200 + roll(20000));
    uint64_t numbers[MAX_RECORDS], n = 0;

    if (!chunk)
        return;
    for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
        const struct record *record = (const struct record *)(const void *)p;

        numbers[n++] = (uint64_t)record->ts;
        p += record->size;
    }
    struct deed *deed = note(MADE_ACK, "");

    deed->bytes = mem_new(n * sizeof *numbers);
    memcpy(deed->bytes, numbers, n * sizeof *numbers);
    deed->at = n;
    store_ack(the_store, lane, chunk->to);
    chunk_release(chunk);
    loop_advance(the_loop, 0);
}

static void live(unsigned n_steps, bool has_faults)
{
    static const char *const devices[] = {"crash/a", "crash/b", "crash/c", "crash/d", "crash/e", "crash/f"};

    for (unsigned i = 0; i < n_steps; i++) {
        unsigned what = roll(10);

        if (has_faults && roll(12) == 0)
            faults[roll(2) ? CALL_SYNC : CALL_WRITE] =
                (struct fault){.number = roll(2) ? EIO : ENOSPC, .times = 1 + roll(2), .after = roll(2)};
        if (has_faults && roll(20) == 0)
            faults[CALL_RENAME] = (struct fault){.number = ENOSPC, .times = 1};
        if (what < 6)
            for (unsigned n = 1 + roll(3); n; n--)
                append_from(devices[roll(has_lanes ? 6 : 3)], 1 + roll(12), 50 + roll(300), true);
        else if (what < 8 && has_lanes)
            acknowledge_some_of((int)roll(LANES));
        else if (what < 8)
            acknowledge_some();
        if (has_lanes && roll(8) == 0)
            store_split(the_store);
        loop_advance(the_loop, what == 9 ? 210 : what == 8 ? 5000 : 0);
    }
    memset(faults, 0, sizeof faults);
}

/* --- the directory after a crash ------------------------------------------------------------------------------------------- */

enum loss { LOSS_NONE, LOSS_ALL, LOSS_SOME, LOSSES }; /* of what no sync had covered */

struct model {
    char name[QUARANTINE_NAME];
    uint8_t *bytes;
    size_t n, cap;
    uint64_t size; /* with what is reserved */
};
static struct model models[64];
static size_t n_models;

static struct model *model_of(const char *name)
{
    for (size_t i = 0; i < n_models; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

static void model_remove(const char *name)
{
    struct model *model = model_of(name);

    if (!model)
        return;
    mem_free(model->bytes);
    *model = models[--n_models];
}

static void model_open(const char *name)
{
    struct model *model = model_of(name);

    if (!model) {
        assert_true(n_models < COUNT_OF(models));
        model = &models[n_models++];
        *model = (struct model){0};
        snprintf(model->name, sizeof model->name, "%s", name);
    }
    model->n = 0;
    model->size = 0;
}

static void model_write(const char *name, const struct deed *deed, size_t n)
{
    struct model *model = model_of(name);
    size_t end = (size_t)deed->at + n;

    if (!model || !n)
        return;
    if (end > model->cap) {
        model->cap = 2 * end;
        model->bytes = mem_grow(model->bytes, model->cap);
    }
    if (end > model->n) {
        memset(model->bytes + model->n, 0, end - model->n);
        model->n = end;
    }
    memcpy(model->bytes + deed->at, deed->bytes, n);
    if (model->size < model->n)
        model->size = model->n;
}

static void model_truncate(const char *name, uint64_t size)
{
    struct model *model = model_of(name);

    if (!model)
        return;
    model->size = size;
    if (model->n > size)
        model->n = (size_t)size;
}

static void model_rename(const char *from, const char *to)
{
    struct model *model = model_of(from);

    if (!model)
        return;
    model_remove(to);
    model = model_of(from);
    snprintf(model->name, sizeof model->name, "%s", to);
}

/* Is there a sync of that kind between the deed and the cut? */
static bool is_synced(size_t i, size_t cut)
{
    bool is_name = deeds[i].what == CALL_OPEN || deeds[i].what == CALL_RENAME || deeds[i].what == CALL_UNLINK;

    for (size_t k = i + 1; k < cut; k++)
        if (is_name ? deeds[k].what == CALL_SYNC_DIR
                    : deeds[k].what == CALL_SYNC && strcmp(deeds[k].name, deeds[i].name) == 0)
            return true;
    return false;
}

static void apply(const struct deed *deed, size_t n_bytes)
{
    switch (deed->what) {
    case CALL_OPEN:
        model_open(deed->name);
        break;
    case CALL_WRITE:
        model_write(deed->name, deed, n_bytes);
        break;
    case CALL_ALLOCATE:
    case CALL_TRUNCATE:
        model_truncate(deed->name, deed->n);
        break;
    case CALL_RENAME:
        model_rename(deed->name, deed->to);
        break;
    case CALL_UNLINK:
        model_remove(deed->name);
        break;
    default:
        break;
    }
}

static void build(size_t cut, enum loss loss)
{
    while (n_models)
        model_remove(models[0].name);
    for (size_t i = 0; i < cut; i++) {
        size_t n = (size_t)deeds[i].n;

        if (loss != LOSS_NONE && !is_synced(i, cut)) {
            bool is_lost = loss == LOSS_ALL || roll(2);

            if (is_lost && deeds[i].what != CALL_WRITE)
                continue;
            if (is_lost) /* torn anywhere */
                n = loss == LOSS_ALL || n == 0 ? 0 : roll((uint32_t)n);
        }
        apply(&deeds[i], n);
    }
    make_dir();
    for (size_t i = 0; i < n_models; i++) {
        put_file(models[i].name, models[i].bytes, models[i].n);
        assert_int_equal(truncate(path_in(models[i].name), (off_t)models[i].size), 0);
    }
}

/* All there is, in the order of each device. */
static void read_by_device(void)
{
    int64_t newest[6] = {-1, -1, -1, -1, -1, -1};

    for (int tries = 0; tries < 3; tries++, loop_advance(the_loop, 1))
        for (struct chunk *chunk; (chunk = store_read(the_store, LANE_LIVE, 64 * 1024)); chunk_release(chunk))
            for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n;) {
                const struct record *record = (const struct record *)(const void *)p;
                int64_t *last = &newest[record_bytes(record)[record->name_n - 1] - 'a'];

                assert_true(record->ts > *last);
                *last = record->ts;
                was_read[record->ts]++;
                p += record->size;
            }
}

static void judge(size_t cut, enum loss loss)
{
    static uint8_t expected[MAX_RECORDS];
    uint64_t acked = 0, n_before = n_made;
    char real[sizeof dir_path];

    memset(expected, 0, sizeof expected);
    for (size_t i = 0; i < cut; i++) {
        if (deeds[i].what == MADE_ANSWER)
            memset(expected + deeds[i].at, 1, deeds[i].n - deeds[i].at);
        else if (deeds[i].what == MADE_ACK)
            acked = deeds[i].n;
    }
    for (size_t i = 0; i < cut; i++)
        for (uint64_t k = 0; deeds[i].what == MADE_ACK && k < deeds[i].at; k++)
            expected[((const uint64_t *)(const void *)deeds[i].bytes)[k]] = 0;
    memcpy(real, dir_path, sizeof real);
    build(cut, loss);
    memset(was_read, 0, sizeof was_read);
    open_store();
    if (has_lanes)
        read_by_device();
    else
        (void)read_all(); /* asserts that each is one of ours and that none comes twice */
    assert_balanced();
    for (uint64_t i = acked; i < n_before; i++)
        if (expected[i] && !was_read[i])
            fail_msg("cut %zu of %zu, loss %d: record %" PRIu64 " was answered and is gone", cut, n_deeds, loss, i);
    kill_store();
    remove_all(dir_path);
    memcpy(dir_path, real, sizeof real);
}

/* What a run does, and which cuts are looked at (NULL: every one); a test may say otherwise. */
static void (*live_as)(unsigned n_steps, bool has_faults) = live;
static bool (*is_judged)(size_t cut);

static void run(uint64_t with_seed, unsigned n_steps, bool has_faults)
{
    print_message("seed %" PRIu64 "\n", with_seed);
    seed = with_seed * 0x9E3779B97F4A7C15;
    work_in_memory(true);
    begin_test();
    the_conf.segment_events = segment_events;
    the_conf.segment_bytes = 64 * 1024; /* what is reserved is built anew at every cut */
    is_recording = true;
    open_store();
    live_as(n_steps, has_faults);
    is_recording = false;
    kill_store();
    for (size_t cut = 0; cut <= n_deeds; cut++)
        for (int loss = LOSS_NONE; loss < LOSSES && (!is_judged || is_judged(cut)); loss++)
            judge(cut, (enum loss)loss);
    while (n_models)
        model_remove(models[0].name);
    forget_deeds();
    end_test();
}

/* IOTGW_CRASH_SEEDS: how many histories of each kind. */
static uint64_t n_seeds(void)
{
    const char *text = getenv("IOTGW_CRASH_SEEDS");
    uint64_t n = 3;

    return text && str_to_u64(str_from(text), &n) == ERR_OK ? n : 3;
}
#endif
