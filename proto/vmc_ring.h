/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The byte ring: one producer, one consumer, in memory that the consumer owns.
 *
 * Shared memory is one header page (struct vmc_ring_hdr) followed by 2^n bytes
 * of data. Positions count bytes since the ring began; they are 64 bits wide
 * and never wrap. Each side keeps its own position in private memory (struct
 * vmc_ring_prod, struct vmc_ring_cons), believes only that, and checks what
 * the other side publishes against it.
 *
 * The producer's word is (position << 1) | CLOSED. Either side may set CLOSED,
 * once. The producer moves the position by compare-and-exchange, so a close by
 * the consumer is final and atomic: a commit that loses the race fails, those
 * bytes were never in the ring, and both sides agree on the last position
 * without any message.
 *
 * Sleeping: a side that is about to sleep sets its wait word, issues a full
 * barrier and looks again; the other side, having published, issues a full
 * barrier, takes the wait word with an exchange and notifies if it was set.
 *
 * Errors, as negative errno: -EPIPE the ring is closed; -EPROTO the other side
 * published something impossible. After -EPROTO the ring must not be used.
 *
 * Threads: one at a time for each side; nothing here sleeps or locks.
 */
#ifndef VMC_RING_H
#define VMC_RING_H

#include "vmc_os.h"

#define VMC_PAGE_SIZE		4096u
#define VMC_RING_MIN_SIZE	VMC_PAGE_SIZE
#define VMC_RING_MAX_SIZE	(1u << 22)	/* bytes of data in one ring */

#define VMC_RING_CLOSED_BIT	0
#define VMC_RING_CLOSED		(1ull << VMC_RING_CLOSED_BIT)
#define VMC_RING_POS(word)	((word) >> 1)

struct vmc_ring_hdr {
	/* Written by the producer; CLOSED may be set by the consumer too. */
	__u64 prod;
	/* TCP sequence number at which the segment starts; valid once the position > 0. */
	__u32 boundary;
	/* The producer sleeps until there is space; taken by the consumer. */
	__u32 prod_wait;
	__u8 pad0[112];
	/* Written by the consumer. */
	__u64 cons;
	/* The consumer sleeps until there is data; taken by the producer. */
	__u32 cons_wait;
	__u32 reserved;
	__u8 pad1[112];
};

VMC_ASSERT(sizeof(struct vmc_ring_hdr) == 256, "ring header size");
VMC_ASSERT(__builtin_offsetof(struct vmc_ring_hdr, boundary) == 8, "boundary offset");
VMC_ASSERT(__builtin_offsetof(struct vmc_ring_hdr, prod_wait) == 12, "prod_wait offset");
VMC_ASSERT(__builtin_offsetof(struct vmc_ring_hdr, cons) == 128, "cons offset");
VMC_ASSERT(__builtin_offsetof(struct vmc_ring_hdr, cons_wait) == 136, "cons_wait offset");

struct vmc_ring_prod {
	struct vmc_ring_hdr *hdr;	/* shared */
	__u64 pos;			/* bytes committed */
	__u64 cons;			/* last position the consumer published, checked */
	__u32 size;			/* of the data, a power of two */
	bool closed;			/* CLOSED was seen or set */
};

struct vmc_ring_cons {
	struct vmc_ring_hdr *hdr;	/* shared */
	__u64 cons;			/* bytes consumed */
	__u64 pos;			/* last position the producer published, checked */
	__u32 size;
	bool closed;			/* CLOSED was seen; pos is final */
};

static inline bool vmc_ring_size_ok(__u32 size)
{
	return size >= VMC_RING_MIN_SIZE && size <= VMC_RING_MAX_SIZE &&
	       !(size & (size - 1));
}

static inline void vmc_ring_prod_init(struct vmc_ring_prod *p,
				      struct vmc_ring_hdr *hdr, __u32 size)
{
	*p = (struct vmc_ring_prod){ .hdr = hdr, .size = size };
}

static inline void vmc_ring_cons_init(struct vmc_ring_cons *c,
				      struct vmc_ring_hdr *hdr, __u32 size)
{
	*c = (struct vmc_ring_cons){ .hdr = hdr, .size = size };
}

