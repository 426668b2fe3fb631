/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_MODBUS_FAULT_H
#define IOTGW_SIM_MODBUS_FAULT_H
/*
 * What goes wrong between a simulated Modbus server and its client: rules that are asked for each answer. Pure but for its
 * own dice, which fall the same way in each run. One thread.
 */
#include "base/buf.h"

enum fault_kind {
    FAULT_DELAY,     /* ms; the connection's other requests wait behind it */
    FAULT_LATE,      /* ms; the others go on meanwhile */
    FAULT_DROP,      /* no answer */
    FAULT_EXCEPTION, /* that code */
    FAULT_LENGTH,    /* the PDU lacks its last byte */
    FAULT_CUT,       /* the frame lacks its second half */
    FAULT_SPLIT,     /* the second half comes 20 ms later */
    FAULT_TID,       /* another transaction identifier */
    FAULT_UNIT,      /* another unit identifier */
    FAULT_CHECK,     /* a wrong CRC or LRC */
    FAULT_TWICE,     /* the answer comes twice */
    FAULT_NOISE,     /* some bytes before it */
    FAULT_HANGUP,    /* the connection ends instead */
    FAULTS
};

struct fault_rule {
    enum fault_kind kind;
    uint32_t value, percent;
    int unit, port; /* -1: all; port: its index */
};

struct faults {
    struct fault_rule rules[64];
    size_t n;
    uint64_t dice;
};

struct fault_verdict {
    uint32_t values[FAULTS]; /* 0: not now; 1 where there is no number */
};

/* "drop 10", "exception 2:50 unit=3 port=0": a number and how many of a hundred. Of kinds without a number, that alone. */
NODISCARD enum err faults_add(struct faults *faults, struct str text, struct why *why);
void faults_ask(struct faults *faults, uint8_t unit, unsigned port, struct fault_verdict *verdict);
#endif
