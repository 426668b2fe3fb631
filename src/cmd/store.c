/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the directory of a file or sqlite store, read without changing anything in it. */
#include "cmd/talk.h"
#include "data/json.h"
#include "store/file_format.h"
#include "store/sqlite.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { FLUSH = 64 * 1024 };

struct seen {                                        /* in one segment, or in all */
    uint64_t n_records, n_events, n_values, n_bytes; /* not acknowledged */
    uint64_t n_acked_bytes;
    unsigned n_bad;
    uint64_t n_bad_bytes;
    int64_t oldest_ms;
};

struct job {
    const struct command_line *line;
    const struct file_io *io;
    const char *type;
    int dir;
    struct state state;
    enum err state_err;
    struct found_segment *segments;
    size_t n_segments;
    struct buf out;
    struct seen all;
    unsigned n_problems;
    bool failed; /* standard output takes no more */
};

/* What is done with each segment: called with its records, then once with what was seen. */
struct action {
    void (*record)(struct job *job, const struct found_segment *segment, const struct walk *walk, bool is_acked);
    void (*bad)(struct job *job, const struct found_segment *segment, const struct walk *walk);
    void (*segment)(struct job *job, const struct found_segment *segment, const struct seen *seen, enum err head);
};

static void flush(struct job *job, size_t above)
{
    if (job->out.n <= above)
        return;
    job->failed |= !command_print(&job->out);
    job->out.n = 0;
}

/* --- walking ---------------------------------------------------------------------------------------------------------- */

static void note_record(struct seen *seen, const struct walk *walk)
{
    const struct record *record = walk->record;

    seen->n_records++;
    seen->n_events += (record->flags & RECORD_END) != 0;
    seen->n_values += record->n_values;
    seen->n_bytes += record->size;
    if (walk->group.wall_ms && (!seen->oldest_ms || walk->group.wall_ms < seen->oldest_ms))
        seen->oldest_ms = walk->group.wall_ms;
}

static void add_seen(struct seen *to, const struct seen *seen)
{
    to->n_records += seen->n_records;
    to->n_events += seen->n_events;
    to->n_values += seen->n_values;
    to->n_bytes += seen->n_bytes;
    to->n_acked_bytes += seen->n_acked_bytes;
    to->n_bad += seen->n_bad;
    to->n_bad_bytes += seen->n_bad_bytes;
    if (seen->oldest_ms && (!to->oldest_ms || seen->oldest_ms < to->oldest_ms))
        to->oldest_ms = seen->oldest_ms;
}

static void walk_segment(struct job *job, const struct found_segment *found, const struct action *action)
{
    int fd = job->io->open(job->io, job->dir, found->name, O_RDONLY, 0);
    struct segment_head head = {0};
    struct seen seen = {0};
    struct walk walk;
    enum err err;

    if (fd < 0) {
        job->n_problems++;
        buf_printf(&job->out, "%s: %s\n", found->name, err_text(err_from_errno(errno)));
        return;
    }
    (void)file_io_read_all(job->io, fd, &head, sizeof head, 0);
    err = segment_head_check(&head);
    const struct state_segment *known = err ? NULL : state_find(&job->state, found->base, head.boot);
    uint64_t end = known && known->end && known->end < found->size ? known->end : found->size;

    if (found->end < end)
        end = found->end;
    walk_init(&walk, job->io, fd, sizeof head, err == ERR_UNSUPPORTED ? sizeof head : end);
    for (enum walk_step step; (step = walk_next(&walk)) != WALK_END && !job->failed;) {
        bool is_acked = known && walk.off <= known->acked;

        if (step == WALK_RECORD && is_acked)
            seen.n_acked_bytes += walk.record->size;
        else if (step == WALK_RECORD)
            note_record(&seen, &walk);
        if (step == WALK_RECORD && action->record)
            action->record(job, found, &walk, is_acked);
        if (step == WALK_BAD && !(walk.is_zero && walk.off >= walk.end)) {
            seen.n_bad++;
            seen.n_bad_bytes += walk.off - walk.from;
            if (action->bad)
                action->bad(job, found, &walk);
        }
    }
    walk_fini(&walk);
    job->io->close(job->io, fd);
    add_seen(&job->all, &seen);
    if (action->segment)
        action->segment(job, found, &seen, err);
    flush(job, 0);
}

/* --- verify ------------------------------------------------------------------------------------------------------------- */

static void verify_bad(struct job *job, const struct found_segment *segment, const struct walk *walk)
{
    job->n_problems++;
    buf_printf(&job->out, "%s: bytes %" PRIu64 " to %" PRIu64 ": %s\n", segment->name, walk->from, walk->off,
               walk->off >= walk->end ? "torn end, or corrupt" : "corrupt");
}

