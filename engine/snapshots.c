/* snapshots.c - see snapshots.h: the files, and what is known of them. How one is made: snapshots_make.c. */
#include "engine/snapshots_impl.h"

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/secret.h"
#include "engine/snapold.h"

void snapshots_say(struct snapshots *s, int level, const char *fmt, ...)
{
    char line[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (s->cfg.log)
        s->cfg.log(s->cfg.arg, level, line);
}

void snapshots_path(const struct snapshots *s, uint64_t lsn, uint32_t term, char out[SNAPSHOTS_PATH_BYTES])
{
    char name[SNAPFILE_NAME_BYTES];
    snapfile_name(name, lsn, term);
    snprintf(out, SNAPSHOTS_PATH_BYTES, "%s/%s", s->dir, name);
}

/* ---- the files ---- */

/* SNAPSHOT_UNKNOWN also of one that is not there. Lock held. */
static enum snapshot_state known_of(const struct snapshots *s, uint64_t lsn)
{
    for (unsigned i = 0; i < s->files; i++)
        if (s->file[i].lsn == lsn)
            return s->file[i].verified;
    return SNAPSHOT_UNKNOWN;
}

uint64_t snapshots_good_lsn(const struct snapshots *s)
{
    return s->newest && known_of(s, s->info.lsn) != SNAPSHOT_BAD ? s->info.lsn : 0;
}

void snapshots_mark(struct snapshots *s, uint64_t lsn, int verified)
{
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->files; i++)
        if (s->file[i].lsn == lsn)
            s->file[i].verified = verified;
    pthread_mutex_unlock(&s->lock);
}

static uint64_t size_of(const char *path)
{
    uint64_t bytes = 0;
    int fd;
    if (file_open(path, O_RDONLY, 0, &fd))
        return 0;
    if (file_size(fd, &bytes))
        bytes = 0;
    (void)!file_close(fd);
    return bytes;
}

enum err snapshots_look(struct snapshots *s)
{
    struct snapshots_file found[SNAPSHOTS_FILES_MAX];
    char **names, path[SNAPSHOTS_PATH_BYTES];
    unsigned n = 0;
    size_t count;
    enum err e = file_list(s->dir, &names, &count);
    if (e)
        return e;
    for (size_t i = count; i-- > 0 && n < SNAPSHOTS_FILES_MAX;) { /* names sort as their LSNs do */
        struct snapshots_file f = {0};
        if (!snapfile_parse_name(names[i], &f.lsn, &f.term))
            continue;
        snapshots_path(s, f.lsn, f.term, path);
        f.bytes = size_of(path);
        found[n++] = f;
    }
    file_free_names(names, count);
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < n; i++)
        found[i].verified = known_of(s, found[i].lsn);
    memcpy(s->file, found, n * sizeof found[0]);
    s->files = n;
    pthread_mutex_unlock(&s->lock);
    return ERR_OK;
}

void snapshots_set_newest(struct snapshots *s, struct snapread *r)
{
    struct snapread_info i = {0};
    if (r)
        snapread_info(r, &i);
    pthread_mutex_lock(&s->lock);
    struct snapread *old = s->newest;
    s->newest = r;
    s->info.lsn = i.header.lsn;
    s->info.term = i.header.term;
    s->info.time_ms = i.header.time_ms;
    s->info.bytes = i.bytes;
    s->info.entries = i.entries;
    memcpy(s->info.digest, i.digest, sizeof i.digest);
    pthread_mutex_unlock(&s->lock);
    snapread_unref(old);
}

enum err snapshots_open_file(struct snapshots *s, const struct snapshots_file *f, struct snapread **out, char *why,
                             size_t n)
{
    char path[SNAPSHOTS_PATH_BYTES];
    snapshots_path(s, f->lsn, f->term, path);
    return snapread_open(out, path, s->cfg.cell_id, &s->cfg.signer, why, n);
}

