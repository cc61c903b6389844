/* e2e.h - end-to-end tests: real servers in directories of their own, spoken to by hiredis or over a bare socket.
 *
 *     static void test_restart_keeps_data(void **state)
 *     {
 *         struct e2e s;
 *         e2e_start(&s, "--io-threads", "2", NULL);
 *         e2e_expect(s.c, "+OK", "SET k v");
 *         e2e_kill(&s);
 *         e2e_again(&s);
 *         e2e_expect(s.c, "$v", "GET k");
 *         e2e_finish(&s);
 *     }
 *     ... cmocka_unit_test_teardown(test_restart_keeps_data, e2e_teardown)
 *
 * What goes wrong fails the cmocka test that runs. A test that fails leaves its servers running and its directories in
 * place; e2e_teardown shows the ends of their logs, ends the servers and names the directories. Servers also end when
 * the test program does.
 *
 * Nothing here sleeps for a time and hopes: it asks again until a condition holds, and fails at a deadline that is far
 * away (E2E_SECONDS, 60).
 *
 * Replies are compared as text: +status  -error  $bulk  :1  nil  [array of :1 $two]  {$key :1 $key2 nil} (map)  ~[set]
 * >[push]  #1 (boolean)  ,0.5 (double) (123 (big number)  =txt:verbatim. Bytes that do not print are \xx. A wanted text
 * that ends in ... wants that beginning.
 *
 * The build folder with the programs is COFFER_BUILD, else the one that the test program is in. One thread.
 */
#ifndef COFFER_TESTS_LIB_E2E_H
#define COFFER_TESTS_LIB_E2E_H

#include <hiredis/hiredis.h>
#include <stdint.h>
#include <sys/types.h>

#include "resp/answer.h"

#define E2E_SECONDS 60
#define E2E_ARGS 32
#define E2E_PATH 128

struct e2e {
    char dir[E2E_PATH];    /* the server's own; removed by e2e_finish */
    char socket[E2E_PATH]; /* its UNIX socket */
    char log[E2E_PATH];    /* all that it and its workers say, of all starts */
    long log_start;        /* offset in it of the last start */
    int port, tls_port;    /* 0: no TCP, no TLS */
    pid_t pid;             /* 0: not running */
    redisContext *c;       /* a connection over the UNIX socket; NULL while not running */
    char *args[E2E_ARGS];  /* of the last start; private */
};

/* ---- servers ---- */

/* Starts a server in a new directory, whose token is provisioned already; on its UNIX socket only. Arguments are
 * directives as on the command line, up to NULL.
 * "--port", "auto" picks a free TCP port, and so does "--tls-port", "auto". Returns when PING answers anything but
 * -LOADING, with s->c connected. */
void e2e_start(struct e2e *s, ...) __attribute__((sentinel));
/* The same, in two parts: several servers that wait for each other are begun before the first is waited for. */
void e2e_begin(struct e2e *s, ...) __attribute__((sentinel));
void e2e_begin_again(struct e2e *s);
void e2e_ready(struct e2e *s);
/* The same in an empty directory: the server provisions its token itself. */
void e2e_start_bare(struct e2e *s, ...) __attribute__((sentinel));
/* Starts it again in its directory: with the same arguments, or with others. */
void e2e_again(struct e2e *s);
void e2e_again_with(struct e2e *s, ...) __attribute__((sentinel));

/* Starts it again with the same arguments and kills it so many milliseconds later, wherever it is by then. */
void e2e_again_killed(struct e2e *s, unsigned after_ms);

/* kill -9. */
void e2e_kill(struct e2e *s);
/* SIGSTOP: returns when it has stopped, and hears nothing any more. SIGCONT ends it. */
void e2e_pause(struct e2e *s);
/* SIGTERM: must exit with 0. */
void e2e_stop(struct e2e *s);
/* Waits until it ended by itself; its status as waitpid has it. */
int e2e_wait(struct e2e *s);
/* e2e_stop if it runs; removes the directory. */
void e2e_finish(struct e2e *s);

/* cmocka teardown of every test here. */
int e2e_teardown(void **state);

/* Runs a program of the build folder ("coffer-server") or of PATH to its end, with arguments up to NULL. Standard
 * output and error go to out, NUL-terminated, cut to n. Its status as waitpid has it. */
