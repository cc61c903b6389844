/* engine/cell.h: what the server asks of a core, one step at a time. What cells do is tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cell.h"

enum { LOG_MAX = 64 };

/* A node and its log. Records are terms; a chain is the terms so far. */
struct node {
    struct cell c;
    struct cell_effects fx;
    uint32_t log[LOG_MAX];
    uint64_t last, now_ms;
};

static uint32_t term_at(const void *arg, uint64_t lsn)
{
    const struct node *n = arg;
    assert_in_range(lsn, 1, n->last);
    return n->log[lsn];
}

static void chain_at(const void *arg, uint64_t lsn, uint8_t out[RECORD_CHAIN_BYTES])
{
    const struct node *n = arg;
    uint64_t h = 1;
    for (uint64_t l = 1; l <= lsn; l++)
        h = (h ^ n->log[l]) * 0x100000001b3;
    memset(out, 0, RECORD_CHAIN_BYTES);
    memcpy(out, &h, sizeof h);
}

/* The log's part of the effects; what the core says of itself is left for the test. */
static void carry_out(struct node *n)
{
    for (unsigned i = 0; i < n->fx.count; i++) {
        struct cell_effect *e = &n->fx.list[i];
        if (e->type == CELL_CUT)
            n->last = e->lsn;
        for (uint64_t l = e->first; (e->type == CELL_OPEN || e->type == CELL_ADMIT) && l <= e->last; l++)
            n->log[n->last = l] = e->term;
        const uint32_t *terms = e->records;
        for (uint64_t l = e->first; e->type == CELL_APPEND && l <= e->last; l++)
            n->log[n->last = l] = *terms++;
    }
}

static enum err step(struct node *n, struct cell_event ev)
{
    ev.now_ms = n->now_ms;
    cell_step(&n->c, &ev, &n->fx);
    carry_out(n);
    return n->fx.answer;
}

static void start_with(struct node *n, struct cell_config config, struct cell_boot boot)
{
    n->now_ms = 1000;
    n->last = boot.last_lsn;
    boot.now_ms = n->now_ms;
    boot.log = (struct cell_log){n, term_at, chain_at};
    cell_init(&n->c, &config, &boot, &n->fx);
    carry_out(n);
}

static struct cell_config config_of(unsigned self, unsigned voters)
{
    struct cell_config config = cell_config_default;
    config.self = (uint8_t)self;
    config.voters = (uint8_t)voters;
    config.peers = (uint8_t)(voters + 1);
    config.config_id = 7;
    config.seed = self + 1;
    return config;
}

static void start(struct node *n, unsigned self, unsigned voters)
{
    memset(n, 0, sizeof *n);
    start_with(n, config_of(self, voters), (struct cell_boot){.vote = {.promised_to = CELL_NOBODY}});
}

static const struct cell_effect *effect(const struct node *n, enum cell_effect_type type)
{
    for (unsigned i = 0; i < n->fx.count; i++)
        if (n->fx.list[i].type == type)
            return &n->fx.list[i];
    return NULL;
}

static const struct cell_msg *sent(const struct node *n, unsigned to, enum cell_msg_type type)
{
    for (unsigned i = 0; i < n->fx.count; i++)
        if (n->fx.list[i].type == CELL_SEND && n->fx.list[i].to == to && n->fx.list[i].msg.type == type)
            return &n->fx.list[i].msg;
    return NULL;
}

static int position(const struct node *n, const struct cell_effect *e)
{
    return (int)(e - n->fx.list);
}

static enum err event(struct node *n, enum cell_event_type type)
{
    return step(n, (struct cell_event){.type = type});
}

static void synced(struct node *n)
{
    step(n, (struct cell_event){.type = CELL_SYNCED, .lsn = n->last});
}

static void receive(struct node *n, unsigned from, struct cell_msg m)
{
    step(n, (struct cell_event){.type = CELL_RECEIVED, .peer = (uint8_t)from, .msg = &m});
}

static int shows_master(const struct node *n)
{
    struct cell_status st;
    cell_status(&n->c, n->now_ms, &st);
    return st.master;
}

static unsigned priority(const struct node *n)
{
    struct cell_status st;
    cell_status(&n->c, n->now_ms, &st);
    return st.priority;
}

/* Voter 0 of three, primary of term 1, serving by voter 1's acknowledgement. */
static void make_primary(struct node *n)
{
    start(n, 0, 3);
    event(n, CELL_PROMOTE);
    receive(n, 1,
            (struct cell_msg){.type = CELL_PROBED, .session = sent(n, 1, CELL_PROBE)->session, .leader = CELL_NOBODY});
    receive(n, 1, (struct cell_msg){.type = CELL_PROMISED, .promised = 1, .term = 1, .granted = 1});
    synced(n);
    receive(n, 1, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .lsn = 1});
    assert_true(cell_serving(&n->c));
}

