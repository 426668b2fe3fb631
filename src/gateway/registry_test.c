/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/registry.h"

#include "base/file.h"
#include "data/json.h"
#include "gateway/device_list.h"
#include "gateway/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static struct loop *loop;
static struct registry *registry;
static struct log test_log;
static char dir[64], path[128];
static struct buf told; /* what the uplink was told, a line each */

static void tell(void *arg, enum uplink_device_op op, struct device *const *devs, const char *const *wires, size_t n)
{
    static const char *const names[] = {"open", "close", "forget", "rename"};

    (void)arg;
    for (size_t i = 0; i < n; i++) {
        buf_printf(&told, "%s " STR_FMT, names[op], STR_ARG(device_name(devs[i])));
        if (op == UPLINK_DEVICE_RENAME) {
            buf_printf(&told, " %s", wires[i] ? wires[i] : "-");
            atomic_store(&devs[i]->platform_json, wires[i]);
        }
        buf_add_u8(&told, '\n');
    }
}

static void assert_told(const char *expected)
{
    buf_add_u8(&told, 0);
    assert_string_equal((char *)told.p, expected);
    told.n = 0;
}

static void begin(uint32_t inactive_s, bool handle_renaming)
{
    struct registry_conf conf = {.log = &test_log,
                                 .dir = dir,
                                 .like = dir,
                                 .handle_renaming = handle_renaming,
                                 .inactive_s = inactive_s,
                                 .check_s = 1,
                                 .link = {.devices = tell}};

    loop = conf.loop = loop_new_fake(1700000000000);
    registry = registry_new(&conf);
    registry_add_connector(registry, "mqtt", "Plant", STR("id-1"));
    registry_load(registry);
    told.n = 0;
}

static void end(void)
{
    registry_stop(registry);
    loop_advance(loop, 0);
    registry_free(registry);
    loop_free(loop);
}

/* As the connector's first sight of it does. */
static struct device *see(const char *name, const char *profile)
{
    struct device *dev = device_get(str_from(name));

    atomic_store(&dev->source, device_source_intern("mqtt", "Plant")->number);
    atomic_store(&dev->profile, device_profile_intern(str_from(profile)));
    atomic_store(&dev->owner, (struct ctx *)&test_log); /* is not looked into */
    atomic_store(&dev->last_ms, loop_mono_ms(loop));
    registry_seen(registry, NULL, dev);
    return dev;
}

static void unsee(struct device *dev)
{
    atomic_store(&dev->owner, NULL);
    atomic_store(&dev->platform_json, NULL);
}

static const char *file_text(struct buf *text)
{
    text->n = 0;
    if (file_read(text, path, 1 << 20, NULL))
        return "";
    buf_add_u8(text, 0);
    return (char *)text->p;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/registry-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/connected_devices.json", dir);
    log_init(&test_log, "test", LOG_LEVEL_OFF);
    return 0;
}

static int drop_dir(void **state)
{
    char aside[160];

    (void)state;
    snprintf(aside, sizeof aside, "%s.bad", path);
    unlink(aside);
    unlink(path);
    rmdir(dir);
    buf_fini(&told);
    told = (struct buf){0};
    return 0;
}

