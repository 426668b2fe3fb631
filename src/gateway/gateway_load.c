/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a directory to the whole configuration: which directory (core.md 1, 13), what the environment puts before the main
 * file's keys (2.4), and the files that it names.
 */
#include "gateway/gateway_conf.h"

#include "base/file.h"
#include "gateway/gateway_sketch.h"
#include "gateway/gateway_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- environment ---- */

/* The three spellings; the first that is set counts. */
static const char *const prefixes[] = {"IOTGW_", "INDUSTRYOS_GW_", "TB_GW_"};

static const struct variable {
    const char *suffix; /* behind a prefix */
    const char *old;    /* whole name of former versions; NULL: none */
    const struct conf_type *type;
    const char *key;
} variables[] = {
    {"HOST", "host", &platform_conf_type, "host"},
    {"PORT", "port", &platform_conf_type, "port"},
    {"PROXY_HOST", "proxy_host", &platform_conf_type, "proxy_host"},
    {"PROXY_PORT", "proxy_port", &platform_conf_type, "proxy_port"},
    {"SECURITY_TYPE", "type", &security_conf_type, "type"},
    {"ACCESS_TOKEN", "accessToken", &security_conf_type, "accessToken"},
    {"CA_CERT", "caCert", &security_conf_type, "caCert"},
    {"PRIVATE_KEY", "privateKey", &security_conf_type, "privateKey"},
    {"CERT", "cert", &security_conf_type, "cert"},
    {"CLIENT_ID", "clientId", &security_conf_type, "clientId"},
    {"USERNAME", "username", &security_conf_type, "username"},
    {"PASSWORD", "password", &security_conf_type, "password"},
    /* Those for several keys first: a later one for a single key counts more. */
    {"RATE_LIMITS", NULL, &platform_conf_type, "rateLimits"},
    {"RATE_LIMITS", NULL, &platform_conf_type, "messagesRateLimits"},
    {"RATE_LIMITS", NULL, &platform_conf_type, "deviceMessagesRateLimits"},
    {"RATE_LIMITS", NULL, &platform_conf_type, "deviceRateLimits"},
    {"DP_RATE_LIMITS", NULL, &platform_conf_type, "dpRateLimits"},
    {"DP_RATE_LIMITS", NULL, &platform_conf_type, "deviceDpRateLimits"},
    {"MESSAGES_RATE_LIMITS", NULL, &platform_conf_type, "messagesRateLimits"},
    {"DEVICE_MESSAGES_RATE_LIMIT", NULL, &platform_conf_type, "deviceMessagesRateLimits"}, /* the peer's spelling */
    {"DEVICE_MESSAGES_RATE_LIMITS", NULL, &platform_conf_type, "deviceMessagesRateLimits"},
    {"DEVICE_RATE_LIMITS", NULL, &platform_conf_type, "deviceRateLimits"},
    {"DEVICE_DP_RATE_LIMITS", NULL, &platform_conf_type, "deviceDpRateLimits"},
};

static const struct variable provisioning_variables[] = {
    {"PROVISIONING_DEVICE_KEY", NULL, &provisioning_conf_type, "provisionDeviceKey"},
    {"PROVISIONING_DEVICE_SECRET", NULL, &provisioning_conf_type, "provisionDeviceSecret"},
    {"PROVISIONING_DEVICE_NAME", NULL, &provisioning_conf_type, "deviceName"},
    {"PROVISIONING_DEVICE_ACCESS_TOKEN", NULL, &provisioning_conf_type, "access_token"},
    {"PROVISIONING_DEVICE_USERNAME", NULL, &provisioning_conf_type, "username"},
    {"PROVISIONING_DEVICE_PASSWORD", NULL, &provisioning_conf_type, "password"},
    {"PROVISIONING_DEVICE_CLIENT_ID", NULL, &provisioning_conf_type, "client_id"},
    {"PROVISIONING_DEVICE_CA_CERT_FILENAME", NULL, &provisioning_conf_type, "caCert"},
};

