/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The few things that the shared code needs from its surroundings: fixed-width
 * types, static assertions and ordered accesses to memory that a peer can
 * write at any time. Every access to shared memory in proto/ goes through
 * these macros, so each value is read exactly once.
 */
#ifndef VMC_OS_H
#define VMC_OS_H

#ifdef __KERNEL__

#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/sync_bitops.h>

#define VMC_ASSERT(expr, msg)	static_assert(expr, msg)

#define vmc_load(p)		READ_ONCE(*(p))
#define vmc_load_acquire(p)	smp_load_acquire(p)
#define vmc_store(p, v)		WRITE_ONCE(*(p), (v))
#define vmc_store_release(p, v)	smp_store_release((p), (v))
#define vmc_xchg(p, v)		xchg((p), (v))
/*
 * A guest with one vCPU patches the lock prefix out of its ordinary atomics,
 * but the peer runs on another CPU all the same: the sync_ forms keep it.
 */
#define vmc_cmpxchg(p, o, n)	sync_cmpxchg((p), (o), (n))
/* Sets bit @bit of the naturally aligned 64-bit word at @p; a full barrier. */
#define vmc_set_bit64(p, bit)	sync_set_bit((bit), (unsigned long *)(p))
/* A full barrier that orders against another domain too. */
#define vmc_mb()		virt_mb()
/* What was copied from shared memory before is not fetched again after. */
#define vmc_barrier()		barrier()

#else /* userspace */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <linux/types.h>

#ifndef __aligned
#define __aligned(n)		__attribute__((aligned(n)))
#endif

#define VMC_ASSERT(expr, msg)	_Static_assert(expr, msg)

#define vmc_load(p)		__atomic_load_n((p), __ATOMIC_RELAXED)
#define vmc_load_acquire(p)	__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define vmc_store(p, v)		__atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define vmc_store_release(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define vmc_xchg(p, v)		__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
/* Returns the value found, like the kernel's cmpxchg(). */
#define vmc_cmpxchg(p, o, n)						\
	__extension__({							\
		__typeof__(*(p)) vmc_cx_old = (o);			\
		__atomic_compare_exchange_n((p), &vmc_cx_old, (n), 0,	\
					    __ATOMIC_SEQ_CST,		\
					    __ATOMIC_SEQ_CST);		\
		vmc_cx_old;						\
	})
#define vmc_set_bit64(p, bit)						\
	((void)__atomic_fetch_or((p), 1ull << (bit), __ATOMIC_SEQ_CST))
#define vmc_mb()		__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define vmc_barrier()		__asm__ __volatile__("" ::: "memory")

#endif
#endif /* VMC_OS_H */
