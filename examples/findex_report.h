/* The results, as a table and as JSON. */
#ifndef FINDEX_REPORT_H
#define FINDEX_REPORT_H

#include "findex_run.h"

/* How much faster one side did the same files as another one. */
struct findex_comparison {
    const struct findex_result *ours, *theirs;
    uint32_t files; /* the first so many, which both have committed */
    double our_seconds, their_seconds;
};

struct findex_report {
    const struct findex_options *options;
    const struct findex_list *list;
    struct findex_reading ahead; /* the first time, perhaps from the disk */
    struct findex_reading alone; /* the second time, from memory, for a while */
    uint32_t n_files; /* those of the list that were given to each side */
    const struct findex_result *results;
    size_t n_results;
    struct findex_comparison comparisons[2];
    size_t n_comparisons;
};

/* False: out of memory. */
bool findex_report_table(const struct findex_report *report, FILE *out);
void findex_report_json(const struct findex_report *report, FILE *out);

#endif
