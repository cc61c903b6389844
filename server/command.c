/* command.c - finding commands, and what follows from a row.
 *
 * Happy path: command_find hashes argv[0] in upper case, probes an open table of row numbers, compares once. Containers
 * ("CLIENT") are marked in the table, only for these a second look-up of "CLIENT|ID" follows, with the name put
 * together on the stack. Nothing is allocated; names longer than any row are unknown at once.
 *
 * The table is built on first use (pthread_once), four times as large as the rows, so that a probe is nearly always the
 * last. Two rows of one name are a bug of the table: asserted there, which every test that links the table runs into.
 *
 * Rejected: gperf (a generator for what 20 lines do), a trie, and a switch over the first letters (neither is faster
 * for 150 names that are told apart by a hash).
 */
#include "server/command.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#include "server/facade.h"
#include "server/options.h"

#include "resp/number.h"

#define SLOTS 2048u
#define NAME_WORDS (COMMAND_NAME_MAX / 8)
#define RENAMES_MAX 128

/* A row's name as words, upper case; fold has the bit 0x20 in each byte that is a letter: there, and only there, a
 * request may differ. */
struct folded {
    uint64_t word[NAME_WORDS], fold[NAME_WORDS];
    size_t n;
};

static uint16_t slot[SLOTS]; /* row + 1; 0: free */
static uint8_t container[SLOTS];
static uint8_t inner[SLOTS]; /* a sub-command: found by its container's name and its own, not by "CLIENT|ID" */
static struct folded folded[SLOTS / 2];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct { /* rename-command */
    size_t row;
    char name[COMMAND_NAME_MAX]; /* empty: taken away */
} renamed[RENAMES_MAX];
static unsigned renames;

static inline uint8_t upper(uint8_t c)
{
    return c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
}

static inline uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* The bytes as words, the last one filled up with zeros; at most COMMAND_NAME_MAX. */
static inline void words_of(uint64_t *w, const uint8_t *p, size_t n)
{
    size_t i = 0;
    for (; n >= 8; p += 8, n -= 8)
        memcpy(&w[i++], p, 8);
    if (n) {
        w[i] = 0;
        memcpy(&w[i], p, n);
    }
}

/* Both cases of a name hash alike, and so do some names that differ in more than case: same() tells. */
static inline uint32_t hash(const uint64_t *w, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < (n + 7) / 8; i++)
        h = (h ^ (w[i] & 0xdfdfdfdfdfdfdfdfu)) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 40) & (SLOTS - 1);
}

static inline int same(const struct folded *f, const uint64_t *w, size_t n)
{
    if (f->n != n)
        return 0;
    for (size_t i = 0; i < (n + 7) / 8; i++)
        if ((f->word[i] ^ w[i]) & ~f->fold[i])
            return 0;
    return 1;
}

static inline uint32_t find_slot(const uint8_t *p, size_t n)
{
    uint64_t w[NAME_WORDS];
    words_of(w, p, n);
    uint32_t h = hash(w, n);
    while (slot[h] && !same(&folded[slot[h] - 1], w, n))
        h = (h + 1) & (SLOTS - 1);
    return h;
}

/* What row i is called: its name, in capitals, or what rename-command says; NULL: it was taken away. */
static const char *name_of(size_t i)
{
    for (unsigned k = renames; k-- > 0;)
        if (renamed[k].row == i)
            return renamed[k].name[0] ? renamed[k].name : NULL;
    return commands[i].name;
}

static void fold_name(struct folded *f, const char *name)
{
    f->n = strlen(name);
    words_of(f->word, (const uint8_t *)name, f->n);
    memset(f->fold, 0, sizeof f->fold);
    for (size_t i = 0; i < f->n; i++)
        if (name[i] >= 'A' && name[i] <= 'Z')
            ((uint8_t *)f->fold)[i] = 0x20;
}

static void build(void)
{
    assert(commands_count < SLOTS / 2);
    memset(slot, 0, sizeof slot);
    memset(container, 0, sizeof container);
    memset(inner, 0, sizeof inner);
    for (size_t i = 0; i < commands_count; i++) {
        const char *name = name_of(i);
        if (!name)
            continue;
        assert(strlen(name) < COMMAND_NAME_MAX);
        fold_name(&folded[i], name);
        uint32_t h = find_slot((const uint8_t *)name, strlen(name));
        assert(slot[h] == 0); /* two rows of one name */
        slot[h] = (uint16_t)(i + 1);
        inner[h] = strchr(commands[i].name, '|') != NULL;
    }
    for (uint32_t h = 0; h < SLOTS; h++)
        for (size_t i = 0; slot[h] && i < commands_count && !container[h]; i++)
            container[h] = (uint8_t)command_is_sub(&commands[slot[h] - 1], &commands[i]);
}

