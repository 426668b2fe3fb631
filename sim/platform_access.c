/* SPDX-License-Identifier: Apache-2.0 */
/* Logins, provisioning sessions, and sessions that end because nothing comes. */
#include "platform.h"

#include "base/clock.h"
#include "base/file.h"
#include "io/stream.h"

enum { PROVISION_END_MS = 60 * 1000, PEM_MAX = 64 * 1024 };

static void start_session(struct platform *platform, struct server_client *client,
                          const struct mqtt_connect_packet *connect, const struct access_entry *entry);

static bool is_provisioning(const struct mqtt_connect_packet *connect)
{
    return str_eq(connect->username, STR("provision")) || str_eq(connect->client_id, STR("provision"));
}

static char *copy(struct str text)
{
    return memcpy(mem_zero(text.n + 1), text.n ? text.p : "", text.n);
}

uint8_t platform_login(struct platform *platform, struct server_client *client,
                       const struct mqtt_connect_packet *connect)
{
    const struct access_entry *entry = NULL;
    autobuf struct buf pem = {0}, certificate = {0};
    uint8_t code;

    if (platform->refusal)
        return platform->refusal;
    if (!is_provisioning(connect)) {
        if (stream_peer_certificate(client->stream, &pem))
            access_base64(&certificate, buf_str(&pem));
        code = access_login(&platform->access, connect, buf_str(&certificate), &entry);
        if (code)
            return code;
        if (!quota_take(&platform->own[LIMIT_MESSAGES], 1, clock_mono_us()))
            return 0x9f;
    }
    if (!client->user) /* a second CONNECT in a session is processed like the first */
        start_session(platform, client, connect, entry);
    return 0;
}

/* --- a session that nothing comes on ------------------------------------------------------------------------------- */
static void on_idle(void *arg)
{
    struct session *session = arg;
    uint64_t end_ms = session->client->active_ms + session->platform->conf.inactivity_ms;

    if (loop_mono_ms(session->platform->loop) >= end_ms)
        server_kick(session->client, 0x83);
    else
        timer_start_at(&session->idle, end_ms);
}

/* --- provisioning --------------------------------------------------------------------------------------------------- */
static void on_provisioned(void *arg)
{
    struct session *session = arg;

    server_kick(session->client, 0);
}

enum outcome platform_provision(struct platform *platform, struct session *session, const struct mqtt_message *message)
{
    autobuf struct buf answer = {0};
    yyjson_doc *doc;
    bool is_answered;

    if (!str_eq(message->topic, STR("/provision/request")))
        return OUTCOME_UNKNOWN;
    doc = yyjson_read((const char *)message->payload, message->payload_n, 0);
    if (!doc)
        return OUTCOME_BAD_JSON;
    is_answered = access_provision(&platform->access, yyjson_doc_get_root(doc), &answer);
    yyjson_doc_free(doc);
    if (!is_answered)
        return OUTCOME_BAD_SHAPE;
    platform->n_provisioned++;
    server_publish(session->client, STR("/provision/response"), buf_str(&answer), 1);
    session->idle.fn = on_provisioned;
    timer_start(&session->idle, PROVISION_END_MS);
    return OUTCOME_OK;
}

/* --- sessions --------------------------------------------------------------------------------------------------------- */
static bool is_same(const struct session *a, const struct session *b)
{
    if (a->is_provisioning || b->is_provisioning)
        return false;
    if (a->device || b->device)
        return a->device && b->device && !strcmp(a->device, b->device);
    return !strcmp(a->username, b->username);
}

static void start_session(struct platform *platform, struct server_client *client,
                          const struct mqtt_connect_packet *connect, const struct access_entry *entry)
{
    struct session *session = mem_zero(sizeof *session);

    session->client = client;
    session->platform = platform;
    session->number = ++platform->n_sessions;
    session->is_provisioning = is_provisioning(connect);
    session->is_gateway = platform->is_gateway && !session->is_provisioning && (!entry || entry->is_gateway);
    session->username = copy(connect->username);
    session->device = entry ? copy(entry->device) : NULL;
    client->user = session;
    client->active_ms = loop_mono_ms(platform->loop);
    timer_init(&session->idle, platform->loop, on_idle, session);
    timer_start(&session->idle, platform->conf.inactivity_ms);
    LIST_EACH_SAFE(node, server_clients(platform->server)) {
        struct server_client *other = CONTAINER_OF(node, struct server_client, node);

        if (other != client && other->user && is_same(other->user, session))
            server_kick(other, 0x8e);
    }
}

/* --- the command "credential" ------------------------------------------------------------------------------------------ */
static void end_sessions_of(struct platform *platform, struct str device)
{
    LIST_EACH_SAFE(node, server_clients(platform->server)) {
        struct server_client *client = CONTAINER_OF(node, struct server_client, node);
        const struct session *session = client->user;

        if (session && session->device && str_eq_z(device, session->device))
            server_kick(client, 0x98);
    }
}

static struct str word(struct str *rest)
{
    struct str part = STR_NONE;

    (void)str_split(rest, ' ', &part);
    return str_eq(part, STR("-")) ? STR_NONE : part;
}

enum err platform_credential(struct platform *platform, struct str rest, struct why *why)
{
    struct str kind = word(&rest), device = word(&rest);
    autobuf struct buf pem = {0}, path = {0}, certificate = {0};
    struct access_entry *entry;
    enum err err;

    if (str_eq(kind, STR("token")) && device.n && rest.n) {
        entry = access_add(&platform->access, ACCESS_TOKEN, device);
        access_set(&entry->username, rest);
    } else if (str_eq(kind, STR("basic")) && device.n && rest.n) {
        entry = access_add(&platform->access, ACCESS_BASIC, device);
        access_set(&entry->client_id, word(&rest));
        access_set(&entry->username, word(&rest));
        access_set(&entry->password, word(&rest));
    } else if (str_eq(kind, STR("certificate")) && device.n && rest.n) {
        buf_add_str(&path, rest);
        buf_add_u8(&path, 0);
        err = file_read(&pem, (const char *)path.p, PEM_MAX, why);
        if (err)
            return err;
        access_base64(&certificate, buf_str(&pem));
        entry = access_add(&platform->access, ACCESS_CERTIFICATE, device);
        access_set(&entry->certificate, buf_str(&certificate));
    } else if (!str_eq(kind, STR("remove")) || !access_remove(&platform->access, device)) {
        return why_set(why, ERR_USAGE,
                       "credential token DEVICE TOKEN | basic DEVICE CLIENT-ID USER PASSWORD (\"-\": none) | "
                       "certificate DEVICE PEM-FILE | remove DEVICE");
    }
    end_sessions_of(platform, device);
    return ERR_OK;
}
