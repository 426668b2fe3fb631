/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CLOCK_H
#define IOTGW_CLOCK_H
/*
 * The two clocks. Wall: int64_t milliseconds since the epoch, for stamps and people. Monotonic: uint64_t milliseconds
 * since some start, for timers and measuring; the two are never mixed in one expression. Any thread.
 * Actors do not call these: they ask their loop (io/loop.h), which reads each clock once a turn and can be given
 * another clock by a test.
 */
#include <stdbool.h>
#include <stdint.h>

int64_t clock_wall_ms(void);
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
/* When this program's sources were last changed, since the epoch: a wall clock that shows less is certainly not set. */
extern const int64_t clock_build_ms;
#endif