/* ---- alone ---- */

static void alone_it_is_its_own_quorum(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 1);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1}), ERR_READONLY);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_OK);
    assert_int_equal(effect(&n, CELL_OPEN)->term, 1);
    assert_true(position(&n, effect(&n, CELL_PERSIST)) < position(&n, effect(&n, CELL_OPEN)));
    assert_false(shows_master(&n));
    synced(&n);
    assert_true(shows_master(&n));

    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 2}), ERR_OK);
    assert_int_equal(n.fx.list[0].type, CELL_ADMIT);
    assert_null(effect(&n, CELL_OUTCOME));
    synced(&n);
    assert_int_equal(effect(&n, CELL_OUTCOME)->first, 2);
    assert_int_equal(effect(&n, CELL_OUTCOME)->last, 3);
    assert_int_equal(effect(&n, CELL_OUTCOME)->err, ERR_OK);
    assert_int_equal(event(&n, CELL_READ), ERR_OK);
    assert_int_equal(effect(&n, CELL_READS)->seq, n.fx.ticket);
    n.now_ms += 100000;
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
}

static void alone_a_higher_term_is_topped(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 1);
    event(&n, CELL_PROMOTE);
    synced(&n);
    receive(&n, 1, (struct cell_msg){.type = CELL_JOIN, .promised = 5, .config_id = 7, .session = 9});
    assert_int_equal(effect(&n, CELL_OPEN)->term, 6); /* at once: it is primary before and behind it */
    assert_int_equal(n.c.role, CELL_PRIMARY);
    synced(&n);
    assert_true(shows_master(&n));
    receive(&n, 1, (struct cell_msg){.type = CELL_JOIN, .promised = 5, .config_id = 7, .session = 9});
    assert_int_equal(sent(&n, 1, CELL_CONTINUE)->term, 6);
}

/* REPLICAOF a node with other data: the own data gives way, but only to a whole snapshot. */
static void alone_another_nodes_data_wins(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 1);
    event(&n, CELL_PROMOTE);
    synced(&n);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 1}), ERR_OK);
    uint64_t session = sent(&n, 1, CELL_JOIN)->session;
    receive(&n, 1, (struct cell_msg){.type = CELL_COUNTER, .promised = 3, .term = 3, .session = session});
    assert_true(sent(&n, 1, CELL_JOIN)->full);
    session = sent(&n, 1, CELL_JOIN)->session;
    receive(&n, 1,
            (struct cell_msg){.type = CELL_SNAPSHOT, .promised = 3, .term = 3, .session = session, .at = {.lsn = 0}});
    assert_int_equal(n.last, 1);
    struct cell_point at = {.lsn = 1, .term = 3};
    step(&n, (struct cell_event){.type = CELL_FETCHED, .ok = 1, .session = session, .at = at});
    assert_int_equal(effect(&n, CELL_INSTALL)->at.term, 3);
    assert_int_equal(sent(&n, 1, CELL_JOIN)->at.term, 3);
}

/* ---- what Sentinel sees ---- */

static void master_is_shown_only_when_the_barrier_is_committed(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 3);
    assert_int_equal(priority(&n), 100);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_MASTERDOWN);
    event(&n, CELL_PROMOTE);
    receive(&n, 2,
            (struct cell_msg){.type = CELL_PROBED, .session = sent(&n, 2, CELL_PROBE)->session, .leader = CELL_NOBODY});
    assert_int_equal(sent(&n, 1, CELL_ASK)->term, 1);
    receive(&n, 2, (struct cell_msg){.type = CELL_PROMISED, .promised = 1, .term = 1, .granted = 1});
    assert_non_null(effect(&n, CELL_OPEN));
    synced(&n);
    assert_false(shows_master(&n));
    receive(&n, 2, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .lsn = 1, .mute = 1});
    assert_false(shows_master(&n));
    receive(&n, 2, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .lsn = 1});
    assert_non_null(effect(&n, CELL_ROLE));
    assert_true(shows_master(&n));
}

static void a_failed_promotion_makes_lame_and_raises_no_term(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 3);
    event(&n, CELL_PROMOTE);
    n.now_ms += 4000;
    event(&n, CELL_TICK);
    assert_int_equal(priority(&n), 200);
    n.c.config.priority = 0; /* replica-priority: never */
    assert_int_equal(priority(&n), 0);
    n.c.config.priority = 100;
    assert_int_equal(n.c.vote.promised, 0);
    n.now_ms += 60000;
    assert_int_equal(priority(&n), 100);
}

