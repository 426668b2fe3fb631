/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway_impl.h"

#include "gateway/credentials_remove.h"
#include "connector/module.h"
#include "gateway/ota.h"
#include "gateway/remote.h"
#include "gateway/storage_part.h"
#include "gateway/statistics.h"

/* The parts of the gateway, and what they tell each other. */

enum { MAX_LOOPS = 4 };

/* --- devices -------------------------------------------------------------------------------------------------------- */

struct device_call { /* main loop → loop 0 */
    struct call call;
    struct gateway *gateway;
    enum uplink_device_op op;
    size_t n;
    const char **wires;
    struct device *devs[];
};

static void tell_uplink(void *arg)
{
    struct device_call *call = arg;

    uplink_devices(call->gateway->uplink, call->op, call->devs, call->wires, call->n);
    mem_free(call->wires);
    mem_free(call);
}

static void devices_changed(void *arg, enum uplink_device_op op, struct device *const *devs, const char *const *wires,
                            size_t n)
{
    struct gateway *gateway = arg;
    struct device_call *call;

    if (gateway->phase >= PHASE_QUIESCING) /* all are disconnected now */
        return;
    call = mem_zero(sizeof *call + n * sizeof *devs);

    if (n)
        memcpy(call->devs, devs, n * sizeof *devs);
    if (wires && n) {
        call->wires = mem_new(n * sizeof *wires);
        memcpy(call->wires, wires, n * sizeof *wires);
    }
    call->call = (struct call){.fn = tell_uplink, .arg = call};
    call->gateway = gateway;
    call->op = op;
    call->n = n;
    runner_call(&gateway->loops.all[0]->runner, &call->call);
}

/* A connector's loop. */
static bool device_allowed(void *arg, struct ctx *ctx, struct device *dev)
{
    const struct gateway *gateway = arg;
    bool is_first, is_allowed = filter_allows(atomic_load_explicit(&gateway->filter, memory_order_acquire),
                                              ctx_source(ctx), dev, &is_first);

    if (UNLIKELY(is_first && !is_allowed))
        LOG_WARN(ctx_log(ctx), "the device filter denies this device, its data are dropped",
                 KV_STR("device", device_name(dev)));
    return is_allowed;
}

static void device_seen(void *arg, struct ctx *ctx, struct device *dev)
{
    registry_seen(((struct gateway *)arg)->registry, ctx, dev);
}

static void attached(void *arg, struct ctx *ctx)
{
    registry_attached(((struct gateway *)arg)->registry, ctx);
}

void gateway_name_connectors(struct gateway *gateway, const struct gateway_conf *conf)
{
    for (size_t i = 0; i < conf->n_connectors; i++) {
        const struct gateway_connector *connector = &conf->connectors[i];

        registry_add_connector(gateway->registry, connector->type, connector->name,
                               connector_common_of(connector->conf)->id);
    }
}

static bool names_connector(const struct gateway_conf *conf, const struct gateway_connector *connector)
{
    for (size_t i = 0; i < conf->n_connectors; i++)
        if (strcmp(conf->connectors[i].name, connector->name) == 0 &&
            strcmp(conf->connectors[i].type, connector->type) == 0)
            return true;
    return false;
}

static void forget_connectors(struct gateway *gateway, const struct gateway_conf *before,
                              const struct gateway_conf *after)
{
    for (size_t i = 0; i < before->n_connectors; i++)
        if (!names_connector(after, &before->connectors[i]))
            registry_remove_connector(gateway->registry, before->connectors[i].type, before->connectors[i].name);
}

void gateway_make_registry(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    struct registry_conf registry = {.loop = gateway->main.loop,
                                     .log = gateway->log,
                                     .dir = conf->dir,
                                     .like = conf->path,
                                     .link = {.devices = devices_changed, .arg = gateway}};

    live_registry_conf(&registry, conf);
    gateway->registry = gateway->live.registry = registry_new(&registry);
    if (conf->filter)
        gateway->filter = filter_new(conf->filter);
}

