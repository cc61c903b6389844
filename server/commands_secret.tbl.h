/* Commands on secrets. Values are redacted everywhere: redact_from is the first argument that may hold one. */
COMMAND("SECRET.SET", -4, CMD_WRITE | CMD_REDACT, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 3, "secret", "1.0.0", "O(1)",
        "vault path value [NX|XX|CAS version] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL] "
        "[STAGE label] [META json]",
        "Writes a new version of a secret", "the new version; nil when NX or XX does not hold; CONFLICT when CAS does not", secret_set)
COMMAND("SECRET.GET", -3, CMD_READ | CMD_FAST, CAT_SECRET, LANE_NONE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)",
        "vault path [VERSION version|STAGE label] [WITHMETA]", "Reads a secret's current value, or a kept version",
        "the value or nil; with WITHMETA a map of value, version, stages, created-at, expires-at, state, meta", secret_get)
COMMAND("SECRET.MGET", -3, CMD_READ, CAT_SECRET, LANE_NONE, KEYS_VAULT_MANY, 0, "secret", "1.0.0", "O(N)", "vault path [path ...]",
        "Reads several secrets as of one point in time", "array of values and nils", secret_mget)
COMMAND("SECRET.MSET", -4, CMD_WRITE | CMD_REDACT, CAT_SECRET, LANE_WRITE, KEYS_VAULT_PAIRS, 2, "secret", "1.0.0", "O(N)",
        "vault path value [path value ...]", "Writes several secrets: all or nothing, one log record", "array of the new versions",
        secret_mset)
COMMAND("SECRET.LIST", -2, CMD_READ, CAT_SECRET, LANE_NONE, KEYS_FOLDER, 0, "secret", "1.0.0", "O(N) of the page, whatever the vault holds",
        "vault [folder] [CURSOR cursor] [COUNT count] [RECURSIVE] [WITHMETA]",
        "Lists a folder, one level (sub-folders end in /) or all below it",
        "[cursor, paths]; cursor 0 at the end; with WITHMETA each path is followed by a map", secret_list_cmd)
COMMAND("SECRET.VERSIONS", 3, CMD_READ | CMD_FAST, CAT_SECRET, LANE_NONE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(N) of the versions kept",
        "vault path", "Lists the kept versions of a secret, newest first", "array of maps: version, stages, created-at, state, bytes",
        secret_versions)
COMMAND("SECRET.META", -3, CMD_READ | CMD_WRITE, CAT_SECRET, LANE_ALONE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path [json]",
        "Reads or replaces the metadata of a secret (JSON, not encrypted)", "the JSON or nil; OK", secret_meta)
COMMAND("SECRET.STAGE", 5, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path label version",
        "Moves a label to a version; CURRENT and PREVIOUS can be moved too", "OK; nil when there is no such version", secret_stage)
COMMAND("SECRET.DEL", -3, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_MANY, 0, "secret", "1.0.0", "O(N)", "vault path [path ...]",
        "Hides secrets; UNDELETE brings them back for secret-recovery-window", "number of secrets deleted", secret_del)
COMMAND("SECRET.UNDELETE", 3, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path",
        "Brings back what DEL hid", "OK or nil", secret_undelete)
COMMAND("SECRET.DESTROY", -3, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(N) of the versions kept",
        "vault path [VERSION version]", "Destroys a secret, or one version of it, for good", "number of versions gone", secret_destroy)
COMMAND("SECRET.EXPIRE", 4, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path seconds",
        "Sets when a secret is destroyed by itself", "1, or 0 when there is no such secret", secret_expire)
COMMAND("SECRET.PERSIST", 3, CMD_WRITE, CAT_SECRET, LANE_WRITE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path",
        "Takes the expiry away", "1, or 0 when there is no such secret or it has none", secret_persist)
COMMAND("SECRET.TTL", 3, CMD_READ | CMD_FAST, CAT_SECRET, LANE_NONE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path",
        "Seconds until a secret expires", "seconds; -1: it does not expire; -2: there is no such secret", secret_ttl)
COMMAND("SECRET.STATE", 3, CMD_READ | CMD_FAST, CAT_SECRET, LANE_NONE, KEYS_VAULT_ONE, 0, "secret", "1.0.0", "O(1)", "vault path",
        "State of a secret: ACTIVE, DELETED, EXPIRED", "the state or nil", secret_state)
