/* main_server.c - the program coffer-server.
 *
 *     configuration -> log -> dir and its lock -> listeners -> I/O threads -> start thread: HSM, engine, recovery ->
 * ready
 *
 * Between listeners and ready every command that needs data is answered -LOADING.
 *
 * The main thread accepts, handles signals and timers. What blocks at a start runs on a thread of its own, so that
 * ports answer -LOADING meanwhile (Sentinel and clients wait then, instead of giving up).
 *
 * Ending: SIGTERM, SIGINT or SHUTDOWN wait for replicas (leave.h), then close the listeners; I/O threads finish what is
 * pending and written, at most shutdown-timeout seconds; then log, stores and workers are closed. Exit code 0; 1 when
 * the start failed. A second SIGTERM does not wait for replicas; one that comes later ends the process as kill -9
 * would.
 *
 * A full resync (resync.h) begins anew in the same process: the directory says something else now, so nothing that was
 * in memory of it is true any more, and all of that is closed and opened again. What has to do with clients stays:
 *
 *     open_front     listeners, TLS, the I/O threads' state, connections, channels, users, settings, figures
 *     begin_life     HSM, engine, data keys, replication; the I/O threads run. Once for each state
 *     end_life
 *     close_front
 *
 * At the end of a life the I/O threads finish what is under way and end, so that nobody looks into the engine when it
 * is closed, and nothing is read from clients; at the beginning of the next they go on with their connections where
 * they were, -LOADING first. Signals wait meanwhile.
 *
 * Rejected: opening the ports only when ready (a client cannot tell a server that recovers from one that is gone).
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/scrub.h"
#include "engine/snapshots.h"
#include "server/acl.h"
#include "server/acl_log.h"
#include "server/change.h"
#include "server/cmd_command.h"
#include "server/feed.h"
#include "server/io.h"
#include "server/latency.h"
#include "server/leave.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/notify.h"
#include "server/oomscore.h"
#include "server/pubsub.h"
#include "server/repl.h"
#include "server/restore.h"
#include "server/setup.h"
#include "server/slowlog.h"
#include "server/start.h"
#include "server/tls.h"
#include "server/tracking.h"
#include "server/version.h"

#define DAEMON_MARK "COFFER_DAEMONIZED"
#define TICK_MS 250
#define AGAIN_SECONDS 600 /* longer than that no end takes, behind shutdown-timeout: the watchdog is to see it */
#define RING_SECONDS 10   /* between looks for data keys whose time is over */

static struct server srv;

static struct {
    struct event *tick, *term, *intr, *hup;
    pthread_t starter;
    int starter_running, pidfile_written;
    struct io_task started;
    struct io_task again_task;
    _Atomic int again_posted;
    int again; /* begin anew when this has ended */
    enum err start_result;
    int exit_code;
    uint64_t last_commands, last_in, last_out, last_us, last_ring_us, last_watchdog_us;
} m;

/* ---- ending ---- */

static void begin_stop(void)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)config_int(srv.config, CFG_SHUTDOWN_TIMEOUT) * 1000000;
    if (atomic_exchange(&srv.stopping, 1))
        return;
    atomic_store(&srv.anew, m.again);
    notify_send(m.again ? "RELOADING=1" : "STOPPING=1");
    log_at(LOG_NOTICE, "%s, finishing what is in flight",
           m.again ? "Beginning anew: connections stay" : "Shutting down: no more connections");
    if (!m.again)
        listen_close(srv.listeners);
    for (unsigned i = 0; i < srv.io_count; i++)
        io_stop(srv.io[i], deadline);
    io_stop(srv.main, 0);
}

/* For good, also when it was about to begin anew. */
static void stop_for_good(void)
{
    m.again = 0;
    leave_ends(srv.leave);
    begin_stop();
}

static void again_on_main(struct io_task *t, struct io *io)
{
    (void)t;
    (void)io;
    m.again = !atomic_load(&srv.stopping);
    begin_stop();
}

static void request_again(struct server *s)
{
    if (!atomic_exchange(&m.again_posted, 1))
        io_post(s->main, &m.again_task);
}

