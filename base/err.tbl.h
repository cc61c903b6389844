/* Every error Coffer can answer, one row each: ERR(name, RESP prefix, retry, text).
 *
 * name    the enum constant is ERR_<name>.
 * prefix  first word of the RESP error reply; clients switch on it, so it never changes.
 * retry   1: the same request may be repeated as it is, nothing was written.
 * text    what happened and what to do about it; a handler may answer a more exact text
 *         (names, numbers) under the same prefix.
 *
 * The table drives err_prefix(), err_text(), docs/commands.md and the tests.
 */
/*  name            prefix           retry text */
ERR(SYNTAX,         "ERR",           0, "syntax error")
ERR(ARITY,          "ERR",           0, "wrong number of arguments")
ERR(UNKNOWNCMD,     "ERR",           0, "unknown command")
ERR(NOTINT,         "ERR",           0, "value is not an integer or out of range")
ERR(RANGE,          "ERR",           0, "argument out of range")
ERR(BADNAME,        "ERR",           0, "invalid name: use 1 to 64 of A-Z a-z 0-9 . _ -, starting with a letter or digit")
ERR(BADPATH,        "ERR",           0, "invalid path: use 1 to 4096 bytes")
ERR(BADEXPIRE,      "ERR",           0, "invalid expire time")
ERR(PROTOCOL,       "ERR",           0, "Protocol error")
ERR(UNSUPPORTED,    "ERR",           0, "not supported by this HSM")
ERR(INTERNAL,       "ERR",           0, "internal error; see the server's log")
ERR(WRONGPASS,      "WRONGPASS",     0, "invalid username-password pair or user is disabled.")
ERR(NOAUTH,         "NOAUTH",        1, "Authentication required.")
ERR(NOPERM,         "NOPERM",        0, "this user has no permissions to run this command")
ERR(NOPROTO,        "NOPROTO",       0, "unsupported protocol version")
ERR(READONLY,       "READONLY",      1, "You can't write against a read only replica.")
ERR(LOADING,        "LOADING",       1, "Coffer is loading its data; try again shortly")
ERR(MASTERDOWN,     "MASTERDOWN",    1, "Link with MASTER is down and this replica's data may be stale")
ERR(MISCONF,        "MISCONF",       1, "the log cannot be written: free disk space or see the server's log; nothing was written")
ERR(OOM,            "OOM",           1, "out of memory; nothing was written")
ERR(EXECABORT,      "EXECABORT",     0, "Transaction discarded because of previous errors.")
ERR(WRONGTYPE,      "WRONGTYPE",     0, "Operation against a key holding the wrong kind of value")
ERR(MOVED,          "MOVED",         1, "this slot is served by another cell")
ERR(ASK,            "ASK",           1, "this vault is served by another cell for now")
ERR(CROSSSLOT,      "CROSSSLOT",     0, "Keys in request don't hash to the same slot")
ERR(CLUSTERDOWN,    "CLUSTERDOWN",   1, "The cluster is down")
ERR(NOREPLICAS,     "NOREPLICAS",    1, "Not enough good replicas to write.")
ERR(UNCERTAIN,      "UNCERTAIN",     0, "appended, outcome open: ask WBL.OUTCOME")
ERR(ROLLEDBACK,     "ROLLEDBACK",    1, "was appended, is gone for ever")
ERR(NOQUORUM,       "NOQUORUM",      1, "this primary heard no majority lately")
ERR(NOVAULT,        "NOVAULT",       0, "no such vault: make it with VAULT.CREATE")
ERR(VAULTEXISTS,    "VAULTEXISTS",   0, "a vault of this name exists already")
ERR(NOKEY,          "NOKEY",         0, "no such key: make it with KEY.CREATE")
ERR(KEYEXISTS,      "KEYEXISTS",     0, "a key of this name exists already: use KEY.ROTATE for a new version")
ERR(CONFLICT,       "CONFLICT",      0, "the version is not the expected one: read it again, then repeat")
ERR(KEYSTATE,       "KEYSTATE",      0, "the key's or vault's state does not allow this")
ERR(BADCIPHERTEXT,  "BADCIPHERTEXT", 0, "the ciphertext does not authenticate under this key and AAD")
ERR(BADBLOB,        "BADBLOB",       0, "the key blob does not authenticate or belongs to another realm or partition")
ERR(THROTTLED,      "THROTTLED",     1, "over the rate limit")
ERR(QUOTA,          "QUOTA",         0, "over the vault's quota: raise it with VAULT.SET or remove secrets")
ERR(TOOBIG,         "TOOBIG",        0, "too big: see secret-max-bytes")
ERR(HSMDOWN,        "HSMDOWN",       1, "the HSM does not answer; secrets stay readable, key operations wait for its return")
ERR(SEALED,         "SEALED",        0, "the server is sealed: unseal it with HSM.UNSEAL")
ERR(CORRUPT,        "CORRUPT",       0, "stored data failed its check and was not served")
/* Not for clients: how modules tell their callers apart what went wrong. */
ERR(NOTFOUND,       "ERR",           0, "not found")
ERR(IO,             "MISCONF",       0, "an input/output operation failed; see the server's log")
ERR(AGAIN,          "ERR",           1, "not ready yet")
ERR(END,            "ERR",           0, "end of data")
ERR(STOREDOWN,      "ERR",           1, "the object store does not answer; see the server's log")
ERR(STOREREFUSED,   "ERR",           0, "the object store refused; see the server's log")