enum { CREDENTIALS_MAX = 64 * 1024 };
enum { MAX_OVERRIDES = COUNT_OF(variables) + COUNT_OF(provisioning_variables) + 2 };

struct environment {
    struct arena *arena;
    struct problems *problems;
    struct conf_override overrides[MAX_OVERRIDES];
    size_t n;
    bool has_token, has_user, has_certificate, has_type; /* of security */
    bool provisions;
};

/* Value and name of a variable under any of the prefixes; an empty one counts as not set, as containers give them. */
static const char *get_variable(const char *suffix, char *name, size_t size)
{
    for (size_t i = 0; i < COUNT_OF(prefixes); i++) {
        const char *value;

        snprintf(name, size, "%s%s", prefixes[i], suffix);
        value = getenv(name);
        if (value && *value)
            return value;
    }
    return NULL;
}

static void add_override(struct environment *env, const struct conf_type *type, const char *key, const char *value,
                         const char *name)
{
    env->overrides[env->n++] = (struct conf_override){
        .type = type,
        .key = key,
        .text = arena_str(env->arena, str_from(value)),
        .origin = arena_printf(env->arena, "environment variable %s", name).p,
    };
}

static void take_variable(struct environment *env, const struct variable *variable)
{
    char name[80];
    const char *value = get_variable(variable->suffix, name, sizeof name);
    const char *old = value || !variable->old ? NULL : getenv(variable->old);

    if (old && *old) {
        struct conf_at at = {.file = arena_printf(env->arena, "environment variable %s", variable->old).p,
                             .path = variable->key};

        problem_add(env->problems, CONF_WARNING, &at, "old name of TB_GW_%s; it goes before the file's key",
                    variable->suffix);
        value = old;
        snprintf(name, sizeof name, "%s", variable->old);
    }
    if (!value || !*value)
        return;
    add_override(env, variable->type, variable->key, value, name);
    if (variable->type != &security_conf_type)
        return;
    env->has_type |= strcmp(variable->key, "type") == 0;
    env->has_token |= strcmp(variable->key, "accessToken") == 0;
    env->has_user |= strcmp(variable->key, "username") == 0 || strcmp(variable->key, "password") == 0;
    env->has_certificate |= strcmp(variable->key, "cert") == 0 || strcmp(variable->key, "privateKey") == 0;
}

/* The section of the platform, under any of its names. */
static yyjson_val *platform_section(yyjson_val *root)
{
    static const struct str names[] = {{"thingsboard", 11}, {"industryos", 10}, {"platform", 8}};
    yyjson_val *section = NULL;

    for (size_t i = 0; i < COUNT_OF(names) && !section; i++)
        section = json_get(root, names[i]);
    return section;
}

/* The security type of the file need not fit what the environment gives: then it is derived anew. */
static void derive_security_type(struct environment *env, yyjson_val *root)
{
    struct str type = json_str(json_get(json_get(platform_section(root), STR("security")), STR("type")));
    const char *derived = NULL;

    if (env->has_type)
        return;
    if (env->has_token) {
        if (!str_eq_nocase(type, STR("accessToken")) && !str_eq_nocase(type, STR("tlsAccessToken")))
            derived = "accessToken";
    } else if (env->has_user) {
        if (!str_eq_nocase(type, STR("usernamePassword")))
            derived = "usernamePassword";
    } else if (env->has_certificate) {
        if (!str_eq_nocase(type, STR("x509Certificate")) && !str_eq_nocase(type, STR("tlsPrivateKey")))
            derived = "x509Certificate";
    }
    if (derived)
        add_override(env, &security_conf_type, "type", derived, "for security");
}

