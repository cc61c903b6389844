/* voters.c - see voters.h. */
#include "server/voters.h"

#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static int parse_port(const char *text)
{
    int port = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || port > 65535)
            return 0;
        port = port * 10 + (*p - '0');
    }
    return port <= 65535 ? port : 0;
}

/* host:port, with or without brackets. */
static int parse_one(struct bytes word, struct voter *out)
{
    char text[VOTERS_HOST_BYTES + 8];
    if (word.n >= sizeof text)
        return 0;
    memcpy(text, word.p, word.n);
    text[word.n] = 0;
    char *colon = strrchr(text, ':'), *host = text;
    if (!colon)
        return 0;
    *colon = 0;
    size_t n = strlen(host);
    if (host[0] == '[' && n > 2 && host[n - 1] == ']') {
        host[n - 1] = 0;
        host++;
    } else if (strchr(host, ':')) {
        return 0;
    }
    n = strlen(host);
    if (!n || n >= sizeof out->host || strcspn(host, ", \t[]") != n)
        return 0;
    memcpy(out->host, host, n + 1);
    out->port = parse_port(colon + 1);
    return out->port > 0;
}

int voters_find(const struct voters *v, const char *host, int port)
{
    for (unsigned i = 0; i < v->n; i++)
        if (v->at[i].port == port && strcasecmp(v->at[i].host, host) == 0)
            return (int)i;
    return -1;
}

static void write_text(struct voters *v)
{
    size_t at = 0;
    snprintf(v->text, sizeof v->text, "-");
    for (unsigned i = 0; i < v->n; i++) {
        int six = strchr(v->at[i].host, ':') != NULL;
        at += (size_t)snprintf(v->text + at, sizeof v->text - at, "%s%s%s%s:%d", i ? "," : "", six ? "[" : "",
                               v->at[i].host, six ? "]" : "", v->at[i].port);
    }
}

static enum err add(struct voters *v, struct bytes word, const char **why)
{
    struct voter one;
    if (!parse_one(word, &one))
        *why = "voters wants host:port, several with blanks between";
    else if (voters_find(v, one.host, one.port) >= 0)
        *why = "a voter is there twice";
    else if (v->n == CELL_VOTERS)
        *why = "there are more than 7 voters";
    else
        v->at[v->n++] = one;
    return **why ? ERR_SYNTAX : ERR_OK;
}

enum err voters_parse(struct bytes list, struct voters *out, const char **why)
{
    enum err e = ERR_OK;
    *out = (struct voters){0};
    *why = "";
    for (size_t i = 0; i < list.n && !e;) {
        size_t from = i;
        while (i < list.n && list.p[i] != ' ')
            i++;
        if (i > from)
            e = add(out, bytes_of(list.p + from, i - from), why);
        while (i < list.n && list.p[i] == ' ')
            i++;
    }
    if (!e && out->n && out->n % 2 == 0) {
        *why = "an even number of voters survives no more failures than one less: leave one out";
        e = ERR_SYNTAX;
    }
    write_text(out);
    return e;
}

int voters_self(const struct voters *v, const char *announced_host, int port, int (*is_local)(const char *host))
{
    int found = VOTERS_NONE;
    for (unsigned i = 0; i < v->n; i++) {
        const struct voter *at = &v->at[i];
        if (at->port != port || !(announced_host[0] ? strcasecmp(at->host, announced_host) == 0 : is_local(at->host)))
            continue;
        found = found == VOTERS_NONE ? (int)i : VOTERS_AMBIGUOUS;
    }
    return found;
}

/* What can be bound to is local. */
int voters_is_local(const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int local = 0;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return 0;
    for (struct addrinfo *a = list; a && !local; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        local = fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0;
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return local;
}
