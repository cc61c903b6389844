/* hex.h - bytes as hexadecimal digits, small letters, and back. Pure functions; any thread. */
#ifndef COFFER_BASE_HEX_H
#define COFFER_BASE_HEX_H

#include "base/bytes.h"

/* 2n digits, and nothing behind them. out may not overlap p. */
static inline void hex_digits(uint8_t *out, const uint8_t *p, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = (uint8_t)digit[p[i] >> 4];
        *out++ = (uint8_t)digit[p[i] & 15];
    }
}

/* As a text: 2n digits and a NUL. */
static inline void hex_put(char *out, const uint8_t *p, size_t n)
{
    hex_digits((uint8_t *)out, p, n);
    out[2 * n] = '\0';
}

/* 1 when text is 2n digits, with small letters; else 0, and out is anything. */
static inline int hex_get(struct bytes text, uint8_t *out, size_t n)
{
    if (text.n != 2 * n)
        return 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return 0;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | digit : digit << 4);
    }
    return 1;
}

#endif
