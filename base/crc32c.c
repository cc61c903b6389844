/* crc32c.c - see crc32c.h. The instruction does 8 bytes in 3 cycles; interleaving three streams would treble that, and
 * was left out because a log append costs hundreds of times its checksum. The table has 16 entries (one step a nibble):
 * it serves machines so old that its speed is not what holds them back, and can be checked by eye.
 */
#include "base/crc32c.h"

#include <string.h>

#define POLY 0x82F63B78u /* Castagnoli, bits reversed */

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t n)
{
#define BIT(v) ((v) >> 1 ^ ((v)&1 ? POLY : 0))
#define NIBBLE(v) BIT(BIT(BIT(BIT((uint32_t)(v)))))
    static const uint32_t table[16] = {
        NIBBLE(0), NIBBLE(1), NIBBLE(2),  NIBBLE(3),  NIBBLE(4),  NIBBLE(5),  NIBBLE(6),  NIBBLE(7),
        NIBBLE(8), NIBBLE(9), NIBBLE(10), NIBBLE(11), NIBBLE(12), NIBBLE(13), NIBBLE(14), NIBBLE(15),
    };
    while (n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)

static int have_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t wide = crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        wide = __builtin_ia32_crc32di(wide, v);
    }
    crc = (uint32_t)wide;
    while (n--)
        crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

#define HWCAP_CRC32_BIT (1ul << 7) /* HWCAP_CRC32 of the kernel's asm/hwcap.h */

static int have_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT) != 0;
}

static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(v));
    }
    while (n--) {
        uint32_t v = *p++;
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(v));
    }
    return crc;
}

#else

static int have_instruction(void)
{
    return 0;
}

static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    return crc_by_table(crc, p, n);
}

#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return ~(have_instruction() ? crc_by_instruction(~crc, p, n) : crc_by_table(~crc, p, n));
}
