/* wal_fixture.h - what the tests of the log share: a directory in memory, an oracle of what was appended, checks.
 *
 * The oracle makes records (their content follows from LSN, term and size) and remembers their bytes, so that a log can
 * be compared with it record by record. Directories lie in /dev/shm where there is one: thousands of opens with their
 * syncs are cheap there.
 */
#ifndef COFFER_TESTS_WAL_FIXTURE_H
#define COFFER_TESTS_WAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "engine/wal.h"
#include "engine/wal_segment.h"

#define FX_MAX_RECORDS 4096
#define FX_DIR_BYTES 64
#define fx_unused __attribute__((unused))

/* ---- directories ---- */

fx_unused static void fx_make_dir(char dir[FX_DIR_BYTES])
{
    snprintf(dir, FX_DIR_BYTES, "%s/coffer-wal-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
}

fx_unused static void fx_path(char out[512], const char *dir, const char *name)
{
    snprintf(out, 512, "%s/%s", dir, name);
}

fx_unused static void fx_empty_dir(const char *dir)
{
    char path[512];
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        fx_path(path, dir, e->d_name);
        assert_int_equal(unlink(path), 0);
    }
    closedir(d);
}

fx_unused static void fx_remove_dir(const char *dir)
{
    fx_empty_dir(dir);
    assert_int_equal(rmdir(dir), 0);
}

fx_unused static void fx_read(const char *dir, const char *name, struct buf *out)
{
    char path[512];
    fx_path(path, dir, name);
    buf_init(out, 64 << 20);
    assert_int_equal(file_read_all(path, out, 64 << 20), ERR_OK);
}

fx_unused static void fx_write(const char *dir, const char *name, struct bytes content)
{
    char path[512];
    fx_path(path, dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.p, content.n), content.n);
    close(fd);
}

/* All but the prepared segment, which an open does not look at. */
fx_unused static void fx_copy_dir(const char *from, const char *to)
{
    DIR *d = opendir(from);
    assert_non_null(d);
    fx_empty_dir(to);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct buf b;
        if (e->d_name[0] == '.' || strcmp(e->d_name, "next") == 0)
            continue;
        fx_read(from, e->d_name, &b);
        fx_write(to, e->d_name, buf_bytes(&b));
        buf_fini(&b);
    }
    closedir(d);
}

/* Names of the segments in dir, oldest first. */
fx_unused static size_t fx_segments(const char *dir, char names[][WAL_NAME_BYTES], size_t room)
{
    char **all;
    size_t n, count = 0;
    uint64_t lsn;
    assert_int_equal(file_list(dir, &all, &n), ERR_OK);
    for (size_t i = 0; i < n; i++)
        if (wal_segment_parse_name(all[i], &lsn)) {
            assert_true(count < room);
            memcpy(names[count++], all[i], WAL_NAME_BYTES);
        }
    file_free_names(all, n);
    return count;
}

/* ---- the oracle ---- */

struct oracle {
    struct buf log;                 /* all records, one after the other */
    size_t off[FX_MAX_RECORDS + 2]; /* of record first + i; the one behind the last is where the log ends */
    uint8_t chain[FX_MAX_RECORDS + 1][RECORD_CHAIN_BYTES]; /* [i]: before record first + i */
    uint64_t first, count;
};

fx_unused static void oracle_init(struct oracle *o, uint64_t first, const uint8_t *chain)
{
    buf_init(&o->log, 256 << 20);
    o->off[0] = 0;
    memset(o->chain[0], 0, RECORD_CHAIN_BYTES);
    if (chain)
        memcpy(o->chain[0], chain, RECORD_CHAIN_BYTES);
    o->first = first;
    o->count = 0;
}

fx_unused static void oracle_fini(struct oracle *o)
{
    buf_fini(&o->log);
}

fx_unused static uint64_t oracle_last(const struct oracle *o)
{
    return o->first + o->count - 1;
}

/* Bytes of records from to to (LSNs, both included). */
fx_unused static struct bytes oracle_bytes(const struct oracle *o, uint64_t from, uint64_t to)
{
    size_t begin = o->off[from - o->first], end = o->off[to - o->first + 1];
    return bytes_of(buf_data(&o->log) + begin, end - begin);
}

