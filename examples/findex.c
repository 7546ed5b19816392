/*
 * findex - index a tree of files into a SQLite database, with many processes at once.
 *
 * Workers read the files and commit one transaction for each; readers query the index meanwhile and
 * check that what they see is whole.  The same job is done on Lockstep and on SQLite's own VFS, and
 * the results are set side by side.  See README.md.
 */
#include "findex.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "findex_child.h"
#include "findex_locks.h"
#include "findex_report.h"

#define MOST_PROCESSES 100
#define N_SIDES 4
#define TMPFS 0x01021994 /* f_type */
#define RAMFS 0x858458f6

/* In pairs: Lockstep, and what stock SQLite has that comes nearest to the same promise. */
static const struct findex_side sides[N_SIDES] = {
    {"lockstep-async", "Lockstep async", FINDEX_LOCKSTEP, "DELETE", "FULL", "&durability=async",
     false},
    {"stock-wal-normal", "WAL NORMAL", NULL, "WAL", "NORMAL", "", false},
    {"lockstep-full", "Lockstep FULL", FINDEX_LOCKSTEP, "DELETE", "FULL", "", true},
    {"stock-delete-full", "DELETE FULL", NULL, "DELETE", "FULL", "", true},
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int number)
{
    interrupted = number;
}

int
findex_interrupted(void)
{
    sigset_t pending;

    /* The signals are blocked: those that came outside ppoll() are still waiting. */
    if (interrupted == 0 && sigpending(&pending) == 0)
        interrupted = sigismember(&pending, SIGINT)    ? SIGINT
                      : sigismember(&pending, SIGTERM) ? SIGTERM
                      : sigismember(&pending, SIGHUP)  ? SIGHUP
                                                       : 0;
    return interrupted;
}

static void
catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static const char help[] =
    "Usage: findex [OPTION]... [DIRECTORY]\n"
    "Indexes the files below DIRECTORY (/usr) into a SQLite database with several processes,\n"
    "on Lockstep and on SQLite's own VFS, and sets the results side by side.\n\n"
    "  -w, --workers N       processes that write (4)\n"
    "  -r, --readers N       processes that query meanwhile (2)\n"
    "  -t, --time SECONDS    stop each side after this time (10)\n"
    "  -n, --files N         the first N files only\n"
    "  -v, --vfs NAME        only this VFS: lockstep, unix, or another of SQLite's\n"
    "  -d, --durability WHAT async: commits that are written behind; full: commits that are\n"
    "                        durable when they return; both (without --vfs: both, else async)\n"
    "  -D, --db PATH         where the database is made; with several sides each adds its name\n"
    "                        (a temporary directory in $TMPDIR or /var/tmp)\n"
    "  -k, --keep            keep the databases\n"
    "  -l, --lockstep PATH   the lockstep command that shows the locks half-way\n"
    "  -j, --json            print the results as JSON; the rest goes to standard error\n"
    "  -h, --help            print this\n\n"
    "Exit code: 0 all is well; 1 something failed, was lost, or was seen half; 2 wrong usage.\n";

static bool
to_number(const char *text, double least, double most, double *out_number)
{
    char *end;

    errno = 0;
    *out_number = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && *out_number >= least && *out_number <= most;
}

/* False after a message. */
static bool
set_number(char option, const char *text, struct findex_options *options)
{
    const double least = option == 'r' ? 0 : option == 't' ? 0.1 : 1;
    const double most = option == 't' ? 86400 : option == 'n' ? FINDEX_MAX_FILES : MOST_PROCESSES;
    double number;

    if (!to_number(text, least, most, &number)
        || (option != 't' && number != (double)(uint32_t)number)) {
        warnx("%s: a %snumber from %g to %.0f is wanted", text, option != 't' ? "whole " : "",
              least, most);
        return false;
    }
    switch (option) {
    case 'w':
        options->workers = (unsigned)number;
        break;
    case 'r':
        options->readers = (unsigned)number;
        break;
    case 't':
        options->limit_s = number;
        break;
    default:
        options->max_files = (uint32_t)number;
        break;
    }
    return true;
}

