/* celldir.c - see celldir.h. */
#include "engine/celldir.h"

#include <stdio.h>

#include "base/file.h"
#include "base/hex.h"
#include "engine/engine.h"

#define PATH_BYTES 4096

static void path_of(char out[PATH_BYTES], const char *dir, const char *name)
{
    snprintf(out, PATH_BYTES, "%s/%s", dir, name);
}

/* The file as a text. */
static enum err read_text(const char *dir, const char *name, struct buf *text)
{
    char path[PATH_BYTES];

    path_of(path, dir, name);
    enum err e = file_read_all(path, text, 4000);
    if (e == ERR_OK)
        e = buf_put_u8(text, 0);
    return e == ERR_TOOBIG ? ERR_CORRUPT : e;
}

static enum err write_text(const char *dir, const char *name, const char *text)
{
    char path[PATH_BYTES];

    path_of(path, dir, name);
    return file_write_atomic(path, bytes_str(text), 0600);
}

static enum err parse(const char *text, struct celldir *c)
{
    char id[33];

    if (sscanf(text, "coffer-cell 1\ncell-id %32[0-9a-f]\nshards %u\n", id, &c->shards) != 2 ||
        !hex_get(bytes_str(id), c->cell_id, sizeof c->cell_id) || c->shards < 1 || c->shards >= ENGINE_STORES_MAX)
        return ERR_CORRUPT;
    return ERR_OK;
}

enum err celldir_read(const char *dir, struct celldir *c)
{
    struct buf text;

    *c = (struct celldir){0};
    buf_init(&text, 4096);
    enum err e = read_text(dir, "cell", &text);
    if (e == ERR_OK)
        e = parse((const char *)buf_data(&text), c);
    buf_fini(&text);
    if (e)
        *c = (struct celldir){0};
    return e;
}

enum err celldir_write(const char *dir, const struct celldir *c)
{
    char text[128], id[33];

    hex_put(id, c->cell_id, sizeof c->cell_id);
    snprintf(text, sizeof text, "coffer-cell 1\ncell-id %s\nshards %u\n", id, c->shards);
    return write_text(dir, "cell", text);
}

static enum err parse_begin(const char *text, struct celldir_begin *b)
{
    char chain[65];

    if (sscanf(text, "coffer-begin 1\nlsn %lu\nterm %u\nchain %64[0-9a-f]\nbehind %u\ntier %u\n", &b->lsn, &b->term,
               chain, &b->behind, &b->tier) < 3 ||
        !hex_get(bytes_str(chain), b->chain, sizeof b->chain) || !b->term)
        return ERR_CORRUPT;
    return ERR_OK;
}

enum err celldir_read_begin(const char *dir, struct celldir_begin *b)
{
    struct buf text;

    *b = (struct celldir_begin){0};
    buf_init(&text, 4096);
    enum err e = read_text(dir, "begin", &text);
    if (e == ERR_OK)
        e = parse_begin((const char *)buf_data(&text), b);
    buf_fini(&text);
    if (e)
        *b = (struct celldir_begin){0};
    return e;
}

enum err celldir_write_begin(const char *dir, const struct celldir_begin *b)
{
    char text[256], chain[65];

    hex_put(chain, b->chain, sizeof b->chain);
    snprintf(text, sizeof text, "coffer-begin 1\nlsn %lu\nterm %u\nchain %s\nbehind %u\ntier %u\n", b->lsn, b->term,
             chain, b->behind, b->tier);
    return write_text(dir, "begin", text);
}

enum err celldir_remove_begin(const char *dir)
{
    char path[PATH_BYTES];

    path_of(path, dir, "begin");
    enum err e = file_unlink(path);
    return e == ERR_NOTFOUND ? ERR_OK : e ? e : file_sync_dir(dir);
}

enum err celldir_has_log(const char *dir, int *has)
{
    char path[PATH_BYTES], **names;
    size_t n;

    *has = 0;
    path_of(path, dir, "wal");
    enum err e = file_list(path, &names, &n);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        *has |= len > 4 && strcmp(names[i] + len - 4, ".wbl") == 0;
    }
    file_free_names(names, n);
    return ERR_OK;
}