/* One more record, with blob_bytes of blob. */
fx_unused static void oracle_add(struct oracle *o, uint32_t term, size_t blob_bytes)
{
    uint64_t lsn = o->first + o->count;
    uint8_t *blob = malloc(blob_bytes + 1);
    char key[32];
    struct record r = {.lsn = lsn,
                       .term = term,
                       .type = RECORD_PUT,
                       .flags = lsn % 5 == 0 ? RECORD_HAS_HMAC : 0,
                       .vault = 7,
                       .shard = 1,
                       .time_ms = 1767225600000 + lsn};

    assert_true(blob && o->count < FX_MAX_RECORDS);
    for (size_t i = 0; i < blob_bytes; i++)
        blob[i] = (uint8_t)(lsn * 31 + term * 7 + i);
    snprintf(key, sizeof key, "secret/%llu", (unsigned long long)lsn);
    r.key = bytes_str(key);
    r.blob = bytes_of(blob, blob_bytes);
    memset(r.hmac, (int)lsn, sizeof r.hmac);
    assert_int_equal(record_put(&o->log, &r, o->chain[o->count]), ERR_OK);
    o->count++;
    o->off[o->count] = buf_size(&o->log);
    memcpy(o->chain[o->count], r.chain, RECORD_CHAIN_BYTES);
    free(blob);
}

fx_unused static void oracle_cut(struct oracle *o, uint64_t last)
{
    o->count = last + 1 - o->first;
    buf_truncate(&o->log, o->off[o->count]);
}

/* ---- logs ---- */

fx_unused static const uint8_t fx_cell[16] = {0xc0, 0xff, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};

/* A helper thread that does nothing by itself: what happens in a test is what the test did. */
/* Lazily and not, in turns: what is not damaged must be the same. */
fx_unused static struct wal_config fx_config(const char *dir, uint64_t segment_bytes)
{
    static int turn;
    struct wal_config cfg = {.dir = dir, .segment_bytes = segment_bytes, .lazy = turn++ % 2, .tick_ms = 3600 * 1000};
    memcpy(cfg.cell_id, fx_cell, sizeof cfg.cell_id);
    return cfg;
}

fx_unused static struct wal *fx_open(const struct wal_config *cfg, struct wal_report *report)
{
    struct wal *w;
    struct wal_report own;
    report = report ? report : &own;
    enum err e = wal_open(&w, cfg, report);
    if (e)
        fail_msg("wal_open: %s: %s", err_name(e), report->text);
    assert_non_null(w);
    return w;
}

/* Appends n more records of blob_bytes each as one group. */
fx_unused static enum err fx_append(struct wal *w, struct oracle *o, uint32_t n, uint32_t term, size_t blob_bytes)
{
    uint64_t first = oracle_last(o) + 1;
    for (uint32_t i = 0; i < n; i++)
        oracle_add(o, term, blob_bytes);
    return wal_append(w, oracle_bytes(o, first, first + n - 1), n, first, o->chain[o->count]);
}

/* 1 to 7 records a group, 0 to 900 bytes a blob, a new term every 40 groups. */
fx_unused static void fx_append_groups(struct wal *w, struct oracle *o, int groups)
{
    for (int i = 0; i < groups; i++) {
        uint64_t next = oracle_last(o) + 1;
        assert_int_equal(fx_append(w, o, (uint32_t)(next % 7 + 1), (uint32_t)(1 + next / 150), next * 37 % 900),
                         ERR_OK);
    }
}

/* Every record of the log from first to last is the oracle's, byte for byte, and nothing comes after. */
fx_unused static void fx_check(struct wal *w, const struct oracle *o, uint64_t first, uint64_t last)
{
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    struct wal_info info;

    wal_info(w, &info);
    assert_int_equal(info.last_lsn, last);
    assert_memory_equal(info.chain, o->chain[last + 1 - o->first], RECORD_CHAIN_BYTES);
    assert_int_equal(wal_cursor_open(&c, w, first), ERR_OK);
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        struct bytes want = oracle_bytes(o, lsn, lsn);
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
        assert_int_equal(r.lsn, lsn);
        assert_int_equal(raw.n, want.n);
        assert_memory_equal(raw.p, want.p, want.n);
        assert_int_equal(wal_term_at(w, lsn), r.term);
    }
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_END);
    wal_cursor_close(c);
}

#endif
