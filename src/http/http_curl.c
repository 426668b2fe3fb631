/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module iotgw-http-client: http_client.h with libcurl's multi interface on the loop.
 *
 *     start ─► WAITING (in the multi handle) ──answer──► redirected? ─► the same run with the next URL
 *                │                                          │ no
 *                └── error ──► done (from collect, never from within libcurl's callbacks)
 *
 * A socket of libcurl has one poll handle for as long as it is open. While its connection is idle the handle goes on waiting
 * for bytes, so that a connection that is used again costs no system call for it; it is stopped by the first event then.
 */
#include "base/buf.h"
#include "base/log.h"
#include "build_id.h"
#include "http/http_curl_tls.h"
#include "http/http_impl.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TIMEOUT_MS = 10000,
    DNS_CACHE_S = 60,
    REDIRECTS_MAX = 10,
    HEAD_MAX = 64 * 1024,
    REASON_MAX = 128,
    CONNECTIONS_MAX = 10000, /* idle ones that are kept; at most half of the files that the process may open */
    RUNS_KEPT = 64,
    BODY_KEPT = 16 * 1024
};

struct polled {
    uv_poll_t poll;
    curl_socket_t fd;
    struct http_client *client;
    bool is_own;       /* opened here, and closed by close_socket */
    int events, armed; /* what libcurl wants; what is waited for */
};

struct http_run {
    struct list node;
    struct http_client *client;
    struct http_call *call;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body, content_type;
    char reason[REASON_MAX];
    size_t n_reason, n_head;
    unsigned status;
    unsigned n_visited;
    char *visited[REDIRECTS_MAX + 1];
    bool is_moved;   /* to another host: without credentials */
    bool is_get_now; /* redirected by 303, or a POST by 301, 302 */
    bool is_in_multi;
    uint64_t started_ms, deadline_ms, n_in, n_out, took_us;
    enum err limit;  /* why a callback stopped it */
    enum err failed; /* before it began */
    struct why why;
    struct tls_wish tls;
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    struct http_client_head head;
    struct loop *loop;
    struct log *log;
    CURLM *multi;
    struct timer timer, later_timer;
    struct list runs;   /* under way */
    struct list failed; /* to be answered in the next turn */
    struct list idle;   /* to be used again */
    unsigned n_idle;
    struct polled **by_fd;
    size_t n_fds;
    unsigned n_closing; /* poll handles that libuv has not closed yet */
    bool has_proxy;     /* the environment names one */
    bool is_closing, is_ending, is_collecting;
    struct closer closer;
    closed_fn *closed;
    void *closed_arg;
};

/* --- sockets ------------------------------------------------------------------------------------------------------------- */

static void collect(struct http_client *client);

static void poll_closed(uv_handle_t *handle)
{
    struct polled *polled = CONTAINER_OF((uv_poll_t *)(void *)handle, struct polled, poll);
    struct http_client *client = polled->client;

    mem_free(polled);
    client->n_closing--;
    if (client->is_ending)
        closer_release(&client->closer);
}

static void poll_event(uv_poll_t *poll, int status, int events)
{
    struct polled *polled = CONTAINER_OF(poll, struct polled, poll);
    struct http_client *client = polled->client;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0, n_running;

    if (status < 0)
        polled->armed = 0; /* libuv has stopped it */
    if (!polled->events) { /* nobody waits: libcurl finds out when it wants to use the connection */
        uv_poll_stop(poll);
        polled->armed = 0;
        return;
    }
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(client->multi, polled->fd, flags, &n_running);
    collect(client);
}

static struct polled *find_socket(const struct http_client *client, curl_socket_t fd)
{
    return fd >= 0 && (size_t)fd < client->n_fds ? client->by_fd[fd] : NULL;
}

static struct polled *add_socket(struct http_client *client, curl_socket_t fd, bool is_own)
{
    struct polled *polled = mem_zero(sizeof *polled);