enum err command_rename(struct bytes from, struct bytes to)
{
    const struct command *cmd = command_by_name(from);
    if (!cmd || strchr(cmd->name, '|'))
        return ERR_NOTFOUND;
    if (to.n >= COMMAND_NAME_MAX || renames == RENAMES_MAX)
        return ERR_RANGE;
    if (to.n && command_by_name(to))
        return ERR_CONFLICT;
    renamed[renames].row = command_index(cmd);
    for (size_t i = 0; i < to.n; i++)
        renamed[renames].name[i] = (char)upper(to.p[i]);
    renamed[renames++].name[to.n] = 0;
    build();
    return ERR_OK;
}

const struct command *command_find(const struct bytes *argv, unsigned argc, int *sub_unknown)
{
    uint8_t name[COMMAND_NAME_MAX];

    *sub_unknown = 0;
    pthread_once(&once, build);
    if (argv[0].n >= COMMAND_NAME_MAX)
        return NULL;
    uint32_t h = find_slot(argv[0].p, argv[0].n);
    if (!slot[h] || inner[h])
        return NULL;
    if (!container[h] || argc < 2)
        return &commands[slot[h] - 1];
    const char *outer = commands[slot[h] - 1].name; /* whatever it was renamed to */
    size_t n = strlen(outer);
    if (n + 1 + argv[1].n >= COMMAND_NAME_MAX || memchr(argv[1].p, 0, argv[1].n)) {
        *sub_unknown = 1;
        return NULL;
    }
    memcpy(name, outer, n);
    name[n] = '|';
    if (argv[1].n)
        memcpy(name + n + 1, argv[1].p, argv[1].n);
    const struct command *cmd = command_by_name(bytes_of(name, n + 1 + argv[1].n));
    *sub_unknown = !cmd;
    return cmd;
}

const struct command *command_by_name(struct bytes name)
{
    pthread_once(&once, build);
    if (name.n >= COMMAND_NAME_MAX)
        return NULL;
    uint32_t h = find_slot(name.p, name.n);
    return slot[h] ? &commands[slot[h] - 1] : NULL;
}

int command_arity_ok(const struct command *cmd, unsigned argc)
{
    return cmd->arity >= 0 ? argc == (unsigned)cmd->arity : argc >= (unsigned)-cmd->arity;
}

int command_is_sub(const struct command *cmd, const struct command *sub)
{
    size_t n = strlen(cmd->name);
    return strncmp(sub->name, cmd->name, n) == 0 && sub->name[n] == '|';
}

size_t command_lower(const struct command *cmd, char *out)
{
    size_t n = strlen(cmd->name);
    for (size_t i = 0; i <= n; i++)
        out[i] = (char)lower((uint8_t)cmd->name[i]);
    return n;
}

/* ---- categories ---- */

static const char *const category_names[] = {
    "keyspace",
    "read",
    "write",
    "string",
    "connection",
    "admin",
    "dangerous",
    "fast",
    "slow",
    "secret",
    "key",
    "vault",
    "transaction",
    "pubsub",
    "blocking",
    "bitmap",
    /* Redis's for what is not here: rules may name them. */
    "set",
    "sortedset",
    "list",
    "hash",
    "hyperloglog",
    "geo",
    "stream",
    "scripting",
};

const char *command_category_name(unsigned bit)
{
    return bit < sizeof category_names / sizeof category_names[0] ? category_names[bit] : NULL;
}

unsigned command_category(struct bytes name)
{
    const char *known;
    for (unsigned bit = 0; (known = command_category_name(bit)); bit++)
        if (bytes_is_word(name, known))
            return 1u << bit;
    return 0;
}

unsigned command_categories(const struct command *cmd)
{
    unsigned c = cmd->categories | (cmd->flags & CMD_FAST ? CAT_FAST : CAT_SLOW);
    if (cmd->flags & CMD_READ && cmd->keys != KEYS_NONE)
        c |= CAT_READ;
    if (cmd->flags & CMD_WRITE)
        c |= CAT_WRITE;
    if (cmd->flags & CMD_ADMIN)
        c |= CAT_ADMIN | CAT_DANGEROUS;
    if (cmd->flags & CMD_PUBSUB)
        c |= CAT_PUBSUB;
    if (cmd->flags & CMD_BLOCKING)
        c |= CAT_BLOCKING;
    return c;
}

