/* storedir.c - see storedir.h. */
#include "engine/storedir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/storecheck.h"

void storedir_name(char out[STOREDIR_NAME_BYTES], unsigned store, uint32_t generation, int unfinished)
{
    char first[20] = "base", number[16] = "";
    if (store)
        snprintf(first, sizeof first, "shard-%u", store - 1);
    if (generation)
        snprintf(number, sizeof number, ".%u", (unsigned)generation);
    snprintf(out, STOREDIR_NAME_BYTES, "%s%s%s", first, number, unfinished ? ".new" : "");
}

/* 1 when it is one of our names: exactly as storedir_name writes it. */
static int parse(const char *name, unsigned *store, uint32_t *generation, int *unfinished)
{
    char again[STOREDIR_NAME_BYTES];
    unsigned n = 0, g = 0;
    size_t length = strlen(name);

    *unfinished = length > 4 && strcmp(name + length - 4, ".new") == 0;
    if (strncmp(name, "base", 4) == 0) {
        *store = 0;
        sscanf(name, "base.%u", &g);
    } else if (sscanf(name, "shard-%u.%u", &n, &g) >= 1) {
        *store = n + 1;
    } else {
        return 0;
    }
    *generation = g;
    storedir_name(again, *store, g, *unfinished);
    return strcmp(again, name) == 0;
}

static enum err remove_others(const char *dir, char **names, size_t count, const uint32_t *generation,
                              unsigned store_count)
{
    char path[STORECHECK_PATH_BYTES];
    unsigned store;
    uint32_t g;
    int unfinished;
    enum err e = ERR_OK;

    for (size_t i = 0; i < count && !e; i++) {
        if (!parse(names[i], &store, &g, &unfinished) || store >= store_count ||
            (!unfinished && g == generation[store]))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        e = storedir_remove(path);
    }
    return e;
}

enum err storedir_tidy(const char *dir, uint32_t *generation, unsigned store_count)
{
    char **names;
    size_t count;
    unsigned store;
    uint32_t g;
    int unfinished;

    memset(generation, 0, store_count * sizeof *generation);
    enum err e = file_list(dir, &names, &count);
    if (e)
        return e;
    for (size_t i = 0; i < count; i++)
        if (parse(names[i], &store, &g, &unfinished) && store < store_count && !unfinished && g > generation[store])
            generation[store] = g;
    e = remove_others(dir, names, count, generation, store_count);
    file_free_names(names, count);
    return e;
}

enum err storedir_any(const char *dir, int *any)
{
    char **names;
    size_t count;
    unsigned store;
    uint32_t g;
    int unfinished;

    *any = 0;
    enum err e = file_list(dir, &names, &count);
    if (e)
        return e;
    for (size_t i = 0; i < count; i++)
        *any |= parse(names[i], &store, &g, &unfinished) && !unfinished;
    file_free_names(names, count);
    return ERR_OK;
}

enum err storedir_remove(const char *path)
{
    char file[STORECHECK_PATH_BYTES], **names;
    size_t count;
    enum err e = file_list(path, &names, &count);

    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = 0; i < count && !e; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        e = file_unlink(file);
        if (e == ERR_NOTFOUND)
            e = ERR_OK;
    }
    file_free_names(names, count);
    return e ? e : file_rmdir(path);
}
