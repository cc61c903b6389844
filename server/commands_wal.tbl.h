/* Commands on the log and the HSM. All answer while the server is sealed. */
COMMAND("WBL.INFO", 1, CMD_ADMIN | CMD_LOADING | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "log", "1.0.0", "O(1)", "", "Tells the state of the log",
        "map of term, LSNs, chain, segments, bytes, fsyncs, groups, what is pending", cmd_wal_info)
COMMAND("WBL.VERIFY", -1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the records, beside traffic",
        "[FROM lsn] [TO lsn]", "Verifies the log's checksums and chain, and has the HSM check the HMACs of keys; WBL.INFO shows the progress",
        "map of from, to, records, bytes, chain-ok, hmacs, hmacs-ok, hmacs-skipped, first-bad-lsn", cmd_wal_verify)
COMMAND("WBL.RANGE", 3, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the records, and the segment before them",
        "lsn count", "Shows what up to 1,000 records are about, never their payload",
        "array of maps: lsn, term, time, type, vault, key, bytes, chain", cmd_wal_range)
COMMAND("WBL.FOLLOW", -3, CMD_ADMIN | CMD_LOADING | CMD_BLOCKING | CMD_NOMULTI, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0",
        "O(N) of the records behind lsn, as far as they are looked at", "FROM lsn [MATCH pattern] [COUNT count] [BLOCK milliseconds]",
        "Tells what was changed from an LSN on, of what the user may read, and waits for more; $ is the next LSN",
        "[LSN to go on from, array of maps: lsn, term, time, type, vault, key, version]", cmd_wal_follow)
COMMAND("WBL.OUTCOME", 3, CMD_ADMIN | CMD_LOADING | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "log", "1.0.0", "O(1)", "lsn term",
        "Tells what became of a write that was answered UNCERTAIN", "committed, rolledback or pending; ERR: this node's log does not reach back to it", cmd_wal_outcome)
COMMAND("SNAPSHOT.CREATE", 1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the state, beside traffic", "",
        "Makes a snapshot now, of everything that was acknowledged before", "its LSN", cmd_snapshot_create)
COMMAND("SNAPSHOT.LIST", 1, CMD_ADMIN | CMD_LOADING | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the files", "",
        "Lists the snapshots on this node, newest first", "array of maps: lsn, term, bytes, state (whole, opened, unknown, damaged)",
        cmd_snapshot_list)
COMMAND("SNAPSHOT.INFO", 1, CMD_ADMIN | CMD_LOADING | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "log", "1.0.0", "O(1)", "",
        "Tells of the newest snapshot, and of the one being made",
        "map of lsn, term, time, bytes, entries, digest, files, made, failed, last-ms, making, making-bytes, error", cmd_snapshot_info)
COMMAND("SNAPSHOT.VERIFY", -1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the file, beside traffic", "[lsn]",
        "Reads a snapshot, the newest by default, and compares every checksum; the HSM checks its signature",
        "map of lsn, bytes, entries, blocks, digest; CORRUPT", cmd_snapshot_verify)
COMMAND("SNAPSHOT.GET", -3, CMD_READ | CMD_ADMIN, CAT_SECRET, LANE_ALONE, KEYS_VAULT_ONE, 0, "log", "1.0.0",
        "O(N) of the log between the snapshot and the moment", "vault path [LSN lsn|TIME unix-time-milliseconds]",
        "Reads a secret as it was at a moment that a kept snapshot and the log behind it give exactly; by default the newest snapshot's",
        "map of lsn, time, value, and unless the path was not there version, stages, created-at, expires-at, state, meta", cmd_snapshot_get)
COMMAND("SNAPSHOT.RESTORE", -5, CMD_WRITE | CMD_ADMIN, CAT_SECRET, LANE_ALONE, KEYS_VAULT_ONE, 0, "log", "1.0.0",
        "O(N) of the folder, and of the log between the snapshot and the moment", "vault path <LSN lsn|TIME unix-time-milliseconds> [DRYRUN] [EXPIRED]",
        "Writes what a secret, or all of a folder (path ends in /; empty: the vault), was at a moment back as new versions, where it differs",
        "map of lsn, time, restored, unchanged, expired, created-since, failed", cmd_snapshot_restore)
COMMAND("STATE.DIGEST", -1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(1) for the newest snapshot; O(N) of the state, beside traffic",
        "[LSN lsn|STORES]", "Tells the digest of the state as of the newest snapshot, of an LSN, or of what the stores hold; equal on all nodes at the same LSN",
        "[LSN, digest]", cmd_state_digest)
COMMAND("SNAPSHOT.UPLOAD", -1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the file, beside traffic", "[lsn]",
        "Sends a snapshot, the newest by default, to the object store; answers when it is there with its manifest",
        "map of lsn, object, bytes", cmd_snapshot_upload)
COMMAND("SNAPSHOT.CLUSTER", 1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the snapshots in the object store", "",
        "Tells the newest snapshot of each node, as far as it is here or in the object store, and which is the newest of all",
        "map of lsn, term, node, place (here, object-store), nodes (array of maps: node, lsn, term, place), error", cmd_snapshot_cluster)
COMMAND("CELL.FORCE-RECOVER", -1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the state", "[cell]",
        "On a node that has no log: goes on from the newest snapshot that verifies, here or in the object store, in a new term. "
        "What was written after that snapshot is lost",
        "map of cell, lsn, time, term, snapshot-term, node", cmd_cell_force_recover)
COMMAND("SHARD.REBUILD", 2, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of the state and the log behind the snapshot, beside traffic",
        "shard", "Makes a shard anew from the newest snapshot and the log, and puts it in the place of the one that serves or failed",
        "map of shard, snapshot-lsn, lsn, entries, records, ms; CORRUPT", cmd_shard_rebuild)
COMMAND("SCRUB.NOW", 1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "log", "1.0.0", "O(N) of all files, beside traffic",
        "", "Reads and verifies all of the node's files now, and makes good what is damaged; INFO scrub tells how far it is",
        "map of pass, files, bytes, errors, repaired, skipped, ms", cmd_scrub_now)
COMMAND("HSM.INFO", 1, CMD_ADMIN | CMD_LOADING | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "hsm", "1.0.0", "O(1)", "",
        "Tells the state of the HSM, its module and token, and how fast it answers", "map", cmd_hsm_info)
COMMAND("HSM.SEAL", 1, CMD_ADMIN | CMD_LOADING, 0, LANE_ALONE, KEYS_NONE, 0, "hsm", "1.0.0", "O(1)", "",
        "Ends the HSM's sessions and wipes data keys: all but administration is answered SEALED", "OK", cmd_hsm_seal)
COMMAND("HSM.UNSEAL", 2, CMD_ADMIN | CMD_LOADING | CMD_REDACT, 0, LANE_ALONE, KEYS_NONE, 1, "hsm", "1.0.0", "O(1), and the HSM logs in", "pin",
        "Logs in to the HSM with this PIN", "OK; HSMDOWN", cmd_hsm_unseal)