static void verify_segment(struct job *job, const struct found_segment *segment, const struct seen *seen, enum err head)
{
    if (head == ERR_UNSUPPORTED) {
        job->n_problems++;
        buf_printf(&job->out, "%s: written by a newer version, not read\n", segment->name);
        return;
    }
    if (head) {
        job->n_problems++;
        buf_printf(&job->out, "%s: its head is corrupt; its records are found without it\n", segment->name);
    }
    buf_printf(&job->out, "%s: %" PRIu64 " records wait, %" PRIu64 " values; %s\n", segment->name, seen->n_records,
               seen->n_values, seen->n_bad || head ? "damaged" : "ok");
}

static int verify(struct job *job)
{
    static const struct action action = {.bad = verify_bad, .segment = verify_segment};

    if (job->state_err && job->state_err != ERR_NOTFOUND) { /* none: nothing was acknowledged yet */
        job->n_problems++;
        buf_printf(&job->out, "state: %s; all records count as waiting\n", err_text(job->state_err));
    }
    for (size_t i = 0; i < job->n_segments; i++)
        walk_segment(job, &job->segments[i], &action);
    buf_printf(&job->out, "%zu segments, %u problems\n", job->n_segments, job->n_problems);
    return job->n_problems ? EXIT_FAILED : EXIT_DONE;
}

/* --- dump ----------------------------------------------------------------------------------------------------------------- */

static void dump_record(struct job *job, const struct found_segment *segment, const struct walk *walk, bool is_acked)
{
    static const char *const kinds[] = {[RECORD_TELEMETRY] = "telemetry",
                                        [RECORD_ATTRIBUTES] = "attributes",
                                        [RECORD_CONNECT] = "connect",
                                        [RECORD_DISCONNECT] = "disconnect"};
    const struct record *record = walk->record;
    bool is_telemetry = record->kind == RECORD_TELEMETRY, has_values = record->n_values > 0;

    if (is_acked && !command_has(job->line, "all"))
        return;
    buf_printf(&job->out, "{\"position\":%" PRIu64 ",\"stored\":%" PRId64 ",\"kind\":\"%s\",\"device\":",
               segment->base + walk->from, walk->group.wall_ms, kinds[record->kind]);
    json_add_string(&job->out, record_name(record));
    buf_add_z(&job->out, ",\"profile\":");
    json_add_string(&job->out, record_profile(record));
    if (is_telemetry && !(record->flags & RECORD_NO_TS))
        buf_printf(&job->out, record->flags & RECORD_TIME_UNSURE ? ",\"sinceBoot\":%" PRId64 : ",\"ts\":%" PRId64,
                   record->ts);
    if (is_acked)
        buf_add_z(&job->out, ",\"acknowledged\":true");
    if (has_values) {
        buf_add_z(&job->out, ",\"values\":{");
        buf_add_str(&job->out, record_body(record));
        buf_add_u8(&job->out, '}');
    }
    buf_add_z(&job->out, "}\n");
    flush(job, FLUSH);
}

static void dump_bad(struct job *job, const struct found_segment *segment, const struct walk *walk)
{
    job->n_problems++;
    fprintf(stderr, "iotgw store: %s: bytes %" PRIu64 " to %" PRIu64 " cannot be read\n", segment->name, walk->from,
            walk->off);
}

static int dump(struct job *job)
{
    static const struct action action = {.record = dump_record, .bad = dump_bad};

    for (size_t i = 0; i < job->n_segments; i++)
        walk_segment(job, &job->segments[i], &action);
    return job->n_problems ? EXIT_FAILED : EXIT_DONE;
}

/* --- stats ------------------------------------------------------------------------------------------------------------------ */

