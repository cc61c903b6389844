/* Commands on keys. */
COMMAND("KEY.CREATE", -3, CMD_WRITE | CMD_HSM, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0",
        "O(1), and the HSM makes a key: seconds for RSA",
        "vault key [TYPE aes-256|rsa-2048|rsa-3072|rsa-4096|ec-p256|ec-p384|ed25519|hmac-sha256] [META json]",
        "Makes a key in the HSM", "1, the version; KEYEXISTS", cmd_key_create)
COMMAND("KEY.INFO", 3, CMD_READ | CMD_FAST, CAT_KEY, LANE_NONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions", "vault key",
        "Tells a key's type, state, versions and how often each has encrypted",
        "map of key, id, type, operations, protection, state, version, min-version, created-at, delete-at, meta, versions", cmd_key_info)
COMMAND("KEY.LIST", -2, CMD_READ, CAT_KEY, LANE_NONE, KEYS_VAULT, 0, "key", "1.0.0", "O(N) of the page", "vault [CURSOR cursor] [COUNT count]",
        "Lists a vault's keys by name", "[cursor, names]; cursor 0 at the end", cmd_key_list)
COMMAND("KEY.ROTATE", 3, CMD_WRITE | CMD_HSM, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions, and the HSM makes a key",
        "vault key", "Makes a new version of a key; older ones go on decrypting and verifying down to MINVERSION", "the new version", cmd_key_rotate)
COMMAND("KEY.SET", -5, CMD_WRITE, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions",
        "vault key [MINVERSION version] [META json]", "Changes the oldest version that may decrypt and verify, or the metadata", "OK", cmd_key_set)
COMMAND("KEY.ENABLE", 3, CMD_WRITE, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions", "vault key",
        "Lets a key be used again", "OK", cmd_key_enable)
COMMAND("KEY.DISABLE", 3, CMD_WRITE, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions", "vault key",
        "Lets nobody use a key: KEYSTATE", "OK", cmd_key_disable)
COMMAND("KEY.DELETE", -3, CMD_WRITE, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions", "vault key [IN seconds] [FORCE]",
        "Destroys a key in 7 days, or in so many seconds: 7 to 30 days, less with FORCE; until then nobody can use it", "OK", cmd_key_delete)
COMMAND("KEY.UNDELETE", 3, CMD_WRITE, CAT_KEY, LANE_ALONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions", "vault key",
        "Brings a key back whose deletion is scheduled, enabled or disabled as it was", "OK", cmd_key_undelete)
COMMAND("KEY.ENCRYPT", -4, CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(N) of the plaintext",
        "vault key plaintext [AAD aad]", "Encrypts up to 1 MiB under the newest version",
        "a self-describing ciphertext: magic, key id, version, nonce, body, tag", cmd_key_encrypt)
COMMAND("KEY.DECRYPT", -4, CMD_READ | CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(N) of the ciphertext",
        "vault key ciphertext [AAD aad]", "Decrypts with the version that the ciphertext names", "the plaintext; BADCIPHERTEXT", cmd_key_decrypt)
COMMAND("KEY.REWRAP", -4, CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(N) of the ciphertext",
        "vault key ciphertext [AAD aad]", "Re-encrypts under the newest version without showing the plaintext", "the new ciphertext; BADCIPHERTEXT",
        cmd_key_rewrap)
COMMAND("KEY.DATAKEY", -3, CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(1)",
        "vault key [BYTES 16|32|64] [AAD aad] [NOPLAINTEXT]", "Makes random bytes and encrypts them: a key for envelope encryption",
        "[plaintext, ciphertext]; with NOPLAINTEXT the first is nil", cmd_key_datakey)
COMMAND("KEY.SIGN", -4, CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(N) of the message",
        "vault key message [DIGEST] [ALG name]", "Signs a message, or its digest, with the newest version", "the signature (ECDSA as DER)", cmd_key_sign)
COMMAND("KEY.VERIFY", -5, CMD_READ | CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0",
        "O(N) of the message, for each version down to MINVERSION until one accepts", "vault key message signature [DIGEST] [ALG name] [VERSION version]",
        "Checks a signature", "true or false", cmd_key_verify)
COMMAND("KEY.MAC", 4, CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0", "O(N) of the message", "vault key message",
        "Makes an HMAC-SHA256 with the newest version", "the MAC, 32 bytes", cmd_key_mac)
COMMAND("KEY.VERIFYMAC", -5, CMD_READ | CMD_HSM | CMD_REDACT, CAT_KEY, LANE_HSM, KEYS_VAULT_ONE, 3, "key", "1.0.0",
        "O(N) of the message, for each version down to MINVERSION until one accepts", "vault key message mac [VERSION version]", "Checks a MAC",
        "true or false", cmd_key_verifymac)
COMMAND("KEY.PUBLIC", -3, CMD_READ | CMD_FAST, CAT_KEY, LANE_NONE, KEYS_VAULT_ONE, 0, "key", "1.0.0", "O(N) of its versions",
        "vault key [VERSION version] [FORMAT pem|der]", "Gives the public key of the newest version, or of another",
        "PEM text, or DER SubjectPublicKeyInfo", cmd_key_public)
COMMAND("KEY.RANDOM", 2, CMD_HSM, CAT_KEY, LANE_HSM, KEYS_NONE, 0, "key", "1.0.0", "O(N)", "bytes", "Random bytes from the HSM, 1 to 65,536",
        "the bytes", cmd_key_random)
