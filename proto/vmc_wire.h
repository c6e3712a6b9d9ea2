/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Messages: on the link between a guest and vmcd (VMC_L_*), and on the control
 * ring between two guests (VMC_C_*). PROTOCOL.md tells when each is sent and
 * what the answer is; this header fixes the bytes.
 *
 * All integers are little-endian; all padding is explicit and zero. A message
 * is its struct vmc_msg followed by its body; vmc_msg.len covers both and has
 * to be the legal length for its type (vmc_msg_len_ok()).
 *
 * Changes:
 *   1  first version
 */
#ifndef VMC_WIRE_H
#define VMC_WIRE_H

#include "vmc_os.h"
#include "vmc_ring.h"

#define VMC_PROTO_MIN		1u
#define VMC_PROTO_MAX		1u

#define VMC_MSG_MAX		296u	/* bytes, header included */
#define VMC_VERSION_LEN		32u	/* printable, NUL-terminated */
#define VMC_MACS_MAX		4u	/* vifs of a guest that a peer is told */
#define VMC_RINGS_MAX		1024u	/* rings that one guest owns on one channel */
#define VMC_CHANNELS_MAX	256u	/* channels of one guest */
#define VMC_GREFS_PER_MSG	32u
#define VMC_RING_PAGES_MAX	65u	/* header page + 256 KiB of data */

/* A ring that carries messages: one header page and one page of data. */
#define VMC_MSG_RING_SIZE	VMC_PAGE_SIZE
#define VMC_MSG_RING_PAGES	2u

struct vmc_msg {
	__u16 type;
	__u16 len;
	__u32 id;	/* VMC_L_CHAN_*: channel; VMC_L_STATS*: query; VMC_C_*: see each; else 0 */
};
VMC_ASSERT(sizeof(struct vmc_msg) == 8, "message header");

enum vmc_reason {	/* why something is not, or no longer, local */
	VMC_R_NONE = 0,
	VMC_R_NO_PEER,		/* the far address belongs to no co-resident peer */
	VMC_R_NO_CHANNEL,	/* no channel to the peer yet */
	VMC_R_POLICY,		/* vmcd does not allow the pair */
	VMC_R_NO_SOCKET,	/* the peer has no socket with this tuple */
	VMC_R_NOT_READY,	/* the peer's socket cannot move yet (not accepted) */
	VMC_R_PROOF,		/* the fingerprint does not match */
	VMC_R_NO_MEMORY,	/* memory or its limit */
	VMC_R_NO_GRANTS,	/* grant references or their limit */
	VMC_R_NO_PORT,		/* event channels */
	VMC_R_FOREIGN_USER,	/* kTLS, MPTCP, SMC, sockmap or an in-kernel user owns the socket */
	VMC_R_SOCKOPT,		/* a socket option or call that only TCP can serve */
	VMC_R_OOB,		/* urgent data */
	VMC_R_SHUTDOWN,		/* shutdown or close */
	VMC_R_PEER_CLOSED,	/* the reader closed its ring */
	VMC_R_PEER_GONE,	/* the peer left or crashed */
	VMC_R_UNLOAD,		/* the driver is being unloaded */
	VMC_R_PROTOCOL,		/* the peer broke the protocol */
	VMC_R_VERSION,		/* no common protocol version */
	VMC_R_MAP,		/* a foreign page could not be mapped */
	VMC_R_LIMIT,		/* a fixed limit of the protocol */
	VMC_R_PREPARE,		/* one of the two is about to be saved or migrated */
	VMC_R_TIMEOUT,
	VMC_R_IDLE,		/* no traffic: the ring was given back */
	VMC_R_GROW,		/* a larger ring is asked for */
	VMC_R_STALLED,		/* the reader does not read: TCP has room besides the ring */
	VMC_R_OPERATOR,		/* somebody with the right to do so said so */
	VMC_R_MAX
};

/* Short names, stable, used in JSON and tables. */
#define VMC_REASON_NAMES {						\
	"none", "no-peer", "no-channel", "policy", "no-socket",	\
	"not-ready", "proof", "no-memory", "no-grants", "no-port",	\
	"foreign-user", "sockopt", "oob", "shutdown", "peer-closed",	\
	"peer-gone", "unload", "protocol", "version", "map", "limit",	\
	"prepare", "timeout", "idle", "grow", "stalled",		\
	"operator" }