int e2e_run(char *out, size_t n, const char *program, ...) __attribute__((sentinel));
/* Runs a command of the shell, which must succeed; its output is shown when it does not. */
void e2e_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Starts another program, whose output goes to a file (appended). It ends with the test program, or by e2e_end. */
pid_t e2e_spawn(const char *log, const char *program, ...) __attribute__((sentinel));
void e2e_end(pid_t pid); /* kill -9 */
/* The same for a second server in the directory of s, which must not come up: its exit code. */
int e2e_start_refused(struct e2e *s, char *out, size_t n);

/* 1 when the log has the text, since the last start. e2e_log_wait: waits for it. */
int e2e_log_has(const struct e2e *s, const char *text);
void e2e_log_wait(const struct e2e *s, const char *text);

/* Path of a program or shim in the build folder: "coffer-server", "tests/p11fault.so". Static memory, overwritten by
 * the next call. */
const char *e2e_build_path(const char *name);
/* A port that nothing listens on. */
int e2e_free_port(void);

/* while (e2e_not_yet(&w)) { ask; if (holds) break; } - waits a little between rounds; fails the test at the deadline,
 * naming what. */
struct e2e_deadline {
    const char *what;
    uint64_t end_ms; /* 0 initially */
};
int e2e_not_yet(struct e2e_deadline *w);

/* ---- RESP2, by hiredis ---- */

/* A further connection; the caller's: redisFree. */
redisContext *e2e_connect(const struct e2e *s);
redisContext *e2e_connect_tcp(const struct e2e *s);

/* A command in hiredis's format: %s, %b, and words. Fails when the connection does. The reply is the caller's:
 * freeReplyObject. */
redisReply *e2e_command(redisContext *c, const char *fmt, ...);
/* Its reply as text must be want. */
void e2e_expect(redisContext *c, const char *want, const char *fmt, ...);
/* The next reply of a pipeline (redisAppendCommand). */
void e2e_expect_next(redisContext *c, const char *want);
/* Its reply must be an integer. */
long long e2e_int(redisContext *c, const char *fmt, ...);
/* The connection must have been closed by the server. */
void e2e_expect_closed(redisContext *c);

/* Value of a field of INFO; empty when it is not there. Static memory, overwritten by the next call. */
const char *e2e_info(redisContext *c, const char *field);
/* Waits until the field is want. */
void e2e_info_wait(redisContext *c, const char *field, const char *want);
/* Waits until the field, a number, is at least so much. Returns it. */
int e2e_info_reaches(redisContext *c, const char *field, int least);
/* An integer of a map that a command answers (RESP2); -1: it has none of that name. */
long long e2e_field(redisContext *c, const char *command, const char *name);
/* Waits until b has committed all that a has written, and the stores of both hold the same (STATE.DIGEST STORES: what
 * LevelDB has of it, which is filled behind a start). */
void e2e_same_state(redisContext *a, redisContext *b);

/* ---- any bytes, RESP2 or RESP3, over a bare socket ---- */

struct e2e_raw {
    int fd;
    struct answer_parser parser;
    uint8_t *in;
    size_t have, room;
};
/* As the server finds it: RESP2. */
void e2e_raw_open(struct e2e_raw *r, const struct e2e *s);
/* The same, followed by HELLO 3. */
void e2e_raw_open3(struct e2e_raw *r, const struct e2e *s);
void e2e_raw_close(struct e2e_raw *r);

void e2e_raw_send(struct e2e_raw *r, const void *p, size_t n);
/* The next answer, pushes too; NULL: the server closed. Valid until the next call. */
const struct answer *e2e_raw_next(struct e2e_raw *r);
/* A command in hiredis's format. */
const struct answer *e2e_raw_command(struct e2e_raw *r, const char *fmt, ...);
const struct answer *e2e_raw_commandv(struct e2e_raw *r, int argc, const char **argv);
void e2e_raw_expect(struct e2e_raw *r, const char *want, const char *fmt, ...);

/* Replies as text. The caller's: free. */
char *e2e_show_reply(const redisReply *reply);
char *e2e_show_answer(const struct answer *a);

#endif
