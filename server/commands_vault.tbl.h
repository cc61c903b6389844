/* Commands on vaults. */
COMMAND("VAULT.CREATE", -2, CMD_WRITE | CMD_HSM, CAT_VAULT, LANE_ALONE, KEYS_VAULT, 0, "vault", "1.0.0", "O(1), and the HSM makes four keys",
        "vault [SHARD n] [RATE ops] [BURST n] [MAXVERSIONS n] [MAXSECRETS n] [MAXBYTES n]",
        "Creates a vault: a container of secrets and keys with a partition of its own in the HSM", "OK; VAULTEXISTS", vault_create)
COMMAND("VAULT.INFO", 2, CMD_READ | CMD_FAST, CAT_VAULT, LANE_NONE, KEYS_VAULT, 0, "vault", "1.0.0", "O(1)", "vault",
        "Tells a vault's id, state, shard, counts, limits and partition fingerprint", "map", vault_info)
COMMAND("VAULT.LIST", -1, CMD_READ, CAT_VAULT, LANE_NONE, KEYS_NONE, 0, "vault", "1.0.0", "O(N) of the page",
        "[CURSOR cursor] [COUNT count] [MATCH pattern]", "Lists vaults by name", "[cursor, names]; cursor 0 at the end", vault_list)
COMMAND("VAULT.SET", -4, CMD_WRITE, CAT_VAULT, LANE_WRITE, KEYS_VAULT, 0, "vault", "1.0.0", "O(1)",
        "vault [RATE ops] [BURST n] [MAXVERSIONS n] [MAXSECRETS n] [MAXBYTES n]", "Changes a vault's limits", "OK", vault_set)
