/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/anew.h"

#include "base/file.h"

#include <errno.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 256, ARGUMENTS_BYTES = 64 * 1024 };

void anew_begin(bool is_machine, struct log *log, anew_exec_fn *exec)
{
    static const char *const reboot[] = {"systemctl", "reboot", NULL};
    autobuf struct buf text = {0};
    const char *argv[ARGUMENTS_MAX + 1];
    size_t n = 0;
    enum err err = is_machine ? ERR_OK : file_read(&text, "/proc/self/cmdline", ARGUMENTS_BYTES, NULL);

    exec = exec ? exec : execvp;
    buf_add_u8(&text, 0);
    for (size_t at = 0; at + 1 < text.n && n < ARGUMENTS_MAX; at += strlen(argv[n - 1]) + 1)
        argv[n++] = (const char *)text.p + at;
    argv[n] = NULL;
    errno = 0;
    if (!err && is_machine)
        exec(reboot[0], (char *const *)(uintptr_t)reboot);
    else if (!err && n)
        exec("/proc/self/exe", (char *const *)(uintptr_t)argv);
    LOG_ERROR(log, "cannot start anew", KV_ERR(err ? err : err_from_errno(errno)));
}
