/* SPDX-License-Identifier: Apache-2.0 */
#include "request_poll.h"

#include "request_job.h"

#include <stdio.h>

/*
 *     IDLE ──due──► ASKED ──answer──► SUBS (up to 8 at once) ──all there──► CONVERTING ──last item──► IDLE
 *                     └── failure ──► IDLE          └── none named ─────────────┘  ▲  └─ no credit: until .room
 */
enum { ITEMS_A_TURN = 64, REPORT_EVERY_MS = 60000, SUBS_MAX = 100000, ARENA_KEPT = 65536 };

static uint64_t now_ms(const struct poll *poll)
{
    return loop_mono_ms(ctx_loop(poll->ctx));
}

static void end(struct poll *poll, const char *failure)
{
    answer_close(&poll->answer);
    if (arena_bytes(&poll->arena) > ARENA_KEPT) {
        arena_fini(&poll->arena);
        arena_init(&poll->arena, 1024);
    }
    arena_reset(&poll->arena);
    poll->items = NULL;
    poll->n_sub = poll->sub_next = poll->sub_bytes = 0;
    poll->is_busy = false;
    if (failure)
        snprintf(poll->reason, sizeof poll->reason, "%s", failure);
    poll->ended(poll->arg, poll, !failure);
}

/* --- conversion ---------------------------------------------------------------------------------------------------------- */

static struct event *begin_event(struct web_out *out, struct device *dev, struct str profile)
{
    return ctx_event(CONTAINER_OF(out, struct poll, out)->ctx, dev, profile);
}

static enum err end_event(struct web_out *out)
{
    return ctx_put(CONTAINER_OF(out, struct poll, out)->ctx);
}

static void dropped(struct web_out *out, enum web_drop cause, struct str detail)
{
    struct poll *poll = CONTAINER_OF(out, struct poll, out);
    struct poll_drop *at = &poll->drops[cause];

    at->n++;
    if (now_ms(poll) < at->next_ms)
        return;
    at->next_ms = now_ms(poll) + REPORT_EVERY_MS;
    LOG_WARN(ctx_converter_log(poll->ctx), "left out of an answer", KV_Z("cause", web_drop_text(cause)),
             KV_STR("mapping", poll->mapping->url), KV_UINT("count", at->n), KV_STR("reason", detail));
    at->n = 0;
}

static void count(struct poll *poll)
{
    ctx_count(poll->ctx, IOTGW_CONVERTED, poll->out.n_converted);
    ctx_count(poll->ctx, IOTGW_DROPPED, poll->out.n_dropped);
    ctx_count(poll->ctx, IOTGW_CONVERSION_ERRORS, poll->out.n_errors);
    ctx_count(poll->ctx, IOTGW_FALLBACKS, poll->out.n_fallbacks);
    poll->out.n_converted = poll->out.n_dropped = poll->out.n_errors = poll->out.n_fallbacks = 0;
}

static void convert_item(struct poll *poll, yyjson_val *item, size_t i)
{
    const struct request_mapping *mapping = poll->mapping;
    yyjson_doc *merged = NULL;

    arena_reset(&poll->item_arena);
    if (poll->items)
        merged = item_merge(mapping, item, &poll->answers[i * mapping->n_uses], &poll->item_arena);
    (void)web_convert(mapping->converter, mapping->report, &poll->out, merged ? yyjson_doc_get_root(merged) : item,
                      ctx_today_ms(poll->ctx), &poll->item_arena);
    yyjson_doc_free(merged);
}

static void convert_some(void *arg)
{
    struct poll *poll = arg;
    yyjson_val *item = NULL;
    unsigned n = 0;

    while (n++ < ITEMS_A_TURN && (item = answer_next(&poll->answer)))
        convert_item(poll, item, poll->answer.i - 1);
    count(poll);
    if (!ctx_mark(poll->ctx, ++*poll->cookie) && item)
        poll->is_waiting = true;
    if (!item)
        end(poll, NULL);
    else if (!poll->is_waiting)
        timer_start(&poll->more, 0);
}

/* --- sub requests ---------------------------------------------------------------------------------------------------------- */

static void send_subs(struct poll *poll);

