/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_conf.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a directory with files ---- */

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-conf-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static const char *const file_names[] = {"tb_gateway.json", "other.json", "logs.json", "list.json",   "statistics.json",
                                         "mqtt.json",       "slim.json",  "ca.pem",    ".credentials"};

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int remove_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(file_names); i++)
        unlink(path_of(file_names[i]));
    return 0;
}

static int remove_dir(void **state)
{
    remove_files(state);
    return rmdir(dir);
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* ---- connector types ---- */

struct toy {
    struct connector_common common;
    struct str topic;
};
static const struct field toy_fields[] = {F_STR(struct toy, topic, "topic", .need = true), F_END};
static const struct conf_type toy_type = {
    .name = "mqtt", .size = sizeof(struct toy), .fields = toy_fields, .base = &connector_common_type};

static const struct conf_type *toy_conf(const char *type, struct why *why)
{
    if (strcmp(type, "mqtt") == 0)
        return &toy_type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}
static void toy_each(void (*fn)(void *arg, const char *type), void *arg)
{
    fn(arg, "mqtt");
    fn(arg, "toy");
}
static const struct gateway_types toys = {toy_conf, toy_each};

/* ---- loading, with the report in which the directory is D ---- */

static char *report_of(const struct problems *problems)
{
    struct buf all = {0}, out = {0};
    struct str rest;
    size_t at;

    for (const struct problem *problem = problems->first; problem; problem = problem->next) {
        problem_add_text(&all, problem);
        buf_add_z(&all, "\n");
    }
    rest = buf_str(&all);
    while (rest.n && (at = str_find(rest, str_from(dir), 0)) != SIZE_MAX) {
        buf_add_str(&out, str_cut(rest, at));
        buf_add_z(&out, "D");
        rest = str_skip(rest, at + strlen(dir));
    }
    buf_add_str(&out, rest);
    buf_add_u8(&out, 0);
    buf_fini(&all);
    return (char *)out.p;
}

static struct gateway_conf *load(char **report)
{
    struct problems problems;
    struct gateway_conf *conf;

    problems_init(&problems);
    conf = gateway_conf_load(dir, &toys, &problems);
    *report = report_of(&problems);
    problems_fini(&problems);
    return conf;
}

#define LOGIN "\"security\":{\"accessToken\":\"t0ken\"}"
#define HEAD "{\"thingsboard\":{\"host\":\"h\"," LOGIN "},\n"
#define TAIL "\"storage\":{\"type\":\"memory\"}}"

static void test_a_small_file_has_all_defaults(void **state)
{
    char *report;
    struct gateway_conf *conf;
    const struct platform_conf *platform;

    (void)state;
    put("tb_gateway.json", HEAD TAIL);
    conf = load(&report);
    assert_string_equal(report, "");
    platform = conf->main->platform;
    assert_int_equal(platform->port, 1883);
    assert_int_equal(platform->keep_alive_s, 120);
    assert_int_equal(platform->qos, 1);
    assert_int_equal(platform->max_payload_bytes, 8196);
    assert_false(platform->has_max_payload);
    assert_int_equal(platform->min_pack_delay_ms, 50);
    assert_int_equal(platform->min_pack_values, 500);
    assert_true(platform->batch_devices);
    assert_true(platform->handle_renaming);
    assert_int_equal(platform->device_keep_alive, DEVICE_KEEP_ALIVE_AUTO);
    assert_int_equal(platform->device_keep_alive_s, 300);
    assert_true(str_eq(platform->rate[4], STR("DEFAULT_TELEMETRY_DP_RATE_LIMIT")));
    assert_int_equal(platform->security->type, SECURITY_ACCESS_TOKEN);
    assert_int_equal(platform->security->check_cert_period_s, 86400);
    assert_false(platform->use_tls);
    assert_null(platform->statistics);
    assert_int_equal(conf->main->storage->memory_capacity, 10000);
    assert_int_equal(conf->main->storage->memory_batch, 1000);
    assert_int_equal(conf->main->storage->overflow, STORAGE_BLOCK);
    assert_int_equal(conf->main->grpc->port, 9595);
    assert_false(conf->main->grpc->enabled);
    assert_int_equal(conf->n_connectors, 0);
    assert_int_equal(conf->rate_percent, 80);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_each_wrong_key_is_reported_with_its_place(void **state)
{
    static const struct {
        const char *text, *report;
        bool is_used;
    } cases[] = {
        {"{", "D/tb_gateway.json:1:2: the text ends in the middle; a closing bracket or quote is missing\n", false},
        {"{}", "D/tb_gateway.json:1:1: thingsboard: missing; expected an object; the file is not used\n", false},
        {"{\"thingsboard\":{}," TAIL,
         "D/tb_gateway.json:1:16: thingsboard.host: missing; expected text that is not empty; the file is not used\n",
         false},
        {"{\"industryos\":{\"host\":\"h\"," LOGIN "}," TAIL, "", true},
        {"{\"platform\":{\"host\":\"h\"," LOGIN "}," TAIL, "", true},
        {"{\"platform\":{\"host\":\"h\"," LOGIN "},\n\"thingsboard\":{\"host\":\"h\"," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:13: platform: found a second section for the platform; expected exactly one of "
         "\"thingsboard\", \"industryos\" or \"platform\"; the file is not used\n",
         false},
        {HEAD "\"ts\":5}", "D/tb_gateway.json:1:1: storage: warning: missing; up to 10000 events are kept in memory\n",
         true},
        {HEAD "\"storage\":{}}",
         "D/tb_gateway.json:2:11: storage.type: missing; expected one of \"memory\", \"file\" or \"sqlite\"; the file "
         "is not "
         "used\n",
         false},
        {HEAD "\"storage\":{\"type\":\"memroy\"}}",
         "D/tb_gateway.json:2:19: storage.type: found \"memroy\"; expected one of \"memory\", \"file\" or \"sqlite\"; "
         "the file "
         "is not used; did you mean \"memory\"?\n",
         false},
        {HEAD "\"storage\":{\"type\":\"file\"}}", "", true},
        {HEAD "\"storage\":{\"type\":\"sqlite\"}}", "", true},
        {HEAD "\"storage\":{\"type\":\"sqlite\",\"data_file_path\":\"./data/data.db\"}}",
         "D/tb_gateway.json:2:45: storage.data_file_path: warning: the file name \"data.db\" is ignored; the databases "
         "get names of their own in \"./data/\"\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"qos\":2,\n\"port\":\"x\"," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:34: thingsboard.qos: found 2; expected an integer from 0 to 1; the default 1 is used\n"
         "D/tb_gateway.json:2:8: thingsboard.port: found \"x\"; expected an integer from 1 to 65535; the default 1883 "
         "is used\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\"}," TAIL,
         "D/tb_gateway.json:1:16: thingsboard: \"security\" is missing; expected it or \"provisioning\", so that the "
         "gateway can "
         "log in\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"accesToken\",\"accessToken\":\"t0ken\"}}," TAIL,
         "D/tb_gateway.json:1:47: thingsboard.security.type: found \"accesToken\"; expected one of \"accessToken\", "
         "\"tlsAccessToken\", \"usernamePassword\", \"x509Certificate\", \"tlsPrivateKey\" or \"anonymous\"; the file "
         "is not "
         "used; did you mean \"accessToken\"?\n",
         false},
        {"{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"accessToken\",\"acessToken\":\"t0ken\"}}," TAIL,
         "D/tb_gateway.json:1:61: thingsboard.security.acessToken: warning: unknown key, which has no effect; did you "
         "mean "
         "\"accessToken\"?\n"
         "D/tb_gateway.json:1:39: thingsboard.security.accessToken: missing; \"type\" \"accessToken\" needs the "
         "gateway's "
         "token\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"t\",\"caCert\":\"/nowhere/"
         "ca.pem\",\"insecure\":true}},"
         "" TAIL,
         "D/tb_gateway.json:1:67: thingsboard.security.caCert: file /nowhere/ca.pem cannot be read; expected one "
         "relative to "
         "the configuration directory or with its full path\n"
         "D/tb_gateway.json:1:96: thingsboard.security.insecure: warning: the platform's name is not verified\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"accessToken\",\"accessToken\":\"t\",\n"
         "\"username\":\"u\",\"password\":\"t0ken\",\n\"clientId\":\"c\"}}," TAIL,
         "D/tb_gateway.json:2:12: thingsboard.security.username: warning: has no effect: the login is of type "
         "\"accessToken\"\n"
         "D/tb_gateway.json:2:27: thingsboard.security.password: warning: has no effect: the login is of type "
         "\"accessToken\"\n"
         "D/tb_gateway.json:3:12: thingsboard.security.clientId: warning: has no effect: the login is of type "
         "\"accessToken\"\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"usernamePassword\",\"username\":\"u\",\n"
         "\"accessToken\":\"t0ken\",\n\"cert\":\"tb_gateway.json\",\n\"privateKey\":\"tb_gateway.json\"}}," TAIL,
         "D/tb_gateway.json:2:15: thingsboard.security.accessToken: warning: has no effect: the login is of type "
         "\"usernamePassword\"\n"
         "D/tb_gateway.json:4:14: thingsboard.security.privateKey: warning: has no effect: the login is of type "
         "\"usernamePassword\"\n"
         "D/tb_gateway.json:3:8: thingsboard.security.cert: warning: has no effect: the login is of type "
         "\"usernamePassword\"\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"rateLimits\":\"10:1,x\",\"dpRateLimits\":\"10:1,60:60,\"," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:41: thingsboard.rateLimits: found \"10:1,x\"; expected LIMIT:SECONDS joined by commas, "
         "as "
         "\"10:1,60:60\"; the default \"DEFAULT_TELEMETRY_RATE_LIMIT\" is used\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"reportStrategy\":{\"type\":\"on_change\",\"ttl\":4.5}," LOGIN "}," TAIL,
         "", true},
        {"{\"thingsboard\":{\"host\":\"h\",\"reportStrategy\":{\"type\":\"on_report_period\",\"reportPeriod\":-1}"
         "," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:87: thingsboard.reportStrategy.reportPeriod: found -1; expected a number from 0 to 4e+09 "
         "(ms); "
         "thingsboard.reportStrategy is not used\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"reportStrategy\":{\"type\":\"on_report_period\",\"reportPeriod\":1}," LOGIN
         "}," TAIL,
         "D/tb_gateway.json:1:87: thingsboard.reportStrategy.reportPeriod: warning: found 1, expected at least 10 ms; "
         "10 is used\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"statistics\":{\"statsSendPeriodInSeconds\":1}," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:69: thingsboard.statistics.statsSendPeriodInSeconds: warning: found 1; 10 s is the least "
         "and is "
         "used\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\"proxy_host\":\"p\"," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:16: thingsboard.proxy_port: warning: missing; 8080 is used\n", true},
        {"{\"thingsboard\":{\"host\":\"h\",\"provisioning\":{\"type\":\"MQTT_BASIC\",\"provisionDeviceKey\":\"k\"}}"
         "," TAIL,
         "D/tb_gateway.json:1:43: thingsboard.provisioning.provisionDeviceSecret: missing; expected text that is not "
         "empty; "
         "thingsboard.provisioning is not used\n"
         "D/tb_gateway.json:1:16: thingsboard: \"security\" is missing; expected it or \"provisioning\", so that the "
         "gateway can "
         "log in\n",
         true},
        {HEAD "\"grpc\":{\"enabled\":true,\"keepaliveTimeMs\":3}," TAIL,
         "D/tb_gateway.json:2:42: grpc.keepaliveTimeMs: note: old name of \"keepAliveTimeMs\"\n"
         "D/tb_gateway.json:2:19: grpc.enabled: warning: has no effect in this version\n",
         true},
        {HEAD "\"admin\":{\"host\":\"0.0.0.0\",\"password\":\"p\"}," TAIL,
         "D/tb_gateway.json:2:17: admin.host: found \"0.0.0.0\", which others can reach; expected \"password\" and "
         "\"tls\" with "
         "it; the section is not used\n",
         true},
        {HEAD "\"extensions\":{\"isolation\":\"none\"}," TAIL,
         "D/tb_gateway.json:2:27: extensions.isolation: found \"none\"; expected one of \"process\" or \"shared\"; the "
         "default "
         "\"process\" is used\n"
         "D/tb_gateway.json:2:14: extensions: warning: has no effect in this version\n",
         true},
        {"{\"thingsboard\":{\"host\":\"h\",\n\"handleDeviceRenaming\":true,\"deviceKeepAlive\":\"auto\",\n"
         "\"deviceKeepAliveSeconds\":60,\"reportStrategyDataCacheCleanupInterval\":9,\n\"security\":{\"accessToken\":"
         "\"t\","
         "\"checkCertPeriod\":5,\n\"certificateDaysLeft\":5}}," TAIL,
         "", true},
        {"{\"thingsboard\":{\"host\":\"h\",\"keep_alive\":600," LOGIN "}," TAIL,
         "D/tb_gateway.json:1:41: thingsboard.keep_alive: warning: found 600; the platform ends silent connections: "
         "300 s "
         "is used\n",
         true},
        {HEAD "\"conectors\":[]," TAIL,
         "D/tb_gateway.json:2:1: conectors: warning: unknown key, which has no effect; did you mean \"connectors\"?\n",
         true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *report;
        struct gateway_conf *conf;

        put("tb_gateway.json", cases[i].text);
        conf = load(&report);
        assert_string_equal(report, cases[i].report);
        assert_null(strstr(report, "t0ken"));
        assert_int_equal(conf != NULL, cases[i].is_used);
        gateway_conf_free(conf);
        mem_free(report);
    }
}

static void test_a_connectors_name_can_be_shown(void **state)
{
    char *report;
    struct gateway_conf *conf;

    (void)state;
    put("mqtt.json", "{\"topic\":\"t\"}");
    put("tb_gateway.json", HEAD "\"connectors\":[\n"
                                "{\"type\":\"mqtt\",\"name\":\"A\",\"configuration\":\"mqtt.json\"},\n"
                                "{\"type\":\"mqtt\",\"name\":\"A\\u0000\",\"configuration\":\"mqtt.json\"},\n"
                                "{\"type\":\"mqtt\",\"name\":\"\\u001b[31m\",\"configuration\":\"mqtt.json\"}\n"
                                "]," TAIL);
    conf = load(&report);
    assert_string_equal(report, "D/tb_gateway.json:4:23: connectors[1].name: contains a control character (U+0000); "
                                "expected text that can be shown; the connector is not started\n"
                                "D/tb_gateway.json:5:23: connectors[2].name: contains a control character (U+001B); "
                                "expected text that can be shown; the connector is not started\n");
    assert_int_equal(conf->n_connectors, 1);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_each_connector_is_judged_by_itself(void **state)
{
    char *report;
    struct gateway_conf *conf;

    (void)state;
    put("mqtt.json", "{\"topic\":\"t\",\"logLevel\":\"DEBUG\",\"id\":\"i\"}");
    put("other.json", "{\"topik\":1}");
    put("slim.json", "{\"logLevel\":\"INFO\",\"name\":\"n\"}");
    put("tb_gateway.json",
        HEAD "\"connectors\":[\n"
             "{\"type\":\"MQTT\",\"name\":\"A\",\"configuration\":\"mqtt.json\"},\n"
             "{\"type\":\"mqtt\",\"name\":\"A\",\"configuration\":\"mqtt.json\"},\n"
             "{\"name\":\"B\",\"configuration\":\"mqtt.json\"},\n"
             "{\"type\":\"mqtt\",\"configuration\":\"mqtt.json\"},\n"
             "{\"type\":\"mqtt\",\"name\":\"C\"},\n"
             "{\"type\":\"mqtt\",\"name\":\"D\",\"configuration\":\"none.json\"},\n"
             "{\"type\":\"mqt\",\"name\":\"E\",\"configuration\":\"mqtt.json\"},\n"
             "{\"type\":\"own\",\"class\":\"X\",\"name\":\"F\",\"configuration\":\"mqtt.json\"},\n"
             "{\"type\":\"mqtt\",\"name\":\"G\",\"configuration\":\"other.json\"},\n"
             "{\"type\":\"mqtt\",\"name\":\"H\",\"configuration\":\"slim.json\",\"useGRPCForce\":true,\n"
             "\"id\":\"i\",\"configVersion\":\"3\",\"logLevel\":\"DEBUG\",\"enableRemoteLogging\":false,"
             "\"configurationJson\":{}}\n"
             "]," TAIL);
    conf = load(&report);
    assert_string_equal(
        report,
        "D/tb_gateway.json:5:1: connectors[2].type: missing; expected text that is not empty; connectors[2] is not "
        "used\n"
        "D/tb_gateway.json:6:1: connectors[3].name: missing; expected text that is not empty; connectors[3] is not "
        "used\n"
        "D/tb_gateway.json:7:1: connectors[4].configuration: missing; expected text that is not empty; connectors[4] "
        "is not "
        "used\n"
        "D/tb_gateway.json:8:43: connectors[5].configuration: found \"none.json\", which is not there; expected a "
        "file, "
        "relative to the configuration directory or with its full path; the connector is not started\n"
        "D/tb_gateway.json:13:6: connectors[9].id: note: has no effect; the connector's file counts\n"
        "D/tb_gateway.json:13:26: connectors[9].configVersion: note: has no effect; the connector's file counts\n"
        "D/tb_gateway.json:13:41: connectors[9].logLevel: note: has no effect; the connector's file counts\n"
        "D/tb_gateway.json:13:71: connectors[9].enableRemoteLogging: note: has no effect; the connector's file counts\n"
        "D/tb_gateway.json:13:97: connectors[9].configurationJson: note: has no effect; the connector's file counts\n"
        "D/tb_gateway.json:12:70: connectors[9].useGRPCForce: note: has no effect; the connector runs inside of the "
        "gateway\n"
        "D/tb_gateway.json:4:23: connectors[1].name: found \"A\", which is the name of connectors[0] already; expected "
        "another; connectors[1] is not used\n"
        "D/tb_gateway.json:9:9: connectors[6].type: found \"mqt\": there is no such connector type; expected one of "
        "\"mqtt\", "
        "\"toy\"; the connector is not started; did you mean \"mqtt\"?\n"
        "D/tb_gateway.json:10:9: connectors[7].type: warning: found \"own\" with \"class\": custom connectors have no "
        "effect in "
        "this version; the connector is not started\n"
        "D/other.json:1:2: topik: warning: unknown key, which has no effect; did you mean \"topic\"?\n"
        "D/other.json:1:1: topic: missing; expected text; the file is not used\n"
        "D/slim.json:1:1: warning: found \"logLevel\" and little else, which counts as no configuration; the connector "
        "is not "
        "started\n");
    assert_int_equal(conf->n_connectors, 6);
    assert_string_equal(conf->connectors[0].type, "mqtt");
    assert_string_equal(conf->connectors[0].name, "A");
    assert_non_null(conf->connectors[0].conf);
    assert_int_equal(((const struct toy *)conf_root(conf->connectors[0].conf))->common.log_level, LOG_LEVEL_DEBUG);
    for (size_t i = 1; i < conf->n_connectors; i++) {
        assert_null(conf->connectors[i].conf);
        assert_non_null(conf->connectors[i].reason);
    }
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_environment_goes_before_the_file_key_by_key(void **state)
{
    static const char *const variables[][2] = {{"TB_GW_HOST", "env.example"},
                                               {"TB_GW_PORT", "8883"},
                                               {"IOTGW_PORT", "8884"},
                                               {"TB_GW_PASSWORD", "t0ken"},
                                               {"username", "joe"},
                                               {"TB_GW_RATE_LIMITS", "1:1"},
                                               {"TB_GW_DEVICE_RATE_LIMITS", "2:1"},
                                               {"TB_DEFAULT_RATE_LIMIT_PERCENTAGE", "50"},
                                               {"TB_GW_CERT", ""}};
    char *report;
    struct gateway_conf *conf;
    const struct platform_conf *platform;

    (void)state;
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"type\":\"accessToken\",\"accessToken\":\"x\","
        "\"clientId\":\"kept\"}}," TAIL);
    for (size_t i = 0; i < COUNT_OF(variables); i++)
        setenv(variables[i][0], variables[i][1], 1);
    conf = load(&report);
    assert_string_equal(
        report, "environment variable username: username: warning: old name of TB_GW_USERNAME; it goes before the "
                "file's key\n"
                "D/tb_gateway.json:1:75: thingsboard.security.accessToken: note: has no effect: environment variables "
                "make the login one of type \"usernamePassword\"\n");
    platform = conf->main->platform;
    assert_true(str_eq(platform->host, STR("env.example")));
    assert_int_equal(platform->port, 8884);
    assert_int_equal(platform->security->type, SECURITY_USERNAME_PASSWORD);
    assert_true(str_eq(platform->security->username, STR("joe")));
    assert_true(str_eq(platform->security->client_id, STR("kept")));
    assert_true(str_eq(platform->rate[0], STR("1:1")));
    assert_true(str_eq(platform->rate[3], STR("2:1")));
    assert_true(str_eq(platform->rate[1], STR("DEFAULT_TELEMETRY_DP_RATE_LIMIT")));
    assert_int_equal(conf->rate_percent, 50);
    gateway_conf_free(conf);
    mem_free(report);
    setenv("IOTGW_PORT", "many", 1);
    conf = load(&report);
    assert_non_null(
        strstr(report, "environment variable IOTGW_PORT: thingsboard.port: found \"many\"; expected an integer from "
                       "1 to 65535; the default 1883 is used\n"));
    assert_null(strstr(report, "t0ken"));
    gateway_conf_free(conf);
    mem_free(report);
    for (size_t i = 0; i < COUNT_OF(variables); i++)
        unsetenv(variables[i][0]);
}

static void test_environment_alone_can_give_the_login(void **state)
{
    char *report;
    struct gateway_conf *conf;

    (void)state;
    put("tb_gateway.json", "{\"thingsboard\":{\"host\":\"h\"}," TAIL);
    setenv("TB_GW_ACCESS_TOKEN", "t0ken", 1);
    conf = load(&report);
    unsetenv("TB_GW_ACCESS_TOKEN");
    assert_string_equal(report, "");
    assert_int_equal(conf->main->platform->security->type, SECURITY_ACCESS_TOKEN);
    gateway_conf_free(conf);
    mem_free(report);
    setenv("TB_GW_PROVISIONING_DEVICE_KEY", "k", 1);
    conf = load(&report);
    assert_non_null(strstr(report, "warning: environment variable TB_GW_PROVISIONING_DEVICE_KEY has no effect without "
                                   "TB_GW_PROVISIONING_DEVICE_SECRET"));
    gateway_conf_free(conf);
    mem_free(report);
    setenv("TB_GW_PROVISIONING_DEVICE_SECRET", "t0ken", 1);
    conf = load(&report);
    unsetenv("TB_GW_PROVISIONING_DEVICE_KEY");
    unsetenv("TB_GW_PROVISIONING_DEVICE_SECRET");
    assert_string_equal(report, "");
    assert_true(conf->provision_from_env);
    assert_int_equal(conf->login, LOGIN_PROVISION);
    assert_int_equal(conf->main->platform->provisioning->type, PROVISION_ACCESS_TOKEN);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_tls_is_used_for_port_key_or_ca(void **state)
{
    static const struct {
        const char *keys;
        bool use_tls;
    } cases[] = {
        {"\"port\":8883," LOGIN, true},
        {"\"security\":{\"accessToken\":\"t\",\"tls\":true}", true},
        {"\"security\":{\"accessToken\":\"t\",\"caCert\":\"ca.pem\"}", true},
        {"\"security\":{\"type\":\"tlsAccessToken\",\"accessToken\":\"t\"}", true},
        {"\"security\":{\"type\":\"usernamePassword\",\"username\":\"u\"}", false},
        {"\"security\":{}", false},
    };

    (void)state;
    put("ca.pem", "x");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[300], *report;
        struct gateway_conf *conf;

        snprintf(text, sizeof text, "{\"thingsboard\":{\"host\":\"h\",%s}," TAIL, cases[i].keys);
        put("tb_gateway.json", text);
        conf = load(&report);
        assert_string_equal(report, "");
        assert_int_equal(conf->main->platform->use_tls, cases[i].use_tls);
        if (conf->main->platform->security->ca_cert_path)
            assert_string_equal(conf->main->platform->security->ca_cert_path, path_of("ca.pem"));
        gateway_conf_free(conf);
        mem_free(report);
    }
}

static void test_renaming_key_of_the_section_goes_before_the_one_outside(void **state)
{
    static const struct {
        const char *text;
        bool handle;
    } cases[] = {
        {HEAD TAIL, true},
        {HEAD "\"handleDeviceRenaming\":false," TAIL, false},
        {"{\"thingsboard\":{\"host\":\"h\",\"handleDeviceRenaming\":true," LOGIN
         "},\"handleDeviceRenaming\":false," TAIL,
         true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *report;
        struct gateway_conf *conf;

        put("tb_gateway.json", cases[i].text);
        conf = load(&report);
        assert_int_equal(conf->main->platform->handle_renaming, cases[i].handle);
        gateway_conf_free(conf);
        mem_free(report);
    }
}

static void test_log_file_is_read_and_judged(void **state)
{
    char *report;
    struct gateway_conf *conf;
    const struct logger_conf *service;

    (void)state;
    put("tb_gateway.json", HEAD TAIL);
    put("logs.json",
        "{\"version\":1,\"handlers\":{\"a\":{\"class\":\"logging.StreamHandler\",\"level\":0},\n"
        "\"b\":{\"class\":\"logging.SysLogHandler\"},\n"
        "\"c\":{\"class\":\"x.TimedRotatingFileHandler\",\"filename\":\"f\",\"when\":\"d\",\"formatter\":\"F\"}},\n"
        "\"loggers\":{\"service\":{\"level\":10,\"handlers\":[\"a\",\"b\"]},\"storage\":{\"level\":\"LOUD\"},\n"
        "\"connector\":{\"level\":\"DEBUG\"},\"database\":{\"propagate\":false},\"A \u00fc\":{\"level\":\"INFO\"}}}");
    conf = load(&report);
    assert_string_equal(
        report,
        "D/logs.json:2:14: handlers.b.class: found \"logging.SysLogHandler\"; expected a StreamHandler, "
        "TimedRotatingFileHandler, RotatingFileHandler or FileHandler; the handler is not used\n"
        "D/logs.json:4:75: loggers.storage.level: found \"LOUD\"; expected one of \"INFO\", \"NONE\", \"NOTSET\", "
        "\"CRITICAL\", \"ERROR\", \"WARNING\", \"WARN\", \"DEBUG\", \"TRACE\", \"0\", \"5\", \"10\", \"20\", \"30\", "
        "\"40\", "
        "\"50\" or \"100\"; the default \"INFO\" is used\n"
        "D/logs.json:3:81: handlers.c.formatter: found \"F\", which is no usable entry of \"formatters\"; lines have "
        "the "
        "program's own form\n"
        "D/logs.json:4:45: loggers.service.handlers: found \"b\", which is no usable entry of \"handlers\"; it is left "
        "out\n"
        "D/logs.json:4:11: loggers: note: the level of \"connector\" does not count: connectors have \"logLevel\" in "
        "their own files\n");
    service = conf->logs->loggers.items[0].value;
    assert_int_equal(service->level, LOG_LEVEL_DEBUG);
    assert_int_equal(conf->logs->root->level, LOG_LEVEL_INFO);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_filter_and_statistics_files_are_read_when_they_are_named(void **state)
{
    char *report;
    struct gateway_conf *conf;
    const struct command_file_conf *file;
    const struct filter_rules *rules;

    (void)state;
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\"," LOGIN ",\"deviceFiltering\":{\"enable\":true,\"filterFile\":"
        "\"list.json\"},\"statistics\":{\"enable\":true,\"configuration\":\"statistics.json\"}}," TAIL);
    put("list.json", "{\"deny\":{\"A B\":[\"x.*\",\"(\",5]},\"default\":\"deny\"}");
    put("statistics.json", "[{\"attributeOnGateway\":\"a\",\"command\":\"uptime\"},\n"
                           "{\"attributeOnGateway\":\"b\",\"command\":[\"/bin/ls\",\"-l\"],\"timeout\":1.5},\n"
                           "{\"attributeOnGateway\":\"c\",\"command\":7},{\"command\":\"x\"}]");
    conf = load(&report);
    assert_string_equal(
        report,
        "D/list.json:1:23: deny[\"A B\"][1]: found \"(\", which is no regular expression: missing closing parenthesis "
        "at "
        "character 2; it is not used\n"
        "D/list.json:1:27: deny[\"A B\"][2]: found something else than text; expected a regular expression; it is not "
        "used\n"
        "D/statistics.json:3:37: [2].command: found neither text nor a list of texts; the command is not used\n"
        "D/statistics.json:3:40: [3].attributeOnGateway: missing; expected text that is not empty; [3] is not used\n");
    assert_int_equal(conf->filter->by_default, FILTER_DENY);
    rules = conf->filter->deny.items[0].value;
    assert_int_equal(rules->patterns.n, 1);
    file = conf_root(conf->commands_file);
    assert_int_equal(file->commands.n, 2);
    assert_int_equal(((const struct command_conf *)file->commands.items[0])->argv.n, 3);
    assert_true(str_eq(((const struct command_conf *)file->commands.items[1])->argv.items[1], STR("-l")));
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_a_missing_filter_file_is_an_error(void **state)
{
    char *report;
    struct gateway_conf *conf;

    (void)state;
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\"," LOGIN ",\"deviceFiltering\":{\"enable\":true,\"filterFile\":"
        "\"list.json\"}}," TAIL);
    conf = load(&report);
    assert_non_null(strstr(report, "D/list.json: cannot be opened"));
    assert_null(conf->filter);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_a_missing_file_of_commands_is_an_empty_one(void **state)
{
    char *report;
    struct gateway_conf *conf;

    (void)state;
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\"," LOGIN ",\"statistics\":{\"enable\":true,\"statsSendPeriodInSeconds\":60,"
        "\"configuration\":\"own.json\"}}," TAIL);
    conf = load(&report);
    assert_non_null(strstr(report, "thingsboard.statistics: warning: \"configuration\" names \"own.json\""));
    assert_int_equal(conf->n_errors.commands, 0);
    assert_null(conf->commands_file);
    gateway_conf_free(conf);
    mem_free(report);
}

static void test_stored_credentials_are_enough_to_log_in(void **state)
{
    struct gateway_conf *conf;
    char *report;

    (void)state;
    put("tb_gateway.json", "{\"thingsboard\":{\"host\":\"h\"}," TAIL);
    put(".credentials", "{\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t0ken\",\"status\":\"SUCCESS\"}");
    conf = load(&report);
    assert_string_equal(report, "");
    assert_int_equal(conf->login, LOGIN_STORED);
    assert_true(str_eq_z(conf->stored.username, "t0ken"));
    gateway_conf_free(conf);
    mem_free(report);
    put(".credentials", "{}");
    gateway_conf_free(load(&report));
    assert_non_null(strstr(report, "D/.credentials: credentialsType: expected \"ACCESS_TOKEN\""));
    assert_non_null(strstr(report, "\"security\" is missing"));
    mem_free(report);
}

static void test_sources_of_credentials_have_their_order(void **state)
{
    struct gateway_conf *conf;
    char *report;

    (void)state;
    put(".credentials", "{\"credentialsType\":\"ACCESS_TOKEN\",\"credentialsValue\":\"t0ken\"}");
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"a\"},\"provisioning\":"
        "{\"type\":\"access_token\",\"provisionDeviceKey\":\"k\",\"provisionDeviceSecret\":\"s\"}}," TAIL);
    conf = load(&report);
    assert_int_equal(conf->login, LOGIN_SECURITY);
    assert_non_null(strstr(report, "thingsboard.provisioning: warning: has no effect, because there is \"security\""));
    gateway_conf_free(conf);
    mem_free(report);
    setenv("TB_GW_PROVISIONING_DEVICE_KEY", "k", 1);
    setenv("TB_GW_PROVISIONING_DEVICE_SECRET", "s", 1);
    conf = load(&report);
    assert_int_equal(conf->login, LOGIN_STORED);
    gateway_conf_free(conf);
    mem_free(report);
    unlink(path_of(".credentials"));
    conf = load(&report);
    assert_int_equal(conf->login, LOGIN_PROVISION);
    gateway_conf_free(conf);
    mem_free(report);
    unsetenv("TB_GW_PROVISIONING_DEVICE_KEY");
    unsetenv("TB_GW_PROVISIONING_DEVICE_SECRET");
}

static void test_the_main_file_may_have_any_name(void **state)
{
    struct buf folder = {0}, file = {0};

    (void)state;
    put("other.json", HEAD TAIL);
    gateway_conf_dir(&folder, &file, path_of("other.json"));
    assert_true(str_eq_z(buf_str(&file), path_of("other.json")));
    assert_true(str_eq_z(buf_str(&folder), path_of("")));
    folder.n = file.n = 0;
    gateway_conf_dir(&folder, &file, dir);
    assert_true(str_eq_z(buf_str(&file), path_of("tb_gateway.json")));
    folder.n = file.n = 0;
    setenv("TB_GW_CONFIG_DIR", dir, 1);
    gateway_conf_dir(&folder, &file, NULL);
    unsetenv("TB_GW_CONFIG_DIR");
    assert_true(str_eq_z(buf_str(&folder), path_of("")));
    folder.n = file.n = 0;
    gateway_conf_dir(&folder, &file, "plain.json");
    assert_true(str_eq(buf_str(&folder), STR("./")));
    buf_fini(&folder);
    buf_fini(&file);
}

/* Both descriptions come from the same tables and name every key. */
static void test_every_key_is_in_schema_and_reference(void **state)
{
    static const struct conf_type *const types[] = {&main_conf_type, &logs_conf_type, &filter_conf_type,
                                                    &command_file_type};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct buf schema = {0}, reference = {0};
        struct json_file *file;
        struct why why = {0};

        conf_schema(&schema, types[i], "x");
        conf_reference(&reference, types[i], "x");
        assert_int_equal(json_file_parse(&file, "schema", buf_str(&schema), &why), ERR_OK);
        for (const struct field *field = types[i]->fields; field->type != FIELD_END; field++) {
            char cell[100];

            if (field->type == FIELD_AT)
                continue;
            snprintf(cell, sizeof cell, "| `%s` |", field->key);
            assert_int_not_equal(str_find(buf_str(&reference), str_from(cell), 0), SIZE_MAX);
        }
        json_file_free(file);
        buf_fini(&schema);
        buf_fini(&reference);
    }
}

#define TEST(f) cmocka_unit_test_teardown(f, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_small_file_has_all_defaults),
        TEST(test_each_wrong_key_is_reported_with_its_place),
        TEST(test_a_connectors_name_can_be_shown),
        TEST(test_each_connector_is_judged_by_itself),
        TEST(test_environment_goes_before_the_file_key_by_key),
        TEST(test_environment_alone_can_give_the_login),
        TEST(test_tls_is_used_for_port_key_or_ca),
        TEST(test_renaming_key_of_the_section_goes_before_the_one_outside),
        TEST(test_log_file_is_read_and_judged),
        TEST(test_filter_and_statistics_files_are_read_when_they_are_named),
        TEST(test_a_missing_filter_file_is_an_error),
        TEST(test_a_missing_file_of_commands_is_an_empty_one),
        TEST(test_stored_credentials_are_enough_to_log_in),
        TEST(test_sources_of_credentials_have_their_order),
        TEST(test_the_main_file_may_have_any_name),
        TEST(test_every_key_is_in_schema_and_reference),
    };

    /* What the machine's environment has must not count. */
    clearenv();
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
