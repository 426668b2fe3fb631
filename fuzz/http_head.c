/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads and chunked bodies of HTTP requests: however they are cut, they mean the same, and what is taken is bounded and
 * unambiguous.
 */
#include "fuzz.h"
#include "http/http_chunks.h"
#include "http/http_head.h"

enum { BODY_MAX = 64 };

static void check_chunks(struct str text)
{
    struct http_chunks whole = {0}, pieces = {0};
    enum http_chunks_state at_once, state = HTTP_CHUNKS_MORE;
    autobuf struct buf all = {0};
    autobuf struct buf parts = {0};
    struct why why = {0};
    size_t n_used, n_now, n = 0;

    at_once = http_chunks_read(&whole, text, &n_used, &all, BODY_MAX, &why);
    while (n < text.n && state == HTTP_CHUNKS_MORE) {
        state = http_chunks_read(&pieces, str_cut(str_skip(text, n), 1), &n_now, &parts, BODY_MAX, NULL);
        n += n_now;
    }
    FUZZ_CHECK(n_used <= text.n && all.n <= BODY_MAX);
    FUZZ_CHECK(at_once != HTTP_CHUNKS_REFUSED || why.text[0]);
    if (at_once == HTTP_CHUNKS_LIMIT) /* in pieces the part that fits is taken first */
        FUZZ_CHECK(state == at_once);
    else
        FUZZ_CHECK(state == at_once && n == n_used && str_eq(buf_str(&all), buf_str(&parts)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head whole = {0}, pieces = {0};
    enum http_head_state state = HTTP_HEAD_MORE, at_once;
    struct why why = {0};

    at_once = http_head_read(&whole, str_of(data, size), &why);
    for (size_t n = 0; n <= size && state == HTTP_HEAD_MORE; n++)
        state = http_head_read(&pieces, str_of(data, n), NULL);
    check_chunks(str_of(data, size));
    FUZZ_CHECK(state == at_once);
    FUZZ_CHECK(state != HTTP_HEAD_REFUSED || (why.text[0] && whole.status >= 400 && whole.status == pieces.status));
    if (state != HTTP_HEAD_WHOLE)
        return 0;
    FUZZ_CHECK(whole.n_bytes == pieces.n_bytes && whole.n_bytes <= size && whole.n_bytes <= HTTP_HEAD_MAX_BYTES);
    FUZZ_CHECK(whole.method.n && whole.path.n && whole.minor <= 1);
    FUZZ_CHECK(!whole.is_chunked || (!whole.length && !http_head_get(&whole, STR("content-length")).p));
    FUZZ_CHECK(whole.minor == 0 || http_head_get(&whole, STR("host")).p);
    return 0;
}
