/* Operations of an HSM worker, one row each:
 *
 *     OP(name, parts in, parts out, idempotent, lane, what)
 *
 * parts       number of byte strings in the request and in a successful answer (proto.h).
 * idempotent  1: the parent may repeat it on a fresh worker when the first one died under it.
 * lane        KEYED: to the worker chosen by hash of the part after the partition config, so that handle caches do not
 *             overlap; ANY: the least busy worker; SLOW: the worker for key generation that takes seconds (RSA).
 *
 * "config" is a partition config (partition.h), "masked" a masked object (masked.h). Integers are little-endian.
 * Append new rows at the end: the row number is the operation's code on the wire.
 */
OP(START,             1, 1, 0, ANY,   "settings -> info: load the module, log in, self-test; first request to a worker")
OP(PROBE,             0, 0, 1, ANY,   "token info and HMAC by a sentinel key: is the device there and itself")
OP(INFO,              0, 1, 1, ANY,   "-> counters and latencies as text lines name:value")
OP(RANDOM,            1, 1, 1, ANY,   "u32 count -> bytes of C_GenerateRandom")
OP(PARTITION_NEW,     1, 1, 0, ANY,   "partition id 16 -> config: makes the four keys as token objects")
OP(PARTITION_IMPORT,  1, 0, 1, ANY,   "config ->: makes sure that the token holds the partition's four keys")
OP(PARTITION_DESTROY, 1, 0, 1, ANY,   "config ->: destroys the four token objects; what was sealed under them is dead")
OP(DEK_NEW,           2, 2, 0, ANY,   "config, context -> data key 32, wrapped: a random key, AES-GCM by the partition's KEK, context as AAD")
OP(DEK_OPEN,          3, 1, 1, ANY,   "config, context, wrapped -> data key 32")
OP(KEY_NEW,           2, 2, 0, KEYED, "config, key header -> masked, public key (DER SubjectPublicKeyInfo, empty for symmetric)")
OP(KEY_NEW_SLOW,      2, 2, 0, SLOW,  "the same for RSA")
OP(KEY_CHECK,         2, 0, 1, KEYED, "config, masked ->: the HMAC of a masked object; ERR_BADBLOB")
OP(ENCRYPT,           5, 1, 1, KEYED, "config, masked, ciphertext header, aad, plaintext -> header | nonce | body | tag")
OP(DECRYPT,           4, 1, 1, KEYED, "config, masked, aad, ciphertext -> plaintext; ERR_BADCIPHERTEXT")
OP(REWRAP,            6, 1, 1, KEYED, "config, masked old, masked new, new header, aad, ciphertext -> ciphertext under the new version")
OP(DATAKEY,           5, 2, 1, KEYED, "config, masked, ciphertext header, aad, u32 count -> random bytes, their ciphertext")
OP(SIGN,              4, 1, 1, KEYED, "config, masked, u8 algorithm | u8 prehashed, message or digest -> signature (ECDSA as DER)")
OP(VERIFY,            5, 1, 1, KEYED, "config, masked, u8 algorithm | u8 prehashed, message or digest, signature -> u8 0 or 1")
OP(MAC,               3, 1, 1, KEYED, "config, masked, message -> HMAC-SHA256, 32 bytes")
OP(VERIFYMAC,         4, 1, 1, KEYED, "config, masked, message, mac -> u8 0 or 1")
OP(REALM_MAC,         1, 1, 1, ANY,   "message, at most 4 KiB -> HMAC-SHA256 under the realm's MAC key of \"coffer-realm-mac\" | message: signs snapshots")
OP(REALM_DEK_NEW,     1, 2, 0, ANY,   "context, at most 1 KiB -> data key 32, wrapped for the realm (ops.h): for files that leave the node")
OP(REALM_DEK_OPEN,    2, 1, 1, ANY,   "context, wrapped -> data key 32; ERR_BADBLOB: of another realm or context, or changed")
OP(PARTITION_SWEEP,   2, 1, 1, ANY,   "prefix, ids 16 each -> u32: destroys the token objects of all other partitions with the prefix, of those found at start")
