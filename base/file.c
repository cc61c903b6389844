/* file.c - see file.h.
 *
 * Every operation asks fault_hit() first, then does the system call, then goes through done(), the one place where
 * errno becomes an enum err and is kept for file_errno(). The whole-file helpers are written with the operations above
 * them, so a countdown walks through each of their steps.
 *
 * EINTR: reads, writes and open are repeated. close is not, because Linux has released the descriptor by then and a
 * second close could hit one that another thread has just opened; EINTR from it is no error. fsync is not either: if it
 * was interrupted we no longer know which pages were written, and asking again may be answered from a page cache that
 * has forgotten the failure. It is reported like any failure.
 *
 * file_write_atomic writes <path>.tmp, syncs it, renames it over path, syncs the directory. One fixed temporary name,
 * so that a crash leaves at most one piece of litter, which the next write removes; two writers of one path at the same
 * time are the caller's mistake, and O_EXCL makes the second one fail. If the last step fails the new content is in
 * place, but may be the old one again after a power loss: the caller must treat both as possible. O_TMPFILE and linkat
 * were rejected: they cannot replace an existing name.
 */
#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"

static _Thread_local int last_errno;

int file_errno(void)
{
    return last_errno;
}

static enum err failed(int error)
{
    last_errno = error;
    if (error == ENOENT)
        return ERR_NOTFOUND;
    return error == ENOSPC || error == EDQUOT ? ERR_MISCONF : ERR_IO;
}

static enum err done(int rc)
{
    return rc < 0 ? failed(errno) : ERR_OK;
}

enum err file_open(const char *path, int flags, mode_t mode, int *fd)
{
    int fault = fault_hit(FAULT_FILE), got;

    *fd = -1;
    if (fault)
        return failed(fault);
    do
        got = open(path, flags | O_CLOEXEC, mode);
    while (got < 0 && errno == EINTR);
    *fd = got;
    return done(got);
}

enum err file_close(int fd)
{
    if (fd < 0)
        return ERR_OK;
    int fault = fault_hit(FAULT_FILE), rc = close(fd); /* a failing close releases fd as well */
    if (fault)
        return failed(fault);
    return rc < 0 && errno == EINTR ? ERR_OK : done(rc);
}

enum err file_pread(int fd, void *p, size_t n, uint64_t off, size_t *got)
{
    int fault = fault_hit(FAULT_FILE);

    *got = 0;
    if (fault)
        return failed(fault);
    while (*got < n) {
        ssize_t r = pread(fd, (char *)p + *got, n - *got, (off_t)(off + *got));
        if (r == 0)
            break;
        if (r > 0)
            *got += (size_t)r;
        else if (errno != EINTR)
            return failed(errno);
    }
    return ERR_OK;
}

enum err file_pwrite(int fd, const void *p, size_t n, uint64_t off)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    return file_pwritev(fd, &iov, 1, off);
}