static void take_provisioning(struct environment *env, yyjson_val *root)
{
    char name[80];
    bool has_key = get_variable("PROVISIONING_DEVICE_KEY", name, sizeof name) != NULL;
    bool has_secret = get_variable("PROVISIONING_DEVICE_SECRET", name, sizeof name) != NULL;

    if (!has_key && !has_secret)
        return;
    if (!has_key || !has_secret) {
        problem_add(
            env->problems, CONF_WARNING, NULL,
            "environment variable TB_GW_PROVISIONING_DEVICE_%s has no effect without TB_GW_PROVISIONING_DEVICE_%s",
            has_key ? "KEY" : "SECRET", has_key ? "SECRET" : "KEY");
        return;
    }
    env->provisions = true;
    for (size_t i = 0; i < COUNT_OF(provisioning_variables); i++) {
        const struct variable *variable = &provisioning_variables[i];
        const char *value = get_variable(variable->suffix, name, sizeof name);

        if (value)
            add_override(env, variable->type, variable->key, value, name);
    }
    if (!json_get(json_get(platform_section(root), STR("provisioning")), STR("type"))) {
        const char *type = get_variable("PROVISIONING_DEVICE_CA_CERT_FILENAME", name, sizeof name) ? "X509_CERTIFICATE"
                           : get_variable("PROVISIONING_DEVICE_USERNAME", name, sizeof name) ||
                                   get_variable("PROVISIONING_DEVICE_CLIENT_ID", name, sizeof name)
                               ? "MQTT_BASIC"
                               : "ACCESS_TOKEN";

        add_override(env, &provisioning_conf_type, "type", type, "for provisioning");
    }
}

static uint32_t rate_percent(struct problems *problems)
{
    static const struct conf_at at = {.file = "environment variable TB_DEFAULT_RATE_LIMIT_PERCENTAGE", .path = ""};
    const char *text = getenv("TB_DEFAULT_RATE_LIMIT_PERCENTAGE");
    uint64_t percent;

    if (!text || !*text)
        return 80;
    if (str_to_u64(str_from(text), &percent) == ERR_OK && percent >= 1 && percent <= 100)
        return (uint32_t)percent;
    problem_add(problems, CONF_WARNING, &at, "found \"%s\"; expected an integer from 1 to 100; 80 is used", text);
    return 80;
}

/* ---- where ---- */

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? S_ISREG(st.st_mode) : str_ends(str_from(path), STR(".json"));
}

const char *gateway_conf_usual_dir(void)
{
    static const char *const known[] = {"/etc/thingsboard-gateway/config", "/etc/industryos-gateway/config",
                                        "/etc/iotgw"};

    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (access(known[i], F_OK) == 0)
            return known[i];
    return known[0];
}

static const char *default_dir(void)
{
    char name[80];
    const char *dir = get_variable("CONFIG_DIR", name, sizeof name);

    return dir ? dir : gateway_conf_usual_dir();
}

void gateway_conf_dir(struct buf *dir, struct buf *file, const char *dir_or_file)
{
    struct str path = str_from(dir_or_file ? dir_or_file : default_dir());
    struct str parent = path;

    if (is_file(path.p)) {
        buf_add_str(file, path);
        while (parent.n && parent.p[parent.n - 1] != '/')
            parent.n--;
        if (!parent.n)
            parent = STR("./");
    } else {
        buf_add_str(file, path);
        buf_add_z(file, str_ends(path, STR("/")) ? "tb_gateway.json" : "/tb_gateway.json");
    }
    buf_add_str(dir, parent);
    if (!str_ends(parent, STR("/")))
        buf_add_z(dir, "/");
}

/* ---- connectors ---- */

struct loading {
    bool may_write;
    const struct gateway_conf *running; /* NULL: none */
};

struct names {
    struct buf text;
    struct str wanted;
    char nearest[40]; /* a copy: a name lives for the call only */
    unsigned distance;
    bool is_there;
};

static void add_name(void *arg, const char *type)
{
    struct names *names = arg;
    struct str name = str_of(type, strlen(type));
    unsigned distance = str_distance(names->wanted, name, 2);

    buf_printf(&names->text, "%s\"%s\"", names->text.n ? ", " : "", type);
    names->is_there |= str_eq(names->wanted, name);
    if (distance < names->distance) {
        names->distance = distance;
        snprintf(names->nearest, sizeof names->nearest, "%s", type);
    }
}

