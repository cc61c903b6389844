/* The string facade: plain Redis clients store and read secrets. Database n is the vault "dbn"; a key {vault}/path addresses that vault. */
COMMAND("GET", 2, CMD_READ | CMD_FAST, CAT_STRING, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(1)", "key",
        "Reads a secret", "the value or nil", string_get)
COMMAND("SET", -3, CMD_WRITE | CMD_REDACT | CMD_GETOPT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
        "Writes a secret", "OK; nil when NX or XX does not hold; with GET the old value or nil", string_set)
COMMAND("MGET", -2, CMD_READ | CMD_FAST, CAT_STRING, LANE_NONE, KEYS_MANY, 0, "string", "1.0.0", "O(N)", "key [key ...]",
        "Reads several secrets", "array of values and nils", string_mget)
COMMAND("STRLEN", 2, CMD_READ | CMD_FAST | CMD_PEEK, CAT_STRING, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(1)", "key",
        "Length of a secret's value in bytes", "the length, 0 when there is no such key", string_strlen)
COMMAND("SETNX", 3, CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key value",
        "Writes a secret that is not there yet", "1, or 0 when it is there", string_setnx)
COMMAND("SETEX", 4, CMD_WRITE | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 3, "string", "1.0.0", "O(1)",
        "key seconds value",
        "Writes a secret that expires", "OK", string_setex)
COMMAND("PSETEX", 4, CMD_WRITE | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 3, "string", "1.0.0", "O(1)",
        "key milliseconds value",
        "Writes a secret that expires", "OK", string_psetex)
COMMAND("GETSET", 3, CMD_OLD | CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key value",
        "Writes a secret and returns what it was", "the old value or nil", string_getset)
COMMAND("GETDEL", 2, CMD_OLD | CMD_WRITE | CMD_FAST, CAT_STRING, LANE_WRITE, KEYS_ONE, 0, "string", "1.0.0", "O(1)",
        "key",
        "Returns a secret and destroys it", "the value or nil", string_getdel)
COMMAND("GETEX", -2, CMD_OLD | CMD_WRITE | CMD_FAST, CAT_STRING, LANE_WRITE, KEYS_ONE, 0, "string", "1.0.0", "O(1)",
        "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
        "Returns a secret and sets when it expires", "the value or nil", string_getex)
COMMAND("MSET", -3, CMD_WRITE | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_PAIRS, 2, "string", "1.0.0", "O(N)",
        "key value [key value ...]",
        "Writes several secrets: all or nothing, one log record", "OK", string_mset)
COMMAND("MSETNX", -3, CMD_WRITE | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_PAIRS, 2, "string", "1.0.0", "O(N)",
        "key value [key value ...]",
        "The same if none of them is there", "1, or 0 when one is there and nothing was written", string_msetnx)
COMMAND("APPEND", 3, CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(N) of the value",
        "key value",
        "Adds to the end of a secret", "the new length", string_append)
COMMAND("SETRANGE", 4, CMD_WRITE | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 3, "string", "1.0.0", "O(N) of the value",
        "key offset value",
        "Writes over a part of a secret", "the new length", string_setrange)
COMMAND("GETRANGE", 4, CMD_READ, CAT_STRING, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(N) of the value",
        "key start end",
        "Reads a part of a secret", "the part", string_getrange)
COMMAND("SUBSTR", 4, CMD_READ, CAT_STRING, LANE_NONE, KEYS_ONE, 0, "string", "1.0.0", "O(N) of the value",
        "key start end",
        "The same as GETRANGE", "the part", string_getrange)
COMMAND("INCR", 2, CMD_OLD | CMD_WRITE | CMD_FAST, CAT_STRING, LANE_WRITE, KEYS_ONE, 0, "string", "1.0.0", "O(1)",
        "key",
        "Adds 1 to a number", "the new number", string_incr)
COMMAND("DECR", 2, CMD_OLD | CMD_WRITE | CMD_FAST, CAT_STRING, LANE_WRITE, KEYS_ONE, 0, "string", "1.0.0", "O(1)",
        "key",
        "Takes 1 from a number", "the new number", string_decr)
COMMAND("INCRBY", 3, CMD_OLD | CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key increment",
        "Adds to a number", "the new number", string_incrby)
COMMAND("DECRBY", 3, CMD_OLD | CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key decrement",
        "Takes from a number", "the new number", string_decrby)
COMMAND("INCRBYFLOAT", 3, CMD_OLD | CMD_WRITE | CMD_FAST | CMD_REDACT, CAT_STRING, LANE_WRITE, KEYS_ONE, 2, "string", "1.0.0", "O(1)",
        "key increment",
        "Adds to a number that need not be whole", "the new number", string_incrbyfloat)
