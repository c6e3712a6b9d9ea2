// SPDX-License-Identifier: GPL-2.0-or-later
#include "api.h"

#include "chan.h"
#include "config.h"
#include "link.h"
#include "policy.h"
#include "prepare.h"
#include "quarantine.h"
#include "stats.h"
#include "varlink_text.h"
#include "vmc_version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MANAGER		"io.vmc.Manager"
#define SERVICE		"org.varlink.service"

#define PREPARE_SECONDS_MAX	86400

/* Counters come from guests as 64 unsigned bits; JSON integers have 63. */
static json_t *count(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

/* Sets a field, taking over @value; a failure sticks in *err. */
static void set(json_t *object, const char *key, json_t *value, int *err)
{
	if (json_object_set_new(object, key, value))
		*err = -ENOMEM;
}

static void append(json_t *array, json_t *value, int *err)
{
	if (json_array_append_new(array, value))
		*err = -ENOMEM;
}

void vmc_api_error(struct vmc_api_reply *reply, const char *error, const char *field,
		   const char *value)
{
	char echo[VMC_API_ECHO_MAX];

	reply->error = error;
	json_decref(reply->parameters);
	reply->parameters = NULL;
	if (field) {
		vmc_sanitize(echo, sizeof(echo), value, strlen(value));
		reply->parameters = json_pack("{s:s}", field, echo);
	}
}

/* ----------------------------------------------------------------- parameters */

struct param {
	const char *name;
	const char **text;		/* where a text goes, which is required; or */
	json_int_t *number;		/* a number, which stays as it is if there is none */
	json_int_t min, max;
};

static bool take_param(json_t *value, const struct param *p)
{
	json_int_t number = json_integer_value(value);

	if (p->text)
		*p->text = json_string_value(value);
	if (p->text || !value || json_is_null(value))
		return !p->text || *p->text;
	if (!json_is_integer(value) || number < p->min || number > p->max)
		return false;
	*p->number = number;
	return true;
}

/* Anything in the request that is not in @want, or not as it has to be, is an error, told by its name. */
static bool take_params(json_t *params, const struct param *want, size_t count,
			struct vmc_api_reply *reply)
{
	const char *key;
	json_t *value;
	size_t i;

	json_object_foreach(params, key, value) {
		for (i = 0; i < count; i++)
			if (!strcmp(key, want[i].name))
				break;
		if (i == count) {
			vmc_api_error(reply, VMC_API_INVALID_PARAMETER, "parameter", key);
			return false;
		}
	}
	for (i = 0; i < count; i++) {
		if (!take_param(json_object_get(params, want[i].name), &want[i])) {
			vmc_api_error(reply, VMC_API_INVALID_PARAMETER, "parameter",
				      want[i].name);
			return false;
		}
	}
	return true;
}

bool vmc_api_no_params(json_t *params, struct vmc_api_reply *reply)
{
	return take_params(params, NULL, 0, reply);
}

/* -------------------------------------------------------------------- objects */

static bool has_device(const struct vmc_guest *g)
{
	return g->state != VMC_GUEST_NO_DEVICE;
}

static json_t *guest_json(struct vmc_guest *g)
{
	json_t *o = json_object(), *macs = json_array(), *bridges = json_array();
	json_t *quarantined = json_array();
	char uuid[VMC_UUID_TEXT], mac[18];
	struct vmc_chan_end *e;
	struct vmc_guest *other;
	unsigned int up = 0;
	int err = 0;

	vmc_uuid_text(g->uuid, uuid);
	TAILQ_FOREACH(e, &g->chan_ends, entry)
		up += e->chan->phase == VMC_PHASE_UP;
	for (unsigned int i = 0; i < g->vifs.count; i++) {
		const uint8_t *m = g->vifs.vif[i].mac;

		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1],
			 m[2], m[3], m[4], m[5]);
		append(macs, json_string(mac), &err);
		append(bridges, json_string(g->vifs.vif[i].bridge), &err);
	}
	TAILQ_FOREACH(other, &g->d->guests, entry)
		if (vmc_quarantine_has(g, other))
			append(quarantined, json_string(other->name), &err);
	set(o, "domid", json_integer(g->domid), &err);
	set(o, "name", json_string(g->name), &err);
	set(o, "uuid", json_string(uuid), &err);
	set(o, "state", json_string(vmc_guest_state_name(g)), &err);
	set(o, "driver", json_string(g->driver), &err);
	set(o, "protocol", json_integer(g->protocol), &err);
	set(o, "error", json_string(g->error), &err);
	set(o, "macs", macs, &err);
	set(o, "bridges", bridges, &err);
	set(o, "channels", json_integer(up), &err);
	set(o, "quarantined", quarantined, &err);
	set(o, "prepared", json_string(vmc_prepare_state(g)), &err);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *end_json(struct vmcd *d, struct vmc_chan_end *e)
{
	struct vmc_chan_stats s = e->stats;
	bool reported = e->guest && s.query && s.query == vmc_stats_query(d);
	json_t *o = json_object();
	int err = 0;

	if (!reported)
		memset(&s, 0, sizeof(s));
	set(o, "domid", json_integer(e->domid), &err);
	set(o, "name", json_string(e->guest ? e->guest->name : ""), &err);
	set(o, "reported", json_boolean(reported), &err);
	set(o, "tx_streams", json_integer(s.tx_streams), &err);
	set(o, "rx_streams", json_integer(s.rx_streams), &err);
	set(o, "tx_bytes", count(s.tx_bytes), &err);
	set(o, "rx_bytes", count(s.rx_bytes), &err);
	set(o, "tx_packets", count(s.tx_packets), &err);
	set(o, "rx_packets", count(s.rx_packets), &err);
	set(o, "tx_dropped", count(s.tx_dropped), &err);
	set(o, "rx_dropped", count(s.rx_dropped), &err);
	set(o, "rings", json_integer(s.rings), &err);
	set(o, "grants", json_integer(s.grants), &err);
	set(o, "memory", count(s.bytes_granted), &err);
	set(o, "events_sent", count(s.events_tx), &err);
	set(o, "events_received", count(s.events_rx), &err);
	set(o, "takeovers", count(s.takeovers), &err);
	set(o, "ended", count(s.ended), &err);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static const char *chan_mode(struct vmcd *d, const struct vmc_chan *c)
{
	switch (c->phase) {
	case VMC_PHASE_UP:
		for (int i = 0; i < 2; i++) {
			const struct vmc_chan_stats *s = &c->end[i].stats;

			if (s->query == vmc_stats_query(d) &&
			    (s->tx_streams || s->rx_streams || s->packets_moved))
				return "local";
		}
		return "idle";
	case VMC_PHASE_CLOSING:
		return "closing";
	case VMC_PHASE_RECOVER:
	case VMC_PHASE_PREPARE:
	case VMC_PHASE_CONNECT:
	case VMC_PHASE_COMPLETE:
	default:
		return "opening";
	}
}

static json_t *chan_json(struct vmcd *d, struct vmc_chan *c)
{
	json_t *o = json_object();
	int err = 0;

	set(o, "id", json_integer(c->id), &err);
	set(o, "mode", json_string(chan_mode(d, c)), &err);
	set(o, "a", end_json(d, &c->end[0]), &err);
	set(o, "b", end_json(d, &c->end[1]), &err);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* Channels of @g, or all. */
static json_t *chans_json(struct vmcd *d, const struct vmc_guest *g)
{
	json_t *list = json_array();
	struct vmc_chan *c;
	int err = 0;

	TAILQ_FOREACH(c, &d->chans, entry)
		if (!g || c->end[0].guest == g || c->end[1].guest == g)
			append(list, chan_json(d, c), &err);
	if (err) {
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *limits_json(const struct vmc_guest *g)
{
	static const char *const packets[] = VMC_PACKETS_NAMES;
	struct vmc_settings s = vmc_config_settings(g->d->config, g);
	json_t *o = json_object();
	int err = 0;

	for (enum vmc_setting i = 0; i < VMC_SETTINGS; i++) {
		if (s.max[i] == VMC_NO_LIMIT)
			continue;
		set(o, vmc_setting_name(i), i == VMC_SET_PACKETS ?
		    json_string(packets[s.max[i]]) : count(s.max[i]), &err);
	}
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *stats_json(struct vmcd *d, const struct vmc_guest *g)
{
	static const char *const names[] = VMC_REASON_NAMES;
	bool reported = g->stats.query && g->stats.query == vmc_stats_query(d);
	struct vmc_guest_stats s = { 0 };
	json_t *o = json_object(), *fallbacks = json_array();
	int err = 0;

	if (reported)
		s = g->stats;
	for (size_t i = 1; i < VMC_R_MAX; i++)
		if (s.reasons[i])
			append(fallbacks, json_pack("{s:s, s:o}", "reason", names[i], "count",
						    count(s.reasons[i])), &err);
	set(o, "reported", json_boolean(reported), &err);
	set(o, "sockets", json_integer(s.sockets), &err);
	set(o, "hooked", count(s.hooked), &err);
	set(o, "memory", count(s.bytes_granted), &err);
	set(o, "grants", json_integer(s.grants), &err);
	set(o, "mapped", json_integer(s.mapped), &err);
	set(o, "fallbacks", fallbacks, &err);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* -------------------------------------------------------------------- methods */

/* Takes over @parameters; NULL means that memory ran out on the way. */
static int answer(struct vmc_api_reply *reply, json_t *parameters)
{
	reply->parameters = parameters;
	return parameters ? 0 : -ENOMEM;
}

static int get_status(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	unsigned int guests = 0;
	struct vmc_guest *g;

	if (!vmc_api_no_params(params, reply))
		return 0;
	TAILQ_FOREACH(g, &d->guests, entry)
		guests += has_device(g);
	return answer(reply, json_pack("{s:s, s:i, s:I, s:i, s:i, s:i, s:i}",
				       "version", VMC_VERSION, "pid", (int)getpid(),
				       "uptime", (json_int_t)((vmc_now_ms() - d->started_ms) / 1000),
				       "guests", (int)guests, "channels", (int)d->nr_up,
				       "protocol_min", (int)VMC_PROTO_MIN,
				       "protocol_max", (int)VMC_PROTO_MAX));
}

static int list_guests(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	json_t *list = json_array();
	struct vmc_guest *g;
	int err = 0;

	if (!vmc_api_no_params(params, reply)) {
		json_decref(list);
		return 0;
	}
	TAILQ_FOREACH(g, &d->guests, entry)
		if (has_device(g))
			append(list, guest_json(g), &err);
	if (err) {
		json_decref(list);
		return err;
	}
	return answer(reply, json_pack("{s:o}", "guests", list));
}

static int list_channels(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	if (!vmc_api_no_params(params, reply))
		return 0;
	return answer(reply, json_pack("{s:o}", "channels", chans_json(d, NULL)));
}

/* By name, uuid or domid, whatever fits; *many if more than one guest does. */
static struct vmc_guest *find_guest(struct vmcd *d, const char *text, bool *many)
{
	struct vmc_guest *g, *found = NULL;
	char uuid[VMC_UUID_TEXT];
	uint32_t domid;

	if (vmc_parse_u32(text, UINT16_MAX, &domid))
		domid = UINT32_MAX;
	*many = false;
	TAILQ_FOREACH(g, &d->guests, entry) {
		if (!has_device(g))
			continue;
		vmc_uuid_text(g->uuid, uuid);
		if (g->domid != domid && strcmp(g->name, text) && strcasecmp(uuid, text))
			continue;
		*many = found;
		if (found)
			return NULL;
		found = g;
	}
	return found;
}

/* The guest that @text names, or NULL and the error in @reply. */
static struct vmc_guest *named_guest(struct vmcd *d, const char *text,
				     struct vmc_api_reply *reply)
{
	bool many = false;
	struct vmc_guest *g = *text ? find_guest(d, text, &many) : NULL;

	if (!g)
		vmc_api_error(reply, many ? MANAGER ".AmbiguousGuest" :
					    MANAGER ".NoSuchGuest",
			      "guest", text);
	return g;
}

static int show_guest(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	const char *text;
	const struct param want[] = { { .name = "guest", .text = &text } };
	struct vmc_guest *g;

	if (!take_params(params, want, 1, reply))
		return 0;
	g = named_guest(d, text, reply);
	if (!g)
		return reply->parameters ? 0 : -ENOMEM;
	return answer(reply, json_pack("{s:o, s:o, s:o, s:o}", "guest", guest_json(g), "limits",
				       limits_json(g), "stats", stats_json(d, g), "channels",
				       chans_json(d, g)));
}

static int test_policy(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	const char *text_a = NULL, *text_b = NULL, *why = NULL;
	const struct param want[] = {
		{ .name = "a", .text = &text_a },
		{ .name = "b", .text = &text_b },
	};
	const struct vmc_rule *rule;
	struct vmc_guest *a, *b;
	enum vmc_reason reason;
	bool peers;

	if (!take_params(params, want, 2, reply))
		return 0;
	a = named_guest(d, text_a, reply);
	b = a ? named_guest(d, text_b, reply) : NULL;
	if (!a || !b)
		return reply->parameters ? 0 : -ENOMEM;
	rule = vmc_config_rule(d->config, a, b);
	peers = vmc_policy_may_pair(a, b, &why, &reason);
	return answer(reply, json_pack("{s:b, s:s, s:b, s:s}", "allowed", !rule || rule->allow,
				       "rule", rule ? rule->text : "", "peers", peers,
				       "obstacle", peers ? "" : why));
}

static int prepare(struct vmcd *d, json_t *params, struct vmc_hold *hold,
		   struct vmc_api_reply *reply)
{
	json_int_t seconds = 0;
	const char *text;
	const struct param want[] = {
		{ .name = "guest", .text = &text },
		{ .name = "seconds", .number = &seconds, .min = 1, .max = PREPARE_SECONDS_MAX },
	};
	struct vmc_guest *g;

	if (!take_params(params, want, 2, reply))
		return 0;
	g = named_guest(d, text, reply);
	if (!g)
		return reply->parameters ? 0 : -ENOMEM;
	if (hold->guest) {
		vmc_api_error(reply, MANAGER ".HoldsAnother", "guest", hold->guest->name);
		return reply->parameters ? 0 : -ENOMEM;
	}
	hold->keep = !seconds;
	hold->seconds = (unsigned int)seconds;
	return vmc_prepare_hold(g, hold);
}

int vmc_api_prepared(const struct vmc_hold *hold, const char *why, struct vmc_api_reply *reply)
{
	if (!why)
		return answer(reply, json_pack("{s:I}", "milliseconds",
					       (json_int_t)(vmc_now_ms() - hold->since_ms)));
	vmc_api_error(reply, MANAGER ".CannotPrepare", "reason", why);
	return reply->parameters ? 0 : -ENOMEM;
}

static int resume(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	const char *text;
	const struct param want[] = { { .name = "guest", .text = &text } };
	struct vmc_guest *g;

	if (!take_params(params, want, 1, reply))
		return 0;
	g = named_guest(d, text, reply);
	if (!g)
		return reply->parameters ? 0 : -ENOMEM;
	vmc_prepare_resume(g);
	return answer(reply, json_object());
}

static void set_guest(json_t *o, struct vmcd *d, const char *key, const char *name, uint32_t domid,
		      int *err)
{
	const struct vmc_guest *g = vmc_guest_by_domid(d, domid);

	if (!domid)
		return;
	set(o, key, json_integer(domid), err);
	set(o, name, json_string(g ? g->name : ""), err);
}

json_t *vmc_api_event(struct vmcd *d, const struct vmc_event *e)
{
	json_t *o = json_object();
	struct timespec now;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	set(o, "time", json_integer((json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000), &err);
	set(o, "event", json_string(e->name), &err);
	set_guest(o, d, "domid", "name", e->domid, &err);
	set_guest(o, d, "peer_domid", "peer", e->peer, &err);
	if (e->channel)
		set(o, "channel", json_integer(e->channel), &err);
	set(o, "detail", json_string(e->detail), &err);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return json_pack("{s:o}", "event", o);
}

static int get_info(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	(void)d;
	if (!vmc_api_no_params(params, reply))
		return 0;
	return answer(reply, json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", "VMC",
				       "product", "vmcd", "version", VMC_VERSION, "url", "",
				       "interfaces", MANAGER, SERVICE));
}

static int get_description(struct vmcd *d, json_t *params, struct vmc_api_reply *reply)
{
	static const struct {
		const char *name;
		const char *text;
	} interfaces[] = {
		{ MANAGER, vmc_varlink_manager },
		{ SERVICE, vmc_varlink_service },
	};
	const char *text;
	const struct param want[] = { { .name = "interface", .text = &text } };

	(void)d;
	if (!take_params(params, want, 1, reply))
		return 0;
	for (size_t i = 0; i < sizeof(interfaces) / sizeof(interfaces[0]); i++)
		if (!strcmp(text, interfaces[i].name))
			return answer(reply, json_pack("{s:s}", "description",
						       interfaces[i].text));
	vmc_api_error(reply, SERVICE ".InterfaceNotFound", "interface", text);
	return reply->parameters ? 0 : -ENOMEM;
}

static const struct vmc_api_method methods[] = {
	{ .name = MANAGER ".GetStatus", .call = get_status },
	{ .name = MANAGER ".ListGuests", .call = list_guests },
	{ .name = MANAGER ".ListChannels", .call = list_channels, .needs_stats = true },
	{ .name = MANAGER ".ShowGuest", .call = show_guest, .needs_stats = true },
	{ .name = MANAGER ".TestPolicy", .call = test_policy },
	{ .name = MANAGER ".Monitor", .streams = true },
	{ .name = MANAGER ".Prepare", .hold = prepare, .changes = true },
	{ .name = MANAGER ".Resume", .call = resume, .changes = true },
	{ .name = SERVICE ".GetInfo", .call = get_info },
	{ .name = SERVICE ".GetInterfaceDescription", .call = get_description },
};

const struct vmc_api_method *vmc_api_find(const char *name, struct vmc_api_reply *reply)
{
	size_t n = sizeof(methods) / sizeof(methods[0]);
	const char *dot = strrchr(name, '.');
	char interface[VMC_API_ECHO_MAX];

	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, methods[i].name))
			return &methods[i];

	vmc_sanitize(interface, sizeof(interface), name, dot ? (size_t)(dot - name) : 0);
	if (strcmp(interface, MANAGER) && strcmp(interface, SERVICE))
		vmc_api_error(reply, SERVICE ".InterfaceNotFound", "interface", interface);
	else
		vmc_api_error(reply, SERVICE ".MethodNotFound", "method", name);
	return NULL;
}
