/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- helpers --------------------------------------------------------------------------------------------------------- */

static const enum mqtt_version versions[] = {MQTT_31, MQTT_311, MQTT_5};

static struct str bytes_of(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (const char *p = hex; *p;) {
        char digits[3] = {0};

        if (*p == ' ') {
            p++;
            continue;
        }
        memcpy(digits, p, 2);
        out[n++] = (uint8_t)strtoul(digits, NULL, 16);
        p += 2;
    }
    return str_of(out, n);
}

/* The body of the one packet in out, whose form is checked on the way. */
static struct str body_of(const struct buf *out, enum mqtt_version version, enum mqtt_type type)
{
    size_t header_n, length = mqtt_packet_length(out->p, out->n, &header_n);

    assert_int_equal(length, out->n);
    assert_int_equal(out->p[0] >> 4, type);
    assert_int_equal(mqtt_check_header(version, out->p, header_n, NULL), ERR_OK);
    return str_of(out->p + header_n, length - header_n);
}

static void assert_bytes(const struct buf *out, const char *hex)
{
    uint8_t expected[256];
    struct str want = bytes_of(hex, expected);

    assert_int_equal(out->n, want.n);
    assert_memory_equal(out->p, want.p, want.n);
}

/* --- fixed header ------------------------------------------------------------------------------------------------------ */

static void test_lengths_are_read_from_one_to_four_bytes(void **state)
{
    static const struct {
        const char *hex;
        size_t length, header_n;
    } cases[] = {
        {"c0", 0, 2},
        {"c000", 2, 2},
        {"307f", 129, 2},
        {"3080", 0, 3},
        {"308001", 131, 3},
        {"30ff7f", 16386, 3},
        {"30808001", 16388, 4},
        {"30ffff7f", 2097155, 4},
        {"30ffffff", 0, 5},
        {"3080808001", 2097157, 5},
        {"30ffffff7f", 268435460, 5},
        {"30ffffffff", SIZE_MAX, 5},
        {"3080808080", SIZE_MAX, 5},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t bytes[16];
        struct str s = bytes_of(cases[i].hex, bytes);
        size_t header_n = 0;

        assert_true(mqtt_packet_length(bytes, s.n, &header_n) == cases[i].length);
        assert_int_equal(header_n, cases[i].header_n);
    }
}

static void test_fixed_headers_that_are_forbidden_are_refused(void **state)
{
    static const struct {
        const char *hex;
        bool in_31, in_311, in_5;
    } cases[] = {
        {"0000", false, false, false}, /* type 0 */
        {"1000", true, true, true},    {"1100", true, false, false},  {"2000", true, true, true},
        {"2800", true, false, false},  {"3000", true, true, true},    {"3100", true, true, true},
        {"3200", true, true, true},    {"3b00", true, true, true},    {"3600", false, false, false}, /* QoS 3 */
        {"3e00", false, false, false}, {"3800", true, false, false}, /* DUP with QoS 0 */
        {"4000", true, true, true},    {"4200", true, false, false},  {"6200", true, true, true},
        {"6000", false, false, false}, {"6a00", true, false, false},  {"8200", true, true, true},
        {"8000", false, false, false}, {"8300", true, false, false},  {"a200", true, true, true},
        {"a000", false, false, false}, {"c000", true, true, true},    {"d000", true, true, true},
        {"e000", true, true, true},    {"e100", true, false, false},  {"f000", false, false, true},
        {"f100", false, false, false}, {"c08000", true, true, false}, /* not the fewest bytes */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const bool expected[] = {cases[i].in_31, cases[i].in_311, cases[i].in_5};
        uint8_t bytes[16];
        struct str s = bytes_of(cases[i].hex, bytes);

        for (size_t v = 0; v < COUNT_OF(versions); v++) {
            struct why why = {0};

            if ((mqtt_check_header(versions[v], bytes, s.n, &why) == ERR_OK) != expected[v])
                fail_msg("header %s in version %d: %s", cases[i].hex, versions[v], why_text(&why));
        }
    }
}

/* --- bodies that must be refused ---------------------------------------------------------------------------------------- */

enum reader { CONNECT, CONNACK, PUBLISH, PUBLISH1, ACK, SUBSCRIBE, UNSUBSCRIBE, SUBACK, UNSUBACK, DISCONNECT };

