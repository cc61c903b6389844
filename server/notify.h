/* notify.h - telling systemd: one datagram to NOTIFY_SOCKET. Does nothing when there is none. Any thread, but for keep;
 * does not block for long. */
#ifndef COFFER_SERVER_NOTIFY_H
#define COFFER_SERVER_NOTIFY_H

/* "READY=1", "STOPPING=1", "STATUS=...", "WATCHDOG=1"; several with '\n' between. */
void notify_send(const char *text);
/* Microseconds within which systemd wants WATCHDOG=1; 0: it does not. */
unsigned long long notify_watchdog_us(void);

/* From now until keep_end WATCHDOG=1 is sent by itself, by a thread of its own with the caller's signal mask: for what
 * takes long while nobody's loop runs. No longer than so many seconds: what takes longer than that hangs. Main thread.
 */
void notify_keep(unsigned seconds);
void notify_keep_end(void); /* also when it was not begun */

#endif