static int stats(struct job *job)
{
    static const struct action action = {0};
    const struct seen *all = &job->all;
    uint64_t n_file_bytes = 0;
    int64_t age_s;

    for (size_t i = 0; i < job->n_segments; i++) {
        n_file_bytes += job->segments[i].size;
        walk_segment(job, &job->segments[i], &action);
    }
    age_s = all->oldest_ms ? (clock_wall_ms() - all->oldest_ms) / 1000 : 0;
    age_s = age_s > 0 ? age_s : 0;
    if (command_has(job->line, "json"))
        buf_printf(&job->out,
                   "{\"type\":\"%s\",\"segments\":%zu,\"fileBytes\":%" PRIu64 ",\"events\":%" PRIu64
                   ",\"values\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"oldestSeconds\":%" PRId64
                   ",\"acknowledgedValues\":%" PRIu64 ",\"droppedEvents\":%" PRIu64 ",\"droppedValues\":%" PRIu64
                   ",\"corruptStretches\":%u}\n",
                   job->type, job->n_segments, n_file_bytes, all->n_events, all->n_values, all->n_bytes, age_s,
                   job->state.n_acked_values, job->state.n_dropped_events, job->state.n_dropped_values, all->n_bad);
    else
        buf_printf(&job->out,
                   "type               %s\n"
                   "segments           %zu, %" PRIu64 " bytes on the disk\n"
                   "waiting            %" PRIu64 " events, %" PRIu64 " values, %" PRIu64 " bytes\n"
                   "oldest             %" PRId64 " s\n"
                   "acknowledged       %" PRIu64 " values\n"
                   "dropped            %" PRIu64 " events, %" PRIu64 " values\n"
                   "corrupt stretches  %u\n",
                   job->type, job->n_segments, n_file_bytes, all->n_events, all->n_values, all->n_bytes, age_s,
                   job->state.n_acked_values, job->state.n_dropped_events, job->state.n_dropped_values, all->n_bad);
    return EXIT_DONE;
}

/* --- the command -------------------------------------------------------------------------------------------------------------- */

static const struct option_spec options[] = {
    {.name = "all", .letter = 'a', .help = "dump: also what is acknowledged and not yet removed"},
    {.name = "json", .help = "stats: print an object"},
    {.name = NULL}};

static int rejected(struct job *job)
{
    int fd = openat(job->dir, "rejected.jsonl", O_RDONLY | O_CLOEXEC);
    char bytes[16 * 1024];
    ssize_t n = 0;

    while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0) {
        buf_add(&job->out, bytes, (size_t)n);
        flush(job, FLUSH);
    }
    if (fd >= 0)
        close(fd);
    return EXIT_DONE;
}

static const struct {
    const char *name;
    int (*run)(struct job *job);
} jobs[] = {{"verify", verify}, {"dump", dump}, {"stats", stats}, {"rejected", rejected}};

static int run_job(struct job *job, int (*fn)(struct job *job), const char *path)
{
    enum err err = segments_find(job->io, job->dir, &job->segments, &job->n_segments);
    int code;

    if (err)
        return command_fail(job->line, EXIT_FAILED, "%s: %s", path, err_text(err));
    segments_order(job->io, job->dir, job->segments, job->n_segments);
    job->state_err = state_read(&job->state, job->io, job->dir);
    code = fn(job);
    flush(job, 0);
    return job->failed ? EXIT_FAILED : code;
}

static int run_kind(const struct command_line *line, int (*fn)(struct job *job), int dir, const struct file_io *io,
                    const char *type)
{
    struct job job = {.line = line, .io = io, .type = type, .dir = dir};
    int code = run_job(&job, fn, line->args[1]);

    state_fini(&job.state);
    mem_free(job.segments);
    buf_fini(&job.out);
    return code;
}

static int run_sqlite(const struct command_line *line, int (*fn)(struct job *job), int dir)
{
    struct why why = {0};
    const struct sqlite_api *api = sqlite_load(&why);
    const struct file_io *io;
    struct log log;
    int code;

    if (!api)
        return command_fail(line, EXIT_FAILED, "%s", why_text(&why));
    log_init(&log, "storage", LOG_LEVEL_WARN);
    io = api->look(line->args[1], &log);
    code = run_kind(line, fn, dir, io, "sqlite");
    io->free(io);
    log_fini(&log);
    return code;
}

