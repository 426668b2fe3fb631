/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "data/json.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_ARGS = 12 };

static char dir[64];

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct str read_back(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);

    assert_true(n >= 0);
    out[n] = 0;
    close(fd);
    return str_of(out, (size_t)n);
}

/* Runs the program with these arguments; what it wrote stands in out and errors until the next call. */
static char out[200000], errors[4000];
static int run(const char *arguments)
{
    char *argv[MAX_ARGS] = {"iotgw"}, *copy = mem_dup(arguments), *at = NULL;
    int argc = 1, code, saved_out, saved_err, out_fd, err_fd;

    for (char *arg = strtok_r(copy, " ", &at); arg; arg = strtok_r(NULL, " ", &at))
        argv[argc++] = arg;
    fflush(stdout);
    fflush(stderr);
    saved_out = dup(STDOUT_FILENO);
    saved_err = dup(STDERR_FILENO);
    out_fd = open(path_of("out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    err_fd = open(path_of("err"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(out_fd, STDOUT_FILENO);
    dup2(err_fd, STDERR_FILENO);
    code = command_main(argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_err, STDERR_FILENO);
    close(saved_out);
    close(saved_err);
    read_back(out_fd, out, sizeof out);
    read_back(err_fd, errors, sizeof errors);
    mem_free(copy);
    return code;
}

static int run_on(const char *before, const char *name, const char *after)
{
    char arguments[400];

    snprintf(arguments, sizeof arguments, "%s %s %s", before, path_of(name), after);
    return run(arguments);
}

static void test_wrong_usage_is_answered_with_64_and_the_nearest_word(void **state)
{
    static const struct {
        const char *arguments, *errors;
    } cases[] = {
        {"chek", "iotgw: unknown subcommand \"chek\"; did you mean \"check\"?\nTry: iotgw --help\n"},
        {"frobnicate", "iotgw: unknown subcommand \"frobnicate\"\nTry: iotgw --help\n"},
        {"check --jsn", "iotgw check: unknown option --jsn; did you mean --json?\nTry: iotgw check --help\n"},
        {"check -x", "iotgw check: unknown option -x\nTry: iotgw check --help\n"},
        {"check --json=1", "iotgw check: --json takes no value\nTry: iotgw check --help\n"},
        {"-c", "iotgw: --config needs a value: DIR|FILE\nTry: iotgw --help\n"},
        {"version 1", "iotgw version: unexpected argument \"1\"\nTry: iotgw version --help\n"},
        {"completion", "iotgw completion: expected SHELL\nTry: iotgw completion --help\n"},
        {"completion tcsh",
         "iotgw completion: unknown shell \"tcsh\"; expected bash, zsh or fish\nTry: iotgw completion --help\n"},
        {"help chek", "iotgw help: unknown subcommand \"chek\"\nTry: iotgw help --help\n"},
        {"schema --reference", "iotgw schema: --reference needs a TYPE\nTry: iotgw schema --help\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(run(cases[i].arguments), EXIT_USAGE);
        assert_string_equal(errors, cases[i].errors);
        assert_string_equal(out, "");
    }
}

static void test_every_subcommand_explains_itself(void **state)
{
    (void)state;
    assert_int_equal(run("--help"), EXIT_DONE);
    for (const struct command_spec *const *command = commands; *command; command++) {
        char line[100];

        if ((*command)->is_hidden)
            continue;
        assert_int_equal(run("--help"), EXIT_DONE);
        snprintf(line, sizeof line, "\n  %-14s %s\n", (*command)->name, (*command)->summary);
        assert_non_null(strstr(out, line));
        snprintf(line, sizeof line, "%s --help", (*command)->name);
        assert_int_equal(run(line), EXIT_DONE);
        snprintf(line, sizeof line, "Usage: iotgw %s", (*command)->name);
        assert_non_null(strstr(out, line));
        for (const struct option_spec *option = (*command)->options; option && option->name; option++)
            if (!option->is_hidden) {
                snprintf(line, sizeof line, "--%s", option->name);
                assert_non_null(strstr(out, line));
            }
    }
}

static void test_man_page_and_completions_name_every_subcommand_and_option(void **state)
{
    static const char *const makers[] = {"help --man", "completion bash", "completion zsh", "completion fish"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(makers); i++) {
        assert_int_equal(run(makers[i]), EXIT_DONE);
        for (const struct command_spec *const *command = commands; *command; command++) {
            if ((*command)->is_hidden)
                continue;
            if (!strchr((*command)->name, '-') || i) /* a minus is escaped in roff */
                assert_non_null(strstr(out, (*command)->name));
            for (const struct option_spec *option = (*command)->options; option && option->name; option++) {
                struct str name = str_from(option->name);

                if (option->is_hidden || memchr(name.p, '-', name.n))
                    continue;
                assert_non_null(strstr(out, option->name));
            }
        }
    }
}

static void test_man_page_has_no_stray_requests(void **state)
{
    static const char *const known[] = {".TH ", ".SH ", ".SS ", ".TP\n", ".PP\n"};

    (void)state;
    assert_int_equal(run("help --man"), EXIT_DONE);
    for (const char *line = out; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        size_t i = 0;

        if (*line != '.')
            continue;
        while (i < COUNT_OF(known) && strncmp(line, known[i], strlen(known[i])) != 0)
            i++;
        assert_true(i < COUNT_OF(known));
    }
}

#define GOOD "{\"thingsboard\":{\"host\":\"h\",\"security\":{\"accessToken\":\"t\"}},\"storage\":{\"type\":\"memory\"}}"
#define BAD                                                                                                            \
    "{\"thingsboard\":{\"host\":\"h\",\"port\":0,\"security\":{\"accessToken\":\"t\"}},\"storage\":{\"type\":"         \
    "\"memory\"}}"

static void test_check_says_what_is_wrong_and_exits_with_78(void **state)
{
    (void)state;
    put("tb_gateway.json", GOOD);
    assert_int_equal(run_on("check -c", "", ""), EXIT_DONE);
    assert_non_null(strstr(out, "tb_gateway.json: no errors, no warnings\n"));
    assert_int_equal(run_on("-c", "tb_gateway.json", "check -q"), EXIT_DONE);
    assert_string_equal(out, "");
    put("tb_gateway.json", BAD);
    assert_int_equal(run_on("check -c", "", ""), EXIT_CONFIG);
    assert_non_null(strstr(out,
                           "/tb_gateway.json:1:35: thingsboard.port: found 0; expected an integer from 1 to 65535; the "
                           "default 1883 is used\n"));
    assert_non_null(strstr(out, ": 1 error, no warnings\n"));
    assert_int_equal(run_on("check", "", ""), EXIT_CONFIG);
    assert_int_equal(run_on("check -c", "nowhere", ""), EXIT_CONFIG);
    assert_non_null(strstr(out, "cannot be opened"));
}

static void test_check_as_json_is_json(void **state)
{
    struct json_file *file;
    yyjson_val *first;

    (void)state;
    put("tb_gateway.json", BAD);
    assert_int_equal(run_on("check --json -c", "", ""), EXIT_CONFIG);
    assert_int_equal(json_file_parse(&file, "out", str_from(out), NULL), ERR_OK);
    first = yyjson_arr_get_first(json_get(json_file_root(file), STR("problems")));
    assert_true(str_eq(json_str(json_get(first, STR("path"))), STR("thingsboard.port")));
    json_file_free(file);
}

static void test_check_knows_a_file_by_its_content_its_name_or_its_type(void **state)
{
    (void)state;
    put("a.json", BAD);
    assert_int_equal(run_on("check", "a.json", ""), EXIT_CONFIG);
    assert_non_null(strstr(out, "thingsboard.port"));
    put("a.json", "{\"deny\":{\"X\":[\"(\"]}}");
    assert_int_equal(run_on("check", "a.json", ""), EXIT_CONFIG);
    assert_non_null(strstr(out, "deny.X[0]: found \"(\""));
    put("statistics_linux.json", "[{\"command\":\"x\"}]");
    assert_int_equal(run_on("check", "statistics_linux.json", ""), EXIT_CONFIG);
    assert_non_null(strstr(out, "[0].attributeOnGateway: missing"));
    put("a.json", "{}");
    assert_int_equal(run_on("check", "a.json", ""), EXIT_CONFIG);
    assert_non_null(strstr(out,
                           "cannot tell what kind of file this is; say it with --type: one of gateway, logs, list, "
                           "statistics"));
    assert_int_equal(run_on("check --type logs", "a.json", ""), EXIT_DONE);
    assert_int_equal(run_on("check --type=nonsense", "a.json", ""), EXIT_CONFIG);
    assert_int_equal(run_on("check -t logs -q", "a.json", ""), EXIT_DONE);
}

static void test_schema_describes_each_kind(void **state)
{
    static const char *const names[] = {"gateway", "logs", "list", "statistics"};

    (void)state;
    assert_int_equal(run("schema"), EXIT_DONE);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_non_null(strstr(out, names[i]));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct json_file *file;
        char arguments[80];

        snprintf(arguments, sizeof arguments, "schema %s", names[i]);
        assert_int_equal(run(arguments), EXIT_DONE);
        assert_int_equal(json_file_parse(&file, "out", str_from(out), NULL), ERR_OK);
        json_file_free(file);
        snprintf(arguments, sizeof arguments, "schema --reference %s", names[i]);
        assert_int_equal(run(arguments), EXIT_DONE);
        assert_int_equal(strncmp(out, "# ", 2), 0);
    }
    assert_int_equal(run("schema nonsense"), EXIT_USAGE);
}

static void test_version_is_printed(void **state)
{
    struct json_file *file;

    (void)state;
    assert_int_equal(run("version"), EXIT_DONE);
    assert_int_equal(strncmp(out, "iotgw ", 6), 0);
    assert_int_equal(run("--version"), EXIT_DONE);
    assert_int_equal(run("version --json"), EXIT_DONE);
    assert_int_equal(json_file_parse(&file, "out", str_from(out), NULL), ERR_OK);
    assert_non_null(json_get(json_file_root(file), STR("version")));
    json_file_free(file);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/iotgw-cmd-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"out", "err", "tb_gateway.json", "a.json", "statistics_linux.json"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(path_of(names[i]));
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_usage_is_answered_with_64_and_the_nearest_word),
        cmocka_unit_test(test_every_subcommand_explains_itself),
        cmocka_unit_test(test_man_page_and_completions_name_every_subcommand_and_option),
        cmocka_unit_test(test_man_page_has_no_stray_requests),
        cmocka_unit_test(test_check_says_what_is_wrong_and_exits_with_78),
        cmocka_unit_test(test_check_as_json_is_json),
        cmocka_unit_test(test_check_knows_a_file_by_its_content_its_name_or_its_type),
        cmocka_unit_test(test_schema_describes_each_kind),
        cmocka_unit_test(test_version_is_printed),
    };

    clearenv();
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
