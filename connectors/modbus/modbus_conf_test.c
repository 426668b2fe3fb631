/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "modbus_image.h"

struct loaded {
    struct conf *conf;
    const struct modbus_file *file; /* NULL: refused */
    struct problems problems;
};

static struct loaded load(const char *text)
{
    struct loaded loaded = {0};

    problems_init(&loaded.problems);
    loaded.conf = conf_load_text(&modbus_conf_type, ".", "modbus.json", str_from(text), &loaded.problems);
    loaded.file = loaded.conf ? conf_root(loaded.conf) : NULL;
    return loaded;
}

static void done(struct loaded *loaded)
{
    conf_unref(loaded->conf);
    problems_fini(&loaded->problems);
}

static bool says(const struct loaded *loaded, enum severity severity, const char *path, const char *text)
{
    for (const struct problem *p = loaded->problems.first; p; p = p->next)
        if (p->severity == severity && strcmp(p->path, path) == 0 && strstr(p->text, text))
            return true;
    for (const struct problem *p = loaded->problems.first; p; p = p->next)
        print_message("%d %s: %s\n", (int)p->severity, p->path, p->text);
    return false;
}

static const struct modbus_slave *slave_of(const struct loaded *loaded, size_t i)
{
    assert_non_null(loaded->file);
    assert_true(i < loaded->file->slaves.n);
    return loaded->file->slaves.items[i];
}

#define SLAVE(members) "{\"master\":{\"slaves\":[{\"deviceName\":\"D\",\"host\":\"h\"" members "}]}}"
#define POINT(members) SLAVE(",\"timeseries\":[{\"tag\":\"t\",\"type\":\"16int\"" members "}]")
#define UPDATE(members) SLAVE(",\"attributeUpdates\":[{\"tag\":\"t\"" members "}]")
#define OWN(members, values)                                                                                           \
    "{\"slave\":{\"host\":\"h\",\"unitId\":1,\"sendDataToThingsBoard\":true,\"byteOrder\":\"BIG\",\"wordOrder\":"      \
    "\"BIG\"" members ",\"values\":{" values "}}}"

static void test_a_device_has_the_presets_of_the_page(void **state)
{
    struct loaded loaded = load(SLAVE(""));
    const struct modbus_slave *slave = slave_of(&loaded, 0);

    (void)state;
    assert_int_equal(loaded.problems.n_errors + loaded.problems.n_warnings, 0);
    assert_int_equal(slave->wire.medium, MODBUS_OVER_TCP);
    assert_int_equal(slave->wire.framing, MODBUS_FRAMED_SOCKET);
    assert_int_equal(slave->wire.port_number, 502);
    assert_int_equal(slave->wire.timeout_ms, 30000);
    assert_int_equal(slave->wire.n_retries, 3);
    assert_int_equal(slave->wire.attempt_pause_ms, 500);
    assert_int_equal(slave->wire.attempts, 2);
    assert_int_equal(slave->wire.failed_pause_ms, 30000);
    assert_int_equal(slave->wire.max_in_flight, 1);
    assert_true(slave->wire.byte_little && slave->wire.word_little);
    assert_int_equal(slave->unit, 1);
    assert_int_equal(slave->period_ms, 5000);
    assert_int_equal(slave->max_gap, 8);
    assert_true(slave->merges);
    assert_true(str_eq_z(slave->device_type, "default"));
    assert_null(slave->report);
    done(&loaded);
}

