/* bucketlink.h - the object store as it is configured: what bucket.h and upload.h need of the server. */
#ifndef COFFER_SERVER_BUCKETLINK_H
#define COFFER_SERVER_BUCKETLINK_H

#include "server/server.h"
#include "server/upload.h"

/* 1: object-store is set. */
int bucketlink_given(const struct server *srv);

/* Fills cfg; srv->hsm is open. The requests of a bucket wait for the HSM: never on an I/O thread. */
void bucketlink_config(struct server *srv, struct bucket_config *cfg);

/* node-name, or the host's made valid: what a name may not have becomes '-'. */
void bucketlink_node(const struct server *srv, char out[SNAPOBJECT_NODE_BYTES]);

/* The thread that uploads; srv->upload stays NULL where there is no object store. The engine is open. ERR_OOM. */
must_use enum err bucketlink_start(struct server *srv);

#endif
