// SPDX-License-Identifier: GPL-2.0-only
/* What can be seen from outside: counters for vmcd, and a file in debugfs. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#define CREATE_TRACE_POINTS
#include "trace.h"
#include "vmc.h"

static struct dentry *vmc_debugfs;

const char *const vmc_reason_name[VMC_R_MAX] = VMC_REASON_NAMES;

/* @conn is not, or no more, local; NULL if it is not known which. */
void vmc_fallback(const struct vmc_conn *conn, enum vmc_reason why)
{
	static const struct vmc_tuple unknown;

	vmc_count(why);
	trace_vmc_fallback(conn ? &conn->tuple : &unknown, vmc_reason_name[why]);
}

void vmc_status_fill_chan(struct vmc_l_stats_chan *m, struct vmc_chan *ch)
{
	unsigned int id;

	m->chan = ch->id;
	m->peer = ch->domid;
	m->state = ch->state;
	m->tx_streams = atomic_read(&ch->tx_streams);
	m->rx_streams = atomic_read(&ch->rx_streams);
	m->rings = READ_ONCE(ch->rx_rings);
	m->grants = READ_ONCE(ch->in.granted);
	rcu_read_lock();
	for (id = 0; id < VMC_RINGS_MAX; id++) {
		struct vmc_rxring *r = rcu_dereference(ch->rx[id]);

		if (r)
			m->grants += READ_ONCE(r->mem.granted);
	}
	rcu_read_unlock();
	m->bytes_granted = (u64)m->grants << PAGE_SHIFT;
	m->tx_bytes = atomic64_read(&ch->tx_bytes);
	m->rx_bytes = atomic64_read(&ch->rx_bytes);
	m->events_tx = atomic64_read(&ch->events_tx);
	m->events_rx = atomic64_read(&ch->events_rx);
	m->takeovers = atomic64_read(&ch->takeovers);
	m->ended = atomic64_read(&ch->ended);
	m->tx_packets = atomic64_read(&ch->ptx.packets);
	m->rx_packets = atomic64_read(&ch->prx.packets);
	m->tx_dropped = atomic64_read(&ch->ptx.dropped);
	m->rx_dropped = atomic64_read(&ch->prx.dropped);
}

void vmc_status_fill_end(struct vmc_l_stats_end *m)
{
	unsigned int i;

	m->sockets = atomic_read(&vmc_nr_conns);
	m->hooked = atomic64_read(&vmc_nr_hooked);
	m->bytes_granted = atomic64_read(&vmc_bytes);
	m->grants = atomic_read(&vmc_grants);
	m->mapped = atomic_read(&vmc_mapped);
	for (i = 0; i < VMC_R_MAX; i++)
		m->reasons[i] = atomic64_read(&vmc_reasons[i]);
}

static void vmc_status_chan(struct vmc_chan *ch, void *arg)
{
	struct vmc_l_stats_chan m = {};
	struct seq_file *s = arg;

	vmc_status_fill_chan(&m, ch);
	seq_printf(s,
		   "channel %u peer %u state %u tx_streams %u rx_streams %u rings %u grants %u tx_bytes %llu rx_bytes %llu events_tx %llu events_rx %llu takeovers %llu ended %llu tx_packets %llu rx_packets %llu tx_dropped %llu rx_dropped %llu\n",
		   m.chan, m.peer, m.state, m.tx_streams, m.rx_streams, m.rings, m.grants,
		   m.tx_bytes, m.rx_bytes, m.events_tx, m.events_rx, m.takeovers, m.ended,
		   m.tx_packets, m.rx_packets, m.tx_dropped, m.rx_dropped);
}

static int vmc_status_show(struct seq_file *s, void *unused)
{
	struct vmc_l_stats_end m = {};
	unsigned int i;

	vmc_status_fill_end(&m);
	seq_printf(s, "sockets %u\nhooked %llu\nbytes %llu\ngrants %u\nmapped %u\npeers %d\n",
		   m.sockets, m.hooked, m.bytes_granted, m.grants, m.mapped,
		   atomic_read(&vmc_nr_peers));
	for (i = 0; i < VMC_R_MAX; i++)
		if (m.reasons[i])
			seq_printf(s, "reason %s %llu\n", vmc_reason_name[i], m.reasons[i]);
	vmc_link_for_each_chan(vmc_status_chan, s);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vmc_status);

