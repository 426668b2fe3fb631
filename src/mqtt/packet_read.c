/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes → MQTT control packets. Section numbers are those of MQTT Version 5.0 unless a version is named. */
#include "mqtt/packet.h"
#include "mqtt/topic.h"

#include "base/utf8.h"

/* --- fixed header --------------------------------------------------------------------------------------------------- */

size_t mqtt_packet_length(const uint8_t *p, size_t n, size_t *header_n)
{
    size_t length = 0;

    for (size_t i = 1; i < 5; i++) {
        if (i >= n) {
            *header_n = i + 1;
            return 0;
        }
        length |= (size_t)(p[i] & 0x7f) << 7 * (i - 1);
        if (p[i] < 0x80) {
            *header_n = i + 1;
            return length + i + 1;
        }
    }
    *header_n = 5;
    return SIZE_MAX;
}

static bool flags_are_right(enum mqtt_version version, unsigned type, unsigned flags)
{
    switch (type) {
    case MQTT_PUBLISH:
        /* 3.3.1.2: QoS 3 does not exist; 3.3.1.1: no DUP with QoS 0 (3.1 leaves it open). */
        return (flags & 6) != 6 && (version == MQTT_31 || (flags & 8) == 0 || (flags & 6) != 0);
    case MQTT_PUBREL:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return (version == MQTT_31 ? flags & 6 : flags) == 2; /* 3.1 repeats these packets with DUP */
    case MQTT_AUTH:
        return version == MQTT_5 && flags == 0;
    case 0:
        return false;
    default:
        return version == MQTT_31 || flags == 0; /* 3.1 does not use them here */
    }
}

enum err mqtt_check_header(enum mqtt_version version, const uint8_t *p, size_t header_n, struct why *why)
{
    if (!flags_are_right(version, p[0] >> 4, p[0] & 15))
        return why_set(why, ERR_PROTO, "packet of type %d with flags 0x%x", p[0] >> 4, p[0] & 15);
    if (version == MQTT_5 && header_n > 2 && p[header_n - 1] == 0)
        return why_set(why, ERR_PROTO, "remaining length is not encoded in the fewest bytes (MQTT 5, 1.5.5)");
    return ERR_OK;
}

/* --- properties (2.2.2) ------------------------------------------------------------------------------------------------ */

enum prop_type { PROP_NONE, PROP_U8, PROP_U16, PROP_U32, PROP_VARINT, PROP_TEXT, PROP_BINARY, PROP_PAIR };

enum prop_id {
    PAYLOAD_FORMAT = 0x01,
    MESSAGE_EXPIRY = 0x02,
    CONTENT_TYPE = 0x03,
    RESPONSE_TOPIC = 0x08,
    CORRELATION_DATA = 0x09,
    SUBSCRIPTION_ID = 0x0b,
    SESSION_EXPIRY = 0x11,
    ASSIGNED_CLIENT_ID = 0x12,
    SERVER_KEEP_ALIVE = 0x13,
    AUTH_METHOD = 0x15,
    AUTH_DATA = 0x16,
    REQUEST_PROBLEM_INFO = 0x17,
    WILL_DELAY = 0x18,
    REQUEST_RESPONSE_INFO = 0x19,
    RESPONSE_INFO = 0x1a,
    SERVER_REFERENCE = 0x1c,
    REASON_STRING = 0x1f,
    RECEIVE_MAXIMUM = 0x21,
    TOPIC_ALIAS_MAXIMUM = 0x22,
    TOPIC_ALIAS = 0x23,
    MAXIMUM_QOS = 0x24,
    RETAIN_AVAILABLE = 0x25,
    USER_PROPERTY = 0x26,
    MAXIMUM_PACKET_SIZE = 0x27,
    WILDCARD_AVAILABLE = 0x28,
    SUBSCRIPTION_ID_AVAILABLE = 0x29,
    SHARED_AVAILABLE = 0x2a,
    PROP_END
};

#define IN(type) (1u << (type))
enum { IN_WILL = 1 }; /* bit 0: no packet has type 0 */
#define IN_ACKS                                                                                                        \
    (IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP) | IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK))