static void report_type(const struct gateway_types *types, const struct gateway_connector *connector,
                        const char *reason, struct problems *problems)
{
    const struct conf_at *at = &connector->entry->type_at;
    struct names names = {.wanted = connector->entry->type, .distance = 3};

    types->each(add_name, &names);
    if (names.is_there)
        problem_add(problems, CONF_ERROR, at, "found \"%s\": %s; the connector is not started", connector->type,
                    reason);
    else
        problem_add(problems, CONF_ERROR, at,
                    "found \"%s\": %s; expected one of " STR_FMT "; the connector is not started%s%s%s",
                    connector->type, reason, STR_ARG(names.text.n ? buf_str(&names.text) : STR("none")),
                    *names.nearest ? "; did you mean \"" : "", names.nearest, *names.nearest ? "\"?" : "");
    buf_fini(&names.text);
}

/* The descriptor of the entry's type; NULL after saying why there is none. */
static const struct conf_type *find_type(const struct gateway_types *types, const struct gateway_connector *connector,
                                         struct problems *problems)
{
    struct why why = {0};
    const struct conf_type *type = types->conf(connector->type, &why);

    if (type)
        return type;
    if (connector->entry->class_name.n)
        problem_add(
            problems, CONF_WARNING, &connector->entry->type_at,
            "found \"%s\" with \"class\": custom connectors have no effect in this version; the connector is not "
            "started",
            connector->type);
    else
        report_type(types, connector, why_text(&why), problems);
    return NULL;
}

/* By the peer's rule, which gives the file an id and a name before it counts; reported. */
static bool is_no_configuration(const struct json_file *file, struct problems *problems)
{
    yyjson_val *root = json_file_root(file);
    struct json_pos pos = json_file_pos(file, root);
    struct conf_at at = {.file = json_file_name(file), .path = "", .line = pos.line, .column = pos.column};

    if (!yyjson_is_obj(root) || !json_get(root, STR("logLevel")))
        return false;
    if (yyjson_obj_size(root) + !json_get(root, STR("id")) + !json_get(root, STR("name")) > 3)
        return false;
    problem_add(problems, CONF_WARNING, &at,
                "found \"logLevel\" and little else, which counts as no configuration; the "
                "connector is not started");
    return true;
}

static void keep_id(char id[UUID_SIZE], const struct json_file *file, struct str known)
{
    yyjson_val *old = json_get(json_file_root(file), STR("id"));

    if (old && !yyjson_is_null(old) && !(yyjson_is_str(old) && yyjson_get_len(old) == 0))
        return;
    if (known.n && known.n < UUID_SIZE)
        snprintf(id, UUID_SIZE, STR_FMT, STR_ARG(known));
    else
        uuid_random(id);
}

/* name NULL: nothing is written; known_id, if not NULL, is that of a file without one (empty: it gets a new one). */
static struct conf *load_connector_file(const struct conf_type *type, const char *name, const struct str *known_id,
                                        const char *dir, const char *path, struct problems *problems)
{
    struct json_file *file = conf_read_file(path, problems);
    char id[UUID_SIZE] = "";
    struct conf_override override = {.type = type, .key = "id", .origin = "made of the connector's name"};

    if (!file)
        return NULL;
    if (is_no_configuration(file, problems) || gateway_report_sketch(file, problems)) {
        json_file_free(file);
        return NULL;
    }
    if (name)
        file = gateway_write_connector(file, path, name, id, problems);
    else
        gateway_report_yaml(file, path, problems);
    if (known_id)
        keep_id(id, file, *known_id);
    override.text = str_from(id);
    return conf_load_json(type, dir, file, &override, *id != 0, problems);
}

struct conf *gateway_conf_load_connector(const struct gateway_types *types, const char *type, const char *dir,
                                         const char *path, struct problems *problems)
{
    struct why why = {0};
    const struct conf_type *conf_type = types->conf(type, &why);

    if (!conf_type) {
        problem_add(problems, CONF_ERROR, &(struct conf_at){.file = path}, "connector type \"%s\": %s", type,
                    why_text(&why));
        return NULL;
    }
    return load_connector_file(conf_type, NULL, NULL, dir, path, problems);
}

