/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of tb_gateway.json (core.md 2 to 4, 7, 9, 11, 12.4; storage.md 1, 4; platform-api.md 3). What the environment
 * puts before them and the files that they name: gateway_load.c. logs.json, list.json, statistics.json: gateway_files.c.
 */
#include "gateway/gateway_conf.h"

#include "uplink/uplink.h"

#include <inttypes.h>
#include <unistd.h>

/* ---- thingsboard.security ---- */

static const struct field security_fields[] = {
    F_AT(struct security_conf, at),
    F_STR(
        struct security_conf, type_name, "type",
        .doc =
            "accessToken, tlsAccessToken, usernamePassword, x509Certificate (also tlsPrivateKey) or anonymous. Absent: "
            "accessToken if there is one, else anonymous."),
    F_SECRET(struct security_conf, access_token, "accessToken", .doc = "The gateway's token, sent as MQTT user name."),
    F_STR(struct security_conf, username, "username", .doc = "MQTT user name."),
    F_SECRET(struct security_conf, password, "password", .doc = "MQTT password."),
    F_STR(struct security_conf, client_id, "clientId", .doc = "MQTT client id; empty when absent."),
    F_STR(struct security_conf, ca_cert, "caCert",
          .doc = "File with the certificates that the platform's must descend from; switches TLS on. Relative to the "
                 "configuration directory, or as given. Absent: the system's."),
    F_STR(struct security_conf, private_key, "privateKey", .doc = "File with the key of the client certificate."),
    F_STR(struct security_conf, cert, "cert", .doc = "File with the client certificate."),
    F_BOOL(struct security_conf, tls, "tls", .doc = "Use TLS. Port 8883 and caCert switch it on by themselves."),
    F_BOOL(struct security_conf, insecure, "insecure",
           .doc = "With caCert: do not compare the host's name; without: verify nothing. Only for tests."),
    F_UINT(struct security_conf, check_cert_period_s, "checkCertPeriod", .def = 86400, .min = 1, .unit = "s",
           .has_offset = offsetof(struct security_conf, has_check_cert_period),
           .doc = "How often the certificates' dates are looked at."),
    F_UINT(struct security_conf, certificate_days_left, "certificateDaysLeft", .def = 3, .unit = "days",
           .has_offset = offsetof(struct security_conf, has_certificate_days_left),
           .doc = "Warn when a certificate is valid for no longer than this."),
    F_IGNORED("ts", NULL),
    F_END};

static const struct {
    const char *name;
    enum security_type type;
} security_types[] = {{"accessToken", SECURITY_ACCESS_TOKEN},           {"tlsAccessToken", SECURITY_TLS_ACCESS_TOKEN},
                      {"usernamePassword", SECURITY_USERNAME_PASSWORD}, {"x509Certificate", SECURITY_CERTIFICATE},
                      {"tlsPrivateKey", SECURITY_CERTIFICATE},          {"anonymous", SECURITY_ANONYMOUS}};

/* The peer takes any other name for a certificate; here it must at least look like one, so that a slip is found. */
static enum err find_security_type(struct conf_load *load, struct security_conf *security, const struct conf_at *at)
{
    struct str name = security->type_name;
    const char *nearest = NULL;
    unsigned best = 4;

    if (!name.n) {
        security->type = security->access_token.value.n ? SECURITY_ACCESS_TOKEN
                         : security->username.n         ? SECURITY_USERNAME_PASSWORD
                         : security->cert.n             ? SECURITY_CERTIFICATE
                                                        : SECURITY_ANONYMOUS;
        return ERR_OK;
    }
    for (size_t i = 0; i < COUNT_OF(security_types); i++) {
        unsigned distance = str_distance(name, str_from(security_types[i].name), 3);

        if (str_eq_nocase(name, str_from(security_types[i].name))) {
            security->type = security_types[i].type;
            return ERR_OK;
        }
        if (distance < best) {
            best = distance;
            nearest = security_types[i].name;
        }
    }
    if (security->cert.n && security->private_key.n) {
        conf_warning(load, at, "type", "found \"" STR_FMT "\"; it is taken for x509Certificate", STR_ARG(name));
        security->type = SECURITY_CERTIFICATE;
        return ERR_OK;
    }
    conf_error(
        load, at, "type",
        "found \"" STR_FMT "\"; expected one of \"accessToken\", \"tlsAccessToken\", "
        "\"usernamePassword\", \"x509Certificate\", \"tlsPrivateKey\" or \"anonymous\"; the file is not used%s%s%s",
        STR_ARG(name), nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return ERR_CONFIG;
}

static const char *find_file(struct conf_load *load, const struct conf_at *at, const char *key, struct str name)
{
    const char *path;

    if (!name.n)
        return NULL;
    path = conf_path(load, name);
    if (access(path, R_OK) != 0)
        conf_error(load, at, key,
                   "file %s cannot be read; expected one relative to the configuration directory or with its "
                   "full path",
                   path);
    return path;
}

/* The file's own keys that its way to log in leaves aside. Where an environment variable has chosen another way it is only
 * noted: the file alone may be right. */
static void tell_unused_logins(struct conf_load *load, const struct security_conf *security, const struct conf_at *at)
{
    enum { TOKEN = 1 << SECURITY_ACCESS_TOKEN | 1 << SECURITY_TLS_ACCESS_TOKEN };
    enum { NAMED = 1 << SECURITY_USERNAME_PASSWORD, CERTIFIED = 1 << SECURITY_CERTIFICATE };
    const struct {
        const char *key;
        bool is_set;
        unsigned used_by;
    } keys[] = {
        {"accessToken", security->access_token.value.n > 0, TOKEN}, {"username", security->username.n > 0, NAMED},
        {"password", security->password.value.n > 0, NAMED},        {"clientId", security->client_id.n > 0, NAMED},
        {"privateKey", security->private_key.n > 0, CERTIFIED},     {"cert", security->cert.n > 0, CERTIFIED}};
    struct conf_at type_at = conf_place(load, at, "type");
    const char *name = "anonymous";

    for (size_t i = COUNT_OF(security_types); i-- > 0;)
        if (security_types[i].type == security->type)
            name = security_types[i].name;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct conf_at key_at = conf_place(load, at, keys[i].key);

        if (!keys[i].is_set || 1U << security->type & keys[i].used_by || key_at.file != at->file)
            continue;
        if (type_at.file == at->file)
            conf_warning(load, at, keys[i].key, "has no effect: the login is of type \"%s\"", name);
        else
            conf_note(load, at, keys[i].key, "has no effect: environment variables make the login one of type \"%s\"",
                      name);
    }
}

