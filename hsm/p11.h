/* p11.h - a loaded PKCS#11 module and uniform wrappers of its calls.
 *
 * Each call of p11.tbl.h has a wrapper p11_<Name> with C_<Name>'s parameters after the module's. It counts, keeps the
 * first failure since p11_clear(), and returns enum err by the two tables: what the return value means (enum
 * p11_policy), and what bad data means for this call. Only the ladder (ops.c) and start-up look at the policy; all
 * others just pass the enum err on.
 *
 *     policy       meaning                            enum err         the ladder
 *     P11_FINE     no failure                         ERR_OK
 *     P11_DATA     the data is bad                    the call's own   answers it
 *     P11_DOUBT    bad data or a sick device          the call's own   probes: healthy, answers it; else as P11_WORKER
 *     P11_SESSION  session lost, operation stuck      ERR_HSMDOWN      new session, one retry
 *     P11_LOGIN    no longer logged in                ERR_HSMDOWN      one login, one retry
 *     P11_DROP     handle gone, no room for objects   ERR_HSMDOWN      forgets all cached objects, one retry
 *     P11_WORKER   device, module, vendor trouble     ERR_HSMDOWN      this worker ends, a new one starts
 *     P11_PIN      anything about a PIN               ERR_WRONGPASS    stops: real HSMs lock
 *     P11_ABSENT   the module cannot do this          ERR_UNSUPPORTED  answers it
 *     P11_BUG      the module refuses our template    ERR_INTERNAL     answers it
 *
 * Where a call cannot mean bad data, P11_DOUBT is ERR_HSMDOWN.
 *
 * Threads: one. Any call may block in the module for as long as the module likes: the parent's deadline is what ends
 * that. Never fork with a module loaded: the child would inherit login and keys.
 */
#ifndef COFFER_HSM_P11_H
#define COFFER_HSM_P11_H

#include "p11-kit/pkcs11.h"

#include "base/bytes.h"
#include "base/err.h"

#define COFFER_CKM_AES_KEY_WRAP_KWP 0x210bUL /* PKCS#11 v3.0; not in p11-kit's header */
#define COFFER_CKA_NSS_DB 0xd5a0db00UL       /* NSS wants the EC point here when a private key is unwrapped */

enum p11_policy {
    P11_FINE,
    P11_DATA,
    P11_DOUBT,
    P11_SESSION,
    P11_LOGIN,
    P11_DROP,
    P11_WORKER,
    P11_PIN,
    P11_ABSENT,
    P11_BUG
};

enum p11_call {
#define CALL(name, bad, doubt, parameters, arguments) P11_CALL_##name,
#include "hsm/p11.tbl.h"
#undef CALL
    P11_CALLS
};

enum p11_mech {
#define MECH(id, type, needed) MECH_##id,
#include "hsm/p11.tbl.h"
#undef MECH
    MECHS
};

struct p11_mech_row {
    const char *name; /* without CKM_ */
    CK_MECHANISM_TYPE type;
    int needed;
};
extern const struct p11_mech_row p11_mechs[MECHS];

struct p11 {
    void *library;
    CK_FUNCTION_LIST *fn;
    int initialized;
    uint64_t calls[P11_CALLS], failed[P11_CALLS];

    /* What this module answers to bad data, found by the self-test: policy P11_DOUBT for that call. CKR_OK: nothing
     * special. */
    CK_RV bad_data[P11_CALLS];

    /* The first failure since p11_clear(). */
    enum p11_call bad_call;
    CK_RV bad_rv;
    enum p11_policy policy;
};

/* Loads the module and calls C_Initialize, single-threaded; init is pReserved for modules that want a string, or NULL.
 * ERR_NOTFOUND: no such file, not loadable, not a module, or writable by others than root and ourselves; why says which
 * (n bytes). ERR_HSMDOWN: C_Initialize failed. m is usable with p11_unload in any case. */
must_use enum err p11_load(struct p11 *m, const char *path, const char *init, char *why, size_t n);

/* C_Finalize; the library stays mapped. Not for a module in trouble: it may hang. */
void p11_unload(struct p11 *m);

/* Forgets the failure. */
void p11_clear(struct p11 *m);

/* "C_Sign: CKR_DEVICE_ERROR" of the first failure; empty when there was none. Always terminated. */
void p11_describe(const struct p11 *m, char *out, size_t n);

/* "CKR_DEVICE_ERROR", or "CKR_0x80000001" written to spare. */
const char *p11_rv_name(CK_RV rv, char spare[24]);
enum p11_policy p11_rv_policy(CK_RV rv);
const char *p11_call_name(enum p11_call c); /* "C_Sign" */

#define P11_SPLICE(...) __VA_ARGS__
#define CALL(name, bad, doubt, parameters, arguments) \
    must_use enum err p11_##name(struct p11 *m_, P11_SPLICE parameters);
#include "hsm/p11.tbl.h"
#undef CALL

/* Attribute templates. Values live inside or are borrowed; a template must not be copied or moved. */
#define TEMPLATE_MAX 24
struct p11_template {
    CK_ATTRIBUTE a[TEMPLATE_MAX];
    CK_ULONG n;
    CK_ULONG number[TEMPLATE_MAX];
    CK_BBOOL yes, no;
};
void template_init(struct p11_template *t);
void template_bool(struct p11_template *t, CK_ATTRIBUTE_TYPE type, int value);
void template_number(struct p11_template *t, CK_ATTRIBUTE_TYPE type, CK_ULONG value);
void template_bytes(struct p11_template *t, CK_ATTRIBUTE_TYPE type, const void *p, size_t n); /* p is borrowed */

#endif
