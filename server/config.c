/* config.c - values: defaults, checks, reading, CONFIG SET. See config.h; files are config_file.c's, printing
 * config_doc.c's.
 *
 * A value is checked into a struct config_parsed, which stands apart, and exchanged with the row's value by
 * config_swap(). CONFIG SET checks all pairs first, then exchanges all, then calls the hooks; when a hook refuses, the
 * same exchange puts everything back, and the hooks that ran are called once more. What was refused so never is half in
 * place.
 *
 * Numbers are atomics that anybody reads without a lock. Texts are exchanged under a lock and copied out under it;
 * those that cannot change while the server runs may be borrowed. Secret texts lie in locked memory.
 *
 * Rejected: one struct with a member for each directive (offsets and types in two places), and hooks in the table (the
 * table would need to know listeners, users and logs, and no test could do without them).
 */
#include "server/config.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

struct config_hook {
    struct config_hook *next;
    enum config_id id;
    config_hook_fn fn;
    void *arg;
};

/* clang-format off */
const struct config_row config_rows[CFG_COUNT] = {
#define SECTION(title)
#define CONFIG(id, name, type, flags, initial, min, max, extra, doc) [CFG_##id] = {name, initial, extra, doc, type, flags, min, max},
#define INERT(id, name, type, initial, extra) \
    [CFG_##id] = {name, initial, extra, "Accepted, kept and shown; does nothing.", type, CONFIG_INERT, INT64_MIN, INT64_MAX},
#define HIDDEN(id, name, type, initial, extra) \
    [CFG_##id] = {name, initial, extra, "For Redis's tests; accepted and kept, does nothing.", type, CONFIG_INERT | CONFIG_HIDDEN, INT64_MIN, INT64_MAX},
#define ALIAS(other, name)
#include "server/config.tbl.h"
};

static const struct {
    const char *alias, *name;
} aliases[] = {
#define SECTION(title)
#define CONFIG(id, ...)
#define INERT(id, ...)
#define ALIAS(other, name) {other, name},
#include "server/config.tbl.h"
};
/* clang-format on */

#define ALIASES (sizeof aliases / sizeof aliases[0])

const char *const config_obuf_names[OBUF_CLASSES] = {"normal", "slave", "pubsub"};

enum config_id config_find(struct bytes name)
{
    for (size_t i = 0; i < ALIASES; i++)
        if (bytes_is_word(name, aliases[i].alias))
            name = bytes_str(aliases[i].name);
    for (unsigned id = 0; id < CFG_COUNT; id++)
        if (bytes_is_word(name, config_rows[id].name))
            return (enum config_id)id;
    return CFG_COUNT;
}

const char *config_name(enum config_id id, unsigned i)
{
    if (i == 0)
        return config_rows[id].name;
    for (size_t k = 0; k < ALIASES; k++)
        if (strcmp(aliases[k].name, config_rows[id].name) == 0 && --i == 0)
            return aliases[k].alias;
    return NULL;
}

/* ---- texts ---- */

int config_is_text(enum config_id id)
{
    enum config_type t = config_rows[id].type;
    return t == CONFIG_TEXT || t == CONFIG_LIST || t == CONFIG_LINES;
}

enum err config_text_new(enum config_id id, struct bytes value, struct config_text *out)
{
    out->s = config_rows[id].flags & CONFIG_SECRET ? mem_secret_alloc(value.n + 1) : mem_alloc(value.n + 1);
    out->n = value.n;
    if (!out->s)
        return ERR_OOM;
    if (value.n)
        memcpy(out->s, value.p, value.n);
    out->s[value.n] = 0;
    return ERR_OK;
}

static void text_free(enum config_id id, struct config_text *t)
{
    if (config_rows[id].flags & CONFIG_SECRET)
        mem_secret_free(t->s, t->n + 1);
    else
        mem_free(t->s);
    t->s = NULL;
}

void config_parsed_drop(enum config_id id, struct config_parsed *p)
{
    if (p->text.s)
        text_free(id, &p->text);
}

void config_swap(struct config *c, enum config_id id, struct config_parsed *p)
{
    enum config_type t = config_rows[id].type;
    pthread_mutex_lock(&c->lock);
    if (config_is_text(id)) {
        struct config_text old = c->text[id];
        c->text[id] = p->text;
        p->text = old;
    } else if (t == CONFIG_OBUF) {
        struct obuf_limit old[OBUF_CLASSES];
        memcpy(old, c->obuf, sizeof old);
        memcpy(c->obuf, p->obuf, sizeof old);
        memcpy(p->obuf, old, sizeof old);
    } else {
        p->number = atomic_exchange_explicit(&c->number[id], p->number, memory_order_relaxed);
    }
    pthread_mutex_unlock(&c->lock);
}

/* ---- life and reading ---- */

enum err config_new(struct config **out)
{
    char why[256];
    struct config_parsed p;
    enum err e = ERR_OK;

    *out = NULL;
    struct config *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->change, NULL);
    atomic_store(&c->epoch, 1);
    for (unsigned id = 0; id < CFG_COUNT && !e; id++) {
        e = config_parse(c, (enum config_id)id, bytes_str(config_rows[id].initial), &p, why, sizeof why);
        assert(e == ERR_OK || e == ERR_OOM); /* else the table is wrong */
        if (!e)
            config_swap(c, (enum config_id)id, &p);
    }
    if (e)
        config_free(c);
    else
        *out = c;
    return e;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (unsigned id = 0; id < CFG_COUNT; id++)
        if (c->text[id].s)
            text_free((enum config_id)id, &c->text[id]);
    while (c->hooks) {
        struct config_hook *h = c->hooks;
        c->hooks = h->next;
        mem_free(h);
    }
    mem_free(c->path);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->change);
    mem_free(c);
}