static bool
set_durability(const char *text, struct findex_options *options)
{
    options->async = strcmp(text, "async") == 0 || strcmp(text, "both") == 0;
    options->full = strcmp(text, "full") == 0 || strcmp(text, "both") == 0;
    if (!options->async && !options->full)
        warnx("%s: async, full or both is wanted", text);
    return options->async || options->full;
}

/* -1: go on; else the exit code. */
static int
parse(int argc, char **argv, struct findex_options *options)
{
    static const struct option longs[] = {
        {"workers", required_argument, NULL, 'w'},  {"readers", required_argument, NULL, 'r'},
        {"time", required_argument, NULL, 't'},     {"files", required_argument, NULL, 'n'},
        {"vfs", required_argument, NULL, 'v'},      {"durability", required_argument, NULL, 'd'},
        {"db", required_argument, NULL, 'D'},       {"keep", no_argument, NULL, 'k'},
        {"lockstep", required_argument, NULL, 'l'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "w:r:t:n:v:d:D:kl:jh", longs, NULL)) != -1) {
        bool ok = true;

        switch (option) {
        case 'w':
        case 'r':
        case 't':
        case 'n':
            ok = set_number((char)option, optarg, options);
            break;
        case 'd':
            ok = set_durability(optarg, options);
            break;
        case 'v':
            options->vfs = optarg;
            break;
        case 'D':
            options->database = optarg;
            break;
        case 'l':
            options->lockstep = optarg;
            break;
        case 'k':
            options->keep = true;
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            ok = false;
            break;
        }
        if (!ok) {
            fputs("Try findex --help.\n", stderr);
            return 2;
        }
    }
    if (argc - optind > 1) {
        warnx("one directory is wanted");
        fputs("Try findex --help.\n", stderr);
        return 2;
    }
    if (optind < argc)
        options->root = argv[optind];
    return -1;
}

/* What the options leave open, and what they ask for that cannot be.  -1: go on; else the exit
 * code. */
static int
complete(struct findex_options *options)
{
    if (!options->async && !options->full) {
        options->async = true;
        options->full = options->vfs == NULL;
    }
    if (options->vfs != NULL && strcmp(options->vfs, FINDEX_LOCKSTEP) != 0
        && sqlite3_vfs_find(options->vfs) == NULL) {
        warnx("%s: SQLite has no VFS of this name", options->vfs);
        return 2;
    }
    if (options->lockstep != NULL && access(options->lockstep, X_OK) != 0) {
        warn("%s", options->lockstep);
        return 2;
    }
    options->say = options->json ? stderr : stdout;
    options->terminal = isatty(fileno(options->say)) != 0;
    return -1;
}

static bool
is_wanted(const struct findex_options *options, const struct findex_side *side)
{
    const bool ours = options->vfs != NULL && strcmp(options->vfs, FINDEX_LOCKSTEP) == 0;

    if (side->full ? !options->full : !options->async)
        return false;
    return options->vfs == NULL || ours == (side->vfs != NULL);
}

static unsigned
count_wanted(const struct findex_options *options)
{
    unsigned n = 0;

    for (size_t i = 0; i < N_SIDES; i++)
        n += is_wanted(options, &sides[i]);
    return n;
}

/* Half of the memory that is free: what is read ahead is to stay there. */
static uint64_t
bytes_to_read_ahead(void)
{
    uint64_t kib = UINT64_MAX / 2048;
    char line[128];

    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL)
        return kib * 1024;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kib = strtoull(line + 13, NULL, 10);
    }
    fclose(file);
    return kib * 1024 / 2;
}

struct place {
    char directory[PATH_MAX]; /* ours, to be removed; empty: --db */
    char names[N_SIDES][PATH_MAX];
};

