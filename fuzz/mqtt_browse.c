/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message that `iotgw browse` shows: filter, line feed, topic, line feed, payload. What comes out must be JSON, and the entry in it,
 * if there is one, must be taken by the connector without a complaint.
 */
#include "fuzz.h"

#include "conf/conf.h"
#include "mqtt/topic.h"
#include "mqtt_browse.h"
#include "mqtt_conf.h"

static void check_entry(yyjson_val *entry)
{
    autobuf struct buf file = {0};
    struct problems problems;
    struct conf *conf;

    buf_add_z(&file, "{\"broker\":{\"host\":\"h\"},\"mapping\":[");
    json_add_value(&file, entry);
    buf_add_z(&file, "]}");
    problems_init(&problems);
    conf = conf_load_text(&mqtt_conf_type, ".", "fuzz", buf_str(&file), &problems);
    FUZZ_CHECK(conf && !problems.n_errors);
    conf_unref(conf);
    problems_fini(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of(data, size), filter = fuzz_part(&rest), topic = fuzz_part(&rest);
    autobuf struct buf out = {0};
    yyjson_val *entry;
    yyjson_doc *doc;

    if (topic_filter_check(filter, NULL) != ERR_OK || topic_name_check(topic, NULL) != ERR_OK)
        return 0; /* neither is subscribed, nor comes from the client */
    mqtt_browse_item(&out, filter, topic, rest, size & 1);
    doc = json_read(buf_str(&out), NULL);
    FUZZ_CHECK(doc && str_eq(json_str(json_get(yyjson_doc_get_root(doc), STR("name"))), topic));
    entry = json_get(yyjson_doc_get_root(doc), STR("configuration"));
    if (entry)
        check_entry(entry);
    yyjson_doc_free(doc);
    return 0;
}
