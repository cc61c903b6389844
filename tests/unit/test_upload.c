/* Snapshots on their way to an object store and back (server/upload.h, bucket.h), over a fake store (objstore_fake.h):
 * a failure in every step, a kill in every step, a full disk in every file operation. What must hold whatever happens:
 * the next try succeeds, no name gets other bytes than it had, and what comes back is what went. */
#include "objstore_fake.h"

#include <sys/wait.h>

#include "snap_fixture.h"
#include "sweep.h"

#include "engine/snapshots.h"
#include "server/upload.h"
#include "server/uploadfile.h"

#define LSN 1000
#define ENTRIES 8000 /* some MiB: several chunks, several parts */
#define VALUE_BYTES 100

/* ---- a node ---- */

static char node[FX_DIR_BYTES], back[FX_DIR_BYTES]; /* data directories: the node's, and one that is empty */

/* In the place of engine/snapshots.c: what lies in node/snapshots. */
struct snapshots {
    int unused;
};

unsigned snapshots_list(struct snapshots *s, struct snapshots_file *out, unsigned max)
{
    char path[512];
    DIR *d;
    unsigned n = 0;

    (void)s;
    fx_path(path, node, "snapshots");
    assert_non_null(d = opendir(path));
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct snapshots_file f = {.verified = SNAPSHOT_OPENED};
        if (!snapfile_parse_name(e->d_name, &f.lsn, &f.term))
            continue;
        unsigned at = n++;
        if (n > max)
            continue;
        for (; at && out[at - 1].lsn < f.lsn; at--)
            out[at] = out[at - 1];
        out[at] = f;
    }
    closedir(d);
    return n;
}

enum err snapshots_open_file(struct snapshots *s, const struct snapshots_file *f, struct snapread **out, char *why,
                             size_t n)
{
    char name[SNAPFILE_NAME_BYTES], path[512], dir[512];

    (void)s;
    snapfile_name(name, f->lsn, f->term);
    fx_path(dir, node, "snapshots");
    snprintf(path, sizeof path, "%.400s/%s", dir, name);
    return snapread_open(out, path, fx_cell, &sx_signer, why, n);
}

/* The HSM: the key follows from what is called its wrapped form. */
static enum err key_of(const struct box_head *h, uint8_t *key)
{
    sha256_of(h->wrapped, sizeof h->wrapped, key);
    return ERR_OK;
}

static enum err key_new(void *arg, struct box_head *h, uint8_t *key)
{
    (void)arg;
    enum err e = clock_random(h->wrapped, sizeof h->wrapped);
    return e ? e : key_of(h, key);
}

static enum err key_open(void *arg, const struct box_head *h, uint8_t *key)
{
    (void)arg;
    return key_of(h, key);
}

static const struct bucket_config bucket = {.realm = "example's realm",
                                            .signer = {.sign = sx_sign},
                                            .key_new = key_new,
                                            .key_open = key_open,
                                            .connect = fake_connect};

static struct upload_settings settings_now;

static void settings(void *arg, struct upload_settings *out)
{
    (void)arg;
    *out = settings_now;
}

static char said[8192];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(int level, const char *line)
{
    (void)level;
    pthread_mutex_lock(&said_lock);
    strncat(said, line, sizeof said - strlen(said) - 1);
    strncat(said, "\n", sizeof said - strlen(said) - 1);
    pthread_mutex_unlock(&said_lock);
}

static struct snapshots snapshots;

static struct upload *start_upload(void)
{
    struct upload_config cfg = {
        .dir = node, .node = "node-1", .snapshots = &snapshots, .bucket = &bucket, .settings = settings, .log = note};
    struct upload *u;
    memcpy(cfg.cell_id, fx_cell, sizeof cfg.cell_id);
    assert_int_equal(upload_start(&u, &cfg), ERR_OK);
    return u;
}

struct asked {
    struct upload_wait w;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int done;
};

