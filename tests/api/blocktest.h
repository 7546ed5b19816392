/* What the tests of blocks share: a database with a list of blocks, one connection to it, and short calls on that. */
#ifndef TESTS_API_BLOCKTEST_H
#define TESTS_API_BLOCKTEST_H

#include "api/enginetest.h"

#define ROOT 100
#define SIZE 512
/* The file of 10000 bytes is 20 blocks, which are the application's. */
#define FIRST 20

extern struct lockstep_db *db;
extern struct lockstep_conn *conn;

/* Opens both, and commits an empty list of blocks of SIZE at ROOT. */
void make_list(void);
void close_all(void);

/* A block for the transaction under way, as lockstep_conn_block_alloc() gives it. */
uint64_t take(uint64_t below);
/* The one that a transaction of its own would get now; it is rolled back. */
uint64_t would_take(void);
/* Waits until that commit is durable. */
void durable(uint64_t ticket);
struct lockstep_block_info info(void);

/* What a walk has come by; it is ended after so many, 0: not. */
struct walked {
    uint64_t blocks[2000], freed[2000];
    int count, stop_after;
};
/* For lockstep_conn_block_walk(), with a struct walked. */
int note(void *arg, uint64_t block, uint64_t freed);
struct walked walk(int reverse);

#endif
