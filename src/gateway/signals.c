/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/signals.h"

#include "gateway/crash.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

void signals_set(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        sigaddset(set, numbers[i]);
}

void signals_hold(void)
{
    sigset_t set;

    signals_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        signal(numbers[i], SIG_DFL); /* a shell lets programs in the background ignore SIGINT */
}

/* Its number; 0: there is none. */
static int take(int fd)
{
    struct signalfd_siginfo info = {0};
    bool has_one;

    crash_taking_begins();
    has_one = read(fd, &info, sizeof info) == sizeof info;
    crash_taking_ends(has_one && info.ssi_signo != SIGHUP);
    return has_one ? (int)info.ssi_signo : 0;
}

static void readable(uv_poll_t *poll, int status, int events)
{
    struct signals *signals = poll->data;
    int number;

    (void)status;
    (void)events;
    while (signals->fd >= 0 && (number = take(signals->fd)))
        signals->told(signals->arg, number);
}

enum err signals_start(struct signals *signals, struct loop *main, void (*told)(void *arg, int number), void *arg)
{
    sigset_t set;
    int code;

    *signals = (struct signals){.told = told, .arg = arg};
    signals_set(&set);
    signals->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals->fd < 0)
        return err_from_errno(errno);
    code = uv_poll_init(loop_uv(main), &signals->poll, signals->fd);
    if (code == 0) {
        signals->poll.data = signals;
        code = uv_poll_start(&signals->poll, UV_READABLE, readable);
    }
    return err_from_uv(code);
}

void signals_stop(struct signals *signals)
{
    uv_close((uv_handle_t *)&signals->poll, NULL);
    close(signals->fd);
    signals->fd = -1;
}
