/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_YAML_SCALAR_H
#define IOTGW_YAML_SCALAR_H
/* Plain scalars of YAML 1.1 (its types null, bool, int, float) as JSON; pure. For data/yaml_file.c and its tests. */
#include "base/buf.h"

/* Appends the JSON text of a plain scalar that is no text. ERR_TYPE: it is text, nothing is appended. ERR_RANGE: an integer
 * in base 2, 8, 16 or 60 above 64 bits. ERR_UNSUPPORTED: infinite, or no number. */
NODISCARD enum err yaml_scalar_add(struct buf *out, struct str plain);
#endif