static void who_may_not_be_promoted_says_so(void **state)
{
    struct node n;
    (void)state;
    start(&n, 3, 3);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_READONLY);
    assert_int_equal(priority(&n), 0);

    memset(&n, 0, sizeof n);
    start_with(&n, config_of(0, 3), (struct cell_boot){.damaged = 1});
    assert_int_equal(effect(&n, CELL_PERSIST)->vote.mute, CELL_DAMAGED);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_CORRUPT);
    assert_int_equal(priority(&n), 0);

    memset(&n, 0, sizeof n);
    start_with(&n, config_of(0, 3), (struct cell_boot){.vote_lost = 1});
    assert_int_equal(effect(&n, CELL_PERSIST)->vote.mute, CELL_LOST);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_CORRUPT);

    start(&n, 0, 3);
    event(&n, CELL_ROOM);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_MISCONF);
    assert_int_equal(priority(&n), 0);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 0}), ERR_RANGE);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 9}), ERR_RANGE);
}

/* Its log is right, so it acknowledges and votes; what it made of the log is not, and nobody is to take that over. */
static void who_differs_does_not_stand(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 3);
    event(&n, CELL_STATE);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_CORRUPT);
    assert_int_equal(event(&n, CELL_RECLAIM), ERR_CORRUPT);
    assert_int_equal(priority(&n), 0);
    receive(&n, 1, (struct cell_msg){.type = CELL_ASK, .promised = 5, .term = 5});
    assert_true(sent(&n, 1, CELL_PROMISED)->granted);
    receive(&n, 1, (struct cell_msg){.type = CELL_STAND, .promised = 5, .term = 5});
    assert_int_equal(n.c.gate.phase, CELL_GATE_NONE);
    step(&n, (struct cell_event){.type = CELL_STATE, .ok = 1});
    assert_int_equal(priority(&n), 100);
    receive(&n, 1, (struct cell_msg){.type = CELL_STAND, .promised = 5, .term = 5});
    assert_int_equal(n.c.gate.phase, CELL_GATE_PROBE);
}

/* Or nobody could read there until somebody freed space. */
static void alone_it_leads_without_room_too(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 1);
    event(&n, CELL_ROOM);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_OK);
    assert_int_equal(n.c.role, CELL_PRIMARY);
    step(&n, (struct cell_event){.type = CELL_SYNCED, .lsn = n.c.last_lsn});
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1}), ERR_MISCONF);
    step(&n, (struct cell_event){.type = CELL_ROOM, .ok = 1});
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1}), ERR_OK);
}

/* PING must not say PONG then, or Sentinel never fails over. */
static void without_a_majority_everything_is_refused(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    n.now_ms += 2001;
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_NOQUORUM);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1}), ERR_NOREPLICAS);
    assert_int_equal(event(&n, CELL_READ), ERR_NOQUORUM);
    assert_true(shows_master(&n));
    receive(&n, 2, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1});
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1}), ERR_OK);
}

static void a_replica_is_fresh_for_a_while(void **state)
{
    struct node n;
    struct cell_status st;
    (void)state;
    start(&n, 1, 3);
    receive(&n, 0, (struct cell_msg){.type = CELL_LEAD, .promised = 1, .term = 1});
    uint64_t session = sent(&n, 0, CELL_JOIN)->session;
    receive(&n, 0, (struct cell_msg){.type = CELL_CONTINUE, .promised = 1, .term = 1, .session = session});
    assert_true(position(&n, effect(&n, CELL_PERSIST)) < position(&n, effect(&n, CELL_SEND)));
    cell_status(&n.c, n.now_ms, &st);
    assert_true(st.link_up);
    assert_int_equal(st.leader, 0);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    n.now_ms += 5001;
    event(&n, CELL_TICK);
    cell_status(&n.c, n.now_ms, &st);
    assert_false(st.link_up);
    assert_int_equal(st.link_down_ms, 5001);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_MASTERDOWN);
}

/* Another one may have been promoted behind its back: what it tells its replicas is as old as its majority's last word.
 */
static void the_news_of_a_primary_without_a_majority_grow_old(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    receive(&n, 3, (struct cell_msg){.type = CELL_JOIN, .promised = 1, .config_id = 7, .session = 5});
    assert_int_equal(sent(&n, 3, CELL_CONTINUE)->age_ms, 0);
    assert_int_equal(sent(&n, 3, CELL_CONTINUE)->hops, 0);
    n.now_ms += 900;
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->age_ms, 900);
    receive(&n, 2, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1});
    n.now_ms += 100;
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->age_ms, 100);
}