static void vmc_status_conn(struct vmc_conn *conn, void *arg)
{
	const struct vmc_tuple *t = &conn->tuple;
	struct vmc_txring *tx;
	struct vmc_rxring *rx;

	tx = rcu_dereference(conn->tx);
	rx = rcu_dereference(conn->rx);
	seq_printf(arg,
		   "%pI6c:%u %pI6c:%u tx %u%s ring %d pos %llu rx %u ring %d read %llu word %llx wait %u poll_ns %u %u\n",
		   t->saddr, ntohs(t->sport), t->daddr, ntohs(t->dport), conn->tx_state,
		   conn->tx_never ? " never" : "", tx ? (int)tx->id : -1,
		   tx ? tx->prod.pos : 0, conn->rx_state, rx ? (int)rx->id : -1,
		   rx ? rx->cons.cons : 0, rx ? vmc_load(&rx->cons.hdr->prod) : 0,
		   rx ? vmc_load(&rx->cons.hdr->cons_wait) : 0, conn->rx_poll.ns,
		   conn->tx_poll.ns);
}

static int vmc_sockets_show(struct seq_file *s, void *unused)
{
	vmc_conn_for_each(vmc_status_conn, s);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vmc_sockets);

static void vmc_status_packets(struct vmc_chan *ch, void *arg)
{
	struct seq_file *s = arg;

	seq_printf(s, "channel %u peer %u\n", ch->id, ch->domid);
	vmc_pkt_tx_show(ch, s);
	vmc_pkt_rx_show(ch, s);
}

static int vmc_packets_show(struct seq_file *s, void *unused)
{
	vmc_link_for_each_chan(vmc_status_packets, s);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vmc_packets);

static void vmc_switch_rx_packets(struct vmc_chan *ch, void *unused)
{
	WRITE_ONCE(ch->rx_end_packets, true);
	vmc_chan_queue(ch);
}

static void vmc_switch_rx(struct vmc_conn *conn, void *unused)
{
	vmc_rx_close(conn);
}

static void vmc_switch_tx(struct vmc_chan *ch, void *unused)
{
	WRITE_ONCE(ch->tx_end_all, true);
	WRITE_ONCE(ch->tx_end_packets, true);
	vmc_chan_queue(ch);
}

/* "tx" or "rx": everything goes back to the network, by its writer or by its reader. */
static ssize_t vmc_switch_write(struct file *file, const char __user *user, size_t len,
				loff_t *pos)
{
	char word[8];

	if (len >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, user, len))
		return -EFAULT;
	word[len] = 0;
	if (sysfs_streq(word, "rx")) {
		vmc_conn_for_each(vmc_switch_rx, NULL);
		vmc_link_for_each_chan(vmc_switch_rx_packets, NULL);
	} else if (sysfs_streq(word, "tx")) {
		vmc_link_for_each_chan(vmc_switch_tx, NULL);
	} else {
		return -EINVAL;
	}
	return len;
}

static const struct file_operations vmc_switch_fops = {
	.owner = THIS_MODULE,
	.write = vmc_switch_write,
};

void vmc_status_init(void)
{
	vmc_debugfs = debugfs_create_dir("vmc", NULL);
	debugfs_create_file("status", 0400, vmc_debugfs, NULL, &vmc_status_fops);
	debugfs_create_file("sockets", 0400, vmc_debugfs, NULL, &vmc_sockets_fops);
	debugfs_create_file("packets", 0400, vmc_debugfs, NULL, &vmc_packets_fops);
	debugfs_create_file("switch", 0200, vmc_debugfs, NULL, &vmc_switch_fops);
}

void vmc_status_exit(void)
{
	debugfs_remove_recursive(vmc_debugfs);
}
