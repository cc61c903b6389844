/* rgw.h - a real S3 service for a test: a Ceph object gateway in a directory of its own (rgw.sh), on loopback.
 *
 * Starting takes seconds. It ends, and its directory goes, with rgw_finish or with the test program, whatever way that
 * ends. What goes wrong fails the cmocka test that runs: a machine without the packages fails, it does not skip.
 */
#ifndef COFFER_TESTS_LIB_RGW_H
#define COFFER_TESTS_LIB_RGW_H

#include <stdio.h>
#include <sys/types.h>

#define RGW_ACCESS "COFFERTESTACCESS"
#define RGW_SECRET "CofferTestSecret+/0123456789"

struct rgw {
    char dir[64];       /* holds ca.pem and other-ca.pem */
    int port, tls_port; /* http and https */
    pid_t pid;          /* of rgw.sh; 0: not running */
    FILE *to, *from;    /* its input and output */
};

void rgw_start(struct rgw *g);
void rgw_finish(struct rgw *g); /* also one that did not start */

/* The gateway alone, while all that is stored stays: ends it, starts it again. */
void rgw_down(struct rgw *g);
void rgw_up(struct rgw *g);

/* radosgw-admin with these words, which must succeed. */
void rgw_admin(struct rgw *g, const char *words);

#endif
