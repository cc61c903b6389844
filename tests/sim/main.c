/* main.c - runs the simulation; TAP.
 *
 *     sim [SEEDS]                so many seeds (2,000) of three nodes, half as many of five, some of one; scenarios
 *     sim --seed SEED [VOTERS]   one, with its trace
 *     sim --scenario FILE        carries out a scenario and prints what happens
 *
 * SEEDS, FIRST (1) and STEPS (10000: actions of one run) also come from the environment. MUTANT=1: what counts is that
 * something breaks, and that it is data: a cell that only does not serve is passed over.
 */
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static struct sim sim;
static unsigned steps = 10000;

static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

static int failed, count;

static void result(int ok, const char *what)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++count, what);
    fflush(stdout);
    failed += !ok;
}

static void seeds_of(unsigned voters, unsigned long first, unsigned long n)
{
    uint64_t events = 0, told[3] = {0}, reads = 0, relayed = 0;
    int ok = 1;
    for (unsigned long seed = first; seed < first + n && ok; seed++) {
        ok = sim_run(&sim, seed, voters, steps, NULL) || (sim.stuck && getenv("MUTANT"));
        events += sim.events;
        reads += sim.reads;
        relayed += sim.relayed;
        for (int i = 0; i < 3; i++)
            told[i] += sim.told[i];
        if (!ok)
            printf("# seed %lu of %u nodes: %s\n# its trace: build/tests/sim/sim --seed %lu %u\n", seed, voters,
                   sim.why, seed, voters);
    }
    printf(
        "# %lu events; told OK %lu, ROLLEDBACK %lu, UNCERTAIN %lu; %lu confirmed reads; %lu applied through relays\n",
        events, told[0], told[1], told[2], reads, relayed);
    char what[64];
    snprintf(what, sizeof what, "%lu seeds of %u nodes", n, voters);
    result(ok, what);
}

static int one_seed(uint64_t seed, unsigned voters)
{
    int ok = sim_run(&sim, seed, voters, steps, stdout);
    printf("%s\n", ok ? "nothing broke" : sim.why);
    return !ok;
}

/* ---- scenarios ---- */

static int print_scenario(const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in)
        return 2;
    int ok = sim_script(&sim, in, stdout);
    fclose(in);
    return !ok;
}

static char *whole_file(const char *path)
{
    char *text = NULL;
    size_t n = 0;
    FILE *in = fopen(path, "r");
    if (!in || getdelim(&text, &n, 0, in) < 0)
        exit(2);
    fclose(in);
    return text;
}

/* The first line that differs, as TAP's comment. */
static void show_difference(const char *want, const char *have)
{
    while (*want && *have) {
        int w = (int)strcspn(want, "\n"), h = (int)strcspn(have, "\n");
        if (w != h || strncmp(want, have, (size_t)w) != 0)
            break;
        want += w + (want[w] == '\n');
        have += h + (have[h] == '\n');
    }
    printf("# wanted: %.*s\n# found:  %.*s\n", (int)strcspn(want, "\n"), want, (int)strcspn(have, "\n"), have);
}

static void check_scenario(const char *path)
{
    char *have = NULL, *want = whole_file(path);
    size_t n;
    FILE *in = fopen(path, "r"), *out = open_memstream(&have, &n);
    if (!in || !out)
        exit(2);
    int ok = sim_script(&sim, in, out);
    fclose(in);
    fclose(out);
    if (strcmp(have, want) != 0) {
        show_difference(want, have);
        ok = 0;
    }
    result(ok, strrchr(path, '/') + 1);
    free(have);
    free(want);
}

static void scenarios(void)
{
    glob_t found;
    if (glob("tests/sim/scenarios/*.txt", 0, NULL, &found)) {
        result(0, "scenarios: start it from the project's folder");
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        check_scenario(found.gl_pathv[i]);
    globfree(&found);
}

/* The same seed, the same trace: else a seed that fails says nothing. */
static void replays(void)
{
    char *text[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        size_t n;
        FILE *out = open_memstream(&text[i], &n);
        if (!out)
            exit(2);
        sim_run(&sim, 7 - (uint64_t)i, 3, steps, NULL); /* whatever was before */
        sim_run(&sim, 5, 3, steps, out);
        fclose(out);
    }
    result(strcmp(text[0], text[1]) == 0, "a seed replays to the same trace");
    free(text[0]);
    free(text[1]);
}

int main(int argc, char **argv)
{
    steps = (unsigned)number("STEPS", steps);
    if (argc > 2 && strcmp(argv[1], "--seed") == 0)
        return one_seed(strtoull(argv[2], NULL, 10), argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 3);

    if (argc > 2 && strcmp(argv[1], "--scenario") == 0)
        return print_scenario(argv[2]);

    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : number("SEEDS", 2000), first = number("FIRST", 1);
    seeds_of(3, first, n);
    seeds_of(5, first, n / 2);
    seeds_of(1, first, n / 4);
    if (!getenv("MUTANT")) {
        replays();
        scenarios();
    }
    printf("1..%d\n", count);
    return failed > 0;
}
