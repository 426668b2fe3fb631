/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/statistics.h"

#include "base/map.h"

enum { COMMANDS_AT_ONCE = 4, TIMEOUT_MAX_S = 3600, INSTALL_S = 600, PAYLOAD_MIN = 1024, SECOND_MS = 1000 };
enum { AROUND = 8 }; /* brackets and a comma */

struct totals { /* of a connector, as of the last message */
    uint64_t n[IOTGW_COUNTER_COUNT], n_errors;
    char name[];
};

struct custom {                      /* a command */
    const char *attribute, *install; /* install NULL: none, or it is not to run */
    const char *const *argv;
    uint64_t timeout_ms;
};

struct slot { /* a command that runs */
    struct run_command run;
    struct statistics *owner;
    char *attribute; /* a copy: the list may change meanwhile */
    bool is_busy, is_install, is_given_up;
    char *install; /* which of the map it runs */
};

struct statistics {
    struct statistics_conf_of conf;
    bool is_up, is_stopping;
    struct timer timer, custom_timer;
    struct machine_clock since;
    struct map totals; /* connector's name → struct totals */
    struct statistics_sample now, before;
    struct call to_loop0, to_main;
    bool is_asked, has_told;

    struct arena arena; /* of what follows */
    struct custom *customs;
    size_t n_customs, next; /* next: of this round */
    bool in_round;
    struct map installed; /* text of each install command that was run → the text */
    struct buf results;
    struct slot slots[COMMANDS_AT_ONCE];
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* --- each period ------------------------------------------------------------------------------------------------------------ */

static struct totals *totals_of(struct statistics *self, const char *name)
{
    struct totals *totals = map_get(&self->totals, str_from(name));
    size_t n = strlen(name) + 1;

