/* net.h - hosts on a network of their own: network namespaces on a bridge, and ways between them that can be cut.
 *
 *     if (!net_start(6)) skip();
 *     net_enter(0); ... what this thread starts or opens is on host 0 ...; net_leave();
 *     net_cut(0, 1); net_cut(1, 0);       host 0 and host 1 do not hear each other: nothing is refused, all is lost
 *     net_heal();
 *
 * A way is cut in one direction: the sender's table of neighbours names a wrong hardware address for the receiver. So a
 * connection in the middle of something stays open at both ends, and waits, as behind a pulled plug.
 *
 * UNIX sockets are not of a network: a test can reach every server by its socket, whatever is cut.
 *
 * Needs the right to make network namespaces (root's, or a user namespace's), and iproute2. One thread; one network,
 * which goes with the process.
 */
#ifndef COFFER_TESTS_LIB_NET_H
#define COFFER_TESTS_LIB_NET_H

#define NET_HOSTS 8

/* Leaves the process's network for one with so many hosts in it; before there are other threads. 0: that is not
 * permitted here, or ip(8) is not there; then nothing else of this may be called but net_leave. */
int net_start(unsigned hosts);

const char *net_address(unsigned host); /* static memory of each host */

/* The calling thread, and what it starts, from now on. net_leave: back to the network's own place, from where no host
 * is reached; nothing, without net_start. */
void net_enter(unsigned host);
void net_leave(void);

void net_cut(unsigned from, unsigned to);
void net_heal(void);

#endif