/* Its primary is away for four seconds, and then there, with a log that ends at last. */
static void lose_and_join_again(struct node *n, uint64_t last)
{
    struct cell_msg go_on = {.type = CELL_CONTINUE, .promised = 1, .term = 1, .end = {.lsn = last, .term = 1}};
    n->now_ms += 4000;
    event(n, CELL_TICK);
    n->now_ms += 500;
    event(n, CELL_TICK);
    go_on.session = sent(n, 0, CELL_JOIN)->session;
    receive(n, 0, go_on);
    assert_int_equal(n->c.follow.phase, CELL_LIVE);
}

/* It joins again and again, and hears of its primary each time, but of nothing that the primary wrote. */
static void a_replica_without_room_grows_stale(void **state)
{
    struct node n;
    (void)state;
    start(&n, 1, 3);
    receive(&n, 0, (struct cell_msg){.type = CELL_LEAD, .promised = 1, .term = 1});
    event(&n, CELL_ROOM);
    lose_and_join_again(&n, 0);
    lose_and_join_again(&n, 0); /* there is nothing new */
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    lose_and_join_again(&n, 1);
    lose_and_join_again(&n, 1);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_MASTERDOWN);
    step(&n, (struct cell_event){.type = CELL_ROOM, .ok = 1});
    lose_and_join_again(&n, 1);
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
}

static void acknowledge(struct node *n, unsigned from, uint64_t lsn, enum cell_why why)
{
    receive(n, from, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .lsn = lsn, .why = (uint8_t)why});
}

static enum err write_one(struct node *n)
{
    return step(n, (struct cell_event){.type = CELL_WRITE, .count = 1});
}

/* At once, not when a write has waited in vain; and those that are open wait for room, as no new term would get it. */
static void without_room_at_a_majority_writes_are_refused(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    acknowledge(&n, 1, 1, CELL_NOROOM);
    assert_int_equal(write_one(&n), ERR_NOREPLICAS); /* voter 2 was never heard */
    acknowledge(&n, 2, 1, 0);
    assert_int_equal(write_one(&n), ERR_OK);
    synced(&n);
    acknowledge(&n, 2, 1, CELL_NOROOM);
    assert_int_equal(write_one(&n), ERR_NOREPLICAS);
    assert_true(cell_lacks_room(&n.c, n.now_ms));
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    for (unsigned i = 0; i < 20; i++) {
        n.now_ms += 1000;
        acknowledge(&n, 1, 1, CELL_NOROOM);
        acknowledge(&n, 2, 1, CELL_NOROOM);
        event(&n, CELL_TICK);
        assert_null(sent(&n, 1, CELL_PROBE));
    }
    acknowledge(&n, 1, 1, 0);
    assert_false(cell_lacks_room(&n.c, n.now_ms));
    event(&n, CELL_TICK);
    assert_null(sent(&n, 1, CELL_PROBE)); /* the time counts from now on */
    acknowledge(&n, 1, 2, 0);
    assert_int_equal(effect(&n, CELL_OUTCOME)->err, ERR_OK);
    assert_int_equal(write_one(&n), ERR_OK);
}

static void a_replica_says_at_once_that_it_has_no_room(void **state)
{
    struct node n;
    (void)state;
    start(&n, 1, 3);
    receive(&n, 0, (struct cell_msg){.type = CELL_LEAD, .promised = 1, .term = 1});
    lose_and_join_again(&n, 0);
    event(&n, CELL_ROOM);
    assert_int_equal(sent(&n, 0, CELL_ACK)->why, CELL_NOROOM);
    step(&n, (struct cell_event){.type = CELL_ROOM, .ok = 1});
    assert_int_equal(sent(&n, 0, CELL_ACK)->why, 0);
}

/* An order to follow comes before there is a link: what it says then goes nowhere. */
static void a_new_link_is_joined_over_at_once(void **state)
{
    struct node n;
    (void)state;
    start(&n, 1, 3);
    step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 0});
    assert_non_null(sent(&n, 0, CELL_JOIN));
    n.now_ms += 10;
    step(&n, (struct cell_event){.type = CELL_LINK_UP, .peer = 2}); /* somebody else's */
    event(&n, CELL_TICK);
    assert_null(sent(&n, 0, CELL_JOIN));
    step(&n, (struct cell_event){.type = CELL_LINK_UP, .peer = 0});
    event(&n, CELL_TICK);
    assert_non_null(sent(&n, 0, CELL_JOIN));
    n.now_ms += 10;
    event(&n, CELL_TICK);
    assert_null(sent(&n, 0, CELL_JOIN)); /* once */
}

/* ---- refusals, ends ---- */

static void another_list_of_voters_is_refused(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    receive(&n, 1, (struct cell_msg){.type = CELL_JOIN, .promised = 1, .config_id = 8, .session = 5});
    assert_int_equal(sent(&n, 1, CELL_REFUSED)->why, CELL_OTHERCONFIG);
    assert_int_equal(sent(&n, 1, CELL_REFUSED)->session, 5);
}

