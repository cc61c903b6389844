/* linear.c - see linear.h. Key by key: clusters from the writes; who saw them; blocks; time inside of each block; time
 * between blocks; sessions. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/linear.h"

struct cluster {
    uint64_t value;
    uint64_t called, returned;            /* of the write */
    uint64_t last_called, first_returned; /* of those who saw it and wrote nothing; 0 and LINEAR_NEVER: nobody */
    int seen;
    struct cluster *next, *before; /* tied by a swap */
    size_t block, place;
};

struct block {
    uint64_t first_returned, last_called;
    const struct cluster *first;
};

struct check {
    struct linear_op *ops; /* of one key */
    size_t n;
    struct cluster *clusters; /* by value; the first is the beginning, value 0 */
    size_t cluster_count;
    struct block *blocks; /* by first_returned, once they are sorted */
    size_t block_count;
    size_t *latest; /* see find_latest */
    char *why;
    size_t why_bytes;
};

__attribute__((format(printf, 3, 4))) static int no(const struct check *c, const struct linear_op *op, const char *fmt,
                                                    ...)
{
    va_list ap;
    int n = snprintf(c->why, c->why_bytes, "key %u, session %u, [%llu, %llu]: ", c->ops->key, op ? op->session : 0,
                     op ? (unsigned long long)op->called : 0, op ? (unsigned long long)op->returned : 0);
    va_start(ap, fmt);
    if (n > 0 && (size_t)n < c->why_bytes)
        vsnprintf(c->why + n, c->why_bytes - (size_t)n, fmt, ap);
    va_end(ap);
    return 0;
}

static int writes(const struct linear_op *op)
{
    return op->kind == LINEAR_WRITE || op->kind == LINEAR_SWAP;
}

/* What it saw counts. */
static int sees(const struct linear_op *op)
{
    return op->kind != LINEAR_WRITE && op->returned != LINEAR_NEVER;
}

/* ---- clusters ---- */

static int by_value(const void *a, const void *b)
{
    const struct cluster *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

static struct cluster *find(const struct check *c, uint64_t value)
{
    struct cluster key = {.value = value};
    return bsearch(&key, c->clusters, c->cluster_count, sizeof key, by_value);
}

static int make_clusters(struct check *c)
{
    c->clusters[0] = (struct cluster){.first_returned = LINEAR_NEVER, .seen = 1};
    c->cluster_count = 1;
    for (size_t i = 0; i < c->n; i++)
        if (writes(&c->ops[i]))
            c->clusters[c->cluster_count++] = (struct cluster){.value = c->ops[i].wrote,
                                                               .called = c->ops[i].called,
                                                               .returned = c->ops[i].returned,
                                                               .first_returned = LINEAR_NEVER,
                                                               .seen = c->ops[i].returned != LINEAR_NEVER};
    qsort(c->clusters, c->cluster_count, sizeof *c->clusters, by_value);
    for (size_t i = 1; i < c->cluster_count; i++)
        if (c->clusters[i].value == c->clusters[i - 1].value)
            return no(c, NULL, "%llu was written twice", (unsigned long long)c->clusters[i].value);
    return 1;
}

static int tie(struct check *c, const struct linear_op *swap, struct cluster *old)
{
    struct cluster *own = find(c, swap->wrote);
    if (old->next)
        return no(c, swap, "two swaps saw %llu", (unsigned long long)old->value);
    old->next = own;
    own->before = old;
    return 1;
}

static int note_who_saw(struct check *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct linear_op *op = &c->ops[i];
        struct cluster *of = sees(op) ? find(c, op->saw) : NULL;
        if (!sees(op))
            continue;
        if (!of)
            return no(c, op, "saw %llu, which nobody wrote", (unsigned long long)op->saw);
        if (op->returned < of->called)
            return no(c, op, "saw %llu before it was written", (unsigned long long)op->saw);
        of->seen = 1;
        if (op->kind == LINEAR_SWAP && !tie(c, op, of))
            return 0;
        if (op->kind == LINEAR_READ && op->called > of->last_called)
            of->last_called = op->called;
        if (op->kind == LINEAR_READ && op->returned < of->first_returned)
            of->first_returned = op->returned;
    }
    return 1;
}

/* ---- blocks ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* From its first cluster on; who returned before somebody in front of him was called is in the wrong place. */
static int make_block(struct check *c, struct cluster *first)
{
    struct block *b = &c->blocks[c->block_count];
    *b = (struct block){.first_returned = LINEAR_NEVER, .first = first};
    size_t place = 0;
    for (struct cluster *k = first; k; k = k->next) {
        if (k->returned < b->last_called)
            return no(c, NULL, "the write of %llu was over before what comes in front of it was called",
                      (unsigned long long)k->value);
        b->last_called = later(b->last_called, k->called);
        if (k->first_returned < b->last_called)
            return no(c, NULL, "a read saw %llu before what comes in front of it was called",
                      (unsigned long long)k->value);
        b->last_called = later(b->last_called, k->last_called);
        b->first_returned = earlier(b->first_returned, earlier(k->returned, k->first_returned));
        k->place = ++place;
        k->block = c->block_count;
    }
    c->block_count++;
    return 1;
}

