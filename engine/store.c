/* store.c - see store.h.
 *
 * LevelDB reports errors as text only; of_message() turns it into an enum err by the word it starts with.
 *
 * Reading tables by pread: LevelDB maps tables unless its limit of mappings is reached, and has no option for that
 * limit but a function meant for its tests, which the static library carries (the shared one hides it). It is referred
 * to weakly: linked against the shared library the store works all the same, mapped. Measured with 1,000,000 entries of
 * 250 bytes: 20,000 random gets bring a mapped process to 290 MiB, all of them to 400 MiB; with pread it stays at 18
 * MiB. A get costs 4.2 us instead of 3.0, of which 0.4 is the checksum. Blocks are 2 KiB because both pread's copy and
 * the checksum cost by the byte (4 KiB: 4.9 us; 1 KiB: 3.9 us, but twice the index).
 *
 * The checkpoint's order is what makes it true: (1) applied LSN is read, (2) logs are listed and synced, (3) the
 * directory is synced, (4) the mark is written. A batch at or below (1) is either in a log that (2) sees, or was in one
 * that disappeared: LevelDB removes a log only after it has synced the table and the MANIFEST that replace it. The mark
 * itself need not be synced: if it is lost, an older one holds.
 *
 * Rejected: sync=true writes (see above, they prove nothing); verify_checksums only on scans
 * (tests/unit/test_store_damage.c finds the bit that is missed then); RepairDB (it salvages, with holes); an unframed
 * value (LevelDB's checksum does not cover what it was told to write).
 */
#include "engine/store.h"

#include <assert.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/storecheck.h"

#define FRAME_BYTES 12
#define BATCH_OVERHEAD 16
#define BLOCK_BYTES 2048
#define TABLE_BYTES ((size_t)32 << 20)

struct store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_filterpolicy_t *bloom;
    leveldb_cache_t *cache;
    leveldb_readoptions_t *get_options, *scan_options;
    leveldb_writeoptions_t *write_options;
    _Atomic uint64_t applied, checkpointed;
    _Atomic int failed; /* enum err */
    _Atomic unsigned users;
    char path[];
};

struct store_batch {
    leveldb_writebatch_t *batch;
    struct buf frame; /* scratch */
    size_t bytes;
    enum err err;
};

struct store_iter {
    struct store *s;
    leveldb_iterator_t *it;
    enum err err;
};

static const uint8_t key_applied[2] = {0, 'a'}, key_checkpoint[2] = {0, 'c'};

/* ---- small things ---- */

#if defined(__SANITIZE_THREAD__)
/* LevelDB is not built for TSan, which sees its memcpy and memcmp but not the atomics that order them. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:leveldb::*\n";
}
#endif

/* LevelDB's own checksum, in the place of its function by this name, which Debian builds without the processor's
 * instruction: each byte is checksummed at each level that it is copied to, and by table that was a quarter of what
 * LevelDB cost. The same CRC-32C, bit for bit. */
uint32_t leveldb_crc32c(uint32_t crc, const char *p, size_t n) __asm__("_ZN7leveldb6crc32c6ExtendEjPKcm");
uint32_t leveldb_crc32c(uint32_t crc, const char *p, size_t n)
{
    return crc32c(crc, p, n);
}

extern void limit_mappings(int n) __asm__("_ZN7leveldb18EnvPosixTestHelper20SetReadOnlyMMapLimitEi")
    __attribute__((weak));

/* Before LevelDB's environment is first used, that is, before anything else of it. */
static void read_tables_by_pread(void)
{
    if (limit_mappings)
        limit_mappings(0);
}

/* Takes LevelDB's message, which may be NULL. */
static enum err of_message(char *message)
{
    enum err e = ERR_OK;
    if (!message)
        return e;
    if (strncmp(message, "NotFound", 8) == 0)
        e = ERR_IO; /* a file, not a key */
    else if (strncmp(message, "IO error", 8) != 0)
        e = ERR_CORRUPT;
    else
        e = strstr(message, "No space left") || strstr(message, "quota exceeded") ? ERR_MISCONF : ERR_IO;
    leveldb_free(message);
    return e;
}

static enum err fail(struct store *s, enum err e)
{
    int none = ERR_OK;
    if (e == ERR_NOTFOUND)
        e = ERR_IO; /* a file that went away: a get must not answer that its key did */
    if (e && e != ERR_OOM)
        atomic_compare_exchange_strong(&s->failed, &none, (int)e);
    return e;
}

