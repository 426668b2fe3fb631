/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONF_EXPRESSION_H
#define IOTGW_CONF_EXPRESSION_H
/*
 * Texts of a configuration that are compiled when it is loaded: regular expressions and templates. What cannot be compiled
 * is reported at the member key of what stands at. The result lives as long as the configuration.
 * ERR_CONFIG: reported, *out is as it was.
 */
#include "conf/conf.h"
#include "data/template.h"

NODISCARD enum err conf_regex(struct conf_load *load, const struct conf_at *at, const char *key, struct str pattern,
                              enum regex_use use, struct regex **out);
NODISCARD enum err conf_template(struct conf_load *load, const struct conf_at *at, const char *key, struct str text,
                                 struct template **out);
/* A compiled one belongs to the configuration from now on. */
void conf_own_regex(struct conf_load *load, struct regex *regex);
#endif
