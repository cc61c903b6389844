/* fault.c - the slow path of the countdowns. Code and fired flag are atomics too: a test may arm while threads that
 * it started earlier are still counting, and TSan is right to look at that. */
#include "base/fault.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

_Atomic long fault_countdown[FAULT_KINDS];

static _Atomic int fault_code[FAULT_KINDS];
static _Atomic int fault_has_fired[FAULT_KINDS];

void fault_arm(enum fault_kind k, long n, int code)
{
    assert(n >= 1 && code != 0);
    fault_countdown[k] = 0;
    fault_code[k] = code;
    fault_has_fired[k] = 0;
    fault_countdown[k] = n;
}

void fault_disarm(enum fault_kind k)
{
    fault_countdown[k] = 0;
}

int fault_fired(enum fault_kind k)
{
    return fault_has_fired[k];
}

int fault_step_(enum fault_kind k)
{
    long left = fault_countdown[k];
    /* Compare and exchange, not a subtraction: of two threads that both saw 1, one takes the fault, the other none. */
    while (left > 0 && !atomic_compare_exchange_weak(&fault_countdown[k], &left, left - 1))
        ;
    if (left != 1)
        return 0;
    fault_has_fired[k] = 1;
    if (fault_code[k] == FAULT_DIE)
        raise(SIGKILL);
    return fault_code[k];
}

static int errno_of_name(const char *name)
{
    if (strcmp(name, "DIE") == 0)
        return FAULT_DIE;
    for (int e = 1; e < 256; e++) {
        const char *known = strerrorname_np(e);
        if (known && strcmp(known, name) == 0)
            return e;
    }
    return 0;
}

enum err fault_arm_text(const char *spec)
{
    static const struct {
        const char *prefix;
        enum fault_kind kind;
        int default_code;
    } kinds[] = {{"mem:", FAULT_MEM, ENOMEM}, {"file:", FAULT_FILE, EIO}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t skip = strlen(kinds[i].prefix);
        if (strncmp(spec, kinds[i].prefix, skip) != 0)
            continue;
        char *end = NULL;
        errno = 0;
        long n = strtol(spec + skip, &end, 10);
        if (errno || end == spec + skip || n < 1)
            return ERR_SYNTAX;
        int code = *end == ':' ? errno_of_name(end + 1) : *end == '\0' ? kinds[i].default_code : 0;
        if (!code)
            return ERR_SYNTAX;
        fault_arm(kinds[i].kind, n, code);
        return ERR_OK;
    }
    return ERR_SYNTAX;
}
