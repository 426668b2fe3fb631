/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thousands of random histories of sources, storage and platform, on clocks of their own. A history that breaks an
 * invariant is named by its seed, made as short as it stays broken, and told step by step.
 *
 *     IOTGW_SEED=n        this one history, told
 *     IOTGW_HISTORIES=n   so many; 1000 when absent
 *     IOTGW_FIRST=n       from this seed on; 1 when absent
 */
#include "disk.h"
#include "world.h"

#include "base/mem.h"
#include "base/slab.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum what {
    BURST,
    LINK,
    DOWN,
    UP,
    PACE,
    REFUSE,
    SHRINK,
    WAIT,
    CLOCK,
    DISK_FULL,
    DISK_FAULT,
    DISK_MEND,
    DISK_HANG,
    CUT, /* the process dies after some more calls of the disk */
    CRASH,
    RESTART,
    WHATS
};
static const char *const names[] = {"burst",     "link", "down",  "up",        "pace",       "refuse",
                                    "shrink",    "wait", "clock", "disk full", "disk fault", "disk mend",
                                    "disk hang", "cut",  "crash", "restart"};
static const unsigned weights[] = {40, 6, 6, 8, 8, 4, 3, 12, 2, 3, 5, 6, 3, 3, 2, 2};

enum { STEPS_MAX = 60, BATCH = 250, PATIENCE_S = 1200 };
struct step {
    enum what what;
    uint64_t seed;
};

struct shared { /* with the child that runs histories */
    uint64_t seed, n_done, n_values, n_delivered, n_dup, n_lives, n_closes, n_poison, n_rejected, n_dropped;
    unsigned n_steps;
    bool is_left_out[STEPS_MAX];
};

struct world world;
static struct shared *shared;
static uint64_t state;
static char directory[64];

/* --- chance ------------------------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint32_t roll(uint32_t n)
{
    state = mix(state);
    return (uint32_t)((state >> 11) % n);
}

static uint64_t hash_value(unsigned stream, unsigned n)
{
    return mix(world.seed ^ mix(stream * 1000003ull + n));
}

bool is_poison(unsigned stream, unsigned n)
{
    return world.shape.has_poison && hash_value(stream, n) % 97 == 0;
}

struct str text_of(unsigned stream, unsigned n, char *out)
{
    uint64_t hash = hash_value(stream, n);
    size_t size = 3 + (hash >> 20) % world.shape.text_max;

    out[0] = out[size - 1] = '"';
    for (size_t i = 1; i < size - 1; i++)
        out[i] = (char)('a' + (hash >> i % 56) % 16);
    return (struct str){out, size};
}

/* --- telling ------------------------------------------------------------------------------------------------------------------ */

