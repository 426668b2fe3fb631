/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "base/mem.h"

/* --- what comes back ------------------------------------------------------------------------------------------------------- */

static struct message_in *oldest(struct source *source)
{
    return source->n ? &source->messages[source->first] : NULL;
}

static void note_accepted(const struct message_in *message)
{
    for (unsigned i = 0; i < message->n_parts; i++)
        for (unsigned n = 0; n < message->parts[i].n; n++)
            world.streams[message->parts[i].stream].flags[message->parts[i].first + n] |= VALUE_ACCEPTED;
}

/* What the broker of an MQTT connector sees: PUBACKs in the order received, nothing when a batch was not stored. */
static void on_done(void *self, uint64_t cookie, enum err result)
{
    struct source *source = self;
    struct ack_entry entry;

    if (source->is_dead || !source->can_wait) /* who cannot wait acknowledges nothing, and refusals may overtake */
        return;
    CHECK(cookie > source->done_to, "invariant 8: source %u: %llu is answered behind %llu", source->index,
          (unsigned long long)cookie, (unsigned long long)source->done_to);
    source->done_to = cookie;
    if (result == ERR_OK)
        ackring_finish_to(&source->ring, cookie);
    for (struct message_in *message; (message = oldest(source)) && message->cookie <= cookie;) {
        if (result == ERR_OK && !message->is_forgotten) {
            CHECK(ackring_take(&source->ring, &entry), "invariant 8: source %u: %llu is not finished", source->index,
                  (unsigned long long)message->cookie);
            note_accepted(message);
        }
        source->first = (source->first + 1) % MESSAGES;
        source->n--;
    }
    if (result == ERR_OK)
        return;
    ackring_reset(&source->ring); /* the connection is closed, so that nothing of it is acknowledged */
    for (size_t i = 0; i < source->n; i++)
        source->messages[(source->first + i) % MESSAGES].is_forgotten = true;
}

static void on_room(void *self)
{
    ((struct source *)self)->is_held = false;
}

static const struct connector_type waiting_type = {
    .size = sizeof waiting_type, .abi = IOTGW_CONNECTOR_ABI, .name = "waiting", .done = on_done, .room = on_room};
static const struct connector_type hasty_type = {.size = sizeof hasty_type,
                                                 .abi = IOTGW_CONNECTOR_ABI,
                                                 .name = "hasty",
                                                 .flags = CONNECTOR_CANNOT_WAIT,
                                                 .done = on_done,
                                                 .room = on_room};

/* --- what goes out --------------------------------------------------------------------------------------------------------- */

static const struct report_strategy on_change = {.type = REPORT_ON_CHANGE};

static void add_values(struct event *event, struct message_in *message, unsigned at, unsigned n, bool has_ts)
{
    struct stream *stream = &world.streams[at];
    struct part_in *part = &message->parts[message->n_parts++];

    *part = (struct part_in){.stream = (uint16_t)at, .n = (uint16_t)n, .first = stream->n};
    for (unsigned i = 0; i < n; i++) {
        char *text = arena_alloc(&event->arena, TEXT_MAX), name[16];
        struct str key;
        struct why why;

        snprintf(name, sizeof name, "n%u", stream->n);
        CHECK(event_key(&event->arena, str_from(name), &key, &why) == ERR_OK, "%s", name);
        event_add(event, at % 2 ? RECORD_ATTRIBUTES : RECORD_TELEMETRY, key, text_of(at, stream->n, text),
                  has_ts ? 1700000000000 + (int64_t)stream->n : EVENT_NO_TS);
        world.n_poison += is_poison(at, stream->n);
        stream->flags[stream->n++] = VALUE_EMITTED;
        world.n_emitted++;
    }
}

static void add_point(struct event *event, unsigned device)
{
    char *text = arena_alloc(&event->arena, 8);

    snprintf(text, 8, "\"%u\"", world.points[device].now);
    event_add_reported(event, RECORD_ATTRIBUTES, STR("\"p\":"), str_from(text), EVENT_NO_TS, &on_change);
}

