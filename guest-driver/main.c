// SPDX-License-Identifier: GPL-2.0-only
/* VMC guest driver: module parameters, start and end. */
#include <linux/module.h>
#include <xen/xen.h>

#include "vmc.h"

unsigned int vmc_ring_kb = 256;
unsigned int vmc_first_ring_kb = 16;

/* Both are sizes of a ring. */
static int vmc_set_ring_kb(const char *val, const struct kernel_param *kp)
{
	unsigned int kb;
	int err = kstrtouint(val, 0, &kb);

	if (err)
		return err;
	if (!vmc_ring_size_ok(kb << 10) || kb > (VMC_RING_PAGES_MAX - 1) * 4)
		return -EINVAL;
	return param_set_uint(val, kp);
}

static const struct kernel_param_ops vmc_ring_kb_ops = {
	.set = vmc_set_ring_kb,
	.get = param_get_uint,
};
module_param_cb(ring_kb, &vmc_ring_kb_ops, &vmc_ring_kb, 0644);
MODULE_PARM_DESC(ring_kb, "KiB of data in a ring for bulk traffic, a power of two from 4 to 256 (default 256)");
module_param_cb(first_ring_kb, &vmc_ring_kb_ops, &vmc_first_ring_kb, 0644);
MODULE_PARM_DESC(first_ring_kb, "KiB of data in a ring for small messages, a power of two from 4 to 256 (default 16)");

unsigned int vmc_idle_s = 5;
module_param_named(idle_s, vmc_idle_s, uint, 0644);
MODULE_PARM_DESC(idle_s, "seconds without traffic after which a stream gives its ring back, 0 for never (default 5)");

unsigned int vmc_min_calls = 4;
module_param_named(min_calls, vmc_min_calls, uint, 0644);
MODULE_PARM_DESC(min_calls, "send calls after which a connection is offered a ring (default 4)");

unsigned int vmc_min_bytes = 16384;
module_param_named(min_bytes, vmc_min_bytes, uint, 0644);
MODULE_PARM_DESC(min_bytes, "or bytes sent after which it is (default 16384)");

unsigned int vmc_poll_us = 200;
module_param_named(poll_us, vmc_poll_us, uint, 0644);
MODULE_PARM_DESC(poll_us, "longest time in microseconds to look for data before sleeping; it adapts below that, 0 never polls (default 200)");

unsigned int vmc_max_grants = 8192;
module_param_named(max_grants, vmc_max_grants, uint, 0644);
MODULE_PARM_DESC(max_grants, "grant references in use at most; the grant table is shared with network and disk (default 8192)");

unsigned int vmc_max_mb;
module_param_named(max_mb, vmc_max_mb, uint, 0644);
MODULE_PARM_DESC(max_mb, "MiB of memory shared with peers at most, 0 for an eighth of RAM (default 0)");

struct vmc_host_limits vmc_host = VMC_HOST_NO_LIMITS;
unsigned int vmc_packets = VMC_PACKETS_UDP;
static unsigned int vmc_packets_wanted = VMC_PACKETS_UDP;
static DEFINE_MUTEX(vmc_packets_mutex);
static bool vmc_running;
static const char *const vmc_packets_name[] = VMC_PACKETS_NAMES;

static void vmc_packets_change(struct vmc_chan *ch, void *unused)
{
	WRITE_ONCE(ch->tx_end_packets, true);
	WRITE_ONCE(ch->rx_end_packets, true);
	vmc_chan_queue(ch);
}

static void vmc_packets_update(void)
{
	unsigned int now = min(READ_ONCE(vmc_packets_wanted), READ_ONCE(vmc_host.packets));

	lockdep_assert_held(&vmc_packets_mutex);
	if (xchg(&vmc_packets, now) == now || !READ_ONCE(vmc_running))
		return;
	/* what is in rings now goes back to the network first */
	vmc_link_for_each_chan(vmc_packets_change, NULL);
	vmc_vif_update();
}

/* Counts for what comes; of what there is only packets are stopped. Process context. */
void vmc_host_allows(const struct vmc_host_limits *limits)
{
	mutex_lock(&vmc_packets_mutex);
	WRITE_ONCE(vmc_host.bytes, limits->bytes);
	WRITE_ONCE(vmc_host.grants, limits->grants);
	WRITE_ONCE(vmc_host.streams, limits->streams);
	WRITE_ONCE(vmc_host.ring_bytes, limits->ring_bytes);
	WRITE_ONCE(vmc_host.poll_us, limits->poll_us);
	WRITE_ONCE(vmc_host.packets, limits->packets);
	vmc_packets_update();
	mutex_unlock(&vmc_packets_mutex);
}

static int vmc_set_packets(const char *val, const struct kernel_param *kp)
{
	int i = sysfs_match_string(vmc_packets_name, val);

	if (i < 0)
		return i;
	mutex_lock(&vmc_packets_mutex);
	vmc_packets_wanted = i;
	vmc_packets_update();
	mutex_unlock(&vmc_packets_mutex);
	return 0;
}