static void put(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_the_list_has_the_peers_form_and_is_written_once_a_second_at_most(void **state)
{
    autobuf struct buf text = {0};
    struct device *b, *a;

    (void)state;
    begin(0, true);
    b = see("list b", "pump");
    a = see("list \"a\"", "default");
    loop_advance(loop, 999);
    assert_string_equal(file_text(&text), "");
    loop_advance(loop, 1);
    assert_string_equal(file_text(&text), "{\n  \"list \\\"a\\\"\": {\n    \"connectorId\": \"id-1\",\n"
                                          "    \"connectorName\": \"Plant\",\n    \"deviceType\": \"default\",\n"
                                          "    \"disconnected\": false,\n    \"renaming\": null\n  },\n"
                                          "  \"list b\": {\n    \"connectorId\": \"id-1\",\n"
                                          "    \"connectorName\": \"Plant\",\n    \"deviceType\": \"pump\",\n"
                                          "    \"disconnected\": false,\n    \"renaming\": null\n  }\n}\n");
    unlink(path);
    loop_advance(loop, 5000);
    assert_string_equal(file_text(&text), ""); /* nothing has changed */
    atomic_store(&b->profile, device_profile_intern(STR("fan")));
    registry_seen(registry, NULL, b);
    loop_advance(loop, 1000);
    assert_non_null(strstr(file_text(&text), "fan"));
    unsee(a);
    unsee(b);
    end();
}

static void test_what_changed_last_is_written_at_the_stop(void **state)
{
    autobuf struct buf text = {0};
    struct device *dev;

    (void)state;
    begin(0, true);
    dev = see("late one", "x");
    registry_stop(registry);
    loop_advance(loop, 0);
    assert_non_null(strstr(file_text(&text), "late one"));
    unsee(dev);
    registry_free(registry);
    loop_free(loop);
}

static void test_all_forms_of_the_list_are_read(void **state)
{
    struct device *dev;
    autobuf struct buf text = {0};

    (void)state;
    put("{\"r obj\":{\"connectorId\":\"id-1\",\"connectorName\":\"former\",\"deviceType\":\"pump\",\"renaming\":null},"
        "\"r two\":[\"Plant\",\"meter\"],\"r three\":[\"Plant\",\"meter\",\"r new\"],\"r gone\":[\"None\",\"x\"],"
        "\"r kept\":[\"None\",\"x\",\"r other\"],\"r wrong\":5,\"<b>\":[\"Plant\",\"x\"]}");
    begin(0, true);
    dev = registry_by_platform_name(registry, STR("r obj"));
    assert_non_null(dev);
    assert_string_equal(atomic_load(&dev->profile), "pump");
    assert_string_equal(device_source_at(atomic_load(&dev->source))->name, "Plant");
    assert_non_null(registry_by_platform_name(registry, STR("r two")));
    assert_null(registry_by_platform_name(registry, STR("r three")));
    dev = registry_by_platform_name(registry, STR("r new"));
    assert_true(str_eq(device_name(dev), STR("r three")));
    assert_true(str_eq(registry_platform_name(dev), STR("r new")));
    assert_null(registry_by_platform_name(registry, STR("r gone")));
    assert_non_null(registry_by_platform_name(registry, STR("r other")));
    loop_advance(loop, 1000); /* what was dropped is not in the file any more */
    assert_null(strstr(file_text(&text), "r gone"));
    assert_non_null(strstr(file_text(&text), "\"renaming\": \"r new\""));
    assert_non_null(strstr(file_text(&text), "\"disconnected\": true"));
    end();
}

static void test_a_list_that_cannot_be_used_is_put_aside(void **state)
{
    static const char *const texts[] = {"{\"a\":", "[]", "{\"a\":\"Plant\",\"b\":[\"Plant\",\"x\"]}", "\xff"};
    autobuf struct buf text = {0};
    char aside[160];

    (void)state;
    snprintf(aside, sizeof aside, "%s.bad", path);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        put(texts[i]);
        begin(0, true);
        assert_int_equal(access(aside, F_OK), 0);
        assert_null(registry_by_platform_name(registry, STR("b")));
        loop_advance(loop, 1000);
        assert_string_equal(file_text(&text), "{}\n");
        end();
    }
    put(""); /* as a crash of the peer leaves it */
    unlink(aside);
    begin(0, true);
    assert_int_not_equal(access(aside, F_OK), 0);
    end();
}

static void test_renames_collapse_and_come_back(void **state)
{
    struct device *dev;

    (void)state;
    begin(0, true);
    dev = see("ren a", "x");
    assert_int_equal(registry_rename(registry, STR("ren a"), STR("ren b"), NULL), ERR_OK);
    assert_told("rename ren a \"ren b\"\nopen ren a\n");
    assert_int_equal(registry_rename(registry, STR("ren a"), STR("ren b"), NULL), ERR_OK); /* told twice */
    assert_told("");
    assert_ptr_equal(registry_by_platform_name(registry, STR("ren b")), dev);
    assert_null(registry_by_platform_name(registry, STR("ren a")));
    assert_int_equal(registry_rename(registry, STR("ren b"), STR("ren \"c\""), NULL), ERR_OK);
    assert_told("rename ren a \"ren \\\"c\\\"\"\nopen ren a\n");
    assert_null(registry_by_platform_name(registry, STR("ren b")));
    assert_ptr_equal(registry_by_platform_name(registry, STR("ren \"c\"")), dev);
    assert_int_equal(registry_rename(registry, STR("ren \"c\""), STR("ren a"), NULL), ERR_OK);
    assert_told("rename ren a -\nopen ren a\n");
    assert_ptr_equal(registry_by_platform_name(registry, STR("ren a")), dev);
    unsee(dev);
    end();
}

