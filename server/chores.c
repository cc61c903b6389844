/* chores.c - see chores.h. */
#include "server/chores.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#define THREADS_MAX 8

struct chores {
    pthread_mutex_t lock;
    pthread_cond_t posted;
    struct chore *first, **last;
    _Atomic int stopping;
    unsigned threads;
    pthread_t thread[THREADS_MAX];
};

/* The oldest one; NULL: none will come any more. */
static struct chore *take(struct chores *cs)
{
    pthread_mutex_lock(&cs->lock);
    while (!cs->first && !cs->stopping)
        pthread_cond_wait(&cs->posted, &cs->lock);
    struct chore *c = cs->first;
    if (c && !(cs->first = c->next))
        cs->last = &cs->first;
    pthread_mutex_unlock(&cs->lock);
    return c;
}

static void *chores_main(void *arg)
{
    struct chore *c;
    while ((c = take(arg)))
        c->run(c);
    return NULL;
}

enum err chores_new(struct chores **out, unsigned threads)
{
    struct chores *cs = *out = mem_zalloc(sizeof *cs);
    if (!cs)
        return ERR_OOM;
    pthread_mutex_init(&cs->lock, NULL);
    pthread_cond_init(&cs->posted, NULL);
    cs->last = &cs->first;
    while (cs->threads < threads && cs->threads < THREADS_MAX &&
           !pthread_create(&cs->thread[cs->threads], NULL, chores_main, cs))
        cs->threads++;
    if (cs->threads == 0) {
        chores_free(cs);
        *out = NULL;
        return ERR_OOM;
    }
    return ERR_OK;
}

void chores_free(struct chores *cs)
{
    if (!cs)
        return;
    pthread_mutex_lock(&cs->lock);
    cs->stopping = 1;
    pthread_cond_broadcast(&cs->posted);
    pthread_mutex_unlock(&cs->lock);
    for (unsigned i = 0; i < cs->threads; i++)
        pthread_join(cs->thread[i], NULL);
    pthread_mutex_destroy(&cs->lock);
    pthread_cond_destroy(&cs->posted);
    mem_free(cs);
}

void chores_post(struct chores *cs, struct chore *c)
{
    c->next = NULL;
    pthread_mutex_lock(&cs->lock);
    *cs->last = c;
    cs->last = &c->next;
    pthread_cond_signal(&cs->posted);
    pthread_mutex_unlock(&cs->lock);
}

int chores_stopping(struct chores *cs)
{
    return atomic_load_explicit(&cs->stopping, memory_order_relaxed);
}
