/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "base/mem.h"
#include "data/json.h"

struct publication {
    struct list node;
    uint16_t id;
    bool is_data, is_list, has_poison, is_handled;
    struct str payload; /* delivery's own bytes */
    uint64_t sum, sent_ms, number;
};

struct platform platform;
enum { SETTLE_MS = 500, STUCK_MS = 30000 }; /* of the gateway: platform-behaviour.md 13 */

static uint64_t hash_of(struct str text)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < text.n; i++)
        hash = (hash ^ (uint8_t)text.p[i]) * 1099511628211u;
    return hash;
}

static unsigned device_index(struct str name)
{
    for (unsigned i = 0; i < DEVICES; i++)
        if (str_eq(device_name(world.devices[i]), name))
            return i;
    CHECK(false, "unknown device " STR_FMT, STR_ARG(name));
    return 0;
}

/* --- what a payload holds --------------------------------------------------------------------------------------------------- */

typedef void value_fn(unsigned stream, unsigned n, bool is_resent);
typedef void point_fn(unsigned device, unsigned value);

/* Attributes have no time: what came last is what the platform has, in whatever order it acknowledges. */
static uint64_t seen_in;
static void see_point(unsigned device, unsigned value)
{
    struct point *point = &world.points[device];

    if (seen_in < point->seen_in)
        return;
    point->seen = value;
    point->seen_in = seen_in;
}

static void lose_point(unsigned device, unsigned value)
{
    if (value > world.points[device].lost)
        world.points[device].lost = value;
}

static void each_member(yyjson_val *values, unsigned device, bool is_telemetry, bool is_resent, value_fn *fn,
                        point_fn *on_point, bool *has_poison)
{
    yyjson_obj_iter iter;
    yyjson_val *key;

    yyjson_obj_iter_init(values, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        const char *name = yyjson_get_str(key);
        struct str text = json_str(yyjson_obj_iter_get_val(key));
        unsigned n = (unsigned)strtoul(name + 1, NULL, 10), stream = 2 * device + (is_telemetry ? 0 : 1);
        char expected[TEXT_MAX];

        if (strcmp(name, "connectorType") == 0 || strcmp(name, "connectorName") == 0) /* told beside the data */
            continue;
        if (name[0] == 'p') {
            if (on_point)
                on_point(device, (unsigned)strtoul(text.p, NULL, 10));
            continue;
        }
        CHECK(name[0] == 'n' && n < world.streams[stream].n, "stream %u has no %s", stream, name);
        struct str whole = text_of(stream, n, expected);

        CHECK(str_eq(text, str_of(whole.p + 1, whole.n - 2)), "invariant 12: stream %u, value %u has changed", stream,
              n);
        *has_poison |= is_poison(stream, n);
        if (fn)
            fn(stream, n, is_resent);
    }
}

/* fn for each value of a payload in its order; true: one is poison. */
static bool each_value(struct str payload, bool is_list, bool is_resent, value_fn *fn, point_fn *on_point)
{
    yyjson_doc *doc = yyjson_read(payload.p, payload.n, 0);
    yyjson_obj_iter iter;
    yyjson_val *key;
    bool has_poison = false;

    CHECK(doc && yyjson_obj_size(yyjson_doc_get_root(doc)) > 0, "no payload: " STR_FMT, STR_ARG(payload));
    yyjson_obj_iter_init(yyjson_doc_get_root(doc), &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        unsigned device = device_index(json_str(key));
        yyjson_val *val = yyjson_obj_iter_get_val(key), *entry;
        yyjson_arr_iter entries;

        if (fn && !is_resent)
            CHECK(platform.connected[device], "invariant 5: data of device %u before its connect", device);
        if (!is_list) {
            each_member(val, device, false, is_resent, fn, on_point, &has_poison);
            continue;
        }
        yyjson_arr_iter_init(val, &entries);
        while ((entry = yyjson_arr_iter_next(&entries))) {
            yyjson_val *values = yyjson_obj_get(entry, "values");
            int64_t ts = 0;

            CHECK(json_to_i64(yyjson_obj_get(entry, "ts"), &ts) == ERR_OK, "no time in " STR_FMT, STR_ARG(payload));
            each_member(values, device, true, is_resent, fn, on_point, &has_poison);
        }
    }
    yyjson_doc_free(doc);
    return has_poison;
}

static void check_sent(unsigned at, unsigned n, bool is_resent)
{
    struct stream *stream = &world.streams[at];
    uint8_t *flags = &stream->flags[n];

    CHECK(*flags & VALUE_EMITTED, "stream %u, value %u was never given", at, n);
    CHECK(!(*flags & VALUE_SAVED), "invariant 4: stream %u, value %u is sent again, and was saved as delivered", at, n);
    if (*flags & VALUE_SENT) {
        CHECK(is_resent, "invariant 4: stream %u, value %u is sent twice", at, n);
        CHECK(!(*flags & VALUE_ACKED) || at % 2, /* attributes, so that the newest stays the last */
              "invariant 4: stream %u, value %u is sent again behind its PUBACK", at, n);
        return;
    }
    CHECK((int64_t)n > stream->last_sent, "invariant 3: stream %u, value %u comes behind %lld", at, n,
          (long long)stream->last_sent);
    stream->last_sent = n;
    *flags |= VALUE_SENT;
}

