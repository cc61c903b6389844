/* objstore_open.c - settings of the object store client: checked, and kept for its life. */
#include <stdio.h>

#include "base/mem.h"
#include "engine/objstore_impl.h"

#define CONNECT_MS 10000
#define STALL_MS 60000
#define TRANSFER_MS (15 * 60000)
#define ATTEMPTS 6
#define PAUSE_MS 500
#define PAGE_ENTRIES 1000

int objstore_key_valid(const char *key, size_t max_bytes)
{
    if (!key[0] || strlen(key) > max_bytes)
        return 0;
    for (const char *part = key;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return 0;
        for (size_t i = 0; i < n; i++)
            if (part[i] < ' ' || part[i] > '~')
                return 0;
        part += n;
        if (!*part)
            return 1;
    }
}

enum err objstore_check_key(struct objstore *o, const char *doing, const char *key)
{
    const struct s3_request r = {.doing = doing, .key = key};

    if (objstore_key_valid(key, OBJSTORE_KEY_MAX - strlen(o->prefix)))
        return ERR_OK;
    objstore_fail(o, OBJSTORE_CONFIG, &r, "not a key: see engine/objstore.h");
    return ERR_BADPATH;
}

static int is_in(const char *text, size_t n, const char *allowed)
{
    for (size_t i = 0; i < n; i++)
        if (!text[i] || !strchr(allowed, text[i]))
            return 0;
    return 1;
}

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

const char *objstore_parse_url(const char *url, char bucket[OBJSTORE_BUCKET_BYTES], char prefix[OBJSTORE_KEY_MAX + 1])
{
    bucket[0] = prefix[0] = 0;
    if (!url || strncmp(url, "s3://", 5) != 0)
        return "must begin with s3://";
    url += 5;
    size_t n = strcspn(url, "/");
    if (n < 3 || n >= OBJSTORE_BUCKET_BYTES || !is_in(url, n, LOWER_DIGITS ".-") || !is_in(url, 1, LOWER_DIGITS))
        return "a bucket's name has 3 to 63 of a-z 0-9 . -";
    memcpy(bucket, url, n);
    bucket[n] = 0;
    url += n + (url[n] == '/');
    n = strlen(url);
    if (n && url[n - 1] == '/')
        n--;
    if (n > OBJSTORE_KEY_MAX / 2)
        return "the prefix is too long";
    if (n == 0)
        return "";
    memcpy(prefix, url, n);
    prefix[n] = 0;
    if (!objstore_key_valid(prefix, n))
        return "the prefix has something else than printable ASCII, or an empty, . or .. part";
    memcpy(prefix + n, "/", 2);
    return "";
}

static int port_valid(const char *text)
{
    size_t n = strlen(text);
    unsigned port = 0;

    if (n < 1 || n > 5 || !is_in(text, n, "0123456789"))
        return 0;
    for (size_t i = 0; i < n; i++)
        port = port * 10 + (unsigned)(text[i] - '0');
    return port >= 1 && port <= 65535;
}

/* HOST, HOST:PORT, [V6]:PORT */
static int host_valid(const char *text)
{
    size_t n;
    if (text[0] == '[') {
        n = strcspn(text, "]");
        if (n < 3 || !text[n] || !is_in(text + 1, n - 1, "0123456789abcdefABCDEF:."))
            return 0;
        n++;
    } else {
        n = strcspn(text, ":");
        if (n < 1 || !is_in(text, n, LOWER_DIGITS UPPER ".-_"))
            return 0;
    }
    return !text[n] || (text[n] == ':' && port_valid(text + n + 1));
}

const char *objstore_parse_endpoint(const char *url, char out[OBJSTORE_ENDPOINT_BYTES])
{
    size_t scheme = url && strncmp(url, "https://", 8) == 0 ? 8 : url && strncmp(url, "http://", 7) == 0 ? 7 : 0;

    out[0] = 0;
    if (!scheme)
        return "must begin with https:// or http://";
    size_t n = strlen(url);
    if (n > scheme && url[n - 1] == '/')
        n--;
    if (n >= OBJSTORE_ENDPOINT_BYTES)
        return "is too long";
    memcpy(out, url, n);
    out[n] = 0;
    if (host_valid(out + scheme))
        return "";
    out[0] = 0;
    return "must be a host and perhaps a port, nothing else";
}

const char *objstore_url_wrong(const char *url)
{
    char bucket[OBJSTORE_BUCKET_BYTES], prefix[OBJSTORE_KEY_MAX + 1];
    return objstore_parse_url(url, bucket, prefix);
}

