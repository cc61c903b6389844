/* tokendir.c - see tokendir.h.
 *
 * softhsm2.conf says "directories.tokendir = PATH"; below it is a directory for each token, with two files for each
 * object. A file is synced when it changed since the operation began, less a margin for coarse time stamps; the
 * directory always. A file that vanishes meanwhile is another worker's doing.
 *
 * The lock is flock's on the directory itself: no file of ours among SoftHSM's, nothing left behind by a process that
 * was killed, and no relation to the fcntl locks that SoftHSM takes.
 *
 * Rejected: syncfs (waits for everybody's data on that file system); syncing all files (thousands, with a thousand
 * vaults); only the pool's rule of one start at a time (workers that were sealed may still be logging in when the next
 * ones start, as may those of a server that was killed, and `coffer-hsm info`).
 */
#include "hsm/tokendir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"

#define CONF_MAX 65536
#define MARGIN_MS 2000
#define TOKEN_FILE_MAX 65536
#define GENERATION_BYTES 8

static const char system_conf[] = "/etc/softhsm/softhsm2.conf";
static const char setting[] = "directories.tokendir";
static const char token_file[] = "token.object", saved_file[] = "token.saved";

static struct bytes trim(struct bytes line)
{
    while (line.n && (line.p[0] == ' ' || line.p[0] == '\t'))
        line = bytes_of(line.p + 1, line.n - 1);
    while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t' || line.p[line.n - 1] == '\r'))
        line.n--;
    return line;
}

/* The value if this line is the setting. */
static int is_setting(struct bytes line, struct bytes *value)
{
    const uint8_t *eq = line.n ? memchr(line.p, '=', line.n) : NULL;

    if (!eq || !bytes_equal(trim(bytes_of(line.p, (size_t)(eq - line.p))), bytes_str(setting)))
        return 0;
    *value = trim(bytes_of(eq + 1, line.n - (size_t)(eq + 1 - line.p)));
    return 1;
}

enum err tokendir_path(const char *conf, char *out, unsigned long n)
{
    struct buf text;
    struct bytes rest, line = {0}, value = {0};
    enum err e;

    out[0] = '\0';
    buf_init(&text, CONF_MAX);
    e = file_read_all(conf, &text, CONF_MAX);
    rest = buf_bytes(&text);
    while (e == ERR_OK && rest.n) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);

        bytes_take(&rest, end ? (size_t)(end - rest.p) : rest.n, &line);
        if (end)
            rest = bytes_of(rest.p + 1, rest.n - 1);
        if (is_setting(line, &value) && value.n && value.n < n) {
            memcpy(out, value.p, value.n);
            out[value.n] = '\0';
        }
    }
    buf_fini(&text);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err sync_file(const char *path, uint64_t since_ms)
{
    struct stat st;
    int fd = -1;
    enum err e, closed;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000 + MARGIN_MS < since_ms)
        return ERR_OK;
    e = file_open(path, O_RDONLY, 0, &fd);
    if (e != ERR_OK)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    e = file_fsync(fd);
    closed = file_close(fd);
    return e != ERR_OK ? e : closed;
}

/* Everything in one token's directory. */
static enum err sync_token(const char *dir, uint64_t since_ms)
{
    char **names = NULL, path[PATH_MAX];
    size_t n = 0;
    enum err e = file_list(dir, &names, &n);

    for (size_t i = 0; e == ERR_OK && i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) < (int)sizeof path)
            e = sync_file(path, since_ms);
    }
    file_free_names(names, n);
    return e == ERR_OK ? file_sync_dir(dir) : e;
}

/* The one in use; out is empty when there is none. */
static enum err find_dir(char *out, unsigned long n)
{
    const char *conf = getenv("SOFTHSM2_CONF");

    return tokendir_path(conf ? conf : system_conf, out, n);
}

enum err tokendir_sync(const char *manufacturer, uint64_t since_ms)
{
    char dir[PATH_MAX], path[PATH_MAX], **names = NULL;
    size_t n = 0;
    struct stat st;
    enum err e;

    if (strncmp(manufacturer, "SoftHSM", 7) != 0)
        return ERR_OK;
    e = find_dir(dir, sizeof dir);
    if (e != ERR_OK || !dir[0])
        return e;
    e = file_list(dir, &names, &n);
    for (size_t i = 0; e == ERR_OK && i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) < (int)sizeof path && stat(path, &st) == 0 &&
            S_ISDIR(st.st_mode))
            e = sync_token(path, since_ms);
    }
    file_free_names(names, n);
    return e == ERR_OK ? file_sync_dir(dir) : e;
}

