#include "vfs/lock_note.h"

#include <pthread.h>
#include <stdlib.h>

#include "os/file.h"
#include "os/map.h"

struct lks_lock_note {
    struct lks_lock_note *next;
    const volatile char *fork_guard;
    struct lks_file_id id;
    bool locked;
};

static pthread_mutex_t notes_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct lks_lock_note *notes;
/* Of the first note's process: where it is still 1 no note is carried. */
static _Atomic(const volatile char *) first_guard;

static void
before_fork(void)
{
    pthread_mutex_lock(&notes_mutex);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&notes_mutex);
}

/*
 * When the library is loaded, so that a fork takes this mutex last: the handlers before it are called from last to first.
 * Taken before the registry's it would be waited for by the background thread, which ends, and that by who closes the
 * database under the registry's.
 */
__attribute__((constructor)) static void
notes_init(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

enum lockstep_status
lks_lock_note_open(const char *path, struct lks_lock_note **out_note)
{
    struct lks_file_stat stat;
    struct lks_lock_note *note;
    enum lockstep_status status = lks_file_stat_path(path, &stat);
    if (status != LOCKSTEP_OK)
        return status;
    note = calloc(1, sizeof *note);
    if (note == NULL)
        return LOCKSTEP_NOMEM;
    note->fork_guard = lks_map_fork_guard();
    note->id = stat.id;
    pthread_mutex_lock(&notes_mutex);
    if (first_guard == NULL)
        first_guard = note->fork_guard;
    note->next = notes;
    notes = note;
    pthread_mutex_unlock(&notes_mutex);
    *out_note = note;
    return LOCKSTEP_OK;
}

void
lks_lock_note_close(struct lks_lock_note *note)
{
    struct lks_lock_note **link;
    if (note == NULL)
        return;
    pthread_mutex_lock(&notes_mutex);
    for (link = &notes; *link != note; link = &(*link)->next)
        ;
    *link = note->next;
    pthread_mutex_unlock(&notes_mutex);
    free(note);
}

void
lks_lock_note_set(struct lks_lock_note *note, bool locked)
{
    pthread_mutex_lock(&notes_mutex);
    note->locked = locked;
    pthread_mutex_unlock(&notes_mutex);
}

/* The first of them that is carried, from `note` on. */
static const struct lks_lock_note *
next_carried_locked(const struct lks_lock_note *note)
{
    while (note != NULL && (!note->locked || *note->fork_guard != 0))
        note = note->next;
    return note;
}

bool
lks_lock_note_is_carried(const char *path)
{
    const struct lks_lock_note *note;
    const volatile char *guard = first_guard;
    struct lks_file_stat stat;
    if (guard == NULL || *guard != 0)
        return false;
    pthread_mutex_lock(&notes_mutex);
    note = next_carried_locked(notes);
    if (note != NULL && lks_file_stat_path(path, &stat) != LOCKSTEP_OK)
        note = NULL;
    while (note != NULL && !lks_file_same(&note->id, &stat.id))
        note = next_carried_locked(note->next);
    pthread_mutex_unlock(&notes_mutex);
    return note != NULL;
}
