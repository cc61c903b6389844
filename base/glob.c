/* glob.c - see glob.h. One loop over the text; *star and *mark remember the last '*' of the pattern and how much of the
 * text it has taken, and a mismatch goes back there with one byte more. An earlier '*' need not be tried again:
 * whatever it could take more, the last one can as well. */
#include "base/glob.h"

static uint8_t fold(uint8_t c, int nocase)
{
    return nocase && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* One member of a class at *i, moved behind it: a byte or a range. 1 when c is in it. */
static int class_member(struct bytes p, size_t *i, uint8_t c, int nocase)
{
    uint8_t lo, hi;
    if (p.p[*i] == '\\' && *i + 1 < p.n)
        ++*i;
    lo = hi = fold(p.p[(*i)++], nocase);
    if (*i + 1 < p.n && p.p[*i] == '-' && p.p[*i + 1] != ']') {
        hi = fold(p.p[*i + 1], nocase);
        *i += 2;
    }
    return lo <= hi ? c >= lo && c <= hi : c >= hi && c <= lo;
}

/* The class at p[at], which is '['; *end is behind its ']', or the end of the pattern when that is missing. */
static int class_match(struct bytes p, size_t at, uint8_t c, int nocase, size_t *end)
{
    size_t i = at + 1;
    int negated = i < p.n && p.p[i] == '^', found = 0;
    if (negated)
        i++;
    while (i < p.n && p.p[i] != ']')
        found |= class_member(p, &i, c, nocase);
    *end = i < p.n ? i + 1 : i;
    return found != negated;
}

/* Whether the pattern's element at `at` matches the byte c; *next is the element behind it. */
static int element_match(struct bytes p, size_t at, uint8_t c, int nocase, size_t *next)
{
    *next = at + 1;
    c = fold(c, nocase);
    if (p.p[at] == '?')
        return 1;
    if (p.p[at] == '[')
        return class_match(p, at, c, nocase, next);
    if (p.p[at] == '\\' && at + 1 < p.n) {
        *next = at + 2;
        return fold(p.p[at + 1], nocase) == c;
    }
    return fold(p.p[at], nocase) == c;
}

int glob_match(struct bytes p, struct bytes text, int nocase)
{
    size_t i = 0, t = 0, star = p.n, mark = 0, next;

    while (t < text.n) {
        if (i < p.n && p.p[i] == '*') {
            star = i++;
            mark = t;
        } else if (i < p.n && element_match(p, i, text.p[t], nocase, &next)) {
            i = next;
            t++;
        } else if (star < p.n) {
            i = star + 1;
            t = ++mark;
        } else {
            return 0;
        }
    }
    while (i < p.n && p.p[i] == '*')
        i++;
    return i == p.n;
}
