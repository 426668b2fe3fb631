/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/remote.h"

#include "base/file.h"
#include "base/mem.h"
#include "gateway/backup.h"
#include "gateway/remote_change.h"
#include "gateway/remote_error.h"
#include "gateway/remote_publish.h"
#include "gateway/remote_refused.h"
#include "io/tls.h"

#include <unistd.h>

/*
 *   IDLE ──► LOOKING ──► nothing differs, or is wrong ──► IDLE
 *               └──────► SAVING ──► APPLYING ──► IDLE      SAVING: copies of files that will be written
 */
enum phase { IDLE, LOOKING, SAVING, APPLYING };

enum {
    WAITING_MAX = 1024, /* attributes */
    WAITING_BYTES_MAX = 32 * 1024 * 1024,
    KEY_MAX = 255, /* bytes of a name; as of a connector's */
};

enum job_kind { VALUE, EVERYTHING, DELETION };

struct job {
    struct list node;
    enum job_kind kind;
    struct str key, json; /* EVERYTHING: neither; DELETION: no json */
    bool is_pushed;
    bool wants_each; /* active_connectors: each of them is asked for */
    char bytes[];
};

struct remote {
    struct remote_conf conf;
    struct published published;
    struct refusals refusals;
    struct list waiting;
    size_t n_waiting, waiting_bytes;
    struct call begin;
    bool has_begun; /* the first session has come */
    bool is_ended, was_on;

    enum phase phase;
    struct job *job;
    struct work work, start_work;
    struct remote_files files;
    struct remote_change change;
    yyjson_doc *value;
    unsigned n_changed; /* while APPLYING */
    enum err start_err, saving_err, pem_err;
    struct why start_why;
    const struct gateway_conf *first; /* as the program started: stays as long as apply */
    int64_t first_s, save_s;
    struct why saving_why, pem_why;
};

static void next(struct remote *remote);

static const struct gateway_conf *running_of(const struct remote *remote)
{
    return apply_running(remote->conf.apply);
}

static enum remote_kind kind_of(struct str key)
{
    for (int kind = 0; kind < REMOTE_CONNECTOR; kind++)
        if (str_eq_z(key, remote_names[kind]))
            return (enum remote_kind)kind;
    return REMOTE_CONNECTOR;
}

/* --- errors ---------------------------------------------------------------------------------------------------------------- */

static void refuse(struct remote *remote, const char *path, const char *text)
{
    struct str key = remote->job->key;

    LOG_ERROR(remote->conf.log, "remote configuration is not taken, what was before goes on", KV_STR("attribute", key),
              KV_Z("path", path), KV_Z("error", text));
    published_error_begin(&remote->published, key);
    published_error_add(&remote->published, str_from(path), str_from(text));
    published_error_end(&remote->published);
}

static void add_error(struct remote *remote, const struct remote_error *error, const char *file, const char *path,
                      const char *text)
{
    autobuf struct buf whole = {0};

    remote_error_add_path(&whole, error, file, path);
    published_error_add(&remote->published, buf_str(&whole), str_from(text));
}

static void refuse_result(struct remote *remote, const struct apply_result *result)
{
    struct str key = remote->job->key;
    struct remote_error error;
    unsigned n = 0;

    LOG_ERROR(remote->conf.log, "remote configuration is not taken, what was before goes on", KV_STR("attribute", key),
              KV_WHY(&result->why));
    remote_error_init(&error, running_of(remote), &remote->change, kind_of(key), yyjson_doc_get_root(remote->value));
    published_error_begin(&remote->published, key);
    /* Once it was compared, what was wrong is not its content. */
    for (const struct problem *problem = result->problems && !result->plan ? result->problems->first : NULL; problem;
         problem = problem->next) {
        if (problem->severity != CONF_ERROR || !remote_error_is_own(&error, problem))
            continue;
        add_error(remote, &error, problem->file, problem->path, problem->text);
        n++;
    }
    if (!n && result->path)
        add_error(remote, &error, running_of(remote)->path, result->path, why_text(&result->why));
    else if (!n)
        published_error_add(&remote->published, STR(""), str_from(why_text(&result->why)));
    published_error_end(&remote->published);
}

