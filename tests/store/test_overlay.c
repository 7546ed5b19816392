/*
 * A file as it would be if it were written: compared with an array that is, and the file stays as it is.
 *
 * Made to fail by: not clearing the pieces' ends in lks_overlay_resize(); leaving file_bytes as it is there; reading the
 * file where there is a piece; a table that is not made larger.
 */
#include "store/overlay.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coord/coordtest.h"

#define LIMIT 400000u
#define STEPS 3000

static void
compare(struct lks_overlay *overlay, const unsigned char *model, uint64_t size, uint64_t at, size_t bytes)
{
    static unsigned char got[70000];
    size_t n = 0, want = at >= size ? 0 : size - at < bytes ? (size_t)(size - at) : bytes;
    ck_assert_uint_eq(lks_overlay_size(overlay), size);
    ck_assert_int_eq(lks_overlay_read(overlay, at, got, bytes, &n), LOCKSTEP_OK);
    ck_assert_uint_eq(n, want);
    ck_assert_mem_eq(got, model + at, n);
}

START_TEST(it_reads_as_a_file_would_and_writes_nothing)
{
    static unsigned char model[2 * LIMIT], before[10000], after[10000], data[70000];
    struct lks_overlay *overlay = NULL;
    uint64_t size = sizeof before;
    unsigned seed = (unsigned)_i;
    int fd = open("db", O_RDWR | O_CLOEXEC), step;
    size_t i;
    for (i = 0; i < sizeof before; i++)
        before[i] = (unsigned char)rand_r(&seed);
    ck_assert_int_eq(pwrite(fd, before, sizeof before, 0), (ssize_t)sizeof before);
    memcpy(model, before, sizeof before);
    close(fd);
    fd = open("db", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(lks_overlay_new(fd, &overlay), LOCKSTEP_OK);
    for (step = 0; step < STEPS; step++) {
        uint64_t at = (uint64_t)rand_r(&seed) % (rand_r(&seed) % 2 ? 12000 : LIMIT);
        size_t bytes = (size_t)rand_r(&seed) % (rand_r(&seed) % 8 ? 5000 : sizeof data);
        switch (rand_r(&seed) % 8) {
        case 0:
            if (at < size)
                memset(model + at, 0, (size_t)(size - at));
            size = at;
            lks_overlay_resize(overlay, size);
            break;
        case 1:
        case 2:
        case 3:
            memset(data, rand_r(&seed), bytes);
            memcpy(model + at, data, bytes);
            if (bytes > 0 && at + bytes > size)
                size = at + bytes;
            ck_assert_int_eq(lks_overlay_write(overlay, at, data, bytes), LOCKSTEP_OK);
            break;
        default: compare(overlay, model, size, at, bytes); break;
        }
    }
    for (i = 0; i < size; i += 60000)
        compare(overlay, model, size, i, 60000);
    lks_overlay_free(overlay);
    ck_assert_int_eq(pread(fd, after, sizeof after, 0), (ssize_t)sizeof after);
    ck_assert_mem_eq(after, before, sizeof before);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)sizeof before);
    close(fd);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("overlay");
    TCase *tcase = coordtest_case(suite, "overlay");
    tcase_add_loop_test(tcase, it_reads_as_a_file_would_and_writes_nothing, 1, 6);
    return coordtest_main(suite);
}
