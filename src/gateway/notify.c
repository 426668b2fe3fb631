/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/notify.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(struct str state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n == 0 || n >= sizeof address.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(address.sun_path, path, n);
    if (*path == '@')
        address.sun_path[0] = 0; /* abstract name space, sd_notify(3) */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* Nobody can be told when this fails: the manager's own time-out speaks then. */
    (void)sendto(fd, state.p, state.n, MSG_NOSIGNAL, (const struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

uint64_t notify_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us, wanted;

    if (!usec || str_to_u64(str_from(usec), &us) != ERR_OK)
        return 0;
    if (pid && (str_to_u64(str_from(pid), &wanted) != ERR_OK || wanted != (uint64_t)getpid()))
        return 0;
    return us / 2000;
}