/* Table 2-4: where each may stand. */
static const struct {
    uint8_t type;  /* enum prop_type */
    uint8_t limit; /* of a U8: the highest value; of others: 1 = must not be 0 */
    uint16_t in;
} props[PROP_END] = {
    [PAYLOAD_FORMAT] = {PROP_U8, 1, IN(MQTT_PUBLISH) | IN_WILL},
    [MESSAGE_EXPIRY] = {PROP_U32, 0, IN(MQTT_PUBLISH) | IN_WILL},
    [CONTENT_TYPE] = {PROP_TEXT, 0, IN(MQTT_PUBLISH) | IN_WILL},
    [RESPONSE_TOPIC] = {PROP_TEXT, 0, IN(MQTT_PUBLISH) | IN_WILL},
    [CORRELATION_DATA] = {PROP_BINARY, 0, IN(MQTT_PUBLISH) | IN_WILL},
    [SUBSCRIPTION_ID] = {PROP_VARINT, 1, IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE)},
    [SESSION_EXPIRY] = {PROP_U32, 0, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [ASSIGNED_CLIENT_ID] = {PROP_TEXT, 0, IN(MQTT_CONNACK)},
    [SERVER_KEEP_ALIVE] = {PROP_U16, 0, IN(MQTT_CONNACK)},
    [AUTH_METHOD] = {PROP_TEXT, 0, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_AUTH)},
    [AUTH_DATA] = {PROP_BINARY, 0, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_AUTH)},
    [REQUEST_PROBLEM_INFO] = {PROP_U8, 1, IN(MQTT_CONNECT)},
    [WILL_DELAY] = {PROP_U32, 0, IN_WILL},
    [REQUEST_RESPONSE_INFO] = {PROP_U8, 1, IN(MQTT_CONNECT)},
    [RESPONSE_INFO] = {PROP_TEXT, 0, IN(MQTT_CONNACK)},
    [SERVER_REFERENCE] = {PROP_TEXT, 0, IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [REASON_STRING] = {PROP_TEXT, 0, IN(MQTT_CONNACK) | IN_ACKS | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH)},
    [RECEIVE_MAXIMUM] = {PROP_U16, 1, IN(MQTT_CONNECT) | IN(MQTT_CONNACK)},
    [TOPIC_ALIAS_MAXIMUM] = {PROP_U16, 0, IN(MQTT_CONNECT) | IN(MQTT_CONNACK)},
    [TOPIC_ALIAS] = {PROP_U16, 1, IN(MQTT_PUBLISH)},
    [MAXIMUM_QOS] = {PROP_U8, 1, IN(MQTT_CONNACK)},
    [RETAIN_AVAILABLE] = {PROP_U8, 1, IN(MQTT_CONNACK)},
    [USER_PROPERTY] = {PROP_PAIR, 0, 0xffff},
    [MAXIMUM_PACKET_SIZE] = {PROP_U32, 1, IN(MQTT_CONNECT) | IN(MQTT_CONNACK)},
    [WILDCARD_AVAILABLE] = {PROP_U8, 1, IN(MQTT_CONNACK)},
    [SUBSCRIPTION_ID_AVAILABLE] = {PROP_U8, 1, IN(MQTT_CONNACK)},
    [SHARED_AVAILABLE] = {PROP_U8, 1, IN(MQTT_CONNACK)},
};

struct prop {
    unsigned id;
    uint32_t number;
    struct str text;
};

struct prop_reader {
    struct rd rd;
    unsigned in;   /* one bit: where the properties stand */
    uint64_t seen; /* by id: each may stand once */
};

static uint32_t read_varint(struct rd *rd)
{
    uint32_t v = 0;

    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t byte = rd_u8(rd);

        v |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift)
                rd->failed = true; /* 1.5.5: not the fewest bytes */
            return v;
        }
    }
    rd->failed = true;
    return 0;
}

static struct str read_binary(struct rd *rd)
{
    return rd_str(rd, rd_be16(rd));
}

static struct str read_text(struct rd *rd)
{
    struct str s = read_binary(rd);

    if (s.n && (memchr(s.p, 0, s.n) || !utf8_is_valid(s))) /* 1.5.4 */
        rd->failed = true;
    return s;
}

