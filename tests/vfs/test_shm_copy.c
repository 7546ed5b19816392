/*
 * The WAL-index shared by copying, without SQLite: what acquire and release promise (shm_copy.h), over an area that
 * records what is done to it; and what they take for granted of the kernel.
 *
 * Made to fail by: the invariant that a test's comment or name gives, taken away.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vfs/shm_copy.h"
#include "vfs/vfstest.h"

#define REGIONS 4
#define WORD_OF_FRAME(FRAME) (LKS_INDEX_HEAD_WORDS + (FRAME) - 1) /* page number, in region 0 */
#define SLOT_WORD(SLOT) (LKS_INDEX_PAGES + (SLOT) / 2)

enum { CHANGE = 2, FRAMES = 4, SALT = 8, COPY_2 = 12, BACKFILLED = 24, MARK_1 = 26, MARK_2 = 27, ATTEMPTED = 32 };

static struct {
    struct lks_shm_area area;
    uint32_t words[REGIONS * LKS_INDEX_REGION_WORDS];
    uint64_t size;
    char events[4096]; /* "r0+136 w48+48 " */
    bool fails;
    void (*between)(void); /* called once, after the next read */
} shared;

static void
record(char what, uint64_t offset, size_t size)
{
    size_t n = strlen(shared.events);
    snprintf(shared.events + n, sizeof shared.events - n, "%c%llu+%zu ", what, (unsigned long long)offset, size);
}

static enum lockstep_status
area_read(struct lks_shm_area *area, uint64_t offset, void *buf, size_t size)
{
    void (*between)(void) = shared.between;
    (void)area;
    record('r', offset, size);
    memcpy(buf, (char *)shared.words + offset, size);
    shared.between = NULL;
    if (between != NULL)
        between();
    return shared.fails ? LOCKSTEP_IOERR : LOCKSTEP_OK;
}

static enum lockstep_status
area_write(struct lks_shm_area *area, uint64_t offset, const void *buf, size_t size)
{
    (void)area;
    record('w', offset, size);
    if (shared.fails)
        return LOCKSTEP_IOERR;
    memcpy((char *)shared.words + offset, buf, size);
    return LOCKSTEP_OK;
}

static enum lockstep_status
area_size(struct lks_shm_area *area, uint64_t *out_size)
{
    (void)area;
    *out_size = shared.size;
    return LOCKSTEP_OK;
}

static enum lockstep_status
area_extend(struct lks_shm_area *area, uint64_t size)
{
    (void)area;
    shared.size = size;
    return LOCKSTEP_OK;
}

/* Both copies of a header in `words`. */
static void
set_header(uint32_t *words, uint32_t change, uint32_t frames, uint32_t salt)
{
    for (int copy = 0; copy <= COPY_2; copy += COPY_2) {
        words[copy + CHANGE] = change;
        words[copy + FRAMES] = frames;
        words[copy + SALT] = salt;
    }
}

static struct lks_shm_copy copy;
static uint32_t *private; /* region 0 */

static uint32_t *
map(uint32_t region)
{
    void volatile *memory;
    ck_assert_int_eq(lks_shm_copy_map(&copy, region, true, &memory), LOCKSTEP_OK);
    return (uint32_t *)memory;
}

/* A log of so many frames, which a connection has mapped. */
static void
begin(uint32_t frames)
{
    memset(&shared, 0, sizeof shared);
    shared.area = (struct lks_shm_area){area_read, area_write, area_size, area_extend};
    shared.size = LKS_INDEX_REGION_BYTES;
    set_header(shared.words, 7, frames, 1);
    for (uint32_t i = 1; i <= frames && i <= LKS_INDEX_PAGES_FIRST; i++)
        shared.words[WORD_OF_FRAME(i)] = i;
    lks_shm_copy_init(&copy, 0);
    copy.area = &shared.area;
    private = map(0);
    ck_assert_int_eq(memcmp(private, shared.words, LKS_INDEX_REGION_BYTES), 0);
    shared.events[0] = '\0';
}

static const char *
events(void)
{
    static char text[sizeof shared.events];
    memcpy(text, shared.events, sizeof text);
    shared.events[0] = '\0';
    return text;
}

