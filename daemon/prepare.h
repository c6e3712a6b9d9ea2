/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests that are about to be saved or migrated: parted from all their peers
 * while they still run. PROTOCOL.md, section 5.
 */
#ifndef VMC_PREPARE_H
#define VMC_PREPARE_H

#include "guest.h"

/*
 * Somebody's wish that a guest is, and stays, prepared. The guest goes back to its
 * peers when nobody holds it any more and it runs.
 */
struct vmc_hold {
	TAILQ_ENTRY(vmc_hold) entry;
	struct vmc_guest *guest;	/* NULL: nothing is held (any more) */
	/*
	 * Called once, from the event loop, never from vmc_prepare_hold(): the guest is
	 * prepared (@why is NULL), or can't be, and is not held any more.
	 */
	void (*done)(struct vmc_hold *h, const char *why);
	bool keep;			/* holds the guest also after that, */
	unsigned int seconds;		/* and so long after it holds it, whatever becomes of @h; 0: no longer */
	bool told;
	uint64_t since_ms;
	uint64_t until_ms;		/* to be prepared, else it is not */
};

/* @h is the caller's, until vmc_prepare_release(). Returns 0 or -ENOMEM. */
int vmc_prepare_hold(struct vmc_guest *g, struct vmc_hold *h);
/* May be called at any time, and for a hold that holds nothing. */
void vmc_prepare_release(struct vmc_hold *h);

/* Ends all holds: who still waits for the guest is told that it can't be prepared. */
void vmc_prepare_resume(struct vmc_guest *g);

/* Is it to have no peers now? */
bool vmc_prepare_has(const struct vmc_guest *g);

/* "no", "preparing", "prepared" */
const char *vmc_prepare_state(const struct vmc_guest *g);

/* Looks how far guests are: the deferred step, when channels have come or gone. */
void vmc_prepare_update(struct vmcd *d);

/* @g is being freed. */
void vmc_prepare_forget(struct vmc_guest *g);

#endif /* VMC_PREPARE_H */
