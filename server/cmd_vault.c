/* cmd_vault.c - handlers of VAULT.*. Creating one asks the HSM for a partition first (dek.h, struct vault_job): the
 * reply comes when its record is durable. */
#include <stdio.h>

#include "base/glob.h"
#include "base/mem.h"
#include "hsm/partition.h"
#include "server/access.h"
#include "server/change.h"
#include "server/dek.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"
#include "server/walcall.h"

enum limit_option { RATE, BURST, MAXVERSIONS, MAXSECRETS, MAXBYTES, SHARD, LIMIT_OPTS };
static const struct option limit_options[LIMIT_OPTS] = {
    [RATE] = {"RATE", OPTION_INT, .min = 0, .max = 1000000000},
    [BURST] = {"BURST", OPTION_INT, .min = 0, .max = 1000000000},
    [MAXVERSIONS] = {"MAXVERSIONS", OPTION_INT, .min = 1, .max = 1000},
    [MAXSECRETS] = {"MAXSECRETS", OPTION_INT, .min = 0, .max = INT64_MAX},
    [MAXBYTES] = {"MAXBYTES", OPTION_INT, .min = 0, .max = INT64_MAX},
    [SHARD] = {"SHARD", OPTION_INT, .min = 0, .max = 63},
};

/* Returns which they are: enum vault_field. */
static uint16_t take_limits(const struct option_value *opt, struct vault_settings *s)
{
    static const uint16_t field[] = {[RATE] = VAULT_HAS_RATE,
                                     [BURST] = VAULT_HAS_BURST,
                                     [MAXVERSIONS] = VAULT_HAS_VERSIONS,
                                     [MAXSECRETS] = VAULT_HAS_SECRETS,
                                     [MAXBYTES] = VAULT_HAS_BYTES};
    uint16_t fields = 0;
    s->rate = opt[RATE].given ? (uint64_t)opt[RATE].i : s->rate;
    s->burst = opt[BURST].given ? (uint64_t)opt[BURST].i : s->burst;
    s->max_versions = opt[MAXVERSIONS].given ? (uint32_t)opt[MAXVERSIONS].i : s->max_versions;
    s->max_secrets = opt[MAXSECRETS].given ? (uint64_t)opt[MAXSECRETS].i : s->max_secrets;
    s->max_bytes = opt[MAXBYTES].given ? (uint64_t)opt[MAXBYTES].i : s->max_bytes;
    for (int i = RATE; i <= MAXBYTES; i++)
        fields |= opt[i].given ? field[i] : 0;
    return fields;
}

/* ---- CREATE ---- */

struct create {
    struct pending p;
    struct vault_job job;
};

static void create_done(struct vault_job *job)
{
    pending_complete(&mpsc_entry(job, struct create, job)->p);
}

static void create_finish(struct pending *p, struct reply *r)
{
    struct create *cr = mpsc_entry(p, struct create, p);
    if (cr->job.err == ERR_VAULTEXISTS)
        reply_errorf(r, err_prefix(ERR_VAULTEXISTS), "a vault '%s' exists already", cr->job.name);
    else if (cr->job.err == ERR_UNCERTAIN)
        change_error(r, &cr->job.w);
    else if (cr->job.err)
        reply_error(r, cr->job.err);
    else
        reply_ok(r);
}

static void create_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct create, p));
}

enum call_result vault_create(struct call *c)
{
    struct option_value opt[LIMIT_OPTS];
    struct bytes name = c->argv[1];

    if (options_parse(c, 2, limit_options, LIMIT_OPTS, opt))
        return CALL_DONE;
    if (!vault_name_ok(name))
        return call_error(c, ERR_BADNAME);
    if (opt[SHARD].given && opt[SHARD].i >= engine_shards(c->srv->engine))
        return call_errorf(c, ERR_RANGE, "there is no shard %d: the server has %u, from 0", (int)opt[SHARD].i,
                           engine_shards(c->srv->engine));
    struct create *cr = mem_zalloc(sizeof *cr);
    if (!cr)
        return call_error(c, ERR_OOM);
    memcpy(cr->job.name, name.p, name.n);
    cr->job.srv = c->srv;
    cr->job.settings = c->srv->vault_defaults;
    cr->job.store = opt[SHARD].given ? (uint16_t)(opt[SHARD].i + 1) : 0;
    cr->job.done = create_done;
    take_limits(opt, &cr->job.settings);
    call_pending(c, &cr->p, create_finish, create_release);
    vault_job_start(&cr->job);
    return CALL_PENDING;
}

/* ---- SET ---- */

static void answer_ok(struct change *ch, struct reply *r)
{
    (void)ch;
    reply_ok(r);
}

