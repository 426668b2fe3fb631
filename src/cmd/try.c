/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connector of the configuration by itself, without the gateway: whether its links can be made (test-connection), and what is
 * found behind them (browse). Nothing is stored, and nothing that comes is acknowledged.
 */
#include "cmd/subject.h"
#include "base/map.h"
#include "connector/ctx.h"
#include "data/json.h"
#include "io/loop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TIMEOUT_S = 15, LISTEN_S = 10, SETTLE_MS = 300, END_MS = 5000, TIME_MAX_S = 3600 };

struct trial {
    const struct command_line *line;
    const struct subject *subject;
    struct loop *loop;
    struct ctx_host host;
    struct store store;
    struct ctx *ctx;
    void *self;
    struct timer first, limit, settled, overdue;
    uv_signal_t interrupt;
    bool is_browse, is_json, wants_configuration, is_ending;
    unsigned time_s;
    int code;

    struct buf out;
    unsigned n_links, n_waiting;
    struct map configurations; /* text → the same text */
    struct buf configuration;  /* JSON array under construction */
};

/* --- a storage that takes nothing ----------------------------------------------------------------------------------------- */

static void refuse(struct store *store, struct batch *batch)
{
    (void)store;
    batch_drop_bytes(batch);
    batch->result = ERR_CANCELLED;
    store_answer(batch);
}

/* --- the end ---------------------------------------------------------------------------------------------------------------- */

static void closed(uv_handle_t *handle)
{
    struct trial *trial = handle->data;

    loop_stop(trial->loop);
}

static void close_all(void *arg)
{
    struct trial *trial = arg;

    if (trial->ctx) {
        ctx_attach(trial->ctx, NULL);
        trial->subject->type->close(trial->self);
        ctx_unref(trial->ctx);
        mem_free(trial->self);
    }
    timer_stop(&trial->limit);
    timer_stop(&trial->settled);
    timer_stop(&trial->overdue);
    uv_close((uv_handle_t *)&trial->interrupt, closed);
}

static void stopped(void *arg)
{
    struct trial *trial = arg;

    timer_init(&trial->first, trial->loop, close_all, trial); /* not within what the connector has called back from */
    timer_start(&trial->first, 0);
}

static void stop(void *arg)
{
    struct trial *trial = arg;

    if (trial->subject->type->stop)
        trial->subject->type->stop(trial->self, stopped, trial);
    else
        stopped(trial);
}

/* What there is to say is said; a connector that does not end is left to the end of the process. */
static void give_up(void *arg)
{
    struct trial *trial = arg;

    (void)command_print(&trial->out);
    _exit(trial->code);
}

static void end(struct trial *trial)
{
    if (trial->is_ending)
        return;
    trial->is_ending = true;
    timer_stop(&trial->limit);
    timer_stop(&trial->settled);
    timer_start(&trial->overdue, END_MS);
    ctx_quiesce(trial->ctx);
    if (trial->subject->type->quiesce)
        trial->subject->type->quiesce(trial->self, stop, trial);
    else
        stop(trial);
}

/* Text from outside on a terminal: without control characters. */
static void add_plain(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        buf_add_u8(out, (uint8_t)text.p[i] < 0x20 || text.p[i] == 0x7f ? ' ' : (uint8_t)text.p[i]);
}

/* --- test-connection ---------------------------------------------------------------------------------------------------------- */

static void count_link(void *arg, const struct ctx_link *link)
{
    struct trial *trial = arg;

    trial->n_links++;
    trial->n_waiting += link->state == LINK_CONNECTING;
}

