/* main.c - runs the simulation; TAP.
 *
 *     sim [SEEDS]                  so many seeds (2,000) of three nodes, half as many of five; then the scenarios
 *     sim --seed SEED [VOTERS]     one, with its trace
 *     sim --scenario FILE          carries out a scenario and prints what happens
 *
 * SEEDS, FIRST (1) and STEPS (3000: actions of one run) also come from the environment. MUTANT=1: what counts is that
 * something breaks, and that it is data: a cell that only does not serve is passed over.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static struct sim sim;
static unsigned steps = 3000;

static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

static int failed, count;

static void result(int ok, const char *fmt, unsigned long seeds, unsigned voters)
{
    printf("%sok %d - ", ok ? "" : "not ", ++count);
    printf(fmt, seeds, voters);
    printf("\n");
    fflush(stdout);
    failed += !ok;
}

static void seeds_of(unsigned voters, unsigned long first, unsigned long n)
{
    uint64_t events = 0, told[3] = {0}, reads = 0;
    int ok = 1;
    for (unsigned long seed = first; seed < first + n && ok; seed++) {
        ok = sim_run(&sim, seed, voters, steps, NULL) || (sim.stuck && getenv("MUTANT"));
        events += sim.events;
        reads += sim.reads;
        for (int i = 0; i < 3; i++)
            told[i] += sim.told[i];
        if (!ok)
            printf("# seed %lu of %u nodes: %s\n# its trace: build/sim/sim --seed %lu %u\n", seed, voters, sim.why,
                   seed, voters);
    }
    printf("# %lu events; told OK %lu, ROLLEDBACK %lu, UNCERTAIN %lu; %lu confirmed reads\n", events, told[0], told[1],
           told[2], reads);
    result(ok, "%lu seeds of %u nodes", n, voters);
}

static int one_seed(uint64_t seed, unsigned voters)
{
    int ok = sim_run(&sim, seed, voters, steps, stdout);
    printf("%s\n", ok ? "nothing broke" : sim.why);
    return !ok;
}

int main(int argc, char **argv)
{
    steps = (unsigned)number("STEPS", steps);
    if (argc > 2 && strcmp(argv[1], "--seed") == 0)
        return one_seed(strtoull(argv[2], NULL, 10), argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 3);

    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : number("SEEDS", 2000), first = number("FIRST", 1);
    seeds_of(3, first, n);
    seeds_of(5, first, n / 2);
    printf("1..%d\n", count);
    return failed > 0;
}