/* The consumer, the owner of the memory, makes a ring ready for a new life. */
static inline void vmc_ring_reset(struct vmc_ring_hdr *hdr)
{
	vmc_store(&hdr->boundary, 0);
	vmc_store(&hdr->prod_wait, 0);
	vmc_store(&hdr->cons, 0);
	vmc_store(&hdr->cons_wait, 0);
	vmc_store_release(&hdr->prod, 0);
}

/* ------------------------------------------------------------- producer */

/*
 * Bytes that can be written now. Asks the consumer's line only when the cached
 * space is below @want. Returns the space (0 if full), -EPIPE or -EPROTO.
 */
static inline int vmc_ring_prod_space(struct vmc_ring_prod *p, __u32 want)
{
	__u64 cons;

	if (p->closed)
		return -EPIPE;
	if (p->size - (__u32)(p->pos - p->cons) < want) {
		/* pairs with the release in vmc_ring_cons_advance() */
		cons = vmc_load_acquire(&p->hdr->cons);
		if (cons < p->cons || cons > p->pos)
			return -EPROTO;
		p->cons = cons;
	}
	return (int)(p->size - (__u32)(p->pos - p->cons));
}

/*
 * Where the bytes go: the longest run without wrapping, @done bytes after the
 * committed position. The caller must not exceed the space it was told.
 */
static inline __u32 vmc_ring_prod_span(const struct vmc_ring_prod *p, __u32 done,
				       __u32 len, __u32 *off)
{
	*off = (__u32)(p->pos + done) & (p->size - 1);
	return len < p->size - *off ? len : p->size - *off;
}

/*
 * Publishes @len bytes. Returns 0; -EPIPE if the consumer closed the ring
 * first (none of the bytes went in); -EPROTO if the word is not what this
 * producer left there.
 */
static inline int vmc_ring_prod_commit(struct vmc_ring_prod *p, __u32 len)
{
	__u64 old = p->pos << 1, found;

	/* full barrier: the data is visible before the position */
	found = vmc_cmpxchg(&p->hdr->prod, old, (p->pos + len) << 1);
	if (found == old) {
		p->pos += len;
		return 0;
	}
	p->closed = true;
	return found == (old | VMC_RING_CLOSED) ? -EPIPE : -EPROTO;
}

/* Sets the end mark. Idempotent. */
static inline void vmc_ring_prod_close(struct vmc_ring_prod *p)
{
	p->closed = true;
	vmc_set_bit64(&p->hdr->prod, VMC_RING_CLOSED_BIT);
}

/* Has the consumer closed the ring? */
static inline bool vmc_ring_prod_closed(struct vmc_ring_prod *p)
{
	if (vmc_load(&p->hdr->prod) & VMC_RING_CLOSED)
		p->closed = true;
	return p->closed;
}

/*
 * The same question without touching private state, for a poller that does not
 * own the producer's side: is there space for @want bytes, or is the ring closed?
 */
static inline bool vmc_ring_prod_ready(const struct vmc_ring_prod *p, __u32 want)
{
	return vmc_load(&p->hdr->prod) & VMC_RING_CLOSED ||
	       p->size - (__u32)(vmc_load(&p->pos) - vmc_load(&p->hdr->cons)) >= want;
}

/* After a publish: must the consumer be notified? */
static inline bool vmc_ring_prod_notify(struct vmc_ring_prod *p)
{
	vmc_mb();	/* the position before the wait word; pairs with cons_arm */
	return vmc_load(&p->hdr->cons_wait) && vmc_xchg(&p->hdr->cons_wait, 0);
}

/*
 * Before the producer sleeps. Returns true if it must not: there are @want
 * bytes of space, or the ring is closed or broken.
 */
static inline bool vmc_ring_prod_arm(struct vmc_ring_prod *p, __u32 want)
{
	int space;

	vmc_store(&p->hdr->prod_wait, 1);
	vmc_mb();	/* the wait word before the second look; pairs with cons_notify */
	space = vmc_ring_prod_closed(p) ? -EPIPE : vmc_ring_prod_space(p, want);
	return space < 0 || (__u32)space >= want;
}

/* ------------------------------------------------------------- consumer */

/*
 * Bytes that can be read now; 0 if none yet; -EPIPE if the ring is closed and
 * read to its end; -EPROTO.
 */