static enum err read_any(enum reader reader, enum mqtt_version version, struct str body)
{
    struct mqtt_connect_packet connect;
    struct mqtt_connack connack;
    struct mqtt_publish_packet publish;
    struct mqtt_ack_packet ack;
    struct mqtt_subscribe_reader subscribe;
    struct mqtt_filter filter;
    struct str codes;
    uint16_t id;
    uint8_t code;

    switch (reader) {
    case CONNECT:
        return mqtt_read_connect(&connect, body, NULL);
    case CONNACK:
        return mqtt_read_connack(&connack, version, body, NULL);
    case PUBLISH:
        return mqtt_read_publish(&publish, version, 0x30, body, NULL);
    case PUBLISH1:
        return mqtt_read_publish(&publish, version, 0x32, body, NULL);
    case ACK:
        return mqtt_read_ack(&ack, version, body, NULL);
    case SUBSCRIBE:
    case UNSUBSCRIBE:
        if (mqtt_read_subscribe(&subscribe, version, reader == UNSUBSCRIBE, body))
            return subscribe.err;
        while (mqtt_next_filter(&subscribe, &filter))
            ;
        return subscribe.err;
    case SUBACK:
    case UNSUBACK:
        return mqtt_read_suback(&id, &codes, version, reader == UNSUBACK, body);
    case DISCONNECT:
        return mqtt_read_disconnect(&code, body);
    }
    return ERR_OK;
}

