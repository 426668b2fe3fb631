/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_GATEWAY_SKETCH_H
#define IOTGW_GATEWAY_SKETCH_H
/* The shortened form of a connector that a page of the platform shows and no version ever read (core.md 13). */
#include "conf/conf.h"

/* true: the file is that form, which is reported together with the real form of the same content. */
bool gateway_report_sketch(const struct json_file *file, struct problems *problems);
#endif
