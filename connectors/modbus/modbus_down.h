/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_DOWN_H
#define IOTGW_CONNECTOR_MODBUS_DOWN_H
/*
 * From the platform to devices: calls and attribute updates → one read or write each, and what came of it → the answer
 * (modbus.md 8, 9). Pure; results live in the arena given, or in the configuration.
 */
#include "conf/conf.h"
#include "modbus_conf.h"

struct modbus_call {
    const struct modbus_slave *slave; /* NULL: the gateway's own memory */
    enum modbus_area area;            /* then: what is read or written there */
    bool is_write, of_connector;      /* of_connector: the answer is an item of a list */
    uint8_t function_code;
    uint16_t address, count;
    struct modbus_decoder decoder;    /* reads */
    const struct modbus_write *write; /* writes */
    struct str echo;                  /* writes: JSON text of what the answer says */
    struct str tag;                   /* for logs; empty: it has none */
};

struct modbus_asked_for {
    struct str device;         /* p NULL: a call to the connector itself */
    struct str method, params; /* params: JSON text; empty: none */
};

struct modbus_calls {
    struct modbus_call *items;
    size_t n;
    bool of_connector; /* one answer for all: a list */
    /* A connection of its own for one request: JSON text that modbus_conf's modbus_slave_type reads; p NULL: none. */
    struct str ad_hoc;
    const struct yyjson_val *ad_hoc_params; /* for modbus_call_of_params, as long as doc */
    struct yyjson_doc *doc;                 /* modbus_calls_fini */
};
/* Any failure: *answer is what the platform is told, and there are no calls. */
NODISCARD enum err modbus_rpc(const struct modbus_file *file, const struct modbus_asked_for *asked, struct arena *arena,
                              struct modbus_calls *out, struct str *answer);
void modbus_calls_fini(struct modbus_calls *calls);
/* struct modbus_slave, out of calls->ad_hoc; NULL with a reason. conf_unref it. */
NODISCARD struct conf *modbus_ad_hoc_load(struct str text, struct why *why);
/* What the parameters of a connector RPC ask of one device. */
NODISCARD enum err modbus_call_of_params(struct modbus_call *out, const struct modbus_slave *slave,
                                         const struct yyjson_val *params, struct arena *arena, struct why *why);

/* One call for each entry whose attribute is among the values, in the order of the file. */
void modbus_updates(const struct modbus_file *file, struct str device, const struct yyjson_val *values,
                    struct arena *arena, void (*call)(void *arg, const struct modbus_call *call),
                    void (*failed)(void *arg, struct str tag, const struct why *why), void *arg);

/* What the platform is told: JSON text. Of a call to the connector: an item of the list. */
struct str modbus_answer_value(const struct modbus_call *call, struct str json, struct arena *arena);
struct str modbus_answer_failure(const struct modbus_call *call, struct str text, struct arena *arena);
/* {"result":{"error":…}} and {"error":…,"success":false} */
struct str modbus_answer_error(struct str text, struct arena *arena);
struct str modbus_answer_refused(struct str text, struct arena *arena);
#endif
