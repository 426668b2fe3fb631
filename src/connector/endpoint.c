/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/endpoint.h"

const unsigned endpoint_durations_ms[ENDPOINT_DURATIONS - 1] = {ENDPOINT_DURATIONS_MS};

void endpoint_count(struct endpoint *endpoint, enum endpoint_result result, uint64_t took_us, uint64_t bytes_in,
                    uint64_t bytes_out)
{
    unsigned i = 0;

    while (i < ENDPOINT_DURATIONS - 1 && took_us > endpoint_durations_ms[i] * 1000ULL)
        i++;
    endpoint->n_calls++;
    endpoint->results[result]++;
    endpoint->durations[i]++;
    endpoint->total_us += took_us;
    endpoint->bytes_in += bytes_in;
    endpoint->bytes_out += bytes_out;
    if (took_us > endpoint->longest_us)
        endpoint->longest_us = took_us;
}

enum endpoint_result endpoint_result_of(enum err err, unsigned status)
{
    switch ((int)err) {
    case ERR_OK:
        return status >= 500   ? ENDPOINT_FAILED
               : status >= 400 ? ENDPOINT_REFUSED
               : status >= 300 ? ENDPOINT_MOVED
                               : ENDPOINT_OK;
    case ERR_TIMEOUT:
        return ENDPOINT_TIMEOUT;
    case ERR_TLS:
        return ENDPOINT_TLS;
    case ERR_PROTO:
        return ENDPOINT_PROTOCOL;
    case ERR_CLOSED:
        return ENDPOINT_CLOSED;
    case ERR_LIMIT:
    case ERR_NOMEM:
        return ENDPOINT_LIMIT;
    default:
        return ENDPOINT_UNREACHABLE;
    }
}

void endpoint_add(struct endpoint *to, const struct endpoint *from)
{
    to->n_calls += from->n_calls;
    to->n_overdue += from->n_overdue;
    to->n_no_room += from->n_no_room;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    to->total_us += from->total_us;
    if (from->longest_us > to->longest_us)
        to->longest_us = from->longest_us;
    for (unsigned i = 0; i < ENDPOINT_RESULTS; i++)
        to->results[i] += from->results[i];
    for (unsigned i = 0; i < ENDPOINT_DURATIONS; i++)
        to->durations[i] += from->durations[i];
}