/* Drops n written bytes and then all empty pieces from the front. */
static void iov_advance(struct iovec **iov, int *count, size_t n)
{
    while (*count > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)->iov_len = 0;
        ++*iov;
        --*count;
    }
    if (n) {
        assert(*count > 0);
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

enum err file_pwritev(int fd, struct iovec *iov, int count, uint64_t off)
{
    int fault = fault_hit(FAULT_FILE);

    if (fault)
        return failed(fault);
    for (iov_advance(&iov, &count, 0); count > 0;) {
        ssize_t r = pwritev(fd, iov, count < IOV_MAX ? count : IOV_MAX, (off_t)off);
        if (r == 0)
            return failed(EIO); /* a device that takes nothing and says nothing: do not ask for ever */
        if (r > 0) {
            off += (uint64_t)r;
            iov_advance(&iov, &count, (size_t)r);
        } else if (errno != EINTR) {
            return failed(errno);
        }
    }
    return ERR_OK;
}

void file_set_direct(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
}

/* A piece that is short is the end of the file: asking on from there would not be aligned. */
enum err file_pread_direct(int fd, void *p, size_t n, uint64_t off, size_t *got)
{
    int fault = fault_hit(FAULT_FILE);

    *got = 0;
    if (fault)
        return failed(fault);
    while (*got < n && *got % FILE_DIRECT_BYTES == 0) {
        ssize_t r = pread(fd, (char *)p + *got, n - *got, (off_t)(off + *got));
        if (r == 0)
            break;
        if (r > 0)
            *got += (size_t)r;
        else if (errno == EINVAL && fcntl(fd, F_GETFL) & O_DIRECT)
            file_set_direct(fd, 0);
        else if (errno != EINTR)
            return failed(errno);
    }
    return ERR_OK;
}

enum err file_fdatasync(int fd)
{
    int fault = fault_hit(FAULT_FILE);
    return fault ? failed(fault) : done(fdatasync(fd));
}

enum err file_fsync(int fd)
{
    int fault = fault_hit(FAULT_FILE);
    return fault ? failed(fault) : done(fsync(fd));
}

enum err file_size(int fd, uint64_t *size)
{
    int fault = fault_hit(FAULT_FILE);
    struct stat st;

    *size = 0;
    if (fault)
        return failed(fault);
    if (fstat(fd, &st) < 0)
        return failed(errno);
    *size = (uint64_t)st.st_size;
    return ERR_OK;
}

enum err file_rename(const char *from, const char *to)
{
    int fault = fault_hit(FAULT_FILE);
    return fault ? failed(fault) : done(rename(from, to));
}

enum err file_unlink(const char *path)
{
    int fault = fault_hit(FAULT_FILE);
    return fault ? failed(fault) : done(unlink(path));
}

enum err file_rmdir(const char *path)
{
    int fault = fault_hit(FAULT_FILE);
    if (fault)
        return failed(fault);
    return rmdir(path) == 0 ? ERR_OK : failed(errno);
}

enum err file_mkdir(const char *path, mode_t mode)
{
    int fault = fault_hit(FAULT_FILE);
    struct stat st;

    if (fault)
        return failed(fault);
    if (mkdir(path, mode) == 0)
        return ERR_OK;
    int error = errno;
    if (error == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return ERR_OK;
    return failed(error);
}

enum err file_sync_dir(const char *path)
{
    int fd;
    enum err e = file_open(path, O_RDONLY | O_DIRECTORY, 0, &fd), closed;
    if (e)
        return e;
    e = file_fsync(fd);
    int error = last_errno;
    closed = file_close(fd);
    if (e)
        last_errno = error; /* the first failure is the one to report */
    return e ? e : closed;
}

enum err file_truncate(int fd, uint64_t size)
{
    int fault = fault_hit(FAULT_FILE), rc;
    if (fault)
        return failed(fault);
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc < 0 && errno == EINTR);
    return done(rc);
}

/* Appends the file to out, ERR_TOOBIG beyond limit. Reads into out itself, which may be secret; sizes are not asked for
 * beforehand, since the files of /proc and of credential stores say 0. */
static enum err read_to_end(int fd, struct buf *out, size_t limit)
{
    uint64_t off = 0;
    size_t got;

    if (limit > out->limit - buf_size(out))
        limit = out->limit - buf_size(out);
    while (off < limit) {
        size_t want = limit - off < 4096 ? (size_t)(limit - off) : 4096;
        uint8_t *room;
        enum err e = buf_reserve(out, want, &room);
        if (!e)
            e = file_pread(fd, room, want, off, &got);
        if (e)
            return e;
        buf_added(out, got);
        off += got;
        if (got < want)
            return ERR_OK;
    }
    uint8_t probe = 0;
    enum err e = file_pread(fd, &probe, 1, off, &got);
    mem_wipe(&probe, 1);
    return e ? e : got ? ERR_TOOBIG : ERR_OK;
}

enum err file_read_all(const char *path, struct buf *out, size_t limit_bytes)
{
    int fd;
    size_t before = buf_size(out);
    enum err e = file_open(path, O_RDONLY, 0, &fd), closed;
    if (e)
        return e;
    e = read_to_end(fd, out, limit_bytes);
    int error = last_errno;
    closed = file_close(fd);
    if (e)
        last_errno = error;
    else
        e = closed;
    if (e)
        buf_truncate(out, before);
    return e;
}

static enum err write_new(const char *path, struct bytes content, mode_t mode)
{
    int fd;
    enum err e = file_open(path, O_WRONLY | O_CREAT | O_EXCL, mode, &fd), closed;
    if (e)
        return e;
    e = file_pwrite(fd, content.p, content.n, 0);
    if (!e)
        e = file_fsync(fd);
    int error = last_errno;
    closed = file_close(fd);
    if (e)
        last_errno = error;
    return e ? e : closed;
}

/* Cuts the last component off: the directory that path is in. */
static void parent_of(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        memcpy(path, ".", 2);
    else
        slash[slash == path] = '\0';
}

enum err file_write_atomic(const char *path, struct bytes content, mode_t mode)
{
    char name[PATH_MAX];
    int n = snprintf(name, sizeof name, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof name)
        return failed(ENAMETOOLONG);

    enum err e = file_unlink(name);
    if (e && e != ERR_NOTFOUND)
        return e;
    e = write_new(name, content, mode);
    if (!e)
        e = file_rename(name, path);
    if (e) {
        unlink(name); /* best effort, the next write removes it anyway; errno of the failure is kept already */
        return e;
    }
    parent_of(name);
    return file_sync_dir(name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err add_name(char ***names, size_t *count, size_t *room, const char *name)
{
    if (*count == *room) {
        size_t more = *room ? *room * 2 : 16;
        char **grown = mem_realloc(*names, more * sizeof *grown);
        if (!grown)
            return ERR_OOM;
        *names = grown;
        *room = more;
    }
    size_t n = strlen(name) + 1;
    char *copy = mem_alloc(n);
    if (!copy)
        return ERR_OOM;
    memcpy(copy, name, n);
    (*names)[(*count)++] = copy;
    return ERR_OK;
}

static enum err read_names(DIR *d, char ***names, size_t *count)
{
    size_t room = 0;
    enum err e = ERR_OK;

    while (!e) {
        int fault = fault_hit(FAULT_FILE);
        if (fault)
            return failed(fault);
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry)
            return errno ? failed(errno) : ERR_OK;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            e = add_name(names, count, &room, entry->d_name);
    }
    return e;
}

enum err file_list(const char *dir, char ***names, size_t *count)
{
    int fault = fault_hit(FAULT_FILE);

    *names = NULL;
    *count = 0;
    if (fault)
        return failed(fault);
    DIR *d = opendir(dir);
    if (!d)
        return failed(errno);
    enum err e = read_names(d, names, count);
    closedir(d); /* can fail only for a descriptor that is not open */
    if (e) {
        file_free_names(*names, *count);
        *names = NULL;
        *count = 0;
    } else if (*count) {
        qsort(*names, *count, sizeof **names, by_name);
    }
    return e;
}

void file_free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}
