/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    LINE_MAX_BYTES = 1024 * 1024,
    ID_MAX = 64,
    OPEN_MAX = 16,
    METHODS_MAX = 64,
    ANSWERS_MAX = 64 * 1024 * 1024,
    STREAM_MAX = 256 * 1024,
    READ_BELOW = 1024 * 1024 /* of answers that are not taken: more is not read before */
};

struct control_request {
    struct list node; /* of its peer, or of those whose peer has gone */
    struct control *control;
    struct control_peer *peer; /* NULL: gone */
    control_ended_fn *ended;   /* not NULL: a stream */
    void *arg;
    size_t id_n;
    char id[ID_MAX]; /* JSON text */
};

struct control_peer {
    struct control *control;
    const struct control_link *link;
    void *arg;
    struct list requests;
    unsigned n_open;
    struct buf in, out;
    size_t n_writing;
    bool is_cut;
};

struct control {
    struct loop *loop;
    struct method {
        const char *name;
        control_fn *fn;
        void *arg;
    } methods[METHODS_MAX];
    size_t n_methods;
    unsigned n_peers;
    struct list orphans; /* requests whose peer has gone */
};

/* --- what goes out ---------------------------------------------------------------------------------------------------- */

static size_t pending(const struct control_peer *peer)
{
    return peer->out.n + peer->n_writing;
}

static void cut(struct control_peer *peer)
{
    if (peer->is_cut)
        return;
    peer->is_cut = true;
    peer->link->close(peer->arg);
}

static void add_line(struct control_peer *peer, struct str id, const char *member, struct str json)
{
    if (peer->is_cut)
        return;
    if (pending(peer) + json.n > ANSWERS_MAX) {
        cut(peer);
        return;
    }
    buf_printf(&peer->out, "{\"id\":" STR_FMT ",\"%s\":", STR_ARG(id), member);
    buf_add_str(&peer->out, json);
    buf_add_z(&peer->out, "}\n");
    peer->link->wake(peer->arg);
}