    polled->client = client;
    polled->fd = fd;
    polled->is_own = is_own;
    if (fd < 0 || uv_poll_init_socket(loop_uv(client->loop), &polled->poll, fd) != 0) {
        mem_free(polled);
        return NULL;
    }
    if ((size_t)fd >= client->n_fds) {
        size_t n = (size_t)fd + 64;

        client->by_fd = mem_grow(client->by_fd, n * sizeof(struct polled *));
        memset(client->by_fd + client->n_fds, 0, (n - client->n_fds) * sizeof(struct polled *));
        client->n_fds = n;
    }
    client->by_fd[fd] = polled;
    return polled;
}

/* While fd is still open: libuv takes it out of epoll by its number. */
static void release_socket(struct polled *polled)
{
    polled->client->by_fd[polled->fd] = NULL;
    polled->client->n_closing++;
    uv_close((uv_handle_t *)&polled->poll, poll_closed);
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_client *client = arg;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

    (void)purpose;
    if (fd >= 0 && !add_socket(client, fd, true)) {
        close(fd);
        fd = -1;
    }
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int close_socket(void *arg, curl_socket_t fd)
{
    struct polled *polled = find_socket(arg, fd);

    if (polled)
        release_socket(polled);
    return close(fd);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http_client *client = arg;
    struct polled *polled = find_socket(client, fd);
    int events = what == CURL_POLL_IN      ? UV_READABLE
                 : what == CURL_POLL_OUT   ? UV_WRITABLE
                 : what == CURL_POLL_INOUT ? UV_READABLE | UV_WRITABLE
                                           : 0;

    (void)easy;
    (void)socket_arg;
    if (!polled && events)
        polled = add_socket(client, fd, false); /* libcurl's own, for its resolver */
    if (!polled)
        return events ? -1 : 0;
    polled->events = events;
    if (events == polled->armed)
        return 0;
    if (!events && !polled->is_own) {
        release_socket(polled);
        return 0;
    }
    if (!events) /* idle, or about to be closed */
        events = polled->armed & UV_READABLE;
    polled->armed = events;
    if (!events)
        uv_poll_stop(&polled->poll);
    else if (uv_poll_start(&polled->poll, events, poll_event))
        return -1;
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    struct http_client *client = arg;

    (void)multi;
    if (ms < 0)
        timer_stop(&client->timer);
    else
        timer_start(&client->timer, (uint64_t)ms);
    return 0;
}

static void timer_fired(void *arg)
{
    struct http_client *client = arg;
    int n_running;

    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
    collect(client);
}

/* --- what comes ---------------------------------------------------------------------------------------------------------- */

static void take_status(struct http_run *run, struct str line)
{
    size_t at = str_chr(line, ' ');
    struct str rest = str_skip(line, at + 1), reason;

    run->body.n = run->content_type.n = 0; /* of an answer before: 100 Continue */
    reason = str_trim(str_skip(rest, 3));
    run->n_reason = reason.n < REASON_MAX ? reason.n : REASON_MAX;
    memcpy(run->reason, reason.p, run->n_reason);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct http_run *run = arg;
    struct str line = str_of(p, size * n);
    const struct str name = STR("content-type:");

    run->n_head += line.n;
    if (run->n_head > HEAD_MAX) {
        run->limit = ERR_PROTO;
        return 0;
    }
    if (str_starts(line, STR("HTTP/"))) {
        take_status(run, line);
    } else if (str_eq_nocase(str_cut(line, name.n), name)) {
        struct str value = str_trim(str_skip(line, name.n));

        run->content_type.n = 0;
        buf_add_str(&run->content_type, value);
    }
    return line.n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct http_run *run = arg;
    size_t max = run->call->max_body ? run->call->max_body : HTTP_MAX_BODY;

    if (buf_try_grow(&run->body, size * n, max) != ERR_OK) {
        run->limit = ERR_LIMIT;
        return 0;
    }
    buf_add(&run->body, p, size * n);
    return size * n;
}

/* --- runs ---------------------------------------------------------------------------------------------------------------- */

static void forget(struct http_run *run)
{
    for (unsigned i = 0; i < run->n_visited; i++)
        mem_free(run->visited[i]);
    run->n_visited = 0;
    tls_wish_end(&run->tls);
    curl_slist_free_all(run->headers);
    run->headers = NULL;
    if (run->body.cap > BODY_KEPT)
        buf_fini(&run->body);
}

static void free_run(struct http_run *run)
{
    forget(run);
    curl_easy_cleanup(run->easy);
    buf_fini(&run->body);
    buf_fini(&run->content_type);
    mem_free(run);
}

static void leave_multi(struct http_run *run)
{
    if (run->is_in_multi)
        curl_multi_remove_handle(run->client->multi, run->easy);
    run->is_in_multi = false;
}

static void end_run(struct http_run *run)
{
    struct http_client *client = run->client;

    leave_multi(run);
    list_del(&run->node);
    run->call = NULL;
    if (client->is_closing || client->n_idle == RUNS_KEPT) {
        free_run(run);
        return;
    }
    forget(run);
    curl_easy_reset(run->easy); /* keeps its connections */
    list_add_tail(&client->idle, &run->node);
    client->n_idle++;
}

static struct http_run *begin_run(struct http_client *client, struct http_call *call)
{
    struct list *node = list_take_first(&client->idle);
    struct http_run *run;

    if (node) {
        client->n_idle--;
        run = CONTAINER_OF(node, struct http_run, node);
    } else {
        run = mem_zero(sizeof *run);
        run->client = client;
        run->easy = curl_easy_init();
        if (!run->easy)
            mem_die(sizeof *run);
    }
    run->call = call;
    run->is_moved = run->is_get_now = false;
    run->limit = run->failed = ERR_OK;
    run->why = (struct why){0};
    run->n_in = run->n_out = run->took_us = 0;
    run->started_ms = loop_mono_ms(client->loop);
    run->deadline_ms = run->started_ms + (call->timeout_ms ? call->timeout_ms : TIMEOUT_MS);
    call->run = run;
    return run;
}

static void add_line(struct http_run *run, const char *line)
{
    struct curl_slist *longer = curl_slist_append(run->headers, line);

    if (!longer)
        mem_die(strlen(line));
    run->headers = longer;
}

static enum err add_headers(struct http_run *run)
{
    const struct http_call *call = run->call;
    bool has_type = false, has_agent = false, has_expect = false;

    for (size_t i = 0; i < call->n_headers; i++) {
        struct str name = call->headers[i].name, value = call->headers[i].value;
        autobuf struct buf line = {0};

        if (!http_is_token(name) || !http_is_field_text(value))
            return why_set(&run->why, ERR_USAGE, "\"" STR_FMT "\" cannot be a header: its name or value is not allowed",
                           STR_ARG(name));
        if (run->is_moved && (str_eq_nocase(name, STR("authorization")) || str_eq_nocase(name, STR("cookie"))))
            continue;
        has_type |= str_eq_nocase(name, STR("content-type"));
        has_agent |= str_eq_nocase(name, STR("user-agent"));
        has_expect |= str_eq_nocase(name, STR("expect"));
        buf_add_str(&line, name);
        if (str_trim(value).n) {
            buf_add_z(&line, ": ");
            buf_add_str(&line, value);
        } else {
            buf_add_u8(&line, ';'); /* libcurl's way to say: empty */
        }
        buf_add_u8(&line, 0);
        add_line(run, (const char *)line.p);
    }
    if (!has_type)
        add_line(run, "Content-Type:"); /* libcurl: none */
    if (!has_agent)
        add_line(run, "User-Agent: iotgw");
    if (!has_expect)
        add_line(run, "Expect:");
    return ERR_OK;
}

static char *text_of(struct str s)
{
    char *text = mem_new(s.n + 1);

    if (s.n)
        memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return text;
}

#define SET(option, value) curl_easy_setopt(run->easy, CURLOPT_##option, value)

static void set_method(struct http_run *run, struct str method)
{
    const struct http_call *call = run->call;
    bool is_get = str_eq_z(method, "GET"), is_head = str_eq_z(method, "HEAD");

    if (call->body.n && !run->is_get_now) {
        SET(POSTFIELDS, call->body.p);
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
    } else if (is_head) {
        SET(NOBODY, 1L);
    } else if (is_get || str_eq_z(method, "OPTIONS") || str_eq_z(method, "DELETE")) {
        SET(HTTPGET, 1L);
    } else {
        SET(POSTFIELDS, ""); /* says that there is none: Content-Length: 0 */
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)0);
    }
    if (!is_get || call->body.n) {
        autofree char *text = text_of(method);

        SET(CUSTOMREQUEST, text);
    }
}

