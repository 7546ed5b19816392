#include "findex_walk.h"

#include <err.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int
by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* The array with room for `more` elements beyond `used`; NULL, and the old one still there, if it
 * cannot be. */
static void *
grown(void *array, size_t *room, size_t used, size_t more, size_t element)
{
    size_t wanted = *room != 0 ? *room : 1024;
    void *bigger;

    if (used + more <= *room)
        return array;
    while (wanted < used + more)
        wanted *= 2;
    bigger = reallocarray(array, wanted, element);
    if (bigger != NULL)
        *room = wanted;
    return bigger;
}

static bool
add_text(struct findex_list *list, const char *name, uint64_t *out_at)
{
    size_t size = strlen(name) + 1;
    char *text = grown(list->text, &list->text_room, list->text_bytes, size, 1);

    if (text == NULL)
        return false;
    list->text = text;
    memcpy(list->text + list->text_bytes, name, size);
    *out_at = list->text_bytes;
    list->text_bytes += size;
    return true;
}

static bool
add_directory(struct findex_list *list, FTSENT *entry)
{
    uint64_t *names =
        grown(list->directories, &list->directories_room, list->n_directories, 1, sizeof *names);

    if (names == NULL)
        return false;
    list->directories = names;
    if (!add_text(list, entry->fts_path, &names[list->n_directories]))
        return false;
    entry->fts_number = (long)list->n_directories++;
    return true;
}

static bool
add_file(struct findex_list *list, const FTSENT *entry)
{
    struct findex_entry *files =
        grown(list->files, &list->files_room, list->n_files, 1, sizeof *files);

    if (files == NULL)
        return false;
    list->files = files;
    if (!add_text(list, entry->fts_path, &files[list->n_files].path))
        return false;
    files[list->n_files++].directory = (uint32_t)entry->fts_parent->fts_number;
    return true;
}

static bool
add_entry(struct findex_list *list, FTSENT *entry)
{
    switch (entry->fts_info) {
    case FTS_D:
        return add_directory(list, entry);
    case FTS_F:
        return add_file(list, entry);
    case FTS_SL:
    case FTS_SLNONE:
        list->links++;
        break;
    case FTS_DEFAULT:
        list->special++;
        break;
    case FTS_DNR: /* after FTS_D, when it cannot be read */
    case FTS_ERR:
    case FTS_NS:
        list->unreadable++;
        break;
    default:
        break;
    }
    return true;
}

static void
show(const struct findex_options *options, const struct findex_list *list, uint64_t *last_ns)
{
    uint64_t now = findex_now_ns();

    if (options->terminal && now - *last_ns > 200000000u) {
        fprintf(options->say, "\r\033[Kwalking %s: %zu files", options->root, list->n_files);
        fflush(options->say);
        *last_ns = now;
    }
}

bool
findex_walk(const struct findex_options *options, struct findex_list *out_list)
{
    char *roots[] = {(char *)options->root, NULL};
    uint64_t shown_ns = findex_now_ns();
    FTSENT *entry;
    struct stat root;
    bool ok = true;

    if (stat(options->root, &root) != 0) {
        warn("%s", options->root);
        return false;
    }
    if (!S_ISDIR(root.st_mode)) {
        warnx("%s: not a directory", options->root);
        return false;
    }

    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, by_name);
    if (tree == NULL) {
        warn("%s", options->root);
        return false;
    }
    while (ok && (entry = fts_read(tree)) != NULL) {
        if (out_list->n_files == options->max_files && entry->fts_info == FTS_F) {
            out_list->more = true;
            break;
        }
        ok = add_entry(out_list, entry);
        if (!ok)
            warnx("%s: out of memory after %zu files", options->root, out_list->n_files);
        show(options, out_list, &shown_ns);
        if (findex_interrupted() != 0)
            ok = false;
    }
    if (ok && !out_list->more && errno != 0) {
        warn("%s", options->root);
        ok = false;
    }
    if (options->terminal)
        fputs("\r\033[K", options->say);
    fts_close(tree);
    return ok;
}

void
findex_list_free(struct findex_list *list)
{
    free(list->files);
    free(list->directories);
    free(list->text);
}