    if (!totals) {
        totals = mem_zero(sizeof *totals + n);
        memcpy(totals->name, name, n);
        map_put(&self->totals, str_from(totals->name), totals);
    }
    return totals;
}

/* What was added since the last message; a connector that was made anew may count from zero. */
static unsigned long long since(uint64_t *before, uint64_t now)
{
    uint64_t n = now >= *before ? now - *before : now;

    *before = now;
    return n;
}

static void add_connector(struct statistics *self, struct buf *out, const struct fleet_connector *connector)
{
    static const struct {
        enum iotgw_counter counter;
        const char *key;
    } own[] = {{IOTGW_MESSAGES_IN, "connectorMsgsReceived"},
               {IOTGW_BYTES_IN, "connectorBytesReceived"},
               {IOTGW_EVENTS, "storageMsgPushed"}},
      converter[] = {{IOTGW_CONVERTED, "convertersMsgProcessed"},
                     {IOTGW_DROPPED, "convertersMsgDropped"},
                     {IOTGW_ATTR_VALUES, "convertersAttrProduced"},
                     {IOTGW_TS_VALUES, "convertersTsProduced"},
                     {IOTGW_CONVERSION_ERRORS, "convertersErrors"}};
    struct totals *totals = totals_of(self, connector->name);
    autobuf struct buf name = {0};

    buf_printf(&name, "%s_converter", connector->name);
    json_add_string(out, str_from(connector->name));
    buf_add_z(out, ":{");
    for (size_t i = 0; i < COUNT_OF(own); i++)
        buf_printf(out, "\"%s\":%llu,", own[i].key,
                   since(&totals->n[own[i].counter], ctx_counter(connector->ctx, own[i].counter)));
    buf_printf(out, "\"connectorsErrors\":%llu},",
               since(&totals->n_errors, atomic_load(&ctx_log(connector->ctx)->n_errors)));
    json_add_string(out, buf_str(&name));
    buf_add_z(out, ":{");
    for (size_t i = 0; i < COUNT_OF(converter); i++)
        buf_printf(out, "%s\"%s\":%llu", i ? "," : "", converter[i].key,
                   since(&totals->n[converter[i].counter], ctx_counter(connector->ctx, converter[i].counter)));
    buf_add_u8(out, '}');
}

/* Connectors that do not fit into one message go with further ones, which have nothing else. */
static void send_message(struct statistics *self, struct buf *head, size_t limit)
{
    static const char open[] = "{\"connectorsStats\":{", close[] = "}}";
    size_t n = fleet_count(self->conf.fleet);
    bool has_any = false, has_groups = true;

    buf_add_z(head, ",\"connectorsStats\":{");
    for (size_t i = 0; i < n; i++) {
        struct fleet_connector connector = fleet_at(self->conf.fleet, i);
        autobuf struct buf one = {0};

        if (!connector.ctx)
            continue;
        add_connector(self, &one, &connector);
        if ((has_any || has_groups) && head->n + one.n + AROUND > limit) {
            buf_add_z(head, close);
            north_own_telemetry(self->conf.north, buf_str(head));
            head->n = 0;
            buf_add_z(head, open);
            has_any = has_groups = false;
        }
        if (has_any)
            buf_add_u8(head, ',');
        buf_add_str(head, buf_str(&one));
        has_any = true;
    }
    buf_add_z(head, close);
    north_own_telemetry(self->conf.north, buf_str(head));
}

static size_t payload_limit(const struct uplink_status *uplink)
{
    return uplink->payload_limit > PAYLOAD_MIN ? uplink->payload_limit : PAYLOAD_MIN;
}

static void take_sample(void *arg)
{
    struct statistics *self = arg;

    self->conf.sample(self->conf.arg, &self->now);
    runner_call(self->conf.main, &self->to_main);
}

static void sample_came(void *arg)
{
    struct statistics *self = arg;
    const struct uplink_status *uplink = &self->now.uplink;
    struct statistics_sample *before = &self->before;
    autobuf struct buf out = {0};

    self->is_asked = false;
    if (!self->is_up || self->is_stopping) /* the counters go on */
        return;
    buf_add_z(&out, "{\"machineStats\":{");
    statistics_machine(&out, &self->since);
    buf_printf(&out, ",\"msgsSentToPlatform\":%llu,\"msgsReceivedFromPlatform\":%llu}",
               since(&before->uplink.n_packs, uplink->n_packs), since(&before->n_received, self->now.n_received));
    buf_printf(&out, ",\"serviceStats\":{\"storageMsgPulled\":%llu,\"storageMsgCount\":%llu,\"platformMsgPushed\":%llu",
               since(&before->uplink.n_read_events, uplink->n_read_events),
               (unsigned long long)self->now.store.n_events, since(&before->uplink.n_events, uplink->n_events));
    buf_printf(&out, ",\"storageMsgDropped\":%llu", (unsigned long long)self->now.store.n_dropped_events);
    buf_printf(&out, ",\"platformAttrProduced\":%llu,\"platformTsProduced\":%llu}",
               since(&before->uplink.n_attribute_values, uplink->n_attribute_values),
               since(&before->uplink.n_telemetry_values, uplink->n_telemetry_values));
    send_message(self, &out, payload_limit(uplink));
}

static void ask(void *arg)
{
    struct statistics *self = arg;

    if (self->is_asked || !self->is_up || self->is_stopping)
        return;
    self->is_asked = true;
    self->to_loop0 = (struct call){.fn = take_sample, .arg = self};
    self->to_main = (struct call){.fn = sample_came, .arg = self};
    runner_call(self->conf.loop0, &self->to_loop0);
}

/* --- custom commands -------------------------------------------------------------------------------------------------------- */

static void run_more(struct statistics *self);

static bool is_any_busy(const struct statistics *self)
{
    for (size_t i = 0; i < COMMANDS_AT_ONCE; i++)
        if (self->slots[i].is_busy)
            return true;
    return false;
}

static void send_results(struct statistics *self)
{
    if (self->results.n && self->is_up) {
        buf_add_u8(&self->results, '}');
        north_own_telemetry(self->conf.north, buf_str(&self->results));
    }
    self->results.n = 0;
}

/* What does not fit into one message goes with the next. */
static void add_result(struct statistics *self, struct str attribute, struct str output)
{
    const struct uplink_status status = north_status(self->conf.north);
    autobuf struct buf one = {0};

    json_add_string(&one, attribute);
    buf_add_u8(&one, ':');
    if (!statistics_add_result(&one, output))
        return;
    if (one.n + AROUND > payload_limit(&status)) {
        LOG_WARN(self->conf.log, "result of a statistics command is larger than a message may be, it is left out",
                 KV_STR("attribute", attribute), KV_UINT("bytes", one.n));
        return;
    }
    if (self->results.n + one.n + AROUND > payload_limit(&status))
        send_results(self);
    buf_add_u8(&self->results, self->results.n ? ',' : '{');
    buf_add_str(&self->results, buf_str(&one));
}

static void command_done(struct run_command *run, enum err err, struct str output)
{
    struct slot *slot = CONTAINER_OF(run, struct slot, run);
    struct statistics *self = slot->owner;

    slot->is_busy = false;
    if (self->is_stopping) {
        mem_free(slot->attribute);
        if (!is_any_busy(self) && self->stopped)
            self->stopped(self->stopped_arg);
        return;
    }
    if (err && !slot->is_given_up)
        LOG_WARN(self->conf.log, "command of the statistics failed",
                 KV_Z("kind", slot->is_install ? "installCmd" : "command"), KV_Z("attribute", slot->attribute),
                 KV_ERR(err));
    else if (!err && !slot->is_install && !slot->is_given_up)
        add_result(self, str_from(slot->attribute), output);
    mem_free(slot->attribute);
    slot->attribute = NULL;
    run_more(self);
}

static void run_one(struct statistics *self, struct slot *slot, const struct custom *custom, bool is_install)
{
    const char *const install[] = {"/bin/sh", "-c", custom->install, NULL};

    slot->run = (struct run_command){0};
    slot->owner = self;
    slot->attribute = mem_dup(custom->attribute);
    slot->is_busy = true;
    slot->is_install = is_install;
    slot->is_given_up = false;
    run_command_start(&slot->run, self->conf.main->loop, is_install ? install : custom->argv,
                      is_install ? INSTALL_S * (uint64_t)SECOND_MS : custom->timeout_ms, command_done);
}

/* An install command first, then the commands; the message once all have ended. */
static void run_more(struct statistics *self)
{
    if (!self->in_round)
        return;
    for (size_t i = 0; i < COMMANDS_AT_ONCE && self->next < self->n_customs; i++) {
        struct custom *custom = &self->customs[self->next];

        if (self->slots[i].is_busy)
            continue;
        if (custom->install && map_get(&self->installed, str_from(custom->install)))
            custom->install = NULL; /* another command has the same one */
        if (custom->install) {
            const struct custom install = *custom;

            custom->install = NULL; /* then the command itself, when this has ended: all wait for it */
            if (is_any_busy(self)) {
                custom->install = install.install;
                return;
            }
            run_one(self, &self->slots[i], &install, true);
            self->slots[i].install = mem_dup(install.install);
            map_put(&self->installed, str_from(self->slots[i].install), self->slots[i].install);
            return;
        }
        run_one(self, &self->slots[i], custom, false);
        self->next++;
    }
    if (self->next < self->n_customs || is_any_busy(self))
        return;
    self->in_round = false;
    send_results(self);
}

static void begin_round(void *arg)
{
    struct statistics *self = arg;

    if (self->in_round || is_any_busy(self) || self->is_stopping || !self->is_up || !self->n_customs)
        return;
    self->in_round = true;
    self->next = 0;
    self->results.n = 0;
    run_more(self);
}

/* What runs is ended and its result forgotten. */
static void give_up_round(struct statistics *self)
{
    self->in_round = false;
    self->results.n = 0;
    for (size_t i = 0; i < COMMANDS_AT_ONCE; i++)
        if (self->slots[i].is_busy) {
            self->slots[i].is_given_up = true;
            if (self->slots[i].is_install && self->slots[i].install) { /* it has not done its work: another time */
                map_del(&self->installed, str_from(self->slots[i].install));
                mem_free(self->slots[i].install);
                self->slots[i].install = NULL;
            }
            run_command_kill(&self->slots[i].run);
        }
}

static void take_commands(struct statistics *self, const struct conf_list *commands, bool may_install)
{
    self->customs = arena_zero(&self->arena, (commands->n + 1) * sizeof *self->customs);
    for (size_t i = 0; i < commands->n; i++) {
        const struct command_conf *command = commands->items[i];
        struct custom *custom = &self->customs[self->n_customs++];
        const char **argv = arena_zero(&self->arena, (command->argv.n + 1) * sizeof *argv);
        double timeout_s = command->timeout_s < TIMEOUT_MAX_S ? command->timeout_s : TIMEOUT_MAX_S;

        for (size_t k = 0; k < command->argv.n; k++)
            argv[k] = arena_text(&self->arena, command->argv.items[k]);
        *custom = (struct custom){.attribute = arena_text(&self->arena, command->attribute),
                                  .argv = argv,
                                  .timeout_ms = timeout_s > 0.001 ? (uint64_t)(timeout_s * SECOND_MS) : 1};
        if (!command->install.n || map_get(&self->installed, command->install))
            continue;
        if (may_install)
            custom->install = arena_text(&self->arena, command->install);
        else
            LOG_WARN(self->conf.log, "install command of a statistics command is not run: remoteShell is off",
                     KV_Z("attribute", custom->attribute));
    }
}

/* --- exported ------------------------------------------------------------------------------------------------------------------ */

struct statistics *statistics_new(const struct statistics_conf_of *conf)
{
    struct statistics *self = mem_zero(sizeof *self);
    autobuf struct buf ignored = {0};