enum err store_failed(const struct store *s)
{
    return (enum err)atomic_load_explicit(&s->failed, memory_order_acquire);
}

uint64_t store_applied(const struct store *s)
{
    return atomic_load_explicit(&s->applied, memory_order_acquire);
}

uint64_t store_checkpointed(const struct store *s)
{
    return atomic_load_explicit(&s->checkpointed, memory_order_acquire);
}

/* ---- frames ---- */

static uint32_t frame_crc(struct bytes key, const uint8_t *lsn, struct bytes payload)
{
    uint32_t crc = crc32c(0, key.p, key.n);
    crc = crc32c(crc, lsn, 8);
    return crc32c(crc, payload.p, payload.n);
}

static void frame_header(uint8_t out[FRAME_BYTES], struct bytes key, struct bytes payload, uint64_t lsn)
{
    put_le64(out, lsn);
    put_le32(out + 8, frame_crc(key, out, payload));
}

static enum err unframe(struct bytes key, struct bytes value, struct bytes *payload, uint64_t *lsn)
{
    *payload = bytes_of(NULL, 0);
    *lsn = 0;
    if (value.n < FRAME_BYTES)
        return ERR_CORRUPT;
    struct bytes rest = bytes_of(value.p + FRAME_BYTES, value.n - FRAME_BYTES);
    if (get_le32(value.p + 8) != frame_crc(key, value.p, rest))
        return ERR_CORRUPT;
    *payload = rest;
    *lsn = get_le64(value.p);
    return ERR_OK;
}

/* ---- open, close ---- */

static void make_options(struct store *s, const struct store_config *cfg)
{
    s->bloom = leveldb_filterpolicy_create_bloom(10);
    s->cache = leveldb_cache_create_lru(cfg->cache_bytes ? cfg->cache_bytes : (size_t)1 << 20);
    s->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(s->options, 1);
    leveldb_options_set_paranoid_checks(s->options, 1);
    leveldb_options_set_compression(s->options, leveldb_no_compression);
    leveldb_options_set_filter_policy(s->options, s->bloom);
    leveldb_options_set_cache(s->options, s->cache);
    leveldb_options_set_block_size(s->options, BLOCK_BYTES);
    leveldb_options_set_max_file_size(s->options, TABLE_BYTES);
    leveldb_options_set_write_buffer_size(s->options,
                                          cfg->write_buffer_bytes ? cfg->write_buffer_bytes : (size_t)4 << 20);
    leveldb_options_set_max_open_files(s->options, cfg->max_open_files ? cfg->max_open_files : 200);
    s->get_options = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(s->get_options, 1);
    s->scan_options = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(s->scan_options, 1);
    leveldb_readoptions_set_fill_cache(s->scan_options, 0);
    s->write_options = leveldb_writeoptions_create(); /* sync is off */
}

static enum err get_value(struct store *s, struct bytes key, char **value, size_t *n)
{
    char *message = NULL;
    *value = leveldb_get(s->db, s->get_options, (const char *)key.p, key.n, n, &message);
    if (message)
        return of_message(message);
    return *value ? ERR_OK : ERR_NOTFOUND;
}

/* One of the store's own numbers; 0 when it was never written. */
static enum err get_number(struct store *s, const uint8_t own_key[2], _Atomic uint64_t *number)
{
    struct bytes key = bytes_of(own_key, 2), payload;
    char *value;
    size_t n;
    uint64_t lsn = 0;
    enum err e = get_value(s, key, &value, &n);
    if (!e) {
        e = unframe(key, bytes_of(value, n), &payload, &lsn);
        leveldb_free(value);
    }
    atomic_store(number, lsn);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

enum err store_open(struct store **out, const struct store_config *cfg)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char *message = NULL;
    size_t n = strlen(cfg->path) + 1;