static void set_credentials(struct http_run *run)
{
    const struct http_call *call = run->call;
    autofree char *username = text_of(call->username), *password = text_of(call->password);

    if (!call->username.p || run->is_moved)
        return;
    SET(HTTPAUTH, (long)CURLAUTH_BASIC);
    SET(USERNAME, username);
    SET(PASSWORD, password);
    memset(password, 0, call->password.n);
}

static const char *key_or(const char *key, const char *preset)
{
    return key ? key : preset;
}

static void set_tls(struct http_run *run)
{
    static const struct http_keys none;
    const struct http_call *call = run->call;
    const struct http_keys *keys = call->keys ? call->keys : &none;

    /* Not CURLOPT_PIPEWAIT: calls that wait for another's handshake have no time-out in libcurl 7.88. */
    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(SSL_VERIFYPEER, call->verify ? 1L : 0L);
    SET(SSL_VERIFYHOST, call->verify ? 2L : 0L);
    if (call->ca_file)
        SET(CAINFO, call->ca_file);
    if (call->verify) {
        tls_wish_end(&run->tls);
        run->tls = (struct tls_wish){.url = run->visited[run->n_visited - 1],
                                     .ca_file = call->ca_file,
                                     .ca_key = key_or(keys->ca, "cacert"),
                                     .verify_key = key_or(keys->verify, "SSLVerify")};
        tls_wish_begin(&run->tls, run->easy);
    }
    if (call->cert_file && !run->is_moved) {
        SET(SSLCERT, call->cert_file);
        SET(SSLKEY, call->key_file ? call->key_file : call->cert_file);
    }
}

