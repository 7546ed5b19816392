/* The entry points of coord.h for what an engine checkpoints: writing behind all there is, and records kept twice. */
#include <lockstep/coord.h>

#include "api/api.h"
#include "store/checkpoint.h"
#include "store/meta.h"

/* Two places that do not overlap, with room for something behind the header, and an end that can be counted. */
static bool
is_sound(const struct lockstep_meta *places)
{
    uint64_t low, high;
    if (places == NULL || places->size <= LOCKSTEP_META_HEADER)
        return false;
    low = places->offset[0] < places->offset[1] ? places->offset[0] : places->offset[1];
    high = places->offset[0] < places->offset[1] ? places->offset[1] : places->offset[0];
    return high - low >= places->size && high <= UINT64_MAX - places->size;
}

enum lockstep_status
lockstep_conn_meta_read(struct lockstep_conn *conn, const struct lockstep_meta *places, void *buf,
                        size_t capacity_bytes, size_t *out_size_bytes, uint64_t *out_sequence)
{
    if (!conn_viewing(conn) || !is_sound(places) || buf == NULL || out_size_bytes == NULL ||
        out_sequence == NULL || capacity_bytes < places->size - LOCKSTEP_META_HEADER)
        return LOCKSTEP_MISUSE;
    return lks_meta_read(conn, places, buf, out_size_bytes, out_sequence);
}

enum lockstep_status
lockstep_conn_meta_write(struct lockstep_conn *conn, const struct lockstep_meta *places, const void *payload,
                         size_t size_bytes, uint64_t *out_sequence)
{
    uint64_t sequence = 0;
    enum lockstep_status status;
    if (!conn_writing(conn) || !is_sound(places) || (payload == NULL && size_bytes > 0) ||
        size_bytes > places->size - LOCKSTEP_META_HEADER)
        return LOCKSTEP_MISUSE;
    status = lks_meta_write(conn, places, payload, size_bytes, &sequence);
    if (status == LOCKSTEP_OK && out_sequence != NULL)
        *out_sequence = sequence;
    return status;
}

enum lockstep_status
lockstep_db_checkpoint(struct lockstep_db *db, uint64_t *out_bytes)
{
    uint64_t bytes = 0;
    enum lockstep_status status;
    if (!readable(db))
        return LOCKSTEP_MISUSE;
    if (db->readonly)
        return LOCKSTEP_READONLY;
    status = lks_checkpoint(db, &bytes);
    if (status == LOCKSTEP_OK && out_bytes != NULL)
        *out_bytes = bytes;
    return status;
}