static void test_two_devices_swap_names_but_never_share_one(void **state)
{
    struct device *a, *b;

    (void)state;
    begin(0, true);
    a = see("swap a", "x");
    b = see("swap b", "x");
    assert_int_equal(registry_rename(registry, STR("swap a"), STR("swap b"), NULL), ERR_EXISTS);
    assert_int_equal(registry_rename(registry, STR("swap a"), STR("swap t"), NULL), ERR_OK);
    assert_int_equal(registry_rename(registry, STR("swap b"), STR("swap t"), NULL), ERR_EXISTS);
    assert_int_equal(registry_rename(registry, STR("swap b"), STR("swap a"), NULL), ERR_OK);
    assert_int_equal(registry_rename(registry, STR("swap t"), STR("swap b"), NULL), ERR_OK);
    assert_ptr_equal(registry_by_platform_name(registry, STR("swap a")), b);
    assert_ptr_equal(registry_by_platform_name(registry, STR("swap b")), a);
    assert_int_equal(registry_rename(registry, STR("swap a"), STR("<b>"), NULL), ERR_RANGE);
    assert_int_equal(registry_rename(registry, STR("swap a"), STR(""), NULL), ERR_RANGE);
    unsee(a);
    unsee(b);
    end();
}

static void check_request(void (*fn)(struct registry *, yyjson_val *, struct buf *), const char *params, bool is_ok)
{
    yyjson_doc *doc = params ? yyjson_read(params, strlen(params), YYJSON_READ_NUMBER_AS_RAW) : NULL;
    autobuf struct buf reply = {0};

    fn(registry, yyjson_doc_get_root(doc), &reply);
    buf_add_u8(&reply, 0);
    assert_non_null(strstr((char *)reply.p, is_ok ? "{\"success\":true}" : "{\"success\":false,\"error\":\""));
    yyjson_doc_free(doc);
}

static void test_requests_of_the_platform_are_answered_whatever_they_hold(void **state)
{
    (void)state;
    begin(0, true);
    check_request(registry_renamed, "{\"req a\":\"req b\",\"req c\":\"req d\"}", true);
    assert_told("rename req a \"req b\"\nopen req a\nrename req c \"req d\"\nopen req c\n");
    check_request(registry_renamed, "{}", false);
    check_request(registry_renamed, NULL, false);
    check_request(registry_renamed, "[\"req a\",\"x\"]", false);
    check_request(registry_renamed, "{\"req a\":5}", false);
    check_request(registry_renamed, "{\"\":\"x\"}", false);
    check_request(registry_deleted, "5", false);
    check_request(registry_deleted, NULL, false);
    check_request(registry_deleted, "\"nobody knows it\"", true);
    assert_told("");
    end();
    begin(0, false); /* handleDeviceRenaming */
    check_request(registry_renamed, "{\"req e\":\"req f\"}", true);
    assert_told("");
    end();
}

static void test_a_deleted_device_is_forgotten_until_its_next_data(void **state)
{
    autobuf struct buf text = {0};
    struct device *dev;

    (void)state;
    begin(0, true);
    dev = device_get(STR("del a"));
    atomic_store(&dev->source, device_source_intern("mqtt", "Plant")->number);
    assert_int_equal(registry_rename(registry, STR("del a"), STR("del b"), NULL), ERR_OK);
    told.n = 0;
    registry_delete(registry, STR("del b"));
    assert_told("forget del a\nrename del a -\n");
    assert_null(registry_by_platform_name(registry, STR("del b")));
    assert_null(registry_by_platform_name(registry, STR("del a")));
    loop_advance(loop, 1000);
    assert_null(strstr(file_text(&text), "del a"));
    (void)see("del a", "x");
    loop_advance(loop, 2000);
    assert_non_null(strstr(file_text(&text), "del a"));
    assert_ptr_equal(registry_by_platform_name(registry, STR("del a")), dev);
    unsee(dev);
    end();
}

static void test_devices_of_a_removed_connector_are_forgotten_or_go_to_its_heir(void **state)
{
    autobuf struct buf text = {0};

    (void)state;
    loop = loop_new_fake(1700000000000);
    registry = registry_new(
        &(struct registry_conf){.loop = loop, .log = &test_log, .dir = dir, .like = dir, .link = {.devices = tell}});
    registry_add_connector(registry, "mqtt", "Plant", STR("id-1"));
    registry_add_connector(registry, "mqtt", "Other", STR("id-2"));
    put("{\"h1\": [\"Plant\", \"x\"], \"h2\": [\"Plant\", \"x\", \"new h2\"], \"h3\": [\"Other\", \"x\"]}");
    registry_load(registry);
    registry_add_connector(registry, "mqtt", "Other now", STR("id-2"));
    registry_remove_connector(registry, "mqtt", "Other");
    registry_remove_connector(registry, "mqtt", "Plant");
    registry_remove_connector(registry, "mqtt", "never there");
    end();
    assert_null(strstr(file_text(&text), "\"h1\""));
    assert_non_null(strstr((char *)text.p, "new h2"));
    assert_non_null(strstr((char *)text.p, "Other now"));
    assert_null(strstr((char *)text.p, "id-2\",\"connectorName\":\"Other\""));
}

