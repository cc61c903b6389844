/* config.h - directives: their values, and the one table they come from (config.tbl.h).
 *
 * A row of the table drives the file parser, the command line, CONFIG GET / SET / REWRITE, `--print-config-reference`
 * (docs/config.md), `--print-default-config` (packaging/coffer.conf) and the test that all of these agree.
 *
 *     config_int(cfg, CFG_MAXCLIENTS)     numbers, sizes, times, yes/no, names of a list: one relaxed load, any thread
 *     config_str(cfg, CFG_DIR)            texts that cannot change while the server runs: a pointer for ever
 *     config_text(cfg, CFG_X, &buf)       texts that can: a copy, under a lock
 *
 * A change (CONFIG SET, atomic over all of its pairs) raises config_epoch(); I/O threads compare it once a turn and
 * refresh what they cache. Who must act on a change registers a hook.
 *
 * Threads: reading, any. Changing, any; one change at a time (a lock inside, held while hooks run). Loading is done by
 * main() before there are threads.
 */
#ifndef COFFER_SERVER_CONFIG_H
#define COFFER_SERVER_CONFIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

enum config_id {
#define CONFIG(id, ...) CFG_##id,
#define INERT(id, ...) CFG_##id,
#define ALIAS(other, name)
#define SECTION(title)
#include "server/config.tbl.h"
    CFG_COUNT
};

enum config_type {
    CONFIG_BOOL,    /* yes, no */
    CONFIG_NUMBER,  /* integer in [min, max] */
    CONFIG_SIZE,    /* bytes: 1k = 1000, 1kb = 1024, m mb g gb; shown as a plain number */
    CONFIG_SECONDS, /* seconds: plain, or with s m h d w; shown as a plain number */
    CONFIG_NAME,    /* one of extra, "a|b|c"; the value is its place in the list */
    CONFIG_TEXT,    /* one text */
    CONFIG_LIST,    /* words, kept as one text with single blanks: bind, voters, save */
    CONFIG_LINES,   /* may be given many times, every line counts: user, rename-command; not in CONFIG GET */
    CONFIG_OBUF,    /* client-output-buffer-limit: <class> <hard> <soft> <seconds>, three classes */
};

enum config_flag {
    CONFIG_FIXED = 1 << 0,     /* not by CONFIG SET */
    CONFIG_SECRET = 1 << 1,    /* in locked memory; a secret for logs and MONITOR, shown by CONFIG GET as Redis does */
    CONFIG_INERT = 1 << 2,     /* Redis's; accepted, kept, shown; does nothing here */
    CONFIG_PROTECTED = 1 << 3, /* CONFIG SET only as enable-protected-configs says */
    CONFIG_OURS = 1 << 4,      /* Coffer's own */
    CONFIG_HIDDEN = 1 << 5,    /* CONFIG GET shows it by its whole name only */
    CONFIG_BINARY = 1 << 6,    /* a text that may have a NUL in it */
};

struct config_row {
    const char *name, *initial, *extra, *doc;
    enum config_type type;
    unsigned flags;
    int64_t min, max;
};
extern const struct config_row config_rows[CFG_COUNT];

enum obuf_class { OBUF_NORMAL, OBUF_REPLICA, OBUF_PUBSUB, OBUF_CLASSES };
struct obuf_limit {
    uint64_t hard_bytes, soft_bytes, soft_seconds; /* 0: none */
};

struct config_text {
    char *s; /* NUL-terminated; locked memory with CONFIG_SECRET. NULL: not a text */
    size_t n;
};
struct config {
    _Atomic int64_t number[CFG_COUNT];
    _Atomic uint64_t epoch;
    char *path; /* absolute name of the configuration file, NULL: none was given */

    /* Private. */
    pthread_mutex_t lock;   /* of text and obuf */
    pthread_mutex_t change; /* held by CONFIG SET and REWRITE from start to end */
    struct config_text text[CFG_COUNT];
    struct obuf_limit obuf[OBUF_CLASSES];
    struct config_hook *hooks;
    int save_given; /* the first `save` replaces the initial value, the next ones add to it */
};

/* All defaults. ERR_OOM. */
must_use enum err config_new(struct config **out);
void config_free(struct config *c);

static inline int64_t config_int(const struct config *c, enum config_id id)
{
    return atomic_load_explicit(&c->number[id], memory_order_relaxed);
}
static inline uint64_t config_epoch(const struct config *c)
{
    return atomic_load_explicit(&c->epoch, memory_order_acquire);
}
/* Of a CONFIG_FIXED text only; never NULL. */
const char *config_str(const struct config *c, enum config_id id);
/* A text's present value, appended. CONFIG_LINES: lines end in '\n'. ERR_OOM. */
must_use enum err config_text(struct config *c, enum config_id id, struct buf *out);
int config_is_text(enum config_id id); /* else a number, or the three classes of CONFIG_OBUF */
/* 1 when the text is not empty. */
int config_given(struct config *c, enum config_id id);
void config_obuf(struct config *c, enum obuf_class k, struct obuf_limit *out);

