/* SPDX-License-Identifier: Apache-2.0 */
#include "request_probe.h"

#include "request_item.h"
#include "request_job.h"

/* What a mapping's answer must be to be of use. */
static bool is_usable(const struct request_mapping *mapping, const struct http_reply *reply, struct arena *arena,
                      struct why *why)
{
    struct answer answer = {0};
    bool is_ok = answer_open(&answer, mapping, reply->body, reply->content_type, arena, why) == ERR_OK;

    answer_close(&answer);
    return is_ok;
}

static void told(void *arg, struct http_target *target, enum http_verdict verdict, struct str reason,
                 const struct http_reply *reply)
{
    static const enum link_state states[] = {
        [HTTP_WORKS] = LINK_UP, [HTTP_ANSWERS] = LINK_DEGRADED, [HTTP_FAILS] = LINK_FAILED};
    struct request_probe *probe = arg;
    const struct request_mapping *mapping = target->user;
    struct why why = {0};

    if (verdict == HTTP_WORKS && mapping && !target->is_replaced && !is_usable(mapping, reply, &probe->arena, &why)) {
        why_prefix(&why, "the answer cannot be used");
        verdict = HTTP_ANSWERS;
        reason = str_from(why_text(&why));
    }
    ctx_state(probe->ctx, target->name, states[verdict], reason);
}

static bool has_name(const struct request_probe *probe, struct str name)
{
    for (size_t i = 0; i < probe->run.n; i++)
        if (str_eq(probe->run.targets[i].name, name))
            return true;
    return false;
}

static bool has_host(const struct request_probe *probe, struct str url)
{
    for (size_t i = 0; i < probe->run.n; i++)
        if (web_is_same_host(probe->run.targets[i].call.url, url))
            return true;
    return false;
}

static struct http_target *add(struct request_probe *probe, const struct request_file *file,
                               const struct web_request *request)
{
    struct http_target *target = &probe->run.targets[probe->run.n];

    request_prepare(file, request, &target->call);
    target->name = http_url_shown(&probe->arena, request->url);
    for (unsigned i = 2; has_name(probe, target->name); i++)
        target->name =
            arena_printf(&probe->arena, STR_FMT " (%u)", STR_ARG(http_url_shown(&probe->arena, request->url)), i);
    probe->run.n++;
    return target;
}

/* A server by itself: what stands at its root is no matter. */
static void add_server(struct request_probe *probe, const struct request_file *file, struct str url,
                       uint64_t timeout_ms)
{
    const struct web_request request = {.method = STR("OPTIONS"), .url = url};
    struct http_target *target;

    if (has_host(probe, url))
        return;
    target = add(probe, file, &request);
    target->call.timeout_ms = timeout_ms;
    target->takes_any_status = true;
}

static void add_sections(struct request_probe *probe, const struct request_file *file, const struct conf_list *sections)
{
    for (size_t i = 0; i < sections->n; i++) {
        const struct request_section *section = sections->items[i];
        bool is_whole = template_n_tags(section->url_template) == 0;
        struct str url = is_whole ? template_source(section->url_template) : template_literal(section->url_template, 0);
        struct str origin = web_is_absolute(url) ? http_origin(url, is_whole) : http_origin(file->base, true);

        if (origin.n)
            add_server(probe, file, arena_str(&probe->arena, origin), section->timeout_ms);
    }
}

void request_probe_start(struct request_probe *probe, struct ctx *ctx, const struct request_file *file,
                         struct http_client *client)
{
    size_t most = file->mappings.n + file->updates.n + file->rpcs.n + 1;

    probe->ctx = ctx;
    arena_init(&probe->arena, 1024);
    probe->run = (struct http_probe){
        .client = client, .targets = mem_zero(most * sizeof *probe->run.targets), .told = told, .arg = probe};
    for (size_t i = 0; i < file->mappings.n; i++) {
        const struct request_mapping *mapping = file->mappings.items[i];
        struct http_target *target = add(probe, file, &mapping->request);

        target->call.timeout_ms = mapping->timeout_ms;
        target->call.allow_redirects = mapping->allow_redirects;
        target->user = mapping;
    }
    add_sections(probe, file, &file->updates);
    add_sections(probe, file, &file->rpcs);
    if (!probe->run.n)
        add_server(probe, file, file->base, 0);
    for (size_t i = probe->run.n; i > 0; i--) /* the last one told of is shown first */
        ctx_state(ctx, probe->run.targets[i - 1].name, LINK_CONNECTING, STR_NONE);
    http_probe_start(&probe->run);
}

void request_probe_fini(struct request_probe *probe)
{
    if (probe->ctx)
        arena_fini(&probe->arena);
    mem_free(probe->run.targets);
}