/* ---- arguments and keys ---- */

struct bytes command_arg_shown(const struct command *cmd, const struct bytes *argv, unsigned i)
{
    if (cmd->flags & CMD_REDACT && (int)i >= cmd->redact_from)
        return bytes_str("(redacted)");
    return argv[i];
}

struct key_rule {
    int first, last, step;
    int vault;                 /* argv[1] is the vault; keys are made of it and the argument */
    int path_first, path_step; /* which arguments are paths; 0: none */
    int path_one;              /* the first only */
};

static const struct key_rule rules[] = {
    [KEYS_NONE] = {0, 0, 0, 0, 0, 0, 0},       [KEYS_VAULT] = {1, 1, 1, 1, 0, 0, 0},
    [KEYS_FOLDER] = {1, 1, 1, 1, 0, 0, 0},     [KEYS_VAULT_ONE] = {1, 1, 1, 1, 2, 1, 1},
    [KEYS_VAULT_MANY] = {1, 1, 1, 1, 2, 1, 0}, [KEYS_VAULT_PAIRS] = {1, 1, 1, 1, 2, 2, 0},
    [KEYS_ONE] = {1, 1, 1, 0, 1, 1, 1},        [KEYS_MANY] = {1, -1, 1, 0, 1, 1, 0},
    [KEYS_PAIRS] = {1, -1, 2, 0, 1, 2, 0},     [KEYS_TWO] = {1, 2, 1, 0, 1, 1, 0},
    [KEYS_COPY] = {1, 2, 1, 0, 1, 1, 0},       [KEYS_MOVE] = {1, 1, 1, 0, 1, 1, 1},
    [KEYS_SECOND] = {2, 2, 1, 0, 2, 1, 1},     [KEYS_RESULT] = {2, -1, 1, 0, 2, 1, 0},
};

void command_key_range(const struct command *cmd, int *first, int *last, int *step)
{
    const struct key_rule *r = &rules[cmd->keys];
    *first = r->first;
    *last = r->last;
    *step = r->step;
}

void command_paths(const struct command *cmd, unsigned argc, struct command_paths *out)
{
    const struct key_rule *r = &rules[cmd->keys];
    *out = (struct command_paths){.first = (unsigned)r->path_first, .step = (unsigned)r->path_step, .vault = r->vault};
    out->last = r->path_one ? out->first : r->last == 2 ? 2 : argc - 1;
}

int command_reads_secrets(const struct command *cmd)
{
    return cmd->flags & CMD_READ && !(cmd->flags & CMD_WRITE) && rules[cmd->keys].path_first &&
           cmd->categories & (CAT_SECRET | CAT_KEYSPACE | CAT_STRING | CAT_BITMAP);
}

int command_is_lookup(const struct command *cmd)
{
    return (cmd->flags & (CMD_READ | CMD_WRITE)) == CMD_READ && cmd->lane == LANE_NONE && rules[cmd->keys].path_first;
}

/* BITFIELD's operations: 1 when all of them are GETs. */
static int only_gets(const struct bytes *argv, unsigned argc)
{
    static const char *const words[] = {"GET", "OVERFLOW", NULL};
    static const unsigned follow[] = {2, 1};
    for (unsigned i = 2; i < argc; i++) {
        int w = options_word(argv[i], words);
        if (w < 0 || i + follow[w] >= argc)
            return 0;
        i += follow[w];
    }
    return 1;
}

unsigned command_access(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned arg)
{
    static const char *const get[] = {"GET", NULL};
    unsigned access = (cmd->flags & CMD_WRITE ? KEY_WRITES : 0u);
    if (cmd->keys == KEYS_RESULT)
        return arg == 2 ? KEY_WRITES : KEY_READS;
    if (cmd->flags & CMD_GETONLY && argc && only_gets(argv, argc))
        return KEY_READS;
    if (access &&
        (cmd->keys == KEYS_TWO || cmd->keys == KEYS_COPY)) /* from one to the other; RENAME takes the first away */
        return arg != 1 ? KEY_WRITES : cmd->keys == KEYS_COPY ? KEY_READS : KEY_READS | KEY_WRITES;
    if (cmd->keys == KEYS_MOVE) /* here; there it is written */
        return KEY_READS | KEY_WRITES;
    if (cmd->flags & CMD_OLD || (!(cmd->flags & CMD_PEEK) && !(cmd->flags & CMD_WRITE)))
        access |= KEY_READS;
    for (unsigned i = 3; cmd->flags & CMD_GETOPT && i < argc; i++)
        if (options_word(argv[i], get) == 0)
            access |= KEY_READS;
    return access;
}

