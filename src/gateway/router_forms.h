/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ROUTER_FORMS_H
#define IOTGW_ROUTER_FORMS_H
/*
 * What the data of a reply are (pure): the error forms of the connectors (core.md 8.5), and what a connector's handler gave
 * (core.md 8.1). Appended to out, as JSON text.
 */
#include "data/json.h"

enum form {
    FORM_FAILED,
    FORM_TIMEOUT,
    FORM_UNKNOWN
}; /* of the device or converter · too late · method, device, params */
void form_error(struct buf *out, struct str connector_type, enum form form, struct str text);
/* success: -1 not given. content: NULL not given; a JSON text in a string is taken for what it holds. */
void form_reply(struct buf *out, yyjson_val *content, int success);
/* An object with "error" that a connector's handler returns at once gets "success":false. */
void form_result(struct buf *out, yyjson_val *result);
/* json if it is JSON, else as a JSON string. */
void form_checked(struct buf *out, struct str json);
#endif
