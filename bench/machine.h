/* What the figures were measured on. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/report.h"

/* Puts processors, kernel, SQLite, filesystem and the time of one fdatasync in `directory` down. */
bool bench_machine_describe(struct bench_report *report, const char *directory);

#endif