static void take(unsigned at, unsigned n, bool is_known)
{
    struct stream *stream = &world.streams[at];

    if (stream->flags[n] & VALUE_DELIVERED)
        world.n_dup++, world.n_dup_attributes += at % 2;
    else
        world.n_delivered++;
    stream->flags[n] |= VALUE_DELIVERED;
    if (is_known) {
        stream->flags[n] |= VALUE_ACKED;
        stream->acked_ms[n] = loop_mono_ms(world.loop);
    }
}

static void take_acked(unsigned at, unsigned n, bool is_resent)
{
    (void)is_resent;
    take(at, n, true);
}

static void take_unheard(unsigned at, unsigned n, bool is_resent)
{
    (void)is_resent;
    take(at, n, false);
}

/* Something has had no answer for so long that the gateway takes it for what the platform does not stand. */
static bool has_stuck(void)
{
    LIST_EACH(node, &platform.open)
        if (loop_mono_ms(world.loop) - CONTAINER_OF(node, struct publication, node)->sent_ms >= STUCK_MS)
            return true;
    return platform.n_late;
}

static void check_rejected(unsigned at, unsigned n, bool is_resent)
{
    const struct shape *shape = &world.shape;

    (void)is_resent;
    CHECK(world.is_rejecting_poison || shape->has_refusals || shape->has_shrinking || shape->poison_closes ||
              has_stuck(),
          "invariant 10: stream %u, value %u is no poison and is rejected: %s", at, n, world.reject_line);
}

static void take_rejected(unsigned at, unsigned n, bool is_resent)
{
    uint8_t *flags = &world.streams[at].flags[n];

    (void)is_resent;
    if (!(*flags & VALUE_REJECTED))
        world.n_rejected++;
    *flags |= VALUE_REJECTED;
}

/* --- the link ------------------------------------------------------------------------------------------------------------------ */

static enum err on_publish(void *arg, struct str topic, struct str payload, uint8_t qos, bool is_resent, uint16_t *id)
{
    struct publication *publication;
    bool is_list = str_ends(topic, STR("gateway/telemetry"));

    (void)arg;
    if (!platform.is_up)
        return ERR_CLOSED;
    if (platform.n_open >= world.shape.window)
        return ERR_BUSY;
    if (platform.hard_bytes && payload.n > platform.hard_bytes)
        return ERR_LIMIT;
    publication = mem_zero(sizeof *publication);
    publication->id = *id = qos ? (platform.next_id = (uint16_t)(platform.next_id % 65535 + 1)) : 0;
    publication->payload = payload;
    publication->sum = hash_of(payload);
    publication->sent_ms = loop_mono_ms(world.loop);
    publication->is_list = is_list;
    publication->number = ++platform.n_published;
    publication->is_data = is_list || str_ends(topic, STR("gateway/attributes"));
    platform.queued += payload.n;
    if (publication->is_data) {
        publication->has_poison = each_value(payload, is_list, is_resent, check_sent, NULL);
    } else if (str_starts(topic, STR("v1/gateway/"))) {
        yyjson_doc *doc = yyjson_read(payload.p, payload.n, 0);
        unsigned device = device_index(json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "device")));

        platform.connected[device] = str_ends(topic, STR("/connect"));
        yyjson_doc_free(doc);
    }
    tell("      > %u%s " STR_FMT " %.60s", *id, is_resent ? " again" : "", STR_ARG(topic), payload.p);
    list_add_tail(&platform.open, &publication->node);
    platform.n_open++;
    return ERR_OK;
}

static unsigned on_window(void *arg)
{
    (void)arg;
    return platform.is_up && platform.n_open < world.shape.window ? world.shape.window - platform.n_open : 0;
}

static uint64_t on_queued(void *arg)
{
    (void)arg;
    return platform.queued;
}

