/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Packets in a ring: whole IP packets, each behind a struct vmc_pkt, each record
 * padded to 8 bytes. One producer, one consumer; vmc_ring.h has the rules.
 *
 * The producer commits whole records. The consumer copies the header to private
 * memory, checks it there, and never looks at it again; the packet itself is only
 * bytes until the consumer's IP stack has checked them.
 */
#ifndef VMC_PACKET_H
#define VMC_PACKET_H

#include "vmc_ring.h"

#define VMC_PKT_MIN		20u	/* bytes of an IPv4 header */
#define VMC_PKT_MAX		65575u	/* of an IPv6 header and 65,535 behind it */
#define VMC_PKT_ALIGN		8u
#define VMC_PKT_SOURCES		32u	/* source addresses that one guest may use on a channel */
/* In a ring's boundary when its writer closes it: what has not been read is void. */
#define VMC_PKT_FORGET		1u
#define VMC_PKT_UDP_SEGS_MAX	128u	/* datagrams in one packet */
#define VMC_PKT_TCP_MSS_MIN	500u	/* bytes of a segment in a packet of many */

enum vmc_pkt_flags {
	VMC_PKT_CSUM_BLANK	= 1 << 0,	/* transport checksum: only the pseudo header's */
	VMC_PKT_CSUM_GOOD	= 1 << 1,	/* the sender's own stack computed it */
	VMC_PKT_GSO_UDP		= 1 << 2,	/* datagrams of gso_size, the last may be shorter */
	VMC_PKT_GSO_TCP		= 1 << 3,	/* segments of gso_size bytes */
	VMC_PKT_FLAGS		= (1 << 4) - 1,
};

struct vmc_pkt {
	__u32 len;		/* bytes of the packet, VMC_PKT_MIN to VMC_PKT_MAX */
	__u16 source;		/* slot of its source address, below VMC_PKT_SOURCES */
	__u16 flags;
	__u16 gso_size;		/* with a GSO flag, else 0 */
	__u16 zero[3];
};
VMC_ASSERT(sizeof(struct vmc_pkt) == 16, "packet header");

/* Bytes that a packet of @len takes in a ring. */
static inline __u32 vmc_pkt_room(__u32 len)
{
	return (__u32)sizeof(struct vmc_pkt) +
	       ((len + VMC_PKT_ALIGN - 1) & ~(VMC_PKT_ALIGN - 1));
}

/* Does the header make sense by itself? */
static inline bool vmc_pkt_ok(const struct vmc_pkt *p)
{
	__u32 gso = p->flags & (VMC_PKT_GSO_UDP | VMC_PKT_GSO_TCP);

	if (p->len < VMC_PKT_MIN || p->len > VMC_PKT_MAX || p->source >= VMC_PKT_SOURCES ||
	    p->flags & ~VMC_PKT_FLAGS || p->zero[0] || p->zero[1] || p->zero[2])
		return false;
	if (!gso)
		return !p->gso_size;
	/* what is segmented gets its checksums then */
	if (!(p->flags & VMC_PKT_CSUM_BLANK) || p->gso_size >= p->len)
		return false;
	if (gso == VMC_PKT_GSO_UDP)
		return p->gso_size && p->len / p->gso_size <= VMC_PKT_UDP_SEGS_MAX;
	return gso == VMC_PKT_GSO_TCP && p->gso_size >= VMC_PKT_TCP_MSS_MIN;
}

/*
 * Looks at the next packet: its header goes to *@p. Returns its length, 0 if there
 * is none, -EPIPE at the end of a closed ring, -EPROTO for one that can't be. The
 * packet is read by vmc_ring_get() from sizeof(*p) on and given back by
 * vmc_pkt_advance().
 */
static inline int vmc_pkt_get(struct vmc_ring_cons *c, const void *data, struct vmc_pkt *p)
{
	int avail = vmc_ring_cons_avail(c);

	if (avail <= 0)
		return avail;
	if ((__u32)avail < sizeof(*p))
		return -EPROTO;
	vmc_ring_get(c, data, 0, p, sizeof(*p));
	vmc_barrier();		/* from here on *p is what there is */
	if (!vmc_pkt_ok(p) || vmc_pkt_room(p->len) > (__u32)avail)
		return -EPROTO;
	return (int)p->len;
}

static inline void vmc_pkt_advance(struct vmc_ring_cons *c, const struct vmc_pkt *p)
{
	vmc_ring_cons_advance(c, vmc_pkt_room(p->len));
}

#endif /* VMC_PACKET_H */
