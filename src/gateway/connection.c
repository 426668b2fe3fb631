/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/connection.h"

#include "base/mem.h"
#include "gateway/uplink_conf.h"

#include <stdio.h>
#include <unistd.h>

struct connection_arena { /* of one change */
    struct connection_arena *next;
    struct arena arena;
};

static void drop(struct connection_arena *arena)
{
    if (!arena)
        return;
    arena_fini(&arena->arena);
    mem_free(arena);
}

/* Of a change that was not taken; a connection that ends may still look into it, until the next change. */
static void put_away_newest(struct connection *connection)
{
    struct connection_arena *arena = connection->arenas;

    connection->arenas = arena->next;
    drop(connection->unused);
    connection->unused = arena;
}

static void answer(void *arg)
{
    struct connection *connection = arg;
    struct why why = {0};

    if (connection->err) {
        why_set(&why, connection->err, "no session with the platform: %s", connection->reason);
        if (connection->conf.provision) /* there was none, else it would have been used */
            unlink(connection->conf.provision->path);
        put_away_newest(connection); /* the former settings are in use */
    }
    apply_answer(connection->step, connection->err, &why);
}

/* The uplink's loop. */
static void changed(void *arg, enum err err, const char *reason)
{
    struct connection *connection = arg;

    connection->err = err;
    snprintf(connection->reason, sizeof connection->reason, "%s", reason);
    runner_call(connection->main, &connection->to_main);
}

static void change(void *arg)
{
    struct connection *connection = arg;

    if (*connection->uplink)
        uplink_change(*connection->uplink, &connection->conf, changed, connection);
    else
        changed(connection, ERR_REFUSED, "the gateway stops");
}

static enum err take(void *arg, const struct gateway_conf *before, const struct gateway_conf *after,
                     struct apply_step *step, struct why *why)
{
    struct connection *connection = arg;
    struct connection_arena *arena = mem_zero(sizeof *arena);

    (void)before;
    (void)why;
    arena_init(&arena->arena, 1024);
    arena->next = connection->arenas;
    connection->arenas = arena;
    connection->step = step;
    uplink_conf_from(&connection->conf, after, &arena->arena);
    connection->to_uplink = (struct call){.fn = change, .arg = connection};
    connection->to_main = (struct call){.fn = answer, .arg = connection};
    runner_call(connection->uplink_runner, &connection->to_uplink);
    return ERR_BUSY;
}

void connection_add_owner(struct apply *apply, struct connection *connection)
{
    static const char *const keys[] = {"thingsboard.host",         "thingsboard.port",       "thingsboard.qos",
                                       "thingsboard.security",     "thingsboard.proxy_host", "thingsboard.proxy_port",
                                       "thingsboard.provisioning", "thingsboard.keep_alive", NULL};

    apply_add_owner(apply, &(struct apply_owner){.keys = keys, .take = take, .arg = connection});
}

void connection_fini(struct connection *connection)
{
    while (connection->arenas)
        put_away_newest(connection);
    drop(connection->unused);
}
