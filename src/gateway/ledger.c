/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ledger.h"

#include "base/file.h"
#include "base/mem.h"
#include "data/json.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    LOOK_MS = 10 * 1000,
    STOP_MS = 2000,
    BYTES_A_SECOND = 4096, /* of a long file, on average: flash wears out */
    FILE_MAX = 256 * 1024 * 1024,
    COLUMNS = 8 /* collected delivered overflow age rejected unchanged repeated failed */
};

struct ledger {
    struct ledger_conf conf;
    char *path, *next_path;    /* next_path: from the end of the writing on */
    struct ledger_row *before; /* by device number; what earlier processes counted, reconciled */
    size_t n_before;
    struct ledger_row unattributed;

    struct timer look, stop;
    struct work work;
    struct buf text;
    struct why why;
    enum err err;
    uint64_t written_sum, next_ms;
    bool is_writing, has_warned, has_moved, is_left_behind;
    closed_fn *stopped; /* not NULL: stopping */
    void *arg;
};

/* --- reading the books ---------------------------------------------------------------------------------------------------- */

static uint64_t get(const _Atomic(uint64_t) *counter)
{
    return atomic_load_explicit(counter, memory_order_acquire);
}

void ledger_add(struct ledger_row *to, const struct ledger_row *row)
{
    to->collected += row->collected;
    to->delivered += row->delivered;
    to->waiting += row->waiting;
    to->overflow += row->overflow;
    to->age += row->age;
    to->rejected += row->rejected;
    to->damaged += row->damaged;
    to->unchanged += row->unchanged;
    to->repeated += row->repeated;
    to->failed += row->failed;
}

static void set_waiting(struct ledger_row *row)
{
    row->waiting = row->collected - row->delivered - row->overflow - row->age - row->rejected - row->damaged;
}

struct ledger_row ledger_row(const struct ledger *ledger, const struct device *dev)
{
    struct ledger_row row = {0};

    /* Against the stream: what is seen to have arrived is also seen to have set out. */
    row.delivered = get(&dev->n_delivered);
    row.rejected = get(&dev->n_rejected);
    row.age = get(&dev->n_aged);
    row.overflow = get(&dev->n_overflowed) - row.age;
    row.failed = get(&dev->n_failed);
    row.unchanged = get(&dev->n_unchanged);
    row.repeated = get(&dev->n_repeated);
    row.collected = get(&dev->n_adjusted);
    row.collected += get(&dev->n_collected);
    if (dev->number < ledger->n_before)
        ledger_add(&row, &ledger->before[dev->number]);
    set_waiting(&row);
    return row;
}

struct ledger_row ledger_unattributed(const struct ledger *ledger)
{
    return ledger->unattributed;
}

/* --- the file: {"version":1,"acknowledged":N,"dropped":N,"damaged":N,"unattributed":[…],"devices":[["name",…],…]} ------------------------- */

static void add_columns(struct buf *out, const struct ledger_row *row)
{
    buf_printf(out, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64,
               row->collected, row->delivered, row->overflow, row->age, row->rejected, row->unchanged, row->repeated,
               row->failed);
}

static bool has_books(const struct ledger_row *row)
{
    return row->collected || row->unchanged || row->failed;
}

/* True: something has changed since the last writing. */
static bool add_text(struct ledger *ledger, struct buf *out)
{
    struct store_stats stats = ledger->conf.stats(ledger->conf.arg);
    uint32_t n = device_count();
    uint64_t sum = ledger->unattributed.damaged;
    bool is_changed;

    buf_printf(out,
               "{\"version\":1,\"acknowledged\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"damaged\":%" PRIu64
               ",\"unattributed\":[",
               stats.n_acked_values, stats.n_dropped_values, ledger->unattributed.damaged);
    add_columns(out, &ledger->unattributed);
    buf_add_z(out, "],\"devices\":[");
    for (uint32_t i = 0; i < n; i++) {
        const struct device *dev = device_at(i);
        struct ledger_row row = ledger_row(ledger, dev);

        if (!has_books(&row))
            continue;
        sum += row.collected + row.delivered + row.overflow + row.age + row.rejected + row.unchanged + row.failed;
        buf_printf(out, "%s[" STR_FMT ",", out->p[out->n - 1] == '[' ? "\n" : ",\n", dev->json_n, dev->json);
        add_columns(out, &row);
        buf_add_u8(out, ']');
    }
    buf_add_z(out, "]}\n");
    is_changed = sum != ledger->written_sum;
    ledger->written_sum = sum;
    return is_changed;
}