static enum err check_security(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct security_conf *security = object;
    enum err err = find_security_type(load, security, at);

    if (err)
        return err;
    tell_unused_logins(load, security, at);
    security->ca_cert_path = find_file(load, at, "caCert", security->ca_cert);
    security->private_key_path = find_file(load, at, "privateKey", security->private_key);
    security->cert_path = find_file(load, at, "cert", security->cert);
    if ((security->type == SECURITY_ACCESS_TOKEN || security->type == SECURITY_TLS_ACCESS_TOKEN) &&
        !security->access_token.value.n)
        conf_error(load, at, "accessToken", "missing; \"type\" \"" STR_FMT "\" needs the gateway's token",
                   STR_ARG(security->type_name));
    if (security->type == SECURITY_CERTIFICATE && !security->cert.n)
        conf_error(load, at, "cert", "missing; \"type\" \"" STR_FMT "\" needs a client certificate",
                   STR_ARG(security->type_name));
    if (security->type == SECURITY_CERTIFICATE && !security->private_key.n)
        conf_error(load, at, "privateKey", "missing; \"type\" \"" STR_FMT "\" needs the certificate's key",
                   STR_ARG(security->type_name));
    if (security->insecure)
        conf_warning(load, at, "insecure", "%s",
                     security->ca_cert.n ? "the platform's name is not verified"
                                         : "the platform is not verified at all");
    return ERR_OK;
}

const struct conf_type security_conf_type = {.name = "security",
                                             .size = sizeof(struct security_conf),
                                             .fields = security_fields,
                                             .check = check_security,
                                             .doc = "How the gateway logs in to the platform."};

/* ---- thingsboard.provisioning ---- */

static const struct choice provisioning_types[] = {{"ACCESS_TOKEN", PROVISION_ACCESS_TOKEN},
                                                   {"MQTT_BASIC", PROVISION_MQTT_BASIC},
                                                   {"X509_CERTIFICATE", PROVISION_X509},
                                                   {NULL, 0}};
static const struct field provisioning_fields[] = {
    F_AT(struct provisioning_conf, at),
    F_ENUM(struct provisioning_conf, type, "type", .of = provisioning_types, .def = PROVISION_ACCESS_TOKEN,
           .need = true, .doc = "Which kind of credentials the platform makes."),
    F_STR(struct provisioning_conf, device_key, "provisionDeviceKey", .need = true, .min = 1,
          .doc = "Key of the device profile's provisioning."),
    F_SECRET(struct provisioning_conf, device_secret, "provisionDeviceSecret", .need = true, .min = 1,
             .doc = "Its secret."),
    F_STR(struct provisioning_conf, device_name, "deviceName", .doc = "Absent: Gateway and five random letters."),
    F_SECRET(struct provisioning_conf, access_token, "access_token", .doc = "Absent: random letters."),
    F_STR(struct provisioning_conf, client_id, "client_id", .doc = "For MQTT_BASIC; absent: random letters."),
    F_STR(struct provisioning_conf, username, "username", .doc = "For MQTT_BASIC; absent: random letters."),
    F_SECRET(struct provisioning_conf, password, "password", .doc = "For MQTT_BASIC; absent: random letters."),
    F_STR(struct provisioning_conf, ca_cert, "caCert",
          .doc = "File with the platform's CA; X509_CERTIFICATE needs it."),
    F_IGNORED("ts", NULL),
    F_END};
static enum err check_provisioning(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct provisioning_conf *provisioning = object;

    if (provisioning->type == PROVISION_X509 && !provisioning->ca_cert.n) {
        conf_error(load, at, "caCert", "missing; \"type\" \"X509_CERTIFICATE\" needs it; the section is not used");
        return ERR_CONFIG;
    }
    return ERR_OK;
}
const struct conf_type provisioning_conf_type = {.name = "provisioning",
                                                 .size = sizeof(struct provisioning_conf),
                                                 .fields = provisioning_fields,
                                                 .check = check_provisioning,
                                                 .doc = "How the gateway asks the platform for credentials."};

