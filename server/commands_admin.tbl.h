/* Commands about the server. */
COMMAND("INFO", -1, CMD_LOADING, CAT_DANGEROUS, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "[section [section ...]]", "Tells the state of the server", "text: name:value lines in sections", cmd_info)
COMMAND("TIME", 1, CMD_FAST | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Tells the server's time", "[seconds, microseconds]", cmd_time)
COMMAND("ROLE", 1, CMD_ADMIN | CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "", "Tells the node's part in replication", "[role, offset, replicas]", cmd_role)
COMMAND("MONITOR", 1, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "", "Shows every command as it is carried out, secrets redacted; administration is not shown",
        "OK, then lines", cmd_monitor)
COMMAND("SHUTDOWN", -1, CMD_ADMIN | CMD_NOMULTI | CMD_LOADING | CMD_NOSCRIPT | CMD_BLOCKING, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)",
        "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]",
        "Ends the server. A primary without voters waits until its replicas have everything, at most shutdown-timeout, but for NOW; "
        "ABORT calls that off. What was acknowledged is durable already, whatever the option",
        "the connection closes; ERR: another client called it off; OK, for ABORT",
        cmd_shutdown)
COMMAND("SAVE", 1, CMD_ADMIN | CMD_NOMULTI | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the state, beside traffic", "",
        "Makes a snapshot now, of everything that was acknowledged before; every write is durable without it", "OK", cmd_save)
COMMAND("BGSAVE", -1, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "[SCHEDULE]",
        "Begins to make a snapshot; INFO persistence and LASTSAVE tell of its end", "Background saving started; ERR: one is being made already",
        cmd_bgsave)
