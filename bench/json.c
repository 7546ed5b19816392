#include "bench/json.h"

#include <inttypes.h>
#include <math.h>

void
bench_json_start(struct bench_json *json, FILE *stream)
{
    *json = (struct bench_json){.stream = stream, .first = true};
}

static void
put_string(FILE *stream, const char *value)
{
    fputc('"', stream);
    for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(stream, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(stream, "\\u%04x", *c);
        else
            fputc(*c, stream);
    }
    fputc('"', stream);
}

/* What stands before a value: comma, line, indentation, name. */
static void
lead(struct bench_json *json, const char *name)
{
    if (!json->first)
        fputc(',', json->stream);
    if (json->depth > 0)
        fprintf(json->stream, "\n%*s", (int)json->depth * 2, "");
    json->first = false;
    if (name != NULL) {
        put_string(json->stream, name);
        fputs(": ", json->stream);
    }
}

void
bench_json_open(struct bench_json *json, const char *name, char bracket)
{
    lead(json, name);
    fputc(bracket, json->stream);
    json->depth++;
    json->first = true;
}

void
bench_json_close(struct bench_json *json, char bracket)
{
    json->depth--;
    if (!json->first)
        fprintf(json->stream, "\n%*s", (int)json->depth * 2, "");
    fputc(bracket, json->stream);
    json->first = false;
    if (json->depth == 0)
        fputc('\n', json->stream);
}

void
bench_json_string(struct bench_json *json, const char *name, const char *value)
{
    lead(json, name);
    put_string(json->stream, value);
}

void
bench_json_number(struct bench_json *json, const char *name, double value)
{
    lead(json, name);
    if (isfinite(value))
        fprintf(json->stream, "%.6g", value);
    else
        fputs("null", json->stream);
}

void
bench_json_count(struct bench_json *json, const char *name, uint64_t value)
{
    lead(json, name);
    fprintf(json->stream, "%" PRIu64, value);
}

void
bench_json_bool(struct bench_json *json, const char *name, bool value)
{
    lead(json, name);
    fputs(value ? "true" : "false", json->stream);
}