static struct prop_reader read_props(struct rd *rd, unsigned in)
{
    uint32_t n = read_varint(rd);
    const uint8_t *p = rd_take(rd, n);

    return (struct prop_reader){.rd = p ? rd_of(p, n) : (struct rd){.failed = true}, .in = in};
}

/* False at the end, or when they are malformed (rd.failed). */
static bool next_prop(struct prop_reader *reader, struct prop *out)
{
    struct rd *rd = &reader->rd;
    bool is_in_range = true;
    uint8_t id, limit;

    if (rd->failed || rd_left(rd) == 0)
        return false;
    id = rd_u8(rd); /* a Variable Byte Integer, but all that exist need one byte */
    if (id >= PROP_END || (props[id].in & reader->in) == 0)
        goto malformed;
    if ((reader->seen >> id & 1) && id != USER_PROPERTY && !(id == SUBSCRIPTION_ID && reader->in == IN(MQTT_PUBLISH)))
        goto malformed;
    reader->seen |= 1ull << id;
    limit = props[id].limit;
    *out = (struct prop){.id = id};
    switch ((enum prop_type)props[id].type) {
    case PROP_U8:
        out->number = rd_u8(rd);
        is_in_range = out->number <= limit;
        break;
    case PROP_U16:
        out->number = rd_be16(rd);
        is_in_range = out->number >= limit;
        break;
    case PROP_U32:
        out->number = rd_be32(rd);
        is_in_range = out->number >= limit;
        break;
    case PROP_VARINT:
        out->number = read_varint(rd);
        is_in_range = out->number >= limit;
        break;
    case PROP_TEXT:
        out->text = read_text(rd);
        break;
    case PROP_BINARY:
        out->text = read_binary(rd);
        break;
    case PROP_PAIR:
        (void)read_text(rd);
        (void)read_text(rd);
        break;
    case PROP_NONE:
        goto malformed;
    }
    if (is_in_range && rd_ok(rd))
        return true;

malformed:
    rd->failed = true;
    return false;
}

/* Properties of which only the form matters here. */
static bool skip_props(struct rd *rd, unsigned in)
{
    struct prop_reader reader = read_props(rd, in);
    struct prop prop;

    while (next_prop(&reader, &prop))
        ;
    return rd_ok(&reader.rd);
}

static bool has_wildcard(struct str topic)
{
    return str_chr(topic, '+') < topic.n || str_chr(topic, '#') < topic.n;
}

static enum err malformed(struct why *why, const char *packet)
{
    return why_set(why, ERR_PROTO, "malformed %s", packet);
}

/* --- CONNECT (3.1) --------------------------------------------------------------------------------------------------- */

enum { FLAG_CLEAN = 2, FLAG_WILL = 4, FLAG_WILL_RETAIN = 0x20, FLAG_PASSWORD = 0x40, FLAG_USERNAME = 0x80 };

static NODISCARD enum err read_protocol(struct rd *rd, enum mqtt_version *version, struct why *why)
{
    struct str name = read_text(rd);
    uint8_t level = rd_u8(rd);

    if (!rd_ok(rd))
        return malformed(why, "CONNECT");
    if (!(str_eq(name, STR("MQTT")) && (level == MQTT_311 || level == MQTT_5)) &&
        !(str_eq(name, STR("MQIsdp")) && level == MQTT_31))
        return why_set(why, ERR_UNSUPPORTED, "protocol \"" STR_FMT "\" level %d", STR_ARG(name), level);
    *version = (enum mqtt_version)level;
    return ERR_OK;
}

