/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/credentials.h"

#include "data/json.h"

static const struct {
    const char *name;
    enum credentials_type type;
} types[] = {{"ACCESS_TOKEN", CREDENTIALS_TOKEN},
             {"MQTT_BASIC", CREDENTIALS_BASIC},
             {"X509_CERTIFICATE", CREDENTIALS_CERTIFICATE}};

/* What cannot stand in an MQTT string could never be used. */
static bool is_usable(struct str text)
{
    return text.n <= UINT16_MAX && !memchr(text.n ? text.p : "x", 0, text.n ? text.n : 1);
}

static struct str member(struct arena *arena, yyjson_val *object, const char *name)
{
    struct str text = json_str(json_get(object, str_from(name)));

    return text.n && is_usable(text) ? arena_str(arena, text) : STR_NONE;
}

static NODISCARD enum err parse(struct credentials *out, struct arena *arena, yyjson_val *root, struct why *why)
{
    yyjson_val *value = json_get(root, STR("credentialsValue"));
    struct str type = json_str(json_get(root, STR("credentialsType")));

    *out = (struct credentials){.ca_cert = member(arena, root, "caCert")};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (str_eq_nocase(type, str_from(types[i].name)))
            out->type = types[i].type;
    if (!out->type)
        return why_set(why, ERR_CONFIG,
                       "credentialsType: expected \"ACCESS_TOKEN\", \"MQTT_BASIC\" or \"X509_CERTIFICATE\"");
    if (out->type == CREDENTIALS_TOKEN) {
        out->username = member(arena, root, "credentialsValue");
        if (!out->username.n)
            return why_set(why, ERR_CONFIG, "credentialsValue: expected the token as text");
    }
    if (out->type == CREDENTIALS_BASIC) {
        out->client_id = member(arena, value, "clientId");
        out->username = member(arena, value, "userName");
        out->password = member(arena, value, "password");
        if (!out->client_id.n && !out->username.n)
            return why_set(why, ERR_CONFIG, "credentialsValue: expected an object with clientId or userName");
    }
    return ERR_OK;
}

enum err credentials_parse(struct credentials *out, struct arena *arena, struct str json, struct why *why)
{
    struct why syntax = {0};
    yyjson_doc *doc = json_read(json, &syntax);
    enum err err = doc ? parse(out, arena, yyjson_doc_get_root(doc), why)
                       : why_set(why, ERR_CONFIG, "is not JSON: %s", why_text(&syntax));

    yyjson_doc_free(doc);
    return err;
}

void credentials_print(struct buf *out, struct str answer, struct str ca_cert)
{
    yyjson_doc *doc = json_read(answer, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc), *name, *value;
    size_t i, max;

    buf_add_u8(out, '{');
    yyjson_obj_foreach(root, i, max, name, value)
    {
        if (str_eq(json_str(name), STR("caCert")))
            continue;
        json_add_string(out, json_str(name));
        buf_add_u8(out, ':');
        json_add_value(out, value);
        buf_add_u8(out, ',');
    }
    buf_add_z(out, "\"caCert\":");
    json_add_string(out, ca_cert);
    buf_add_u8(out, '}');
    yyjson_doc_free(doc);
}