const char *config_str(const struct config *c, enum config_id id)
{
    assert(config_rows[id].flags & CONFIG_FIXED && c->text[id].s);
    return c->text[id].s;
}

enum err config_text(struct config *c, enum config_id id, struct buf *out)
{
    assert(c->text[id].s);
    pthread_mutex_lock(&c->lock);
    enum err e = buf_put(out, c->text[id].s, c->text[id].n);
    pthread_mutex_unlock(&c->lock);
    return e;
}

int config_given(struct config *c, enum config_id id)
{
    pthread_mutex_lock(&c->lock);
    int given = c->text[id].n > 0;
    pthread_mutex_unlock(&c->lock);
    return given;
}

void config_obuf(struct config *c, enum obuf_class k, struct obuf_limit *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->obuf[k];
    pthread_mutex_unlock(&c->lock);
}

/* ---- showing ---- */

static struct bytes name_at(const char *names, int64_t i)
{
    while (i-- > 0)
        names += strcspn(names, "|") + 1;
    return bytes_of(names, strcspn(names, "|"));
}

static enum err show_obuf(struct config *c, struct buf *out)
{
    char line[256];
    size_t n = 0;
    for (unsigned i = 0; i < OBUF_CLASSES; i++) {
        struct obuf_limit l;
        config_obuf(c, (enum obuf_class)i, &l);
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s %llu %llu %llu", i ? " " : "", config_obuf_names[i],
                              (unsigned long long)l.hard_bytes, (unsigned long long)l.soft_bytes,
                              (unsigned long long)l.soft_seconds);
    }
    return buf_put(out, line, n);
}

enum err config_show(struct config *c, enum config_id id, struct buf *out)
{
    const struct config_row *r = &config_rows[id];
    char digits[32];
    struct bytes name;

    switch (r->type) {
    case CONFIG_TEXT:
    case CONFIG_LIST:
    case CONFIG_LINES:
        return config_text(c, id, out);
    case CONFIG_OBUF:
        return show_obuf(c, out);
    case CONFIG_BOOL:
        return config_int(c, id) ? buf_put(out, "yes", 3) : buf_put(out, "no", 2);
    case CONFIG_NAME:
        name = name_at(r->extra, config_int(c, id));
        return buf_put(out, name.p, name.n);
    default:
        return buf_put(out, digits,
                       (size_t)snprintf(digits, sizeof digits, r->type == CONFIG_NUMBER && r->extra ? "%llo" : "%lld",
                                        (long long)config_int(c, id)));
    }
}

/* ---- changing ---- */

enum err config_put(struct config *c, const char *name, const char *value)
{
    char why[256];
    struct config_parsed p;
    enum config_id id = config_find(bytes_str(name));
    if (id == CFG_COUNT)
        return ERR_NOTFOUND;
    enum err e = config_parse(c, id, bytes_str(value), &p, why, sizeof why);
    if (!e) {
        config_swap(c, id, &p);
        atomic_fetch_add_explicit(&c->epoch, 1, memory_order_release);
    }
    config_parsed_drop(id, &p);
    return e;
}

