/* leaks.h - planted plaintext, and looking for it.
 *
 * A marker is plaintext that must not be found anywhere afterwards. All markers of a run hold the same random tag
 * twice, with a number between, so that one search finds any of them, whole or cut off at either end, and tells by
 * which way it went in:
 *
 *     q7fk20vw9x1m07q7fk20vw9x1m         leaks_mark("SECRET.SET")
 *
 * What else must not be found (a PIN, a data key) is a needle of its own. Needles are looked for as they are, in upper
 * case, as hex, and as base64 at each of its three alignments.
 *
 * leaks_scan*() report every place to standard error and answer how many there are. That a search looks at all is
 * shown by what must be there: leaks_count(), leaks_in_file().
 *
 * One thread; the state is the program's.
 */
#ifndef COFFER_TESTS_LIB_LEAKS_H
#define COFFER_TESTS_LIB_LEAKS_H

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define LEAKS_TAG 12                     /* bytes of a tag; also the shortest needle */
#define LEAKS_MARKER (2 * LEAKS_TAG + 2) /* bytes of a marker */
#define LEAKS_NEEDLE_MAX 64

/* A new tag; forgets all markers and needles. */
void leaks_begin(void);
/* A new marker that is going that way; the text lives until leaks_begin. */
const char *leaks_mark(const char *way);
/* These bytes must not be found either. */
void leaks_needle(const char *name, const void *bytes, size_t n);
/* Needles from the given one on are not looked for any more: leaks_needles() says how many there are. */
unsigned leaks_needles(void);
void leaks_forget(unsigned from);

/* 1: what is found from now on is only counted. */
void leaks_quiet(int on);

unsigned leaks_scan(const void *bytes, size_t n, const char *where);
unsigned leaks_scan_reply(const redisReply *r, const char *where);
unsigned leaks_scan_file(const char *path);
/* Every regular file below dir but those whose path ends in except (NULL: none). */
unsigned leaks_scan_tree(const char *dir, const char *except);
/* Files in dir, not below it, that were written since. */
unsigned leaks_scan_new(const char *dir, time_t since);
/* A file of /proc/PID: cmdline, environ. */
unsigned leaks_scan_proc(pid_t pid, const char *name);

/* How often a text is there; in a tree, in files whose path has `with` in it. */
unsigned leaks_count(const void *bytes, size_t n, const char *text);
unsigned leaks_count_file(const char *path, const char *text);
unsigned leaks_count_tree(const char *dir, const char *with, const char *text);

#endif