static inline int vmc_ring_cons_avail(struct vmc_ring_cons *c)
{
	__u64 word, pos;

	if (!c->closed) {
		/* pairs with the full barrier in vmc_ring_prod_commit() */
		word = vmc_load_acquire(&c->hdr->prod);
		pos = VMC_RING_POS(word);
		if (pos < c->pos || pos - c->cons > c->size)
			return -EPROTO;
		c->pos = pos;
		c->closed = word & VMC_RING_CLOSED;
	}
	if (c->pos == c->cons && c->closed)
		return -EPIPE;
	return (int)(c->pos - c->cons);
}

static inline __u32 vmc_ring_cons_span(const struct vmc_ring_cons *c, __u32 done,
				       __u32 len, __u32 *off)
{
	*off = (__u32)(c->cons + done) & (c->size - 1);
	return len < c->size - *off ? len : c->size - *off;
}

/* Gives @len bytes back to the producer. */
static inline void vmc_ring_cons_advance(struct vmc_ring_cons *c, __u32 len)
{
	c->cons += len;
	/* the bytes were read before the producer may overwrite them */
	vmc_store_release(&c->hdr->cons, c->cons);
}

/*
 * After an advance or a close: must the producer be notified? Waits until a
 * good part is free, but not with the news that the ring is closed.
 */
static inline bool vmc_ring_cons_notify(struct vmc_ring_cons *c)
{
	vmc_mb();	/* the position before the wait word; pairs with prod_arm */
	if (!vmc_load(&c->hdr->prod_wait) ||
	    (!c->closed && c->pos - c->cons > c->size / 2))
		return false;
	return vmc_xchg(&c->hdr->prod_wait, 0);
}

/*
 * Before the consumer sleeps, or tells a poller that there is nothing. Returns
 * true if it must not sleep: there is data, or the ring is closed or broken.
 */
static inline bool vmc_ring_cons_arm(struct vmc_ring_cons *c)
{
	vmc_store(&c->hdr->cons_wait, 1);
	vmc_mb();	/* the wait word before the second look; pairs with prod_notify */
	return vmc_ring_cons_avail(c) != 0;
}

/*
 * The two halves of vmc_ring_cons_arm() for a poller that does not own the
 * consumer's side: no private state is changed.
 */
static inline void vmc_ring_cons_wait(const struct vmc_ring_cons *c)
{
	vmc_store(&c->hdr->cons_wait, 1);
	vmc_mb();
}

/* Are @want bytes there, or is the ring closed? */
static inline bool vmc_ring_cons_ready(const struct vmc_ring_cons *c, __u32 want)
{
	__u64 word = vmc_load(&c->hdr->prod);

	return word & VMC_RING_CLOSED || VMC_RING_POS(word) - vmc_load(&c->cons) >= want;
}

/* The consumer is busy reading again and needs no notification. */
static inline void vmc_ring_cons_disarm(struct vmc_ring_cons *c)
{
	if (vmc_load(&c->hdr->cons_wait))
		vmc_store(&c->hdr->cons_wait, 0);
}

/*
 * One-sided close by the consumer: one atomic operation, whatever the producer
 * does. After it pos is final. Returns 0 or -EPROTO.
 */
static inline int vmc_ring_cons_close(struct vmc_ring_cons *c)
{
	vmc_set_bit64(&c->hdr->prod, VMC_RING_CLOSED_BIT);
	if (vmc_ring_cons_avail(c) == -EPROTO)
		return -EPROTO;
	/* a producer that clears the bit again would keep the position moving */
	return c->closed ? 0 : -EPROTO;
}

/* ------------------------------------------- whole messages, linear data */

/* Copies @len bytes after @done uncommitted ones; the caller has checked the space. */
static inline void vmc_ring_put(const struct vmc_ring_prod *p, void *data,
				__u32 done, const void *buf, __u32 len)
{
	__u32 off, n = vmc_ring_prod_span(p, done, len, &off);

	memcpy((__u8 *)data + off, buf, n);
	memcpy(data, (const __u8 *)buf + n, len - n);
}

/* Copies @len bytes that start @done bytes after the read position; no advance. */
static inline void vmc_ring_get(const struct vmc_ring_cons *c, const void *data,
				__u32 done, void *buf, __u32 len)
{
	__u32 off, n = vmc_ring_cons_span(c, done, len, &off);

	memcpy(buf, (const __u8 *)data + off, n);
	memcpy((__u8 *)buf + n, data, len - n);
}

#endif /* VMC_RING_H */
