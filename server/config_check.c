/* config_check.c - what a value must look like, by the type of its row; see config.h. A value that passes comes out as
 * it will be kept: numbers parsed, texts normalised. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "engine/objstore.h"
#include "engine/snapobject.h"
#include "server/config.h"
#include "server/keyevent.h"

struct check {
    struct config *c;
    enum config_id id;
    const struct config_row *row;
    char *why;
    size_t room;
};

static enum err wrong(const struct check *k, const char *what)
{
    snprintf(k->why, k->room, "%s", what);
    return ERR_SYNTAX;
}

/* strtoll of a whole value. */
static int read_number(struct bytes v, int base, int64_t *out)
{
    char digits[32], *end;
    if (v.n == 0 || v.n >= sizeof digits)
        return 0;
    memcpy(digits, v.p, v.n);
    digits[v.n] = 0;
    if (digits[0] != '-' && (digits[0] < '0' || digits[0] > '9'))
        return 0;
    errno = 0;
    *out = strtoll(digits, &end, base);
    return *end == 0 && errno == 0;
}

static enum err in_range(const struct check *k, int64_t v)
{
    const struct config_row *r = k->row;
    if (v >= r->min && v <= r->max)
        return ERR_OK;
    if (r->extra)
        snprintf(k->why, k->room, "argument must be between %llo and %llo inclusive", (unsigned long long)r->min,
                 (unsigned long long)r->max);
    else
        snprintf(k->why, k->room, "argument must be between %lld and %lld inclusive", (long long)r->min,
                 (long long)r->max);
    return ERR_SYNTAX;
}

static enum err check_bool(const struct check *k, struct bytes v, struct config_parsed *out)
{
    out->number = bytes_is_word(v, "yes");
    return out->number || bytes_is_word(v, "no") ? ERR_OK : wrong(k, "argument must be 'yes' or 'no'");
}

static enum err check_number(const struct check *k, struct bytes v, struct config_parsed *out)
{
    if (!read_number(v, k->row->extra ? 8 : 10, &out->number))
        return wrong(k, "argument couldn't be parsed into an integer");
    return in_range(k, out->number);
}

/* A number and one of the units; 0: neither. */
static int read_unit(struct bytes v, const char *const *units, const int64_t *factors, int64_t *out)
{
    size_t digits = 0;
    while (digits < v.n && v.p[digits] >= '0' && v.p[digits] <= '9')
        digits++;
    if (!read_number(bytes_of(v.p, digits), 10, out))
        return 0;
    for (unsigned i = 0; units[i]; i++)
        if (bytes_is_word(bytes_of(v.p + digits, v.n - digits), units[i]))
            return !__builtin_mul_overflow(*out, factors[i], out);
    return 0;
}

static int read_size(struct bytes v, int64_t *out)
{
    static const char *const units[] = {"", "b", "k", "kb", "m", "mb", "g", "gb", NULL};
    static const int64_t factors[] = {1, 1, 1000, 1024, 1000000, 1048576, 1000000000, 1073741824};
    return read_unit(v, units, factors, out);
}

static enum err check_size(const struct check *k, struct bytes v, struct config_parsed *out)
{
    return read_size(v, &out->number) ? in_range(k, out->number) : wrong(k, "argument must be a memory value");
}

static enum err check_seconds(const struct check *k, struct bytes v, struct config_parsed *out)
{
    static const char *const units[] = {"", "s", "m", "h", "d", "w", NULL};
    static const int64_t factors[] = {1, 1, 60, 3600, 86400, 604800};
    if (!read_unit(v, units, factors, &out->number))
        return wrong(k, "argument must be a number of seconds, or one with s, m, h, d or w");
    return in_range(k, out->number);
}

static enum err check_name(const struct check *k, struct bytes v, struct config_parsed *out)
{
    const char *at = k->row->extra;
    for (out->number = 0;; out->number++) {
        size_t n = strcspn(at, "|");
        if (v.n == n && strncasecmp((const char *)v.p, at, n) == 0)
            return ERR_OK;
        if (!at[n])
            break;
        at += n + 1;
    }
    size_t used = (size_t)snprintf(k->why, k->room, "argument(s) must be one of the following: ");
    for (at = k->row->extra; *at && used + 2 < k->room; at++) {
        k->why[used++] = *at == '|' ? ',' : *at;
        if (*at == '|')
            k->why[used++] = ' ';
    }
    k->why[used] = 0;
    return ERR_SYNTAX;
}

/* ---- texts with a shape, which extra names ---- */

#define WORDS_MAX 16

/* The value's words, in a copy. -1: too many, or too long. */
static int words_of(struct bytes v, char *copy, size_t room, struct bytes *w)
{
    if (v.n >= room)
        return -1;
    if (v.n)
        memcpy(copy, v.p, v.n);
    return config_split(copy, v.n, w, WORDS_MAX);
}

