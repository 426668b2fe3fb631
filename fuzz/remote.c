/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any JSON as the gateway's own shared attributes: each member becomes a change of the files, which is loaded and compared with what
 * runs. Nothing is written.
 */
#include "fuzz.h"
#include "gateway/plan.h"
#include "gateway/remote_change.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct plain_conf {
    struct connector_common common;
    struct secret password;
    uint32_t port;
};
static const struct field plain_fields[] = {F_SECRET(struct plain_conf, password, "password"),
                                            F_UINT(struct plain_conf, port, "port", .max = 65535), F_END};
static const struct conf_type plain_type = {
    .name = "plain", .size = sizeof(struct plain_conf), .fields = plain_fields, .base = &connector_common_type};

static const struct conf_type *type_of(const char *type, struct why *why)
{
    if (strcmp(type, "plain") == 0)
        return &plain_type;
    why_set(why, ERR_NOTFOUND, "there is no such connector type");
    return NULL;
}

static void each_type(void (*fn)(void *arg, const char *type), void *arg)
{
    fn(arg, "plain");
}

static const struct gateway_types types = {type_of, each_type};
static char dir[] = "/tmp/iotgw-fuzz-remote-XXXXXX";
static struct gateway_conf *running;

static void put(const char *name, const char *text)
{
    char path[200];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "w");
    FUZZ_CHECK(file);
    fputs(text, file);
    fclose(file);
}

static void remove_dir(void)
{
    static const char *const names[] = {"tb_gateway.json", "a.json", "b.json", "statistics.json"};
    char path[200];

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void begin(void)
{
    struct problems problems;

    FUZZ_CHECK(mkdtemp(dir));
    atexit(remove_dir);
    put("tb_gateway.json",
        "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"t\"},\"statistics\":{\"enable\":true,"
        "\"configuration\":"
        "\"statistics.json\"}},\"storage\":{\"type\":\"memory\"},\"connectors\":[{\"type\":\"plain\",\"name\":\"A\","
        "\"configuration\":"
        "\"a.json\"},{\"type\":\"plain\",\"name\":\"B\",\"configuration\":\"b.json\"},{\"name\":5}]}");
    put("a.json", "{\"id\":\"ida\",\"port\":1,\"password\":\"deep\"}");
    put("b.json", "{\"id\":\"idb\",\"port\":2}");
    put("statistics.json", "[]");
    problems_init(&problems);
    running = gateway_conf_load(dir, &types, &problems);
    FUZZ_CHECK(running);
    problems_fini(&problems);
}

static enum remote_kind kind_of(struct str key)
{
    for (int kind = 0; kind < REMOTE_CONNECTOR; kind++)
        if (str_eq_z(key, remote_names[kind]))
            return (enum remote_kind)kind;
    return REMOTE_CONNECTOR;
}

/* Files never leave the directory; log handlers are looked at elsewhere. */
static void check_paths(const struct remote_change *change)
{
    for (size_t i = 0; i < change->n; i++) {
        struct str path = str_from(change->texts[i].path);

        FUZZ_CHECK(str_starts(path, str_from(running->dir)));
        FUZZ_CHECK(str_chr(str_skip(path, strlen(running->dir)), '/') == path.n - strlen(running->dir));
    }
}

static void load(const struct remote_change *change)
{
    struct problems problems;
    struct gateway_conf *after;

    problems_init(&problems);
    after = gateway_conf_load_again(running, change->texts, change->n, &types, &problems);
    if (after) {
        struct plan *plan = plan_new(running, after, NULL, NULL);
        autobuf struct buf text = {0};

        plan_add_text(&text, plan);
        for (const struct problem *problem = problems.first; problem; problem = problem->next)
            (void)plan_is_old_problem(running, after, problem);
        plan_free(plan);
    }
    FUZZ_CHECK(after || problems.n_errors);
    gateway_conf_free(after);
    problems_fini(&problems);
}

static void take(const struct remote_files *files, struct str key, yyjson_val *value)
{
    struct remote_change change;
    struct why why = {0};
    enum err err = remote_change_make(&change, running, files, kind_of(key), value, true, &why);

    FUZZ_CHECK(!err || (change.n == 0 && *why_text(&why)));
    check_paths(&change);
    if (!err && change.n)
        load(&change);
    remote_change_fini(&change);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct remote_files files;
    yyjson_doc *doc;
    yyjson_val *key, *value;
    size_t i, n;

    if (!running)
        begin();
    doc = json_read(str_of(data, size), NULL); /* as north does */
    remote_files_init(&files, running);
    remote_files_look(&files);
    yyjson_obj_foreach(yyjson_doc_get_root(doc), i, n, key, value) take(&files, json_str(key), value);
    remote_files_fini(&files);
    yyjson_doc_free(doc);
    return 0;
}
