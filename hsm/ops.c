/* ops.c - the ladder, and the operations of start-up, health and random bytes. Partitions and data keys are in
 * ops_vault.c, customers' keys in ops_key.c.
 *
 *     handler fails ----> what does the policy of the first failed call say?
 *       FINE, DATA, ABSENT, BUG    it is the request's own failure: answered
 *       DOUBT                      probe the device; healthy: answered; else the worker ends
 *       SESSION, LOGIN             heal (new session, one login), run the handler once more
 *       DROP                       forget every cached object, find the realm's keys again, run the handler once more
 *       WORKER                     ERR_HSMDOWN, the worker ends
 *       PIN                        ERR_HSMDOWN, the worker ends and says so: nobody may try this PIN again
 *
 * A second failure of the three kinds that are retried ends the worker. Handlers leave nothing half-made behind that a
 * second run would trip over: what they make is session objects, and token objects only through an import that can be
 * repeated. So the retry inside the worker is safe for operations that are not idempotent for the parent, too: their
 * first run has answered nobody.
 */
#include "hsm/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "hsm/crypt.h"

typedef enum err op_handler(struct ops *o, const struct bytes *in, struct answer *a);

static op_handler *const handlers[HSM_OPS] = {
#define OP(name, parts_in, parts_out, idem, lane, what) [HSM_##name] = op_##name,
#include "hsm/op.tbl.h"
#undef OP
};

/* ---- answers ---- */

void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    buf_init_secret(&a->mem, HSM_FRAME_MAX);
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->mem);
    a->parts = 0;
}

static void wipe_pending(struct answer *a, size_t from)
{
    if (a->pending > from)
        mem_wipe(buf_data(&a->mem) + buf_size(&a->mem) + from, a->pending - from);
    a->pending = 0;
}

void answer_clear(struct answer *a)
{
    wipe_pending(a, 0);
    buf_clear(&a->mem);
    a->parts = 0;
    a->text[0] = '\0';
}

enum err answer_begin(struct answer *a, size_t n, uint8_t **room)
{
    enum err e = buf_reserve(&a->mem, n, room);

    a->pending = e == ERR_OK ? n : 0;
    return e;
}

void answer_end(struct answer *a, size_t n)
{
    wipe_pending(a, n);
    buf_added(&a->mem, n);
    a->size[a->parts++] = n;
}

enum err answer_put(struct answer *a, struct bytes part)
{
    uint8_t *room;
    enum err e = answer_begin(a, part.n, &room);

    if (e != ERR_OK)
        return e;
    if (part.n)
        memcpy(room, part.p, part.n);
    answer_end(a, part.n);
    return ERR_OK;
}

void answer_parts(const struct answer *a, struct bytes part[HSM_PARTS_MAX])
{
    const uint8_t *p = a->mem.mem ? buf_data(&a->mem) : NULL;

    for (unsigned i = 0; i < a->parts; i++) {
        part[i] = bytes_of(p, a->size[i]);
        p = p ? p + a->size[i] : NULL;
    }
}

/* ---- life ---- */

void ops_init(struct ops *o)
{
    memset(o, 0, sizeof *o);
    token_init(&o->token);
    buf_init_secret(&o->aad, HSM_FRAME_MAX);
}

void ops_fini(struct ops *o)
{
    keys_free(o->keys);
    partitions_free(o->partitions);
    token_close(&o->token);
    buf_fini(&o->aad);
    o->keys = NULL;
    o->partitions = NULL;
    o->started = 0;
}

/* ---- the ladder ---- */

static void forget_objects(struct ops *o)
{
    keys_drop(o->keys);
    partitions_drop(o->partitions);
    p11_clear(&o->token.m); /* handles that were void already */
    o->dropped++;
}

/* New session, and login and handles where they are gone. 1 when another try makes sense. */
static int heal(struct ops *o, int force, struct answer *a)
{
    int relogin = 0;
    enum err e;

    o->healed++;
    if (force)
        forget_objects(o);
    p11_clear(&o->token.m);
    e = token_heal(&o->token, force, &relogin, NULL, NULL);
    if (relogin && !force) {
        /* What the old login held is void; destroying it is only tidying up. */
        keys_drop(o->keys);
        partitions_drop(o->partitions);
    }
    if (e != ERR_OK) {
        p11_describe(&o->token.m, a->text, sizeof a->text);
        o->fatal = e == ERR_WRONGPASS ? WORKER_EXIT_PIN : WORKER_EXIT_DEVICE;
    }
    p11_clear(&o->token.m);
    return e == ERR_OK;
}