/* http://127.0.0.1…, http://[::1]…; a name that looks so is as good as an address: it is not looked up either. */
static bool is_address(const char *url)
{
    const char *host = strstr(url, "://");
    size_t n_authority, n;

    if (!host)
        return false;
    host += 3;
    n_authority = strcspn(host, "/?#");
    if (memchr(host, '@', n_authority))
        return false;
    n = strspn(host, "0123456789.");
    return *host == '[' || (n >= 7 && (n == n_authority || host[n] == ':'));
}

/* One request, the first or one to where the former was sent on. */
static enum err request(struct http_run *run, char *url)
{
    struct http_client *client = run->client;
    struct http_call *call = run->call;
    uint64_t now = loop_mono_ms(client->loop), left = run->deadline_ms > now ? run->deadline_ms - now : 1;
    enum err err;

    run->visited[run->n_visited++] = url;
    run->body.n = run->content_type.n = run->n_head = run->n_reason = 0;
    run->error[0] = 0;
    if (!http_is_token(call->method))
        return why_set(&run->why, ERR_USAGE, "\"" STR_FMT "\" is not an HTTP method", STR_ARG(call->method));
    if (strlen(url) != call->url.n && run->n_visited == 1)
        return why_set(&run->why, ERR_USAGE, "the URL has a zero byte");
    err = add_headers(run);
    if (err)
        return err;
    SET(URL, url);
    SET(PROTOCOLS_STR, "http,https");
    SET(HTTPHEADER, run->headers);
    set_method(run, run->is_get_now ? STR("GET") : call->method);
    set_credentials(run);
    set_tls(run);
    SET(MAXFILESIZE_LARGE, (curl_off_t)(call->max_body ? call->max_body : HTTP_MAX_BODY));
    SET(TIMEOUT_MS, (long)left);
    SET(CONNECTTIMEOUT_MS, (long)left);
    SET(NOSIGNAL, 1L);
    SET(QUICK_EXIT, 1L); /* else a look-up that hangs would be waited for when its call ends */
    /* An address does not change. Where nothing ages libcurl does not look through all it knows after each call. */
    SET(DNS_CACHE_TIMEOUT, is_address(url) && !client->has_proxy ? -1L : (long)DNS_CACHE_S);
    SET(ACCEPT_ENCODING, "gzip, deflate");
    SET(SUPPRESS_CONNECT_HEADERS, 1L);
    SET(TCP_NODELAY, 1L);
    SET(ERRORBUFFER, run->error);
    SET(PRIVATE, run);
    SET(HEADERFUNCTION, on_header);
    SET(HEADERDATA, run);
    SET(WRITEFUNCTION, on_body);
    SET(WRITEDATA, run);
    SET(OPENSOCKETFUNCTION, open_socket);
    SET(OPENSOCKETDATA, client);
    SET(CLOSESOCKETFUNCTION, close_socket);
    SET(CLOSESOCKETDATA, client);
    if (curl_multi_add_handle(client->multi, run->easy) != CURLM_OK)
        return why_set(&run->why, ERR_IO, "the request cannot be begun");
    run->is_in_multi = true;
    return ERR_OK;
}