static NODISCARD enum err read_connect_flags(struct mqtt_connect_packet *out, uint8_t flags, struct why *why)
{
    out->clean_start = flags & FLAG_CLEAN;
    out->has_will = flags & FLAG_WILL;
    out->will_qos = flags >> 3 & 3;
    out->will_retain = flags & FLAG_WILL_RETAIN;
    if (out->version != MQTT_31 && (flags & 1))
        return why_set(why, ERR_PROTO, "CONNECT: the reserved flag is set (MQTT 5, 3.1.2.3)");
    if (out->will_qos == 3 || (!out->has_will && out->version != MQTT_31 && (out->will_qos || out->will_retain)))
        return why_set(why, ERR_PROTO, "CONNECT: will flags contradict each other (MQTT 5, 3.1.2.6)");
    if (out->version == MQTT_311 && (flags & FLAG_PASSWORD) && !(flags & FLAG_USERNAME))
        return why_set(why, ERR_PROTO, "CONNECT: a password without a user name (MQTT 3.1.1, 3.1.2.9)");
    return ERR_OK;
}

static void read_connect_props(struct mqtt_connect_packet *out, struct rd *rd)
{
    struct prop_reader reader = read_props(rd, IN(MQTT_CONNECT));
    struct prop prop;

    while (next_prop(&reader, &prop)) {
        if (prop.id == SESSION_EXPIRY)
            out->session_expiry_s = prop.number;
        else if (prop.id == RECEIVE_MAXIMUM)
            out->receive_maximum = (uint16_t)prop.number;
        else if (prop.id == MAXIMUM_PACKET_SIZE)
            out->max_packet_bytes = prop.number;
        else if (prop.id == TOPIC_ALIAS_MAXIMUM)
            out->topic_alias_maximum = (uint16_t)prop.number;
    }
    /* 3.1.2.11.10: data without a method is a protocol error. */
    if (!rd_ok(&reader.rd) || ((reader.seen >> AUTH_DATA & 1) && !(reader.seen >> AUTH_METHOD & 1)))
        rd->failed = true;
}

enum err mqtt_read_connect(struct mqtt_connect_packet *out, struct str body, struct why *why)
{
    struct rd rd = rd_of(body.p, body.n);
    uint8_t flags;
    enum err err;

    *out = (struct mqtt_connect_packet){.receive_maximum = 65535};
    err = read_protocol(&rd, &out->version, why);
    if (err)
        return err;
    flags = rd_u8(&rd);
    err = read_connect_flags(out, flags, why);
    if (err)
        return err;
    out->keep_alive_s = rd_be16(&rd);
    if (out->version == MQTT_5)
        read_connect_props(out, &rd);
    out->client_id = read_text(&rd);
    if (out->has_will) {
        if (out->version == MQTT_5 && !skip_props(&rd, IN_WILL))
            rd.failed = true;
        out->will_topic = read_text(&rd);
        out->will_payload = read_binary(&rd);
        if (out->will_topic.n == 0 || has_wildcard(out->will_topic))
            rd.failed = true;
    }
    /* MQTT 3.1, 3.1: the remaining length takes precedence over the two flags. */
    if ((flags & FLAG_USERNAME) && (out->version != MQTT_31 || rd_left(&rd)))
        out->username = read_text(&rd);
    if ((flags & FLAG_PASSWORD) && (out->version != MQTT_31 || rd_left(&rd)))
        out->password = read_binary(&rd);
    return rd_ok(&rd) && rd_left(&rd) == 0 ? ERR_OK : malformed(why, "CONNECT");
}

/* --- CONNACK (3.2) --------------------------------------------------------------------------------------------------- */

static bool read_connack_props(struct mqtt_connack *out, struct rd *rd)
{
    struct prop_reader reader = read_props(rd, IN(MQTT_CONNACK));
    struct prop prop;

    while (next_prop(&reader, &prop)) {
        switch (prop.id) {
        case RECEIVE_MAXIMUM:
            out->receive_maximum = (uint16_t)prop.number;
            break;
        case MAXIMUM_QOS:
            out->max_qos = (uint8_t)prop.number;
            break;
        case RETAIN_AVAILABLE:
            out->retain_available = prop.number;
            break;
        case WILDCARD_AVAILABLE:
            out->wildcard_available = prop.number;
            break;
        case SHARED_AVAILABLE:
            out->shared_available = prop.number;
            break;
        case SUBSCRIPTION_ID_AVAILABLE:
            out->subscription_ids_available = prop.number;
            break;
        case MAXIMUM_PACKET_SIZE:
            out->max_packet_bytes = prop.number;
            break;
        case SERVER_KEEP_ALIVE:
            out->has_keep_alive = true;
            out->server_keep_alive_s = (uint16_t)prop.number;
            break;
        case ASSIGNED_CLIENT_ID:
            out->assigned_client_id = prop.text;
            break;
        case REASON_STRING:
            out->reason = prop.text;
            break;
        default: /* session expiry, server reference, response information, topic aliases to the server: not used */
            break;
        }
    }
    return rd_ok(&reader.rd);
}