/* Judges a failure; 1: run the handler again. *e becomes what is answered else. */
static int climb(struct ops *o, int attempt, struct answer *a, enum err *e)
{
    enum p11_policy policy = o->token.m.policy;

    if (policy != P11_FINE) /* else the handler may have said what it is */
        p11_describe(&o->token.m, a->text, sizeof a->text);
    switch (policy) {
    case P11_FINE:
    case P11_DATA:
    case P11_ABSENT:
    case P11_BUG:
        return 0;
    case P11_DOUBT:
        if (token_probe(&o->token) != ERR_OK) {
            o->fatal = WORKER_EXIT_DEVICE;
            *e = ERR_HSMDOWN;
        }
        return 0;
    case P11_SESSION:
    case P11_LOGIN:
    case P11_DROP:
        *e = ERR_HSMDOWN;
        if (attempt == 0)
            return heal(o, policy == P11_DROP, a);
        o->fatal = WORKER_EXIT_DEVICE;
        return 0;
    case P11_PIN:
        *e = ERR_HSMDOWN;
        o->fatal = WORKER_EXIT_PIN;
        return 0;
    case P11_WORKER:
        break;
    }
    *e = ERR_HSMDOWN;
    o->fatal = WORKER_EXIT_DEVICE;
    return 0;
}

static enum err run_handler(struct ops *o, unsigned code, const struct bytes *part, struct answer *a)
{
    enum err e = ERR_OK;

    for (int attempt = 0; attempt < 2; attempt++) {
        answer_clear(a);
        p11_clear(&o->token.m);
        e = handlers[code](o, part, a);
        if (e == ERR_OK || !o->started || !climb(o, attempt, a, &e))
            break;
    }
    return e;
}

static void account(struct op_stats *s, enum err e, uint64_t us)
{
    s->count++;
    s->errors += e != ERR_OK;
    s->sum_us += us;
    if (us > s->max_us)
        s->max_us = us;
}

enum err ops_run(struct ops *o, unsigned code, const struct bytes *part, unsigned parts, struct answer *a)
{
    uint64_t begin = clock_mono_us();
    enum err e;

    answer_clear(a);
    if (o->fatal) { /* what is known of the device is not to be trusted any more */
        snprintf(a->text, sizeof a->text, "this worker is about to end");
        return ERR_HSMDOWN;
    }
    if (code >= HSM_OPS || parts != hsm_ops[code].parts_in || (code == HSM_START) == o->started) {
        snprintf(a->text, sizeof a->text, "request %u with %u parts %s START", code, parts,
                 o->started ? "after" : "before");
        o->fatal = WORKER_EXIT_PROTOCOL;
        return ERR_PROTOCOL;
    }
    e = run_handler(o, code, part, a);
    if (e != ERR_OK) {
        wipe_pending(a, 0);
        buf_clear(&a->mem);
        a->parts = 0;
        if (!a->text[0])
            snprintf(a->text, sizeof a->text, "%s: %s", hsm_ops[code].name, err_name(e));
    }
    o->ended_us = clock_mono_us();
    account(&o->stats[code], e, o->ended_us - begin);
    return e;
}

/* ---- START ---- */

static const struct {
    enum err e;
    enum worker_exit exit;
} start_exits[] = {
    {ERR_WRONGPASS, WORKER_EXIT_PIN},   {ERR_NOTFOUND, WORKER_EXIT_CONFIG},    {ERR_SYNTAX, WORKER_EXIT_CONFIG},
    {ERR_CONFLICT, WORKER_EXIT_CONFIG}, {ERR_UNSUPPORTED, WORKER_EXIT_CONFIG}, {ERR_OOM, WORKER_EXIT_MEMORY},
};

static enum worker_exit start_exit(enum err e)
{
    for (size_t i = 0; i < sizeof start_exits / sizeof start_exits[0]; i++) {
        if (start_exits[i].e == e)
            return start_exits[i].exit;
    }
    return WORKER_EXIT_DEVICE;
}

/* Copies a setting into a string; ERR_SYNTAX when it has a NUL or is too long. */
static enum err setting_string(struct bytes settings, const char *name, char *out, size_t n)
{
    struct bytes v = proto_get_setting(settings, name);

