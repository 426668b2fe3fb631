/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_ask.h"

#include "connector/ctx.h"

struct ask {
    struct list node;
    uint64_t cookie;
    size_t bytes;
    const struct attribute_request *section;
    struct device *dev;
    struct attribute_question question;
    struct str names[]; /* and their bytes */
};

static struct ask *make_ask(const struct attribute_request *section, struct device *dev,
                            const struct attribute_question *question)
{
    size_t n = 0;
    struct ask *ask;
    char *at;

    for (size_t i = 0; i < question->n; i++)
        n += question->names[i].n;
    n += sizeof *ask + question->n * sizeof *ask->names;
    ask = mem_zero(n);
    ask->bytes = n;
    ask->section = section;
    ask->dev = dev;
    at = (char *)(ask->names + question->n);
    for (size_t i = 0; i < question->n; i++) {
        ask->names[i] = str_of(memcpy(at, question->names[i].p, question->names[i].n), question->names[i].n);
        at += question->names[i].n;
    }
    ask->question = (struct attribute_question){question->is_client, ask->names, question->n};
    return ask;
}

void asks_begin(struct asks *asks, const struct attribute_request *section, struct device *dev,
                const struct attribute_question *question)
{
    autobuf struct buf keys = {0};
    struct ask *ask;

    if (asks->n >= ASKS_MAX || asks->bytes >= ASKS_BYTES_MAX) {
        LOG_WARN(ctx_log(asks->ctx), "attribute request left out: too many wait for the platform",
                 KV_STR("device", device_name(dev)));
        return;
    }
    for (size_t i = 0; i < question->n; i++) {
        buf_add_u8(&keys, i ? ',' : '[');
        json_add_string(&keys, question->names[i]);
    }
    buf_add_u8(&keys, ']');
    ask = make_ask(section, dev, question);
    ask->cookie = ++asks->cookie;
    asks->n++;
    asks->bytes += ask->bytes;
    list_add_tail(&asks->open, &ask->node);
    ctx_host_functions.request_attributes(asks->ctx, dev, question->is_client ? STR_NONE : buf_str(&keys),
                                          question->is_client ? buf_str(&keys) : STR_NONE, asks->cookie);
}

static void publish(struct asks *asks, const struct ask *ask, yyjson_val *values)
{
    struct down_message message;
    struct why why = {0};
    enum err err;

    arena_reset(&asks->arena);
    err = down_answer(ask->section, device_name(ask->dev), &ask->question, values, &asks->arena, &message, &why);
    if (!err)
        outbox_post(asks->outbox, &message, false);
    else if (why.err)
        LOG_ERROR(ctx_log(asks->ctx), "answer to an attribute request cannot be published",
                  KV_STR("device", device_name(ask->dev)), KV_WHY(&why));
    else
        LOG_DEBUG(ctx_log(asks->ctx), "attributes that a device asks for are not set",
                  KV_STR("device", device_name(ask->dev)));
}

static struct ask *find(const struct asks *asks, uint64_t cookie)
{
    LIST_EACH(node, &asks->open) {
        struct ask *ask = CONTAINER_OF(node, struct ask, node);

        if (ask->cookie == cookie)
            return ask;
    }
    return NULL;
}

void asks_answer(struct asks *asks, uint64_t cookie, enum err result, struct str json)
{
    struct ask *ask = find(asks, cookie);
    struct why why = {0};
    yyjson_doc *doc;

    if (!ask)
        return;
    list_del(&ask->node);
    asks->n--;
    asks->bytes -= ask->bytes;
    if (result) {
        LOG_WARN(ctx_log(asks->ctx), "the platform does not answer an attribute request",
                 KV_STR("device", device_name(ask->dev)), KV_ERR(result));
        mem_free(ask);
        return;
    }
    doc = json_read(json, &why);
    if (doc)
        publish(asks, ask, yyjson_doc_get_root(doc));
    else
        LOG_WARN(ctx_log(asks->ctx), "answer of the platform is not understood", KV_WHY(&why));
    yyjson_doc_free(doc);
    mem_free(ask);
}

void asks_init(struct asks *asks, struct ctx *ctx, struct outbox *outbox)
{
    *asks = (struct asks){.ctx = ctx, .outbox = outbox};
    list_init(&asks->open);
    arena_init(&asks->arena, 4096);
}

void asks_fini(struct asks *asks)
{
    struct list *node;

    if (!asks->ctx)
        return;
    while ((node = list_take_first(&asks->open)))
        mem_free(CONTAINER_OF(node, struct ask, node));
    arena_fini(&asks->arena);
}