/* --- local control ------------------------------------------------------------------------------------------------------- */

/* Loop 0. */
static void tell_core(void *arg, struct status_core *out)
{
    struct gateway *gateway = arg;

    out->uplink = uplink_status(gateway->uplink);
    out->store = storage_stats(gateway->storage);
    snprintf(out->trouble, sizeof out->trouble, "%s",
             out->store.trouble    ? out->store.trouble
             : out->uplink.trouble ? out->uplink.trouble
                                   : "");
    out->store.trouble = NULL; /* it is of this thread */
}

static void values_pass(void *arg, struct ctx *ctx, const struct event *event)
{
    tail_values(((struct gateway *)arg)->console.tail, ctx, event);
}

static void wire_passes(void *arg, struct ctx *ctx, bool is_out, struct str subject, struct str bytes)
{
    tail_wire(((struct gateway *)arg)->console.tail, ctx, is_out, subject, bytes);
}

static const char *phase_name(void *arg)
{
    static const char *const names[] = {
        [PHASE_STARTING] = "starting", [PHASE_RUNNING] = "running",     [PHASE_QUIESCING] = "stopping",
        [PHASE_STOPPING] = "stopping", [PHASE_DRAINING] = "delivering", [PHASE_CLOSING] = "closing"};

    return names[((struct gateway *)arg)->phase];
}

static struct takeover_status tell_takeover(void *arg)
{
    return takeover_status(((struct gateway *)arg)->takeover);
}

/* For programs that run elsewhere. */
static const char *absolute(struct arena *arena, const char *path)
{
    char dir[4096];

    if (*path == '/' || !getcwd(dir, sizeof dir))
        return path;
    return arena_printf(arena, "%s/%s", dir, path).p;
}

static struct store_stats stats_of_store(void *arg)
{
    return storage_kept(((struct gateway *)arg)->storage);
}

void gateway_make_console(struct gateway *gateway)
{
    const struct storage_conf *storage = gateway->conf->main->storage;
    const char *dir = storage->type == STORAGE_FILE     ? arena_text(&gateway->arena, storage->folder)
                      : storage->type == STORAGE_SQLITE ? arena_text(&gateway->arena, storage->db_path)
                                                        : NULL;
    const struct console_conf conf = {
        .status = {.main = &gateway->main,
                   .loops = &gateway->loops,
                   .fleet = gateway->fleet,
                   .apply = gateway->apply,
                   .north = gateway->north,
                   .router = gateway->router,
                   .rejected_path = absolute(&gateway->arena, gateway->uplink_conf.rejected_path),
                   .core = tell_core,
                   .phase = phase_name,
                   .takeover = tell_takeover,
                   .arg = gateway},
        .ledger = {.loop = gateway->main.loop,
                   .log = &gateway->storage_log,
                   .dir = dir,
                   .stats = stats_of_store,
                   .arg = gateway},
        .logging = gateway->logging,
        .registry = gateway->registry,
        .log = gateway->log};

    console_start(&gateway->console, &conf, gateway->conf->dir);
}

/* --- commands ---------------------------------------------------------------------------------------------------------- */

static void north_state(void *arg, enum uplink_state state)
{
    struct gateway *gateway = arg;

    router_state(gateway->router, state);
    remote_state(gateway->remote, state);
    ota_state(gateway->ota, state);
    logging_session(gateway->logging, state == UPLINK_READY);
    statistics_session(gateway->statistics, state == UPLINK_READY);
    if (state == UPLINK_READY &&
        apply_running(gateway->apply)->login == LOGIN_PROVISION) /* there may be a certificate now */
        cert_watch_look(&gateway->cert_watch);
}

static void tell_expiry(void *arg, struct str attributes)
{
    north_own_attributes(((struct gateway *)arg)->north, attributes);
}

static struct cert_watch_conf certificates_of(const struct gateway_conf *conf, const struct uplink_conf *uplink)
{
    const struct tls_conf *tls = &uplink->mqtt.stream.tls;
    const struct provision_conf *provision = uplink->provision;
    const struct security_conf *security = conf->main->platform->security;

