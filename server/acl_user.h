/* acl_user.h - what a user is made of, and the language that makes one. For acl*.c only; everybody else: acl.h.
 *
 * A user under construction belongs to one thread. Published, it is immutable but for its references and its place in
 * the table (under the table's lock).
 *
 *     acl_user_new -> acl_user_apply, any number of times -> published, or acl_user_unref
 *
 * What acl_user_text writes makes the same user again when it is applied to a new one: that is how users are copied,
 * logged and saved.
 */
#ifndef COFFER_SERVER_ACL_USER_H
#define COFFER_SERVER_ACL_USER_H

#include "base/sha256.h"
#include "engine/user.h"
#include "server/acl.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define ACL_HASHES_MAX 32
#define ACL_SELECTORS_MAX 128
#define ACL_ROWS 1024 /* of the command table, at most */

enum acl_home { ACL_HOME_LOG, ACL_HOME_LINES, ACL_HOME_FILE };

enum acl_flag { ACL_ALL_COMMANDS = 1, ACL_ALL_KEYS = 2, ACL_ALL_CHANNELS = 4 };

struct acl_item { /* a text and a number */
    char *s;
    size_t n;
    unsigned num;
};
struct acl_items {
    struct acl_item *at;
    unsigned n;
};

struct acl_selector {
    struct acl_selector *next;
    unsigned flags;                   /* enum acl_flag */
    uint64_t allowed[ACL_ROWS / 64];  /* rows of the command table */
    struct acl_items keys, channels;  /* patterns; of keys with enum command_access */
    struct acl_items first_arguments; /* "0" of +select|0, with the row */
    int all_but;                      /* the rules take away from +@all; else they add to -@all */
    struct acl_items rules;           /* "@read", "get", "client|id"; 1: +, 0: - */
};

struct acl_user {
    _Atomic unsigned refs;
    UT_hash_handle hh;
    char name[USER_NAME_MAX + 1];
    uint64_t identity; /* the same through all changes, another one for each that comes anew */
    uint8_t home;      /* enum acl_home */
    uint8_t enabled, nopass;
    uint8_t unknown, stands_in; /* as acl_user_unknown, acl_user_stands_in have it */
    uint8_t of_old_log;         /* under the table's lock: acl_await_other_log */
    unsigned hashes;
    uint8_t (*hash)[SHA256_BYTES]; /* ACL_HASHES_MAX, in locked memory; NULL while there are none */
    struct acl_selector own;
    unsigned selectors;
};

/* ---- acl_selector.c ---- */

extern const char acl_syntax_error[];

void acl_selector_init(struct acl_selector *s, int all_channels); /* may do nothing but what that says */
void acl_selector_fini(struct acl_selector *s);
/* One word. ERR_SYNTAX with *why, ERR_OOM: s is to be thrown away. forgive: a name of a command or category that is
 * unknown and would have given something is passed over. */
must_use enum err acl_selector_apply(struct acl_selector *s, struct bytes word, int forgive, const char **why);
/* Words that make it of one that may do anything. ERR_OOM, ERR_TOOBIG (out's limit). */
must_use enum err acl_selector_text(const struct acl_selector *s, struct buf *out);
/* Takes a word and the blanks before it off the front; empty: there is none. */
struct bytes acl_next_word(struct bytes *text);

/* ---- acl_user.c ---- */

/* Off, may do nothing but what all_channels says. NULL: no memory. */
struct acl_user *acl_user_new(struct bytes name, int all_channels);
struct acl_user *acl_user_ref(struct acl_user *u);

/* Applies the words in order. ERR_SYNTAX with *why: u is to be thrown away; ERR_OOM. forgive: as above. */
must_use enum err acl_user_apply(struct acl_user *u, const struct bytes *words, unsigned n, int all_channels,
                                 int forgive, struct acl_fault *why);
/* The same for a text, words with blanks between. */
must_use enum err acl_user_apply_text(struct acl_user *u, struct bytes text, int forgive, struct acl_fault *why);
/* Rules that make this user of a new one, appended. ERR_OOM, ERR_TOOBIG (out's limit). */
must_use enum err acl_user_text(const struct acl_user *u, struct buf *out);

/* " nopass", or " #<sha256>" for each password. */
must_use enum err acl_user_put_passwords(const struct acl_user *u, struct buf *out);

must_use enum err acl_user_set_password(struct acl_user *u, struct bytes password); /* the only one; empty: nopass */

#endif
