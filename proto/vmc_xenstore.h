/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Names of XenStore nodes; PROTOCOL.md tells who writes each and with which permissions. */
#ifndef VMC_XENSTORE_H
#define VMC_XENSTORE_H

#define VMC_XS_TYPE		"vmc"		/* device type: modalias xen:vmc */
#define VMC_XS_HANDLE		"0"		/* one device in each guest */

/* below the frontend, /local/domain/<domid>/device/vmc/0 */
#define VMC_XS_VERSION_MIN	"protocol-min"	/* decimal */
#define VMC_XS_VERSION_MAX	"protocol-max"
#define VMC_XS_DRIVER		"driver-version"
#define VMC_XS_EVTCHN		"event-channel"
/*
 * Grant references: 0 and 1 the ring that the guest reads (header, data),
 * 2 and 3 the ring that vmcd reads. The guest owns all four pages.
 */
#define VMC_XS_RING_REF		"ring-ref"	/* "ring-ref0" to "ring-ref3" */
#define VMC_LINK_PAGES		4u

/* below the backend, /local/domain/0/backend/vmc/<domid>/0 */
#define VMC_XS_ERROR		"error"		/* why vmcd refused the guest */

#endif /* VMC_XENSTORE_H */
