/* p11.c - loading a PKCS#11 module, and one wrapper for each of its calls.
 *
 * The wrappers are made from p11.tbl.h. All go through note(), which is the only place that turns a CK_RV into an enum
 * err and remembers what went wrong: the ladder in ops.c needs the first failure of a request, not the one of its
 * clean-up, so later failures are only counted.
 *
 * Failure modes: the module may be missing, not be a module, or be a file that someone else can write (it would get the
 * PIN); C_Initialize may fail for want of a configuration. A function pointer may be NULL in old modules: that is
 * CKR_FUNCTION_NOT_SUPPORTED. A return value we do not know is treated like device trouble, because a fresh worker is
 * the only remedy that fits everything.
 *
 * Rejected: p11-kit's proxy and its RPC (they pass only mechanisms they can serialise: no AES-GCM, no key wrap);
 * opening and closing a session per operation (closing costs as much as there are handles); CKF_OS_LOCKING_OK (one
 * thread per worker, and the module's locks are what makes two threads slower than one).
 */
#include "hsm/p11.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct call_row {
    const char *name;
    enum err bad;
    int doubt;
};

static const struct call_row calls[P11_CALLS] = {
#define CALL(name, bad, doubt, parameters, arguments) [P11_CALL_##name] = {"C_" #name, ERR_##bad, doubt},
#include "hsm/p11.tbl.h"
#undef CALL
};

static const struct {
    CK_RV rv;
    const char *name;
    enum p11_policy policy;
} values[] = {
#define RV(name, policy) {CKR_##name, "CKR_" #name, policy},
#include "hsm/p11.tbl.h"
#undef RV
};

const struct p11_mech_row p11_mechs[MECHS] = {
#define MECH(id, type, needed) [MECH_##id] = {#id, type, needed},
#include "hsm/p11.tbl.h"
#undef MECH
};

