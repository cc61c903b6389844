/* The string facade: plain Redis clients store and read secrets. Database n is the vault "dbn"; a key {vault}/path addresses that vault. */
COMMAND("GET", 2, CMD_READ | CMD_FAST, CAT_STRING | CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(1)", "key",
        "Reads a secret", "the value or nil", string_get)
COMMAND("SET", -3, CMD_WRITE | CMD_REDACT | CMD_GETOPT, CAT_STRING | CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
        "Writes a secret", "OK; nil when NX or XX does not hold; with GET the old value or nil", string_set)
COMMAND("MGET", -2, CMD_READ | CMD_FAST, CAT_STRING | CAT_KEYSPACE, LANE_NONE, KEYS_MANY, 0, "string", "1.0.0", "O(N)", "key [key ...]",
        "Reads several secrets", "array of values and nils", string_mget)
COMMAND("STRLEN", 2, CMD_READ | CMD_FAST | CMD_PEEK, CAT_STRING | CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(1)", "key",
        "Length of a secret's value in bytes", "the length, 0 when there is no such key", string_strlen)
COMMAND("DEL", -2, CMD_WRITE, CAT_KEYSPACE, LANE_WRITE, KEYS_MANY, 0, "generic", "1.0.0", "O(N)", "key [key ...]",
        "Destroys secrets for good", "number of keys that were there", string_del)
COMMAND("UNLINK", -2, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_MANY, 0, "generic", "1.0.0", "O(N)", "key [key ...]",
        "The same as DEL", "number of keys that were there", string_del)
COMMAND("EXISTS", -2, CMD_READ | CMD_FAST | CMD_PEEK, CAT_KEYSPACE, LANE_NONE, KEYS_MANY, 0, "generic", "1.0.0", "O(N)", "key [key ...]",
        "Counts how many of the keys are there", "the number; a key given twice counts twice", string_exists)
COMMAND("TYPE", 2, CMD_READ | CMD_FAST | CMD_PEEK, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "Type of the value: everything is a string", "string or none", string_type)
COMMAND("TTL", 2, CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "Seconds until a key expires", "seconds; -1: it does not expire; -2: there is no such key", string_ttl)
COMMAND("PTTL", 2, CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "Milliseconds until a key expires", "milliseconds; -1: it does not expire; -2: there is no such key", string_pttl)
COMMAND("EXPIRETIME", 2, CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "When a key expires, Unix time in seconds", "the time; -1: it does not expire; -2: there is no such key", string_expiretime)
COMMAND("PEXPIRETIME", 2, CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "When a key expires, Unix time in milliseconds", "the time; -1: it does not expire; -2: there is no such key", string_pexpiretime)
COMMAND("EXPIRE", -3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)",
        "key seconds [NX|XX|GT|LT]", "Sets a key's time to live", "1, or 0 when it was not set", string_expire)
COMMAND("PEXPIRE", -3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)",
        "key milliseconds [NX|XX|GT|LT]", "Sets a key's time to live in milliseconds", "1, or 0 when it was not set", string_pexpire)
COMMAND("EXPIREAT", -3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)",
        "key unix-time-seconds [NX|XX|GT|LT]", "Sets when a key expires", "1, or 0 when it was not set", string_expireat)
COMMAND("PEXPIREAT", -3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)",
        "key unix-time-milliseconds [NX|XX|GT|LT]", "Sets when a key expires, in milliseconds", "1, or 0 when it was not set", string_pexpireat)
COMMAND("PERSIST", 2, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_ONE, 0, "generic", "1.0.0", "O(1)", "key",
        "Takes a key's expiry away", "1, or 0 when there is no such key or it has none", string_persist)
COMMAND("SCAN", -2, CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_NONE, 0, "generic", "1.0.0", "O(1) a call, O(N) for a whole iteration",
        "cursor [MATCH pattern] [COUNT count] [TYPE type]", "Iterates over the keys of the selected database",
        "[cursor, keys]; cursor 0 at the end", string_scan)
COMMAND("DBSIZE", 1, CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Number of keys in the selected database, expired ones that were not collected yet included", "the number", string_dbsize)