/* --- answers ------------------------------------------------------------------------------------------------------------- */

static void answer(struct http_run *run, enum err err, bool is_unsent)
{
    struct http_call *call = run->call;
    uint64_t now = loop_mono_ms(run->client->loop);
    struct http_reply reply = {.status = err ? 0 : run->status,
                               .reason = str_of(run->reason, run->n_reason),
                               .why = &run->why,
                               .is_unsent = is_unsent,
                               .n_bytes_in = run->n_in,
                               .n_bytes_out = run->n_out,
                               .latency_us = run->took_us};

    if (!reply.reason.n)
        reply.reason = str_from(http_reason(reply.status));
    if (run->content_type.n)
        reply.content_type = buf_str(&run->content_type);
    if (!err)
        reply.body = buf_str(&run->body);
    LOG_TRACE(run->client->log, "HTTP call ended", KV_UINT("status", reply.status), KV_ERR(err),
              KV_MS("after", now - run->started_ms));
    leave_multi(run);
    list_del(&run->node); /* .done may close the client */
    list_init(&run->node);
    call->run = NULL;
    run->call = NULL;
    call->done(call, err, &reply);
    list_del(&run->node);
    end_run(run);
}

static void host_of(const char *url, char *out, size_t size)
{
    CURLU *parsed = curl_url();
    char *host = NULL, *port = NULL;

    snprintf(out, size, "%s", "the server");
    if (parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        snprintf(out, size, "%s:%s", host, port);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parsed);
}

static bool is_same_host(const char *a, const char *b)
{
    char one[300], other[300];

    host_of(a, one, sizeof one);
    host_of(b, other, sizeof other);
    /* From https to http on the same name, the port differs. */
    return strcasecmp(one, other) == 0;
}

static enum err limit_reason(struct http_run *run, const char *host, const struct http_keys *keys)
{
    size_t max = run->call->max_body ? run->call->max_body : HTTP_MAX_BODY;

