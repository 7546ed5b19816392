#include "store/overlay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "os/file.h"
#include "os/io.h"
#include "store/journal.h"

#define PIECE_LOG2 12u
#define PIECE_BYTES ((size_t)1 << PIECE_LOG2)

struct piece {
    uint64_t number; /* bytes [number * PIECE_BYTES, ...) of the file */
    unsigned char *data; /* NULL: the place in the table is free */
};

struct lks_overlay {
    int fd;
    uint64_t size;
    uint64_t file_bytes; /* so much of the file still shows where there is no piece */
    struct piece *pieces; /* hashed by number, open addressing */
    size_t count, capacity; /* a power of two, or 0 */
};

enum lockstep_status
lks_overlay_new(int fd, struct lks_overlay **out)
{
    struct lks_file_stat stat;
    struct lks_overlay *overlay;
    enum lockstep_status status = lks_file_stat_fd(fd, &stat);
    if (status != LOCKSTEP_OK)
        return status;
    overlay = calloc(1, sizeof *overlay);
    if (overlay == NULL)
        return LOCKSTEP_NOMEM;
    overlay->fd = fd;
    overlay->size = overlay->file_bytes = stat.size_bytes;
    *out = overlay;
    return LOCKSTEP_OK;
}

void
lks_overlay_free(struct lks_overlay *overlay)
{
    size_t i;
    if (overlay == NULL)
        return;
    for (i = 0; i < overlay->capacity; i++)
        free(overlay->pieces[i].data);
    free(overlay->pieces);
    free(overlay);
}

uint64_t
lks_overlay_size(const struct lks_overlay *overlay)
{
    return overlay->size;
}

/* The place of a piece, or the free one where it would be.  The table is never full. */
static struct piece *
place_of(struct piece *pieces, size_t capacity, uint64_t number)
{
    size_t at = (size_t)(number * 0x9e3779b97f4a7c15ull >> 32) & (capacity - 1);
    while (pieces[at].data != NULL && pieces[at].number != number)
        at = (at + 1) & (capacity - 1);
    return &pieces[at];
}

static enum lockstep_status
make_room(struct lks_overlay *overlay)
{
    size_t capacity = overlay->capacity == 0 ? 64 : 2 * overlay->capacity, i;
    struct piece *pieces;
    if (overlay->count < overlay->capacity / 4 * 3)
        return LOCKSTEP_OK;
    pieces = calloc(capacity, sizeof *pieces);
    if (pieces == NULL)
        return LOCKSTEP_NOMEM;
    for (i = 0; i < overlay->capacity; i++)
        if (overlay->pieces[i].data != NULL)
            *place_of(pieces, capacity, overlay->pieces[i].number) = overlay->pieces[i];
    free(overlay->pieces);
    overlay->pieces = pieces;
    overlay->capacity = capacity;
    return LOCKSTEP_OK;
}

/* What the file shows; zeros beyond that. */
static enum lockstep_status
read_file(const struct lks_overlay *overlay, uint64_t offset, void *buf, size_t size)
{
    size_t want = size, got = 0;
    enum lockstep_status status = LOCKSTEP_OK;
    if (offset >= overlay->file_bytes)
        want = 0;
    else if (want > overlay->file_bytes - offset)
        want = (size_t)(overlay->file_bytes - offset);
    if (want > 0)
        status = lks_file_read(overlay->fd, offset, buf, want, &got);
    if (status == LOCKSTEP_OK)
        memset((char *)buf + got, 0, size - got);
    return status;
}

static enum lockstep_status
piece_to_write(struct lks_overlay *overlay, uint64_t number, unsigned char **out_data)
{
    struct piece *piece;
    unsigned char *data;
    enum lockstep_status status = make_room(overlay);
    if (status != LOCKSTEP_OK)
        return status;
    piece = place_of(overlay->pieces, overlay->capacity, number);
    if (piece->data == NULL) {
        data = malloc(PIECE_BYTES);
        if (data == NULL)
            return LOCKSTEP_NOMEM;
        status = read_file(overlay, number << PIECE_LOG2, data, PIECE_BYTES);
        if (status != LOCKSTEP_OK) {
            free(data);
            return status;
        }
        piece->number = number;
        piece->data = data;
        overlay->count++;
    }
    *out_data = piece->data;
    return LOCKSTEP_OK;
}

static size_t
rest_of_piece(uint64_t offset, size_t size)
{
    size_t rest = PIECE_BYTES - (size_t)(offset & (PIECE_BYTES - 1));
    return rest < size ? rest : size;
}