/* ---- small sections of thingsboard ---- */

static const struct field statistics_fields[] = {
    F_AT(struct statistics_conf, at),
    F_BOOL(struct statistics_conf, enable, "enable", .live = true,
           .doc = "Send statistics as the gateway's own telemetry."),
    F_BOOL(struct statistics_conf, enable_custom, "enableCustom", .def = true, .live = true,
           .doc = "Run custom commands."),
    F_UINT(struct statistics_conf, period_s, "statsSendPeriodInSeconds", .def = 60, .unit = "s", .live = true,
           .doc = "Time between two messages, at least 10 s."),
    F_UINT(struct statistics_conf, custom_period_s, "customStatsSendPeriodInSeconds", .def = 300, .unit = "s",
           .live = true, .doc = "Time between two runs of the custom commands."),
    F_STR(struct statistics_conf, file, "configuration", .doc = "File with custom commands."),
    F_LIST(struct statistics_conf, commands, "commands", &command_conf_type,
           .doc = "Custom commands, as in that file."),
    F_IGNORED("ts", NULL),
    F_END};
static enum err check_statistics(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct statistics_conf *statistics = object;

    if (statistics->period_s < 10) {
        conf_warning(load, at, "statsSendPeriodInSeconds", "found %" PRIu32 "; 10 s is the least and is used",
                     statistics->period_s);
        statistics->period_s = 10;
    }
    if (statistics->custom_period_s < 1)
        statistics->custom_period_s = 1;
    return ERR_OK;
}
static const struct conf_type statistics_type = {.name = "statistics",
                                                 .size = sizeof(struct statistics_conf),
                                                 .fields = statistics_fields,
                                                 .check = check_statistics};

static const struct field filtering_fields[] = {
    F_AT(struct filtering_conf, at),
    F_BOOL(struct filtering_conf, enable, "enable", .live = true, .doc = "Filter devices by their names."),
    F_STR(struct filtering_conf, file, "filterFile", .live = true,
          .doc = "File with the rules, in the configuration directory."),
    F_IGNORED("ts", NULL), F_END};
static enum err check_filtering(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct filtering_conf *filtering = object;

    if (!filtering->enable || filtering->file.n)
        return ERR_OK;
    conf_error(load, at, "filterFile", "missing; \"enable\" needs it; the section is not used");
    return ERR_CONFIG;
}
static const struct conf_type filtering_type = {.name = "deviceFiltering",
                                                .size = sizeof(struct filtering_conf),
                                                .fields = filtering_fields,
                                                .check = check_filtering};

static const struct field activity_fields[] = {
    F_AT(struct activity_conf, at),
    F_BOOL(struct activity_conf, enable, "checkDeviceInactivity", .live = true,
           .doc = "Disconnect devices that send nothing."),
    F_UINT(struct activity_conf, timeout_s, "inactivityTimeoutSeconds", .def = 50, .min = 1, .unit = "s", .live = true,
           .doc = "Time without data after which a device counts as inactive."),
    F_UINT(struct activity_conf, period_s, "inactivityCheckPeriodSeconds", .def = 1, .min = 1, .unit = "s",
           .live = true, .doc = "How often that is looked at."),
    F_IGNORED("ts", NULL),
    F_END};
static const struct conf_type activity_type = {
    .name = "checkingDeviceActivity", .size = sizeof(struct activity_conf), .fields = activity_fields};

/* ---- thingsboard ---- */

static const struct choice keep_alive_modes[] = {
    {"auto", DEVICE_KEEP_ALIVE_AUTO}, {"off", DEVICE_KEEP_ALIVE_OFF}, {NULL, 0}};

#define RATE_DOC                                                                                                       \
    "LIMIT:SECONDS joined by commas (\"10:1,60:60\"), \"0:0\" or empty for none, or the name of the default."
