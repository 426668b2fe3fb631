/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_MAIN_H
#define IOTGW_SIM_MAIN_H
/* The simulators; argv[0] is the subcommand. The value is the exit code. */
int platform_main(int argc, char **argv);
int source_main(int argc, char **argv);
int devices_main(int argc, char **argv);
int modbus_main(int argc, char **argv);
int web_main(int argc, char **argv);
int web_clients_main(int argc, char **argv);
#endif
