/* SPDX-License-Identifier: Apache-2.0 */
/* For tls_test: a module of another build, which stands beside the test and must be passed over. */
#include "io/tls.h"

extern const struct tls_api iotgw_tls;
const struct tls_api iotgw_tls = {.size = sizeof(struct tls_api), .build_id = "another build"};