static struct str id_of(const struct gateway_conf *running, const char *name)
{
    for (size_t i = 0; i < running->n_connectors; i++)
        if (running->connectors[i].conf && strcmp(running->connectors[i].name, name) == 0)
            return connector_common_of(running->connectors[i].conf)->id;
    return STR_NONE;
}

static void load_connector(struct gateway_conf *conf, struct gateway_connector *connector,
                           const struct connector_entry *entry, const struct gateway_types *types,
                           const struct loading *loading, struct problems *problems)
{
    struct problem **last = problems->last;
    unsigned n_errors = problems->n_errors;
    struct str known;
    const struct conf_type *type;

    connector->entry = entry;
    connector->type = arena_text(&conf->arena, entry->type);
    connector->name = arena_text(&conf->arena, entry->name);
    connector->path = entry->path;
    type = find_type(types, connector, problems);
    if (loading->running)
        known = id_of(loading->running, connector->name);
    if (type && entry->path)
        connector->conf = load_connector_file(type, loading->may_write ? connector->name : NULL,
                                              loading->running ? &known : NULL, conf->dir, entry->path, problems);
    connector->n_errors = problems->n_errors - n_errors + !entry->path;
    if (connector->conf)
        return;
    connector->reason = !entry->path ? "its file is not there" : "its configuration cannot be used";
    if (*last)
        connector->reason = arena_text(&conf->arena, str_from((*last)->text));
}

/* ---- all of it ---- */

static struct json_file *read_file(const char *path, bool may_write, struct problems *problems)
{
    struct json_file *file = conf_read_file(path, problems);

    if (file && may_write)
        return gateway_write_json(file, path, problems);
    if (file)
        gateway_report_yaml(file, path, problems);
    return file;
}

static const char *path_beside(struct gateway_conf *conf, struct str name)
{
    bool is_absolute = name.n && name.p[0] == '/';

    return arena_printf(&conf->arena, "%s" STR_FMT, is_absolute ? "" : conf->dir, STR_ARG(name)).p;
}

static struct conf *load_beside(struct gateway_conf *conf, const struct conf_type *type, const char *path,
                                bool may_write, unsigned *n_errors, struct problems *problems)
{
    const unsigned n_before = problems->n_errors;
    struct json_file *file = read_file(path, may_write, problems);

    struct conf *loaded = file ? conf_load_json(type, conf->dir, file, NULL, 0, problems) : NULL;

    *n_errors = problems->n_errors - n_before;
    return loaded;
}

/* The peer makes an empty file of one that is missing. */
static void load_commands(struct gateway_conf *conf, const struct statistics_conf *statistics, bool may_write,
                          struct problems *problems)
{
    const char *path = path_beside(conf, statistics->file);

    if (conf_file_exists(path))
        conf->commands_file =
            load_beside(conf, &command_file_type, path, may_write, &conf->n_errors.commands, problems);
    else
        problem_add(problems, CONF_WARNING, &statistics->at,
                    "\"configuration\" names \"" STR_FMT "\", which is not there; no custom commands are run from it",
                    STR_ARG(statistics->file));
}

static bool load_main(struct gateway_conf *conf, bool may_write, struct problems *problems)
{
    struct environment env = {.arena = &conf->arena, .problems = problems};
    struct json_file *file = read_file(conf->path, may_write, problems);

    if (!file || gateway_report_sketch(file, problems)) {
        json_file_free(file);
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(variables); i++)
        take_variable(&env, &variables[i]);
    derive_security_type(&env, json_file_root(file));
    take_provisioning(&env, json_file_root(file));
    conf->main_file = conf_load_json(&main_conf_type, conf->dir, file, env.overrides, env.n, problems);
    if (!conf->main_file)
        return false;
    conf->main = conf_root(conf->main_file);
    conf->provision_from_env = env.provisions;
    return true;
}

