/* command.h - the command table.
 *
 * One row of commands.tbl.h drives dispatch, arity, flags, ACL categories, key specs, COMMAND INFO / DOCS / LIST /
 * COUNT / GETKEYS, the printed reference (docs/commands.md) and the test that every row is exercised. Rows are static
 * and immutable. Any thread.
 */
#ifndef COFFER_SERVER_COMMAND_H
#define COFFER_SERVER_COMMAND_H

#include <stddef.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "server/call.h"

enum command_flag {
    CMD_READ = 1 << 0,
    CMD_WRITE = 1 << 1,
    CMD_ADMIN = 1 << 2,
    CMD_FAST = 1 << 3,
    CMD_NOAUTH = 1 << 4,  /* allowed before AUTH */
    CMD_LOADING = 1 << 5, /* allowed while loading, and while sealed */
    CMD_REDACT = 1 << 6,  /* arguments from row.redact_from on never appear in SLOWLOG, MONITOR, logs */
    CMD_NOSCRIPT = 1 << 7,
    CMD_PUBSUB = 1 << 8,
    CMD_BLOCKING = 1 << 9,
    CMD_HSM = 1 << 10,        /* needs the HSM */
    CMD_SUBSCRIBER = 1 << 11, /* allowed to a RESP2 client that listens to channels */
    CMD_NOMULTI = 1 << 12,    /* not inside a transaction */
    CMD_PEEK = 1 << 16, /* tells that a key is there, or how long it is, not its value: any permission on it will do */
    CMD_GETOPT = 1 << 17,  /* with the word GET behind the value it answers the old value: then it reads, too */
    CMD_OLD = 1 << 18,     /* writes, and its answer tells what was there: GETDEL, INCR */
    CMD_GETONLY = 1 << 19, /* only reads when nothing but GETs (and OVERFLOWs) follow its key: BITFIELD */
};

/* What may be under way on a connection when a command starts (call.h). Commands of the same lane overlap; all else
 * waits until nothing is pending. */
enum command_lane {
    LANE_NONE,  /* answers at once; waits for everything before it */
    LANE_WRITE, /* goes through the sequencer, which keeps the order */
    LANE_HSM,   /* one HSM request, independent of its neighbours */
    LANE_ALONE, /* pending, and nothing overlaps it */
};

enum command_category { /* bits; Redis's and ours */
                        CAT_KEYSPACE = 1 << 0,
                        CAT_READ = 1 << 1,
                        CAT_WRITE = 1 << 2,
                        CAT_STRING = 1 << 3,
                        CAT_CONNECTION = 1 << 4,
                        CAT_ADMIN = 1 << 5,
                        CAT_DANGEROUS = 1 << 6,
                        CAT_FAST = 1 << 7,
                        CAT_SLOW = 1 << 8,
                        CAT_SECRET = 1 << 9,
                        CAT_KEY = 1 << 10,
                        CAT_VAULT = 1 << 11,
                        CAT_TRANSACTION = 1 << 12,
                        CAT_PUBSUB = 1 << 13,
                        CAT_BLOCKING = 1 << 14,
                        CAT_BITMAP = 1 << 15,
};

/* How the canonical keys {vault}/path are found in the arguments. */
enum command_keys {
    KEYS_NONE,
    KEYS_VAULT,       /* argv[1] is a vault: the key is "{vault}" */
    KEYS_FOLDER,      /* argv[1] vault, argv[2] a folder (command_folder) or none: "{vault}/folder/", "{vault}/" */
    KEYS_VAULT_ONE,   /* argv[1] vault, argv[2] path or name */
    KEYS_VAULT_MANY,  /* argv[1] vault, argv[2..] paths */
    KEYS_VAULT_PAIRS, /* argv[1] vault, argv[2], argv[4] ... paths */
    KEYS_ONE,         /* argv[1] is a façade key */
    KEYS_MANY,        /* argv[1..] */
    KEYS_PAIRS,       /* argv[1], argv[3] ... */
    KEYS_TWO,         /* argv[1] and argv[2] */
    KEYS_COPY,        /* the same, the second in the database of the option DB */
    KEYS_MOVE,        /* argv[1], here and in the database argv[2] */
    KEYS_SECOND,      /* argv[2] */
    KEYS_RESULT,      /* argv[2..]: the first is made of the others */
};

