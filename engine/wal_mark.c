/* wal_mark.c - see wal_mark.h.
 *
 * The two slots are written in turn. A process killed in the middle of a store leaves the other slot, one group older;
 * the kernel may write the page to disk at any moment, with the same outcome. Both slots lie in one sector, but nothing
 * here counts on that: each has its CRC.
 *
 * A mark that is too low costs sharpness (what is damage may pass for a torn tail), one that is too high would make a
 * sound log look damaged. It cannot be too high: it is stored after the fdatasync that it tells of, and before records
 * are cut off (wal_cut) it is lowered, in both slots, and synced.
 *
 * Rejected: a pwrite a group instead of the mapping (the price of a system call beside an fdatasync is nothing, but the
 * inode's lock is not: it is held while the helper's fdatasync runs); one slot (torn by a kill); believing the file
 * only in the boot that wrote it (a mark found after a power loss reached the disk, so it is as true as a synced one).
 */
#include "engine/wal_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/fault.h"
#include "base/file.h"

#define SLOT_BYTES 32
#define SLOT_MAGIC 0x4D4C4257u /* "WBLM" */
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

static const char *test_boot;

void wal_mark_test_set_boot(const char *text)
{
    test_boot = text;
}

/* Which boot this is; 0 when the kernel does not tell (no /proc): then no mark is ever of this boot, which costs
 * nothing but the remark in the report. */
static uint64_t boot_hash(void)
{
    struct buf text;
    uint8_t hash[EVP_MAX_MD_SIZE];
    uint64_t boot = 0;

    buf_init(&text, 128);
    enum err e = test_boot ? buf_put(&text, test_boot, strlen(test_boot)) : file_read_all(BOOT_ID_PATH, &text, 128);
    if (!e && EVP_Digest(buf_data(&text), buf_size(&text), hash, NULL, EVP_sha256(), NULL))
        boot = get_le64(hash);
    buf_fini(&text);
    return boot;
}

static int get_slot(const struct wal_mark *m, const uint8_t *p, uint64_t *boot, uint64_t *lsn, uint64_t *sequence)
{
    if (get_le32(p) != SLOT_MAGIC || crc32c(m->seed, p + 8, SLOT_BYTES - 8) != get_le32(p + 4))
        return 0;
    *boot = get_le64(p + 8);
    *lsn = get_le64(p + 16);
    *sequence = get_le64(p + 24);
    return 1;
}

static void put_slot(struct wal_mark *m, uint64_t lsn)
{
    uint8_t slot[SLOT_BYTES];

    m->sequence++;
    put_le32(slot, SLOT_MAGIC);
    put_le64(slot + 8, m->boot);
    put_le64(slot + 16, lsn);
    put_le64(slot + 24, m->sequence);
    put_le32(slot + 4, crc32c(m->seed, slot + 8, SLOT_BYTES - 8));
    memcpy(m->map + (m->sequence & 1) * SLOT_BYTES, slot, SLOT_BYTES);
    atomic_signal_fence(memory_order_seq_cst); /* one slot after the other, also to a signal that kills */
}

static void read_slots(struct wal_mark *m, const uint8_t *p, uint64_t *lsn, int *this_boot)
{
    for (int i = 0; i < 2; i++) {
        uint64_t boot, slot_lsn, sequence;
        if (!get_slot(m, p + i * SLOT_BYTES, &boot, &slot_lsn, &sequence) || sequence <= m->sequence)
            continue;
        m->sequence = sequence;
        *lsn = slot_lsn;
        *this_boot = boot == m->boot && boot != 0;
    }
}

/* Makes a new file 64 zeros that are on the disk: a store into a hole would need a block at a time nobody looks. */
static enum err make_whole(int fd, const char *dir)
{
    uint8_t zeros[WAL_MARK_BYTES] = {0};
    enum err e = file_pwrite(fd, zeros, sizeof zeros, 0);
    if (!e)
        e = file_fsync(fd);
    return e ? e : file_sync_dir(dir);
}

/* What is on the disk, not what the page cache holds: as for the segments. */
static enum err read_synced(struct wal_mark *m, uint8_t out[WAL_MARK_BYTES])
{
    size_t got;
    enum err e = file_fdatasync(m->fd);
    if (e)
        return e;
    (void)posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED); /* advice; what it cannot drop is read from memory */
    e = file_pread(m->fd, out, WAL_MARK_BYTES, 0, &got);
    return e ? e : got == WAL_MARK_BYTES ? ERR_OK : ERR_IO;
}

static enum err map_file(struct wal_mark *m)
{
    if (fault_hit(FAULT_FILE))
        return ERR_IO;
    void *map = mmap(NULL, WAL_MARK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    if (map == MAP_FAILED)
        return errno == ENOMEM ? ERR_OOM : ERR_IO;
    m->map = map;
    return ERR_OK;
}

static enum err lock_file(int fd)
{
    if (fault_hit(FAULT_FILE))
        return ERR_IO;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return ERR_OK;
    return errno == EWOULDBLOCK ? ERR_AGAIN : ERR_IO;
}

enum err wal_mark_open(struct wal_mark *m, const char *dir, const uint8_t cell_id[16], uint64_t *lsn, int *this_boot)
{
    char path[PATH_MAX];
    uint8_t slots[WAL_MARK_BYTES];
    uint64_t size;

    *m = (struct wal_mark){.fd = -1, .seed = crc32c(0, cell_id, 16), .boot = boot_hash()};
    *lsn = 0;
    *this_boot = 0;
    int n = snprintf(path, sizeof path, "%s/mark", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return ERR_IO;
    enum err e = file_open(path, O_RDWR | O_CREAT, 0600, &m->fd);
    if (!e)
        e = lock_file(m->fd);
    if (!e)
        e = file_size(m->fd, &size);
    if (!e && size < WAL_MARK_BYTES)
        e = make_whole(m->fd, dir);
    if (!e)
        e = read_synced(m, slots);
    if (!e)
        e = map_file(m);
    if (e)
        wal_mark_close(m);
    else
        read_slots(m, slots, lsn, this_boot);
    return e;
}

void wal_mark_close(struct wal_mark *m)
{
    if (m->map)
        munmap(m->map, WAL_MARK_BYTES);
    m->map = NULL;
    (void)!file_close(m->fd); /* nothing is lost with it: what counts was synced, and that was checked */
    m->fd = -1;
}

int wal_mark_store(struct wal_mark *m, uint64_t lsn)
{
    put_slot(m, lsn);
    return !atomic_exchange(&m->dirty, 1);
}

void wal_mark_store_both(struct wal_mark *m, uint64_t lsn)
{
    put_slot(m, lsn);
    put_slot(m, lsn);
    atomic_store(&m->dirty, 1);
}

enum err wal_mark_sync(struct wal_mark *m)
{
    atomic_store(&m->dirty, 0); /* before the sync: a store that comes between the two is synced next time */
    return file_fdatasync(m->fd);
}