static const struct body_case {
    enum reader reader;
    enum mqtt_version version;
    const char *hex;
    enum err err;
    const char *what;
} body_cases[] = {
    {CONNECT, 4, "00044d515454 04 02 003c 0000", ERR_OK, "least CONNECT of 3.1.1"},
    {CONNECT, 4, "00044d515454 04 03 003c 0000", ERR_PROTO, "reserved flag, MQTT-3.1.2-3"},
    {CONNECT, 4, "00044d515454 06 02 003c 0000", ERR_UNSUPPORTED, "unknown level, MQTT-3.1.2-2"},
    {CONNECT, 4, "00044d515458 04 02 003c 0000", ERR_UNSUPPORTED, "unknown name, MQTT-3.1.2-1"},
    {CONNECT, 4, "00044d515454 03 02 003c 0000", ERR_UNSUPPORTED, "name of 3.1.1 with level 3"},
    {CONNECT, 4, "00064d514973647004 02 003c 0000", ERR_UNSUPPORTED, "name of 3.1 with level 4"},
    {CONNECT, 4, "00044d515454 04 1a 003c 0000", ERR_PROTO, "will QoS without will, MQTT-3.1.2-13"},
    {CONNECT, 4, "00044d515454 04 22 003c 0000", ERR_PROTO, "will retain without will, MQTT-3.1.2-15"},
    {CONNECT, 4, "00044d515454 04 1e 003c 0000 000174 0000", ERR_PROTO, "will QoS 3, MQTT-3.1.2-14"},
    {CONNECT, 4, "00044d515454 04 06 003c 0000 000174 000178", ERR_OK, "will"},
    {CONNECT, 4, "00044d515454 04 06 003c 0000 000123 000178", ERR_PROTO, "will topic with wildcard"},
    {CONNECT, 4, "00044d515454 04 06 003c 0000 000174", ERR_PROTO, "will payload missing"},
    {CONNECT, 4, "00044d515454 04 42 003c 0000 000170", ERR_PROTO, "password without user name, MQTT-3.1.2-22"},
    {CONNECT, 4, "00044d515454 04 82 003c 0000", ERR_PROTO, "user name missing, MQTT-3.1.2-19"},
    {CONNECT, 4, "00044d515454 04 82 003c 0000 000175 00", ERR_PROTO, "trailing byte"},
    {CONNECT, 4, "00044d515454 04 02 003c 0002c328", ERR_PROTO, "client id is not UTF-8, MQTT-3.1.3-4"},
    {CONNECT, 4, "00044d515454 04 02 003c 000100", ERR_PROTO, "U+0000, MQTT-1.5.3-2"},
    {CONNECT, 4, "00044d515454 04 02 003c 0003eda080", ERR_PROTO, "surrogate, MQTT-1.5.3-1"},
    {CONNECT, 4, "00044d515454 04", ERR_PROTO, "cut off"},
    {CONNECT, 3, "00064d514973647003 02 003c 000161", ERR_OK, "least CONNECT of 3.1"},
    {CONNECT, 3, "00064d514973647003 c2 003c 000161", ERR_OK, "3.1: the length wins over the user name flag"},
    {CONNECT, 5, "00044d515454 05 02 003c 00 0000", ERR_OK, "least CONNECT of 5"},
    {CONNECT, 5, "00044d515454 05 42 003c 00 0000 000170", ERR_OK, "5: password alone"},
    {CONNECT, 5, "00044d515454 05 02 003c 03210000 0000", ERR_PROTO, "receive maximum 0, 3.1.2.11.3"},
    {CONNECT, 5, "00044d515454 05 02 003c 06210001210001 0000", ERR_PROTO, "receive maximum twice"},
    {CONNECT, 5, "00044d515454 05 02 003c 052700000000 0000", ERR_PROTO, "maximum packet size 0, 3.1.2.11.4"},
    {CONNECT, 5, "00044d515454 05 02 003c 021902 0000", ERR_PROTO, "request response information 2"},
    {CONNECT, 5, "00044d515454 05 02 003c 04160001aa 0000", ERR_PROTO, "authentication data without method"},
    {CONNECT, 5, "00044d515454 05 02 003c 0712000000000000 0000", ERR_PROTO, "property of another packet"},
    {CONNECT, 5, "00044d515454 05 02 003c 0101 0000", ERR_PROTO, "property cut off"},
    {CONNECT, 5, "00044d515454 05 02 003c 022600 0000", ERR_PROTO, "user property cut off"},
    {CONNECT, 5, "00044d515454 05 06 003c 00 0000 05 1800000001 000174 0000", ERR_OK, "will delay"},
    {CONNECT, 5, "00044d515454 05 06 003c 00 0000 03 230001 000174 0000", ERR_PROTO, "topic alias in a will"},
    {CONNACK, 4, "0000", ERR_OK, "accepted"},
    {CONNACK, 4, "0200", ERR_PROTO, "reserved flags"},
    {CONNACK, 4, "00", ERR_PROTO, "cut off"},
    {CONNACK, 4, "000000", ERR_PROTO, "too long"},
    {CONNACK, 3, "ff00", ERR_OK, "3.1: the first byte is reserved"},
    {CONNACK, 5, "000000", ERR_OK, "no properties"},
    {CONNACK, 5, "0000", ERR_PROTO, "accepted without property length"},
    {CONNACK, 5, "0001", ERR_OK, "refusal by a server without version 5"},
    {CONNACK, 5, "000003210000", ERR_PROTO, "receive maximum 0, 3.2.2.3.3"},
    {CONNACK, 5, "0000022402", ERR_PROTO, "maximum QoS 2, 3.2.2.3.4"},
    {CONNACK, 5, "0000022502", ERR_PROTO, "retain available 2"},
    {CONNACK, 5, "0000052700000000", ERR_PROTO, "maximum packet size 0, 3.2.2.3.6"},
    {CONNACK, 5, "00000624012401", ERR_PROTO, "property length beyond the end"},
    {CONNACK, 5, "00000424012401", ERR_PROTO, "maximum QoS twice"},
    {CONNACK, 5, "000006130001130001", ERR_PROTO, "server keep alive twice"},
    {CONNACK, 5, "0000051200020061", ERR_PROTO, "U+0000 in the assigned client id"},
    {CONNACK, 5, "00000101", ERR_PROTO, "payload format indicator in CONNACK"},
    {CONNACK, 5, "00000e26000161000162 26000161000163", ERR_OK, "user properties may repeat"},
    {CONNACK, 5, "0000800000", ERR_PROTO, "property length is not encoded in the fewest bytes"},
    {CONNACK, 5, "0000ffffffff7f", ERR_PROTO, "property length of five bytes"},
    {PUBLISH, 4, "000161 78", ERR_OK, "topic and payload"},
    {PUBLISH, 4, "000161", ERR_OK, "empty payload"},
    {PUBLISH, 4, "0000", ERR_PROTO, "empty topic, MQTT-4.7.3-1"},
    {PUBLISH, 4, "00", ERR_PROTO, "cut off"},
    {PUBLISH, 4, "000561", ERR_PROTO, "topic longer than the packet"},
    {PUBLISH, 4, "000161 00", ERR_OK, "payload is any bytes"},
    {PUBLISH, 4, "00012b", ERR_PROTO, "topic is +, MQTT-3.3.2-2"},
    {PUBLISH, 4, "0003612f23", ERR_PROTO, "topic has #"},
    {PUBLISH, 4, "0003610062", ERR_PROTO, "topic has U+0000"},
    {PUBLISH, 4, "0003c3a461", ERR_OK, "topic in UTF-8"},
    {PUBLISH, 4, "0002c328", ERR_PROTO, "topic is not UTF-8"},
    {PUBLISH1, 4, "000161", ERR_PROTO, "identifier missing"},
    {PUBLISH1, 4, "000161 0000", ERR_OK, "identifier 0 is tolerated"},
    {PUBLISH, 5, "000161", ERR_PROTO, "property length missing"},
    {PUBLISH, 5, "000161 00", ERR_OK, "no properties"},
    {PUBLISH, 5, "0000 03230001", ERR_OK, "alias instead of the topic"},
    {PUBLISH, 5, "0000 00", ERR_PROTO, "neither topic nor alias"},
    {PUBLISH, 5, "0000 03230000", ERR_PROTO, "alias 0, 3.3.2.3.4"},
    {PUBLISH, 5, "000161 06230001230001", ERR_PROTO, "alias twice"},
    {PUBLISH, 5, "000161 020102", ERR_PROTO, "payload format 2"},
    {PUBLISH, 5, "000161 020b00", ERR_PROTO, "subscription identifier 0, 3.3.2.3.8"},
    {PUBLISH, 5, "000161 040b010b02", ERR_OK, "two subscription identifiers"},
    {PUBLISH, 5, "000161 0408000123", ERR_PROTO, "response topic with wildcard, MQTT-3.3.2-14"},
    {PUBLISH, 5, "000161 040800012f", ERR_OK, "response topic"},
    {PUBLISH, 5, "000161 0511000000 01", ERR_PROTO, "session expiry in PUBLISH"},
    {PUBLISH, 5, "000161 017f", ERR_PROTO, "unknown property"},
    {PUBLISH, 5, "000161 09", ERR_PROTO, "properties cut off"},
    {ACK, 4, "0001", ERR_OK, "identifier"},
    {ACK, 4, "000100", ERR_PROTO, "too long"},
    {ACK, 4, "00", ERR_PROTO, "cut off"},
    {ACK, 5, "0001", ERR_OK, "identifier"},
    {ACK, 5, "000110", ERR_OK, "code, no property length, 3.4.2.1"},
    {ACK, 5, "00011000", ERR_OK, "code, no properties"},
    {ACK, 5, "000180051f00026e6f", ERR_OK, "reason string"},
    {ACK, 5, "0001800a1f00026e6f1f00026e6f", ERR_PROTO, "reason string twice"},
    {ACK, 5, "00018001", ERR_PROTO, "properties cut off"},
    {ACK, 5, "0001800000", ERR_PROTO, "too long"},
    {SUBSCRIBE, 4, "0001 00016101", ERR_OK, "one filter"},
    {SUBSCRIBE, 4, "0001", ERR_PROTO, "no filter, MQTT-3.8.3-3"},
    {SUBSCRIBE, 4, "0000 00016101", ERR_PROTO, "identifier 0, MQTT-2.3.1-1"},
    {SUBSCRIBE, 4, "0001 00016103", ERR_PROTO, "QoS 3, MQTT-3-8.3-4"},
    {SUBSCRIBE, 4, "0001 00016104", ERR_PROTO, "reserved bits, MQTT-3-8.3-4"},
    {SUBSCRIBE, 4, "0001 000161", ERR_PROTO, "options missing"},
    {SUBSCRIBE, 4, "0001 000001", ERR_PROTO, "empty filter, MQTT-4.7.3-1"},
    {SUBSCRIBE, 4, "0001 0002612301", ERR_PROTO, "# within a level, MQTT-4.7.1-2"},
    {SUBSCRIBE, 5, "0001 00 0001612c", ERR_OK, "options of 5"},
    {SUBSCRIBE, 5, "0001 00 00016130", ERR_PROTO, "retain handling 3, 3.8.3.1"},
    {SUBSCRIBE, 5, "0001 00 00016140", ERR_PROTO, "reserved bits, MQTT-3.8.3-5"},
    {SUBSCRIBE, 5, "0001 00 000a2473686172652f672f6104", ERR_PROTO, "No Local and shared, MQTT-3.8.3-4"},
    {SUBSCRIBE, 5, "0001 00 000a2473686172652f672f6100", ERR_OK, "shared subscription"},
    {SUBSCRIBE, 5, "0001 020b01 00016101", ERR_OK, "subscription identifier"},
    {SUBSCRIBE, 5, "0001 020b00 00016101", ERR_PROTO, "subscription identifier 0, 3.8.2.1.2"},
    {SUBSCRIBE, 5, "0001 040b010b02 00016101", ERR_PROTO, "two subscription identifiers"},
    {UNSUBSCRIBE, 4, "0001 000161", ERR_OK, "one filter"},
    {UNSUBSCRIBE, 4, "0001", ERR_PROTO, "no filter, MQTT-3.10.3-2"},
    {UNSUBSCRIBE, 5, "0001 00 000161", ERR_OK, "one filter"},
    {UNSUBSCRIBE, 5, "0001 020b01 000161", ERR_PROTO, "subscription identifier in UNSUBSCRIBE"},
    {SUBACK, 4, "0001 0180", ERR_OK, "two codes"},
    {SUBACK, 4, "0001", ERR_PROTO, "no code"},
    {SUBACK, 5, "0001 00 0087", ERR_OK, "two codes"},
    {SUBACK, 5, "0001 00", ERR_PROTO, "no code"},
    {UNSUBACK, 4, "0001", ERR_OK, "identifier alone"},
    {UNSUBACK, 4, "0001 00", ERR_PROTO, "code in UNSUBACK of 3.1.1"},
    {UNSUBACK, 5, "0001 00 11", ERR_OK, "one code"},
    {UNSUBACK, 5, "0001 00", ERR_PROTO, "no code"},
    {DISCONNECT, 5, "", ERR_OK, "nothing"},
    {DISCONNECT, 5, "8e", ERR_OK, "code alone"},
    {DISCONNECT, 5, "8e00", ERR_OK, "no properties"},
    {DISCONNECT, 5, "8e051f00026e6f", ERR_OK, "reason string"},
    {DISCONNECT, 5, "8e021f00", ERR_PROTO, "reason string cut off"},
    {DISCONNECT, 5, "8e0000", ERR_PROTO, "too long"},
};