void tell(const char *fmt, ...)
{
    va_list args;

    if (!world.is_told)
        return;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void broken(const char *file, int line, const char *what, const char *fmt, ...)
{
    char text[400];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    printf("seed %llu: %s\n      %s:%d: %s\n", (unsigned long long)world.seed, text, file, line, what);
    fflush(stdout);
    _exit(1);
}

/* --- one life of the process -------------------------------------------------------------------------------------------------- */

static void on_readable(void *arg)
{
    (void)arg;
    if (world.deliver)
        deliver_wake(world.deliver);
}

static void on_dropped(void *arg, struct device *dev)
{
    (void)arg;
    CHECK(dev, "dropped: no device");
    if (world.deliver)
        deliver_dropped(world.deliver, dev);
}

static void set_limits(size_t payload_bytes)
{
    struct deliver_limits limits = {
        .payload_bytes = payload_bytes, .hard_bytes = platform.hard_bytes, .window = world.shape.window};

    world.host.limits.max_bytes = payload_bytes * 9 / 10 - 200;
    deliver_set_limits(world.deliver, &limits);
}

static void open_store(void)
{
    static const struct store_events events = {.readable = on_readable, .dropped = on_dropped};
    const struct shape *shape = &world.shape;

    if (shape->storage == STORAGE_MEMORY) {
        struct memory_conf conf = {
            .max_events = shape->max_events, .max_bytes = shape->max_bytes, .overflow = shape->overflow};

        world.store = store_memory_new(world.loop, &conf, &events, NULL);
        return;
    }
    struct file_conf conf = {.path = directory,
                             .max_events = shape->max_events,
                             .segment_events = 100,
                             .max_bytes = shape->max_bytes,
                             .max_age_ms = shape->max_age_ms,
                             .age_check_ms = 60 * 1000,
                             .overflow = shape->overflow,
                             .log = &world.log,
                             .io = &disk_io,
                             .own = world.disk_loop};
    struct why why = {0};
    enum err err = store_file_new(&world.store, world.loop, &conf, &events, NULL, &why);

    CHECK(err == ERR_OK, "the store does not open: %s", why_text(&why));
}

static void on_answer(struct batch *batch)
{
    if (batch->result == ERR_OK || batch->result == ERR_FULL)
        world.n_answered += batch->n_values;
    ctx_answer(batch);
}

static void open_life(int64_t wall_ms)
{
    struct deliver_conf conf = {.qos = 1,
                                .min_pack_delay_ms = 50,
                                .min_pack_values = 1000000,
                                .max_pack_events = 100,
                                .batch_devices = true,
                                .backlog_rate = world.shape.backlog_rate};

    world.n_lives++;
    world.loop = loop_new_fake(wall_ms);
    world.disk_loop = loop_new_fake(wall_ms);
    world.is_hung = false;
    for (unsigned i = 0; i < DEVICES; i++) {
        struct device *dev = world.devices[i];

        dev->announced = 0;
        dev->store_marks[0] = 0;
        dev->assigned_ms = dev->assigned_wall_ms = 0;
        atomic_store(&dev->link, DEVICE_LINK_UNKNOWN);
        atomic_store(&dev->n_collected, 0);
        atomic_store(&dev->n_appended, 0);
        atomic_store(&dev->n_overflowed, 0);
        atomic_store(&dev->n_delivered, 0);
        atomic_store(&dev->n_rejected, 0);
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *stream = &world.streams[i];

        stream->last_sent = -1;
        for (unsigned n = 0; n < stream->n; n++)
            stream->flags[n] &= (uint8_t) ~(VALUE_SENT | VALUE_ACKED);
    }
    memset(world.limiters, 0, sizeof world.limiters);
    if (world.shape.has_limits) {
        struct why why;

        CHECK(!limiter_parse(&world.limiters[LIMIT_DEVICE], STR("200:1"), STR(""), 95, &why), "limiter");
        CHECK(!limiter_parse(&world.limiters[LIMIT_DEVICE_VALUES], STR("2000:1"), STR(""), 95, &why), "limiter");
    }
    world.n_answered = 0;
    open_store();
    world.n_recovered = 0;
    for (unsigned i = 0; i < DEVICES; i++)
        world.n_recovered += atomic_load(&world.devices[i]->n_appended);
    world.host = (struct ctx_host){.store = world.store};
    world.deliver = deliver_new(world.loop, &world.log, &conf, world.limiters, &platform_link, NULL);
    deliver_attach(world.deliver, world.store);
    set_limits(world.shape.payload_bytes);
    ctx_setup();
    sources_open();
    store_answer_fn = on_answer;
}

static void turn(void)
{
    for (unsigned i = 0; i < 4; i++) {
        loop_advance(world.loop, 0);
        if (!world.is_hung)
            loop_advance(world.disk_loop, 0);
    }
    loop_advance(world.loop, 0);
}

static void close_life(void)
{
    sources_close();
    platform.is_up = false;
    platform.wants_close = false;
    deliver_free(world.deliver);
    world.deliver = NULL;
    platform_forget();
    platform.rejects.n = 0;
    memset(platform.connected, 0, sizeof platform.connected);
    for (unsigned i = 0; i < DEVICES; i++)
        world.n_dropped_before += atomic_load(&world.devices[i]->n_overflowed);
    world.is_hung = false;
    store_free(world.store);
    world.store = NULL;
    loop_advance(world.loop, 0);
    sources_forget();
    loop_advance(world.loop, 0);
    loop_free(world.loop);
    loop_free(world.disk_loop);
    CHECK(slab_in_use() == 0, "invariant 7: %zu slabs are not back", slab_in_use());
}

/* --- time ------------------------------------------------------------------------------------------------------------------------ */

static void pump(void)
{
    turn();
    for (unsigned i = 0; platform_work(); i++) {
        turn();
        CHECK(i < 20000, "no end of publications");
    }
    turn();
}

static void pass_time(uint64_t ms)
{
    for (uint64_t slice = ms / 12 + 1; ms; ms -= slice) {
        slice = slice < ms ? slice : ms;
        loop_advance(world.loop, slice);
        if (!world.is_hung)
            loop_advance(world.disk_loop, loop_mono_ms(world.loop) - loop_mono_ms(world.disk_loop));
        pump();
        platform_up();
        if (!world.is_hung && mix(world.seed ^ loop_mono_ms(world.loop)) % 16 == 0) /* the pool is slow */
            platform_sync_rejects();
    }
}

/* --- judging ------------------------------------------------------------------------------------------------------------------- */

static uint64_t overflowed(void)
{
    uint64_t n = world.n_dropped_before;

    for (unsigned i = 0; i < DEVICES; i++)
        n += atomic_load(&world.devices[i]->n_overflowed);
    return n;
}

static void check_ledger(void)
{
    struct store_stats stats = store_stats(world.store);
    struct deliver_stats sent = deliver_stats(world.deliver);
    uint64_t appended = 0, delivered = 0, rejected = 0;

    for (unsigned i = 0; i < DEVICES; i++) {
        const struct device *dev = world.devices[i];
        uint64_t a = atomic_load(&dev->n_appended), d = atomic_load(&dev->n_delivered),
                 r = atomic_load(&dev->n_rejected), o = atomic_load(&dev->n_overflowed);

        CHECK(a >= d + r + o, "invariant 2: device %u: appended %llu < delivered %llu + rejected %llu + dropped %llu",
              i, (unsigned long long)a, (unsigned long long)d, (unsigned long long)r, (unsigned long long)o);
        appended += a;
        delivered += d;
        rejected += r;
    }
    CHECK(stats.n_appended_values == stats.n_acked_values + stats.n_values + stats.n_dropped_values,
          "invariant 2: appended %llu, acknowledged %llu, waiting %llu, dropped %llu",
          (unsigned long long)stats.n_appended_values, (unsigned long long)stats.n_acked_values,
          (unsigned long long)stats.n_values, (unsigned long long)stats.n_dropped_values);
    CHECK(sent.n_values == delivered && sent.n_rejected_values == rejected,
          "invariant 2: delivered %llu, of devices %llu; rejected %llu, of devices %llu",
          (unsigned long long)sent.n_values, (unsigned long long)delivered, (unsigned long long)sent.n_rejected_values,
          (unsigned long long)rejected);
    if (sources_are_answered() && !disk_is_dead())
        CHECK(appended == world.n_recovered + world.n_answered,
              "invariant 2: appended %llu is not found %llu and answered %llu", (unsigned long long)appended,
              (unsigned long long)world.n_recovered, (unsigned long long)world.n_answered);
    CHECK(slab_in_use() * (size_t)SLAB_SIZE <= 8u * 1024 * 1024, "invariant 7: %zu slabs", slab_in_use());
}

static bool is_settled(void)
{
    return platform.is_up && deliver_is_idle(world.deliver) && sources_are_answered() &&
           store_stats(world.store).n_events == 0;
}

static void check_end(void)
{
    uint64_t missing = 0, dropped = overflowed();

    for (unsigned at = 0; at < STREAMS; at++) {
        const struct stream *stream = &world.streams[at];

        for (unsigned n = 0; n < stream->n; n++) {
            if (!(stream->flags[n] & VALUE_ACCEPTED) || stream->flags[n] & (VALUE_DELIVERED | VALUE_REJECTED))
                continue;
            CHECK(world.may_lose || world.shape.overflow == OVERFLOW_DROP_OLDEST,
                  "invariant 1: stream %u, value %u was accepted and is gone", at, n);
            missing++;
        }
        for (unsigned n = 0; n < stream->n; n++)
            CHECK(!(stream->flags[n] & VALUE_DELIVERED) || !is_poison(at, n),
                  "stream %u, value %u is poison and arrived", at, n);
    }
    CHECK(world.may_lose || missing <= dropped, "invariant 2: %llu are gone, %llu were counted",
          (unsigned long long)missing, (unsigned long long)dropped);
    for (unsigned i = 0; i < DEVICES; i++) {
        const struct device *dev = world.devices[i];
        const struct point *point = &world.points[i];

        CHECK(atomic_load(&dev->n_appended) ==
                  atomic_load(&dev->n_delivered) + atomic_load(&dev->n_rejected) + atomic_load(&dev->n_overflowed),
              "invariant 2: device %u: appended %llu, delivered %llu, rejected %llu, dropped %llu, nothing waits", i,
              (unsigned long long)dev->n_appended, (unsigned long long)dev->n_delivered,
              (unsigned long long)dev->n_rejected, (unsigned long long)dev->n_overflowed);
        CHECK(atomic_load(&dev->link) != DEVICE_LINK_DOWN || !platform.connected[i],
              "invariant 5: device %u is down and open", i);
        CHECK(point->seen >= point->now || point->lost >= point->now || !atomic_load(&dev->n_appended),
              "invariant 9: device %u has %u, the platform has %u", i, point->now, point->seen);
    }
    CHECK(store_stats(world.store).n_values == 0 && store_stats(world.store).n_bytes == 0,
          "invariant 2: nothing waits but %llu values", (unsigned long long)store_stats(world.store).n_values);
    if (world.shape.overflow == OVERFLOW_BLOCK && world.shape.storage == STORAGE_FILE && !world.shape.has_faults &&
        !world.has_died && !world.shape.max_events && !world.shape.max_bytes)
        CHECK(dropped == 0, "invariant 15: %llu values dropped", (unsigned long long)dropped);
    /* What is refused is sent again, and then newer attributes of the same device, too. */
    CHECK(platform.n_closes || platform.n_late || world.n_lives > 1 ||
              world.n_dup == (world.shape.has_refusals || world.shape.has_poison ? world.n_dup_attributes : 0),
          "invariant 4: %llu duplicates without a reason", (unsigned long long)world.n_dup);
}

static void heal(void)
{
    unsigned s = 0;

    tell("   all is well again");
    disk_mend();
    world.is_hung = false;
    platform.hard_bytes = 0;
    platform.n_refuse = 0;
    platform.pace = PACE_FAST;
    platform.is_shuffled = false;
    platform.is_reachable = true;
    set_limits(world.shape.payload_bytes);
    for (; !is_settled() && s < PATIENCE_S; s++)
        pass_time(1000);
    CHECK(is_settled(), "it does not settle: %s, waiting %llu, in flight %u, %s", platform.is_up ? "up" : "down",
          (unsigned long long)store_stats(world.store).n_values, deliver_stats(world.deliver).in_flight,
          sources_are_answered() ? "answered" : "not answered");
    for (unsigned i = 0; i < DEVICES; i++)
        source_settle_point(i);
    for (s = 0; s < 5 || (!is_settled() && s < PATIENCE_S); s++)
        pass_time(1000);
    CHECK(is_settled(), "it does not settle the second time");
}

/* Nothing is in flight, and the storage has had the time to save how far the platform is: it knows for ever. */
static void note_saved(void)
{
    const struct shape *shape = &world.shape;
    bool is_free = platform.is_up && platform.pace == PACE_FAST && !shape->has_limits && !shape->backlog_rate &&
                   !shape->has_refusals && !shape->has_poison && !shape->has_shrinking;

    /* What was read in one piece is remembered as a whole: of a piece that could not be sent to its end, nothing is. */
    if (!is_free && store_stats(world.store).n_events)
        return;
    if (world.shape.storage != STORAGE_FILE || world.shape.has_faults || world.is_hung || disk_is_dead() ||
        !deliver_is_idle(world.deliver))
        return;
    for (unsigned i = 0; i < STREAMS; i++)
        for (unsigned n = 0; n < world.streams[i].n; n++)
            if (world.streams[i].flags[n] & VALUE_ACKED)
                world.streams[i].flags[n] |= VALUE_SAVED;
}

/* But a renamed file may have its former content again when the power fails. */
static void forget_saved(void)
{
    for (unsigned i = 0; i < STREAMS; i++)
        for (unsigned n = 0; n < world.streams[i].n; n++)
            world.streams[i].flags[n] &= (uint8_t)~VALUE_SAVED;
}

/* --- steps ------------------------------------------------------------------------------------------------------------------------ */

static void begin_again(unsigned chance, bool is_machine)
{
    int64_t wall_ms = loop_wall_ms(world.loop);

    close_life();
    world.may_lose |= world.shape.storage == STORAGE_MEMORY;
    if (is_machine) {
        forget_saved();
        disk_lose_power(chance, roll);
    } else {
        disk_close_all();
    }
    open_life(wall_ms + 1000);
}

static void on_stopped(void *arg)
{
    *(bool *)arg = true;
}

/* As the gateway stops: what is in flight for two seconds, the rejected file, the last commit, the state file. */
static void restart(void)
{
    bool is_stopped = false;

    if (world.is_hung || disk_is_dead())
        return;
    pass_time(10);
    deliver_finish(world.deliver, false);
    pass_time(2000);
    platform_sync_rejects();
    pass_time(10);
    note_saved(); /* the stop saves what is known now */
    store_stop(world.store, on_stopped, &is_stopped);
    pass_time(3500);
    if (disk_is_dead())
        forget_saved();
    CHECK(is_stopped, "invariant 6: the store does not stop");
    CHECK(sources_are_answered(), "invariant 8: batches are not answered by a store that has stopped");
    begin_again(0, false);
}

static void fault(void)
{
    static const enum disk_call calls[] = {DISK_WRITE,    DISK_WRITE,  DISK_SYNC,   DISK_SYNC,    DISK_OPEN,
                                           DISK_ALLOCATE, DISK_RENAME, DISK_UNLINK, DISK_SYNC_DIR};
    enum disk_call call = calls[roll(COUNT_OF(calls))];
    int number = roll(3) ? EIO : ENOSPC;

    disk_fail(call, call == DISK_SYNC ? EIO : number, roll(3), roll(4));
}

static void clock_jump(void)
{
    static const int64_t years[] = {-50, 50, 0, -1, 1};
    /* With an age limit a step of a year before a restart makes what was stored a year old. */
    int64_t by =
        years[roll(world.shape.max_age_ms ? 3 : COUNT_OF(years))] * 365 * 86400 * 1000 + (int64_t)roll(100000) - 50000;

    loop_set_wall(world.loop, loop_wall_ms(world.loop) + by);
    if (!world.is_hung)
        loop_set_wall(world.disk_loop, loop_wall_ms(world.disk_loop) + by);
}

static void run_step(const struct step *step)
{
    static const uint8_t codes[] = {0x80, 0x83, 0x90, 0x97, 0x99, 0x97};
    const struct shape *shape = &world.shape;
    uint64_t began_ms;
    bool was_idle;

    state = step->seed;
    switch (step->what) {
    case BURST:
        for (unsigned n = 1 + roll(3); n; n--)
            source_burst(roll(SOURCES), 1 + roll(roll(6) ? 6 : 60));
        break;
    case LINK:
        source_connect(roll(DEVICES), roll(2));
        break;
    case DOWN:
        platform.is_reachable = roll(2);
        platform_down(roll(2));
        break;
    case UP:
        platform.is_reachable = true;
        platform_up();
        break;
    case PACE:
        platform.pace = (enum pace)roll(3);
        platform.is_shuffled = roll(2);
        break;
    case REFUSE:
        if (shape->has_refusals && shape->is_v5) {
            platform.n_refuse = 1 + roll(3);
            platform.refuse_code = codes[roll(COUNT_OF(codes))];
        }
        break;
    case SHRINK:
        if (shape->has_shrinking) {
            platform.hard_bytes = roll(2) ? 0 : 600 + roll(4000);
            set_limits(roll(2) ? shape->payload_bytes : 600 + roll((uint32_t)shape->payload_bytes));
        }
        break;
    case WAIT:
        was_idle = deliver_is_idle(world.deliver);
        began_ms = loop_mono_ms(world.loop);
        pass_time((uint64_t[]){1, 60, 210, 600, 2000, 31000, 40000}[roll(7)]);
        if (was_idle && platform.last_in_ms < began_ms && loop_mono_ms(world.loop) >= began_ms + 600)
            note_saved();
        break;
    case CLOCK:
        clock_jump();
        break;
    case DISK_FULL:
        if (shape->has_faults)
            disk_is_full_at(disk_bytes() + (roll(2) ? 0 : roll(3 * 1024 * 1024)) + 1);
        break;
    case DISK_FAULT:
        if (shape->has_faults)
            fault();
        break;
    case DISK_MEND:
        disk_mend();
        world.is_hung = false;
        break;
    case DISK_HANG:
        world.is_hung = shape->storage == STORAGE_FILE;
        break;
    case CUT:
        if (shape->storage == STORAGE_FILE)
            disk_die_after(roll(12));
        break;
    case CRASH:
        begin_again((unsigned[]){0, 100, 50}[roll(3)], roll(3) > 0);
        break;
    case RESTART:
        restart();
        break;
    case WHATS:
        break;
    }
    pump();
    platform_up();
    pump();
    world.has_died |= disk_is_dead();
    if (disk_is_dead())
        begin_again((unsigned[]){0, 100, 50}[roll(3)], roll(2));
    check_ledger();
}

static enum what pick(void)
{
    unsigned sum = 0, at;

    for (unsigned i = 0; i < WHATS; i++)
        sum += weights[i];
    at = roll(sum);
    for (unsigned i = 0;; i++) {
        if (at < weights[i])
            return (enum what)i;
        at -= weights[i];
    }
}

static void make_shape(struct shape *shape)
{
    static const uint8_t codes[] = {0x80, 0x83, 0x90, 0x99};

    *shape = (struct shape){
        .storage = roll(4) ? STORAGE_FILE : STORAGE_MEMORY,
        .overflow = roll(2) ? OVERFLOW_BLOCK : (enum overflow)roll(3),
        .max_events = roll(3) ? 0 : 30 + roll(1000),
        .max_bytes = roll(4) ? 0 : 256 * 1024 + roll(4 * 1024 * 1024),
        .max_age_ms = roll(3) ? 0 : 7 * 86400 * 1000ull,
        .is_v5 = roll(3),
        .poison_closes = roll(4) == 0,
        .has_poison = roll(3) == 0,
        .has_refusals = roll(3) == 0,
        .has_shrinking = roll(4) == 0,
        .has_faults = roll(2),
        .has_limits = roll(5) == 0,
        .poison_code = codes[roll(COUNT_OF(codes))],
        .payload_bytes = (size_t[]){1500, 4000, 8196, 58982}[roll(4)],
        .window = (unsigned[]){1, 2, 10, 1000}[roll(4)],
        .text_max = (uint32_t[]){20, 60, 300, 1000}[roll(4)],
        .backlog_rate = roll(5) ? 0 : 200 + roll(2000),
    };
    if (shape->storage == STORAGE_MEMORY && !shape->max_events)
        shape->max_events = 100000;
    if (!shape->is_v5 && shape->has_poison)
        shape->poison_closes = true;
}

static unsigned make_steps(struct step *steps)
{
    unsigned n = 5 + roll(STEPS_MAX - 5);

    for (unsigned i = 0; i < n; i++)
        steps[i] = (struct step){.what = pick(), .seed = mix(world.seed * 1000 + i)};
    return n;
}

static void run_history(uint64_t seed)
{
    struct step steps[STEPS_MAX];
    unsigned n;

    world.seed = seed;
    state = mix(seed);
    make_shape(&world.shape);
    n = make_steps(steps);
    shared->seed = seed;
    shared->n_steps = n;
    world.n_dropped_before = world.n_lives = world.n_emitted = world.n_delivered = world.n_dup =
        world.n_dup_attributes = world.n_poison = world.n_rejected = 0;
    world.may_lose = world.has_died = false;
    for (unsigned i = 0; i < DEVICES; i++) {
        world.devices[i]->told_source = 0;
        world.devices[i]->active_s = 0;
        atomic_store(&world.devices[i]->state_number, 0);
    }
    for (unsigned i = 0; i < STREAMS; i++)
        world.streams[i].n = 0;
    memset(world.points, 0, sizeof world.points);
    platform_init();
    disk_clear();
    open_life(1800000000000);
    platform_up();
    tell("seed %llu: %s, overflow %d, at most %llu events, %llu bytes; MQTT %s, window %u, payload %zu, texts up to "
         "%u%s%s%s%s%s",
         (unsigned long long)seed, world.shape.storage == STORAGE_FILE ? "file" : "memory", world.shape.overflow,
         (unsigned long long)world.shape.max_events, (unsigned long long)world.shape.max_bytes,
         world.shape.is_v5 ? "5" : "3.1.1", world.shape.window, world.shape.payload_bytes, world.shape.text_max,
         world.shape.has_poison ? ", poison" : "", world.shape.poison_closes ? " that closes" : "",
         world.shape.has_refusals ? ", refusals" : "", world.shape.has_shrinking ? ", shrinking" : "",
         world.shape.has_faults ? ", faults" : "");
    for (unsigned i = 0; i < n; i++) {
        if (shared->is_left_out[i])
            continue;
        tell("%4u  %s", i, names[steps[i].what]);
        run_step(&steps[i]);
        tell("      = given %llu, arrived %llu, waiting %llu, in flight %u%s%s", (unsigned long long)world.n_emitted,
             (unsigned long long)world.n_delivered, (unsigned long long)store_stats(world.store).n_values,
             deliver_stats(world.deliver).in_flight, platform.is_up ? "" : ", down",
             store_stats(world.store).is_split ? ", split" : "");
    }
    state = mix(seed);
    heal();
    check_ledger();
    check_end();
    shared->n_dropped += overflowed();
    close_life();
    shared->n_done++;
    shared->n_values += world.n_emitted;
    shared->n_delivered += world.n_delivered;
    shared->n_dup += world.n_dup;
    shared->n_lives += world.n_lives;
    shared->n_closes += platform.n_closes;
    shared->n_poison += world.n_poison;
    shared->n_rejected += world.n_rejected;
}

/* --- the runner -------------------------------------------------------------------------------------------------------------------- */

static void be_quiet(void *arg, enum log_level level, struct str line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static void begin_child(bool is_told, bool is_silent)
{
    alarm(120); /* a history that does not end is broken, too */
    if (is_silent && (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
        _exit(2);
    world.is_told = is_told;
    if (getenv("IOTGW_LOG") && is_told)
        log_init(&world.log, "simulation", LOG_LEVEL_DEBUG);
    else {
        log_init(&world.log, "simulation", LOG_LEVEL_OFF);
        log_set_sink(be_quiet, NULL);
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        char name[32];

        snprintf(name, sizeof name, "device %u", i);
        world.devices[i] = device_get(str_from(name));
    }
}

/* False: it failed; shared->seed is the one. */
static bool run_child(uint64_t first, uint64_t n, bool is_told, bool is_silent)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        begin_child(is_told, is_silent);
        for (uint64_t seed = first; seed < first + n; seed++)
            run_history(seed);
        disk_clear();
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Steps without which it fails as well are left out. */
static void shrink(uint64_t seed)
{
    unsigned n = shared->n_steps;

    for (unsigned size = n / 2; size; size /= 2)
        for (unsigned at = 0; at < n; at += size) {
            bool before[STEPS_MAX];

            memcpy(before, shared->is_left_out, sizeof before);
            for (unsigned i = at; i < at + size && i < n; i++)
                shared->is_left_out[i] = true;
            if (run_child(seed, 1, false, true))
                memcpy(shared->is_left_out, before, sizeof before);
        }
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    uint64_t only = number_of("IOTGW_SEED", 0), first = only ? only : number_of("IOTGW_FIRST", 1);
    uint64_t n = only ? 1 : number_of("IOTGW_HISTORIES", 1000);
    unsigned n_failed = 0;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(directory, sizeof directory, "/tmp/iotgw-simulation-XXXXXX");
    if (shared == MAP_FAILED || !mkdtemp(directory))
        return 2;
    for (uint64_t seed = first; seed < first + n && n_failed < 5;) {
        uint64_t batch = first + n - seed < BATCH ? first + n - seed : BATCH;

        if (run_child(seed, batch, only && getenv("IOTGW_WHOLE"), false)) {
            seed += batch;
            continue;
        }
        n_failed++;
        seed = shared->seed;
        printf("seed %llu fails; as short as it fails:\n", (unsigned long long)seed);
        if (!getenv("IOTGW_WHOLE"))
            shrink(seed);
        (void)run_child(seed, 1, true, false);
        memset(shared->is_left_out, 0, sizeof shared->is_left_out);
        printf("again: IOTGW_SEED=%llu\n\n", (unsigned long long)seed);
        seed++;
    }
    rmdir(directory);
    printf("%llu histories: %llu values given, %llu arrived, %llu twice, %llu poison, %llu rejected, %llu dropped; "
           "%llu lives, %llu sessions lost\n",
           (unsigned long long)shared->n_done, (unsigned long long)shared->n_values,
           (unsigned long long)shared->n_delivered, (unsigned long long)shared->n_dup,
           (unsigned long long)shared->n_poison, (unsigned long long)shared->n_rejected,
           (unsigned long long)shared->n_dropped, (unsigned long long)shared->n_lives,
           (unsigned long long)shared->n_closes);
    return n_failed != 0;
}
