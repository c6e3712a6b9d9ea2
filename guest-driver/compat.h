/* SPDX-License-Identifier: GPL-2.0-only */
/* The only place that knows kernel versions: one name for what differs between them. */
#ifndef VMC_COMPAT_H
#define VMC_COMPAT_H

#include <linux/fs.h>
#include <linux/netdevice.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <net/sock.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif

static inline void vmc_napi_add(struct net_device *dev, struct napi_struct *napi,
				int (*poll)(struct napi_struct *napi, int budget))
{
	netif_napi_add(dev, napi, poll);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)

/* A device that only carries NAPI instances. */
static inline struct net_device *vmc_dummy_dev_alloc(void)
{
	return alloc_netdev_dummy(0);
}

static inline void vmc_dummy_dev_free(struct net_device *dev)
{
	free_netdev(dev);
}

#else

static inline struct net_device *vmc_dummy_dev_alloc(void)
{
	struct net_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (dev)
		init_dummy_netdev(dev);
	return dev;
}

static inline void vmc_dummy_dev_free(struct net_device *dev)
{
	kfree(dev);
}

#endif

/* Do programs or filters see what goes out of the device? Inside RCU. */
static inline bool vmc_dev_has_egress(const struct net_device *dev)
{
#ifdef CONFIG_NETFILTER_EGRESS
	if (rcu_access_pointer(dev->nf_hooks_egress))
		return true;
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0) && defined(CONFIG_NET_XGRESS)
	return rcu_access_pointer(dev->tcx_egress);
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0) && defined(CONFIG_NET_CLS_ACT)
	return rcu_access_pointer(dev->miniq_egress);
#else
	return false;
#endif
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)

/* proto.ioctl stores its answer in kernel memory; sendpage became MSG_SPLICE_PAGES. */
typedef int *vmc_ioctl_arg_t;

static inline int vmc_ioctl_answer(vmc_ioctl_arg_t arg, int val)
{
	*arg = val;
	return 0;
}

#define vmc_splice_read_by_copy	copy_splice_read

#else

#define VMC_HAVE_SENDPAGE	1

typedef unsigned long vmc_ioctl_arg_t;

static inline int vmc_ioctl_answer(vmc_ioctl_arg_t arg, int val)
{
	return put_user(val, (int __user *)arg);
}

#define vmc_splice_read_by_copy	generic_file_splice_read

#endif

#endif /* VMC_COMPAT_H */
