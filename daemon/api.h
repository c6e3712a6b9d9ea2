/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The methods of the control API, JSON in and JSON out; io.vmc.Manager.varlink
 * describes them. Transport and flags are control.c's.
 */
#ifndef VMC_API_H
#define VMC_API_H

#include "events.h"
#include "prepare.h"
#include "vmcd.h"

#include <jansson.h>

/* Longest text in an answer's error field that comes from a request. */
#define VMC_API_ECHO_MAX	128u

struct vmc_api_reply {
	const char *error;	/* NULL, or the error's full name */
	json_t *parameters;	/* owned; NULL: none */
};

struct vmc_api_method {
	const char *name;
	bool needs_stats;	/* ask the guests first: vmc_stats_ask() */
	bool changes;		/* something: only root may call it */
	bool streams;		/* answers again and again, by vmc_api_event(); has neither of the two below */
	/* Fills @reply; -ENOMEM is the only failure. */
	int (*call)(struct vmcd *d, json_t *params, struct vmc_api_reply *reply);
	/*
	 * Or, instead, for what takes time: leaves @reply empty if the answer comes with
	 * the hold's done(), by vmc_api_prepared().
	 */
	int (*hold)(struct vmcd *d, json_t *params, struct vmc_hold *hold,
		    struct vmc_api_reply *reply);
};

/* An answer of a method that streams; NULL if memory ran out. */
json_t *vmc_api_event(struct vmcd *d, const struct vmc_event *e);

/* NULL: no such method, and @reply says so. */
const struct vmc_api_method *vmc_api_find(const char *name, struct vmc_api_reply *reply);

/* The answer to what waited for @hold. Returns 0 or -ENOMEM. */
int vmc_api_prepared(const struct vmc_hold *hold, const char *why, struct vmc_api_reply *reply);

/* Is there none? If there is, @reply says so. */
bool vmc_api_no_params(json_t *params, struct vmc_api_reply *reply);

/* For errors outside a method. */
void vmc_api_error(struct vmc_api_reply *reply, const char *error, const char *field,
		   const char *value);

#define VMC_API_INVALID_PARAMETER	"org.varlink.service.InvalidParameter"
#define VMC_API_EXPECTED_MORE		"org.varlink.service.ExpectedMore"
#define VMC_API_PERMISSION_DENIED	"io.vmc.Manager.PermissionDenied"
#define VMC_API_TOO_MANY_CLIENTS	"io.vmc.Manager.TooManyClients"

#endif /* VMC_API_H */
