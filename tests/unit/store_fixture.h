/* store_fixture.h - what the tests of stores share: directories in memory, copied as a crash would leave them, and
 * damaged. */
#ifndef COFFER_TESTS_STORE_FIXTURE_H
#define COFFER_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/store.h"

#define SF_PATH 256
#define sf_unused __attribute__((unused))

sf_unused static uint64_t sf_rnd(uint64_t *r)
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r;
}

sf_unused static void sf_make_dir(char dir[SF_PATH])
{
    snprintf(dir, SF_PATH, "%s/coffer-store-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
}

sf_unused static void sf_empty_dir(const char *dir)
{
    char path[SF_PATH * 3];
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && unlink(path)) {
            sf_empty_dir(path);
            rmdir(path);
        }
    }
    closedir(d);
}

sf_unused static void sf_remove_dir(const char *dir)
{
    sf_empty_dir(dir);
    rmdir(dir);
}

sf_unused static uint8_t *sf_read(const char *path, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *n = (size_t)st.st_size;
    uint8_t *p = malloc(*n + 1);
    assert_int_equal(read(fd, p, *n), *n);
    close(fd);
    return p;
}

sf_unused static void sf_write(const char *path, const uint8_t *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

/* What is in the page cache now: as after a kill -9. The copy's directory is emptied first. */
sf_unused static void sf_copy_dir(const char *from, const char *to)
{
    char src[SF_PATH * 3], dst[SF_PATH * 3];
    mkdir(to, 0700);
    sf_empty_dir(to);
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "LOCK") == 0)
            continue;
        snprintf(src, sizeof src, "%s/%s", from, e->d_name);
        snprintf(dst, sizeof dst, "%s/%s", to, e->d_name);
        size_t n;
        uint8_t *p = sf_read(src, &n);
        sf_write(dst, p, n);
        free(p);
    }
    closedir(d);
}

/* The path of the file in dir whose name ends so, the highest number of them. */
sf_unused static int sf_find(const char *dir, const char *ending, char path[SF_PATH * 3])
{
    long best = -1;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name), m = strlen(ending);
        const char *digits = strpbrk(e->d_name, "0123456789");
        if (n >= m && strcmp(e->d_name + n - m, ending) == 0 && digits && atol(digits) > best) {
            best = atol(digits);
            snprintf(path, SF_PATH * 3, "%s/%s", dir, e->d_name);
        }
    }
    closedir(d);
    return best >= 0;
}

sf_unused static struct store *sf_open(const char *path)
{
    struct store *s;
    struct store_config cfg = {.path = path, .write_buffer_bytes = 64 << 10};
    assert_int_equal(store_open(&s, &cfg), ERR_OK);
    return s;
}

sf_unused static enum err sf_try_open(const char *path, struct store **s)
{
    struct store_config cfg = {.path = path, .write_buffer_bytes = 64 << 10};
    return store_open(s, &cfg);
}

sf_unused static enum err sf_put_at(struct store *s, const char *key, const char *value, uint64_t lsn)
{
    struct store_batch *b;
    assert_int_equal(store_batch_new(&b), ERR_OK);
    if (value)
        store_batch_put(b, bytes_str(key), bytes_str(value), lsn);
    else
        store_batch_delete(b, bytes_str(key));
    enum err e = store_write(s, b, lsn);
    store_batch_free(b);
    return e;
}

#endif