/* An empty store has its state, at least. */
static bool has_leavings(int dir)
{
    static const char *const names[] = {"state", "events.state", "rejected.jsonl", "rejected.jsonl.1"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (faccessat(dir, names[i], F_OK, 0) == 0)
            return true;
    return false;
}

/* Both kinds may lie in one directory, when the configuration was changed. */
static int run_on(const struct command_line *line, int (*fn)(struct job *job), int dir)
{
    struct found_segment *segments = NULL;
    bool has_sqlite = sqlite_is_there(dir), is_used = flock(dir, LOCK_SH | LOCK_NB) != 0;
    int code = EXIT_DONE, other;
    size_t n = 0;
    enum err err;

    if (is_used)
        fprintf(stderr, "iotgw store: %s is in use by a gateway: what it does meanwhile may look like damage\n",
                line->args[1]);
    else
        flock(dir, LOCK_UN);
    err = segments_find(&file_io_system, dir, &segments, &n);
    if (!err && !n && !has_sqlite && !is_used && !has_leavings(dir)) {
        mem_free(segments);
        return command_fail(line, EXIT_FAILED, "%s: no storage lies there", line->args[1]);
    }
    if (err || n || !has_sqlite)
        code = run_kind(line, fn, dir, &file_io_system, "file");
    mem_free(segments);
    if (!has_sqlite)
        return code;
    other = run_sqlite(line, fn, dir);
    return code ? code : other;
}

/* --- of the running gateway ---------------------------------------------------------------------------------------------------- */

static int show_storage(const struct command_line *line, yyjson_val *status)
{
    yyjson_val *storage = json_get(status, STR("storage"));
    autobuf struct buf out = {0};

    if (command_has(line, "json")) {
        json_add_value(&out, storage);
        buf_add_u8(&out, '\n');
    } else {
        buf_add_z(&out, "type               ");
        show_text(&out, text_of(storage, "type"));
        buf_printf(&out,
                   "\nwaiting            %" PRIu64 " events, %" PRIu64 " values, %" PRIu64 " bytes\n"
                   "oldest             %" PRIu64 " s\n"
                   "acknowledged       %" PRIu64 " values\n"
                   "dropped            %" PRIu64 " events, %" PRIu64 " values\n",
                   number_of(storage, "events"), number_of(storage, "values"), number_of(storage, "bytes"),
                   number_of(storage, "oldestSeconds"), number_of(storage, "acknowledgedValues"),
                   number_of(storage, "droppedEvents"), number_of(storage, "droppedValues"));
        buf_printf(&out, "rejected           %" PRIu64 " values\n",
                   number_of(json_get(status, STR("ledger")), "rejected"));
        if (text_of(storage, "trouble").n) {
            buf_add_z(&out, "trouble            ");
            show_text(&out, text_of(storage, "trouble"));
            buf_add_u8(&out, '\n');
        }
    }
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

static bool print_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char bytes[16 * 1024];
    ssize_t n;

    if (fd < 0)
        return false;
    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        if (fwrite(bytes, 1, (size_t)n, stdout) != (size_t)n)
            break;
    close(fd);
    return true;
}

/* The older part first. None: nothing was rejected. */
static int show_rejected(const struct command_line *line, yyjson_val *status)
{
    autobuf struct buf path = {0}, older = {0};

    (void)line;
    buf_add_str(&path, text_of(json_get(status, STR("storage")), "rejectedFile"));
    buf_add_str(&older, buf_str(&path));
    buf_add(&older, ".1", 3);
    buf_add_u8(&path, 0);
    print_file((const char *)older.p);
    if (!print_file((const char *)path.p) && errno != ENOENT)
        return command_fail(line, EXIT_FAILED, "%s: %s", (const char *)path.p, err_text(err_from_errno(errno)));
    return fflush(stdout) ? EXIT_FAILED : EXIT_DONE;
}

static int run_there(const struct command_line *line)
{
    enum { TIMEOUT_MS = 10000 };
    struct talk talk;
    yyjson_val *status;
    bool is_rejected = line->n_args && strcmp(line->args[0], "rejected") == 0;
    int code;

    if (line->n_args && !is_rejected && strcmp(line->args[0], "stats") != 0)
        return command_usage(line, "%s what? The storage's DIR is missing", line->args[0]);
    code = talk_open(&talk, line);
    if (!code)
        code = talk_ask(&talk, "status", STR_NONE, TIMEOUT_MS, &status);
    if (!code)
        code = (is_rejected ? show_rejected : show_storage)(line, status);
    talk_close(&talk);
    return code;
}

static int run(const struct command_line *line)
{
    const char *path = line->args[1];

    if (line->n_args <= 1)
        return run_there(line);
    for (size_t i = 0; i < COUNT_OF(jobs); i++) {
        int code, dir;

        if (strcmp(line->args[0], jobs[i].name) != 0)
            continue;
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return command_fail(line, EXIT_FAILED, "%s: %s", path, err_text(err_from_errno(errno)));
        code = run_on(line, jobs[i].run, dir);
        close(dir);
        return code;
    }
    return command_usage(line, "found \"%s\"; expected verify, dump, stats or rejected", line->args[0]);
}

const struct command_spec cmd_store = {
    .name = "store",
    .arguments = "[verify|dump|stats|rejected [DIR]]",
    .summary = "look into the storage of the running gateway, or into a directory of one",
    .text =
        "Reads what storage type \"file\" or \"sqlite\" has in DIR and changes nothing; best while no gateway runs on "
        "it. "
        "verify: "
        "checks every byte, and says what is damaged (exit code 1). dump: one JSON line for each record that waits. "
        "stats: what waits, since when, and the totals of delivery.\n\n"
        "Without DIR the running gateway is asked. stats, or nothing: the same of its storage, of any type. rejected: "
        "what the "
        "platform "
        "would not take, a JSON line each.",
    .options = options,
    .max_args = 2,
    .choices = "verify dump stats rejected",
    .run = run};