static bool
choose_names(const struct findex_options *options, struct place *out_place)
{
    const char *temporary = getenv("TMPDIR");
    const bool several = count_wanted(options) > 1;

    out_place->directory[0] = '\0';
    if (options->database == NULL) {
        snprintf(out_place->directory, sizeof out_place->directory - 64, "%s/findex-XXXXXX",
                 temporary != NULL && *temporary == '/' ? temporary : "/var/tmp");
        if (mkdtemp(out_place->directory) == NULL) {
            warn("%s", out_place->directory);
            out_place->directory[0] = '\0';
            return false;
        }
    }
    for (size_t i = 0; i < N_SIDES; i++) {
        int n = options->database == NULL
                    ? snprintf(out_place->names[i], PATH_MAX, "%.*s/%s.db", PATH_MAX - 64,
                               out_place->directory, sides[i].key)
                    : snprintf(out_place->names[i], PATH_MAX, "%s%s%s", options->database,
                               several ? "." : "", several ? sides[i].key : "");
        if (n >= PATH_MAX) {
            warnx("%s: the name is too long", options->database);
            return false;
        }
        if (is_wanted(options, &sides[i]) && access(out_place->names[i], F_OK) == 0) {
            warnx("%s: exists already; findex begins with an empty database", out_place->names[i]);
            return false;
        }
    }
    return true;
}

static void
describe(const struct findex_report *report)
{
    const struct findex_options *options = report->options;
    const struct findex_list *list = report->list;
    FILE *say = options->say;

    fprintf(say, "%zu files in %zu directories below %s.  Left out: %llu symbolic links,\n",
            list->n_files, list->n_directories, options->root, (unsigned long long)list->links);
    fprintf(say, "%llu special files, %llu unreadable directories, other filesystems, and of\n",
            (unsigned long long)list->special, (unsigned long long)list->unreadable);
    fprintf(say, "each file what follows the first %u KiB.\n", FINDEX_HEAD_BYTES >> 10);
    if (list->more)
        fprintf(say, "There are more files than the %u asked for.\n", options->max_files);
    fprintf(say, "Read ahead, so that every side finds them in memory: %.2f GiB in %.1f s.\n",
            (double)report->ahead.bytes / (1 << 30), report->ahead.seconds);
    if (report->n_files < list->n_files)
        fprintf(say, "That took too long or too much: only the first %u files are indexed.\n",
                report->n_files);
    fprintf(say, "Reading and hashing them alone, with no database: %.0f files per second.\n",
            report->alone.files / report->alone.seconds);
    fprintf(say, "%u workers commit one transaction a file, %u readers query; ", options->workers,
            options->readers);
    fprintf(say, "%g s for each side at most.\n", options->limit_s);
}

static void
describe_place(const struct findex_options *options, const char *path)
{
    struct statfs filesystem;
    char directory[PATH_MAX];

    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash != NULL)
        slash[slash == directory] = '\0';
    if (statfs(slash != NULL ? directory : ".", &filesystem) == 0
        && ((unsigned long)filesystem.f_type == TMPFS || (unsigned long)filesystem.f_type == RAMFS))
        fprintf(options->say,
                "The databases are in memory (%s): nothing here says what a disk would cost.\n",
                directory);
    fputc('\n', options->say);
}

static void
compare(struct findex_report *report)
{
    for (size_t i = 0; i + 1 < report->n_results; i++) {
        const struct findex_result *ours = &report->results[i], *theirs = ours + 1;
        const uint32_t files =
            ours->committed < theirs->committed ? ours->committed : theirs->committed;

        if (ours->side->vfs == NULL || theirs->side->vfs != NULL
            || ours->side->full != theirs->side->full || files == 0)
            continue;
        report->comparisons[report->n_comparisons++] = (struct findex_comparison){
            ours,
            theirs,
            files,
            findex_result_seconds_for(ours, files),
            findex_result_seconds_for(theirs, files),
        };
    }
}

static void
explain(const struct findex_report *report, FILE *out)
{
    if (report->options->async)
        fputs("\nasync and NORMAL: every process sees the commit, and kill -9 does not lose it; a\n"
              "power cut may lose the newest ones.  FULL: durable when COMMIT returns.\n"
              "Each side is timed until the last connection has closed and everything is in the\n"
              "database file, which stock SQLite then checked.\n",
              out);
}

/* Runs the wanted sides.  False when one of them could not be run. */
static bool
run_sides(const struct findex_setting *setting, const struct place *place,
          struct findex_result *results, size_t *out_n)
{
    bool shown[2] = {false, false};
    bool ok = true;

