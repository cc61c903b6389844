/* leaks.c - see leaks.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/leaks.h"

#define MARKERS 100 /* two digits */
#define NEEDLES 32
#define FORMS 7 /* as it is, upper case, hex twice, base64 three times */
#define PAGE ((size_t)4096)
#define REPORTS_MAX 40

struct form {
    const char *what;
    uint8_t p[2 * LEAKS_NEEDLE_MAX];
    size_t n;
};

struct needle {
    char name[48];
    struct form form[FORMS];
};

static struct needle needles[NEEDLES]; /* the first is the tag */
static char tag[LEAKS_TAG + 1], ways[MARKERS][48], texts[MARKERS][LEAKS_MARKER + 1];
static unsigned markers, needle_count;
static unsigned reports;
static int quiet;

/* ---- needles ---- */

/* Whole digits only: what comes behind is not known. */
static size_t base64(uint8_t *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t made = 0;

    for (size_t bit = 0; bit + 6 <= 8 * n; bit += 6) {
        unsigned two = (unsigned)p[bit / 8] << 8 | (bit / 8 + 1 < n ? p[bit / 8 + 1] : 0u);
        out[made++] = (uint8_t)digits[two >> (10 - bit % 8) & 63];
    }
    return made;
}

static void put_form(struct form *f, const char *what, const void *p, size_t n)
{
    f->what = what;
    f->n = n;
    memcpy(f->p, p, n);
}

void leaks_needle(const char *name, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint8_t upper[LEAKS_NEEDLE_MAX], digits[2 * LEAKS_NEEDLE_MAX];
    char hex[2 * LEAKS_NEEDLE_MAX + 1], capitals[2 * LEAKS_NEEDLE_MAX + 1];

    assert_true(needle_count < NEEDLES && n >= LEAKS_TAG && n <= LEAKS_NEEDLE_MAX);
    struct needle *nd = &needles[needle_count++];
    snprintf(nd->name, sizeof nd->name, "%s", name);
    for (size_t i = 0; i < n; i++) {
        upper[i] = (uint8_t)toupper(p[i]);
        snprintf(hex + 2 * i, 3, "%02x", p[i]);
        snprintf(capitals + 2 * i, 3, "%02X", p[i]);
    }
    put_form(&nd->form[0], "as it is", p, n);
    put_form(&nd->form[1], "in upper case", upper, n);
    put_form(&nd->form[2], "as hex", hex, 2 * n);
    put_form(&nd->form[3], "as hex", capitals, 2 * n);
    for (unsigned k = 1; k <= 3; k += 2) /* no letter to be written in two ways: one find is not to count twice */
        if (memcmp(nd->form[k].p, nd->form[k - 1].p, nd->form[k].n) == 0)
            nd->form[k].n = 0;
    for (unsigned skip = 0; skip < 3; skip++) /* from the first whole group of three bytes on */
        put_form(&nd->form[4 + skip], "as base64", digits, base64(digits, p + skip, n - skip));
}

unsigned leaks_needles(void)
{
    return needle_count;
}

void leaks_forget(unsigned from)
{
    assert_true(from <= needle_count);
    needle_count = from;
}

void leaks_begin(void)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    uint8_t random[LEAKS_TAG];

    markers = needle_count = reports = 0;
    assert_int_equal(clock_random(random, sizeof random), ERR_OK);
    for (size_t i = 0; i < LEAKS_TAG; i++)
        tag[i] = letters[random[i] % 36];
    leaks_needle("marker", tag, LEAKS_TAG);
}

const char *leaks_mark(const char *way)
{
    assert_true(markers < MARKERS);
    snprintf(ways[markers], sizeof ways[0], "%s", way);
    snprintf(texts[markers], sizeof texts[0], "%s%02u%s", tag, markers, tag);
    return texts[markers++];
}

/* ---- looking ---- */

void leaks_quiet(int on)
{
    quiet = on;
}

static const uint8_t *next(const uint8_t *p, const uint8_t *end, const void *what, size_t n)
{
    return p < end ? memmem(p, (size_t)(end - p), what, n) : NULL;
}

/* Which marker is around the tag at p. */
static const char *way_of(const uint8_t *p, size_t before, size_t after)
{
    for (int behind = 0; behind < 2; behind++) {
        const uint8_t *number = behind ? p + LEAKS_TAG : p - 2;
        if ((behind ? after < LEAKS_TAG + 2 : before < 2) || !isdigit(number[0]) || !isdigit(number[1]))
            continue;
        unsigned i = (unsigned)(number[0] - '0') * 10 + (unsigned)(number[1] - '0');
        if (i < markers)
            return ways[i];
    }
    return "not known by which way";
}

