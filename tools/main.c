/* lockstep: dispatches to the subcommands. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "tools/commands.h"
#include "tools/render.h"

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static int cmd_help(int argc, char **argv);

static const struct subcommand subcommands[] = {
    {"locks", lks_cmd_locks, "who holds and who waits for which lock on a database"},
    {"status", lks_cmd_status, "what is pending and what is durable, who takes part"},
    {"top", lks_cmd_top, "both, again every second"},
    {"flush", lks_cmd_flush, "wait until all commits are durable"},
    {"recover", lks_cmd_recover, "write the commits that dead processes left"},
    {"run", lks_cmd_run, "run a program with Lockstep as its default VFS"},
    {"bench", lks_cmd_bench, "measure Lockstep and the stock VFS side by side"},
    {"help", cmd_help, "print this, or the help of a subcommand"},
};
#define SUBCOMMANDS (sizeof subcommands / sizeof subcommands[0])

static const struct subcommand *
find(const char *name)
{
    for (size_t i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    return NULL;
}

/* getopt_long() begins its messages with argv[0]. */
static int
run(const struct subcommand *subcommand, int argc, char **argv)
{
    char name[64];
    snprintf(name, sizeof name, "lockstep: %s", subcommand->name);
    argv[0] = name;
    return subcommand->run(argc, argv);
}

static int
unknown(const char *name)
{
    lks_complain("%s: no such subcommand", name);
    return lks_usage_error(NULL);
}

static void
print_help(FILE *stream)
{
    fputs("Usage: lockstep SUBCOMMAND [options] ...\n\n"
          "SQLite for programs made of several processes.\n\nSubcommands:\n",
          stream);
    for (size_t i = 0; i < SUBCOMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", subcommands[i].name, subcommands[i].help);
    fputs("\nOptions:\n"
          "  -h, --help     print this and exit\n"
          "  -V, --version  print the version and exit\n\n"
          "The exit status is 0 if all went well, 1 if something failed, 2 after wrong usage.\n"
          "\"lockstep SUBCOMMAND --help\" tells more; so does lockstep(1).\n",
          stream);
}

int
lks_print_version(void)
{
    printf("lockstep (Lockstep) %s\n", PACKAGE_VERSION);
    return lks_close_stdout();
}

int
lks_close_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return LKS_EXIT_OK;
    lks_complain("standard output: %s", strerror(errno));
    return LKS_EXIT_FAILURE;
}

static int
cmd_help(int argc, char **argv)
{
    char help[] = "--help";
    char *inner[] = {NULL, help, NULL};
    const struct subcommand *subcommand;
    if (argc < 2 || argv[1][0] == '-') {
        print_help(stdout);
        return lks_close_stdout();
    }
    subcommand = find(argv[1]);
    if (subcommand == NULL)
        return unknown(argv[1]);
    if (subcommand->run == cmd_help) {
        print_help(stdout);
        return lks_close_stdout();
    }
    return run(subcommand, 2, inner);
}

int
main(int argc, char **argv)
{
    const struct subcommand *subcommand;
    setlocale(LC_CTYPE, ""); /* how wide names are; numbers stay as programs expect them */
    if (argc < 2) {
        print_help(stderr);
        return LKS_EXIT_USAGE;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        print_help(stdout);
        return lks_close_stdout();
    }
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)
        return lks_print_version();
    subcommand = find(argv[1]);
    if (subcommand == NULL)
        return unknown(argv[1]);
    return run(subcommand, argc - 1, argv + 1);
}
