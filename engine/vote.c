/* vote.c - see vote.h. */
#include "engine/vote.h"

#include "base/crc32c.h"
#include "base/file.h"

#define FORMAT 1

static const char magic[8] = "COFFERVT";

void vote_put(uint8_t out[VOTE_BYTES], const struct vote_file *v)
{
    memset(out, 0, VOTE_BYTES);
    memcpy(out, magic, sizeof magic);
    put_le32(out + 8, FORMAT);
    put_le32(out + 12, v->vote.promised);
    out[16] = v->vote.promised_to;
    out[17] = v->vote.mute;
    put_le32(out + 18, (uint32_t)v->vote.held_lsn);
    put_le16(out + 22, (uint16_t)(v->vote.held_lsn >> 32));
    memcpy(out + 24, v->node_id, sizeof v->node_id);
    memcpy(out + 40, v->cell_id, sizeof v->cell_id);
    put_le32(out + 60, crc32c(0, out, 60));
}

enum err vote_get(struct bytes in, struct vote_file *v)
{
    memset(v, 0, sizeof *v);
    if (in.n != VOTE_BYTES || memcmp(in.p, magic, sizeof magic) != 0 || get_le32(in.p + 60) != crc32c(0, in.p, 60) ||
        get_le32(in.p + 8) != FORMAT)
        return ERR_CORRUPT;
    v->vote.promised = get_le32(in.p + 12);
    v->vote.promised_to = in.p[16];
    v->vote.mute = in.p[17];
    v->vote.held_lsn = get_le32(in.p + 18) | (uint64_t)get_le16(in.p + 22) << 32;
    memcpy(v->node_id, in.p + 24, sizeof v->node_id);
    memcpy(v->cell_id, in.p + 40, sizeof v->cell_id);
    return ERR_OK;
}

enum err vote_read(const char *path, const uint8_t cell_id[16], struct vote_file *v)
{
    struct buf b;
    memset(v, 0, sizeof *v);
    buf_init(&b, VOTE_BYTES + 1);
    enum err err = file_read_all(path, &b, VOTE_BYTES + 1);
    if (err == ERR_TOOBIG)
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        err = vote_get(buf_bytes(&b), v);
    if (err == ERR_OK && memcmp(v->cell_id, cell_id, sizeof v->cell_id) != 0)
        err = ERR_CORRUPT;
    buf_fini(&b);
    return err;
}

enum err vote_write(const char *path, const struct vote_file *v)
{
    uint8_t out[VOTE_BYTES];
    vote_put(out, v);
    return file_write_atomic(path, bytes_of(out, sizeof out), 0600);
}