struct command {
    const char *name;    /* upper case; sub-commands as "CLIENT|ID" */
    int arity;           /* Redis's: exact, or minimum when negative; the name counts */
    unsigned flags;      /* enum command_flag */
    unsigned categories; /* enum command_category */
    enum command_lane lane;
    enum command_keys keys;
    int redact_from;   /* first argument hidden when CMD_REDACT */
    const char *group; /* COMMAND DOCS: "secret", "key", "vault", "string", "connection", "server", "log", "hsm" */
    const char *since;
    const char *complexity;
    const char *args; /* syntax as in docs: "vault path value [NX|XX|CAS version] [EX seconds]" */
    const char *summary;
    const char *reply; /* for the reference */
    call_fn fn;
};

extern const struct command commands[]; /* commands.c; a test may bring a table of its own */
extern const size_t commands_count;

/* By name, any case; for a command with sub-commands give the sub-command too. NULL: unknown. *sub_unknown is set when
 * the container exists but the sub-command does not (the container alone is found as such, fn NULL). */
const struct command *command_find(const struct bytes *argv, unsigned argc, int *sub_unknown);
/* By the name of a row, any case: "get", "client|id". NULL: none. */
const struct command *command_by_name(struct bytes name);
/* rename-command, at start, before there are threads: from is known as to from now on; an empty to takes it away.
 * ERR_NOTFOUND: no such command; ERR_CONFLICT: there is one called to; ERR_RANGE: too long, or too many. */
must_use enum err command_rename(struct bytes from, struct bytes to);

int command_arity_ok(const struct command *cmd, unsigned argc);
static inline size_t command_index(const struct command *cmd)
{
    return (size_t)(cmd - commands);
}

/* Rows of a container are asked for by prefix: 1 when sub is a sub-command of cmd. */
int command_is_sub(const struct command *cmd, const struct command *sub);
/* The name in lower case, with a NUL; out has COMMAND_NAME_MAX bytes. Returns its length. */
#define COMMAND_NAME_MAX 48
size_t command_lower(const struct command *cmd, char *out);

/* All categories, derived ones included. */
unsigned command_categories(const struct command *cmd);
/* "read", without the @; NULL past the last bit. */
const char *command_category_name(unsigned bit);
/* The bit of "read", any case; 0: there is no such category. */
unsigned command_category(struct bytes name);

/* What SLOWLOG, MONITOR and logs may show of argument i: argv[i], or "(redacted)". */
struct bytes command_arg_shown(const struct command *cmd, const struct bytes *argv, unsigned i);

/* Where the keys are, as Redis's clients want it: first, last (negative: from the end), step; 0, 0, 0: none. */
void command_key_range(const struct command *cmd, int *first, int *last, int *step);
/* Which arguments are paths or facade keys; first 0: none. */
struct command_paths {
    unsigned first, last, step;
    int vault; /* argv[1] is the vault that they lie in */
};
void command_paths(const struct command *cmd, unsigned argc, struct command_paths *out);
/* 1: its handler reads the secrets that command_paths() names, by access_read, and nothing else of the store. */
int command_reads_secrets(const struct command *cmd);
/* 1: it reads what it names by paths, and answers at once: what a primary may answer in a replica's place (fallback.h).
 */
int command_is_lookup(const struct command *cmd);
/* What a call does to its key argv[arg]: bits. 0: no more than to tell that it is there. */
enum command_access { KEY_READS = 1, KEY_WRITES = 2 };
unsigned command_access(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned arg);

/* The folder that a listing of a vault names, with or without its '/'; 0: none, the whole vault. argv[2] is one unless
 * it is the word of an option: a folder of such a name is written with its '/'. */
int command_folder(const struct bytes *argv, unsigned argc, struct bytes *folder);

struct command_key {
    struct bytes name;    /* canonical: {vault}/path; in scratch, until the next one */
    struct bytes written; /* a façade key as the client wrote it; p NULL: it is none */
    unsigned arg;         /* its place in argv; that of the vault when it has no other */
    unsigned access;      /* enum command_access */
};
/* The database that COPY or MOVE, said in database db, writes to; db of all others, and when it is not to be read. */
unsigned command_target(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned db);
/* Calls visit with each key of the call, its name built in scratch (a plain buf, cleared here); db is the number of the
 * vault of façade keys without a {vault}, to that of command_target()'s database. visit returns 0 to go on; what else
 * it returns ends the walk and is returned. -1: out of memory. */
int command_keys_each(const struct command *cmd, const struct bytes *argv, unsigned argc, unsigned db, unsigned to,
                      struct buf *scratch, int (*visit)(void *arg, const struct command_key *key), void *arg);

#endif
