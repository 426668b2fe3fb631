/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CRASH_H
#define IOTGW_CRASH_H
/*
 * What the program does when it dies of a fault (a bad address, abort, a failed assert, a division by zero): it writes whose turn it
 * was into a file that is there already, and begins anew in the same process, within milliseconds.
 *
 * Whose turn it was is read from what the fault has left: code of a connector's module on the stack says which type it was, the first
 * pointer into an instance's memory, or to a handle that points there, which one. Registers that the frames hold (by the unwinder; on
 * x86-64 and aarch64) come first; words of the stack, which may be of another's turn, only where there is no frame to begin with. So it
 * costs nothing as long as nothing happens, and holds for handles that a module brings itself. Where no module's code is on the stack
 * it was the gateway's own turn.
 *
 * The handlers allocate nothing and take no lock. One a process; main thread, but for crash_thread_begin. Not with a sanitizer, whose
 * own handlers say more. With IOTGW_ON_CRASH=end, and after the fifth fault within a minute, the process ends with the signal as it
 * would have without: for core dumps, and for the service manager.
 */
#include "gateway/crash_book.h"

/* The file is made, with room for what may come, and what stands in it is read; older than a day is forgotten. */
NODISCARD enum err crash_begin(const char *path, int64_t now_s, struct crash_book *book, struct why *why);
void crash_stay_down(void); /* the program is to end: after a fault it does not begin anew */
/* Around taking a signal off what is pending: a fault that happens meanwhile waits until it is known whether it is a stop, which then
 * holds; after a fault the first one does not return, so that the signal is still there for the next program. */
void crash_taking_begins(void);
void crash_taking_ends(bool is_stop);
void crash_end(void); /* the system's own handlers again */
/* A stack of its own for the handlers, so that a stack that is full is a fault like others: each thread that runs connectors. */
void crash_thread_begin(void);

/* An instance of a connector, from before its open until after its close. Embedded; zeroed: none. */
struct crash_owner {
    char *json; /* "connector":…,"type":… */
    const void *self, *ctx, *conf;
    size_t size;
    uintptr_t code, code_end;
    size_t slot; /* from 1 */
};
void crash_add(struct crash_owner *owner, struct str name, struct str type, const void *code, const void *self,
               size_t size, const void *ctx, const void *conf);
void crash_remove(struct crash_owner *owner);
#endif
