/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ota.h"

#include "base/digest.h"
#include "base/file.h"
#include "data/json.h"
#include "io/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CHUNK_MAX = 16 * 1024,
    CHUNK_MS = 20 * 1000,
    TRIES_MAX = 5,
    CLOSES_MAX = 10,         /* sessions that end instead of sending one chunk */
    CLOSED_PAUSE_MS = 10000, /* after the second one; doubles */
    CLOSED_PAUSE_MAX_MS = 3600 * 1000,
    HOOK_MS = 3600 * 1000,
    TEXT_MAX = 256, /* of title and version */
    HEX_MAX = 129,
    INSTALLED_MAX = 4096
};

/*
 *   IDLE ──assigned──► DOWNLOADING ──all chunks──► VERIFYING ──► UPDATING ──hook ends──► IDLE
 *                        │      ▲ loss of session: the same chunk again, after a pause that grows
 *                        └──────┴───────────── whatever fails: IDLE, FAILED is told
 */
enum step { STEP_IDLE, STEP_DOWNLOADING, STEP_VERIFYING, STEP_UPDATING };

struct firmware {
    char title[TEXT_MAX], version[TEXT_MAX], checksum[HEX_MAX];
    uint32_t size;
    enum digest digest;
};

struct ota {
    struct ota_conf conf;
    struct north *north;
    char *hook, *path, *folder, *installed_path;
    char title[TEXT_MAX], version[TEXT_MAX]; /* installed */
    struct firmware target, failed;
    enum step step;
    const char *state; /* as told last; NULL: nothing to tell */
    char error[200];
    bool is_asking, ask_again, is_stopped;

    /* download */
    uint64_t request;
    uint32_t i_chunk, chunk_n, n_done;
    unsigned n_tries;
    bool is_awaiting; /* a chunk */
    bool is_pausing;
    unsigned n_closes;      /* of the session, while this chunk was awaited */
    uint64_t not_before_ms; /* monotonic; it is asked for again */
    struct timer timer;

    /* one job in the worker pool at a time */
    struct work work;
    bool is_working, has_new_target;
    struct firmware next;
    struct buf bytes;
    struct why why;
    enum err err;

    struct child *child;
};

/* --- telling --------------------------------------------------------------------------------------------------------------- */

static void tell(struct ota *o)
{
    autobuf struct buf json = {0};

    if (!o->state || !north_is_ready(o->north))
        return;
    buf_add_z(&json, "{\"current_fw_title\":");
    json_add_string(&json, str_from(o->title));
    buf_add_z(&json, ",\"current_fw_version\":");
    json_add_string(&json, str_from(o->version));
    buf_printf(&json, ",\"fw_state\":\"%s\"", o->state);
    if (o->error[0]) {
        buf_add_z(&json, ",\"fw_error\":");
        json_add_string(&json, str_from(o->error));
    }
    buf_add_u8(&json, '}');
    north_own_telemetry(o->north, buf_str(&json));
}

static void enter(struct ota *o, const char *state)
{
    o->state = state;
    LOG_INFO(o->conf.log, "firmware", KV_Z("state", state), KV_Z("title", o->target.title),
             KV_Z("version", o->target.version));
    tell(o);
    o->error[0] = 0;
}

static void begin(struct ota *o);

static void ended(struct ota *o)
{
    o->step = STEP_IDLE;
    o->is_awaiting = o->is_pausing = false;
    timer_stop(&o->timer);
    if (o->has_new_target)
        begin(o);
}

static void fail(struct ota *o, const char *reason)
{
    LOG_ERROR(o->conf.log, "the firmware is not installed", KV_Z("reason", reason), KV_Z("title", o->target.title),
              KV_Z("version", o->target.version));
    snprintf(o->error, sizeof o->error, "%s", reason);
    o->failed = o->target;
    o->state = "FAILED";
    tell(o);
    (void)unlink(o->path);
    ended(o);
}

/* --- the hook -------------------------------------------------------------------------------------------------------------- */

static void note_installed(void *arg)
{
    struct ota *o = arg;
    autobuf struct buf json = {0};

    buf_add_z(&json, "{\"title\":");
    json_add_string(&json, str_from(o->title));
    buf_add_z(&json, ",\"version\":");
    json_add_string(&json, str_from(o->version));
    buf_add_z(&json, "}\n");
    o->err = file_put(o->installed_path, buf_str(&json), FILE_REPLACE, NULL, &o->why);
    (void)unlink(o->path);
}

static void is_noted(void *arg)
{
    struct ota *o = arg;

    o->is_working = false;
    if (o->err)
        LOG_WARN(o->conf.log, "which firmware is installed cannot be noted, it will be installed again after a restart",
                 KV_WHY(&o->why));
    enter(o, "UPDATED");
    ended(o);
}