/* ------------------------------------------------------------- the link */

enum vmc_link_type {
	/* vmcd to guest */
	VMC_L_ATTACH		= 0x0001,
	VMC_L_PEER_ADD		= 0x0002,
	VMC_L_PEER_DEL		= 0x0003,
	VMC_L_SETTINGS		= 0x0004,
	VMC_L_CHAN_PREPARE	= 0x0010,
	VMC_L_CHAN_CONNECT	= 0x0011,
	VMC_L_CHAN_COMPLETE	= 0x0012,
	VMC_L_CHAN_CLOSE	= 0x0013,	/* both ways */
	VMC_L_STATS_REQ		= 0x0020,

	/* guest to vmcd */
	VMC_L_HELLO		= 0x8001,
	VMC_L_CHAN_STATE	= 0x8002,
	VMC_L_READY		= 0x8003,
	VMC_L_BYE		= 0x8004,
	VMC_L_CHAN_REQ		= 0x8010,
	VMC_L_CHAN_OFFER	= 0x8011,
	VMC_L_CHAN_ACCEPT	= 0x8012,
	VMC_L_CHAN_UP		= 0x8013,
	VMC_L_CHAN_CLOSED	= 0x8014,
	VMC_L_STATS_CHAN	= 0x8020,
	VMC_L_STATS_END		= 0x8021,
};

/* vmcd speaks first, also after it was restarted (then epoch differs). */
struct vmc_l_attach {
	struct vmc_msg h;
	__u32 version;		/* chosen from the guest's XenStore range */
	__u32 features;
	__u64 epoch;		/* of this vmcd process */
	__u32 domid;		/* the guest's own */
	__u32 reserved;
};
VMC_ASSERT(sizeof(struct vmc_l_attach) == 32, "ATTACH");

/* Which packets go through packet rings. */
enum vmc_packets {
	VMC_PACKETS_OFF = 0,
	VMC_PACKETS_UDP,	/* UDP */
	VMC_PACKETS_ALL,	/* any unicast IP */
};
#define VMC_PACKETS_NAMES	{ "off", "udp", "all" }

/*
 * What the host lets the guest use at most; all ones where it sets no limit. The
 * driver's own may be lower. Counts from when it comes on; nothing is taken back.
 */
struct vmc_l_settings {
	struct vmc_msg h;
	__u64 max_bytes;	/* that it grants to other guests */
	__u32 max_grants;	/* references for that */
	__u32 max_rings;	/* that it owns, of streams */
	__u32 ring_bytes;	/* in the largest of them */
	__u32 poll_us;		/* microseconds to look for data before sleeping */
	__u32 packets;		/* enum vmc_packets */
	__u32 reserved;
};
VMC_ASSERT(sizeof(struct vmc_l_settings) == 40, "SETTINGS");

struct vmc_l_hello {
	struct vmc_msg h;
	__u64 epoch;		/* echoed */
	__u32 version;
	__u32 features;
	__u32 channels;		/* CHAN_STATE messages that follow before READY */
	__u32 reserved;
	char driver[VMC_VERSION_LEN];
};
VMC_ASSERT(sizeof(struct vmc_l_hello) == 64, "HELLO");

/* A channel that survived vmcd; h.id is its number. */
struct vmc_l_chan_state {
	struct vmc_msg h;
	__u32 peer;		/* domid */
	__u32 state;		/* enum vmc_chan_state */
};
VMC_ASSERT(sizeof(struct vmc_l_chan_state) == 16, "CHAN_STATE");

enum vmc_chan_state {
	VMC_CHAN_NONE = 0,
	VMC_CHAN_OPENING,
	VMC_CHAN_UP,
	VMC_CHAN_CLOSING,
};

struct vmc_l_ready {
	struct vmc_msg h;
};

struct vmc_l_bye {
	struct vmc_msg h;
};

struct vmc_l_peer_add {
	struct vmc_msg h;
	__u32 domid;
	__u32 nr_macs;		/* 1 to VMC_MACS_MAX */
	__u8 mac[VMC_MACS_MAX][6];
	__u64 reserved;
};
VMC_ASSERT(sizeof(struct vmc_l_peer_add) == 48, "PEER_ADD");