    if (v.n >= n || (v.n && memchr(v.p, '\0', v.n)))
        return ERR_SYNTAX;
    if (v.n)
        memcpy(out, v.p, v.n);
    out[v.n] = '\0';
    return ERR_OK;
}

static enum err setting_number(struct bytes settings, const char *name, unsigned long *out)
{
    char text[24], *end;
    unsigned long v;
    enum err e = setting_string(settings, name, text, sizeof text);

    if (e != ERR_OK || !text[0])
        return e;
    v = strtoul(text, &end, 10);
    if (*end || text[0] == '-')
        return ERR_SYNTAX;
    *out = v;
    return ERR_OK;
}

static enum err make_tables(struct ops *o, unsigned long key_cache, int hsm_only)
{
    enum err e = partitions_new(&o->partitions, &o->token, PARTITIONS_LOADED_MAX);

    if (key_cache > KEY_CACHE_MAX)
        key_cache = KEY_CACHE_MAX;
    return e == ERR_OK ? keys_new(&o->keys, &o->token, (unsigned)key_cache, hsm_only) : e;
}

/* "name:value" lines of what was found. */
static enum err describe_token(struct ops *o, const char *module, struct buf *b)
{
    const struct token *t = &o->token;
    enum err e = buf_putf(b, "module:%s\nmanufacturer:%s\nmodel:%s\ntoken:%s\nserial:%s\nrealm:", module,
                          t->manufacturer, t->model, t->label, t->serial);
    const char *comma = "";

    for (unsigned i = 0; e == ERR_OK && i < REALM_ID_BYTES; i++)
        e = buf_putf(b, "%02x", t->realm[i]); /* lint: allow printf because a realm id is public */
    if (e == ERR_OK)
        e = buf_putf(b, "\nkwp:0x%lx\ntrusted:%s\ntemplates:%s\noaep:%s\nmechanisms:", t->quirks.kwp,
                     t->quirks.trusted ? "yes" : "no", t->quirks.templates ? "yes" : "no",
                     t->quirks.oaep_sha256 ? "sha256" : "sha1");
    for (unsigned k = 0; e == ERR_OK && k < MECHS; k++) {
        if (t->has[k]) {
            e = buf_putf(b, "%s%s", comma, p11_mechs[k].name);
            comma = ",";
        }
    }
    return e == ERR_OK ? buf_putf(b, "\npartitions:%u\n", partitions_in_token(o->partitions)) : e;
}

static enum err answer_text(struct answer *a, enum err e, struct buf *text)
{
    if (e == ERR_OK)
        e = answer_put(a, buf_bytes(text));
    buf_fini(text);
    return e;
}

enum err op_START(struct ops *o, const struct bytes *in, struct answer *a)
{
    char module[512], init[1024], only[8];
    unsigned long key_cache = KEY_CACHE_DEFAULT;
    struct token_settings s = {.module = module,
                               .init = init,
                               .name = proto_get_setting(in[0], "token"),
                               .pin = proto_get_setting(in[0], "pin")};
    struct buf text;
    enum err e = setting_string(in[0], "module", module, sizeof module);

    buf_init(&text, 65536);
    if (e == ERR_OK)
        e = setting_string(in[0], "init", init, sizeof init);
    if (e == ERR_OK)
        e = setting_string(in[0], "hsm-only", only, sizeof only);
    if (e == ERR_OK)
        e = setting_number(in[0], "key-cache", &key_cache);
    if (e == ERR_OK)
        e = make_tables(o, key_cache, strcmp(only, "yes") == 0);
    if (e == ERR_OK)
        e = token_open(&o->token, &s, partitions_found, o->partitions, a->text, sizeof a->text);
    if (e == ERR_OK)
        e = describe_token(o, module, &text);
    e = answer_text(a, e, &text);
    if (e == ERR_OK) {
        o->started = 1;
        o->started_ms = clock_wall_ms();
    } else {
        if (e == ERR_INTERNAL || e == ERR_BADBLOB || e == ERR_BADCIPHERTEXT)
            e = ERR_UNSUPPORTED; /* the self-test met a refusal that Coffer cannot work around */
        o->fatal = start_exit(e);
    }
    return e;
}

/* ---- PROBE, INFO, RANDOM ---- */

enum err op_PROBE(struct ops *o, const struct bytes *in, struct answer *a)
{
    enum err e = token_probe(&o->token);

