/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets may stand outside of the configuration: ${env:NAME} is a variable of the environment, ${file:PATH} the content of
 * a file without the line feed at its end. No message says anything of the value.
 */
#include "conf/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 64 * 1024 };

static enum err read_file(struct buf *out, int fd, const char *name, struct why *why)
{
    size_t before = out->n;
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) /* a pipe or a terminal would keep us waiting */
        return why_set(why, ERR_TYPE, "secret's file %s is no regular file", name);
    for (;;) {
        ssize_t n = read(fd, buf_room(out, 4096), 4096);

        if (n < 0)
            return why_set(why, err_from_errno(errno), "secret's file %s cannot be read: %s", name, strerror(errno));
        if (n == 0)
            return ERR_OK;
        out->n += (size_t)n;
        if (out->n - before > MAX_FILE)
            return why_set(why, ERR_LIMIT, "secret's file %s is longer than %d bytes", name, MAX_FILE);
    }
}

static enum err add_file(struct conf_load *load, struct buf *out, struct str path, struct why *why)
{
    const char *name = conf_path(load, path);
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t before = out->n;
    enum err err;

    if (fd < 0)
        return why_set(why, err_from_errno(errno), "secret's file %s: %s", name, strerror(errno));
    err = read_file(out, fd, name, why);
    close(fd);
    if (out->n > before && out->p[out->n - 1] == '\n')
        out->n--;
    if (out->n > before && out->p[out->n - 1] == '\r')
        out->n--;
    return err;
}

static enum err add_variable(struct buf *out, struct str name, struct why *why)
{
    char text[256];
    const char *value;

    if (name.n == 0 || name.n >= sizeof text)
        return why_set(why, ERR_SYNTAX, "${env:NAME} needs the name of a variable");
    memcpy(text, name.p, name.n);
    text[name.n] = 0;
    value = getenv(text);
    if (!value)
        return why_set(why, ERR_NOTFOUND, "environment variable %s is not set", text);
    buf_add_z(out, value);
    return ERR_OK;
}

enum err secret_resolve(struct conf_load *load, struct str text, struct str *out, struct why *why)
{
    autobuf struct buf result = {0};
    struct str rest = text;

    if (str_find(text, STR("${"), 0) == SIZE_MAX) {
        *out = text;
        return ERR_OK;
    }
    while (rest.n) {
        bool is_env = str_starts(rest, STR("${env:")), is_file = str_starts(rest, STR("${file:"));
        struct str name = str_skip(rest, is_env ? 6 : 7);
        size_t end = is_env || is_file ? str_chr(name, '}') : 0;
        enum err err;

        if (!is_env && !is_file) {
            buf_add_u8(&result, (uint8_t)rest.p[0]);
            rest = str_skip(rest, 1);
            continue;
        }
        if (end == name.n)
            return why_set(why, ERR_SYNTAX, "${%s: has no closing }", is_env ? "env" : "file");
        rest = str_skip(name, end + 1);
        name = str_cut(name, end);
        err = is_env ? add_variable(&result, name, why) : add_file(load, &result, name, why);
        if (err)
            return err;
    }
    *out = arena_str(&load->conf->arena, buf_str(&result));
    return ERR_OK;
}
