/* Fuzz target for server/acl_user.c and acl_selector.c: words of ACL SETUSER, one a line, up to an empty line, then the
 * words of a command. Whatever makes a user makes a text that makes the same user of a new one, whatever that could do
 * before; and both of them may carry out the same commands. Words that are refused change nothing that could be seen:
 * they are thrown away with the user. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "server/acl_user.h"
#include "server/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS 64

/* A word in memory of its own, so that ASan finds every byte read too far. */
static struct bytes copy_of(struct bytes s)
{
    uint8_t *p = malloc(s.n ? s.n : 1);
    assert(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return bytes_of(p, s.n);
}

static unsigned take_words(struct bytes *in, struct bytes *words)
{
    unsigned n = 0;
    while (in->n && n < WORDS) {
        const uint8_t *end = memchr(in->p, '\n', in->n);
        size_t len = end ? (size_t)(end - in->p) : in->n;
        struct bytes w = bytes_of(in->p, len);
        *in = bytes_of(in->p + len + (end ? 1 : 0), in->n - len - (end ? 1 : 0));
        if (!len)
            break;
        words[n++] = copy_of(w);
    }
    return n;
}

static void free_words(struct bytes *words, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free((void *)(uintptr_t)words[i].p);
}

static void text_of(const struct acl_user *u, struct buf *out)
{
    buf_init_secret(out, 1 << 24);
    assert(acl_user_text(u, out) == ERR_OK);
}

/* Two users that must be the same. */
static void compare(const struct acl_user *a, const struct acl_user *b, const struct bytes *argv, unsigned argc)
{
    struct acl_denial d[2] = {{ACL_COMMAND, 0}, {ACL_COMMAND, 0}};
    struct call c = {.argv = argv, .argc = argc};
    int unknown;
    for (const struct acl_selector *s = &a->own, *t = &b->own; s || t; s = s->next, t = t->next) {
        assert(s && t && s->flags == t->flags && memcmp(s->allowed, t->allowed, sizeof s->allowed) == 0);
        assert(s->first_arguments.n == t->first_arguments.n && s->rules.n == t->rules.n);
    }
    assert(a->enabled == b->enabled && a->nopass == b->nopass && a->hashes == b->hashes);
    assert(acl_channels_kept(a, b) && acl_channels_kept(b, a));
    c.cmd = argc ? command_find(argv, argc, &unknown) : NULL;
    if (!c.cmd || !command_arity_ok(c.cmd, argc))
        return;
    enum err e = acl_check(a, 1, &c, &d[0]), f = acl_check(b, 1, &c, &d[1]);
    assert(e == f && d[0].reason == d[1].reason && d[0].arg == d[1].arg && d[0].arg < argc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size), words[WORDS], argv[WORDS];
    struct acl_fault why;
    unsigned n = take_words(&in, words), argc = take_words(&in, argv);
    struct acl_user *u = acl_user_new(bytes_str("u"), 0), *v = acl_user_new(bytes_str("v"), 1);
    assert(u && v);
    enum err e = acl_user_apply(u, words, n, 0, 0, &why);
    assert(e == ERR_OK || (e == ERR_SYNTAX && why.text && why.text[0] && why.word < n));
    if (e == ERR_OK) {
        struct buf text, again;
        text_of(u, &text);
        struct bytes copy = copy_of(buf_bytes(&text));
        assert(acl_user_apply_text(v, copy, 0, &why) == ERR_OK);
        text_of(v, &again);
        assert(bytes_equal(copy, buf_bytes(&again)));
        compare(u, v, argv, argc);
        free_words(&copy, 1);
        buf_fini(&text);
        buf_fini(&again);
    }
    acl_user_unref(u);
    acl_user_unref(v);
    free_words(words, n);
    free_words(argv, argc);
    return 0;
}
