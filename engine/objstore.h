/* objstore.h - a client of object stores that speak the S3 protocol: objects, listings, resumable uploads, downloads.
 * docs/object-store.md is the page for operators.
 *
 * An object's key is relative to the prefix of the URL: with s3://bucket/coffer/prod the key "cells/a" is the object
 * "coffer/prod/cells/a". Keys given here are 1 to OBJSTORE_KEY_MAX bytes, the prefix included, of printable ASCII, in
 * parts that are not empty, "." or "..", between single slashes; others are ERR_BADPATH. Keys that the server lists may
 * be anything.
 *
 * Threads: one thread at a time for each struct objstore; it is meant for one background thread. Every call but open,
 * close and the last section blocks: on the network, for as long as attempts and time-outs allow, and in the callbacks
 * it is given. Before the first open no other thread may be inside libcurl. SIGPIPE must be ignored. Memory: what
 * libcurl takes is a few hundred KiB of locked memory, because copies of the secret key pass through it; an upload
 * takes a part (part_bytes) of ordinary memory besides. A name server that is silent can delay a stop by the resolver's
 * own time-out.
 *
 * Errors: calls return an enum err; objstore_trouble says which row of objstore.tbl.h is behind it, and has a text for
 * the operator that says what to do. The rows marked retryable have been tried again with growing pauses up to
 * `attempts` times before they are returned; a transfer that makes progress counts anew. Nothing is logged here;
 * config.retrying is told of every pause.
 *
 * Every request is signed (AWS signature version 4, by libcurl) together with the SHA-256 of its body: a server takes
 * no body that was altered on its way. What comes back is compared with its length, and with its MD5 where the ETag is
 * one; it is not for objects that were uploaded in parts. Confidentiality and authenticity of what is stored are the
 * caller's: nothing goes here that is not sealed.
 */
#ifndef COFFER_ENGINE_OBJSTORE_H
#define COFFER_ENGINE_OBJSTORE_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define OBJSTORE_KEY_MAX 1024
#define OBJSTORE_ETAG_BYTES 96 /* with its NUL */
#define OBJSTORE_ID_BYTES 512  /* of an upload, with its NUL */
#define OBJSTORE_PARTS_MAX 10000
#define OBJSTORE_PART_BYTES_MIN (5u << 20) /* of all parts but the last: the protocol's */
#define OBJSTORE_PART_BYTES (8u << 20)

enum objstore_why {
    OBJSTORE_FINE = 0,
#define WHY(name, err, retry, text) OBJSTORE_##name,
#include "engine/objstore.tbl.h"
#undef WHY
    OBJSTORE_WHY_COUNT_
};

struct objstore_trouble {
    enum objstore_why why;
    int http;       /* status of the answer; 0: there was none */
    char code[64];  /* what the server calls it, "SlowDown"; empty: nothing */
    char text[640]; /* one line of printable ASCII: what was tried, what went wrong, what to do about it */
};

struct objstore_config {
    const char *url;              /* s3://bucket/prefix, the prefix may be missing */
    const char *endpoint;         /* https://host:port or http://..., buckets are the first part of the path */
    const char *region;           /* NULL or "": us-east-1 */
    const char *credentials_file; /* see objstore_credentials.h */
    const char *ca_file;          /* PEM; only these are trusted. NULL or "": the system's */
    unsigned connect_timeout_ms;  /* 0: 10 s */
    unsigned stall_timeout_ms;    /* no byte in either direction for so long; 0: 60 s */
    unsigned transfer_timeout_ms; /* one request from its beginning to its end; 0: 15 min */
    unsigned attempts;            /* 0: 6, that is up to 15 s of pauses */
    unsigned pause_ms;            /* before the second attempt, about; doubled each time up to 20 s. 0: 500 */
    uint64_t part_bytes;          /* 0: OBJSTORE_PART_BYTES; larger for objects that would have too many parts */
    unsigned page_entries;        /* of a listing, asked for at a time; 0: 1000, which is the most */

    /* Asked at least once a second during calls; anything but 0 makes the call return OBJSTORE_STOPPED. May be NULL. */
    int (*stop)(void *arg);
    /* An attempt failed and the next one follows in wait_ms. May be NULL. */
    void (*retrying)(void *arg, const struct objstore_trouble *t, unsigned attempt, unsigned wait_ms);
    void *arg;
};

struct objstore;

/* Reads the credentials and checks the settings; no network. Nothing in config need live longer than the call, but what
 * arg points to. On failure *out is NULL, and *t says why: CONFIG or MEMORY. */
must_use enum err objstore_open(const struct objstore_config *config, struct objstore **out,
                                struct objstore_trouble *t);
void objstore_close(struct objstore *o); /* NULL is fine */

/* What is wrong with a setting, a static text; "": nothing. For who checks a configuration; open does the same. */
const char *objstore_url_wrong(const char *url);
const char *objstore_endpoint_wrong(const char *endpoint);

/* ---- objects ---- */

struct objstore_meta {
    uint64_t bytes;
    char etag[OBJSTORE_ETAG_BYTES]; /* without quotes; another one after the object was replaced */
    int is_md5;                     /* the ETag is the MD5 of the bytes: not uploaded in parts, nor under some keys */
};

/* Stores a small object whole. only_new: EXISTS when there is one of this name. (A server that does not know this
 * condition replaces it; radosgw, MinIO and AWS do know.) */
must_use enum err objstore_put(struct objstore *o, const char *key, struct bytes body, int only_new,
                               struct objstore_meta *out);

