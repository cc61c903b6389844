/* realmsign.c - see realmsign.h. */
#include "server/realmsign.h"

#include <pthread.h>
#include <string.h>

#include "hsm/hsm.h"
#include "server/server.h"

struct waiting {
    struct hsm_req req;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int done;
};

static void on_answer(struct hsm_req *r)
{
    struct waiting *w = r->arg;
    pthread_mutex_lock(&w->lock);
    w->done = 1;
    pthread_cond_signal(&w->answered);
    pthread_mutex_unlock(&w->lock);
}

enum err realmsign(void *arg, struct bytes in, uint8_t out[32])
{
    struct server *srv = arg;
    struct waiting w = {.lock = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER};

    hsm_req_init(&w.req, HSM_REALM_MAC, on_answer, &w);
    enum err e = hsm_submit(srv->hsm, &w.req, &in, 1);
    if (e)
        return e;
    hsm_flush(srv->hsm);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.answered, &w.lock);
    pthread_mutex_unlock(&w.lock);
    e = w.req.result;
    if (!e && (w.req.parts != 1 || w.req.part[0].n != 32))
        e = ERR_INTERNAL;
    if (!e)
        memcpy(out, w.req.part[0].p, 32);
    hsm_req_fini(&w.req);
    return e;
}
