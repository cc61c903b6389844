/* Why a call to the object store failed, one row each: WHY(name, err, retry, text).
 *
 * name   the enum constant is OBJSTORE_<name>.
 * err    what the call returns is ERR_<err>.
 * retry  1: it may be gone in a moment. The module has tried config.attempts times before a caller sees it.
 * text   what happened, and what to do about it.
 *
 * docs/object-store.md has the same rows for operators; a unit test compares.
 */
/*  name         err          retry text */
WHY(CONFIG,      SYNTAX,       0, "a setting is wrong")
WHY(STOPPED,     AGAIN,        0, "stopped on request; the same call may be repeated")
WHY(MEMORY,      OOM,          0, "out of memory")
WHY(CALLER,      IO,           0, "the local side of the transfer failed")
WHY(UNREACHABLE, STOREDOWN,    1, "the object store cannot be reached: is it running, and is object-store-endpoint right?")
WHY(TIMEOUT,     STOREDOWN,    1, "the object store did not answer in time")
WHY(BUSY,        STOREDOWN,    1, "the object store is overloaded or in trouble itself")
WHY(TRUNCATED,   STOREDOWN,    1, "the connection ended in the middle of a transfer")
WHY(TLS,         STOREREFUSED, 0, "the server's certificate was not accepted, or TLS failed: check object-store-ca-cert-file and the endpoint's name")
WHY(CREDENTIALS, WRONGPASS,    0, "the object store does not accept the credentials: check object-store-credentials-file")
WHY(DENIED,      NOPERM,       0, "the credentials are known, but may not do this: check the bucket's policy")
WHY(CLOCK,       STOREREFUSED, 0, "this machine's clock and the object store's differ too much: set the clock (NTP)")
WHY(REGION,      STOREREFUSED, 0, "the bucket is elsewhere: check object-store-region and object-store-endpoint")
WHY(NOBUCKET,    STOREREFUSED, 0, "there is no such bucket: make it, or correct object-store")
WHY(QUOTA,       QUOTA,        0, "over the quota at the object store: raise it, or lower object-store-keep")
WHY(ABSENT,      NOTFOUND,     0, "there is no such object")
WHY(NOUPLOAD,    NOTFOUND,     0, "there is no such upload (completed, aborted or expired): begin anew")
WHY(EXISTS,      CONFLICT,     0, "there is an object of this name already")
WHY(ALTERED,     CONFLICT,     0, "the object was replaced meanwhile: begin anew")
WHY(DAMAGED,     CORRUPT,      1, "the bytes do not have the checksum that the object store has for them")
WHY(TOOBIG,      TOOBIG,       0, "the object is larger than allowed here")
WHY(UNSUPPORTED, UNSUPPORTED,  0, "the object store cannot do this")
WHY(ANSWER,      STOREREFUSED, 0, "the answer is not one of an S3 service: check object-store-endpoint")
WHY(REFUSED,     STOREREFUSED, 0, "the object store refused the request")
