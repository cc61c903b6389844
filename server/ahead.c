/* ahead.c - see ahead.h.
 *
 * Inline requests end it (their parser resolves escapes in the input itself), as does half a request. Commands that
 * are no reads of one secret are passed over: writes look nothing up on this thread.
 *
 * Rejected: dispatching from the requests parsed ahead, which saves parsing them again (a thirtieth of a read) but
 * makes a second kind of held request for all that may park, hold or yield in between.
 */
#include "server/ahead.h"

#include "server/command.h"
#include "server/conn_private.h"
#include "server/facade.h"
#include "server/server.h"

struct look {
    struct call call;
    struct engine_ahead at[ENGINE_WARM_MAX];
    unsigned n;
};

/* Notes the secret that a request will read, if it will read one. */
static void note(struct look *l, const struct bytes *argv, size_t argc)
{
    struct facade_key k;
    int sub_unknown;
    const struct command *cmd = command_find(argv, (unsigned)argc, &sub_unknown);

    if (!cmd || !(cmd->flags & CMD_READ) || cmd->categories & CAT_KEY || !command_arity_ok(cmd, (unsigned)argc))
        return;
    if (cmd->keys == KEYS_VAULT_ONE) {
        k.path = argv[2];
        k.vault = vaults_find(engine_vaults(l->call.srv->engine), argv[1]);
    } else if (cmd->keys != KEYS_ONE || facade_resolve(&l->call, argv[1], 0, &k)) {
        return;
    }
    if (k.vault)
        l->at[l->n++] = (struct engine_ahead){k.vault, k.path};
}

unsigned ahead_look(struct conn *c)
{
    struct io *io = c->io;
    struct look l = {.call = {.srv = io->srv, .io = io, .conn = c}};
    size_t left, used = c->held_used;
    unsigned seen = 1;
    uint8_t *p;

    conn_input(c, &p, &left);
    if (left == used || atomic_load_explicit(&io->srv->loading, memory_order_acquire) || !io->srv->engine)
        return seen;
    note(&l, c->parser.argv, c->parser.argc);
    io->ahead.limits = c->parser.limits;
    for (; seen < ENGINE_WARM_MAX; seen++) {
        p += used;
        left -= used;
        if (!left || *p != '*')
            break;
        if (request_parse(&io->ahead, p, left, &used) != REQUEST_READY) {
            request_parser_fini(&io->ahead);
            request_parser_init(&io->ahead, c->parser.limits);
            break;
        }
        note(&l, io->ahead.argv, io->ahead.argc);
    }
    if (l.n > 1)
        engine_warm(io->srv->engine, l.at, l.n);
    return seen;
}
