/* Fuzz target for what comes back from an object store before any key has been asked: headers of containers, manifests,
 * names. The first byte chooses. What is accepted must be written again as the same bytes: one spelling each. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "engine/snapmanifest.h"
#include "hsm/box.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The CRC is made to fit, else nothing behind it would be reached; what it is worth, the other way finds. */
static void as_header(struct bytes in, int fix)
{
    uint8_t header[BOX_HEADER_BYTES], again[BOX_HEADER_BYTES];
    struct box_head h;
    uint64_t chunks, last;

    if (in.n < sizeof header)
        return;
    memcpy(header, in.p, sizeof header);
    if (fix)
        put_le32(header + 252, crc32c(0, header, 252));
    if (box_get_header(header, &h) != ERR_OK)
        return;
    box_put_header(again, &h);
    assert(bytes_equal(bytes_of(header, sizeof header), bytes_of(again, sizeof again)));
    chunks = box_chunks(&h);
    assert(chunks >= 1 && box_bytes(&h) > h.bytes);
    assert(box_chunk_off(&h, 0) == BOX_HEADER_BYTES && box_chunk_off(&h, chunks) == box_bytes(&h));
    last = box_bytes(&h) - box_chunk_off(&h, chunks - 1);
    assert(last >= BOX_TAG_BYTES && last <= h.chunk_bytes + BOX_TAG_BYTES);
}

/* A signer that signs anything as it is signed already. */
static enum err same(void *arg, struct bytes in, uint8_t out[32])
{
    (void)in;
    memcpy(out, arg, 32);
    return ERR_OK;
}

static void as_manifest(struct bytes in)
{
    struct snapmanifest m, other;
    uint8_t hmac[32];
    struct snap_signer signer = {.sign = same, .arg = hmac};
    struct buf again;

    if (snapmanifest_get(in, &m) != ERR_OK) {
        assert(!m.bytes && !m.object.node[0]);
        return;
    }
    memcpy(hmac, m.hmac, sizeof hmac);
    assert(snapmanifest_open(in, &m.object, &signer, &other) == ERR_OK);
    assert(bytes_equal(bytes_of(&m, sizeof m), bytes_of(&other, sizeof other)));
    buf_init(&again, SNAPMANIFEST_BYTES_MAX);
    assert(snapmanifest_put(&again, &m, &signer) == ERR_OK);
    assert(bytes_equal(in, buf_bytes(&again)));
    buf_fini(&again);
}

/* "prefix NUL name". */
static void as_name(struct bytes in)
{
    char *text = malloc(in.n + 1), again[SNAPOBJECT_NAME_BYTES];
    const char *name;
    struct snapobject o;
    enum snapobject_kind kind;

    assert(text);
    if (in.n)
        memcpy(text, in.p, in.n);
    text[in.n] = '\0';
    name = strlen(text) < in.n ? text + strlen(text) + 1 : "";
    if (snapobject_parse(name, text, &o, &kind)) {
        assert(snapobject_node_valid(bytes_str(o.node)));
        assert(snapobject_name(again, text, &o, kind) == ERR_OK && strcmp(name, again) == 0);
    } else {
        assert(!o.node[0]);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;
    struct bytes in;

    if (size < 1 || size > 4096)
        return 0;
    copy = malloc(size); /* of just this size, so that a byte beyond it shows */
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    in = bytes_of(copy, size - 1);
    switch (data[0] % 4) {
    case 0:
        as_header(in, 0);
        break;
    case 1:
        as_header(in, 1);
        break;
    case 2:
        as_manifest(in);
        break;
    case 3:
        as_name(in);
        break;
    }
    free(copy);
    return 0;
}
