/* SPDX-License-Identifier: Apache-2.0 */
/* Argument vector to simulator, nothing else. */
#include "main.h"

#include "base/err.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *doc;
    int (*main)(int argc, char **argv);
} simulators[] = {
    {"platform", "a stand-in for the platform, which verifies what arrives", platform_main},
    {"mqtt-devices", "a fleet of devices that publish to an MQTT broker", devices_main},
    {"mqtt-source", "a broker that is its own fleet, for measuring", source_main},
    {"modbus", "Modbus servers, with faults on command", modbus_main},
    {"web-clients", "HTTP clients that send to a server, for measuring", web_clients_main},
    {"web-servers", "HTTP servers that answer polls", web_main},
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; argc > 1 && i < COUNT_OF(simulators); i++) {
        if (!strcmp(argv[1], simulators[i].name))
            return simulators[i].main(argc - 1, argv + 1);
    }
    printf("Usage: iotgw-sim SIMULATOR [OPTIONS]\n\n");
    for (size_t i = 0; i < COUNT_OF(simulators); i++)
        printf("  %-14s %s\n", simulators[i].name, simulators[i].doc);
    return argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) ? 0 : 64;
}