static void an_order_to_follow_leaves_writes_uncertain(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 2});
    step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 2});
    assert_int_equal(effect(&n, CELL_OUTCOME)->err, ERR_UNCERTAIN);
    assert_int_equal(effect(&n, CELL_OUTCOME)->first, 2);
    assert_int_equal(effect(&n, CELL_OUTCOME)->last, 3);
    assert_non_null(sent(&n, 2, CELL_JOIN));
    assert_int_equal(cell_outcome(&n.c, 1, 1), ERR_OK);
    assert_int_equal(cell_outcome(&n.c, 1, 2), ERR_ROLLEDBACK);
    assert_int_equal(cell_outcome(&n.c, 2, 1), ERR_UNCERTAIN);
}

static void a_failed_sync_halts(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1});
    event(&n, CELL_SYNC_FAILED);
    assert_int_equal(n.fx.list[0].type, CELL_HALT);
    assert_null(sent(&n, 1, CELL_RECORDS));
    assert_int_equal(event(&n, CELL_READ), ERR_READONLY);
    event(&n, CELL_TICK);
    assert_int_equal(n.fx.count, 0);
}

static void the_same_place_with_another_chain_is_an_alarm(void **state)
{
    struct node n;
    (void)state;
    start(&n, 1, 3);
    receive(&n, 0, (struct cell_msg){.type = CELL_LEAD, .promised = 1, .term = 1});
    uint64_t session = sent(&n, 0, CELL_JOIN)->session;
    receive(&n, 0, (struct cell_msg){.type = CELL_REFUSED, .promised = 1, .session = session, .why = CELL_DIVERGED});
    assert_int_equal(effect(&n, CELL_ALARM)->why, CELL_DIVERGED);
    assert_int_equal(event(&n, CELL_PROMOTE), ERR_CORRUPT);
    assert_int_equal(priority(&n), 0);
}

static void replicas_that_do_not_vote_are_not_counted(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1});
    synced(&n);
    receive(&n, 3, (struct cell_msg){.type = CELL_JOIN, .config_id = 7, .session = 5});
    assert_non_null(sent(&n, 3, CELL_CONTINUE));
    receive(&n, 3, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .session = 5, .lsn = 2});
    assert_null(effect(&n, CELL_OUTCOME));
    assert_int_equal(cell_holders(&n.c, 2), 1); /* WAIT counts it */
    receive(&n, 2, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .lsn = 2});
    assert_int_equal(effect(&n, CELL_OUTCOME)->err, ERR_OK);
}

/* A replica joins with the end of its log, which its disk may not have yet. */
static void who_joins_holds_what_it_says_is_durable(void **state)
{
    struct node n;
    (void)state;
    start(&n, 0, 1);
    event(&n, CELL_PROMOTE);
    synced(&n);
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 2});
    synced(&n);
    struct cell_msg join = {
        .type = CELL_JOIN, .promised = 1, .config_id = 7, .session = 5, .at = {.lsn = 3, .term = 1}};
    chain_at(&n, 3, join.at.chain);
    receive(&n, 1, join);
    assert_non_null(sent(&n, 1, CELL_CONTINUE));
    assert_int_equal(cell_holders(&n.c, 1), 0);
    receive(&n, 1, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .session = 5, .lsn = 2});
    assert_int_equal(cell_holders(&n.c, 2), 1);
    assert_int_equal(cell_holders(&n.c, 3), 0);
    receive(&n, 1, join); /* another session: it may have lost what it had */
    assert_int_equal(cell_holders(&n.c, 1), 0);
}

/* ---- a replica's replicas ---- */

/* The session of a node that was told to follow peer, and is in session with it. */
static uint64_t follow(struct node *n, unsigned peer, struct cell_msg answer)
{
    step(n, (struct cell_event){.type = CELL_FOLLOW, .peer = (uint8_t)peer});
    answer.type = CELL_CONTINUE;
    answer.promised = answer.term = 1;
    answer.session = sent(n, peer, CELL_JOIN)->session;
    receive(n, peer, answer);
    assert_int_equal(n->c.follow.phase, CELL_LIVE);
    return answer.session;
}

static struct cell_msg heartbeat(uint64_t session, uint64_t last, uint64_t commit)
{
    return (struct cell_msg){.type = CELL_RECORDS,
                             .promised = 1,
                             .term = 1,
                             .session = session,
                             .first = last + 1,
                             .last = last,
                             .commit = commit};
}

