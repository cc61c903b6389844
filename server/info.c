/* info.c - one function a section, in a table; see info.h. A section prints until something fails (out of memory),
 * which the end reports. */
#include "server/info.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/databases.h"
#include "engine/rebuild.h"
#include "engine/scrub.h"
#include "engine/snapshots.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/fallback.h"
#include "server/latency.h"
#include "server/leave.h"
#include "server/listen.h"
#include "server/pubsub.h"
#include "server/repl.h"
#include "server/restore.h"
#include "server/tracking.h"
#include "server/upload.h"
#include "server/version.h"

struct printer {
    struct server *srv;
    struct buf *out;
    enum err e;
    int ready; /* engine, HSM and the rest are there */
};

#define PUT(p, ...) ((p)->e = (p)->e ? (p)->e : buf_putf((p)->out, __VA_ARGS__))
#define PUT_U64(p, name, value) PUT(p, "%s:%llu\r\n", name, (unsigned long long)(value))

static void put_human(struct printer *p, const char *name, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double v = (double)bytes;
    unsigned u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    if (u)
        PUT(p, "%s:%.2f%c\r\n", name, v, units[u]);
    else
        PUT(p, "%s:%lluB\r\n", name, (unsigned long long)bytes);
}

static void server_section(struct printer *p)
{
    struct server *srv = p->srv;
    struct utsname u = {.sysname = "Linux"};
    uint64_t now = clock_wall_ms(), up = now > srv->started_ms ? (now - srv->started_ms) / 1000 : 0;
    char exe[512] = "";
    (void)uname(&u);
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    PUT(p,
        "redis_version:%s\r\ncoffer_version:%s\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_build_id:0\r\n",
        COFFER_REDIS_VERSION, COFFER_VERSION);
    PUT(p,
        "redis_mode:%s\r\nos:%s %s %s\r\narch_bits:64\r\nmonotonic_clock:POSIX "
        "clock_gettime\r\nmultiplexing_api:epoll\r\n",
        config_int(srv->config, CFG_CLUSTER_ENABLED) ? "cluster" : "standalone", u.sysname, u.release, u.machine);
    PUT(p, "process_id:%d\r\nprocess_supervised:%s\r\nrun_id:%s\r\ntcp_port:%d\r\n", (int)getpid(),
        getenv("NOTIFY_SOCKET") ? "systemd" : "no", srv->run_id, srv->listeners ? listen_port(srv->listeners) : 0);
    PUT(p, "server_time_usec:%llu\r\nuptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\nhz:10\r\nconfigured_hz:10\r\n",
        (unsigned long long)now * 1000, (unsigned long long)up, (unsigned long long)up / 86400);
    if (leave_left_ms(srv->leave))
        PUT_U64(p, "shutdown_in_milliseconds", leave_left_ms(srv->leave));
    PUT(p, "lru_clock:%llu\r\nexecutable:%s\r\nconfig_file:%s\r\nio_threads_active:%d\r\nio_threads:%u\r\n",
        (unsigned long long)(now / 1000 & 0xffffff), exe, srv->config->path ? srv->config->path : "", srv->io_count > 1,
        srv->io_count);
}

static struct tracking_figures tracked(struct server *srv)
{
    struct tracking_figures f = {0};
    if (srv->tracking)
        tracking_figures(srv->tracking, &f);
    return f;
}

