/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "uplink/messages.h"
#include "uplink/pack.h"

static const struct pack_limits unlimited = {.batch_devices = true};

static struct device *dev(const char *name)
{
    return device_get(str_from(name));
}

static struct str name_of(const struct device *device)
{
    return str_of(device->json, device->json_n);
}

/* body: the values, then the metadata of meta_n bytes. */
static struct record *made(struct device *device, enum record_kind kind, int64_t ts, unsigned n_values, unsigned flags,
                           const char *body, size_t meta_n)
{
    size_t n = strlen(body);
    struct record *record = mem_zero(record_size(device->name_n, 4, n));
    char *at = (char *)(record + 1);

    *record = (struct record){.ts = ts,
                              .dev = device->number,
                              .n_values = (uint16_t)n_values,
                              .flags = (uint16_t)flags,
                              .kind = (uint16_t)kind,
                              .name_n = device->name_n,
                              .profile_n = 4,
                              .spare = (uint16_t)meta_n};
    memcpy(at, device->name, device->name_n);
    memcpy(at + device->name_n, "prof", 4);
    memcpy(at + device->name_n + 4, body, n);
    record_seal(record, n);
    return record;
}

struct pack_case {
    const char *what;
    enum pack_kind kind;
    struct {
        const char *device;
        int64_t ts;
        unsigned flags;
        const char *body;
    } records[6];
    const char *payload;
};

