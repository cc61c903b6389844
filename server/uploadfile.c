/* uploadfile.c - see uploadfile.h. */
#include "server/uploadfile.h"

#include "base/crc32c.h"
#include "base/file.h"

static const char magic[8] = {'C', 'O', 'F', 'F', 'E', 'R', 'U', 'P'};

enum { FORMAT = 1, AT_FORMAT = 8, AT_HEADER = 12, AT_NODE = 268, AT_ID = 333, AT_ZEROS = 845, AT_CRC = 848 };
_Static_assert(AT_NODE == AT_HEADER + BOX_HEADER_BYTES, "as in uploadfile.h");
_Static_assert(AT_ID == AT_NODE + SNAPOBJECT_NODE_BYTES && AT_ZEROS == AT_ID + OBJSTORE_ID_BYTES, "as in uploadfile.h");

void uploadfile_put(uint8_t out[UPLOADFILE_BYTES], const struct uploadfile *u)
{
    memset(out, 0, UPLOADFILE_BYTES);
    memcpy(out, magic, sizeof magic);
    put_le32(out + AT_FORMAT, FORMAT);
    box_put_header(out + AT_HEADER, &u->head);
    memcpy(out + AT_NODE, u->node, strnlen(u->node, sizeof u->node - 1));
    memcpy(out + AT_ID, u->id, strnlen(u->id, sizeof u->id - 1));
    put_le32(out + AT_CRC, crc32c(0, out, AT_CRC));
}

enum err uploadfile_get(struct bytes in, struct uploadfile *u)
{
    memset(u, 0, sizeof *u);
    if (in.n != UPLOADFILE_BYTES || !bytes_equal(bytes_of(in.p, sizeof magic), bytes_of(magic, sizeof magic)) ||
        get_le32(in.p + AT_FORMAT) != FORMAT || get_le32(in.p + AT_CRC) != crc32c(0, in.p, AT_CRC) ||
        box_get_header(in.p + AT_HEADER, &u->head)) {
        memset(u, 0, sizeof *u);
        return ERR_CORRUPT;
    }
    memcpy(u->node, in.p + AT_NODE, sizeof u->node - 1);
    memcpy(u->id, in.p + AT_ID, sizeof u->id - 1);
    return ERR_OK;
}

enum err uploadfile_load(const char *path, struct uploadfile *u)
{
    struct buf b;

    memset(u, 0, sizeof *u);
    buf_init(&b, 2 * UPLOADFILE_BYTES);
    enum err e = file_read_all(path, &b, UPLOADFILE_BYTES + 1);
    if (e == ERR_OK)
        e = uploadfile_get(buf_bytes(&b), u);
    buf_fini(&b);
    return e == ERR_TOOBIG ? ERR_CORRUPT : e;
}

enum err uploadfile_save(const char *path, const struct uploadfile *u)
{
    uint8_t bytes[UPLOADFILE_BYTES];

    uploadfile_put(bytes, u);
    return file_write_atomic(path, bytes_of(bytes, sizeof bytes), 0600);
}