static int make_blocks(struct check *c)
{
    for (size_t i = 0; i < c->cluster_count; i++)
        if (c->clusters[i].seen && !c->clusters[i].before && !make_block(c, &c->clusters[i]))
            return 0;
    for (size_t i = 0; i < c->cluster_count; i++)
        if (c->clusters[i].seen && !c->clusters[i].place)
            return no(c, NULL, "swaps go round in a circle at %llu", (unsigned long long)c->clusters[i].value);
    return 1;
}

static int by_return(const void *a, const void *b)
{
    const struct block *x = a, *y = b;
    return (x->first_returned > y->first_returned) - (x->first_returned < y->first_returned);
}

static int in_front(const struct block *x, const struct block *y)
{
    return x->first_returned < y->last_called;
}

/* Of the blocks up to each, whose last_called is the highest. */
static void find_latest(struct check *c)
{
    size_t latest = 0;
    for (size_t i = 0; i < c->block_count; i++) {
        if (c->blocks[i].last_called > c->blocks[latest].last_called)
            latest = i;
        c->latest[i] = latest;
    }
}

/* How many are in front of one, itself maybe among them: the first so many. */
static size_t count_in_front(const struct check *c, const struct block *of)
{
    size_t low = 0, high = c->block_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (in_front(&c->blocks[mid], of))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Of those that are in front of a block: is one also behind it? The latest of them is, or none; where the latest is the
 * block itself, the other of such a pair finds it. */
static int order_blocks(struct check *c)
{
    qsort(c->blocks, c->block_count, sizeof *c->blocks, by_return);
    find_latest(c);
    for (size_t i = 0; i < c->block_count; i++) {
        const struct block *b = &c->blocks[i];
        size_t n = count_in_front(c, b);
        const struct block *x = n ? &c->blocks[c->latest[n - 1]] : b;
        if (x != b && in_front(b, x))
            return no(c, NULL, "what begins with %llu and what begins with %llu are each in front of the other",
                      (unsigned long long)x->first->value, (unsigned long long)b->first->value);
    }
    return 1;
}

/* ---- sessions ---- */

/* block_of: by number. */
static int goes_back(const struct cluster *from, const struct cluster *to, const struct block *block_of)
{
    if (from->block == to->block)
        return to->place < from->place;
    return in_front(&block_of[to->block], &block_of[from->block]);
}

static int by_session(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return (x->called > y->called) - (x->called < y->called);
}

static int check_sessions(struct check *c, const struct block *block_of)
{
    const struct cluster *at = NULL;
    qsort(c->ops, c->n, sizeof *c->ops, by_session);
    for (size_t i = 0; i < c->n; i++) {
        const struct linear_op *op = &c->ops[i];
        if (i == 0 || op->session != op[-1].session)
            at = NULL;
        if (op->returned == LINEAR_NEVER)
            continue;
        const struct cluster *of = find(c, writes(op) ? op->wrote : op->saw);
        if (op->kind == LINEAR_LOCAL_READ && at && goes_back(at, of, block_of))
            return no(c, op, "saw %llu after %llu", (unsigned long long)of->value, (unsigned long long)at->value);
        at = of;
    }
    return 1;
}

/* ---- all ---- */

static int check_key(struct check *c)
{
    if (!make_clusters(c) || !note_who_saw(c) || !make_blocks(c))
        return 0;
    struct block *block_of = c->blocks + c->block_count; /* as numbered, before they are sorted */
    memcpy(block_of, c->blocks, c->block_count * sizeof *block_of);
    return order_blocks(c) && check_sessions(c, block_of);
}

static int by_key(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

int linear_check(struct linear_op *ops, size_t n, char *why, size_t why_bytes)
{
    struct check c = {.why = why, .why_bytes = why_bytes};
    int good = 1;
    c.clusters = calloc(n + 1, sizeof *c.clusters);
    c.blocks = calloc(2 * (n + 1), sizeof *c.blocks);
    c.latest = calloc(n + 1, sizeof *c.latest);
    if (!c.clusters || !c.blocks || !c.latest)
        good = -1;
    qsort(ops, n, sizeof *ops, by_key);
    for (size_t from = 0, to = 0; good == 1 && from < n; from = to) {
        while (to < n && ops[to].key == ops[from].key)
            to++;
        c.ops = ops + from;
        c.n = to - from;
        c.cluster_count = c.block_count = 0;
        good = check_key(&c);
    }
    free(c.clusters);
    free(c.blocks);
    free(c.latest);
    return good;
}
