/* notify.c - see notify.h; sd_notify(3) without its library. What cannot be told is lost, as there. */
#include "server/notify.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

void notify_send(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;

    if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(a.sun_path, path, n);
    if (path[0] == '@') /* the abstract namespace */
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t rc = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)rc;
    close(fd);
}

unsigned long long notify_watchdog_us(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!us || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtoull(us, NULL, 10);
}

/* ---- while nobody's loop runs ---- */

static struct {
    pthread_t thread;
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t wake;
    int running, over;
    uint64_t end_us;
} keep;

static void *keep_main(void *arg)
{
    uint64_t pause_us = notify_watchdog_us() / 3;
    (void)arg;
    pthread_setname_np(pthread_self(), "coffer-watchdog");
    pthread_mutex_lock(&keep.lock);
    while (!keep.over && clock_mono_us() < keep.end_us) {
        uint64_t until = clock_mono_us() + pause_us;
        notify_send("WATCHDOG=1");
        while (!keep.over && clock_mono_us() < until)
            clock_cond_wait(&keep.wake, &keep.lock, until);
    }
    pthread_mutex_unlock(&keep.lock);
    return NULL;
}

void notify_keep(unsigned seconds)
{
    if (keep.running || !notify_watchdog_us())
        return;
    pthread_mutex_init(&keep.lock, NULL);
    clock_cond_init(&keep.wake);
    keep.over = 0;
    keep.end_us = clock_mono_us() + seconds * 1000000ull;
    keep.running = pthread_create(&keep.thread, NULL, keep_main, NULL) == 0;
}

void notify_keep_end(void)
{
    if (!keep.running)
        return;
    pthread_mutex_lock(&keep.lock);
    keep.over = 1;
    pthread_cond_signal(&keep.wake);
    pthread_mutex_unlock(&keep.lock);
    pthread_join(keep.thread, NULL);
    pthread_cond_destroy(&keep.wake);
    pthread_mutex_destroy(&keep.lock);
    keep.running = 0;
}