/* Numbers between min and max, written the short way. */
static enum err check_percentiles(const struct check *k, struct bytes v, struct config_parsed *out)
{
    struct bytes w[WORDS_MAX];
    char line[256], value[WORDS_MAX * 24] = "", *end;
    size_t at = 0;
    int n = words_of(v, line, sizeof line, w);
    for (int i = 0; i < n; i++) {
        char number[32];
        snprintf(number, sizeof number, "%.*s", (int)w[i].n, (const char *)w[i].p);
        double d = strtod(number, &end);
        if (*end || !number[0] || !(d >= (double)k->row->min && d <= (double)k->row->max))
            return wrong(k, "latency-tracking-info-percentiles wants numbers from 0 to 100");
        at += (size_t)snprintf(value + at, sizeof value - at, "%s%.10g", i ? " " : "", d);
    }
    return n < 0 ? wrong(k, "too many percentiles") : config_text_new(k->id, bytes_of(value, at), &out->text);
}

/* Nothing, or a host and a port. */
static enum err check_host_port(const struct check *k, struct bytes v, struct config_parsed *out)
{
    struct bytes w[WORDS_MAX];
    char line[512];
    int64_t port;
    int n = words_of(v, line, sizeof line, w);
    if (n != 0 && n != 2)
        return wrong(k, "wrong number of arguments");
    if (n == 2 && (!read_number(w[1], 10, &port) || port < 1 || port > 65535))
        return wrong(k, "Invalid master port");
    return config_text_new(k->id, v, &out->text);
}

/* One or more of a list of words, kept in the list's order. */
static enum err check_shutdown(const struct check *k, struct bytes v, struct config_parsed *out)
{
    static const char *const known[] = {"default", "save", "nosave", "now", "force"};
    struct bytes w[WORDS_MAX];
    char line[128], value[128] = "";
    unsigned seen = 0;
    int n = words_of(v, line, sizeof line, w), ok = n > 0;
    for (int i = 0; i < n; i++) {
        unsigned at = 0;
        while (at < 5 && !bytes_is_word(w[i], known[at]))
            at++;
        ok &= at < 5;
        seen |= 1u << at;
    }
    if (!ok)
        return wrong(k, "argument(s) must be one of the following: default, save, nosave, now, force");
    for (unsigned at = 0; at < 5; at++)
        if (seen & 1u << at)
            snprintf(value + strlen(value), sizeof value - strlen(value), "%s%s", value[0] ? " " : "", known[at]);
    return config_text_new(k->id, bytes_str(value), &out->text);
}

/* Nothing, or TLSv1.2 and TLSv1.3. */
static enum err check_tls_protocols(const struct check *k, struct bytes v, struct config_parsed *out)
{
    struct bytes w[WORDS_MAX];
    char line[128];
    int n = words_of(v, line, sizeof line, w);
    for (int i = 0; i < n; i++)
        if (!bytes_is_word(w[i], "TLSv1.2") && !bytes_is_word(w[i], "TLSv1.3"))
            return wrong(k,
                         bytes_is_word(w[i], "TLSv1") || bytes_is_word(w[i], "TLSv1.1")
                             ? "TLSv1 and TLSv1.1 are not safe any more and not offered: use TLSv1.2, TLSv1.3, or both"
                             : "argument(s) must be one or both of the following: TLSv1.2, TLSv1.3");
    return n < 0 ? wrong(k, "too many protocols") : config_text_new(k->id, v, &out->text);
}

static enum err check_oom_scores(const struct check *k, struct bytes v, struct config_parsed *out)
{
    enum { NUMBERS = 3, SCORE_MAX = 2000 }; /* the kernel's limit, twice: relative ones may need it */
    struct bytes w[WORDS_MAX];
    char line[128];
    int64_t score;
    int n = words_of(v, line, sizeof line, w);
    if (n != NUMBERS)
        return wrong(k, "wrong number of arguments");
    for (int i = 0; i < n; i++)
        if (!read_number(w[i], 10, &score) || score < -SCORE_MAX || score > SCORE_MAX)
            return wrong(k, "Invalid oom-score-adj-values, elements must be between -2000 and 2000.");
    return config_text_new(k->id, v, &out->text);
}

