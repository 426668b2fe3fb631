/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_YAML_FILE_H
#define IOTGW_YAML_FILE_H
/*
 * Configurations in the older YAML form (UTF-8), read as the JSON document they stand for: null, bool, int, float and text as
 * YAML 1.1 resolves plain scalars (quoted ones are text), mappings with names, sequences. Positions are those in the YAML
 * text; json_file_text gives the JSON.
 *
 * What could make a file mean something else than what it shows is refused with its place: anchors, aliases, merge keys,
 * tags, several documents. So is what JSON has no word for (.inf, .nan, a mapping as a key). Repeated keys stay: the last
 * one counts, and loading a configuration reports them as in JSON. Reasons are "FILE:LINE:COLUMN: message".
 */
#include "data/json.h"

enum { YAML_MAX_BYTES = 8 << 20 }; /* at most JSON_MAX_DEPTH levels */

NODISCARD enum err yaml_file_read(struct json_file **out, const char *path, struct why *why);
NODISCARD enum err yaml_file_parse(struct json_file **out, const char *name, struct str text, struct why *why);
#endif