const char *objstore_endpoint_wrong(const char *endpoint)
{
    char out[OBJSTORE_ENDPOINT_BYTES];
    return objstore_parse_endpoint(endpoint, out);
}

/* ---- open ---- */

static enum err bad_setting(struct objstore *o, const char *name, const char *why)
{
    return objstore_fail(o, OBJSTORE_CONFIG, NULL, "%s: %s", name, why);
}

static enum err take_addresses(struct objstore *o, const struct objstore_config *c)
{
    const char *region = c->region && c->region[0] ? c->region : "us-east-1";
    const char *why = objstore_parse_url(c->url, o->bucket, o->prefix);

    if (why[0])
        return bad_setting(o, "object-store", why);
    why = objstore_parse_endpoint(c->endpoint, o->endpoint);
    if (why[0])
        return bad_setting(o, "object-store-endpoint", why);
    if (strlen(region) >= OBJSTORE_REGION_BYTES || !is_in(region, strlen(region), LOWER_DIGITS UPPER "-_"))
        return bad_setting(o, "object-store-region", "is not a region's name");
    snprintf(o->signing, sizeof o->signing, "aws:amz:%s:s3", region);
    if (c->ca_file && strlen(c->ca_file) >= sizeof o->ca_file)
        return bad_setting(o, "object-store-ca-cert-file", "is too long");
    snprintf(o->ca_file, sizeof o->ca_file, "%s", c->ca_file ? c->ca_file : "");
    return ERR_OK;
}

static enum err take_numbers(struct objstore *o, const struct objstore_config *c)
{
    o->config = *c;
    o->config.url = o->config.endpoint = o->config.region = o->config.credentials_file = o->config.ca_file = NULL;
    if (!c->connect_timeout_ms)
        o->config.connect_timeout_ms = CONNECT_MS;
    if (!c->stall_timeout_ms)
        o->config.stall_timeout_ms = STALL_MS;
    if (!c->transfer_timeout_ms)
        o->config.transfer_timeout_ms = TRANSFER_MS;
    if (!c->attempts)
        o->config.attempts = ATTEMPTS;
    if (!c->pause_ms)
        o->config.pause_ms = PAUSE_MS;
    if (!c->part_bytes)
        o->config.part_bytes = OBJSTORE_PART_BYTES;
    if (!c->page_entries || c->page_entries > PAGE_ENTRIES)
        o->config.page_entries = PAGE_ENTRIES;
    if (o->config.part_bytes < OBJSTORE_PART_BYTES_MIN || o->config.part_bytes > 1u << 30)
        return bad_setting(o, "part size", "must be from 5 MiB to 1 GiB");
    return ERR_OK;
}

static enum err take_credentials(struct objstore *o, const struct objstore_config *c)
{
    const char *why = "is not set";
    enum err e = ERR_SYNTAX;

    if (c->credentials_file && c->credentials_file[0])
        e = objstore_credentials_new(c->credentials_file, &o->credentials, &why);
    if (e == ERR_OOM)
        return objstore_fail(o, OBJSTORE_MEMORY, NULL, NULL);
    if (e)
        bad_setting(o, "object-store-credentials-file", why);
    return e;
}

static enum err take_config(struct objstore *o, const struct objstore_config *c)
{
    enum err e = take_addresses(o, c);
    if (!e)
        e = take_numbers(o, c);
    if (!e)
        e = take_credentials(o, c);
    if (!e && objstore_curl_init())
        e = objstore_fail(o, OBJSTORE_MEMORY, NULL, NULL);
    if (!e && !(o->curl = curl_easy_init()))
        e = objstore_fail(o, OBJSTORE_MEMORY, NULL, NULL);
    return e;
}

enum err objstore_open(const struct objstore_config *config, struct objstore **out, struct objstore_trouble *t)
{
    struct objstore *o = mem_zalloc(sizeof *o);
    enum err e;

    *out = NULL;
    memset(t, 0, sizeof *t);
    if (!o) {
        t->why = OBJSTORE_MEMORY;
        objstore_printable(t->text, sizeof t->text, objstore_why_text(t->why));
        return ERR_OOM;
    }
    o->magic = OBJSTORE_MAGIC;
    e = take_config(o, config);
    *t = o->trouble;
    if (e)
        objstore_close(o);
    else
        *out = o;
    return e;
}

void objstore_close(struct objstore *o)
{
    if (!o)
        return;
    curl_easy_cleanup(o->curl);
    objstore_credentials_free(o->credentials);
    o->magic = 0;
    mem_free(o);
}

const struct objstore_trouble *objstore_trouble(const struct objstore *o)
{
    return &o->trouble;
}