static const struct field platform_fields[] = {
    F_AT(struct platform_conf, at),
    F_STR(struct platform_conf, host, "host", .need = true, .min = 1, .doc = "Host name or address of the platform."),
    F_UINT(struct platform_conf, port, "port", .def = 1883, .min = 1, .max = 65535,
           .doc = "Its MQTT port; 8883 switches TLS on."),
    F_STR(struct platform_conf, proxy_host, "proxy_host", .doc = "HTTP proxy (CONNECT) on the way to the platform."),
    F_UINT(struct platform_conf, proxy_port, "proxy_port", .def = 8080, .min = 1, .max = 65535,
           .has_offset = offsetof(struct platform_conf, has_proxy_port), .doc = "Its port."),
    F_UINT(struct platform_conf, keep_alive_s, "keep_alive", .def = 120, .max = 65535, .unit = "s",
           .doc = "MQTT keep-alive."),
    F_UINT(struct platform_conf, qos, "qos", .def = 1, .max = 1, .doc = "MQTT quality of service of what is sent."),
    F_BOOL(struct platform_conf, remote_shell, "remoteShell", .live = true, .doc = "Allow shell commands by RPC."),
    F_BOOL(struct platform_conf, remote_configuration, "remoteConfiguration",
           .doc = "The platform may change the configuration."),
    F_BOOL(struct platform_conf, latency_debug, "latencyDebugMode", .live = true,
           .doc = "Each entry of telemetry also tells its connector and when it came, was stored and sent."),
    F_BOOL(struct platform_conf, sync_shared_attributes, "syncDevicesSharedAttributesOnConnect", .live = true,
           .def = true, .has_offset = offsetof(struct platform_conf, has_sync_shared_attributes),
           .doc = "Ask for a device's shared attributes when it connects."),
    F_IGNORED("managerEnabled", "the control socket is always there"),
    F_OBJECT(struct platform_conf, statistics, "statistics", &statistics_type, .skip = true,
             .doc = "Absent: enabled, every 60 s."),
    F_OBJECT(struct platform_conf, filtering, "deviceFiltering", &filtering_type, .skip = true),
    F_UINT(struct platform_conf, max_payload_bytes, "maxPayloadSizeBytes", .live = true, .def = 8196, .min = 64,
           .unit = "bytes", .has_offset = offsetof(struct platform_conf, has_max_payload),
           .doc = "Upper bound of one message until limits are negotiated; then too, if the key is there."),
    F_MS(struct platform_conf, min_pack_delay_ms, "minPackSendDelayMS", .live = true, .def = 50,
         .doc = "Longest time that a value waits for company while other messages are under way."),
    F_UINT(struct platform_conf, min_pack_values, "minPackSizeToSend", .live = true, .def = 500, .min = 1,
           .doc = "Number of values that ends this waiting early."),
    F_UINT(struct platform_conf, check_files_period_s, "checkConnectorsConfigurationInSeconds", .def = 60, .unit = "s",
           .doc = "How often the configuration files are looked at where the system does not tell of changes."),
    F_BOOL(struct platform_conf, handle_renaming, "handleDeviceRenaming", .live = true, .def = true,
           .has_offset = offsetof(struct platform_conf, has_handle_renaming),
           .doc = "Follow the platform when it renames a device."),
    F_OBJECT(struct platform_conf, security, "security", &security_conf_type, .always = true,
             .has_offset = offsetof(struct platform_conf, has_security)),
    F_OBJECT(struct platform_conf, provisioning, "provisioning", &provisioning_conf_type, .skip = true),
    F_BOOL(struct platform_conf, batch_devices, "batchDevices", .live = true, .def = true,
           .doc = "Telemetry of several devices in one message."),
    F_ENUM(struct platform_conf, device_keep_alive, "deviceKeepAlive", .live = true, .of = keep_alive_modes,
           .def = DEVICE_KEEP_ALIVE_AUTO, .has_offset = offsetof(struct platform_conf, has_device_keep_alive),
           .doc = "Keep the platform from ending the sessions of quiet devices."),
    F_UINT(struct platform_conf, device_keep_alive_s, "deviceKeepAliveSeconds", .live = true, .def = 300, .min = 1,
           .unit = "s", .has_offset = offsetof(struct platform_conf, has_device_keep_alive_s),
           .doc = "After how much silence; half of the platform's own time-out."),
    F_UINT(struct platform_conf, loops, "loops", .max = 64,
           .doc = "Threads for data; 0 or absent: one a core, at most four, and no more than connectors."),
    F_REPORT_STRATEGY(struct platform_conf, report_strategy),
    F_UINT(struct platform_conf, report_cleanup_s, "reportStrategyDataCacheCleanupInterval", .def = 3600, .min = 1,
           .unit = "s", .doc = "How often expired values of the report filter are forgotten."),
    F_OBJECT(struct platform_conf, activity, "checkingDeviceActivity", &activity_type, .skip = true,
             .doc = "Absent: off."),
    F_STR(struct platform_conf, ota_hook, "otaHook",
          .doc = "Program that installs firmware which the platform assigns to the gateway: run with file, title and "
                 "version; relative to the configuration directory. Absent: such firmware is left alone."),
    F_BOOL(struct platform_conf, publish_secrets, "publishSecrets", .def = true,
           .doc = "Remote configuration sends secrets back as they are; false: as ***."),
    F_STR(struct platform_conf, rate[0], "rateLimits", .live = true, .def_str = "DEFAULT_TELEMETRY_RATE_LIMIT",
          .doc = "Messages with own telemetry and attributes. " RATE_DOC),
    F_STR(struct platform_conf, rate[1], "dpRateLimits", .live = true, .def_str = "DEFAULT_TELEMETRY_DP_RATE_LIMIT",
          .doc = "Values in them. " RATE_DOC),
    F_STR(struct platform_conf, rate[2], "messagesRateLimits", .live = true, .def_str = "DEFAULT_MESSAGES_RATE_LIMIT",
          .doc = "Other own messages. " RATE_DOC),
    F_STR(struct platform_conf, rate[3], "deviceRateLimits", .live = true, .def_str = "DEFAULT_TELEMETRY_RATE_LIMIT",
          .doc = "Messages with devices' telemetry and attributes. " RATE_DOC),
    F_STR(struct platform_conf, rate[4], "deviceDpRateLimits", .live = true,
          .def_str = "DEFAULT_TELEMETRY_DP_RATE_LIMIT", .doc = "Values in them. " RATE_DOC),
    F_STR(struct platform_conf, rate[5], "deviceMessagesRateLimits", .live = true,
          .def_str = "DEFAULT_MESSAGES_RATE_LIMIT", .doc = "Other messages of devices. " RATE_DOC),
    F_IGNORED("ts", NULL),
    F_END};