static void on_done(struct upload_wait *w)
{
    struct asked *a = (struct asked *)w;
    pthread_mutex_lock(&a->lock);
    a->done = 1;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

/* Waits for the round to be over too. */
static enum err ask(struct upload *u, uint64_t lsn, int exact, struct upload_wait *out)
{
    struct asked a = {.w = {.done = on_done, .lsn = lsn, .exact = exact},
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .cond = PTHREAD_COND_INITIALIZER};
    struct upload_info i;

    upload_demand(u, &a.w);
    pthread_mutex_lock(&a.lock);
    while (!a.done)
        pthread_cond_wait(&a.cond, &a.lock);
    pthread_mutex_unlock(&a.lock);
    do
        upload_info(u, &i);
    while (i.state != UPLOAD_IDLE);
    if (out)
        *out = a.w;
    return a.w.err;
}

static void make_snapshot(uint64_t lsn)
{
    struct sx_set s = {0};
    char dir[512];

    sx_seed = lsn;
    sx_make(&s, ENTRIES, VALUE_BYTES);
    fx_path(dir, node, "snapshots");
    sx_write(dir, lsn, &s);
    sx_clear(&s);
}

static void empty(const char *dir)
{
    char cmd[512];
    snprintf(cmd, sizeof cmd, "rm -rf %s/* && mkdir -p %s/snapshots", dir, dir);
    assert_int_equal(system(cmd), 0);
}

static int begin_anew(void **state)
{
    (void)state;
    fake_calm();
    fake.forgetful = 0;
    fake.reused = fake.sent = 0;
    said[0] = '\0';
    settings_now = (struct upload_settings){.keep = 10, .unfinished_ms = 86400000};
    char cmd[512];
    snprintf(cmd, sizeof cmd, "rm -rf %s/*", fake.dir);
    assert_int_equal(system(cmd), 0);
    empty(node);
    empty(back);
    make_snapshot(LSN);
    return 0;
}

static int set_up(void **state)
{
    assert_int_equal(mem_init(1), ERR_OK);
    fx_make_dir(node);
    fx_make_dir(back);
    fx_make_dir(fake.dir);
    return begin_anew(state);
}

static int tear_down(void **state)
{
    char cmd[512];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf %s %s %s", node, back, fake.dir);
    return system(cmd);
}

/* ---- what must hold ---- */

static uint64_t resumed; /* by the last fetch */

static int go_on_for_ever(void *arg)
{
    (void)arg;
    return 0;
}

/* Fetches the best one into back, as a forced recovery does. */
static enum err fetch(struct snapmanifest *m)
{
    struct bucket_want w = {.dir = back};
    struct bucket_list l = {0};
    struct bucket b;
    enum err e = bucket_open(&b, &bucket, go_on_for_ever, NULL);

    if (!e)
        e = bucket_list(&b, fx_cell, &l);
    if (!e)
        e = l.n && l.at[0].manifest ? bucket_manifest(&b, &l.at[0].object, m) : ERR_NOTFOUND;
    if (!e)
        e = bucket_fetch(&b, m, &w);
    resumed = w.resumed;
    bucket_list_free(&l);
    bucket_close(&b);
    return e;
}

static void assert_same_file(uint64_t lsn)
{
    char name[SNAPFILE_NAME_BYTES], path[128];
    struct buf a, b;

    snapfile_name(name, lsn, 3);
    snprintf(path, sizeof path, "snapshots/%s", name);
    fx_read(node, path, &a);
    fx_read(back, path, &b);
    assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    buf_fini(&a);
    buf_fini(&b);
}

static void assert_absent(const char *dir, const char *name)
{
    char path[512];
    fx_path(path, dir, name);
    assert_int_not_equal(access(path, F_OK), 0);
}

static size_t objects(void)
{
    char *keys[FAKE_FILES];
    size_t n = fake_keys("object", keys);
    fake_free_keys(keys, n);
    return n;
}

/* The snapshot is there, once, and comes back. */
static void assert_stored(uint64_t lsn)
{
    struct snapmanifest m;

    assert_int_equal(fake.reused, 0);
    assert_int_equal(objects(), 2);
    assert_absent(node, "upload");
    assert_int_equal(fetch(&m), ERR_OK);
    assert_int_equal(m.object.lsn, lsn);
    assert_same_file(lsn);
    assert_absent(back, "restore");
}

/* ---- tests ---- */

static void the_state_machine(void **state)
{
    (void)state;
    static const enum upload_state way[] = {UPLOAD_IDLE,    UPLOAD_CHOOSING, UPLOAD_BEGINNING,
                                            UPLOAD_SENDING, UPLOAD_MARKING,  UPLOAD_TIDYING};
    for (int i = 0; i < UPLOAD_STATES; i++) {
        assert_int_equal(upload_next(way[i], UPLOAD_DONE), way[(i + 1) % UPLOAD_STATES]);
        assert_int_equal(upload_next(way[i], UPLOAD_FAILED), UPLOAD_IDLE);
        assert_int_equal(upload_next(way[i], UPLOAD_NOTHING), UPLOAD_IDLE);
        assert_true(upload_state_name(way[i])[0]);
    }
    assert_int_equal(upload_next(UPLOAD_CHOOSING, UPLOAD_RESUMED), UPLOAD_SENDING);
    assert_int_equal(upload_next(UPLOAD_CHOOSING, UPLOAD_STORED), UPLOAD_TIDYING);
    assert_int_equal(upload_next(UPLOAD_SENDING, UPLOAD_LOST), UPLOAD_BEGINNING);
}

static void the_file_of_an_upload(void **state)
{
    (void)state;
    struct uploadfile u = {.head = {.lsn = 9, .term = 2, .bytes = 17, .kind = BOX_SNAPSHOT, .chunk_bytes = 1u << 16},
                           .node = "node-1",
                           .id = "2~an-id"},
                      v;
    uint8_t bytes[UPLOADFILE_BYTES];

    uploadfile_put(bytes, &u);
    assert_int_equal(uploadfile_get(bytes_of(bytes, sizeof bytes), &v), ERR_OK);
    assert_memory_equal(&u, &v, sizeof u);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_int_equal(uploadfile_get(bytes_of(bytes, sizeof bytes), &v), ERR_CORRUPT);
        assert_int_equal(v.id[0], 0);
        bytes[i] ^= 1;
    }
    for (size_t n = 0; n < sizeof bytes; n++)
        assert_int_equal(uploadfile_get(bytes_of(bytes, n), &v), ERR_CORRUPT);
}

