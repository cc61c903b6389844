/* Users and passwords: rules, logins, what changes under the feet of those who are logged in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "server/acl.h"
#include "server/command.h"

static const char *why;

static enum err set(struct acl *a, const char *line)
{
    struct bytes words[16];
    static char copy[512];
    unsigned n = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        words[n++] = bytes_str(w);
    return acl_set_user(a, words, n, &why);
}

static enum err login(struct acl *a, const char *name, const char *password)
{
    struct acl_user *u;
    enum err e = acl_login(a, bytes_str(name), bytes_str(password), &u);
    assert_int_equal(e == ERR_OK, u != NULL);
    acl_user_unref(u);
    return e;
}

static void the_default_user_may_everything(void **state)
{
    struct acl *a;
    struct command cmd = {.name = "X", .keys = KEYS_ONE};
    struct call c = {.cmd = &cmd};
    enum acl_reason reason;
    (void)state;
    assert_int_equal(acl_new(&a), ERR_OK);
    struct acl_user *u = acl_default(a);
    assert_string_equal(acl_user_name(u), "default");
    assert_true(acl_user_nopass(u) && acl_user_enabled(u));
    assert_int_equal(acl_check(u, 1, &c, &reason), ERR_OK);
    assert_int_equal(acl_check(u, 0, &c, &reason), ERR_NOAUTH);
    cmd.flags = CMD_NOAUTH;
    assert_int_equal(acl_check(u, 0, &c, &reason), ERR_OK);
    acl_user_unref(u);
    assert_int_equal(login(a, "default", "anything"), ERR_OK);
    assert_int_equal(login(a, "nobody", "anything"), ERR_WRONGPASS);
    acl_free(a);
}

static void passwords(void **state)
{
    struct acl *a;
    (void)state;
    assert_int_equal(acl_new(&a), ERR_OK);
    assert_int_equal(acl_set_default_password(a, bytes_str("one")), ERR_OK);
    assert_int_equal(login(a, "default", "one"), ERR_OK);
    assert_int_equal(login(a, "default", "on"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", ""), ERR_WRONGPASS);
    assert_int_equal(acl_set_default_password(a, bytes_str("two")), ERR_OK);
    assert_int_equal(login(a, "default", "one"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", "two"), ERR_OK);
    assert_int_equal(acl_set_default_password(a, bytes_str("")), ERR_OK);
    assert_int_equal(login(a, "default", "whatever"), ERR_OK);

    assert_int_equal(set(a, "ann on >a >b"), ERR_OK);
    assert_int_equal(login(a, "ann", "a"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_OK);
    assert_int_equal(set(a, "ann <a"), ERR_OK);
    assert_int_equal(login(a, "ann", "a"), ERR_WRONGPASS);
    assert_int_equal(login(a, "ann", "b"), ERR_OK);
    assert_int_equal(set(a, "ann off"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_WRONGPASS);
    /* SHA-256 of "abc" */
    assert_int_equal(set(a, "ann on resetpass #ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                     ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_WRONGPASS);
    assert_int_equal(set(a, "ann !ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_WRONGPASS);
    acl_free(a);
}

static void wrong_rules_change_nothing(void **state)
{
    static const char *const bad[] = {"ann on >new nosuchrule", "ann #abc", "ann on >new ~prefix:*", "ann >new +get"};
    struct acl *a;
    (void)state;
    assert_int_equal(acl_new(&a), ERR_OK);
    assert_int_equal(set(a, "ann on >old"), ERR_OK);
    uint64_t epoch = acl_epoch(a);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(set(a, bad[i]), ERR_SYNTAX);
        assert_true(why[0]);
    }
    assert_int_equal(acl_epoch(a), epoch);
    assert_int_equal(login(a, "ann", "old"), ERR_OK);
    assert_int_equal(login(a, "ann", "new"), ERR_WRONGPASS);
    acl_free(a);
}

static void permissions_are_all_or_nothing(void **state)
{
    struct acl *a;
    struct command cmd = {.name = "X", .keys = KEYS_ONE};
    struct call c = {.cmd = &cmd};
    enum acl_reason reason;
    struct acl_user *u;
    (void)state;
    assert_int_equal(acl_new(&a), ERR_OK);
    assert_int_equal(set(a, "ann on >x"), ERR_OK);
    assert_int_equal(acl_login(a, bytes_str("ann"), bytes_str("x"), &u), ERR_OK);
    assert_int_equal(acl_check(u, 1, &c, &reason), ERR_NOPERM);
    assert_int_equal(reason, ACL_COMMAND);
    assert_int_equal(set(a, "ann +@all"), ERR_OK);
    struct acl_user *now = acl_refresh(a, u);
    assert_ptr_not_equal(now, u);
    assert_int_equal(acl_check(u, 1, &c, &reason), ERR_NOPERM); /* the old one is as it was */
    assert_int_equal(acl_check(now, 1, &c, &reason), ERR_NOPERM);
    assert_int_equal(reason, ACL_KEY);
    cmd.keys = KEYS_NONE;
    assert_int_equal(acl_check(now, 1, &c, &reason), ERR_OK);
    acl_user_unref(u);
    acl_user_unref(now);
    acl_free(a);
}

static void lists(void **state)
{
    struct acl *a;
    struct buf b;
    unsigned n;
    (void)state;
    assert_int_equal(acl_new(&a), ERR_OK);
    assert_int_equal(set(a, "ann on >abc ~* +@all"), ERR_OK);
    buf_init(&b, 4096);
    assert_int_equal(acl_list(a, &b, &n), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_string_equal(
        (char *)buf_data(&b),
        "user default on nopass ~* &* +@all\n"
        "user ann on #ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad ~* resetchannels +@all\n");
    buf_clear(&b);
    assert_int_equal(acl_names(a, &b, &n), ERR_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(buf_data(&b), "default\nann\n", 12);
    buf_fini(&b);
    acl_free(a);
}

static void faults(void **state)
{
    struct acl *a;
    (void)state;
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err e = acl_new(&a);
        if (!e)
            e = set(a, "ann on >x");
        if (!e)
            e = acl_set_default_password(a, bytes_str("y"));
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        acl_free(a);
        if (!fired)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_user_may_everything),
        cmocka_unit_test(passwords),
        cmocka_unit_test(wrong_rules_change_nothing),
        cmocka_unit_test(permissions_are_all_or_nothing),
        cmocka_unit_test(lists),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
