/* SPDX-License-Identifier: Apache-2.0 */
/*
 * {"modbus": {"type", "host", "port", "devices": [{"deviceName", "unitId", "attributes": [{"tag", "address"}], "telemetry":
 * […]}]}}, rewritten as {"master": {"slaves": […]}}: a slave for each device, with what the sketch says once for all. What
 * the sketch leaves open gets the value that fits most devices.
 */
#include "gateway/gateway_sketch.h"

#include <stdlib.h>

static yyjson_val *get(yyjson_val *object, const char *key)
{
    return json_get(object, str_from(key));
}

/* A copy of val under key, unless there is one already. */
static void add_copy(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, yyjson_val *val)
{
    if (!yyjson_mut_obj_get(object, key))
        yyjson_mut_obj_add(object, yyjson_mut_strcpy(doc, key), yyjson_val_mut_copy(doc, val));
}

static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, const char *text)
{
    if (!yyjson_mut_obj_get(object, key))
        yyjson_mut_obj_add_str(doc, object, key, text);
}

static void add_number(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key, uint64_t number)
{
    if (!yyjson_mut_obj_get(object, key))
        yyjson_mut_obj_add_uint(doc, object, key, number);
}

static void add_rest(yyjson_mut_doc *doc, yyjson_mut_val *object, yyjson_val *from, const char *const but[])
{
    yyjson_obj_iter iter;

    yyjson_obj_iter_init(from, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        bool is_left_out = false;

        for (size_t i = 0; but[i]; i++)
            is_left_out = is_left_out || yyjson_equals_str(key, but[i]);
        if (!is_left_out)
            add_copy(doc, object, yyjson_get_str(key), yyjson_obj_iter_get_val(key));
    }
}

static yyjson_mut_val *points_of(yyjson_mut_doc *doc, yyjson_val *points)
{
    static const char *const nothing[] = {NULL};
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_arr_iter iter;

    yyjson_arr_iter_init(points, &iter);
    for (yyjson_val *point; (point = yyjson_arr_iter_next(&iter));) {
        yyjson_mut_val *object = yyjson_mut_obj(doc);

        if (!yyjson_is_obj(point))
            continue;
        add_rest(doc, object, point, nothing);
        add_text(doc, object, "type", "16int");
        add_number(doc, object, "functionCode", 3);
        add_number(doc, object, "objectsCount", 1);
        yyjson_mut_arr_append(list, object);
    }
    return list;
}

static yyjson_mut_val *slave_of(yyjson_mut_doc *doc, yyjson_val *sketch, yyjson_val *device)
{
    static const char *const of_all[] = {"devices", NULL};
    static const char *const points[] = {"attributes", "telemetry", "timeseries", NULL};
    yyjson_mut_val *slave = yyjson_mut_obj(doc);
    yyjson_val *telemetry = get(device, "telemetry"),
               *type = get(device, "type") ? get(device, "type") : get(sketch, "type");

    add_rest(doc, slave, device, points);
    add_rest(doc, slave, sketch, of_all);
    add_text(doc, slave, "type", "tcp");
    add_text(doc, slave, "method", str_eq_nocase(json_str(type), STR("serial")) ? "rtu" : "socket");
    add_number(doc, slave, "unitId", 1);
    add_number(doc, slave, "pollPeriod", 5000);
    yyjson_mut_obj_add_val(doc, slave, "attributes", points_of(doc, get(device, "attributes")));
    yyjson_mut_obj_add_val(doc, slave, "timeseries", points_of(doc, telemetry ? telemetry : get(device, "timeseries")));
    return slave;
}

/* From malloc. */
static char *real_form(yyjson_val *sketch)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *master = yyjson_mut_obj(doc), *slaves = yyjson_mut_arr(doc);
    yyjson_arr_iter iter;
    char *text;

    yyjson_arr_iter_init(get(sketch, "devices"), &iter);
    for (yyjson_val *device; (device = yyjson_arr_iter_next(&iter));)
        if (yyjson_is_obj(device))
            yyjson_mut_arr_append(slaves, slave_of(doc, sketch, device));
    yyjson_mut_obj_add_val(doc, master, "slaves", slaves);
    yyjson_mut_obj_add_val(doc, root, "master", master);
    yyjson_mut_doc_set_root(doc, root);
    text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL);
    yyjson_mut_doc_free(doc);
    return text;
}

bool gateway_report_sketch(const struct json_file *file, struct problems *problems)
{
    yyjson_val *root = json_file_root(file), *sketch = get(root, "modbus");
    struct conf_at at = {.file = json_file_name(file), .path = "modbus"};
    struct json_pos pos;
    char *text;

    if (!yyjson_is_arr(get(sketch, "devices")) || get(root, "master") || get(root, "server") ||
        get(root, "thingsboard"))
        return false;
    pos = json_file_pos(file, sketch);
    at.line = pos.line;
    at.column = pos.column;
    text = real_form(sketch);
    problem_add(problems, CONF_ERROR, &at,
                "a shortened form that only documentation has; expected \"connectors\": [{\"name\": \"modbus\", "
                "\"type\": \"modbus\", \"configuration\": \"modbus.json\"}] in tb_gateway.json, and the real form in "
                "modbus.json, with \"type\" and \"functionCode\" of your points; \"iotgw check\" prints it");
    if (text)
        problem_set_example(problems, text);
    free(text);
    return true;
}