static void on_stop_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    (void)arg;
    log_at(LOG_WARNING, "Received %s scheduling shutdown...", sig == SIGTERM ? "SIGTERM" : "SIGINT");
    leave_begin(srv.leave, 0);
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    (void)arg;
    if (log_reopen())
        log_at(LOG_WARNING, "The log file could not be opened anew; logging goes on to the old one");
    else
        log_at(LOG_NOTICE, "Log opened anew");
}

/* ---- starting ---- */

static void on_started(struct io_task *t, struct io *io)
{
    (void)t;
    (void)io;
    if (!m.starter_running) /* it ended with its life */
        return;
    pthread_join(m.starter, NULL);
    m.starter_running = 0;
    if (m.start_result) {
        if (!atomic_load(&srv.stopping)) { /* else it was told to end, or to begin anew: it has not failed */
            m.exit_code = 1;
            stop_for_good();
        }
        return;
    }
    log_at(LOG_NOTICE, "Ready to accept connections");
    notify_send("READY=1\nSTATUS=Ready to accept connections");
}

static void *starter_main(void *arg)
{
    (void)arg;
    m.start_result = start_open(&srv);
    io_post(srv.main, &m.started);
    return NULL;
}

static unsigned rate(uint64_t now, uint64_t *last, uint64_t us)
{
    uint64_t d = now - *last;
    int reset = now < *last; /* CONFIG RESETSTAT */
    *last = now;
    return us == 0 || reset ? 0 : (unsigned)(d * 1000000 / us);
}

/* Half of the old value and half of the new: a rate over about a second. */
static void smooth(_Atomic unsigned *shown, unsigned now)
{
    unsigned old = atomic_load_explicit(shown, memory_order_relaxed);
    atomic_store_explicit(shown, now > old ? old + (now - old + 1) / 2 : now + (old - now) / 2, memory_order_relaxed);
}

/* At start, and when clients have taken what could be locked: once. */
static void log_memory(void)
{
    static int said;
    struct mem_secret_stats s;
    mem_secret_stats(&s);
    if (s.lock_refused && !said)
        log_at(LOG_WARNING, "Memory for secrets cannot be locked: raise the limit, at least 'ulimit -l 65536' "
                            "(LimitMEMLOCK=infinity in systemd)");
    said = s.lock_refused;
}

/* What CONFIG SET changes that is not an I/O thread's affair. */
static void refresh_settings(void)
{
    static uint64_t seen;
    uint64_t epoch = config_epoch(srv.config);
    if (epoch == seen || atomic_load_explicit(&srv.loading, memory_order_acquire))
        return;
    seen = epoch;
    snapshots_settings(engine_snapshots(srv.engine), (uint64_t)config_int(srv.config, CFG_SNAPSHOT_LOG_BYTES),
                       (uint64_t)config_int(srv.config, CFG_SNAPSHOT_INTERVAL) * 1000,
                       (unsigned)config_int(srv.config, CFG_SNAPSHOT_KEEP));
    scrub_set_rate(engine_scrub(srv.engine), (uint64_t)config_int(srv.config, CFG_SCRUB_RATE));
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    uint64_t now = clock_mono_us(), us = now - m.last_us, watchdog = notify_watchdog_us();
    (void)fd;
    (void)what;
    (void)arg;
    m.last_us = now;
    smooth(&srv.ops_per_sec, rate(STATS_SUM(&srv, commands), &m.last_commands, us));
    smooth(&srv.in_bytes_per_sec, rate(STATS_SUM(&srv, net_in_bytes), &m.last_in, us));
    smooth(&srv.out_bytes_per_sec, rate(STATS_SUM(&srv, net_out_bytes), &m.last_out, us));
    if (!atomic_load(&srv.loading) && now - m.last_ring_us > RING_SECONDS * 1000000ull) {
        m.last_ring_us = now;
        keyring_expire(srv.keyring);
        change_editor_drop_stale();
    }
    log_memory();
    oomscore_look(&srv);
    refresh_settings();
    if (watchdog && now - m.last_watchdog_us > watchdog / 3) {
        m.last_watchdog_us = now;
        notify_send("WATCHDOG=1");
    }
}

