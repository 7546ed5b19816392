/*
 * kv: a key-value store for many processes, on liblockstep without SQLite.
 *
 * Everything that <lockstep/coord.h> has for an engine is at work here: transactions on snapshots, readers that
 * write nothing, the format's name and a record kept twice (kv_file.c), free blocks gated by snapshots
 * (kv_tree.c), background work beside writers, allocation below a block and the cut by the last one out
 * (kv_compact.c), clients, locks and the list of free blocks to look at (kv_check.c), and many processes at once
 * (kv_load.c).
 *
 * Exit status: 0; 1 the key is not there, or something failed; 2 wrong usage.
 */
#include "kv.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *file;

static const char usage_text[] =
    "usage: kv [OPTION]... FILE COMMAND [ARGUMENT]...\n"
    "  put KEY VALUE   writes a value; \"-\": from standard input\n"
    "  get KEY         prints it; exit status 1 if there is none\n"
    "  del KEY         removes it; exit status 1 if there is none\n"
    "  list [PREFIX]   prints keys and values, a tab between them\n"
    "  fill N          writes N keys, 100 in a transaction\n"
    "  load N          -j processes make N changes each, and look; then everything is checked\n"
    "  checkpoint      writes everything to the disk; prints how many bytes that were\n"
    "  compact         makes the file shorter, beside others that write\n"
    "  check           compares the tree, the list of free blocks and the file\n"
    "  stat            keys, locks, clients, free blocks\n"
    "  hold [KEY VALUE]  reads a snapshot, that of a value it writes perhaps, until standard input ends\n"
    "get, list, check and stat write nothing, and see also what processes that were killed have left; permission to\n"
    "write they need only beside a process that is at work.\n"
    "options:\n"
    "  -1, --single    of fill and hold: no other process may come near\n"
    "  -f, --full      a change is on the disk when the command has made it (each, of fill and load)\n"
    "  -j, --jobs N    processes of load; 4\n"
    "  -l, --lag MS    how long a change may stay off the disk, until all have left; 100\n"
    "  -p, --progress  show how far load is, also if standard error is no terminal\n"
    "  -s, --snapshot N  get, list and check read the snapshot N, which hold or another reader holds\n"
    "  -h, --help      this\n";

int
kv_fail(const char *what, enum lockstep_status status)
{
    fprintf(stderr, "kv: %s: %s: %s\n", file, what, lockstep_status_name(status));
    return EXIT_FAILURE;
}

static int
usage(void)
{
    fputs(usage_text, stderr);
    return 2;
}

static void
show_message(void *arg, int level, const char *message)
{
    (void)arg;
    if (level > 0)
        fprintf(stderr, "kv: %s\n", message);
}

static struct kv_bytes
bytes_of(const char *text)
{
    return (struct kv_bytes){(const unsigned char *)text, strlen(text)};
}

/* ------------------------------------------------------------------------------------------------ commands */

struct request {
    struct kv_bytes key, value;
    unsigned char got[KV_VALUE_MAX + 1];
    size_t got_size;
    bool found;
    unsigned long from, to; /* fill */
};

static enum lockstep_status
do_put(struct kv *kv, void *arg)
{
    struct request *r = arg;
    r->found = true;
    return kv_put(kv, r->key, r->value);
}

static enum lockstep_status
do_get(struct kv *kv, void *arg)
{
    struct request *r = arg;
    return kv_get(kv, r->key, r->got, &r->got_size, &r->found);
}

static enum lockstep_status
do_del(struct kv *kv, void *arg)
{
    struct request *r = arg;
    return kv_del(kv, r->key, &r->found);
}

static bool
print_item(void *arg, struct kv_bytes key, struct kv_bytes value)
{
    (void)arg;
    return fwrite(key.data, 1, key.size, stdout) == key.size && putchar('\t') != EOF &&
           fwrite(value.data, 1, value.size, stdout) == value.size && putchar('\n') != EOF;
}