/* What a policy means as enum err, where that does not depend on the call. */
static const enum err policy_err[] = {
    [P11_SESSION] = ERR_HSMDOWN, [P11_LOGIN] = ERR_HSMDOWN,      [P11_DROP] = ERR_HSMDOWN, [P11_WORKER] = ERR_HSMDOWN,
    [P11_PIN] = ERR_WRONGPASS,   [P11_ABSENT] = ERR_UNSUPPORTED, [P11_BUG] = ERR_INTERNAL,
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum p11_policy p11_rv_policy(CK_RV rv)
{
    for (size_t i = 0; i < COUNT(values); i++) {
        if (values[i].rv == rv)
            return values[i].policy;
    }
    return P11_WORKER;
}

const char *p11_rv_name(CK_RV rv, char spare[24])
{
    for (size_t i = 0; i < COUNT(values); i++) {
        if (values[i].rv == rv)
            return values[i].name;
    }
    snprintf(spare, 24, "CKR_0x%lx", rv);
    return spare;
}

const char *p11_call_name(enum p11_call c)
{
    return calls[c].name;
}

static enum err result_of(enum p11_call c, enum p11_policy policy)
{
    if (policy == P11_FINE)
        return ERR_OK;
    if (policy == P11_DATA)
        return calls[c].bad;
    if (policy == P11_DOUBT)
        return calls[c].doubt ? calls[c].bad : ERR_HSMDOWN;
    return policy_err[policy];
}

static enum err note(struct p11 *m, enum p11_call c, CK_RV rv)
{
    enum p11_policy policy;

    m->calls[c]++;
    if (rv == CKR_OK)
        return ERR_OK;
    m->failed[c]++;
    policy = rv == m->bad_data[c] ? P11_DOUBT : p11_rv_policy(rv);
    if (m->policy == P11_FINE) {
        m->bad_call = c;
        m->bad_rv = rv;
        m->policy = policy;
    }
    return result_of(c, policy);
}

#define CALL(name, bad, doubt, parameters, arguments)                     \
    enum err p11_##name(struct p11 *m_, P11_SPLICE parameters)            \
    {                                                                     \
        if (!m_->fn || !m_->fn->C_##name)                                 \
            return note(m_, P11_CALL_##name, CKR_FUNCTION_NOT_SUPPORTED); \
        return note(m_, P11_CALL_##name, m_->fn->C_##name arguments);     \
    }
#include "hsm/p11.tbl.h"
#undef CALL

void p11_clear(struct p11 *m)
{
    m->policy = P11_FINE;
    m->bad_rv = CKR_OK;
}

void p11_describe(const struct p11 *m, char *out, size_t n)
{
    char spare[24];

    if (m->policy == P11_FINE)
        snprintf(out, n, "%s", "");
    else
        snprintf(out, n, "%s: %s", calls[m->bad_call].name, p11_rv_name(m->bad_rv, spare));
}

/* Whoever can write the module gets the PIN. */
static enum err check_file(const char *path, char *why, size_t n)
{
    struct stat st;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        snprintf(why, n, "module %s: no such file", path);
        return ERR_NOTFOUND;
    }
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH))) {
        snprintf(why, n, "module %s: owner must be root or this user, writable by no one else", path);
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

static enum err load_library(struct p11 *m, const char *path, char *why, size_t n)
{
    CK_C_GetFunctionList get;
    void *symbol;

    m->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!m->library) {
        snprintf(why, n, "module %s: %s", path, dlerror());
        return ERR_NOTFOUND;
    }
    symbol = dlsym(m->library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get); /* POSIX's way around ISO C's data and function pointers */
    if (!get || get(&m->fn) != CKR_OK || !m->fn) {
        snprintf(why, n, "module %s: not a PKCS#11 module", path);
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

enum err p11_load(struct p11 *m, const char *path, const char *init, char *why, size_t n)
{
    /* NSS reads one field past the standard struct. */
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *zero[4];
    } args;
    char what[64];
    enum err e;

    memset(m, 0, sizeof *m);
    snprintf(why, n, "%s", "");
    if (path[0] != '/') {
        snprintf(why, n, "module %s: the path must be absolute", path);
        return ERR_NOTFOUND;
    }
    e = check_file(path, why, n);
    if (e == ERR_OK)
        e = load_library(m, path, why, n);
    if (e != ERR_OK)
        return e;
    memset(&args, 0, sizeof args);
    args.standard.pReserved = init && init[0] ? (void *)(uintptr_t)init : NULL;
    e = p11_Initialize(m, &args);
    if (e != ERR_OK) {
        p11_describe(m, what, sizeof what);
        snprintf(why, n, "%s: check the module's configuration (SoftHSM: SOFTHSM2_CONF): %s", what, path);
        return ERR_HSMDOWN;
    }
    m->initialized = 1;
    return ERR_OK;
}

void p11_unload(struct p11 *m)
{
    enum err ignored = m->initialized ? p11_Finalize(m, NULL) : ERR_OK;

    (void)ignored; /* nothing to do about it: the process ends or loads anew */
    /* No dlclose: what modules register at exit or with OpenSSL does not survive their being unmapped. */
    memset(m, 0, sizeof *m);
}

void template_init(struct p11_template *t)
{
    t->n = 0;
    t->yes = CK_TRUE;
    t->no = CK_FALSE;
}

static void template_add(struct p11_template *t, CK_ATTRIBUTE_TYPE type, void *p, size_t n)
{
    assert(t->n < TEMPLATE_MAX);
    t->a[t->n++] = (CK_ATTRIBUTE){type, p, n};
}

void template_bool(struct p11_template *t, CK_ATTRIBUTE_TYPE type, int value)
{
    template_add(t, type, value ? &t->yes : &t->no, sizeof(CK_BBOOL));
}

void template_number(struct p11_template *t, CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
    t->number[t->n] = value;
    template_add(t, type, &t->number[t->n], sizeof value);
}

void template_bytes(struct p11_template *t, CK_ATTRIBUTE_TYPE type, const void *p, size_t n)
{
    template_add(t, type, (void *)(uintptr_t)p, n);
}
