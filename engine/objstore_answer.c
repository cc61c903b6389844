/* objstore_answer.c - see objstore_answer.h. Fields are looked up among the direct children of their element, the first
 * of a name counts, unknown ones are passed over: services add their own. */
#include "engine/objstore_answer.h"

#include <stdio.h>
#include <time.h>

#include "engine/objstore_xml.h"

#define NUMBER_BYTES 24
#define TIME_BYTES 40

/* Text of a field. ERR_NOTFOUND: it is missing. */
static enum err field(struct bytes in, const char *name, char *out, size_t size)
{
    struct bytes inner;
    int found = objxml_find(in, name, &inner);

    out[0] = 0;
    if (found <= 0)
        return found < 0 ? ERR_CORRUPT : ERR_NOTFOUND;
    return objxml_text(inner, out, size) ? ERR_CORRUPT : ERR_OK;
}

static enum err needed(struct bytes in, const char *name, char *out, size_t size)
{
    return field(in, name, out, size) || !out[0] ? ERR_CORRUPT : ERR_OK;
}

static enum err optional(struct bytes in, const char *name, char *out, size_t size)
{
    enum err e = field(in, name, out, size);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err number(struct bytes in, const char *name, uint64_t max, uint64_t *out)
{
    char text[NUMBER_BYTES];

    *out = 0;
    if (needed(in, name, text, sizeof text) || strspn(text, "0123456789") != strlen(text))
        return ERR_CORRUPT;
    for (const char *p = text; *p; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (*out > (max - digit) / 10)
            return ERR_CORRUPT;
        *out = *out * 10 + digit;
    }
    return ERR_OK;
}

static enum err etag_of(struct bytes in, char etag[OBJSTORE_ETAG_BYTES])
{
    char text[OBJSTORE_ETAG_BYTES + 2];

    etag[0] = 0;
    if (needed(in, "ETag", text, sizeof text))
        return ERR_CORRUPT;
    objstore_etag(etag, bytes_str(text));
    return etag[0] ? ERR_OK : ERR_CORRUPT;
}

static enum err time_of(struct bytes in, const char *name, uint64_t *ms)
{
    char text[TIME_BYTES];
    enum err e = optional(in, name, text, sizeof text);
    *ms = objstore_time_ms(text);
    return e;
}

static enum err is_truncated(struct bytes in, int *truncated)
{
    char text[NUMBER_BYTES];
    enum err e = optional(in, "IsTruncated", text, sizeof text);
    *truncated = strcmp(text, "true") == 0;
    return e;
}

/* Calls one for each child of that name. */
static enum err each(struct bytes in, const char *name, enum err (*one)(void *walk, struct bytes inner), void *walk)
{
    struct bytes child, inner;
    enum err e = ERR_OK;
    int more = 0;

    while (!e && (more = objxml_child(&in, &child, &inner)) > 0)
        if (bytes_equal(child, bytes_str(name)))
            e = one(walk, inner);
    return e ? e : more < 0 ? ERR_CORRUPT : ERR_OK;
}

int objstore_answer_error(struct bytes doc, struct objstore_said *out)
{
    struct bytes error, inner;
    char message[1024];

    memset(out, 0, sizeof *out);
    if (objxml_find(doc, "Error", &error) <= 0 || field(error, "Code", out->code, sizeof out->code))
        return 0;
    if (objxml_find(error, "Message", &inner) > 0 && objxml_text(inner, message, sizeof message) == ERR_OK)
        snprintf(out->message, sizeof out->message, "%.*s", (int)sizeof out->message - 1, message);
    return 1;
}

/* ---- listings ---- */

struct list_walk {
    enum err (*fn)(void *arg, const struct objstore_entry *e);
    void *arg;
};

static enum err list_one(void *walk, struct bytes in)
{
    const struct list_walk *w = walk;
    char key[OBJSTORE_KEY_MAX + 1], etag[OBJSTORE_ETAG_BYTES];
    struct objstore_entry entry = {.key = key, .etag = etag};

    if (needed(in, "Key", key, sizeof key) || etag_of(in, etag) || number(in, "Size", UINT64_MAX, &entry.bytes) ||
        time_of(in, "LastModified", &entry.modified_ms))
        return ERR_CORRUPT;
    return w->fn(w->arg, &entry);
}

enum err objstore_answer_list(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_entry *e), void *arg,
                              char token[OBJSTORE_MARKER_BYTES])
{
    struct list_walk walk = {.fn = fn, .arg = arg};
    struct bytes list;
    int truncated;
    enum err e;

    token[0] = 0;
    if (objxml_find(doc, "ListBucketResult", &list) <= 0 || is_truncated(list, &truncated))
        return ERR_CORRUPT;
    if (truncated && needed(list, "NextContinuationToken", token, OBJSTORE_MARKER_BYTES))
        return ERR_CORRUPT;
    e = each(list, "Contents", list_one, &walk);
    if (e)
        token[0] = 0;
    return e;
}