static unsigned device_of(const struct source *source)
{
    return source->index * (DEVICES / SOURCES) + roll(DEVICES / SOURCES);
}

static void put_item(struct source *source, struct message_in *message, unsigned device, bool only_point)
{
    struct event *event = ctx_event(source->ctx, world.devices[device], STR("sort"));

    if (!only_point && world.streams[2 * device].n + 4 < VALUES)
        add_values(event, message, 2 * device, 1 + roll(4), roll(2));
    if (!only_point && roll(4) == 0 && world.streams[2 * device + 1].n + 4 < VALUES)
        add_values(event, message, 2 * device + 1, 1 + roll(3), false);
    if (!only_point && roll(3) == 0)
        world.points[device].now++;
    add_point(event, device);
    enum err err = ctx_put(source->ctx);

    CHECK(err == ERR_OK, "source %u: put gives %d", source->index, err);
}

static struct message_in *new_message(struct source *source)
{
    static struct message_in unheard;
    struct message_in *message =
        source->can_wait ? &source->messages[(source->first + source->n++) % MESSAGES] : &unheard;

    *message = (struct message_in){.cookie = ackring_add(&source->ring, 1, 1)};
    if (!source->can_wait)
        ackring_reset(&source->ring);
    return message;
}

static void give(struct source *source, bool only_point, unsigned device)
{
    if (source->n == MESSAGES)
        return;
    struct message_in *message = new_message(source);

    for (unsigned n = only_point || roll(8) ? 1 : 2; n; n--)
        put_item(source, message, only_point ? device : device_of(source), only_point);
    source->is_held = !ctx_mark(source->ctx, message->cookie);
}

void source_burst(unsigned index, unsigned n_messages)
{
    struct source *source = &world.sources[index];

    for (; n_messages && !source->is_held && source->n < MESSAGES; n_messages--) {
        if (roll(40) == 0) { /* nothing in it can be used: it is acknowledged when all before it are */
            source->is_held = !ctx_mark(source->ctx, new_message(source)->cookie);
            continue;
        }
        give(source, false, 0);
    }
}

void source_settle_point(unsigned device)
{
    struct source *source = &world.sources[device / (DEVICES / SOURCES)];

    if (!source->is_held)
        give(source, true, device);
}

void source_connect(unsigned device, bool is_connect)
{
    struct source *source = &world.sources[device / (DEVICES / SOURCES)];
    struct message_in *message;

    if (source->is_held || source->n == MESSAGES)
        return;
    message = new_message(source);
    if (is_connect)
        ctx_connect(source->ctx, world.devices[device], STR("sort"));
    else
        ctx_disconnect(source->ctx, world.devices[device]);
    source->is_held = !ctx_mark(source->ctx, message->cookie);
}

/* --- life -------------------------------------------------------------------------------------------------------------------------- */

void sources_open(void)
{
    for (unsigned i = 0; i < SOURCES; i++) {
        struct source *source = &world.sources[i];

        source->index = i;
        source->can_wait = i != SOURCES - 1;
        source->is_held = source->is_dead = false;
        source->first = source->n = 0;
        source->done_to = 0;
        ackring_init(&source->ring);
        source->ctx = ctx_new(source->can_wait ? &waiting_type : &hasty_type, "source", world.loop, &world.host, NULL);
        ctx_attach(source->ctx, source);
    }
}

void sources_close(void)
{
    for (unsigned i = 0; i < SOURCES; i++)
        world.sources[i].is_dead = true;
}

void sources_forget(void)
{
    for (unsigned i = 0; i < SOURCES; i++) {
        ctx_attach(world.sources[i].ctx, NULL);
        ctx_unref(world.sources[i].ctx);
        world.sources[i].ctx = NULL;
        ackring_fini(&world.sources[i].ring);
    }
}

bool sources_are_answered(void)
{
    for (unsigned i = 0; i < SOURCES; i++)
        if (world.sources[i].n || !ctx_is_idle(world.sources[i].ctx))
            return false;
    return true;
}
