/* worker.c - the loop of a coffer-hsm worker, and the hygiene of its process.
 *
 * Happy path: wait in read; take everything the socket has (up to a limit, so that answers do not wait for ever);
 * process frame by frame, appending answers; write. A batch of a few requests so costs two system calls here. Of a
 * longer one the answers so far go out after FLUSH_US or OUT_FLUSH_BYTES, and before an operation that may take
 * seconds: the parent works on them meanwhile, and sees that this worker does not hang.
 *
 * Failure modes: end of file is the normal end. A malformed frame, or a request out of place, ends the worker: the two
 * ends disagree, and the parent starts a fresh one. When an operation asks for the worker's end, what was answered so
 * far is sent, the rest of the batch is not processed; the parent repeats what is idempotent on the next worker.
 *
 * Rejected: threads (the module's locks make two slower than one); a poll loop with timers (deadlines are the parent's:
 * a module that hangs, hangs this process too).
 */
#include "hsm/worker.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/ops.h"

#define READ_BYTES (256u << 10)     /* asked for at once */
#define BATCH_BYTES (256u << 10)    /* read before the first frame is processed */
#define OUT_FLUSH_BYTES (64u << 10) /* answers written before the batch is over: so many, ... */
#define FLUSH_US 1000               /* ... or after so long */
#define KEEP_BYTES (1u << 20)       /* memory of buffers kept for the next batch */
#define IN_MAX (HSM_FRAME_MAX + BATCH_BYTES + READ_BYTES)
#define OUT_MAX (HSM_FRAME_MAX + OUT_FLUSH_BYTES)
#define SECURE_HEAP_BYTES (1u << 20)
#define SECURE_HEAP_MIN 64

struct worker {
    int fd;
    struct buf in, out;
    uint64_t flushed_us; /* the last write, or the batch's begin */
    struct answer answer;
    struct ops ops;
};

static void init(struct worker *w, int fd)
{
    memset(w, 0, sizeof *w);
    w->fd = fd;
    buf_init_secret(&w->in, IN_MAX);
    buf_init_secret(&w->out, OUT_MAX);
    answer_init(&w->answer);
    ops_init(&w->ops);
}

/* A module in trouble may hang in C_Finalize: after device trouble it is left to the end of the process. */
static void fini(struct worker *w, int unload)
{
    if (unload)
        ops_fini(&w->ops);
    answer_fini(&w->answer);
    buf_fini(&w->in);
    buf_fini(&w->out);
    close(w->fd); /* the other end sees end of file in any case */
}

/* Waits for something, then takes all there is. An enum worker_exit, or -1 to go on. */
static int fill(struct worker *w)
{
    int flags = 0, got_any = 0;

    while (buf_size(&w->in) < BATCH_BYTES || !got_any) {
        uint8_t *room;
        ssize_t n;

        if (buf_reserve(&w->in, READ_BYTES, &room) != ERR_OK)
            return WORKER_EXIT_MEMORY;
        n = recv(w->fd, room, READ_BYTES, flags);
        if (n == 0)
            return got_any ? -1 : WORKER_EXIT_EOF; /* what came before is answered; the next read says 0 again */
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return got_any && (errno == EAGAIN || errno == EWOULDBLOCK) ? -1 : WORKER_EXIT_SOCKET;
        buf_added(&w->in, (size_t)n);
        got_any = 1;
        flags = MSG_DONTWAIT;
    }
    return -1;
}

