/* Commands on replication. */
COMMAND("REPLICAOF", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "host port",
        "Follow another node, a primary or a replica; NO ONE: try to be primary, which in a cell with voters takes a majority of them. CONFIG "
        "REWRITE keeps it",
        "OK, without voters once it is so; in a cell it is tried, and INFO and ROLE tell what came of it", cmd_replicaof)
COMMAND("SLAVEOF", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "host port", "REPLICAOF by its old name", "OK", cmd_replicaof)
COMMAND("FAILOVER", -1, CMD_ADMIN | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
        "Hands over to a replica, one of the voters if there are any: holds writes back until it has everything, then has "
        "it stand and follows it. TIMEOUT: not longer than that, and with FORCE it stands all the same",
        "OK: it has begun; master_failover_state of INFO tells how far it is", cmd_failover)
COMMAND("WAIT", 3, CMD_BLOCKING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0, "generic", "1.0.0", "O(1)",
        "numreplicas timeout-milliseconds",
        "Waits until so many replicas hold this connection's last write durably; 0: without end",
        "how many hold it", cmd_wait)
COMMAND("READ.AFTER", -2, CMD_BLOCKING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0",
        "O(1)", "lsn [TIMEOUT milliseconds]",
        "Waits until this node has what was written up to an LSN (CLIENT LASTLSN on the node written to); 1,000 ms by "
        "default. With replica-read-fallback, until then, or else until the primary says that it has it, and answers this "
        "connection's look-ups from then on; what else shows this node's state is MASTERDOWN until it has that LSN",
        "OK; MASTERDOWN: it is not to be had yet", cmd_read_after)
COMMAND("REPLCONF", -1, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "[option value ...]", "What a replica says of itself before PSYNC; not for people", "OK", cmd_replconf)
COMMAND("PSYNC", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "replid lsn [word ...]", "Makes the connection a link of the cell; not for people",
        "CONTINUE, then frames; NEWBORN; NOMASTERLINK to a Redis, or while this node itself has no link", cmd_psync)
COMMAND("REPL.SNAPSHOT", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "cell from-lsn [HAVE lsn term] [BELOW lsn]",
        "Names a snapshot for a full resync, and keeps it, and the log behind it, for a minute; not for people",
        "[LSN, term, bytes]; LOADING: one is being made", cmd_repl_snapshot)
COMMAND("REPL.PIECE", 5, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the bytes, at most 256 KiB", "lsn term offset bytes",
        "A piece of a snapshot that REPL.SNAPSHOT named, which is kept for another minute; not for people",
        "the bytes; fewer at the end of the file", cmd_repl_piece)
COMMAND("REPL.RECORDS", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the bytes, at most 256 KiB, or one record", "first-lsn last-lsn",
        "Records of the log as they are on the disk, for a node that lost them; not for people",
        "whole records, from the first on; those that are missing are asked for again", cmd_repl_records)
COMMAND("REPL.READ", -7, CMD_ADMIN | CMD_NOSCRIPT | CMD_NOMULTI | CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 7, "server", "1.0.0",
        "that of the command", "cell number lsn user database protocol [command [argument ...]]",
        "A read that a replica cannot answer, for one of its users (replica-read-fallback): carried out when this node is "
        "primary, has the LSN, and both that user and who is logged in may do it; not for people",
        "[that number, LSN, what the command answers, in RESP2 or RESP3, as a bulk string]; without a command: [number, LSN, nil]",
        cmd_repl_read)
COMMAND("SYNC", 1, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Redis's dump is not to be had", "an error", cmd_sync)