/* What provisioning has left; false: nothing, or nothing that can be used, as reported. */
static bool load_stored(struct gateway_conf *conf, struct problems *problems)
{
    const char *path = arena_printf(&conf->arena, "%s.credentials", conf->dir).p;
    struct conf_at at = {.file = path, .path = ""};
    autobuf struct buf text = {0};
    struct why why = {0};

    if (access(path, F_OK) != 0)
        return false;
    if (!file_read(&text, path, CREDENTIALS_MAX, &why) &&
        !credentials_parse(&conf->stored, &conf->arena, buf_str(&text), &why))
        return true;
    problem_add(problems, CONF_ERROR, &at,
                "%s; the stored credentials are not used: remove the file, or put back its "
                "copy",
                why_text(&why));
    return false;
}

/* A key of the login that was found and cannot be used. Nobody is logged in without what was meant to be. */
static const struct problem *error_of_login(const struct security_conf *security, const struct problems *problems)
{
    enum { ANY = 1 << SECURITY_ANONYMOUS }; /* none of them is left: the type came from what could be used */
    enum { TOKEN = 1 << SECURITY_ACCESS_TOKEN | 1 << SECURITY_TLS_ACCESS_TOKEN };
    enum { NAMED = 1 << SECURITY_USERNAME_PASSWORD, CERTIFIED = 1 << SECURITY_CERTIFICATE };
    const struct {
        struct str path;
        unsigned used_by;
        bool is_there;
    } keys[] = {
        {STR(".security.accessToken"), ANY | TOKEN, security->access_token.value.n > 0},
        {STR(".security.username"), ANY | NAMED, false},
        {STR(".security.password"), ANY | NAMED, false},
        {STR(".security.clientId"), ANY | NAMED, false},
        {STR(".security.cert"), ANY | CERTIFIED, security->cert.n > 0},
        {STR(".security.privateKey"), ANY | CERTIFIED, security->private_key.n > 0},
        {STR(".security.tls"), ANY | TOKEN | NAMED | CERTIFIED, security->tls}}; /* in clear text nobody meant it */

    if (security->type == SECURITY_ANONYMOUS && security->type_name.n)
        return NULL; /* it was asked for */
    for (const struct problem *problem = problems->first; problem; problem = problem->next)
        for (size_t i = 0; i < COUNT_OF(keys) && problem->severity == CONF_ERROR && problem->path; i++)
            if (str_ends(str_from(problem->path), keys[i].path) && !keys[i].is_there &&
                keys[i].used_by & 1U << security->type)
                return problem;
    return NULL;
}

static void set_no_login(struct gateway_conf *conf, const struct problem *problem)
{
    autobuf struct buf text = {0};

    problem_add_text(&text, problem);
    conf->no_login = arena_text(&conf->arena, buf_str(&text));
}

/* core.md 4: provisioning from the environment, security, what is stored, provisioning. */
static void check_credentials(struct gateway_conf *conf, struct problems *problems)
{
    const struct platform_conf *platform = conf->main->platform;
    bool has_security = platform->has_security || platform->security->type != SECURITY_ANONYMOUS;
    const struct problem *wrong;

    if (has_security && !conf->provision_from_env) {
        if (platform->provisioning)
            problem_add(problems, CONF_WARNING, &platform->provisioning->at,
                        "has no effect, because there is \"security\"");
        wrong = error_of_login(platform->security, problems);
        if (wrong)
            set_no_login(conf, wrong);
        return;
    }
    if (load_stored(conf, problems)) {
        conf->login = LOGIN_STORED;
        return;
    }
    if (platform->provisioning) {
        conf->login = LOGIN_PROVISION;
        return;
    }
    if (has_security)
        return;
    problem_add(problems, CONF_ERROR, &platform->at,
                "\"security\" is missing; expected it or \"provisioning\", so that the "
                "gateway can log in");
    for (wrong = problems->first; wrong->next; wrong = wrong->next)
        if (wrong->severity == CONF_ERROR && wrong->path && strstr(wrong->path, ".provisioning"))
            break; /* why that cannot be used says more */
    set_no_login(conf, wrong);
}