static void sub_answered(struct http_call *call, enum err err, const struct http_reply *reply)
{
    struct sub_slot *slot = call->arg;
    struct poll *poll = slot->poll;
    struct str url = http_url_shown(&poll->item_arena, call->url);

    poll->n_sub_open--;
    endpoint_count(&poll->sub_figures, endpoint_result_of(err, reply->status), reply->latency_us, reply->n_bytes_in,
                   reply->n_bytes_out);
    ctx_count(poll->ctx, IOTGW_MESSAGES_IN, 1);
    ctx_count(poll->ctx, IOTGW_BYTES_IN, reply->n_bytes_in);
    ctx_count(poll->ctx, IOTGW_BYTES_OUT, reply->n_bytes_out);
    if (!err)
        request_tell_wire(poll->ctx, false, call->url, reply->body);
    if (err) {
        LOG_ERROR(ctx_log(poll->ctx), "sub request failed", KV_STR("url", url), KV_WHY(reply->why));
    } else if (reply->status >= 300) {
        LOG_ERROR(ctx_log(poll->ctx), "sub request refused", KV_STR("url", url), KV_UINT("status", reply->status));
    } else if (reply->body.n > poll->file->max_body - poll->sub_bytes) {
        LOG_ERROR(ctx_log(poll->ctx), "answers to sub requests are too large together; see \"maxBodyBytes\"",
                  KV_STR("url", url));
    } else {
        poll->sub_bytes += reply->body.n;
        poll->answers[slot->index] = arena_str(&poll->arena, reply->body);
    }
    slot->call.done = NULL; /* free */
    send_subs(poll);
}

/* False: its URL cannot be made. */
static bool send_sub(struct poll *poll, struct sub_slot *slot, size_t index)
{
    const struct request_mapping *mapping = poll->mapping;
    const struct sub_use *use = &mapping->uses[index % mapping->n_uses];
    struct web_request request;
    struct why why = {0};

    if (item_request(poll->file, mapping, use->sub, poll->items[index / mapping->n_uses], &poll->arena, &request,
                     &why) != ERR_OK) {
        LOG_WARN(ctx_log(poll->ctx), "sub request cannot be sent", KV_STR("name", use->name), KV_WHY(&why));
        return false;
    }
    slot->poll = poll;
    slot->index = index;
    request_prepare(poll->file, &request, &slot->call);
    slot->call.timeout_ms = mapping->timeout_ms;
    slot->call.allow_redirects = mapping->allow_redirects;
    slot->call.done = sub_answered;
    slot->call.arg = slot;
    poll->n_sub_open++;
    request_tell_wire(poll->ctx, true, slot->call.url, slot->call.body);
    ctx_count(poll->ctx, IOTGW_MESSAGES_OUT, 1);
    http_client_start(poll->client, &slot->call);
    return true;
}

static void send_subs(struct poll *poll)
{
    arena_reset(&poll->item_arena);
    for (size_t i = 0; i < SUBS_AT_ONCE; i++) {
        while (!poll->slots[i].call.done && poll->sub_next < poll->n_sub)
            (void)send_sub(poll, &poll->slots[i], poll->sub_next++);
    }
    if (!poll->n_sub_open)
        timer_start(&poll->more, 0);
}

static void begin_subs(struct poll *poll)
{
    size_t n_uses = poll->mapping->n_uses, n = poll->answer.n;
    yyjson_val *item;

    if (n * n_uses > SUBS_MAX) {
        LOG_ERROR(ctx_log(poll->ctx), "too many items for sub requests, none is sent", KV_UINT("items", n));
        timer_start(&poll->more, 0);
        return;
    }
    poll->items = arena_zero(&poll->arena, (n + 1) * sizeof(yyjson_val *));
    poll->answers = arena_zero(&poll->arena, (n * n_uses + 1) * sizeof *poll->answers);
    poll->n_sub = n * n_uses;
    poll->sub_next = 0;
    while ((item = answer_next(&poll->answer)))
        poll->items[poll->answer.i - 1] = item;
    answer_rewind(&poll->answer);
    send_subs(poll);
}

/* --- polls ----------------------------------------------------------------------------------------------------------------- */

static void fail(struct poll *poll, const char *phrase, const char *text)
{
    struct str url = http_url_shown(&poll->arena, poll->mapping->request.url);

    LOG_ERROR(ctx_log(poll->ctx), "poll failed", KV_STR("url", url), KV_Z("stage", phrase), KV_Z("error", text));
    ctx_count(poll->ctx, IOTGW_DROPPED, 1);
    end(poll, text);
}