struct vmc_l_peer_del {
	struct vmc_msg h;
	__u32 domid;
	__u32 reason;
};
VMC_ASSERT(sizeof(struct vmc_l_peer_del) == 16, "PEER_DEL");

/* A guest has traffic for @peer and no channel. */
struct vmc_l_chan_req {
	struct vmc_msg h;
	__u32 peer;
	__u32 reserved;
};
VMC_ASSERT(sizeof(struct vmc_l_chan_req) == 16, "CHAN_REQ");

/* To the first side: allocate a control ring and a port for @peer, then CHAN_OFFER. */
struct vmc_l_chan_prepare {
	struct vmc_msg h;
	__u32 peer;
	__u32 reserved;
};
VMC_ASSERT(sizeof(struct vmc_l_chan_prepare) == 16, "CHAN_PREPARE");

/*
 * One side's half of a channel: the grant references of the control ring that
 * it reads, and (first side only) the event-channel port it allocated.
 * CHAN_OFFER: first side to vmcd. CHAN_CONNECT: vmcd to the second side.
 * CHAN_ACCEPT: second side to vmcd. CHAN_COMPLETE: vmcd to the first side.
 */
struct vmc_l_chan_half {
	struct vmc_msg h;
	__u32 peer;		/* the other side, as the receiver of the message sees it */
	__u32 port;
	__u32 ring_ref[VMC_MSG_RING_PAGES];
};
VMC_ASSERT(sizeof(struct vmc_l_chan_half) == 24, "channel half");

struct vmc_l_chan_up {
	struct vmc_msg h;
};

struct vmc_l_chan_close {	/* CHAN_CLOSE and CHAN_CLOSED */
	struct vmc_msg h;
	__u32 peer;
	__u32 reason;		/* enum vmc_reason */
};
VMC_ASSERT(sizeof(struct vmc_l_chan_close) == 16, "CHAN_CLOSE");

struct vmc_l_stats_req {
	struct vmc_msg h;
};

/* One for each channel; h.id is the query's. */
struct vmc_l_stats_chan {
	struct vmc_msg h;
	__u32 chan;
	__u32 peer;
	__u32 state;		/* enum vmc_chan_state */
	__u32 tx_streams;	/* directions in local mode now */
	__u32 rx_streams;
	__u32 rings;		/* owned by this guest for this channel */
	__u32 grants;		/* grant references in use for it */
	__u32 reserved;
	__u64 bytes_granted;	/* of this guest's memory */
	__u64 tx_bytes;		/* through shared memory */
	__u64 rx_bytes;
	__u64 events_tx;	/* notifications sent */
	__u64 events_rx;
	__u64 takeovers;	/* directions that went local so far */
	__u64 ended;		/* directions that went back to TCP so far */
	__u64 tx_packets;	/* through a packet ring */
	__u64 rx_packets;
	__u64 tx_dropped;	/* no room for them, or no memory to wait in */
	__u64 rx_dropped;	/* no memory for them, or not what the peer may send */
};
VMC_ASSERT(sizeof(struct vmc_l_stats_chan) == 128, "STATS_CHAN");

#define VMC_STATS_REASONS	32u
struct vmc_l_stats_end {
	struct vmc_msg h;
	__u32 sockets;		/* hooked now */
	__u32 reserved;
	__u64 hooked;		/* sockets looked at and taken, so far */
	__u64 bytes_granted;	/* in all, link and control rings included */
	__u32 grants;		/* in all */
	__u32 mapped;		/* foreign pages mapped now */
	__u64 reasons[VMC_STATS_REASONS];	/* fallbacks, by enum vmc_reason */
};
VMC_ASSERT(sizeof(struct vmc_l_stats_end) == 296, "STATS_END");
VMC_ASSERT((unsigned int)VMC_R_MAX <= VMC_STATS_REASONS, "room for every reason");

/* ------------------------------------------------- between two guests */