    if (run->limit == ERR_PROTO)
        return why_set(&run->why, ERR_PROTO, "%s sends more than %d KiB of headers", host, HEAD_MAX / 1024);
    return why_set(&run->why, ERR_LIMIT, "the answer of %s is larger than %zu bytes; raise \"%s\"", host, max,
                   key_or(keys->max_body, "maxBodyBytes"));
}

static enum err timeout_reason(struct http_run *run, const char *host, const struct http_keys *keys)
{
    uint64_t ms = run->call->timeout_ms ? run->call->timeout_ms : TIMEOUT_MS;
    curl_off_t connected = 0;

    curl_easy_getinfo(run->easy, CURLINFO_CONNECT_TIME_T, &connected);
    return why_set(&run->why, ERR_TIMEOUT,
                   connected ? "%s has not given a whole answer within %llu ms; see \"%s\""
                             : "no connection to %s within %llu ms; see \"%s\"",
                   host, (unsigned long long)ms, key_or(keys->timeout, "timeout"));
}

/* libcurl's code → our error and a reason that names the host, the cause, and the key to set. */
static enum err reason(struct http_run *run, CURLcode code)
{
    static const struct http_keys none;
    const struct http_keys *keys = run->call->keys ? run->call->keys : &none;
    const char *cause = run->error[0] ? run->error : curl_easy_strerror(code);
    char host[300];
    long os = 0;

    host_of(run->visited[run->n_visited - 1], host, sizeof host);
    if (run->limit || code == CURLE_FILESIZE_EXCEEDED)
        return limit_reason(run, host, keys);
    curl_easy_getinfo(run->easy, CURLINFO_OS_ERRNO, &os);
    switch ((int)code) {
    case CURLE_OPERATION_TIMEDOUT:
        return timeout_reason(run, host, keys);
    case CURLE_COULDNT_RESOLVE_HOST:
        return why_set(&run->why, ERR_RESOLVE, "the name of %s is not known; see \"%s\"", host,
                       key_or(keys->host, "host"));
    case CURLE_COULDNT_RESOLVE_PROXY:
        return why_set(&run->why, ERR_RESOLVE, "the proxy for %s (environment http_proxy, https_proxy) is not known",
                       host);
    case CURLE_COULDNT_CONNECT:
        if (os == ECONNREFUSED)
            return why_set(&run->why, ERR_REFUSED, "%s refuses the connection; see \"%s\"", host,
                           key_or(keys->host, "host"));
        return why_set(&run->why, ERR_UNREACHABLE, "%s is not reachable: %s; see \"%s\"", host, cause,
                       key_or(keys->host, "host"));
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        if (tls_wish_why(&run->tls, true, &run->why))
            return ERR_TLS;
        return why_set(&run->why, ERR_TLS, "the certificate of %s is not accepted: %s; see \"%s\"", host, cause,
                       key_or(keys->verify, "SSLVerify"));
    case CURLE_SSL_CACERT_BADFILE:
        return why_set(&run->why, ERR_TLS, "the file of trusted certificates cannot be used: %s; see \"%s\"", cause,
                       key_or(keys->ca, "cacert"));
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_INITFAILED:
        if (tls_wish_why(&run->tls, false, &run->why))
            return ERR_TLS;
        return why_set(&run->why, ERR_TLS, "TLS with %s fails: %s", host, cause);
    case CURLE_URL_MALFORMAT:
        return why_set(&run->why, ERR_USAGE, "this is no URL: %s", cause);
    case CURLE_UNSUPPORTED_PROTOCOL:
        if (!strstr(cause, "HTTP/0.9")) /* which has the same code */
            return why_set(&run->why, ERR_PROTO, "%s leads to something that is neither http nor https: %s", host,
                           cause);
        /* fallthrough */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
        return why_set(&run->why, ERR_PROTO, "what %s answers is not HTTP, or not all of it: %s", host, cause);
    case CURLE_GOT_NOTHING:
        return why_set(&run->why, ERR_CLOSED, "%s has closed the connection without an answer", host);
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        if (strstr(cause, "select/poll"))
            cause = "it was cut off"; /* what libcurl makes of an error of the socket */
        return why_set(&run->why, ERR_CLOSED, "the connection to %s broke: %s", host, cause);
    case CURLE_OUT_OF_MEMORY:
        return why_set(&run->why, ERR_NOMEM, "there is no memory for the call to %s", host);
    default:
        return why_set(&run->why, ERR_IO, "the call to %s fails: %s", host, cause);
    }
}