/* Voter 1 of three, in session with 0; two records, the first committed; 3 follows it. */
static uint64_t make_relay(struct node *n)
{
    static const uint32_t terms[] = {1, 1};
    start(n, 1, 3);
    uint64_t session = follow(n, 0, (struct cell_msg){.end = {.lsn = 2, .term = 1}});
    struct cell_msg m = heartbeat(session, 2, 1);
    m.first = 1;
    m.end = (struct cell_point){.lsn = 2, .term = 1};
    m.records = terms;
    receive(n, 0, m);
    synced(n);
    receive(n, 3, (struct cell_msg){.type = CELL_JOIN, .config_id = 7, .session = 5});
    return session;
}

static void a_relay_tells_what_it_knows_to_be_committed(void **state)
{
    struct node n;
    (void)state;
    uint64_t session = make_relay(&n);
    assert_int_equal(sent(&n, 3, CELL_CONTINUE)->hops, 1);
    assert_int_equal(sent(&n, 3, CELL_CONTINUE)->age_ms, 0);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->last, 2);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->commit, 1);
    receive(&n, 3, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .session = 5, .lsn = 2});
    assert_int_equal(n.c.commit_lsn, 1); /* what it holds counts for nobody */
    receive(&n, 0, heartbeat(session, 2, 2));
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->commit, 2);
    receive(&n, 2, (struct cell_msg){.type = CELL_JOIN, .promised = 1, .config_id = 7, .session = 6});
    assert_int_equal(sent(&n, 2, CELL_REFUSED)->why, CELL_NOTPRIMARY); /* a voter follows the primary */
}

static void a_relay_without_a_primary_keeps_whom_it_has_and_takes_nobody_new(void **state)
{
    struct node n;
    (void)state;
    make_relay(&n);
    step(&n, (struct cell_event){.type = CELL_LINK_DOWN, .peer = 0});
    n.now_ms += 900;
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 3, CELL_RECORDS)->age_ms, 900);
    receive(&n, 3, (struct cell_msg){.type = CELL_JOIN, .promised = 1, .config_id = 7, .session = 7});
    assert_int_equal(sent(&n, 3, CELL_REFUSED)->why, CELL_NOTPRIMARY);
}

static void a_relay_that_promises_another_term_streams_no_more(void **state)
{
    struct node n;
    (void)state;
    make_relay(&n);
    receive(&n, 2, (struct cell_msg){.type = CELL_ASK, .promised = 2, .term = 2});
    n.now_ms += 100;
    event(&n, CELL_TICK);
    assert_null(sent(&n, 3, CELL_RECORDS));
}

/* Its link stays, and it says that what it has is old. */
static void a_replicas_replica_is_as_fresh_as_its_news(void **state)
{
    struct node n;
    (void)state;
    start(&n, 3, 3);
    uint64_t session = follow(&n, 1, (struct cell_msg){.hops = 1, .age_ms = 100});
    assert_int_equal(cell_fresh(&n.c, n.now_ms), ERR_OK);
    for (unsigned i = 1; i < 8; i++) {
        struct cell_msg m = heartbeat(session, 0, 0);
        m.hops = 1;
        m.age_ms = 100 + i * 900;
        n.now_ms += 900;
        receive(&n, 1, m);
        event(&n, CELL_TICK);
        assert_int_equal(n.c.follow.phase, CELL_LIVE);
        assert_int_equal(cell_fresh(&n.c, n.now_ms), m.age_ms <= 5000 ? ERR_OK : ERR_MASTERDOWN);
    }
}

static void who_follows_itself_leaves(void **state)
{
    struct node n;
    (void)state;
    start(&n, 3, 3);
    uint64_t session = follow(&n, 1, (struct cell_msg){.hops = CELL_HOPS - 1});
    struct cell_msg m = heartbeat(session, 0, 0);
    m.hops = CELL_HOPS;
    receive(&n, 1, m);
    assert_int_equal(n.c.follow.phase, CELL_APART);
}

/* Two records applied, and a relay that has one of them: with voters, and alone, where it is another history only when
 * it is. */
static void a_relay_that_is_behind_is_waited_for(void **state)
{
    struct node n;
    (void)state;
    for (unsigned voters = 1; voters <= 3; voters += 2) {
        start(&n, voters == 1 ? 0 : 3, voters);
        n.log[1] = n.log[2] = 1;
        start_with(
            &n, config_of(voters == 1 ? 0 : 3, voters),
            (struct cell_boot){.vote = {.promised = 1, .promised_to = CELL_NOBODY}, .last_lsn = 2, .applied_lsn = 2});
        step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 1});
        struct cell_msg m = {.type = CELL_COUNTER, .promised = 1, .term = 1, .hops = 1, .at = {.lsn = 1, .term = 1}};
        m.session = sent(&n, 1, CELL_JOIN)->session;
        chain_at(&n, 1, m.at.chain);
        m.end = m.at;
        receive(&n, 1, m);
        assert_int_equal(n.c.follow.phase, CELL_APART);
        assert_null(effect(&n, CELL_ALARM));

        n.now_ms += 500;
        event(&n, CELL_TICK);
        m.session = sent(&n, 1, CELL_JOIN)->session;
        m.end = (struct cell_point){.lsn = 2, .term = 2};
        m.promised = m.term = 2;
        receive(&n, 1, m);
        assert_null(effect(&n, CELL_ALARM));
        assert_int_equal(voters == 1, sent(&n, 1, CELL_JOIN) && sent(&n, 1, CELL_JOIN)->full);
    }
}