/* Row by name or alias, any case; CFG_COUNT: unknown. */
enum config_id config_find(struct bytes name);

/* ---- loading, before there are threads ---- */

/* What came of a file or command line. warn() gets one line for each unknown or useless directive; it never sees a
 * value. */
struct config_loader {
    void (*warn)(void *arg, const char *line);
    void *arg;
    char error[512]; /* after an error: file, line number, what is wrong */
};
/* Reads a file in redis.conf syntax with its includes; "-" is standard input. Later lines win. ERR_SYNTAX, ERR_IO,
 * ERR_NOTFOUND, ERR_OOM. */
must_use enum err config_load_file(struct config *c, const char *path, struct config_loader *l);
/* The same for a text, whose lines are numbered from 1. */
must_use enum err config_load_text(struct config *c, struct bytes text, const char *name, struct config_loader *l);
/* [file] [--directive value ...] of argv[1..]. */
must_use enum err config_load_args(struct config *c, int argc, char **argv, struct config_loader *l);

/* One value, as the file would have it, whatever the row's flags: for main() and tests. No hooks. ERR_NOTFOUND,
 * ERR_SYNTAX, ERR_OOM. */
must_use enum err config_put(struct config *c, const char *name, const char *value);

/* ---- running ---- */

/* Called in CONFIG SET after all values are in place, for each registered row that was named. Not ERR_OK: everything is
 * put back, hooks that ran are called again, *why (static text) goes to the client. May not call config_set. */
typedef enum err (*config_hook_fn)(void *arg, enum config_id id, const char **why);
must_use enum err config_on_change(struct config *c, enum config_id id, config_hook_fn fn, void *arg);

/* n names and values, one after the other: all or none. protected_ok: the caller may set CONFIG_PROTECTED rows. On an
 * error text (no prefix) holds what Redis would say. May block for a moment. */
must_use enum err config_set(struct config *c, const struct bytes *pairs, unsigned n, int protected_ok, char *text,
                             size_t text_size);

/* Value of a row as CONFIG GET shows it, appended to out (a secret buf for CONFIG_SECRET rows). ERR_OOM. */
must_use enum err config_show(struct config *c, enum config_id id, struct buf *out);
/* Its names: the i-th, 0 being the row's own, then aliases; NULL after the last. */
const char *config_name(enum config_id id, unsigned i);

/* Writes the file anew: comments and order stay, lines of changed rows are replaced, rows that are not default and not
 * there are added at the end. Atomic. ERR_NOTFOUND: there is no file; ERR_IO, ERR_MISCONF, ERR_OOM. Blocks. */
/* all: rows at their initial value too. user_lines: what stands in the place of the file's `user` lines, the
 * directive's name left out; NULL: they stay. */
must_use enum err config_rewrite(struct config *c, int all, const struct bytes *user_lines);

/* ---- for config*.c ---- */

struct config_parsed {
    int64_t number;
    struct config_text text;
    struct obuf_limit obuf[OBUF_CLASSES];
};
/* Checks one value; *why (static or in room) says what is wrong. ERR_SYNTAX, ERR_OOM. */
must_use enum err config_parse(struct config *c, enum config_id id, struct bytes value, struct config_parsed *out,
                               char *why, size_t room);
extern const char *const config_obuf_names[OBUF_CLASSES]; /* as CONFIG GET shows them */
must_use enum err config_text_new(enum config_id id, struct bytes value, struct config_text *out);
void config_parsed_drop(enum config_id id, struct config_parsed *p);
/* Exchanges the row's value with p's. */
void config_swap(struct config *c, enum config_id id, struct config_parsed *p);
/* Splits a line into words in place, quotes and escapes as in redis.conf; at most max. -1: unbalanced quotes or too
 * many. */
int config_split(char *line, size_t n, struct bytes *words, unsigned max);
#define CONFIG_WORDS_MAX 256
int config_is_blank(char c);
/* A word as it must be written to be read back; several, with blanks between, with quotes or as they are. */
must_use enum err config_put_word(struct buf *b, struct bytes word);
must_use enum err config_join(struct buf *b, const struct bytes *words, unsigned n, int keep_quotes);

/* docs/config.md, and the shipped packaging/coffer.conf. */
must_use enum err config_print_reference(struct buf *out);
must_use enum err config_print_default_file(struct buf *out);

#endif
