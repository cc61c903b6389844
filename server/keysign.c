/* keysign.c - see keysign.h. */
#include "server/keysign.h"

#include <stdio.h>

#include "server/options.h"

enum { DIGEST, ALG, VERSION, OPTS };
static const struct option options[OPTS] = {
    [DIGEST] = {"DIGEST", OPTION_FLAG, 0, 0, 0},
    [ALG] = {"ALG", OPTION_BYTES, 0, 0, 0},
    [VERSION] = {"VERSION", OPTION_INT, 0, 1, UINT32_MAX},
};

static void reply_unknown(struct call *c)
{
    char names[256];
    size_t at = 0;
    for (unsigned i = 0; sig_row(i); i++)
        at += (size_t)snprintf(names + at, at < sizeof names ? sizeof names - at : 0, "%s%s", i ? ", " : "",
                               sig_row(i)->name);
    call_errorf(c, ERR_SYNTAX, "unknown signature algorithm: use one of %s", names);
}

/* The algorithm, and whether the message can be what it was said to be. NULL: replied. */
static const struct sig *choose(struct call *c, const struct keyed *k, const struct sig *asked, int digest)
{
    const struct sig *s = sig_for(k->alg, asked ? asked->code : SIG_NONE);
    if (!s)
        call_errorf(c, ERR_UNSUPPORTED, "key '%s' is %s, which makes no %s signatures", k->text, k->alg->name,
                    asked ? asked->name : "");
    else if (digest && s->digest_bytes == 0)
        call_errorf(c, ERR_UNSUPPORTED, "%s signs the message itself: leave DIGEST out", s->name);
    else if (digest && c->argv[3].n != s->digest_bytes)
        call_errorf(c, ERR_RANGE, "the digest for %s has %u bytes", s->name, s->digest_bytes);
    else
        return s;
    return NULL;
}

int keysign_begin(struct call *c, unsigned from, struct keysign *out, struct keyed *k)
{
    struct option_value opt[OPTS] = {0};
    const struct sig *s = NULL;

    if (options_parse(c, from, options, from == 5 ? OPTS : VERSION, opt))
        return 0;
    if (opt[ALG].given && !(s = sig_by_name(opt[ALG].b))) {
        reply_unknown(c);
        return 0;
    }
    if (c->argv[3].n > KEYOP_INPUT_MAX) {
        call_errorf(c, ERR_TOOBIG, "the HSM takes at most %u bytes at a time: hash the message and use DIGEST",
                    (unsigned)KEYOP_INPUT_MAX);
        return 0;
    }
    if (keyop_open(c, k))
        return 0;
    if (keyop_usable(c, k, ALG_CAN_SIGN) == ERR_OK && (s = choose(c, k, s, opt[DIGEST].given))) {
        *out = (struct keysign){.code = {s->code, opt[DIGEST].given != 0}, .version = (uint32_t)opt[VERSION].i};
        return 1;
    }
    keyop_close(k);
    return 0;
}
