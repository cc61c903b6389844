/* install.c - see install.h.
 *
 * Rejected: putting the snapshot into DIR/snapshots at once (the engine that still runs makes and deletes files there);
 * exchanging the engine under a running server (everything that points into it would have to be found, and it is done
 * once in a node's life: it starts anew instead, which takes less than a second whatever the snapshot holds).
 */
#include "engine/install.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hex.h"
#include "engine/celldir.h"
#include "engine/engine.h"
#include "engine/room.h"
#include "engine/storedir.h"

static const char *path_of(char out[INSTALL_PATH_BYTES], const char *dir, const char *name)
{
    snprintf(out, INSTALL_PATH_BYTES, "%s/%s", dir, name);
    return out;
}

void install_path(char out[INSTALL_PATH_BYTES], const char *dir, uint64_t lsn, uint32_t term)
{
    char name[SNAPFILE_NAME_BYTES];
    snapfile_name(name, lsn, term);
    snprintf(out, INSTALL_PATH_BYTES, "%s/" INSTALL_FETCH "/%s.part", dir, name);
}

static void named_path(char out[INSTALL_PATH_BYTES], const char *dir, const struct install *in)
{
    char name[SNAPFILE_NAME_BYTES];
    snapfile_name(name, in->lsn, in->term);
    snprintf(out, INSTALL_PATH_BYTES, "%s/snapshots/%s", dir, name);
}

/* ---- the mark ---- */

enum err install_mark(const char *dir, const struct install *in)
{
    char path[INSTALL_PATH_BYTES], text[512], id[33], chain[65];

    hex_put(id, in->cell_id, sizeof in->cell_id);
    hex_put(chain, in->chain, sizeof in->chain);
    snprintf(text, sizeof text,
             "coffer-install 1\ncell-id %s\nshards %u\nlsn %lu\nterm %u\nchain %s\naside %d\nlog %d\n", id, in->shards,
             in->lsn, in->term, chain, in->aside != 0, in->keep_log != 0);
    return file_write_atomic(path_of(path, dir, "install"), bytes_str(text), 0600);
}

static int parse(const char *text, struct install *in)
{
    char id[33], chain[65];
    int n = sscanf(text,
                   "coffer-install 1\ncell-id %32[0-9a-f]\nshards %u\nlsn %lu\nterm %u\nchain %64[0-9a-f]\n"
                   "aside %d\nlog %d\n",
                   id, &in->shards, &in->lsn, &in->term, chain, &in->aside, &in->keep_log);
    return n >= 5 && hex_get(bytes_str(id), in->cell_id, sizeof in->cell_id) &&
           hex_get(bytes_str(chain), in->chain, sizeof in->chain) &&
           (in->lsn ? in->shards >= 1 && in->shards < ENGINE_STORES_MAX : in->aside);
}

static enum err read_mark(const char *dir, struct install *in)
{
    char path[INSTALL_PATH_BYTES];
    struct buf text;

    *in = (struct install){0};
    buf_init(&text, 4096);
    enum err e = file_read_all(path_of(path, dir, "install"), &text, 4000);
    if (!e)
        e = buf_put_u8(&text, 0);
    if (e == ERR_TOOBIG || (!e && !parse((const char *)buf_data(&text), in)))
        e = ERR_CORRUPT;
    buf_fini(&text);
    return e;
}

/* ---- finishing ---- */

/* The file is where it is wanted. ERR_NOTFOUND: it is not anywhere. */
static enum err exists(const char *path)
{
    int fd;
    enum err e = file_open(path, O_RDONLY, 0, &fd);
    return e ? e : file_close(fd);
}

static int every(const char *name)
{
    (void)name;
    return 1;
}

static int is_snapshot(const char *name)
{
    uint64_t lsn;
    uint32_t term;
    return snapfile_parse_name(name, &lsn, &term);
}

static int is_store(const char *name)
{
    return strcmp(name, "base") == 0 || strncmp(name, "base.", 5) == 0 || strncmp(name, "shard-", 6) == 0;
}

/* What is in a directory that picks() names, but for `keep`; none there is fine. */
static enum err empty(const char *path, int (*picks)(const char *name), enum err (*gone)(const char *path),
                      const char *keep)
{
    char at[INSTALL_PATH_BYTES + 300], **names;
    size_t n;
    enum err e = file_list(path, &names, &n);

    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = 0; i < n && !e; i++) {
        if (!picks(names[i]))
            continue;
        snprintf(at, sizeof at, "%s/%s", path, names[i]);
        if (!keep || strcmp(at, keep) != 0)
            e = gone(at);
        if (e == ERR_NOTFOUND)
            e = ERR_OK;
    }
    file_free_names(names, n);
    return e ? e : file_sync_dir(path);
}

