/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router_repeat.h"

#include "base/buf.h"

enum {
    KEPT_MS = 60 * 1000,
    KEPT_BYTES_MAX = 8 * 1024 * 1024,
    ENTRY_BYTES = 176 /* of one without its answer: itself, its place in the map, what the allocator adds */
};

static struct str key_of(const struct repeat *repeat)
{
    return str_of(repeat->hash, sizeof repeat->hash);
}

static void forget(struct repeats *repeats, struct repeat *repeat)
{
    (void)map_del(&repeats->map, key_of(repeat));
    list_del(&repeat->node);
    repeats->n_bytes -= ENTRY_BYTES + repeat->answer.n;
    mem_free((void *)(uintptr_t)repeat->answer.p);
    mem_free(repeat);
}

static bool is_too_much(const struct repeats *repeats)
{
    return repeats->n_bytes > KEPT_BYTES_MAX;
}

/* Those that are open stay: they are bounded by the requests that are. */
static void trim(struct repeats *repeats, uint64_t now_ms)
{
    LIST_EACH_SAFE(node, &repeats->oldest) {
        struct repeat *repeat = CONTAINER_OF(node, struct repeat, node);

        if (now_ms - repeat->at_ms <= KEPT_MS && !is_too_much(repeats))
            return;
        if (repeat->is_answered)
            forget(repeats, repeat);
    }
}

static void add_part(struct buf *text, struct str part)
{
    buf_add_be32(text, (uint32_t)part.n);
    buf_add_str(text, part);
}

struct repeat *repeats_get(struct repeats *repeats, struct str device, struct str id, struct str method,
                           struct str params, uint64_t now_ms, bool *is_new)
{
    autobuf struct buf text = {0};
    uint64_t hash[2];
    struct repeat *repeat;

    trim(repeats, now_ms);
    buf_add_u8(&text, 0);
    add_part(&text, device);
    add_part(&text, id);
    add_part(&text, method);
    add_part(&text, params);
    hash[0] = hash_str(buf_str(&text));
    text.p[0] = 1;
    hash[1] = hash_str(buf_str(&text));
    repeat = map_get(&repeats->map, str_of(hash, sizeof hash));
    *is_new = !repeat;
    if (repeat)
        return repeat;
    repeat = mem_zero(sizeof *repeat);
    memcpy(repeat->hash, hash, sizeof hash);
    repeat->at_ms = now_ms;
    list_add_tail(&repeats->oldest, &repeat->node);
    repeats->n_bytes += ENTRY_BYTES;
    map_put(&repeats->map, key_of(repeat), repeat);
    return repeat;
}

void repeats_answered(struct repeats *repeats, struct repeat *repeat, struct str answer, uint8_t qos)
{
    char *copy = mem_new(answer.n + 1);

    repeat->is_answered = true;
    repeat->qos = qos;
    if (answer.n)
        memcpy(copy, answer.p, answer.n);
    repeat->answer = str_of(copy, answer.n);
    repeats->n_bytes += answer.n;
}

void repeats_init(struct repeats *repeats)
{
    list_init(&repeats->oldest);
}

void repeats_fini(struct repeats *repeats)
{
    LIST_EACH_SAFE(node, &repeats->oldest)
        forget(repeats, CONTAINER_OF(node, struct repeat, node));
    map_fini(&repeats->map);
}