static void test_bodies_are_judged_as_the_standard_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(body_cases); i++) {
        const struct body_case *c = &body_cases[i];
        uint8_t bytes[256];
        struct str body = bytes_of(c->hex, bytes);
        enum err err = read_any(c->reader, c->version, body);

        if (err != c->err)
            fail_msg("case %zu (%s): %s", i, c->what, err_name(err));
    }
}

static void test_no_cut_of_a_valid_body_is_read_beyond_its_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(body_cases); i++) {
        uint8_t bytes[256];
        struct str body = bytes_of(body_cases[i].hex, bytes);

        for (size_t n = 0; n <= body.n; n++) { /* address sanitizer watches the copy of exactly n bytes */
            uint8_t *copy = mem_new(n + 1);

            memcpy(copy + 1, body.p, n);
            for (int reader = CONNECT; reader <= DISCONNECT; reader++) {
                for (size_t v = 0; v < COUNT_OF(versions); v++)
                    assert_in_range(read_any((enum reader)reader, versions[v], str_of(copy + 1, n)), 0, 64);
            }
            mem_free(copy);
        }
    }
}

/* --- there and back ------------------------------------------------------------------------------------------------------ */

static void test_connect_comes_back_as_it_was_put(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT_OF(versions); v++) {
        struct mqtt_conf conf = {
            .version = versions[v],
            .client_id = STR("gateway"),
            .username = STR("user"),
            .password = STR("p\0w"),
            .keep_alive_s = 120,
            .clean_start = true,
            .session_expiry_s = 3600,
            .receive_maximum = 1000,
            .topic_alias_maximum = 10,
        };
        struct mqtt_connect_packet got;
        autobuf struct buf out = {0};

        mqtt_put_connect(&out, &conf);
        assert_int_equal(mqtt_read_connect(&got, body_of(&out, versions[v], MQTT_CONNECT), NULL), ERR_OK);
        assert_int_equal(got.version, versions[v]);
        assert_true(str_eq(got.client_id, conf.client_id));
        assert_true(str_eq(got.username, conf.username));
        assert_true(str_eq(got.password, conf.password));
        assert_int_equal(got.keep_alive_s, 120);
        assert_true(got.clean_start);
        assert_false(got.has_will);
        assert_int_equal(got.session_expiry_s, versions[v] == MQTT_5 ? 3600 : 0);
        assert_int_equal(got.receive_maximum, versions[v] == MQTT_5 ? 1000 : 65535);
        assert_int_equal(got.topic_alias_maximum, versions[v] == MQTT_5 ? 10 : 0);
        assert_int_equal(got.max_packet_bytes, versions[v] == MQTT_5 ? 16 * 1024 * 1024 : 0);
    }
}