/* The poll's part of its counters; bytes and time are those of the answer, whatever becomes of it. */
static void count_end(struct poll *poll, enum endpoint_result result, const struct http_reply *reply)
{
    endpoint_count(&poll->figures, result, reply->latency_us, reply->n_bytes_in, reply->n_bytes_out);
}

static void answered(struct http_call *call, enum err err, const struct http_reply *reply)
{
    struct poll *poll = call->arg;
    struct why why = {0};
    char text[160];

    ctx_count(poll->ctx, IOTGW_BYTES_OUT, reply->n_bytes_out);
    ctx_count(poll->ctx, IOTGW_BYTES_IN, reply->n_bytes_in);
    if (err) {
        count_end(poll, endpoint_result_of(err, 0), reply);
        fail(poll, "request", why_text(reply->why));
        return;
    }
    ctx_count(poll->ctx, IOTGW_MESSAGES_IN, 1);
    request_tell_wire(poll->ctx, false, call->url, reply->body);
    if (reply->status >= 400 || (reply->status >= 300 && !poll->mapping->allow_redirects)) {
        snprintf(text, sizeof text, "HTTP %u " STR_FMT "%s", reply->status, STR_ARG(str_cut(reply->reason, 80)),
                 reply->status < 400 ? "; see \"allowRedirects\"" : "");
        count_end(poll, endpoint_result_of(ERR_OK, reply->status), reply);
        fail(poll, "status", text);
        return;
    }
    if (answer_open(&poll->answer, poll->mapping, reply->body, reply->content_type, &poll->arena, &why) != ERR_OK) {
        count_end(poll, ENDPOINT_CONTENT, reply);
        fail(poll, "body", why_text(&why));
        return;
    }
    count_end(poll, ENDPOINT_OK, reply);
    if (poll->mapping->n_uses)
        begin_subs(poll);
    else
        convert_some(poll);
}

static void due(void *arg)
{
    struct poll *poll = arg;

    if (poll->is_busy || !ctx_has_room(poll->ctx)) {
        poll->figures.n_overdue += poll->is_busy && !poll->is_waiting;
        poll->figures.n_no_room += !poll->is_busy || poll->is_waiting;
        ctx_count(poll->ctx, IOTGW_SKIPPED, 1);
        return;
    }
    poll->is_busy = true;
    request_prepare(poll->file, &poll->mapping->request, &poll->call);
    poll->call.timeout_ms = poll->mapping->timeout_ms;
    poll->call.allow_redirects = poll->mapping->allow_redirects;
    poll->call.done = answered;
    poll->call.arg = poll;
    request_tell_wire(poll->ctx, true, poll->call.url, poll->call.body);
    ctx_count(poll->ctx, IOTGW_MESSAGES_OUT, 1);
    http_client_start(poll->client, &poll->call);
}

void poll_init(struct poll *poll, struct ctx *ctx, const struct request_file *file,
               const struct request_mapping *mapping)
{
    poll->out = (struct web_out){.begin = begin_event, .end = end_event, .dropped = dropped};
    poll->ctx = ctx;
    poll->file = file;
    poll->mapping = mapping;
    timer_init(&poll->timer, ctx_loop(ctx), due, poll);
    timer_init(&poll->more, ctx_loop(ctx), convert_some, poll);
    arena_init(&poll->arena, 1024);
    arena_init(&poll->item_arena, 1024);
    poll->figures = poll->sub_figures = (struct endpoint){.size = sizeof(struct endpoint)};
}

void poll_start(struct poll *poll, struct http_client *client, uint64_t delay_ms)
{
    poll->client = client;
    timer_start_periodic(&poll->timer, delay_ms, poll->mapping->period_ms);
}

void poll_room(struct poll *poll)
{
    if (!poll->is_waiting)
        return;
    poll->is_waiting = false;
    timer_start(&poll->more, 0);
}

void poll_stop(struct poll *poll)
{
    timer_stop(&poll->timer);
    timer_stop(&poll->more);
    if (poll->call.run)
        http_client_cancel(poll->client, &poll->call);
    for (size_t i = 0; i < SUBS_AT_ONCE; i++)
        if (poll->slots[i].call.run)
            http_client_cancel(poll->client, &poll->slots[i].call);
    answer_close(&poll->answer);
    poll->is_busy = poll->is_waiting = false;
}

void poll_fini(struct poll *poll)
{
    arena_fini(&poll->arena);
    arena_fini(&poll->item_arena);
}
