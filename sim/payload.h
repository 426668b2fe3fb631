/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_PAYLOAD_H
#define IOTGW_SIM_PAYLOAD_H
/*
 * Payloads of simulated devices from a template: text with places
 *   ${device}  name              ${number}  of the device, from 0       ${seq}   messages before this one
 *   ${ts}      wall clock in ms  ${sent}    CLOCK_MONOTONIC in µs
 *   ${walk:MIN:MAX:DECIMALS}     a value that drifts between bounds     ${int:MIN:MAX}  any whole number
 *   ${bool}    now and then the other                                   ${pick:a|b|c}   mostly the first
 * Values that drift are remembered per device (struct payload_state). Same seed, same values. One thread.
 */
#include "base/buf.h"

struct payload_place {
    enum {
        PLACE_TEXT,
        PLACE_DEVICE,
        PLACE_NUMBER,
        PLACE_SEQ,
        PLACE_TS,
        PLACE_SENT,
        PLACE_WALK,
        PLACE_INT,
        PLACE_BOOL,
        PLACE_PICK
    } kind;
    struct str text; /* TEXT and PICK; points into the template */
    double min, max;
    unsigned decimals, state; /* state: index of the remembered value */
};

struct payload {
    struct payload_place *places;
    size_t n;
    unsigned n_states;
};

struct payload_state { /* of one device */
    uint64_t random, seq;
    unsigned number;
    struct str name;
    double *values; /* n_states */
};

/* text must live as long as the payload. */
NODISCARD enum err payload_init(struct payload *payload, struct str text, struct why *why);
void payload_fini(struct payload *payload);
void payload_state_init(struct payload_state *state, const struct payload *payload, unsigned number, struct str name);
void payload_state_fini(struct payload_state *state);
/* Appends one payload and counts seq. */
void payload_add(struct buf *out, const struct payload *payload, struct payload_state *state, int64_t wall_ms,
                 uint64_t mono_us);
#endif