/* It was not applied and is not tried again; told once more where a restart has lost the reason. */
static void leave_refused(struct remote *remote)
{
    LOG_INFO(remote->conf.log, "the platform still has what could not be applied, it is not tried again",
             KV_STR("attribute", remote->job->key));
    if (!published_has_error(&remote->published, remote->job->key))
        refuse(remote, "", "could not be applied before the gateway's restart; sent again it is tried again");
}

/* --- one attribute from its arrival to its echo --------------------------------------------------------------------------------- */

static int64_t time_of(const struct remote *remote, yyjson_val *value)
{
    int64_t ts_ms;

    return json_to_i64(json_get(value, STR("ts")), &ts_ms) == ERR_OK ? ts_ms : loop_wall_ms(remote->conf.main->loop);
}

/* What runs under the attribute now, and who runs, where the platform does not know it yet. */
static void echo(struct remote *remote, int64_t ts_ms)
{
    enum remote_kind kind = kind_of(remote->job->key);
    const struct gateway_conf *running = running_of(remote);

    if (kind == REMOTE_CONNECTOR) {
        struct str name = remote->change.connector ? str_from(remote->change.connector) : remote->job->key;

        published_connector(&remote->published, running, name, ts_ms, false);
        published_active(&remote->published, running, false);
    } else if (kind == REMOTE_ACTIVE) {
        published_active(&remote->published, running, false);
    } else {
        published_section(&remote->published, running, &remote->files, kind, ts_ms, false);
    }
}

static void end_job(struct remote *remote)
{
    remote_change_fini(&remote->change);
    remote_files_fini(&remote->files);
    yyjson_doc_free(remote->value);
    remote->value = NULL;
    mem_free(remote->job);
    remote->job = NULL;
    remote->phase = IDLE;
    next(remote);
}

static void enqueue(struct remote *remote, enum job_kind kind, struct str key, struct str json, bool is_pushed);

static bool is_running(const struct remote *remote, struct str name)
{
    const struct gateway_conf *running = running_of(remote);

    for (size_t i = 0; i < running->n_connectors; i++)
        if (str_eq_z(name, running->connectors[i].name))
            return true;
    return false;
}

struct fetch {
    struct remote *remote;
    char *name;
};

static void fetched(void *arg, enum err err, yyjson_val *root)
{
    struct fetch *fetch = arg;
    struct remote *remote = fetch->remote;
    yyjson_val *value = json_get(json_get(root, STR("shared")), str_from(fetch->name));
    autobuf struct buf json = {0};

    if (value && !remote->is_ended) {
        json_add_value(&json, value);
        enqueue(remote, VALUE, str_from(fetch->name), buf_str(&json), false);
    } else if (!err && !is_running(remote, str_from(fetch->name))) {
        LOG_WARN(remote->conf.log, "an active connector is neither configured here nor known to the platform",
                 KV_Z("connector", fetch->name));
    }
    mem_free(fetch->name);
    mem_free(fetch);
}

static struct job *find_waiting(const struct remote *remote, enum job_kind kind, struct str key)
{
    LIST_EACH(node, &remote->waiting) {
        struct job *job = CONTAINER_OF(node, struct job, node);

        if (job->kind == kind && str_eq(job->key, key))
            return job;
    }
    return NULL;
}

static void fetch(struct remote *remote, struct str name)
{
    struct fetch *fetch;

    if (find_waiting(remote, VALUE, name))
        return;
    if (!name.n || memchr(name.p, ',', name.n) || memchr(name.p, 0, name.n)) {
        LOG_WARN(remote->conf.log, "an active connector's name cannot be asked for", KV_STR("connector", name));
        return;
    }
    fetch = mem_zero(sizeof *fetch);
    *fetch = (struct fetch){.remote = remote, .name = mem_zero(name.n + 1)};
    memcpy(fetch->name, name.p, name.n);
    north_request_own_attributes(remote->conf.north, NULL, 0, &name, 1, fetched, fetch);
}

/* Of the active ones: those that are not known, or, as they may have changed while there was no session, all of them. */
static void fetch_connectors(struct remote *remote)
{
    yyjson_val *name;
    size_t i, n;

    if (remote->job->wants_each)
        yyjson_arr_foreach(yyjson_doc_get_root(remote->value), i, n, name) fetch(remote, json_str(name));
    for (i = 0; i < remote->change.n_unknown && !remote->job->wants_each; i++)
        fetch(remote, remote->change.unknown[i]);
}

static bool is_no_connector(struct str key)
{
    return kind_of(key) != REMOTE_CONNECTOR || str_eq(key, STR("RemoteLoggingLevel"));
}