static void turn_end(struct io *io)
{
    struct server *s = io_server(io);
    if (!atomic_load_explicit(&s->loading, memory_order_acquire))
        hsm_flush(s->hsm);
}

static int fail(const char *what)
{
    log_at(LOG_WARNING, "%s: %s", what, strerror(errno));
    return 1;
}

/* Who can put files there can put a token and a log of their own there. */
static int others_may_write(const char *dir)
{
    struct stat st;
    if (stat(".", &st) != 0 || (!(st.st_mode & S_IWOTH) && (st.st_uid == geteuid() || st.st_uid == 0)))
        return 0;
    fprintf(stderr, "coffer-server: the directory %s is not safe: %s\n", dir,
            st.st_mode & S_IWOTH ? "everybody may write there; chmod 0700" : "it belongs to another user");
    return 1;
}

/* Enters dir, so that everything relative is below it, and makes CONFIG GET dir absolute. */
static int enter_dir(void)
{
    char path[PATH_MAX];
    const char *dir = config_str(srv.config, CFG_DIR);
    if (file_mkdir(dir, 0700) || chdir(dir) != 0 || !getcwd(path, sizeof path)) {
        fprintf(stderr, "coffer-server: the directory %s cannot be used: %s\n", dir, strerror(errno));
        return 1;
    }
    return others_may_write(path) || config_put(srv.config, "dir", path) != ERR_OK;
}

/* Goes to the background by starting anew: a fork alone would find its secret memory wiped (mem.h), passwords included.
 * Returns only when that fails, or when it was done already. */
static int daemonize(char **argv)
{
    if (getenv(DAEMON_MARK)) {
        (void)unsetenv(DAEMON_MARK);
        return 0;
    }
    pid_t pid = fork();
    if (pid > 0)
        _exit(0);
    int fd = pid == 0 ? open("/dev/null", O_RDWR) : -1;
    if (fd >= 0 && setsid() >= 0 && setenv(DAEMON_MARK, "1", 1) == 0) {
        dup2(fd, STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execv("/proc/self/exe", argv);
    }
    fprintf(stderr, "coffer-server: cannot go to the background: %s\n", strerror(errno));
    return 1;
}

static void write_pidfile(void)
{
    char text[32];
    const char *path = config_str(srv.config, CFG_PIDFILE);
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (!path[0])
        return;
    m.pidfile_written = file_write_atomic(path, bytes_of(text, (size_t)n), 0644) == ERR_OK;
    if (!m.pidfile_written)
        log_at(LOG_WARNING, "The pid file %s cannot be written: %s", path, strerror(file_errno()));
}

static enum err apply_loglevel(void *arg, enum config_id id, const char **why)
{
    (void)why;
    log_set_level((enum log_level)config_int(arg, id));
    return ERR_OK;
}

static enum err apply_min_replicas(void *arg, enum config_id id, const char **why)
{
    (void)arg;
    (void)id;
    (void)why;
    repl_look_for_replicas(srv.repl);
    return ERR_OK;
}

static unsigned thread_count(void)
{
    int64_t n = config_int(srv.config, CFG_IO_THREADS);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (n)
        return (unsigned)n;
    return cores <= 2 ? 1 : cores > 9 ? 8 : (unsigned)cores - 1;
}

static void on_users_changed(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < srv.io_count; i++)
        io_users_changed(srv.io[i]);
}

static enum err make_threads(void)
{
    srv.io_count = thread_count();
    srv.io = mem_zalloc(srv.io_count * sizeof *srv.io);
    enum err e = srv.io ? io_new(&srv.main, &srv, UINT_MAX) : ERR_OOM;
    for (unsigned i = 0; i < srv.io_count && !e; i++)
        e = io_new(&srv.io[i], &srv, i);
    if (!e)
        acl_on_change(srv.acl, on_users_changed, NULL);
    return e;
}