static void test_a_device_stays_known_whose_connector_stops_at_once(void **state)
{
    autobuf struct buf text = {0};
    struct device *dev;

    (void)state;
    begin(0, true);
    dev = see("brief", "x");
    registry_look(registry);
    atomic_store(&dev->owner, NULL);
    loop_advance(loop, 2000);
    assert_non_null(strstr(file_text(&text), "\"brief\""));
    unsee(dev);
    end();
}

static void test_inactivity_is_looked_at_from_when_it_is_switched_on(void **state)
{
    struct device *dev;

    (void)state;
    put("{\"i1\": [\"Plant\", \"x\", \"new i1\"]}");
    begin(0, true);
    dev = device_find(STR("i1"));
    loop_advance(loop, 60000);
    assert_told("");
    registry_tune(registry, &(struct registry_conf){.inactive_s = 5, .check_s = 1, .handle_renaming = true});
    loop_advance(loop, 2000);
    assert_told(""); /* nobody serves it */
    registry_tune(registry, &(struct registry_conf){.inactive_s = 0, .check_s = 1, .handle_renaming = true});
    loop_advance(loop, 60000);
    assert_told("");
    unsee(dev);
    end();
}

static void test_the_filter_matches_whole_names_and_allow_goes_before_deny(void **state)
{
    struct str deny[] = {STR("f x.*"), STR("(^[a-z]+@[a-z]+$)")}, allow[] = {STR("f x1")};
    struct filter_rules deny_rules = {.patterns = {deny, 2}}, allow_rules = {.patterns = {allow, 1}};
    struct conf_map_entry deny_entry = {.key = STR("Plant"), .value = &deny_rules};
    struct conf_map_entry allow_entry = {.key = STR("Plant"), .value = &allow_rules};
    struct filter_conf conf = {.deny = {&deny_entry, 1}, .allow = {&allow_entry, 1}};
    const struct device_source *plant = device_source_intern("mqtt", "Plant"),
                               *other = device_source_intern("mqtt", "Other");
    static const struct {
        const char *name;
        bool is_allowed, is_allowed_by_default_deny;
    } cases[] = {{"f x", false, false},  {"f x1", true, true},      {"f x12", false, false},
                 {"a f x", true, false}, {"me@home", false, false}, {"me@home1", true, false}};
    bool is_first;

    (void)state;
    for (unsigned by_default = 0; by_default < 2; by_default++) {
        conf.by_default = by_default ? FILTER_DENY : FILTER_ALLOW;
        struct filter *filter = filter_new(&conf);

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            struct device *dev = device_get(str_from(cases[i].name));
            bool expected = by_default ? cases[i].is_allowed_by_default_deny : cases[i].is_allowed;

            assert_int_equal(filter_allows(filter, plant, dev, &is_first), expected);
            assert_true(is_first); /* also where another filter had decided before */
            assert_int_equal(filter_allows(filter, plant, dev, &is_first), expected);
            assert_false(is_first);
            assert_int_equal(filter_allows(filter, other, dev, &is_first), !by_default);
        }
        filter_free(filter);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
        T(test_the_list_has_the_peers_form_and_is_written_once_a_second_at_most),
        T(test_what_changed_last_is_written_at_the_stop),
        T(test_all_forms_of_the_list_are_read),
        T(test_a_list_that_cannot_be_used_is_put_aside),
        T(test_renames_collapse_and_come_back),
        T(test_two_devices_swap_names_but_never_share_one),
        T(test_requests_of_the_platform_are_answered_whatever_they_hold),
        T(test_a_deleted_device_is_forgotten_until_its_next_data),
        T(test_devices_of_a_removed_connector_are_forgotten_or_go_to_its_heir),
        T(test_a_device_stays_known_whose_connector_stops_at_once),
        T(test_inactivity_is_looked_at_from_when_it_is_switched_on),
        T(test_the_filter_matches_whole_names_and_allow_goes_before_deny),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