enum err mqtt_read_connack(struct mqtt_connack *out, enum mqtt_version version, struct str body, struct why *why)
{
    struct rd rd = rd_of(body.p, body.n);
    uint8_t flags = rd_u8(&rd);

    *out = (struct mqtt_connack){
        .session_present = flags & 1,
        .code = rd_u8(&rd),
        .receive_maximum = 65535,
        .max_qos = 2,
        .retain_available = true,
        .wildcard_available = true,
        .shared_available = true,
        .subscription_ids_available = version == MQTT_5,
    };
    if (!rd_ok(&rd) || (version != MQTT_31 && (flags & 0xfe)))
        return malformed(why, "CONNACK");
    if (version == MQTT_31)
        out->session_present = false; /* the byte is reserved in 3.1 */
    if (version == MQTT_5 && !(out->code && rd_left(&rd) == 0) && !read_connack_props(out, &rd))
        return malformed(why, "CONNACK");
    if (rd_left(&rd))
        return malformed(why, "CONNACK");
    return ERR_OK;
}

/* --- PUBLISH (3.3) --------------------------------------------------------------------------------------------------- */

static NODISCARD enum err read_publish_props(struct mqtt_publish_packet *out, struct why *why)
{
    struct str raw = out->message.props;
    struct prop_reader reader = {.rd = rd_of(raw.p, raw.n), .in = IN(MQTT_PUBLISH)};
    struct prop prop;

    while (next_prop(&reader, &prop)) {
        if (prop.id == TOPIC_ALIAS)
            out->alias = (uint16_t)prop.number;
        else if (prop.id == RESPONSE_TOPIC && (prop.text.n == 0 || has_wildcard(prop.text)))
            return why_set(why, ERR_PROTO, "PUBLISH: the response topic has a wildcard (MQTT 5, 3.3.2.3.5)");
    }
    return rd_ok(&reader.rd) ? ERR_OK : why_set(why, ERR_PROTO, "PUBLISH with malformed properties");
}

enum err mqtt_read_publish(struct mqtt_publish_packet *out, enum mqtt_version version, uint8_t first, struct str body,
                           struct why *why)
{
    struct mqtt_message *message = &out->message;
    struct rd rd = rd_of(body.p, body.n);

    message->qos = first >> 1 & 3;
    message->retain = first & 1;
    message->dup = first & 8;
    message->topic = read_binary(&rd);
    message->packet_id = message->qos ? rd_be16(&rd) : 0;
    message->props = version == MQTT_5 ? rd_str(&rd, read_varint(&rd)) : STR_NONE;
    message->payload = rd.p;
    message->payload_n = rd_left(&rd);
    out->alias = 0;
    if (!rd_ok(&rd) || message->qos == 3)
        return malformed(why, "PUBLISH");
    if (message->props.n && read_publish_props(out, why))
        return ERR_PROTO;
    if (message->topic.n == 0 && out->alias)
        return ERR_OK;
    return topic_name_check(message->topic, why) ? ERR_PROTO : ERR_OK;
}

/* --- acknowledgements (3.4 to 3.7) ------------------------------------------------------------------------------------ */

enum err mqtt_read_ack(struct mqtt_ack_packet *out, enum mqtt_version version, struct str body, struct why *why)
{
    struct rd rd = rd_of(body.p, body.n);

    out->packet_id = rd_be16(&rd);
    out->code = 0;
    if (version == MQTT_5 && rd_left(&rd))
        out->code = rd_u8(&rd);
    if (version == MQTT_5 && rd_left(&rd) && !skip_props(&rd, IN(MQTT_PUBACK)))
        return malformed(why, "acknowledgement");
    return rd_ok(&rd) && rd_left(&rd) == 0 ? ERR_OK : malformed(why, "acknowledgement");
}

