/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_ENDPOINT_H
#define IOTGW_CONNECTOR_ENDPOINT_H
/*
 * Counting calls to an endpoint (struct endpoint): results by class, durations in classes. Owner thread: the connector's.
 */
#include "iotgw/connector.h"

extern const unsigned endpoint_durations_ms[ENDPOINT_DURATIONS - 1];

/* A call has ended; bytes: with heads. */
void endpoint_count(struct endpoint *endpoint, enum endpoint_result result, uint64_t took_us, uint64_t bytes_in,
                    uint64_t bytes_out);
/* The class of an HTTP status, or of an error in place of one. */
enum endpoint_result endpoint_result_of(enum err err, unsigned status);
/* Adds one to the other; name stays. */
void endpoint_add(struct endpoint *to, const struct endpoint *from);
#endif
