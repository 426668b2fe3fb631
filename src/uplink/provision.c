/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/provision.h"

#include "base/file.h"
#include "data/json.h"
#include "io/tls.h"

#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

/*
 *   IDLE ──start──► PREPARING (certificate: made or read) ──► ASKING ──answer──► STORING ──► IDLE, done
 *                        └──────────── failed ────────────────┴── closed, no, 60 s ────────► IDLE, failed
 */
enum step { IDLE, PREPARING, ASKING, STORING };

enum {
    KEEP_ALIVE_S = 60,
    ANSWER_MS = 60 * 1000,
    NAME_LETTERS = 5,
    SECRET_LETTERS = 15,
    CERTIFICATE_DAYS = 365,
    CERTIFICATE_MAX = 64 * 1024
};

static const struct str response_topic = {"/provision/response", 19}, request_topic = {"/provision/request", 18};

struct provision {
    struct loop *loop;
    struct log *log;
    struct provision_conf conf;
    struct provision_events events;
    void *arg;
    enum step step;
    bool is_stopping;
    struct arena arena;
    struct mqtt *mqtt;
    struct mqtt_conf attempt;
    struct timer limit;
    struct buf request, answer; /* request: unchanged while a session is open */
    struct credentials credentials;
    struct why why; /* of the failure */

    /* the helper thread's while PREPARING and STORING */
    struct work work;
    struct buf certificate;
    struct why work_why;
};

/* --- what is random --------------------------------------------------------------------------------------------------- */

static struct str letters(struct arena *arena, const char *before, unsigned n, bool has_capitals)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const unsigned n_set = has_capitals ? 52 : 26, bound = 256 / n_set * n_set;
    size_t at = strlen(before);
    char *text = arena_chars(arena, at + n + 1);

    memcpy(text, before, at);
    for (unsigned i = 0; i < n;) {
        uint8_t byte;

        if (getrandom(&byte, 1, 0) == 1 && byte < bound)
            text[at + i++] = set[byte % n_set];
    }
    text[at + n] = 0;
    return str_of(text, at + n);
}

static void choose(struct provision *p)
{
    struct provision_conf *conf = &p->conf;

    if (!conf->device_name.n)
        conf->device_name = letters(&p->arena, "Gateway ", NAME_LETTERS, true);
    if (conf->type == CREDENTIALS_TOKEN && !conf->access_token.n)
        conf->access_token = letters(&p->arena, "", SECRET_LETTERS, false);
    if (conf->type != CREDENTIALS_BASIC)
        return;
    if (!conf->client_id.n)
        conf->client_id = letters(&p->arena, "", SECRET_LETTERS, false);
    if (!conf->username.n)
        conf->username = letters(&p->arena, "", SECRET_LETTERS, false);
    if (!conf->password.n)
        conf->password = letters(&p->arena, "", SECRET_LETTERS, false);
}

/* --- the end of an attempt ----------------------------------------------------------------------------------------------- */

static void finish(struct provision *p, enum err err)
{
    struct why why = p->why;

    p->step = IDLE;
    p->why = (struct why){0};
    if (err)
        p->events.failed(p->arg, err, &why);
    else
        p->events.done(p->arg, &p->credentials);
}

/* --- helper thread --------------------------------------------------------------------------------------------------------- */

static NODISCARD enum err make_certificate(struct provision *p, const struct tls_api *tls, struct why *why)
{
    autobuf struct buf key = {0}, cert = {0}, name = {0};
    enum err err;

    buf_add_str(&name, p->conf.device_name);
    buf_add_u8(&name, 0);
    err = tls->self_signed((const char *)name.p, CERTIFICATE_DAYS, false, &cert, &key, why);
    /* The key first: a certificate without its key would be of no use to the next attempt. */
    if (!err)
        err = file_put(p->conf.key_path, buf_str(&key), FILE_NEW, NULL, why);
    if (!err && (err = file_put(p->conf.cert_path, buf_str(&cert), FILE_NEW, NULL, why)))
        unlink(p->conf.key_path);
    if (key.p)
        explicit_bzero(key.p, key.n);
    if (!err) {
        LOG_INFO(p->log, "a key and its certificate are made", KV_Z("certificate", p->conf.cert_path),
                 KV_Z("key", p->conf.key_path), KV_UINT("days", CERTIFICATE_DAYS));
        buf_add_str(&p->certificate, buf_str(&cert));
    }
    return err;
}