static enum lockstep_status
do_list(struct kv *kv, void *arg)
{
    struct request *r = arg;
    r->found = true;
    return kv_list(kv, r->key, print_item, NULL);
}

static enum lockstep_status
do_fill(struct kv *kv, void *arg)
{
    struct request *r = arg;
    enum lockstep_status status = LOCKSTEP_OK;
    for (unsigned long i = r->from; i < r->to && status == LOCKSTEP_OK; i++) {
        char key[40], value[80];
        snprintf(key, sizeof key, "fill-%08lu", i * 2654435761ul % 100000000ul);
        snprintf(value, sizeof value, "the value of number %lu, of some length", i);
        status = kv_put(kv, bytes_of(key), bytes_of(value));
    }
    return status;
}

static enum lockstep_status
fill(struct kv *kv, unsigned long count)
{
    struct request r = {.to = 0};
    enum lockstep_status status = LOCKSTEP_OK;
    while (r.to < count && status == LOCKSTEP_OK) {
        r.from = r.to;
        r.to = count - r.to < 100 ? count : r.to + 100;
        status = kv_write(kv, do_fill, &r, NULL);
    }
    return status;
}

static enum lockstep_status
do_hold(struct kv *kv, void *arg)
{
    char c;
    (void)arg;
    printf("%llu\n", (unsigned long long)lockstep_conn_snapshot(kv->conn));
    fflush(stdout);
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    return LOCKSTEP_OK;
}

static enum lockstep_status
checkpoint(struct kv *kv)
{
    uint64_t bytes = 0;
    enum lockstep_status status = lockstep_db_checkpoint(kv->db, &bytes);
    if (status == LOCKSTEP_OK)
        printf("%llu bytes\n", (unsigned long long)bytes);
    return status;
}

/* ------------------------------------------------------------------------------------------------ main */

struct command {
    const char *name;
    int arguments, optional;
    const char *may; /* c: make the file; r: only reads; 1: with -1; s: with -s */
};

static const struct command commands[] = {
    {"put", 2, 0, "c"},   {"get", 1, 0, "rs"},  {"del", 1, 0, ""},     {"list", 0, 1, "rs"},
    {"fill", 1, 0, "c1"}, {"load", 1, 0, "c"},  {"compact", 0, 0, ""}, {"checkpoint", 0, 0, ""},
    {"stat", 0, 0, "r"},  {"hold", 0, 2, "1"},  {"check", 0, 0, "rs"},
};

static const struct command *
find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static bool
read_number(const char *text, unsigned long *out)
{
    char *end;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *out <= 100000000;
}

static enum lockstep_status
hold(struct kv *kv, char **arguments, struct request *r)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (arguments[0] != NULL) {
        if (arguments[1] == NULL)
            return LOCKSTEP_MISUSE;
        r->value = bytes_of(arguments[1]);
        status = kv_write(kv, do_put, r, NULL);
    }
    return status == LOCKSTEP_OK ? kv_read(kv, do_hold, r) : status;
}

static enum lockstep_status
run(struct kv *kv, const char *name, char **arguments, struct request *r)
{
    r->found = true;
    if (arguments[0] != NULL)
        r->key = bytes_of(arguments[0]);
    if (strcmp(name, "put") == 0) {
        r->value = bytes_of(arguments[1]);
        if (strcmp(arguments[1], "-") == 0)
            r->value = (struct kv_bytes){r->got, fread(r->got, 1, sizeof r->got, stdin)};
        return kv_write(kv, do_put, r, NULL);
    }
    if (strcmp(name, "get") == 0)
        return kv_read(kv, do_get, r);
    if (strcmp(name, "del") == 0)
        return kv_write(kv, do_del, r, NULL);
    if (strcmp(name, "list") == 0)
        return kv_read(kv, do_list, r);
    if (strcmp(name, "fill") == 0)
        return fill(kv, r->to);
    if (strcmp(name, "compact") == 0)
        return kv_compact(kv);
    if (strcmp(name, "checkpoint") == 0)
        return checkpoint(kv);
    if (strcmp(name, "check") == 0)
        return kv_check(kv);
    if (strcmp(name, "stat") == 0)
        return kv_stat(kv);
    return hold(kv, arguments, r);
}

