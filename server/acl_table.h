/* acl_table.h - the table of users itself, for acl.c and acl_home.c: everybody else asks through acl.h. */
#ifndef COFFER_SERVER_ACL_TABLE_H
#define COFFER_SERVER_ACL_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/acl_user.h"

struct acl_line { /* of a `user` line */
    struct acl_line *next;
    char name[USER_NAME_MAX + 1];
};

struct acl {
    pthread_mutex_t lock;
    struct acl_user *users; /* hash table, by name and sorted by it; "default" is always there */
    _Atomic uint64_t epoch;
    uint64_t identities;
    struct acl_line *lines;
    int lines_changed;
    char *file;                /* NULL: none */
    int awaiting;              /* the log's users are not known */
    struct acl_user *password; /* of requirepass: a user that has nothing else; NULL: not given */
    _Atomic int channels_default;
    void (*changed)(void *arg);
    void *changed_arg;
};

/* Under the lock. */
struct acl_user *acl_table_find(struct acl *a, struct bytes name);
must_use enum err acl_table_add(struct acl_user **table, struct acl_user *u); /* ERR_OOM */
void acl_table_drop_all(struct acl_user **table);
int acl_has_line(const struct acl *a, struct bytes name);

/* Without the lock. */
void acl_tell(struct acl *a);
/* Takes u over in place of the user of that name, or adds it. ERR_OOM: u is released. */
must_use enum err acl_publish(struct acl *a, struct acl_user *u);
/* The default user as it is when nothing says otherwise. ERR_OOM. */
must_use enum err acl_built_in(struct acl *a, struct acl_user **out);

#endif
