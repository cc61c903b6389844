/* hsm_pool_fixture.h - what the tests of the HSM pool share: a directory with a PIN file, a pool of fake workers,
 * requests that note their answers, and waiting for conditions (never for a time). */
#ifndef COFFER_TESTS_HSM_POOL_FIXTURE_H
#define COFFER_TESTS_HSM_POOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "hsm/hsm.h"
#include "hsm/masked.h"
#include "tests/unit/hsm_fakeworker.h"

#define PATIENCE_S 120 /* a condition that is not met by then never will be */

static char dir[64];      /* of the running test; the workers' "module" */
static char pin_path[80]; /* "1234" */
static char self[512];
static struct hsm *pool;
static struct hsm_config config;

/* Evaluates cond until it is true. */
#define WAIT_FOR(cond)                                  \
    do {                                                \
        int tries_ = 0;                                 \
        while (!(cond) && tries_++ < PATIENCE_S * 1000) \
            usleep(1000);                               \
        assert_true(cond);                              \
    } while (0)

static void log_line(int level, const char *line)
{
    if (getenv("COFFER_TEST_VERBOSE"))
        fprintf(stderr, "[%d] %s\n", level, line);
}

/* ---- files ---- */

static inline void put_file(const char *name, const char *text)
{
    char path[512], temporary[520];
    FILE *f;

    fake_path(path, dir, name);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    f = fopen(temporary, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temporary, path), 0);
}

static inline unsigned count_lines(const char *name, const char *containing)
{
    char path[512], line[1024];
    unsigned n = 0;
    FILE *f;

    fake_path(path, dir, name);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, containing) != NULL;
    if (f)
        fclose(f);
    return n;
}

static inline unsigned starts(void)
{
    return count_lines("starts", "");
}

/* The worker of the i-th START, from 0. */
static inline pid_t start_pid(unsigned i)
{
    char path[512], line[128];
    long pid = -1;
    FILE *f;

    fake_path(path, dir, "starts");
    f = fopen(path, "r");
    assert_non_null(f);
    for (unsigned k = 0; k <= i; k++)
        assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(sscanf(line, "%ld", &pid), 1);
    fclose(f);
    return (pid_t)pid;
}

static inline int is_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

static inline unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* ---- the pool ---- */

static inline int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/coffer-pool-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(pin_path, sizeof pin_path, "%s/pin-file", dir);
    put_file("pin-file", "1234\n");
    if (chmod(pin_path, 0600) != 0)
        return -1;
    config = (struct hsm_config){.worker_path = self,
                                 .module = dir,
                                 .token = "fake",
                                 .pin_file = pin_path,
                                 .workers = 2,
                                 .timeout_ms = 60000,
                                 .key_cache = 77,
                                 .recycle_objects = 1000000,
                                 .log = log_line};
    pool = NULL;
    return 0;
}

static inline int tear_down(void **state)
{
    char command[128];

    (void)state;
    hsm_close(pool);
    pool = NULL;
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        fprintf(stderr, "a worker was left behind\n");
        return -1;
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static inline void open_pool(void)
{
    const char *why;
    enum err e = hsm_open(&pool, &config, &why);

    if (e != ERR_OK)
        fprintf(stderr, "hsm_open: %s: %s\n", err_name(e), why);
    assert_int_equal(e, ERR_OK);
    assert_non_null(pool);
}

static inline unsigned workers_up(void)
{
    struct hsm_stats s;
    hsm_stats(pool, &s);
    return s.workers_up;
}

static inline struct hsm_stats stats_now(void)
{
    struct hsm_stats s;
    hsm_stats(pool, &s);
    return s;
}

static inline void open_all(void)
{
    open_pool();
    WAIT_FOR(workers_up() == config.workers);
}

/* ---- requests ---- */

struct ask {
    struct hsm_req r;
    _Atomic int done; /* how often done() was called */
    unsigned order;   /* the how-manieth answer of all it was */
    long pid;         /* of the worker, from its answer */
};

static _Atomic unsigned answers;

static inline void ask_done(struct hsm_req *r)
{
    struct ask *a = r->arg;

    a->order = atomic_fetch_add(&answers, 1);
    if (r->result == ERR_OK && r->parts > 0)
        a->pid = strtol((const char *)r->part[0].p, NULL, 10);
    atomic_fetch_add(&a->done, 1);
}

static inline void ask_init(struct ask *a, enum hsm_op op)
{
    memset(a, 0, sizeof *a);
    hsm_req_init(&a->r, op, ask_done, a);
}

/* Submits op with text as its last part, key as its second one, and something in the others. */
static inline enum err ask_key(struct ask *a, enum hsm_op op, const char *key, const char *text)
{
    struct bytes part[HSM_PARTS_MAX];

    ask_init(a, op);
    for (unsigned i = 0; i < HSM_PARTS_MAX; i++)
        part[i] = bytes_str("part");
    if (hsm_ops[op].parts_in > 1)
        part[1] = bytes_str(key);
    part[hsm_ops[op].parts_in - 1] = bytes_str(text);
    return hsm_submit(pool, &a->r, part, hsm_ops[op].parts_in);
}

static inline enum err ask(struct ask *a, enum hsm_op op, const char *text)
{
    return ask_key(a, op, "a key header of at least thirty-six bytes", text);
}

static inline void answer_of(struct ask *a)
{
    WAIT_FOR(atomic_load(&a->done) > 0);
    assert_int_equal(a->done, 1);
}

/* Submits, sends, waits; the result. The pid stays in *a. */
static inline enum err ask_wait(struct ask *a, enum hsm_op op, const char *text)
{
    enum err e = ask(a, op, text);

    if (e != ERR_OK)
        return e;
    hsm_flush(pool);
    answer_of(a);
    hsm_req_fini(&a->r);
    return a->r.result;
}

static inline void ask_fini(struct ask *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        hsm_req_fini(&a[i].r);
}

/* main() of a test program that may be a worker. */
static inline int as_worker(int argc, char **argv, int *code)
{
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (argc == 3 && strcmp(argv[1], "worker") == 0) {
        *code = fake_worker_main(atoi(argv[2]));
        return 1;
    }
    self[n > 0 ? n : 0] = 0;
    return 0;
}

#endif
