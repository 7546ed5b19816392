#include "shm/chunk.h"

#include "coord/coordtest.h"

START_TEST(only_page_sizes_have_a_geometry)
{
    uint32_t log2;
    for (log2 = 0; log2 < 40; log2++) {
        const struct lks_geometry *g = lks_geometry_of(log2);
        ck_assert_int_eq(g != NULL, log2 >= 9 && log2 <= 16);
        if (g != NULL)
            ck_assert_uint_eq(lks_unit_bytes(g), 1u << log2);
    }
    ck_assert_ptr_null(lks_geometry_of(UINT32_MAX));
}
END_TEST

START_TEST(descriptors_and_data_lie_one_behind_the_other_inside_their_chunk)
{
    struct lockstep_db *db = memory_db(12);
    const struct lks_geometry *g = lks_geometry_of((uint32_t)_i);
    uint32_t block, blocks = lks_chunk_blocks(g, 2), per_chunk = lks_chunk_blocks(g, 1);
    const char *start = (const char *)db->shm + LKS_SHM_BYTES;
    ck_assert_uint_eq(g->chunk_bytes % 4096, 0);
    for (block = 1; block <= blocks; block++) {
        const char *chunk = start + (size_t)((block - 1) / per_chunk) * g->chunk_bytes;
        const char *descriptor = (const char *)lks_chunk_block(db->shm, g, block);
        const char *data = lks_chunk_data(db->shm, g, block);
        uint32_t n = (block - 1) % per_chunk;
        ck_assert_ptr_eq(descriptor, chunk + n * sizeof(struct lks_shm_block));
        ck_assert(descriptor + sizeof(struct lks_shm_block) <= chunk + g->table_bytes);
        ck_assert_ptr_eq(data, chunk + g->table_bytes + (size_t)n * lks_unit_bytes(g));
        ck_assert(data + lks_unit_bytes(g) <= chunk + g->chunk_bytes);
    }
    memory_db_free(db);
}
END_TEST

START_TEST(a_block_exists_once_its_chunk_is_there)
{
    struct lockstep_db *db = memory_db(12);
    const struct lks_geometry *g = lks_geometry_of(12);
    ck_assert(!lks_chunk_has(db->shm, g, 0));
    ck_assert(!lks_chunk_has(db->shm, g, 1));
    ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, db->map_bytes), LOCKSTEP_OK);
    ck_assert(!lks_chunk_has(db->shm, g, 0));
    ck_assert(lks_chunk_has(db->shm, g, 1));
    ck_assert(lks_chunk_has(db->shm, g, 256));
    ck_assert(!lks_chunk_has(db->shm, g, 257));
    ck_assert(!lks_chunk_has(db->shm, g, UINT32_MAX));
    memory_db_free(db);
}
END_TEST

START_TEST(growth_ends_with_the_mapping)
{
    struct lockstep_db *db = memory_db(12);
    const struct lks_geometry *g = lks_geometry_of((uint32_t)_i);
    uint32_t capacity, n;
    size_t map_bytes = lks_chunk_map_bytes(5u << 20);
    capacity = lks_chunk_capacity(g, map_bytes);
    ck_assert_uint_ge(capacity, 5);
    for (n = 0; n < capacity; n++)
        ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, map_bytes), LOCKSTEP_OK);
    ck_assert_uint_le(LKS_SHM_BYTES + (size_t)capacity * g->chunk_bytes, map_bytes);
    ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, map_bytes), LOCKSTEP_FULL);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->state.chunks), capacity);
    memory_db_free(db);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("chunk");
    TCase *tcase = coordtest_case(suite, "chunk");
    tcase_add_test(tcase, only_page_sizes_have_a_geometry);
    tcase_add_loop_test(tcase, descriptors_and_data_lie_one_behind_the_other_inside_their_chunk, 9, 17);
    tcase_add_test(tcase, a_block_exists_once_its_chunk_is_there);
    tcase_add_loop_test(tcase, growth_ends_with_the_mapping, 9, 17);
    return coordtest_main(suite);
}