/* Of a former attempt, or put there by the operator. */
static NODISCARD enum err use_certificate(struct provision *p, const struct tls_api *tls, struct why *why)
{
    struct tls_conf conf = {
        .is_on = true, .insecure = true, .cert_file = p->conf.cert_path, .key_file = p->conf.key_path};
    struct tls_ctx *ctx;
    enum err err = tls->client_ctx(&ctx, &conf, why);

    if (err) {
        why_prefix(why, "no certificate is made, because there are files of its name, which are not replaced");
        return err;
    }
    tls->ctx_free(ctx);
    return file_read(&p->certificate, p->conf.cert_path, CERTIFICATE_MAX, why);
}

static void prepare(void *arg)
{
    struct provision *p = arg;
    const struct tls_api *tls = tls_load(&p->work_why);
    bool has_cert = access(p->conf.cert_path, F_OK) == 0, has_key = access(p->conf.key_path, F_OK) == 0;

    if (!tls)
        return;
    if (has_cert || has_key)
        p->work_why.err = use_certificate(p, tls, &p->work_why);
    else
        p->work_why.err = make_certificate(p, tls, &p->work_why);
    tls->forget_thread();
}

static void store(void *arg)
{
    struct provision *p = arg;
    autobuf struct buf text = {0};

    credentials_print(&text, buf_str(&p->answer), p->conf.ca_cert);
    p->work_why.err = file_put(p->conf.path, buf_str(&text), FILE_REPLACE, NULL, &p->work_why);
    explicit_bzero(text.p, text.n);
}

static void stored(void *arg)
{
    struct provision *p = arg;

    if (p->work_why.err)
        LOG_ERROR(p->log, "the credentials cannot be stored: they are used, but lost when the gateway stops",
                  KV_WHY(&p->work_why));
    else
        LOG_INFO(p->log, "the platform has given credentials", KV_STR("device", p->conf.device_name),
                 KV_Z("stored in", p->conf.path));
    finish(p, ERR_OK);
}

/* --- the session --------------------------------------------------------------------------------------------------------- */

static void add_member(struct buf *out, const char *name, struct str text)
{
    buf_printf(out, "\"%s\":", name);
    json_add_string(out, text);
    buf_add_u8(out, ',');
}

static void print_request(struct provision *p)
{
    const struct provision_conf *conf = &p->conf;
    struct buf *out = &p->request;
    const char *type = "ACCESS_TOKEN";

    out->n = 0;
    buf_add_u8(out, '{');
    add_member(out, "provisionDeviceKey", conf->device_key);
    add_member(out, "provisionDeviceSecret", conf->device_secret);
    switch (conf->type) {
    case CREDENTIALS_TOKEN:
        add_member(out, "token", conf->access_token);
        break;
    case CREDENTIALS_BASIC:
        type = "MQTT_BASIC";
        add_member(out, "username", conf->username);
        add_member(out, "password", conf->password);
        add_member(out, "clientId", conf->client_id);
        break;
    case CREDENTIALS_CERTIFICATE:
        type = "X509_CERTIFICATE";
        add_member(out, "hash", buf_str(&p->certificate));
        break;
    }
    add_member(out, "credentialsType", str_from(type));
    add_member(out, "deviceName", conf->device_name);
    buf_add_z(out, "\"gateway\":true}");
}

/* The attempt is over with that; .closed follows. */
static void give_up(struct provision *p, enum err err)
{
    p->why.err = err;
    timer_stop(&p->limit);
    mqtt_disconnect(p->mqtt, 0);
}

static void on_connected(void *arg, const struct mqtt_connack *connack UNUSED)
{
    struct provision *p = arg;
    struct mqtt_filter filter = {.filter = response_topic, .qos = 1};
    struct iovec iov;
    uint16_t id;
    enum err err;

    print_request(p);
    iov = (struct iovec){.iov_base = p->request.p, .iov_len = p->request.n};
    err = mqtt_subscribe(p->mqtt, &filter, 1, &id);
    if (!err)
        err = mqtt_publish(p->mqtt, request_topic, &iov, 1, 0, 0, &id);
    if (err)
        give_up(p, why_set(&p->why, err, "the request cannot be sent"));
}

