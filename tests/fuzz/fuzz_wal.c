/* fuzz_wal.c - libFuzzer over what reads the log: records, operations, a whole segment file and the verdict over it.
 *
 * The first byte of the input says what the rest is:
 *
 *     0   a record, or several                  record_get, ops_next
 *     1   a segment file, as it is              wal_scan_file, wal_scan_judge
 *     2   the same, after its CRCs were made to fit: random bytes do not pass a CRC, and what is behind it should be
 *         reached too
 *     3   the same, after the chains were made to fit as well
 *
 * Besides not crashing: whatever record_get accepts, record_put encodes to the same bytes; what a scan accepts adds up.
 */
#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "engine/ops.h"
#include "engine/wal_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_ops(struct bytes blob)
{
    struct op op;
    struct buf again;
    const uint8_t *begin = blob.p;
    enum err e;

    buf_init(&again, 64 << 20);
    while ((e = ops_next(&blob, &op)) == ERR_OK) {
        e = op.kind == OPS_PUT ? ops_put(&again, op.store, op.key, op.value) : ops_delete(&again, op.store, op.key);
        assert(e == ERR_OK);
    }
    assert(e == ERR_END || e == ERR_CORRUPT);
    assert(buf_size(&again) == (size_t)(blob.p - begin));
    assert(buf_size(&again) == 0 || memcmp(buf_data(&again), begin, buf_size(&again)) == 0);
    buf_fini(&again);
}

static void try_records(struct bytes in)
{
    static const uint8_t prev[RECORD_CHAIN_BYTES];
    struct record r;
    size_t used;
    enum err e;

    while ((e = record_get(in, &r, &used)) == ERR_OK) {
        struct buf again;
        struct bytes raw = bytes_of(in.p, used);
        int chains = record_chains(raw, prev);
        size_t same = chains ? used : used - RECORD_CHAIN_BYTES;
        assert(used <= in.n);
        try_ops(r.blob);
        buf_init(&again, 64 << 20);
        assert(record_put(&again, &r, prev) == ERR_OK);
        assert(buf_size(&again) == used);
        assert(memcmp(buf_data(&again) + 8, in.p + 8, same - 8) == 0); /* 4..7: the CRC, which covers the chain */
        buf_fini(&again);
        in.p += used;
        in.n -= used;
    }
    assert(used == 0 && (e == ERR_END || e == ERR_CORRUPT));
}

static void fix_record(uint8_t *p, size_t n, uint8_t *chain, int chains)
{
    struct buf scratch;
    struct record r;
    size_t used;

    put_le32(p + 4, crc32c(0, p + 8, n - 8));
    if (!chains || record_get(bytes_of(p, n), &r, &used) != ERR_OK || used != n)
        return;
    buf_init(&scratch, 64 << 20);
    assert(record_put(&scratch, &r, chain) == ERR_OK);
    memcpy(p, buf_data(&scratch), n);
    memcpy(chain, r.chain, RECORD_CHAIN_BYTES);
    buf_fini(&scratch);
}

/* Walks over the segment as its lengths say, and makes the checksums fit. */
static void fix_segment(uint8_t *p, size_t n, int chains)
{
    uint8_t chain[RECORD_CHAIN_BYTES];

    if (n < WAL_HEADER_BYTES)
        return;
    memcpy(p, "COFFERWL\1\0\0\0\x80\0\0\0", 16);
    put_le32(p + 124, crc32c(0, p, 124));
    memcpy(chain, p + 40, sizeof chain);
    uint32_t seed = wal_segment_seed(p + 72);
    for (size_t off = WAL_HEADER_BYTES; off + WAL_FOOTER_BYTES <= n;) {
        if (memcmp(p + off, "WBLF", 4) == 0)
            put_le32(p + off + 52, crc32c(seed, p + off, 52));
        if (memcmp(p + off, "WBLG", 4) != 0)
            return;
        put_le32(p + off + 12, crc32c(crc32c(seed, p + off, 12), p + off + 16, 8));
        uint32_t records = get_le32(p + off + 4);
        for (off += WAL_FRAME_BYTES; records && off + 4 <= n; records--) {
            size_t size = get_le32(p + off);
            if (size < RECORD_MIN_BYTES || size > n - off)
                return;
            fix_record(p + off, size, chain, chains);
            off += size;
        }
    }
}

static void check_scan(const struct wal_scan *s)
{
    if (s->header_err)
        return;
    assert(s->end_off >= WAL_HEADER_BYTES && s->end_off <= s->file_bytes);
    assert(s->last_lsn - (s->header.first_lsn - 1) == s->records);
    assert(s->part_lsn - (s->header.first_lsn - 1) >= s->records);
    assert(s->rest_off >= s->end_off && s->rest_off <= s->file_bytes);
    assert(s->rest_bytes <= s->file_bytes - s->rest_off);
    assert(!s->sealed || s->rest_off == s->end_off + WAL_FOOTER_BYTES);
}

static void try_segment(const uint8_t *data, size_t size)
{
    int fd = memfd_create("segment", MFD_CLOEXEC);
    struct wal_scan s;

    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    enum err e = wal_scan_file(&s, fd, size >= WAL_HEADER_BYTES ? get_le64(data + 32) : 1, NULL, NULL);
    assert(e == ERR_OK || e == ERR_OOM);
    if (!e) {
        struct wal_scan_set set = {.at = &s, .count = 1};
        struct wal_evidence known = {0};
        struct wal_verdict v;
        check_scan(&s);
        memcpy(known.cell_id, s.header.cell_id, sizeof known.cell_id);
        if (wal_scan_judge(&set, &known, &v) == ERR_OK)
            assert(v.damaged_lsn ? v.damaged_lsn == v.last_lsn + 1 : v.mark_lsn <= v.last_lsn);
        wal_terms_fini(&s.terms);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    int mode = data[0] & 3;
    uint8_t *copy = malloc(size);
    assert(copy);
    memcpy(copy, data + 1, size - 1);
    if (mode == 0) {
        try_records(bytes_of(copy, size - 1));
    } else {
        if (mode > 1)
            fix_segment(copy, size - 1, mode == 3);
        try_segment(copy, size - 1);
    }
    free(copy);
    return 0;
}