enum lockstep_status
lks_overlay_read(struct lks_overlay *overlay, uint64_t offset, void *buf, size_t size, size_t *out_read)
{
    size_t done = 0;
    if (offset >= overlay->size)
        size = 0;
    else if (size > overlay->size - offset)
        size = (size_t)(overlay->size - offset);
    while (done < size) {
        uint64_t at = offset + done;
        size_t n = rest_of_piece(at, size - done);
        const struct piece *piece =
            overlay->capacity == 0 ? NULL : place_of(overlay->pieces, overlay->capacity, at >> PIECE_LOG2);
        enum lockstep_status status = LOCKSTEP_OK;
        if (piece != NULL && piece->data != NULL)
            memcpy((char *)buf + done, piece->data + (at & (PIECE_BYTES - 1)), n);
        else
            status = read_file(overlay, at, (char *)buf + done, n);
        if (status != LOCKSTEP_OK)
            return status;
        done += n;
    }
    *out_read = size;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_overlay_write(struct lks_overlay *overlay, uint64_t offset, const void *buf, size_t size)
{
    size_t done = 0;
    while (done < size) {
        uint64_t at = offset + done;
        size_t n = rest_of_piece(at, size - done);
        unsigned char *data;
        enum lockstep_status status = piece_to_write(overlay, at >> PIECE_LOG2, &data);
        if (status != LOCKSTEP_OK)
            return status;
        memcpy(data + (at & (PIECE_BYTES - 1)), (const char *)buf + done, n);
        done += n;
    }
    if (size > 0 && offset + size > overlay->size)
        overlay->size = offset + size;
    return LOCKSTEP_OK;
}

void
lks_overlay_resize(struct lks_overlay *overlay, uint64_t size)
{
    size_t i;
    for (i = 0; i < overlay->capacity && size < overlay->size; i++) {
        const struct piece *piece = &overlay->pieces[i];
        uint64_t begin = piece->number << PIECE_LOG2;
        size_t keep = size <= begin ? 0 : size - begin < PIECE_BYTES ? (size_t)(size - begin) : PIECE_BYTES;
        if (piece->data != NULL)
            memset(piece->data + keep, 0, PIECE_BYTES - keep);
    }
    if (overlay->file_bytes > size)
        overlay->file_bytes = size;
    overlay->size = size;
}

/* ------------------------------------------------------------------- what the playback of a journal writes to */

struct lks_io_file {
    struct lks_overlay *overlay; /* the database */
    int fd;                      /* or the journal */
};

static enum lockstep_status
io_open(void *context, const char *path, enum lks_io_role role, struct lks_io_file **out_file)
{
    struct lks_io_file *file = calloc(1, sizeof *file);
    enum lockstep_status status;
    (void)context;
    (void)role;
    if (file == NULL)
        return LOCKSTEP_NOMEM;
    status = lks_file_open(path, LKS_OPEN_READ, 0, &file->fd);
    if (status != LOCKSTEP_OK)
        free(file);
    else
        *out_file = file;
    return status;
}

static void
io_close(struct lks_io_file *file)
{
    lks_file_close(file->fd);
    free(file);
}

static enum lockstep_status
io_read(struct lks_io_file *file, uint64_t offset, void *buf, size_t size, size_t *out_read)
{
    return file->overlay != NULL ? lks_overlay_read(file->overlay, offset, buf, size, out_read)
                                 : lks_file_read(file->fd, offset, buf, size, out_read);
}

static enum lockstep_status
io_write(struct lks_io_file *file, uint64_t offset, const void *buf, size_t size)
{
    assert(file->overlay != NULL);
    return lks_overlay_write(file->overlay, offset, buf, size);
}

static enum lockstep_status
io_truncate(struct lks_io_file *file, uint64_t size)
{
    assert(file->overlay != NULL);
    lks_overlay_resize(file->overlay, size);
    return LOCKSTEP_OK;
}

static enum lockstep_status
io_sync(struct lks_io_file *file)
{
    (void)file;
    return LOCKSTEP_OK;
}

static enum lockstep_status
io_size(struct lks_io_file *file, uint64_t *out_size)
{
    struct lks_file_stat stat;
    enum lockstep_status status = LOCKSTEP_OK;
    if (file->overlay == NULL)
        status = lks_file_stat_fd(file->fd, &stat);
    if (status == LOCKSTEP_OK)
        *out_size = file->overlay != NULL ? file->overlay->size : stat.size_bytes;
    return status;
}

static enum lockstep_status
io_exists(void *context, const char *path, bool *out_exists)
{
    return lks_io_os.exists(context, path, out_exists);
}

/* What lks_journal_read_back() calls. */
static const struct lks_io overlay_io = {
    .open = io_open,
    .close = io_close,
    .read = io_read,
    .write = io_write,
    .truncate = io_truncate,
    .sync = io_sync,
    .size = io_size,
    .exists = io_exists,
};

enum lockstep_status
lks_overlay_roll_back(struct lks_overlay *overlay, const char *path, bool *out_rolled_back)
{
    struct lks_io_file database = {.overlay = overlay, .fd = -1};
    return lks_journal_read_back(&overlay_io, path, &database, out_rolled_back);
}
