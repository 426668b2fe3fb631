/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CRC_H
#define IOTGW_CRC_H
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): by the processor's instruction where there is one. Any thread. */
#include <stddef.h>
#include <stdint.h>

/* crc: 0, or the result for what stands before. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_table(uint32_t crc, const void *p, size_t n); /* without the instruction; for tests */
#endif