int command_folder(const struct bytes *argv, unsigned argc, struct bytes *folder)
{
    static const char *const words[] = {"CURSOR", "COUNT", "RECURSIVE", "WITHMETA", NULL};
    int given = argc > 2 && options_word(argv[2], words) < 0;
    *folder = given ? argv[2] : bytes_of(NULL, 0);
    return given;
}

static enum err put_vault(struct buf *b, struct bytes vault)
{
    enum err e = buf_put_u8(b, '{');
    if (!e)
        e = buf_put(b, vault.p, vault.n);
    return e ? e : buf_put_u8(b, '}');
}

static enum err put_path(struct buf *b, struct bytes path)
{
    enum err e = buf_put_u8(b, '/');
    return e ? e : buf_put(b, path.p, path.n);
}

static enum err put_facade_key(struct buf *b, struct bytes key, unsigned db)
{
    char vault[16];
    struct bytes own, path;
    if (facade_split(key, &own, &path)) /* it is the canonical key already */
        return buf_put(b, key.p, key.n);
    enum err e = put_vault(b, bytes_of(vault, (size_t)snprintf(vault, sizeof vault, "db%u", db)));
    return e ? e : put_path(b, key);
}

static enum err put_folder(struct buf *b, const struct bytes *argv, unsigned argc)
{
    struct bytes folder;
    (void)command_folder(argv, argc, &folder); /* none is the same as an empty one */
    enum err e = put_path(b, folder);
    return e || !folder.n || folder.p[folder.n - 1] == '/' ? e : buf_put_u8(b, '/');
}

static enum err put_key(struct buf *b, const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned i,
                        unsigned db)
{
    buf_clear(b);
    if (!rules[cmd->keys].vault)
        return put_facade_key(b, argv[i], db);
    enum err e = put_vault(b, argv[1]);
    if (e || cmd->keys == KEYS_VAULT)
        return e;
    return cmd->keys == KEYS_FOLDER ? put_folder(b, argv, argc) : put_path(b, argv[i]);
}

/* A database's number among the arguments; what is none is the handler's to refuse. */
static unsigned db_in(struct bytes word, unsigned otherwise)
{
    int64_t db;
    return number_parse(word, &db) && db >= 0 && db <= INT32_MAX ? (unsigned)db : otherwise;
}

unsigned command_target(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned db)
{
    if (cmd->keys == KEYS_MOVE && argc > 2)
        return db_in(argv[2], db);
    for (unsigned k = 3; cmd->keys == KEYS_COPY && k + 1 < argc; k++)
        if (argv[k].n == 2 && upper(argv[k].p[0]) == 'D' && upper(argv[k].p[1]) == 'B')
            return db_in(argv[k + 1], db);
    return db;
}

static int visit_key(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned i, unsigned db,
                     unsigned access, struct buf *scratch, int (*visit)(void *arg, const struct command_key *key),
                     void *arg)
{
    struct command_key key = {.arg = i, .access = access};
    if (put_key(scratch, cmd, argv, argc, i, db))
        return -1;
    key.name = buf_bytes(scratch);
    if (!rules[cmd->keys].vault)
        key.written = bytes_of(argv[i].p ? argv[i].p : (const uint8_t *)"", argv[i].n);
    return visit(arg, &key);
}

int command_keys_each(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned db, unsigned to,
                      struct buf *scratch, int (*visit)(void *arg, const struct command_key *key), void *arg)
{
    const struct key_rule *r = &rules[cmd->keys];
    if (!r->first || argc < 2)
        return 0;
    /* Of a command about the vault as a whole, that is the only one. */
    struct command_paths p = {.first = 1, .last = 1, .step = 1};
    if (r->path_first)
        command_paths(cmd, argc, &p);
    for (unsigned i = p.first; i <= p.last && i < argc; i += p.step) {
        int stop = visit_key(cmd, argv, argc, i, cmd->keys == KEYS_COPY && i == 2 ? to : db,
                             command_access(cmd, argv, argc, i), scratch, visit, arg);
        if (stop)
            return stop;
    }
    if (cmd->keys == KEYS_MOVE && argc > 2)
        return visit_key(cmd, argv, argc, 1, to, KEY_WRITES, scratch, visit, arg);
    return 0;
}