static void test_connect_has_the_bytes_of_the_standard(void **state)
{
    struct mqtt_conf conf = {.version = MQTT_31, .client_id = STR("c"), .keep_alive_s = 60, .clean_start = true};
    autobuf struct buf out = {0};

    (void)state;
    mqtt_put_connect(&out, &conf);
    assert_bytes(&out, "100f 00064d5149736470 03 02 003c 000163");
    out.n = 0;
    conf.version = MQTT_311;
    conf.client_id = STR_NONE;
    conf.username = STR("");
    mqtt_put_connect(&out, &conf);
    assert_bytes(&out, "100e 00044d515454 04 82 003c 0000 0000");
    out.n = 0;
    conf.version = MQTT_5;
    conf.username = STR_NONE;
    conf.clean_start = false;
    conf.max_packet_bytes = 65536;
    mqtt_put_connect(&out, &conf);
    assert_bytes(&out, "1012 00044d515454 05 00 003c 05 2700010000 0000");
}

static void test_connack_comes_back_as_it_was_put(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT_OF(versions); v++) {
        struct mqtt_connack got;
        autobuf struct buf out = {0};
        bool is_5 = versions[v] == MQTT_5;

        mqtt_put_connack(&out, versions[v], true, 0, 20, 65536, STR("auto-1"));
        assert_int_equal(mqtt_read_connack(&got, versions[v], body_of(&out, versions[v], MQTT_CONNACK), NULL), ERR_OK);
        assert_int_equal(got.session_present, versions[v] != MQTT_31);
        assert_int_equal(got.code, 0);
        assert_int_equal(got.receive_maximum, is_5 ? 20 : 65535);
        assert_int_equal(got.max_packet_bytes, is_5 ? 65536 : 0);
        assert_true(str_eq(got.assigned_client_id, is_5 ? STR("auto-1") : STR_NONE));
        assert_int_equal(got.max_qos, 2);
        assert_true(got.retain_available && got.wildcard_available && got.shared_available);
        assert_false(got.has_keep_alive);
    }
}

