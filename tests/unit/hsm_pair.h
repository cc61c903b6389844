/* hsm_pair.h - SoftHSM2 and NSS softokn in one realm, each with a worker's operations running on it, and a token of
 * another realm. For one test program's globals. */
#ifndef COFFER_TESTS_HSM_PAIR_H
#define COFFER_TESTS_HSM_PAIR_H

#include "tests/unit/hsm_fixture.h"

static char root[PATH_MAX];
static struct node soft, nss, stranger; /* stranger: a SoftHSM token of another realm */
static struct rig on_soft, on_nss;

static const struct bytes none = {0};

static struct rig *const rigs[] = {&on_soft, &on_nss};
static const char text[] = "the quick brown fox jumps over the lazy dog";
static struct bytes message;

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(mem_init(1), ERR_OK);
    make_temp_dir(root);
    node_softhsm(&soft, root, "soft", NULL);
    node_nss(&nss, root, "nss", &soft);
    node_softhsm(&stranger, root, "stranger", NULL);
    rig_start(&on_soft, &soft);
    rig_start(&on_nss, &nss);
    message = bytes_str(text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_fini(&on_soft);
    rig_fini(&on_nss);
    remove_tree(root);
    return 0;
}

/* Token objects of this partition. */
static inline unsigned in_token(struct rig *r, uint8_t id)
{
    uint8_t full[PARTITION_ID_BYTES];
    CK_OBJECT_HANDLE found[8];
    unsigned sum = 0;
    size_t n;

    memset(full, id, sizeof full);
    for (unsigned role = 0; role < PARTITION_ROLES; role++) {
        assert_int_equal(token_find(&r->ops.token, full, role, found, 8, &n), ERR_OK);
        sum += (unsigned)n;
    }
    return sum;
}

#endif