static void hook_wrote(void *arg, struct str bytes)
{
    struct ota *o = arg;

    LOG_DEBUG(o->conf.log, "firmware hook", KV_STR("output", str_cut(bytes, bytes.n < 1000 ? bytes.n : 1000)));
}

static void work_on(struct ota *o, void (*run)(void *), void (*done)(void *))
{
    assert(!o->is_working);
    o->is_working = true;
    o->why = (struct why){0};
    o->err = ERR_OK;
    work_start(&o->work, o->conf.loop, run, done, o);
}

static void hook_ended(void *arg, int64_t status, int number)
{
    struct ota *o = arg;
    char reason[80];

    o->child = NULL;
    timer_stop(&o->timer);
    if (status || number) {
        snprintf(reason, sizeof reason, number ? "the hook was ended by signal %d" : "the hook ended with code %d",
                 number ? number : (int)status);
        fail(o, reason);
        return;
    }
    memcpy(o->title, o->target.title, sizeof o->title);
    memcpy(o->version, o->target.version, sizeof o->version);
    work_on(o, note_installed, is_noted);
}

static void run_hook(struct ota *o)
{
    const char *const argv[] = {o->hook, o->path, o->target.title, o->target.version, NULL};
    const struct child_conf conf = {
        .argv = argv, .has_errors_in_output = true, .output = hook_wrote, .ended = hook_ended, .arg = o};
    struct why why = {0};

    o->step = STEP_UPDATING;
    enter(o, "UPDATING");
    if (child_start(&o->child, o->conf.loop, &conf, &why)) {
        o->child = NULL;
        fail(o, why_text(&why));
        return;
    }
    timer_start(&o->timer, HOOK_MS);
}

/* --- comparing ------------------------------------------------------------------------------------------------------------ */

