/* scrub.c - see scrub.h: the thread. What it reads, and how that is made good: scrub_stages.c.
 *
 * A pass is a position (stage, store, number) that moves from item to item; each stage is a row of a table. An item
 * that does not verify is read a second time: a bad cable is not to have a shard rebuilt.
 *
 * Rejected: a pass without end instead of one an hour (a small node would read the same megabytes all day).
 */
#include "engine/scrub.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/scrub_impl.h"
#include "engine/storecheck.h"
#include "engine/tablecheck.h"

#define NICE 19
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)
#define REST_MS 3600000
#define START_MS 60000 /* a start has other things to read */
#define SAVE_MS 60000

const char *scrub_state_name(enum scrub_state s)
{
    static const char *const name[] = {"off", "resting", "reading", "repairing"};
    return name[s];
}

static void enter(struct scrub *s, enum scrub_state state)
{
    pthread_mutex_lock(&s->lock);
    s->info.state = state;
    pthread_mutex_unlock(&s->lock);
}

/* ---- the pace ---- */

/* Lock held. 0: it is off. */
static uint64_t rate_now(const struct scrub *s)
{
    if (!s->serving)
        return s->rate;
    return s->rate > SCRUB_ASKED_BYTES_PER_S ? s->rate : SCRUB_ASKED_BYTES_PER_S;
}

/* Lock held. */
static int must_leave(const struct scrub *s)
{
    return s->stop || s->waits || !rate_now(s);
}

enum err scrub_pace(void *arg, uint64_t bytes)
{
    struct scrub *s = arg;
    uint64_t from = clock_mono_us();
    pthread_mutex_lock(&s->lock);
    s->info.bytes += bytes;
    s->info.total_bytes += bytes;
    while (!must_leave(s)) { /* the rate may change meanwhile */
        uint64_t until = from + bytes * 1000000 / rate_now(s);
        if (clock_mono_us() >= until)
            break;
        clock_cond_wait(&s->wake, &s->lock, until);
    }
    int leave = must_leave(s);
    pthread_mutex_unlock(&s->lock);
    return leave ? ERR_AGAIN : ERR_OK;
}

/* ---- where a restart goes on ---- */

static void file_path(const struct scrub *s, char out[STORECHECK_PATH_BYTES])
{
    snprintf(out, STORECHECK_PATH_BYTES, "%s/scrub", s->e->dir);
}

static void save(struct scrub *s)
{
    char path[STORECHECK_PATH_BYTES], text[256];
    struct scrub_info i;
    scrub_info(s, &i);
    s->saved_ms = clock_mono_ms();
    file_path(s, path);
    snprintf(text, sizeof text, "coffer-scrub 1\npass %llu %d\nat %d %u %llu\nbytes %llu\nlast %llu %llu\n",
             (unsigned long long)i.pass, s->in_pass, (int)s->at.stage, s->at.store, (unsigned long long)s->at.at,
             (unsigned long long)i.bytes, (unsigned long long)i.last_pass_ms, (unsigned long long)i.last_took_ms);
    if (file_write_atomic(path, bytes_str(text), 0600))
        engine_logf(s->e, LOG_DEBUG, "%s cannot be written: the next start scrubs from the beginning", path);
}

/* Anything that does not fit: from the beginning. */
static void load(struct scrub *s)
{
    char path[STORECHECK_PATH_BYTES];
    unsigned long long pass, at, bytes, last, took;
    unsigned stage, store;
    int in_pass;
    struct buf text;
    buf_init(&text, 4096);
    file_path(s, path);
    if (file_read_all(path, &text, 1000) == ERR_OK && buf_put_u8(&text, 0) == ERR_OK &&
        sscanf((const char *)buf_data(&text),
               "coffer-scrub 1\npass %llu %d\nat %u %u %llu\nbytes %llu\nlast %llu %llu\n", &pass, &in_pass, &stage,
               &store, &at, &bytes, &last, &took) == 8 &&
        stage < SCRUB_STAGES) {
        s->at = (struct scrub_position){(enum scrub_stage)stage, store, at};
        s->in_pass = in_pass == 1;
        s->info.pass = pass;
        s->info.bytes = bytes;
        s->info.last_pass_ms = last;
        s->info.last_took_ms = took;
        uint64_t now = clock_wall_ms(), ago = now > last ? now - last : 0;
        if (!s->in_pass && last && ago < REST_MS - START_MS)
            s->due_ms += REST_MS - START_MS - ago;
    }
    buf_fini(&text);
}

/* ---- a pass ---- */