/* Sums of the books stay far below what would overflow. */
static bool read_columns(yyjson_val *array, size_t from, struct ledger_row *row)
{
    uint64_t *const fields[COLUMNS] = {&row->collected, &row->delivered, &row->overflow, &row->age,
                                       &row->rejected,  &row->unchanged, &row->repeated, &row->failed};
    int64_t n;

    if (yyjson_arr_size(array) != from + COLUMNS)
        return false;
    for (size_t i = 0; i < COLUMNS; i++) {
        if (json_to_i64(yyjson_arr_get(array, from + i), &n) || n < 0 || n > INT64_C(1) << 56)
            return false;
        *fields[i] = (uint64_t)n;
    }
    return true;
}

static struct ledger_row *before_of(struct ledger *ledger, const struct device *dev)
{
    if (dev->number >= ledger->n_before) {
        size_t n = (dev->number + 256) / 256 * 256;

        ledger->before = mem_grow(ledger->before, n * sizeof *ledger->before);
        memset(ledger->before + ledger->n_before, 0, (n - ledger->n_before) * sizeof *ledger->before);
        ledger->n_before = n;
    }
    return &ledger->before[dev->number];
}

static NODISCARD enum err take_text(struct ledger *ledger, yyjson_val *root, int64_t *acked, int64_t *dropped)
{
    yyjson_val *rows = json_get(root, STR("devices")), *line;
    yyjson_val *damaged = json_get(root, STR("damaged")); /* older files have none */
    struct ledger_row row = {0};
    int64_t version = 0, n_damaged = 0;
    size_t i, max;

    if (json_to_i64(json_get(root, STR("version")), &version) || version != 1 ||
        json_to_i64(json_get(root, STR("acknowledged")), acked) || *acked < 0 ||
        json_to_i64(json_get(root, STR("dropped")), dropped) || *dropped < 0 || !yyjson_is_arr(rows) ||
        !read_columns(json_get(root, STR("unattributed")), 0, &ledger->unattributed) ||
        (damaged && (json_to_i64(damaged, &n_damaged) || n_damaged < 0 || n_damaged > INT64_C(1) << 56)))
        return ERR_CORRUPT;
    ledger->unattributed.damaged = (uint64_t)n_damaged;
    yyjson_arr_foreach(rows, i, max, line)
    {
        struct device *dev = device_get(json_str(yyjson_arr_get_first(line)));

        if (!dev || !read_columns(line, 1, &row))
            return ERR_CORRUPT;
        *before_of(ledger, dev) = row;
    }
    return ERR_OK;
}

/* What waits is what the storage holds; the rest of the row stands. */
static void reconcile(struct ledger *ledger, bool is_known, uint64_t acked, uint64_t dropped)
{
    struct store_stats stats = ledger->conf.stats(ledger->conf.arg);
    struct ledger_row *other = &ledger->unattributed;
    uint64_t n_dropped = stats.n_dropped_values > dropped ? stats.n_dropped_values - dropped : 0;
    uint64_t n_damaged = is_known && n_dropped < stats.n_damaged_values ? n_dropped : stats.n_damaged_values;
    uint32_t n = device_count();

    for (uint32_t i = 0; i < n; i++) {
        const struct device *dev = device_at(i);
        uint64_t held = get(&dev->n_appended);
        struct ledger_row *row = held || i < ledger->n_before ? before_of(ledger, dev) : NULL;

        if (!row)
            continue;
        row->collected = row->delivered + row->overflow + row->age + row->rejected + held;
        row->repeated = row->repeated < row->collected ? row->repeated : row->collected;
    }
    if (is_known && stats.n_acked_values > acked)
        other->delivered += stats.n_acked_values - acked;
    if (is_known)
        other->overflow += n_dropped - n_damaged;
    other->damaged += n_damaged;
    other->collected = other->delivered + other->overflow + other->age + other->rejected + other->damaged;
    other->repeated = 0;
}

static void put_aside(struct ledger *ledger, const char *reason)
{
    autobuf struct buf to = {0};
    const char *kept;

    buf_printf(&to, "%s.broken", ledger->path);
    buf_add_u8(&to, 0);
    kept = rename(ledger->path, (const char *)to.p) ? "" : (const char *)to.p;
    LOG_WARN(ledger->conf.log, "the ledger cannot be read: it begins anew with what the storage holds",
             KV_Z("file", ledger->path), KV_Z("error", reason), KV_Z("kept", kept));
    mem_free(ledger->before);
    ledger->before = NULL;
    ledger->n_before = 0;
    ledger->unattributed = (struct ledger_row){0};
}

