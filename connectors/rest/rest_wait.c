/* SPDX-License-Identifier: Apache-2.0 */
#include "rest_wait.h"

enum { MAX_SPARE = 1024, KEEP_CAP = 4096, SWEEP_MS = 500, STUCK_MS = 1000, DURABLE_MS = 5000 };

static void time_out(void *arg);
static void sweep(void *arg);

void waits_init(struct waits *waits, struct loop *loop, wait_answer_fn *answer, void *arg)
{
    *waits = (struct waits){.loop = loop, .answer = answer, .arg = arg};
    list_init(&waits->durable);
    list_init(&waits->attribute);
    list_init(&waits->questions);
    list_init(&waits->spare);
    timer_init(&waits->sweep, loop, sweep, waits);
}

static void wait_free(struct wait *wait)
{
    buf_fini(&wait->text);
    mem_free(wait);
}

void waits_fini(struct waits *waits)
{
    struct list *node;

    if (waits->loop)
        timer_stop(&waits->sweep);
    while (waits->loop && (node = list_take_first(&waits->spare)))
        wait_free(CONTAINER_OF(node, struct wait, node));
}

struct wait *waits_add(struct waits *waits, struct http_request *request, const struct rest_endpoint *endpoint,
                       const char *origin)
{
    struct list *node = list_take_first(&waits->spare);
    struct wait *wait = node ? CONTAINER_OF(node, struct wait, node) : mem_zero(sizeof *wait);
    struct buf text = wait->text;

    waits->n_spare -= node != NULL;
    text.n = 0;
    *wait = (struct wait){.waits = waits, .request = request, .endpoint = endpoint, .origin = origin, .text = text};
    return wait;
}

static void free_parts(struct wait *wait)
{
    for (size_t i = 0; i < wait->n_parts; i++)
        buf_fini(&wait->parts[i].answer);
    mem_free(wait->parts);
    wait->parts = NULL;
    wait->waits->n_questions -= wait->n_parts;
    wait->n_parts = 0;
}

/* The end of each: its answer. */
static void answer(struct wait *wait, unsigned status, struct str text)
{
    struct waits *waits = wait->waits;

    timer_stop(&wait->timer);
    list_del(&wait->node);
    waits->n_awaiting -= wait->awaits;
    waits->answer(waits->arg, wait, status, text);
    if (wait->parts)
        free_parts(wait);
    if (waits->n_spare == MAX_SPARE) {
        wait_free(wait);
        return;
    }
    if (wait->text.cap > KEEP_CAP)
        buf_fini(&wait->text);
    list_add_after(&waits->spare, &wait->node);
    waits->n_spare++;
}

static void set_answer(struct wait *wait, unsigned status, struct str text)
{
    wait->status = status;
    wait->text.n = 0;
    buf_add_str(&wait->text, text);
}

void wait_set_failure(struct wait *wait, unsigned status, struct str text)
{
    set_answer(wait, status, text);
}

void wait_for_attribute(struct waits *waits, struct wait *wait, struct device *dev)
{
    wait->dev = dev;
    wait->awaits = true;
    waits->n_awaiting++;
    timer_init(&wait->timer, waits->loop, time_out, wait);
    timer_start(&wait->timer, wait->endpoint->response->timeout_ms);
}

void waits_until_durable(struct waits *waits, struct wait *wait, uint64_t cookie)
{
    wait->cookie = cookie;
    wait->since_ms = loop_mono_ms(waits->loop);
    list_add_tail(&waits->durable, &wait->node);
    if (!timer_is_running(&waits->sweep))
        timer_start(&waits->sweep, SWEEP_MS);
}

void waits_until_answered(struct waits *waits, struct wait *wait, const struct rest_question *questions, size_t n,
                          uint64_t cookie)
{
    wait->cookie = cookie;
    wait->n_parts = wait->n_left = n;
    wait->parts = mem_zero(n * sizeof *wait->parts);
    for (size_t i = 0; i < n; i++) {
        wait->parts[i].dev = device_get(questions[i].device);
        wait->parts[i].is_one = questions[i].is_one;
    }
    waits->n_questions += n;
    list_add_tail(&waits->questions, &wait->node);
    timer_init(&wait->timer, waits->loop, time_out, wait);
    timer_start(&wait->timer, wait->endpoint->timeout_ms);
}

