/* config.tbl.h - every directive, one row each (config.h says what a row drives). The includer defines the macros; they
 * are undefined at the end.
 *
 *     SECTION(title)
 *     CONFIG(id, name, type, flags, initial value, min, max, names of CONFIG_NAME, what it does)
 *     INERT(id, name, type, initial value, names)      Redis's directive that means nothing here; accepted, kept, shown
 *     HIDDEN(...)                                      the same, and CONFIG GET shows it by its whole name only
 *     ALIAS(other name, name)                          Redis's old names
 *
 * A text that is empty initially means: not given.
 */
#ifndef HIDDEN
#define HIDDEN INERT
#endif
/* clang-format off */
SECTION("Network")
CONFIG(PORT, "port", CONFIG_NUMBER, 0, "7379", 0, 65535, NULL, "TCP port for clients; 0: none.")
CONFIG(BIND, "bind", CONFIG_LIST, 0, "127.0.0.1 -::1", 0, 0, NULL,
       "Addresses to listen on, several with blanks; `*` all IPv4, `::*` all IPv6. A leading `-`: go on when this "
       "address is not there. Nothing but loopback unless you say so.")
CONFIG(PROTECTED_MODE, "protected-mode", CONFIG_BOOL, 0, "yes", 0, 0, NULL,
       "With a default user that needs no password: accept connections over loopback and the UNIX socket only.")
CONFIG(TCP_BACKLOG, "tcp-backlog", CONFIG_NUMBER, CONFIG_FIXED, "511", 1, 65535, NULL,
       "Connections that may wait to be accepted; the kernel's somaxconn caps it.")
CONFIG(UNIXSOCKET, "unixsocket", CONFIG_TEXT, CONFIG_FIXED, "", 0, 0, NULL,
       "Path of a UNIX socket to listen on besides.")
CONFIG(UNIXSOCKETPERM, "unixsocketperm", CONFIG_NUMBER, CONFIG_FIXED, "0", 0, 0777, "octal",
       "Permissions of the UNIX socket, octal; 0: by the umask.")
CONFIG(TIMEOUT, "timeout", CONFIG_NUMBER, 0, "0", 0, 2147483647, NULL,
       "Close a client that was idle for so many seconds; 0: never.")
CONFIG(TCP_KEEPALIVE, "tcp-keepalive", CONFIG_NUMBER, 0, "300", 0, 2147483647, NULL,
       "Seconds between TCP keep-alive probes; 0: none.")
CONFIG(MAXCLIENTS, "maxclients", CONFIG_NUMBER, 0, "10000", 1, 4294967295, NULL,
       "Most connections at a time; lowered when the limit of open files is lower.")
CONFIG(IO_THREADS, "io-threads", CONFIG_NUMBER, CONFIG_FIXED, "0", 0, 64, NULL,
       "Threads that serve connections, each with its own event loop. 0: one on up to two cores, else one less than "
       "there are cores, at most 8.")

SECTION("TLS")
CONFIG(TLS_PORT, "tls-port", CONFIG_NUMBER, 0, "0", 0, 65535, NULL,
       "TCP port for clients over TLS; 0: none. With `port 0` clients must use it. See operations.md.")
CONFIG(TLS_CERT_FILE, "tls-cert-file", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "The server's certificate, PEM, and those between it and the authority behind it. Setting it again reads the "
       "file again.")
CONFIG(TLS_KEY_FILE, "tls-key-file", CONFIG_TEXT, 0, "", 0, 0, NULL, "The certificate's private key, PEM.")
CONFIG(TLS_KEY_FILE_PASS, "tls-key-file-pass", CONFIG_TEXT, CONFIG_SECRET, "", 0, 0, NULL,
       "Passphrase of the private key.")
