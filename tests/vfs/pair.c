#include "vfs/pair.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/vfstest.h"

void
pair_open(struct pair *pair, const char *parameters)
{
    pair->parameters = parameters;
    pair->stock = open_stock("stock.db");
    pair->ours = open_ours("ours.db", parameters);
}

void
pair_close(struct pair *pair)
{
    close_db(pair->stock);
    close_db(pair->ours);
}

static char *
with_name(const char *text, const char *name)
{
    sqlite3_str *str = sqlite3_str_new(NULL);
    for (; *text != '\0'; text++)
        if (*text == '@')
            sqlite3_str_appendall(str, name);
        else
            sqlite3_str_appendchar(str, 1, *text);
    return sqlite3_str_finish(str);
}

void
pair_sql(struct pair *pair, const char *format, ...)
{
    va_list args;
    char *text, *stock_text, *ours_text, *stock, *ours;
    int rc;
    va_start(args, format);
    text = sqlite3_vmprintf(format, args);
    va_end(args);
    stock_text = with_name(text, "stock");
    ours_text = with_name(text, "ours");
    stock = run_sql(pair->stock, stock_text, &rc);
    ours = run_sql(pair->ours, ours_text, &rc);
    ck_assert_msg(strcmp(stock, ours) == 0, "%s\nstock: %.2000s\nours:  %.2000s\n%s", text, stock, ours,
                  log_text());
    sqlite3_free(stock);
    sqlite3_free(ours);
    sqlite3_free(stock_text);
    sqlite3_free(ours_text);
    sqlite3_free(text);
}

void
pair_finish(struct pair *pair)
{
    pair_close(pair);
    check_ordinary("ours.db");
    check_same_file("stock.db", "ours.db");
}
