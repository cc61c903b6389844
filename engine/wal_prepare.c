/* wal_prepare.c - see wal_prepare.h.
 *
 * A write into a block that the file system has yet to allocate makes fdatasync write its journal too: three times the
 * time, and ENOSPC in the middle of a commit. So a segment is filled with zeros before it is used, in steps of 1 MiB
 * with a sync after each, so that the log's own fdatasync never queues behind 16 MiB of zeros. They go past the page
 * cache: a third of the processor's time.
 *
 * Failures: for want of space (or memory, or descriptors) the file is removed again, so that it does not itself
 * fill the disk, and ten ticks later it is tried anew; wal_room says no meanwhile. A write or sync that failed
 * otherwise is the log's sticky failure: the disk under the log is failing, whichever file it was noticed on. A failed
 * statvfs keeps the last figure.
 *
 * The thread sleeps until kicked (segment taken, mark stored) or until the tick; with nothing to do it wakes once a
 * second to look at the free space.
 *
 * Rejected: fallocate (extents are allocated but unwritten: converting them journals just the same, measured slower
 * than a growing file); recycling old segments (old frames behind the end, and nobody wants to reason about those);
 * taking over a DIR/next that was found (it would have to be read to be trusted, which is no faster than writing it).
 */
#include "engine/wal_prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/wal_impl.h"

#define STEP_BYTES (1u << 20)
#define PAGE_BYTES 4096u
#define IDLE_MS 1000u
#define RETRY_TICKS 10

/* Never written: one page of zeros in memory, however large. Not const, which would put it into the program's file. */
static uint8_t zeros[256u << 10] __attribute__((aligned(PAGE_BYTES)));

static enum err write_step(int fd, uint64_t off, uint64_t end)
{
    struct iovec iov[STEP_BYTES / sizeof zeros];
    int count = 0;
    for (uint64_t at = off; at < end; at += sizeof zeros)
        iov[count++] = (struct iovec){
            .iov_base = zeros,
            .iov_len = end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros,
        };
    return file_pwritev(fd, iov, count, off);
}