COMMAND("LCS", -3, CMD_READ, CAT_STRING, LANE_NONE, KEYS_TWO, 0, "string", "1.0.0", "O(N*M) of the values",
        "key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]",
        "Finds what two secrets have in common: their longest common subsequence. The product of their lengths is at most 16777216",
        "the sequence; with LEN its length; with IDX a map of matches (where they are in both) and len", string_lcs)
COMMAND("SETBIT", 4, CMD_OLD | CMD_WRITE | CMD_REDACT, CAT_BITMAP, LANE_WRITE, KEYS_ONE, 3, "bitmap", "1.0.0", "O(N) of the value",
        "key offset value",
        "Sets or clears a bit; what is missing in front of it becomes zeros", "the bit as it was", bits_setbit)
COMMAND("GETBIT", 3, CMD_READ | CMD_FAST, CAT_BITMAP, LANE_NONE, KEYS_ONE, 0, "bitmap", "1.0.0", "O(N) of the value",
        "key offset",
        "Reads a bit", "0 or 1; behind the end 0", bits_getbit)
COMMAND("BITCOUNT", -2, CMD_READ, CAT_BITMAP, LANE_NONE, KEYS_ONE, 0, "bitmap", "1.0.0", "O(N) of the value",
        "key [start end [BYTE|BIT]]",
        "Counts the bits that are set", "the number", bits_bitcount)
COMMAND("BITPOS", -3, CMD_READ, CAT_BITMAP, LANE_NONE, KEYS_ONE, 0, "bitmap", "1.0.0", "O(N) of the value",
        "key bit [start [end [BYTE|BIT]]]",
        "Finds the first bit that is 1, or 0", "its offset, or -1; zeros follow a value unless an end is given", bits_bitpos)
COMMAND("BITOP", -4, CMD_WRITE, CAT_BITMAP, LANE_WRITE, KEYS_RESULT, 0, "bitmap", "1.0.0", "O(N) of the values",
        "<AND|OR|XOR|NOT> destkey key [key ...]",
        "Combines secrets bit by bit to another one; shorter ones are filled up with zeros. Together they have at most 64 MiB",
        "length of the result; 0: nothing is at destkey any more", bits_bitop)
COMMAND("BITFIELD", -2, CMD_OLD | CMD_GETONLY | CMD_WRITE | CMD_REDACT, CAT_BITMAP, LANE_WRITE, KEYS_ONE, 2, "bitmap", "1.0.0", "O(N) of the value",
        "key [<GET encoding offset|OVERFLOW <WRAP|SAT|FAIL>|SET encoding offset value|INCRBY encoding offset increment> ...]",
        "Reads and changes integers of 1 to 64 bits within a value, all at once",
        "array, of each GET, SET (the old one), INCRBY (the new one); nil of what would overflow behind OVERFLOW FAIL", bits_bitfield)
COMMAND("BITFIELD_RO", -2, CMD_READ | CMD_FAST, CAT_BITMAP, LANE_NONE, KEYS_ONE, 0, "bitmap", "1.0.0", "O(N) of the value",
        "key [GET encoding offset ...]",
        "Reads integers of 1 to 64 bits within a value", "array of them", bits_bitfield_ro)
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
COMMAND("SCAN", -2, CMD_READ, CAT_KEYSPACE | CAT_READ, LANE_NONE, KEYS_NONE, 0, "generic", "1.0.0", "O(1) a call, O(N) for a whole iteration",
        "cursor [MATCH pattern] [COUNT count] [TYPE type]", "Iterates over the keys of the selected database",
        "[cursor, keys]; cursor 0 at the end", string_scan)
