/* err.c - the rows of err.tbl.h as arrays. */
#include "base/err.h"

#include <assert.h>

static const struct {
    const char *name, *prefix, *text;
    int retry;
} rows[ERR_COUNT_] = {
    [ERR_OK] = {"OK", "OK", "OK", 0},
#define ERR(name, prefix, retry, text) [ERR_##name] = {#name, prefix, text, retry},
#include "base/err.tbl.h"
#undef ERR
};

const char *err_prefix(enum err e)
{
    assert((unsigned)e < ERR_COUNT_);
    return rows[e].prefix;
}

const char *err_text(enum err e)
{
    assert((unsigned)e < ERR_COUNT_);
    return rows[e].text;
}

const char *err_name(enum err e)
{
    assert((unsigned)e < ERR_COUNT_);
    return rows[e].name;
}

int err_retryable(enum err e)
{
    assert((unsigned)e < ERR_COUNT_);
    return rows[e].retry;
}