enum err snapshots_open_noted(struct snapshots *s, const struct snapshots_file *f, struct snapread **out)
{
    char path[SNAPSHOTS_PATH_BYTES], why[128] = "";
    snapshots_path(s, f->lsn, f->term, path);
    enum err e = snapshots_open_file(s, f, out, why, sizeof why);
    if (e == ERR_CORRUPT || e == ERR_UNSUPPORTED) {
        snapshots_mark(s, f->lsn, SNAPSHOT_BAD);
        snapshots_say(s, LOG_WARNING, "the snapshot %s does not verify and is skipped: %s", path,
                      why[0] ? why : err_text(e));
    } else if (e == ERR_OK) {
        snapshots_mark(s, f->lsn, SNAPSHOT_OPENED);
    }
    return e;
}

static struct snapread *open_already(struct snapshots *s, uint64_t below_lsn)
{
    pthread_mutex_lock(&s->lock);
    uint64_t lsn = snapshots_good_lsn(s);
    struct snapread *r = lsn && lsn < below_lsn ? snapread_ref(s->newest) : NULL;
    pthread_mutex_unlock(&s->lock);
    return r;
}

enum err snapshots_open_below(struct snapshots *s, uint64_t below_lsn, struct snapread **out)
{
    struct snapshots_file files[SNAPSHOTS_FILES_MAX];
    if ((*out = open_already(s, below_lsn)) != NULL)
        return ERR_OK;
    unsigned n = snapshots_list(s, files, SNAPSHOTS_FILES_MAX);
    for (unsigned i = 0; i < n && i < SNAPSHOTS_FILES_MAX; i++) {
        if (files[i].verified == SNAPSHOT_BAD || files[i].lsn >= below_lsn)
            continue;
        enum err e = snapshots_open_noted(s, &files[i], out);
        if (e != ERR_CORRUPT && e != ERR_UNSUPPORTED && e != ERR_NOTFOUND)
            return e;
    }
    return ERR_NOTFOUND;
}

enum err snapshots_find_newest(struct snapshots *s)
{
    struct snapread *r;
    enum err e = snapshots_open_below(s, UINT64_MAX, &r);
    if (e == ERR_OK)
        snapshots_set_newest(s, r);
    return e;
}

/* ---- damage that somebody found ---- */

void snapshots_damaged(struct snapshots *s, uint64_t lsn)
{
    snapshots_say(s, LOG_WARNING, "the snapshot at LSN %llu has damage: it is passed over", (unsigned long long)lsn);
    snapshots_mark(s, lsn, SNAPSHOT_BAD);
    pthread_cond_signal(&s->wake);
}

enum err snapshots_arrived(struct snapshots *s, uint64_t lsn)
{
    struct snapshots_file files[SNAPSHOTS_FILES_MAX];
    struct snapread *r = NULL;
    enum err e = snapshots_look(s);
    unsigned n = snapshots_list(s, files, SNAPSHOTS_FILES_MAX), i = 0;

    while (i < n && i < SNAPSHOTS_FILES_MAX && files[i].lsn != lsn)
        i++;
    if (!e)
        e = i < n && i < SNAPSHOTS_FILES_MAX ? snapshots_open_noted(s, &files[i], &r) : ERR_NOTFOUND;
    if (e)
        return e;
    pthread_mutex_lock(&s->lock);
    int newer = snapshots_good_lsn(s) > lsn;
    pthread_mutex_unlock(&s->lock);
    if (newer)
        snapread_unref(r);
    else
        snapshots_set_newest(s, r);
    return ERR_OK;
}

enum err snapshots_pass_over(struct snapshots *s, uint64_t lsn)
{
    snapshots_damaged(s, lsn);
    snapshots_set_newest(s, NULL);
    enum err e = snapshots_find_newest(s);
    return e == ERR_OK || e == ERR_NOTFOUND ? ERR_AGAIN : e;
}

