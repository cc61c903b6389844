/* hsmwait.c - see hsmwait.h. */
#include "server/hsmwait.h"

#include <pthread.h>

struct waiting {
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

enum err hsmwait(struct hsm *h, enum hsm_op op, const struct bytes *part, unsigned parts, struct hsm_req *req)
{
    struct waiting w = {.lock = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER};

    hsm_req_init(req, op, on_answer, &w);
    enum err e = hsm_submit(h, req, part, parts);
    if (e)
        return e;
    hsm_flush(h);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.answered, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return req->result;
}

int hsmwait_part_is(const struct hsm_req *req, unsigned part, size_t n)
{
    return part < req->parts && req->part[part].n == n;
}
