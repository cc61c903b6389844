#include "resp/number.h"

int number_parse(struct bytes s, int64_t *out)
{
    *out = 0;
    if (s.n == 0 || s.n > NUMBER_MAX_BYTES)
        return 0;
    if (s.n == 1 && s.p[0] == '0')
        return 1;

    int negative = s.p[0] == '-';
    size_t i = (size_t)negative;
    uint64_t max = (uint64_t)INT64_MAX + (uint64_t)negative;
    uint64_t v = 0;
    if (i == s.n || s.p[i] == '0')
        return 0;
    for (; i < s.n; i++) {
        unsigned digit = s.p[i] - (unsigned)'0';
        if (digit > 9 || v > (max - digit) / 10)
            return 0;
        v = v * 10 + digit;
    }
    *out = (int64_t)(negative ? 0 - v : v);
    return 1;
}

static size_t count_digits(uint64_t v)
{
    size_t n = 1;
    while (v >= 10000) {
        v /= 10000;
        n += 4;
    }
    return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

size_t number_format_u64(uint8_t *out, uint64_t v)
{
    static const char pairs[201] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                   "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                   "8081828384858687888990919293949596979899";
    size_t n = count_digits(v), i = n;
    while (v >= 100) {
        i -= 2;
        memcpy(out + i, pairs + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10)
        memcpy(out, pairs + 2 * v, 2);
    else
        out[0] = (uint8_t)('0' + v);
    return n;
}

size_t number_format(uint8_t *out, int64_t v)
{
    if (v >= 0)
        return number_format_u64(out, (uint64_t)v);
    out[0] = '-';
    return 1 + number_format_u64(out + 1, 0 - (uint64_t)v);
}
