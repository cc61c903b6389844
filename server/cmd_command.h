/* cmd_command.h - what main() prints of the command table. */
#ifndef COFFER_SERVER_CMD_COMMAND_H
#define COFFER_SERVER_CMD_COMMAND_H

#include "base/buf.h"
#include "base/err.h"

/* docs/commands.md, appended. ERR_OOM. */
must_use enum err command_print_reference(struct buf *out);

#endif
