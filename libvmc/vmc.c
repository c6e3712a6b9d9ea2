// SPDX-License-Identifier: LGPL-2.1-or-later
/* The public calls: each asks one method of io.vmc.Manager. */
#include "vmc/vmc.h"
#include "arena.h"
#include "conn.h"
#include "decode.h"
#include "vmc_version.h"

#include <stdlib.h>
#include <string.h>

#define INTERFACE	"io.vmc.Manager"

#define PREPARE_SECONDS_MAX	86400u

int vmc_connect(const char *path, struct vmc **vmc)
{
	struct vmc *v = calloc(1, sizeof(*v));

	*vmc = v;
	if (!v)
		return VMC_ERR_NO_MEMORY;
	v->fd = -1;
	v->timeout_ms = VMC_DEFAULT_TIMEOUT_MS;
	return vmc_conn_open(v, path ? path : VMC_DEFAULT_SOCKET);
}

void vmc_close(struct vmc *vmc)
{
	if (!vmc)
		return;
	vmc_conn_shut(vmc);
	free(vmc);
}

void vmc_set_timeout(struct vmc *vmc, unsigned int timeout_ms)
{
	vmc->timeout_ms = timeout_ms;
}

/* An answer that makes no sense: nothing that follows on this connection can be trusted. */
static int garbled(struct vmc *vmc, const char *what, const char *where)
{
	vmc_conn_shut(vmc);
	return vmc_fail(vmc, VMC_ERR_PROTOCOL, "%s%s", what, where);
}

/* vmcd's error, by its Varlink name. */
static int remote_error(struct vmc *vmc, const char *name, const json_t *params)
{
	static const struct {
		const char *name;
		int error;
	} known[] = {
		{ INTERFACE ".NoSuchGuest", VMC_ERR_NO_GUEST },
		{ INTERFACE ".AmbiguousGuest", VMC_ERR_AMBIGUOUS },
		{ INTERFACE ".PermissionDenied", VMC_ERR_DENIED },
		{ INTERFACE ".TooManyClients", VMC_ERR_BUSY },
		{ INTERFACE ".CannotPrepare", VMC_ERR_REFUSED },
	};
	const char *guest = json_string_value(json_object_get(params, "guest"));
	const char *reason = json_string_value(json_object_get(params, "reason"));
	const char *detail = reason ? reason : guest;
	size_t i;

	if (!strcmp(name, INTERFACE ".HoldsAnother"))
		return vmc_fail(vmc, VMC_ERR_REFUSED, "the connection holds %s already",
				guest && *guest ? guest : "a guest");
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(name, known[i].name))
			return vmc_fail(vmc, known[i].error, "%s", detail ? detail : "");
	return vmc_fail(vmc, VMC_ERR_REMOTE, "%s", name);
}

/* The message that has come: 0 with its parameters, which hold a reference, in *@params. */
static int parse(struct vmc *vmc, json_t **params)
{
	json_t *reply, *error, *found;
	int ret;

	reply = json_loads(vmc->buf, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(reply)) {
		ret = garbled(vmc, "the answer is no JSON object", "");
		goto out;
	}
	error = json_object_get(reply, "error");
	found = json_object_get(reply, "parameters");
	if (found && !json_is_object(found)) {
		ret = garbled(vmc, "wrong member: ", "parameters");
	} else if (error && !json_is_string(error)) {
		ret = garbled(vmc, "wrong member: ", "error");
	} else if (error) {
		ret = remote_error(vmc, json_string_value(error), found);
	} else if (json_is_true(json_object_get(reply, "continues")) != vmc->monitors) {
		ret = garbled(vmc, "wrong member: ", "continues");
	} else if (!found) {
		ret = garbled(vmc, "missing member: ", "parameters");
	} else {
		*params = json_incref(found);
		ret = 0;
	}
out:
	json_decref(reply);
	return ret;
}

static int exchange(struct vmc *vmc, json_t *call, json_t **params)
{
	char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
	int ret;

	json_decref(call);
	vmc->detail[0] = '\0';
	if (!text)
		return VMC_ERR_NO_MEMORY;
	ret = vmc_conn_exchange(vmc, text);
	free(text);
	return ret ? ret : parse(vmc, params);
}

static int ask(struct vmc *vmc, json_t *call, json_t **params)
{
	if (!vmc->monitors)
		return exchange(vmc, call, params);
	json_decref(call);
	return vmc_fail(vmc, VMC_ERR_INVALID, "the handle monitors");
}

static int decoded(struct vmc *vmc, int ret, const char *where)
{
	if (ret == VMC_ERR_PROTOCOL)
		return garbled(vmc, "missing or wrong member: ", where);
	return ret;
}