static bool is_rate_limit(struct str text)
{
    static const char *const defaults[] = {"DEFAULT_TELEMETRY_RATE_LIMIT", "DEFAULT_TELEMETRY_DP_RATE_LIMIT",
                                           "DEFAULT_MESSAGES_RATE_LIMIT"};

    for (size_t i = 0; i < COUNT_OF(defaults); i++)
        if (str_eq_z(text, defaults[i]))
            return true;
    while (text.n) {
        size_t end = 0;
        struct str part, limit;
        uint64_t number;

        while (end < text.n && text.p[end] != ',' && text.p[end] != ';')
            end++;
        part = str_trim(str_cut(text, end));
        text = str_skip(text, end + 1);
        if (!part.n)
            continue; /* "10:1," ends with one */
        if (!str_split(&part, ':', &limit) || str_to_u64(str_trim(limit), &number) ||
            str_to_u64(str_trim(part), &number))
            return false;
    }
    return true;
}

static void check_rate_limits(struct conf_load *load, struct platform_conf *platform, const struct conf_at *at)
{
    for (const struct field *field = platform_fields; field->type != FIELD_END; field++) {
        struct str *text = (struct str *)((char *)platform + field->offset);

        if (field->type != FIELD_STR || text < platform->rate || text >= platform->rate + RATE_LIMIT_KEYS ||
            is_rate_limit(*text))
            continue;
        conf_error(load, at, field->key,
                   "found \"" STR_FMT "\"; expected LIMIT:SECONDS joined by commas, as \"10:1,60:60\"; "
                   "the default \"%s\" is used",
                   STR_ARG(*text), field->def_str);
        *text = str_from(field->def_str);
    }
}

static enum err check_platform(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct platform_conf *platform = object;
    const struct security_conf *security = platform->security;

    check_rate_limits(load, platform, at);
    if (!platform->keep_alive_s || platform->keep_alive_s > UPLINK_KEEP_ALIVE_MAX_S)
        conf_warning(load, at, "keep_alive", "found %" PRIu32 "; the platform ends silent connections: %d s is used",
                     platform->keep_alive_s, UPLINK_KEEP_ALIVE_MAX_S);
    if (platform->proxy_host.n && !platform->has_proxy_port)
        conf_warning(load, at, "proxy_port", "missing; 8080 is used");
    platform->use_tls = platform->port == 8883 || security->tls || security->ca_cert.n ||
                        security->type == SECURITY_TLS_ACCESS_TOKEN || security->type == SECURITY_CERTIFICATE;
    return ERR_OK;
}

const struct conf_type platform_conf_type = {.name = "thingsboard",
                                             .size = sizeof(struct platform_conf),
                                             .fields = platform_fields,
                                             .check = check_platform,
                                             .doc = "The platform and how the gateway speaks with it."};

/* ---- storage ---- */

static const struct choice storage_types[] = {
    {"memory", STORAGE_MEMORY}, {"file", STORAGE_FILE}, {"sqlite", STORAGE_SQLITE}, {NULL, 0}};
static const struct choice overflows[] = {
    {"block", STORAGE_BLOCK}, {"drop_newest", STORAGE_DROP_NEWEST}, {"drop_oldest", STORAGE_DROP_OLDEST}, {NULL, 0}};
static const struct field storage_fields[] = {
    F_AT(struct storage_conf, at),
    F_ENUM(struct storage_conf, type, "type", .of = storage_types, .def = STORAGE_MEMORY, .strict = true,
           .has_offset = offsetof(struct storage_conf, has_type), .doc = "Where data waits for the platform."),
    F_ENUM(struct storage_conf, overflow, "overflow", .of = overflows, .def = STORAGE_BLOCK, .strict = true,
           .doc = "When it is full: slow the sources down, or drop the newest or the oldest data (counted)."),
    F_UINT(struct storage_conf, memory_batch, "read_records_count", .def = 1000, .min = 1,
           .doc = "memory: most events in one message to the platform."),
    F_UINT(struct storage_conf, memory_capacity, "max_records_count", .def = 10000, .min = 1,
           .doc = "memory: capacity in events."),
    F_STR(struct storage_conf, folder, "data_folder_path", .def_str = "./",
          .doc = "file: directory; made when missing."),
    F_UINT(struct storage_conf, max_files, "max_file_count", .def = 5, .min = 1, .doc = "file: number of data files."),
    F_UINT(struct storage_conf, records_per_file, "max_records_per_file", .def = 3, .min = 1,
           .doc = "file: events a file."),
    F_UINT(struct storage_conf, records_between_fsync, "max_records_between_fsync", .def = 1,
           .has_offset = offsetof(struct storage_conf, has_records_between_fsync),
           .doc = "file: superfluous, as every acknowledgement waits until its data is on the disk."),
    F_UINT(struct storage_conf, batch, "max_read_records_count", .def = 1000, .min = 1,
           .doc = "file, sqlite: most events in one message to the platform."),
    F_STR(struct storage_conf, db_path, "data_file_path", .def_str = "./", .doc = "sqlite: directory."),
    F_UINT(struct storage_conf, transaction_rows, "writing_batch_size", .def = 1000, .min = 1,
           .doc = "sqlite: most events in one transaction."),
    F_UINT(struct storage_conf, ttl_days, "messages_ttl_in_days", .def = 7, .unit = "days",
           .doc = "sqlite: what was stored longer ago is dropped and counted; 0: never."),
    F_UINT(struct storage_conf, ttl_check_hours, "messages_ttl_check_in_hours", .def = 1, .unit = "h",
           .doc = "sqlite: how often ages are looked at."),
    F_UINT(struct storage_conf, size_limit_mb, "size_limit", .def = 1024, .unit = "MB",
           .doc = "sqlite: size of one file."),
    F_UINT(struct storage_conf, max_dbs, "max_db_amount", .def = 10, .min = 1, .doc = "sqlite: number of files."),
    F_UINT(struct storage_conf, oversize_check_min, "oversize_check_period", .def = 1, .unit = "min",
           .has_offset = offsetof(struct storage_conf, has_oversize_check),
           .doc = "sqlite: superfluous, a file never becomes larger."),
    F_INT(struct storage_conf, max_total_bytes, "max_total_bytes", .max = INT64_MAX, .unit = "bytes",
          .doc = "Bound of all that waits; 0: none, but for memory a quarter of the machine's."),
    F_UINT(struct storage_conf, backlog_rate, "backlogRate", .unit = "values/s",
           .doc = "Bound for sending what has waited during an outage, beside what is new; 0: none."),
    F_IGNORED("ts", NULL),
    F_END};