/* {"status":"SUCCESS",…} or {"status":"FAILURE","errorMsg":…} */
static void judge(struct provision *p, struct str payload)
{
    yyjson_doc *doc = json_read(payload, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct str status = json_str(json_get(root, STR("status"))), message = json_str(json_get(root, STR("errorMsg")));

    if (str_eq(status, STR("SUCCESS"))) {
        enum err err = credentials_parse(&p->credentials, &p->arena, payload, &p->why);

        if (!err && p->credentials.type != p->conf.type)
            err = why_set(&p->why, ERR_PROTO, "the platform has made credentials of another type");
        if (err)
            why_prefix(&p->why, "the platform's answer cannot be used");
        else
            buf_add_str(&p->answer, payload);
        give_up(p, err ? ERR_PROTO : ERR_OK);
    } else if (str_eq(status, STR("NOT_FOUND"))) {
        give_up(p, why_set(&p->why, ERR_AUTH,
                           "the platform knows no device profile with this key and secret (" STR_FMT
                           "): check \"provisionDeviceKey\" and \"provisionDeviceSecret\"",
                           STR_ARG(message.n ? message : status)));
    } else if (status.n) {
        give_up(p, why_set(&p->why, ERR_AUTH,
                           "the platform gives no credentials for \"" STR_FMT "\": " STR_FMT
                           "; is there a device of that name already? Set another \"deviceName\", or remove the device",
                           STR_ARG(p->conf.device_name), STR_ARG(message.n ? message : status)));
    } else {
        give_up(p, why_set(&p->why, ERR_PROTO, "the platform's answer is not understood"));
    }
    yyjson_doc_free(doc);
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    struct provision *p = arg;

    mqtt_ack(p->mqtt, message->qos, message->packet_id, 0);
    if (p->step != ASKING || !str_eq(message->topic, response_topic) || !timer_is_running(&p->limit))
        return;
    judge(p, str_of(message->payload, message->payload_n));
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct provision *p = arg;

    timer_stop(&p->limit);
    if (p->answer.n) {
        p->step = STORING;
        p->work_why = (struct why){0};
        work_start(&p->work, p->loop, store, stored, p);
        return;
    }
    if (!p->why.err)
        why_set(&p->why, err ? err : ERR_CLOSED, "%s",
                why && why->text[0] ? why->text : err_text(err ? err : ERR_CLOSED));
    finish(p, p->why.err);
}

static void on_acked(void *arg UNUSED, uint16_t packet_id UNUSED, uint8_t code UNUSED)
{
}

static void on_limit(void *arg)
{
    struct provision *p = arg;

    give_up(p, why_set(&p->why, ERR_TIMEOUT, "no answer to the provisioning request in %d s", ANSWER_MS / 1000));
}

static void ask(struct provision *p)
{
    p->step = ASKING;
    p->attempt = (struct mqtt_conf){.stream = p->conf.stream,
                                    .version = MQTT_311,
                                    .username = STR("provision"),
                                    .keep_alive_s = KEEP_ALIVE_S,
                                    .clean_start = true};
    timer_start(&p->limit, ANSWER_MS);
    mqtt_connect(p->mqtt, &p->attempt);
}

static void prepared(void *arg)
{
    struct provision *p = arg;

    if (p->is_stopping)
        why_set(&p->work_why, ERR_CLOSED, "stopping");
    if (!p->work_why.err) {
        ask(p);
        return;
    }
    p->why = p->work_why;
    finish(p, p->why.err);
}

/* --- exported ------------------------------------------------------------------------------------------------------------- */

struct provision *provision_new(struct loop *loop, struct log *log, const struct provision_conf *conf,
                                const struct provision_events *events, void *arg)
{
    static const struct mqtt_events mqtt_events = {
        .connected = on_connected, .closed = on_closed, .message = on_message, .acked = on_acked};
    struct provision *p = mem_zero(sizeof *p);

    p->loop = loop;
    p->log = log;
    p->conf = *conf;
    p->events = *events;
    p->arg = arg;
    arena_init(&p->arena, 512);
    choose(p);
    p->mqtt = mqtt_new(loop, log, &mqtt_events, p);
    timer_init(&p->limit, loop, on_limit, p);
    return p;
}

void provision_start(struct provision *p)
{
    loop_assert(p->loop);
    assert(p->step == IDLE);
    p->is_stopping = false;
    if (p->conf.type != CREDENTIALS_CERTIFICATE || p->certificate.n) {
        ask(p);
        return;
    }
    p->step = PREPARING;
    p->work_why = (struct why){0};
    work_start(&p->work, p->loop, prepare, prepared, p);
}

void provision_stop(struct provision *p)
{
    p->is_stopping = true;
    if (p->step == ASKING && timer_is_running(&p->limit))
        give_up(p, why_set(&p->why, ERR_CLOSED, "stopping"));
}

bool provision_is_busy(const struct provision *p)
{
    return p->step != IDLE;
}

static void wipe(struct buf *buf)
{
    if (buf->p)
        explicit_bzero(buf->p, buf->n);
    buf_fini(buf);
}

void provision_free(struct provision *p)
{
    if (!p)
        return;
    assert(p->step == IDLE);
    timer_stop(&p->limit);
    mqtt_free(p->mqtt);
    wipe(&p->request);
    wipe(&p->answer);
    buf_fini(&p->certificate);
    arena_fini(&p->arena);
    mem_free(p);
}
