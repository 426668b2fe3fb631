/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/talk.h"

#include "base/clock.h"
#include "gateway/control_socket.h"
#include "gateway/gateway_conf.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 256 * 1024 * 1024 };

int talk_open(struct talk *talk, const struct command_line *line)
{
    autobuf struct buf dir = {0}, file = {0};
    struct why why = {0};

    *talk = (struct talk){.line = line, .fd = -1};
    gateway_conf_dir(&dir, &file, line->config);
    buf_add_u8(&dir, 0);
    if (control_connect(&talk->fd, (const char *)dir.p, &why))
        return command_fail(line, EXIT_NO_GATEWAY, "%s", why_text(&why));
    return EXIT_DONE;
}

void talk_close(struct talk *talk)
{
    if (talk->fd >= 0)
        close(talk->fd);
    yyjson_doc_free(talk->doc);
    buf_fini(&talk->in);
}

static int lost(const struct talk *talk)
{
    return command_fail(talk->line, EXIT_FAILED, "the gateway has closed the connection");
}

static int send_all(const struct talk *talk, const struct buf *out)
{
    for (size_t done = 0; done < out->n;) {
        ssize_t n = send(talk->fd, out->p + done, out->n - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lost(talk);
        done += (size_t)n;
    }
    return EXIT_DONE;
}

int talk_begin(struct talk *talk, const char *method, struct str params_json)
{
    autobuf struct buf out = {0};

    buf_printf(&out, "{\"id\":%u,\"method\":\"%s\",\"params\":", ++talk->n_asked, method);
    buf_add_str(&out, params_json.n ? params_json : STR("null"));
    buf_add_z(&out, "}\n");
    return send_all(talk, &out);
}

/* Until the descriptor has something. end_ms 0: for ever. */
static bool wait_for_input(const struct talk *talk, uint64_t end_ms)
{
    struct pollfd fd = {.fd = talk->fd, .events = POLLIN};

    for (;;) {
        uint64_t now_ms = clock_mono_ms();
        int left = end_ms ? (int)(end_ms > now_ms ? end_ms - now_ms : 0) : -1, n = poll(&fd, 1, left);

        if (n > 0 || (n == 0 && end_ms))
            return n > 0;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* The next line, parsed; NULL with *code set. */
static yyjson_val *next_line(struct talk *talk, uint64_t end_ms, int *code)
{
    yyjson_doc_free(talk->doc);
    talk->doc = NULL;
    buf_drop(&talk->in, talk->n_taken);
    talk->n_taken = 0;
    for (size_t seen = 0;;) {
        struct str fresh = str_skip(buf_str(&talk->in), seen);
        size_t n = str_chr(fresh, '\n');
        ssize_t got;

        if (n < fresh.n) {
            talk->n_taken = seen + n + 1;
            talk->doc = json_read(str_of(talk->in.p, seen + n), NULL);
            if (!talk->doc)
                *code = command_fail(talk->line, EXIT_FAILED, "the gateway's answer cannot be read");
            return yyjson_doc_get_root(talk->doc);
        }
        seen = talk->in.n;
        if (!wait_for_input(talk, end_ms)) {
            *code = command_fail(talk->line, EXIT_FAILED, "the gateway does not answer");
            return NULL;
        }
        got = recv(talk->fd, buf_room(&talk->in, 64 * 1024), 64 * 1024, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || talk->in.n + (size_t)got > ANSWER_MAX) {
            *code = lost(talk);
            return NULL;
        }
        talk->in.n += (size_t)got;
    }
}

/* An error is said. NULL: it was one. */
static yyjson_val *result_of(struct talk *talk, yyjson_val *root, int *code)
{
    yyjson_val *error = json_get(root, STR("error")), *result = json_get(root, STR("result"));
    struct str message = json_str(json_get(error, STR("message")));
    autobuf struct buf text = {0};

    if (!error && result)
        return result;
    show_text(&text, message.n ? message : STR("no result"));
    buf_add_u8(&text, 0);
    *code = command_fail(talk->line, EXIT_FAILED, "%s", (const char *)text.p);
    return NULL;
}

int talk_ask(struct talk *talk, const char *method, struct str params_json, uint64_t timeout_ms, yyjson_val **result)
{
    int code = talk_begin(talk, method, params_json);
    yyjson_val *root;

    *result = NULL;
    if (code)
        return code;
    root = next_line(talk, clock_mono_ms() + timeout_ms, &code);
    if (root)
        *result = result_of(talk, root, &code);
    return *result ? EXIT_DONE : code;
}

yyjson_val *talk_next(struct talk *talk, int *code)
{
    yyjson_val *root = next_line(talk, 0, code), *part = json_get(root, STR("stream"));

    if (root && !part && result_of(talk, root, code))
        *code = EXIT_DONE;
    return part;
}

int talk_run(const struct command_line *line, const char *method, struct str params_json, uint64_t timeout_ms,
             talk_show_fn *show)
{
    struct talk talk;
    yyjson_val *result;
    int code = talk_open(&talk, line);

    if (!code)
        code = talk_ask(&talk, method, params_json, timeout_ms, &result);
    if (!code && command_has(line, "json")) {
        autobuf struct buf out = {0};

        json_add_value(&out, result);
        buf_add_u8(&out, '\n');
        code = command_print(&out) ? EXIT_DONE : EXIT_FAILED;
    } else if (!code) {
        code = show(line, result);
    }
    talk_close(&talk);
    return code;
}

/* --- for people ------------------------------------------------------------------------------------------------------------- */

void show_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = (uint8_t)text.p[i];
        bool is_c1 = c == 0xc2 && i + 1 < text.n && (uint8_t)text.p[i + 1] < 0xa0;

        if (is_c1)
            i++;
        buf_add_u8(out, c < 0x20 || c == 0x7f || is_c1 ? '?' : c);
    }
}

void show_count(struct buf *out, uint64_t n)
{
    if (n >= 1000) {
        show_count(out, n / 1000);
        buf_printf(out, ",%03u", (unsigned)(n % 1000));
    } else {
        buf_printf(out, "%u", (unsigned)n);
    }
}

void show_bytes(struct buf *out, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)n;
    unsigned i = 0;

    while (value >= 1024 && i + 1 < COUNT_OF(units)) {
        value /= 1024;
        i++;
    }
    buf_printf(out, i ? "%.1f %s" : "%.0f %s", value, units[i]);
}

void show_span(struct buf *out, int64_t ms)
{
    int64_t s = ms > 0 ? ms / 1000 : 0;

    if (s < 60)
        buf_printf(out, "%" PRId64 " s", s);
    else if (s < 3600)
        buf_printf(out, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else if (s < 86400)
        buf_printf(out, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else
        buf_printf(out, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
}

void show_since(struct buf *out, int64_t ms, int64_t now_ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[32];

    if (!ms || !localtime_r(&s, &tm) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm))
        return;
    buf_printf(out, "since %s (", text);
    show_span(out, now_ms - ms);
    buf_add_u8(out, ')');
}

uint64_t number_of(yyjson_val *object, const char *member)
{
    int64_t n = 0;

    return json_to_i64(json_get(object, str_from(member)), &n) || n < 0 ? 0 : (uint64_t)n;
}

struct str text_of(yyjson_val *object, const char *member)
{
    return json_str(json_get(object, str_from(member)));
}

bool is_true(yyjson_val *object, const char *member)
{
    return yyjson_is_true(json_get(object, str_from(member)));
}
