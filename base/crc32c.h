/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 B.4), by the SSE4.2 or ARMv8 instruction where there is one, by table else.
 * crc32c(0, p, n) of "123456789" is 0xE3069283. Any thread, never blocks. */
#ifndef COFFER_BASE_CRC32C_H
#define COFFER_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc over n bytes; start with 0. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