/* Of connectors those that the list names: what is not active any more need not be mended. */
static bool is_kept(void *arg, struct str key)
{
    yyjson_val *list = arg, *name;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, name) if (str_eq(json_str(name), key)) return true;
    return is_no_connector(key);
}

/* The attribute is no more there; what runs stays. */
static void forget(struct remote *remote)
{
    refusals_forget(&remote->refusals, remote->job->key);
    published_error_clear(&remote->published, remote->job->key);
    if (remote->job->kind == DELETION && remote_is_on(remote) && !str_eq(remote->job->key, STR("RemoteLoggingLevel")))
        echo(remote, loop_wall_ms(remote->conf.main->loop)); /* what is too large to be told says so again */
}

static void taken(struct remote *remote, bool is_new)
{
    yyjson_val *value = yyjson_doc_get_root(remote->value);

    forget(remote);
    if (kind_of(remote->job->key) == REMOTE_ACTIVE) {
        refusals_keep(&remote->refusals, is_kept, value);
        published_errors_keep(&remote->published, is_kept, value);
    }
    echo(remote, is_new ? time_of(remote, value) : loop_wall_ms(remote->conf.main->loop));
    fetch_connectors(remote);
    end_job(remote);
}

static void restore_pem(struct remote *remote)
{
    struct remote_change *change = &remote->change;
    struct why why = {0};

    if (!change->pem_path)
        return;
    if (!change->former_pem.n)
        unlink(change->pem_path);
    else if (file_put(change->pem_path, change->former_pem, FILE_REPLACE, NULL, &why))
        LOG_ERROR(remote->conf.log, "the platform's former certificate cannot be put back", KV_WHY(&why));
}

static void applied(void *arg, const struct apply_result *result)
{
    struct remote *remote = arg;
    bool is_taken = !result->err;

    if (remote->is_ended) {
        if (!is_taken)
            restore_pem(remote);
        end_job(remote);
        return;
    }
    if (remote->n_changed > 1 || (!is_taken && remote->n_changed))
        enqueue(remote, EVERYTHING, STR(""), STR_NONE, false);
    if (is_taken) {
        taken(remote, true);
        return;
    }
    restore_pem(remote);
    refusals_note(&remote->refusals, remote->job->key, remote->job->json);
    refuse_result(remote, result);
    echo(remote, loop_wall_ms(remote->conf.main->loop));
    end_job(remote);
}

/* What is no certificate is refused before the connection is touched. */
static NODISCARD enum err put_pem(const struct remote_change *change, struct why *why)
{
    const struct tls_api *tls = tls_load(why);
    int64_t until_ms;
    enum err err = tls ? file_put(change->pem_path, change->pem, FILE_REPLACE, NULL, why) : why->err;

    if (!err)
        err = tls->expiry(change->pem_path, true, &until_ms, why);
    if (tls)
        tls->forget_thread();
    return err;
}

static void save(void *arg)
{
    struct remote *remote = arg;
    const struct remote_change *change = &remote->change;
    const char *dir = remote->published.dir;

    remote->saving_err = ERR_OK;
    for (size_t i = 0; i < change->n_backups && !remote->saving_err; i++)
        remote->saving_err = backup_copy(dir, change->backups[i], remote->save_s, &remote->saving_why);
    remote->pem_err = change->pem_path ? put_pem(change, &remote->pem_why) : ERR_OK;
}

/* Then the copy is all that is left of them. */
static bool removes_files(const struct remote_change *change)
{
    for (size_t i = 0; i < change->n; i++)
        if (!change->texts[i].text.p)
            return true;
    return false;
}

static void saved(void *arg)
{
    struct remote *remote = arg;

    if (remote->is_ended) {
        restore_pem(remote);
        end_job(remote);
        return;
    }
    if (remote->pem_err) {
        restore_pem(remote);
        refuse(remote, "security.caCert", why_text(&remote->pem_why));
        echo(remote, loop_wall_ms(remote->conf.main->loop));
        end_job(remote);
        return;
    }
    if (remote->saving_err && removes_files(&remote->change)) {
        refuse(remote, "", why_text(&remote->saving_why));
        echo(remote, loop_wall_ms(remote->conf.main->loop));
        end_job(remote);
        return;
    }
    if (remote->saving_err)
        LOG_WARN(remote->conf.log, "a configuration file cannot be copied to the backups", KV_WHY(&remote->saving_why));
    remote->phase = APPLYING;
    remote->n_changed = 0;
    apply_change(remote->conf.apply, remote->change.texts, remote->change.n, applied, remote);
}