static uint64_t on_last_in(void *arg)
{
    (void)arg;
    return platform.last_in_ms;
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void on_quota(void *arg)
{
    (void)arg;
    limiter_quota(&world.limiters[LIMIT_DEVICE], loop_mono_ms(world.loop));
}

static void on_close(void *arg, const char *reason)
{
    (void)arg;
    tell("      the gateway closes: %s", reason);
    platform.wants_close = true;
}

/* Calls fn for each value of a line of the rejected file; true: one is poison. */
static bool each_rejected(struct str line, value_fn *fn, point_fn *on_point)
{
    yyjson_doc *doc = yyjson_read(line.p, line.n, 0);
    size_t n;
    char *payload = yyjson_val_write(yyjson_obj_get(yyjson_doc_get_root(doc), "payload"), 0, &n);

    CHECK(payload, "rejected line: " STR_FMT, STR_ARG(line));
    bool is_list = str_ends(json_str(yyjson_obj_get(yyjson_doc_get_root(doc), "topic")), STR("telemetry"));
    bool has_poison = each_value(str_of(payload, n), is_list, true, fn, on_point);

    free(payload);
    yyjson_doc_free(doc);
    return has_poison;
}

static uint64_t on_rejected(void *arg, struct str line)
{
    (void)arg;
    tell("      rejected: %.*s", (int)(line.n < 150 ? line.n : 150), line.p);
    snprintf(world.reject_line, sizeof world.reject_line, STR_FMT, STR_ARG(line));
    world.is_rejecting_poison = each_rejected(line, NULL, NULL);
    each_rejected(line, check_rejected, NULL);
    buf_add_str(&platform.rejects, line);
    return ++platform.n_rejects;
}

/* What stood in the rejected file is durable. */
void platform_sync_rejects(void)
{
    struct str rest = buf_str(&platform.rejects), line;

    if (!rest.n)
        return;
    while (str_split(&rest, '\n', &line))
        if (line.n)
            each_rejected(line, take_rejected, lose_point);
    platform.rejects.n = 0;
    deliver_rejected_to(world.deliver, platform.n_rejects);
}

const struct deliver_link platform_link = {
    .publish = on_publish,
    .window = on_window,
    .queued = on_queued,
    .sent = on_queued,
    .last_in_ms = on_last_in,
    .provoke = on_nothing,
    .close = on_close,
    .quota = on_quota,
    .not_gateway = on_nothing,
    .rejected = on_rejected,
};

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

static void forget(struct publication *publication)
{
    list_del(&publication->node);
    platform.n_open--;
    mem_free(publication);
}

static void answer(struct publication *publication)
{
    uint16_t id = publication->id;
    uint8_t code = 0;

    CHECK(hash_of(publication->payload) == publication->sum, "invariant 12: a payload changed while it was in flight");
    if (publication->is_data && publication->has_poison) {
        if (world.shape.poison_closes) {
            tell("      the platform closes at poison");
            platform_down(true);
            return;
        }
        code = world.shape.poison_code;
    } else if (publication->is_data && platform.n_refuse) {
        platform.n_refuse--;
        code = platform.refuse_code;
    }
    if (publication->is_data && code < 0x80) {
        bool is_late =
            loop_mono_ms(world.loop) - publication->sent_ms >= STUCK_MS; /* it may have been given up and sent again */

        platform.n_late += is_late;
        seen_in = publication->number;
        each_value(publication->payload, publication->is_list, true, is_late ? take_unheard : take_acked, see_point);
    }
    tell("      < %u %02x", id, code);
    forget(publication);
    platform.last_in_ms = loop_mono_ms(world.loop);
    if (id)
        deliver_acked(world.deliver, id, code);
}

bool platform_work(void)
{
    unsigned n = platform.n_open;

    if (platform.wants_close) {
        platform.wants_close = false;
        if (platform.is_up)
            platform_down(false);
        return true;
    }
    if (!platform.is_up || platform.pace == PACE_FROZEN || !n)
        return false;
    if (platform.pace == PACE_SLOW)
        n = 1;
    while (n-- && platform.n_open) {
        struct list *node = platform.open.next;

        for (uint32_t skip = platform.is_shuffled ? roll(platform.n_open) : 0; skip; skip--)
            node = node->next;
        answer(CONTAINER_OF(node, struct publication, node));
    }
    return platform.pace == PACE_FAST;
}

void platform_forget(void)
{
    while (platform.n_open)
        forget(CONTAINER_OF(platform.open.next, struct publication, node));
}

/* Some of what is under way has arrived, and its PUBACK is lost. */
void platform_down(bool by_peer)
{
    if (!platform.is_up)
        return;
    tell("      the session ends%s", by_peer ? ": by the platform" : "");
    LIST_EACH(node, &platform.open) {
        const struct publication *publication = CONTAINER_OF(node, struct publication, node);

        seen_in = publication->number;
        if (publication->is_data && !publication->has_poison && roll(2))
            each_value(publication->payload, publication->is_list, true, take_unheard, see_point);
    }
    if (!world.shape.is_v5) /* what was acknowledged just before is not believed */
        for (unsigned at = 0; at < STREAMS; at++)
            for (unsigned n = 0; n < world.streams[at].n; n++)
                if (loop_mono_ms(world.loop) - world.streams[at].acked_ms[n] <= SETTLE_MS)
                    world.streams[at].flags[n] &= (uint8_t)~VALUE_ACKED;
    platform.is_up = false;
    platform.n_closes++;
    deliver_closed(world.deliver, by_peer);
    platform_forget();
    memset(platform.connected, 0, sizeof platform.connected);
}

void platform_up(void)
{
    if (platform.is_up || !platform.is_reachable)
        return;
    tell("      a session");
    platform.is_up = true;
    platform.wants_close = false;
    platform.next_id = 0;
    deliver_open(world.deliver, world.shape.is_v5, 1);
}

void platform_init(void)
{
    buf_fini(&platform.rejects);
    memset(&platform, 0, sizeof platform);
    list_init(&platform.open);
    platform.is_reachable = true;
}