/* --- SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11) ------------------------------------------------------------- */

enum err mqtt_read_subscribe(struct mqtt_subscribe_reader *out, enum mqtt_version version, bool is_unsubscribe,
                             struct str body)
{
    *out = (struct mqtt_subscribe_reader){
        .rd = rd_of(body.p, body.n), .version = version, .is_unsubscribe = is_unsubscribe};
    out->packet_id = rd_be16(&out->rd);
    if (version == MQTT_5 && !skip_props(&out->rd, IN(is_unsubscribe ? MQTT_UNSUBSCRIBE : MQTT_SUBSCRIBE)))
        out->err = ERR_PROTO;
    /* 2.2.1: the identifier is not 0; 3.8.3: there is at least one filter. */
    if (!rd_ok(&out->rd) || out->packet_id == 0 || rd_left(&out->rd) == 0)
        out->err = ERR_PROTO;
    return out->err;
}

static bool options_are_right(enum mqtt_version version, uint8_t options, struct str filter)
{
    if ((options & 3) == 3)
        return false;
    if (version == MQTT_5) /* 3.8.3.1; No Local is not for shared subscriptions (3.8.3-4) */
        return (options & 0xc0) == 0 && (options & 0x30) != 0x30 &&
               !((options & 4) && str_starts(filter, STR("$share/")));
    return version == MQTT_31 || (options & 0xfc) == 0;
}

bool mqtt_next_filter(struct mqtt_subscribe_reader *reader, struct mqtt_filter *out)
{
    uint8_t options;

    if (reader->err || rd_left(&reader->rd) == 0)
        return false;
    *out = (struct mqtt_filter){.filter = read_binary(&reader->rd)};
    options = reader->is_unsubscribe ? 0 : rd_u8(&reader->rd);
    if (!rd_ok(&reader->rd) || topic_filter_check(out->filter, NULL) ||
        !options_are_right(reader->version, options, out->filter)) {
        reader->err = ERR_PROTO;
        return false;
    }
    out->qos = options & 3;
    if (reader->version == MQTT_5) {
        out->no_local = options & 4;
        out->retain_as_published = options & 8;
        out->retain_handling = options >> 4 & 3;
    }
    return true;
}

enum err mqtt_read_suback(uint16_t *packet_id, struct str *codes, enum mqtt_version version, bool is_unsuback,
                          struct str body)
{
    struct rd rd = rd_of(body.p, body.n);

    *packet_id = rd_be16(&rd);
    if (version == MQTT_5 && !skip_props(&rd, IN(is_unsuback ? MQTT_UNSUBACK : MQTT_SUBACK)))
        return ERR_PROTO;
    *codes = rd_str(&rd, rd_left(&rd));
    if (!rd_ok(&rd))
        return ERR_PROTO;
    /* MQTT 3.1.1, 3.11: UNSUBACK has no payload; everything else has a code for each filter. */
    return (is_unsuback && version != MQTT_5) == (codes->n == 0) ? ERR_OK : ERR_PROTO;
}

/* --- DISCONNECT (3.14) ----------------------------------------------------------------------------------------------- */

enum err mqtt_read_disconnect(uint8_t *code, struct str body)
{
    struct rd rd = rd_of(body.p, body.n);

    *code = rd_left(&rd) ? rd_u8(&rd) : 0;
    if (rd_left(&rd) && !skip_props(&rd, IN(MQTT_DISCONNECT)))
        return ERR_PROTO;
    return rd_ok(&rd) && rd_left(&rd) == 0 ? ERR_OK : ERR_PROTO;
}

struct str mqtt_disconnect_reason(struct str body)
{
    struct rd rd = rd_of(body.p, body.n);
    struct prop_reader reader;
    struct prop prop;

    if (body.n < 2)
        return STR_NONE;
    (void)rd_u8(&rd);
    reader = read_props(&rd, IN(MQTT_DISCONNECT));
    while (next_prop(&reader, &prop)) {
        if (prop.id == REASON_STRING)
            return prop.text;
    }
    return STR_NONE;
}
