/* storecheck.c - see storecheck.h.
 *
 * LevelDB's log format (its doc/log_format.md), also that of the MANIFEST: blocks of 32 KiB, in them records of
 *
 *      0  u32  crc of type and payload
 *      4  u16  length of the payload
 *      6  u8   type: 1 full, 2 first, 3 middle, 4 last
 *      7  payload
 *
 * and never less than a header's room at a record's start: up to 6 bytes at a block's end are zeros. LevelDB verifies
 * the CRC (as is done here, for a MANIFEST that it will not read until the next open), but says nothing of these:
 *
 *   - a length that points behind the end of the file, or a record whose last part is missing: a writer that died;
 *   - a header with type and length zero: it ends the block, and reading goes on with the next one;
 *   - a directory without CURRENT: a new store, whose first act is to replay the logs found, without the tables.
 *
 * So one flipped bit in a length can drop the last changes of a MANIFEST (a table is forgotten) or of a log that was
 * closed (a hole under a newer applied LSN). Here the records of each file must follow one another to its end, and only
 * the newest log that has anything in it may end torn, with nothing but zeros behind.
 *
 * The price: a MANIFEST or closed log that a crash really cut is taken for damage as well, and the store is rebuilt
 * where LevelDB would have gone on. For a MANIFEST the window is one small write; a closed log is only cut by a power
 * loss, and then has the hole.
 */
#include "engine/storecheck.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"

#define LOG_BLOCK 32768
#define LOG_HEADER 7
enum { LOG_ZERO = 0, LOG_FULL = 1, LOG_FIRST = 2, LOG_MIDDLE = 3, LOG_LAST = 4 };

static int all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return 0;
    return 1;
}

/* Walks the records of one block. *in_record: a record that spans blocks is open. *torn: no whole record from some
 * place on. */
static enum err check_block(const uint8_t *b, size_t n, int *in_record, int *torn)
{
    size_t at = 0;
    while (n - at >= LOG_HEADER) {
        size_t length = get_le16(b + at + 4);
        int type = b[at + 6], starts = type == LOG_FULL || type == LOG_FIRST;
        if (type == LOG_ZERO && length == 0) {
            *torn = 1;
            return all_zero(b + at, n - at) ? ERR_OK : ERR_CORRUPT;
        }
        if (at + LOG_HEADER + length > n) {
            *torn = 1;
            return n == LOG_BLOCK ? ERR_CORRUPT : ERR_OK;
        }
        if (type > LOG_LAST || type == LOG_ZERO || starts == *in_record)
            return ERR_CORRUPT;
        if (crc32c(0, b + at + 6, length + 1) != storecheck_unmask(get_le32(b + at)))
            return ERR_CORRUPT;
        *in_record = type == LOG_FIRST || type == LOG_MIDDLE;
        at += LOG_HEADER + length;
    }
    *torn = n < LOG_BLOCK && n > at; /* part of a header */
    return ERR_OK;
}

static enum err check_log(const char *path, int may_be_torn)
{
    uint8_t *block = mem_alloc(LOG_BLOCK);
    int fd = -1, in_record = 0, torn = 0;
    size_t got = LOG_BLOCK;
    enum err e = block ? file_open(path, O_RDONLY, 0, &fd) : ERR_OOM;

    for (uint64_t off = 0; !e && got == LOG_BLOCK; off += LOG_BLOCK) {
        e = file_pread(fd, block, LOG_BLOCK, off, &got);
        if (!e && torn && !all_zero(block, got))
            e = ERR_CORRUPT;
        if (!e && !torn)
            e = check_block(block, got, &in_record, &torn);
    }
    if (!e && (torn || in_record) && !may_be_torn)
        e = ERR_CORRUPT;
    enum err closed = file_close(fd);
    mem_free(block);
    return e ? e : closed;
}

int storecheck_is_log(const char *name, unsigned long long *number)
{
    char *end;
    *number = strtoull(name, &end, 10);
    return end != name && strcmp(end, ".log") == 0;
}

static enum err check_manifest(const char *path, int may_be_torn)
{
    char name[STORECHECK_PATH_BYTES];
    struct buf current;
    buf_init(&current, 256);
    snprintf(name, sizeof name, "%s/CURRENT", path);
    enum err e = file_read_all(name, &current, 256);
    if (!e) {
        const uint8_t *p = buf_data(&current);
        size_t n = buf_size(&current);
        int ok = n > 9 && memcmp(p, "MANIFEST-", 9) == 0 && p[n - 1] == '\n' && !memchr(p, 0, n);
        if (ok)
            snprintf(name, sizeof name, "%s/%.*s", path, (int)n - 1, (const char *)p);
        e = ok ? check_log(name, may_be_torn) : ERR_CORRUPT;
    }
    buf_fini(&current);
    return e == ERR_NOTFOUND || e == ERR_TOOBIG ? ERR_CORRUPT : e;
}

static enum err file_bytes(const char *path, uint64_t *size)
{
    int fd;
    *size = 0;
    enum err e = file_open(path, O_RDONLY, 0, &fd);
    if (e)
        return e;
    e = file_size(fd, size);
    enum err closed = file_close(fd);
    return e ? e : closed;
}

/* A log that was begun after the newest, and is empty yet, was made by an opening that did not come to its end. */
static enum err check_logs(const char *path, char **names, size_t count)
{
    unsigned long long number, newest = 0;
    char name[STORECHECK_PATH_BYTES];
    uint64_t size;
    enum err e = ERR_OK;

    for (size_t i = 0; i < count && !e; i++) {
        if (!storecheck_is_log(names[i], &number))
            continue;
        snprintf(name, sizeof name, "%s/%s", path, names[i]);
        e = file_bytes(name, &size);
        if (size && number > newest)
            newest = number;
    }
    for (size_t i = 0; i < count && !e; i++) {
        if (!storecheck_is_log(names[i], &number))
            continue;
        snprintf(name, sizeof name, "%s/%s", path, names[i]);
        e = check_log(name, number == newest);
    }
    return e;
}

static int is_data(const char *name)
{
    unsigned long long number;
    const char *dot = strrchr(name, '.');
    return strncmp(name, "MANIFEST-", 9) == 0 || storecheck_is_log(name, &number) || (dot && strcmp(dot, ".ldb") == 0);
}

enum err storecheck_dir(const char *path)
{
    char **names;
    size_t count;
    int data = 0, current = 0;
    enum err e = file_list(path, &names, &count);

    if (e == ERR_NOTFOUND)
        return ERR_OK;
    for (size_t i = 0; i < count && !e; i++) {
        current |= strcmp(names[i], "CURRENT") == 0;
        data |= is_data(names[i]);
    }
    if (!e && data && !current)
        e = ERR_CORRUPT;
    if (!e && current)
        e = check_manifest(path, 0);
    if (!e)
        e = check_logs(path, names, count);
    file_free_names(names, count);
    return e == ERR_NOTFOUND ? ERR_IO : e; /* a file went away: somebody else is at work here */
}

/* The last record may be on its way. */
enum err storecheck_manifest(const char *path)
{
    return check_manifest(path, 1);
}