    *out_n = 0;
    for (size_t i = 0; i < N_SIDES && ok; i++) {
        const bool ours = sides[i].vfs != NULL;

        if (!is_wanted(setting->options, &sides[i]))
            continue;
        ok = findex_run_side(setting, &sides[i], place->names[i], !shown[ours], &results[*out_n]);
        shown[ours] = true;
        (*out_n)++;
        if (!setting->options->keep)
            findex_database_remove(place->names[i]);
        else if (ok)
            fprintf(setting->options->say, "%s: %s is kept\n", sides[i].title, place->names[i]);
    }
    return ok;
}

/* The exit code. */
static int
run_and_report(const struct findex_setting *setting, const struct place *place,
               struct findex_report *report)
{
    struct findex_result *results = calloc(N_SIDES, sizeof *results);
    size_t n_run = 0;
    bool ok = results != NULL && run_sides(setting, place, results, &n_run);

    report->results = results;
    while (report->n_results < n_run && results[report->n_results].ran)
        ok &= results[report->n_results++].good;
    if (report->n_results > 0) {
        compare(report);
        if (report->options->json) {
            findex_report_json(report, stdout);
        } else {
            ok &= findex_report_table(report, stdout);
            explain(report, stdout);
        }
    }
    for (size_t i = 0; i < n_run; i++)
        findex_result_free(&results[i]);
    free(results);
    if (fflush(stdout) != 0) {
        warn("standard output");
        ok = false;
    }
    return ok ? 0 : 1;
}

/* Reads the files twice, for memory and for the clock; what the first time leaves out is cut. */
static bool
prepare(const struct findex_setting *setting, struct findex_report *report)
{
    struct findex_job *job = setting->job;
    const double limit_s = report->options->limit_s;

    if (!findex_read_ahead(setting, 2 * limit_s, bytes_to_read_ahead(), &report->ahead))
        return false;
    job->n_files = report->n_files = report->ahead.files;
    return findex_read_ahead(setting, limit_s / 4, UINT64_MAX, &report->alone);
}

/* Walk, read ahead, run.  The exit code. */
static int
run(const struct findex_options *options)
{
    struct findex_list list = {0};
    struct findex_report report = {.options = options, .list = &list};
    struct findex_setting setting = {.options = options, .job_fd = -1};
    struct place *place = calloc(1, sizeof *place);
    char *lockstep = NULL;
    int code = 1;

    /* The databases are made after the walk: a worker that opened and closed one as a file among
     * others would drop the locks that its own connection holds on it. */
    if (place == NULL || !findex_walk(options, &list) || !choose_names(options, place))
        goto out;
    if (list.n_files == 0) {
        warnx("%s: there are no files", options->root);
        goto out;
    }
    setting.job = findex_job_create(&list, &setting.job_fd);
    if (setting.job == NULL || !prepare(&setting, &report))
        goto out;
    lockstep = findex_locks_find(options->lockstep);
    setting.lockstep = lockstep;
    describe(&report);
    describe_place(options, place->names[0]);
    if (lockstep == NULL)
        fputs("The lockstep command was not found (--lockstep PATH): no view of the locks.\n",
              options->say);
    fflush(options->say);
    code = run_and_report(&setting, place, &report);

out:
    if (findex_interrupted() != 0)
        fprintf(stderr, "findex: interrupted\n");
    if (place != NULL && place->directory[0] != '\0' && !options->keep)
        rmdir(place->directory);
    free(place);
    free(lockstep);
    findex_list_free(&list);
    if (setting.job_fd >= 0)
        close(setting.job_fd);
    return code;
}

int
main(int argc, char **argv)
{
    struct findex_options options = {
        .root = "/usr",
        .workers = 4,
        .readers = 2,
        .limit_s = 10,
        .max_files = FINDEX_MAX_FILES,
    };
    int code;

    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return findex_child_main(argv[2], argv[3]);
    code = parse(argc, argv, &options);
    if (code < 0)
        code = complete(&options);
    if (code >= 0)
        return code;
    catch_signals();
    code = run(&options);
    if (findex_interrupted() != 0) { /* the shell is to know */
        signal(findex_interrupted(), SIG_DFL);
        raise(findex_interrupted());
        sigset_t set;
        sigemptyset(&set);
        sigprocmask(SIG_SETMASK, &set, NULL);
    }
    return code;
}
