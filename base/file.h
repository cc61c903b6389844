/* file.h - file operations, all of them fallible in tests.
 *
 * Thin wrappers over the system calls that the log, the stores' checkpoints, snapshots and configuration go through:
 * each is a fault point (fault.h FAULT_FILE), loops over EINTR and short transfers, and reports errno in file_errno()
 * of the calling thread. Results are ERR_OK, ERR_NOTFOUND (ENOENT), ERR_MISCONF (ENOSPC, EDQUOT), ERR_IO (all else).
 * An fsync that failed must never be retried: the page cache may lie after it. All of these block.
 */
#ifndef COFFER_BASE_FILE_H
#define COFFER_BASE_FILE_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

int file_errno(void); /* errno of this thread's last failed file_ call */

must_use enum err file_open(const char *path, int flags, mode_t mode, int *fd); /* O_CLOEXEC is added */
must_use enum err file_close(int fd); /* checks the result; fd < 0 is a no-op */
must_use enum err file_pread(int fd, void *p, size_t n, uint64_t off, size_t *got); /* *got < n only at end of file */
must_use enum err file_pwrite(int fd, const void *p, size_t n, uint64_t off);
must_use enum err file_pwritev(int fd, struct iovec *iov, int count, uint64_t off); /* iov is used up */
/* Past the page cache from now on, or through it again. Buffers, offsets and sizes must be multiples of
 * FILE_DIRECT_BYTES then. A file system that cannot is left as it is; one that takes the flag may answer EINVAL to what
 * it wants in larger pieces: go back, and do it again. */
#define FILE_DIRECT_BYTES 4096
void file_set_direct(int fd, int on);
/* As file_pread, from a descriptor that may be so: what is read is what is on the disk, and neither fills the page
 * cache nor empties it. Where the file system refuses, it goes back to the page cache by itself. */
must_use enum err file_pread_direct(int fd, void *p, size_t n, uint64_t off, size_t *got);
must_use enum err file_fdatasync(int fd);
must_use enum err file_fsync(int fd);
must_use enum err file_size(int fd, uint64_t *size);
must_use enum err file_rename(const char *from, const char *to);
must_use enum err file_unlink(const char *path);
must_use enum err file_mkdir(const char *path, mode_t mode); /* an existing directory is ERR_OK */
must_use enum err file_rmdir(const char *path);              /* an empty one */
must_use enum err file_sync_dir(const char *path);           /* fsync of the directory itself */
must_use enum err file_truncate(int fd, uint64_t size);

/* Whole small files. Read: at most limit bytes into an initialised buffer. Write: temporary name, fsync, rename,
 * directory fsync, so that a crash leaves the old or the new content. */
must_use enum err file_read_all(const char *path, struct buf *out, size_t limit_bytes);
must_use enum err file_write_atomic(const char *path, struct bytes content, mode_t mode);

/* Names in a directory, without . and .., sorted. free_names frees the array and the strings. */
must_use enum err file_list(const char *dir, char ***names, size_t *count);
void file_free_names(char **names, size_t count);

#endif
