/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

const struct command_spec *const commands[] = {
    &cmd_run,        &cmd_check,     &cmd_convert, &cmd_test_connection, &cmd_browse,
    &cmd_schema,     &cmd_sim,       &cmd_store,   &cmd_status,          &cmd_tail,
    &cmd_rpc,        &cmd_connector, &cmd_reload,  &cmd_log_level,       &cmd_version,
    &cmd_completion, &cmd_help,      NULL,
};
