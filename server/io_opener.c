/* io_opener.c - the I/O thread's opener, made when it is first asked for. Apart from io.c, so that what has nothing to
 * open (a test of connections) does not need hsm/. */
#include "hsm/seal.h"
#include "server/conn_private.h"

struct opener *io_opener(struct io *io)
{
    if (!io->opener && !atomic_load_explicit(&io->srv->loading, memory_order_acquire) && io->srv->keyring) {
        if (opener_new(&io->opener, io->srv->keyring))
            io->opener = NULL;
        io->opener_free = opener_free;
        io->opener_drop = opener_drop_stale;
    }
    return io->opener;
}