START_TEST(regions_are_where_sqlite_has_them)
{
    ck_assert_uint_eq(lks_index_region_of(0), 0);
    ck_assert_uint_eq(lks_index_region_of(4062), 0);
    ck_assert_uint_eq(lks_index_region_of(4063), 1);
    ck_assert_uint_eq(lks_index_region_of(4062 + 4096), 1);
    ck_assert_uint_eq(lks_index_region_of(4062 + 4096 + 1), 2);
}
END_TEST

static void
commit_of_another(void)
{
    shared.words[WORD_OF_FRAME(11)] = 77;
    set_header(shared.words, 8, 11, 1);
}

/* C1.  With the hash words read first the header of frame 11 would be there without its entry, and stay so. */
START_TEST(the_head_is_read_before_the_hash_words)
{
    begin(10);
    set_header(shared.words, 8, 10, 1);
    shared.between = commit_of_another; /* after the first read */
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 ");
    ck_assert_uint_eq(private[FRAMES], 10);
    ck_assert_uint_eq(private[WORD_OF_FRAME(11)], 77); /* newer than the header does no harm */
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[FRAMES], 11);
    lks_shm_copy_clear(&copy);
}
END_TEST

START_TEST(an_unchanged_head_is_all_that_is_read)
{
    begin(10);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 ");
    shared.words[MARK_2] = 10;
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 ");
    ck_assert_uint_eq(private[MARK_2], 10);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C6: of a log that goes on, from the region of the last frame that was known; of one begun anew, or recovered, all. */
START_TEST(only_the_regions_that_a_header_newly_speaks_of_are_read)
{
    begin(10);
    (void)map(1);
    (void)map(2);
    (void)events();
    set_header(shared.words, 8, 5000, 1);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 r32768+32768 ");
    set_header(shared.words, 9, 9000, 1);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r32768+32768 r65536+32768 ");
    set_header(shared.words, 10, 9001, 2);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 r32768+32768 r65536+32768 ");
    set_header(shared.words, 0, 9001, 2);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 r32768+32768 r65536+32768 ");
    set_header(shared.words, 1, 10, 2); /* never, but it would be a log that does not go on */
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 ");
    lks_shm_copy_clear(&copy);
}
END_TEST

/* A transaction as SQLite makes it: hash words, copy 2, barrier, copy 1. */
static void
write_frame(uint32_t frame, uint32_t page, uint32_t slot)
{
    private[WORD_OF_FRAME(frame)] = page;
    ((uint16_t *)private)[2 * LKS_INDEX_PAGES + slot] = (uint16_t)frame;
}

static void
write_copy(int at, uint32_t change, uint32_t frames)
{
    private[at + CHANGE] = change;
    private[at + FRAMES] = frames;
}

/* C2, C3, and that page numbers go before slots (C7). */
START_TEST(hash_words_are_published_before_the_header_and_its_second_copy_before_the_first)
{
    begin(10);
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 r136+32632 ");
    write_frame(11, 77, 400);
    write_copy(COPY_2, 8, 11);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    /* Frame 11 is word 44, slot 400 the word 4096 + 200. */
    check_text(events(), "w176+8 w17184+8 w48+48 ");
    ck_assert_uint_eq(shared.words[FRAMES], 10);
    write_copy(0, 8, 11);
    private[BACKFILLED] = 3;
    private[ATTEMPTED] = 4;
    private[MARK_1] = 11;
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    check_text(events(), "w96+8 w104+4 w128+8 w0+48 ");
    ck_assert_int_eq(memcmp(private, shared.words, LKS_INDEX_REGION_BYTES), 0);
    /* All at once is in that order, too. */
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    (void)events();
    write_frame(12, 78, 800);
    write_copy(COPY_2, 9, 12);
    write_copy(0, 9, 12);
    private[MARK_1] = 12;
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    check_text(events(), "w176+8 w17984+8 w48+48 w104+4 w0+48 ");
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C4: a reader and a checkpointer change their words at the same time. */
START_TEST(only_the_words_that_were_changed_are_written)
{
    begin(10);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    private[MARK_1] = 10;
    shared.words[MARK_2] = 9;
    shared.words[BACKFILLED] = 5;
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(shared.words[MARK_1], 10);
    ck_assert_uint_eq(shared.words[MARK_2], 9);
    ck_assert_uint_eq(shared.words[BACKFILLED], 5);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[MARK_1], 10);
    ck_assert_uint_eq(private[MARK_2], 9);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C7: somebody's uncommitted entry was copied, and cleared since; and another is there that was not copied. */
START_TEST(a_writer_takes_no_shortcut)
{
    begin(10);
    shared.words[SLOT_WORD(500)] = 11;
    shared.words[WORD_OF_FRAME(11)] = 5;
    shared.words[MARK_2] = 9;
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[SLOT_WORD(500)], 11);
    shared.words[SLOT_WORD(500)] = 0;
    shared.words[SLOT_WORD(600)] = 11;
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[SLOT_WORD(500)], 11); /* a reader may: C6 */
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    ck_assert_int_eq(memcmp(private, shared.words, LKS_INDEX_REGION_BYTES), 0);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C5 and C8: what a rollback leaves is nobody's, and hides no entry that another then makes just there. */
START_TEST(what_was_rolled_back_is_not_published_and_hides_nothing)
{
    begin(10);
    shared.words[WORD_OF_FRAME(11)] = 77; /* a dead writer's */
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    private[WORD_OF_FRAME(11)] = 0;
    write_frame(12, 99, 40);
    (void)events();
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    check_text(events(), "");
    set_header(shared.words, 8, 11, 1); /* another commits page 77 as frame 11: the word stays as it was */
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[WORD_OF_FRAME(11)], 77);
    ck_assert_uint_eq(private[WORD_OF_FRAME(12)], 0);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C8: what the connection believes of a later region is of an older log, and just what it is about to write. */
START_TEST(a_later_region_is_published_whole)
{
    uint32_t *second;
    begin(4062);
    second = map(1);
    second[0] = second[1] = 7;
    for (uint32_t i = 0; i < LKS_INDEX_REGION_WORDS; i++)
        shared.words[LKS_INDEX_REGION_WORDS + i] = 0xdead;
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    memset(second, 0, LKS_INDEX_REGION_BYTES);
    second[0] = second[1] = 7;
    write_copy(COPY_2, 8, 4064);
    (void)events();
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w32768+16384 w49152+16384 w48+48 ");
    ck_assert_int_eq(memcmp(second, shared.words + LKS_INDEX_REGION_WORDS, LKS_INDEX_REGION_BYTES), 0);
    /* From then on it is the base. */
    second[2] = 8;
    write_copy(COPY_2, 9, 4065);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w32776+8 w48+48 ");
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* A log that is begun anew within the transaction: nothing in SHARED is of it. */
START_TEST(after_a_reset_the_first_region_is_published_whole)
{
    begin(10);
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    (void)events();
    private[COPY_2 + SALT] = 2;
    write_copy(COPY_2, 7, 0);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    private[SALT] = 2;
    write_copy(0, 7, 0);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w48+48 w0+48 ");
    write_frame(1, 3, 100);
    write_copy(COPY_2, 8, 1);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w136+16248 w16384+16384 w48+48 ");
    write_copy(0, 8, 1);
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    check_text(events(), "w0+48 ");
    lks_shm_copy_clear(&copy);
}
END_TEST

/* SQLite finds no region 0, takes WRITE, and has it made. */
START_TEST(who_makes_the_first_region_publishes_it)
{
    begin(0);
    lks_shm_copy_clear(&copy);
    copy.area = &shared.area;
    shared.size = 3;
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    private = map(0);
    (void)events();
    write_frame(1, 3, 100);
    write_copy(COPY_2, 8, 1);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w136+16248 w16384+16384 w48+48 ");
    ck_assert_int_eq(lks_shm_copy_end_write(&copy), LOCKSTEP_OK);
    lks_shm_copy_clear(&copy);
    /* The same where there is something in it. */
    begin(10);
    lks_shm_copy_clear(&copy);
    copy.area = &shared.area;
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    private = map(0);
    ck_assert_int_eq(memcmp(private, shared.words, LKS_INDEX_REGION_BYTES), 0);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C7: the region of the last frame is mapped when WRITE is had already. */
START_TEST(the_region_that_is_written_on_is_the_base_whenever_it_is_mapped)
{
    uint32_t *second;
    begin(5000);
    shared.size = 2 * LKS_INDEX_REGION_BYTES;
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    second = map(1);
    (void)events();
    second[5000 - 4062] = 77; /* frame 5001 */
    write_copy(COPY_2, 8, 5001);
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "w36520+8 w48+48 ");
    ck_assert_uint_eq(shared.words[LKS_INDEX_REGION_WORDS + 5000 - 4062], 77);
    lks_shm_copy_clear(&copy);
}
END_TEST

START_TEST(where_it_may_not_be_written_it_is_not)
{
    begin(10);
    copy.readonly = true;
    private[MARK_1] = 10;
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_OK);
    check_text(events(), "");
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C9: the words that a writer has not published yet are not overwritten when a reader changes its mark meanwhile. */
START_TEST(while_it_writes_its_hash_words_are_left_alone)
{
    begin(10);
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    write_frame(11, 77, 400);
    shared.words[MARK_2] = 9;
    (void)events();
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    check_text(events(), "r0+136 ");
    ck_assert_uint_eq(private[WORD_OF_FRAME(11)], 77);
    ck_assert_uint_eq(private[MARK_2], 9);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C12: SQLite has read copy 1 by then. */
START_TEST(without_a_lock_the_header_stays_and_what_is_written_back_is_seen)
{
    begin(10);
    memset(shared.words + 3, 1, 4); /* isInit */
    memset(shared.words + 15, 1, 4);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    shared.words[BACKFILLED] = 10;
    ck_assert_int_eq(lks_shm_copy_look(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[BACKFILLED], 10);
    (void)events();
    ck_assert_int_eq(lks_shm_copy_look(&copy), LOCKSTEP_OK);
    check_text(events(), "");
    shared.words[BACKFILLED] = private[BACKFILLED] = copy.shadow[BACKFILLED] = 0;
    commit_of_another();
    shared.words[BACKFILLED] = 11;
    ck_assert_int_eq(lks_shm_copy_look(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[BACKFILLED], 0); /* it is of the other header */
    ck_assert_uint_eq(private[FRAMES], 10);
    ck_assert_uint_eq(private[COPY_2 + FRAMES], 10);
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[FRAMES], 11);
    ck_assert_uint_eq(private[WORD_OF_FRAME(11)], 77);
    lks_shm_copy_clear(&copy);
}
END_TEST

/* C12: SQLite has read copy 1 of a header that was being written, and copy 2 will differ whatever it is. */
START_TEST(without_a_lock_a_header_of_two_is_acquired)
{
    begin(10);
    memset(shared.words + 3, 1, 4); /* isInit */
    memset(shared.words + 15, 1, 4);
    shared.words[COPY_2 + FRAMES] = 11;
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_OK);
    shared.words[FRAMES] = 11;
    shared.words[WORD_OF_FRAME(11)] = 77;
    ck_assert_int_eq(lks_shm_copy_look(&copy), LOCKSTEP_OK);
    ck_assert_uint_eq(private[FRAMES], 11);
    ck_assert_uint_eq(private[WORD_OF_FRAME(11)], 77);
    lks_shm_copy_clear(&copy);
}
END_TEST

START_TEST(what_fails_once_has_failed_for_good)
{
    begin(10);
    shared.fails = true;
    ck_assert_int_eq(lks_shm_copy_acquire(&copy), LOCKSTEP_IOERR);
    ck_assert(copy.failed);
    lks_shm_copy_clear(&copy);
    begin(10);
    ck_assert_int_eq(lks_shm_copy_begin_write(&copy), LOCKSTEP_OK);
    write_copy(COPY_2, 8, 11);
    shared.fails = true;
    ck_assert_int_eq(lks_shm_copy_release(&copy), LOCKSTEP_IOERR);
    ck_assert(copy.failed);
    lks_shm_copy_clear(&copy);
}
END_TEST

/*
 * C10, of the kernel: who has a file mapped never sees part of an aligned piece of 8 bytes that is written by pwrite(), in
 * a small write or in a large one; and pread() never sees part of one, nor of a word that is stored.
 */
#define STORED_AT 512
#define STORED_WORDS 32

static void
write_pieces(int fd, volatile uint32_t *stored)
{
    static uint64_t large[2048];
    for (uint64_t i = 0;; i++) {
        uint64_t value = i % 2 == 0 ? 0 : UINT64_MAX;
        for (size_t k = 0; k < 2048; k++)
            large[k] = value;
        for (size_t k = 0; k < STORED_WORDS; k++)
            stored[k] = (uint32_t)value;
        if (pwrite(fd, &value, sizeof value, 96) != sizeof value || pwrite(fd, large, sizeof large, 16384) != sizeof large)
            _exit(1);
    }
}

static void
check_reads(int fd)
{
    uint64_t head[LKS_INDEX_HEAD_BYTES / 8], pieces[2];
    uint32_t stored[STORED_WORDS];
    ck_assert(pread(fd, head, sizeof head, 0) == sizeof head && pread(fd, pieces, sizeof pieces, 24576) == sizeof pieces &&
              pread(fd, stored, sizeof stored, STORED_AT) == sizeof stored);
    ck_assert_msg((head[12] == 0 || head[12] == UINT64_MAX) && (pieces[0] == 0 || pieces[0] == UINT64_MAX) &&
                      (pieces[1] == 0 || pieces[1] == UINT64_MAX),
                  "%llx %llx %llx", (unsigned long long)head[12], (unsigned long long)pieces[0],
                  (unsigned long long)pieces[1]);
    for (size_t k = 0; k < STORED_WORDS; k++)
        ck_assert_msg(stored[k] == 0 || stored[k] == UINT32_MAX, "%x", stored[k]);
}

START_TEST(a_word_is_never_seen_in_part)
{
    volatile uint64_t *mapped;
    uint64_t small, large, ones = 0, zeros = 0;
    struct timespec t, end;
    pid_t child;
    int fd = open("pieces", O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(ftruncate(fd, LKS_INDEX_REGION_BYTES), 0);
    mapped = mmap(NULL, LKS_INDEX_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(mapped != MAP_FAILED);
    child = fork();
    if (child == 0)
        write_pieces(fd, (volatile uint32_t *)mapped + STORED_AT / 4);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += 400000000;
    do {
        for (int i = 0; i < 1000; i++) {
            small = mapped[12];
            large = mapped[2048 + 1031];
            ck_assert_msg((small == 0 || small == UINT64_MAX) && (large == 0 || large == UINT64_MAX), "%llx %llx",
                          (unsigned long long)small, (unsigned long long)large);
            check_reads(fd);
            ones += small != 0;
            zeros += small == 0;
        }
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while (t.tv_sec < end.tv_sec || (t.tv_sec == end.tv_sec && t.tv_nsec < end.tv_nsec) || ones == 0 || zeros == 0);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    munmap((void *)(uintptr_t)mapped, LKS_INDEX_REGION_BYTES);
    close(fd);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("shm=copy");
    TCase *alone = vfstest_case(suite, "without SQLite");
    tcase_add_test(alone, regions_are_where_sqlite_has_them);
    tcase_add_test(alone, the_head_is_read_before_the_hash_words);
    tcase_add_test(alone, an_unchanged_head_is_all_that_is_read);
    tcase_add_test(alone, only_the_regions_that_a_header_newly_speaks_of_are_read);
    tcase_add_test(alone, hash_words_are_published_before_the_header_and_its_second_copy_before_the_first);
    tcase_add_test(alone, only_the_words_that_were_changed_are_written);
    tcase_add_test(alone, a_writer_takes_no_shortcut);
    tcase_add_test(alone, what_was_rolled_back_is_not_published_and_hides_nothing);
    tcase_add_test(alone, a_later_region_is_published_whole);
    tcase_add_test(alone, after_a_reset_the_first_region_is_published_whole);
    tcase_add_test(alone, who_makes_the_first_region_publishes_it);
    tcase_add_test(alone, the_region_that_is_written_on_is_the_base_whenever_it_is_mapped);
    tcase_add_test(alone, where_it_may_not_be_written_it_is_not);
    tcase_add_test(alone, while_it_writes_its_hash_words_are_left_alone);
    tcase_add_test(alone, without_a_lock_the_header_stays_and_what_is_written_back_is_seen);
    tcase_add_test(alone, without_a_lock_a_header_of_two_is_acquired);
    tcase_add_test(alone, what_fails_once_has_failed_for_good);
    tcase_add_test(alone, a_word_is_never_seen_in_part);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