/* ---- the lock ---- */

static int lock_fd = -1;
static unsigned lock_depth;

static enum err lock_dir(void)
{
    char dir[PATH_MAX];
    enum err e = find_dir(dir, sizeof dir);

    if (e != ERR_OK || !dir[0])
        return e;
    e = file_open(dir, O_RDONLY | O_DIRECTORY, 0, &lock_fd);
    if (e != ERR_OK) /* not there, not ours: the module will say, if it is in use at all */
        return e == ERR_NOTFOUND || file_errno() == EACCES || file_errno() == ENOTDIR ? ERR_OK : e;
    while (flock(lock_fd, LOCK_EX) != 0 && errno == EINTR)
        ;
    return ERR_OK;
}

enum err tokendir_lock(void)
{
    enum err e = lock_depth > 0 ? ERR_OK : lock_dir();

    lock_depth += e == ERR_OK;
    return e;
}

void tokendir_unlock(void)
{
    assert(lock_depth > 0);
    if (--lock_depth > 0 || lock_fd < 0)
        return;
    (void)close(lock_fd); /* nothing was written; ends the lock */
    lock_fd = -1;
}

/* ---- the copy of a token's file ---- */

/* SoftHSM's name of the directory is a UUID, and the serial number is its last 16 digits. */
static int has_serial(const char *name, const char *serial)
{
    return strlen(name) == 36 && strlen(serial) == 16 && strncmp(name + 19, serial, 4) == 0 &&
           strcmp(name + 24, serial + 4) == 0;
}

/* ERR_NOTFOUND: no such file, or not ours to read. */
static enum err read_token_file(const char *dir, const char *name, const char *file, char path[PATH_MAX],
                                struct buf *out)
{
    enum err e;

    if (snprintf(path, PATH_MAX, "%s/%s/%s", dir, name, file) >= PATH_MAX)
        return ERR_NOTFOUND;
    e = file_read_all(path, out, TOKEN_FILE_MAX);
    return e == ERR_IO && (file_errno() == EACCES || file_errno() == ENOTDIR) ? ERR_NOTFOUND : e;
}

/* They begin with a number that each writing changes. */
static int same_content(struct bytes a, struct bytes b)
{
    return a.n == b.n && a.n > GENERATION_BYTES &&
           bytes_equal(bytes_of(a.p + GENERATION_BYTES, a.n - GENERATION_BYTES),
                       bytes_of(b.p + GENERATION_BYTES, b.n - GENERATION_BYTES));
}

static enum err keep(const char *dir, const char *name, struct buf *now, struct buf *saved)
{
    char path[PATH_MAX];
    enum err e = read_token_file(dir, name, token_file, path, now);

    if (e != ERR_OK || buf_size(now) <= GENERATION_BYTES)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    e = read_token_file(dir, name, saved_file, path, saved);
    if (e == ERR_NOTFOUND || (e == ERR_OK && !same_content(buf_bytes(now), buf_bytes(saved))))
        e = file_write_atomic(path, buf_bytes(now), 0600);
    return e;
}

static enum err put_back(const char *dir, const char *name, struct buf *now, struct buf *saved)
{
    char path[PATH_MAX];
    enum err e = read_token_file(dir, name, saved_file, path, saved);

    if (e == ERR_OK)
        e = read_token_file(dir, name, token_file, path, now);
    if (e == ERR_OK && buf_size(now) == 0)
        e = file_write_atomic(path, buf_bytes(saved), 0600);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* Of one token, or of all. */
static enum err each_token(const char *serial, enum err (*act)(const char *, const char *, struct buf *, struct buf *))
{
    char dir[PATH_MAX], **names = NULL;
    struct buf now, saved;
    size_t n = 0;
    enum err e;

    if (lock_fd < 0)
        return ERR_OK;
    e = find_dir(dir, sizeof dir);
    if (e == ERR_OK)
        e = file_list(dir, &names, &n);
    for (size_t i = 0; e == ERR_OK && i < n; i++) {
        if (serial && !has_serial(names[i], serial))
            continue;
        buf_init(&now, TOKEN_FILE_MAX);
        buf_init(&saved, TOKEN_FILE_MAX);
        e = act(dir, names[i], &now, &saved);
        buf_fini(&now);
        buf_fini(&saved);
    }
    file_free_names(names, n);
    return e;
}

enum err tokendir_keep(const char *serial)
{
    return each_token(serial, keep);
}

enum err tokendir_put_back(void)
{
    return each_token(NULL, put_back);
}