static int flush(struct worker *w)
{
    while (buf_size(&w->out)) {
        ssize_t n = send(w->fd, buf_data(&w->out), buf_size(&w->out), MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return WORKER_EXIT_SOCKET;
        buf_consume(&w->out, (size_t)n);
    }
    buf_shrink(&w->out, KEEP_BYTES);
    w->flushed_us = clock_mono_us();
    return -1;
}

static enum err put_answer(struct worker *w, uint32_t id, enum err result)
{
    struct bytes part[HSM_PARTS_MAX];
    enum err e;

    if (result != ERR_OK) {
        part[0] = bytes_str(w->answer.text);
        return proto_put(&w->out, id, (uint16_t)result, part, 1);
    }
    answer_parts(&w->answer, part);
    e = proto_put(&w->out, id, ERR_OK, part, w->answer.parts);
    if (e == ERR_TOOBIG) {
        part[0] = bytes_str("answer over the limit of a frame");
        e = proto_put(&w->out, id, ERR_TOOBIG, part, 1);
    }
    return e;
}

/* One frame of the input. An enum worker_exit, or -1; *more is 0 when no whole frame is left. */
static int step(struct worker *w, int *more)
{
    struct hsm_frame f;
    size_t used;
    int sent = -1;
    enum err e = proto_get(buf_bytes(&w->in), &f, &used);

    *more = e == ERR_OK;
    if (e != ERR_OK)
        return e == ERR_AGAIN ? -1 : WORKER_EXIT_PROTOCOL;
    if (f.code < HSM_OPS && hsm_ops[f.code].lane == LANE_SLOW)
        sent = flush(w); /* held back for longer than their deadline, these answers would make a hang of it */
    if (sent >= 0)
        return sent;
    e = ops_run(&w->ops, f.code, f.part, f.parts, &w->answer);
    e = put_answer(w, f.id, e);
    answer_clear(&w->answer);
    buf_shrink(&w->answer.mem, KEEP_BYTES);
    buf_consume(&w->in, used);
    if (e != ERR_OK)
        return WORKER_EXIT_MEMORY;
    if (w->ops.fatal)
        return (int)w->ops.fatal;
    return buf_size(&w->out) >= OUT_FLUSH_BYTES || w->ops.ended_us - w->flushed_us >= FLUSH_US ? flush(w) : -1;
}

static int serve_batch(struct worker *w)
{
    int more = 1, end = -1, sent;

    w->flushed_us = clock_mono_us();
    while (more && end < 0)
        end = step(w, &more);
    sent = flush(w);
    buf_shrink(&w->in, KEEP_BYTES);
    return end >= 0 ? end : sent;
}

int worker_serve(int fd)
{
    static struct worker *w; /* one a process; what is left at its end is reachable here */
    int end = -1;

    w = mem_zalloc(sizeof *w);
    if (!w)
        return WORKER_EXIT_MEMORY;
    init(w, fd);
    while (end < 0) {
        end = fill(w);
        if (end < 0)
            end = serve_batch(w);
    }
    fini(w, end == WORKER_EXIT_EOF);
    if (end == WORKER_EXIT_EOF)
        mem_free(w);
    return end;
}

/* Descriptors that an exec let through are none of a key holder's business. */
static void close_others(int keep)
{
    if (keep > 3)
        (void)close_range(3, (unsigned)keep - 1, 0);
    (void)close_range((unsigned)keep + 1, ~0u, 0);
}

/* All of this process in memory: module, OpenSSL and stack hold keys, too. Only where no limit can make a later
 * allocation of the module fail, and never in sanitizer builds, which map terabytes. */
static void lock_everything(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};

    (void)setrlimit(RLIMIT_MEMLOCK, &r);
    if (getrlimit(RLIMIT_MEMLOCK, &r) == 0 && r.rlim_cur == RLIM_INFINITY)
        (void)mlockall(
            MCL_CURRENT |
            MCL_FUTURE); /* refused: secret memory is locked on its own, and INFO says whether even that failed */
#endif
}

/* A service manager sends SIGTERM to all processes of a service at once: the server still has requests to finish. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        (void)signal(ignored[i], SIG_IGN); /* fails for unknown signals only */
}

int worker_main(int fd)
{
    if (fd < 3)
        return WORKER_EXIT_USAGE;
    ignore_signals();
    close_others(fd);
    if (mem_init(0) != ERR_OK)
        return WORKER_EXIT_MEMORY;
    lock_everything();
    if (CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_MIN) == 0)
        return WORKER_EXIT_MEMORY;
    return worker_serve(fd);
}