COMMAND("BGREWRITEAOF", 1, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Begins to make a snapshot, as BGSAVE: the log is cut by those", "Background append only file rewriting started", cmd_bgrewriteaof)
COMMAND("LASTSAVE", 1, CMD_FAST | CMD_LOADING, CAT_ADMIN | CAT_DANGEROUS, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Tells when all that was committed then was in a snapshot; before the first one, when the server was started", "Unix time in seconds",
        cmd_lastsave)
COMMAND("LOLWUT", -1, CMD_READ | CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "[VERSION version]",
        "Shows the version", "text", cmd_lolwut)
COMMAND("DEBUG", -2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "Depends on the sub-command.", "subcommand [argument ...]",
        "For tests: SLEEP, LOG, PROTOCOL; only with enable-debug-command", "depends", cmd_debug)
CONTAINER("CONFIG", -2, 0, 0, "server", "1.0.0", "Commands about directives")
COMMAND("CONFIG|GET", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the directives", "pattern [pattern ...]", "Shows directives", "map of name and value", config_get)
COMMAND("CONFIG|SET", -4, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT | CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 3, "server",
        "1.0.0", "O(N) of the pairs", "parameter value [parameter value ...]",
        "Changes directives: all of them or none", "OK", config_set_cmd)
COMMAND("CONFIG|RESETSTAT", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "", "Sets the counters of INFO to zero", "OK", config_resetstat)
COMMAND("CONFIG|REWRITE", 2, CMD_ADMIN | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the file", "", "Writes the configuration file anew with what is set now", "OK", config_rewrite_cmd)
COMMAND("CONFIG|HELP", 2, CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
COMMAND("COMMAND", -1, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the commands", "", "Describes all commands", "array of arrays", cmd_command)
COMMAND("COMMAND|INFO", -2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the names", "[command-name [command-name ...]]", "Describes commands", "array of arrays and nils",
        cmd_command_info)
COMMAND("COMMAND|DOCS", -2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the names", "[command-name [command-name ...]]", "Documents commands", "map of name and map",
        cmd_command_docs)
COMMAND("COMMAND|COUNT", 2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Counts commands", "integer", cmd_command_count)
COMMAND("COMMAND|LIST", -2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the commands", "[FILTERBY <MODULE module-name|ACLCAT category|PATTERN pattern>]", "Lists commands",
        "array of names", cmd_command_list)
COMMAND("COMMAND|GETKEYS", -3, CMD_LOADING | CMD_REDACT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 3, "server", "1.0.0",
        "O(N) of the arguments", "command [arg ...]", "Shows which arguments of a command are keys", "array of keys",
        cmd_command_getkeys)
COMMAND("COMMAND|GETKEYSANDFLAGS", -3, CMD_LOADING | CMD_REDACT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 3, "server",
        "1.0.0", "O(N) of the arguments", "command [arg ...]", "Shows the keys of a command and what is done to them",
        "array of [key, flags]", cmd_command_getkeysandflags)
COMMAND("COMMAND|HELP", 2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
CONTAINER("SLOWLOG", -2, 0, 0, "server", "1.0.0", "Commands about commands that took long")
COMMAND("SLOWLOG|GET", -2, CMD_ADMIN | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the entries", "[count]", "Shows the newest entries, values redacted",
        "array of [id, time, microseconds, arguments, client, client's name]", slowlog_get)
COMMAND("SLOWLOG|LEN", 2, CMD_ADMIN | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Counts the entries", "integer", slowlog_len_cmd)
COMMAND("SLOWLOG|RESET", 2, CMD_ADMIN | CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the entries", "", "Forgets them", "OK", slowlog_reset_cmd)
COMMAND("SLOWLOG|HELP", 2, CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
CONTAINER("LATENCY", -2, 0, 0, "server", "1.0.0", "Commands about how long commands take")
COMMAND("LATENCY|LATEST", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "", "Shows the newest event of each kind above latency-monitor-threshold",
        "array of [event, time, ms, worst ms]", latency_latest)
COMMAND("LATENCY|HISTORY", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "event", "Shows the events of a kind: command, fast-command", "array of [time, ms]", latency_history)
COMMAND("LATENCY|GRAPH", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "event", "Draws the events of a kind, the oldest left, each with how long ago it was", "text", latency_graph)
COMMAND("LATENCY|RESET", -2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "[event [event ...]]", "Forgets events", "how many kinds had any", latency_reset_cmd)
COMMAND("LATENCY|DOCTOR", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(1)", "", "Says in words what was seen", "text", latency_doctor)
COMMAND("LATENCY|HISTOGRAM", -2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server",
        "1.0.0", "O(N) of the commands", "[command [command ...]]", "Shows how many calls of commands took how long",
        "map of command and calls, histogram_usec", latency_histogram)
COMMAND("LATENCY|HELP", 2, CMD_LOADING, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
CONTAINER("ACL", -2, 0, 0, "server", "1.0.0", "Commands about users")
COMMAND("ACL|WHOAMI", 2, CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Tells who is logged in", "user name", acl_whoami)
COMMAND("ACL|USERS", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the users", "", "Lists user names", "array", acl_users)
COMMAND("ACL|LIST", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the users", "", "Lists users with their rules", "array of lines", acl_list_cmd)
COMMAND("ACL|GETUSER", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the user's rules", "username", "Shows a user",
        "map of flags, passwords (SHA-256), commands, keys, channels, selectors; or nil", acl_getuser)
COMMAND("ACL|SETUSER", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT | CMD_REDACT, 0, LANE_ALONE, KEYS_NONE, 3, "server",
        "1.0.0", "O(N) of the user's rules", "username [rule [rule ...]]", "Makes or changes a user: docs/acl.md",
        "OK", acl_setuser)
COMMAND("ACL|DELUSER", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the users", "username [username ...]", "Removes users and closes their connections",
        "number of users removed", acl_deluser)
COMMAND("ACL|DRYRUN", -4, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT | CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 4, "server",
        "1.0.0", "O(N) of the keys and patterns", "username command [arg [arg ...]]",
        "Tells whether a user may run a command, without running it", "OK, or what is not allowed", acl_dryrun)
COMMAND("ACL|GENPASS", -2, CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "[bits]",
        "Makes a random password", "hex digits, 64 or so many bits", acl_genpass)
COMMAND("ACL|LOG", -2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the entries", "[count|RESET]", "Shows the newest refusals, or forgets all",
        "array of maps: count, reason, context, object, username, age-seconds, client-info; OK", acl_log_cmd)
COMMAND("ACL|LOAD", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the users", "", "Reads the aclfile; everybody but the default user is logged out", "OK", acl_load_cmd)
COMMAND("ACL|SAVE", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, 0, LANE_ALONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the users", "", "Writes the aclfile", "OK", acl_save_cmd)
COMMAND("ACL|CAT", -2, CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0",
        "O(N) of the commands", "[category]", "Lists the categories, or the commands of one", "array", acl_cat)
COMMAND("ACL|HELP", 2, CMD_LOADING | CMD_NOSCRIPT, 0, LANE_NONE, KEYS_NONE, 0, "server", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