static void test_every_property_of_connack_is_understood(void **state)
{
    uint8_t bytes[256];
    struct str body = bytes_of("01 00 3d 1100000e10 210014 2401 2500 2700010000 120003616263 22000a 1f00026869"
                               "26 0001 61 0001 62 2800 2900 2a00 13001e 1a0000 1c000178 150000 160000",
                               bytes);
    struct mqtt_connack got;

    (void)state;
    bytes[2] = (uint8_t)(body.n - 3);
    assert_int_equal(mqtt_read_connack(&got, MQTT_5, body, NULL), ERR_OK);
    assert_true(got.session_present);
    assert_int_equal(got.receive_maximum, 20);
    assert_int_equal(got.max_qos, 1);
    assert_false(got.retain_available || got.wildcard_available || got.shared_available ||
                 got.subscription_ids_available);
    assert_int_equal(got.max_packet_bytes, 65536);
    assert_true(str_eq(got.assigned_client_id, STR("abc")));
    assert_true(str_eq(got.reason, STR("hi")));
    assert_true(got.has_keep_alive);
    assert_int_equal(got.server_keep_alive_s, 30);
}

static void test_publish_comes_back_as_it_was_put(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 127, 128, 16383, 16384, 300000};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes) * COUNT_OF(versions) * 3; i++) {
        enum mqtt_version version = versions[i % 3];
        uint8_t qos = (uint8_t)(i / 3 % 3);
        size_t n = sizes[i / 9];
        struct mqtt_publish_packet got;
        autobuf struct buf out = {0};

        mqtt_put_publish_head(&out, version, STR("v1/gateway/telemetry"), n, qos, MQTT_RETAIN | MQTT_DUP, 258);
        memset(buf_room(&out, n + 1), 'x', n);
        out.n += n;
        struct str body = body_of(&out, version, MQTT_PUBLISH);
        assert_int_equal(mqtt_read_publish(&got, version, out.p[0], body, NULL), ERR_OK);
        assert_true(str_eq(got.message.topic, STR("v1/gateway/telemetry")));
        assert_int_equal(got.message.payload_n, n);
        assert_ptr_equal(got.message.payload + n, out.p + out.n);
        assert_int_equal(got.message.qos, qos);
        assert_true(got.message.retain);
        assert_int_equal(got.message.dup, qos > 0);
        assert_int_equal(got.message.packet_id, qos ? 258 : 0);
        assert_int_equal(got.alias, 0);
        assert_int_equal(got.message.props.n, 0);
    }
}