/* Appends the whole object to *out, an initialised buffer; TOOBIG when it has more than limit bytes. On failure *out is
 * as it was. ABSENT: there is none. meta may be NULL. */
must_use enum err objstore_get(struct objstore *o, const char *key, size_t limit_bytes, struct buf *out,
                               struct objstore_meta *meta);

/* Appends n bytes from off on. etag: of the object meant, else ALTERED; NULL: whatever is there. ANSWER when the object
 * has not that many. On failure *out is as it was. */
must_use enum err objstore_get_range(struct objstore *o, const char *key, const char *etag, uint64_t off, size_t n,
                                     struct buf *out);

must_use enum err objstore_head(struct objstore *o, const char *key, struct objstore_meta *out);

must_use enum err objstore_delete(struct objstore *o, const char *key); /* an object that is not there is fine */

struct objstore_entry {
    const char *key; /* relative, as above; valid during the callback, as is etag */
    const char *etag;
    uint64_t bytes;
    uint64_t modified_ms; /* Unix time, by the server's clock; 0: it did not say */
};

/* Calls fn with each object whose key begins with `begin` and sorts behind `after` ("" for both: all), in the order of
 * their bytes, at most limit of them, until fn returns anything but 0. fn may call this module with o. */
must_use enum err objstore_list(struct objstore *o, const char *begin, const char *after, size_t limit,
                                int (*fn)(void *arg, const struct objstore_entry *e), void *arg);

/* ---- uploads in parts ----
 *
 *     objstore_upload_begin(o, key, u.id)      keep key and id somewhere durable
 *     objstore_upload_run(o, key, &src, &u, &meta)
 *
 * After an interruption of any kind, upload_run with the same key, id and source goes on: it asks the server which
 * parts it has, leaves out those that have the size and MD5 of the source's, and sends the rest. The object is there,
 * whole, when upload_run has returned ERR_OK, and not at all before. NOUPLOAD: the server does not know the id (any
 * more); when the interruption came at the very end the object may be complete: objstore_head tells. An upload that is
 * never completed takes room at the server until it is aborted.
 */
struct objstore_source {
    uint64_t bytes;
    /* Reads n bytes at off; what it returns on failure is returned by upload_run, with CALLER. */
    enum err (*read)(void *arg, uint64_t off, void *p, size_t n);
    void *arg;
};

struct objstore_upload {
    char id[OBJSTORE_ID_BYTES];
    unsigned parts;      /* of the object, set by upload_run */
    unsigned parts_kept; /* of these, found at the server and not sent again */
};

must_use enum err objstore_upload_begin(struct objstore *o, const char *key, char id[OBJSTORE_ID_BYTES]);
must_use enum err objstore_upload_run(struct objstore *o, const char *key, const struct objstore_source *src,
                                      struct objstore_upload *u, struct objstore_meta *out);
must_use enum err objstore_upload_abort(struct objstore *o, const char *key, const char *id); /* unknown id: fine */

struct objstore_part {
    unsigned number; /* from 1 */
    uint64_t bytes;
    const char *etag; /* during the callback */
};

/* The parts that the server has, by number. */
must_use enum err objstore_upload_parts(struct objstore *o, const char *key, const char *id,
                                        void (*fn)(void *arg, const struct objstore_part *p), void *arg);

struct objstore_pending {
    const char *key, *id; /* during the callback */
    uint64_t begun_ms;    /* Unix time, by the server's clock; 0: it did not say */
};

/* Uploads that are not completed whose key begins with `begin`; as objstore_list, without a limit. */
must_use enum err objstore_uploads(struct objstore *o, const char *begin,
                                   int (*fn)(void *arg, const struct objstore_pending *p), void *arg);

/* Aborts those of them that were begun before a time; *aborted counts. One whose age is not known stays. */
must_use enum err objstore_uploads_expire(struct objstore *o, const char *begin, uint64_t before_ms, unsigned *aborted);

/* ---- large downloads ---- */

/* Hands the object's bytes from off to its end over to write, in order and each byte once, in pieces as they come.
 * etag: of the object meant, else ALTERED; NULL: whatever is there. It is ALTERED too when the object is replaced on
 * the way. An interrupted download goes on by another call with off behind the last byte that was written, and the ETag
 * of *out, which is set as soon as it is known. What write returns on failure is returned, with CALLER. DAMAGED: all
 * was handed over, and the MD5 is not that of the ETag (compared when off is 0 and the object was not uploaded in
 * parts). */
must_use enum err objstore_download(struct objstore *o, const char *key, const char *etag, uint64_t off,
                                    enum err (*write)(void *arg, uint64_t off, const void *p, size_t n), void *arg,
                                    struct objstore_meta *out);

/* ---- files, as source and as target of the above; arg points to the descriptor, an int. They block. ----
 *
 * read is ERR_CORRUPT when the file ends before; write makes the file as long as it must be, and syncs nothing. */
must_use enum err objstore_read_file(void *arg, uint64_t off, void *p, size_t n);
must_use enum err objstore_write_file(void *arg, uint64_t off, const void *p, size_t n);

/* ---- what went wrong; never blocks ---- */

/* Of the last call with o that did not return ERR_OK; until the next call. */
const struct objstore_trouble *objstore_trouble(const struct objstore *o);

/* Rows of the table: "NOBUCKET" and its columns. Static strings. */
const char *objstore_why_name(enum objstore_why why);
const char *objstore_why_text(enum objstore_why why);
enum err objstore_why_err(enum objstore_why why);
int objstore_why_retryable(enum objstore_why why);

#endif
