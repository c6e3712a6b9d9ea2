/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmc: what vmcd knows about the guests of this host and the channels
 * between them.
 *
 * Linking: pkg-config libvmc (-lvmc). The library talks to vmcd over its
 * Unix socket (Varlink, interface io.vmc.Manager); no other header or library
 * shows through.
 *
 * Threads: the library has no global state. A handle may be used by one thread
 * at a time; different threads may use different handles at once. Results do
 * not depend on the handle that they came from.
 *
 * Ownership: a handle belongs to the caller and ends with vmc_close(). Each
 * result belongs to the caller and ends with vmc_free(), which releases all
 * that it points to. Strings are UTF-8 and never NULL. What a guest can choose
 * (its name, its driver's version) is not made safe for a terminal.
 *
 * Errors: functions return VMC_OK (0) or a negative enum vmc_error; vmc_strerror()
 * names it and vmc_error_detail() tells what happened in the last failed call
 * of a handle. Output parameters are untouched on failure. After VMC_ERR_TIMEOUT,
 * VMC_ERR_CLOSED or VMC_ERR_PROTOCOL the connection is over: every later
 * call fails with VMC_ERR_CLOSED; close the handle and connect again.
 *
 * Signals, fork, exec: no signal is raised or handled; a call goes on after a
 * handler has run. The socket is closed by exec, unless vmc_fd() was used to keep
 * it open. After fork only one of the two processes may go on using a handle; the
 * other one may close it.
 *
 * Units: memory and traffic in bytes, times in seconds unless the name says
 * otherwise; counters are totals since the object came to be.
 *
 * Compatibility: structs are only ever allocated by the library, and new
 * members are added at their end. Ignore values of `state`, `mode`, `prepared` and `event`
 * that you do not know.
 */
#ifndef VMC_VMC_H
#define VMC_VMC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMC_DEFAULT_SOCKET	"/run/vmc/vmcd.sock"
#define VMC_DEFAULT_TIMEOUT_MS	5000u

enum vmc_error {
	VMC_OK = 0,
	VMC_ERR_INVALID = -1,		/* a wrong argument */
	VMC_ERR_NO_MEMORY = -2,
	VMC_ERR_NOT_RUNNING = -3,	/* nobody listens on the socket */
	VMC_ERR_DENIED = -4,		/* the socket, or vmcd, refuses this user */
	VMC_ERR_TIMEOUT = -5,
	VMC_ERR_CLOSED = -6,		/* the connection is over */
	VMC_ERR_PROTOCOL = -7,		/* the answer makes no sense */
	VMC_ERR_BUSY = -8,		/* vmcd has too many clients */
	VMC_ERR_NO_GUEST = -9,		/* no such guest */
	VMC_ERR_AMBIGUOUS = -10,	/* several guests have that name */
	VMC_ERR_REMOTE = -11,		/* vmcd reported another error */
	VMC_ERR_SYSTEM = -12,		/* the operating system did; see the detail */
	VMC_ERR_REFUSED = -13,		/* vmcd can't do that now; the detail has the reason */
	VMC_ERR_AGAIN = -14,		/* no event within the time; the handle goes on */
};

/* A connection to vmcd. */
struct vmc;

struct vmc_status {
	const char *version;		/* of vmcd */
	uint32_t pid;
	uint64_t uptime;		/* seconds */
	uint32_t guests;
	uint32_t channels;
	uint32_t protocol_min;		/* versions that vmcd speaks to guests */
	uint32_t protocol_max;
};

struct vmc_guest {
	uint32_t domid;
	const char *name;		/* may be empty while the guest is being made */
	const char *uuid;
	const char *state;		/* "waiting", "connected", "refused", "gone" */
	const char *driver;		/* version of the guest's driver; empty if none */
	uint32_t protocol;		/* version in use; 0 if none */
	const char *error;		/* why the guest was refused; empty if it was not */
	const char *const *macs;	/* ended by NULL */
	const char *const *bridges;	/* ended by NULL */
	uint32_t channels;		/* that are up */
	const char *const *quarantined;	/* guests it has no channel with for a while; ended by NULL */
	const char *prepared;		/* "no", "preparing", "prepared": see vmc_prepare() */
};

/* One end of a channel as its guest reports it; 0 everywhere if it did not. */
struct vmc_channel_end {
	uint32_t domid;
	const char *name;
	bool reported;
	uint32_t tx_streams;		/* directions in shared memory now */
	uint32_t rx_streams;
	uint64_t tx_bytes;
	uint64_t rx_bytes;
	uint32_t rings;			/* that this guest owns now */
	uint32_t grants;		/* grant references in use now */
	uint64_t memory;		/* bytes granted to the peer now */
	uint64_t events_sent;		/* notifications */
	uint64_t events_received;
	uint64_t takeovers;		/* directions that went to shared memory */
	uint64_t ended;			/* directions that went back to TCP */
	uint64_t tx_packets;		/* whole packets through shared memory, such as UDP's */
	uint64_t rx_packets;
	uint64_t tx_dropped;		/* no room in shared memory and the queue before it */
	uint64_t rx_dropped;		/* no memory, or not what the peer may send */
};

struct vmc_channel {
	uint32_t id;
	const char *mode;		/* "opening", "local", "idle", "closing" */
	const struct vmc_channel_end *a;
	const struct vmc_channel_end *b;
};

/* Why connections stayed on TCP or went back to it. */
struct vmc_fallback {
	const char *reason;
	uint64_t count;
};

struct vmc_guest_stats {
	bool reported;			/* false if the guest did not answer in time */
	uint32_t sockets;		/* that the driver watches now */
	uint64_t hooked;		/* sockets watched so far */
	uint64_t memory;		/* bytes granted in all */
	uint32_t grants;
	uint32_t mapped;		/* foreign pages mapped now */
	size_t nr_fallbacks;
	const struct vmc_fallback *const *fallbacks;
};

/* May two guests share memory, and do they? */
struct vmc_policy {
	bool allowed;			/* by the rules of vmcd.conf(5) */
	const char *rule;		/* that decides, "FILE:LINE: TEXT"; empty if none fits */
	bool peers;			/* connections between them may go through shared memory now */
	const char *obstacle;		/* why not; empty if they may */
};

/* Something that happened. */
struct vmc_event {
	uint64_t time_ms;		/* milliseconds since 1970 */
	const char *event;		/* "channel-opened": see vmcctl(1) for all */
	uint32_t domid;			/* whom it concerns; 0 and an empty name: nobody */
	const char *name;
	uint32_t peer_domid;		/* and which other guest */
	const char *peer;
	uint32_t channel;		/* 0: none */
	const char *detail;		/* a reason, a version; may be empty */
};

struct vmc_guest_list {
	size_t count;
	const struct vmc_guest *const *guests;		/* in vmcd's order */
};

struct vmc_channel_list {
	size_t count;
	const struct vmc_channel *const *channels;
};

#define VMC_UNLIMITED	UINT64_MAX

/* What vmcd.conf(5) lets a guest use at most; VMC_UNLIMITED where it sets no limit. */
struct vmc_limits {
	uint64_t channels;		/* with other guests at once */
	uint64_t streams;		/* received through shared memory at once */
	uint64_t memory;		/* bytes granted to other guests */
	uint64_t grants;
	uint64_t ring;			/* bytes in the largest ring */
	uint64_t poll;			/* microseconds of looking for data before sleeping */
	const char *packets;		/* "off", "udp", "all"; NULL: no limit */
};

struct vmc_guest_details {
	const struct vmc_guest *guest;
	const struct vmc_limits *limits;
	const struct vmc_guest_stats *stats;
	size_t nr_channels;
	const struct vmc_channel *const *channels;	/* that the guest takes part in */
};

/*
 * Connects to vmcd at @path; NULL for VMC_DEFAULT_SOCKET. Whatever the result,
 * *@vmc is then a handle to close, so that vmc_error_detail() can tell more;
 * or NULL if there was no memory for one.
 */
int vmc_connect(const char *path, struct vmc **vmc);

/* Ends the connection. NULL is fine. */
void vmc_close(struct vmc *vmc);

/*
 * The longest that a call waits for vmcd, in milliseconds; 0 for ever. vmcd
 * itself waits up to 1 s for the guests' counters, so less makes no sense.
 */
void vmc_set_timeout(struct vmc *vmc, unsigned int timeout_ms);

int vmc_get_status(struct vmc *vmc, struct vmc_status **status);
int vmc_list_guests(struct vmc *vmc, struct vmc_guest_list **list);
/* Asks the guests for their counters. */
int vmc_list_channels(struct vmc *vmc, struct vmc_channel_list **list);
/* @guest is a name, a uuid or a domid in decimal. Asks for counters, too. */
int vmc_show_guest(struct vmc *vmc, const char *guest, struct vmc_guest_details **details);

/* @a and @b as above; the answer is the same for @b and @a. */
int vmc_test_policy(struct vmc *vmc, const char *a, const char *b, struct vmc_policy **policy);

/*
 * Parts @guest (as above) from all its peers, to be saved or migrated: returns when its
 * connections go on over the network and nothing of another guest is mapped in it.
 * *@milliseconds is what it took; @milliseconds may be NULL. The guest stays prepared
 *   - with @seconds 0 as long as the handle's connection is open. A handle holds one
 *     guest in this way.
 *   - with @seconds, 1 to 86400, for so long, also after vmc_close(). Called again, the
 *     time starts afresh.
 * When nobody holds it any more, and it is still here and runs, it goes back to its peers.
 *
 * vmcd takes up to 12 s. The timeout has to be longer, and VMC_DEFAULT_TIMEOUT_MS is not:
 * call vmc_set_timeout() before, with 20000 for example. After VMC_ERR_TIMEOUT, _CLOSED or
 * _PROTOCOL, which end the connection, it is called off, unless vmcd's answer was on its
 * way already: to be sure with @seconds, connect again and call vmc_resume().
 *
 * Only root may; others get VMC_ERR_DENIED. VMC_ERR_REFUSED if the guest can't be parted
 * from its peers, and then it goes on with them; or if the handle holds a guest already.
 */
int vmc_prepare(struct vmc *vmc, const char *guest, unsigned int seconds, uint64_t *milliseconds);
/*
 * Ends what vmc_prepare() began, on whichever handle; a call that still waits fails
 * with VMC_ERR_REFUSED. Fine, too, if the guest is not prepared. Only root may.
 */
int vmc_resume(struct vmc *vmc, const char *guest);

/*
 * From now on events are told, and nothing else may be asked on this handle. Events that
 * happen before the next vmc_next_event() wait in the socket; who is slow for long gets
 * one that is called "missed" instead of them.
 */
int vmc_monitor(struct vmc *vmc);
/*
 * The next event, the caller's, in *@event. Waits for it up to @timeout_ms milliseconds, 0:
 * not at all, negative: for ever; VMC_ERR_AGAIN if there is none then. In an event loop:
 * whenever vmc_fd() is readable, call it with 0 until it returns VMC_ERR_AGAIN.
 */
int vmc_next_event(struct vmc *vmc, int timeout_ms, struct vmc_event **event);

/*
 * The connection's descriptor, or -1 if there is none. It still belongs to the handle:
 * don't read it, write to it or close it. It is close-on-exec.
 *
 * It is there to be polled for events, and to pass the connection on to a program that exec starts, which
 * then keeps the guest prepared as long as it runs, without knowing of it. After
 * vmc_prepare() with 0 seconds clear FD_CLOEXEC, and call exec:
 *
 *	fcntl(vmc_fd(vmc), F_SETFD, 0);
 *	execv(path, argv);
 *
 * After a fork do both in the child; the parent may call vmc_close() then.
 */
int vmc_fd(const struct vmc *vmc);

/* Releases a result of any of the calls above. NULL is fine. */
void vmc_free(const void *result);

/* A short text for an enum vmc_error; never NULL, never to be freed. */
const char *vmc_strerror(int error);

/*
 * What the last failed call of this handle ran into, as one line; empty if
 * there is nothing to add. Valid until the next call with the handle.
 */
const char *vmc_error_detail(const struct vmc *vmc);

/* The library's own version, like "0.1.0". */
const char *vmc_library_version(void);

#ifdef __cplusplus
}
#endif

#endif /* VMC_VMC_H */