void snapshots_log_damaged(struct snapshots *s, uint64_t last_lsn)
{
    pthread_mutex_lock(&s->lock);
    if (s->damaged_log_lsn < last_lsn)
        s->damaged_log_lsn = last_lsn;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the outside ---- */

struct snapread *snapshots_newest(struct snapshots *s)
{
    pthread_mutex_lock(&s->lock);
    struct snapread *r = s->newest ? snapread_ref(s->newest) : NULL;
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* A reader met it. Once: until another one is made every read of what lies there comes here. */
static void note_damage(struct snapshots *s, const struct snapread *r)
{
    struct snapread_info i;
    snapread_info(r, &i);
    pthread_mutex_lock(&s->lock);
    int known = known_of(s, i.header.lsn) == SNAPSHOT_BAD;
    pthread_mutex_unlock(&s->lock);
    if (!known)
        snapshots_damaged(s, i.header.lsn);
}

enum err snapshots_value(struct snapshots *s, uint16_t store, struct bytes logged_key, struct blob **out)
{
    uint8_t key[2 + SECRET_KEY_MAX];
    struct snapold o;

    *out = NULL;
    struct snapread *r = snapshots_newest(s);
    if (!r)
        return ERR_NOTFOUND;
    key[0] = (uint8_t)(store >> 8);
    key[1] = (uint8_t)store;
    memcpy(key + 2, logged_key.p, logged_key.n);
    enum err e = snapold_parse(bytes_of(key, 2 + logged_key.n), &o) ? snapold_in_snapshot(r, &o, out) : ERR_INTERNAL;
    if (e == ERR_CORRUPT || e == ERR_IO)
        note_damage(s, r);
    snapread_unref(r);
    return e;
}

void snapshots_settings(struct snapshots *s, uint64_t log_bytes, uint64_t interval_ms, unsigned keep)
{
    pthread_mutex_lock(&s->lock);
    s->cfg.log_bytes = log_bytes;
    s->cfg.interval_ms = interval_ms;
    s->cfg.keep = keep < 2 ? 2 : keep;
    pthread_mutex_unlock(&s->lock);
}

void snapshots_info(struct snapshots *s, struct snapshots_info *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->info;
    out->files = s->files;
    out->making = s->info.making || s->waits;
    out->making_bytes = s->info.making ? s->info.making_bytes : 0;
    pthread_mutex_unlock(&s->lock);
}

unsigned snapshots_list(struct snapshots *s, struct snapshots_file *out, unsigned max)
{
    pthread_mutex_lock(&s->lock);
    unsigned n = s->files;
    memcpy(out, s->file, (n < max ? n : max) * sizeof *out);
    pthread_mutex_unlock(&s->lock);
    return n;
}

void snapshots_free(struct snapshots *s)
{
    if (!s)
        return;
    snapshots_end(s);
    snapread_unref(s->newest);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    mem_free(s->dir);
    mem_free(s);
}

enum err snapshots_open(struct snapshots **out, const struct snapshots_config *cfg)
{
    size_t n = strlen(cfg->dir) + 1;
    struct snapshots *s = *out = mem_zalloc(sizeof *s);

    assert(cfg->keep >= 2);
    if (!s)
        return ERR_OOM;
    s->cfg = *cfg;
    pthread_mutex_init(&s->lock, NULL);
    clock_cond_init(&s->wake);
    s->made_ms = clock_mono_ms();
    enum err e = (s->dir = mem_alloc(n)) ? ERR_OK : ERR_OOM;
    if (!e) {
        memcpy(s->dir, cfg->dir, n);
        s->cfg.dir = s->dir;
        e = file_mkdir(s->dir, 0700);
    }
    if (!e)
        e = snapwrite_clean(s->dir);
    if (!e)
        e = snapshots_look(s);
    if (!e) {
        e = snapshots_find_newest(s);
        if (e == ERR_NOTFOUND || e == ERR_HSMDOWN || e == ERR_SEALED)
            e = ERR_OK; /* none, or nothing is known yet */
    }
    if (e) {
        snapshots_free(s);
        *out = NULL;
        return e;
    }
    return ERR_OK;
}