static void take_value(struct remote *remote)
{
    struct job *job = remote->job;
    struct why why = {0};
    enum err err;

    remote->value = yyjson_read(job->json.p, job->json.n, YYJSON_READ_NUMBER_AS_RAW);
    err = remote_change_make(&remote->change, running_of(remote), &remote->files, kind_of(job->key),
                             yyjson_doc_get_root(remote->value), job->is_pushed, &why);
    if (remote->change.warning)
        LOG_WARN(remote->conf.log, "remote configuration", KV_Z("warning", remote->change.warning));
    if (err) {
        refuse(remote, remote->change.path, why_text(&why));
        echo(remote, loop_wall_ms(remote->conf.main->loop));
        end_job(remote);
        return;
    }
    if (remote->change.is_older)
        LOG_INFO(remote->conf.log, "the file was edited later than the platform's value, which is not taken",
                 KV_STR("attribute", job->key));
    if (!remote->change.n && !remote->change.pem_path) {
        taken(remote, false);
        return;
    }
    LOG_INFO(remote->conf.log, "the platform changes the configuration", KV_STR("attribute", job->key));
    remote->phase = SAVING;
    remote->saving_why = remote->pem_why = (struct why){0};
    remote->save_s = loop_wall_ms(remote->conf.main->loop) / 1000;
    work_start(&remote->work, remote->conf.main->loop, save, saved, remote);
}

static void take_level(struct remote *remote)
{
    yyjson_doc *doc = yyjson_read(remote->job->json.p, remote->job->json.n, 0);
    enum log_level level;

    if (!logging_level_of(json_str(yyjson_doc_get_root(doc)), &level)) {
        if (remote->conf.logging)
            logging_set_remote_level(remote->conf.logging, level);
        published_error_clear(&remote->published, remote->job->key);
        published_text(&remote->published, remote->job->key, remote->job->json);
    } else {
        refuse(remote, "", "expected NONE, CRITICAL, ERROR, WARNING, INFO, DEBUG or TRACE");
    }
    yyjson_doc_free(doc);
}

static void look(void *arg)
{
    remote_files_look(&((struct remote *)arg)->files);
}

static void looked(void *arg)
{
    struct remote *remote = arg;
    struct job *job = remote->job;

    if (remote->is_ended) {
        end_job(remote);
    } else if (job->kind == DELETION) {
        forget(remote);
        end_job(remote);
    } else if (str_eq(job->key, STR("RemoteLoggingLevel"))) {
        take_level(remote);
        end_job(remote);
    } else if (!remote_is_on(remote)) {
        end_job(remote);
    } else if (!job->is_pushed && refusals_has(&remote->refusals, job->key, job->json)) {
        leave_refused(remote);
        end_job(remote);
    } else if (job->kind == EVERYTHING) {
        published_all(&remote->published, running_of(remote), &remote->files, loop_wall_ms(remote->conf.main->loop));
        end_job(remote);
    } else {
        take_value(remote);
    }
}

static void begin(void *arg)
{
    struct remote *remote = arg;
    struct list *first = list_first(&remote->waiting);

    if (!first || remote->phase != IDLE || remote->is_ended)
        return;
    list_del(first);
    remote->job = CONTAINER_OF(first, struct job, node);
    remote->n_waiting--;
    remote->waiting_bytes -= remote->job->json.n;
    remote->phase = LOOKING;
    remote_files_init(&remote->files, running_of(remote));
    work_start(&remote->work, remote->conf.main->loop, look, looked, remote);
}

static void next(struct remote *remote)
{
    if (remote->phase == IDLE && !list_is_empty(&remote->waiting) && !remote->begin.is_posted)
        runner_call(remote->conf.main, &remote->begin);
}

/* --- what arrives ------------------------------------------------------------------------------------------------------------ */

static void drop_waiting(struct remote *remote, struct job *job)
{
    list_del(&job->node);
    remote->n_waiting--;
    remote->waiting_bytes -= job->json.n;
    mem_free(job);
}