static void there_and_back(void **state)
{
    (void)state;
    struct upload *u = start_upload();
    struct upload_wait w;
    struct upload_info i;

    assert_int_equal(ask(u, LSN, 0, &w), ERR_OK);
    assert_int_equal(w.lsn, LSN);
    assert_true(strstr(w.object, "-3-node-1.snap") != NULL);
    assert_int_equal(ask(u, LSN, 1, &w), ERR_OK); /* there already: nothing is sent */
    assert_int_equal(ask(u, LSN + 1, 1, &w), ERR_NOTFOUND);
    assert_non_null(strstr(w.why, "there is no snapshot at LSN 1001"));
    upload_info(u, &i);
    assert_int_equal(i.uploads, 1);
    assert_int_equal(i.failures, 0);
    assert_int_equal(i.lsn, LSN);
    upload_free(u);
    assert_stored(LSN);
}

static void at_a_start_by_itself(void **state)
{
    (void)state;
    struct upload_info i;

    settings_now.interval_ms = 3600000;
    struct upload *u = start_upload();
    do
        upload_info(u, &i);
    while (!i.uploads || i.state != UPLOAD_IDLE);
    upload_free(u);
    assert_stored(LSN);
}

/* Fails once in each step; the next try finishes, with what is there already. */
static void a_failure_in_every_step(void **state)
{
    static const enum objstore_why whys[] = {OBJSTORE_UNREACHABLE, OBJSTORE_QUOTA, OBJSTORE_CREDENTIALS};

    for (size_t why = 0; why < 3; why++)
        for (long n = 1;; n += SWEEP_STEP) {
            struct upload_wait w;
            begin_anew(state);
            struct upload *u = start_upload();
            fake.fail_at = n;
            fake.why = whys[why];
            enum err e = ask(u, LSN, 0, &w);
            int failed = fake.steps >= n;
            if (e) {
                assert_int_equal(e, objstore_why_err(whys[why]));
                assert_non_null(strstr(w.why, objstore_why_text(whys[why])));
                assert_non_null(strstr(said, objstore_why_text(whys[why])));
            }
            fake_calm();
            assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
            upload_free(u);
            assert_stored(LSN);
            if (!failed)
                break;
        }
}

