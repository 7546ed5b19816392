/* Writes JSON, with the commas and the indentation right. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct bench_json {
    FILE *stream;
    unsigned depth;
    bool first; /* nothing yet in the innermost object or array */
};

void bench_json_start(struct bench_json *json, FILE *stream);
/* `name` is NULL in arrays and for the outermost value. */
void bench_json_open(struct bench_json *json, const char *name, char bracket);
void bench_json_close(struct bench_json *json, char bracket);
void bench_json_string(struct bench_json *json, const char *name, const char *value);
/* null when it is not finite. */
void bench_json_number(struct bench_json *json, const char *name, double value);
void bench_json_count(struct bench_json *json, const char *name, uint64_t value);
void bench_json_bool(struct bench_json *json, const char *name, bool value);

#endif
