/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/subject.h"

static void print_problem(const struct problem *problem)
{
    autobuf struct buf text = {0};

    problem_add_text(&text, problem);
    fprintf(stderr, "%.*s\n", (int)text.n, (const char *)text.p);
}

/* Those of one file; path NULL: all. Gives the number of errors. */
static unsigned print_problems(const struct problems *problems, const char *path)
{
    unsigned n = 0;

    for (const struct problem *problem = problems->first; problem; problem = problem->next) {
        if (path && (!problem->file || strcmp(problem->file, path) != 0))
            continue;
        print_problem(problem);
        n += problem->severity == CONF_ERROR;
    }
    return n;
}

static int load_file(struct subject *subject, const struct command_line *line, const char *path)
{
    const char *slash = strrchr(path, '/');
    autofree char *dir = mem_dup(slash ? path : ".");
    struct problems problems;
    struct why why = {0};

    subject->type = module_load(line->args[0], &why);
    if (!subject->type)
        return command_fail(line, EXIT_FAILED, "type \"%s\": %s", line->args[0], why_text(&why));
    if (slash)
        dir[slash - path + (slash == path)] = 0;
    problems_init(&problems);
    subject->own = gateway_conf_load_connector(&module_types, line->args[0], dir, path, &problems);
    subject->n_errors = print_problems(&problems, NULL);
    problems_fini(&problems);
    subject->name = line->args[0];
    subject->file = subject->own;
    subject->conf = subject->own ? conf_root(subject->own) : NULL;
    return subject->conf ? EXIT_DONE : EXIT_CONFIG;
}

static const struct gateway_connector *find_connector(const struct gateway_conf *conf, const char *name,
                                                      const struct gateway_connector **nearest)
{
    unsigned best = 4;

    *nearest = NULL;
    for (size_t i = 0; i < conf->n_connectors; i++) {
        unsigned distance = str_distance(str_from(conf->connectors[i].name), str_from(name), 3);

        if (strcmp(conf->connectors[i].name, name) == 0)
            return &conf->connectors[i];
        if (distance < best) {
            best = distance;
            *nearest = &conf->connectors[i];
        }
    }
    return NULL;
}

static int load_connector(struct subject *subject, const struct command_line *line,
                          const struct gateway_connector *found, const struct problems *problems)
{
    struct why why = {0};

    subject->n_errors = print_problems(problems, found->path);
    if (!found->conf) {
        if (subject->n_errors == 0)
            command_fail(line, EXIT_CONFIG, "connector \"%s\": %s", found->name,
                         found->reason ? found->reason : "cannot be used");
        return EXIT_CONFIG;
    }
    subject->type = module_load(found->type, &why);
    if (!subject->type)
        return command_fail(line, EXIT_FAILED, "type \"%s\": %s", found->type, why_text(&why));
    subject->name = found->name;
    subject->file = found->conf;
    subject->conf = conf_root(found->conf);
    return EXIT_DONE;
}

static int load_named(struct subject *subject, const struct command_line *line)
{
    const char *name = line->args[0];
    const struct gateway_connector *found = NULL, *nearest = NULL;
    struct problems problems;
    int code = EXIT_CONFIG;

    problems_init(&problems);
    subject->gateway = gateway_conf_load(line->config, &module_types, &problems);
    if (subject->gateway)
        found = find_connector(subject->gateway, name, &nearest);
    if (found) {
        code = load_connector(subject, line, found, &problems);
    } else {
        print_problems(&problems, subject->gateway ? subject->gateway->path : NULL);
        if (nearest)
            command_fail(line, code, "there is no connector \"%s\"; did you mean \"%s\"?", name, nearest->name);
        else if (subject->gateway)
            command_fail(line, code, "there is no connector \"%s\"; a type and --file FILE try a file alone", name);
    }
    problems_fini(&problems);
    return code;
}

int subject_load(struct subject *subject, const struct command_line *line, const char *file)
{
    return file ? load_file(subject, line, file) : load_named(subject, line);
}

void subject_fini(struct subject *subject)
{
    conf_unref(subject->own);
    gateway_conf_free(subject->gateway);
}
