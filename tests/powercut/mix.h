/* Numbers that look random and follow from a seed: splitmix64, https://prng.di.unimi.it/splitmix64.c */
#ifndef TESTS_POWERCUT_MIX_H
#define TESTS_POWERCUT_MIX_H

#include <stdint.h>

static inline uint64_t
mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t
mix_next(uint64_t *state)
{
    return mix((*state)++);
}

#endif
