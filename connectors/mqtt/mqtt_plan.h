/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_PLAN_H
#define IOTGW_CONNECTOR_MQTT_PLAN_H
/*
 * What the file says, arranged for the hot path. A plan is immutable and lives with its configuration: which entries a
 * topic concerns, what is subscribed, and for each converter the members of the payload that its datapoints name, so that
 * one pass over the payload finds all of them.
 */
#include "mqtt_conf.h"

enum entry_kind { ENTRY_MAPPING, ENTRY_CONNECT, ENTRY_DISCONNECT, ENTRY_ATTRIBUTE_REQUEST };

/* One mapping or request section; in the order in which they run. */
struct entry {
    enum entry_kind kind;
    unsigned index;        /* among all entries */
    unsigned filter_index; /* among the plan's filters */
    struct str filter;
    const struct mapping *mapping;
    const struct device_request *request;
    const struct attribute_request *attribute_request;
};

struct plan_filter {
    struct str filter;
    uint8_t qos; /* the highest of the entries with this filter */
};

struct mqtt_plan {
    struct entry *entries;
    unsigned n_entries;
    struct topic_trie *trie; /* filter → struct entry; read only */
    struct plan_filter *filters;
    unsigned n_filters;
};

/* Names of members, each with its slot. Looked up by hash; the right one is usually known from the message before. */
struct member_table {
    struct str *names;
    unsigned n;
    uint64_t lengths;  /* bit n % 64: some name has this length */
    uint16_t *buckets; /* slot + 1; 0: free */
    unsigned mask;
    unsigned ts_slot, timestamp_slot;
};

int member_slot(const struct member_table *table, struct str name); /* -1: none */
#endif
