#include "shm/header.h"

#include <string.h>

#include "coord/coordtest.h"

static struct lockstep_db *db;
static const struct lks_file_id id = {1, 2};
static char boot[LKS_BOOT_ID_SIZE] = "boot";

static enum lks_header_verdict
check(uint64_t bytes)
{
    return lks_header_check(db->shm, bytes, &id, boot);
}

START_TEST(a_new_one_is_good_and_has_one_commit)
{
    db = memory_db(13);
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_GOOD);
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.committed), 1);
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.flushed), 1);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->state.unit_log2), 13);
}
END_TEST

START_TEST(every_byte_of_the_identity_matters)
{
    size_t i;
    db = memory_db(12);
    for (i = 0; i < offsetof(struct lks_shm_identity, reserved); i++) {
        unsigned char *byte = (unsigned char *)&db->shm->identity + i;
        *byte ^= 0x40;
        ck_assert_msg(check(LKS_SHM_BYTES) != LKS_HEADER_GOOD, "byte %zu", i);
        *byte ^= 0x40;
    }
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_GOOD);
}
END_TEST

START_TEST(a_short_one_is_damaged_and_an_empty_one_empty)
{
    db = memory_db(12);
    ck_assert_int_eq(check(0), LKS_HEADER_EMPTY);
    ck_assert_int_eq(check(1), LKS_HEADER_DAMAGED);
    ck_assert_int_eq(check(sizeof(struct lks_shm_identity) - 1), LKS_HEADER_DAMAGED);
    ck_assert_int_eq(check(sizeof(struct lks_shm_identity)), LKS_HEADER_DAMAGED);
    ck_assert_int_eq(check(LKS_SHM_BYTES - 1), LKS_HEADER_DAMAGED);
    memset(&db->shm->identity, 0, sizeof db->shm->identity);
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_EMPTY);
}
END_TEST

START_TEST(another_boot_another_file_and_another_format_are_told_apart)
{
    const struct lks_file_id other_device = {9, 2}, other_inode = {1, 9};
    db = memory_db(12);
    ck_assert_int_eq(lks_header_check(db->shm, LKS_SHM_BYTES, &other_device, boot), LKS_HEADER_OTHER_FILE);
    ck_assert_int_eq(lks_header_check(db->shm, LKS_SHM_BYTES, &other_inode, boot), LKS_HEADER_OTHER_FILE);
    boot[0] = 'c';
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_OTHER_BOOT);
    boot[0] = 'b';
    db->shm->identity.format++;
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_FORMAT);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("header");
    TCase *tcase = coordtest_case(suite, "header");
    tcase_add_test(tcase, a_new_one_is_good_and_has_one_commit);
    tcase_add_test(tcase, every_byte_of_the_identity_matters);
    tcase_add_test(tcase, a_short_one_is_damaged_and_an_empty_one_empty);
    tcase_add_test(tcase, another_boot_another_file_and_another_format_are_told_apart);
    return coordtest_main(suite);
}