struct uploads_walk {
    enum err (*fn)(void *arg, const struct objstore_pending *p);
    void *arg;
};

static enum err uploads_one(void *walk, struct bytes in)
{
    const struct uploads_walk *w = walk;
    char key[OBJSTORE_KEY_MAX + 1], id[OBJSTORE_ID_BYTES];
    struct objstore_pending pending = {.key = key, .id = id};

    if (needed(in, "Key", key, sizeof key) || needed(in, "UploadId", id, sizeof id) ||
        time_of(in, "Initiated", &pending.begun_ms))
        return ERR_CORRUPT;
    return w->fn(w->arg, &pending);
}

enum err objstore_answer_uploads(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_pending *p),
                                 void *arg, struct objstore_behind *behind)
{
    struct uploads_walk walk = {.fn = fn, .arg = arg};
    struct bytes list;
    int truncated;
    enum err e;

    memset(behind, 0, sizeof *behind);
    if (objxml_find(doc, "ListMultipartUploadsResult", &list) <= 0 || is_truncated(list, &truncated))
        return ERR_CORRUPT;
    if (truncated && (needed(list, "NextKeyMarker", behind->key, sizeof behind->key) ||
                      optional(list, "NextUploadIdMarker", behind->id, sizeof behind->id)))
        e = ERR_CORRUPT;
    else
        e = each(list, "Upload", uploads_one, &walk);
    if (e)
        memset(behind, 0, sizeof *behind);
    return e;
}

struct parts_walk {
    enum err (*fn)(void *arg, const struct objstore_part *p);
    void *arg;
    unsigned last; /* number of the part before */
};

static enum err parts_one(void *walk, struct bytes in)
{
    struct parts_walk *w = walk;
    char etag[OBJSTORE_ETAG_BYTES];
    struct objstore_part part = {.etag = etag};
    uint64_t n;

    if (number(in, "PartNumber", OBJSTORE_PARTS_MAX, &n) || number(in, "Size", UINT64_MAX, &part.bytes) ||
        etag_of(in, etag) || n <= w->last)
        return ERR_CORRUPT;
    part.number = w->last = (unsigned)n;
    return w->fn(w->arg, &part);
}

enum err objstore_answer_parts(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_part *p), void *arg,
                               unsigned *behind)
{
    struct parts_walk walk = {.fn = fn, .arg = arg};
    struct bytes list;
    int truncated;
    enum err e;

    *behind = 0;
    if (objxml_find(doc, "ListPartsResult", &list) <= 0 || is_truncated(list, &truncated))
        return ERR_CORRUPT;
    e = each(list, "Part", parts_one, &walk);
    if (!e && truncated && !walk.last) /* more to come behind nothing: it would never end */
        e = ERR_CORRUPT;
    if (!e && truncated)
        *behind = walk.last;
    return e;
}

/* ---- small answers ---- */

enum err objstore_answer_begun(struct bytes doc, char id[OBJSTORE_ID_BYTES])
{
    struct bytes result;

    id[0] = 0;
    if (objxml_find(doc, "InitiateMultipartUploadResult", &result) <= 0)
        return ERR_CORRUPT;
    return needed(result, "UploadId", id, OBJSTORE_ID_BYTES);
}

enum err objstore_answer_completed(struct bytes doc, char etag[OBJSTORE_ETAG_BYTES])
{
    struct bytes result;

    char text[OBJSTORE_ETAG_BYTES + 2];

    etag[0] = 0;
    if (objxml_find(doc, "CompleteMultipartUploadResult", &result) <= 0 || optional(result, "ETag", text, sizeof text))
        return ERR_CORRUPT;
    objstore_etag(etag, bytes_str(text));
    return ERR_OK;
}

void objstore_etag(char out[OBJSTORE_ETAG_BYTES], struct bytes text)
{
    out[0] = 0;
    if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"')
        text = bytes_of(text.p + 1, text.n - 2);
    if (text.n >= OBJSTORE_ETAG_BYTES)
        return;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] <= ' ' || text.p[i] > '~' || text.p[i] == '"')
            return;
    if (text.n)
        memcpy(out, text.p, text.n);
    out[text.n] = 0;
}

uint64_t objstore_time_ms(const char *text)
{
    struct tm tm = {0};
    unsigned ms = 0;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (!rest)
        return 0;
    if (rest[0] == '.') {
        unsigned unit = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
            ms += (unsigned)(*rest - '0') * unit;
    }
    time_t s = timegm(&tm);
    return strcmp(rest, "Z") == 0 && s > 0 ? (uint64_t)s * 1000 + ms : 0;
}
