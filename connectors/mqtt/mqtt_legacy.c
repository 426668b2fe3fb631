/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms of the peer's older versions (mqtt.md 9). Each entry is converted on its own, with one notice, and nothing is
 * discarded because another entry is old or new.
 */
#include "mqtt_conf.h"

static bool is_given(struct str s)
{
    return s.p != NULL;
}

static bool has_old(const struct old_names *old, bool is_bytes)
{
    return is_given(old->name_json) || is_given(old->type_json) || is_given(old->name_topic) ||
           is_given(old->type_topic) || (is_bytes && (is_given(old->name) || is_given(old->type)));
}

static void warn_useless(struct conf_load *load, const struct conf_at *at, struct str value, const char *key)
{
    if (is_given(value))
        conf_warning(load, at, key, "has no effect: it belongs to the bytes converter; say it in \"deviceInfo\"");
}

void legacy_device_info(struct conf_load *load, const struct conf_at *at, const struct old_names *old, bool is_bytes,
                        struct device_info **info)
{
    struct device_info *made;

    if (!is_bytes) {
        warn_useless(load, at, old->name, "deviceNameExpression");
        warn_useless(load, at, old->type, "deviceTypeExpression");
    }
    if (!has_old(old, is_bytes))
        return;
    if (*info) {
        conf_warning(load, at, NULL,
                     "has \"deviceInfo\" and former keys for the device's name or profile: \"deviceInfo\" counts");
        return;
    }
    conf_note(load, at, NULL, "former keys for the device's name and profile; \"deviceInfo\" is the present form");
    made = arena_zero(conf_arena(load), sizeof *made);
    made->at = *at;
    if (is_given(old->name_topic)) {
        made->name = old->name_topic;
        made->name_source = SOURCE_TOPIC;
    } else if (is_given(old->name_json)) {
        made->name = old->name_json;
        made->name_source = SOURCE_MESSAGE;
    } else if (is_bytes) {
        made->name = old->name;
    }
    if (is_given(old->type_topic)) {
        made->profile = old->type_topic;
        made->profile_source = SOURCE_TOPIC;
    } else if (is_given(old->type_json)) {
        made->profile = old->type_json;
        made->profile_source = SOURCE_MESSAGE;
    } else if (is_bytes) {
        made->profile = old->type;
    }
    *info = made;
}

void legacy_attribute_names(struct conf_load *load, struct attribute_request *request)
{
    if (!is_given(request->names_json) && !is_given(request->names_topic))
        return;
    if (is_given(request->names)) {
        conf_warning(load, &request->at, NULL,
                     "has \"attributeNameExpression\" and a former key for it: \"attributeNameExpression\" counts");
        return;
    }
    conf_note(load, &request->at, NULL,
              "former keys for the attribute's name; \"attributeNameExpression\" is the present form");
    request->names = is_given(request->names_topic) ? request->names_topic : request->names_json;
    request->name_source = is_given(request->names_topic) ? SOURCE_TOPIC : SOURCE_MESSAGE;
}

static void take_list(struct conf_load *load, struct mqtt_file *file, const char *key, const struct conf_list *old,
                      const struct conf_list *present, struct conf_list *out)
{
    *out = old->n ? *old : *present;
    if (old->n && present->n)
        conf_warning(load, &file->common.at, key,
                     "stands at top level and in \"requestsMapping\": the one at top level counts");
    else if (old->n)
        conf_note(load, &file->common.at, key, "belongs in \"requestsMapping\" now; it works here too");
}

void legacy_file(struct conf_load *load, struct mqtt_file *file)
{
    static const struct request_lists none;
    const struct request_lists *present = file->requests ? &file->requests->lists : &none, *old = &file->old_requests;

    file->mappings = file->mapping.n ? file->mapping : file->mapping_old;
    if (file->mapping.n && file->mapping_old.n)
        conf_warning(load, &file->common.at, "dataMapping", "has no effect, as there is \"mapping\" too");
    else if (file->mapping_old.n)
        conf_note(load, &file->common.at, "dataMapping", "is called \"mapping\" now; it works by this name too");
    take_list(load, file, "connectRequests", &old->connects, &present->connects, &file->sections.connects);
    take_list(load, file, "disconnectRequests", &old->disconnects, &present->disconnects, &file->sections.disconnects);
    take_list(load, file, "attributeRequests", &old->attribute_requests, &present->attribute_requests,
              &file->sections.attribute_requests);
    take_list(load, file, "attributeUpdates", &old->attribute_updates, &present->attribute_updates,
              &file->sections.attribute_updates);
    take_list(load, file, "serverSideRpc", &old->rpcs, &present->rpcs, &file->sections.rpcs);
}
