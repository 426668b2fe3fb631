/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_chunks.h"

/*
 *     SIZE → (EXTENSION →) SIZE_LF → DATA → DATA_CR → DATA_LF → SIZE …
 *                             └ 0 → TRAILER ⇄ TRAILER_LINE → TRAILER_LF; an empty line: END_LF → WHOLE
 */
enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LINE, TRAILER_LF, END_LF, WHOLE };
enum { MAX_DIGITS = 8, MAX_PASSED_OVER = 8192 };

static enum http_chunks_state refuse(struct why *why, const char *text)
{
    (void)why_set(why, ERR_PROTO, "%s", text);
    return HTTP_CHUNKS_REFUSED;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_plain(char c)
{
    return c == '\t' || ((unsigned char)c >= ' ' && c != 127);
}

static enum http_chunks_state read_size(struct http_chunks *chunks, char c, struct why *why)
{
    int digit = hex_of(c);

    if (digit >= 0 && ++chunks->n_chars <= MAX_DIGITS) {
        chunks->left = chunks->left << 4 | (unsigned)digit;
        return HTTP_CHUNKS_MORE;
    }
    if (!chunks->n_chars || digit >= 0 || (c != '\r' && c != ';' && c != ' ' && c != '\t'))
        return refuse(why, "the size of a chunk is malformed");
    chunks->n_chars = 0;
    chunks->at = c == '\r' ? SIZE_LF : EXTENSION;
    return HTTP_CHUNKS_MORE;
}

/* Text that means nothing here, up to its CR. */
static enum http_chunks_state pass_over(struct http_chunks *chunks, char c, int next, struct why *why)
{
    if (c == '\r')
        chunks->at = next;
    else if (!is_plain(c) || ++chunks->n_chars > MAX_PASSED_OVER)
        return refuse(why, "an extension or a trailer of the body is malformed or too long");
    return HTTP_CHUNKS_MORE;
}

static enum http_chunks_state expect(struct http_chunks *chunks, char c, char wanted, int next, struct why *why)
{
    if (c != wanted)
        return refuse(why, "a line of the chunked body does not end with CR and LF");
    chunks->at = next;
    return HTTP_CHUNKS_MORE;
}

static enum http_chunks_state read_char(struct http_chunks *chunks, char c, struct why *why)
{
    enum http_chunks_state state;

    switch (chunks->at) {
    case SIZE:
        return read_size(chunks, c, why);
    case EXTENSION:
        return pass_over(chunks, c, SIZE_LF, why);
    case SIZE_LF:
        state = expect(chunks, c, '\n', chunks->left ? DATA : TRAILER, why);
        chunks->n_chars = 0;
        return state;
    case DATA_CR:
        return expect(chunks, c, '\r', DATA_LF, why);
    case DATA_LF:
        return expect(chunks, c, '\n', SIZE, why);
    case TRAILER:
        chunks->at = c == '\r' ? END_LF : TRAILER_LINE;
        return c == '\r' ? HTTP_CHUNKS_MORE : pass_over(chunks, c, TRAILER_LF, why);
    case TRAILER_LINE:
        return pass_over(chunks, c, TRAILER_LF, why);
    case TRAILER_LF:
        return expect(chunks, c, '\n', TRAILER, why);
    case END_LF:
        state = expect(chunks, c, '\n', WHOLE, why);
        return state == HTTP_CHUNKS_MORE ? HTTP_CHUNKS_WHOLE : state;
    default:
        return refuse(why, "the body has ended");
    }
}

enum http_chunks_state http_chunks_read(struct http_chunks *chunks, struct str text, size_t *n_used, struct buf *out,
                                        size_t limit, struct why *why)
{
    enum http_chunks_state state = HTTP_CHUNKS_MORE;
    size_t i = 0;

    while (i < text.n && state == HTTP_CHUNKS_MORE) {
        struct str data = str_cut(str_skip(text, i), chunks->left);

        if (chunks->at != DATA) {
            state = read_char(chunks, text.p[i++], why);
            continue;
        }
        if (out && (out->n > limit || data.n > limit - out->n)) {
            state = HTTP_CHUNKS_LIMIT;
            break;
        }
        if (out)
            buf_add_str(out, data);
        i += data.n;
        chunks->left -= data.n;
        if (!chunks->left)
            chunks->at = DATA_CR;
    }
    *n_used = i;
    return state;
}
