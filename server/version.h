/* version.h - what the server calls itself. */
#ifndef COFFER_SERVER_VERSION_H
#define COFFER_SERVER_VERSION_H

#define COFFER_VERSION "1.0.0"
#define COFFER_REDIS_VERSION "7.0.15" /* whose protocol, commands and texts are followed */

#endif
