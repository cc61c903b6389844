/* cellwire.c - see cellwire.h. */
#include "engine/cellwire.h"

#include "base/crc32c.h"

enum { GRANTED = 1, FULL = 2, MUTE = 4, RESERVED = 8, HOPS_SHIFT = 4 };
_Static_assert(CELL_HOPS == 15, "hops have four bits");

static void put_point(uint8_t *p, const struct cell_point *at)
{
    put_le64(p, at->lsn);
    put_le32(p + 8, at->term);
    put_le32(p + 12, 0);
    memcpy(p + 16, at->chain, RECORD_CHAIN_BYTES);
}

static struct cell_point get_point(const uint8_t *p)
{
    struct cell_point at = {.lsn = get_le64(p), .term = get_le32(p + 8)};
    memcpy(at.chain, p + 16, RECORD_CHAIN_BYTES);
    return at;
}

void cellwire_put(uint8_t out[CELLWIRE_HEAD_BYTES], const struct cell_msg *m, uint32_t record_bytes)
{
    memset(out, 0, CELLWIRE_HEAD_BYTES);
    put_le32(out + 4, record_bytes);
    out[8] = (uint8_t)m->type;
    out[9] =
        (uint8_t)((m->granted ? GRANTED : 0) | (m->full ? FULL : 0) | (m->mute ? MUTE : 0) | m->hops << HOPS_SHIFT);
    out[10] = m->leader;
    out[11] = m->why;
    put_le32(out + 12, m->promised);
    put_le32(out + 16, m->term);
    put_le32(out + 20, m->age_ms);
    put_le64(out + 24, m->session);
    put_le64(out + 32, m->config_id);
    put_le64(out + 40, m->first);
    put_le64(out + 48, m->last);
    put_le64(out + 56, m->commit);
    put_le64(out + 64, m->seq);
    put_le64(out + 72, m->lsn);
    put_point(out + 80, &m->at);
    put_point(out + 128, &m->want);
    put_point(out + 176, &m->end);
    put_le32(out, crc32c(0, out + 4, CELLWIRE_HEAD_BYTES - 4));
}

enum err cellwire_get(const uint8_t in[CELLWIRE_HEAD_BYTES], struct cell_msg *m, uint32_t *record_bytes)
{
    memset(m, 0, sizeof *m);
    *record_bytes = get_le32(in + 4);
    if (get_le32(in) != crc32c(0, in + 4, CELLWIRE_HEAD_BYTES - 4) || in[8] >= CELL_MSG_TYPES || in[9] & RESERVED ||
        *record_bytes > CELLWIRE_RECORDS_MAX || (*record_bytes && in[8] != CELL_RECORDS))
        return ERR_CORRUPT;
    *m = (struct cell_msg){
        .type = in[8],
        .granted = !!(in[9] & GRANTED),
        .full = !!(in[9] & FULL),
        .mute = !!(in[9] & MUTE),
        .hops = in[9] >> HOPS_SHIFT,
        .leader = in[10],
        .why = in[11],
        .promised = get_le32(in + 12),
        .term = get_le32(in + 16),
        .age_ms = get_le32(in + 20),
        .session = get_le64(in + 24),
        .config_id = get_le64(in + 32),
        .first = get_le64(in + 40),
        .last = get_le64(in + 48),
        .commit = get_le64(in + 56),
        .seq = get_le64(in + 64),
        .lsn = get_le64(in + 72),
        .at = get_point(in + 80),
        .want = get_point(in + 128),
        .end = get_point(in + 176),
    };
    return ERR_OK;
}

int cellwire_records(const struct cell_msg *m, struct bytes records, struct cell_point *end)
{
    *end = m->at;
    if (m->first > m->last)
        return records.n == 0;
    if (m->first != m->at.lsn + 1)
        return 0;
    for (uint64_t lsn = m->first; lsn <= m->last; lsn++) {
        struct record r;
        size_t used;
        if (record_get(records, &r, &used) != ERR_OK || r.lsn != lsn || r.term < end->term ||
            !record_chains(bytes_of(records.p, used), end->chain))
            return 0;
        *end = (struct cell_point){.lsn = lsn, .term = r.term};
        memcpy(end->chain, r.chain, RECORD_CHAIN_BYTES);
        bytes_take(&records, used, &(struct bytes){0});
    }
    return records.n == 0;
}