/* Letters, in the order in which Redis writes them. */
static enum err check_events(const struct check *k, struct bytes v, struct config_parsed *out)
{
    unsigned flags;
    char text[32];
    if (keyevent_parse(v, &flags))
        return wrong(k, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    keyevent_format(flags, text);
    return config_text_new(k->id, bytes_str(text), &out->text);
}

/* A size, or a percentage. */
static enum err check_memory_or_percent(const struct check *k, struct bytes v, struct config_parsed *out)
{
    char text[32];
    int64_t n;
    if (v.n > 1 && v.p[v.n - 1] == '%' && read_number(bytes_of(v.p, v.n - 1), 10, &n) && n >= 0)
        return n <= 100 ? config_text_new(k->id, v, &out->text)
                        : wrong(k, "percentage argument must be less or equal to 100");
    if (!read_size(v, &n))
        return wrong(k, "argument must be a memory or percent value");
    return config_text_new(k->id, bytes_of(text, (size_t)snprintf(text, sizeof text, "%lld", (long long)n)),
                           &out->text);
}

/* Nothing, or a text with which nothing is wrong. */
static enum err check_by(const struct check *k, struct bytes v, const char *(*wrong_with)(const char *text),
                         struct config_parsed *out)
{
    char text[OBJSTORE_KEY_MAX + 128];
    const char *why = "";
    if (v.n >= sizeof text)
        return wrong(k, "argument is too long");
    if (v.n)
        memcpy(text, v.p, v.n);
    text[v.n] = 0;
    if (v.n)
        why = wrong_with(text);
    return why[0] ? wrong(k, why) : config_text_new(k->id, v, &out->text);
}

static enum err check_s3_url(const struct check *k, struct bytes v, struct config_parsed *out)
{
    return check_by(k, v, objstore_url_wrong, out);
}

static enum err check_endpoint(const struct check *k, struct bytes v, struct config_parsed *out)
{
    return check_by(k, v, objstore_endpoint_wrong, out);
}

static enum err check_node_name(const struct check *k, struct bytes v, struct config_parsed *out)
{
    if (v.n && !snapobject_node_valid(v))
        return wrong(k, "argument must be 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit");
    return config_text_new(k->id, v, &out->text);
}

static const struct {
    const char *extra;
    enum err (*check)(const struct check *k, struct bytes v, struct config_parsed *out);
} shapes[] = {
    {"percentiles", check_percentiles}, {"host-port", check_host_port},
    {"shutdown", check_shutdown},       {"memory-or-percent", check_memory_or_percent},
    {"s3-url", check_s3_url},           {"endpoint", check_endpoint},
    {"node-name", check_node_name},     {"tls-protocols", check_tls_protocols},
    {"keyspace-events", check_events},  {"oom-scores", check_oom_scores},
};

static enum err check_text(const struct check *k, struct bytes v, struct config_parsed *out)
{
    if (v.n && !(k->row->flags & CONFIG_BINARY) && memchr(v.p, 0, v.n))
        return wrong(k, "argument may not contain a NUL");
    for (size_t i = 0; k->row->extra && i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(k->row->extra, shapes[i].extra) == 0)
            return shapes[i].check(k, v, out);
    return config_text_new(k->id, v, &out->text);
}

static int obuf_class(struct bytes name)
{
    if (bytes_is_word(name, "replica"))
        return OBUF_REPLICA;
    for (int i = 0; i < OBUF_CLASSES; i++)
        if (bytes_is_word(name, config_obuf_names[i]))
            return i;
    return -1;
}

static enum err check_obuf(const struct check *k, struct bytes v, struct config_parsed *out)
{
    struct bytes w[4 * OBUF_CLASSES + 1];
    char line[512];
    if (v.n >= sizeof line)
        return wrong(k, "Wrong number of arguments in buffer limit configuration.");
    memcpy(line, v.p, v.n);
    int n = config_split(line, v.n, w, 4 * OBUF_CLASSES + 1);
    pthread_mutex_lock(&k->c->lock);
    memcpy(out->obuf, k->c->obuf, sizeof out->obuf);
    pthread_mutex_unlock(&k->c->lock);
    if (n <= 0 || n % 4)
        return wrong(k, "Wrong number of arguments in buffer limit configuration.");
    for (int i = 0; i < n; i += 4) {
        int64_t hard, soft, seconds;
        int class = obuf_class(w[i]);
        if (class < 0)
            return wrong(k, "Invalid client class specified in buffer limit configuration.");
        if (!read_size(w[i + 1], &hard) || !read_size(w[i + 2], &soft) || !read_number(w[i + 3], 10, &seconds) ||
            seconds < 0)
            return wrong(k, "Error in hard, soft or soft_seconds setting in buffer limit configuration.");
        out->obuf[class] = (struct obuf_limit){(uint64_t)hard, (uint64_t)soft, (uint64_t)seconds};
    }
    return ERR_OK;
}

static enum err (*const checks[])(const struct check *k, struct bytes v, struct config_parsed *out) = {
    [CONFIG_BOOL] = check_bool,       [CONFIG_NUMBER] = check_number, [CONFIG_SIZE] = check_size,
    [CONFIG_SECONDS] = check_seconds, [CONFIG_NAME] = check_name,     [CONFIG_TEXT] = check_text,
    [CONFIG_LIST] = check_text,       [CONFIG_LINES] = check_text,    [CONFIG_OBUF] = check_obuf,
};

enum err config_parse(struct config *c, enum config_id id, struct bytes value, struct config_parsed *out, char *why,
                      size_t room)
{
    struct check k = {.c = c, .id = id, .row = &config_rows[id], .why = why, .room = room};
    *out = (struct config_parsed){0};
    why[0] = 0;
    enum err e = checks[k.row->type](&k, value, out);
    if (e == ERR_OOM)
        snprintf(why, room, "out of memory");
    return e;
}
