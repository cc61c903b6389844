/* oomscore.c - see oomscore.h. Redis's third number is for a child that saves, which is not there. */
#include "server/oomscore.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "server/repl.h"

#define PATH "/proc/self/oom_score_adj"
#define SCORE_MAX 1000 /* the kernel's */

enum { OFF, YES, RELATIVE, ABSOLUTE }; /* as in the configuration's table */

static struct {
    pthread_mutex_t lock; /* CONFIG SET comes on any thread */
    int on, role;         /* which of the numbers is set */
    long base;            /* what it was before */
} o = {.lock = PTHREAD_MUTEX_INITIALIZER};

static enum err read_score(long *score)
{
    char text[32] = "";
    size_t n = 0;
    int fd;
    enum err err = file_open(PATH, O_RDONLY, 0, &fd);
    if (err == ERR_OK) {
        err = file_pread(fd, text, sizeof text - 1, 0, &n);
        err = file_close(fd) ? ERR_IO : err;
    }
    *score = strtol(text, NULL, 10);
    return err;
}

static enum err write_score(long score)
{
    char text[32];
    long fits = score > SCORE_MAX ? SCORE_MAX : score < -SCORE_MAX ? -SCORE_MAX : score;
    int n = snprintf(text, sizeof text, "%ld", fits), fd;
    enum err err = file_open(PATH, O_WRONLY, 0, &fd);
    if (err == ERR_OK) {
        err = file_pwrite(fd, text, (size_t)n, 0);
        err = file_close(fd) ? ERR_IO : err;
    }
    return err;
}

/* The primary's or the replica's number. */
static long wanted(struct config *cfg, int role)
{
    long score = 0;
    struct buf text;
    buf_init(&text, 128);
    if (config_text(cfg, CFG_OOM_SCORE_ADJ_VALUES, &text) == ERR_OK && buf_put_u8(&text, 0) == ERR_OK) {
        char *at = (char *)buf_data(&text);
        for (int i = 0; i <= role; i++)
            score = strtol(at, &at, 10);
    }
    buf_fini(&text);
    return score;
}

/* Lock held. */
static enum err apply(struct config *cfg, int role)
{
    int64_t mode = config_int(cfg, CFG_OOM_SCORE_ADJ);
    enum err err = ERR_OK;
    if (mode != OFF && !o.on)
        err = read_score(&o.base);
    if (!err && (mode != OFF || o.on))
        err = write_score(mode == OFF ? o.base : wanted(cfg, role) + (mode == ABSOLUTE ? 0 : o.base));
    if (err) {
        log_at(LOG_WARNING, "oom-score-adj: " PATH " cannot be read or set: %s", strerror(file_errno()));
        return err;
    }
    o.on = mode != OFF;
    o.role = role;
    return ERR_OK;
}

static int role_of(const struct server *srv)
{
    return !repl_is_master(srv);
}

static enum err on_change(void *arg, enum config_id id, const char **why)
{
    struct server *srv = arg;
    (void)id;
    pthread_mutex_lock(&o.lock);
    enum err err = apply(srv->config, role_of(srv));
    pthread_mutex_unlock(&o.lock);
    if (err)
        *why = "Failed to set " PATH ", the log says why";
    return err;
}

void oomscore_look(struct server *srv)
{
    pthread_mutex_lock(&o.lock);
    if (o.on && o.role != role_of(srv)) {
        enum err err = apply(srv->config, role_of(srv));
        o.role = role_of(srv); /* said once */
        (void)err;
    }
    pthread_mutex_unlock(&o.lock);
}

enum err oomscore_follow(struct server *srv)
{
    const char *why;
    enum err err = config_on_change(srv->config, CFG_OOM_SCORE_ADJ, on_change, srv);
    if (err == ERR_OK)
        err = config_on_change(srv->config, CFG_OOM_SCORE_ADJ_VALUES, on_change, srv);
    if (err == ERR_OK && on_change(srv, CFG_OOM_SCORE_ADJ, &why))
        log_at(LOG_WARNING, "The start goes on without oom-score-adj");
    return err;
}
