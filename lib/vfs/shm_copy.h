/*
 * The WAL-index where memory cannot be mapped shared: a connection's private copy of it, kept like the shared
 * one by copying at the points at which SQLite says that it matters.
 *
 * SHARED is an area that no connection can address (shm_area.h).  PRIVATE are the regions of 32 KiB that SQLite
 * is given.  SHADOW is the head (the first 136 bytes: header copy 1, header copy 2, checkpoint information) as
 * it was last seen or left in SHARED.  BASE, while the connection may write, is the one region that its next
 * frame goes to, as it is in SHARED.  Hash words are all that follows the head: of each region, 4096 page
 * numbers, then 8192 slots of 16 bits.
 *
 *   acquire   words of the head that differ between SHARED and SHADOW go to PRIVATE and SHADOW; then, if any
 *             did and the connection may not write hash words, the regions that the new header speaks of beyond
 *             what is KNOWN
 *   release   hash words that differ between PRIVATE and BASE (of later regions: all) go to SHARED; then header
 *             copy 2, the checkpoint information, and header copy 1, where PRIVATE differs from SHADOW
 *
 * When, is copy_index.c's: acquire when a region is mapped first, after each lock, in a barrier (but for C12);
 * release in a barrier, before an exclusive lock is dropped, and before EXCLUSIVE on the database is.
 *
 * Who writes what, wal.c of 3.40 (walIndexWriteHdr, walIndexAppend, walCleanupHash, walIndexRecover,
 * walRestartHdr, walCheckpoint, walTryBeginRead, sqlite3WalSnapshotRecover; there is no other):
 *
 *   words                written by, holding                                                   read without a lock
 *   header copies        writer, recovery: WRITE                                               yes
 *   hash words           writer: WRITE, beyond the header's mxFrame; recovery: WRITE, CKPT, RECOVER   <= mxFrame
 *   aReadMark[i]         READ(i) exclusive                                                     yes
 *   nBackfill            checkpointer: CKPT and READ0; reset: WRITE, READ1..4; recovery        yes
 *   nBackfillAttempted   the same; sqlite3_snapshot_recover(): CKPT                            no
 *   any                  EXCLUSIVE on the database (locking_mode, the last close)              nobody is there
 *
 * Invariants:
 *
 * C1  The head is read before the hash words, with a fence between: whoever wrote a header wrote its frames'
 *     hash words before, so they are among what is read.  Read the other way round they might not be, and as
 *     the head would then be in SHADOW no later acquire would look again.
 * C2  Hash words are published before header copy 2, that before header copy 1.  SQLite has a barrier between
 *     the copies, so copy 1 goes in a release of its own.  walIndexTryHdr() reads copy 1, has a barrier, reads
 *     copy 2, and wants both equal and their checksum right: a header that was copied in the midst of a write,
 *     or that a dead process left half written, differs there, as it does for who has it mapped.
 * C3  Checkpoint information is published before header copy 1: who accepts a header finds what belongs to it.
 *     (A reset sets nBackfill to 0; with the old one a reader of the new header would ignore the log's first
 *     frames.)
 * C4  Of the head only words that this connection changed are written, for others change their neighbours at
 *     the same time.  A word is changed under an exclusive lock, after whose taking we acquired, so that SHADOW
 *     has what SHARED has, and PRIVATE differs from it only where SQLite wrote.
 * C5  After a release every word of the head is in PRIVATE what it is in SHADOW.
 * C6  If the head is as in SHADOW, the hash words that a reader looks at are as in PRIVATE: those of frames <=
 *     mxFrame change only with the header (a reset has new salts; recovery writes the same words anew).  Others
 *     may differ: a writer at work, one that rolled back, one that died (stock, or one of ours between C2's
 *     steps) leave words beyond mxFrame, which a reader passes over.
 * C7  That does not do for a writer, who puts entries between them: with WRITE, the region of the frame mxFrame
 *     is read without the shortcut, and is BASE.  Whoever appended to a region knows it (SQLite clears what the
 *     dead left when it meets their page number where its own is to be: hence page numbers are published before
 *     slots, lowest first).
 * C8  Of the regions after BASE PRIVATE knows nothing for certain, and needs not: SQLite clears a region when
 *     it writes its first frame, and they are published whole, up to the header's mxFrame.  What a rollback
 *     left in them is never published and never read: a region that a header newly speaks of is read whole.
 * C9  While the connection may write hash words acquire leaves them alone; nobody else changes them.
 * C10 A hash slot has 16 bits, any other word 32, and none is seen in part.  The head's nBackfill and
 *     nBackfillAttempted and all hash words are written in aligned pieces of 8 bytes, which the kernel copies
 *     by single stores (test_shm_copy looks for torn ones).  Read marks go alone, as others change their
 *     neighbours: who meets one in part either cannot have the lock of it, and then the reader that sets it
 *     finds the header changed if the mark did not cover it, or compares it again under that lock.
 * C11 nBackfill is read again under READ(i) and before the barrier after which walTryBeginRead() compares the
 *     header: the acquire after the lock is that reading.  The value may be older, never of a newer header.
 *     (The acquire in that barrier would do for both: an older value of the same header is a smaller one.)
 * C12 A barrier under no lock at all is walIndexTryHdr's, which has read copy 1 of PRIVATE.  If PRIVATE's
 *     copies are equal a header that has changed is not acquired: SQLite takes the old one, and the acquire under
 *     its read lock tells it so.  Otherwise it would see copy 2 of another header, and to be sure take WRITE:
 *     readers would be in the way of writers, and a reader that may not write gave up.  If the header is the same,
 *     the checkpoint information is acquired, for next SQLite looks whether all is written back, and only then is
 *     the log begun anew (but not if it knows already that all is: that changes with the header).
 *
 * C13 What C12 hands out is as old as the last acquire.  SQLite takes a lock for it, finds it changed, and begins again;
 *     after a few rounds it sleeps in between, longer each time.  So each round is to begin with a header of then: it
 *     is acquired once more when such a round lets go of its lock, and after the sleep.  With that of the round before,
 *     which is older than the sleep, no round would succeed while others commit, and the 100th is SQLITE_PROTOCOL.
 *     (copy_round.h: what a round looks like from here.)
 *
 * What may be left out: a release where no exclusive lock is dropped (nothing can have been changed); in any
 * other, the hash words if the head did not change, for they lie beyond mxFrame then.
 *
 * An acquire or release that fails makes the copy `failed` for good: the caller's locks fail from there on, and so does COMMIT.
 * SHARED then has an old header, or one whose copies differ and which the next process builds anew from the
 * log.  What the old header speaks of is there: the log is not truncated on the word of a copy that has failed, for a reset
 * that was not published is followed by frames after the old last one, in a log without its header.
 * Regions that were cut off by somebody are such a failure, too; a head that was, is a header to be built anew.
 *
 * Used by the connection's thread alone.
 */
