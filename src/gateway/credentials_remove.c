/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/credentials_remove.h"

#include "base/file.h"
#include "data/json.h"
#include "uplink/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { STORED_MAX = 64 * 1024 };

static void add_error(struct buf *answer, const char *name, int number)
{
    autobuf struct buf text = {0};

    buf_printf(&text, "%s: %s", name, strerror(number));
    buf_add_z(answer, "{\"code\":500,\"error\":");
    json_add_string(answer, buf_str(&text));
    buf_add_u8(answer, '}');
}

/* Of credentials that cannot be read nobody knows whether a certificate belongs to them: then it stays. */
static bool has_made_certificate(const char *path)
{
    autobuf struct buf text = {0};
    struct credentials credentials = {0};
    struct arena arena;
    bool has;

    arena_init(&arena, 512);
    has = !file_read(&text, path, STORED_MAX, NULL) && !credentials_parse(&credentials, &arena, buf_str(&text), NULL) &&
          credentials.type == CREDENTIALS_CERTIFICATE;
    arena_fini(&arena);
    return has;
}

/* They may have been the operator's: a new name keeps them, and makes room for new ones. */
static bool set_aside(const char *dir, const char *name)
{
    autobuf struct buf from = {0}, to = {0};

    buf_printf(&from, "%s%s%c", dir, name, 0);
    buf_printf(&to, "%s%s.removed%c", dir, name, 0);
    return rename((const char *)from.p, (const char *)to.p) == 0 || errno == ENOENT;
}

void credentials_remove(const char *dir, struct buf *answer)
{
    static const char *const made[] = {"cert.pem", "key.pem"};
    autobuf struct buf path = {0};

    buf_printf(&path, "%s.credentials%c", dir, 0);
    if (access((const char *)path.p, F_OK) != 0) {
        buf_add_z(answer, "{\"code\":404,\"message\":\"There are no provisioned credentials\"}");
        return;
    }
    /* The credentials last: what fails before can be asked for again. */
    for (size_t i = 0, n = has_made_certificate((const char *)path.p) ? COUNT_OF(made) : 0; i < n; i++)
        if (!set_aside(dir, made[i])) {
            add_error(answer, made[i], errno);
            return;
        }
    if (unlink((const char *)path.p) != 0)
        add_error(answer, ".credentials", errno);
    else
        buf_add_z(answer, "{\"code\":200,\"resp\":\"Provisioned credentials are removed\"}");
}
