/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client of local control sends: any bytes, in pieces of any size (the first byte says which), to methods that answer at once,
 * later, never, or stream. Each line that goes out is JSON with an id and one of result, error and stream, and at the end nothing is open.
 */
#include "fuzz.h"

#include "gateway/control.h"

static struct loop *loop;
static struct control_request *held[16], *stream;
static unsigned n_held;
static bool is_cut;

static void on_wake(void *arg)
{
    (void)arg;
}

static void on_close(void *arg)
{
    (void)arg;
    is_cut = true;
}

static void method_echo(void *arg, struct control_request *request, yyjson_val *params)
{
    autobuf struct buf json = {0};

    (void)arg;
    if (params)
        json_add_value(&json, params);
    control_answer(request, params ? buf_str(&json) : STR("null"));
}

static void method_hold(void *arg, struct control_request *request, yyjson_val *params)
{
    (void)arg;
    (void)params;
    FUZZ_CHECK(n_held < 16);
    held[n_held++] = request;
}

static void on_ended(void *arg, struct control_request *request)
{
    (void)arg;
    FUZZ_CHECK(request == stream);
    stream = NULL;
}

static void method_stream(void *arg, struct control_request *request, yyjson_val *params)
{
    (void)arg;
    (void)params;
    if (stream) {
        control_fail(request, ERR_BUSY, "one");
        return;
    }
    stream = request;
    control_stream(request, on_ended, NULL);
}

static void check_lines(struct str out)
{
    while (out.n) {
        size_t n = str_chr(out, '\n');
        yyjson_doc *doc;
        yyjson_val *root;

        FUZZ_CHECK(n < out.n);
        doc = json_read(str_cut(out, n), NULL);
        FUZZ_CHECK(doc);
        root = yyjson_doc_get_root(doc);
        FUZZ_CHECK(json_get(root, STR("id")));
        FUZZ_CHECK((json_get(root, STR("result")) != NULL) + (json_get(root, STR("error")) != NULL) +
                       (json_get(root, STR("stream")) != NULL) ==
                   1);
        yyjson_doc_free(doc);
        out = str_skip(out, n + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct control_link transport = {.wake = on_wake, .close = on_close};
    struct str rest = str_of(data, size);
    size_t piece = size ? data[0] + 1u : 1;
    autobuf struct buf out = {0};
    struct control *control;
    struct control_peer *peer;

    if (!loop)
        loop = loop_new_fake(1700000000000);
    is_cut = false;
    control = control_new(loop);
    control_add(control, "e", method_echo, NULL);
    control_add(control, "h", method_hold, NULL);
    control_add(control, "s", method_stream, NULL);
    peer = control_peer_new(control, &transport, NULL);
    rest = str_skip(rest, 1);
    while (rest.n && !is_cut) {
        control_peer_feed(peer, str_cut(rest, piece));
        rest = str_skip(rest, piece < rest.n ? piece : rest.n);
        if (stream)
            (void)control_send(stream, STR("1"));
        if (n_held == 16)
            control_answer(held[--n_held], STR("{}"));
        control_peer_take(peer, &out);
        check_lines(buf_str(&out));
        control_peer_wrote(peer);
    }
    while (n_held > 1)
        control_fail(held[--n_held], ERR_TIMEOUT, "late");
    control_peer_close(peer);
    FUZZ_CHECK(!stream);
    n_held = 0; /* one is never answered */
    control_free(control);
    return 0;
}
