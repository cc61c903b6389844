/* room.c - see room.h. */
#include "engine/room.h"

#include <sys/statvfs.h>

uint64_t room_free(const char *dir)
{
    struct statvfs st;
    return statvfs(dir, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : UINT64_MAX;
}
