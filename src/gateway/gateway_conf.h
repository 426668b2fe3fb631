/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_GATEWAY_CONF_H
#define IOTGW_GATEWAY_CONF_H
/*
 * The configuration of the gateway as a whole: tb_gateway.json with what the environment puts before it, and the files
 * that it names. Everything is validated at once; each part that is right can be used although another is wrong.
 * Immutable once loaded, lives until gateway_conf_free. Loading reads files and may run on any thread.
 */
#include "conf/common.h"
#include "conf/conf.h"
#include "uplink/credentials.h"

enum security_type {
    SECURITY_ANONYMOUS,
    SECURITY_ACCESS_TOKEN,
    SECURITY_TLS_ACCESS_TOKEN,
    SECURITY_USERNAME_PASSWORD,
    SECURITY_CERTIFICATE
};
struct security_conf {
    struct conf_at at;
    struct str type_name;
    enum security_type type; /* derived from the name, or from what there is */
    struct secret access_token, password;
    struct str username, client_id;
    struct str ca_cert, private_key, cert;                   /* as written */
    const char *ca_cert_path, *private_key_path, *cert_path; /* resolved; NULL: none */
    bool tls, insecure;
    uint32_t check_cert_period_s, certificate_days_left;
    bool has_check_cert_period, has_certificate_days_left;
};

enum provisioning_type { PROVISION_ACCESS_TOKEN = 1, PROVISION_MQTT_BASIC, PROVISION_X509 };
struct provisioning_conf {
    struct conf_at at;
    int type; /* enum provisioning_type */
    struct str device_key, device_name, client_id, username, ca_cert;
    struct secret device_secret, access_token, password;
};

struct command_conf { /* a custom statistics command */
    struct str attribute, install;
    struct conf_strs argv; /* what is run; a text: /bin/sh -c text */
    double timeout_s;
    const struct yyjson_val *command;
};
struct statistics_conf {
    struct conf_at at;
    bool enable, enable_custom;
    uint32_t period_s, custom_period_s;
    struct str file;
    struct conf_list commands; /* struct command_conf */
};

struct filtering_conf {
    struct conf_at at;
    bool enable;
    struct str file;
};

struct activity_conf {
    struct conf_at at;
    bool enable;
    uint32_t timeout_s, period_s;
};

enum keep_alive_mode { DEVICE_KEEP_ALIVE_AUTO, DEVICE_KEEP_ALIVE_OFF };

enum { RATE_LIMIT_KEYS = 6 };
struct platform_conf { /* section "thingsboard" */
    struct conf_at at;
    struct str host, proxy_host, ota_hook;
    uint32_t port, proxy_port, keep_alive_s, qos;
    bool has_proxy_port;
    bool remote_shell, remote_configuration, latency_debug, sync_shared_attributes, has_sync_shared_attributes;
    struct statistics_conf *statistics;
    struct filtering_conf *filtering;
    struct activity_conf *activity;
    uint32_t max_payload_bytes;
    bool has_max_payload;
    uint32_t min_pack_delay_ms, min_pack_values, check_files_period_s;
    bool handle_renaming, has_handle_renaming; /* resolved over both places of the key */
    struct security_conf *security;            /* never NULL */
    struct provisioning_conf *provisioning;    /* NULL: none */
    bool has_security;
    bool use_tls; /* port 8883, tls, or a CA file */
    bool batch_devices;
    int device_keep_alive; /* enum keep_alive_mode */
    uint32_t device_keep_alive_s;
    bool has_device_keep_alive, has_device_keep_alive_s;
    uint32_t loops;                          /* 0: as many as fit */
    struct report_strategy *report_strategy; /* NULL: ON_RECEIVED */
    uint32_t report_cleanup_s;
    bool publish_secrets;
    struct str rate[RATE_LIMIT_KEYS]; /* in the order of struct uplink_conf; DEFAULT_… or "LIMIT:SECONDS,…" */
};

enum storage_type { STORAGE_MEMORY = 1, STORAGE_FILE, STORAGE_SQLITE };
enum storage_overflow { STORAGE_BLOCK, STORAGE_DROP_NEWEST, STORAGE_DROP_OLDEST };
struct storage_conf {
    struct conf_at at;
    int type;                               /* enum storage_type */
    int overflow;                           /* enum storage_overflow */
    uint32_t memory_batch, memory_capacity; /* events */
    uint32_t batch;                         /* file, sqlite: events per batch */
    struct str folder, db_path;
    uint32_t max_files, records_per_file, records_between_fsync;
    uint32_t transaction_rows, ttl_days, ttl_check_hours, size_limit_mb, max_dbs, oversize_check_min;
    int64_t max_total_bytes; /* 0: no bound */
    uint32_t backlog_rate;   /* values/s; 0: no bound */
    bool has_type, has_records_between_fsync, has_oversize_check;
};

struct grpc_conf {
    struct conf_at at;
    bool enabled, keep_alive_without_calls;
    uint32_t port, keep_alive_ms, keep_alive_timeout_ms, max_pings_without_data, min_time_between_pings_ms,
        min_ping_interval_ms;
};

struct admin_tls_conf {
    struct str cert, key;
};
struct admin_conf {
    struct conf_at at;
    bool enabled, has_enabled;
    struct str host;
    uint32_t port;
    struct secret password;
    struct admin_tls_conf *tls;
};

struct restart_conf {
    uint32_t max, window_s;
};
struct extensions_conf {
    struct conf_at at;
    struct conf_strs paths;
    struct str python, user;
    int isolation;
    uint32_t cpu_seconds, memory_mb, convert_timeout_ms, window;
    bool allow_pip;
    struct restart_conf *restart;
    struct conf_map env;
};