/* A node that was primary itself, in a term that nobody else heard of. */
static void a_relay_passes_a_higher_term_on(void **state)
{
    struct node n;
    (void)state;
    make_relay(&n);
    receive(&n, 3, (struct cell_msg){.type = CELL_JOIN, .promised = 9, .config_id = 7, .session = 8});
    assert_int_equal(sent(&n, 0, CELL_ACK)->promised, 9);
    assert_int_equal(sent(&n, 3, CELL_REFUSED)->why, CELL_NOTPRIMARY);
    assert_int_equal(n.c.vote.promised, 1);
}

/* Where no records follow that would bring it, and the next heartbeat is far. */
static void who_has_everything_learns_of_a_commit_with_the_next_tick(void **state)
{
    struct node n;
    (void)state;
    make_primary(&n);
    receive(&n, 1, (struct cell_msg){.type = CELL_JOIN, .config_id = 7, .session = 5, .at = {.lsn = 0}});
    receive(&n, 1, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .session = 5, .lsn = 1});
    n.now_ms += n.c.config.heartbeat_ms;
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 1, CELL_RECORDS)->commit, 1);
    n.now_ms++;
    event(&n, CELL_TICK);
    assert_null(sent(&n, 1, CELL_RECORDS)); /* nothing new */
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 1});
    synced(&n);
    receive(&n, 1, (struct cell_msg){.type = CELL_ACK, .promised = 1, .term = 1, .session = 5, .lsn = 2});
    assert_int_equal(effect(&n, CELL_OUTCOME)->err, ERR_OK);
    n.now_ms++;
    event(&n, CELL_TICK);
    assert_int_equal(sent(&n, 1, CELL_RECORDS)->commit, 2);
}

/* Whatever comes over the wire, nothing is believed of a stranger, or out of turn. */
static void messages_out_of_place_change_nothing(void **state)
{
    struct node n;
    (void)state;
    start(&n, 1, 3);
    for (int type = 0; type <= CELL_MSG_TYPES; type++) {
        struct cell_msg m = {
            .type = (enum cell_msg_type)type, .session = 99, .term = 1, .granted = 1, .lsn = 5, .last = 3};
        if (type == CELL_ASK || type == CELL_LEAD)
            continue;
        for (unsigned from = 0; from < 6; from++)
            receive(&n, from, m);
        assert_int_equal(n.c.role, CELL_REPLICA);
        assert_int_equal(n.c.vote.promised, 0);
        assert_int_equal(n.c.last_lsn, 0);
        assert_int_equal(n.c.follow.phase, CELL_APART);
    }
    receive(&n, 3, (struct cell_msg){.type = CELL_ASK, .term = 1, .promised = 1}); /* no voter */
    assert_false(sent(&n, 3, CELL_PROMISED)->granted);
}

/* Who came by PSYNC is no primary because it says so: neither of a cell, nor of a node that is alone, primary or not,
 * nor of one that does not vote. */
static void nobody_is_led_by_a_guest(void **state)
{
    struct cell_msg lead = {.type = CELL_LEAD, .promised = 9, .term = 9};
    struct node n;
    (void)state;
    start(&n, 1, 3);
    receive(&n, 3, lead);
    assert_null(sent(&n, 3, CELL_JOIN));
    start(&n, 3, 3);
    receive(&n, 0, lead);
    assert_null(sent(&n, 0, CELL_JOIN));
    start(&n, 0, 1);
    receive(&n, 1, lead);
    assert_null(sent(&n, 1, CELL_JOIN));
    event(&n, CELL_PROMOTE);
    synced(&n);
    lead.promised = lead.term = 99;
    receive(&n, 1, lead);
    assert_null(sent(&n, 1, CELL_JOIN));
    event(&n, CELL_TICK);
    synced(&n);
    assert_true(shows_master(&n));
    assert_true(n.c.vote.promised > 99);
}

