/* SPDX-License-Identifier: Apache-2.0 */
#include "io/serial_tty.h"

#include <asm/termbits.h> /* struct termios2 */
#include <errno.h>
#include <linux/serial.h>
#include <string.h>
#include <sys/ioctl.h>

static tcflag_t flags_of(const struct serial_conf *conf)
{
    static const tcflag_t sizes[] = {[5] = CS5, [6] = CS6, [7] = CS7, [8] = CS8};
    tcflag_t flags = CREAD | CLOCAL | BOTHER | sizes[conf->bytesize];

    if (conf->half_stopbits > 2) /* with five data bits the hardware makes 1.5 of it */
        flags |= CSTOPB;
    switch (conf->parity) {
    case 'E':
        return flags | PARENB;
    case 'O':
        return flags | PARENB | PARODD;
    case 'M':
        return flags | PARENB | PARODD | CMSPAR;
    case 'S':
        return flags | PARENB | CMSPAR;
    default:
        return flags;
    }
}

enum err serial_tty_set(int fd, const struct serial_conf *conf, struct why *why)
{
    struct termios2 want = {.c_cflag = flags_of(conf), .c_ispeed = conf->baudrate, .c_ospeed = conf->baudrate};
    struct termios2 got;

    want.c_iflag = conf->parity == 'N' ? IGNBRK : IGNBRK | INPCK | IGNPAR; /* a wrong parity: the byte is missing */
    want.c_cc[VMIN] = 1;
    if (ioctl(fd, TCSETS2, &want) || ioctl(fd, TCGETS2, &got))
        return why_set(why, err_from_errno(errno), "%s: not a serial device, or its settings are refused: %s",
                       conf->path, strerror(errno));
    if (got.c_ospeed < conf->baudrate - conf->baudrate / 33 || got.c_ospeed > conf->baudrate + conf->baudrate / 33)
        return why_set(why, ERR_UNSUPPORTED, "%s: the device cannot do %u baud, only %u", conf->path, conf->baudrate,
                       got.c_ospeed);
    if ((got.c_cflag & (CSIZE | PARENB | PARODD | CMSPAR)) != (want.c_cflag & (CSIZE | PARENB | PARODD | CMSPAR)))
        return why_set(why, ERR_UNSUPPORTED, "%s: the device cannot do %u data bits with parity %c", conf->path,
                       conf->bytesize, conf->parity);
    ioctl(fd, TCFLSH, TCIOFLUSH);
    return ERR_OK;
}

void serial_tty_hurry(int fd)
{
    struct serial_struct settings;

    if (!ioctl(fd, TIOCGSERIAL, &settings)) {
        settings.flags |= ASYNC_LOW_LATENCY;
        ioctl(fd, TIOCSSERIAL, &settings);
    }
}

bool serial_tty_rs485(int fd)
{
    struct serial_rs485 settings = {.flags = SER_RS485_ENABLED | SER_RS485_RTS_ON_SEND};

    return ioctl(fd, TIOCSRS485, &settings) == 0;
}

void serial_tty_drop_output(int fd)
{
    ioctl(fd, TCFLSH, TCOFLUSH);
}
