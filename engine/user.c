/* user.c - see user.h. */
#include "engine/user.h"

int user_name_ok(struct bytes name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] == 0x7f)
            return 0;
    return name.n >= 1 && name.n <= USER_NAME_MAX;
}

struct bytes user_key(uint8_t out[USER_KEY_MAX], struct bytes name)
{
    out[0] = 'U';
    memcpy(out + 1, name.p, name.n);
    return bytes_of(out, 1 + name.n);
}

enum err user_rules(struct bytes record, struct bytes *rules)
{
    *rules = bytes_of(NULL, 0);
    if (record.n < 1 || record.p[0] != USER_FORMAT)
        return ERR_CORRUPT;
    *rules = bytes_of(record.p + 1, record.n - 1);
    return ERR_OK;
}
