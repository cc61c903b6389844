/* upload_impl.h - what the parts of upload.h share. For server/upload*.c only.
 *
 *     upload.c        the thread: rounds, when one is due, what others learn of it
 *     upload_steps.c  what is done in each state
 */
#ifndef COFFER_SERVER_UPLOAD_IMPL_H
#define COFFER_SERVER_UPLOAD_IMPL_H

#include <pthread.h>

#include "server/upload.h"
#include "server/uploadfile.h"

#define UPLOAD_PATH_BYTES 4096

struct upload {
    struct upload_config cfg;
    char *dir;
    pthread_t thread;
    int started;
    _Atomic int stop;
    _Atomic uint64_t done_bytes;

    pthread_mutex_t lock; /* all of what follows */
    pthread_cond_t wake;
    int ended;
    struct upload_wait *waits;
    struct upload_info info;
    uint64_t round_ms, retry_ms, retry_after_ms; /* clock_mono: of the last round; not before; how long it was */
    char said[16];                               /* the reason that the log has */
};

/* One round; the thread's own. */
struct round {
    struct upload *u;
    struct bucket b;
    struct upload_settings set;
    int demanded, exact; /* somebody waits, for this LSN */
    uint64_t want;
    struct uploadfile file;
    struct snapread *snap;
    struct snapread_info info;
    struct snapobject object;
    uint8_t *key;
    struct box_writer *writer;
    uint64_t bytes; /* of the container */
    unsigned lost, kept, parts, removed;
    enum err err;
    char path[UPLOAD_PATH_BYTES]; /* of the snapshot */
};

void upload_say(struct upload *u, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* One for each state but IDLE. On UPLOAD_FAILED r->err and r->b say why. */
enum upload_outcome upload_choose(struct round *r);
enum upload_outcome upload_begin(struct round *r);
enum upload_outcome upload_send(struct round *r);
enum upload_outcome upload_mark(struct round *r);
enum upload_outcome upload_tidy(struct round *r);
/* Lets go of snapshot and key. */
void upload_close(struct round *r);

#endif
