/* SPDX-License-Identifier: GPL-2.0-only */
/* The only place that knows kernel versions: one name for what differs between them. */
#ifndef VMC_COMPAT_H
#define VMC_COMPAT_H

#include <linux/fs.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <net/sock.h>

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
