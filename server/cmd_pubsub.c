/* cmd_pubsub.c - SUBSCRIBE and its kin, PUBLISH, PUBSUB. What happens behind them is in pubsub.h.
 *
 * Each name of a (UN)SUBSCRIBE is answered by a push of its own: kind, name, how many the connection listens to then.
 */
#include "base/glob.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/handlers.h"
#include "server/pubsub.h"
#include "server/server.h"

/* Shard channels are counted for themselves. */
static int64_t listens_to(const struct conn *c, enum pubsub_kind k)
{
    return k == PUBSUB_SHARD ? pubsub_count(c, k)
                             : (int64_t)pubsub_count(c, PUBSUB_CHANNEL) + pubsub_count(c, PUBSUB_PATTERN);
}

static void reply_change(struct call *c, const char *word, enum pubsub_kind k, struct bytes name, int nameless)
{
    reply_push(c->reply, 3);
    reply_bulk_str(c->reply, word);
    if (nameless)
        reply_nil(c->reply);
    else
        reply_bulk(c->reply, name);
    reply_int(c->reply, listens_to(c->conn, k));
}

static enum call_result subscribe(struct call *c, enum pubsub_kind k, const char *word)
{
    for (unsigned i = 1; i < c->argc; i++) {
        enum err err = pubsub_subscribe(c->srv->pubsub, c->conn, k, c->argv[i]);
        if (err)
            return call_error(c, err);
        reply_change(c, word, k, c->argv[i], 0);
    }
    return CALL_DONE;
}

/* Without names: from all. */
static enum call_result unsubscribe(struct call *c, enum pubsub_kind k, const char *word)
{
    struct pubsub *p = c->srv->pubsub;
    for (unsigned i = 1; i < c->argc; i++) {
        pubsub_unsubscribe(p, c->conn, k, c->argv[i]);
        reply_change(c, word, k, c->argv[i], 0);
    }
    if (c->argc > 1)
        return CALL_DONE;
    if (!pubsub_count(c->conn, k))
        reply_change(c, word, k, bytes_of(NULL, 0), 1);
    while (pubsub_count(c->conn, k)) {
        struct bytes name = pubsub_first(c->conn, k);
        reply_push(c->reply, 3);
        reply_bulk_str(c->reply, word);
        reply_bulk(c->reply, name); /* while it lives */
        pubsub_unsubscribe(p, c->conn, k, name);
        reply_int(c->reply, listens_to(c->conn, k));
    }
    return CALL_DONE;
}

enum call_result cmd_subscribe(struct call *c)
{
    return subscribe(c, PUBSUB_CHANNEL, "subscribe");
}

enum call_result cmd_psubscribe(struct call *c)
{
    return subscribe(c, PUBSUB_PATTERN, "psubscribe");
}

enum call_result cmd_ssubscribe(struct call *c)
{
    return subscribe(c, PUBSUB_SHARD, "ssubscribe");
}

enum call_result cmd_unsubscribe(struct call *c)
{
    return unsubscribe(c, PUBSUB_CHANNEL, "unsubscribe");
}

enum call_result cmd_punsubscribe(struct call *c)
{
    return unsubscribe(c, PUBSUB_PATTERN, "punsubscribe");
}

enum call_result cmd_sunsubscribe(struct call *c)
{
    return unsubscribe(c, PUBSUB_SHARD, "sunsubscribe");
}

enum call_result cmd_publish(struct call *c)
{
    reply_int(c->reply, pubsub_publish(c->srv->pubsub, PUBSUB_CHANNEL, c->argv[1], c->argv[2]));
    return CALL_DONE;
}

enum call_result cmd_spublish(struct call *c)
{
    reply_int(c->reply, pubsub_publish(c->srv->pubsub, PUBSUB_SHARD, c->argv[1], c->argv[2]));
    return CALL_DONE;
}

/* ---- PUBSUB ---- */

struct names {
    struct call *c;
    struct bytes pattern; /* NULL: all */
    size_t n;
};

static void list_name(void *arg, struct bytes name)
{
    struct names *l = arg;
    if (l->pattern.p && !glob_match(l->pattern, name, 0))
        return;
    reply_bulk(l->c->reply, name);
    l->n++;
}

static enum call_result list_names(struct call *c, enum pubsub_kind k)
{
    struct names l = {.c = c, .pattern = c->argc == 3 ? c->argv[2] : bytes_of(NULL, 0)};
    size_t mark = reply_mark(c->reply);
    char name[COMMAND_NAME_MAX];
    if (c->argc > 3) {
        command_lower(c->cmd, name);
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for '%s' command", name);
    }
    pubsub_each(c->srv->pubsub, k, list_name, &l);
    reply_insert_array(c->reply, mark, l.n);
    return CALL_DONE;
}

static enum call_result count_listeners(struct call *c, enum pubsub_kind k)
{
    reply_array(c->reply, 2 * (size_t)(c->argc - 2));
    for (unsigned i = 2; i < c->argc; i++) {
        reply_bulk(c->reply, c->argv[i]);
        reply_int(c->reply, pubsub_listeners(c->srv->pubsub, k, c->argv[i]));
    }
    return CALL_DONE;
}

enum call_result pubsub_channels(struct call *c)
{
    return list_names(c, PUBSUB_CHANNEL);
}

enum call_result pubsub_shardchannels(struct call *c)
{
    return list_names(c, PUBSUB_SHARD);
}

enum call_result pubsub_numsub(struct call *c)
{
    return count_listeners(c, PUBSUB_CHANNEL);
}

enum call_result pubsub_shardnumsub(struct call *c)
{
    return count_listeners(c, PUBSUB_SHARD);
}

enum call_result pubsub_numpat(struct call *c)
{
    reply_int(c->reply, pubsub_names(c->srv->pubsub, PUBSUB_PATTERN));
    return CALL_DONE;
}
