/* p11fault.c - a PKCS#11 module that passes every call to a real one, and fails, delays, hangs or crashes where it is
 * told to.
 *
 * Environment:
 *     P11FAULT_MODULE  the real module; SoftHSM2 when not set
 *     P11FAULT_CTL     control file, read before every call; may change at any time, also from another process
 *
 * Control file, one rule a line; the first that matches the call acts:
 *
 *     FUNCTION NTH ACTION [VALUE]
 *
 *     FUNCTION  C_Sign, or * for any call but C_Finalize, without which no test could start over
 *     NTH       from 1: the n-th call that this rule matches, counted by this process since the file changed; 0: each
 *     ACTION    rv HEX     the call is not passed on, it returns this CK_RV
 *               delay MS   the call is passed on that many milliseconds later
 *               hang       never returns
 *               crash      the process dies of SIGSEGV
 *
 * Programs that load this module themselves can look up and call p11fault_arm() and p11fault_fired() instead of a file:
 * see below. The wrappers are made from hsm/p11.tbl.h, so a call that Coffer learns is covered at once; calls that are
 * not in the table are passed on untouched.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "p11-kit/pkcs11.h"

#define EXPORT __attribute__((visibility("default")))
#define RULES 16

struct rule {
    char function[32], action[8];
    long nth, seen;
    unsigned long value;
};

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST shim;
static struct rule rules[RULES], armed;
static unsigned rule_count;
static char text_now[1024];
static long fired, calls;

EXPORT void p11fault_arm(const char *function, long nth, unsigned long rv);
EXPORT long p11fault_fired(void);
EXPORT long p11fault_calls(void);
EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list);

/* The nth call of function ("*": any) from now on returns rv; nth 0 disarms. Both counters start anew. */
void p11fault_arm(const char *function, long nth, unsigned long rv)
{
    memset(&armed, 0, sizeof armed);
    snprintf(armed.function, sizeof armed.function, "%s", function);
    armed.nth = nth;
    armed.value = rv;
    fired = calls = 0;
}

/* Rules that acted, and calls seen, since p11fault_arm(). */
long p11fault_fired(void)
{
    return fired;
}

long p11fault_calls(void)
{
    return calls;
}

static void pause_ms(unsigned long ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static void parse(const char *text)
{
    char copy[sizeof text_now], *line, *rest = copy;

    snprintf(copy, sizeof copy, "%s", text);
    rule_count = 0;
    while ((line = strsep(&rest, "\n")) != NULL && rule_count < RULES) {
        struct rule *r = &rules[rule_count];
        char value[32] = "0";

        memset(r, 0, sizeof *r);
        if (sscanf(line, "%31s %ld %7s %31s", r->function, &r->nth, r->action, value) < 3)
            continue;
        r->value = strtoul(value, NULL, strcmp(r->action, "rv") == 0 ? 16 : 10);
        rule_count++;
    }
}

static void read_control(void)
{
    const char *path = getenv("P11FAULT_CTL");
    char text[sizeof text_now] = "";
    FILE *f = path ? fopen(path, "r") : NULL;

    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
        fclose(f);
    }
    if (strcmp(text, text_now) != 0) {
        snprintf(text_now, sizeof text_now, "%s", text);
        parse(text);
    }
}

static int matches(struct rule *r, const char *name)
{
    if (strcmp(r->function, "*") == 0 ? strcmp(name, "C_Finalize") == 0 : strcmp(r->function, name) != 0)
        return 0;
    r->seen++;
    return r->nth == 0 || r->seen == r->nth;
}

static CK_RV act(const struct rule *r)
{
    fired++;
    if (strcmp(r->action, "delay") == 0) {
        pause_ms(r->value);
        return CKR_OK;
    }
    if (strcmp(r->action, "crash") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    while (strcmp(r->action, "hang") == 0)
        pause();
    return r->value;
}

/* CKR_OK: pass the call on. */
static CK_RV fault(const char *name)
{
    calls++;
    if (armed.nth > 0 && matches(&armed, name)) {
        fired++;
        return armed.value;
    }
    read_control();
    for (unsigned i = 0; i < rule_count; i++) {
        if (matches(&rules[i], name))
            return act(&rules[i]);
    }
    return CKR_OK;
}

#define SPLICE(...) __VA_ARGS__
#define CALL(name, bad, doubt, parameters, arguments)          \
    static CK_RV shim_##name(SPLICE parameters)                \
    {                                                          \
        CK_RV rv_ = fault("C_" #name);                         \
        return rv_ != CKR_OK ? rv_ : real->C_##name arguments; \
    }
#include "hsm/p11.tbl.h"
#undef CALL

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    const char *path = getenv("P11FAULT_MODULE");
    CK_C_GetFunctionList get = NULL;
    void *library, *symbol;

    if (!real) {
        library = dlopen(path ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
        symbol = library ? dlsym(library, "C_GetFunctionList") : NULL;
        memcpy(&get, &symbol, sizeof get);
        if (!get || get(&real) != CKR_OK)
            return CKR_GENERAL_ERROR;
        shim = *real;
#define CALL(name, bad, doubt, parameters, arguments) shim.C_##name = shim_##name;
#include "hsm/p11.tbl.h"
#undef CALL
    }
    *list = &shim;
    return CKR_OK;
}
