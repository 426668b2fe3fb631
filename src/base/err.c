/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const texts[] = {
#define X(code, text) [ERR_##code] = text,
#include "iotgw/err.def"
#undef X
};

static const char *const names[] = {
#define X(code, text) [ERR_##code] = #code,
#include "iotgw/err.def"
#undef X
};

const char *err_text(enum err err)
{
    return (unsigned)err < ERR_COUNT ? texts[err] : "unknown error";
}

const char *err_name(enum err err)
{
    return (unsigned)err < ERR_COUNT ? names[err] : "UNKNOWN";
}

enum err err_from_errno(int number)
{
    switch (number) {
    case 0:
        return ERR_OK;
    case ENOMEM:
        return ERR_NOMEM;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
        return ERR_REFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ENOTCONN:
        return ERR_CLOSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
    case ENETDOWN:
        return ERR_UNREACHABLE;
    case ENOENT:
    case ENODEV:
        return ERR_NOTFOUND;
    case EEXIST:
    case EADDRINUSE:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case EROFS:
        return ERR_READONLY;
    case ENOTDIR:
        return ERR_NOTDIR;
    case EISDIR:
        return ERR_ISDIR;
    case EBUSY:
    case EAGAIN:
        return ERR_BUSY;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case EINVAL:
    case EDOM:
    case ERANGE:
        return ERR_RANGE;
    case ECANCELED:
        return ERR_CANCELLED;
    case EMFILE:
    case ENFILE:
    case EFBIG:
        return ERR_LIMIT;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    default:
        return ERR_IO;
    }
}

enum err why_set(struct why *why, enum err err, const char *fmt, ...)
{
    if (why && why->err == ERR_OK) {
        va_list args;

        va_start(args, fmt);
        vsnprintf(why->text, sizeof why->text, fmt, args);
        va_end(args);
        why->err = err;
    }
    return err;
}

void why_prefix(struct why *why, const char *fmt, ...)
{
    char old[sizeof why->text];
    va_list args;
    int n;

    if (!why)
        return;
    memcpy(old, why_text(why), strnlen(why_text(why), sizeof old - 1) + 1);
    va_start(args, fmt);
    n = vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 3 < sizeof why->text)
        snprintf(why->text + n, sizeof why->text - (size_t)n, ": %.*s", (int)(sizeof why->text - (size_t)n - 3), old);
}

const char *why_text(const struct why *why)
{
    return why->text[0] ? why->text : err_text(why->err);
}
