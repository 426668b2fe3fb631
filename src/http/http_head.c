/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http_head.h"

#include "http/http_client.h"

struct counts {
    unsigned n_fields, n_hosts, n_lengths, n_encodings;
    bool is_close, is_keep_alive;
};

static bool is_target(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 127 || s.p[i] == '#') /* a char above 127 may be negative */
            return false;
    return s.n > 0;
}

/* Blanks around a value are spaces and tabs alone (RFC 9112 5.1); other programs may take anything else for a part of it. */
static struct str trim_blanks(struct str s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = str_skip(s, 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

static bool is_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static enum http_head_state refuse(struct http_head *head, unsigned status, struct why *why, const char *text)
{
    head->status = status;
    (void)why_set(why, ERR_PROTO, "%s", text);
    return HTTP_HEAD_REFUSED;
}

/* Takes a line off *rest, which ends with CRLF; false: a CR or LF stands alone. */
static bool take_line(struct str *rest, struct str *line)
{
    size_t n = str_chr(*rest, '\n');

    if (n == rest->n || n == 0 || rest->p[n - 1] != '\r')
        return false;
    *line = str_cut(*rest, n - 1);
    *rest = str_skip(*rest, n + 1);
    return str_chr(*line, '\r') == line->n;
}

/* "/path?query", or the form for proxies, "http://host/path?query", which a server has to take as well. */
static bool split_target(struct http_head *head, struct str target)
{
    size_t n;
    bool is_root = false;

    if (!is_target(target))
        return false;
    if (str_eq_nocase(str_cut(target, 7), STR("http://")) || str_eq_nocase(str_cut(target, 8), STR("https://"))) {
        target = str_skip(target, str_find(target, STR("//"), 0) + 2);
        n = str_chr(target, '/') < str_chr(target, '?') ? str_chr(target, '/') : str_chr(target, '?');
        if (n == 0)
            return false;
        target = str_skip(target, n); /* empty, or only a query: the path is "/" (RFC 9110 4.2.3) */
        is_root = !target.n || target.p[0] == '?';
    } else if (target.p[0] != '/' && !(str_eq(target, STR("*")) && str_eq(head->method, STR("OPTIONS")))) {
        return false;
    }
    n = str_chr(target, '?');
    head->path = is_root ? STR("/") : str_cut(target, n);
    head->query = n < target.n ? str_skip(target, n + 1) : STR_NONE;
    return true;
}

static enum http_head_state read_request_line(struct http_head *head, struct str line, struct why *why)
{
    size_t first = str_chr(line, ' ');
    size_t second = first + 1 + str_chr(str_skip(line, first + 1), ' ');
    struct str version = str_skip(line, second + 1);

    head->method = str_cut(line, first);
    if (first == line.n || second >= line.n || !http_is_token(head->method))
        return refuse(head, 400, why, "the first line is no request line");
    if (version.n != 8 || !str_starts(version, STR("HTTP/")) || version.p[6] != '.' ||
        !is_digits(str_of(version.p + 5, 1)) || !is_digits(str_of(version.p + 7, 1)))
        return refuse(head, 400, why, "the request line does not end with a version of HTTP");
    if (version.p[5] != '1')
        return refuse(head, 505, why, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    head->minor = version.p[7] != '0';
    if (!split_target(head, str_of(line.p + first + 1, second - first - 1)))
        return refuse(head, 400, why, "the target of the request is no path");
    return HTTP_HEAD_WHOLE;
}

static void read_connection(struct counts *counts, struct str value)
{
    struct str part;

    while (str_split(&value, ',', &part)) {
        part = str_trim(part);
        counts->is_close |= str_eq_nocase(part, STR("close"));
        counts->is_keep_alive |= str_eq_nocase(part, STR("keep-alive"));
    }
}

static enum http_head_state read_field(struct http_head *head, struct counts *counts, struct str line, struct why *why)
{
    size_t colon = str_chr(line, ':');
    struct str name = str_cut(line, colon), value = trim_blanks(str_skip(line, colon + 1));

    if (++counts->n_fields > HTTP_HEAD_MAX_FIELDS)
        return refuse(head, 431, why, "the request has more than 100 header fields");
    if (colon == line.n || !http_is_token(name) || !http_is_field_text(value))
        return refuse(head, 400, why, "a header field is malformed");
    if (str_eq_nocase(name, STR("Host"))) {
        counts->n_hosts++;
    } else if (str_eq_nocase(name, STR("Connection"))) {
        read_connection(counts, value);
    } else if (str_eq_nocase(name, STR("Content-Length"))) {
        counts->n_lengths++;
        if (value.n > 18 || !is_digits(value) || str_to_u64(value, &head->length))
            return refuse(head, 400, why, "Content-Length is no number");
    } else if (str_eq_nocase(name, STR("Transfer-Encoding"))) {
        counts->n_encodings++;
        if (!str_eq_nocase(value, STR("chunked")))
            return refuse(head, 501, why, "Transfer-Encoding can only be chunked");
    } else if (str_eq_nocase(name, STR("Expect")) && value.n) {
        if (!str_eq_nocase(value, STR("100-continue")))
            return refuse(head, 417, why, "Expect can only be 100-continue");
        head->wants_continue = head->minor > 0; /* of HTTP/1.0 it has to be passed over */
    }
    return HTTP_HEAD_WHOLE;
}

static enum http_head_state check(struct http_head *head, const struct counts *counts, struct why *why)
{
    if (counts->n_hosts > 1 || (counts->n_hosts == 0 && head->minor > 0))
        return refuse(head, 400, why, "the request needs exactly one Host");
    if (counts->n_lengths > 1)
        return refuse(head, 400, why, "the request has more than one Content-Length");
    if (counts->n_encodings > 1 || (counts->n_encodings && head->minor == 0))
        return refuse(head, 400, why, "Transfer-Encoding is given twice, or with HTTP/1.0");
    if (counts->n_encodings && counts->n_lengths)
        return refuse(head, 400, why, "the request has both Content-Length and Transfer-Encoding");
    head->is_chunked = counts->n_encodings > 0;
    head->is_kept_alive = !counts->is_close && (head->minor > 0 || counts->is_keep_alive);
    head->wants_continue &= head->is_chunked || head->length;
    return HTTP_HEAD_WHOLE;
}

static enum http_head_state parse(struct http_head *head, struct str text, struct why *why)
{
    struct counts counts = {0};
    struct str line;

    if (!take_line(&text, &line))
        return refuse(head, 400, why, "a line does not end with CR and LF");
    if (read_request_line(head, line, why) != HTTP_HEAD_WHOLE)
        return HTTP_HEAD_REFUSED;
    head->fields = text;
    for (;;) {
        if (!take_line(&text, &line))
            return refuse(head, 400, why, "a line does not end with CR and LF");
        if (line.n == 0)
            return check(head, &counts, why);
        if (read_field(head, &counts, line, why) != HTTP_HEAD_WHOLE)
            return HTTP_HEAD_REFUSED;
    }
}

#define HOPELESS "this is no head of an HTTP request: a line does not end with CR and LF, or there are other bytes"

/* What can never become a head is told as soon as it is seen: other lines than HTTP's, another protocol. */
static bool is_hopeless(struct str seen, size_t from)
{
    for (size_t i = from; i < seen.n; i++)
        if (seen.p[i] == '\n' && (i == 0 || seen.p[i - 1] != '\r'))
            return true;
    return seen.n && !http_is_token(str_cut(seen, 1)) && !str_eq(seen, STR("\r")); /* of an empty line */
}

enum http_head_state http_head_read(struct http_head *head, struct str text, struct why *why)
{
    struct str seen = str_cut(text, HTTP_HEAD_MAX_BYTES);
    size_t end = str_find(seen, STR("\r\n\r\n"), head->n_seen);

    if (end == SIZE_MAX) {
        if (is_hopeless(seen, head->n_seen))
            return refuse(head, 400, why, HOPELESS);
        if (text.n < HTTP_HEAD_MAX_BYTES) {
            head->n_seen = seen.n > 3 ? seen.n - 3 : 0;
            return HTTP_HEAD_MORE;
        }
        return refuse(head, str_chr(seen, '\n') == seen.n ? 414 : 431, why,
                      "the head of the request is longer than 16 KiB");
    }
    head->n_bytes = end + 4;
    if (parse(head, str_of(seen.p, end + 4), why) == HTTP_HEAD_WHOLE)
        return HTTP_HEAD_WHOLE;
    return is_hopeless(str_cut(seen, end + 4), 0) ? refuse(head, 400, why, HOPELESS) : HTTP_HEAD_REFUSED;
}

size_t http_head_blank(struct str text)
{
    size_t n = 0;

    while (n + 1 < text.n && text.p[n] == '\r' && text.p[n + 1] == '\n')
        n += 2;
    return n;
}

struct str http_head_get(const struct http_head *head, struct str name)
{
    struct str rest = head->fields, line;

    while (take_line(&rest, &line) && line.n) {
        size_t colon = str_chr(line, ':');

        if (str_eq_nocase(str_cut(line, colon), name))
            return trim_blanks(str_skip(line, colon + 1));
    }
    return STR_NONE;
}