    if (!tls->is_on)
        return (struct cert_watch_conf){0};
    return (struct cert_watch_conf){
        .cert_file = provision && provision->type == CREDENTIALS_CERTIFICATE ? provision->cert_path : tls->cert_file,
        .ca_file = tls->ca_file,
        .period_ms = (uint64_t)security->check_cert_period_s * 1000,
        .days_left = security->certificate_days_left};
}

void gateway_watch_certificates(struct gateway *gateway)
{
    const struct cert_watch_conf conf = certificates_of(gateway->conf, &gateway->uplink_conf);

    cert_watch_start(&gateway->cert_watch, gateway->main.loop, &gateway->connection_log, &conf, tell_expiry, gateway);
}

/* A change of the connection may have brought others. */
static void watch_other_certificates(struct gateway *gateway, const struct gateway_conf *after)
{
    struct uplink_conf uplink;
    struct cert_watch_conf conf;
    struct arena arena;

    arena_init(&arena, 1024);
    uplink_conf_from(&uplink, after, &arena);
    conf = certificates_of(after, &uplink);
    cert_watch_change(&gateway->cert_watch, &conf);
    arena_fini(&arena);
}

static void remove_credentials(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf answer = {0};

    (void)params;
    credentials_remove(gateway->conf->dir, &answer);
    LOG_WARN(gateway->log, "the platform has the provisioned credentials removed", KV_STR("answer", buf_str(&answer)));
    router_builtin_reply(gateway->router, request, buf_str(&answer));
}

static void own_rpc(void *arg, struct str number, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_own_rpc(gateway->router, number, root);
}

static void device_rpc(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_device_rpc(gateway->router, root);
}

static void own_attributes(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    remote_attributes(gateway->remote, root);
    ota_attributes(gateway->ota, root);
}

static void firmware(void *arg, uint64_t request, uint64_t chunk, struct str bytes)
{
    ota_chunk(((struct gateway *)arg)->ota, request, chunk, bytes);
}

static void device_attributes(void *arg, yyjson_val *root)
{
    struct gateway *gateway = arg;

    router_device_attributes(gateway->router, root);
}

static void command_replied(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    struct gateway *gateway = arg;

    router_reply(gateway->router, ctx, command, err, json);
}

static void attributes_requested(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                                 uint64_t cookie)
{
    struct gateway *gateway = arg;

    router_request_attributes(gateway->router, ctx, dev, shared, client, cookie);
}

static void serving(void *arg, struct ctx *ctx, bool is_there)
{
    struct gateway *gateway = arg;

    router_serving(gateway->router, ctx, is_there);
}

static void released(void *arg, struct ctx *ctx)
{
    struct gateway *gateway = arg;

    router_released(gateway->router, ctx);
}

static void device_connected(void *arg, struct ctx *ctx, struct device *dev, struct str keys, bool is_all,
                             bool is_again)
{
    struct gateway *gateway = arg;

    router_device_connected(gateway->router, ctx, dev, keys, is_all, is_again);
}

static struct device *device_of_name(void *arg, struct str name)
{
    struct gateway *gateway = arg;

    return registry_by_platform_name(gateway->registry, name);
}

static struct str name_of_device(void *arg, const struct device *dev)
{
    (void)arg;
    return registry_platform_name(dev);
}

static void device_was_renamed(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf reply = {0};

    registry_renamed(gateway->registry, params, &reply);
    router_names_changed(gateway->router);
    router_builtin_reply(gateway->router, request, buf_str(&reply));
}

static void device_was_deleted(void *arg, struct router_request *request, yyjson_val *params)
{
    struct gateway *gateway = arg;
    autobuf struct buf reply = {0};

    registry_deleted(gateway->registry, params, &reply);
    router_builtin_reply(gateway->router, request, buf_str(&reply));
}

