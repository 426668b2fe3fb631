/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ANEW_H
#define IOTGW_ANEW_H
/* The last step of gateway_restart and gateway_reboot, when all has ended and only the main thread is left. */
#include "base/log.h"

/* As execvp(3); NULL: that. For tests. */
typedef int anew_exec_fn(const char *program, char *const argv[]);
/* The same program with the same arguments in this process; or the machine. Comes back only if that cannot be done. */
void anew_begin(bool is_machine, struct log *log, anew_exec_fn *exec);
#endif
