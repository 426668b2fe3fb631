/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_MODBUS_STATION_H
#define IOTGW_SIM_MODBUS_STATION_H
/*
 * What a simulated Modbus unit holds and how it answers. Registers and bits follow a pattern until they are written:
 * register 0 counts the reads that cover it, 1 and 2 are CLOCK_MONOTONIC in ms (low 32 bits, high word first), and bits are
 * on where their address divides by 3. A read that covers register 0 is a poll; the intervals of polls are measured. One thread.
 */
#include "modbus_pdu.h"
#include "tally.h"

enum station_area { AREA_COILS, AREA_DISCRETE, AREA_HOLDING, AREA_INPUT, AREAS };
enum station_pattern {
    PATTERN_ADDRESS, /* the address itself */
    PATTERN_BENCH,   /* 0x4100 + the address's low byte: about 8.1 as a float of two registers */
    PATTERN_WAVE,    /* moves slowly, by the time and the address */
};

struct station_conf {
    enum station_pattern pattern;
    uint32_t size;      /* of each area; beyond: exception 2 */
    uint32_t period_ms; /* expected between polls */
};

struct station_hole { /* exception 2 where a request touches it */
    enum station_area area;
    uint32_t from, to;
};

struct station_page {
    uint16_t values[256];
    uint8_t is_set[32];
};

struct station {
    uint8_t unit;
    struct station_page *pages[AREAS][256];
    uint16_t counter;
    uint64_t n_polls, first_us, last_us; /* monotonic, of polls */
    uint64_t max_jitter_us;
    bool was_read; /* in the request that is answered */
};

struct station_counts {
    uint64_t n_requests, n_answers, n_exceptions, n_writes, n_polls;
    struct histogram jitter; /* µs */
};

extern const char *const station_area_names[AREAS];
bool station_area_of(struct str name, enum station_area *area);
struct station *station_new(uint8_t unit);
void station_free(struct station *station);
uint16_t station_get(struct station *station, const struct station_conf *conf, enum station_area area,
                     uint16_t address);
void station_set(struct station *station, enum station_area area, uint16_t address, uint16_t value);
void station_answer(struct station *station, const struct station_conf *conf, const struct station_hole *holes,
                    size_t n_holes, const struct modbus_pdu *ask, struct modbus_pdu *answer,
                    struct station_counts *counts);
#endif
