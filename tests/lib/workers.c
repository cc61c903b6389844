/* workers.c - see workers.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/workers.h"

/* 1 when the process is a worker whose parent is parent, and has not ended. */
static int is_worker(const char *pid, pid_t parent)
{
    char path[64], line[512] = "", *after;
    long ppid = 0;
    char state = 0;

    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    after = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    return after && strstr(line, "(coffer-hsm)") && sscanf(after + 1, " %c %ld", &state, &ppid) == 2 &&
           ppid == (long)parent && state != 'Z';
}

unsigned workers_of(const struct e2e *s, pid_t pid[WORKERS_MAX])
{
    unsigned n = 0;
    DIR *d = opendir("/proc");

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < WORKERS_MAX;) {
        if (isdigit((unsigned char)e->d_name[0]) && is_worker(e->d_name, s->pid))
            pid[n++] = (pid_t)strtol(e->d_name, NULL, 10);
    }
    closedir(d);
    return n;
}

const char *workers_pin(const struct e2e *s)
{
    static char pin[300];
    char path[E2E_PATH + 16];

    snprintf(path, sizeof path, "%s/hsm/pin", s->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(pin, sizeof pin, f));
    fclose(f);
    pin[strcspn(pin, "\n")] = 0;
    return pin;
}