static void compare(void *arg)
{
    struct ota *o = arg;
    autobuf struct buf hex = {0};
    int fd = open(o->path, O_RDWR | O_CLOEXEC);
    struct stat stat;
    void *p;

    if (fd < 0 || fsync(fd) || fstat(fd, &stat) || stat.st_size != o->target.size) {
        o->err = why_set(&o->why, ERR_IO, "%s cannot be read back", o->path);
    } else if ((p = mmap(NULL, o->target.size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED) {
        o->err = why_set(&o->why, ERR_IO, "%s: %s", o->path, strerror(errno));
    } else {
        digest_hex(&hex, o->target.digest, p, o->target.size);
        munmap(p, o->target.size);
        buf_add_u8(&hex, 0);
        if (!str_eq_nocase(str_from((char *)hex.p), str_from(o->target.checksum)))
            o->err = why_set(&o->why, ERR_PROTO, "its checksum is %s, expected %s", (char *)hex.p, o->target.checksum);
    }
    if (fd >= 0)
        close(fd);
}

static void is_compared(void *arg)
{
    struct ota *o = arg;

    o->is_working = false;
    if (o->is_stopped)
        return;
    if (o->err) {
        fail(o, why_text(&o->why));
        return;
    }
    enter(o, "VERIFIED");
    if (o->has_new_target)
        ended(o);
    else
        run_hook(o);
}

/* --- loading --------------------------------------------------------------------------------------------------------------- */

static void ask_chunk(struct ota *o)
{
    if (!north_is_ready(o->north) || o->is_working)
        return; /* asked when there is a session */
    o->is_awaiting = true;
    north_firmware_request(o->north, ++o->request, o->i_chunk, o->chunk_n);
    timer_start(&o->timer, CHUNK_MS);
}

/* A platform that ends the session instead of sending a chunk would end each one. */
static void go_on(struct ota *o)
{
    if (loop_mono_ms(o->conf.loop) >= o->not_before_ms) {
        ask_chunk(o);
        return;
    }
    o->is_pausing = true;
    timer_start_at(&o->timer, o->not_before_ms);
}

static void session_ended(struct ota *o)
{
    uint64_t pause_ms = CLOSED_PAUSE_MS;

    timer_stop(&o->timer);
    o->is_pausing = false;
    if (!o->is_awaiting)
        return;
    o->is_awaiting = false;
    if (++o->n_closes < 2)
        return; /* once may be an accident */
    if (o->n_closes >= CLOSES_MAX) {
        fail(o, "the platform ends the session instead of sending it");
        return;
    }
    for (unsigned i = 2; i < o->n_closes && pause_ms < CLOSED_PAUSE_MAX_MS; i++)
        pause_ms *= 2;
    pause_ms = pause_ms < CLOSED_PAUSE_MAX_MS ? pause_ms : CLOSED_PAUSE_MAX_MS;
    o->not_before_ms = loop_mono_ms(o->conf.loop) + pause_ms;
    snprintf(o->error, sizeof o->error,
             "the session has ended %u times while chunk %" PRIu32 " was awaited; it is asked for again in %" PRIu64
             " s",
             o->n_closes, o->i_chunk, pause_ms / 1000);
    LOG_WARN(o->conf.log, "firmware", KV_Z("trouble", o->error));
}

static void write_chunk(void *arg)
{
    struct ota *o = arg;
    int fd = open(o->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (o->n_done ? 0 : O_TRUNC), 0600);
    size_t done = 0;

    while (fd >= 0 && done < o->bytes.n) {
        ssize_t n = pwrite(fd, o->bytes.p + done, o->bytes.n - done, (off_t)(o->n_done + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (fd < 0 || done < o->bytes.n)
        o->err = why_set(&o->why, ERR_IO, "%s: %s", o->path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void is_written(void *arg)
{
    struct ota *o = arg;

    o->is_working = false;
    if (o->is_stopped)
        return;
    if (o->err) {
        fail(o, why_text(&o->why));
        return;
    }
    o->n_done += (uint32_t)o->bytes.n;
    o->i_chunk++;
    o->n_tries = o->n_closes = 0;
    o->not_before_ms = 0;
    o->error[0] = 0;
    if (o->has_new_target) {
        ended(o);
    } else if (o->n_done < o->target.size) {
        ask_chunk(o);
    } else {
        timer_stop(&o->timer);
        o->step = STEP_VERIFYING;
        enter(o, "DOWNLOADED");
        work_on(o, compare, is_compared);
    }
}

void ota_chunk(struct ota *o, uint64_t request, uint64_t chunk, struct str bytes)
{
    uint32_t expected;

    if (!o || o->step != STEP_DOWNLOADING || !o->is_awaiting || request != o->request || chunk != o->i_chunk)
        return;
    expected = o->target.size - o->n_done < o->chunk_n ? o->target.size - o->n_done : o->chunk_n;
    o->is_awaiting = false;
    timer_stop(&o->timer);
    if (bytes.n != expected) {
        char reason[120];

        snprintf(reason, sizeof reason, "chunk %" PRIu32 " has %zu bytes, expected %" PRIu32, o->i_chunk, bytes.n,
                 expected);
        fail(o, reason);
        return;
    }
    o->bytes.n = 0;
    buf_add_str(&o->bytes, bytes);
    work_on(o, write_chunk, is_written);
}

static void timed_out(void *arg)
{
    struct ota *o = arg;

    if (o->step == STEP_UPDATING && o->child) {
        LOG_ERROR(o->conf.log, "the firmware hook takes too long, it is ended");
        child_signal(o->child, SIGKILL);
        return;
    }
    if (o->step != STEP_DOWNLOADING)
        return;
    if (o->is_pausing) {
        o->is_pausing = false;
        ask_chunk(o);
        return;
    }
    if (++o->n_tries == TRIES_MAX)
        fail(o, "the platform does not send it");
    else
        ask_chunk(o);
}

static bool is_same(const struct firmware *a, const struct firmware *b)
{
    return strcmp(a->title, b->title) == 0 && strcmp(a->version, b->version) == 0 && a->size == b->size &&
           a->digest == b->digest && strcmp(a->checksum, b->checksum) == 0;
}

static void begin(struct ota *o)
{
    uint32_t limit = north_status(o->north).payload_limit;

    o->has_new_target = false;
    o->target = o->next;
    if (strcmp(o->target.title, o->title) == 0 && strcmp(o->target.version, o->version) == 0)
        return;
    o->step = STEP_DOWNLOADING;
    o->i_chunk = o->n_done = o->n_tries = o->n_closes = 0;
    o->not_before_ms = 0;
    o->chunk_n = limit && limit < CHUNK_MAX ? limit : CHUNK_MAX;
    if (mkdir(o->folder, 0700) && errno != EEXIST) {
        fail(o, "its directory cannot be made");
        return;
    }
    enter(o, "DOWNLOADING");
    ask_chunk(o);
}

/* --- what is assigned ------------------------------------------------------------------------------------------------------ */

static bool take_text(char *out, size_t size, yyjson_val *value)
{
    struct str text = json_str(value);

    if (!text.n || text.n >= size || memchr(text.p, 0, text.n))
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = 0;
    return true;
}

/* NULL: it can be used. */
static const char *read_target(struct firmware *out, yyjson_val *shared)
{
    int64_t size;

    *out = (struct firmware){0};
    if (!take_text(out->title, sizeof out->title, json_get(shared, STR("fw_title"))) ||
        !take_text(out->version, sizeof out->version, json_get(shared, STR("fw_version"))))
        return "fw_title or fw_version is no text of 1 to 255 bytes";
    if (json_to_i64(json_get(shared, STR("fw_size")), &size) || size < 1 || size > OTA_MAX)
        return "fw_size is not from 1 to 1073741824";
    out->size = (uint32_t)size;
    if (!digest_by_name(&out->digest, json_str(json_get(shared, STR("fw_checksum_algorithm")))))
        return "fw_checksum_algorithm is not known";
    if (!take_text(out->checksum, sizeof out->checksum, json_get(shared, STR("fw_checksum"))) ||
        strlen(out->checksum) != 2 * digest_size(out->digest))
        return "fw_checksum has not the length that belongs to its algorithm";
    return NULL;
}

static void ask(struct ota *o);

static void answered(void *arg, enum err err, yyjson_val *root)
{
    struct ota *o = arg;
    yyjson_val *shared = json_get(root, STR("shared"));
    const char *reason;

    o->is_asking = false;
    if (o->is_stopped)
        return;
    if (o->ask_again) {
        o->ask_again = false;
        ask(o);
        return;
    }
    if (err || !json_get(shared, STR("fw_title")) || yyjson_is_null(json_get(shared, STR("fw_title"))))
        return; /* none is assigned, or the next session asks again */
    reason = read_target(&o->next, shared);
    if (reason) {
        LOG_WARN(o->conf.log, "firmware that the platform assigns cannot be used", KV_Z("reason", reason));
        return;
    }
    if (o->step == STEP_DOWNLOADING && is_same(&o->next, &o->target)) {
        if (!o->is_awaiting && !o->is_pausing)
            go_on(o);
        return;
    }
    if (is_same(&o->next, o->step == STEP_IDLE ? &o->failed : &o->target))
        return;
    o->has_new_target = true;
    if (o->step == STEP_DOWNLOADING && !o->is_working)
        ended(o);
    else if (o->step == STEP_IDLE)
        begin(o);
}

static void ask(struct ota *o)
{
    const struct str keys[] = {STR("fw_title"), STR("fw_version"), STR("fw_size"), STR("fw_checksum"),
                               STR("fw_checksum_algorithm")};

    if (o->is_asking) {
        o->ask_again = true;
        return;
    }
    o->is_asking = true;
    north_request_own_attributes(o->north, NULL, 0, keys, COUNT_OF(keys), answered, o);
}

void ota_attributes(struct ota *o, yyjson_val *root)
{
    if (!o || o->is_stopped || (!json_get(root, STR("fw_title")) && !json_get(root, STR("fw_version"))))
        return;
    o->failed = (struct firmware){0};
    ask(o);
}

void ota_state(struct ota *o, enum uplink_state state)
{
    if (!o || o->is_stopped)
        return;
    if (state == UPLINK_READY) {
        tell(o);
        ask(o);
    } else if (o->step == STEP_DOWNLOADING) {
        session_ended(o);
    }
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static char *joined(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 1;
    char *path = mem_new(n);

    snprintf(path, n, "%s%s", dir, name);
    return path;
}

static void read_installed(struct ota *o)
{
    autobuf struct buf text = {0};
    yyjson_doc *doc;
    yyjson_val *root;

    snprintf(o->title, sizeof o->title, "Initial");
    snprintf(o->version, sizeof o->version, "v0");
    if (file_read(&text, o->installed_path, INSTALLED_MAX, NULL))
        return;
    doc = json_read(buf_str(&text), NULL);
    root = yyjson_doc_get_root(doc);
    if (!take_text(o->title, sizeof o->title, json_get(root, STR("title"))) ||
        !take_text(o->version, sizeof o->version, json_get(root, STR("version"))))
        LOG_WARN(o->conf.log, "the note of the installed firmware cannot be used", KV_Z("path", o->installed_path));
    yyjson_doc_free(doc);
}

struct ota *ota_new(const struct ota_conf *conf)
{
    struct ota *o = mem_zero(sizeof *o);

    o->conf = *conf;
    o->hook = joined(conf->hook[0] == '/' ? "" : conf->dir, conf->hook);
    o->folder = joined(conf->dir, "firmware");
    o->path = joined(conf->dir, "firmware/firmware.bin");
    o->installed_path = joined(conf->dir, "firmware/installed.json");
    timer_init(&o->timer, conf->loop, timed_out, o);
    read_installed(o);
    return o;
}

void ota_attach(struct ota *o, struct north *north)
{
    o->north = north;
}

void ota_stop(struct ota *o)
{
    if (!o)
        return;
    o->is_stopped = true;
    timer_stop(&o->timer);
    if (o->child) {
        LOG_WARN(o->conf.log, "the firmware hook is ended with the gateway, it will be run again after the next start");
        child_abandon(o->child);
    }
    o->child = NULL;
}

void ota_free(struct ota *o)
{
    if (!o)
        return;
    timer_stop(&o->timer);
    mem_free(o->hook);
    mem_free(o->folder);
    mem_free(o->path);
    mem_free(o->installed_path);
    buf_fini(&o->bytes);
    mem_free(o);
}
