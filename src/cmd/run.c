/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/kinds.h"
#include "gateway/apply.h"
#include "gateway/gateway.h"
#include "gateway/logging.h"
#include "gateway/signals.h"
#include "gateway/uplink_conf.h"

#include "build_id.h"

static int run(const struct command_line *line)
{
    struct problems problems;
    struct gateway_conf *conf;
    struct log log;
    struct logging *logging = NULL;
    int code = EXIT_CONFIG;

    signals_hold();
    log_init(&log, "service", LOG_LEVEL_INFO);
    problems_init(&problems);
    conf = gateway_conf_load_to_run(line->config, &module_types, &problems);
    if (conf)
        log_set_level(&log, logger_level(conf, STR("service")));
    if (conf)
        logging = logging_new(conf, &problems);
    apply_log_problems(&log, &problems);
    if (conf) {
        LOG_INFO(&log, "starting", KV_Z("version", IOTGW_VERSION), KV_Z("configuration", conf->path));
        code = gateway_run(conf, &module_types, &problems, logging, &log);
        LOG_INFO(&log, "stopped");
    } else {
        LOG_ERROR(&log, "nothing can be started: the main configuration file cannot be used");
    }
    log_flush(true);
    log_fini(&log);
    logging_free(logging);
    problems_fini(&problems);
    return code;
}

const struct command_spec cmd_run = {
    .name = "run",
    .summary = "run the gateway",
    .text =
        "Reads the configuration, starts everything that is right and says what is not. Logs go to standard error, "
        "or to the journal when standard error is connected to it. SIGTERM and SIGINT stop it within ten seconds: "
        "sources are acknowledged, what waits in memory is delivered if the platform takes it, devices are "
        "disconnected.\n\n"
        "Edited files are taken over while it runs, connector by connector, at once or on SIGHUP. What has errors "
        "is left as it was, and named in the log.\n\n"
        "Where a .json file of the configuration is not there and the same with .yaml is, that is read and written as "
        "JSON, once. A connector's file without an \"id\" gets one. Where nothing can be written, the gateway runs "
        "all the same.",
    .run = run};