static int vmc_get_packets(char *val, const struct kernel_param *kp)
{
	return sysfs_emit(val, "%s\n", vmc_packets_name[vmc_packets_wanted]);
}

static const struct kernel_param_ops vmc_packets_ops = {
	.set = vmc_set_packets,
	.get = vmc_get_packets,
};
module_param_cb(packets, &vmc_packets_ops, NULL, 0644);
MODULE_PARM_DESC(packets, "which packets go through shared memory: udp, all unicast IP, or off (default udp)");

bool vmc_leaving;
struct workqueue_struct *vmc_wq;
atomic64_t vmc_reasons[VMC_R_MAX];

#ifdef VMC_JITTER
void vmc_jitter(void)
{
	u64 end;

	might_sleep();
	if (get_random_u32() % 3)
		return;
	end = local_clock() + get_random_u32() % (12 * NSEC_PER_MSEC);
	while (local_clock() < end) {
		cond_resched();
		udelay(5);
	}
}

void vmc_jitter_atomic(void)
{
	u64 end = local_clock() + 3 * NSEC_PER_MSEC;

	if (get_random_u32() % 2)
		while (local_clock() < end)
			cpu_relax();
}
#endif

#ifdef VMC_HOSTILE
static unsigned int vmc_hostile;
module_param_named(hostile, vmc_hostile, uint, 0644);
MODULE_PARM_DESC(hostile,
		 "for tests: 1 to 5, how to lie to peers in packet rings; 6, keep channels; 0 not at all");

bool vmc_hostile_keeps(void)
{
	return READ_ONCE(vmc_hostile) == 6;
}

void vmc_hostile_header(struct vmc_pkt *pkt)
{
	switch (READ_ONCE(vmc_hostile)) {
	case 1:		/* a source that nobody has agreed to */
		pkt->source = VMC_PKT_SOURCES - 1;
		break;
	case 2:		/* longer than what is there */
		pkt->len = VMC_PKT_MAX;
		break;
	case 3:		/* garbage */
		pkt->flags = get_random_u32();
		pkt->gso_size = get_random_u32();
		pkt->zero[1] = get_random_u32();
		break;
	}
}

void vmc_hostile_packet(struct vmc_chan *ch)
{
	const struct vmc_txring *t = ch->ptx.ring;
	unsigned int i;
	u32 off;

	switch (READ_ONCE(vmc_hostile)) {
	case 4:		/* somebody else's address */
		vmc_ring_prod_span(&t->prod, sizeof(struct vmc_pkt) + 15, 1, &off);
		((u8 *)vmc_foreign_va(&t->map, 1 + off / PAGE_SIZE))[off % PAGE_SIZE] ^= 0x55;
		break;
	case 5:		/* events without end */
		for (i = 0; i < 1000; i++) {
			vmc_xchg(&ch->out_page->rung, 0);
			vmc_chan_bell_data(ch, t->id);
		}
		break;
	}
}
#endif

static int __init vmc_init(void)
{
	int err;

	if (!xen_domain())
		return -ENODEV;
	/* what peers and Dom0 wait for must not wait behind the guest's own load */
	vmc_wq = alloc_workqueue("vmc", WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 0);
	if (!vmc_wq)
		return -ENOMEM;
	err = vmc_pkt_rx_setup();
	if (err)
		goto no_packets;
	vmc_tcp_init();
	err = vmc_conn_init();
	if (err)
		goto no_conn;
	err = vmc_link_init();
	if (err)
		goto no_link;
	vmc_status_init();
	WRITE_ONCE(vmc_running, true);
	return 0;

no_link:
	WRITE_ONCE(vmc_leaving, true);
	vmc_conn_exit();
	vmc_conn_stop_scan();
no_conn:
	vmc_pkt_rx_exit();
no_packets:
	destroy_workqueue(vmc_wq);
	return err;
}

static void __exit vmc_exit(void)
{
	WRITE_ONCE(vmc_leaving, true);
	vmc_status_exit();
	vmc_vif_update();
	/* sockets first, while the peers can still hear of it; then the channels */
	vmc_conn_exit();
	vmc_link_exit();
	vmc_conn_stop_scan();	/* the link may have asked for one meanwhile */
	vmc_tx_exit();
	vmc_mem_exit();
	vmc_pkt_rx_exit();
	destroy_workqueue(vmc_wq);
	rcu_barrier();
}

module_init(vmc_init);
module_exit(vmc_exit);

MODULE_DESCRIPTION("VMC: shared-memory TCP between guests of one Xen host");
MODULE_AUTHOR("The VMC authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(VMC_VERSION);
MODULE_ALIAS("xen:vmc");
#ifdef VMC_JITTER
MODULE_INFO(jitter, "Y");
#endif
#ifdef VMC_HOSTILE
MODULE_INFO(hostile, "Y");
#endif