struct connector_entry {
    struct conf_at at;
    struct str type; /* lower case */
    struct str name, configuration, class_name;
    struct secret key;
    bool grpc_force;
    struct conf_at type_at, configuration_at;
    const char *path; /* of its file; NULL: not there, as reported */
};

struct main_conf {                  /* tb_gateway.json */
    struct platform_conf *platform; /* never NULL */
    struct storage_conf *storage;   /* never NULL */
    struct grpc_conf *grpc;         /* never NULL */
    struct admin_conf *admin;
    struct extensions_conf *extensions;
    struct conf_list connectors; /* struct connector_entry */
    bool has_storage;
    bool handle_renaming, has_handle_renaming;
    bool has_thingsboard, has_industryos, has_platform; /* the section's name: exactly one */
};
extern const struct conf_type main_conf_type;

struct formatter_conf {
    struct str format, datefmt;
};
struct handler_conf {
    struct str class_name, formatter, stream, filename, encoding;
    int level; /* enum log_level */
    int when;  /* place in S M H D midnight W0 … W6 */
    uint32_t interval, backup_count;
    int64_t max_bytes;
    bool utc;
};
struct logger_conf {
    struct conf_at at;
    int level; /* enum log_level */
    struct conf_strs handlers;
    bool propagate, has_level;
};
struct logs_conf { /* logs.json */
    struct conf_at at;
    uint32_t version;
    struct conf_map formatters, handlers, loggers; /* of the three structs above */
    struct logger_conf *root;
};
extern const struct conf_type logs_conf_type;

enum filter_default { FILTER_ALLOW, FILTER_DENY };
struct filter_rules {
    struct conf_strs patterns; /* valid regular expressions */
};
struct filter_conf { /* list.json: connector's name → struct filter_rules */
    struct conf_map deny, allow;
    int by_default; /* FILTER_ALLOW, FILTER_DENY */
};
extern const struct conf_type filter_conf_type;

struct command_file_conf {     /* statistics.json */
    struct conf_list commands; /* struct command_conf */
};
extern const struct conf_type command_file_type, command_conf_type;

extern const struct conf_type platform_conf_type, security_conf_type,
    provisioning_conf_type; /* what the environment sets */

/* Who knows the connector types: module_load and module_each of the connector room, or a test. */
struct gateway_types {
    const struct conf_type *(*conf)(const char *type, struct why *why); /* of the connector's file */
    void (*each)(void (*fn)(void *arg, const char *type), void *arg);   /* names of all there are */
};

struct gateway_connector {
    const struct connector_entry *entry;
    const char *type; /* lower case, terminated */
    const char *name;
    const char *path;  /* of its file */
    struct conf *conf; /* NULL: cannot be used, as reported; reason says it in short */
    const char *reason;
    unsigned n_errors; /* reported of its file; some may leave the rest usable */
};

enum login_source { LOGIN_SECURITY, LOGIN_STORED, LOGIN_PROVISION };

struct gateway_conf {
    struct arena arena;
    const char *dir, *path;  /* of the configuration, of the main file */
    const char *filter_path; /* of the filter's file; NULL: devices are not filtered */
    struct conf *main_file, *logs_file, *filter_file, *commands_file; /* NULL: not there, or not usable */
    const struct main_conf *main;
    const struct logs_conf *logs;     /* NULL: defaults */
    const struct filter_conf *filter; /* NULL: none */
    struct gateway_connector *connectors;
    size_t n_connectors;
    struct { /* reported of each file; some may leave the rest usable. main: but for those of connectors[] */
        unsigned main, logs, filter, commands;
    } n_errors;
    uint32_t rate_percent;   /* share of each rate limit that is used */
    bool provision_from_env; /* then provisioning goes before security */
    enum login_source login;
    struct credentials stored; /* LOGIN_STORED */
    const char *no_login;      /* why there is no way to log in to the platform, as reported; NULL: there is one */
};

/* dir_or_file NULL: as the environment says, else the first known directory that exists. NULL with problems if the main
 * file cannot be used at all. */
struct gateway_conf *gateway_conf_load(const char *dir_or_file, const struct gateway_types *types,
                                       struct problems *problems);
/* The same for the gateway itself, which writes what is missing: what was read from YAML as JSON, and an "id" into a
 * connector's file that has none (gateway_write.h). So every connector has connector_common.id. */
struct gateway_conf *gateway_conf_load_to_run(const char *dir_or_file, const struct gateway_types *types,
                                              struct problems *problems);
/* The same configuration once more, for a gateway that runs: nothing is written, and what has no "id" keeps that of the running
 * connector of its name. texts: content that counts instead of files'. */
struct gateway_conf *gateway_conf_load_again(const struct gateway_conf *running, const struct conf_text *texts,
                                             size_t n_texts, const struct gateway_types *types,
                                             struct problems *problems);
void gateway_conf_free(struct gateway_conf *conf); /* NULL allowed */
/* It is of one entry of connectors[] in the main file, and no other part is concerned. */
bool gateway_conf_is_of_entry(const struct gateway_conf *conf, const struct problem *problem);
/* The configuration directory that is meant, in out; the main file's name behind it when file is not NULL. */
void gateway_conf_dir(struct buf *dir, struct buf *file, const char *dir_or_file);
/* The first of the known directories that exists, whatever the environment says. */
const char *gateway_conf_usual_dir(void);
/* One connector's file by its type's descriptor, as gateway_conf_load does it. */
struct conf *gateway_conf_load_connector(const struct gateway_types *types, const char *type, const char *dir,
                                         const char *path, struct problems *problems);
#endif
