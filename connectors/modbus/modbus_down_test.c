/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "data/json.h"
#include "modbus_down.h"

static const char file_text[] =
    "{\"master\":{\"slaves\":["
    "{\"deviceName\":\"A\",\"host\":\"h\",\"unitId\":3,\"byteOrder\":\"BIG\",\"wordOrder\":\"BIG\",\"rpc\":["
    "{\"tag\":\"speed\",\"type\":\"16int\",\"functionCode\":6,\"address\":5},"
    "{\"tag\":\"modbus_own\",\"type\":\"16int\",\"functionCode\":6,\"address\":6},"
    "{\"tag\":\"level\",\"type\":\"16int\",\"functionCode\":3,\"address\":7,\"divider\":10},"
    "{\"tag\":\"odd\",\"type\":\"16int\",\"functionCode\":23,\"address\":7},"
    "{\"tag\":\"get\",\"type\":\"16int\",\"functionCode\":3,\"address\":8}],"
    "\"attributeUpdates\":[{\"tag\":\"x\",\"type\":\"16int\",\"functionCode\":6,\"address\":1},"
    "{\"tag\":\"x\",\"type\":\"16int\",\"functionCode\":16,\"address\":2},"
    "{\"tag\":\"y\",\"type\":\"16int\",\"functionCode\":6,\"address\":3}]},"
    "{\"deviceName\":\"B\",\"host\":\"h\",\"unitId\":4,\"byteOrder\":\"BIG\",\"wordOrder\":\"BIG\"}]},"
    "\"slave\":{\"host\":\"h\",\"unitId\":1,\"sendDataToThingsBoard\":true,\"deviceName\":\"Own\",\"byteOrder\":"
    "\"BIG\","
    "\"wordOrder\":\"BIG\",\"values\":{\"input_registers\":{\"attributeUpdates\":[{\"tag\":\"sp\",\"type\":\"16int\","
    "\"address\":4,\"functionCode\":6}],\"rpc\":[{\"tag\":\"show\",\"type\":\"16int\",\"address\":4,\"functionCode\":4}"
    "]}}}}";

static struct arena arena;
static struct conf *conf;
static const struct modbus_file *file;

static int setup(void **state)
{
    struct problems problems;

    (void)state;
    arena_init(&arena, 4096);
    problems_init(&problems);
    conf = conf_load_text(&modbus_conf_type, ".", "modbus.json", str_from(file_text), &problems);
    assert_non_null(conf);
    file = conf_root(conf);
    problems_fini(&problems);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    conf_unref(conf);
    arena_fini(&arena);
    return 0;
}

/* The answer of a refusal; or "unit function@address+count" of each call; "of a new connection: …". */
static const char *asked(const char *device, const char *method, const char *params)
{
    const struct modbus_asked_for ask = {str_from(device), str_from(method), params ? str_from(params) : STR_NONE};
    autobuf struct buf out = {0};
    struct modbus_calls calls;
    struct str answer;

    if (modbus_rpc(file, &ask, &arena, &calls, &answer) != ERR_OK)
        return arena_text(&arena, answer);
    if (calls.ad_hoc.p)
        buf_printf(&out, "new: " STR_FMT, STR_ARG(calls.ad_hoc));
    for (size_t i = 0; i < calls.n; i++) {
        const struct modbus_call *call = &calls.items[i];

        buf_printf(&out, "%s%u %u@%u+%u", i ? ", " : "", call->slave ? call->slave->unit : 0, call->function_code,
                   call->address, call->count);
        if (!call->slave)
            buf_printf(&out, " of %s", modbus_area_names[call->area]);
        if (call->is_write)
            buf_printf(&out, " =%u", call->write->registers[0]);
        if (call->echo.n)
            buf_printf(&out, " says " STR_FMT, STR_ARG(call->echo));
    }
    modbus_calls_fini(&calls);
    return arena_text(&arena, buf_str(&out));
}

