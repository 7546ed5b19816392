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
    /* Its first client names what is in the file; until then it has no name. */
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.app_format[0]), 0);
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.app_format[1]), 0);
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

/* The checksum of header.c. */
static void
seal(struct lks_shm_identity *identity)
{
    const unsigned char *p = (const unsigned char *)identity;
    size_t i;
    identity->checksum = 2166136261u;
    for (i = 0; i < offsetof(struct lks_shm_identity, checksum); i++)
        identity->checksum = (identity->checksum ^ p[i]) * 16777619u;
}

START_TEST(another_kind_of_build_is_told_by_its_name)
{
    struct lks_shm_identity *identity;
    db = memory_db(12);
    identity = &db->shm->identity;
    ck_assert(lks_header_is_of_boot(db->shm, boot));
    identity->word_bits = sizeof(long) == 8 ? 32 : 64;
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_DAMAGED);
    seal(identity);
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_WORD_BITS);
    ck_assert_ptr_nonnull(strstr(lks_header_words(LKS_HEADER_WORD_BITS),
                                 sizeof(long) == 8 ? "by a 32-bit build" : "by a 64-bit build"));
    /* As the other machine's numbers look here. */
    identity->byte_order = 0x04030201;
    identity->format = LKS_SHM_FORMAT << 24;
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_BYTE_ORDER);
    ck_assert(lks_header_foreign(LKS_HEADER_BYTE_ORDER) && lks_header_foreign(LKS_HEADER_WORD_BITS) &&
              lks_header_foreign(LKS_HEADER_FORMAT) && !lks_header_foreign(LKS_HEADER_DAMAGED));
    identity->byte_order = 0x01020305;
    ck_assert_int_eq(check(LKS_SHM_BYTES), LKS_HEADER_FORMAT);
    identity->boot_id[0]++;
    ck_assert(!lks_header_is_of_boot(db->shm, boot));
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
    tcase_add_test(tcase, another_kind_of_build_is_told_by_its_name);
    return coordtest_main(suite);
}