static void add_link(void *arg, const struct ctx_link *link)
{
    static const char *const said[] = {[LINK_DOWN] = "not connected",
                                       [LINK_CONNECTING] = "no answer",
                                       [LINK_UP] = "connected",
                                       [LINK_DEGRADED] = "connected, but not all of it works",
                                       [LINK_FAILED] = "not connected"};
    struct trial *trial = arg;
    char reason[sizeof "within 3600 s"];
    struct str why = link->reason;

    if (link->state == LINK_CONNECTING && !why.n) {
        snprintf(reason, sizeof reason, "within %u s", trial->time_s);
        why = str_from(reason);
    }
    if (link->state != LINK_UP)
        trial->code = EXIT_FAILED;
    if (trial->is_json) {
        buf_add_z(&trial->out, trial->n_links++ ? ",{\"link\":" : "{\"link\":");
        json_add_string(&trial->out, link->name);
        buf_printf(&trial->out, ",\"state\":\"%s\",\"reason\":", link_state_name(link->state));
        json_add_string(&trial->out, link->state == LINK_UP ? STR_NONE : why);
        buf_add_u8(&trial->out, '}');
        return;
    }
    buf_add_z(&trial->out, trial->subject->name);
    if (link->name.n) {
        buf_add_u8(&trial->out, ' ');
        add_plain(&trial->out, link->name);
    }
    buf_printf(&trial->out, ": %s", said[link->state]);
    if (link->state != LINK_UP && why.n) {
        buf_add_z(&trial->out, ": ");
        add_plain(&trial->out, why);
    }
    buf_add_u8(&trial->out, '\n');
}

static void conclude(struct trial *trial)
{
    trial->n_links = 0;
    trial->code = EXIT_DONE;
    if (trial->is_json) {
        buf_add_z(&trial->out, "{\"connector\":");
        json_add_string(&trial->out, str_from(trial->subject->name));
        buf_add_z(&trial->out, ",\"type\":");
        json_add_string(&trial->out, str_from(trial->subject->type->name));
        buf_add_z(&trial->out, ",\"links\":[");
    }
    ctx_each_link(trial->ctx, add_link, trial);
    if (!trial->is_json && !trial->out.n) {
        buf_printf(&trial->out, "%s: tells of no link within %u s\n", trial->subject->name, trial->time_s);
        trial->code = EXIT_FAILED;
    }
    if (trial->is_json)
        buf_printf(&trial->out, "],\"ok\":%s}\n", trial->n_links && trial->code == EXIT_DONE ? "true" : "false");
    if (trial->is_json && !trial->n_links)
        trial->code = EXIT_FAILED;
    end(trial);
}

/* Each link that was told of is made or has failed, and no other one has been told of for a while. */
static void look(void *arg)
{
    struct trial *trial = arg;

    trial->n_links = trial->n_waiting = 0;
    ctx_each_link(trial->ctx, count_link, trial);
    if (trial->n_links && !trial->n_waiting)
        conclude(trial);
}

static void state_changed(void *arg, struct ctx *ctx)
{
    struct trial *trial = arg;

    (void)ctx;
    if (!trial->is_ending && !trial->is_browse)
        timer_start(&trial->settled, SETTLE_MS);
}

/* --- browse ------------------------------------------------------------------------------------------------------------------- */

static void keep_configuration(struct trial *trial, yyjson_val *val)
{
    autobuf struct buf text = {0};
    char *kept;

    if (!val)
        return;
    json_add_value(&text, val);
    if (map_get(&trial->configurations, buf_str(&text)))
        return;
    kept = mem_zero(text.n + 1);
    memcpy(kept, text.p, text.n);
    map_put(&trial->configurations, str_of(kept, text.n), kept);
    buf_add_z(&trial->configuration, trial->configuration.n ? "," : "[");
    buf_add_str(&trial->configuration, buf_str(&text));
}