CONFIG(TLS_CLIENT_CERT_FILE, "tls-client-cert-file", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Certificate for connections that this server opens; not given: tls-cert-file.")
CONFIG(TLS_CLIENT_KEY_FILE, "tls-client-key-file", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Private key for connections that this server opens.")
CONFIG(TLS_CLIENT_KEY_FILE_PASS, "tls-client-key-file-pass", CONFIG_TEXT, CONFIG_SECRET, "", 0, 0, NULL,
       "Passphrase of that key.")
CONFIG(TLS_DH_PARAMS_FILE, "tls-dh-params-file", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Diffie-Hellman parameters, PEM; not given: a standard group that suits the key. Curves need none.")
CONFIG(TLS_CA_CERT_FILE, "tls-ca-cert-file", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Certificates of the authorities that peers are checked against, PEM.")
CONFIG(TLS_CA_CERT_DIR, "tls-ca-cert-dir", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "The same as a directory, of which every file is read once; setting it again reads it again.")
CONFIG(TLS_AUTH_CLIENTS, "tls-auth-clients", CONFIG_NAME, 0, "yes", 0, 0, "no|yes|optional",
       "Must clients show a certificate of those authorities? optional: one that is shown must be good.")
CONFIG(TLS_AUTH_CLIENTS_USER, "tls-auth-clients-user", CONFIG_NAME, 0, "off", 0, 0, "off|CN",
       "CN: a client whose certificate's common name is the name of a user that is on is logged in as that user. "
       "Others begin as without a certificate.")
CONFIG(TLS_REPLICATION, "tls-replication", CONFIG_BOOL, 0, "no", 0, 0, NULL, "Links to other nodes go over TLS, to their tls-port; links without TLS, or without a certificate, are refused.")
CONFIG(TLS_CLUSTER, "tls-cluster", CONFIG_BOOL, 0, "no", 0, 0, NULL, "Use TLS between cells.")
CONFIG(TLS_PROTOCOLS, "tls-protocols", CONFIG_TEXT, 0, "", 0, 0, "tls-protocols",
       "One or both of `TLSv1.2 TLSv1.3`; not given: both. Older ones are not offered.")
CONFIG(TLS_CIPHERS, "tls-ciphers", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Ciphers of TLS 1.2, as OpenSSL lists them; not given: those with forward secrecy and AES-GCM or ChaCha20.")
CONFIG(TLS_CIPHERSUITES, "tls-ciphersuites", CONFIG_TEXT, 0, "", 0, 0, NULL, "Cipher suites of TLS 1.3.")
CONFIG(TLS_PREFER_SERVER_CIPHERS, "tls-prefer-server-ciphers", CONFIG_BOOL, 0, "no", 0, 0, NULL,
       "The server's order of ciphers wins.")
CONFIG(TLS_SESSION_CACHING, "tls-session-caching", CONFIG_BOOL, 0, "yes", 0, 0, NULL, "Let clients resume sessions.")
CONFIG(TLS_SESSION_CACHE_SIZE, "tls-session-cache-size", CONFIG_NUMBER, 0, "20480", 0, 2147483647, NULL,
       "Sessions that can be resumed; 0: no limit.")
CONFIG(TLS_SESSION_CACHE_TIMEOUT, "tls-session-cache-timeout", CONFIG_NUMBER, 0, "300", 0, 2147483647, NULL,
       "Seconds for which a session can be resumed.")
CONFIG(TLS_HANDSHAKE_TIMEOUT, "tls-handshake-timeout", CONFIG_NUMBER, CONFIG_OURS, "10", 1, 2147483647, NULL,
       "Seconds that a client has for its handshake; at most 2 while many are under way.")

SECTION("General")
CONFIG(DIR, "dir", CONFIG_TEXT, CONFIG_FIXED | CONFIG_PROTECTED, ".", 0, 0, NULL,
       "Where the log, the stores and the embedded HSM's token are. One server owns it at a time.")
CONFIG(DAEMONIZE, "daemonize", CONFIG_BOOL, CONFIG_FIXED, "no", 0, 0, NULL, "Go to the background.")
CONFIG(PIDFILE, "pidfile", CONFIG_TEXT, CONFIG_FIXED, "", 0, 0, NULL, "File to write the process id to.")
CONFIG(SUPERVISED, "supervised", CONFIG_NAME, CONFIG_FIXED, "auto", 0, 0, "no|upstart|systemd|auto",
       "Tell a supervisor that the server is ready: systemd and auto do when NOTIFY_SOCKET is set.")
CONFIG(LOGLEVEL, "loglevel", CONFIG_NAME, 0, "notice", 0, 0, "debug|verbose|notice|warning|nothing",
       "The least important events that are logged.")
CONFIG(LOGFILE, "logfile", CONFIG_TEXT, CONFIG_FIXED, "", 0, 0, NULL,
       "Log file, opened anew on SIGHUP; not given: standard output.")
CONFIG(DATABASES, "databases", CONFIG_NUMBER, CONFIG_FIXED, "16", 1, 2147483647, NULL,
       "Databases of the string facade; database n is the vault `db<n>`, made on first use.")
CONFIG(SHUTDOWN_TIMEOUT, "shutdown-timeout", CONFIG_NUMBER, 0, "10", 0, 2147483647, NULL,
       "Seconds that a shutdown waits for what is in flight, and for replicas that lag.")
CONFIG(OOM_SCORE_ADJ, "oom-score-adj", CONFIG_NAME, 0, "no", 0, 0, "no|yes|relative|absolute",
       "Set `/proc/self/oom_score_adj`, by which the kernel chooses whom to kill when memory ends: to a number of `oom-score-adj-values`, "
       "or that much above what it was (yes, relative).")
CONFIG(OOM_SCORE_ADJ_VALUES, "oom-score-adj-values", CONFIG_LIST, 0, "0 200 800", 0, 0, "oom-scores",
       "Of a primary, of a replica, and a third that is not used: there is no child that saves.")
CONFIG(ENABLE_PROTECTED_CONFIGS, "enable-protected-configs", CONFIG_NAME, CONFIG_FIXED, "no", 0, 0, "no|yes|local",
       "Allow CONFIG SET of `dir` and the like: local means over loopback and the UNIX socket.")
CONFIG(ENABLE_DEBUG_COMMAND, "enable-debug-command", CONFIG_NAME, CONFIG_FIXED, "no", 0, 0, "no|yes|local",
       "Allow DEBUG.")
CONFIG(RENAME_COMMAND, "rename-command", CONFIG_LINES, CONFIG_FIXED, "", 0, 0, NULL,
       "`rename-command OLD NEW`; an empty NEW takes the command away. ACLs are the better way.")
CONFIG(INCLUDE, "include", CONFIG_LINES, CONFIG_FIXED, "", 0, 0, NULL, "Read another file here; later lines win.")

SECTION("Users")
CONFIG(REQUIREPASS, "requirepass", CONFIG_TEXT, CONFIG_SECRET | CONFIG_BINARY, "", 0, 0, NULL,
       "Password of the default user, at each start, whatever its home has (docs/acl.md).")
CONFIG(USER, "user", CONFIG_LINES, CONFIG_FIXED | CONFIG_SECRET, "", 0, 0, NULL,
       "`user <name> <rules>` as in Redis's ACL language; users without a line are in the log. Not together with aclfile.")
CONFIG(ACLFILE, "aclfile", CONFIG_TEXT, CONFIG_FIXED, "", 0, 0, NULL,
       "File of `user` lines with all users of this node, read at start and by ACL LOAD, written by ACL SAVE.")
CONFIG(ACLLOG_MAX_LEN, "acllog-max-len", CONFIG_NUMBER, 0, "128", 0, 1000000, NULL, "Refusals that ACL LOG keeps.")
CONFIG(ACL_PUBSUB_DEFAULT, "acl-pubsub-default", CONFIG_NAME, 0, "resetchannels", 0, 0, "allchannels|resetchannels",
       "Channels of a new user.")

SECTION("Clients")
CONFIG(CLIENT_OUTPUT_BUFFER_LIMIT, "client-output-buffer-limit", CONFIG_OBUF, 0, "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", 0, 0, NULL,
       "`<class> <hard> <soft> <seconds>`: close a client whose unread answers pass the hard limit, or the soft one "
       "for so long. 0: no limit.")
CONFIG(MAXMEMORY_CLIENTS, "maxmemory-clients", CONFIG_TEXT, 0, "0", 0, 0, "memory-or-percent",
       "What all clients' connections hold together, in bytes or as a percentage of `maxmemory`: above it the largest are closed, "
       "but for those with CLIENT NO-EVICT on. 0: no limit.")
CONFIG(CLIENT_QUERY_BUFFER_LIMIT, "client-query-buffer-limit", CONFIG_SIZE, 0, "1gb", 1048576, INT64_MAX, NULL,
       "Close a client whose unprocessed input is larger.")
CONFIG(PROTO_MAX_BULK_LEN, "proto-max-bulk-len", CONFIG_SIZE, 0, "512mb", 1048576, INT64_MAX, NULL,
       "Largest single argument.")
CONFIG(SLOWLOG_LOG_SLOWER_THAN, "slowlog-log-slower-than", CONFIG_NUMBER, 0, "10000", -1, INT64_MAX, NULL,
       "Commands that take longer, in microseconds from start to answer, are in SLOWLOG, values redacted; -1: none.")
CONFIG(SLOWLOG_MAX_LEN, "slowlog-max-len", CONFIG_NUMBER, 0, "128", 0, 1000000, NULL, "Entries that SLOWLOG keeps.")
CONFIG(LATENCY_MONITOR_THRESHOLD, "latency-monitor-threshold", CONFIG_NUMBER, 0, "0", 0, INT64_MAX, NULL,
       "Events that take longer, in milliseconds, are in LATENCY; 0: none.")
CONFIG(LATENCY_TRACKING, "latency-tracking", CONFIG_BOOL, 0, "yes", 0, 0, NULL, "Keep latency percentiles of commands.")
CONFIG(LATENCY_TRACKING_INFO_PERCENTILES, "latency-tracking-info-percentiles", CONFIG_LIST, 0, "50 99 99.9", 0, 100, "percentiles",
       "Which percentiles INFO latencystats shows.")
CONFIG(TRACKING_TABLE_MAX_KEYS, "tracking-table-max-keys", CONFIG_NUMBER, 0, "1000000", 0, INT64_MAX, NULL,
       "Names that are noted for clients with CLIENT TRACKING; the oldest beyond are told as changed and forgotten. 0: no limit.")
CONFIG(NOTIFY_KEYSPACE_EVENTS, "notify-keyspace-events", CONFIG_TEXT, 0, "", 0, 0, "keyspace-events",
       "Classes of keyspace events that are published: K and E the channels by key and by event; g del, expire, rename "
       "...; $ set, append, incrby ...; x expired; n new keys; m reads of keys that are not there; A all but n and m.")

SECTION("HSM")
CONFIG(HSM_MODULE, "hsm-module", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Path of the PKCS#11 module; not given: SoftHSM2 where the distribution puts it.")
CONFIG(HSM_MODULE_INIT, "hsm-module-init", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "String that C_Initialize gets; some modules (NSS) want one.")
CONFIG(HSM_TOKEN, "hsm-token", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "coffer", 0, 0, NULL,
       "Label of the token, or an RFC 7512 PKCS#11 URI.")
CONFIG(HSM_PIN_FILE, "hsm-pin-file", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "File with the user PIN, readable by its owner only. Else the systemd credential `hsm-pin`, else the "
       "environment COFFER_HSM_PIN.")
CONFIG(HSM_AUTO_PROVISION, "hsm-auto-provision", CONFIG_NAME, CONFIG_FIXED | CONFIG_OURS, "auto", 0, 0, "no|yes|auto",
       "Make a private SoftHSM2 token under `dir`/hsm at first start. auto: when no token, PIN or other module was "
       "configured. No security boundary: for trying out and for tests.")
CONFIG(HSM_WORKERS, "hsm-workers", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "2", 1, 64, NULL,
       "Worker processes, each with one thread and one login.")
CONFIG(HSM_TIMEOUT, "hsm-timeout", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "2000", 50, 600000, NULL,
       "Milliseconds; a worker that answers later is ended and replaced.")
CONFIG(HSM_KEY_CACHE, "hsm-key-cache", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "4096", 1, 1000000, NULL,
       "Unwrapped key handles that each worker keeps.")
CONFIG(HSM_ONLY, "hsm-only", CONFIG_BOOL, CONFIG_FIXED | CONFIG_OURS, "no", 0, 0, NULL,
       "Refuse key types that the module cannot hold (they would be sealed by it and used in software).")
CONFIG(HSM_RECYCLE_OBJECTS, "hsm-recycle-objects", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "1000000", 1000, INT64_MAX, NULL,
       "Session objects that a worker makes before a fresh one takes its place: modules leak.")
CONFIG(REALM_FILE, "realm-file", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "The realm's wrapped ownership keys; copy it to other nodes to let them join. Not given: `dir`/hsm/realm.")
CONFIG(DATA_KEY_TTL, "data-key-ttl", CONFIG_SECONDS, CONFIG_FIXED | CONFIG_OURS, "3600", 0, INT64_MAX / 1000, NULL,
       "A data key that is only read with is wiped so long after it came from the HSM; 0: never.")

SECTION("Log and stores")
CONFIG(SHARDS, "shards", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "4", 1, 256, NULL,
       "LevelDB stores that vaults are spread over. Fixed at the first start.")
CONFIG(WBL_SEGMENT_BYTES, "wbl-segment-bytes", CONFIG_SIZE, CONFIG_FIXED | CONFIG_OURS, "16mb", 65536, 1073741824, NULL,
       "Size of a log segment; zero-filled ahead of use.")
CONFIG(WBL_FSYNC, "wbl-fsync", CONFIG_NAME, CONFIG_FIXED | CONFIG_OURS, "always", 0, 0, "always|everysec",
       "When the log is made durable. everysec answers before that: acknowledged writes may be lost.")
CONFIG(WBL_RETAIN, "wbl-retain", CONFIG_SIZE, CONFIG_OURS, "1gb", 0, INT64_MAX, NULL, "Log kept for replicas that lag.")
CONFIG(CACHE_SIZE, "cache-size", CONFIG_SIZE, CONFIG_FIXED | CONFIG_OURS, "56mb", 1048576, INT64_MAX, NULL,
       "Sealed values kept in memory, those that are not in LevelDB yet included.")
CONFIG(DIRTY_LIMIT, "dirty-limit", CONFIG_SIZE, CONFIG_FIXED | CONFIG_OURS, "64mb", 1048576, INT64_MAX, NULL,
       "Committed values that are not in LevelDB yet, of cache-size; writers wait above it.")
CONFIG(WRITE_BUFFER_SIZE, "write-buffer-size", CONFIG_SIZE, CONFIG_FIXED | CONFIG_OURS, "4mb", 65536, 1073741824, NULL,
       "LevelDB's write buffer, each store.")
CONFIG(SNAPSHOT_LOG_BYTES, "snapshot-log-bytes", CONFIG_SIZE, CONFIG_OURS, "64mb", 0, INT64_MAX, NULL,
       "A rolling snapshot after so much log (and as much as the one before has) ...; 0: not by size.")
CONFIG(SNAPSHOT_INTERVAL, "snapshot-interval", CONFIG_SECONDS, CONFIG_OURS, "300", 0, INT64_MAX / 1000, NULL,
       "... or so many seconds, whichever is first; 0: not by time.")
CONFIG(SNAPSHOT_KEEP, "snapshot-keep", CONFIG_NUMBER, CONFIG_OURS, "2", 2, 60, NULL,
       "Snapshots kept; the log goes back to the second newest.")
CONFIG(SCRUB_RATE, "scrub-rate", CONFIG_SIZE, CONFIG_OURS, "4mb", 0, INT64_MAX / 1000000, NULL,
       "Log, stores and snapshots are read from the disk and verified once an hour, at most so many bytes a second; 0: "
       "only by SCRUB.NOW.")

CONFIG(STATE_CHECK_INTERVAL, "state-check-interval", CONFIG_SECONDS, CONFIG_OURS, "3600", 0, INT64_MAX / 1000, NULL,
       "A primary has its replicas compare their state with its newest snapshot's digest, so often at most; 0: never.")

SECTION("Secrets")
CONFIG(SECRET_MAX_BYTES, "secret-max-bytes", CONFIG_SIZE, CONFIG_OURS | CONFIG_FIXED, "1mb", 1, 67108864, NULL,
       "Largest value.")
CONFIG(SECRET_MAX_VERSIONS, "secret-max-versions", CONFIG_NUMBER, CONFIG_OURS | CONFIG_FIXED, "10", 1, 1000, NULL,
       "Versions kept of each secret in a new vault.")
CONFIG(SECRET_RECOVERY_WINDOW, "secret-recovery-window", CONFIG_SECONDS, CONFIG_OURS | CONFIG_FIXED, "7d", 0, INT64_MAX / 1000, NULL,
       "A deleted secret can be had back for so long, in a new vault.")

SECTION("Rates")
CONFIG(SERVER_RATE, "server-rate", CONFIG_NUMBER, CONFIG_OURS, "0", 0, INT64_MAX, NULL,
       "Operations a second for all; 0: no limit.")
CONFIG(SERVER_BURST, "server-burst", CONFIG_NUMBER, CONFIG_OURS, "0", 0, INT64_MAX, NULL,
       "Operations at once; 0: one second's worth.")
CONFIG(USER_RATE, "user-rate", CONFIG_NUMBER, CONFIG_OURS, "0", 0, INT64_MAX, NULL,
       "Operations a second for each user; 0: no limit.")
CONFIG(VAULT_RATE, "vault-rate", CONFIG_NUMBER, CONFIG_OURS, "0", 0, INT64_MAX, NULL,
       "Operations a second for each vault that has no rate of its own; 0: no limit.")

SECTION("Replication and cells")
CONFIG(REPLICAOF, "replicaof", CONFIG_LIST, CONFIG_FIXED, "", 0, 0, "host-port",
       "`<host> <port>` of the primary; not given: this is one, or, with `voters`, was or becomes one as they agree. "
       "REPLICAOF changes it, CONFIG REWRITE keeps it.")
CONFIG(MASTERUSER, "masteruser", CONFIG_TEXT, 0, "", 0, 0, NULL, "User to log in to the primary as.")
CONFIG(MASTERAUTH, "masterauth", CONFIG_TEXT, CONFIG_SECRET | CONFIG_BINARY, "", 0, 0, NULL, "Password to log in to the primary with.")
CONFIG(REPLICA_READ_ONLY, "replica-read-only", CONFIG_BOOL, 0, "yes", 0, 0, NULL,
       "A replica refuses writes; it always does.")
CONFIG(REPLICA_SERVE_STALE_DATA, "replica-serve-stale-data", CONFIG_BOOL, 0, "yes", 0, 0, NULL,
       "no: a replica without its primary answers -MASTERDOWN after `replica-max-staleness`. With `voters` it always "
       "does.")
CONFIG(REPLICA_READ_FALLBACK, "replica-read-fallback", CONFIG_BOOL, CONFIG_OURS, "no", 0, 0, NULL,
       "A replica asks the primary for what it does not have yet, or is too stale to answer; as the user who asks, over "
       "TLS or on one machine only. A replica of a replica does not: the one that it follows would have to be primary.")
CONFIG(REPLICA_PRIORITY, "replica-priority", CONFIG_NUMBER, 0, "100", 0, 2147483647, NULL,
       "For Sentinel: the lowest is promoted first; 0: never.")
CONFIG(REPLICA_ANNOUNCE_IP, "replica-announce-ip", CONFIG_TEXT, 0, "", 0, 0, NULL,
       "Address that others should use for this node.")
CONFIG(REPLICA_ANNOUNCE_PORT, "replica-announce-port", CONFIG_NUMBER, 0, "0", 0, 65535, NULL,
       "Port that others should use for this node.")
CONFIG(REPLICA_ANNOUNCED, "replica-announced", CONFIG_BOOL, 0, "yes", 0, 0, NULL,
       "no: Sentinel does not show this replica to clients.")
CONFIG(REPLICA_MAX_STALENESS, "replica-max-staleness", CONFIG_NUMBER, CONFIG_OURS, "5000", 0, INT64_MAX, NULL,
       "Milliseconds without news of the primary after which a replica refuses reads.")
CONFIG(REPL_TIMEOUT, "repl-timeout", CONFIG_NUMBER, 0, "60", 1, 2147483647, NULL,
       "Seconds of silence after which a replication link is given up.")
CONFIG(REPL_PING_REPLICA_PERIOD, "repl-ping-replica-period", CONFIG_NUMBER, 0, "10", 1, 2147483647, NULL,
       "Seconds after which a link that has nothing to say gives a sign of life.")
CONFIG(REPL_BACKLOG_SIZE, "repl-backlog-size", CONFIG_SIZE, 0, "1mb", 1, INT64_MAX, NULL,
       "Log kept in memory for replicas that come back soon.")
CONFIG(MIN_REPLICAS_TO_WRITE, "min-replicas-to-write", CONFIG_NUMBER, 0, "0", 0, 2147483647, NULL,
       "Refuse writes with fewer replicas in time; 0: do not ask.")
CONFIG(MIN_REPLICAS_MAX_LAG, "min-replicas-max-lag", CONFIG_NUMBER, 0, "10", 0, 2147483647, NULL,
       "Seconds that a replica may lag to be in time.")
CONFIG(VOTERS, "voters", CONFIG_LIST, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "`host:port host:port ...`, this node included, 3, 5 or 7 of them, the same on all: a majority of these is the "
       "quorum of each write. Not given: a single node, whose replicas follow as Redis's do.")
CONFIG(QUORUM_TIMEOUT, "quorum-timeout", CONFIG_NUMBER, CONFIG_OURS, "2000", 1, 600000, NULL,
       "Milliseconds without word of a majority after which a primary refuses writes and reads; and without an answer of "
       "the primary after which `replica-read-fallback` gives up.")
CONFIG(RECOVERY_PEERS, "recovery-peers", CONFIG_LIST, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Nodes asked for a snapshot when there is none; not given: the voters.")
CONFIG(CLUSTER_ENABLED, "cluster-enabled", CONFIG_BOOL, CONFIG_FIXED, "no", 0, 0, NULL,
       "Serve a part of the vaults and answer -MOVED for others.")
CONFIG(CELL_ID, "cell-id", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Name of this cell in a cluster of cells.")
CONFIG(CELL_PROXY, "cell-proxy", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Address of a proxy in front of the cells.")

SECTION("Object store")
CONFIG(OBJECT_STORE, "object-store", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, "s3-url",
       "`s3://bucket/prefix` for snapshots; not given: none.")
CONFIG(OBJECT_STORE_ENDPOINT, "object-store-endpoint", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, "endpoint",
       "URL of the S3 service.")
CONFIG(OBJECT_STORE_REGION, "object-store-region", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Region to sign requests for; not given: us-east-1.")
CONFIG(OBJECT_STORE_CREDENTIALS_FILE, "object-store-credentials-file", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "File with access key and secret key; read anew for each upload.")
CONFIG(OBJECT_STORE_CA_CERT_FILE, "object-store-ca-cert-file", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "PEM file of the authorities that the service's certificate is checked against; not given: the system's.")
CONFIG(OBJECT_STORE_INTERVAL, "object-store-interval", CONFIG_SECONDS, CONFIG_OURS, "3600", 0, INT64_MAX / 1000000, NULL,
       "Seconds between uploads of the newest snapshot; 0: by SNAPSHOT.UPLOAD only.")
CONFIG(OBJECT_STORE_KEEP, "object-store-keep", CONFIG_NUMBER, CONFIG_OURS, "24", 1, 1000000, NULL,
       "Snapshots of the cell kept there.")
CONFIG(OBJECT_STORE_UNFINISHED_AGE, "object-store-unfinished-age", CONFIG_SECONDS, CONFIG_OURS, "1d", 1, INT64_MAX / 1000000, NULL,
       "What an upload has left there that nobody finished is removed after so long.")
CONFIG(NODE_NAME, "node-name", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, "node-name",
       "This node's name in the object store, another one for each node of a cell; not given: the host's name.")
CONFIG(FORCE_RECOVER, "force-recover", CONFIG_BOOL, CONFIG_FIXED | CONFIG_OURS, "no", 0, 0, NULL,
       "A start without a log does by itself what CELL.FORCE-RECOVER does. What was written after the snapshot that it "
       "finds is lost: for one start, on the command line.")

SECTION("Watching")
CONFIG(METRICS_PORT, "metrics-port", CONFIG_NUMBER, CONFIG_FIXED | CONFIG_OURS, "0", 0, 65535, NULL,
       "HTTP port of `/metrics`, `/health`, `/ready` and the console; 0: none.")
CONFIG(AUDIT_LOG, "audit-log", CONFIG_TEXT, CONFIG_FIXED | CONFIG_OURS, "", 0, 0, NULL,
       "Path of the chained audit log; not given: none.")
CONFIG(AUDIT_FAIL_CLOSED, "audit-fail-closed", CONFIG_BOOL, CONFIG_OURS, "yes", 0, 0, NULL,
       "Refuse what cannot be audited.")

SECTION("Accepted from redis.conf")
INERT(SAVE, "save", CONFIG_LIST, "3600 1 300 100 60 10000", NULL)
INERT(APPENDONLY, "appendonly", CONFIG_BOOL, "no", NULL)
INERT(APPENDFSYNC, "appendfsync", CONFIG_NAME, "always", "always|everysec|no")
INERT(APPENDFILENAME, "appendfilename", CONFIG_TEXT, "appendonly.aof", NULL)
INERT(APPENDDIRNAME, "appenddirname", CONFIG_TEXT, "appendonlydir", NULL)
INERT(NO_APPENDFSYNC_ON_REWRITE, "no-appendfsync-on-rewrite", CONFIG_BOOL, "no", NULL)
INERT(AUTO_AOF_REWRITE_PERCENTAGE, "auto-aof-rewrite-percentage", CONFIG_NUMBER, "100", NULL)
INERT(AUTO_AOF_REWRITE_MIN_SIZE, "auto-aof-rewrite-min-size", CONFIG_SIZE, "64mb", NULL)
INERT(AOF_LOAD_TRUNCATED, "aof-load-truncated", CONFIG_BOOL, "yes", NULL)
INERT(AOF_USE_RDB_PREAMBLE, "aof-use-rdb-preamble", CONFIG_BOOL, "yes", NULL)
INERT(AOF_REWRITE_INCREMENTAL_FSYNC, "aof-rewrite-incremental-fsync", CONFIG_BOOL, "yes", NULL)
INERT(AOF_TIMESTAMP_ENABLED, "aof-timestamp-enabled", CONFIG_BOOL, "no", NULL)
INERT(DBFILENAME, "dbfilename", CONFIG_TEXT, "dump.rdb", NULL)
INERT(RDBCOMPRESSION, "rdbcompression", CONFIG_BOOL, "yes", NULL)
INERT(RDBCHECKSUM, "rdbchecksum", CONFIG_BOOL, "yes", NULL)
INERT(RDB_SAVE_INCREMENTAL_FSYNC, "rdb-save-incremental-fsync", CONFIG_BOOL, "yes", NULL)
INERT(RDB_DEL_SYNC_FILES, "rdb-del-sync-files", CONFIG_BOOL, "no", NULL)
HIDDEN(RDB_KEY_SAVE_DELAY, "rdb-key-save-delay", CONFIG_NUMBER, "0", NULL)
HIDDEN(KEY_LOAD_DELAY, "key-load-delay", CONFIG_NUMBER, "0", NULL)
HIDDEN(LOADING_PROCESS_EVENTS_INTERVAL_BYTES, "loading-process-events-interval-bytes", CONFIG_SIZE, "2mb", NULL)
INERT(SANITIZE_DUMP_PAYLOAD, "sanitize-dump-payload", CONFIG_NAME, "no", "no|yes|clients")
INERT(STOP_WRITES_ON_BGSAVE_ERROR, "stop-writes-on-bgsave-error", CONFIG_BOOL, "yes", NULL)
INERT(MAXMEMORY, "maxmemory", CONFIG_SIZE, "0", NULL)
INERT(MAXMEMORY_POLICY, "maxmemory-policy", CONFIG_NAME, "noeviction",
      "volatile-lru|volatile-lfu|volatile-random|volatile-ttl|allkeys-lru|allkeys-lfu|allkeys-random|noeviction")
INERT(MAXMEMORY_SAMPLES, "maxmemory-samples", CONFIG_NUMBER, "5", NULL)
INERT(MAXMEMORY_EVICTION_TENACITY, "maxmemory-eviction-tenacity", CONFIG_NUMBER, "10", NULL)
INERT(LFU_LOG_FACTOR, "lfu-log-factor", CONFIG_NUMBER, "10", NULL)
INERT(LFU_DECAY_TIME, "lfu-decay-time", CONFIG_NUMBER, "1", NULL)
INERT(HZ, "hz", CONFIG_NUMBER, "10", NULL)
INERT(DYNAMIC_HZ, "dynamic-hz", CONFIG_BOOL, "yes", NULL)
INERT(ALWAYS_SHOW_LOGO, "always-show-logo", CONFIG_BOOL, "no", NULL)
INERT(SET_PROC_TITLE, "set-proc-title", CONFIG_BOOL, "yes", NULL)
INERT(PROC_TITLE_TEMPLATE, "proc-title-template", CONFIG_TEXT, "{title} {listen-addr} {server-mode}", NULL)
INERT(ACTIVEREHASHING, "activerehashing", CONFIG_BOOL, "yes", NULL)
INERT(ACTIVE_EXPIRE_EFFORT, "active-expire-effort", CONFIG_NUMBER, "1", NULL)
INERT(ACTIVEDEFRAG, "activedefrag", CONFIG_BOOL, "no", NULL)
INERT(ACTIVE_DEFRAG_IGNORE_BYTES, "active-defrag-ignore-bytes", CONFIG_SIZE, "100mb", NULL)
INERT(ACTIVE_DEFRAG_THRESHOLD_LOWER, "active-defrag-threshold-lower", CONFIG_NUMBER, "10", NULL)
INERT(ACTIVE_DEFRAG_THRESHOLD_UPPER, "active-defrag-threshold-upper", CONFIG_NUMBER, "100", NULL)
INERT(ACTIVE_DEFRAG_CYCLE_MIN, "active-defrag-cycle-min", CONFIG_NUMBER, "1", NULL)
INERT(ACTIVE_DEFRAG_CYCLE_MAX, "active-defrag-cycle-max", CONFIG_NUMBER, "25", NULL)
INERT(ACTIVE_DEFRAG_MAX_SCAN_FIELDS, "active-defrag-max-scan-fields", CONFIG_NUMBER, "1000", NULL)
INERT(JEMALLOC_BG_THREAD, "jemalloc-bg-thread", CONFIG_BOOL, "yes", NULL)
INERT(LAZYFREE_LAZY_EVICTION, "lazyfree-lazy-eviction", CONFIG_BOOL, "no", NULL)
INERT(LAZYFREE_LAZY_EXPIRE, "lazyfree-lazy-expire", CONFIG_BOOL, "no", NULL)
INERT(LAZYFREE_LAZY_SERVER_DEL, "lazyfree-lazy-server-del", CONFIG_BOOL, "no", NULL)
INERT(LAZYFREE_LAZY_USER_DEL, "lazyfree-lazy-user-del", CONFIG_BOOL, "no", NULL)
INERT(LAZYFREE_LAZY_USER_FLUSH, "lazyfree-lazy-user-flush", CONFIG_BOOL, "no", NULL)
INERT(HASH_MAX_LISTPACK_ENTRIES, "hash-max-listpack-entries", CONFIG_NUMBER, "512", NULL)
INERT(HASH_MAX_LISTPACK_VALUE, "hash-max-listpack-value", CONFIG_NUMBER, "64", NULL)
INERT(LIST_MAX_LISTPACK_SIZE, "list-max-listpack-size", CONFIG_NUMBER, "-2", NULL)
INERT(LIST_COMPRESS_DEPTH, "list-compress-depth", CONFIG_NUMBER, "0", NULL)
INERT(SET_MAX_INTSET_ENTRIES, "set-max-intset-entries", CONFIG_NUMBER, "512", NULL)
INERT(ZSET_MAX_LISTPACK_ENTRIES, "zset-max-listpack-entries", CONFIG_NUMBER, "128", NULL)
INERT(ZSET_MAX_LISTPACK_VALUE, "zset-max-listpack-value", CONFIG_NUMBER, "64", NULL)
INERT(HLL_SPARSE_MAX_BYTES, "hll-sparse-max-bytes", CONFIG_SIZE, "3000", NULL)
INERT(STREAM_NODE_MAX_BYTES, "stream-node-max-bytes", CONFIG_SIZE, "4096", NULL)
INERT(STREAM_NODE_MAX_ENTRIES, "stream-node-max-entries", CONFIG_NUMBER, "100", NULL)
INERT(BUSY_REPLY_THRESHOLD, "busy-reply-threshold", CONFIG_NUMBER, "5000", NULL)
INERT(REPL_DISKLESS_SYNC, "repl-diskless-sync", CONFIG_BOOL, "yes", NULL)
INERT(REPL_DISKLESS_SYNC_DELAY, "repl-diskless-sync-delay", CONFIG_NUMBER, "5", NULL)
INERT(REPL_DISKLESS_SYNC_MAX_REPLICAS, "repl-diskless-sync-max-replicas", CONFIG_NUMBER, "0", NULL)
INERT(REPL_DISKLESS_LOAD, "repl-diskless-load", CONFIG_NAME, "disabled", "disabled|on-empty-db|swapdb")
INERT(REPL_DISABLE_TCP_NODELAY, "repl-disable-tcp-nodelay", CONFIG_BOOL, "no", NULL)
INERT(REPL_BACKLOG_TTL, "repl-backlog-ttl", CONFIG_NUMBER, "3600", NULL)
INERT(REPLICA_IGNORE_MAXMEMORY, "replica-ignore-maxmemory", CONFIG_BOOL, "yes", NULL)
INERT(REPLICA_LAZY_FLUSH, "replica-lazy-flush", CONFIG_BOOL, "no", NULL)
INERT(PROPAGATION_ERROR_BEHAVIOR, "propagation-error-behavior", CONFIG_NAME, "ignore", "ignore|panic|panic-on-replicas")
INERT(REPLICA_IGNORE_DISK_WRITE_ERRORS, "replica-ignore-disk-write-errors", CONFIG_BOOL, "no", NULL)
INERT(CLUSTER_CONFIG_FILE, "cluster-config-file", CONFIG_TEXT, "nodes.conf", NULL)
INERT(CLUSTER_NODE_TIMEOUT, "cluster-node-timeout", CONFIG_NUMBER, "15000", NULL)
INERT(CLUSTER_PORT, "cluster-port", CONFIG_NUMBER, "0", NULL)
INERT(CLUSTER_REQUIRE_FULL_COVERAGE, "cluster-require-full-coverage", CONFIG_BOOL, "yes", NULL)
INERT(CLUSTER_ALLOW_READS_WHEN_DOWN, "cluster-allow-reads-when-down", CONFIG_BOOL, "no", NULL)
INERT(CLUSTER_ANNOUNCE_IP, "cluster-announce-ip", CONFIG_TEXT, "", NULL)
INERT(CLUSTER_ANNOUNCE_PORT, "cluster-announce-port", CONFIG_NUMBER, "0", NULL)
INERT(CLUSTER_ANNOUNCE_BUS_PORT, "cluster-announce-bus-port", CONFIG_NUMBER, "0", NULL)
INERT(CLUSTER_REPLICA_VALIDITY_FACTOR, "cluster-replica-validity-factor", CONFIG_NUMBER, "10", NULL)
INERT(CLUSTER_REPLICA_NO_FAILOVER, "cluster-replica-no-failover", CONFIG_BOOL, "no", NULL)
INERT(CLUSTER_MIGRATION_BARRIER, "cluster-migration-barrier", CONFIG_NUMBER, "1", NULL)
INERT(CLUSTER_ALLOW_REPLICA_MIGRATION, "cluster-allow-replica-migration", CONFIG_BOOL, "yes", NULL)
INERT(CLUSTER_LINK_SENDBUF_LIMIT, "cluster-link-sendbuf-limit", CONFIG_SIZE, "0", NULL)
INERT(IO_THREADS_DO_READS, "io-threads-do-reads", CONFIG_BOOL, "yes", NULL)
INERT(DISABLE_THP, "disable-thp", CONFIG_BOOL, "yes", NULL)
INERT(SYSLOG_ENABLED, "syslog-enabled", CONFIG_BOOL, "no", NULL)
INERT(SYSLOG_IDENT, "syslog-ident", CONFIG_TEXT, "redis", NULL)
INERT(SYSLOG_FACILITY, "syslog-facility", CONFIG_TEXT, "local0", NULL)
INERT(CRASH_LOG_ENABLED, "crash-log-enabled", CONFIG_BOOL, "yes", NULL)
INERT(CRASH_MEMCHECK_ENABLED, "crash-memcheck-enabled", CONFIG_BOOL, "yes", NULL)
INERT(USE_EXIT_ON_PANIC, "use-exit-on-panic", CONFIG_BOOL, "no", NULL)
INERT(WATCHDOG_PERIOD, "watchdog-period", CONFIG_NUMBER, "0", NULL)
INERT(ENABLE_MODULE_COMMAND, "enable-module-command", CONFIG_NAME, "no", "no|yes|local")
INERT(SHUTDOWN_ON_SIGINT, "shutdown-on-sigint", CONFIG_LIST, "default", "shutdown")
INERT(SHUTDOWN_ON_SIGTERM, "shutdown-on-sigterm", CONFIG_LIST, "default", "shutdown")
INERT(BIND_SOURCE_ADDR, "bind-source-addr", CONFIG_TEXT, "", NULL)
INERT(SOCKET_MARK_ID, "socket-mark-id", CONFIG_NUMBER, "0", NULL)
INERT(IGNORE_WARNINGS, "ignore-warnings", CONFIG_TEXT, "", NULL)
INERT(SERVER_CPULIST, "server_cpulist", CONFIG_TEXT, "", NULL)
INERT(BIO_CPULIST, "bio_cpulist", CONFIG_TEXT, "", NULL)
INERT(AOF_REWRITE_CPULIST, "aof_rewrite_cpulist", CONFIG_TEXT, "", NULL)
INERT(BGSAVE_CPULIST, "bgsave_cpulist", CONFIG_TEXT, "", NULL)

ALIAS("slaveof", "replicaof")
ALIAS("slave-priority", "replica-priority")
ALIAS("slave-read-only", "replica-read-only")
ALIAS("slave-serve-stale-data", "replica-serve-stale-data")
ALIAS("slave-announce-ip", "replica-announce-ip")
ALIAS("slave-announce-port", "replica-announce-port")
ALIAS("slave-ignore-maxmemory", "replica-ignore-maxmemory")
ALIAS("slave-lazy-flush", "replica-lazy-flush")
ALIAS("min-slaves-to-write", "min-replicas-to-write")
ALIAS("min-slaves-max-lag", "min-replicas-max-lag")
ALIAS("repl-ping-slave-period", "repl-ping-replica-period")
ALIAS("cluster-slave-validity-factor", "cluster-replica-validity-factor")
ALIAS("cluster-slave-no-failover", "cluster-replica-no-failover")
ALIAS("hash-max-ziplist-entries", "hash-max-listpack-entries")
ALIAS("hash-max-ziplist-value", "hash-max-listpack-value")
ALIAS("zset-max-ziplist-entries", "zset-max-listpack-entries")
ALIAS("zset-max-ziplist-value", "zset-max-listpack-value")
ALIAS("list-max-ziplist-size", "list-max-listpack-size")
ALIAS("lua-time-limit", "busy-reply-threshold")
/* clang-format on */

#undef SECTION
#undef CONFIG
#undef INERT
#undef HIDDEN
#undef ALIAS
