/* rgw.c - see rgw.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/e2e.h"
#include "tests/lib/rgw.h"

/* build/tests/e2e/objstore is run from the root, as all tests are; from elsewhere by its path. */
static const char *script(void)
{
    return access("tests/lib/rgw.sh", X_OK) == 0 ? "tests/lib/rgw.sh" : e2e_build_path("../tests/lib/rgw.sh");
}

static void run_script(const struct rgw *g, int in, int out)
{
    char ports[3][16];

    snprintf(ports[0], sizeof ports[0], "%d", g->port);
    snprintf(ports[1], sizeof ports[1], "%d", g->tls_port);
    snprintf(ports[2], sizeof ports[2], "%d", e2e_free_port());
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execl(script(), "rgw.sh", g->dir, ports[0], ports[1], ports[2], (char *)NULL);
    dprintf(STDOUT_FILENO, "failed: %s cannot be run\n", script());
    _exit(1);
}

static void expect(struct rgw *g, const char *want)
{
    char line[1024];

    if (!fgets(line, sizeof line, g->from))
        fail_msg("rgw.sh ended");
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, want) != 0)
        fail_msg("rgw.sh: %s", line);
}

void rgw_start(struct rgw *g)
{
    int to[2], from[2];

    memset(g, 0, sizeof *g);
    snprintf(g->dir, sizeof g->dir, "/tmp/coffer-rgw-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    g->port = e2e_free_port();
    g->tls_port = e2e_free_port();
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    fflush(NULL);
    g->pid = fork();
    assert_true(g->pid >= 0);
    if (g->pid == 0)
        run_script(g, to[0], from[1]);
    close(to[0]);
    close(from[1]);
    g->to = fdopen(to[1], "w");
    g->from = fdopen(from[0], "r");
    assert_true(g->to && g->from);
    expect(g, "ready");
}

void rgw_finish(struct rgw *g)
{
    int status;

    if (!g->pid)
        return;
    if (g->to)
        fclose(g->to);
    waitpid(g->pid, &status, 0);
    if (g->from)
        fclose(g->from);
    memset(g, 0, sizeof *g);
}

static void tell(struct rgw *g, const char *command, const char *words)
{
    fprintf(g->to, "%s%s\n", command, words);
    fflush(g->to);
    expect(g, "ok");
}

void rgw_down(struct rgw *g)
{
    tell(g, "stop", "");
}

void rgw_up(struct rgw *g)
{
    tell(g, "start", "");
}

void rgw_admin(struct rgw *g, const char *words)
{
    tell(g, "admin ", words);
}