    *out = NULL;
    pthread_once(&once, read_tables_by_pread);
    if (n > STORECHECK_PATH_BYTES - 64)
        return ERR_IO;
    struct store *s = mem_zalloc(sizeof *s + n);
    if (!s)
        return ERR_OOM;
    memcpy(s->path, cfg->path, n);
    enum err e = storecheck_dir(cfg->path);
    if (e)
        goto out;
    make_options(s, cfg);
    s->db = leveldb_open(s->options, cfg->path, &message);
    e = of_message(message);
    if (!e)
        e = get_number(s, key_applied, &s->applied);
    if (!e)
        e = get_number(s, key_checkpoint, &s->checkpointed);
    if (!e && s->checkpointed > s->applied)
        e = ERR_CORRUPT; /* it is written after the batch that it speaks of */
out:
    if (e)
        store_close(s);
    else
        *out = s;
    return e;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    assert(!store_users(s));
    if (s->db)
        leveldb_close(s->db);
    if (s->options) {
        leveldb_writeoptions_destroy(s->write_options);
        leveldb_readoptions_destroy(s->scan_options);
        leveldb_readoptions_destroy(s->get_options);
        leveldb_options_destroy(s->options);
        leveldb_cache_destroy(s->cache);
        leveldb_filterpolicy_destroy(s->bloom);
    }
    mem_free(s);
}

/* ---- users ---- */

struct store *store_ref(struct store *s)
{
    atomic_fetch_add_explicit(&s->users, 1, memory_order_relaxed);
    return s;
}

void store_unref(struct store *s)
{
    if (s)
        atomic_fetch_sub_explicit(&s->users, 1, memory_order_release);
}

/* Acquire: what the last of them did to the store comes before the close. */
unsigned store_users(const struct store *s)
{
    return atomic_load_explicit(&s->users, memory_order_acquire);
}

const char *store_path(const struct store *s)
{
    return s->path;
}

/* ---- get ---- */

enum err store_get(struct store *s, struct bytes key, struct blob **out)
{
    *out = NULL;
    enum err e = store_failed(s);
    if (e)
        return e;
    char *value;
    size_t n;
    e = get_value(s, key, &value, &n);
    if (e)
        return e;
    struct bytes payload;
    uint64_t lsn;
    e = unframe(key, bytes_of(value, n), &payload, &lsn);
    if (!e) {
        *out = blob_new(payload, payload.n, lsn);
        e = *out ? ERR_OK : ERR_OOM;
    }
    leveldb_free(value);
    return e;
}

/* ---- batches ---- */

enum err store_batch_new(struct store_batch **out)
{
    *out = mem_zalloc(sizeof **out);
    if (!*out)
        return ERR_OOM;
    buf_init(&(*out)->frame, SIZE_MAX / 2);
    (*out)->batch = leveldb_writebatch_create();
    return ERR_OK;
}

void store_batch_free(struct store_batch *b)
{
    if (!b)
        return;
    leveldb_writebatch_destroy(b->batch);
    buf_fini(&b->frame);
    mem_free(b);
}

static void batch_clear(struct store_batch *b)
{
    leveldb_writebatch_clear(b->batch);
    buf_shrink(&b->frame, 64 << 10);
    b->bytes = 0;
    b->err = ERR_OK;
}

static void put_framed(struct store_batch *b, struct bytes key, struct bytes value, uint64_t lsn)
{
    uint8_t *room;
    if (!b->err)
        b->err = buf_reserve(&b->frame, FRAME_BYTES + value.n, &room);
    if (b->err)
        return;
    frame_header(room, key, value, lsn);
    if (value.n)
        memcpy(room + FRAME_BYTES, value.p, value.n);
    leveldb_writebatch_put(b->batch, (const char *)key.p, key.n, (const char *)room, FRAME_BYTES + value.n);
    b->bytes += key.n + FRAME_BYTES + value.n + BATCH_OVERHEAD;
}

void store_batch_put(struct store_batch *b, struct bytes key, struct bytes value, uint64_t lsn)
{
    assert(key.n && key.p[0] != 0);
    put_framed(b, key, value, lsn);
}

void store_batch_delete(struct store_batch *b, struct bytes key)
{
    assert(key.n && key.p[0] != 0);
    leveldb_writebatch_delete(b->batch, (const char *)key.p, key.n);
    b->bytes += key.n + BATCH_OVERHEAD;
}

size_t store_batch_bytes(const struct store_batch *b)
{
    return b->bytes;
}

static enum err write_batch(struct store *s, struct store_batch *b)
{
    char *message = NULL;
    if (b->err)
        return b->err == ERR_TOOBIG ? ERR_OOM : b->err;
    leveldb_write(s->db, s->write_options, b->batch, &message);
    return fail(s, of_message(message));
}

