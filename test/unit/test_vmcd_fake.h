/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A Xen host in memory, and guests that play the driver's part with the real
 * ring code. A test makes a host, adds domains, starts vmcd in it, and looks at
 * what the guests were told.
 */
#ifndef TEST_VMCD_FAKE_H
#define TEST_VMCD_FAKE_H

#include "test.h"

#include "vmc_wire.h"
#include "vmcd.h"

#include <event2/event.h>

#define FAKE_GUESTS	16

struct fake_guest {
	struct fake *host;
	uint32_t domid;
	bool used;
	struct vmc_dominfo info;
	uint8_t *pages;			/* VMC_LINK_PAGES, one after the other */
	uint32_t ref;			/* of the first */
	uint32_t port;			/* the guest's */
	uint32_t local_port;		/* vmcd's, 0: not bound */
	bool masked;
	bool pending;
	unsigned int rung;		/* notifications to the guest */
	unsigned int mapped;		/* mappings of its pages that are held */
	uint32_t lent_to;		/* a domain that has mapped so many of its pages, by its grant table */
	unsigned int lent;
	struct vmc_ring_cons cons;
	struct vmc_ring_prod prod;
	uint64_t epoch;			/* in the last ATTACH */
	bool minds_settings;		/* fg_recv() hands out SETTINGS, too; else it takes note of them, */
	struct vmc_l_settings settings;	/* the last ones, h.type 0 if there were none */
};

struct fake {
	struct vmc_xen xen;
	struct event_base *base;
	struct vmcd *d;
	struct fake_guest guest[FAKE_GUESTS];
	struct fake_store *store;
	uint32_t next_port;
	unsigned int tx_conflicts;	/* commits that will fail */
	int map_error;			/* for all maps, if set */
	int bind_error;
	int list_error;
	int watch_error;
	bool store_dead;
};

struct fake *fake_new(void);
void fake_free(struct fake *f);

/* Starts and stops vmcd in the host; what was in XenStore and memory stays. */
void fake_start(struct fake *f);
void fake_stop(struct fake *f);

/* Lets vmcd do all it can without waiting; fake_run() also lets timers pass. */
void fake_settle(struct fake *f);
void fake_run(struct fake *f, unsigned int ms);

/* --- what Dom0 does */
/* A domain with its home in XenStore and no vif. */
struct fake_guest *fake_domain(struct fake *f, uint32_t domid, const char *name);
void fake_vif(struct fake *f, uint32_t domid, unsigned int handle, const char *mac,
	      const char *bridge);
void fake_vif_remove(struct fake *f, uint32_t domid, unsigned int handle);
/* The domain is destroyed: its home, its vifs and its memory go. */
void fake_destroy(struct fake_guest *g);
void fake_introduce_event(struct fake *f);
void fake_release_event(struct fake *f);
/* A domain with one vif on xenbr0 whose MAC ends in its domid. */
struct fake_guest *fake_vm(struct fake *f, uint32_t domid);

/* --- XenStore, as root */
void fake_write(struct fake *f, const char *path, const char *value);
void fake_write_raw(struct fake *f, const char *path, const char *value, size_t len);
void fake_rm(struct fake *f, const char *path);
/* NULL if there is no such node. Valid until the next call. */
const char *fake_read(struct fake *f, const char *path);
/* "n3,r0" */
const char *fake_perms(struct fake *f, const char *path);
unsigned int fake_watches(struct fake *f);

/* --- what a guest's driver does */
const char *fg_front(struct fake_guest *g, const char *node);
const char *fg_back(struct fake_guest *g, const char *node);
void fg_write(struct fake_guest *g, const char *node, const char *value);
/* New pages and a new port, published; state is left alone. */
void fg_publish(struct fake_guest *g);
/* fg_publish() and state 4. */
void fg_connect(struct fake_guest *g);
void fg_send(struct fake_guest *g, const void *msg);
/* Without the notification. */
void fg_put(struct fake_guest *g, const void *msg);
void fg_notify(struct fake_guest *g);
/* Next message, 0 if there is none. Checks padding and lengths. */
int fg_recv(struct fake_guest *g, union vmc_any_msg *m);
/* Fails the test unless the next message is of @type. */
void fg_expect(struct fake_guest *g, uint16_t type, union vmc_any_msg *m);
void fg_expect_nothing(struct fake_guest *g);
void fg_drain(struct fake_guest *g);
/* Answers ATTACH with HELLO for @chans channels. */
void fg_hello(struct fake_guest *g, uint32_t chans);
void fg_simple(struct fake_guest *g, uint16_t type, uint32_t id);
void fg_chan_state(struct fake_guest *g, uint32_t id, uint32_t peer, uint32_t state);
void fg_chan_req(struct fake_guest *g, uint32_t peer);
void fg_half(struct fake_guest *g, uint16_t type, uint32_t id, uint32_t peer, uint32_t port);
void fg_close(struct fake_guest *g, uint16_t type, uint32_t id, uint32_t peer,
	      uint32_t reason);
/* All the way to READY, without channels; messages received so far are dropped. */
void fg_ready(struct fake_guest *g);
/* Opens a channel from @a to @b through vmcd. Returns its id. */
uint32_t fg_open(struct fake_guest *a, struct fake_guest *b);

/* The guest lost its link: refused, nothing mapped or bound, error node set. */
void fg_assert_refused(struct fake_guest *g, const char *text);
void fg_assert_attached(struct fake_guest *g);

#endif /* TEST_VMCD_FAKE_H */
