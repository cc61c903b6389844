/* repl_aside.c - a node of a cell whose data is damaged where a start needs it comes back by itself: what is here is
 * set aside, and all of it comes from the others (docs/decisions/0030).
 *
 *     the engine does not open -> wait for a majority of others -> voting file: mute -> DIR/install -> begin anew
 *                              -> install_finish: set aside -> an empty engine, a node that is mute -> full resync
 *
 * Whom it waits for: a majority of all voters that are ready and not mute, itself not among them. Any record that was
 * ever acknowledged is held by one of them, since a majority held it and two majorities meet; a primary that they elect
 * has it. With fewer, the damaged log here may be the only one that has it, or one of those that a primary cannot come
 * without: then nothing is touched, and clients and log are told whom it waits for.
 *
 * The order of the two files: a node that is mute and still has its damaged log is as it should be, and tries again;
 * one without a log that votes would elect somebody who lacks what it had acknowledged.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/celldir.h"
#include "engine/vote.h"
#include "server/repl_impl.h"
#include "server/restore.h"
#include "server/start.h"

#define WHY_BYTES 768

static enum err refuse(const char *why)
{
    log_at(LOG_WARNING, "Nothing is copied from other nodes: %s", why);
    return ERR_CORRUPT;
}

/* ---- who there is ---- */

static unsigned needed(const struct repl *r)
{
    return r->voters.n / 2 + 1;
}

/* Lock held. */
static const char *word_for(const struct repl *r, unsigned voter, const uint8_t cell_id[16])
{
    const struct founding_seen *s = &r->founding.seen[voter];
    if (founding_is_sound(&r->founding, voter, cell_id))
        return "is sound";
    if (!s->seen)
        return "is not heard of yet";
    if (s->mute)
        return s->ready ? "has not caught up itself" : "is damaged too";
    return s->is_blank ? "is empty" : s->ready ? "is of another cell" : "is starting";
}

static void say_waiting(struct repl *r, const uint8_t cell_id[16], const char *why)
{
    char text[WHY_BYTES];
    int n = snprintf(text, sizeof text,
                     "the data here is damaged (%.200s), and is left as it is until %u other voters are sound, to copy "
                     "from:",
                     why, needed(r));
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->voters.n && n < (int)sizeof text; i++)
        if (i != r->self)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s %.60s:%d %s", n && text[n - 1] != ':' ? "," : "",
                          r->voters.at[i].host, r->voters.at[i].port, word_for(r, i, cell_id));
    pthread_mutex_unlock(&r->lock);
    restore_hold(r->srv->restore, text);
}

static enum err wait_for_others(struct repl *r, const uint8_t cell_id[16], const char *why)
{
    unsigned sound = 0;
    while (sound < needed(r)) {
        if (atomic_load(&r->srv->stopping))
            return ERR_AGAIN;
        say_waiting(r, cell_id, why);
        uint64_t end = clock_mono_us() + REPL_LOOK_US;
        pthread_mutex_lock(&r->lock);
        r->mine.mute = 1;
        while ((sound = founding_sound(&r->founding, cell_id)) < needed(r) && clock_mono_us() < end)
            clock_cond_wait(&r->changed, &r->lock, end);
        pthread_mutex_unlock(&r->lock);
    }
    return ERR_OK;
}

/* ---- setting aside ---- */

/* What was promised holds. Whose file is gone has to ask around what that may have been; who is no voter has not. */
static enum err become_mute(const struct repl *r, const uint8_t cell_id[16])
{
    struct vote_file v;
    enum err e = vote_read(REPL_VOTE_PATH, cell_id, &v);
    int lost = e == ERR_NOTFOUND || e == ERR_CORRUPT;
    if (e && !lost)
        return e;
    if (!lost && v.vote.mute != CELL_SOUND)
        return ERR_OK;
    if (lost) {
        v = (struct vote_file){.vote.promised_to = CELL_NOBODY};
        memcpy(v.cell_id, cell_id, sizeof v.cell_id);
        if ((e = clock_random(v.node_id, sizeof v.node_id)))
            return e;
    }
    v.vote.held_lsn = 0;
    v.vote.mute = lost && r->self < r->voters.n ? CELL_LOST : CELL_DAMAGED;
    return vote_write(REPL_VOTE_PATH, &v);
}

static enum err mark(const struct repl *r, const uint8_t cell_id[16])
{
    static const struct install nothing = {.aside = 1};
    enum err e = start_lock(r->srv); /* a failed engine has given it back */
    if (e)
        return ERR_CORRUPT;
    if ((e = become_mute(r, cell_id)) || (e = install_mark(".", &nothing)))
        log_at(LOG_WARNING, "The damaged data cannot be marked to be set aside: %s", err_text(e));
    return e;
}

enum err repl_set_aside(struct repl *r, const char *why)
{
    char why_not[INSTALL_WHY_BYTES];
    struct celldir cell;
    if (r->voters.n < 2)
        return ERR_CORRUPT; /* as the engine has said */
    enum err e = celldir_read(".", &cell);
    if (e)
        return e;
    if (install_may_set_aside(".", repl_keep_free(r), why_not))
        return refuse(why_not);
    if ((e = wait_for_others(r, cell.cell_id, why)))
        return e;
    if (install_may_set_aside(".", repl_keep_free(r), why_not))
        return refuse(why_not);
    if ((e = mark(r, cell.cell_id)))
        return e;
    log_at(LOG_WARNING, "The data here is damaged (%s): it is set aside, and all of it copied from the other nodes",
           why);
    r->srv->again(r->srv);
    return ERR_AGAIN;
}