static void raise_to_one(struct conf_load *load, uint32_t *value, const char *key, const struct conf_at *at)
{
    if (*value < 1) {
        conf_warning(load, at, key, "found 0; 1 is the least and is used");
        *value = 1;
    }
}

/* The databases lie in a directory; the peer's default names a file in it. */
static void check_sqlite(struct conf_load *load, struct storage_conf *storage, const struct conf_at *at)
{
    struct str path = storage->db_path, directory = path;

    while (directory.n && directory.p[directory.n - 1] != '/')
        directory.n--;
    if (directory.n < path.n)
        conf_warning(load, at, "data_file_path",
                     "the file name \"%.*s\" is ignored; the databases get names of their own in \"%.*s\"",
                     (int)(path.n - directory.n), path.p + directory.n, directory.n ? (int)directory.n : 2,
                     directory.n ? directory.p : "./");
    storage->db_path = directory.n ? directory : STR("./");
    if (storage->has_oversize_check)
        conf_note(load, at, "oversize_check_period", "superfluous, as no file is ever larger than its limit");
}

static enum err check_storage(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct storage_conf *storage = object;

    raise_to_one(load, &storage->size_limit_mb, "size_limit", at);
    raise_to_one(load, &storage->oversize_check_min, "oversize_check_period", at);
    if (storage->has_records_between_fsync && storage->type == STORAGE_FILE)
        conf_note(load, at, "max_records_between_fsync",
                  "superfluous, as every acknowledgement waits until its data is on "
                  "the disk");
    if (!storage->folder.n)
        storage->folder = STR("./"); /* as the peer has it, which puts it in front of each name */
    if (storage->type == STORAGE_SQLITE)
        check_sqlite(load, storage, at);
    return ERR_OK;
}

static const struct conf_type storage_type = {
    .name = "storage",
    .size = sizeof(struct storage_conf),
    .fields = storage_fields,
    .check = check_storage,
    .doc = "Where data waits until the platform has acknowledged it. Keys of the "
           "other types may stand in the same section."};

/* ---- grpc, admin, extensions ---- */

static const struct field grpc_fields[] = {
    F_AT(struct grpc_conf, at),
    F_BOOL(struct grpc_conf, enabled, "enabled", .doc = "The peer's interface for connectors in other processes."),
    F_UINT(struct grpc_conf, port, "serverPort", .def = 9595, .min = 1, .max = 65535),
    F_MS(struct grpc_conf, keep_alive_ms, "keepAliveTimeMs", .def = 10000),
    F_MS(struct grpc_conf, keep_alive_timeout_ms, "keepAliveTimeoutMs", .def = 5000),
    F_BOOL(struct grpc_conf, keep_alive_without_calls, "keepAlivePermitWithoutCalls", .def = true),
    F_UINT(struct grpc_conf, max_pings_without_data, "maxPingsWithoutData"),
    F_MS(struct grpc_conf, min_time_between_pings_ms, "minTimeBetweenPingsMs", .def = 10000),
    F_MS(struct grpc_conf, min_ping_interval_ms, "minPingIntervalWithoutDataMs", .def = 5000),
    F_MS(struct grpc_conf, keep_alive_ms, "keepaliveTimeMs", .now = "keepAliveTimeMs"),
    F_MS(struct grpc_conf, keep_alive_timeout_ms, "keepaliveTimeoutMs", .now = "keepAliveTimeoutMs"),
    F_BOOL(struct grpc_conf, keep_alive_without_calls, "keepalivePermitWithoutCalls",
           .now = "keepAlivePermitWithoutCalls"),
    F_IGNORED("ts", NULL),
    F_END};
static const struct conf_type grpc_type = {.name = "grpc", .size = sizeof(struct grpc_conf), .fields = grpc_fields};

