/* keyclass.c - notify-keyspace-events: its letters; see keyevent.h. Apart from keyevent.c, for the configuration. */
#include <string.h>

#include "server/keyevent.h"

_Atomic unsigned keyevent_flags;

/* Redis's letters, in the order in which it writes them; a bit each. */
static const char letters[] = "g$lshzxetdnKEm";
#define ALL 0x3ffu /* A: "g$lshzxetd" */

unsigned keyevent_bit(char letter)
{
    const char *at = letter ? strchr(letters, letter) : NULL;
    return at ? 1u << (at - letters) : 0;
}

enum err keyevent_parse(struct bytes classes, unsigned *flags)
{
    *flags = 0;
    for (size_t i = 0; i < classes.n; i++) {
        char ch = (char)classes.p[i];
        if (ch == 'A')
            *flags |= ALL;
        else if (keyevent_bit(ch))
            *flags |= keyevent_bit(ch);
        else
            return ERR_SYNTAX;
    }
    return ERR_OK;
}

void keyevent_format(unsigned flags, char out[32])
{
    if ((flags & ALL) == ALL) {
        *out++ = 'A';
        flags &= ~ALL;
    }
    for (const char *l = letters; *l; l++)
        if (flags & keyevent_bit(*l))
            *out++ = *l;
    *out = 0;
}

void keyevent_set(unsigned flags)
{
    atomic_store(&keyevent_flags, flags);
}