enum vmc_chan_type {
	VMC_C_OFFER	= 0x4001,	/* writer: take over my direction of this connection */
	VMC_C_ACCEPT	= 0x4002,	/* reader: write into this ring */
	VMC_C_REJECT	= 0x4003,	/* reader: stay on TCP */
	VMC_C_RING_ADD	= 0x4010,	/* owner: a new ring's grant references */
	VMC_C_RING_DEL	= 0x4011,	/* owner: unmap it */
	VMC_C_RING_GONE	= 0x4012,	/* writer: unmapped (or never mapped) */
	VMC_C_DONE	= 0x4013,	/* writer: no longer touches the ring; it can be reused */
	VMC_C_PKT_OPEN	= 0x4020,	/* writer: I have packets for you */
	VMC_C_PKT_RING	= 0x4021,	/* owner: write them into this ring */
	VMC_C_PKT_NONE	= 0x4022,	/* owner: no */
	VMC_C_ADDR_ASK	= 0x4023,	/* writer: may I send from this address? */
	VMC_C_ADDR_OK	= 0x4024,	/* owner: yes */
	VMC_C_ADDR_NO	= 0x4025,	/* owner: not now, or no more */
	VMC_C_ADDR_LIVE	= 0x4026,	/* owner: your mark came over the network */
};

#define VMC_PROOF_LEN	16u
#define VMC_NONCE_LEN	16u

/*
 * The connection as the sender of the message sees it. IPv4 addresses are
 * written v4-mapped (::ffff:a.b.c.d). Addresses and ports in network order.
 */
struct vmc_tuple {
	__u8 saddr[16];
	__u8 daddr[16];
	__be16 sport;
	__be16 dport;
};
VMC_ASSERT(sizeof(struct vmc_tuple) == 36, "tuple");

/*
 * What is hashed (keyed BLAKE2s, 16 bytes out) to prove possession of one end.
 * The key is the pair of initial sequence numbers, the opener's first, as the
 * passive side derives them; they never leave the guest.
 */
struct vmc_proof_input {
	__u8 kind;		/* 1: OFFER, 2: ACCEPT */
	__u8 opener;		/* 1 if the prover opened the connection */
	__u16 zero;
	__u32 offer_id;
	__u32 ring_id;		/* ACCEPT; 0 in OFFER */
	struct vmc_tuple tuple;	/* the opener's address is saddr */
	__u8 nonce[VMC_NONCE_LEN];	/* the writer's, from its OFFER */
};
VMC_ASSERT(sizeof(struct vmc_proof_input) == 64, "proof input");

struct vmc_proof_key {
	__u32 opener_iss;
	__u32 passive_iss;
};
VMC_ASSERT(sizeof(struct vmc_proof_key) == 8, "proof key");

struct vmc_c_offer {
	struct vmc_msg h;	/* id: chosen by the writer, echoed in the answer */
	struct vmc_tuple tuple;	/* saddr: the writer's */
	__u32 want_bytes;	/* ring size that would suit; a hint */
	__u8 nonce[VMC_NONCE_LEN];
	__u8 proof[VMC_PROOF_LEN];
};
VMC_ASSERT(sizeof(struct vmc_c_offer) == 80, "OFFER");

struct vmc_c_accept {
	struct vmc_msg h;	/* id: the offer's */
	__u32 ring_id;
	__u32 zero;
	__u8 proof[VMC_PROOF_LEN];
};
VMC_ASSERT(sizeof(struct vmc_c_accept) == 32, "ACCEPT");

struct vmc_c_reject {
	struct vmc_msg h;	/* id: the offer's */
	__u32 reason;
	__u32 zero;
};
VMC_ASSERT(sizeof(struct vmc_c_reject) == 16, "REJECT");

/* One or more for each ring, in order; the ring is usable when all pages are known. */
struct vmc_c_ring_add {
	struct vmc_msg h;	/* id: the ring's, below VMC_RINGS_MAX */
	__u16 pages;		/* of the ring in all, header page included: 2^n + 1 */
	__u16 first;		/* index of ref[0] */
	__u16 count;		/* references in this message */
	__u16 zero;
	__u32 ref[VMC_GREFS_PER_MSG];	/* unused ones are 0 */
};
VMC_ASSERT(sizeof(struct vmc_c_ring_add) == 144, "RING_ADD");

struct vmc_c_ring {		/* RING_DEL, RING_GONE, DONE */
	struct vmc_msg h;	/* id: the ring's */
};

