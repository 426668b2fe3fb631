/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the platform wants of the Request connector: method, device (empty: the connector), and parameters; the last also as
 * attributes. What would be sent has a whole URL without line ends, what is answered is JSON.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "request_down.h"

static const char file_text[] =
    "{\"host\":\"h\",\"mapping\":[],\"attributeUpdates\":["
    "{\"deviceNameFilter\":\"D.*\",\"attributeFilter\":\"a.*\",\"requestUrlExpression\":\"${deviceName}/"
    "${attributeKey}\","
    "\"requestValueExpression\":\"{\\\"${attributeKey}\\\":${attributeValue}}\"},"
    "{\"deviceNameFilter\":\".*\",\"attributeFilter\":\".*\",\"requestUrlExpression\":\"u?${attributeValue}\"}],"
    "\"serverSideRpc\":["
    "{\"deviceNameFilter\":\"D.*\",\"methodFilter\":\"p.*\",\"requestUrlExpression\":\"${params.a}/${requestId}\","
    "\"requestValueExpression\":\"${params.b[0]} ${params}\"},"
    "{\"deviceNameFilter\":\".*\",\"methodFilter\":\".*\",\"requestUrlExpression\":\"${methodName}\",\"httpHeaders\":{"
    "\"Content-Type\":\"application/json\"}}]}";

static const struct request_file *file;

static void check(void *arg, const struct down_call *call)
{
    const struct web_request *request = &call->request;

    (void)arg;
    FUZZ_CHECK(web_is_absolute(request->url) && call->tries && call->timeout_ms);
    FUZZ_CHECK(!request->with_credentials || str_starts(request->url, STR("http://h/")));
}

static void failed(void *arg, struct str key, const struct why *why)
{
    (void)arg;
    (void)key;
    FUZZ_CHECK(why_text(why)[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct problems problems; /* kept: the file lives as long as the process */
    static struct conf *conf;
    struct str rest = str_of(data, size), method = fuzz_part(&rest), device = fuzz_part(&rest), answer;
    const struct down_rpc rpc = {device.n ? device : STR_NONE, method, STR("7"), rest};
    struct down_call call;
    struct arena arena;
    yyjson_doc *doc;

    if (!file) {
        problems_init(&problems);
        conf = conf_load_text(&request_conf_type, ".", "fuzz", str_from(file_text), &problems);
        FUZZ_CHECK(conf);
        file = conf_root(conf);
        FUZZ_CHECK(file->rpcs.n == 2 && file->updates.n == 2);
    }
    arena_init(&arena, 0);
    doc = json_read(rest, NULL);
    if (doc || !rest.n) { /* the router passes JSON on */
        if (down_rpc(file, &rpc, &arena, &call, &answer) == ERR_OK) {
            check(NULL, &call);
        } else {
            yyjson_doc *said = json_read(answer, NULL);

            FUZZ_CHECK(said);
            yyjson_doc_free(said);
        }
    }
    if (yyjson_is_obj(yyjson_doc_get_root(doc)))
        down_attributes(file, device, yyjson_doc_get_root(doc), &arena, check, failed, NULL);
    yyjson_doc_free(doc);
    arena_fini(&arena);
    return 0;
}