static enum err make_front(void)
{
    enum err e = clock_random_hex(srv.run_id, 20);
    srv.started_ms = clock_wall_ms();
    srv.turn_end = turn_end;
    srv.again = request_again;
    m.again_task.run = again_on_main;
    m.started.run = on_started;
    if (!e)
        e = slowlog_new(&srv.slowlog, srv.config);
    if (!e)
        e = latency_new(&srv.latency);
    if (!e)
        e = waitlist_new(&srv.applied);
    if (!e)
        e = waitlist_new(&srv.paused);
    if (!e)
        e = waitlist_new(&srv.users_turn);
    if (!e)
        e = acl_log_new(&srv.acl_log, srv.config);
    if (!e)
        e = config_on_change(srv.config, CFG_LOGLEVEL, apply_loglevel, srv.config);
    if (!e)
        e = config_on_change(srv.config, CFG_MIN_REPLICAS_TO_WRITE, apply_min_replicas, NULL);
    if (!e)
        e = config_on_change(srv.config, CFG_MIN_REPLICAS_MAX_LAG, apply_min_replicas, NULL);
    if (!e)
        e = make_threads();
    if (!e)
        e = oomscore_follow(&srv);
    if (!e)
        e = leave_new(&srv.leave, &srv, stop_for_good);
    if (!e)
        e = tracking_new(&srv.tracking, &srv);
    return e ? e : pubsub_new(&srv.pubsub, &srv);
}

static void hold_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, NULL);
}

static struct event *signal_event(int sig, event_callback_fn fn)
{
    struct event *ev = event_new(io_base(srv.main), sig, EV_SIGNAL | EV_PERSIST, fn, NULL);
    if (ev)
        event_add(ev, NULL);
    return ev;
}

static enum err make_events(void)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000};
    signal(SIGPIPE, SIG_IGN);
    m.term = signal_event(SIGTERM, on_stop_signal);
    m.intr = signal_event(SIGINT, on_stop_signal);
    m.hup = signal_event(SIGHUP, on_hup);
    m.tick = event_new(io_base(srv.main), -1, EV_PERSIST, on_tick, NULL);
    if (!m.term || !m.intr || !m.hup || !m.tick)
        return ERR_OOM;
    m.last_us = clock_mono_us();
    return event_add(m.tick, &tick) == 0 ? ERR_OK : ERR_OOM;
}

static enum err start_threads(void)
{
    enum err e = ERR_OK;
    for (unsigned i = 0; i < srv.io_count && !e; i++)
        e = io_start(srv.io[i]);
    if (!e && pthread_create(&m.starter, NULL, starter_main, NULL) != 0)
        e = ERR_OOM;
    m.starter_running = !e;
    return e;
}

/* 1: failed, the log says why. */
static int open_front(void)
{
    enum err e;

    hold_signals(SIG_BLOCK); /* threads begin as this one is: they are the main thread's affair */
    log_at(LOG_NOTICE, "Coffer %s starting, protocol of Redis %s", COFFER_VERSION, COFFER_REDIS_VERSION);
    log_at(LOG_NOTICE, "Configuration: %s", srv.config->path ? srv.config->path : "no file, defaults and command line");
    log_at(LOG_NOTICE, "PID: %d", (int)getpid());
    log_memory();
    if (start_lock(&srv))
        return 1;
    if ((e = limits_apply(srv.config)) || (e = make_front()) || (e = make_events())) {
        log_at(LOG_WARNING, "Out of memory at start");
        return 1;
    }
    if (tls_new(&srv.tls, srv.config) || listen_open(&srv.listeners, &srv))
        return 1;
    log_at(LOG_NOTICE, "Running mode=standalone, port=%d, %u I/O thread%s.", listen_port(srv.listeners), srv.io_count,
           srv.io_count == 1 ? "" : "s");
    write_pidfile();
    return 0;
}

static void close_front(void)
{
    struct event *events[] = {m.tick, m.term, m.intr, m.hup};
    if (srv.io)
        io_free_all(&srv);
    waitlist_free(srv.applied);
    waitlist_free(srv.paused);
    waitlist_free(srv.users_turn);
    listen_free(srv.listeners);
    for (unsigned i = 0; i < sizeof events / sizeof events[0]; i++)
        if (events[i])
            event_free(events[i]);
    leave_free(srv.leave);
    io_free(srv.main);
    mem_free(srv.io);
    pubsub_free(srv.pubsub);
    tracking_free(srv.tracking);
    slowlog_free(srv.slowlog);
    latency_free(srv.latency);
    acl_free(srv.acl);
    acl_log_free(srv.acl_log);
    tls_free(srv.tls);
    if (m.pidfile_written)
        (void)unlink(config_str(srv.config, CFG_PIDFILE));
}

