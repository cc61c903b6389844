/* Key algorithms and signature algorithms, one row each. Codes are on disk and on the wire: they never change meaning.
 *
 *     ALG(id, name, code, kind, bits, can, sign, protection)
 *
 * code        in masked objects and records.
 * kind        what the key is (enum alg_kind).
 * bits        size of the key; of the curve for elliptic curves.
 * can         what it is for, ALG_CAN_ flags.
 * sign        its default signature algorithm, SIG_NONE when it has none.
 * protection  HSM: the private part is usable in the HSM only. SOFTWARE: the HSM makes the seed and the partition's
 *             key-encryption key seals it, but it is used through OpenSSL in the worker, because common modules cannot
 *             wrap such keys; said so in KEY.INFO, refused under hsm-only.
 *
 *     SIG(id, name, code, kind, hash, digest)
 *
 * hash        OpenSSL's name of the digest of the message; "" when the algorithm takes the message itself.
 * digest      bytes of that digest: what a prehashed request must carry; 0: cannot be prehashed.
 */
#ifdef ALG
ALG(AES_256,     "aes-256",     1, ALG_AES,  256,  ALG_CAN_ENCRYPT,                NONE,             HSM)
ALG(RSA_2048,    "rsa-2048",    2, ALG_RSA,  2048, ALG_CAN_ENCRYPT | ALG_CAN_SIGN, RSA_PSS_SHA256,   HSM)
ALG(RSA_3072,    "rsa-3072",    3, ALG_RSA,  3072, ALG_CAN_ENCRYPT | ALG_CAN_SIGN, RSA_PSS_SHA256,   HSM)
ALG(RSA_4096,    "rsa-4096",    4, ALG_RSA,  4096, ALG_CAN_ENCRYPT | ALG_CAN_SIGN, RSA_PSS_SHA256,   HSM)
ALG(EC_P256,     "ec-p256",     5, ALG_EC,   256,  ALG_CAN_SIGN,                   ECDSA_SHA256,     HSM)
ALG(EC_P384,     "ec-p384",     6, ALG_EC,   384,  ALG_CAN_SIGN,                   ECDSA_SHA384,     HSM)
ALG(ED25519,     "ed25519",     7, ALG_ED,   256,  ALG_CAN_SIGN,                   ED25519,          SOFTWARE)
ALG(HMAC_SHA256, "hmac-sha256", 8, ALG_HMAC, 256,  ALG_CAN_MAC,                    NONE,             HSM)
#endif
#ifdef SIG
SIG(RSA_PSS_SHA256,   "RSA-PSS-SHA256",   1, ALG_RSA, "SHA256", 32)
SIG(RSA_PKCS1_SHA256, "RSA-PKCS1-SHA256", 2, ALG_RSA, "SHA256", 32)
SIG(ECDSA_SHA256,     "ECDSA-SHA256",     3, ALG_EC,  "SHA256", 32)
SIG(ECDSA_SHA384,     "ECDSA-SHA384",     4, ALG_EC,  "SHA384", 48)
SIG(ED25519,          "ED25519",          5, ALG_ED,  "",       0)
#endif