enum err store_write(struct store *s, struct store_batch *b, uint64_t applied_lsn)
{
    enum err e = store_failed(s);
    assert(applied_lsn >= store_applied(s));
    if (!e) {
        put_framed(b, bytes_of(key_applied, 2), bytes_of(NULL, 0), applied_lsn);
        e = write_batch(s, b);
    }
    if (!e)
        atomic_store_explicit(&s->applied, applied_lsn, memory_order_release);
    batch_clear(b);
    return e;
}

/* ---- checkpoint ---- */

static enum err sync_log(const char *dir, const char *name)
{
    char path[STORECHECK_PATH_BYTES];
    int fd;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    enum err e = file_open(path, O_RDONLY, 0, &fd);
    if (e == ERR_NOTFOUND)
        return ERR_OK; /* replaced by a table since it was listed */
    if (e)
        return e;
    e = file_fdatasync(fd);
    enum err closed = file_close(fd);
    return e ? e : closed;
}

static enum err sync_logs(const char *dir)
{
    char **names;
    size_t count;
    unsigned long long number;
    enum err e = file_list(dir, &names, &count);
    for (size_t i = 0; i < count && !e; i++)
        if (storecheck_is_log(names[i], &number))
            e = sync_log(dir, names[i]);
    file_free_names(names, count);
    return e ? e : file_sync_dir(dir);
}

enum err store_checkpoint(struct store *s, uint64_t *lsn)
{
    struct store_batch *b = NULL;
    uint64_t applied = store_applied(s);

    *lsn = store_checkpointed(s);
    enum err e = store_failed(s);
    if (e || applied == *lsn)
        return e;
    e = store_batch_new(&b);
    if (e)
        return e;
    e = fail(s, sync_logs(s->path));
    if (!e) {
        put_framed(b, bytes_of(key_checkpoint, 2), bytes_of(NULL, 0), applied);
        e = write_batch(s, b);
    }
    if (!e) {
        atomic_store_explicit(&s->checkpointed, applied, memory_order_release);
        *lsn = applied;
    }
    store_batch_free(b);
    return e;
}

/* ---- scan ---- */

enum err store_iter_new(struct store *s, struct store_iter **out)
{
    *out = NULL;
    enum err e = store_failed(s);
    if (e)
        return e;
    struct store_iter *it = mem_zalloc(sizeof *it);
    if (!it)
        return ERR_OOM;
    it->s = store_ref(s);
    it->it = leveldb_create_iterator(s->db, s->scan_options);
    *out = it;
    return ERR_OK;
}

void store_iter_free(struct store_iter *it)
{
    if (!it)
        return;
    leveldb_iter_destroy(it->it);
    store_unref(it->s);
    mem_free(it);
}

/* LevelDB steps over a block that it cannot read, and only its status tells. So it is asked after each move. */
static void look_for_damage(struct store_iter *it)
{
    char *message = NULL;
    leveldb_iter_get_error(it->it, &message);
    if (message)
        it->err = of_message(message);
}

void store_iter_seek(struct store_iter *it, struct bytes key)
{
    static const uint8_t behind_own[1] = {1};
    if (key.n == 0 || key.p[0] == 0)
        key = bytes_of(behind_own, 1);
    leveldb_iter_seek(it->it, (const char *)key.p, key.n);
    look_for_damage(it);
}

int store_iter_valid(struct store_iter *it)
{
    return !it->err && leveldb_iter_valid(it->it);
}

void store_iter_next(struct store_iter *it)
{
    leveldb_iter_next(it->it);
    look_for_damage(it);
}

struct bytes store_iter_key(struct store_iter *it)
{
    size_t n;
    const char *p = leveldb_iter_key(it->it, &n);
    return bytes_of(p, n);
}

enum err store_iter_value(struct store_iter *it, struct bytes *payload, uint64_t *lsn)
{
    size_t n;
    const char *p = leveldb_iter_value(it->it, &n);
    return unframe(store_iter_key(it), bytes_of(p, n), payload, lsn);
}

enum err store_iter_status(struct store_iter *it)
{
    return it->err;
}

enum err store_property(struct store *s, const char *name, struct buf *out)
{
    char *value = leveldb_property_value(s->db, name);
    if (!value)
        return ERR_NOTFOUND;
    enum err e = buf_put(out, value, strlen(value));
    leveldb_free(value);
    return e;
}