static void restart_asked(void *arg, bool is_machine)
{
    struct gateway *gateway = arg;

    if (gateway->phase >= PHASE_QUIESCING)
        return;
    gateway->restart = is_machine ? RESTART_MACHINE : RESTART_PROGRAM;
    gateway_begin_stop(gateway, is_machine ? "reboot by the platform" : "restart by the platform");
}

/* Loop 0. */
static void sample(void *arg, struct statistics_sample *out)
{
    struct gateway *gateway = arg;

    *out = (struct statistics_sample){.store = storage_stats(gateway->storage),
                                      .uplink = uplink_status(gateway->uplink),
                                      .n_received = atomic_load_explicit(&gateway->n_received, memory_order_relaxed)};
}

static void make_statistics(struct gateway *gateway)
{
    const struct statistics_conf_of conf = {.main = &gateway->main,
                                            .loop0 = &gateway->loops.all[0]->runner,
                                            .fleet = gateway->fleet,
                                            .north = gateway->north,
                                            .log = gateway->log,
                                            .sample = sample,
                                            .arg = gateway};

    gateway->statistics = gateway->live.statistics = statistics_new(&conf);
    statistics_apply(gateway->statistics, gateway->conf);
}

static void make_ota(struct gateway *gateway)
{
    struct str hook = gateway->conf->main->platform->ota_hook;
    const struct ota_conf conf = {.loop = gateway->main.loop,
                                  .log = gateway->log,
                                  .dir = gateway->conf->dir,
                                  .hook = arena_text(&gateway->arena, hook)};

    if (!hook.n)
        return;
    gateway->ota = ota_new(&conf);
    ota_attach(gateway->ota, gateway->north);
}

void gateway_make_router(struct gateway *gateway)
{
    static const struct north_events north_events = {.state = north_state,
                                                     .own_rpc = own_rpc,
                                                     .device_rpc = device_rpc,
                                                     .own_attributes = own_attributes,
                                                     .device_attributes = device_attributes,
                                                     .firmware = firmware};
    static const struct router_events router_events = {
        .find = device_of_name, .platform_name = name_of_device, .restart = restart_asked};
    const struct platform_conf *platform = gateway->conf->main->platform;
    const struct router_conf conf = {.has_remote_shell = platform->remote_shell,
                                     .syncs_attributes = platform->sync_shared_attributes,
                                     .config_dir = gateway->conf->dir};

    gateway->router = gateway->live.router =
        router_new(gateway->main.loop, gateway->log, &conf, &router_events, gateway);
    gateway->north = north_new(gateway->main.loop, gateway->loops.all[0]->runner.loop, &gateway->connection_log,
                               &north_events, gateway);
    router_attach(gateway->router, gateway->north);
    make_ota(gateway);
    make_statistics(gateway);
    logging_attach(gateway->logging, &gateway->main, gateway->fleet, gateway->north);
    router_add_builtin(gateway->router, "device_renamed", device_was_renamed, gateway);
    router_add_builtin(gateway->router, "device_deleted", device_was_deleted, gateway);
    router_add_builtin(gateway->router, "remove_provisioned_credentials", remove_credentials, gateway);
}

void gateway_make_remote(struct gateway *gateway, const struct gateway_types *types)
{
    const struct remote_conf conf = {.main = &gateway->main,
                                     .apply = gateway->apply,
                                     .north = gateway->north,
                                     .types = types,
                                     .logging = gateway->logging,
                                     .log = gateway->log};

    gateway->remote = remote_new(&conf);
}

/* Where the data is, if it has a directory. */
struct str gateway_data_dir(const struct gateway *gateway)
{
    struct str dir = storage_path_of(gateway->conf->main->storage);

    return dir.n ? dir : str_from(gateway->conf->dir);
}

/* --- loops and changes ------------------------------------------------------------------------------------------------------ */

static bool has_own_loop(const struct gateway_connector *connector)
{
    const struct connector_common *common = connector_common_of(connector->conf);
    const struct connector_type *type = connector->conf ? module_load(connector->type, NULL) : NULL;

    if (!type)
        return false;
    return common->has_own_loop ? common->own_loop : (type->flags & CONNECTOR_LONG_TURNS) != 0;
}

