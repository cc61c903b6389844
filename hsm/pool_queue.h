/* pool_queue.h - requests on their way to one worker: the bytes, and who waits for what.
 *
 *     ring    | answered | e | e | e | e |          entries by id; head = oldest without an answer
 *                          |   |   |   |
 *     chunks  [ frame frame frame ]->[ frame frame ...      ]     secret buffers of 64 KiB, or of one larger frame
 *                        ^ written to the socket up to here
 *
 * A frame stays in its chunk until it is answered, so that it can be repeated on another worker without a second copy
 * of what is plaintext, more often than not. A chunk is wiped once all its frames are answered: an idle queue holds no
 * request.
 *
 * Ids are the ring's numbers: consecutive, so an answer finds its entry without a search. Answers may come in any
 * order.
 *
 * Threads: none of its own; the caller holds the slot's lock (pool_impl.h). Never blocks.
 */
#ifndef COFFER_HSM_POOL_QUEUE_H
#define COFFER_HSM_POOL_QUEUE_H

#include <sys/uio.h>

#include "base/buf.h"
#include "hsm/hsm.h"

#define POOL_QUEUE_MAX 8192u                /* requests without an answer */
#define POOL_QUEUE_BYTES ((size_t)16 << 20) /* their frames; one frame is always taken */
#define POOL_CHUNK_BYTES ((size_t)64 << 10)

struct pool_chunk;

struct pool_entry {
    struct hsm_req *r; /* NULL: a request of the pool itself */
    struct pool_chunk *chunk;
    uint64_t submitted_us; /* by the caller: for the latency */
    uint64_t since_us;     /* put into this queue: for the deadline */
    uint32_t off, len;     /* the frame in its chunk */
    uint32_t hash;         /* of the key: for routing */
    uint8_t op;            /* enum hsm_op */
    uint8_t moved;         /* was in another queue before */
    uint8_t answered;
};

struct pool_queue {
    struct pool_entry *ring; /* the entry of id i is ring[i & (cap - 1)] */
    uint32_t cap, head, tail;
    struct pool_chunk *first, *last;
    unsigned count; /* entries without an answer */
    size_t bytes;   /* of their frames */
};

void pool_queue_init(struct pool_queue *q); /* allocates nothing */
void pool_queue_fini(struct pool_queue *q); /* wipes and frees; the entries' requests must have been seen to */

/* Appends a request; e gives r, submitted_us, since_us, hash, op, moved. ERR_THROTTLED past the limits above,
 * ERR_TOOBIG, ERR_OOM: q is as before. */
must_use enum err pool_queue_put(struct pool_queue *q, const struct pool_entry *e, const struct bytes *part,
                                 unsigned parts);

/* Appends the frame of e, an entry of another queue or a copy of one with new since_us and moved; twice the limits
 * count. The other queue is not changed. */
must_use enum err pool_queue_copy(struct pool_queue *q, const struct pool_entry *e);

/* Oldest entry without an answer, or NULL. Valid until the next call that changes q. */
const struct pool_entry *pool_queue_front(const struct pool_queue *q);
/* i-th after the oldest, answered ones included, or NULL past the end. */
const struct pool_entry *pool_queue_at(const struct pool_queue *q, uint32_t i);
/* 1 when the frame went out whole: the worker may have acted on it. */
int pool_queue_was_sent(const struct pool_entry *e);

/* Takes the entry with this id out, into *out. 0: no such id waits for an answer, or its frame was never sent: *out
 * untouched. */
must_use int pool_queue_answer(struct pool_queue *q, uint32_t id, struct pool_entry *out);
/* Takes the oldest entry out, sent or not. 0: none. */
int pool_queue_pop(struct pool_queue *q, struct pool_entry *out);

/* What is to be written: fills up to max ranges, returns how many. */
int pool_queue_unsent(const struct pool_queue *q, struct iovec *iov, int max);
/* n bytes of these were written. */
void pool_queue_sent(struct pool_queue *q, size_t n);

#endif