static const struct field admin_tls_fields[] = {
    F_STR(struct admin_tls_conf, cert, "cert", .need = true, .doc = "File with the certificate."),
    F_STR(struct admin_tls_conf, key, "key", .need = true, .doc = "File with its key."), F_END};
static const struct conf_type admin_tls_type = {
    .name = "admin.tls", .size = sizeof(struct admin_tls_conf), .fields = admin_tls_fields};
static const struct field admin_fields[] = {
    F_AT(struct admin_conf, at),
    F_BOOL(struct admin_conf, enabled, "enabled", .def = true, .has_offset = offsetof(struct admin_conf, has_enabled),
           .doc = "Administration over HTTP."),
    F_STR(struct admin_conf, host, "host", .def_str = "127.0.0.1",
          .doc = "Address to listen on; any but loopback needs password and tls."),
    F_UINT(struct admin_conf, port, "port", .def = 9680, .min = 1, .max = 65535),
    F_SECRET(struct admin_conf, password, "password", .doc = "Absent: the pages can only be read."),
    F_OBJECT(struct admin_conf, tls, "tls", &admin_tls_type),
    F_IGNORED("ts", NULL),
    F_END};
static enum err check_admin(struct conf_load *load, void *object, const struct conf_at *at)
{
    const struct admin_conf *admin = object;
    bool is_loopback = str_starts(admin->host, STR("127.")) || str_eq(admin->host, STR("::1")) ||
                       str_eq_nocase(admin->host, STR("localhost"));

    if (!admin->enabled || is_loopback || (admin->password.value.n && admin->tls))
        return ERR_OK;
    conf_error(load, at, "host",
               "found \"" STR_FMT "\", which others can reach; expected \"password\" and \"tls\" with it; the "
               "section is not used",
               STR_ARG(admin->host));
    return ERR_CONFIG;
}
static const struct conf_type admin_type = {
    .name = "admin", .size = sizeof(struct admin_conf), .fields = admin_fields, .check = check_admin};

static const struct choice isolations[] = {{"process", 1}, {"shared", 2}, {NULL, 0}};
static const struct field restart_fields[] = {
    F_UINT(struct restart_conf, max, "max", .def = 10, .doc = "Most restarts in that time."),
    F_UINT(struct restart_conf, window_s, "windowS", .def = 600, .unit = "s"), F_END};
static const struct conf_type restart_type = {
    .name = "extensions.restart", .size = sizeof(struct restart_conf), .fields = restart_fields};
static const struct field extensions_fields[] = {
    F_AT(struct extensions_conf, at),
    F_STRS(struct extensions_conf, paths, "paths", .doc = "Directories with extensions; the first that has one wins."),
    F_STR(struct extensions_conf, python, "python", .def_str = "python3"),
    F_ENUM(struct extensions_conf, isolation, "isolation", .of = isolations, .def = 1,
           .doc = "One process a connector, or one for all Python converters."),
    F_UINT(struct extensions_conf, cpu_seconds, "cpuSeconds", .unit = "s", .doc = "Limit of a process; 0: none."),
    F_UINT(struct extensions_conf, memory_mb, "memoryMb", .unit = "MB", .doc = "Limit of a process; 0: none."),
    F_STR(struct extensions_conf, user, "user", .doc = "User that processes run as."),
    F_OBJECT(struct extensions_conf, restart, "restart", &restart_type, .always = true),
    F_MS(struct extensions_conf, convert_timeout_ms, "convertTimeoutMs", .def = 5000, .min = 1),
    F_UINT(struct extensions_conf, window, "window", .def = 256, .min = 1, .doc = "Most open requests a process."),
    F_MAP(struct extensions_conf, env, "env", NULL, .doc = "Environment of the processes."),
    F_BOOL(struct extensions_conf, allow_pip, "allowPip", .doc = "Extensions may install packages."),
    F_IGNORED("ts", NULL),
    F_END};
static const struct conf_type extensions_type = {
    .name = "extensions", .size = sizeof(struct extensions_conf), .fields = extensions_fields};

/* ---- connectors[] ---- */

static const struct field entry_fields[] = {
    F_AT(struct connector_entry, at),
    F_STR(struct connector_entry, type, "type", .need = true, .min = 1, .doc = "The protocol: mqtt, modbus, opcua …"),
    F_STR(struct connector_entry, name, "name", .need = true, .min = 1, .doc = "Unique name of the connector."),
    F_STR(struct connector_entry, configuration, "configuration", .need = true, .min = 1,
          .doc = "Its file, relative to the configuration directory."),
    F_STR(struct connector_entry, class_name, "class", .doc = "Class of a custom connector."),
    F_SECRET(struct connector_entry, key, "key", .doc = "Secret of a gRPC connector, or auto."),
    F_BOOL(struct connector_entry, grpc_force, "useGRPCForce", .doc = "Accepted without effect."),
    F_IGNORED("id", "the connector's file counts"),
    F_IGNORED("configVersion", "the connector's file counts"),
    F_IGNORED("logLevel", "the connector's file counts"),
    F_IGNORED("enableRemoteLogging", "the connector's file counts"),
    F_IGNORED("configurationJson", "the connector's file counts"),
    F_IGNORED("ts", NULL),
    F_END};

static struct str lower(struct arena *arena, struct str text)
{
    char *copy = arena_text(arena, text);