static bool was_at(const struct http_run *run, const char *url)
{
    for (unsigned i = 0; i < run->n_visited; i++)
        if (strcmp(run->visited[i], url) == 0)
            return true;
    return false;
}

/* True: the run goes on elsewhere, or has failed over it (err). */
static bool redirect(struct http_run *run, enum err *err)
{
    const struct http_keys *keys = run->call->keys;
    char *next = NULL;
    char host[300];
    bool is_post = str_eq_z(run->call->method, "POST");

    if (!run->call->allow_redirects || run->status < 301 || run->status > 308 ||
        (run->status > 303 && run->status < 307))
        return false;
    curl_easy_getinfo(run->easy, CURLINFO_REDIRECT_URL, &next);
    if (!next)
        return false;
    host_of(run->visited[0], host, sizeof host);
    if (run->status == 303 ? !str_eq_z(run->call->method, "HEAD") : run->status < 303 && is_post)
        run->is_get_now = true;
    if (was_at(run, next)) {
        *err = why_set(&run->why, ERR_LIMIT, "%s redirects in a circle: %.300s was asked before; see \"%s\"", host,
                       next, key_or(keys ? keys->redirects : NULL, "allowRedirects"));
        return true;
    }
    if (run->n_visited > REDIRECTS_MAX) {
        *err = why_set(&run->why, ERR_LIMIT, "%s redirects more than %d times, at last to %.300s", host, REDIRECTS_MAX,
                       next);
        return true;
    }
    run->is_moved |= !is_same_host(run->visited[0], next);
    next = mem_dup(next); /* libcurl's own is gone with the next line */
    leave_multi(run);
    curl_slist_free_all(run->headers);
    run->headers = NULL;
    curl_easy_reset(run->easy);
    *err = request(run, next);
    return true;
}

static void finish(struct http_run *run, CURLcode code)
{
    curl_off_t n_in = 0, took_us = 0;
    long n_head = 0, n_out = 0, status = 0;
    enum err err = ERR_OK;

    curl_easy_getinfo(run->easy, CURLINFO_SIZE_DOWNLOAD_T, &n_in);
    curl_easy_getinfo(run->easy, CURLINFO_HEADER_SIZE, &n_head);
    curl_easy_getinfo(run->easy, CURLINFO_REQUEST_SIZE, &n_out);
    curl_easy_getinfo(run->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(run->easy, CURLINFO_TOTAL_TIME_T, &took_us);
    run->took_us += (uint64_t)took_us;
    run->n_in += (uint64_t)n_in + (uint64_t)n_head;
    run->n_out += (uint64_t)n_out;
    run->status = (unsigned)status;
    if (code != CURLE_OK)
        err = reason(run, code);
    else if (redirect(run, &err) && !err)
        return;
    answer(run, err, err && !run->n_out);
}

/* Answers what has ended. .done may start, cancel and close. */
static void collect(struct http_client *client)
{
    CURLMsg *message;
    int n_left;

    if (client->is_collecting)
        return;
    client->is_collecting = true;
    while (!client->is_closing && (message = curl_multi_info_read(client->multi, &n_left))) {
        struct http_run *run = NULL;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&run);
        finish(run, code);
    }
    client->is_collecting = false;
}