COMMAND("DBSIZE", 1, CMD_READ | CMD_FAST, CAT_KEYSPACE | CAT_READ, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Number of keys in the selected database, expired ones that were not collected yet included", "the number", string_dbsize)
COMMAND("TOUCH", -2, CMD_PEEK | CMD_READ | CMD_FAST, CAT_KEYSPACE, LANE_NONE, KEYS_MANY, 0, "generic", "1.0.0", "O(N)",
        "key [key ...]",
        "Counts how many of the keys are there, as EXISTS", "the number", string_exists)
COMMAND("RENAME", 3, CMD_WRITE, CAT_KEYSPACE, LANE_WRITE, KEYS_TWO, 0, "generic", "1.0.0", "O(1)",
        "key newkey",
        "Gives a secret another key; what was there is destroyed", "OK", string_rename)
COMMAND("RENAMENX", 3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_TWO, 0, "generic", "1.0.0", "O(1)",
        "key newkey",
        "The same if nothing is there", "1, or 0 when something is", string_renamenx)
COMMAND("COPY", -3, CMD_WRITE, CAT_KEYSPACE, LANE_WRITE, KEYS_COPY, 0, "generic", "1.0.0", "O(1)",
        "source destination [DB destination-db] [REPLACE]",
        "Copies the current value and its time to live", "1, or 0 when it was not copied", string_copy)
COMMAND("MOVE", 3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE, LANE_WRITE, KEYS_MOVE, 0, "generic", "1.0.0", "O(1)",
        "key db",
        "Moves a secret to another database", "1, or 0 when it was not moved", string_move)
COMMAND("DUMP", 2, CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_ONE, 0, "generic", "1.0.0", "O(N) of the value", "key",
        "Reads a secret in the format of RDB files, for RESTORE, here or in a Redis. It is not encrypted", "the payload or nil", string_dump)
COMMAND("RESTORE", -4, CMD_WRITE | CMD_REDACT, CAT_KEYSPACE | CAT_DANGEROUS, LANE_WRITE, KEYS_ONE, 3, "generic", "1.0.0", "O(N) of the value",
        "key milliseconds payload [REPLACE] [ABSTTL] [IDLETIME seconds|FREQ n]",
        "Writes what DUMP read, here or in a Redis; a string. 0 milliseconds: it does not expire; ABSTTL: they are a Unix time",
        "OK, or -BUSYKEY when the key is there and REPLACE is not", string_restore)
COMMAND("KEYS", 2, CMD_READ, CAT_KEYSPACE | CAT_READ | CAT_DANGEROUS, LANE_ALONE, KEYS_NONE, 0, "generic", "1.0.0", "O(N) of the database",
        "pattern",
        "Lists the keys that match", "array of keys", string_keys)
COMMAND("RANDOMKEY", 1, CMD_READ, CAT_KEYSPACE | CAT_READ, LANE_NONE, KEYS_NONE, 0, "generic", "1.0.0", "O(1)",
        "",
        "Draws a key; any may come, not all with the same chance", "a key or nil", string_randomkey)
COMMAND("FLUSHDB", -1, CMD_WRITE, CAT_KEYSPACE | CAT_DANGEROUS, LANE_WRITE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "[ASYNC|SYNC]",
        "Destroys all secrets of the selected database", "OK", string_flushdb)
COMMAND("FLUSHALL", -1, CMD_WRITE, CAT_KEYSPACE | CAT_DANGEROUS, LANE_WRITE, KEYS_NONE, 0, "server", "1.0.0", "O(N) of the databases",
        "[ASYNC|SYNC]",
        "Destroys all secrets of all databases, not of other vaults", "OK", string_flushall)
COMMAND("SWAPDB", 3, CMD_WRITE | CMD_FAST, CAT_KEYSPACE | CAT_DANGEROUS, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "index1 index2",
        "Exchanges the vaults of two databases", "OK", string_swapdb)
CONTAINER("OBJECT", -2, CMD_READ, CAT_KEYSPACE, "generic", "1.0.0", "Commands about a value as Redis would hold it")
COMMAND("OBJECT|ENCODING", 3, CMD_PEEK | CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_SECOND, 0, "generic", "1.0.0", "O(N) of the value",
        "key",
        "Tells how Redis would hold the value", "int, embstr, raw, or nil", object_encoding)
COMMAND("OBJECT|REFCOUNT", 3, CMD_PEEK | CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_SECOND, 0, "generic", "1.0.0", "O(1)",
        "key",
        "For clients that ask", "1 or nil", object_refcount)
COMMAND("OBJECT|IDLETIME", 3, CMD_PEEK | CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_SECOND, 0, "generic", "1.0.0", "O(1)",
        "key",
        "For clients that ask: looks are not remembered", "0 or nil", object_idletime)
COMMAND("OBJECT|FREQ", 3, CMD_PEEK | CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_SECOND, 0, "generic", "1.0.0", "O(1)",
        "key",
        "Not offered", "an error", object_freq)
COMMAND("OBJECT|HELP", 2, CMD_LOADING, CAT_KEYSPACE, LANE_NONE, KEYS_NONE, 0, "generic", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
CONTAINER("MEMORY", -2, CMD_READ, 0, "server", "1.0.0", "Commands about memory")
COMMAND("MEMORY|USAGE", -3, CMD_PEEK | CMD_READ, CAT_KEYSPACE, LANE_NONE, KEYS_SECOND, 0, "server", "1.0.0", "O(1)",
        "key [SAMPLES count]",
        "Bytes of a secret as it is stored: key, head, sealed current value", "the number or nil", memory_usage)
COMMAND("MEMORY|DOCTOR", 2, CMD_READ | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "For clients that ask: INFO memory tells more", "text", memory_doctor)
COMMAND("MEMORY|STATS", 2, CMD_READ | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Tells how much memory is used, as INFO memory", "map of total.allocated, secret.used, secret.locked", memory_stats)
COMMAND("MEMORY|PURGE", 2, CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Gives back to the system what the allocator keeps of freed memory; locked memory stays", "OK", memory_purge)
COMMAND("MEMORY|HELP", 2, CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
/* Transactions: multi.h. */
COMMAND("MULTI", 1, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_TRANSACTION, LANE_NONE, KEYS_NONE, 0, "transactions", "1.0.0", "O(1)", "",
        "Begins a transaction: what follows is queued", "OK", cmd_multi)
COMMAND("EXEC", 1, CMD_LOADING | CMD_NOSCRIPT, CAT_TRANSACTION, LANE_ALONE, KEYS_NONE, 0, "transactions", "1.0.0", "Depends on the commands", "",
        "Carries out what was queued: all changes of secrets are one log record", "array of the answers; nil when a watched key changed",
        cmd_exec)
COMMAND("DISCARD", 1, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_TRANSACTION, LANE_NONE, KEYS_NONE, 0, "transactions", "1.0.0", "O(N)", "",
        "Forgets what was queued, and what was watched", "OK", cmd_discard)
COMMAND("WATCH", -2, CMD_PEEK | CMD_FAST | CMD_NOSCRIPT, CAT_TRANSACTION, LANE_NONE, KEYS_MANY, 0, "transactions", "1.0.0", "O(N)",
        "key [key ...]", "Lets the next EXEC take place only if the keys do not change until then", "OK", cmd_watch)
COMMAND("UNWATCH", 1, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_TRANSACTION, LANE_NONE, KEYS_NONE, 0, "transactions", "1.0.0", "O(N)", "",
        "Forgets what was watched", "OK", cmd_unwatch)
/* Channels: pubsub.h. */
COMMAND("SUBSCRIBE", -2, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "channel [channel ...]",
        "Listens to channels", "a push for each: kind, name, how many are listened to", cmd_subscribe)
COMMAND("UNSUBSCRIBE", -1, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[channel ...]",
        "Stops to, to all without a name", "a push for each: kind, name, how many are listened to", cmd_unsubscribe)
COMMAND("PSUBSCRIBE", -2, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "pattern [pattern ...]",
        "Listens to the channels that match", "a push for each: kind, name, how many are listened to", cmd_psubscribe)
COMMAND("PUNSUBSCRIBE", -1, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[pattern ...]",
        "Stops to, to all without a pattern", "a push for each: kind, name, how many are listened to", cmd_punsubscribe)
COMMAND("SSUBSCRIBE", -2, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "shardchannel [shardchannel ...]",
        "Listens to shard channels", "a push for each: kind, name, how many are listened to", cmd_ssubscribe)
COMMAND("SUNSUBSCRIBE", -1, CMD_PUBSUB | CMD_LOADING | CMD_NOSCRIPT | CMD_SUBSCRIBER, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[shardchannel ...]",
        "Stops to, to all without a name", "a push for each: kind, name, how many are listened to", cmd_sunsubscribe)
COMMAND("PUBLISH", 3, CMD_PUBSUB | CMD_FAST | CMD_LOADING | CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 2, "pubsub", "1.0.0", "O(N) of the listeners and patterns",
        "channel message",
        "Sends a message to who listens", "how many got it", cmd_publish)
COMMAND("SPUBLISH", 3, CMD_PUBSUB | CMD_FAST | CMD_LOADING | CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 2, "pubsub", "1.0.0", "O(N) of the listeners and patterns",
        "shardchannel message",
        "The same for a shard channel", "how many got it", cmd_spublish)
CONTAINER("PUBSUB", -2, 0, 0, "pubsub", "1.0.0", "Commands about who listens")
COMMAND("PUBSUB|CHANNELS", -2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[pattern]",
        "Lists channels that somebody listens to", "array of names", pubsub_channels)
COMMAND("PUBSUB|NUMSUB", -2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[channel ...]",
        "Counts who listens to channels by name", "array of name, number", pubsub_numsub)
COMMAND("PUBSUB|NUMPAT", 2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "",
        "Counts the patterns that somebody listens to", "the number", pubsub_numpat)
COMMAND("PUBSUB|SHARDCHANNELS", -2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[pattern]",
        "Lists shard channels that somebody listens to", "array of names", pubsub_shardchannels)
COMMAND("PUBSUB|SHARDNUMSUB", -2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "[shardchannel ...]",
        "Counts who listens to shard channels", "array of name, number", pubsub_shardnumsub)
COMMAND("PUBSUB|HELP", 2, CMD_PUBSUB | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "pubsub", "1.0.0", "O(N)",
        "",
        "Shows the sub-commands", "lines", cmd_help)