/* In another process; it must have been killed. 0: it came through. */
static int killed(void (*fn)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return 0;
    }
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return 1;
}

static void upload_once(void)
{
    struct upload *u = start_upload();
    (void)!ask(u, LSN, 0, NULL);
    upload_free(u);
}

static void a_kill_in_every_step(void **state)
{
    for (int after = 0; after < 2; after++) {
        int again = 1;
        for (long n = 1; again; n++) {
            struct upload_info i;
            begin_anew(state);
            fake.die_at = n;
            fake.die_after = after;
            again = killed(upload_once);
            fake_calm();
            struct upload *u = start_upload();
            assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
            upload_info(u, &i);
            assert_int_equal(i.failures, 0);
            upload_free(u);
            assert_stored(LSN);
        }
    }
}

static void parts_that_are_there_are_not_sent_again(void **state)
{
    (void)state;
    unsigned whole;

    upload_once();
    whole = fake.sent;
    assert_true(whole > 5);
    begin_anew(state);
    fake.die_at = 8; /* manifest, container, begin, run, and then parts */
    assert_true(killed(upload_once));
    fake_calm();
    upload_once(); /* what the killed one counted is not here */
    assert_int_equal(fake.sent, whole - 3);
    assert_stored(LSN);
}

/* An upload whose snapshot was deleted, or changed, meanwhile is given up; the newest one goes. */
static void an_upload_that_cannot_go_on(void **state)
{
    for (int changed = 0; changed < 2; changed++) {
        char name[SNAPFILE_NAME_BYTES], path[512], dir[512];

        begin_anew(state);
        fake.die_at = 8;
        assert_true(killed(upload_once));
        fake_calm();
        snapfile_name(name, LSN, 3);
        fx_path(dir, node, "snapshots");
        snprintf(path, sizeof path, "%.400s/%s", dir, name);
        if (changed) {
            int fd = open(path, O_WRONLY);
            assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
            close(fd);
        } else {
            assert_int_equal(unlink(path), 0);
        }
        make_snapshot(LSN + 5);
        struct upload *u = start_upload();
        assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
        upload_free(u);
        assert_non_null(strstr(said, "is given up"));
        assert_stored(LSN + 5);
        assert_int_equal(fake_keys("upload", (char *[FAKE_FILES]){0}), 0);
    }
}

static void a_damaged_file_of_an_upload(void **state)
{
    (void)state;
    fake.die_at = 8;
    assert_true(killed(upload_once));
    fake_calm();
    fx_write(node, "upload", bytes_str("something else"));
    upload_once();
    assert_non_null(strstr(said, "is given up"));
    assert_stored(LSN);
}

static void a_store_that_forgets_uploads(void **state)
{
    (void)state;
    struct upload_wait w;
    struct upload *u = start_upload();

    fake.forgetful = 2;
    assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
    upload_free(u);
    assert_stored(LSN);

    begin_anew(state);
    u = start_upload();
    fake.forgetful = 100;
    assert_int_equal(ask(u, LSN, 0, &w), ERR_STOREREFUSED);
    assert_non_null(strstr(w.why, "forgets"));
    fake.forgetful = 0;
    assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
    upload_free(u);
    assert_stored(LSN);
}

