/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/uplink_conf.h"

enum {
    ACK_TIMEOUT_MS = 10000, /* platform-api.md 1: oldest unanswered packet, then PINGREQ */
    PING_TIMEOUT_MS = 5000,
    USER_TIMEOUT_MS = 20000,
    PROXY_PORT = 8080
};

static const char *text_or_null(struct arena *arena, struct str s)
{
    return s.n ? arena_text(arena, s) : NULL;
}

/* None stays none: an absent user name is not an empty one. */
static struct str copied(struct arena *arena, struct str s)
{
    return s.p ? arena_str(arena, s) : STR_NONE;
}

static const char *copy_or_null(struct arena *arena, const char *text)
{
    return text ? arena_text(arena, str_from(text)) : NULL;
}

static void set_credentials(struct mqtt_conf *mqtt, const struct security_conf *security, struct arena *arena)
{
    switch (security->type) {
    case SECURITY_ACCESS_TOKEN:
    case SECURITY_TLS_ACCESS_TOKEN:
        mqtt->username = copied(arena, security->access_token.value);
        break;
    case SECURITY_USERNAME_PASSWORD:
        mqtt->username = copied(arena, security->username);
        mqtt->password = copied(arena, security->password.value);
        mqtt->client_id = copied(arena, security->client_id);
        break;
    case SECURITY_ANONYMOUS:
    case SECURITY_CERTIFICATE:
        break;
    }
}

/* Relative to the configuration directory, or as given. */
static const char *beside(struct arena *arena, const struct gateway_conf *conf, struct str name)
{
    struct str path = arena_printf(arena, "%s" STR_FMT, conf->dir, STR_ARG(name));

    if (!name.n)
        return NULL;
    return name.p[0] != '/' && conf_file_exists(path.p) ? path.p : arena_text(arena, name);
}

/* What provisioning makes. */
static void use_generated(struct tls_conf *tls, const struct gateway_conf *conf, struct arena *arena)
{
    tls->is_on = true;
    tls->cert_file = arena_printf(arena, "%scert.pem", conf->dir).p;
    tls->key_file = arena_printf(arena, "%skey.pem", conf->dir).p;
}

static void trust(struct tls_conf *tls, const char *ca_file)
{
    if (!ca_file)
        return;
    tls->is_on = true;
    tls->ca_file = ca_file;
}

static void use_stored(struct uplink_conf *out, const struct gateway_conf *conf, struct arena *arena)
{
    const struct credentials *stored = &conf->stored;

    out->mqtt.username = copied(arena, stored->username);
    out->mqtt.password = copied(arena, stored->password);
    out->mqtt.client_id = copied(arena, stored->client_id);
    trust(&out->mqtt.stream.tls, beside(arena, conf, stored->ca_cert));
    if (stored->type == CREDENTIALS_CERTIFICATE)
        use_generated(&out->mqtt.stream.tls, conf, arena);
}

static void use_provisioning(struct uplink_conf *out, const struct gateway_conf *conf, struct arena *arena)
{
    static const enum credentials_type types[] = {[PROVISION_ACCESS_TOKEN] = CREDENTIALS_TOKEN,
                                                  [PROVISION_MQTT_BASIC] = CREDENTIALS_BASIC,
                                                  [PROVISION_X509] = CREDENTIALS_CERTIFICATE};
    const struct provisioning_conf *from = conf->main->platform->provisioning;
    struct provision_conf *provision = arena_zero(arena, sizeof *provision);
    struct tls_conf generated = {0};

    trust(&out->mqtt.stream.tls, beside(arena, conf, from->ca_cert));
    use_generated(&generated, conf, arena);
    *provision = (struct provision_conf){.type = types[from->type],
                                         .stream = out->mqtt.stream,
                                         .device_key = copied(arena, from->device_key),
                                         .device_secret = copied(arena, from->device_secret.value),
                                         .device_name = copied(arena, from->device_name),
                                         .access_token = copied(arena, from->access_token.value),
                                         .client_id = copied(arena, from->client_id),
                                         .username = copied(arena, from->username),
                                         .password = copied(arena, from->password.value),
                                         .ca_cert = copied(arena, from->ca_cert),
                                         .path = arena_printf(arena, "%s.credentials", conf->dir).p,
                                         .cert_path = generated.cert_file,
                                         .key_path = generated.key_file};
    out->provision = provision;
}

