/* Fuzz target for engine/objstore_answer.c and objstore_xml.c, and for the credentials file: any bytes, as each kind of
 * answer. What is handed out must be text that fits; text that was read must be the same after it was escaped and read
 * again; and elements must lie inside of their document. The first byte chooses the kind. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/objstore_answer.h"
#include "engine/objstore_credentials.h"
#include "engine/objstore_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t room)
{
    assert(memchr(text, 0, room));
}

static void check_etag(const char *etag)
{
    check_text(etag, OBJSTORE_ETAG_BYTES);
    for (; *etag; etag++)
        assert(*etag > ' ' && *etag <= '~' && *etag != '"');
}

static enum err on_entry(void *arg, const struct objstore_entry *e)
{
    (void)arg;
    check_text(e->key, OBJSTORE_KEY_MAX + 1);
    check_etag(e->etag);
    assert(e->key[0] && e->etag[0]);
    return e->bytes == 7 ? ERR_END : ERR_OK;
}

static enum err on_upload(void *arg, const struct objstore_pending *p)
{
    (void)arg;
    check_text(p->key, OBJSTORE_KEY_MAX + 1);
    check_text(p->id, OBJSTORE_ID_BYTES);
    assert(p->key[0] && p->id[0]);
    return ERR_OK;
}

static enum err on_part(void *arg, const struct objstore_part *p)
{
    unsigned *last = arg;
    check_etag(p->etag);
    assert(p->number > *last && p->number <= OBJSTORE_PARTS_MAX);
    *last = p->number;
    return ERR_OK;
}

static void as_listing(struct bytes doc)
{
    char token[OBJSTORE_MARKER_BYTES];
    enum err e = objstore_answer_list(doc, on_entry, NULL, token);
    check_text(token, sizeof token);
    assert(!e || !token[0]);
}

static void as_uploads(struct bytes doc)
{
    struct objstore_behind behind;
    enum err e = objstore_answer_uploads(doc, on_upload, NULL, &behind);
    check_text(behind.key, sizeof behind.key);
    check_text(behind.id, sizeof behind.id);
    assert(!e || !behind.key[0]);
}

static void as_parts(struct bytes doc)
{
    unsigned last = 0, behind;
    enum err e = objstore_answer_parts(doc, on_part, &last, &behind);
    assert(behind == 0 || (!e && behind == last));
}

static void as_small_answers(struct bytes doc)
{
    struct objstore_said said;
    char id[OBJSTORE_ID_BYTES], etag[OBJSTORE_ETAG_BYTES];

    objstore_answer_error(doc, &said);
    check_text(said.code, sizeof said.code);
    check_text(said.message, sizeof said.message);
    assert((objstore_answer_begun(doc, id) == ERR_OK) == (id[0] != 0));
    assert(objstore_answer_completed(doc, etag) == ERR_OK || !etag[0]);
    check_etag(etag);
    objstore_etag(etag, doc);
    check_etag(etag);
}

static void as_text(struct bytes doc)
{
    char text[4096], again[4096];
    struct buf escaped;

    enum err e = objxml_text(doc, text, sizeof text);
    check_text(text, sizeof text);
    objstore_time_ms(text);
    assert(!e || !text[0]);
    buf_init(&escaped, SIZE_MAX);
    assert(objxml_put_text(&escaped, text) == ERR_OK);
    assert(objxml_text(buf_bytes(&escaped), again, sizeof again) == ERR_OK);
    assert(strcmp(text, again) == 0);
    buf_fini(&escaped);
}

static void as_elements(struct bytes doc, int depth)
{
    struct bytes rest = doc, name, inner;

    while (objxml_child(&rest, &name, &inner) > 0) {
        assert(name.n && name.p >= doc.p && name.p + name.n <= doc.p + doc.n);
        assert(inner.n == 0 || (inner.p >= doc.p && inner.p + inner.n <= doc.p + doc.n));
        assert(rest.n < doc.n);
        if (depth)
            as_elements(inner, depth - 1);
    }
}

static void as_credentials(struct bytes doc)
{
    struct objstore_credentials c;
    const char *why;
    enum err e = objstore_credentials_parse(doc, &c, &why);

    check_text(c.access, sizeof c.access);
    check_text(c.secret, sizeof c.secret);
    assert(e ? why[0] && !c.access[0] && !c.secret[0] : !why[0] && c.access[0] && c.secret[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 16384)
        return 0;
    uint8_t *copy = malloc(size - 1 ? size - 1 : 1); /* of just this size, so that a byte beyond it shows */
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    struct bytes doc = bytes_of(copy, size - 1);
    switch (data[0] % 7) {
    case 0:
        as_listing(doc);
        break;
    case 1:
        as_uploads(doc);
        break;
    case 2:
        as_parts(doc);
        break;
    case 3:
        as_small_answers(doc);
        break;
    case 4:
        as_text(doc);
        break;
    case 5:
        as_elements(doc, 5);
        break;
    case 6:
        as_credentials(doc);
        break;
    }
    free(copy);
    return 0;
}
