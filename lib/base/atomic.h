/*
 * Words that threads or processes share.
 *
 * The struct wrappers keep plain access from compiling: every access names its ordering.  Any access
 * that is not relaxed says at the call what it pairs with.
 */
#ifndef LKS_BASE_ATOMIC_H
#define LKS_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lks_a32 {
    _Atomic uint32_t word;
};

struct lks_a64 {
    _Alignas(8) _Atomic uint64_t word;
};

_Static_assert(sizeof(struct lks_a32) == 4 && sizeof(struct lks_a64) == 8, "shared words are bare");

#define LKS_ATOMIC_OPS(NAME, TYPE)                                                              \
    static inline TYPE NAME##_relaxed(const struct NAME *a)                                     \
    {                                                                                           \
        return atomic_load_explicit(&((struct NAME *)(uintptr_t)a)->word, memory_order_relaxed); \
    }                                                                                           \
    static inline TYPE NAME##_acquire(const struct NAME *a)                                     \
    {                                                                                           \
        return atomic_load_explicit(&((struct NAME *)(uintptr_t)a)->word, memory_order_acquire); \
    }                                                                                           \
    static inline TYPE NAME##_seq(const struct NAME *a)                                         \
    {                                                                                           \
        return atomic_load_explicit(&((struct NAME *)(uintptr_t)a)->word, memory_order_seq_cst); \
    }                                                                                           \
    static inline void NAME##_set_relaxed(struct NAME *a, TYPE value)                           \
    {                                                                                           \
        atomic_store_explicit(&a->word, value, memory_order_relaxed);                           \
    }                                                                                           \
    static inline void NAME##_set_release(struct NAME *a, TYPE value)                           \
    {                                                                                           \
        atomic_store_explicit(&a->word, value, memory_order_release);                           \
    }                                                                                           \
    static inline bool NAME##_cas(struct NAME *a, TYPE expected, TYPE value)                    \
    {                                                                                           \
        return atomic_compare_exchange_strong_explicit(&a->word, &expected, value,              \
                                                       memory_order_seq_cst,                    \
                                                       memory_order_relaxed);                   \
    }                                                                                           \
    static inline TYPE NAME##_swap(struct NAME *a, TYPE value)                                  \
    {                                                                                           \
        return atomic_exchange_explicit(&a->word, value, memory_order_seq_cst);                 \
    }                                                                                           \
    static inline TYPE NAME##_add(struct NAME *a, TYPE value)                                   \
    {                                                                                           \
        return atomic_fetch_add_explicit(&a->word, value, memory_order_seq_cst);                \
    }                                                                                           \
    static inline TYPE NAME##_or(struct NAME *a, TYPE bits)                                     \
    {                                                                                           \
        return atomic_fetch_or_explicit(&a->word, bits, memory_order_seq_cst);                  \
    }                                                                                           \
    static inline TYPE NAME##_and(struct NAME *a, TYPE bits)                                    \
    {                                                                                           \
        return atomic_fetch_and_explicit(&a->word, bits, memory_order_seq_cst);                 \
    }                                                                                           \
    static inline void NAME##_max(struct NAME *a, TYPE value)                                   \
    {                                                                                           \
        TYPE seen = NAME##_relaxed(a);                                                          \
        while (seen < value && !NAME##_cas(a, seen, value))                                     \
            seen = NAME##_relaxed(a);                                                           \
    }

LKS_ATOMIC_OPS(lks_a32, uint32_t)
LKS_ATOMIC_OPS(lks_a64, uint64_t)

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LKS_TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define LKS_TSAN 1
#endif

/*
 * A full fence: no load after it is done before a store ahead of it is seen by all.  ThreadSanitizer does
 * not know fences, so there a read-modify-write of one private word stands in.
 */
static inline void
lks_fence(void)
{
#ifdef LKS_TSAN
    static struct lks_a32 stand_in;
    (void)lks_a32_add(&stand_in, 1);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/*
 * The same, right after a seq_cst read-modify-write.  On x86 that is such a fence already; elsewhere it is not: on arm64 a
 * plain load after it may be done before its store is seen, and with it a store ahead of it.
 */
static inline void
lks_fence_after_rmw(void)
{
#if (defined(__x86_64__) || defined(__i386__)) && !defined(LKS_TSAN)
    atomic_signal_fence(memory_order_seq_cst);
#else
    lks_fence();
#endif
}

/* Loads ahead of it are done before loads after it: for "read, then check again". */
static inline void
lks_fence_acquire(void)
{
#ifdef LKS_TSAN
    lks_fence();
#else
    atomic_thread_fence(memory_order_acquire);
#endif
}

/* Stores ahead of it are seen before stores after it. */
static inline void
lks_fence_release(void)
{
#ifdef LKS_TSAN
    lks_fence();
#else
    atomic_thread_fence(memory_order_release);
#endif
}

#endif
