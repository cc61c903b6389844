/* net.c - see net.h. All is done by ip(8), which works on the namespace of the thread that starts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/net.h"

static struct {
    unsigned hosts; /* 0: not started */
    int home, space[NET_HOSTS];
    int is_cut;
    char address[NET_HOSTS][16];
} net;

/* ---- namespaces ---- */

static int this_space(void)
{
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t rc = write(fd, text, strlen(text)); /* what it was for is tried next */
    (void)rc;
    close(fd);
}

/* A new namespace: by the right to make one, or by being root of a user namespace. */
static int leave_network(void)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWNET) == 0)
        return 1;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return 0;
    snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
    put("/proc/self/uid_map", map);
    put("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
    put("/proc/self/gid_map", map);
    return 1;
}

/* ---- ip ---- */

static FILE *ip_begin(void)
{
    return popen("ip -batch - >/dev/null 2>&1", "w");
}

static int ip_end(FILE *ip)
{
    return ip && pclose(ip) == 0;
}

static void put_neighbour(FILE *ip, unsigned host, int wrong)
{
    fprintf(ip, "neigh replace %s lladdr 02:00:00:00:%s:%02x nud permanent dev eth0\n", net.address[host],
            wrong ? "ff" : "00", host + 1);
}

static int make_host(unsigned host)
{
    snprintf(net.address[host], sizeof net.address[host], "10.77.0.%u", (host + 1) % 256);
    if (unshare(CLONE_NEWNET) != 0 || (net.space[host] = this_space()) < 0)
        return 0;
    FILE *ip = ip_begin();
    if (ip)
        fprintf(ip,
                "link set lo up\n"
                "link add eth0 address 02:00:00:00:00:%02x type veth peer name host%u netns /proc/%d/fd/%d\n"
                "addr add %s/24 dev eth0\n"
                "link set eth0 up\n",
                host + 1, host, (int)getpid(), net.home, net.address[host]);
    int made = ip_end(ip);
    net_leave();
    ip = made ? ip_begin() : NULL;
    if (ip)
        fprintf(ip, "link set host%u master switch up\n", host);
    return ip_end(ip);
}

/* Of one host, all others' true addresses. */
static int make_neighbours(unsigned host)
{
    net_enter(host);
    FILE *ip = ip_begin();
    for (unsigned other = 0; ip && other < net.hosts; other++)
        if (other != host)
            put_neighbour(ip, other, 0);
    int made = ip_end(ip);
    net_leave();
    return made;
}

int net_start(unsigned hosts)
{
    if (!leave_network() || (net.home = this_space()) < 0)
        return 0;
    net.hosts = hosts;
    FILE *ip = ip_begin();
    if (ip)
        fprintf(ip, "link set lo up\nlink add switch type bridge\nlink set switch up\n");
    int made = ip_end(ip);
    for (unsigned i = 0; i < hosts && made; i++)
        made = make_host(i);
    for (unsigned i = 0; i < hosts && made; i++)
        made = make_neighbours(i);
    if (!made)
        net.hosts = 0;
    return made;
}

/* ---- use ---- */

const char *net_address(unsigned host)
{
    return net.address[host];
}

void net_enter(unsigned host)
{
    assert_true(host < net.hosts);
    assert_int_equal(setns(net.space[host], CLONE_NEWNET), 0);
}

void net_leave(void)
{
    if (net.hosts)
        assert_int_equal(setns(net.home, CLONE_NEWNET), 0);
}

void net_cut(unsigned from, unsigned to)
{
    net_enter(from);
    FILE *ip = ip_begin();
    if (ip)
        put_neighbour(ip, to, 1);
    assert_true(ip_end(ip));
    net_leave();
    net.is_cut = 1;
}

void net_heal(void)
{
    for (unsigned i = 0; i < net.hosts && net.is_cut; i++)
        assert_true(make_neighbours(i));
    net.is_cut = 0;
}
