/* SPDX-License-Identifier: Apache-2.0 */
#include "access.h"

#include "lines.h"

static const char *const kind_names[] = {
    [ACCESS_TOKEN] = "ACCESS_TOKEN", [ACCESS_BASIC] = "MQTT_BASIC", [ACCESS_CERTIFICATE] = "X509_CERTIFICATE"};

void access_set(struct str *text, struct str value)
{
    mem_free((void *)(uintptr_t)text->p);
    *text = value.n ? str_of(memcpy(mem_new(value.n), value.p, value.n), value.n) : STR_NONE;
}

static void entry_free(struct access_entry *entry)
{
    access_set(&entry->device, STR_NONE);
    access_set(&entry->username, STR_NONE);
    access_set(&entry->password, STR_NONE);
    access_set(&entry->client_id, STR_NONE);
    access_set(&entry->certificate, STR_NONE);
    mem_free(entry);
}

bool access_remove(struct access *access, struct str device)
{
    for (struct access_entry **at = &access->first; *at; at = &(*at)->next) {
        struct access_entry *entry = *at;

        if (!str_eq(entry->device, device))
            continue;
        *at = entry->next;
        entry_free(entry);
        return true;
    }
    return false;
}

struct access_entry *access_add(struct access *access, enum access_kind kind, struct str device)
{
    struct access_entry *entry = mem_zero(sizeof *entry);

    access_remove(access, device);
    *entry = (struct access_entry){.next = access->first, .kind = kind, .is_gateway = true};
    access_set(&entry->device, device);
    return access->first = entry;
}

void access_fini(struct access *access)
{
    while (access->first)
        access_remove(access, access->first->device);
    access_set(&access->profile_key, STR_NONE);
    access_set(&access->profile_secret, STR_NONE);
}

void access_base64(struct buf *out, struct str pem)
{
    static const struct str head = {"-----BEGIN CERTIFICATE-----", 27}, end = {"-----END", 8};
    size_t from = str_find(pem, head, 0);
    struct str body = from == SIZE_MAX ? pem : str_skip(pem, from + head.n);
    size_t to = str_find(body, end, 0);

    body = to == SIZE_MAX ? body : str_cut(body, to);
    for (size_t i = 0; i < body.n; i++)
        if ((unsigned char)body.p[i] > ' ')
            buf_add_u8(out, (uint8_t)body.p[i]);
}

/* --- login ---------------------------------------------------------------------------------------------------------- */
static bool is_basic(const struct access_entry *entry, const struct mqtt_connect_packet *connect)
{
    if (entry->kind != ACCESS_BASIC)
        return false;
    if (entry->client_id.n && !str_eq(entry->client_id, connect->client_id))
        return false;
    return str_eq(entry->username, connect->username) && str_eq(entry->password, connect->password);
}

static bool lets_in(const struct access_entry *entry, const struct mqtt_connect_packet *connect, struct str certificate)
{
    switch (entry->kind) {
    case ACCESS_CERTIFICATE:
        return certificate.n && str_eq(entry->certificate, certificate);
    case ACCESS_TOKEN: /* the password is not looked at */
        return !certificate.n && connect->username.n && str_eq(entry->username, connect->username);
    case ACCESS_BASIC:
        return !certificate.n && is_basic(entry, connect);
    }
    return false;
}

uint8_t access_login(struct access *access, const struct mqtt_connect_packet *connect, struct str certificate,
                     const struct access_entry **entry)
{
    *entry = NULL;
    if (!access->first && !access->profile_key.n)
        return 0;
    for (const struct access_entry *at = access->first; at; at = at->next)
        if (lets_in(at, connect, certificate)) {
            *entry = at;
            return 0;
        }
    if (certificate.n)
        return 0x87;
    if (connect->username.n)
        return 0x86;
    return connect->client_id.n ? 0x85 : 0x87;
}

/* --- provisioning ------------------------------------------------------------------------------------------------------- */
static struct str text_of(yyjson_val *root, const char *name)
{
    yyjson_val *value = yyjson_obj_get(root, name);

    return str_of(yyjson_get_str(value), yyjson_get_len(value));
}

static void refuse(struct buf *answer, const char *message, const char *status)
{
    buf_printf(answer, "{\"errorMsg\":\"%s\",\"status\":\"%s\"}", message, status);
}

static bool is_taken(const struct access *access, struct str device)
{
    for (const struct access_entry *entry = access->first; entry; entry = entry->next)
        if (str_eq(entry->device, device))
            return true;
    return false;
}

/* What is not given is made. */
static void set_or_make(struct str *text, struct str given, const char *what, unsigned number)
{
    autobuf struct buf made = {0};

    buf_printf(&made, "%s-%u", what, number);
    access_set(text, given.n ? given : buf_str(&made));
}

static void add_text(struct buf *out, const char *name, struct str text)
{
    buf_printf(out, "\"%s\":", name);
    json_add_text(out, text);
}

bool access_provision(struct access *access, yyjson_val *root, struct buf *answer)
{
    struct str key = text_of(root, "provisionDeviceKey"), secret = text_of(root, "provisionDeviceSecret");
    struct str type = text_of(root, "credentialsType"), device = text_of(root, "deviceName"),
               hash = text_of(root, "hash");
    enum access_kind kind = type.p ? 0 : ACCESS_TOKEN;
    autobuf struct buf name = {0}, certificate = {0};
    struct access_entry *entry;

    for (unsigned i = ACCESS_TOKEN; i <= ACCESS_CERTIFICATE; i++)
        if (str_eq_z(type, kind_names[i]))
            kind = (enum access_kind)i;
    if (!key.p || !secret.p || !kind)
        return false;
    if (!key.n || !str_eq(key, access->profile_key) || !str_eq(secret, access->profile_secret)) {
        refuse(answer, "Provision data was not found!", "NOT_FOUND");
        return true;
    }
    if (!device.n) {
        buf_printf(&name, "device-%u", ++access->n_named);
        device = buf_str(&name);
    }
    if (is_taken(access, device)) {
        refuse(answer, "Failed to provision device!", "FAILURE");
        return true;
    }
    entry = access_add(access, kind, device);
    entry->is_gateway = yyjson_is_true(yyjson_obj_get(root, "gateway"));
    buf_add_z(answer, "{\"credentialsValue\":");
    switch (kind) {
    case ACCESS_TOKEN:
        set_or_make(&entry->username, text_of(root, "token"), "token", access->n_named);
        json_add_text(answer, entry->username);
        break;
    case ACCESS_BASIC:
        access_set(&entry->client_id, text_of(root, "clientId"));
        access_set(&entry->username, text_of(root, "username"));
        access_set(&entry->password, text_of(root, "password"));
        buf_add_u8(answer, '{');
        add_text(answer, "clientId", entry->client_id);
        buf_add_u8(answer, ',');
        add_text(answer, "userName", entry->username);
        buf_add_u8(answer, ',');
        add_text(answer, "password", entry->password);
        buf_add_u8(answer, '}');
        break;
    case ACCESS_CERTIFICATE:
        access_base64(&certificate, hash);
        access_set(&entry->certificate, buf_str(&certificate));
        json_add_text(answer, hash);
        break;
    }
    buf_printf(answer, ",\"credentialsType\":\"%s\",\"status\":\"SUCCESS\"}", kind_names[kind]);
    return true;
}