NODISCARD enum err gateway_make_loops(struct gateway *gateway)
{
    const struct gateway_conf *conf = gateway->conf;
    const struct report_strategy *report = conf->main->platform->report_strategy;
    const struct ctx_host host = {.config_dir = conf->dir,
                                  .data_dir = arena_text(&gateway->arena, gateway_data_dir(gateway)),
                                  .values_pass = values_pass,
                                  .wire_passes = wire_passes,
                                  .report = report ? *report : (struct report_strategy){0},
                                  .report_cleanup_s = conf->main->platform->report_cleanup_s,
                                  .adds_meta = conf->main->platform->latency_debug,
                                  .device_allowed = conf->filter ? device_allowed : NULL,
                                  .device_seen = device_seen,
                                  .attached = attached,
                                  .reply = command_replied,
                                  .request_attributes = attributes_requested,
                                  .serving = serving,
                                  .released = released,
                                  .device_connected = device_connected,
                                  .arg = gateway};
    size_t n_own = 0, cores = uv_available_parallelism(), n = conf->main->platform->loops, n_sharing;
    enum err err = runner_init(&gateway->main, "main");

    for (size_t i = 0; i < conf->n_connectors; i++)
        n_own += has_own_loop(&conf->connectors[i]);
    n_sharing = conf->n_connectors - n_own;
    if (n == 0) {
        n = n_sharing < cores ? n_sharing : cores;
        n = n < MAX_LOOPS ? n : MAX_LOOPS;
    }
    return err ? err : loops_init(&gateway->loops, &gateway->main, n ? n : 1, &host);
}

/* The rejected file is where the storage is. */
static void name_rejected_file(struct gateway *gateway, const struct gateway_conf *conf)
{
    struct uplink_conf uplink;
    struct arena arena;

    arena_init(&arena, 1024);
    uplink_conf_from(&uplink, conf, &arena);
    status_set_rejected_path(gateway->console.status, absolute(&arena, uplink.rejected_path));
    arena_fini(&arena);
}

static void configuration_changed(void *arg, const struct gateway_conf *before, const struct gateway_conf *after)
{
    struct gateway *gateway = arg;

    gateway_name_connectors(gateway, after);
    name_rejected_file(gateway, after);
    forget_connectors(gateway, before, after);
    watch_other_certificates(gateway, after);
    remote_changed(gateway->remote);
}

static enum err take_remote_shell(void *arg, const struct gateway_conf *before UNUSED, const struct gateway_conf *after,
                                  struct apply_step *step UNUSED, struct why *why UNUSED)
{
    struct gateway *gateway = arg;

    router_set_remote_shell(gateway->router, after->main->platform->remote_shell);
    return ERR_OK;
}

void gateway_make_apply(struct gateway *gateway, struct gateway_conf *conf, const struct gateway_types *types,
                        const struct problems *known)
{
    static const char *const remote_shell_keys[] = {"thingsboard.remoteShell", NULL};
    const struct apply_conf apply = {.main = &gateway->main,
                                     .fleet = gateway->fleet,
                                     .types = types,
                                     .running = conf,
                                     .known = known,
                                     .log = gateway->log};

    gateway->apply = apply_new(&apply);
    apply_on_change(gateway->apply, configuration_changed, gateway);
    gateway->live = (struct live){.loops = &gateway->loops,
                                  .fleet = gateway->fleet,
                                  .logging = gateway->logging,
                                  .uplink_runner = &gateway->loops.all[0]->runner,
                                  .uplink = &gateway->uplink,
                                  .filter = &gateway->filter,
                                  .device_allowed = device_allowed};
    live_add_owners(gateway->apply, &gateway->live);
    gateway->connection = (struct connection){
        .main = &gateway->main, .uplink_runner = &gateway->loops.all[0]->runner, .uplink = &gateway->uplink};
    apply_add_owner(gateway->apply,
                    &(struct apply_owner){.keys = remote_shell_keys, .take = take_remote_shell, .arg = gateway});
}
