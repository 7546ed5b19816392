/* lockstep recover DB: writes the commits that dead processes left, and says what it found. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include <lockstep/inspect.h>

#include "tools/commands.h"
#include "tools/render.h"
#include "tools/subject.h"

static void
name_orphan(void *arg, const char *name)
{
    (void)arg;
    printf("%s was set aside: its commits are not in the database\n", name);
}

/* What was found; false if there is nothing to recover.  *out_lost: not everything can be. */
static bool
report_before(const struct lockstep_inspection *inspection, const char *path, bool *out_lost)
{
    const struct lockstep_database_view *database = lockstep_inspect_database(inspection);
    const struct lockstep_db_info *info = &database->info;
    struct lks_subject_header header;
    switch (database->coordination) {
    case LOCKSTEP_COORD_NONE:
        lks_subject_read_header(path, &header);
        if (header.tripwire) {
            printf("%s: closed to stock writers, without a coordination file\n", path);
            return true;
        }
        if (header.unreadable)
            return true; /* connecting will say why */
        printf("%s: nothing to recover\n", path);
        return database->problem[0] != '\0';
    case LOCKSTEP_COORD_LIVE:
        printf("%s: in use by %" PRIu32 " process%s, which will recover what there is\n", path,
               info->clients, info->clients == 1 ? "" : "es");
        return true;
    case LOCKSTEP_COORD_LEFT:
        if (info->committed == 0) {
            /* The mark of single-process mode. */
            *out_lost = true;
            printf("%s: left by a process that used it alone; commits that it had not written are lost\n", path);
            return true;
        }
        printf("%s: left by processes that died, %" PRIu64 " commits pending\n", path,
               info->committed > info->flushed ? info->committed - info->flushed : 0);
        return true;
    case LOCKSTEP_COORD_OLD:
    case LOCKSTEP_COORD_DAMAGED:
    case LOCKSTEP_COORD_HIDDEN: break;
    }
    printf("%s\n", database->problem);
    return true;
}

static int
recover(const char *path)
{
    struct lockstep_inspection *inspection = lks_subject_open(path);
    bool needed, lost = false;
    unsigned before = lks_subject_orphans(path, NULL, NULL), orphans;
    sqlite3 *db;

    if (inspection == NULL)
        return LKS_EXIT_FAILURE;
    needed = report_before(inspection, path, &lost);
    lockstep_inspect_close(inspection);
    if (needed) {
        db = lks_subject_connect(path);
        if (db == NULL || sqlite3_close(db) != SQLITE_OK) {
            if (db != NULL)
                lks_complain("%s: %s", path, sqlite3_errmsg(db));
            return LKS_EXIT_FAILURE;
        }
    }
    orphans = lks_subject_orphans(path, name_orphan, NULL);
    if (orphans > before) {
        (void)lks_close_stdout();
        return LKS_EXIT_FAILURE;
    }
    if (needed)
        printf("%s: all %scommits are in the database and durable\n", path, lost ? "other " : "");
    return lks_close_stdout();
}

int
lks_cmd_recover(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "hV", longs, NULL)) != -1)
        switch (c) {
        case 'h':
            printf("Usage: lockstep recover DB\n\n"
                   "Writes to the database what processes that died had committed, and removes what they\n"
                   "left. Names the coordination files that could not be used and were set aside; the\n"
                   "exit status is 1 if that happened now.\n"
                   "\nOptions:\n"
                   "  -h, --help           print this and exit\n"
                   "  -V, --version        print the version and exit\n");
            return lks_close_stdout();
        case 'V': return lks_print_version();
        default: return lks_usage_error("recover");
        }
    if (argc - optind != 1) {
        lks_complain("recover: give the name of one database file");
        return lks_usage_error("recover");
    }
    return recover(argv[optind]);
}