static void add_error(struct control_peer *peer, struct str id, enum err err, const char *fmt, va_list args)
{
    autobuf struct buf json = {0};
    char text[1024];
    int n = vsnprintf(text, sizeof text, fmt, args);

    buf_printf(&json, "{\"code\":\"%s\",\"message\":", err_name(err));
    json_add_string(&json, str_of(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
    buf_add_u8(&json, '}');
    add_line(peer, id, "error", buf_str(&json));
}

static PRINTF_LIKE(4, 5) void refuse(struct control_peer *peer, struct str id, enum err err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add_error(peer, id, err, fmt, args);
    va_end(args);
}

static struct str id_of(const struct control_request *request)
{
    return str_of(request->id, request->id_n);
}

static void request_free(struct control_request *request)
{
    struct control_peer *peer = request->peer;

    list_del(&request->node);
    if (peer && peer->n_open-- == OPEN_MAX)
        peer->link->wake(peer->arg);
    mem_free(request);
}

void control_answer(struct control_request *request, struct str json)
{
    loop_assert(request->control->loop);
    if (request->peer)
        add_line(request->peer, id_of(request), "result", json);
    request_free(request);
}

void control_fail(struct control_request *request, enum err err, const char *fmt, ...)
{
    va_list args;

    loop_assert(request->control->loop);
    va_start(args, fmt);
    if (request->peer)
        add_error(request->peer, id_of(request), err, fmt, args);
    va_end(args);
    request_free(request);
}

void control_stream(struct control_request *request, control_ended_fn *ended, void *arg)
{
    request->ended = ended;
    request->arg = arg;
}

bool control_has_room(const struct control_request *request, size_t n)
{
    return request->peer && !request->peer->is_cut && pending(request->peer) + n <= STREAM_MAX;
}

bool control_send(struct control_request *request, struct str json)
{
    if (!control_has_room(request, json.n))
        return false;
    add_line(request->peer, id_of(request), "stream", json);
    return true;
}

/* --- what comes in ------------------------------------------------------------------------------------------------------ */

static const struct method *method_of(const struct control *control, struct str name)
{
    for (size_t i = 0; i < control->n_methods; i++)
        if (str_eq_z(name, control->methods[i].name))
            return &control->methods[i];
    return NULL;
}

/* The id as it is to be given back: a number or a short text; else null. */
static struct str read_id(yyjson_val *root, char *out)
{
    autobuf struct buf text = {0};
    yyjson_val *id = json_get(root, STR("id"));

    if (id && (json_is_number(id) || yyjson_is_str(id)))
        json_add_value(&text, id);
    if (!text.n || text.n > ID_MAX)
        return STR("null");
    memcpy(out, text.p, text.n);
    return str_of(out, text.n);
}

static void take_request(struct control_peer *peer, yyjson_val *root)
{
    char id_text[ID_MAX];
    struct str id = read_id(root, id_text), name = json_str(json_get(root, STR("method")));
    yyjson_val *params = json_get(root, STR("params"));
    const struct method *method = method_of(peer->control, name);
    struct control_request *request;

    if (!yyjson_is_obj(root) || !name.p) {
        refuse(peer, id, ERR_PROTO, "a request is an object with \"id\", \"method\" and, if need be, \"params\"");
        return;
    }
    if (yyjson_is_null(params))
        params = NULL;
    if (params && !yyjson_is_obj(params)) {
        refuse(peer, id, ERR_TYPE, "\"params\" is not an object");
        return;
    }
    if (!method) {
        refuse(peer, id, ERR_UNSUPPORTED, "there is no method \"" STR_FMT "\"", STR_ARG(str_cut(name, 64)));
        return;
    }
    if (peer->n_open == OPEN_MAX) {
        refuse(peer, id, ERR_BUSY, "%d requests are open", OPEN_MAX);
        return;
    }
    request = mem_zero(sizeof *request);
    request->control = peer->control;
    request->peer = peer;
    request->id_n = id.n;
    memcpy(request->id, id.p, id.n);
    list_add_tail(&peer->requests, &request->node);
    peer->n_open++;
    method->fn(method->arg, request, params);
}

static void take_line(struct control_peer *peer, struct str line)
{
    struct why why = {0};
    yyjson_doc *doc;

    line = str_trim(line);
    if (!line.n)
        return;
    doc = json_read(line, &why);
    if (doc)
        take_request(peer, yyjson_doc_get_root(doc));
    else
        refuse(peer, STR("null"), ERR_SYNTAX, "%s", why_text(&why));
    yyjson_doc_free(doc);
}

void control_peer_feed(struct control_peer *peer, struct str bytes)
{
    loop_assert(peer->control->loop);
    while (bytes.n && !peer->is_cut) {
        size_t n = str_chr(bytes, '\n');
        bool is_line = n < bytes.n;
        struct str part = str_cut(bytes, n);

        if (peer->in.n + part.n > LINE_MAX_BYTES) {
            refuse(peer, STR("null"), ERR_LIMIT, "a request is longer than %d bytes", LINE_MAX_BYTES);
            cut(peer);
            return;
        }
        bytes = str_skip(bytes, n + is_line);
        if (is_line && !peer->in.n) {
            take_line(peer, part);
            continue;
        }
        buf_add_str(&peer->in, part);
        if (is_line) {
            take_line(peer, buf_str(&peer->in));
            buf_fini(&peer->in);
            peer->in = (struct buf){0};
        }
    }
}

bool control_peer_awaits(const struct control_peer *peer)
{
    LIST_EACH(node, &peer->requests)
        if (!CONTAINER_OF(node, struct control_request, node)->ended)
            return true;
    return false;
}

bool control_peer_is_idle(const struct control_peer *peer)
{
    return list_is_empty(&peer->requests) && pending(peer) == 0;
}

bool control_peer_wants_input(const struct control_peer *peer)
{
    return !peer->is_cut && peer->n_open < OPEN_MAX && pending(peer) < READ_BELOW;
}

void control_peer_take(struct control_peer *peer, struct buf *out)
{
    struct buf taken = peer->out;

    assert(!peer->n_writing);
    peer->n_writing = taken.n;
    out->n = 0;
    peer->out = *out;
    *out = taken;
}

void control_peer_wrote(struct control_peer *peer)
{
    peer->n_writing = 0;
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

struct control *control_new(struct loop *loop)
{
    struct control *control = mem_zero(sizeof *control);

    control->loop = loop;
    list_init(&control->orphans);
    return control;
}

void control_free(struct control *control)
{
    if (!control)
        return;
    assert(!control->n_peers);
    for (struct list *node; (node = list_take_first(&control->orphans));)
        mem_free(CONTAINER_OF(node, struct control_request, node));
    mem_free(control);
}

void control_add(struct control *control, const char *name, control_fn *fn, void *arg)
{
    assert(control->n_methods < METHODS_MAX && !method_of(control, str_from(name)));
    control->methods[control->n_methods++] = (struct method){name, fn, arg};
}

struct control_peer *control_peer_new(struct control *control, const struct control_link *link, void *arg)
{
    struct control_peer *peer;

    loop_assert(control->loop);
    if (control->n_peers == CONTROL_PEERS_MAX)
        return NULL;
    peer = mem_zero(sizeof *peer);
    *peer = (struct control_peer){.control = control, .link = link, .arg = arg};
    list_init(&peer->requests);
    control->n_peers++;
    return peer;
}

void control_peer_close(struct control_peer *peer)
{
    struct control *control = peer->control;

    peer->is_cut = true;
    LIST_EACH_SAFE(node, &peer->requests) {
        struct control_request *request = CONTAINER_OF(node, struct control_request, node);

        request->peer = NULL;
        list_del(node);
        if (!request->ended) {
            list_add_tail(&control->orphans, node);
            continue;
        }
        request->ended(request->arg, request);
        mem_free(request);
    }
    control->n_peers--;
    buf_fini(&peer->in);
    buf_fini(&peer->out);
    mem_free(peer);
}
