#include "base/status.h"

const char *
lks_status_name(enum lockstep_status status)
{
    switch (status) {
    case LOCKSTEP_OK: return "ok";
    case LOCKSTEP_BUSY: return "busy";
    case LOCKSTEP_STALE: return "stale snapshot";
    case LOCKSTEP_TIMEOUT: return "timed out";
    case LOCKSTEP_FULL: return "no space";
    case LOCKSTEP_IOERR: return "input/output error";
    case LOCKSTEP_NOMEM: return "out of memory or table entries";
    case LOCKSTEP_CANTOPEN: return "cannot open";
    case LOCKSTEP_CORRUPT: return "coordination file damaged";
    case LOCKSTEP_FORMAT: return "coordination file of another format";
    case LOCKSTEP_READONLY: return "read-only";
    case LOCKSTEP_NOTSTORE: return "database is in WAL mode";
    case LOCKSTEP_MISUSE: return "misuse";
    }
    return "unknown status";
}