static void test_records_of_several_devices_become_one_payload(void **state)
{
    static const struct pack_case cases[] = {
        {"one value",
         PACK_TELEMETRY,
         {{"A", 1700000000000, RECORD_END, "\"t\":1"}},
         "{\"A\":[{\"ts\":1700000000000,\"values\":{\"t\":1}}]}"},
        {"order of first appearance",
         PACK_TELEMETRY,
         {{"B", 2, 0, "\"t\":1"}, {"A", 3, 0, "\"t\":2"}, {"B", 4, RECORD_END, "\"t\":3,\"u\":\"x\""}},
         "{\"B\":[{\"ts\":2,\"values\":{\"t\":1}},{\"ts\":4,\"values\":{\"t\":3,\"u\":\"x\"}}],\"A\":[{\"ts\":3,"
         "\"values\":{\"t\":2}}]}"},
        {"without time",
         PACK_TELEMETRY,
         {{"A", 0, RECORD_NO_TS, "\"t\":1"}, {"A", -12, 0, "\"t\":2"}},
         "{\"A\":[{\"t\":1},{\"ts\":-12,\"values\":{\"t\":2}}]}"},
        {"unsure time is corrected",
         PACK_TELEMETRY,
         {{"A", 5, RECORD_TIME_UNSURE, "\"t\":1"}},
         "{\"A\":[{\"ts\":1000005,\"values\":{\"t\":1}}]}"},
        {"names are escaped and UTF-8",
         PACK_TELEMETRY,
         {{"a\"b°", 7, 0, "\"°\":\"°\""}},
         "{\"a\\\"b°\":[{\"ts\":7,\"values\":{\"°\":\"°\"}}]}"},
        {"attributes",
         PACK_ATTRIBUTES,
         {{"A", 1, 0, "\"a\":1"}, {"B", 1, 0, "\"a\":{\"b\":[1,2]}"}},
         "{\"A\":{\"a\":1},\"B\":{\"a\":{\"b\":[1,2]}}}"},
        {"a later attribute takes the place of the first",
         PACK_ATTRIBUTES,
         {{"A", 1, 0, "\"a\":1,\"b\":\"x,\\\"}\""},
          {"A", 2, 0, "\"c\":[{\"d\":\"]\"}],\"a\":2"},
          {"A", 3, 0, "\"c\":null"}},
         "{\"A\":{\"a\":2,\"b\":\"x,\\\"}\",\"c\":null}}"},
        {"keys that look like structure",
         PACK_ATTRIBUTES,
         {{"A", 1, 0, "\"device\":\"x\",\"ts\":1,\"values\":{}"}},
         "{\"A\":{\"device\":\"x\",\"ts\":1,\"values\":{}}}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct pack_limits limits = unlimited;
        struct packer *packer = packer_new();
        struct record *records[6] = {0};
        const struct pack_part *parts;
        size_t n_parts, n_records;
        autobuf struct buf out = {0};

        limits.unsure_offset_ms = 1000000;
        packer_begin(packer, cases[i].kind, &limits);
        for (size_t j = 0; j < 6 && cases[i].records[j].device; j++) {
            struct device *device = dev(cases[i].records[j].device);

            records[j] = made(device, cases[i].kind == PACK_TELEMETRY ? RECORD_TELEMETRY : RECORD_ATTRIBUTES,
                              cases[i].records[j].ts, 1, cases[i].records[j].flags, cases[i].records[j].body, 0);
            assert_true(packer_add(packer, device, name_of(device), records[j]));
        }
        size_t bytes = packer_bytes(packer);

        packer_finish(packer, &out, &parts, &n_parts);
        buf_add_u8(&out, 0);
        assert_string_equal((char *)out.p, cases[i].payload);
        assert_true(bytes >= out.n - 1);
        if (cases[i].kind == PACK_TELEMETRY)
            assert_int_equal(bytes, out.n - 1);
        (void)packer_records(packer, &n_records);
        size_t sum = 0;

        for (size_t j = 0; j < n_parts; j++)
            sum += parts[j].n_records;
        assert_int_equal(sum, n_records);
        packer_free(packer);
        for (size_t j = 0; j < 6; j++)
            mem_free(records[j]);
    }
}

static void test_metadata_follows_the_values_with_the_time_of_publication(void **state)
{
    struct pack_limits limits = unlimited;
    struct packer *packer = packer_new();
    struct device *a = dev("A");
    struct record *record = made(a, RECORD_TELEMETRY, 5, 1, RECORD_HAS_META, "\"t\":1{\"connector\":\"m\"}", 17);
    const struct pack_part *parts;
    size_t n_parts;
    autobuf struct buf out = {0};

    (void)state;
    limits.published_ms = 1700000000001;
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    packer_finish(packer, &out, &parts, &n_parts);
    buf_add_u8(&out, 0);
    assert_string_equal((char *)out.p, "{\"A\":[{\"ts\":5,\"values\":{\"t\":1},\"metadata\":{\"connector\":\"m\","
                                       "\"publishedTs\":1700000000001}}]}");
    mem_free(record);
    /* values longer than the metadata */
    record =
        made(a, RECORD_TELEMETRY, 5, 1, RECORD_HAS_META, "\"t\":\"a text of some length\"{\"connector\":\"m\"}", 17);
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    packer_finish(packer, &out, &parts, &n_parts);
    buf_add_u8(&out, 0);
    assert_string_equal((char *)out.p, "{\"A\":[{\"ts\":5,\"values\":{\"t\":\"a text of some length\"},"
                                       "\"metadata\":{\"connector\":\"m\",\"publishedTs\":1700000000001}}]}");
    packer_free(packer);
    mem_free(record);
}

static void test_metadata_has_the_time_of_publication_not_of_gathering(void **state)
{
    struct pack_limits limits = unlimited;
    struct packer *packer = packer_new();
    struct device *a = dev("A");
    struct record *record = made(a, RECORD_TELEMETRY, 5, 1, RECORD_HAS_META, "\"t\":1{\"connector\":\"m\"}", 17);
    const struct pack_part *parts;
    size_t n_parts;
    autobuf struct buf out = {0};

    (void)state;
    limits.published_ms = 1700000000001;
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    packer_set_published(packer, 1700000000777);
    packer_set_published(packer, 5); /* of another length: what was counted would be wrong */
    assert_int_equal(packer_bytes(packer), pack_alone_bytes(name_of(a), record));
    packer_finish(packer, &out, &parts, &n_parts);
    buf_add_u8(&out, 0);
    assert_string_equal((char *)out.p, "{\"A\":[{\"ts\":5,\"values\":{\"t\":1},\"metadata\":{\"connector\":\"m\","
                                       "\"publishedTs\":1700000000777}}]}");
    packer_free(packer);
    mem_free(record);
}

static void test_limits_are_kept_to_the_byte_and_the_first_record_always_fits(void **state)
{
    struct device *a = dev("A"), *b = dev("B");
    struct record *record = made(a, RECORD_TELEMETRY, 1700000000000, 2, RECORD_END, "\"t\":1,\"u\":2", 0);
    struct record *other = made(b, RECORD_TELEMETRY, 1700000000000, 2, RECORD_END, "\"t\":1,\"u\":2", 0);
    struct packer *packer = packer_new();
    struct pack_limits limits = unlimited;

    (void)state;
    limits.max_bytes = 10;
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_int_equal(packer_bytes(packer), pack_alone_bytes(name_of(a), record));
    size_t one = packer_bytes(packer);

    assert_false(packer_add(packer, a, name_of(a), record));
    limits.max_bytes = 2 * one - 7; /* the second entry: one comma, no name, no brackets */
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_int_equal(packer_bytes(packer), limits.max_bytes);
    assert_false(packer_add(packer, b, name_of(b), other));
    limits = (struct pack_limits){.batch_devices = true, .max_values = 3};
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_false(packer_add(packer, a, name_of(a), record));
    assert_true(packer_add(packer, b, name_of(b), other));
    limits = (struct pack_limits){.max_events = 2};
    packer_begin(packer, PACK_TELEMETRY, &limits);
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_false(packer_add(packer, b, name_of(b), other));
    assert_true(packer_add(packer, a, name_of(a), record));
    assert_false(packer_add(packer, a, name_of(a), record));
    packer_free(packer);
    mem_free(record);
    mem_free(other);
}

static void test_telemetry_and_attributes_of_a_device_are_packed_side_by_side(void **state)
{
    struct device *a = dev("A"), *b = dev("B");
    struct record *t = made(a, RECORD_TELEMETRY, 1, 1, 0, "\"t\":1", 0),
                  *u = made(a, RECORD_ATTRIBUTES, 1, 1, 0, "\"a\":1", 0);
    struct packer *one = packer_new(), *two = packer_new(), *third = packer_new();
    const struct pack_part *parts;
    size_t n_parts;
    autobuf struct buf out = {0};

    (void)state;
    packer_begin(one, PACK_TELEMETRY, &unlimited);
    packer_begin(two, PACK_ATTRIBUTES, &unlimited);
    assert_true(packer_add(two, b, name_of(b), u));
    assert_true(packer_add(one, a, name_of(a), t));
    assert_true(packer_add(two, a, name_of(a), u));
    assert_true(packer_has(one, a) && packer_has(two, a) && packer_has(two, b) && !packer_has(one, b));
    packer_begin(third, PACK_TELEMETRY, &unlimited); /* another one of the same kind in between */
    assert_true(packer_add(third, b, name_of(b), t));
    assert_true(packer_add(third, a, name_of(a), t));
    packer_free(third);
    packer_reclaim(one);
    assert_true(packer_add(one, a, name_of(a), t));
    packer_finish(one, &out, &parts, &n_parts);
    assert_int_equal(n_parts, 1);
    assert_int_equal(parts[0].n_records, 2);
    packer_free(one);
    packer_free(two);
    mem_free(t);
    mem_free(u);
}

static void test_a_record_above_a_limit_is_split_by_values(void **state)
{
    struct device *a = dev("A");
    struct record *record = made(a, RECORD_TELEMETRY, 1700000000000, 4, RECORD_END,
                                 "\"a\":\"11111,1111\",\"b\":{\"x\":[1,2]},\"c\":3,\"d\":4", 0);
    struct pack_limits limits = {.max_bytes = 61};
    autobuf struct buf out = {0};
    unsigned n_values = 0;

    (void)state;
    size_t n = pack_split(&out, name_of(a), record, &limits);

    assert_int_equal(n, 3);
    const struct record *at = (const struct record *)(const void *)out.p;

    for (size_t i = 0; i < n; i++, at = record_next(at)) {
        assert_int_equal(record_check(at, (size_t)(out.p + out.n - (const uint8_t *)at)), ERR_OK);
        assert_true(pack_alone_bytes(name_of(a), at) <= 61);
        assert_int_equal(at->ts, 1700000000000);
        assert_int_equal(at->flags & RECORD_END, i == n - 1 ? RECORD_END : 0);
        n_values += at->n_values;
    }
    assert_ptr_equal(at, out.p + out.n);
    assert_int_equal(n_values, 4);
    limits = (struct pack_limits){.max_values = 1};
    assert_int_equal(pack_split(&out, name_of(a), record, &limits), 4);
    mem_free(record);
    record = made(a, RECORD_TELEMETRY, 1, 2, 0, "\"a\":1}", 0);
    assert_int_equal(pack_split(&out, name_of(a), record, &limits), 0);
    mem_free(record);
}

static void test_messages_of_the_gateway_itself(void **state)
{
    struct str keys[] = {STR("a"), STR("b")};
    autobuf struct buf out = {0};

    (void)state;
#define GIVES(call, text)                                                                                              \
    do {                                                                                                               \
        out.n = 0;                                                                                                     \
        call;                                                                                                          \
        assert_true(str_eq_z(buf_str(&out), text));                                                                    \
    } while (0)
    GIVES(pack_connect(&out, STR("\"P 1\""), STR("pump")), "{\"device\":\"P 1\",\"type\":\"pump\"}");
    GIVES(pack_connect(&out, STR("\"P 1\""), STR("")), "{\"device\":\"P 1\",\"type\":\"default\"}");
    GIVES(pack_disconnect(&out, STR("\"P 1\"")), "{\"device\":\"P 1\"}");
    GIVES(assert_true(message_own_telemetry(&out, STR(" {\"a\":1}\n"))), "[{\"a\":1}]");
    GIVES(assert_true(message_own_telemetry(&out, STR("[{\"a\":1}]"))), "[{\"a\":1}]");
    GIVES(assert_false(message_own_telemetry(&out, STR("[ ]"))), "");
    GIVES(assert_false(message_own_telemetry(&out, STR("{}"))), "");
    GIVES(assert_false(message_own_telemetry(&out, STR("5"))), "");
    GIVES(message_attributes_request(&out, STR("\"D\""), keys, 2, false, 7),
          "{\"keys\":[\"a\",\"b\"],\"device\":\"D\",\"client\":false,\"id\":7}");
    GIVES(message_own_attributes_request(&out, keys, 1, keys, 2), "{\"clientKeys\":\"a\",\"sharedKeys\":\"a,b\"}");
    GIVES(message_own_attributes_request(&out, NULL, 0, NULL, 0), "{}");
    GIVES(message_rpc_reply(&out, STR("\"D\""), STR("5"), STR("null")), "{\"device\":\"D\",\"id\":5,\"data\":null}");
    GIVES(message_claim(&out, STR("\"D\""), STR("s"), 30), "{\"D\":{\"secretKey\":\"s\",\"durationMs\":30}}");
    GIVES(message_claim(&out, STR(""), STR("s"), 30), "{\"secretKey\":\"s\",\"durationMs\":30}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_of_several_devices_become_one_payload),
        cmocka_unit_test(test_metadata_follows_the_values_with_the_time_of_publication),
        cmocka_unit_test(test_metadata_has_the_time_of_publication_not_of_gathering),
        cmocka_unit_test(test_limits_are_kept_to_the_byte_and_the_first_record_always_fits),
        cmocka_unit_test(test_telemetry_and_attributes_of_a_device_are_packed_side_by_side),
        cmocka_unit_test(test_a_record_above_a_limit_is_split_by_values),
        cmocka_unit_test(test_messages_of_the_gateway_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
