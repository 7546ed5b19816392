#include "coord/work.h"

#include "base/crashpoint.h"

enum lockstep_status
lks_work_take(struct lockstep_db *db, uint32_t connection)
{
    enum lockstep_status status;
    if (!lks_a32_cas(&db->work_owner, 0, connection))
        return LOCKSTEP_BUSY;
    status = lks_lockset_take(&db->locks, LKS_BYTE_WORK, LKS_LOCK_EXCLUSIVE);
    if (status != LOCKSTEP_OK) {
        lks_a32_set_release(&db->work_owner, 0);
        return status;
    }
    LKS_CRASH_POINT("work:taken");
    return LOCKSTEP_OK;
}

void
lks_work_drop(struct lockstep_db *db, uint32_t connection)
{
    if (!lks_work_held(db, connection))
        return;
    lks_lockset_drop(&db->locks, LKS_BYTE_WORK);
    lks_a32_set_release(&db->work_owner, 0);
}

bool
lks_work_held(const struct lockstep_db *db, uint32_t connection)
{
    return lks_a32_acquire(&db->work_owner) == connection;
}