    for (size_t i = 0; i < text.n; i++)
        copy[i] = (char)(copy[i] >= 'A' && copy[i] <= 'Z' ? copy[i] - 'A' + 'a' : copy[i]);
    return str_of(copy, text.n);
}

static enum err check_entry(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct connector_entry *entry = object;
    const char *path = conf_path(load, entry->configuration);

    for (size_t i = 0; i < entry->name.n; i++)
        if ((unsigned char)entry->name.p[i] < 0x20 || entry->name.p[i] == 0x7f) {
            conf_error(load, at, "name",
                       "contains a control character (U+%04X); expected text that can be shown; the connector is not "
                       "started",
                       (unsigned char)entry->name.p[i]);
            return ERR_CONFIG;
        }
    entry->type = lower(conf_arena(load), entry->type);
    entry->type_at = conf_place(load, at, "type");
    entry->configuration_at = conf_place(load, at, "configuration");
    if (entry->grpc_force)
        conf_note(load, at, "useGRPCForce", "has no effect; the connector runs inside of the gateway");
    if (conf_file_exists(path))
        entry->path = path;
    else
        conf_error(load, at, "configuration",
                   "found \"" STR_FMT "\", which is not there; expected a file, relative to the "
                   "configuration directory or with its full path; the connector is not started",
                   STR_ARG(entry->configuration));
    return ERR_OK;
}
static const struct conf_type entry_type = {
    .name = "connectors", .size = sizeof(struct connector_entry), .fields = entry_fields, .check = check_entry};

/* ---- the file ---- */

static const struct field main_fields[] = {
    F_OBJECT(struct main_conf, platform, "thingsboard", &platform_conf_type,
             .has_offset = offsetof(struct main_conf, has_thingsboard)),
    F_OBJECT(struct main_conf, platform, "industryos", &platform_conf_type, .now = "thingsboard", .equal_name = true,
             .has_offset = offsetof(struct main_conf, has_industryos)),
    F_OBJECT(struct main_conf, platform, "platform", &platform_conf_type, .now = "thingsboard", .equal_name = true,
             .has_offset = offsetof(struct main_conf, has_platform)),
    F_OBJECT(struct main_conf, storage, "storage", &storage_type, .always = true,
             .has_offset = offsetof(struct main_conf, has_storage)),
    F_OBJECT(struct main_conf, grpc, "grpc", &grpc_type, .always = true, .skip = true),
    F_LIST(struct main_conf, connectors, "connectors", &entry_type, .no_duplicates = true, .unique = "name"),
    F_OBJECT(struct main_conf, admin, "admin", &admin_type, .skip = true),
    F_OBJECT(struct main_conf, extensions, "extensions", &extensions_type, .skip = true),
    F_BOOL(struct main_conf, handle_renaming, "handleDeviceRenaming", .def = true,
           .has_offset = offsetof(struct main_conf, has_handle_renaming),
           .doc = "As thingsboard.handleDeviceRenaming, which counts if both are there."),
    F_IGNORED("ts", NULL),
    F_END};

static void later(struct conf_load *load, const struct conf_at *at, const char *key, bool is_set)
{
    if (is_set)
        conf_warning(load, at, key, "has no effect in this version");
}

/* What the program reads but does not do: the one place that says so. */
static void warn_of_what_has_no_effect(struct conf_load *load, const struct main_conf *conf)
{
    const struct platform_conf *platform = conf->platform;

    if (platform->remote_shell)
        conf_warning(load, &platform->at, "remoteShell",
                     "is on: the platform can run any command here, with the rights of this program");
    later(load, &conf->grpc->at, "enabled", conf->grpc->enabled);
    if (conf->admin)
        later(load, &conf->admin->at, NULL, conf->admin->enabled);
    if (conf->extensions)
        later(load, &conf->extensions->at, NULL, true);
}

static enum err check_main(struct conf_load *load, void *object, const struct conf_at *at)
{
    struct main_conf *conf = object;
    int n_sections = conf->has_thingsboard + conf->has_industryos + conf->has_platform;

    if (n_sections > 1) {
        conf_error(load, at, conf->has_platform ? "platform" : "industryos",
                   "found a second section for the platform; "
                   "expected exactly one of \"thingsboard\", \"industryos\" or \"platform\"; the file is not used");
        return ERR_CONFIG;
    }
    if (!conf->platform) {
        conf_error(load, at, "thingsboard", "missing; expected an object; the file is not used");
        return ERR_CONFIG;
    }
    if (conf->has_storage && !conf->storage->has_type) {
        conf_error(load, &conf->storage->at, "type",
                   "missing; expected one of \"memory\", \"file\" or \"sqlite\"; the file is "
                   "not used");
        return ERR_CONFIG;
    }
    if (!conf->has_storage)
        conf_warning(load, at, "storage", "missing; up to %" PRIu32 " events are kept in memory",
                     conf->storage->memory_capacity);
    if (!conf->platform->has_handle_renaming && conf->has_handle_renaming)
        conf->platform->handle_renaming = conf->handle_renaming;
    warn_of_what_has_no_effect(load, conf);
    return ERR_OK;
}

const struct conf_type main_conf_type = {.name = "tb_gateway",
                                         .size = sizeof(struct main_conf),
                                         .fields = main_fields,
                                         .check = check_main,
                                         .doc = "The main file of the gateway."};
