/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariant 12: the fragment in the platform's payload is, byte by byte, the one the encoder made, whichever store lay
 * between. What is expected is put together here from keys and values; the payloads are searched for it by its place alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/log.h"
#include "base/slab.h"
#include "data/event.h"
#include "store/sqlite.h"
#include "store/store.h"
#include "uplink/pack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

enum { ROUNDS = 40, LONG_TEXT = 60000 };

static const char *const keys[] = {
    "t",     "a\"b\\c", "\u00fc\u20ac\U0001f600", "}]}", "{\"ts\":1,\"values\":{", " x ", "\\u0041", "a.b[0].c", "null",
    "__x__", "${k}"};
static const char *const values[] = {"21.5",
                                     "-0.0",
                                     "1.10",
                                     "1e-320",
                                     "123456789012345678901234567890",
                                     "\"}]},{\\\"values\\\":{\"",
                                     "\"\\u0000\\ud83d\\ude00\\/\"",
                                     "\"\u00fc\u20ac\U0001f600\"",
                                     "{\"a\":[1,{\"b\":null,\"a\":1.0}],\"ts\":5,\"values\":{}}",
                                     "[]",
                                     "\"\"",
                                     "true"};
static const char *const devices[] = {"plain", "a \"b\" \\c", "\u00fc:{\u20ac", "[{}]"};

/* What the encoder was given, by the time of the record: it is the number of the event. */
struct fragment {
    size_t n;
    uint32_t crc;
    bool is_found;
};
static struct fragment fragments[ROUNDS * COUNT_OF(devices)];
static size_t n_fragments, n_found;
static struct loop *loop;
static struct store *store;
static unsigned n_answered;

static void on_full(void *arg, struct batch *batch)
{
    (void)arg;
    store_append(store, batch);
}

static void on_answer(struct batch *batch)
{
    assert_int_equal(batch->result, ERR_OK);
    n_answered++;
    mem_free(batch);
}

static void add_value(struct event *event, enum record_kind kind, size_t k, struct str text, struct buf *expected)
{
    struct str key;

    assert_int_equal(event_key(&event->arena, str_from(keys[k % COUNT_OF(keys)]), &key, NULL), ERR_OK);
    event_add(event, kind, key, text, (int64_t)n_fragments + 1);
    if (expected->n)
        buf_add_u8(expected, ',');
    buf_add_str(expected, key);
    buf_add_str(expected, text);
}

/* An event with 1 to 5 values of keys that differ; one in ten has a text as long as a slab. */
static void emit(struct event *event, struct batch_sink *sink, enum record_kind kind, struct device *dev)
{
    autobuf struct buf expected = {0}, text = {0};
    const struct event_limits limits = {0};
    unsigned n_values;

    batch_sink_begin(sink);
    event_begin(event, dev, STR("p"));
    for (size_t i = 0; i <= n_fragments % 5; i++)
        add_value(event, kind, n_fragments + i, str_from(values[(n_fragments * 7 + i) % COUNT_OF(values)]), &expected);
    if (n_fragments % 10 == 9) {
        buf_add_u8(&text, '"');
        for (size_t i = 0; i < LONG_TEXT; i += 2)
            buf_add_z(&text, i % 128 ? "\\\"" : "}{");
        buf_add_u8(&text, '"');
        add_value(event, kind, n_fragments + 5, buf_str(&text), &expected);
    }
    assert_int_equal(event_encode(event, (int64_t)n_fragments + 1, &limits, &sink->sink, &n_values), ERR_OK);
    fragments[n_fragments++] = (struct fragment){.n = expected.n, .crc = crc32c(0, expected.p, expected.n)};
}

static void emit_all(enum record_kind kind)
{
    struct batch_sink sink;
    struct event event;
    struct batch *rest;

    event_init(&event);
    batch_sink_init(&sink, NULL, on_full, NULL);
    for (size_t i = 0; i < ROUNDS; i++)
        for (size_t d = 0; d < COUNT_OF(devices); d++)
            emit(&event, &sink, kind, device_get(str_from(devices[d])));
    rest = batch_sink_take(&sink);
    if (rest)
        store_append(store, rest);
    batch_sink_fini(&sink);
    event_fini(&event);
}

/* Each record of the pack, in the order of the payload. Behind the fragment of n bytes there is nothing but the closing brace. */
static void check_payload(struct packer *packer, enum record_kind kind)
{
    autobuf struct buf payload = {0};
    const struct pack_part *parts;
    const struct record *const *records;
    size_t n_parts, n, at = 0;
    yyjson_doc *doc;

    packer_finish(packer, &payload, &parts, &n_parts);
    records = packer_records(packer, &n);
    doc = yyjson_read((const char *)payload.p, payload.n, 0);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    for (size_t i = 0; i < n; i++) {
        struct fragment *fragment = &fragments[records[i]->ts - 1];
        struct device *dev = device_at(records[i]->dev);
        autobuf struct buf before = {0};

        if (kind == RECORD_TELEMETRY)
            buf_printf(&before, "{\"ts\":%lld,\"values\":{", (long long)records[i]->ts);
        else
            buf_printf(&before, "%.*s:{", (int)dev->json_n, dev->json);
        at = str_find(buf_str(&payload), buf_str(&before), at);
        assert_true(at != SIZE_MAX);
        at += before.n;
        assert_true(at + fragment->n < payload.n);
        assert_int_equal(crc32c(0, payload.p + at, fragment->n), fragment->crc);
        at += fragment->n;
        assert_int_equal(payload.p[at], '}');
        assert_false(fragment->is_found);
        fragment->is_found = true;
        n_found++;
    }
}