/* ---- lives ---- */

/* Until the server ends or begins anew. 1: failed, the log says why. */
static int begin_life(void)
{
    enum err e = restore_new(&srv.restore, &srv);
    if (!e)
        e = repl_new(&srv.repl, &srv);
    if (!e)
        e = feed_new(&srv.feed, &srv);
    if (e) {
        log_at(LOG_WARNING, "Out of memory at start");
        return 1;
    }
    atomic_store(&srv.loading, 1);
    if (start_threads())
        return fail("Threads cannot be started");
    notify_keep_end(); /* the tick goes on with it */
    hold_signals(SIG_UNBLOCK);
    io_run(srv.main);
    return 0;
}

static void wake_parked(void)
{
    waitlist_wake(srv.applied);
    waitlist_wake(srv.paused);
    waitlist_wake(srv.users_turn);
}

static void end_life(void)
{
    hold_signals(m.again ? SIG_BLOCK : SIG_UNBLOCK);
    if (m.again) {
        notify_keep((unsigned)config_int(srv.config, CFG_SHUTDOWN_TIMEOUT) + AGAIN_SECONDS);
    } else { /* from now on another SIGTERM ends the process at once, whatever hangs below */
        event_del(m.term);
        event_del(m.intr);
    }
    for (unsigned i = 0; i < srv.io_count; i++)
        io_join(srv.io[i]);
    if (m.starter_running) /* stopped while it recovered */
        pthread_join(m.starter, NULL);
    m.starter_running = 0;
    start_close(&srv);
    wake_parked();
    io_settle(&srv, m.again);
    start_free(&srv);
    restore_free(srv.restore);
    srv.restore = NULL;
    repl_free(srv.repl);
    srv.repl = NULL;
    feed_free(srv.feed);
    srv.feed = NULL;
}

/* What is known of the state that is gone. 1: failed. */
static int forget_life(void)
{
    memset(&srv.cell, 0, sizeof srv.cell);
    memset(&srv.report, 0, sizeof srv.report);
    memset(&srv.progress, 0, sizeof srv.progress);
    atomic_store(&srv.stopping, 0);
    atomic_store(&srv.anew, 0);
    atomic_store(&srv.sealed, 0);
    atomic_store(&srv.users_changing, 0);
    atomic_store(&m.again_posted, 0);
    m.again = 0;
    acl_await_other_log(srv.acl);
    tracking_records(srv.tracking, bytes_of(NULL, 0), NULL); /* everything has changed */
    return start_lock(&srv);
}

static int live(void)
{
    int failed = open_front(), ended = failed;
    while (!ended) {
        failed = begin_life();
        end_life();
        ended = failed || !m.again || (failed = forget_life());
    }
    close_front();
    notify_keep_end();
    log_at(LOG_WARNING, "Coffer is now ready to exit, bye bye...");
    config_free(srv.config);
    return failed ? 1 : m.exit_code;
}

/* ---- the command line ---- */

static int print(enum err (*fn)(struct buf *))
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    enum err e = fn(&b);
    if (!e && fwrite(buf_data(&b), 1, buf_size(&b), stdout) != buf_size(&b))
        e = ERR_IO;
    buf_fini(&b);
    return e != ERR_OK;
}

static int print_version(void)
{
    printf("Coffer server v=%s protocol=redis-%s bits=64\n", COFFER_VERSION, COFFER_REDIS_VERSION);
    return 0;
}

static int print_help(void)
{
    printf("Usage: coffer-server [/path/to/coffer.conf] [--directive value ...]\n"
           "       coffer-server - (the configuration comes on standard input)\n"
           "       coffer-server --check-config [/path/to/coffer.conf] [--directive value ...]\n"
           "       coffer-server --version | --help\n"
           "       coffer-server --print-config-reference | --print-command-reference | --print-default-config\n\n"
           "Without arguments: a server on port 7379, data in the current directory, an embedded software token.\n"
           "Talk to it with redis-cli -p 7379.\n");
    return 0;
}