static void answer_failed(void *arg)
{
    struct http_client *client = arg;
    struct list *node;

    while (!client->is_closing && (node = list_take_first(&client->failed))) {
        struct http_run *run = CONTAINER_OF(node, struct http_run, node);

        list_init(&run->node);
        answer(run, run->failed, true);
    }
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

static void global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        mem_die(0);
}

static struct http_client *make(struct loop *loop, struct log *log, struct why *why);

static void start(struct http_client *client, struct http_call *call)
{
    struct http_run *run = begin_run(client, call);

    run->failed = request(run, text_of(call->url));
    list_add_tail(run->failed ? &client->failed : &client->runs, &run->node);
    if (run->failed)
        timer_start(&client->later_timer, 0);
}

static void cancel(struct http_client *client, struct http_call *call)
{
    struct http_run *run = call->run;

    (void)client;
    call->run = NULL;
    if (run)
        end_run(run);
}

static void all_closed(void *arg)
{
    struct http_client *client = arg;
    closed_fn *closed = client->closed;
    void *closed_arg = client->closed_arg;

    mem_free(client->by_fd);
    mem_free(client);
    closed(closed_arg);
}

static void close_client(void *arg)
{
    struct http_client *client = arg;

    curl_multi_cleanup(client->multi); /* closes the connections */
    timer_stop(&client->timer);
    for (size_t i = 0; i < client->n_fds; i++)
        if (client->by_fd[i])
            release_socket(client->by_fd[i]);
    closer_begin(&client->closer, client->loop, all_closed, client);
    for (unsigned i = 0; i < client->n_closing; i++)
        closer_hold(&client->closer);
    client->is_ending = true;
    closer_end(&client->closer);
}

static void cancel_all(struct list *runs)
{
    struct list *node;

    while ((node = list_first(runs))) {
        struct http_run *run = CONTAINER_OF(node, struct http_run, node);

        run->call->run = NULL;
        end_run(run);
    }
}

static void close_all(struct http_client *client, closed_fn *done, void *arg)
{
    struct list *node;

    client->is_closing = true;
    client->closed = done;
    client->closed_arg = arg;
    timer_stop(&client->timer);
    cancel_all(&client->runs);
    cancel_all(&client->failed);
    while ((node = list_take_first(&client->idle)))
        free_run(CONTAINER_OF(node, struct http_run, node));
    client->later_timer.fn = close_client; /* within .done libcurl may still hold the one that has ended */
    timer_start(&client->later_timer, 0);
}

extern const struct http_client_api iotgw_http_client;
const struct http_client_api iotgw_http_client = {
    .own = {.size = sizeof(struct http_client_api), .build_id = IOTGW_BUILD_ID},
    .make = make,
    .start = start,
    .cancel = cancel,
    .close = close_all,
};

static long max_connections(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur / 2 > CONNECTIONS_MAX)
        return CONNECTIONS_MAX;
    return files.rlim_cur > 32 ? (long)files.rlim_cur / 2 : 16;
}

static struct http_client *make(struct loop *loop, struct log *log, struct why *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct http_client *client;
    static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    CURLM *multi;

    pthread_once(&once, global_init);
    multi = curl_multi_init();
    if (!multi) {
        why_set(why, ERR_NOMEM, "libcurl cannot be used");
        return NULL;
    }
    client = mem_zero(sizeof *client);
    client->head.api = &iotgw_http_client;
    client->loop = loop;
    client->log = log;
    client->multi = multi;
    for (size_t i = 0; i < COUNT_OF(proxies); i++)
        client->has_proxy |= getenv(proxies[i]) && *getenv(proxies[i]);
    list_init(&client->runs);
    list_init(&client->failed);
    list_init(&client->idle);
    timer_init(&client->timer, loop, timer_fired, client);
    timer_init(&client->later_timer, loop, answer_failed, client);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, max_connections());
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    return client;
}
