/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_probe.h"

#include "io/stream.h"
#include "io/tls.h"

#include <stdio.h>
#include <time.h>

enum { SOON_DAYS = 30 };
#define SERVER STR("server")

static void tell_end(struct ctx *ctx, const char *file, int64_t until_ms, bool is_over)
{
    time_t at = (time_t)(until_ms / 1000);
    struct why why = {0};
    char date[32] = "";
    struct tm tm;

    if (gmtime_r(&at, &tm))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
    (void)why_set(&why, ERR_TLS, "the certificate in %s %s on %s", file, is_over ? "has ended" : "ends soon,", date);
    ctx_state(ctx, SERVER, is_over ? LINK_FAILED : LINK_DEGRADED, str_from(why_text(&why)));
}

static void try_server(struct ctx *ctx, const struct rest_server *server)
{
    /* Without a certificate of the operator's the connector makes one. */
    const struct listener_conf conf = {.host = server->host_text,
                                       .port = (uint16_t)server->port,
                                       .tls = server->tls && server->cert_file,
                                       .cert_file = server->cert_file,
                                       .key_file = server->key_file};
    int64_t until_ms, now_ms = loop_wall_ms(ctx_loop(ctx));
    struct why why = {0}, more = {0};
    enum err err = listener_check(&conf, &why);

    if (err == ERR_OK && server->tls && !tls_load(&why))
        err = ERR_TLS;
    if (err == ERR_EXISTS || err == ERR_BUSY)
        (void)why_set(&more, err, "%s: a gateway that runs, or another program, has it", why_text(&why));
    if (err)
        ctx_state(ctx, SERVER, LINK_FAILED, str_from(why_text(more.text[0] ? &more : &why)));
    else if (conf.tls && tls_load(NULL)->expiry(conf.cert_file, false, &until_ms, NULL) == ERR_OK &&
             until_ms < now_ms + SOON_DAYS * 24 * 3600 * (int64_t)1000)
        tell_end(ctx, conf.cert_file, until_ms, until_ms < now_ms);
    else
        ctx_state(ctx, SERVER, LINK_UP, STR_NONE);
}

static void told(void *arg, struct http_target *target, enum http_verdict verdict, struct str reason,
                 const struct http_reply *reply)
{
    struct rest_probe *probe = arg;

    (void)reply;
    ctx_state(probe->ctx, target->name, verdict == HTTP_FAILS ? LINK_FAILED : LINK_UP, reason);
}

/* Sections for one server differ in how they come to it: each such way is tried. */
static bool is_known(const struct rest_probe *probe, struct str origin, const struct rest_section *section)
{
    for (size_t i = 0; i < probe->run.n; i++) {
        const struct rest_section *other = probe->run.targets[i].user;

        if (web_is_same_host(probe->run.targets[i].call.url, origin) && other->verify == section->verify &&
            other->security == section->security)
            return true;
    }
    return false;
}

static struct str name_of(struct rest_probe *probe, struct str origin)
{
    struct str shown = http_url_shown(&probe->arena, origin), name = shown;

    for (unsigned k = 2;; k++) {
        bool is_taken = false;

        for (size_t i = 0; i < probe->run.n; i++)
            is_taken |= str_eq(probe->run.targets[i].name, name);
        if (!is_taken)
            return name;
        name = arena_printf(&probe->arena, STR_FMT " (%u)", STR_ARG(shown), k);
    }
}

static void add_section(struct rest_probe *probe, const struct rest_section *section)
{
    static const struct http_keys keys = {.verify = "SSLVerify", .timeout = "timeout", .host = "requestUrlExpression"};
    struct http_target *target = &probe->run.targets[probe->run.n];
    const struct rest_security *security = section->security;
    const struct template *template = section->url_template;
    bool is_whole = template_n_tags(template) == 0;
    struct str url = str_trim(is_whole ? template_source(template) : template_literal(template, 0));

    if (url.n && !web_is_absolute(url))
        url = arena_printf(&probe->arena, "http://" STR_FMT, STR_ARG(url));
    url = http_origin(url, is_whole);
    if (!url.n || is_known(probe, url, section))
        return;
    target->call = (struct http_call){.method = STR("OPTIONS"),
                                      .url = arena_str(&probe->arena, url),
                                      .verify = section->verify,
                                      .timeout_ms = section->timeout_ms,
                                      .keys = &keys};
    if (security && security->login == LOGIN_CERT) {
        target->call.cert_file = security->cert_file;
        target->call.key_file = security->key_file ? security->key_file : security->cert_file;
    }
    target->name = name_of(probe, target->call.url);
    target->takes_any_status = true;
    target->user = section;
    probe->run.n++;
}

static void try_others(struct rest_probe *probe, struct http_client **client)
{
    struct why why = {0};

    *client = http_client_new(ctx_loop(probe->ctx), ctx_log(probe->ctx), &why);
    for (size_t i = probe->run.n; i > 0; i--) /* the last one told of is shown first */
        ctx_state(probe->ctx, probe->run.targets[i - 1].name, *client ? LINK_CONNECTING : LINK_FAILED,
                  str_from(why_text(&why)));
    probe->run.client = *client;
    if (*client)
        http_probe_start(&probe->run);
}

struct http_client *rest_probe_start(struct rest_probe *probe, struct ctx *ctx, const struct rest_file *file)
{
    struct http_client *client = NULL;

    probe->ctx = ctx;
    arena_init(&probe->arena, 1024);
    probe->run =
        (struct http_probe){.targets = mem_zero((file->updates.n + file->rpcs.n + 1) * sizeof *probe->run.targets),
                            .told = told,
                            .arg = probe};
    for (size_t i = 0; i < file->updates.n; i++)
        add_section(probe, file->updates.items[i]);
    for (size_t i = 0; i < file->rpcs.n; i++)
        add_section(probe, file->rpcs.items[i]);
    if (probe->run.n)
        try_others(probe, &client);
    try_server(ctx, file->server);
    return client;
}

void rest_probe_fini(struct rest_probe *probe)
{
    if (probe->ctx)
        arena_fini(&probe->arena);
    mem_free(probe->run.targets);
}
