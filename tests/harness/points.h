/*
 * The crash points, and a program that tests something at each.
 *
 * LKS_POINT=name in the environment takes one point only.
 */
#ifndef HARNESS_POINTS_H
#define HARNESS_POINTS_H

#include <check.h>
#include <stdbool.h>

/*
 * main(): runs the loop tests that add() adds, from 0 to n, once for each of the n points that is_wanted()
 * is true of, with timeout_s for each.  They wait for disks and for each other most of the time, so several
 * run at once.  Exit code 77 in a build without points.
 */
int points_main(const char *suite, void (*add)(TCase *tcase, int n), bool (*is_wanted)(const char *point),
                int timeout_s);
/* The point of the loop test's _i. */
const char *points_name(int i);

#endif