static void test_properties_of_a_publication_are_shown_raw(void **state)
{
    uint8_t bytes[64];
    struct str body = bytes_of("000161 0a 230007 26 0001 6b 0001 76 7061796c6f6164", bytes);
    struct mqtt_publish_packet got;

    (void)state;
    assert_int_equal(mqtt_read_publish(&got, MQTT_5, 0x30, body, NULL), ERR_OK);
    assert_int_equal(got.alias, 7);
    assert_int_equal(got.message.props.n, 10);
    assert_true(str_eq(str_of(got.message.payload, got.message.payload_n), STR("payload")));
}

static void test_acknowledgements_come_back_as_they_were_put(void **state)
{
    static const enum mqtt_type types[] = {MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(types) * COUNT_OF(versions) * 2; i++) {
        enum mqtt_version version = versions[i % 3];
        uint8_t code = i / 12 ? 0x92 : 0;
        struct mqtt_ack_packet got;
        autobuf struct buf out = {0};

        mqtt_put_ack(&out, version, types[i / 3 % 4], 0xfffe, code);
        assert_int_equal(out.n, version == MQTT_5 && code ? 5 : 4);
        assert_int_equal(mqtt_read_ack(&got, version, body_of(&out, version, types[i / 3 % 4]), NULL), ERR_OK);
        assert_int_equal(got.packet_id, 0xfffe);
        assert_int_equal(got.code, version == MQTT_5 ? code : 0);
    }
}

static void test_filters_come_back_as_they_were_put(void **state)
{
    static const struct mqtt_filter filters[] = {
        {.filter = {"a/+", 3}, .qos = 1},
        {.filter = {"b/#", 3}, .qos = 2, .no_local = true, .retain_as_published = true, .retain_handling = 2},
        {.filter = {"$share/g/c", 10}, .qos = 0},
    };
    static const struct str names[] = {{"a/+", 3}, {"b/#", 3}};

    (void)state;
    for (size_t v = 0; v < COUNT_OF(versions); v++) {
        struct mqtt_subscribe_reader reader;
        struct mqtt_filter got;
        autobuf struct buf out = {0}, un = {0};
        bool is_5 = versions[v] == MQTT_5;

        mqtt_put_subscribe(&out, versions[v], 7, filters, COUNT_OF(filters));
        assert_int_equal(mqtt_read_subscribe(&reader, versions[v], false, body_of(&out, versions[v], MQTT_SUBSCRIBE)),
                         ERR_OK);
        assert_int_equal(reader.packet_id, 7);
        for (size_t i = 0; i < COUNT_OF(filters); i++) {
            assert_true(mqtt_next_filter(&reader, &got));
            assert_true(str_eq(got.filter, filters[i].filter));
            assert_int_equal(got.qos, filters[i].qos);
            assert_int_equal(got.no_local, is_5 && filters[i].no_local);
            assert_int_equal(got.retain_as_published, is_5 && filters[i].retain_as_published);
            assert_int_equal(got.retain_handling, is_5 ? filters[i].retain_handling : 0);
        }
        assert_false(mqtt_next_filter(&reader, &got));
        assert_int_equal(reader.err, ERR_OK);

        mqtt_put_unsubscribe(&un, versions[v], 8, names, COUNT_OF(names));
        assert_int_equal(mqtt_read_subscribe(&reader, versions[v], true, body_of(&un, versions[v], MQTT_UNSUBSCRIBE)),
                         ERR_OK);
        assert_true(mqtt_next_filter(&reader, &got) && str_eq(got.filter, names[0]));
        assert_true(mqtt_next_filter(&reader, &got) && str_eq(got.filter, names[1]));
        assert_false(mqtt_next_filter(&reader, &got));
        assert_int_equal(reader.err, ERR_OK);
    }
}