static void time_out(void *arg)
{
    struct wait *wait = arg;

    if (!wait->endpoint->converter) {
        answer(wait, 408, STR("the platform did not answer in time"));
    } else if (wait->is_durable) {
        answer(wait, 408, STR("the awaited attribute did not come in time"));
    } else {
        set_answer(wait, 408, STR("the awaited attribute did not come in time"));
    }
}

/* What waits for the storage; stops when nothing does. */
static void sweep(void *arg)
{
    struct waits *waits = arg;
    uint64_t now_ms = loop_mono_ms(waits->loop);
    struct list *node;

    while ((node = list_first(&waits->durable))) {
        struct wait *wait = CONTAINER_OF(node, struct wait, node);

        waits->is_stuck = now_ms - wait->since_ms >= STUCK_MS;
        if (now_ms - wait->since_ms < DURABLE_MS)
            break;
        answer(wait, 503,
               STR("the event storage did not take the data in time; it may be stored yet, and twice if sent again"));
    }
    if (!list_is_empty(&waits->durable))
        timer_start(&waits->sweep, SWEEP_MS);
}

void waits_durable(struct waits *waits, uint64_t cookie, enum err result)
{
    struct list *node;

    waits->is_stuck = false;
    while ((node = list_first(&waits->durable))) {
        struct wait *wait = CONTAINER_OF(node, struct wait, node);

        if (wait->cookie > cookie)
            break;
        if (result) {
            answer(wait, 503, STR("the data could not be stored"));
        } else if (wait->status) {
            answer(wait, wait->status, buf_str(&wait->text));
        } else if (wait->awaits) {
            wait->is_durable = true;
            list_del(&wait->node);
            list_add_tail(&waits->attribute, &wait->node);
        } else {
            answer(wait, 200, wait->endpoint->response->success);
        }
    }
}

/* The oldest request of the device that awaits this attribute. True: it was there. */
static bool give_attribute(struct list *list, const struct device *dev, yyjson_val *values, struct arena *arena)
{
    LIST_EACH(node, list) {
        struct wait *wait = CONTAINER_OF(node, struct wait, node);
        struct str text;

        if (!wait->awaits || wait->status || wait->dev != dev ||
            !rest_awaited(wait->endpoint->response, values, arena, &text))
            continue;
        if (wait->is_durable)
            answer(wait, 200, text);
        else
            set_answer(wait, 200, text);
        return true;
    }
    return false;
}

void waits_attribute(struct waits *waits, const struct device *dev, yyjson_val *values, struct arena *arena)
{
    if (waits->n_awaiting && !give_attribute(&waits->attribute, dev, values, arena))
        (void)give_attribute(&waits->durable, dev, values, arena);
}

static void part_answered(struct wait *wait, size_t i, struct str json, struct arena *arena)
{
    struct wait_part *part = &wait->parts[i];
    autobuf struct buf all = {0};

    if (part->is_answered)
        return;
    part->is_answered = true;
    buf_add_str(&part->answer,
                rest_answer_to_question(device_name(part->dev), wait->cookie + i, part->is_one, json, arena));
    if (--wait->n_left)
        return;
    for (size_t k = 0; k < wait->n_parts; k++)
        rest_add_answer(&all, k, wait->n_parts, buf_str(&wait->parts[k].answer));
    answer(wait, 200, buf_str(&all));
}

void waits_answered(struct waits *waits, uint64_t cookie, enum err result, struct str json, struct arena *arena)
{
    LIST_EACH(node, &waits->questions) {
        struct wait *wait = CONTAINER_OF(node, struct wait, node);

        if (cookie < wait->cookie || cookie - wait->cookie >= wait->n_parts)
            continue;
        if (result == ERR_OK)
            part_answered(wait, (size_t)(cookie - wait->cookie), json, arena);
        else if (result == ERR_TIMEOUT)
            answer(wait, 408, STR("the platform did not answer in time"));
        else
            answer(wait, 503, STR("the platform cannot be asked at the moment"));
        return;
    }
}

static void end_all(struct list *list)
{
    struct list *node;

    while ((node = list_first(list)))
        answer(CONTAINER_OF(node, struct wait, node), 503, STR("the connector was stopped"));
}

void waits_end(struct waits *waits)
{
    end_all(&waits->durable);
    end_all(&waits->attribute);
    end_all(&waits->questions);
}