/* Something is there under the name that this node would use: it stays. */
static void a_name_that_is_taken(void **state)
{
    struct snapobject o = {.lsn = LSN, .term = 3, .node = "node-1"};
    static const enum snapobject_kind kinds[] = {SNAPOBJECT_SNAP, SNAPOBJECT_MANIFEST};
    char name[SNAPOBJECT_NAME_BYTES];

    memcpy(o.cell_id, fx_cell, sizeof o.cell_id);
    for (size_t i = 0; i < 2; i++) {
        struct upload_wait w;
        begin_anew(state);
        assert_int_equal(snapobject_name(name, "", &o, kinds[i]), ERR_OK);
        fake_put_object(name, "other bytes", 11);
        struct upload *u = start_upload();
        for (fake.fail_at = 1; fake.fail_at < 3; fake.fail_at++) { /* who cannot look does not write */
            fake.steps = 0;
            fake.why = OBJSTORE_UNREACHABLE;
            assert_int_not_equal(ask(u, LSN, 0, &w), ERR_OK);
        }
        fake_calm();
        assert_int_equal(ask(u, LSN, 0, &w), kinds[i] == SNAPOBJECT_SNAP ? ERR_CONFLICT : ERR_CORRUPT);
        assert_int_equal(objects(), 1);
        assert_int_equal(fake.reused, 0);
        make_snapshot(LSN + 1); /* has another name */
        assert_int_equal(ask(u, LSN, 0, &w), ERR_OK);
        assert_int_equal(w.lsn, LSN + 1);
        upload_free(u);
    }
}

/* What was there before the manifest is that of another: it is not written over. */
static void a_manifest_that_came_first(void **state)
{
    struct snapobject o = {.lsn = LSN, .term = 3, .node = "node-1"};
    char name[SNAPOBJECT_NAME_BYTES];
    int came = 0;

    memcpy(o.cell_id, fx_cell, sizeof o.cell_id);
    assert_int_equal(snapobject_name(name, "", &o, SNAPOBJECT_MANIFEST), ERR_OK);
    for (long n = 1; !came; n++) { /* until the container is there and the manifest is not */
        begin_anew(state);
        struct upload *u = start_upload();
        fake.fail_at = n;
        fake.why = OBJSTORE_QUOTA;
        (void)!ask(u, LSN, 0, NULL);
        fake_calm();
        came = objects() == 1;
        if (came) {
            fake_put_object(name, "other bytes", 11);
            assert_int_equal(ask(u, LSN, 0, NULL), ERR_CORRUPT);
            assert_int_equal(fake.reused, 0);
        }
        upload_free(u);
    }
}

/* No manifest is without its container. */
static size_t manifests(void)
{
    char *keys[FAKE_FILES], snap[SNAPOBJECT_NAME_BYTES];
    size_t n = fake_keys("object", keys), count = 0;

    for (size_t i = 0; i < n; i++) {
        if (!strstr(keys[i], ".manifest"))
            continue;
        snprintf(snap, sizeof snap, "%.*s.snap", (int)(strlen(keys[i]) - 9), keys[i]);
        assert_true(fake_has(fake_path("object", snap).s));
        count++;
    }
    fake_free_keys(keys, n);
    return count;
}

static void old_ones_go_manifest_first(void **state)
{
    int failed = 1;

    for (long n = 1; failed; n++) {
        begin_anew(state);
        struct upload *u = start_upload();
        for (uint64_t lsn = LSN; lsn < LSN + 3; lsn++) {
            make_snapshot(lsn);
            assert_int_equal(ask(u, lsn, 1, NULL), ERR_OK);
        }
        assert_int_equal(manifests(), 3);
        fake_calm();
        fake.fail_at = n;
        fake.why = OBJSTORE_UNREACHABLE;
        upload_free(u); /* settings are read by its thread */
        settings_now.keep = 1;
        u = start_upload();
        (void)!ask(u, LSN + 2, 1, NULL);
        failed = fake.steps >= n;
        assert_true(manifests() >= 1);
        fake_calm();
        assert_int_equal(ask(u, LSN + 2, 1, NULL), ERR_OK);
        assert_int_equal(manifests(), 1);
        upload_free(u);
    }
}