static void clients_section(struct printer *p)
{
    unsigned blocked = 0;
    for (unsigned i = 0; i < p->srv->io_count; i++)
        blocked += atomic_load_explicit(&p->srv->io[i]->blocked_shown, memory_order_relaxed);
    PUT_U64(p, "connected_clients", atomic_load(&p->srv->clients));
    PUT(p, "cluster_connections:0\r\n");
    PUT_U64(p, "maxclients", config_int(p->srv->config, CFG_MAXCLIENTS));
    PUT_U64(p, "peak_clients", atomic_load(&p->srv->peak_clients));
    PUT(p, "client_recent_max_input_buffer:0\r\nclient_recent_max_output_buffer:0\r\nblocked_clients:%u\r\n", blocked);
    PUT_U64(p, "tls_handshakes_pending", atomic_load(&p->srv->handshakes));
    PUT_U64(p, "tracking_clients", tracked(p->srv).clients);
    PUT(p, "clients_in_timeout_table:0\r\n");
    PUT_U64(p, "monitors", atomic_load(&p->srv->monitors));
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    char text[128];
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (!fgets(text, sizeof text, f) || sscanf(text, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void memory_section(struct printer *p)
{
    static _Atomic uint64_t peak;
    struct mem_secret_stats s;
    uint64_t rss = resident_bytes(), total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
             old = peak;
    mem_secret_stats(&s);
    uint64_t used = mem_heap_bytes() + s.used_bytes;
    while (used > old && !atomic_compare_exchange_weak(&peak, &old, used)) {
    }
    PUT_U64(p, "used_memory", used);
    put_human(p, "used_memory_human", used);
    PUT_U64(p, "used_memory_rss", rss);
    put_human(p, "used_memory_rss_human", rss);
    PUT_U64(p, "used_memory_peak", peak);
    put_human(p, "used_memory_peak_human", peak);
    PUT_U64(p, "total_system_memory", total);
    put_human(p, "total_system_memory_human", total);
    PUT_U64(p, "maxmemory", config_int(p->srv->config, CFG_MAXMEMORY));
    PUT(p, "maxmemory_policy:noeviction\r\nmem_fragmentation_ratio:%.2f\r\nmem_allocator:%s\r\n",
        used ? (double)rss / (double)used : 1.0, mem_heap_name());
    PUT_U64(p, "mem_secret_reserved", s.reserved_bytes);
    PUT_U64(p, "mem_secret_locked", s.locked_bytes);
    PUT_U64(p, "mem_secret_used", s.used_bytes);
    PUT(p, "mem_secret_lock_refused:%d\r\n", s.lock_refused);
    if (p->ready) {
        struct engine_info i;
        engine_info(p->srv->engine, &i);
        PUT_U64(p, "mem_cache", i.hot.bytes);
        PUT_U64(p, "mem_cache_dirty", i.hot.dirty_bytes);
        PUT_U64(p, "mem_cache_entries", i.hot.entries);
    }
}

/* Names of the shards that are out, "base" for the base store; empty: all serve. */
static void put_failed_shards(struct printer *p)
{
    struct engine *e = p->srv->engine;
    const char *comma = "";
    PUT(p, "shards_failed:");
    for (unsigned s = 0; s <= engine_shards(e); s++) {
        if (engine_store_serves(e, s))
            continue;
        if (s)
            PUT(p, "%s%u", comma, s - 1);
        else
            PUT(p, "base");
        comma = ",";
    }
    PUT(p, "\r\n");
}

static void put_rebuild(struct printer *p)
{
    struct rebuild_info i;
    rebuild_info(engine_rebuild(p->srv->engine), &i);
    int any = i.state != REBUILD_IDLE || i.done || i.failed;
    put_failed_shards(p);
    PUT(p, "shard_rebuild_state:%s\r\n", rebuild_state_name(i.state));
    if (any && i.store)
        PUT(p, "shard_rebuild_shard:%u\r\n", i.store - 1);
    else
        PUT(p, "shard_rebuild_shard:%s\r\n", any ? "base" : "");
    PUT_U64(p, "shard_rebuild_snapshot_lsn", i.from_lsn);
    PUT_U64(p, "shard_rebuild_lsn", i.lsn);
    PUT_U64(p, "shard_rebuild_to_lsn", i.to_lsn);
    PUT_U64(p, "shard_rebuild_entries", i.entries);
    PUT_U64(p, "shard_rebuild_records", i.records);
    PUT_U64(p, "shard_rebuild_ms", i.ms);
    PUT(p, "shard_rebuild_error:%s\r\n", i.why);
    PUT_U64(p, "shard_rebuilds", i.done);
    PUT_U64(p, "shard_rebuilds_failed", i.failed);
}

/* By Redis's names. What is answered while stores are still being filled is async_loading there: loading would have
 * clients wait that look at it before they begin. */
static void put_loading(struct printer *p, const struct engine_recovery *r)
{
    uint64_t now = clock_wall_ms(), begun = p->ready ? r->started_ms : p->srv->started_ms;
    uint64_t done = p->ready ? r->done : atomic_load(&p->srv->progress.done);
    uint64_t total = p->ready ? r->total : atomic_load(&p->srv->progress.total);
    uint64_t eta_ms = p->ready ? r->eta_ms : done && total > done ? (now - begun) * (total - done) / done : 0;

    PUT(p, "loading:%d\r\nasync_loading:%d\r\n", !p->ready, r->stores_left != 0);
    if (p->ready && !r->stores_left)
        return;
    PUT_U64(p, "loading_start_time", begun / 1000);
    PUT(p, "loading_loaded_perc:%.2f\r\n", total ? 100.0 * (double)(done < total ? done : total) / (double)total : 0.0);
    PUT_U64(p, "loading_eta_seconds", (eta_ms + 999) / 1000);
}

static void put_recovery(struct printer *p, const struct engine_recovery *r)
{
    PUT(p, "recovery_tier:%d\r\n", r->tier);
    PUT_U64(p, "recovery_lsn", r->snapshot_lsn);
    PUT_U64(p, "recovery_records", r->replayed);
    PUT_U64(p, "recovery_ms", r->ready_ms);
    PUT_U64(p, "recovery_filled_ms", r->filled_ms);
    PUT_U64(p, "recovery_stores", r->stores_lost);
    PUT_U64(p, "recovery_stores_left", r->stores_left);
    PUT_U64(p, "wbl_unverified_bytes", r->unverified_bytes);
}

static void persistence_section(struct printer *p)
{
    struct engine_info i;
    struct snapshots_info s = {0};
    struct engine_recovery r = {0};
    if (p->ready) {
        snapshots_info(engine_snapshots(p->srv->engine), &s);
        engine_recovery(p->srv->engine, &r);
    }
    put_loading(p, &r);
    PUT(p, "rdb_changes_since_last_save:%llu\r\nrdb_bgsave_in_progress:%d\r\n",
        (unsigned long long)(p->ready ? engine_commit_lsn(p->srv->engine) - s.lsn : 0), s.making);
    PUT_U64(p, "rdb_last_save_time", (s.saved_ms ? s.saved_ms : p->srv->started_ms) / 1000);
    PUT(p,
        "rdb_last_bgsave_status:%s\r\nrdb_last_bgsave_time_sec:%lld\r\nrdb_current_bgsave_time_sec:-1\r\naof_enabled:"
        "0\r\n",
        s.err ? "err" : "ok", s.made ? (long long)(s.last_ms / 1000) : -1);
    PUT(p, "aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_bgrewrite_status:ok\r\naof_last_write_"
           "status:ok\r\n");
    if (!p->ready)
        return;
    engine_info(p->srv->engine, &i);
    PUT(p, "wbl_status:%s\r\nwbl_fsync:always\r\n",
        i.failed || i.wal.failed ? "failed"
        : i.wal.damaged_lsn      ? "damaged"
                                 : "ok");
    PUT_U64(p, "wbl_term", i.term);
    PUT_U64(p, "wbl_first_lsn", i.wal.first_lsn);
    PUT_U64(p, "wbl_last_lsn", i.wal.last_lsn);
    PUT_U64(p, "wbl_commit_lsn", i.commit_lsn);
    PUT_U64(p, "wbl_applied_lsn", i.apply.applied_lsn);
    PUT_U64(p, "wbl_checkpoint_lsn", i.apply.checkpoint_lsn);
    PUT_U64(p, "wbl_segments", i.wal.segments);
    PUT_U64(p, "wbl_bytes", i.wal.bytes);
    PUT_U64(p, "wbl_fsyncs", i.wal.fsyncs);
    PUT_U64(p, "wbl_records", i.wal.records);
    PUT_U64(p, "wbl_groups", i.wal.groups);
    PUT_U64(p, "wbl_last_group_records", i.group_records);
    PUT_U64(p, "wbl_pending_writes", i.pending_writes);
    PUT_U64(p, "snapshot_lsn", s.lsn);
    PUT_U64(p, "snapshot_bytes", s.bytes);
    PUT_U64(p, "snapshot_entries", s.entries);
    PUT_U64(p, "snapshot_files", s.files);
    PUT_U64(p, "snapshots_made", s.made);
    PUT_U64(p, "snapshots_failed", s.failed);
    PUT_U64(p, "snapshot_last_ms", s.last_ms);
    PUT_U64(p, "snapshot_lost_values", s.lost);
    PUT_U64(p, "apply_rounds", i.apply.rounds);
    PUT_U64(p, "apply_written", i.apply.written);
    PUT_U64(p, "apply_coalesced", i.apply.coalesced);
    put_recovery(p, &r);
    put_rebuild(p);
}

static void scrub_section(struct printer *p)
{
    struct scrub_info i = {0};
    if (p->ready)
        scrub_info(engine_scrub(p->srv->engine), &i);
    PUT(p, "scrub_state:%s\r\n", scrub_state_name(i.state));
    PUT_U64(p, "scrub_pass", i.pass);
    PUT(p, "scrub_position:%s\r\n", i.position);
    PUT_U64(p, "scrub_percent", i.percent);
    PUT_U64(p, "scrub_bytes", i.bytes);
    PUT_U64(p, "scrub_total_bytes", i.total_bytes);
    PUT_U64(p, "scrub_errors", i.errors);
    PUT_U64(p, "scrub_repaired", i.repaired);
    PUT_U64(p, "scrub_skipped", i.skipped);
    PUT(p, "scrub_last_error:%s\r\n", i.last_error);
    PUT_U64(p, "scrub_last_pass_time", i.last_pass_ms / 1000);
    PUT_U64(p, "scrub_last_pass_ms", i.last_took_ms);
}

static void stats_section(struct printer *p)
{
    struct server *srv = p->srv;
    struct engine_info i = {0};
    if (p->ready)
        engine_info(srv->engine, &i);
    PUT_U64(p, "total_connections_received", STATS_SUM(srv, connections));
    PUT_U64(p, "total_commands_processed", STATS_SUM(srv, commands));
    PUT_U64(p, "instantaneous_ops_per_sec", atomic_load(&srv->ops_per_sec));
    PUT_U64(p, "total_net_input_bytes", STATS_SUM(srv, net_in_bytes));
    PUT_U64(p, "total_net_output_bytes", STATS_SUM(srv, net_out_bytes));
    PUT(p, "instantaneous_input_kbps:%.2f\r\n", (double)atomic_load(&srv->in_bytes_per_sec) / 1024);
    PUT(p, "instantaneous_output_kbps:%.2f\r\n", (double)atomic_load(&srv->out_bytes_per_sec) / 1024);
    PUT_U64(p, "rejected_connections", atomic_load(&srv->rejected_connections));
    PUT_U64(p, "sync_full", atomic_load(&srv->sync_full));
    PUT_U64(p, "sync_partial_ok", atomic_load(&srv->sync_partial));
    PUT(p, "sync_partial_err:0\r\nevicted_keys:0\r\n");
    PUT_U64(p, "evicted_clients", STATS_SUM(srv, evicted));
    PUT_U64(p, "expired_keys", atomic_load(&srv->expired));
    PUT_U64(p, "keyspace_hits", STATS_SUM(srv, hits));
    PUT_U64(p, "keyspace_misses", STATS_SUM(srv, misses));
    PUT_U64(p, "fallback_reads", STATS_SUM(srv, fallback_reads));
    PUT_U64(p, "fallback_failed", STATS_SUM(srv, fallback_failed));
    PUT_U64(p, "cache_hits", i.hot.hits);
    PUT_U64(p, "cache_misses", i.hot.misses);
    PUT_U64(p, "cache_evictions", i.hot.evictions);
    PUT_U64(p, "pubsub_channels", pubsub_names(srv->pubsub, PUBSUB_CHANNEL));
    PUT_U64(p, "pubsub_patterns", pubsub_names(srv->pubsub, PUBSUB_PATTERN));
    PUT_U64(p, "pubsubshard_channels", pubsub_names(srv->pubsub, PUBSUB_SHARD));
    struct tracking_figures f = tracked(srv);
    PUT_U64(p, "tracking_total_keys", f.keys);
    PUT_U64(p, "tracking_total_items", f.items);
    PUT_U64(p, "tracking_total_prefixes", f.prefixes);
    PUT(p, "latest_fork_usec:0\r\ntotal_forks:0\r\n");
    PUT_U64(p, "total_error_replies", STATS_SUM(srv, errors));
    PUT_U64(p, "total_reads_processed", STATS_SUM(srv, reads));
    PUT_U64(p, "total_writes_processed", STATS_SUM(srv, writes));
    PUT_U64(p, "auth_failures", STATS_SUM(srv, auth_failures));
    PUT_U64(p, "acl_access_denied_cmd", STATS_SUM(srv, acl_denied));
    PUT_U64(p, "client_output_buffer_limit_disconnections", STATS_SUM(srv, obuf_closed));
    PUT_U64(p, "client_query_buffer_limit_disconnections", STATS_SUM(srv, qbuf_closed));
    PUT_U64(p, "protocol_errors", STATS_SUM(srv, protocol_errors));
    PUT_U64(p, "tls_handshakes", STATS_SUM(srv, tls_handshakes));
    PUT_U64(p, "tls_handshakes_failed", STATS_SUM(srv, tls_handshakes_failed));
    PUT_U64(p, "tls_certificate_expires", srv->tls ? (uint64_t)tls_expires(srv->tls) : 0);
}

static void put_replicas(struct printer *p, const struct repl_status *s)
{
    unsigned online = 0, full = 0;
    for (unsigned i = 0; i < s->peers; i++) {
        online += s->peer[i].online != 0;
        full += s->peer[i].full != 0;
    }
    PUT(p, "connected_slaves:%u\r\n", online);
    for (unsigned i = 0; i < s->peers; i++)
        PUT(p, "slave%u:ip=%s,port=%d,state=%s,offset=%llu,lag=%llu%s%s\r\n", i, s->peer[i].host, s->peer[i].port,
            s->peer[i].online ? "online" : "offline", (unsigned long long)s->peer[i].held_lsn,
            (unsigned long long)s->peer[i].lag_ms / 1000, s->peer[i].voter ? ",voter=1" : "",
            s->peer[i].full ? ",disk_full=1" : "");
    PUT(p, "voters_with_full_disk:%u\r\n", full);
}

static void put_copy(struct printer *p, const struct resync_info *c)
{
    uint64_t left = c->total_bytes > c->here_bytes ? c->total_bytes - c->here_bytes : 0;
    PUT_U64(p, "master_sync_total_bytes", c->total_bytes);
    PUT_U64(p, "master_sync_read_bytes", c->here_bytes);
    PUT_U64(p, "master_sync_left_bytes", left);
    PUT(p, "master_sync_perc:%.2f\r\n", c->total_bytes ? (double)c->here_bytes * 100 / (double)c->total_bytes : 0.0);
    PUT(p, "master_sync_last_io_seconds_ago:%lld\r\n",
        c->last_io_ms ? (long long)(clock_mono_ms() - c->last_io_ms) / 1000 : -1);
}

static void put_primary(struct printer *p, const struct repl_status *s)
{
    PUT(p, "master_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", s->leader_host, s->leader_port,
        s->link_up ? "up" : "down");
    PUT(p, "master_last_io_seconds_ago:%lld\r\nmaster_sync_in_progress:%d\r\n",
        s->link_up ? (long long)s->heard_ms_ago / 1000 : -1, s->copy.running);
    if (s->copy.running)
        put_copy(p, &s->copy);
    PUT_U64(p, "slave_read_repl_offset", s->offset);
    PUT_U64(p, "slave_repl_offset", s->offset);
    if (!s->link_up)
        PUT_U64(p, "master_link_down_since_seconds", s->link_down_ms / 1000);
    if (s->trouble[0])
        PUT(p, "master_link_error:%s\r\n", s->trouble);
    char why[HELLO_WHY_BYTES];
    if (p->srv->fallback && fallback_trouble(p->srv->fallback, why))
        PUT(p, "fallback_error:%s\r\n", why);
    PUT(p, "slave_priority:%u\r\nslave_read_only:1\r\nreplica_announced:%d\r\n", s->priority,
        (int)config_int(p->srv->config, CFG_REPLICA_ANNOUNCED));
}

static void replication_section(struct printer *p)
{
    static const char *const mutes[] = {[CELL_SOUND] = "no", [CELL_DAMAGED] = "damaged", [CELL_LOST] = "lost"};
    struct repl_status s = {0};
    if (p->srv->repl)
        repl_status(p->srv->repl, &s);
    PUT(p, "role:%s\r\n", !s.on || s.master ? "master" : "slave");
    if (s.on && !s.master)
        put_primary(p, &s);
    put_replicas(p, &s);
    PUT(p, "quorum:%s\r\n", s.voters ? "voters" : "alone");
    PUT(p, "mute:%s\r\n", mutes[s.mute]);
    PUT(p, "set_aside:%d\r\n", s.has_aside);
    PUT_U64(p, "read_rounds", s.read_rounds);
    PUT(p, "state_compared:%s\r\n", repl_state_name(s.state));
    PUT_U64(p, "state_compared_lsn", s.state_lsn);
    PUT(p, "master_failover_state:%s\r\n", p->srv->repl ? repl_failover_state(p->srv->repl) : "no-failover");
    PUT(p, "master_replid:%s\r\n", s.on ? s.replid : p->srv->run_id);
    PUT(p, "master_replid2:%s\r\n", s.replid2[0] ? s.replid2 : "0000000000000000000000000000000000000000");
    /* Up to where this node answers from, as clients expect that compare two nodes'; what is durable here, which
     * Sentinel chooses by, is slave_repl_offset. */
    PUT_U64(p, "master_repl_offset", p->ready ? engine_commit_lsn(p->srv->engine) : 0);
    PUT(p, "second_repl_offset:%lld\r\n", s.replid2[0] ? (long long)s.second_lsn : -1);
    PUT(p, "repl_backlog_active:%d\r\n", s.on);
    PUT_U64(p, "repl_backlog_size", config_int(p->srv->config, CFG_REPL_BACKLOG_SIZE));
    PUT(p, "repl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n");
}

static void cpu_section(struct printer *p)
{
    struct rusage self = {0}, children = {0};
    (void)getrusage(RUSAGE_SELF, &self);
    (void)getrusage(RUSAGE_CHILDREN, &children);
    PUT(p, "used_cpu_sys:%ld.%06ld\r\nused_cpu_user:%ld.%06ld\r\n", (long)self.ru_stime.tv_sec,
        (long)self.ru_stime.tv_usec, (long)self.ru_utime.tv_sec, (long)self.ru_utime.tv_usec);
    PUT(p, "used_cpu_sys_children:%ld.%06ld\r\nused_cpu_user_children:%ld.%06ld\r\n", (long)children.ru_stime.tv_sec,
        (long)children.ru_stime.tv_usec, (long)children.ru_utime.tv_sec, (long)children.ru_utime.tv_usec);
}

static void hsm_section(struct printer *p)
{
    struct hsm_stats s;
    if (!p->ready || !p->srv->hsm) {
        PUT(p, "hsm_state:starting\r\n");
        return;
    }
    hsm_stats(p->srv->hsm, &s);
    PUT(p, "hsm_state:%s\r\nhsm_sealed:%d\r\n", hsm_state_name(hsm_state_now(p->srv->hsm)),
        atomic_load(&p->srv->sealed));
    PUT(p, "hsm_workers_up:%u\r\nhsm_in_flight:%u\r\n", s.workers_up, s.in_flight);
    PUT_U64(p, "hsm_requests", s.requests);
    PUT_U64(p, "hsm_errors", s.errors);
    PUT_U64(p, "hsm_timeouts", s.timeouts);
    PUT_U64(p, "hsm_restarts", s.restarts);
    PUT_U64(p, "hsm_recycled", s.recycled);
    PUT_U64(p, "hsm_latency_us_p50", s.latency_us_p50);
    PUT_U64(p, "hsm_latency_us_p99", s.latency_us_p99);
}

static void put_upload(struct printer *p)
{
    struct upload_info i;
    upload_info(p->srv->upload, &i);
    PUT(p, "object_store_state:%s\r\n", upload_state_name(i.state));
    PUT_U64(p, "object_store_lsn", i.lsn);
    PUT_U64(p, "object_store_term", i.term);
    PUT_U64(p, "object_store_time", i.time_ms / 1000);
    PUT_U64(p, "object_store_bytes", i.bytes);
    PUT_U64(p, "object_store_sending_lsn", i.going_lsn);
    PUT_U64(p, "object_store_sending_bytes", i.done_bytes);
    PUT_U64(p, "object_store_sending_total_bytes", i.total_bytes);
    PUT_U64(p, "object_store_uploads", i.uploads);
    PUT_U64(p, "object_store_removed", i.removed);
    PUT_U64(p, "object_store_failures", i.failures);
    PUT(p, "object_store_error:%s\r\n", i.error);
    PUT(p, "object_store_error_text:%s\r\n", i.why);
}

static void objectstore_section(struct printer *p)
{
    struct restore_info i = {.state = RESTORE_OVER};
    PUT(p, "object_store:%s\r\n", config_str(p->srv->config, CFG_OBJECT_STORE));
    if (p->srv->restore)
        restore_info(p->srv->restore, &i);
    PUT(p, "restore_state:%s\r\n", restore_state_name(i.state));
    PUT(p, "restore_error_text:%s\r\n", i.why);
    PUT_U64(p, "restore_bytes", i.here_bytes);
    PUT_U64(p, "restore_total_bytes", i.total_bytes);
    if (p->ready && p->srv->upload)
        put_upload(p);
}

static void put_error(void *arg, const char *prefix, uint64_t count)
{
    struct printer *p = arg;
    PUT(p, "errorstat_%s:count=%llu\r\n", prefix, (unsigned long long)count);
}

static void errorstats_section(struct printer *p)
{
    stats_errors(p->srv, put_error, p);
}

static void cluster_section(struct printer *p)
{
    PUT(p, "cluster_enabled:%d\r\n", (int)config_int(p->srv->config, CFG_CLUSTER_ENABLED));
}

static void commandstats_section(struct printer *p)
{
    for (size_t i = 0; i < commands_count; i++) {
        struct command_total t;
        char name[COMMAND_NAME_MAX];
        stats_command(p->srv, i, &t);
        if (!t.calls && !t.rejected && !t.failed)
            continue;
        command_lower(&commands[i], name);
        PUT(p, "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,rejected_calls=%llu,failed_calls=%llu\r\n", name,
            (unsigned long long)t.calls, (unsigned long long)t.usec, t.calls ? (double)t.usec / (double)t.calls : 0.0,
            (unsigned long long)t.rejected, (unsigned long long)t.failed);
    }
}

static void latencystats_section(struct printer *p)
{
    struct bytes words[16];
    struct buf b;
    buf_init(&b, 4096);
    p->e = p->e ? p->e : config_text(p->srv->config, CFG_LATENCY_TRACKING_INFO_PERCENTILES, &b);
    int n = p->e || !buf_size(&b) ? 0 : config_split((char *)buf_data(&b), buf_size(&b), words, 16);
    for (size_t i = 0; i < commands_count && n > 0; i++) {
        uint64_t h[LATENCY_BUCKETS];
        char name[COMMAND_NAME_MAX];
        latency_sum(p->srv, i, h);
        if (!latency_calls(h))
            continue;
        command_lower(&commands[i], name);
        PUT(p, "latency_percentiles_usec_%s:", name);
        for (int k = 0; k < n; k++) {
            char percent[32];
            snprintf(percent, sizeof percent, "%.*s", (int)words[k].n, (const char *)words[k].p);
            PUT(p, "%sp%s=%llu.000", k ? "," : "", percent,
                (unsigned long long)latency_percentile(h, strtod(percent, NULL)));
        }
        PUT(p, "\r\n");
    }
    buf_fini(&b);
}

static void keyspace_section(struct printer *p)
{
    if (!p->ready)
        return;
    struct vaults *vs = engine_vaults(p->srv->engine);
    struct databases *dbs = engine_databases(p->srv->engine);
    for (int64_t db = 0; db < config_int(p->srv->config, CFG_DATABASES) && db < 1024; db++) {
        char name[16];
        size_t n = (size_t)snprintf(name, sizeof name, "db%u", databases_vault(dbs, (unsigned)db));
        struct vault *v = vaults_find(vs, bytes_of(name, n));
        uint64_t keys = v ? atomic_load_explicit(&v->secrets, memory_order_relaxed) : 0;
        if (keys)
            PUT(p, "db%lld:keys=%llu,expires=0,avg_ttl=0\r\n", (long long)db, (unsigned long long)keys);
    }
    PUT_U64(p, "vaults", vaults_count(vs));
}

enum { BY_DEFAULT = 1, IN_ALL = 2 };
static const struct {
    const char *name, *title;
    void (*print)(struct printer *p);
    int when;
} sections[] = {
    {"server", "Server", server_section, BY_DEFAULT | IN_ALL},
    {"clients", "Clients", clients_section, BY_DEFAULT | IN_ALL},
    {"memory", "Memory", memory_section, BY_DEFAULT | IN_ALL},
    {"persistence", "Persistence", persistence_section, BY_DEFAULT | IN_ALL},
    {"scrub", "Scrub", scrub_section, BY_DEFAULT | IN_ALL},
    {"stats", "Stats", stats_section, BY_DEFAULT | IN_ALL},
    {"replication", "Replication", replication_section, BY_DEFAULT | IN_ALL},
    {"cpu", "CPU", cpu_section, BY_DEFAULT | IN_ALL},
    {"hsm", "HSM", hsm_section, BY_DEFAULT | IN_ALL},
    {"objectstore", "Objectstore", objectstore_section, BY_DEFAULT | IN_ALL},
    {"commandstats", "Commandstats", commandstats_section, IN_ALL},
    {"latencystats", "Latencystats", latencystats_section, IN_ALL},
    {"errorstats", "Errorstats", errorstats_section, BY_DEFAULT | IN_ALL},
    {"cluster", "Cluster", cluster_section, BY_DEFAULT | IN_ALL},
    {"keyspace", "Keyspace", keyspace_section, BY_DEFAULT | IN_ALL},
};

static int wanted(size_t section, const struct bytes *names, unsigned n)
{
    int when = sections[section].when;
    if (n == 0)
        return when & BY_DEFAULT;
    for (unsigned i = 0; i < n; i++) {
        if (bytes_is_word(names[i], sections[section].name) ||
            (when & BY_DEFAULT && bytes_is_word(names[i], "default")) ||
            (when & IN_ALL && (bytes_is_word(names[i], "all") || bytes_is_word(names[i], "everything"))))
            return 1;
    }
    return 0;
}

enum err info_text(struct server *srv, const struct bytes *names, unsigned n, struct buf *out)
{
    struct printer p = {
        .srv = srv, .out = out, .ready = !atomic_load_explicit(&srv->loading, memory_order_acquire) && srv->engine};
    int any = 0;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (!wanted(i, names, n))
            continue;
        PUT(&p, "%s# %s\r\n", any++ ? "\r\n" : "", sections[i].title);
        sections[i].print(&p);
    }
    return p.e;
}
