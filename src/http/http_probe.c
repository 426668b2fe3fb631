/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_probe.h"

#include <stdio.h>

enum { AT_ONCE = 16 };

static bool is_harmless(struct str method)
{
    return str_eq_nocase(method, STR("GET")) || str_eq_nocase(method, STR("HEAD")) ||
           str_eq_nocase(method, STR("OPTIONS"));
}

static enum http_verdict judge(const struct http_target *target, const struct http_reply *reply, char *reason,
                               size_t size)
{
    bool is_login = reply->status == 401 || reply->status == 403 || reply->status == 407;
    unsigned status = reply->status;
    const char *more = "";
    int n;

    if (status < 300 || (target->takes_any_status && status != 407) ||
        (target->is_replaced && !is_login && (status < 500 || status == 501)))
        return HTTP_WORKS;
    if (status == 401 || status == 403)
        more = ": the server refuses the login";
    else if (status == 407)
        more = ": the proxy refuses the login";
    else if (status < 400 && !target->call.allow_redirects)
        more = "; see \"allowRedirects\"";
    n = snprintf(reason, size, "HTTP %u", status);
    if (reply->reason.n)
        n += snprintf(reason + n, size - (size_t)n, " " STR_FMT, STR_ARG(str_cut(reply->reason, 80)));
    snprintf(reason + n, size - (size_t)n, "%s", more);
    return is_login ? HTTP_FAILS : HTTP_ANSWERS;
}

static void ask_next(struct http_probe *probe);

static void answered(struct http_call *call, enum err err, const struct http_reply *reply)
{
    struct http_target *target = call->arg;
    struct http_probe *probe = target->probe;
    enum http_verdict verdict = HTTP_FAILS;
    char reason[160] = "";

    if (!err)
        verdict = judge(target, reply, reason, sizeof reason);
    probe->told(probe->arg, target, verdict, str_from(err ? why_text(reply->why) : reason), reply);
    ask_next(probe);
}

static void ask_next(struct http_probe *probe)
{
    struct http_target *target;

    if (probe->next == probe->n)
        return;
    target = &probe->targets[probe->next++];
    target->probe = probe;
    target->is_replaced = !is_harmless(target->call.method);
    if (target->is_replaced) {
        target->call.method = STR("OPTIONS");
        target->call.body = STR_NONE;
    }
    target->call.done = answered;
    target->call.arg = target;
    http_client_start(probe->client, &target->call);
}

void http_probe_start(struct http_probe *probe)
{
    probe->next = 0;
    for (unsigned i = 0; i < AT_ONCE; i++)
        ask_next(probe);
}

struct str http_origin(struct str url, bool is_whole)
{
    size_t n = str_find(url, STR("://"), 0);

    if (n == SIZE_MAX)
        return STR_NONE;
    n += 3;
    while (n < url.n && !strchr("/?#", url.p[n]))
        n++;
    return n < url.n || is_whole ? str_cut(url, n) : STR_NONE;
}
