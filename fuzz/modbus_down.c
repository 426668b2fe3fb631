/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the platform wants of Modbus devices: method, device (empty: the connector), and parameters; the last also as
 * attributes. What would be sent fits into one request, what is answered is JSON.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "data/json.h"
#include "modbus_down.h"

static const char file_text[] =
    "{\"master\":{\"slaves\":[{\"deviceName\":\"D\",\"host\":\"h\",\"rpc\":["
    "{\"tag\":\"r\",\"type\":\"32int\",\"functionCode\":3,\"address\":1,\"divider\":10},"
    "{\"tag\":\"w\",\"type\":\"64uint\",\"functionCode\":16,\"address\":1},"
    "{\"tag\":\"f\",\"type\":\"16float\",\"functionCode\":6,\"address\":1},"
    "{\"tag\":\"s\",\"type\":\"string\",\"functionCode\":16,\"address\":1,\"objectsCount\":123},"
    "{\"tag\":\"x\",\"type\":\"bytes\",\"functionCode\":16,\"address\":1,\"objectsCount\":3},"
    "{\"tag\":\"b\",\"type\":\"bits\",\"functionCode\":16,\"address\":1,\"objectsCount\":16},"
    "{\"tag\":\"c\",\"type\":\"bits\",\"functionCode\":15,\"address\":1,\"objectsCount\":1968}],"
    "\"attributeUpdates\":[{\"tag\":\"a\",\"type\":\"16int\",\"functionCode\":6,\"address\":3},"
    "{\"tag\":\"b\",\"type\":\"bits\",\"functionCode\":5,\"address\":3}]}]}}";

static void check(void *arg, const struct modbus_call *call)
{
    (void)arg;
    FUZZ_CHECK((uint32_t)call->address + call->count <= 65536 && call->count > 0);
    if (!call->is_write)
        FUZZ_CHECK(call->count <=
                   (modbus_reads_coils(call->function_code) ? MODBUS_READ_BITS_MAX : MODBUS_READ_REGISTERS_MAX));
    else if (call->function_code == MODBUS_WRITE_COILS)
        FUZZ_CHECK(call->count <= MODBUS_WRITE_COILS_MAX);
    else
        FUZZ_CHECK(call->count <= (call->function_code == MODBUS_WRITE_REGISTERS ? MODBUS_WRITE_REGISTERS_MAX : 1));
}

static void failed(void *arg, struct str tag, const struct why *why)
{
    (void)arg;
    (void)tag;
    FUZZ_CHECK(why_text(why)[0]);
}

/* The answer to a read is decoded, too: 250 bytes of anything. */
static void check_call(const struct modbus_call *call, struct arena *arena)
{
    uint8_t bytes[MODBUS_PDU_MAX];
    struct why why = {0};
    struct str text;

    check(NULL, call);
    memset(bytes, (int)call->address, sizeof bytes);
    if (call->is_write || modbus_decode(&call->decoder, bytes, 0, arena, &text, &why) != ERR_OK)
        return;
    text = modbus_answer_value(call, text, arena);
    yyjson_doc *doc = json_read(text, NULL);
    FUZZ_CHECK(doc);
    yyjson_doc_free(doc);
}

static void check_ad_hoc(const struct modbus_calls *calls, struct arena *arena)
{
    struct why why = {0};
    struct modbus_call call;
    struct conf *conf = modbus_ad_hoc_load(calls->ad_hoc, &why);

    if (conf && modbus_call_of_params(&call, conf_root(conf), calls->ad_hoc_params, arena, &why) == ERR_OK)
        check_call(&call, arena);
    else
        FUZZ_CHECK(why_text(&why)[0]);
    conf_unref(conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct problems problems; /* kept: the file lives as long as the process */
    static struct conf *conf;
    struct str rest = str_of(data, size), method = fuzz_part(&rest), device = fuzz_part(&rest), answer;
    const struct modbus_asked_for asked = {device.n ? device : STR_NONE, method, rest};
    struct modbus_calls calls;
    struct arena arena;
    yyjson_doc *doc;

    if (!conf) {
        problems_init(&problems);
        conf = conf_load_text(&modbus_conf_type, ".", "fuzz", str_from(file_text), &problems);
        FUZZ_CHECK(conf && !problems.n_errors);
    }
    arena_init(&arena, 0);
    doc = json_read(rest, NULL);
    if (doc || !rest.n) { /* the router passes JSON on */
        if (modbus_rpc(conf_root(conf), &asked, &arena, &calls, &answer) == ERR_OK) {
            for (size_t i = 0; i < calls.n; i++)
                check_call(&calls.items[i], &arena);
            if (calls.ad_hoc.p)
                check_ad_hoc(&calls, &arena);
            modbus_calls_fini(&calls);
        } else {
            yyjson_doc *told = json_read(answer, NULL);

            FUZZ_CHECK(told);
            yyjson_doc_free(told);
        }
    }
    if (doc && yyjson_is_obj(yyjson_doc_get_root(doc)))
        modbus_updates(conf_root(conf), STR("D"), yyjson_doc_get_root(doc), &arena, check, failed, NULL);
    yyjson_doc_free(doc);
    arena_fini(&arena);
    return 0;
}
