/* cmd_config.h - what DEBUG has of CONFIG. */
#ifndef COFFER_SERVER_CMD_CONFIG_H
#define COFFER_SERVER_CMD_CONFIG_H

#include "server/call.h"

/* CONFIG REWRITE with every directive, those at their initial value too. */
enum call_result config_rewrite_all(struct call *c);

#endif