#ifndef LKS_VFS_SHM_COPY_H
#define LKS_VFS_SHM_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/shm_area.h"

#define LKS_INDEX_REGION_BYTES 32768u
#define LKS_INDEX_REGION_WORDS (LKS_INDEX_REGION_BYTES / 4)
#define LKS_INDEX_HEAD_BYTES 136u
#define LKS_INDEX_HEADER_BYTES 48u /* of each copy */
#define LKS_INDEX_HEAD_WORDS (LKS_INDEX_HEAD_BYTES / 4)
#define LKS_INDEX_PAGES 4096u       /* page numbers in a region */
#define LKS_INDEX_PAGES_FIRST 4062u /* ... in region 0 */
#define LKS_INDEX_NO_REGION UINT32_MAX

/* For measurement only, URI shm_measure=: what the two rules of leaving out are worth. */
enum { LKS_SHM_NO_SHORTCUT = 1, LKS_SHM_RELEASE_ALWAYS = 2 };

/* A state of the log. */
struct lks_index_state {
    uint32_t change;
    uint32_t frames;
    uint32_t salt[2];
};

struct lks_shm_copy {
    struct lks_shm_area *area;
    uint32_t **regions; /* PRIVATE; NULL where none was asked for */
    uint32_t n_regions;
    uint32_t shadow[LKS_INDEX_HEAD_WORDS];
    bool stale;                   /* SHADOW is not to be trusted: no shortcut */
    struct lks_index_state known; /* what PRIVATE's hash words are right for, in the regions that are mapped */
    bool writing;
    uint32_t *base;
    uint32_t base_region;   /* what is in `base`; NO_REGION */
    uint32_t append_region; /* of the last frame when writing began; NO_REGION: regions are written from the first on */
    uint32_t base_salt[2];
    bool readonly;
    bool failed;
    unsigned measure;
};

void lks_shm_copy_init(struct lks_shm_copy *copy, unsigned measure);
/*
 * PRIVATE of a region, which is read from the area when it is asked for first.  *out_memory is NULL if it is not there
 * and not to be made.  `extend`: to be made, FULL if there is no space.  IOERR also if it is not there and should be.
 */
enum lockstep_status lks_shm_copy_map(struct lks_shm_copy *copy, uint32_t region, bool extend,
                                      void volatile **out_memory);
enum lockstep_status lks_shm_copy_acquire(struct lks_shm_copy *copy);
/* What takes the place of an acquire under no lock: C12. */
enum lockstep_status lks_shm_copy_look(struct lks_shm_copy *copy);
enum lockstep_status lks_shm_copy_release(struct lks_shm_copy *copy);
/* The lock WRITE, or EXCLUSIVE of the database, was taken: acquires. */
enum lockstep_status lks_shm_copy_begin_write(struct lks_shm_copy *copy);
/* It is to be dropped: releases. */
enum lockstep_status lks_shm_copy_end_write(struct lks_shm_copy *copy);
/* RECOVER was taken: all hash words will be written anew. */
void lks_shm_copy_recover(struct lks_shm_copy *copy);
/* PRIVATE's head; NULL: region 0 is not mapped. */
const uint32_t *lks_shm_copy_head(const struct lks_shm_copy *copy);
/* Forgets all regions, without releasing. */
void lks_shm_copy_clear(struct lks_shm_copy *copy);
/* The region that has the entry of a frame; of 0: the first. */
uint32_t lks_index_region_of(uint32_t frame);

#endif