static void test_codes_of_subscriptions_come_back_as_they_were_put(void **state)
{
    static const uint8_t codes[] = {0, 1, 0x80};

    (void)state;
    for (size_t v = 0; v < COUNT_OF(versions); v++) {
        for (int is_unsuback = 0; is_unsuback < 2; is_unsuback++) {
            enum mqtt_type type = is_unsuback ? MQTT_UNSUBACK : MQTT_SUBACK;
            bool has_codes = versions[v] == MQTT_5 || !is_unsuback;
            autobuf struct buf out = {0};
            struct str got;
            uint16_t id;

            mqtt_put_suback(&out, versions[v], is_unsuback, 9, codes, sizeof codes);
            assert_int_equal(mqtt_read_suback(&id, &got, versions[v], is_unsuback, body_of(&out, versions[v], type)),
                             0);
            assert_int_equal(id, 9);
            assert_true(str_eq(got, has_codes ? str_of(codes, sizeof codes) : STR_NONE));
        }
    }
}

static void test_disconnect_and_pings_have_the_bytes_of_the_standard(void **state)
{
    autobuf struct buf out = {0};
    uint8_t bytes[16], code = 0;

    (void)state;
    mqtt_put_simple(&out, MQTT_PINGREQ);
    mqtt_put_simple(&out, MQTT_PINGRESP);
    mqtt_put_disconnect(&out, MQTT_311, 0x8e);
    mqtt_put_disconnect(&out, MQTT_5, 0);
    mqtt_put_disconnect(&out, MQTT_5, 0x8e);
    assert_bytes(&out, "c000 d000 e000 e000 e0018e");
    assert_int_equal(mqtt_read_disconnect(&code, str_of("\x8e", 1)), ERR_OK);
    assert_int_equal(code, 0x8e);
    assert_true(str_eq(mqtt_disconnect_reason(bytes_of("8e051f00026e6f", bytes)), STR("no")));
    assert_int_equal(mqtt_disconnect_reason(STR("\x8e")).n, 0);
}

static void test_reasons_have_the_names_of_the_standard(void **state)
{
    (void)state;
    assert_string_equal(mqtt_reason_text(MQTT_5, true, 0x86), "Bad User Name or Password");
    assert_string_equal(mqtt_reason_text(MQTT_5, false, 0x8e), "Session taken over");
    assert_string_equal(mqtt_reason_text(MQTT_5, false, 0x10), "No matching subscribers");
    assert_string_equal(mqtt_reason_text(MQTT_5, true, 1), "Connection Refused, unacceptable protocol version");
    assert_string_equal(mqtt_reason_text(MQTT_311, true, 5), "Connection Refused, not authorized");
    assert_string_equal(mqtt_reason_text(MQTT_311, false, 0x80), "Failure");
    assert_string_equal(mqtt_reason_text(MQTT_311, true, 77), "unknown code");
    assert_string_equal(mqtt_reason_text(MQTT_5, false, 0xff), "unknown code");
    for (int i = 0; i < 256; i++) {
        for (size_t v = 0; v < COUNT_OF(versions); v++)
            assert_non_null(mqtt_reason_text(versions[v], i % 2, (uint8_t)i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_are_read_from_one_to_four_bytes),
        cmocka_unit_test(test_fixed_headers_that_are_forbidden_are_refused),
        cmocka_unit_test(test_bodies_are_judged_as_the_standard_says),
        cmocka_unit_test(test_no_cut_of_a_valid_body_is_read_beyond_its_end),
        cmocka_unit_test(test_connect_comes_back_as_it_was_put),
        cmocka_unit_test(test_connect_has_the_bytes_of_the_standard),
        cmocka_unit_test(test_connack_comes_back_as_it_was_put),
        cmocka_unit_test(test_every_property_of_connack_is_understood),
        cmocka_unit_test(test_publish_comes_back_as_it_was_put),
        cmocka_unit_test(test_properties_of_a_publication_are_shown_raw),
        cmocka_unit_test(test_acknowledgements_come_back_as_they_were_put),
        cmocka_unit_test(test_filters_come_back_as_they_were_put),
        cmocka_unit_test(test_codes_of_subscriptions_come_back_as_they_were_put),
        cmocka_unit_test(test_disconnect_and_pings_have_the_bytes_of_the_standard),
        cmocka_unit_test(test_reasons_have_the_names_of_the_standard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
