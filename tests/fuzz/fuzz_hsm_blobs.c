/* Fuzz target for the parsers of what lies in logs and files and comes from clients: masked objects, ciphertexts,
 * partition configs, realm files, names of tokens. The first byte of the input chooses the parser; what it accepts must
 * lie within the input and add up to it. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "hsm/ciphertext.h"
#include "hsm/masked.h"
#include "hsm/partition.h"
#include "hsm/realm.h"
#include "hsm/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct bytes part, struct bytes in)
{
    assert(part.n == 0 || (part.p >= in.p && part.p + part.n <= in.p + in.n));
}

static void try_masked(struct bytes in)
{
    struct masked m;
    uint8_t head[MASKED_KEY_HEADER];

    if (masked_parse(in, &m) != ERR_OK)
        return;
    within(m.public_der, in);
    within(m.wrapped, in);
    within(m.mac, in);
    assert(MASKED_OVERHEAD + m.public_der.n + m.wrapped.n == in.n && m.mac.n == MASKED_MAC);
    masked_put_head(head, &m.head);
    assert(bytes_equal(bytes_of(head, sizeof head), bytes_of(in.p, sizeof head)));
}

static void try_ciphertext(struct bytes in)
{
    struct ciphertext c;
    uint8_t head[CIPHERTEXT_HEADER];

    if (ciphertext_get_request(in, &c) == ERR_OK)
        assert(in.n == CIPHERTEXT_HEADER && c.cipher == CIPHER_ANY);
    if (ciphertext_parse(in, &c) != ERR_OK)
        return;
    within(c.nonce, in);
    within(c.body, in);
    assert(c.header.n + c.nonce.n + c.body.n == in.n);
    ciphertext_put_header(head, c.cipher, c.id, c.version);
    assert(bytes_equal(bytes_of(head, sizeof head), c.header));
}

static void try_config(struct bytes in)
{
    struct partition_config c;

    if (partition_parse(in, &c) != ERR_OK)
        return;
    for (unsigned r = 0; r < PARTITION_ROLES; r++)
        within(c.wrapped[r], in);
    within(c.mac, in);
}

static void try_realm(struct bytes in)
{
    struct realm_info info;

    if (realm_parse(in, &info) == ERR_OK)
        assert(in.n == REALM_FILE_BYTES);
}

static void try_name(struct bytes in)
{
    struct token_name n;

    if (token_name_parse(in, &n) == ERR_OK)
        assert(strlen(n.label) < sizeof n.label && (n.label[0] || n.serial[0] || n.manufacturer[0] || n.model[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parsers[])(struct bytes) = {try_masked, try_ciphertext, try_config, try_realm, try_name};
    uint8_t *p;

    if (size == 0)
        return 0;
    p = malloc(size);
    assert(p);
    memcpy(p, data + 1, size - 1);
    parsers[data[0] % 5](bytes_of(p, size - 1));
    free(p);
    return 0;
}