enum call_result vault_set(struct call *c)
{
    struct option_value opt[LIMIT_OPTS];
    struct vault_settings settings = {0};
    struct change *ch;
    struct vault *v;

    if (options_parse(c, 2, limit_options, SHARD, opt))
        return CALL_DONE;
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK)
        err = change_new(1, sizeof settings, &ch);
    if (err)
        return access_fail(c, err, c->argv[1]);
    uint16_t fields = take_limits(opt, &settings); /* the others stay as they are when its turn comes */
    ch->step[0] = (struct step){.kind = STEP_VAULT_SET,
                                .state = -1,
                                .flags = fields,
                                .settings = (const void *)change_keep(ch, bytes_of(&settings, sizeof settings)).p};
    return change_submit(c, ch, v, answer_ok);
}

/* ---- INFO, LIST ---- */

static void pair_int(struct reply *r, const char *name, uint64_t v)
{
    reply_bulk_str(r, name);
    reply_int(r, (int64_t)v);
}

enum call_result vault_info(struct call *c)
{
    static const char *const states[] = {"active", "deleting", "deleted"};
    struct vault_settings s;
    struct partition_config partition;
    struct vault *v = vaults_find(engine_vaults(c->srv->engine), c->argv[1]);

    if (!v)
        return access_fail(c, ERR_NOVAULT, c->argv[1]);
    vault_settings_get(engine_vaults(c->srv->engine), v, &s);
    if (partition_parse(v->partition, &partition))
        return call_error(c, ERR_CORRUPT);
    reply_map(c->reply, 14);
    pair_int(c->reply, "id", v->id);
    reply_bulk_str(c->reply, "state");
    reply_bulk_str(c->reply, states[atomic_load(&v->state)]);
    pair_int(c->reply, "shard", v->store - 1u);
    pair_int(c->reply, "secrets", atomic_load(&v->secrets));
    pair_int(c->reply, "keys", atomic_load(&v->keys));
    pair_int(c->reply, "bytes", atomic_load(&v->bytes));
    pair_int(c->reply, "rate", s.rate);
    pair_int(c->reply, "burst", s.burst);
    pair_int(c->reply, "max-versions", s.max_versions);
    pair_int(c->reply, "max-secrets", s.max_secrets);
    pair_int(c->reply, "max-bytes", s.max_bytes);
    pair_int(c->reply, "created-at", v->created_ms);
    reply_bulk_str(c->reply, "partition-fingerprint");
    walcall_reply_hex(c->reply, partition.fingerprint.p, partition.fingerprint.n);
    pair_int(c->reply, "data-key-version", atomic_load(&v->dek_newest));
    return CALL_DONE;
}

enum list_option { CURSOR, COUNT, MATCH, LIST_OPTS };
static const struct option list_options[LIST_OPTS] = {
    [CURSOR] = {"CURSOR", OPTION_BYTES},
    [COUNT] = {"COUNT", OPTION_INT, .min = 1, .max = 1000},
    [MATCH] = {"MATCH", OPTION_BYTES},
};

/* The cursor is "c" and the last name dealt with; "0" is the start and the end. */
enum call_result vault_list(struct call *c)
{
    struct option_value opt[LIST_OPTS];
    struct vault *page[1001];
    size_t n, shown = 0;

    if (options_parse(c, 1, list_options, LIST_OPTS, opt))
        return CALL_DONE;
    size_t max = opt[COUNT].given ? (size_t)opt[COUNT].i : 100;
    int from_start = !opt[CURSOR].given || bytes_equal(opt[CURSOR].b, bytes_str("0"));
    struct bytes after = from_start ? bytes_of(NULL, 0) : bytes_of(opt[CURSOR].b.p + 1, opt[CURSOR].b.n - 1);
    if (!from_start && (opt[CURSOR].b.n < 2 || opt[CURSOR].b.p[0] != 'c'))
        return call_errorf(c, ERR_RANGE, "invalid cursor");
    n = vaults_list(engine_vaults(c->srv->engine), after, 0, page, max + 1);
    size_t used = n > max ? max : n;
    char cursor[VAULT_NAME_MAX + 2] = "0";
    if (n > max) {
        cursor[0] = 'c';
        memcpy(cursor + 1, page[max - 1]->name, sizeof page[max - 1]->name);
    }
    reply_array(c->reply, 2);
    reply_bulk_str(c->reply, cursor);
    size_t mark = reply_mark(c->reply);
    for (size_t i = 0; i < used; i++)
        if (!opt[MATCH].given || glob_match(opt[MATCH].b, bytes_str(page[i]->name), 0)) {
            reply_bulk_str(c->reply, page[i]->name);
            shown++;
        }
    reply_insert_array(c->reply, mark, shown);
    return CALL_DONE;
}