/* ---- local faults ---- */

static void a_fault_in_every(enum fault_kind kind, int code, void **state)
{
    for (long n = 1;; n += SWEEP_STEP) {
        begin_anew(state);
        struct upload *u = start_upload();
        fault_arm(kind, n, code);
        (void)!ask(u, LSN, 0, NULL);
        int fired = fault_fired(kind);
        fault_disarm(kind);
        assert_int_equal(ask(u, LSN, 0, NULL), ERR_OK);
        upload_free(u);
        assert_stored(LSN);
        if (!fired)
            break;
    }
}

static void a_fault_in_every_file_operation(void **state)
{
    a_fault_in_every(FAULT_FILE, EIO, state);
}

static void a_full_disk_in_every_file_operation(void **state)
{
    a_fault_in_every(FAULT_FILE, ENOSPC, state);
}

static void a_fault_in_every_allocation(void **state)
{
    a_fault_in_every(FAULT_MEM, 1, state);
}

/* ---- the way back ---- */

static void fetch_once(void)
{
    struct snapmanifest m;
    (void)!fetch(&m);
}

static void a_kill_in_every_step_of_a_fetch(void **state)
{
    uint64_t most = 0;

    begin_anew(state);
    upload_once();
    for (int after = 0; after < 2; after++) {
        int again = 1;
        for (long n = 1; again; n++) {
            empty(back);
            fake_calm();
            fake.die_at = n;
            fake.die_after = after;
            again = killed(fetch_once);
            fake_calm();
            assert_stored(LSN);
            most = resumed > most ? resumed : most;
        }
    }
    assert_true(most > BOX_CHUNK_BYTES);
}

static void a_fault_in_every_step_of_a_fetch(void **state)
{
    static const struct {
        enum fault_kind kind;
        int code;
    } faults[] = {{FAULT_FILE, EIO}, {FAULT_FILE, ENOSPC}, {FAULT_MEM, 1}};

    begin_anew(state);
    upload_once();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        for (long n = 1;; n += SWEEP_STEP) {
            struct snapmanifest m;
            empty(back);
            fake_calm();
            fault_arm(faults[i].kind, n, faults[i].code);
            enum err e = fetch(&m);
            int fired = fault_fired(faults[i].kind);
            fault_disarm(faults[i].kind);
            if (!e)
                assert_same_file(LSN);
            assert_stored(LSN);
            if (!fired)
                break;
        }
}

/* A power loss may leave anything in what was there of a download: it is not believed. */
static void what_is_left_of_a_download_is_verified(void **state)
{
    char path[512];
    int files = 0;

    begin_anew(state);
    upload_once();
    fake_calm();
    fake.die_at = 15;
    assert_true(killed(fetch_once));
    fake_calm();
    fx_path(path, back, "restore");
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            char file[1024];
            snprintf(file, sizeof file, "%s/%s", path, e->d_name);
            int fd = open(file, O_WRONLY);
            struct stat st;
            assert_int_equal(fstat(fd, &st), 0);
            assert_true(st.st_size >= BOX_CHUNK_BYTES);
            assert_int_equal(pwrite(fd, "garbage", 7, 200), 7);
            close(fd);
            files++;
        }
    closedir(d);
    assert_int_equal(files, 1);
    assert_stored(LSN);
    assert_int_equal(resumed, 0); /* the second time, from the beginning */
}