/* A newer value takes the place of one that waits. */
static void enqueue(struct remote *remote, enum job_kind kind, struct str key, struct str json, bool is_pushed)
{
    struct job *job = mem_try(sizeof *job + key.n + json.n + 1), *former = find_waiting(remote, kind, key);
    struct job *deletion = kind == VALUE ? find_waiting(remote, DELETION, key) : NULL;

    if (!job || (!former && remote->n_waiting >= WAITING_MAX) || remote->waiting_bytes + json.n > WAITING_BYTES_MAX) {
        LOG_ERROR(remote->conf.log, "too much configuration arrives at once, this is dropped",
                  KV_STR("attribute", key));
        mem_free(job);
        return;
    }
    *job = (struct job){.kind = kind, .is_pushed = is_pushed};
    job->key = str_of(memcpy(job->bytes, key.n ? key.p : "", key.n), key.n);
    if (json.p)
        job->json = str_of(memcpy(job->bytes + key.n, json.p, json.n), json.n);
    if (former) {
        job->is_pushed |= former->is_pushed;
        job->wants_each |= former->wants_each;
        list_add_tail(&former->node, &job->node); /* before it */
        drop_waiting(remote, former);
    } else {
        list_add_tail(&remote->waiting, &job->node);
    }
    remote->n_waiting++;
    remote->waiting_bytes += json.n;
    if (deletion) /* it is there again */
        drop_waiting(remote, deletion);
    next(remote);
}

static bool is_own(struct str key)
{
    return str_eq(key, STR("Version")) || str_eq(key, STR("deleted")) || str_eq(key, STR("configuration_errors"));
}

/* Other shared attributes of the gateway are the operator's business. */
static bool is_configuration(const struct remote *remote, struct str key, yyjson_val *value)
{
    if (is_no_connector(key) || is_running(remote, key))
        return true;
    return yyjson_is_obj(value) &&
           (json_get(value, STR("configurationJson")) ||
            (json_get(value, STR("type")) && json_get(value, STR("name")) && json_get(value, STR("logLevel"))));
}

static bool is_known(const struct remote *remote, struct str key)
{
    return published_has_error(&remote->published, key) || refusals_know(&remote->refusals, key) ||
           find_waiting(remote, VALUE, key) || (remote->job && str_eq(remote->job->key, key));
}

/* Configuration goes on without its attribute; what was wrong with a value is no more told once that is gone. */
static void take_deleted(struct remote *remote, yyjson_val *list)
{
    yyjson_val *name;
    size_t i, n;

    yyjson_arr_foreach(list, i, n, name)
    {
        struct str key = json_str(name);

        if (key.n && key.n <= KEY_MAX && is_known(remote, key))
            enqueue(remote, DELETION, key, STR_NONE, false);
    }
}

static void take_member(struct remote *remote, yyjson_val *key, yyjson_val *value, bool is_pushed)
{
    struct str name = json_str(key);
    autobuf struct buf json = {0};

    if (name.n > KEY_MAX) {
        LOG_WARN(remote->conf.log, "shared attribute with a name that is too long is left alone",
                 KV_STR("name", str_cut(name, KEY_MAX)));
        return;
    }
    if (str_eq(name, STR("deleted")) && is_pushed)
        take_deleted(remote, value);
    if (is_own(name) || (!remote_is_on(remote) && !str_eq(name, STR("RemoteLoggingLevel"))))
        return;
    if (!is_configuration(remote, name, value)) {
        LOG_DEBUG(remote->conf.log, "shared attribute that is no configuration", KV_STR("name", name));
        return;
    }
    json_add_value(&json, value);
    enqueue(remote, VALUE, name, buf_str(&json), is_pushed);
}

/* general_configuration first, then the others in their order. */
static void take_message(struct remote *remote, yyjson_val *root, bool is_pushed)
{
    yyjson_val *key, *value;
    size_t i, n;

    for (int is_general = 1; is_general >= 0; is_general--)
        yyjson_obj_foreach(root, i, n, key, value)
        {
            if ((kind_of(json_str(key)) == REMOTE_GENERAL) == (is_general != 0))
                take_member(remote, key, value, is_pushed);
        }
}

void remote_attributes(struct remote *remote, yyjson_val *root)
{
    loop_assert(remote->conf.main->loop);
    if (!remote->is_ended)
        take_message(remote, root, true);
}

static void answered(void *arg, enum err err, yyjson_val *root)
{
    struct remote *remote = arg;

    if (!err && !remote->is_ended)
        take_message(remote, json_get(root, STR("shared")), false);
}