int vmc_get_status(struct vmc *vmc, struct vmc_status **status)
{
	char where[VMC_DECODE_WHERE];
	json_t *params;
	int ret = ask(vmc, json_pack("{s:s}", "method", INTERFACE ".GetStatus"), &params);

	if (ret)
		return ret;
	ret = vmc_decode_status(params, status, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

int vmc_list_guests(struct vmc *vmc, struct vmc_guest_list **list)
{
	char where[VMC_DECODE_WHERE];
	json_t *params;
	int ret = ask(vmc, json_pack("{s:s}", "method", INTERFACE ".ListGuests"), &params);

	if (ret)
		return ret;
	ret = vmc_decode_guests(params, list, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

int vmc_list_channels(struct vmc *vmc, struct vmc_channel_list **list)
{
	char where[VMC_DECODE_WHERE];
	json_t *params;
	int ret = ask(vmc, json_pack("{s:s}", "method", INTERFACE ".ListChannels"), &params);

	if (ret)
		return ret;
	ret = vmc_decode_channels(params, list, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

/* Calls @method for @guest, with more parameters in @params, which is consumed; NULL: no memory. */
static int ask_about(struct vmc *vmc, const char *method, const char *guest, json_t *params,
		     json_t **answer)
{
	json_t *name;

	vmc->detail[0] = '\0';
	if (!guest) {
		json_decref(params);
		return vmc_fail(vmc, VMC_ERR_INVALID, "no guest named");
	}
	name = json_string(guest);
	if (!name) {
		json_decref(params);
		return vmc_fail(vmc, VMC_ERR_INVALID, "the guest's name is not UTF-8");
	}
	if (json_object_set_new(params, "guest", name)) {
		json_decref(params);
		return VMC_ERR_NO_MEMORY;
	}
	return ask(vmc, json_pack("{s:s, s:o}", "method", method, "parameters", params), answer);
}

int vmc_show_guest(struct vmc *vmc, const char *guest, struct vmc_guest_details **details)
{
	char where[VMC_DECODE_WHERE];
	json_t *params;
	int ret = ask_about(vmc, INTERFACE ".ShowGuest", guest, json_object(), &params);

	if (ret)
		return ret;
	ret = vmc_decode_details(params, details, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

int vmc_test_policy(struct vmc *vmc, const char *a, const char *b, struct vmc_policy **policy)
{
	char where[VMC_DECODE_WHERE];
	json_t *names, *params;
	int ret;

	if (!a || !b)
		return vmc_fail(vmc, VMC_ERR_INVALID, "no guest named");
	names = json_pack("{s:s, s:s}", "a", a, "b", b);
	if (!names)
		return vmc_fail(vmc, VMC_ERR_INVALID, "the guest's name is not UTF-8");
	ret = ask(vmc, json_pack("{s:s, s:o}", "method", INTERFACE ".TestPolicy", "parameters",
				 names), &params);
	if (ret)
		return ret;
	ret = vmc_decode_policy(params, policy, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

int vmc_prepare(struct vmc *vmc, const char *guest, unsigned int seconds, uint64_t *milliseconds)
{
	json_t *params, *took;
	int ret;

	if (seconds > PREPARE_SECONDS_MAX)
		return vmc_fail(vmc, VMC_ERR_INVALID, "%u seconds are more than %u", seconds,
				PREPARE_SECONDS_MAX);
	params = seconds ? json_pack("{s:I}", "seconds", (json_int_t)seconds) : json_object();
	ret = ask_about(vmc, INTERFACE ".Prepare", guest, params, &params);
	if (ret)
		return ret;
	took = json_object_get(params, "milliseconds");
	if (!json_is_integer(took) || json_integer_value(took) < 0)
		ret = garbled(vmc, "missing or wrong member: ", "milliseconds");
	else if (milliseconds)
		*milliseconds = (uint64_t)json_integer_value(took);
	json_decref(params);
	return ret;
}

int vmc_resume(struct vmc *vmc, const char *guest)
{
	json_t *params;
	int ret = ask_about(vmc, INTERFACE ".Resume", guest, json_object(), &params);

	if (!ret)
		json_decref(params);
	return ret;
}

int vmc_monitor(struct vmc *vmc)
{
	json_t *first;
	int ret;

	if (vmc->monitors)
		return vmc_fail(vmc, VMC_ERR_INVALID, "the handle monitors already");
	vmc->monitors = true;
	ret = exchange(vmc, json_pack("{s:s, s:b}", "method", INTERFACE ".Monitor", "more", 1),
		       &first);
	if (ret)
		vmc->monitors = false;
	else
		json_decref(first);
	return ret;
}

int vmc_next_event(struct vmc *vmc, int timeout_ms, struct vmc_event **event)
{
	char where[VMC_DECODE_WHERE];
	json_t *params;
	int ret;

	vmc->detail[0] = '\0';
	if (!vmc->monitors)
		return vmc_fail(vmc, VMC_ERR_INVALID, "vmc_monitor() has not been called");
	ret = vmc_conn_next(vmc, timeout_ms);
	if (!ret)
		ret = parse(vmc, &params);
	if (ret)
		return ret;
	ret = vmc_decode_event(params, event, where);
	json_decref(params);
	return decoded(vmc, ret, where);
}

int vmc_fd(const struct vmc *vmc)
{
	return vmc ? vmc->fd : -1;
}

void vmc_free(const void *result)
{
	vmc_arena_free(result);
}

const char *vmc_error_detail(const struct vmc *vmc)
{
	return vmc ? vmc->detail : "";
}

const char *vmc_library_version(void)
{
	return VMC_VERSION;
}

const char *vmc_strerror(int error)
{
	switch (error) {
	case VMC_OK:
		return "success";
	case VMC_ERR_INVALID:
		return "wrong argument";
	case VMC_ERR_NO_MEMORY:
		return "out of memory";
	case VMC_ERR_NOT_RUNNING:
		return "vmcd is not running";
	case VMC_ERR_DENIED:
		return "permission denied";
	case VMC_ERR_TIMEOUT:
		return "vmcd does not answer";
	case VMC_ERR_CLOSED:
		return "connection closed";
	case VMC_ERR_PROTOCOL:
		return "vmcd's answer makes no sense";
	case VMC_ERR_BUSY:
		return "vmcd has too many clients";
	case VMC_ERR_NO_GUEST:
		return "no such guest";
	case VMC_ERR_AMBIGUOUS:
		return "several guests have that name";
	case VMC_ERR_REMOTE:
		return "vmcd reported an error";
	case VMC_ERR_SYSTEM:
		return "system error";
	case VMC_ERR_REFUSED:
		return "vmcd can't do that now";
	case VMC_ERR_AGAIN:
		return "nothing has happened yet";
	default:
		return "unknown error";
	}
}