/* ---- what goes aside ---- */

static enum err move_all(const char *from, const char *to, int (*picks)(const char *name), const char *keep)
{
    char was[INSTALL_PATH_BYTES + 300], now[INSTALL_PATH_BYTES + 300], **names;
    size_t n;
    enum err e = file_list(from, &names, &n);

    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = 0; i < n && !e; i++) {
        snprintf(was, sizeof was, "%s/%s", from, names[i]);
        snprintf(now, sizeof now, "%s/%s", to, names[i]);
        if (picks(names[i]) && (!keep || strcmp(was, keep) != 0))
            e = file_rename(was, now);
    }
    file_free_names(names, n);
    if (!e)
        e = file_sync_dir(to);
    return e ? e : file_sync_dir(from);
}

static int is_log(const char *name)
{
    return strcmp(name, "wal") == 0;
}

static int is_begin(const char *name)
{
    return strcmp(name, "begin") == 0;
}

static enum err set_aside(const char *dir, const struct install *in)
{
    char aside[INSTALL_PATH_BYTES], from[INSTALL_PATH_BYTES], to[INSTALL_PATH_BYTES], keep[INSTALL_PATH_BYTES];
    path_of(aside, dir, INSTALL_ASIDE);
    path_of(from, dir, "snapshots");
    path_of(to, dir, INSTALL_ASIDE "/snapshots");
    named_path(keep, dir, in);
    enum err e = file_mkdir(aside, 0700);
    if (!e)
        e = file_mkdir(to, 0700);
    if (!e)
        e = move_all(dir, aside, is_store, NULL);
    if (!e && !in->keep_log)
        e = move_all(dir, aside, is_log, NULL);
    if (!e)
        e = move_all(from, to, is_snapshot, keep);
    return e || in->lsn ? e : move_all(dir, aside, is_begin, NULL);
}

/* ---- what is deleted ---- */

/* All that the snapshot stands for, the log before the stores: what it lacks, they may have. */
static enum err drop_old_state(const char *dir, const struct install *in)
{
    char path[INSTALL_PATH_BYTES], keep[INSTALL_PATH_BYTES];
    named_path(keep, dir, in);
    enum err e = in->keep_log ? ERR_OK : empty(path_of(path, dir, "wal"), every, file_unlink, NULL);
    if (!e)
        e = empty(dir, is_store, storedir_remove, NULL);
    if (!e)
        e = empty(path_of(path, dir, "snapshots"), is_snapshot, file_unlink, keep);
    return e;
}

static enum err place(const char *dir, const struct install *in)
{
    char from[INSTALL_PATH_BYTES], to[INSTALL_PATH_BYTES], path[INSTALL_PATH_BYTES];
    install_path(from, dir, in->lsn, in->term);
    named_path(to, dir, in);
    enum err e = file_mkdir(path_of(path, dir, "snapshots"), 0700);
    if (!e && (e = file_rename(from, to)) == ERR_NOTFOUND) /* it was done before */
        e = exists(to);
    if (!e)
        e = file_sync_dir(path);
    if (!e)
        e = file_sync_dir(dir);
    return e ? e : empty(path_of(path, dir, INSTALL_FETCH), every, file_unlink, NULL);
}

static enum err identify(const char *dir, const struct install *in)
{
    char path[INSTALL_PATH_BYTES];
    struct celldir c;
    enum err e = celldir_read(dir, &c);

    if (e && e != ERR_NOTFOUND)
        return e;
    if (!e && c.shards == in->shards && memcmp(c.cell_id, in->cell_id, sizeof c.cell_id) == 0)
        return ERR_OK;
    if (memcmp(c.cell_id, in->cell_id, sizeof c.cell_id) != 0 && (e = file_unlink(path_of(path, dir, "vote"))) &&
        e != ERR_NOTFOUND)
        return e;
    c.shards = in->shards;
    memcpy(c.cell_id, in->cell_id, sizeof c.cell_id);
    return celldir_write(dir, &c);
}

static enum err begin(const char *dir, const struct install *in)
{
    struct celldir_begin b = {.lsn = in->lsn, .term = in->term + 1, .behind = in->term, .tier = 2};
    memcpy(b.chain, in->chain, sizeof b.chain);
    return celldir_write_begin(dir, &b);
}

static enum err has_snapshot(const char *dir, const struct install *in)
{
    char path[INSTALL_PATH_BYTES];
    install_path(path, dir, in->lsn, in->term);
    enum err e = exists(path);
    if (e == ERR_NOTFOUND) {
        named_path(path, dir, in);
        e = exists(path);
    }
    return e == ERR_NOTFOUND ? ERR_CORRUPT : e;
}

