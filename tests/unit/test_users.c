/* Users in the engine: values of the base store that the server hears of, at a start and whenever one changes. */
#include "tests/unit/engine_fixture.h"

#include "engine/snapshots.h"

struct told { /* what the engine said of a user last */
    char name[USER_NAME_MAX + 1], rules[64];
    unsigned times;
};
static struct told told[8];
static unsigned users, out_of_memory;

static struct told *told_of(struct bytes name)
{
    unsigned i = 0;
    while (i < users && !bytes_equal(bytes_str(told[i].name), name))
        i++;
    if (i == users) {
        assert_true(users < 8);
        memcpy(told[users++].name, name.p, name.n);
    }
    return &told[i];
}

static enum err note_user(void *arg, struct bytes name, struct bytes rules)
{
    (void)arg;
    if (out_of_memory) {
        out_of_memory--;
        return ERR_OOM;
    }
    struct told *t = told_of(name);
    snprintf(t->rules, sizeof t->rules, "%.*s", (int)rules.n, rules.p ? (const char *)rules.p : "gone");
    if (!rules.p)
        snprintf(t->rules, sizeof t->rules, "gone");
    t->times++;
    return ERR_OK;
}

static void expect(const char *name, const char *rules)
{
    assert_string_equal(told_of(bytes_str(name))->rules, rules);
}

static void again(void)
{
    close_engine();
    memset(told, 0, sizeof told);
    users = 0;
    open_engine();
}

static enum err submit(struct step *s, unsigned n, uint64_t *lsn)
{
    int finished = 0;
    struct write w = {.step = s, .steps = n, .done = done, .arg = &finished};
    engine_submit(e, &w);
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    *lsn = w.lsn;
    return w.err;
}

static enum err put(const char *name, const char *rules)
{
    struct step s = {.kind = STEP_USER_PUT, .path = bytes_str(name), .record = bytes_str(rules)};
    return run(NULL, &s);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/dev/shm/coffer-test-users-XXXXXX");
    assert_non_null(mkdtemp(dir));
    memset(told, 0, sizeof told);
    users = 0;
    on_user = note_user;
    open_engine();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    shell("rm -rf %s", dir);
    return 0;
}

static void a_user_is_told_of_before_its_write_is_done(void **state)
{
    (void)state;
    assert_int_equal(put("ann", "on one"), ERR_OK);
    expect("ann", "on one");
    out_of_memory = 2; /* it is told until it was heard */
    assert_int_equal(put("ann", "on two"), ERR_OK);
    expect("ann", "on two");
    assert_int_equal(told_of(bytes_str("ann"))->times, 2);
    assert_int_equal(put("", "on"), ERR_BADNAME);
    assert_int_equal(put("a b", "on"), ERR_BADNAME);
    assert_int_equal(put("ann", "on three"), ERR_OK);
    again();
    expect("ann", "on three");
    assert_int_equal(told_of(bytes_str("ann"))->times, 1);
}

static void several_go_at_once_or_none(void **state)
{
    struct step gone[] = {{.kind = STEP_USER_DELETE, .path = bytes_str("ann")},
                          {.kind = STEP_USER_DELETE, .path = bytes_str("nobody")},
                          {.kind = STEP_USER_DELETE, .path = bytes_str("bob")}};
    struct step wrong[] = {{.kind = STEP_USER_DELETE, .path = bytes_str("cat")},
                           {.kind = STEP_USER_DELETE, .path = bytes_str("a b")}};
    struct step none = {.kind = STEP_USER_DELETE, .path = bytes_str("nobody")};
    uint64_t before = engine_commit_lsn(e), lsn;
    (void)state;
    assert_int_equal(put("ann", "on"), ERR_OK);
    assert_int_equal(put("bob", "on"), ERR_OK);
    assert_int_equal(put("cat", "on"), ERR_OK);
    assert_int_equal(submit(gone, 3, &lsn), ERR_OK);
    assert_int_equal(lsn, before + 4); /* one record */
    assert_true(!gone[0].nil && gone[1].nil && !gone[2].nil);
    expect("ann", "gone");
    expect("bob", "gone");
    assert_int_equal(submit(wrong, 2, &lsn), ERR_BADNAME);
    assert_int_equal(submit(&none, 1, &lsn), ERR_OK);
    assert_int_equal(lsn, 0); /* nothing to write */
    expect("cat", "on");
    again();
    assert_int_equal(users, 1);
    expect("cat", "on");
}

static void users_are_in_snapshots(void **state)
{
    (void)state;
    assert_int_equal(put("ann", "on one"), ERR_OK);
    assert_int_equal(put("bob", "on"), ERR_OK);
    make_snapshot();
    assert_int_equal(put("bob", "off"), ERR_OK);
    checkpoint();
    close_engine();
    shell("rm -rf %s/base*", dir);
    memset(told, 0, sizeof told);
    users = 0;
    open_engine();
    assert_int_equal(report.stores_lost, 1);
    expect("ann", "on one");
    expect("bob", "off");
}

static void a_record_of_a_later_format_is_not_guessed_at(void **state)
{
    struct bytes rules;
    (void)state;
    assert_int_equal(user_rules(bytes_str("\1on"), &rules), ERR_OK);
    assert_memory_equal(rules.p, "on", rules.n);
    assert_int_equal(user_rules(bytes_str("\2on"), &rules), ERR_CORRUPT);
    assert_int_equal(user_rules(bytes_str(""), &rules), ERR_CORRUPT);
    assert_null(rules.p);
}

int main(void)
{
    (void)vault_named; /* of the fixture; not needed here */
    (void)first_lsn;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_user_is_told_of_before_its_write_is_done, setup, teardown),
        cmocka_unit_test_setup_teardown(several_go_at_once_or_none, setup, teardown),
        cmocka_unit_test_setup_teardown(users_are_in_snapshots, setup, teardown),
        cmocka_unit_test(a_record_of_a_later_format_is_not_guessed_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