static void browse_item(void *arg, struct ctx *ctx, void *request, struct str json)
{
    struct trial *trial = arg;
    yyjson_doc *doc = json_read(json, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *sample = json_get(root, STR("sample"));
    autobuf struct buf out = {0};

    (void)ctx, (void)request;
    if (trial->wants_configuration) {
        keep_configuration(trial, json_get(root, STR("configuration")));
    } else if (trial->is_json) {
        buf_add_str(&out, json);
        buf_add_u8(&out, '\n');
    } else if (doc) {
        add_plain(&out, json_str(json_get(root, STR("name"))));
        buf_add_z(&out, "  ");
        add_plain(&out, json_str(json_get(root, STR("type"))));
        buf_add_z(&out, "  ");
        if (yyjson_is_str(sample))
            add_plain(&out, json_str(sample));
        buf_add_u8(&out, '\n');
    }
    yyjson_doc_free(doc);
    trial->n_links++;
    if (out.n && !command_print(&out)) {
        trial->code = EXIT_FAILED;
        end(trial);
    }
}

static void browse_end(void *arg, struct ctx *ctx, void *request, enum err err, struct str reason)
{
    struct trial *trial = arg;

    (void)ctx, (void)request;
    if (err)
        trial->code = command_fail(trial->line, EXIT_FAILED, "%s: " STR_FMT, trial->subject->name, STR_ARG(reason));
    end(trial);
}

static void print_configuration(struct trial *trial)
{
    yyjson_doc *doc;

    if (!trial->wants_configuration || trial->code != EXIT_DONE)
        return;
    buf_add_z(&trial->configuration, trial->configuration.n ? "]" : "[]");
    doc = json_read(buf_str(&trial->configuration), NULL);
    json_add_pretty(&trial->out, yyjson_doc_get_root(doc));
    buf_add_u8(&trial->out, '\n');
    yyjson_doc_free(doc);
}

/* --- the beginning -------------------------------------------------------------------------------------------------------------- */

static void time_is_up(void *arg)
{
    struct trial *trial = arg;

    if (!trial->is_browse)
        conclude(trial);
    else
        end(trial);
}

static void interrupted(uv_signal_t *handle, int number)
{
    (void)number;
    if (!((struct trial *)handle->data)->is_ending)
        time_is_up(handle->data);
}

static void begin(void *arg)
{
    struct trial *trial = arg;
    const struct connector_type *type = trial->subject->type;
    const char *path = trial->line->n_args > 1 ? trial->line->args[1] : "";
    struct why why = {0};
    enum err err;

    trial->self = mem_zero(type->state_size);
    trial->ctx = ctx_new(type, trial->subject->name, trial->loop, &trial->host, trial->subject->file);
    ctx_set_log_levels(trial->ctx, LOG_LEVEL_OFF, LOG_LEVEL_OFF);
    err = type->open(trial->self, trial->ctx, trial->subject->conf, &why);
    ctx_attach(trial->ctx, trial->self);
    if (!err) {
        timer_start(&trial->limit, trial->time_s * 1000ull);
        if (trial->is_browse)
            err = type->browse(trial->self, str_from(path), trial, &why);
        else if (type->probe)
            type->probe(trial->self);
        else
            type->start(trial->self);
        if (err) {
            trial->code = command_fail(trial->line, EXIT_FAILED, "%s: %s", trial->subject->name, why_text(&why));
            end(trial);
        }
        return;
    }
    trial->code = command_fail(trial->line, EXIT_FAILED, "%s: %s", trial->subject->name, why_text(&why));
    close_all(trial);
}

static int run_trial(struct trial *trial)
{
    static const struct store_ops nowhere = {.append = refuse};

    ctx_setup();
    trial->store.ops = &nowhere;
    trial->host = (struct ctx_host){.store = &trial->store,
                                    .config_dir = trial->subject->gateway ? trial->subject->gateway->dir : ".",
                                    .state_changed = state_changed,
                                    .browse_item = browse_item,
                                    .browse_end = browse_end,
                                    .arg = trial};
    if (loop_new(&trial->loop, "main"))
        return command_fail(trial->line, EXIT_FAILED, "no loop can be made");
    timer_init(&trial->first, trial->loop, begin, trial);
    timer_init(&trial->limit, trial->loop, time_is_up, trial);
    timer_init(&trial->settled, trial->loop, look, trial);
    timer_init(&trial->overdue, trial->loop, give_up, trial);
    uv_signal_init(loop_uv(trial->loop), &trial->interrupt);
    trial->interrupt.data = trial;
    uv_signal_start(&trial->interrupt, interrupted, SIGINT);
    timer_start(&trial->first, 0);
    loop_run(trial->loop);
    loop_free(trial->loop);
    print_configuration(trial);
    if (!command_print(&trial->out))
        trial->code = EXIT_FAILED;
    for (struct map_slot *slot = NULL; (slot = map_next(&trial->configurations, slot));)
        mem_free(slot->value);
    map_fini(&trial->configurations);
    buf_fini(&trial->configuration);
    buf_fini(&trial->out);
    return trial->code;
}

static int with_subject(const struct command_line *line, bool is_browse)
{
    struct subject subject = {0};
    struct trial trial = {.line = line,
                          .subject = &subject,
                          .is_browse = is_browse,
                          .is_json = command_has(line, "json"),
                          .wants_configuration = is_browse && command_has(line, "configuration"),
                          .time_s = is_browse ? LISTEN_S : TIMEOUT_S};
    const char *time = command_option(line, "seconds");
    uint64_t time_s = 0;
    int code;

    if (time && (str_to_u64(str_from(time), &time_s) || time_s < 1 || time_s > TIME_MAX_S))
        return command_usage(line, "--seconds %s: expected 1 to %d", time, TIME_MAX_S);
    if (time)
        trial.time_s = (unsigned)time_s;
    code = subject_load(&subject, line, command_option(line, "file"));
    if (code == EXIT_DONE && is_browse && !subject.type->browse)
        code = command_fail(line, EXIT_FAILED, "connectors of type \"%s\" have nothing to browse", subject.type->name);
    if (code == EXIT_DONE)
        code = run_trial(&trial);
    subject_fini(&subject);
    return code;
}

static int run_test_connection(const struct command_line *line)
{
    return with_subject(line, false);
}

static int run_browse(const struct command_line *line)
{
    return with_subject(line, true);
}

static const struct option_spec test_options[] = {
    {.name = "file",
     .letter = 'f',
     .argument = "FILE",
     .help = "a connector's file; the argument is then its type",
     .value = VALUE_FILE},
    {.name = "seconds", .argument = "N", .help = "how long to wait for an answer; 15"},
    {.name = "json", .help = "print one JSON object"},
    {.name = NULL}};
static const struct option_spec browse_options[] = {
    {.name = "file",
     .letter = 'f',
     .argument = "FILE",
     .help = "a connector's file; the argument is then its type",
     .value = VALUE_FILE},
    {.name = "seconds", .argument = "N", .help = "how long to look where there is no end; 10"},
    {.name = "configuration", .help = "print ready configuration for what is found, as a JSON array"},
    {.name = "json", .help = "print one line of JSON for each thing found"},
    {.name = NULL}};

const struct command_spec cmd_test_connection = {
    .name = "test-connection",
    .arguments = "CONNECTOR | TYPE --file FILE",
    .summary = "try whether a connector's links can be made",
    .text = "Makes each link of the connector once, as the gateway would, and says whether it is connected and logged "
            "in, or why "
            "not: the name is not known, the connection is refused, the certificate is not trusted, the password is "
            "wrong. Of HTTP servers each URL is asked once, without changing anything; a REST connector's own port is "
            "bound, "
            "not opened. No "
            "running gateway is needed, and one that runs loses nothing: an MQTT connector uses a client id and "
            "session of its "
            "own here, and nothing that comes is acknowledged. The exit code is 1 if any link is not up.",
    .options = test_options,
    .min_args = 1,
    .max_args = 1,
    .run = run_test_connection};

const struct command_spec cmd_browse = {
    .name = "browse",
    .arguments = "CONNECTOR [PATH] | TYPE [PATH] --file FILE",
    .summary = "show what a connector finds on the other side",
    .text =
        "Connects without the gateway and prints what there is, as it is found. MQTT: each topic on which something is "
        "published within the time, with its type and a sample; PATH is a topic filter, without it all topics. With "
        "--configuration what was chosen by PATH is printed as ready entries of \"mapping\": of a filter with \"+\", "
        "like sensors/+/data, one that takes the device's name from the topic, of others one a topic. Only JSON "
        "objects give an "
        "entry. Modbus: the units that answer, and which of their addresses can be read; PATH is "
        "UNITS/AREA/ADDRESSES, like 1-247/*/0-99, and --configuration prints entries of \"master.slaves\". Ctrl-C ends "
        "the look before its time.",
    .options = browse_options,
    .min_args = 1,
    .max_args = 2,
    .run = run_browse};
