/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_CONF_H
#define IOTGW_CONNECTOR_MODBUS_CONF_H
/*
 * The Modbus connector's file as structs: what the keys say, and beside it what is compiled from them when the file is
 * loaded. Immutable afterwards, in the configuration's arena.
 */
#include "conf/common.h"
#include "data/event.h"
#include "modbus_value.h"

enum modbus_medium { MODBUS_OVER_TCP, MODBUS_OVER_UDP, MODBUS_OVER_SERIAL };
enum modbus_method { MODBUS_FRAMED_SOCKET, MODBUS_FRAMED_RTU, MODBUS_FRAMED_ASCII, MODBUS_FRAMED_TLS };

/* An entry of timeseries, attributes, attributeUpdates, rpc, or of the values that are served. */
#define MODBUS_PERIOD_MAX_MS (31 * 86400 * INT64_C(1000))

struct modbus_point {
    struct conf_at at;
    struct str tag, type, address_text, bit_target;
    uint32_t function_code, count, bit, max_registers, period_ms;
    int64_t round;
    bool has_function_code, has_bit, has_round, has_max_registers, has_period;
    const struct yyjson_val *divider, *multiplier, *variants, *value;
    const struct report_strategy *report;
    /* compiled */
    uint16_t address;
    uint32_t last; /* of a range; else address */
    bool is_range;
    struct modbus_shape shape; /* with the orders of the device */
};

/* One value of a poll: a range has become many. */
struct modbus_read {
    struct str key; /* as event_key makes it */
    const struct modbus_decoder *decoder;
    const struct modbus_point *point;
    const struct report_strategy *report; /* the point's own, or NULL */
    uint16_t address, span;
    uint8_t function_code;
    uint8_t kind;   /* enum record_kind */
    uint16_t limit; /* registers in one request; 0: as the device has it */
};

/* What of a device is read with one period. */
struct modbus_beat {
    uint32_t period_ms;
    const struct modbus_read *reads;
    size_t n_reads;
};

struct modbus_tls {
    struct str cert, key, ca, server_name;
    struct secret password;
    bool verify;
};

/* How a station is reached: of a device, of the former "server", and of what is served. */
struct modbus_wire {
    struct str type, method, host, port, byte_order, word_order, parity;
    struct modbus_tls *tls;
    uint32_t baudrate, bytesize, delay_ms, attempt_pause_ms, attempts, failed_pause_ms, max_in_flight;
    double stopbits, timeout_s;
    const struct yyjson_val *retries;
    bool local_echo, rs485, has_timeout, has_baudrate, has_bytesize, has_stopbits, has_parity;
    /* compiled */
    enum modbus_medium medium;
    enum modbus_method framing;
    uint16_t port_number;
    char parity_char;      /* N E O M S */
    uint8_t half_stopbits; /* 2, 3, 4 */
    uint32_t timeout_ms, n_retries;
    bool byte_little, word_little;
    struct str link; /* the same for all that share one connection; what a person calls it */
};

struct modbus_slave { /* one device */
    struct conf_at at;
    struct modbus_wire wire;
    struct str device_name, device_type, uplink_converter, downlink_converter;
    uint32_t unit, max_gap, max_registers, max_bits, period_ms, period_old_ms, attributes_period_ms;
    bool repack, on_change, merges, has_period, has_period_old, has_attributes_period;
    bool retry_on_empty, retry_on_invalid, strict;
    struct conf_list timeseries, attributes, updates, rpcs;
    const struct report_strategy *report;
    /* compiled */
    struct modbus_read *reads; /* by beat; of one attributes, then timeseries, as they stand in the file */
    size_t n_reads;
    struct modbus_beat *beats; /* at least one, of the device's own period, if only without reads */
    size_t n_beats;
    bool keys_unique;                   /* of all reads */
    const struct modbus_slave *carrier; /* the first with that connection: its settings count; may be itself */
    struct conf_list carried;           /* of a carrier: all on its connection, itself first */
};

enum modbus_area { MODBUS_COILS, MODBUS_DISCRETE, MODBUS_INPUT, MODBUS_HOLDING, MODBUS_AREAS };
extern const char *const modbus_area_names[MODBUS_AREAS]; /* "coils" … as dry runs name them */
/* The function code that reads an area; one that writes n of its objects (also of those that masters only read). */
unsigned modbus_area_read(enum modbus_area area);
unsigned modbus_area_write(enum modbus_area area, uint32_t n);
static inline bool modbus_area_is_bits(enum modbus_area area)
{
    return area == MODBUS_COILS || area == MODBUS_DISCRETE;
}

struct modbus_section {
    struct conf_list attributes, timeseries, updates, rpcs;
};
struct modbus_values {
    struct modbus_section *areas[MODBUS_AREAS]; /* NULL: nothing is said about it */
};
struct modbus_identity {
    struct str vendor_name, product_code, vendor_url, product_name, model_name, model_name_old;
};
struct modbus_own { /* the gateway as a server */
    struct conf_at at;
    struct modbus_wire wire;
    struct modbus_tls *security;
    struct modbus_identity *identity;
    struct str device_name, device_type;
    uint32_t unit, period_ms;
    bool sends_data, enabled, strict_unit, repack;
    struct modbus_values *values;
    const struct report_strategy *report;
    /* compiled */
    struct modbus_read *reads;
    size_t n_reads;
    bool keys_unique, is_served;
};

struct modbus_master {
    struct conf_list slaves;
};

struct modbus_file {
    struct connector_common common; /* first */
    struct modbus_master *master;
    const struct yyjson_val *server; /* the former layout */
    struct modbus_own *own;
    bool has_own; /* also one that cannot be used */
    /* compiled */
    struct conf_list slaves;
};

extern const struct conf_type modbus_conf_type;
/* One entry as the keys of modbus.md 2 have it, for "test this tag"; conf holds it. */
extern const struct conf_type modbus_slave_type;

/* --- between the files of the configuration ------------------------------------------------------------------------------ */

extern const struct field modbus_wire_fields[]; /* at the offsets of struct modbus_wire */
extern const struct conf_type modbus_former_slave_type;
NODISCARD enum err modbus_wire_compile(struct conf_load *load, struct modbus_wire *wire, const struct conf_at *at);
NODISCARD enum err modbus_slave_compile(struct conf_load *load, struct modbus_slave *slave);
/* "server": its devices are put behind those of slaves. */
void modbus_legacy_server(struct conf_load *load, const struct modbus_file *file, struct conf_list *slaves);
NODISCARD enum err modbus_own_compile(struct conf_load *load, struct modbus_own *own);
/* The values of a point that is read; gives how many were put to out (room: modbus_point_values). */
size_t modbus_point_values(const struct modbus_point *point);
size_t modbus_point_reads(struct conf_load *load, const struct modbus_point *point, unsigned unit, uint8_t kind,
                          struct modbus_read *out);
bool modbus_keys_unique(const struct modbus_read *reads, size_t n);
extern const struct conf_type modbus_point_type, modbus_update_type, modbus_rpc_type, modbus_served_type,
    modbus_served_down_type, modbus_own_type;
#endif
