/* statefile.c - see statefile.h. */
#include "engine/statefile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

static const char *path_of(const char *dir, char path[4096])
{
    snprintf(path, 4096, "%s/state", dir);
    return path;
}

void statefile_boot(char out[STATEFILE_BOOT_BYTES])
{
    struct buf b;
    const char *test = getenv("COFFER_TEST_BOOT_ID"); /* tests play a power loss with it */
    buf_init(&b, 256);
    snprintf(out, STATEFILE_BOOT_BYTES, "%s", test ? test : "unknown");
    if (!test && file_read_all("/proc/sys/kernel/random/boot_id", &b, 128) == ERR_OK && buf_size(&b) >= 36)
        snprintf(out, STATEFILE_BOOT_BYTES, "%.36s", (const char *)buf_data(&b));
    buf_fini(&b);
}

void statefile_read(const char *dir, char was[STATEFILE_BOOT_BYTES], int *same_boot, int *clean)
{
    struct buf text;
    char path[4096], now[STATEFILE_BOOT_BYTES], closed[8];
    snprintf(was, STATEFILE_BOOT_BYTES, "unknown");
    buf_init(&text, 4096);
    statefile_boot(now);
    if (file_read_all(path_of(dir, path), &text, 4000) == ERR_OK && buf_put_u8(&text, 0) == ERR_OK &&
        sscanf((const char *)buf_data(&text), "boot %63s\nclean %7s\n", was, closed) == 2) {
        *same_boot = strcmp(now, was) == 0 && strcmp(now, "unknown") != 0;
        *clean = strcmp(closed, "yes") == 0;
    }
    buf_fini(&text);
}

enum err statefile_write(const char *dir, const char *boot, int clean)
{
    char path[4096], text[128];
    snprintf(text, sizeof text, "boot %s\nclean %s\n", boot, clean ? "yes" : "no");
    return file_write_atomic(path_of(dir, path), bytes_str(text), 0600);
}
