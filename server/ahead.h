/* ahead.h - looking ahead in a pipeline: which secrets will its reads look up?
 *
 * A look-up in a hot table of tens of megabytes misses the processor's caches three or four times, one after the other:
 * half of what a small read costs. When more requests have arrived behind the one at hand, those misses can overlap:
 * the requests are parsed ahead, and the engine is told their keys (engine_warm). That is a hint and nothing else:
 * every request is parsed and dispatched again in its turn, as if nobody had looked.
 */
#ifndef COFFER_SERVER_AHEAD_H
#define COFFER_SERVER_AHEAD_H

struct conn;

/* c holds a parsed request. Looks at it and at whole ones behind it in the input. Returns how many it looked at: the
 * caller asks again after so many. Touches nothing of c's. I/O thread; allocates only for a request with more arguments
 * than REQUEST_SMALL_ARGS. */
unsigned ahead_look(struct conn *c);

#endif