/* A writer has packets and no ring for them; one question at a time. */
struct vmc_c_pkt_open {
	struct vmc_msg h;	/* id: chosen by the writer, echoed in the answer */
	__u32 want_bytes;	/* ring size that would suit; a hint */
	__u32 zero;
};
VMC_ASSERT(sizeof(struct vmc_c_pkt_open) == 16, "PKT_OPEN");

struct vmc_c_pkt_answer {	/* PKT_RING, PKT_NONE */
	struct vmc_msg h;	/* id: the question's */
	__u32 ring_id;		/* PKT_NONE: 0 */
	__u32 reason;		/* PKT_RING: 0 */
};
VMC_ASSERT(sizeof(struct vmc_c_pkt_answer) == 16, "PKT_RING, PKT_NONE");

/* ADDR_ASK: packets from @addr would come in @slot, and come over the network now. */
struct vmc_c_addr_ask {
	struct vmc_msg h;	/* id: of the question, echoed in answers and in the mark */
	__u32 slot;		/* below VMC_PKT_SOURCES; what was there before is gone */
	__u32 zero;
	__u8 addr[16];		/* IPv4: v4-mapped */
};
VMC_ASSERT(sizeof(struct vmc_c_addr_ask) == 32, "ADDR_ASK");

struct vmc_c_addr_answer {	/* ADDR_OK, ADDR_NO, ADDR_LIVE */
	struct vmc_msg h;	/* id: the question's */
	__u32 slot;
	__u32 reason;		/* ADDR_NO, else 0 */
};
VMC_ASSERT(sizeof(struct vmc_c_addr_answer) == 16, "ADDR answers");

/*
 * The mark: an Ethernet frame to the peer behind the last packet that goes over the
 * network. Where it has come, they have, if both vifs have one queue. The rest of the
 * frame is zero.
 */
#define VMC_MARK_ETHERTYPE	0x88b5u	/* IEEE 802, local experimental */
struct vmc_mark {
	__u8 magic[4];		/* "VMC1" */
	__be32 chan;		/* the channel's id */
	__be32 id;		/* of the ADDR_ASK */
	__be32 slot;
	__be32 queues;		/* of the vif that sends it */
};
VMC_ASSERT(sizeof(struct vmc_mark) == 20, "mark");
#define VMC_MARK_MAGIC		"VMC1"

/*
 * The first page of a control ring: the ring's header, then the doorbells of
 * its reader. A writer that has news for ring n sets bit n, then exchanges
 * @rung; only if that was 0 it notifies the event channel. The reader
 * exchanges @rung to 0 before it collects the bits.
 *   data:  a ring owned by the reader of this page has data or was closed
 *   space: a ring owned by the other side has space or was closed
 */
struct vmc_chan_page {
	struct vmc_ring_hdr ring;
	__u32 rung;
	__u32 reserved[63];
	__u64 data[VMC_RINGS_MAX / 64];
	__u64 space[VMC_RINGS_MAX / 64];
};
VMC_ASSERT(sizeof(struct vmc_chan_page) == 256 + 256 + 2 * 128, "channel page");

/* ---------------------------------------------------------- legal lengths */