static void report(const struct needle *nd, const struct form *f, const char *where, const uint8_t *base, size_t n,
                   const uint8_t *at)
{
    size_t off = (size_t)(at - base), from = off < 48 ? 0 : off - 48, to = n - off < 80 ? n : off + 80;

    if (quiet || reports++ >= REPORTS_MAX)
        return;
    fprintf(stderr, "# LEAK: %s, %s, in %s at %zu", nd->name, f->what, where, off);
    if (f == &needles[0].form[0])
        fprintf(stderr, " (%s)", way_of(at, off, n - off));
    fprintf(stderr, ": ");
    for (; from < to; from++)
        fputc(base[from] >= ' ' && base[from] <= '~' ? base[from] : '.', stderr);
    fputc('\n', stderr);
}

static unsigned scan_part(const uint8_t *base, size_t n, const uint8_t *from, const uint8_t *to, const char *where)
{
    unsigned found = 0;

    for (unsigned i = 0; i < needle_count; i++) {
        for (unsigned k = 0; k < FORMS; k++) {
            const struct form *f = &needles[i].form[k];
            if (f->n == 0)
                continue;
            for (const uint8_t *p = from; (p = next(p, to, f->p, f->n)) != NULL; p += f->n, found++)
                report(&needles[i], f, where, base, n, p);
        }
    }
    return found;
}

/* Pages of zeros, of which segments and dumps have many, are passed over. */
unsigned leaks_scan(const void *bytes, size_t n, const char *where)
{
    const uint8_t *p = bytes, *end = p + n, *from = p;
    unsigned found = 0;

    for (const uint8_t *page = p; (size_t)(end - page) >= PAGE; page += PAGE) {
        if (page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0) {
            found += scan_part(p, n, from, page, where);
            from = page + PAGE;
        }
    }
    return found + scan_part(p, n, from, end, where);
}

unsigned leaks_scan_reply(const redisReply *r, const char *where)
{
    unsigned found = r->str ? leaks_scan(r->str, r->len, where) : 0;

    for (size_t i = 0; i < r->elements; i++)
        found += leaks_scan_reply(r->element[i], where);
    return found;
}

unsigned leaks_count(const void *bytes, size_t n, const char *text)
{
    const uint8_t *p = bytes, *end = p + n;
    unsigned count = 0;

    for (; (p = next(p, end, text, strlen(text))) != NULL; p++)
        count++;
    return count;
}

/* ---- files ---- */

/* The file's bytes, the caller's; NULL: it is empty, or gone. Read, not mapped: it may be cut meanwhile. */
static uint8_t *load(const char *path, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    uint8_t *p = NULL;
    ssize_t got = 0;

    *n = 0;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        p = malloc((size_t)st.st_size);
        assert_non_null(p);
        while (*n < (size_t)st.st_size && (got = read(fd, p + *n, (size_t)st.st_size - *n)) > 0)
            *n += (size_t)got;
        assert_true(got >= 0);
    }
    if (fd >= 0)
        close(fd);
    return p;
}

unsigned leaks_scan_file(const char *path)
{
    size_t n;
    uint8_t *p = load(path, &n);
    unsigned found = p ? leaks_scan(p, n, path) : 0;

    free(p);
    return found;
}

unsigned leaks_count_file(const char *path, const char *text)
{
    size_t n;
    uint8_t *p = load(path, &n);
    unsigned count = p ? leaks_count(p, n, text) : 0;

    free(p);
    return count;
}

/* What a walk is for: a scan, or the count of a text. */
struct walk {
    const char *except, *with, *text;
    time_t since;
    int flat;
};

static unsigned visit(const struct walk *w, const char *path, const struct stat *st)
{
    size_t n = strlen(path), m = w->except ? strlen(w->except) : 0;

    if (w->text)
        return strstr(path, w->with) ? leaks_count_file(path, w->text) : 0;
    if (st->st_mtime < w->since || (w->except && n >= m && strcmp(path + n - m, w->except) == 0))
        return 0;
    return leaks_scan_file(path);
}

static unsigned walk(const struct walk *w, const char *dir)
{
    char path[4096];
    unsigned sum = 0;
    struct stat st;
    DIR *d = opendir(dir);

    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%.3800s/%s", dir, e->d_name);
        if (lstat(path, &st) != 0) /* gone meanwhile */
            continue;
        if (S_ISDIR(st.st_mode) && !w->flat)
            sum += walk(w, path);
        else if (S_ISREG(st.st_mode))
            sum += visit(w, path, &st);
    }
    if (d)
        closedir(d);
    return sum;
}

unsigned leaks_scan_tree(const char *dir, const char *except)
{
    return walk(&(struct walk){.except = except}, dir);
}

unsigned leaks_scan_new(const char *dir, time_t since)
{
    return walk(&(struct walk){.since = since, .flat = 1}, dir);
}

unsigned leaks_count_tree(const char *dir, const char *with, const char *text)
{
    return walk(&(struct walk){.with = with, .text = text}, dir);
}

unsigned leaks_scan_proc(pid_t pid, const char *name)
{
    static uint8_t text[1 << 17];
    char path[64];

    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    assert_true(n > 0 && n < sizeof text);
    return leaks_scan(text, n, path);
}