static void every_byte_of_a_manifest(void **state)
{
    struct snapobject o = {.lsn = LSN, .term = 3, .node = "node-1"};
    char name[SNAPOBJECT_NAME_BYTES];
    struct snapmanifest m;
    struct bucket b;
    size_t n;

    begin_anew(state);
    upload_once();
    memcpy(o.cell_id, fx_cell, sizeof o.cell_id);
    assert_int_equal(snapobject_name(name, "", &o, SNAPOBJECT_MANIFEST), ERR_OK);
    uint8_t *text = fake_load(fake_path("object", name).s, &n);
    assert_non_null(text);
    assert_int_equal(bucket_open(&b, &bucket, go_on_for_ever, NULL), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        fake_store(fake_path("object", name).s, text, n);
        assert_int_equal(bucket_manifest(&b, &o, &m), ERR_CORRUPT);
        assert_true(b.text[0]);
        text[i] ^= 1;
    }
    fake_store(fake_path("object", name).s, text, n);
    assert_int_equal(bucket_manifest(&b, &o, &m), ERR_OK);
    bucket_close(&b);
    free(text);
}

/* A node's name may have dots, and "a.n" sorts between the two objects of "a". */
static void a_listing_puts_together_what_belongs_together(void **state)
{
    static const char *const nodes[] = {"a", "a.n", "a.manifest"};
    struct bucket_list l = {0};
    struct bucket b;

    begin_anew(state);
    for (size_t i = 0; i < 3; i++)
        for (int kind = 0; kind < 2; kind++) {
            struct snapobject o = {.lsn = 7, .term = 1 + (i == 1)};
            char name[SNAPOBJECT_NAME_BYTES];
            memcpy(o.cell_id, fx_cell, sizeof o.cell_id);
            snprintf(o.node, sizeof o.node, "%s", nodes[i]);
            assert_int_equal(snapobject_name(name, "", &o, (enum snapobject_kind)kind), ERR_OK);
            fake_put_object(name, "x", 1);
        }
    fake_put_object("something-else", "x", 1);
    assert_int_equal(bucket_open(&b, &bucket, go_on_for_ever, NULL), ERR_OK);
    assert_int_equal(bucket_list(&b, NULL, &l), ERR_OK);
    assert_int_equal(l.n, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(l.at[i].manifest && l.at[i].container && l.at[i].modified_ms);
    assert_string_equal(l.at[0].object.node, "a.n"); /* the newer term */
    bucket_list_free(&l);
    bucket_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_state_machine),
        cmocka_unit_test(the_file_of_an_upload),
        cmocka_unit_test_setup(there_and_back, begin_anew),
        cmocka_unit_test_setup(at_a_start_by_itself, begin_anew),
        cmocka_unit_test_setup(a_failure_in_every_step, begin_anew),
        cmocka_unit_test_setup(a_kill_in_every_step, begin_anew),
        cmocka_unit_test_setup(parts_that_are_there_are_not_sent_again, begin_anew),
        cmocka_unit_test_setup(an_upload_that_cannot_go_on, begin_anew),
        cmocka_unit_test_setup(a_damaged_file_of_an_upload, begin_anew),
        cmocka_unit_test_setup(a_store_that_forgets_uploads, begin_anew),
        cmocka_unit_test_setup(a_name_that_is_taken, begin_anew),
        cmocka_unit_test(a_manifest_that_came_first),
        cmocka_unit_test(old_ones_go_manifest_first),
        cmocka_unit_test_setup(a_fault_in_every_file_operation, begin_anew),
        cmocka_unit_test_setup(a_full_disk_in_every_file_operation, begin_anew),
        cmocka_unit_test_setup(a_fault_in_every_allocation, begin_anew),
        cmocka_unit_test(a_kill_in_every_step_of_a_fetch),
        cmocka_unit_test(a_fault_in_every_step_of_a_fetch),
        cmocka_unit_test(what_is_left_of_a_download_is_verified),
        cmocka_unit_test(every_byte_of_a_manifest),
        cmocka_unit_test(a_listing_puts_together_what_belongs_together),
    };
    return cmocka_run_group_tests_name("upload", tests, set_up, tear_down);
}