/* About. */
static uint64_t bytes_of_all(struct scrub *s)
{
    struct snapshots_file f[SCRUB_FILES_MAX];
    struct wal_info w;
    wal_info(s->e->wal, &w);
    uint64_t sum = w.bytes;
    unsigned n = s->e->snapshots ? snapshots_list(s->e->snapshots, f, SCRUB_FILES_MAX) : 0;
    for (unsigned i = 0; i < n && i < SCRUB_FILES_MAX; i++)
        sum += f[i].bytes;
    for (unsigned i = 0; i <= s->e->shards; i++) {
        struct tablecheck_table *t = NULL;
        size_t tables = 0;
        struct store *st = engine_store_take(s->e, i);
        if (st && tablecheck_list(st, &t, &tables))
            tables = 0;
        for (size_t k = 0; k < tables; k++)
            sum += t[k].bytes;
        mem_free(t);
        store_unref(st);
    }
    return sum ? sum : 1;
}

static void begin(struct scrub *s)
{
    s->at = (struct scrub_position){.at = scrub_stages[0].from};
    s->items = s->errors = s->repaired = s->skipped = 0;
    pthread_mutex_lock(&s->lock);
    s->in_pass = 1;
    s->info.pass++;
    s->info.bytes = 0;
    pthread_mutex_unlock(&s->lock);
}

/* Lock held. */
static void resume(struct scrub *s)
{
    pthread_mutex_unlock(&s->lock);
    if (!s->in_pass)
        begin(s);
    s->begun_ms = clock_mono_ms();
    s->pass_bytes_all = bytes_of_all(s);
    pthread_mutex_lock(&s->lock);
}

static void give_answers(struct scrub_wait *w, const struct scrub *s, const struct scrub_info *i, enum err err)
{
    while (w) {
        struct scrub_wait *next = w->next;
        w->err = err;
        w->pass = i->pass;
        w->bytes = i->bytes;
        w->ms = i->last_took_ms;
        w->items = s->items;
        w->skipped = s->skipped;
        w->errors = s->errors;
        w->repaired = s->repaired;
        w->done(w);
        w = next;
    }
}

static void end(struct scrub *s)
{
    s->due_ms = clock_mono_ms() + REST_MS;
    pthread_mutex_lock(&s->lock);
    struct scrub_wait *serving = s->serving;
    s->serving = NULL;
    s->in_pass = 0;
    s->info.state = SCRUB_RESTING;
    s->info.percent = 100;
    s->info.last_pass_ms = clock_wall_ms();
    s->info.last_took_ms = clock_mono_ms() - s->begun_ms;
    struct scrub_info i = s->info;
    pthread_mutex_unlock(&s->lock);
    engine_logf(s->e, s->errors ? LOG_WARNING : LOG_VERBOSE,
                "Scrub pass %llu: %u files, %llu bytes, %u damaged, %u of them repaired, %u passed over, %llu ms",
                (unsigned long long)i.pass, s->items, (unsigned long long)i.bytes, s->errors, s->repaired, s->skipped,
                (unsigned long long)i.last_took_ms);
    save(s);
    give_answers(serving, s, &i, ERR_OK);
}

static void note_damage(struct scrub *s, const struct scrub_item *it, enum err err, enum err repair)
{
    char text[160];
    snprintf(text, sizeof text, "%s: %s; %s%s", it->name, err == ERR_IO ? "cannot be read" : "does not verify",
             repair ? "not repaired: " : "repaired", repair ? err_text(repair) : "");
    engine_logf(s->e, LOG_WARNING, "Scrub: %s", text);
    s->repaired += repair == ERR_OK;
    pthread_mutex_lock(&s->lock);
    s->info.repaired += repair == ERR_OK;
    memcpy(s->info.last_error, text, sizeof text);
    pthread_mutex_unlock(&s->lock);
}

static void repair(struct scrub *s, const struct scrub_item *it, enum err err)
{
    s->errors++;
    pthread_mutex_lock(&s->lock);
    s->info.errors++;
    s->info.state = SCRUB_REPAIRING;
    pthread_mutex_unlock(&s->lock);
    engine_logf(s->e, LOG_WARNING, "Scrub: %s %s", it->name, err == ERR_IO ? "cannot be read" : "does not verify");
    note_damage(s, it, err, scrub_stages[it->next.stage].repair(s, it));
    enter(s, SCRUB_READING);
}

static void note_read(struct scrub *s, const struct scrub_item *it, enum err err)
{
    int skipped = err && err != ERR_NOTFOUND;
    s->items += !err;
    s->skipped += (unsigned)skipped;
    pthread_mutex_lock(&s->lock);
    s->info.skipped += (unsigned)skipped;
    if (it->name[0])
        memcpy(s->info.position, it->name, sizeof it->name);
    s->info.percent = s->info.bytes < s->pass_bytes_all ? (unsigned)(s->info.bytes * 100 / s->pass_bytes_all) : 99;
    pthread_mutex_unlock(&s->lock);
}