/* To what was asked for by name: connectors are not among it. */
static void answered_again(void *arg, enum err err, yyjson_val *root)
{
    struct remote *remote = arg;
    struct job *active;

    answered(arg, err, root);
    active = remote->is_ended ? NULL : find_waiting(remote, VALUE, str_from(remote_names[REMOTE_ACTIVE]));
    if (active)
        active->wants_each = true;
}

static void ask(struct remote *remote)
{
    const struct str keys[] = {STR("RemoteLoggingLevel"), STR("general_configuration"), STR("storage_configuration"),
                               STR("grpc_configuration"), STR("logs_configuration"),    STR("active_connectors")};

    if (!remote_is_on(remote) || remote->has_begun) {
        size_t n = remote_is_on(remote) ? COUNT_OF(keys) : 1; /* the level counts without remote configuration, too */

        north_request_own_attributes(remote->conf.north, NULL, 0, keys, n, answered_again, remote);
        return;
    }
    remote->has_begun = true;
    north_request_own_attributes(remote->conf.north, NULL, 0, NULL, 0, answered, remote);
    enqueue(remote, EVERYTHING, STR(""), STR_NONE, false);
}

void remote_state(struct remote *remote, enum uplink_state state)
{
    if (remote && state == UPLINK_READY && !remote->is_ended)
        ask(remote);
}

void remote_changed(struct remote *remote)
{
    bool is_on, was_on;

    if (!remote || remote->is_ended)
        return;
    was_on = remote->was_on;
    is_on = remote->was_on = remote_is_on(remote);
    published_names(&remote->published, running_of(remote));
    if (remote->phase == APPLYING) {
        remote->n_changed++;
        return;
    }
    if (is_on && !was_on && north_is_ready(remote->conf.north))
        ask(remote);
    else if (is_on && remote->has_begun)
        enqueue(remote, EVERYTHING, STR(""), STR_NONE, false);
}

bool remote_is_on(const struct remote *remote)
{
    const struct gateway_conf *running = running_of(remote);

    return running->main->platform->remote_configuration || running->n_connectors == 0;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static enum err take_at_once(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                             struct apply_step *step, struct why *why)
{
    (void)arg;
    (void)before;
    (void)after;
    (void)step;
    (void)why;
    return ERR_OK; /* looked at where they count */
}

struct remote *remote_new(const struct remote_conf *conf)
{
    static const char *const keys[] = {"thingsboard.remoteConfiguration", "thingsboard.publishSecrets", NULL};
    struct remote *remote = mem_zero(sizeof *remote);

    remote->conf = *conf;
    list_init(&remote->waiting);
    remote->begin = (struct call){.fn = begin, .arg = remote};
    refusals_init(&remote->refusals, conf->main->loop, conf->log, running_of(remote)->dir);
    published_init(&remote->published, conf->north, conf->types, running_of(remote)->dir);
    remote->was_on = remote_is_on(remote);
    remote->first = running_of(remote);
    apply_add_owner(conf->apply, &(struct apply_owner){.keys = keys, .take = take_at_once, .arg = remote});
    return remote;
}

static void backup_start(void *arg)
{
    struct remote *remote = arg;

    remote->start_err = backup_all(remote->first, remote->first_s, &remote->start_why);
}

static void backup_started(void *arg)
{
    struct remote *remote = arg;

    if (remote->start_err)
        LOG_WARN(remote->conf.log, "a configuration file cannot be copied to the backups", KV_WHY(&remote->start_why));
}

void remote_start(struct remote *remote)
{
    if (!remote_is_on(remote))
        return;
    remote->first_s = loop_wall_ms(remote->conf.main->loop) / 1000;
    work_start(&remote->start_work, remote->conf.main->loop, backup_start, backup_started, remote);
}

void remote_stop(struct remote *remote)
{
    if (remote)
        remote->is_ended = true;
}

void remote_free(struct remote *remote)
{
    if (!remote)
        return;
    LIST_EACH_SAFE(node, &remote->waiting)
        mem_free(CONTAINER_OF(node, struct job, node));
    refusals_fini(&remote->refusals);
    remote_change_fini(&remote->change);
    remote_files_fini(&remote->files);
    yyjson_doc_free(remote->value);
    mem_free(remote->job);
    published_fini(&remote->published);
    mem_free(remote);
}