    self->conf = *conf;
    arena_init(&self->arena, 512);
    timer_init(&self->timer, conf->main->loop, ask, self);
    timer_init(&self->custom_timer, conf->main->loop, begin_round, self);
    statistics_machine(&ignored, &self->since);
    return self;
}

void statistics_apply(struct statistics *self, const struct gateway_conf *conf)
{
    static const struct statistics_conf absent = {
        .enable = true, .enable_custom = true, .period_s = 60, .custom_period_s = 300};
    const struct statistics_conf *statistics =
        conf->main->platform->statistics ? conf->main->platform->statistics : &absent;
    const struct command_file_conf *file = conf->commands_file ? conf_root(conf->commands_file) : NULL;
    uint64_t period_ms = (uint64_t)statistics->period_s * SECOND_MS;
    uint64_t custom_ms = (uint64_t)statistics->custom_period_s * SECOND_MS;

    give_up_round(self);
    arena_reset(&self->arena);
    self->n_customs = 0;
    timer_stop(&self->timer);
    timer_stop(&self->custom_timer);
    if (!statistics->enable)
        return;
    timer_start_periodic(&self->timer, period_ms, period_ms);
    if (!self->has_told) {
        autobuf struct buf json = {0};

        statistics_own_attributes(&json);
        north_own_attributes(self->conf.north, buf_str(&json));
        self->has_told = true;
    }
    if (!statistics->enable_custom)
        return;
    if (statistics->commands.n)
        take_commands(self, &statistics->commands, conf->main->platform->remote_shell);
    else if (file)
        take_commands(self, &file->commands, conf->main->platform->remote_shell);
    if (self->n_customs)
        timer_start_periodic(&self->custom_timer, custom_ms, custom_ms);
}

void statistics_session(struct statistics *self, bool is_up)
{
    self->is_up = is_up;
}

void statistics_stop(struct statistics *self, void (*stopped)(void *arg), void *arg)
{
    self->is_stopping = true;
    self->stopped = stopped;
    self->stopped_arg = arg;
    timer_stop(&self->timer);
    timer_stop(&self->custom_timer);
    give_up_round(self);
    if (!is_any_busy(self) && stopped)
        stopped(arg);
}

void statistics_free(struct statistics *self)
{
    if (!self)
        return;
    for (struct map_slot *slot = NULL; (slot = map_next(&self->totals, slot));)
        mem_free(slot->value);
    map_fini(&self->totals);
    for (struct map_slot *slot = NULL; (slot = map_next(&self->installed, slot));)
        mem_free(slot->value);
    map_fini(&self->installed);
    buf_fini(&self->results);
    arena_fini(&self->arena);
    mem_free(self);
}
