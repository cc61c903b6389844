/* Commands about the connection itself. */
COMMAND("PING", -1, CMD_FAST | CMD_SUBSCRIBER | CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0", "O(1)",
        "[message]", "Tells that the server is there", "PONG, or the message", cmd_ping)
COMMAND("ECHO", 2, CMD_FAST | CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0", "O(1)",
        "message", "Answers the message", "the message", cmd_echo)
COMMAND("HELLO", -1, CMD_FAST | CMD_NOAUTH | CMD_LOADING | CMD_NOSCRIPT | CMD_REDACT, CAT_CONNECTION, LANE_NONE,
        KEYS_NONE, 2, "connection", "1.0.0", "O(1)", "[protover [AUTH username password] [SETNAME clientname]]",
        "Chooses the protocol, logs in, names the connection", "map: server, version, proto, id, mode, role, modules",
        cmd_hello)
COMMAND("AUTH", -2, CMD_FAST | CMD_NOAUTH | CMD_LOADING | CMD_NOSCRIPT | CMD_REDACT, CAT_CONNECTION, LANE_NONE,
        KEYS_NONE, 1, "connection", "1.0.0", "O(1)", "[username] password", "Logs in", "OK; WRONGPASS", cmd_auth)
COMMAND("SELECT", 2, CMD_FAST | CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0", "O(1)",
        "index", "Changes the database: the vault db<index> of the string facade", "OK", cmd_select)
COMMAND("QUIT", -1, CMD_FAST | CMD_SUBSCRIBER | CMD_NOAUTH | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "", "Closes the connection", "OK", cmd_quit)
COMMAND("RESET", 1, CMD_FAST | CMD_SUBSCRIBER | CMD_NOAUTH | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "", "Makes the connection as it was when it was accepted", "RESET", cmd_reset)
CONTAINER("CLIENT", -2, 0, 0, "connection", "1.0.0", "Commands about client connections")
COMMAND("CLIENT|ID", 2, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection",
        "1.0.0", "O(1)", "", "Tells the connection's id", "integer", client_id)
COMMAND("CLIENT|INFO", 2, CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0",
        "O(1)", "", "Tells about this connection", "a line of fields", client_info)
COMMAND("CLIENT|LIST", -2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(N) of the connections",
        "[TYPE <NORMAL|MASTER|REPLICA|PUBSUB>] [ID client-id [client-id ...]]", "Lists connections",
        "a line of fields each", client_list)
COMMAND("CLIENT|KILL", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(N) of the connections",
        "<ip:port|ID client-id|TYPE <NORMAL|MASTER|REPLICA|PUBSUB>|USER username|ADDR ip:port|LADDR ip:port|SKIPME "
        "yes-no> [filter value ...]", "Closes connections", "OK; with filters the number of connections closed",
        client_kill)
COMMAND("CLIENT|SETNAME", 3, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "connection-name", "Names the connection", "OK", client_setname)
COMMAND("CLIENT|GETNAME", 2, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "", "Tells the connection's name", "the name or nil", client_getname)
COMMAND("CLIENT|SETINFO", 4, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "<LIB-NAME libname|LIB-VER libver>",
        "Tells the client library's name or version", "OK", client_setinfo)
COMMAND("CLIENT|GETREDIR", 2, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "", "Tells to which connection invalidations are redirected",
        "its id; 0: to none; -1: this connection does not track", client_getredir)
COMMAND("CLIENT|TRACKING", -3, CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0, "connection", "1.0.0",
        "O(1), O(N) of the connections with REDIRECT",
        "<ON|OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        "Has the connection told when what it read changes", "OK", client_tracking)
COMMAND("CLIENT|CACHING", 3, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection",
        "1.0.0", "O(1)", "<YES|NO>", "Says whether what the next command reads will be kept, in the modes OPTIN and OPTOUT", "OK",
        client_caching)
COMMAND("CLIENT|TRACKINGINFO", 2, CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0",
        "O(1)", "", "Tells how the connection tracks", "map of flags, redirect, prefixes", client_trackinginfo)
COMMAND("CLIENT|NO-EVICT", 3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "<ON|OFF>", "Keeps the connection when maxmemory-clients closes others", "OK", client_no_evict)
COMMAND("CLIENT|NO-TOUCH", 3, CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection",
        "1.0.0", "O(1)", "<ON|OFF>", "Accepted; reading does not change a secret", "OK", client_no_touch)
COMMAND("CLIENT|REPLY", 3, CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0",
        "O(1)", "<ON|OFF|SKIP>", "Switches answers off and on", "OK, when on", client_reply)
COMMAND("CLIENT|PAUSE", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "timeout [WRITE|ALL]",
        "Holds back commands of clients for a time, in milliseconds", "OK", client_pause)
COMMAND("CLIENT|UNPAUSE", 2, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(N) of the connections held back", "", "Ends CLIENT PAUSE", "OK", client_unpause)
COMMAND("CLIENT|UNBLOCK", -3, CMD_ADMIN | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_ALONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(N) of the connections", "client-id [TIMEOUT|ERROR]",
        "Ends the WAIT or READ.AFTER of another connection, as if its time were over, or with -UNBLOCKED",
        "1, or 0 when it does not wait", client_unblock)
COMMAND("CLIENT|LASTLSN", 2, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "", "Tells the log's number of this connection's last write",
        "integer; 0: it has written nothing", client_lastlsn)
COMMAND("CLIENT|CONSISTENCY", 3, CMD_FAST | CMD_LOADING | CMD_NOSCRIPT, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0,
        "connection", "1.0.0", "O(1)", "<LOCAL|LINEARIZABLE>",
        "LINEARIZABLE: this connection's reads are the primary's alone, and wait until a majority confirmed that it is "
        "that still: they see every write that was answered before they came. LOCAL, as at the start: any node's",
        "OK; reads: READONLY on a replica, NOQUORUM", client_consistency)
COMMAND("CLIENT|HELP", 2, CMD_LOADING, CAT_CONNECTION, LANE_NONE, KEYS_NONE, 0, "connection", "1.0.0", "O(1)", "",
        "Shows the sub-commands", "lines", cmd_help)
