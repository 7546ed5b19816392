#include "vfs/copy_round.h"

#include <string.h>

#include "vfs/wal.h"

/* SQLite gives up after 100. */
#define ROUNDS_MOST 90

/* Of this thread; nobody else uses it, nor closes it, before the thread is back in SQLite's loop. */
static __thread sqlite3_file *begins_again;

static uint32_t
mark_of(const uint32_t *head, unsigned reader)
{
    return head != NULL ? head[LKS_INDEX_READ_MARK + reader] : 0;
}

void
lks_copy_round_begin(struct lks_copy_round *round, const uint32_t *head)
{
    round->begins = round->again = false;
    round->header_known = head != NULL;
    if (head != NULL)
        memcpy(round->header, head, sizeof round->header);
    round->counted = true;
    round->rounds++;
}

void
lks_copy_round_locked(struct lks_copy_round *round, int offset, bool exclusive, const uint32_t *head)
{
    round->begins = !exclusive && offset >= LKS_WAL_READ0;
    round->again = !exclusive && offset == LKS_WAL_RECOVER;
    if (round->begins) {
        round->reads = (unsigned)(offset - LKS_WAL_READ0);
        round->mark = mark_of(head, round->reads);
    }
    /* Under these it reads the header once more, or makes it. */
    if (offset < LKS_WAL_READ0)
        round->header_known = false;
}

/* The first one under READ(i) is it.  Under any other lock SQLite may have read the header, or be making it. */
void
lks_copy_round_compared(struct lks_copy_round *round, const uint32_t *head)
{
    bool compares = round->begins && round->header_known && head != NULL;
    lks_copy_round_unknown(round);
    if (!compares)
        return;
    round->again = memcmp(head, round->header, sizeof round->header) != 0 ||
                   (round->reads != 0 && mark_of(head, round->reads) != round->mark); /* READ0's is not compared */
    if (!round->again)
        round->rounds = 0;
}

void
lks_copy_round_unknown(struct lks_copy_round *round)
{
    round->begins = round->header_known = false;
}

bool
lks_copy_round_lost(struct lks_copy_round *round, sqlite3_file *file)
{
    bool lost = round->again, counted = round->counted;
    if (!lost)
        return false;
    round->again = round->counted = false;
    if (counted && round->rounds <= ROUNDS_MOST)
        begins_again = file;
    return true;
}

void
lks_copy_round_asked(const sqlite3_file *file)
{
    if (begins_again == file)
        begins_again = NULL;
}

sqlite3_file *
lks_copy_round_slept(void)
{
    sqlite3_file *file = begins_again;
    begins_again = NULL;
    return file;
}
