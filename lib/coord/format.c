#include "coord/format.h"

#include <string.h>

#include "base/log.h"

#define HEAD_BYTES 512u

bool
lks_format_is_name(const char name[LKS_FORMAT_SIZE])
{
    return memchr(name, '\0', LKS_FORMAT_SIZE) != NULL;
}

void
lks_format_stored(const struct lks_shm *shm, char out_name[LKS_FORMAT_SIZE])
{
    uint64_t words[2] = {lks_a64_relaxed(&shm->state.app_format[0]), lks_a64_relaxed(&shm->state.app_format[1])};
    _Static_assert(sizeof words == LKS_FORMAT_SIZE, "two words hold a name");
    memcpy(out_name, words, sizeof words);
    /* The file may be damaged. */
    out_name[LKS_FORMAT_SIZE - 1] = '\0';
}

/* The name that the options give, or the callback's; `stored` is NULL for a file that has none yet. */
static enum lockstep_status
own_name(struct lockstep_db *db, const char *stored, char out_name[LKS_FORMAT_SIZE])
{
    const struct lockstep_options *options = &db->options;
    char name[LKS_FORMAT_SIZE] = "";
    unsigned char head[HEAD_BYTES];
    size_t got = 0, length;
    enum lockstep_status status;
    if (options->format[0] != '\0' || options->format_fn == NULL) {
        memcpy(name, options->format, sizeof name);
        goto done;
    }
    status = lks_file_read(db->locks.database_fd, 0, head, sizeof head, &got);
    if (status == LOCKSTEP_OK)
        status = options->format_fn(options->format_arg, stored, head, got, name);
    if (status != LOCKSTEP_OK)
        return status;
    if (!lks_format_is_name(name))
        return LOCKSTEP_MISUSE;
done:
    /* What the application left behind the NUL is no part of the name. */
    length = strlen(name);
    memset(out_name, 0, LKS_FORMAT_SIZE);
    memcpy(out_name, name, length);
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_format_match(struct lockstep_db *db, const char stored[LKS_FORMAT_SIZE])
{
    char name[LKS_FORMAT_SIZE];
    enum lockstep_status status = own_name(db, stored, name);
    if (status != LOCKSTEP_OK)
        return status;
    memcpy(db->format, name, sizeof name);
    return strcmp(name, stored) == 0 ? LOCKSTEP_OK : LOCKSTEP_FORMAT;
}

enum lockstep_status
lks_format_check(struct lockstep_db *db, const char *whose)
{
    char stored[LKS_FORMAT_SIZE];
    enum lockstep_status status;
    lks_format_stored(db->shm, stored);
    status = lks_format_match(db, stored);
    if (status == LOCKSTEP_FORMAT)
        lks_log(LKS_ERROR, "%s: %s use it in the format '%s', and this program's is '%s': it is not let in",
                db->path, whose, stored, db->format);
    return status;
}

enum lockstep_status
lks_format_make(struct lockstep_db *db)
{
    uint64_t words[2];
    enum lockstep_status status = own_name(db, NULL, db->format);
    if (status != LOCKSTEP_OK)
        return status;
    memcpy(words, db->format, sizeof words);
    lks_a64_set_relaxed(&db->shm->state.app_format[0], words[0]);
    lks_a64_set_relaxed(&db->shm->state.app_format[1], words[1]);
    return LOCKSTEP_OK;
}

const char *
lks_format_in_use(const struct lockstep_db *db)
{
    /* While it is attached its name is constant. */
    return lks_a32_acquire(&db->attached) != 0 ? db->format : db->options.format;
}

bool
lks_format_shares(const struct lockstep_db *db, const struct lockstep_options *options)
{
    const char *wanted = options != NULL ? options->format : "";
    /* Who asks a callback takes the answer that the first got. */
    if (options != NULL && options->format_fn != NULL && wanted[0] == '\0')
        return db->options.format_fn == options->format_fn && db->options.format[0] == '\0';
    return strcmp(wanted, lks_format_in_use(db)) == 0;
}