static void load(struct ledger *ledger)
{
    autobuf struct buf text = {0};
    struct why why = {0};
    int64_t acked = 0, dropped = 0;
    enum err err = file_read(&text, ledger->path, FILE_MAX, &why);
    yyjson_doc *doc = err ? NULL : json_read(buf_str(&text), &why);

    if (!err && !doc)
        err = ERR_SYNTAX;
    if (!err)
        err = take_text(ledger, yyjson_doc_get_root(doc), &acked, &dropped);
    yyjson_doc_free(doc);
    if (err && err != ERR_NOTFOUND)
        put_aside(ledger, why.text[0] ? why_text(&why) : err_text(err));
    reconcile(ledger, !err, (uint64_t)acked, (uint64_t)dropped);
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

static void write_there(void *arg) /* worker pool */
{
    struct ledger *ledger = arg;

    ledger->why = (struct why){0};
    ledger->err = file_put(ledger->path, buf_str(&ledger->text), FILE_REPLACE, NULL, &ledger->why);
}

static void begin_writing(struct ledger *ledger);

static char *path_in(const char *dir)
{
    autobuf struct buf path = {0};

    if (!dir)
        return NULL;
    buf_printf(&path, "%s%sledger.json", dir, str_ends(str_from(dir), STR("/")) ? "" : "/");
    buf_add_u8(&path, 0);
    return mem_dup((const char *)path.p);
}

static void move_now(struct ledger *ledger)
{
    mem_free(ledger->path);
    ledger->path = ledger->next_path;
    ledger->next_path = NULL;
    ledger->has_moved = ledger->has_warned = false;
    ledger->written_sum = UINT64_MAX;
    ledger->next_ms = 0;
    timer_stop(&ledger->look);
    if (!ledger->path || ledger->stopped)
        return;
    timer_start_coarse(&ledger->look, LOOK_MS);
    begin_writing(ledger); /* books of another time may lie there */
}

void ledger_move(struct ledger *ledger, const char *dir)
{
    mem_free(ledger->next_path);
    ledger->next_path = path_in(dir);
    ledger->has_moved = true;
    if (!ledger->is_writing)
        move_now(ledger);
}

static void written(void *arg)
{
    struct ledger *ledger = arg;

    if (ledger->is_left_behind)
        return;
    ledger->is_writing = false;
    if (ledger->has_moved)
        move_now(ledger);
    if (ledger->err && !ledger->has_warned)
        LOG_WARN(ledger->conf.log, "the ledger cannot be written: after a restart it may begin anew",
                 KV_WHY(&ledger->why));
    ledger->has_warned = ledger->err != ERR_OK;
    if (ledger->err)
        ledger->written_sum = UINT64_MAX;
    ledger->next_ms = loop_mono_ms(ledger->conf.loop) + ledger->text.n * 1000 / BYTES_A_SECOND;
    if (ledger->stopped)
        begin_writing(ledger);
}

/* While stopping: until there is nothing new, then it is over. */
static void begin_writing(struct ledger *ledger)
{
    bool is_in_trouble = !ledger->path || ledger->conf.stats(ledger->conf.arg).trouble != NULL;

    ledger->text.n = 0;
    if (!is_in_trouble && add_text(ledger, &ledger->text) && !(ledger->stopped && ledger->has_warned)) {
        ledger->is_writing = true;
        work_start(&ledger->work, ledger->conf.loop, write_there, written, ledger);
    } else if (ledger->stopped) {
        timer_stop(&ledger->stop);
        ledger->stopped(ledger->arg);
    }
}

static void stop_hangs(void *arg)
{
    struct ledger *ledger = arg;

    ledger->is_left_behind = true;
    LOG_ERROR(ledger->conf.log, "the disk does not answer: the ledger is not written at the end",
              KV_Z("file", ledger->path));
    ledger->stopped(ledger->arg);
}

static void look(void *arg)
{
    struct ledger *ledger = arg;

    timer_start_coarse(&ledger->look, LOOK_MS);
    if (!ledger->is_writing && loop_mono_ms(ledger->conf.loop) >= ledger->next_ms)
        begin_writing(ledger);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

struct ledger *ledger_new(const struct ledger_conf *conf)
{
    struct ledger *ledger = mem_zero(sizeof *ledger);

    ledger->conf = *conf;
    timer_init(&ledger->look, conf->loop, look, ledger);
    timer_init(&ledger->stop, conf->loop, stop_hangs, ledger);
    if (conf->dir) {
        ledger->path = path_in(conf->dir);
        load(ledger);
        timer_start_coarse(&ledger->look, LOOK_MS);
    }
    return ledger;
}

void ledger_stop(struct ledger *ledger, closed_fn *done, void *arg)
{
    timer_stop(&ledger->look);
    if (!ledger->path) {
        done(arg);
        return;
    }
    ledger->stopped = done;
    ledger->arg = arg;
    timer_start(&ledger->stop, STOP_MS);
    if (!ledger->is_writing)
        begin_writing(ledger);
}

bool ledger_is_left_behind(const struct ledger *ledger)
{
    return ledger->is_left_behind;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger || ledger->is_left_behind) /* the thread may still use it */
        return;
    timer_stop(&ledger->look);
    timer_stop(&ledger->stop);
    mem_free(ledger->before);
    mem_free(ledger->path);
    mem_free(ledger->next_path);
    buf_fini(&ledger->text);
    mem_free(ledger);
}