enum err install_finish(const char *dir, struct install *in)
{
    char path[INSTALL_PATH_BYTES];
    enum err e = read_mark(dir, in);

    if (e || (in->lsn && (e = has_snapshot(dir, in))))
        return e;
    if ((e = in->aside ? set_aside(dir, in) : drop_old_state(dir, in)))
        return e;
    if (in->lsn && ((e = place(dir, in)) || (e = identify(dir, in)) || (!in->keep_log && (e = begin(dir, in)))))
        return e;
    e = file_unlink(path_of(path, dir, "install"));
    return e ? e : file_sync_dir(dir);
}

/* ---- may it be set aside? ---- */

int install_has_aside(const char *dir)
{
    char path[INSTALL_PATH_BYTES], **names;
    size_t n;
    enum err e = file_list(path_of(path, dir, INSTALL_ASIDE), &names, &n);
    if (!e)
        file_free_names(names, n);
    return e != ERR_NOTFOUND;
}

static enum err add_size(const char *path, uint64_t *bytes)
{
    uint64_t size = 0;
    int fd;
    enum err e = file_open(path, O_RDONLY, 0, &fd);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    e = file_size(fd, &size);
    *bytes += size;
    enum err closed = file_close(fd);
    return e ? e : closed;
}

/* Of the files in a directory; none there is fine. */
static enum err add_sizes(const char *path, uint64_t *bytes)
{
    char at[INSTALL_PATH_BYTES + 600], **names;
    size_t n;
    enum err e = file_list(path, &names, &n);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = 0; i < n && !e; i++) {
        snprintf(at, sizeof at, "%s/%s", path, names[i]);
        e = add_size(at, bytes);
    }
    file_free_names(names, n);
    return e;
}

/* What comes is as large as what goes, but for the log, which begins anew behind a snapshot. */
static enum err needed_bytes(const char *dir, uint64_t *bytes)
{
    char at[INSTALL_PATH_BYTES + 300], **names;
    size_t n;
    enum err e = file_list(dir, &names, &n);
    *bytes = 0;
    if (e)
        return e;
    for (size_t i = 0; i < n && !e; i++) {
        snprintf(at, sizeof at, "%s/%s", dir, names[i]);
        if (is_store(names[i]) || strcmp(names[i], "snapshots") == 0)
            e = add_sizes(at, bytes);
    }
    file_free_names(names, n);
    return e;
}

enum err install_may_set_aside(const char *dir, uint64_t keep_free, char why[INSTALL_WHY_BYTES])
{
    uint64_t needed, free = room_free(dir);
    why[0] = 0;
    if (install_has_aside(dir)) {
        snprintf(why, INSTALL_WHY_BYTES,
                 "there is a directory " INSTALL_ASIDE " with what was set aside before: look at it, move it away");
        return ERR_CONFLICT;
    }
    enum err e = needed_bytes(dir, &needed);
    if (e) {
        snprintf(why, INSTALL_WHY_BYTES, "the data directory cannot be read: %s", err_text(e));
        return e;
    }
    if (free >= keep_free && free - keep_free >= needed)
        return ERR_OK;
    snprintf(why, INSTALL_WHY_BYTES,
             "the disk has %llu MiB free, and a copy beside what is set aside takes about %llu MiB, with %llu MiB left "
             "free: free some, or move the damaged data to another disk",
             (unsigned long long)free >> 20, (unsigned long long)needed >> 20, (unsigned long long)keep_free >> 20);
    return ERR_MISCONF;
}

/* ---- shards ---- */

enum err install_shards(struct snapread *r, unsigned *out)
{
    static const uint8_t first = 'V';
    struct snapread_iter *it;
    struct snapfile_entry at;
    struct vault *v;

    *out = 1;
    enum err e = snapread_iter_new(r, 0, bytes_of(&first, 1), &it);
    while (!e && (e = snapread_iter_next(it, &at)) == ERR_OK) {
        if (at.key.n < 3 || at.key.p[0] || at.key.p[1] || at.key.p[2] != first)
            break;
        if ((e = vault_decode(bytes_of(at.key.p + 3, at.key.n - 3), at.value, &v)) == ERR_OK) {
            *out = v->store > *out ? v->store : *out;
            vault_free(v);
        }
    }
    snapread_iter_free(it);
    if (e && e != ERR_END)
        return e;
    return *out < ENGINE_STORES_MAX ? ERR_OK : ERR_CORRUPT;
}