static int print_command_reference(void)
{
    return print(command_print_reference);
}

static int print_config_reference(void)
{
    return print(config_print_reference);
}

static int print_default_config(void)
{
    return print(config_print_default_file);
}

static const struct {
    const char *option;
    int (*fn)(void);
} options[] = {
    {"--version", print_version},
    {"-v", print_version},
    {"--help", print_help},
    {"-h", print_help},
    {"--print-command-reference", print_command_reference},
    {"--print-config-reference", print_config_reference},
    {"--print-default-config", print_default_config},
};

/* Warnings about the configuration come before the log is open. */
#define WARNINGS_MAX 32
static char warnings[WARNINGS_MAX][256];
static unsigned warning_count;

static void keep_warning(void *arg, const char *line)
{
    (void)arg;
    if (warning_count < WARNINGS_MAX)
        snprintf(warnings[warning_count++], sizeof warnings[0], "%s", line);
}

static void say_warnings(void)
{
    for (unsigned i = 0; i < warning_count; i++)
        log_at(LOG_WARNING, "%s", warnings[i]);
    if (config_int(srv.config, CFG_WBL_FSYNC))
        log_at(LOG_WARNING,
               "wbl-fsync everysec is not offered by this version: the log is made durable before every answer");
}

/* What is on the command line everybody may read in /proc: values of secret directives become stars. The argument
 * behind a name is its value whatever it looks like; so are those behind it until the next name. */
static void hide_secrets(int argc, char **argv)
{
    int secret = 0, first = 0;
    for (int i = 0; i < argc; i++) {
        char *value = argv[i];
        int name = !first && strncmp(value, "--", 2) == 0;
        first = 0;
        if (name) {
            size_t n = 2 + strcspn(value + 2, " ");
            enum config_id id = config_find(bytes_of(value + 2, n - 2));
            secret = id != CFG_COUNT && config_rows[id].flags & CONFIG_SECRET;
            value += n;
            first = secret && !value[0];
        }
        if (secret)
            memset(value, '*', strlen(value));
    }
}

static int load_config(int argc, char **argv)
{
    struct config_loader l = {.warn = keep_warning};
    enum err e = config_new(&srv.config);
    if (!e)
        e = config_load_args(srv.config, argc, argv, &l);
    if (!e)
        e = acl_new(&srv.acl);
    if (!e)
        e = setup_apply(srv.acl, srv.config, &l);
    if (!e)
        e = setup_commands(srv.config, &l);
    if (e)
        fprintf(stderr, "\n*** FATAL CONFIG FILE ERROR (Coffer %s) ***\n%s\n", COFFER_VERSION,
                l.error[0] ? l.error : err_text(e));
    return e != ERR_OK;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof options / sizeof options[0]; i++)
        if (strcmp(argv[1], options[i].option) == 0)
            return options[i].fn();
    int check = argc > 1 && strcmp(argv[1], "--check-config") == 0;
    const char *fault = getenv("COFFER_FAULT");

    umask(0077);
    if (mem_init(getenv("COFFER_KEEP_CORE") != NULL) || tls_init()) {
        fprintf(stderr, "coffer-server: out of memory\n");
        return 1;
    }
    if (load_config(argc - 1 - check, argv + 1 + check))
        return 1;
    if (check) {
        say_warnings();
        printf("The configuration is good.\n");
        acl_free(srv.acl);
        config_free(srv.config);
        return 0;
    }
    if ((config_int(srv.config, CFG_DAEMONIZE) && daemonize(argv)) || enter_dir())
        return 1;
    hide_secrets(argc - 1, argv + 1);
    if (log_open(config_str(srv.config, CFG_LOGFILE), (enum log_level)config_int(srv.config, CFG_LOGLEVEL))) {
        fprintf(stderr, "coffer-server: the log file %s cannot be opened\n", config_str(srv.config, CFG_LOGFILE));
        return 1;
    }
    say_warnings();
    if (setup_users(srv.acl, srv.config))
        return 1;
    if (fault && fault_arm_text(fault))
        log_at(LOG_WARNING, "COFFER_FAULT is not understood");
    return live();
}
