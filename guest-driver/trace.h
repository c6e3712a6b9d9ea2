/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: when a direction of a connection becomes local, and why it is not. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vmc

#if !defined(VMC_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VMC_TRACE_H

#include <linux/tracepoint.h>

#include "vmc_wire.h"

/* What we send on this connection goes through a ring of domain @peer from now on. */
TRACE_EVENT(vmc_local,
	TP_PROTO(const struct vmc_tuple *tuple, u32 peer, u32 ring, u32 size),
	TP_ARGS(tuple, peer, ring, size),
	TP_STRUCT__entry(
		__array(u8, saddr, 16)
		__array(u8, daddr, 16)
		__field(u16, sport)
		__field(u16, dport)
		__field(u32, peer)
		__field(u32, ring)
		__field(u32, size)
	),
	TP_fast_assign(
		memcpy(__entry->saddr, tuple->saddr, 16);
		memcpy(__entry->daddr, tuple->daddr, 16);
		__entry->sport = ntohs(tuple->sport);
		__entry->dport = ntohs(tuple->dport);
		__entry->peer = peer;
		__entry->ring = ring;
		__entry->size = size;
	),
	TP_printk("%pI6c.%u > %pI6c.%u peer %u ring %u bytes %u",
		  __entry->saddr, __entry->sport, __entry->daddr, __entry->dport,
		  __entry->peer, __entry->ring, __entry->size)
);

/* A connection is not, or no more, local; the name as in `vmcctl show`. */
TRACE_EVENT(vmc_fallback,
	TP_PROTO(const struct vmc_tuple *tuple, const char *reason),
	TP_ARGS(tuple, reason),
	TP_STRUCT__entry(
		__array(u8, saddr, 16)
		__array(u8, daddr, 16)
		__field(u16, sport)
		__field(u16, dport)
		__array(char, reason, 16)
	),
	TP_fast_assign(
		memcpy(__entry->saddr, tuple->saddr, 16);
		memcpy(__entry->daddr, tuple->daddr, 16);
		__entry->sport = ntohs(tuple->sport);
		__entry->dport = ntohs(tuple->dport);
		strscpy(__entry->reason, reason, sizeof(__entry->reason));
	),
	TP_printk("%pI6c.%u > %pI6c.%u reason %s",
		  __entry->saddr, __entry->sport, __entry->daddr, __entry->dport,
		  __entry->reason)
);

#endif /* VMC_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