bool gateway_conf_is_of_entry(const struct gateway_conf *conf, const struct problem *problem)
{
    return problem->file && problem->path && strcmp(problem->file, json_file_name(conf_source(conf->main_file))) == 0 &&
           str_starts(str_from(problem->path), STR("connectors["));
}

static struct gateway_conf *load_all(const char *dir_or_file, const struct gateway_types *types,
                                     const struct loading *loading, struct problems *problems)
{
    struct gateway_conf *conf = mem_zero(sizeof *conf);
    const struct conf_list *entries;
    const struct platform_conf *platform;
    const char *logs_path;
    const unsigned n_before = problems->n_errors;
    struct problem *const *first = problems->last;
    autobuf struct buf dir = {0}, file = {0};

    arena_init(&conf->arena, 4096);
    gateway_conf_dir(&dir, &file, dir_or_file);
    conf->dir = arena_text(&conf->arena, buf_str(&dir));
    conf->path = arena_text(&conf->arena, buf_str(&file));
    conf->rate_percent = rate_percent(problems);
    if (!load_main(conf, loading->may_write, problems)) {
        gateway_conf_free(conf);
        return NULL;
    }
    check_credentials(conf, problems);
    conf->n_errors.main = problems->n_errors - n_before;
    for (const struct problem *problem = *first; problem; problem = problem->next)
        conf->n_errors.main -= problem->severity == CONF_ERROR && gateway_conf_is_of_entry(conf, problem);
    platform = conf->main->platform;
    logs_path = path_beside(conf, STR("logs.json"));
    if (conf_file_exists(logs_path))
        conf->logs_file =
            load_beside(conf, &logs_conf_type, logs_path, loading->may_write, &conf->n_errors.logs, problems);
    if (platform->filtering && platform->filtering->enable) {
        conf->filter_path = path_beside(conf, platform->filtering->file);
        conf->filter_file = load_beside(conf, &filter_conf_type, conf->filter_path, loading->may_write,
                                        &conf->n_errors.filter, problems);
    }
    if (platform->statistics && platform->statistics->enable && platform->statistics->enable_custom &&
        platform->statistics->file.n)
        load_commands(conf, platform->statistics, loading->may_write, problems);
    conf->logs = conf->logs_file ? conf_root(conf->logs_file) : NULL;
    conf->filter = conf->filter_file ? conf_root(conf->filter_file) : NULL;
    entries = &conf->main->connectors;
    conf->connectors = arena_zero(&conf->arena, (entries->n + 1) * sizeof *conf->connectors);
    for (size_t i = 0; i < entries->n; i++)
        load_connector(conf, &conf->connectors[conf->n_connectors++], entries->items[i], types, loading, problems);
    return conf;
}

struct gateway_conf *gateway_conf_load(const char *dir_or_file, const struct gateway_types *types,
                                       struct problems *problems)
{
    return load_all(dir_or_file, types, &(struct loading){0}, problems);
}

struct gateway_conf *gateway_conf_load_to_run(const char *dir_or_file, const struct gateway_types *types,
                                              struct problems *problems)
{
    return load_all(dir_or_file, types, &(struct loading){.may_write = true}, problems);
}

struct gateway_conf *gateway_conf_load_again(const struct gateway_conf *running, const struct conf_text *texts,
                                             size_t n_texts, const struct gateway_types *types,
                                             struct problems *problems)
{
    struct gateway_conf *conf;

    conf_read_instead(texts, n_texts);
    conf = load_all(running->path, types, &(struct loading){.running = running}, problems);
    conf_read_instead(NULL, 0);
    return conf;
}

void gateway_conf_free(struct gateway_conf *conf)
{
    if (!conf)
        return;
    for (size_t i = 0; i < conf->n_connectors; i++)
        conf_unref(conf->connectors[i].conf);
    conf_unref(conf->commands_file);
    conf_unref(conf->filter_file);
    conf_unref(conf->logs_file);
    conf_unref(conf->main_file);
    arena_fini(&conf->arena);
    mem_free(conf);
}
