/*
 * lockstep bench: measures the stock VFS and Lockstep side by side, in one call on one machine.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

/*
 * Entry point.  argv[0] is the subcommand's own name ("bench"), options and workloads follow.
 * Returns the exit status: 0 all ran and every database was right, 1 something failed (or, with
 * --strict, a target was missed), 2 wrong usage.
 *
 * Starts copies of the running program as `/proc/self/exe bench --worker`: the program's main()
 * must come here when its first argument is "bench".
 */
int lks_cmd_bench(int argc, char **argv);

#endif