    (void)in;
    if (e != ERR_OK && o->token.m.policy == P11_FINE) { /* no call failed: another serial number, or another key */
        snprintf(a->text, sizeof a->text, "probe: the token is not the one it was");
        o->fatal = WORKER_EXIT_DEVICE;
    }
    return e;
}

static unsigned long rss_bytes(void)
{
    struct buf b;
    unsigned long pages = 0;
    const char *p;

    buf_init(&b, 256);
    if (file_read_all("/proc/self/statm", &b, 255) == ERR_OK && buf_put_u8(&b, 0) == ERR_OK) {
        p = strchr((const char *)buf_data(&b), ' ');
        pages = p ? strtoul(p, NULL, 10) : 0;
    }
    buf_fini(&b);
    return pages * (unsigned long)sysconf(_SC_PAGESIZE);
}

static enum err info_ops(const struct ops *o, struct buf *b)
{
    enum err e = ERR_OK;

    for (unsigned i = 0; e == ERR_OK && i < HSM_OPS; i++) {
        const struct op_stats *s = &o->stats[i];

        if (s->count)
            e = buf_putf(b, "op.%s:count=%lu,errors=%lu,avg-us=%lu,max-us=%lu\n", hsm_ops[i].name, s->count, s->errors,
                         s->sum_us / s->count, s->max_us);
    }
    return e;
}

static enum err info_calls(const struct p11 *m, struct buf *b)
{
    enum err e = ERR_OK;

    for (unsigned i = 0; e == ERR_OK && i < P11_CALLS; i++) {
        if (m->calls[i])
            e = buf_putf(b, "call.%s:count=%lu,errors=%lu\n", p11_call_name(i), m->calls[i], m->failed[i]);
    }
    return e;
}

enum err op_INFO(struct ops *o, const struct bytes *in, struct answer *a)
{
    struct keys_stats ks;
    struct mem_secret_stats ms;
    struct buf b;
    enum err e;

    (void)in;
    buf_init(&b, 65536);
    keys_stats(o->keys, &ks);
    mem_secret_stats(&ms);
    e = buf_putf(&b, "uptime-ms:%lu\nobjects-made:%lu\nrss-bytes:%lu\nkeys-cached:%u\nkey-hits:%lu\nkey-misses:%lu\n",
                 clock_wall_ms() - o->started_ms, o->token.objects, rss_bytes(), ks.cached, ks.hits, ks.misses);
    if (e == ERR_OK)
        e = buf_putf(&b,
                     "partitions-in-token:%u\npartitions-loaded:%u\nsessions:2\nhealed:%lu\ndropped:%lu\nsecret-memory-"
                     "locked:%s\n",
                     partitions_in_token(o->partitions), partitions_loaded(o->partitions), o->healed, o->dropped,
                     ms.lock_refused ? "no" : "yes");
    if (e == ERR_OK)
        e = info_ops(o, &b);
    if (e == ERR_OK)
        e = info_calls(&o->token.m, &b);
    return answer_text(a, e, &b);
}

enum err op_RANDOM(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint32_t n = in[0].n == 4 ? get_le32(in[0].p) : 0;
    uint8_t *room;
    enum err e;

    if (n == 0)
        return ERR_RANGE;
    if (n > RANDOM_MAX)
        return ERR_TOOBIG;
    e = answer_begin(a, n, &room);
    if (e == ERR_OK)
        e = crypt_random(&o->token, room, n);
    if (e == ERR_OK)
        answer_end(a, n);
    return e;
}

/* The label keeps what is signed here apart from partition configs, which the same key signs and which begin with a
 * magic of their own. */
enum err op_REALM_MAC(struct ops *o, const struct bytes *in, struct answer *a)
{
    static const char label[] = "coffer-realm-mac";
    uint8_t text[sizeof label - 1 + REALM_MAC_MAX], mac[32];

    if (in[0].n > REALM_MAC_MAX)
        return ERR_TOOBIG;
    memcpy(text, label, sizeof label - 1);
    if (in[0].n)
        memcpy(text + sizeof label - 1, in[0].p, in[0].n);
    enum err e = crypt_hmac(&o->token, o->token.realm_key[REALM_MAC], bytes_of(text, sizeof label - 1 + in[0].n), mac);
    return e == ERR_OK ? answer_put(a, bytes_of(mac, sizeof mac)) : e;
}
