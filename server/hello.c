/* hello.c - see hello.h. */
#include "server/hello.h"

#include <stdio.h>

#include "base/hex.h"
#include "base/sha256.h"
#include "resp/number.h"

static int is_dash(struct bytes word)
{
    return bytes_equal(word, bytes_str("-"));
}

/* ---- the nine words ---- */

void hello_put(const struct hello_node *h, char out[HELLO_TEXT_BYTES])
{
    char cell[33] = "-", realm[33], index[12] = "-";
    const char *states[] = {"-", "r", "m", "mr", "b", "br", "bm", "bmr"};
    hex_put(realm, h->realm, sizeof h->realm);
    if (h->has_cell)
        hex_put(cell, h->cell_id, sizeof h->cell_id);
    if (h->index >= 0)
        snprintf(index, sizeof index, "%d", h->index);
    snprintf(out, HELLO_TEXT_BYTES, "%s %llu %lu %s %s %s %s %s %s", h->replid[0] ? h->replid : "?",
             (unsigned long long)h->lsn, (unsigned long)h->term, h->run_id, cell, realm, h->voters, index,
             states[4 * !!h->blank + 2 * !!h->mute + !!h->ready]);
}

static int get_index(struct bytes word, int *out)
{
    int64_t n;
    *out = -1;
    if (is_dash(word))
        return 1;
    if (!number_parse(word, &n) || n < 0 || n >= CELL_VOTERS)
        return 0;
    *out = (int)n;
    return 1;
}

static int get_state(struct bytes word, struct hello_node *h)
{
    for (size_t i = 0; i < word.n; i++) {
        h->blank |= word.p[i] == 'b';
        h->mute |= word.p[i] == 'm';
        h->ready |= word.p[i] == 'r';
        if (!memchr("bmr-", word.p[i], 4))
            return 0;
    }
    return word.n > 0;
}

static int get_all(const struct bytes w[HELLO_WORDS], struct hello_node *h)
{
    int64_t lsn, term;
    if (!bytes_to_str(w[0], h->replid, sizeof h->replid) || !number_parse(w[1], &lsn) || lsn < 0 ||
        !number_parse(w[2], &term) || term < 0 || term > UINT32_MAX || !bytes_to_str(w[3], h->run_id, sizeof h->run_id))
        return 0;
    h->lsn = (uint64_t)lsn;
    h->term = (uint32_t)term;
    h->has_cell = !is_dash(w[4]);
    return (!h->has_cell || hex_get(w[4], h->cell_id, sizeof h->cell_id)) && hex_get(w[5], h->realm, sizeof h->realm) &&
           bytes_to_str(w[6], h->voters, sizeof h->voters) && get_index(w[7], &h->index) && get_state(w[8], h);
}

enum err hello_get(const struct bytes words[HELLO_WORDS], struct hello_node *h)
{
    *h = (struct hello_node){.index = -1};
    if (get_all(words, h))
        return ERR_OK;
    *h = (struct hello_node){0};
    return ERR_SYNTAX;
}

enum err hello_get_text(struct bytes text, struct hello_node *h)
{
    struct bytes words[HELLO_WORDS] = {{0}};
    for (unsigned i = 0; i < HELLO_WORDS; i++) {
        const uint8_t *end = text.n ? memchr(text.p, ' ', text.n) : NULL;
        words[i] = bytes_of(text.p, end && i + 1 < HELLO_WORDS ? (size_t)(end - text.p) : text.n);
        text = end ? bytes_of(end + 1, text.n - words[i].n - (words[i].n < text.n)) : bytes_of(NULL, 0);
    }
    return hello_get(words, h);
}

/* ---- who may talk to whom ---- */

static void say_ids(char why[HELLO_WHY_BYTES], const char *what, const uint8_t mine[16], const uint8_t theirs[16])
{
    char a[33], b[33];
    hex_put(a, mine, 16);
    hex_put(b, theirs, 16);
    snprintf(why, HELLO_WHY_BYTES, "%s: this node's is %s, the other's %s", what, a, b);
}

static int same_id(const uint8_t a[16], const uint8_t b[16])
{
    return bytes_equal(bytes_of(a, 16), bytes_of(b, 16));
}

static int voters_of(const char *list)
{
    int n = strcmp(list, "-") != 0;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

enum hello_verdict hello_judge(const struct hello_node *mine, const struct hello_node *theirs,
                               char why[HELLO_WHY_BYTES])
{
    why[0] = 0;
    if (strcmp(mine->run_id, theirs->run_id) == 0)
        snprintf(why, HELLO_WHY_BYTES, "that is this node itself");
    else if (!same_id(mine->realm, theirs->realm))
        say_ids(why, "another realm (docs/hsm.md: join-realm)", mine->realm, theirs->realm);
    else if (strcmp(mine->voters, theirs->voters) != 0)
        snprintf(why, HELLO_WHY_BYTES, "another list of voters: this node's is %s, the other's %s", mine->voters,
                 theirs->voters);
    else if (theirs->index >= voters_of(mine->voters))
        snprintf(why, HELLO_WHY_BYTES, "the other says that it is voter %d (from 0) of %s", theirs->index,
                 mine->voters);
    else if (mine->index >= 0 && mine->index == theirs->index)
        snprintf(why, HELLO_WHY_BYTES, "both say that they are voter %d (from 0) of %s", mine->index, mine->voters);
    if (why[0])
        return HELLO_REFUSED;
    if (!mine->ready || !theirs->ready)
        return HELLO_INTRODUCE;
    if (same_id(mine->cell_id, theirs->cell_id))
        return HELLO_WELCOME;
    if (strcmp(mine->voters, "-") == 0)
        return HELLO_STRANGER;
    say_ids(why, "another cell", mine->cell_id, theirs->cell_id);
    return HELLO_REFUSED;
}

void hello_replid(const uint8_t cell_id[16], uint32_t term, char out[HELLO_ID_CHARS + 1])
{
    uint8_t in[20], hash[SHA256_BYTES];
    memcpy(in, cell_id, 16);
    put_le32(in + 16, term);
    sha256_of(in, sizeof in, hash);
    hex_put(out, hash, HELLO_ID_CHARS / 2);
}