static void test_the_way_to_a_device_follows_from_type_and_method(void **state)
{
    static const struct {
        const char *members;
        int medium, framing;
        unsigned port;
        const char *link;
    } cases[] = {
        {",\"type\":\"UDP\",\"port\":\"503\"", MODBUS_OVER_UDP, MODBUS_FRAMED_SOCKET, 503, "udp://h:503"},
        {",\"type\":\"tcp\",\"method\":\"RTU\"", MODBUS_OVER_TCP, MODBUS_FRAMED_RTU, 502, "tcp://h:502"},
        {",\"type\":\"serial\",\"port\":\"/dev/x\"", MODBUS_OVER_SERIAL, MODBUS_FRAMED_RTU, 0, "/dev/x"},
        {",\"type\":\"serial\",\"port\":\"/dev/x\",\"method\":\"ascii\"", MODBUS_OVER_SERIAL, MODBUS_FRAMED_ASCII, 0,
         "/dev/x"},
        {",\"method\":\"tls\"", MODBUS_OVER_TCP, MODBUS_FRAMED_TLS, 802, "tcp://h:802"},
        {",\"tls\":{\"certfile\":\"c\"}", MODBUS_OVER_TCP, MODBUS_FRAMED_TLS, 802, "tcp://h:802"},
        {",\"tls\":{}", MODBUS_OVER_TCP, MODBUS_FRAMED_SOCKET, 502, "tcp://h:502"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[400];
        struct loaded loaded;
        const struct modbus_slave *slave;

        snprintf(text, sizeof text, "{\"master\":{\"slaves\":[{\"deviceName\":\"D\",\"host\":\"h\"%s}]}}",
                 cases[i].members);
        loaded = load(text);
        slave = slave_of(&loaded, 0);
        assert_int_equal(slave->wire.medium, cases[i].medium);
        assert_int_equal(slave->wire.framing, cases[i].framing);
        assert_int_equal(slave->wire.port_number, cases[i].port);
        assert_true(str_eq_z(slave->wire.link, cases[i].link));
        done(&loaded);
    }
}

static void test_what_is_wrong_is_named_with_its_place(void **state)
{
    static const struct {
        const char *text;
        enum severity severity;
        const char *path, *found;
        int n_slaves; /* -1: the file is refused */
    } cases[] = {
        {"{}", CONF_ERROR, "master", "missing", -1},
        {SLAVE(",\"type\":\"bus\""), CONF_ERROR, "master.slaves[0].type", "\"bus\"", 0},
        {SLAVE(",\"method\":\"x\""), CONF_ERROR, "master.slaves[0].method", "\"x\"", 0},
        {SLAVE(",\"type\":\"serial\""), CONF_ERROR, "master.slaves[0].port", "path of the serial port", 0},
        {SLAVE(",\"type\":\"serial\",\"port\":\"/x\",\"method\":\"socket\""), CONF_ERROR, "master.slaves[0].method",
         "for tcp", 0},
        {SLAVE(",\"port\":\"x\""), CONF_ERROR, "master.slaves[0].port", "0 to 65535", 0},
        {SLAVE(",\"port\":65536"), CONF_ERROR, "master.slaves[0].port", "0 to 65535", 0},
        {SLAVE(",\"unitId\":256"), CONF_ERROR, "master.slaves[0].unitId", "255", 0},
        {SLAVE(",\"pollPeriod\":0"), CONF_ERROR, "master.slaves[0].pollPeriod", "1", 0},
        {SLAVE(",\"retries\":-1"), CONF_ERROR, "master.slaves[0].retries", "whole number", 0},
        {SLAVE(",\"retries\":\"x\""), CONF_ERROR, "master.slaves[0].retries", "whole number", 0},
        {SLAVE(",\"parity\":\"x\""), CONF_ERROR, "master.slaves[0].parity", "\"N\"", 0},
        {SLAVE(",\"stopbits\":3"), CONF_ERROR, "master.slaves[0].stopbits", "1.5", 0},
        {SLAVE(",\"byteOrder\":\"middle\""), CONF_WARNING, "master.slaves[0].byteOrder", "LITTLE", 1},
        {SLAVE(",\"uplink_converter\":\"Mine\""), CONF_ERROR, "master.slaves[0].uplink_converter", "extensions", 0},
        {"{\"master\":{\"slaves\":[{\"host\":\"h\"}]}}", CONF_ERROR, "master.slaves[0].deviceName", "missing", 0},
        {"{\"master\":{\"slaves\":[{\"deviceName\":\"D\"}]}}", CONF_ERROR, "master.slaves[0].host", "missing", 0},
        {SLAVE(""), CONF_NOTE, "master.slaves[0].byteOrder", "0x0100 is read as 1", 1},
        {SLAVE(",\"pollperiod\":5"), CONF_WARNING, "master.slaves[0].pollperiod", "did you mean \"pollPeriod\"", 1},
        {POINT(",\"address\":1"), CONF_ERROR, "master.slaves[0].timeseries[0].functionCode", "missing", 1},
        {POINT(",\"address\":1,\"functionCode\":6"), CONF_ERROR, "master.slaves[0].timeseries[0].functionCode",
         "1, 2, 3 or 4", 1},
        {POINT(",\"address\":-1,\"functionCode\":3"), CONF_ERROR, "master.slaves[0].timeseries[0].address",
         "0 to 65535", 1},
        {POINT(",\"address\":\"9-1\",\"functionCode\":3"), CONF_ERROR, "master.slaves[0].timeseries[0].address",
         "ends before", 1},
        {POINT(",\"address\":65535,\"objectsCount\":2,\"functionCode\":3"), CONF_ERROR,
         "master.slaves[0].timeseries[0].address", "beyond 65535", 1},
        {POINT(",\"address\":\"0-4\",\"objectsCount\":2,\"functionCode\":3"), CONF_WARNING,
         "master.slaves[0].timeseries[0].address", "last 1 of the range", 1},
        {POINT(",\"address\":1,\"functionCode\":3,\"divider\":\"x\""), CONF_ERROR,
         "master.slaves[0].timeseries[0].divider", "not a number", 1},
        {SLAVE(",\"timeseries\":[{\"tag\":\"t\",\"type\":\"int16\",\"address\":1,\"functionCode\":3}]"), CONF_ERROR,
         "master.slaves[0].timeseries[0].type", "did you mean \"16int\"", 1},
        {SLAVE(",\"timeseries\":[{\"tag\":\"t\",\"type\":\"bits\",\"bit\":16,\"address\":1,\"functionCode\":3}]"),
         CONF_ERROR, "master.slaves[0].timeseries[0].bit", "beyond 15", 1},
        {SLAVE(
             ",\"timeseries\":[{\"tag\":\"t\",\"type\":\"bits\",\"objectsCount\":9,\"address\":1,\"functionCode\":3}]"),
         CONF_NOTE, "master.slaves[0].timeseries[0].objectsCount", "objectsCount 1", 1},
        {UPDATE(",\"type\":\"32int\",\"address\":1,\"functionCode\":6"), CONF_WARNING,
         "master.slaves[0].attributeUpdates[0].functionCode", "16 is sent", 1},
        {UPDATE(",\"type\":\"bits\",\"objectsCount\":2,\"address\":1,\"functionCode\":5"), CONF_WARNING,
         "master.slaves[0].attributeUpdates[0].functionCode", "15 is sent", 1},
        {UPDATE(",\"type\":\"16int\",\"address\":\"1-4\",\"functionCode\":6"), CONF_ERROR,
         "master.slaves[0].attributeUpdates[0].address", "range", 1},
        {UPDATE(",\"type\":\"16int\",\"address\":1,\"functionCode\":3"), CONF_ERROR,
         "master.slaves[0].attributeUpdates[0].functionCode", "5, 6, 15 or 16", 1},
        {SLAVE(",\"rpc\":{\"m\":{\"type\":\"16int\",\"address\":1}}"), CONF_ERROR,
         "master.slaves[0].rpc.m.functionCode", "missing", 1},
        {SLAVE(",\"rpc\":[{\"type\":\"16int\",\"address\":1,\"functionCode\":3}]"), CONF_ERROR,
         "master.slaves[0].rpc[0].tag", "missing", 1},
        {"{\"slave\":{\"host\":\"h\"}}", CONF_ERROR, "slave.values", "missing", 0},
        {OWN("", "\"holding_registers\":5"), CONF_ERROR, "slave.values.holding_registers", "", 0},
        {OWN("", "\"coils_initializer\":{\"timeseries\":[{\"tag\":\"t\",\"type\":\"16decimal\",\"address\":1}]}"),
         CONF_ERROR, "slave.values.coils_initializer.timeseries[0].type", "not a type", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct loaded loaded = load(cases[i].text);

        if (!says(&loaded, cases[i].severity, cases[i].path, cases[i].found))
            fail_msg("case %zu: %s: %s is not said", i, cases[i].path, cases[i].found);
        if ((loaded.file ? (int)loaded.file->slaves.n : -1) != cases[i].n_slaves)
            fail_msg("case %zu: %s", i, cases[i].text);
        done(&loaded);
    }
}

static void test_a_wrong_entry_leaves_the_others_alone(void **state)
{
    struct loaded loaded =
        load("{\"master\":{\"slaves\":[{\"deviceName\":\"A\",\"host\":\"h\",\"type\":\"x\"},{\"deviceName\":\"B\","
             "\"host\":\"h\",\"timeseries\":[{\"tag\":\"a\",\"type\":\"zzz\",\"functionCode\":3,\"address\":0},"
             "{\"tag\":\"b\",\"type\":\"16int\",\"functionCode\":3,\"address\":\"7\"}]}]},\"slave\":{\"host\":\"h\"}}");

    (void)state;
    assert_int_equal(loaded.file->slaves.n, 1);
    assert_true(str_eq_z(slave_of(&loaded, 0)->device_name, "B"));
    assert_int_equal(slave_of(&loaded, 0)->n_reads, 1);
    assert_int_equal(slave_of(&loaded, 0)->reads[0].address, 7);
    assert_null(loaded.file->own); /* it has no values */
    done(&loaded);
}

static void test_values_have_the_devices_period_or_their_own(void **state)
{
    struct loaded loaded = load("{\"master\":{\"slaves\":[{\"deviceName\":\"A\",\"host\":\"h\",\"pollPeriod\":1000,"
                                "\"attributes\":[{\"tag\":\"a\","
                                "\"type\":\"16uint\",\"functionCode\":3,\"address\":1,\"pollPeriod\":60000}],"
                                "\"timeseries\":[{\"tag\":\"b\",\"type\":"
                                "\"16uint\",\"functionCode\":3,\"address\":2},{\"tag\":\"c\",\"type\":\"16uint\","
                                "\"functionCode\":3,\"address\":3,"
                                "\"pollPeriod\":60000},{\"tag\":\"d\",\"type\":\"16uint\",\"functionCode\":3,"
                                "\"address\":4,\"pollPeriod\":1000}]}]}}");
    const struct modbus_slave *slave = slave_of(&loaded, 0);

    (void)state;
    assert_int_equal(slave->n_beats, 2);
    assert_int_equal(slave->beats[0].period_ms, 1000);
    assert_int_equal(slave->beats[0].n_reads, 2);
    assert_int_equal(slave->beats[0].reads[0].address, 2);
    assert_int_equal(slave->beats[0].reads[1].address, 4);
    assert_int_equal(slave->beats[1].period_ms, 60000);
    assert_int_equal(slave->beats[1].n_reads, 2);
    assert_int_equal(slave->beats[1].reads[0].address, 1);
    assert_int_equal(slave->beats[1].reads[1].address, 3);
    done(&loaded);
}

static void test_devices_at_one_place_share_a_connection(void **state)
{
    struct loaded loaded = load(
        "{\"master\":{\"slaves\":[{\"deviceName\":\"A\",\"host\":\"h\"},{\"deviceName\":\"B\",\"host\":\"h\","
        "\"port\":502,\"method\":\"rtu\",\"timeout\":1},{\"deviceName\":\"C\",\"host\":\"h\",\"type\":\"udp\"}]}}");

    (void)state;
    assert_true(says(&loaded, CONF_WARNING, "master.slaves[1].method", "master.slaves[0]"));
    assert_ptr_equal(slave_of(&loaded, 1)->carrier, slave_of(&loaded, 0));
    assert_int_equal(slave_of(&loaded, 0)->carried.n, 2);
    assert_ptr_equal(slave_of(&loaded, 0)->carried.items[1], slave_of(&loaded, 1));
    assert_int_equal(slave_of(&loaded, 1)->wire.timeout_ms, 1000); /* its own */
    assert_ptr_equal(slave_of(&loaded, 2)->carrier, slave_of(&loaded, 2));
    done(&loaded);
}

static void test_the_former_layout_inherits_from_its_server(void **state)
{
    struct loaded loaded = load(
        "{\"server\":{\"type\":\"serial\",\"port\":\"/dev/x\",\"method\":\"rtu\",\"timeout\":3,\"baudrate\":4800,"
        "\"parity\":\"E\",\"byteOrder\":\"BIG\",\"wordOrder\":\"BIG\",\"retries\":1,\"devices\":[{\"deviceName\":\"A\","
        "\"unitId\":1,\"attributesPollPeriod\":7,\"timeseriesPollPeriod\":60000},{\"deviceName\":\"B\",\"unitId\":2,"
        "\"byteOrder\":\"\",\"attributesPollPeriod\":7000,\"timeout\":4,\"baudrate\":9600},{\"unitId\":3}]}}");
    const struct modbus_slave *a = slave_of(&loaded, 0), *b = slave_of(&loaded, 1);

    (void)state;
    assert_true(says(&loaded, CONF_WARNING, "server", "former layout"));
    assert_true(says(&loaded, CONF_ERROR, "server.devices[2].deviceName", "missing"));
    assert_int_equal(loaded.file->slaves.n, 2);
    assert_int_equal(a->wire.medium, MODBUS_OVER_SERIAL);
    assert_int_equal(a->wire.timeout_ms, 3000);
    assert_int_equal(a->wire.baudrate, 4800);
    assert_int_equal(a->wire.parity_char, 'E');
    assert_int_equal(a->wire.n_retries, 1);
    assert_false(a->wire.byte_little);
    assert_int_equal(a->period_ms, 60000);
    assert_int_equal(b->period_ms, 7000);
    assert_int_equal(b->wire.timeout_ms, 4000);
    assert_int_equal(b->wire.baudrate, 9600);
    assert_false(b->wire.byte_little);
    assert_ptr_equal(b->carrier, a);
    done(&loaded);
}

static void test_a_range_becomes_a_key_for_each_value(void **state)
{
    static const struct {
        const char *members;
        size_t n;
        const char *last;
        unsigned address, span;
    } cases[] = {
        {"\"tag\":\"v_${unitId}_${address}_${type}${no}\",\"type\":\"32int\",\"functionCode\":3,\"address\":\"0-3\"", 2,
         "\"v_1_2_32int${no}\":", 2, 2},
        {"\"tag\":\"r\",\"type\":\"16int\",\"functionCode\":3,\"address\":\"10-12\",\"objectsCount\":1", 3,
         "\"r_12\":", 12, 1},
        {"\"tag\":\"r\",\"type\":\"16int\",\"functionCode\":4,\"address\":\"0-9\",\"objectsCount\":3", 3, "\"r_6\":", 6,
         3},
        {"\"tag\":\"c\",\"type\":\"bits\",\"functionCode\":1,\"address\":\"0-4\",\"objectsCount\":2", 5, "\"c_4\":", 4,
         1},
        {"\"tag\":\"address ${objectsCount}\",\"type\":\"8uint\",\"functionCode\":1,\"address\":\"0-15\"", 2,
         "\"address 8\":", 8, 8},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[400];
        struct loaded loaded;
        const struct modbus_read *last;

        snprintf(text, sizeof text,
                 "{\"master\":{\"slaves\":[{\"deviceName\":\"D\",\"host\":\"h\",\"timeseries\":[{%s}]}]}}",
                 cases[i].members);
        loaded = load(text);
        assert_int_equal(slave_of(&loaded, 0)->n_reads, cases[i].n);
        last = &slave_of(&loaded, 0)->reads[cases[i].n - 1];
        if (!str_eq_z(last->key, cases[i].last))
            fail_msg("%.*s, expected %s", (int)last->key.n, last->key.p, cases[i].last);
        assert_int_equal(last->address, cases[i].address);
        assert_int_equal(last->span, cases[i].span);
        done(&loaded);
    }
}

static void test_data_only_on_change_is_a_report_strategy(void **state)
{
    struct loaded loaded = load(SLAVE(",\"sendDataOnlyOnChange\":true"));

    (void)state;
    assert_ptr_equal(slave_of(&loaded, 0)->report, &report_on_change);
    done(&loaded);
    loaded = load(SLAVE(",\"sendDataOnlyOnChange\":true,\"reportStrategy\":{\"type\":\"ON_RECEIVED\"}"));
    assert_int_equal(slave_of(&loaded, 0)->report->type, REPORT_ON_RECEIVED);
    done(&loaded);
}

static void not_encoded(void *arg, const struct modbus_point *point, const struct why *why)
{
    (void)point;
    (void)why;
    ++*(int *)arg;
}

static void test_served_values_fill_the_memory_and_bound_it(void **state)
{
    struct loaded loaded = load(OWN(
        "", "\"holding_registers\":[{\"timeseries\":[{\"tag\":\"a\",\"type\":\"32int\",\"address\":2,\"value\":65537},"
            "{\"tag\":\"x\",\"type\":\"16int\",\"address\":9,\"value\":\"no\"}],\"rpc\":[{\"tag\":\"m\",\"type\":"
            "\"16int\",\"address\":20,\"functionCode\":6}]}]"));
    struct modbus_image image;
    int n_failed = 0;

    (void)state;
    assert_non_null(loaded.file->own);
    assert_int_equal(loaded.file->own->n_reads, 2);
    assert_int_equal(loaded.file->own->reads[0].function_code, 3);
    modbus_image_init(&image);
    modbus_image_fill(&image, loaded.file->own, not_encoded, &n_failed);
    assert_int_equal(n_failed, 1);
    assert_int_equal(modbus_image_get(&image, MODBUS_HOLDING, 2), 1);
    assert_int_equal(modbus_image_get(&image, MODBUS_HOLDING, 3), 1);
    assert_true(modbus_image_has(&image, MODBUS_HOLDING, 2, 2));
    assert_true(modbus_image_has(&image, MODBUS_HOLDING, 20, 1)); /* without a value: 0 */
    assert_false(modbus_image_has(&image, MODBUS_HOLDING, 2, 3));
    assert_false(modbus_image_has(&image, MODBUS_HOLDING, 9, 1));
    assert_true(modbus_image_has(&image, MODBUS_INPUT, 65535, 1)); /* nothing is said about it */
    assert_false(modbus_image_has(&image, MODBUS_INPUT, 65535, 2));
    modbus_image_fini(&image);
    done(&loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_has_the_presets_of_the_page),
        cmocka_unit_test(test_the_way_to_a_device_follows_from_type_and_method),
        cmocka_unit_test(test_what_is_wrong_is_named_with_its_place),
        cmocka_unit_test(test_a_wrong_entry_leaves_the_others_alone),
        cmocka_unit_test(test_values_have_the_devices_period_or_their_own),
        cmocka_unit_test(test_devices_at_one_place_share_a_connection),
        cmocka_unit_test(test_the_former_layout_inherits_from_its_server),
        cmocka_unit_test(test_a_range_becomes_a_key_for_each_value),
        cmocka_unit_test(test_data_only_on_change_is_a_report_strategy),
        cmocka_unit_test(test_served_values_fill_the_memory_and_bound_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
