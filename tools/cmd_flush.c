/* lockstep flush DB: waits until all commits made so far are durable. */
#include <getopt.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/render.h"
#include "tools/subject.h"

int
lks_cmd_flush(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    sqlite3 *db;
    int c;
    while ((c = getopt_long(argc, argv, "hV", longs, NULL)) != -1)
        switch (c) {
        case 'h':
            printf("Usage: lockstep flush DB\n\n"
                   "Waits until every commit made so far survives a power cut.\n\nOptions:\n"
                   "  -h, --help           print this and exit\n"
                   "  -V, --version        print the version and exit\n");
            return lks_close_stdout();
        case 'V': return lks_print_version();
        default: return lks_usage_error("flush");
        }
    if (argc - optind != 1) {
        lks_complain("flush: give the name of one database file");
        return lks_usage_error("flush");
    }
    if (!lks_subject_exists(argv[optind]))
        return LKS_EXIT_FAILURE;
    db = lks_subject_connect(argv[optind]);
    if (db == NULL)
        return LKS_EXIT_FAILURE;
    if (sqlite3_close(db) != SQLITE_OK) {
        lks_complain("%s: %s", argv[optind], sqlite3_errmsg(db));
        return LKS_EXIT_FAILURE;
    }
    return LKS_EXIT_OK;
}
