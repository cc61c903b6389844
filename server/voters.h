/* voters.h - the list of a cell's voters, and which of them this node is.
 *
 *     voters 10.0.0.1:7379 10.0.0.2:7379 10.0.0.3:7379
 *
 * The list is the same text on every node, in the same order: a voter's index is its place in it. An IPv6 address is
 * written in brackets.
 *
 * Pure, but for voters_is_local. Any thread.
 */
#ifndef COFFER_SERVER_VOTERS_H
#define COFFER_SERVER_VOTERS_H

#include "base/bytes.h"
#include "base/err.h"
#include "engine/cell.h"

#define VOTERS_HOST_BYTES 128
#define VOTERS_TEXT_BYTES (CELL_VOTERS * (VOTERS_HOST_BYTES + 10))

struct voter {
    char host[VOTERS_HOST_BYTES];
    int port;
};

struct voters {
    unsigned n; /* 0: none are given */
    struct voter at[CELL_VOTERS];
    char text[VOTERS_TEXT_BYTES]; /* "a:1,b:2,c:3"; "-": none */
};

/* Of the directive's words, with blanks between. ERR_SYNTAX: *why (static text) says what is wrong: not host:port, one
 * of them twice, an even number of them (it survives no more failures than one less), or more than CELL_VOTERS. */
must_use enum err voters_parse(struct bytes list, struct voters *out, const char **why);

/* Its index; -1: it is none of them. */
int voters_find(const struct voters *v, const char *host, int port);

/* Which of them this node is: the one with its port and the host that it announces, or, without one, a host that is
 * local. VOTERS_NONE, VOTERS_AMBIGUOUS. */
#define VOTERS_NONE (-1)
#define VOTERS_AMBIGUOUS (-2)
int voters_self(const struct voters *v, const char *announced_host, int port, int (*is_local)(const char *host));

/* 1: it is an address of this machine. Resolves names: may block for long. */
int voters_is_local(const char *host);

#endif