static int is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO;
}

/* One item, or to the next stage. 0: the pass is through. */
static int step(struct scrub *s)
{
    struct scrub_item it = {.next = s->at};
    enum err err = scrub_stages[s->at.stage].read(s, &it);
    if (is_damage(err)) {
        it = (struct scrub_item){.next = s->at};
        err = scrub_stages[s->at.stage].read(s, &it);
    }
    if (err == ERR_AGAIN)
        return 1; /* stopped, or asked for another pass: the item is read again */
    if (err == ERR_END) {
        enum scrub_stage next = s->at.stage + 1;
        if (next == SCRUB_STAGES)
            return 0;
        s->at = (struct scrub_position){.stage = next, .at = scrub_stages[next].from};
        return 1;
    }
    s->at = it.next;
    note_read(s, &it, is_damage(err) ? ERR_OK : err);
    if (is_damage(err))
        repair(s, &it, err);
    if (clock_mono_ms() >= s->saved_ms + SAVE_MS)
        save(s);
    return 1;
}

/* ---- the thread ---- */

/* Lock held. What it does next; a pass that somebody asked for begins here. */
static enum scrub_state choose(struct scrub *s)
{
    if (s->waits) {
        struct scrub_wait **last = &s->waits;
        while (*last)
            last = &(*last)->next;
        *last = s->serving; /* the pass was theirs; this one is, too */
        s->serving = s->waits;
        s->waits = NULL;
        s->in_pass = 0;
        return SCRUB_READING;
    }
    if (!rate_now(s))
        return SCRUB_OFF;
    return clock_mono_ms() >= s->due_ms ? SCRUB_READING : SCRUB_RESTING;
}

static void read_on(struct scrub *s)
{
    int more = 1;
    while (more) {
        pthread_mutex_unlock(&s->lock);
        more = step(s);
        pthread_mutex_lock(&s->lock);
        if (must_leave(s))
            return;
    }
    pthread_mutex_unlock(&s->lock);
    end(s);
    pthread_mutex_lock(&s->lock);
}

static void *scrub_main(void *arg)
{
    struct scrub *s = arg;
    pthread_setname_np(pthread_self(), "coffer-scrub");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone, as is what follows */
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        s->info.state = choose(s);
        if (s->info.state == SCRUB_READING) {
            resume(s);
            read_on(s);
        } else if (s->info.state == SCRUB_OFF) {
            pthread_cond_wait(&s->wake, &s->lock);
        } else {
            clock_cond_wait(&s->wake, &s->lock, s->due_ms * 1000);
        }
    }
    struct scrub_wait *left = s->waits, *serving = s->serving;
    s->waits = s->serving = NULL;
    struct scrub_info i = s->info;
    pthread_mutex_unlock(&s->lock);
    save(s);
    give_answers(left, s, &i, ERR_AGAIN);
    give_answers(serving, s, &i, ERR_AGAIN);
    return NULL;
}

/* ---- the outside ---- */

void scrub_set_rate(struct scrub *s, uint64_t bytes_per_s)
{
    pthread_mutex_lock(&s->lock);
    s->rate = bytes_per_s;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void scrub_demand(struct scrub *s, struct scrub_wait *w)
{
    struct scrub_info none = {0};
    pthread_mutex_lock(&s->lock);
    int stopped = s->stop;
    w->next = stopped ? NULL : s->waits;
    if (!stopped)
        s->waits = w;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (stopped)
        give_answers(w, s, &none, ERR_AGAIN);
}

void scrub_info(struct scrub *s, struct scrub_info *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->info;
    pthread_mutex_unlock(&s->lock);
}

enum err scrub_new(struct scrub **out, struct engine *e, uint64_t bytes_per_s)
{
    struct scrub *s = *out = mem_zalloc(sizeof *s);
    if (!s)
        return ERR_OOM;
    s->e = e;
    s->rate = bytes_per_s;
    s->saved_ms = clock_mono_ms();
    s->due_ms = s->saved_ms + START_MS;
    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->wake);
    load(s);
    return ERR_OK;
}

enum err scrub_start(struct scrub *s)
{
    if (pthread_create(&s->thread, NULL, scrub_main, s) != 0)
        return ERR_OOM;
    s->started = 1;
    return ERR_OK;
}

void scrub_stop(struct scrub *s)
{
    if (!s || !s->started)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->started = 0;
}

void scrub_free(struct scrub *s)
{
    if (!s)
        return;
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