/* Returns whether @len is the length that a message of @type has. */
static inline bool vmc_msg_len_ok(__u16 type, __u16 len)
{
	switch (type) {
	case VMC_L_ATTACH:		return len == sizeof(struct vmc_l_attach);
	case VMC_L_SETTINGS:		return len == sizeof(struct vmc_l_settings);
	case VMC_L_PEER_ADD:		return len == sizeof(struct vmc_l_peer_add);
	case VMC_L_PEER_DEL:		return len == sizeof(struct vmc_l_peer_del);
	case VMC_L_CHAN_PREPARE:	return len == sizeof(struct vmc_l_chan_prepare);
	case VMC_L_CHAN_CONNECT:
	case VMC_L_CHAN_COMPLETE:
	case VMC_L_CHAN_OFFER:
	case VMC_L_CHAN_ACCEPT:		return len == sizeof(struct vmc_l_chan_half);
	case VMC_L_CHAN_CLOSE:
	case VMC_L_CHAN_CLOSED:		return len == sizeof(struct vmc_l_chan_close);
	case VMC_L_HELLO:		return len == sizeof(struct vmc_l_hello);
	case VMC_L_CHAN_STATE:		return len == sizeof(struct vmc_l_chan_state);
	case VMC_L_CHAN_REQ:		return len == sizeof(struct vmc_l_chan_req);
	case VMC_L_STATS_CHAN:		return len == sizeof(struct vmc_l_stats_chan);
	case VMC_L_STATS_END:		return len == sizeof(struct vmc_l_stats_end);
	case VMC_L_STATS_REQ:
	case VMC_L_READY:
	case VMC_L_BYE:
	case VMC_L_CHAN_UP:
	case VMC_C_RING_DEL:
	case VMC_C_RING_GONE:
	case VMC_C_DONE:		return len == sizeof(struct vmc_msg);
	case VMC_C_OFFER:		return len == sizeof(struct vmc_c_offer);
	case VMC_C_ACCEPT:		return len == sizeof(struct vmc_c_accept);
	case VMC_C_REJECT:		return len == sizeof(struct vmc_c_reject);
	case VMC_C_RING_ADD:		return len == sizeof(struct vmc_c_ring_add);
	case VMC_C_PKT_OPEN:		return len == sizeof(struct vmc_c_pkt_open);
	case VMC_C_PKT_RING:
	case VMC_C_PKT_NONE:		return len == sizeof(struct vmc_c_pkt_answer);
	case VMC_C_ADDR_ASK:		return len == sizeof(struct vmc_c_addr_ask);
	case VMC_C_ADDR_OK:
	case VMC_C_ADDR_NO:
	case VMC_C_ADDR_LIVE:		return len == sizeof(struct vmc_c_addr_answer);
	default:			return false;
	}
}

union vmc_any_msg {
	struct vmc_msg h;
	__u8 raw[VMC_MSG_MAX];
	struct vmc_l_attach attach;
	struct vmc_l_hello hello;
	struct vmc_l_chan_state chan_state;
	struct vmc_l_settings settings;
	struct vmc_l_peer_add peer_add;
	struct vmc_l_peer_del peer_del;
	struct vmc_l_chan_req chan_req;
	struct vmc_l_chan_prepare chan_prepare;
	struct vmc_l_chan_half chan_half;
	struct vmc_l_chan_close chan_close;
	struct vmc_l_stats_chan stats_chan;
	struct vmc_l_stats_end stats_end;
	struct vmc_c_offer offer;
	struct vmc_c_accept accept;
	struct vmc_c_reject reject;
	struct vmc_c_ring_add ring_add;
	struct vmc_c_pkt_open pkt_open;
	struct vmc_c_pkt_answer pkt_answer;
	struct vmc_c_addr_ask addr_ask;
	struct vmc_c_addr_answer addr_answer;
};
VMC_ASSERT(sizeof(union vmc_any_msg) == VMC_MSG_MAX, "largest message");

/*
 * Puts one message into a message ring whose data are at @data. Returns 0,
 * -EAGAIN if there is no room now, or the ring's error.
 */
static inline int vmc_msg_put(struct vmc_ring_prod *p, void *data,
			      const struct vmc_msg *m)
{
	int space = vmc_ring_prod_space(p, m->len);

	if (space < 0)
		return space;
	if (space < m->len)
		return -EAGAIN;
	vmc_ring_put(p, data, 0, m, m->len);
	return vmc_ring_prod_commit(p, m->len);
}

/*
 * Takes one whole message out of a message ring into private memory. Returns
 * its length; 0 if there is none; -EPIPE at the end of a closed ring; -EPROTO
 * for an unknown type, an illegal length or an impossible index.
 */
static inline int vmc_msg_get(struct vmc_ring_cons *c, const void *data,
			      union vmc_any_msg *m)
{
	int avail = vmc_ring_cons_avail(c);
	struct vmc_msg h;

	if (avail <= 0)
		return avail;
	if ((__u32)avail < sizeof(h))
		return -EPROTO;
	vmc_ring_get(c, data, 0, &h, sizeof(h));
	vmc_barrier();
	if (h.len > avail || !vmc_msg_len_ok(h.type, h.len))
		return -EPROTO;
	/* the body is fetched after the checked header, never the header again */
	m->h = h;
	vmc_ring_get(c, data, sizeof(h), m->raw + sizeof(h), h.len - (__u32)sizeof(h));
	vmc_ring_cons_advance(c, h.len);
	return h.len;
}

#endif /* VMC_WIRE_H */