/* Beside the data where these have a directory. */
static const char *rejected_path(struct arena *arena, const struct storage_conf *storage)
{
    struct str folder = storage->type == STORAGE_FILE     ? storage->folder
                        : storage->type == STORAGE_SQLITE ? storage->db_path
                                                          : STR("./");
    autobuf struct buf path = {0};

    buf_printf(&path, STR_FMT "%srejected.jsonl", STR_ARG(folder), str_ends(folder, STR("/")) ? "" : "/");
    return arena_text(arena, buf_str(&path));
}

void uplink_conf_from(struct uplink_conf *out, const struct gateway_conf *conf, struct arena *arena)
{
    const struct platform_conf *platform = conf->main->platform;
    const struct security_conf *security = platform->security;
    const struct storage_conf *storage = conf->main->storage;
    struct stream_conf *stream = &out->mqtt.stream;

    *out = (struct uplink_conf){
        .mqtt = {.version = MQTT_5,
                 .keep_alive_s = (uint16_t)platform->keep_alive_s,
                 .clean_start = true,
                 .ack_timeout_ms = ACK_TIMEOUT_MS,
                 .ping_timeout_ms = PING_TIMEOUT_MS},
        .qos = (uint8_t)platform->qos,
        .max_payload_bytes = platform->max_payload_bytes,
        .has_max_payload = platform->has_max_payload,
        .min_pack_delay_ms = platform->min_pack_delay_ms,
        .min_pack_values = platform->min_pack_values,
        .backlog_rate = storage->backlog_rate,
        .max_pack_events = storage->type == STORAGE_MEMORY ? storage->memory_batch : storage->batch,
        .batch_devices = platform->batch_devices,
        .has_firmware = platform->ota_hook.n > 0,
        .device_keep_alive_s =
            platform->device_keep_alive == DEVICE_KEEP_ALIVE_AUTO ? platform->device_keep_alive_s : 0,
        .rate_percent = conf->rate_percent,
        .rejected_path = rejected_path(arena, storage),
        .no_login = copy_or_null(arena, conf->no_login),
    };
    for (size_t i = 0; i < RATE_LIMIT_KEYS; i++)
        out->rate[i] = arena_text(arena, platform->rate[i]);
    *stream =
        (struct stream_conf){.host = arena_text(arena, platform->host),
                             .port = (uint16_t)platform->port,
                             .user_timeout_ms = USER_TIMEOUT_MS,
                             .proxy_host = text_or_null(arena, platform->proxy_host),
                             .proxy_port = platform->has_proxy_port ? (uint16_t)platform->proxy_port : PROXY_PORT};
    stream->tls = (struct tls_conf){.is_on = platform->use_tls,
                                    .insecure = security->insecure,
                                    .ca_file = copy_or_null(arena, security->ca_cert_path)};
    if (conf->login == LOGIN_STORED)
        use_stored(out, conf, arena);
    if (conf->login == LOGIN_PROVISION)
        use_provisioning(out, conf, arena);
    if (conf->login != LOGIN_SECURITY)
        return;
    /* A platform that sees a certificate looks at nothing else (platform-behaviour.md 1): only when it is the credential. */
    if (security->type == SECURITY_CERTIFICATE) {
        stream->tls.cert_file = copy_or_null(arena, security->cert_path);
        stream->tls.key_file = copy_or_null(arena, security->private_key_path);
    }
    set_credentials(&out->mqtt, security, arena);
}

enum log_level logger_level(const struct gateway_conf *conf, struct str name)
{
    const struct conf_map *loggers = conf->logs ? &conf->logs->loggers : NULL;

    for (size_t i = 0; loggers && i < loggers->n; i++) {
        const struct logger_conf *logger = loggers->items[i].value;

        if (str_eq(loggers->items[i].key, name) && logger && logger->has_level)
            return (enum log_level)logger->level;
    }
    return LOG_LEVEL_INFO;
}
