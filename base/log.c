/* log.c - see log.h.
 *
 * A line is put together on the stack and leaves by one write(2) to a descriptor opened with O_APPEND: the kernel keeps
 * lines of several threads, and of the HSM worker that shares the file, apart, so there is no lock to wait for and none
 * to be held by a thread that died. Reopening puts the new file under the old descriptor number (dup3), so a thread in
 * log_at at that moment writes to one file or the other, never to a closed descriptor or somebody else's.
 *
 * Failures: a line that cannot be written (disk full, reader gone) is dropped, there is nobody to tell. log_open and
 * log_reopen report that the file cannot be opened and leave logging as it was. A message is cut at 1024 bytes, as
 * Redis's are. Control characters become '?', since names in messages come from clients and one event is one line.
 *
 * Rejected: stdio (buffers lines, locks, keeps copies); syslog (its macros are our level names, its shape is not
 * Redis's; systemd takes standard output anyway).
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define MESSAGE_BYTES 1024
#define PREFIX_BYTES 64

static _Atomic int log_fd = STDOUT_FILENO;
static _Atomic int log_level = LOG_NOTICE;
static _Atomic char log_role = 'M';
static char log_path[PATH_MAX]; /* empty: standard output. Written by the thread that opens and reopens */

enum err log_reopen(void)
{
    int fd = STDOUT_FILENO, old = log_fd;
    enum err e = ERR_OK;

    if (log_path[0])
        e = file_open(log_path, O_WRONLY | O_APPEND | O_CREAT, 0640, &fd);
    if (e || fd == old)
        return e;
    if (old == STDOUT_FILENO) {
        log_fd = fd;
        return ERR_OK;
    }
    if (dup3(fd, old, O_CLOEXEC) < 0)
        e = ERR_IO;
    if (fd != STDOUT_FILENO)
        close(fd); /* nothing was written by this number, so nothing is lost */
    return e;
}

enum err log_open(const char *path, enum log_level level)
{
    char before[PATH_MAX];
    size_t n = path ? strlen(path) : 0;

    if (n >= sizeof log_path)
        return ERR_IO;
    memcpy(before, log_path, sizeof before);
    memcpy(log_path, n ? path : "", n + 1);
    enum err e = log_reopen();
    if (e)
        memcpy(log_path, before, sizeof before);
    else
        log_set_level(level);
    return e;
}

void log_set_level(enum log_level level)
{
    log_level = (int)level;
}

void log_set_role(char role)
{
    log_role = role;
}

/* "pid:role dd Mon yyyy hh:mm:ss.mmm mark ", in local time; returns its length. */
static size_t put_prefix(char *out, size_t room, enum log_level level)
{
    uint64_t now = clock_wall_ms();
    time_t seconds = (time_t)(now / 1000);
    struct tm tm;
    char when[32];

    localtime_r(&seconds, &tm);
    strftime(when, sizeof when, "%d %b %Y %H:%M:%S", &tm);
    int n = snprintf(out, room, "%d:%c %s.%03d %c ", (int)getpid(), log_role, when, (int)(now % 1000), ".-*#"[level]);
    return n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

void log_at(enum log_level level, const char *fmt, ...)
{
    char line[PREFIX_BYTES + MESSAGE_BYTES + 2];
    va_list ap;

    if ((int)level < log_level || level >= LOG_NOTHING)
        return;
    int saved = errno; /* callers log between a failure and looking at its errno */
    size_t start = put_prefix(line, PREFIX_BYTES, level);
    va_start(ap, fmt);
    int n = vsnprintf(line + start, MESSAGE_BYTES + 1, fmt, ap);
    va_end(ap);
    size_t end = start + (n < 0 ? 0 : n < MESSAGE_BYTES ? (size_t)n : MESSAGE_BYTES);
    for (size_t i = start; i < end; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[end++] = '\n';
    while (write(log_fd, line, end) < 0 && errno == EINTR)
        ;
    errno = saved;
}