/* FAILOVER: the primary says so, to one whom it has, and only the primary whom it follows is believed. */
static void a_primary_hands_over(void **state)
{
    struct node n;
    struct cell_msg m = {.type = CELL_STAND, .promised = 5, .term = 5};
    (void)state;
    make_primary(&n);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_HAND_OVER, .peer = 9}), ERR_RANGE);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_HAND_OVER, .peer = 1}), ERR_OK);
    assert_non_null(sent(&n, 1, CELL_STAND));
    assert_int_equal(sent(&n, 1, CELL_STAND)->term, n.c.vote.promised);
    assert_true(shows_master(&n)); /* until it is asked for another term */

    start(&n, 0, 3);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_HAND_OVER, .peer = 1}), ERR_READONLY);
    receive(&n, 2, (struct cell_msg){.type = CELL_LEAD, .promised = 5, .term = 5});
    receive(&n, 1, m);
    assert_null(sent(&n, 1, CELL_PROBE));
    m.promised = m.term = 4;
    receive(&n, 2, m);
    assert_null(sent(&n, 1, CELL_PROBE));
    n.c.vote.promised = 5; /* it joined */
    m.promised = m.term = 5;
    receive(&n, 2, m);
    assert_non_null(sent(&n, 1, CELL_PROBE));
    assert_non_null(sent(&n, 2, CELL_PROBE));
}

/* It went on alone in an older term, and is told to follow the one that was promoted: whose log begins, by now, in a
 * newer term and behind what both have, and whose snapshot is of fewer records. */
static void alone_a_shorter_history_of_a_newer_term_is_taken_once(void **state)
{
    struct node n;
    struct cell_point at = {.lsn = 6, .term = 2};
    (void)state;
    start(&n, 0, 1);
    event(&n, CELL_PROMOTE);
    synced(&n);
    step(&n, (struct cell_event){.type = CELL_WRITE, .count = 9});
    synced(&n);
    assert_int_equal(n.c.commit_lsn, 10);
    assert_int_equal(step(&n, (struct cell_event){.type = CELL_FOLLOW, .peer = 1}), ERR_OK);
    uint64_t session = sent(&n, 1, CELL_JOIN)->session;
    receive(&n, 1, (struct cell_msg){.type = CELL_SNAPSHOT, .promised = 2, .term = 2, .session = session, .at = at});
    assert_non_null(effect(&n, CELL_FETCH));
    step(&n, (struct cell_event){.type = CELL_FETCHED, .ok = 1, .session = session, .at = at});
    assert_non_null(effect(&n, CELL_INSTALL));
    assert_int_equal(n.c.last_lsn, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_it_is_its_own_quorum),
        cmocka_unit_test(alone_a_higher_term_is_topped),
        cmocka_unit_test(alone_another_nodes_data_wins),
        cmocka_unit_test(alone_a_shorter_history_of_a_newer_term_is_taken_once),
        cmocka_unit_test(master_is_shown_only_when_the_barrier_is_committed),
        cmocka_unit_test(a_failed_promotion_makes_lame_and_raises_no_term),
        cmocka_unit_test(who_may_not_be_promoted_says_so),
        cmocka_unit_test(who_differs_does_not_stand),
        cmocka_unit_test(alone_it_leads_without_room_too),
        cmocka_unit_test(without_a_majority_everything_is_refused),
        cmocka_unit_test(a_replica_is_fresh_for_a_while),
        cmocka_unit_test(the_news_of_a_primary_without_a_majority_grow_old),
        cmocka_unit_test(a_replica_without_room_grows_stale),
        cmocka_unit_test(without_room_at_a_majority_writes_are_refused),
        cmocka_unit_test(a_replica_says_at_once_that_it_has_no_room),
        cmocka_unit_test(a_new_link_is_joined_over_at_once),
        cmocka_unit_test(another_list_of_voters_is_refused),
        cmocka_unit_test(an_order_to_follow_leaves_writes_uncertain),
        cmocka_unit_test(a_failed_sync_halts),
        cmocka_unit_test(the_same_place_with_another_chain_is_an_alarm),
        cmocka_unit_test(replicas_that_do_not_vote_are_not_counted),
        cmocka_unit_test(who_joins_holds_what_it_says_is_durable),
        cmocka_unit_test(who_has_everything_learns_of_a_commit_with_the_next_tick),
        cmocka_unit_test(messages_out_of_place_change_nothing),
        cmocka_unit_test(nobody_is_led_by_a_guest),
        cmocka_unit_test(a_primary_hands_over),
        cmocka_unit_test(a_relay_tells_what_it_knows_to_be_committed),
        cmocka_unit_test(a_relay_without_a_primary_keeps_whom_it_has_and_takes_nobody_new),
        cmocka_unit_test(a_relay_that_promises_another_term_streams_no_more),
        cmocka_unit_test(a_replicas_replica_is_as_fresh_as_its_news),
        cmocka_unit_test(who_follows_itself_leaves),
        cmocka_unit_test(a_relay_that_is_behind_is_waited_for),
        cmocka_unit_test(a_relay_passes_a_higher_term_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
