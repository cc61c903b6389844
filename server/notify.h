/* notify.h - telling systemd: one datagram to NOTIFY_SOCKET. Does nothing when there is none. Any thread; does not
 * block for long. */
#ifndef COFFER_SERVER_NOTIFY_H
#define COFFER_SERVER_NOTIFY_H

/* "READY=1", "STOPPING=1", "STATUS=...", "WATCHDOG=1"; several with '\n' between. */
void notify_send(const char *text);
/* Microseconds within which systemd wants WATCHDOG=1; 0: it does not. */
unsigned long long notify_watchdog_us(void);

#endif