enum err config_on_change(struct config *c, enum config_id id, config_hook_fn fn, void *arg)
{
    struct config_hook *h = mem_alloc(sizeof *h);
    if (!h)
        return ERR_OOM;
    *h = (struct config_hook){.id = id, .fn = fn, .arg = arg};
    pthread_mutex_lock(&c->change);
    struct config_hook **at = &c->hooks;
    while (*at)
        at = &(*at)->next;
    *at = h;
    pthread_mutex_unlock(&c->change);
    return ERR_OK;
}

struct setting {
    enum config_id id;
    struct config_parsed value;
};

static void fail_with(char *text, size_t room, const char *name, const char *why)
{
    snprintf(text, room, "CONFIG SET failed (possibly related to argument '%s') - %s", name, why);
}

static enum err permitted(struct config *c, enum config_id id, const struct setting *before, unsigned n,
                          struct bytes value, int protected_ok, char *why, size_t room)
{
    const struct config_row *r = &config_rows[id];
    const char *no = NULL;
    if (r->flags & CONFIG_PROTECTED && !protected_ok)
        no = "can't set protected config";
    for (unsigned i = 0; i < n; i++)
        if (before[i].id == id)
            no = "duplicate parameter";
    if (!no && r->flags & CONFIG_FIXED) {
        /* Saying what is so already does no harm; Redis refuses even that for its own. */
        struct buf now;
        buf_init(&now, SIZE_MAX / 4);
        int same = r->flags & CONFIG_OURS && config_show(c, id, &now) == ERR_OK && bytes_equal(buf_bytes(&now), value);
        buf_fini(&now);
        if (!same)
            no = "can't set immutable config";
    }
    snprintf(why, room, "%s", no ? no : "");
    return no ? ERR_SYNTAX : ERR_OK;
}

/* Checks pair i into s. */
static enum err take_pair(struct config *c, const struct bytes *pairs, unsigned i, int protected_ok, struct setting *s,
                          char *text, size_t room)
{
    char why[256];
    struct bytes name = pairs[2 * i];
    enum config_id id = config_find(name);
    if (id == CFG_COUNT || config_rows[id].type == CONFIG_LINES) {
        snprintf(text, room, "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                 (int)(name.n < 128 ? name.n : 128), (const char *)name.p);
        return ERR_SYNTAX;
    }
    enum err e = permitted(c, id, s, i, pairs[2 * i + 1], protected_ok, why, sizeof why);
    s[i].id = id;
    if (!e)
        e = config_parse(c, id, pairs[2 * i + 1], &s[i].value, why, sizeof why);
    if (e)
        fail_with(text, room, config_rows[id].name, why);
    return e;
}

static enum err call_hooks(struct config *c, enum config_id id, const char **why)
{
    enum err e = ERR_OK;
    for (struct config_hook *h = c->hooks; h && !e; h = h->next)
        if (h->id == id)
            e = h->fn(h->arg, id, why);
    return e;
}

/* Exchanges all; when a hook refuses, back again. */
static enum err apply(struct config *c, struct setting *s, unsigned n, char *text, size_t room)
{
    const char *why = "", *ignored = "";
    enum err e = ERR_OK;
    unsigned done = 0;

    for (unsigned i = 0; i < n; i++)
        config_swap(c, s[i].id, &s[i].value);
    atomic_fetch_add_explicit(&c->epoch, 1, memory_order_release);
    while (done < n && !(e = call_hooks(c, s[done].id, &why)))
        done++;
    if (!e)
        return ERR_OK;
    fail_with(text, room, config_rows[s[done].id].name, why);
    for (unsigned i = 0; i < n; i++)
        config_swap(c, s[i].id, &s[i].value);
    atomic_fetch_add_explicit(&c->epoch, 1, memory_order_release);
    for (unsigned i = 0; i <= done; i++)
        if (call_hooks(c, s[i].id, &ignored))
            continue; /* was right before; what cannot be restored the hook's owner has logged */
    return e;
}

enum err config_set(struct config *c, const struct bytes *pairs, unsigned n, int protected_ok, char *text,
                    size_t text_size)
{
    enum err e = ERR_OK;
    struct setting *s = mem_zalloc(n * sizeof *s);

    text[0] = 0;
    if (!s)
        return ERR_OOM;
    pthread_mutex_lock(&c->change);
    for (unsigned i = 0; i < n && !e; i++)
        e = take_pair(c, pairs, i, protected_ok, s, text, text_size);
    if (!e)
        e = apply(c, s, n, text, text_size);
    pthread_mutex_unlock(&c->change);
    for (unsigned i = 0; i < n; i++)
        config_parsed_drop(s[i].id, &s[i].value);
    mem_free(s);
    return e;
}