/* Attributes go one record a pack: where several of a device meet, the later value wins. */
static void pack_chunk(struct packer *packer, const struct chunk *chunk, enum record_kind kind)
{
    const struct pack_limits limits = {
        .max_bytes = 8196, .max_events = kind == RECORD_ATTRIBUTES, .batch_devices = true};
    const struct record *record;

    packer_begin(packer, kind == RECORD_TELEMETRY ? PACK_TELEMETRY : PACK_ATTRIBUTES, &limits);
    for (const uint8_t *p = chunk->bytes; p < chunk->bytes + chunk->n; p += record->size) {
        struct device *dev;

        record = (const struct record *)(const void *)p;
        if (record->kind != kind)
            continue;
        dev = device_at(record->dev);
        if (packer_add(packer, dev, str_of(dev->json, dev->json_n), record))
            continue;
        check_payload(packer, kind);
        packer_begin(packer, kind == RECORD_TELEMETRY ? PACK_TELEMETRY : PACK_ATTRIBUTES, &limits);
        assert_true(packer_add(packer, dev, str_of(dev->json, dev->json_n), record));
    }
    if (!packer_is_empty(packer))
        check_payload(packer, kind);
}

static void send_through(enum record_kind kind, size_t chunk_bytes)
{
    struct packer *packer = packer_new();

    n_fragments = n_found = 0;
    n_answered = 0;
    emit_all(kind);
    for (int idle = 0; n_found < n_fragments; idle++) {
        struct chunk *chunk;

        assert_true(idle < 1000);
        while ((chunk = store_read(store, 0, chunk_bytes))) {
            pack_chunk(packer, chunk, kind);
            store_ack(store, 0, chunk->to);
            chunk_release(chunk);
        }
        loop_advance(loop, 100);
    }
    loop_advance(loop, 1000);
    assert_true(n_answered > 0);
    assert_int_equal(store_stats(store).n_events, 0);
    packer_free(packer);
}

static void through_all(void)
{
    static const size_t chunk_sizes[] = {1, 3000, 256 * 1024};

    for (size_t i = 0; i < COUNT_OF(chunk_sizes); i++) {
        send_through(RECORD_TELEMETRY, chunk_sizes[i]);
        send_through(RECORD_ATTRIBUTES, chunk_sizes[i]);
    }
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void note_true(void *arg)
{
    *(bool *)arg = true;
}

static const struct store_events events = {.readable = on_nothing};
extern const struct sqlite_api iotgw_sqlite;

static void test_invariant_12_fragments_are_unchanged_behind_the_memory_store(void **state)
{
    const struct memory_conf conf = {.max_events = 100000};

    (void)state;
    store_answer_fn = on_answer;
    loop = loop_new_fake(1700000000000);
    store = store_memory_new(loop, &conf, &events, NULL);
    through_all();
    store_free(store);
    loop_free(loop);
    assert_int_equal(slab_in_use(), 0);
}

static void remove_dir(const char *path)
{
    DIR *dir = opendir(path);

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
    closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

/* A store on a disk: opened by open in path, which is there. */
static void through_a_disk(enum err (*open)(const char *path, struct log *log, struct why *why))
{
    char path[] = "/tmp/iotgw-unchanged-XXXXXX";
    struct log log;
    struct why why = {0};
    bool is_stopped = false;

    assert_non_null(mkdtemp(path));
    store_answer_fn = on_answer;
    loop = loop_new_fake(1700000000000);
    log_init(&log, "storage", LOG_LEVEL_OFF);
    if (open(path, &log, &why))
        fail_msg("%s", why_text(&why));
    through_all();
    store_stop(store, note_true, &is_stopped);
    loop_advance(loop, 1000);
    assert_true(is_stopped);
    store_free(store);
    loop_free(loop);
    log_fini(&log);
    assert_int_equal(slab_in_use(), 0);
    remove_dir(path);
}

static enum err open_file(const char *path, struct log *log, struct why *why)
{
    struct file_conf conf = {.path = path, .log = log, .own = loop, .segment_events = 100};

    return store_file_new(&store, loop, &conf, &events, NULL, why);
}

static enum err open_sqlite(const char *path, struct log *log, struct why *why)
{
    struct sqlite_conf conf = {.file = {.path = path, .log = log, .own = loop, .segment_events = 100},
                               .db_bytes = 64 * 1000 * 1000,
                               .max_dbs = 10};

    return store_sqlite_with(&iotgw_sqlite, &store, loop, &conf, &events, NULL, why);
}

static void test_invariant_12_fragments_are_unchanged_behind_the_file_store(void **state)
{
    (void)state;
    through_a_disk(open_file);
}

static void test_invariant_12_fragments_are_unchanged_behind_the_sqlite_store(void **state)
{
    (void)state;
    through_a_disk(open_sqlite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invariant_12_fragments_are_unchanged_behind_the_memory_store),
        cmocka_unit_test(test_invariant_12_fragments_are_unchanged_behind_the_file_store),
        cmocka_unit_test(test_invariant_12_fragments_are_unchanged_behind_the_sqlite_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