static enum err write_zeros(int fd, uint64_t off, uint64_t end)
{
    for (uint64_t step_end; off < end; off = step_end) {
        step_end = end - off < STEP_BYTES ? end : off + STEP_BYTES;
        enum err e = write_step(fd, off, step_end);
        if (e && file_errno() == EINVAL) { /* it took the flag, and wants more than 4 KiB at a time */
            file_set_direct(fd, 0);
            e = write_step(fd, off, step_end);
        }
        if (!e)
            e = file_fdatasync(fd);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err open_next(struct wal_prepare *p, struct wal_prepared *next)
{
    enum err e = file_unlink(p->path);
    if (e && e != ERR_NOTFOUND)
        return e;
    next->seg = wal_segment_new();
    if (!next->seg)
        return ERR_OOM;
    return file_open(p->path, O_RDWR | O_CREAT | O_EXCL, 0600, &next->fd);
}

void wal_prepare_drop(struct wal_prepared *next)
{
    (void)!file_close(next->fd); /* only ever of a file whose content does not count, or was synced and checked */
    wal_segment_unref(next->seg);
    *next = (struct wal_prepared){.fd = -1};
}

static void look_at_space(struct wal_prepare *p)
{
    struct statvfs st;
    if (!fault_hit(FAULT_FILE) && statvfs(p->dir, &st) == 0)
        atomic_store(&p->disk_free, (uint64_t)st.f_bavail * st.f_frsize);
}

/* Makes next a file of at least bytes, or makes it larger. On failure there is none. *sticky: the disk failed. */
static enum err make_next(struct wal_prepare *p, struct wal_prepared *next, uint64_t bytes, int *sticky)
{
    enum err e = ERR_OK;

    *sticky = 0;
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    look_at_space(p);
    if (atomic_load(&p->disk_free) < bytes - next->bytes)
        e = ERR_MISCONF; /* not by filling the disk up: others need the last of it */
    if (!e && next->fd < 0)
        e = open_next(p, next);
    if (!e) {
        file_set_direct(next->fd, 1); /* zeros that nobody will read need not be copied into the page cache */
        e = write_zeros(next->fd, next->bytes, bytes);
        file_set_direct(next->fd, 0);
        *sticky = e && e != ERR_MISCONF;
    }
    if (e) {
        wal_prepare_drop(next);
        (void)!file_unlink(p->path); /* gives the space back; what stays is removed by the next try */
    } else {
        next->bytes = bytes;
    }
    return e;
}

/* Called and returns with the lock held. */
static void prepare(struct wal_prepare *p)
{
    struct wal_prepared next = p->next;
    uint64_t bytes = p->want_bytes;
    int sticky;

    p->state = WAL_NEXT_BUSY;
    pthread_mutex_unlock(&p->lock);
    enum err e = make_next(p, &next, bytes, &sticky);
    if (sticky)
        atomic_store(p->failed, 1);
    pthread_mutex_lock(&p->lock);
    p->next = next;
    p->state = e ? WAL_NEXT_NONE : WAL_NEXT_READY;
    p->error = e;
    p->retry_us = clock_mono_us() + p->tick_ms * (uint64_t)RETRY_TICKS * 1000;
    atomic_store(&p->no_space, e != ERR_OK);
    atomic_store(&p->ready_bytes, next.bytes);
    pthread_cond_broadcast(&p->done);
}

static int has_work(const struct wal_prepare *p)
{
    if (p->error || atomic_load(p->failed))
        return 0;
    return p->state == WAL_NEXT_NONE || (p->state == WAL_NEXT_READY && p->next.bytes < p->want_bytes);
}

/* Called and returns with the lock held. */
static void tick(struct wal_prepare *p)
{
    pthread_mutex_unlock(&p->lock);
    if (atomic_load(&p->mark->dirty) && !atomic_load(p->failed) && wal_mark_sync(p->mark) != ERR_OK)
        atomic_store(p->failed, 1);
    look_at_space(p);
    pthread_mutex_lock(&p->lock);
    if (p->error && clock_mono_us() >= p->retry_us)
        p->error = ERR_OK; /* try again; no_space stays until that went well */
    if (atomic_load(p->failed))
        pthread_cond_broadcast(&p->done);
}

static struct timespec timespec_of(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
}

static void *helper(void *arg)
{
    struct wal_prepare *p = arg;
    uint64_t ticked_us = clock_mono_us();

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (has_work(p)) {
            prepare(p);
            continue;
        }
        unsigned wait_ms = p->tick_ms;
        if (wait_ms < IDLE_MS && !p->error && !atomic_load(&p->mark->dirty))
            wait_ms = IDLE_MS;
        uint64_t due_us = ticked_us + (uint64_t)wait_ms * 1000;
        struct timespec due = timespec_of(due_us);
        if (clock_mono_us() >= due_us || pthread_cond_timedwait(&p->wake, &p->lock, &due) == ETIMEDOUT) {
            tick(p);
            ticked_us = clock_mono_us();
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals are the main thread's business. */
static enum err start_thread(struct wal_prepare *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&p->thread, NULL, helper, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    p->started = rc == 0;
    return rc ? ERR_OOM : ERR_OK;
}

static void init_locks(struct wal_prepare *p)
{
    pthread_mutex_init(&p->lock, NULL);
    clock_cond_init(&p->wake);
    clock_cond_init(&p->done);
}

enum err wal_prepare_start(struct wal_prepare *p, const char *dir, uint64_t segment_bytes, unsigned tick_ms,
                           struct wal_mark *mark, _Atomic int *failed)
{
    size_t n = strlen(dir) + 1;

    *p = (struct wal_prepare){.segment_bytes = segment_bytes,
                              .want_bytes = segment_bytes,
                              .tick_ms = tick_ms,
                              .mark = mark,
                              .failed = failed,
                              .disk_free = UINT64_MAX, /* not known is not refused */
                              .next = {.fd = -1}};
    init_locks(p);
    p->dir = mem_alloc(n);
    p->path = mem_alloc(n + sizeof "/next");
    if (!p->dir || !p->path) {
        wal_prepare_stop(p);
        return ERR_OOM;
    }
    memcpy(p->dir, dir, n);
    snprintf(p->path, n + sizeof "/next", "%s/next", dir);
    pthread_mutex_lock(&p->lock);
    prepare(p);
    enum err e = p->error == ERR_MISCONF ? ERR_OK : p->error;
    pthread_mutex_unlock(&p->lock);
    if (!e)
        e = start_thread(p);
    if (e)
        wal_prepare_stop(p);
    return e;
}

void wal_prepare_stop(struct wal_prepare *p)
{
    if (!p->mark)
        return;
    if (p->started) {
        pthread_mutex_lock(&p->lock);
        p->stop = 1;
        pthread_cond_signal(&p->wake);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    wal_prepare_drop(&p->next);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    mem_free(p->dir);
    mem_free(p->path);
    *p = (struct wal_prepare){0};
}

enum err wal_prepare_take(struct wal_prepare *p, uint64_t bytes, struct wal_prepared *out)
{
    enum err e = ERR_OK;

    *out = (struct wal_prepared){.fd = -1};
    pthread_mutex_lock(&p->lock);
    if (p->want_bytes < bytes)
        p->want_bytes = bytes;
    p->error = ERR_OK; /* whatever the last try came to: one more now */
    pthread_cond_signal(&p->wake);
    while (!(p->state == WAL_NEXT_READY && p->next.bytes >= bytes)) {
        e = atomic_load(p->failed) ? ERR_MISCONF : p->error;
        if (e)
            break;
        pthread_cond_wait(&p->done, &p->lock);
    }
    if (!e) {
        *out = p->next;
        p->next = (struct wal_prepared){.fd = -1};
        p->state = WAL_NEXT_TAKEN;
        atomic_store(&p->ready_bytes, 0);
    }
    pthread_mutex_unlock(&p->lock);
    return e;
}

void wal_prepare_renamed(struct wal_prepare *p)
{
    pthread_mutex_lock(&p->lock);
    p->state = WAL_NEXT_NONE;
    p->want_bytes = p->segment_bytes;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void wal_prepare_dirty(struct wal_prepare *p)
{
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

int wal_prepare_reserve(struct wal_prepare *p, uint64_t reserve_bytes)
{
    return atomic_load(&p->disk_free) >= reserve_bytes;
}

int wal_prepare_room(struct wal_prepare *p, uint64_t bytes, uint64_t reserve_bytes)
{
    if (atomic_load(&p->ready_bytes) >= bytes)
        return 1;
    uint64_t disk_free = atomic_load(&p->disk_free);
    if (atomic_load(&p->no_space) || disk_free < reserve_bytes)
        return 0;
    return disk_free - reserve_bytes >= p->segment_bytes && disk_free - reserve_bytes - p->segment_bytes >= bytes;
}
