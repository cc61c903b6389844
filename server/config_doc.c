/* config_doc.c - the table as text: docs/config.md, and the shipped packaging/coffer.conf. */
#include <stdio.h>

#include "server/config.h"

static const char *const type_names[] = {
    [CONFIG_BOOL] = "yes/no",  [CONFIG_NUMBER] = "number", [CONFIG_SIZE] = "size",
    [CONFIG_SECONDS] = "time", [CONFIG_NAME] = "one of",   [CONFIG_TEXT] = "text",
    [CONFIG_LIST] = "list",    [CONFIG_LINES] = "lines",   [CONFIG_OBUF] = "class hard soft seconds",
};

/* Prints until something fails; what follows a failure is left out. */
struct printer {
    struct buf *out;
    enum err e;
};

#define PUT(p, ...) ((p)->e = (p)->e ? (p)->e : buf_putf((p)->out, __VA_ARGS__))

static void put_escaped(struct printer *p, const char *s)
{
    for (; *s; s++)
        PUT(p, *s == '|' ? "\\|" : "%c", *s);
}

static void reference_section(struct printer *p, const char *title)
{
    PUT(p, "\n## %s\n\n| directive | default | kind | CONFIG SET | meaning |\n| --- | --- | --- | --- | --- |\n",
        title);
}

static void reference_row(struct printer *p, enum config_id id)
{
    const struct config_row *r = &config_rows[id];
    const char *alias;
    PUT(p, "| `%s`", r->name);
    for (unsigned i = 1; (alias = config_name(id, i)); i++)
        PUT(p, ", `%s`", alias);
    PUT(p, r->initial[0] ? " | `%s` | " : " | %s | ", r->initial);
    PUT(p, "%s", r->type == CONFIG_NUMBER && r->extra ? r->extra : type_names[r->type]);
    if (r->type == CONFIG_NAME) {
        PUT(p, " ");
        put_escaped(p, r->extra);
    }
    PUT(p, " | %s | ", r->flags & CONFIG_FIXED ? "" : "yes");
    put_escaped(p, r->doc);
    PUT(p, "%s |\n", r->flags & CONFIG_OURS ? "" : r->flags & CONFIG_INERT ? "" : " (as in Redis)");
}

enum err config_print_reference(struct buf *out)
{
    struct printer p = {.out = out};
    PUT(&p,
        "# Configuration\n\nPrinted by `coffer-server --print-config-reference` from server/config.tbl.h; do not "
        "edit.\n\n"
        "`coffer-server [file] [--directive value ...]`. The file has the syntax of redis.conf: a directive and "
        "its values on a line,\n"
        "quotes and escapes where a value has blanks, `#` for comments, `include`. Later lines win, the command "
        "line comes last.\n"
        "Unknown directives are warned about and skipped.\n\n"
        "Sizes take k, kb, m, mb, g, gb (kb is 1,024, k is 1,000); times take s, m, h, d, w.\n\n"
        "Environment: `COFFER_HSM_PIN` (the user PIN, for tests), `CREDENTIALS_DIRECTORY` (systemd credentials: "
        "`hsm-pin`),\n"
        "`NOTIFY_SOCKET` and `WATCHDOG_USEC` (systemd), `COFFER_HSM` (path of coffer-hsm, else beside coffer-server),\n"
        "`COFFER_KEEP_CORE` (allows core dumps: a debugging aid), `COFFER_FAULT` (makes the n-th allocation or file\n"
        "operation fail: a debugging aid).\n");
#define SECTION(title) reference_section(&p, title);
#define CONFIG(id, ...) reference_row(&p, CFG_##id);
#define INERT(id, ...) reference_row(&p, CFG_##id);
#define ALIAS(other, name)
#include "server/config.tbl.h"
    return p.e;
}

/* Comments at 100 columns. */
static void put_comment(struct printer *p, const char *text)
{
    while (*text) {
        size_t n = strlen(text), width = 98;
        if (n > width) {
            n = width;
            while (n > 0 && text[n] != ' ')
                n--;
            if (n == 0)
                n = width;
        }
        PUT(p, "# %.*s\n", (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
}

static void file_section(struct printer *p, const char *title)
{
    if (strncmp(title, "Accepted", 8) == 0) /* shows nothing of these */
        return;
    PUT(p, "\n################################ %s ################################\n", title);
}

/* What the shipped file says other than the default. */
static const char *shipped_value(enum config_id id)
{
    return id == CFG_METRICS_PORT ? "7380" : NULL;
}

static void file_row(struct printer *p, enum config_id id)
{
    const struct config_row *r = &config_rows[id];
    const char *shipped = shipped_value(id);
    PUT(p, "\n");
    put_comment(p, r->doc);
    if (r->type == CONFIG_NAME)
        PUT(p, "# One of: %s\n", r->extra);
    if (r->type == CONFIG_OBUF)
        PUT(p, "# client-output-buffer-limit normal 0 0 0\n# client-output-buffer-limit replica 256mb 64mb 60\n"
               "# client-output-buffer-limit pubsub 32mb 8mb 60\n");
    else if (shipped)
        PUT(p, "%s %s\n", r->name, shipped);
    else
        PUT(p, r->initial[0] ? "# %s %s\n" : "# %s ...%s\n", r->name, r->initial);
}

enum err config_print_default_file(struct buf *out)
{
    struct printer p = {.out = out};
    PUT(&p, "# Coffer's configuration. Every directive is here; commented ones show their default, or ... where there "
            "is none.\n"
            "# Printed by `coffer-server --print-default-config` from server/config.tbl.h, `make check` compares.\n");
#define SECTION(title) file_section(&p, title);
#define CONFIG(id, ...) file_row(&p, CFG_##id);
#define INERT(id, ...)
#define ALIAS(other, name)
#include "server/config.tbl.h"
    return p.e;
}
