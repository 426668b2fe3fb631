/* SPDX-License-Identifier: Apache-2.0 */
/* Validates everything and says all that is wrong, at once. */
#include "cmd/cmd.h"
#include "cmd/kinds.h"
#include "gateway/gateway_sketch.h"

#include <stdio.h>
#include <sys/stat.h>

static const struct option_spec options[] = {
    {.name = "type",
     .letter = 't',
     .argument = "TYPE",
     .help = "what the FILEs are: gateway, logs, list, statistics, or a connector type"},
    {.name = "diff", .help = "ask the running gateway what a reload would change"},
    {.name = "json", .help = "print an object"},
    {.name = "quiet", .letter = 'q', .help = "print nothing but problems"},
    {.name = NULL}};

/* ---- which kind of file ---- */

struct guess {
    struct str stem;
    const char *type;
    size_t n;
};

/* A file named after its type: mqtt.json, mqtt_plant-2.json. The longest name wins. */
static void compare_stem(void *arg, const char *type)
{
    struct guess *guess = arg;
    size_t n = strlen(type);

    if (str_starts(guess->stem, str_from(type)) && n > guess->n &&
        (guess->stem.n == n || strchr("_-. 0123456789", guess->stem.p[n]))) {
        guess->type = type;
        guess->n = n;
    }
}

static struct str stem_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct str name = str_from(slash ? slash + 1 : path);

    if (str_ends(name, STR(".json")) || str_ends(name, STR(".yaml")))
        return str_cut(name, name.n - 5);
    return str_ends(name, STR(".yml")) ? str_cut(name, name.n - 4) : name;
}

/* By the keys that only one kind of file has, then by the name. NULL: cannot say. */
static const char *guess_type(const char *path, yyjson_val *root)
{
    static const struct {
        const char *key, *type;
    } signs[] = {
        {"thingsboard", "gateway"}, {"industryos", "gateway"}, {"platform", "gateway"}, {"formatters", "logs"},
        {"loggers", "logs"},        {"deny", "list"},          {"allow", "list"},       {"broker", "mqtt"},
    };
    struct guess guess = {.stem = stem_of(path)};

    for (size_t i = 0; i < COUNT_OF(signs); i++)
        if (json_get(root, str_from(signs[i].key)))
            return signs[i].type;
    for (const struct kind *kind = kinds; kind->name; kind++)
        compare_stem(&guess, kind->name);
    module_types.each(compare_stem, &guess);
    return guess.type;
}

static void add_type_name(void *arg, const char *type)
{
    buf_printf(arg, ", %s", type);
}

/* ---- files by themselves ---- */

static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = mem_dup(slash ? path : "./");

    if (slash)
        dir[slash - path + 1] = 0;
    return dir;
}

static void check_file(const char *path, const char *type, struct problems *problems)
{
    const struct conf_type *conf_type = NULL;
    autofree char *dir = dir_of(path);
    struct json_file *file = conf_read_file(path, problems);
    struct why why = {0};

    if (!file || gateway_report_sketch(file, problems)) {
        json_file_free(file);
        return;
    }
    if (!type)
        type = guess_type(path, json_file_root(file));
    if (type)
        conf_type = kind_type(type, NULL, &why);
    if (conf_type) {
        conf_unref(conf_load_json(conf_type, dir, file, NULL, 0, problems));
        return;
    }
    autobuf struct buf names = {0};

    json_file_free(file);
    module_types.each(add_type_name, &names);
    buf_add_u8(&names, 0);
    if (type)
        problem_add(problems, CONF_ERROR, &(struct conf_at){.file = path}, "type \"%s\": %s", type, why_text(&why));
    else
        problem_add(problems, CONF_ERROR, &(struct conf_at){.file = path},
                    "cannot tell what kind of file this is; say it with "
                    "--type: one of gateway, logs, list, statistics%s",
                    (const char *)names.p);
}

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- the report ---- */

static void add_count(struct buf *out, unsigned n, const char *what)
{
    if (n)
        buf_printf(out, "%u %s%s", n, what, n == 1 ? "" : "s");
    else
        buf_printf(out, "no %ss", what);
}

static void add_report(struct buf *out, const struct problems *problems, const char *what, bool is_quiet)
{
    for (const struct problem *problem = problems->first; problem; problem = problem->next) {
        problem_add_text(out, problem);
        buf_add_z(out, "\n");
        if (problem->example)
            buf_printf(out, "%s\n", problem->example);
    }
    if (is_quiet)
        return;
    buf_printf(out, "%s: ", what);
    add_count(out, problems->n_errors, "error");
    buf_add_z(out, ", ");
    add_count(out, problems->n_warnings, "warning");
    buf_add_z(out, "\n");
}

static void add_json_report(struct buf *out, const struct problems *problems)
{
    buf_printf(out, "{\"errors\":%u,\"warnings\":%u,\"problems\":[", problems->n_errors, problems->n_warnings);
    for (const struct problem *problem = problems->first; problem; problem = problem->next) {
        problem_add_json(out, problem);
        if (problem->next)
            buf_add_z(out, ",");
    }
    buf_add_z(out, "]}\n");
}

static int run(const struct command_line *line)
{
    struct problems problems;
    autobuf struct buf out = {0}, dir = {0}, file = {0};
    const char *type = command_option(line, "type"), *what = "checked";
    int code;

    if (command_has(line, "diff"))
        return line->n_args ? command_usage(line, "--diff is about all files, and takes none") : steer_preview(line);
    problems_init(&problems);
    for (unsigned i = 0; i < line->n_args; i++) {
        if (is_directory(line->args[i]))
            gateway_conf_free(gateway_conf_load(line->args[i], &module_types, &problems));
        else
            check_file(line->args[i], type, &problems);
        what = line->args[i];
    }
    if (!line->n_args) {
        gateway_conf_dir(&dir, &file, line->config);
        buf_add_u8(&file, 0);
        what = (const char *)file.p;
        gateway_conf_free(gateway_conf_load(line->config, &module_types, &problems));
    }
    if (line->n_args > 1)
        what = "all files";
    if (command_has(line, "json"))
        add_json_report(&out, &problems);
    else
        add_report(&out, &problems, what, command_has(line, "quiet"));
    code = problems.n_errors ? EXIT_CONFIG : EXIT_DONE;
    problems_fini(&problems);
    return command_print(&out) ? code : EXIT_FAILED;
}

const struct command_spec cmd_check = {
    .name = "check",
    .arguments = "[FILE…]",
    .summary = "validate the configuration and print every problem",
    .text =
        "Without FILE: the main file and all that it names, as run would read them. With FILE: just those files, whose "
        "kind is told from content and name, or by --type.\n\n"
        "Each problem is one line: FILE:LINE:COLUMN: PATH: what was found; what is expected; what happens. Lines with "
        "\"warning\" or \"note\" behind the path are no errors. Exit code 78 if there are errors, else 0.",
    .options = options,
    .max_args = COMMAND_ANY,
    .choices = "",
    .run = run};