static void test_each_form_of_a_call_becomes_its_request(void **state)
{
    static const struct {
        const char *device, *method, *params, *want;
    } cases[] = {
        {"A", "speed", "7", "3 6@5+1 =7 says 7"},
        {"A", "speed", "{\"value\":7}", "3 6@5+1 =7 says {\"value\":7}"},
        {"A", "speed", "\"9\"", "3 6@5+1 =9 says \"9\""},
        {"A", "modbus_own", "7", "3 6@6+1 =7 says 7"},
        {"A", "level", NULL, "3 3@7+1"},
        {"A", "level", "{}", "3 3@7+1 says {}"},
        {"A", "get", NULL, "3 3@8+1"}, /* an entry of that name, as the parameters are no text of the reserved form */
        {"A", "get", "\"type=16int;functionCode=3;objectsCount=1;address=9;\"", "3 3@9+1"},
        {"A", "set", "\"type=string;functionCode=16;objectsCount=2;address=9;value=a;b;\"",
         "3 16@9+2 =24891 says \"a;b\""},
        {"A", "modbus_any", "{\"type\":\"16int\",\"functionCode\":3,\"address\":1}", "3 3@1+1, 4 3@1+1"},
        {NULL, "modbus_any", "{\"type\":\"16uint\",\"functionCode\":\"6\",\"address\":\"1\",\"value\":5}",
         "3 6@1+1 =5 says 5, 4 6@1+1 =5 says 5"},
        {NULL, "modbus_any", "{\"type\":\"16uint\",\"functionCode\":3,\"address\":1,\"host\":\"h2\",\"unitId\":8}",
         "new: {\"type\":\"tcp\",\"deviceName\":\"modbus\",\"host\":\"h2\",\"unitId\":8}"},
        {NULL, "modbus_any",
         "{\"type\":\"serial\",\"port\":\"/dev/x\",\"deviceName\":\"D\",\"functionCode\":1,\"address\":1}",
         "new: {\"type\":\"serial\",\"port\":\"/dev/x\",\"deviceName\":\"D\"}"},
        {"Own", "show", NULL, "0 4@4+1 of input_registers"},
        {"Own", "set", "\"type=16int;functionCode=6;objectsCount=1;address=1;value=2;\"",
         "0 6@1+1 of holding_registers =2 says \"2\""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *got = asked(cases[i].device, cases[i].method, cases[i].params);

        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s %s: %s, expected %s", cases[i].method, cases[i].params, got, cases[i].want);
    }
}

static void test_what_cannot_be_asked_is_refused_in_the_form_of_the_page(void **state)
{
    static const struct {
        const char *device, *method, *params, *start;
    } cases[] = {
        {"A", "nothing", "1", "{\"result\":{\"error\":\"Method not found"},
        {"C", "speed", "1", "{\"result\":{\"error\":\"the connector has no such device"},
        {"A", "speed", "40000", "{\"result\":{\"error\":\"the value 40000"},
        {"A", "speed", "\"x\"", "{\"result\":{\"error\":\""},
        {"A", "speed", NULL, "{\"result\":{\"error\":\"there is no value"},
        {"A", "odd", NULL, "{\"result\":{\"error\":\"functionCode 23"},
        {"A", "set", "\"type=16int;functionCode=6;objectsCount=1;address=1;value=70000;\"",
         "{\"result\":{\"error\":\""},
        {"A", "set", "\"type=16int;functionCode=6;objectsCount=1;address=1;value=7\"", "{\"error\":\""},
        {"A", "set", "\"type=16int;functionCode=3;objectsCount=1;address=1;value=7;\"", "{\"error\":\""},
        {"A", "set", "\"type=16int;address=1;functionCode=6;objectsCount=1;value=7;\"", "{\"error\":\""},
        {"A", "set", "\"type=word;functionCode=6;objectsCount=1;address=1;value=7;\"", "{\"error\":\""},
        {"A", "set", "\"type=16int;functionCode=6;objectsCount=0;address=1;value=7;\"", "{\"error\":\""},
        {"A", "set", "\"type=16int;functionCode=6;objectsCount=1;address=65536;value=7;\"", "{\"error\":\""},
        {"A", "set", "7", "{\"error\":\""},
        {"B", "get", "\"type=16int;functionCode=6;objectsCount=1;address=1;\"", "{\"error\":\""},
        {"B", "get", NULL, "{\"error\":\""},
        {NULL, "modbus_a_b", "{}", "{\"error\":\""},
        {NULL, "modbus_a", "[]", "{\"error\":\"params must be an object"},
        {NULL, "modbus_a", "{\"type\":\"16int\",\"functionCode\":3}", "{\"error\":\"params need"},
        {NULL, "modbus_a", "{\"type\":\"16int\",\"functionCode\":9,\"address\":1}", "{\"error\":\"functionCode 9"},
        {NULL, "modbus_a", "{\"type\":\"string\",\"functionCode\":3,\"address\":1,\"objectsCount\":126}",
         "{\"error\":\"objectsCount 126"},
        {NULL, "modbus_a", "{\"type\":\"16int\",\"functionCode\":3,\"address\":65536}", "{\"error\":\"params need"},
        {NULL, "modbus_a", "{\"type\":\"32int\",\"functionCode\":3,\"address\":65535}", "{\"error\":\"the value ends"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *got = asked(cases[i].device, cases[i].method, cases[i].params);

        if (strncmp(got, cases[i].start, strlen(cases[i].start)) != 0)
            fail_msg("%s %s: %s, expected %s", cases[i].method, cases[i].params, got, cases[i].start);
    }
}

static void add_write(void *arg, const struct modbus_call *call)
{
    buf_printf(arg, "%u=%u ", call->address, call->write->registers[0]);
}

static void add_failure(void *arg, struct str tag, const struct why *why)
{
    (void)why;
    buf_printf(arg, STR_FMT "! ", STR_ARG(tag));
}

static void test_attributes_are_written_by_every_entry_of_their_name(void **state)
{
    static const struct {
        const char *device, *values, *want;
    } cases[] = {{"A", "{\"y\":3,\"x\":1,\"z\":9}", "1=1 2=1 3=3 "},
                 {"A", "{\"x\":\"no\",\"y\":3}", "x! x! 3=3 "},
                 {"B", "{\"x\":1}", ""},
                 {"Own", "{\"sp\":6}", "4=6 "}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        yyjson_doc *doc = json_read(str_from(cases[i].values), NULL);
        autobuf struct buf out = {0};

        modbus_updates(file, str_from(cases[i].device), yyjson_doc_get_root(doc), &arena, add_write, add_failure, &out);
        yyjson_doc_free(doc);
        if (!str_eq_z(buf_str(&out), cases[i].want))
            fail_msg("%s: %.*s", cases[i].values, (int)out.n, (const char *)out.p);
    }
}

static void test_a_device_in_the_parameters_has_the_presets_of_the_page(void **state)
{
    struct why why = {0};
    struct conf *made = modbus_ad_hoc_load(STR("{\"type\":\"tcp\",\"deviceName\":\"m\",\"host\":\"h\"}"), &why);

    (void)state;
    assert_non_null(made);
    assert_int_equal(((const struct modbus_slave *)conf_root(made))->wire.port_number, 502);
    conf_unref(made);
    assert_null(modbus_ad_hoc_load(STR("{\"type\":\"tcp\",\"deviceName\":\"m\"}"), &why));
    assert_non_null(strstr(why_text(&why), "host"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_form_of_a_call_becomes_its_request),
        cmocka_unit_test(test_what_cannot_be_asked_is_refused_in_the_form_of_the_page),
        cmocka_unit_test(test_attributes_are_written_by_every_entry_of_their_name),
        cmocka_unit_test(test_a_device_in_the_parameters_has_the_presets_of_the_page),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