static int
open_and_run(const struct kv_options *options, const char *name, char **arguments, struct request *r)
{
    struct kv kv;
    enum lockstep_status status = kv_open(file, options, &kv), closed;
    if (status != LOCKSTEP_OK)
        return kv_fail("open", status);
    status = run(&kv, name, arguments, r);
    closed = kv_close(&kv);
    if (status != LOCKSTEP_OK)
        return kv_fail(name, status);
    if (closed != LOCKSTEP_OK)
        return kv_fail("close", closed);
    if (strcmp(name, "get") == 0 && r->found) {
        fwrite(r->got, 1, r->got_size, stdout);
        putchar('\n');
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return kv_fail("standard output", LOCKSTEP_IOERR);
    return r->found ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"full", no_argument, NULL, 'f'},     {"jobs", required_argument, NULL, 'j'},
        {"progress", no_argument, NULL, 'p'}, {"snapshot", required_argument, NULL, 's'},
        {"single", no_argument, NULL, '1'},   {"lag", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},     {NULL, 0, NULL, 0},
    };
    struct kv_options options = {.durability = LOCKSTEP_ASYNC, .wait_ms = 60000};
    static struct request request;
    const struct command *command;
    unsigned long jobs = 4, snapshot = 0, lag = 0;
    bool progress = isatty(STDERR_FILENO) == 1;
    int option;

    while ((option = getopt_long(argc, argv, "+1fj:l:ps:h", long_options, NULL)) != -1)
        switch (option) {
        case 'f': options.durability = LOCKSTEP_FULL_SYNC; break;
        case '1': options.single = true; break;
        case 'p': progress = true; break;
        case 'h': fputs(usage_text, stdout); return EXIT_SUCCESS;
        case 'j':
            if (read_number(optarg, &jobs) && jobs >= 1 && jobs <= 200)
                break;
            fprintf(stderr, "kv: -j %s: 1 to 200 processes\n", optarg);
            return 2;
        case 'l':
            if (read_number(optarg, &lag) && lag > 0)
                break;
            fprintf(stderr, "kv: -l %s: not a number of milliseconds\n", optarg);
            return 2;
        case 's':
            if (read_number(optarg, &snapshot) && snapshot > 0)
                break;
            fprintf(stderr, "kv: -s %s: not the number of a snapshot\n", optarg);
            return 2;
        default: return usage();
        }
    if (argc - optind < 2 || (command = find_command(argv[optind + 1])) == NULL)
        return usage();
    file = argv[optind];
    argv += optind + 2;
    argc -= optind + 2;
    if ((snapshot != 0 && strchr(command->may, 's') == NULL) ||
        (options.single && strchr(command->may, '1') == NULL))
        return usage();
    if (argc < command->arguments || argc > command->arguments + command->optional)
        return usage();
    options.create = strchr(command->may, 'c') != NULL;
    options.readonly = strchr(command->may, 'r') != NULL;
    options.lag_ms = (uint32_t)lag;
    options.snapshot = snapshot;
    lockstep_set_log(show_message, NULL);
    if ((strcmp(command->name, "fill") == 0 || strcmp(command->name, "load") == 0) &&
        !read_number(argv[0], &request.to)) {
        fprintf(stderr, "kv: %s: not a number\n", argv[0]);
        return 2;
    }
    if (strcmp(command->name, "load") == 0)
        return kv_load(file, &options, (unsigned)jobs, (unsigned)request.to, progress);
    return open_and_run(&options, command->name, argv, &request);
}
