/* logcheck.c - see logcheck.h. */
#include "engine/logcheck.h"

#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_impl.h"

#define NICE 10
#define RETRY_MS 60000

struct logcheck {
    struct engine *e;
    uint64_t bytes; /* read so far; the thread's own, as the next */
    unsigned failed;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int stop; /* under lock */
};

/* 0: it is to stop. */
static int pause_ms(struct logcheck *l, uint64_t ms)
{
    uint64_t until = clock_mono_us() + ms * 1000;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && clock_mono_us() < until)
        clock_cond_wait(&l->wake, &l->lock, until);
    int stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return !stop;
}

static enum err pace(void *arg, uint64_t bytes)
{
    struct logcheck *l = arg;
    l->bytes += bytes;
    return pause_ms(l, bytes * 1000 / LOGCHECK_BYTES_PER_S) ? ERR_OK : ERR_AGAIN;
}

static int must_end(void *arg)
{
    return !pause_ms(arg, 0);
}

static void damaged(struct logcheck *l, uint64_t first_lsn, uint64_t last_lsn)
{
    struct engine *e = l->e;
    engine_logf(e, LOG_WARNING, "the log has damage from LSN %llu to %llu, within what was durable",
                (unsigned long long)first_lsn, (unsigned long long)last_lsn);
    if (engine_mend_log(e, last_lsn, must_end, l) == ERR_OK || must_end(l) || !e->snapshots)
        return;
    engine_logf(e, LOG_WARNING, "it is left behind as soon as a snapshot is made of all that is in the stores");
    snapshots_log_damaged(e->snapshots, last_lsn);
}

/* 0: to be tried again, later. */
static int check_segment(struct logcheck *l, uint64_t lsn)
{
    uint64_t first, last;
    enum err err = wal_verify_segment(l->e->wal, lsn, pace, l, &first, &last);
    if (err == ERR_CORRUPT)
        damaged(l, first, last);
    if (err != ERR_IO && err != ERR_OOM)
        return 1; /* or it was deleted meanwhile, or this is to stop */
    if (!l->failed++)
        engine_logf(l->e, LOG_WARNING, "the log from LSN %llu on cannot be verified (%s) and will be tried again",
                    (unsigned long long)lsn, err_text(err));
    return 0;
}

static void *check_main(void *arg)
{
    struct logcheck *l = arg;
    uint64_t lsn, begun_us = clock_mono_us();
    int go = 1;

    pthread_setname_np(pthread_self(), "coffer-logchk");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone; where it is refused, it is fairer */
    while (go && (lsn = wal_unverified_lsn(l->e->wal)) != 0)
        go = pause_ms(l, check_segment(l, lsn) ? 0 : RETRY_MS);
    if (go && l->bytes)
        engine_logf(l->e, LOG_NOTICE, "The rest of the log is verified: %llu bytes in %llu ms",
                    (unsigned long long)l->bytes, (unsigned long long)(clock_mono_us() - begun_us) / 1000);
    return NULL;
}

enum err logcheck_start(struct logcheck **out, struct engine *e)
{
    struct logcheck *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    l->e = e;
    pthread_mutex_init(&l->lock, NULL);
    clock_cond_init(&l->wake);
    if (pthread_create(&l->thread, NULL, check_main, l) == 0)
        return ERR_OK;
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
    *out = NULL;
    return ERR_OOM;
}

void logcheck_stop(struct logcheck *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = 1;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
