// SPDX-License-Identifier: LGPL-2.1-or-later
#include "decode.h"
#include "arena.h"

#include <stdio.h>

/*
 * One answer being decoded. The first error stays; after it every step does
 * nothing, so that it is looked at once, at the end.
 */
struct decoder {
	struct vmc_arena *arena;
	char *where;
	int error;
};

static void wrong(struct decoder *d, const char *key)
{
	if (!d->error)
		snprintf(d->where, VMC_DECODE_WHERE, "%s", key);
	d->error = d->error ? d->error : VMC_ERR_PROTOCOL;
}

static void *alloc(struct decoder *d, size_t count, size_t size)
{
	void *p = d->error ? NULL : vmc_arena_alloc(d->arena, count, size);

	if (!p && !d->error)
		d->error = VMC_ERR_NO_MEMORY;
	return p;
}

static const char *copy(struct decoder *d, const char *text)
{
	const char *p = d->error ? NULL : vmc_arena_strdup(d->arena, text);

	if (!p && !d->error)
		d->error = VMC_ERR_NO_MEMORY;
	return p;
}

static const json_t *member(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = d->error ? NULL : json_object_get(json, key);

	if (!value)
		wrong(d, key);
	return value;
}

static uint64_t number(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = member(d, json, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0) {
		wrong(d, key);
		return 0;
	}
	return (uint64_t)json_integer_value(value);
}

static uint32_t small(struct decoder *d, const json_t *json, const char *key)
{
	uint64_t value = number(d, json, key);

	if (value > UINT32_MAX)
		wrong(d, key);
	return (uint32_t)value;
}

static bool boolean(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = member(d, json, key);

	if (!json_is_boolean(value))
		wrong(d, key);
	return json_is_true(value);
}

static const char *text(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = member(d, json, key);

	if (!json_is_string(value)) {
		wrong(d, key);
		return NULL;
	}
	return copy(d, json_string_value(value));
}

static const json_t *array(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = member(d, json, key);

	if (!json_is_array(value))
		wrong(d, key);
	return value;
}

static const char *const *texts(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *list = array(d, json, key);
	size_t i, n = json_array_size(list);
	const char **out = alloc(d, n + 1, sizeof(*out));

	for (i = 0; i < n && !d->error; i++) {
		const json_t *value = json_array_get(list, i);

		if (json_is_string(value))
			out[i] = copy(d, json_string_value(value));
		else
			wrong(d, key);
	}
	return out;
}

typedef const void *(*decode_item)(struct decoder *d, const json_t *json);

/* An array of pointers to what @item makes of each element. */
static const void *items(struct decoder *d, const json_t *json, const char *key, decode_item item,
			 size_t *count)
{
	const json_t *list = array(d, json, key);
	size_t i, n = json_array_size(list);
	const void **out = alloc(d, n + 1, sizeof(*out));

	for (i = 0; i < n && !d->error; i++)
		out[i] = item(d, json_array_get(list, i));
	*count = n;
	return out;
}

static const void *guest(struct decoder *d, const json_t *json)
{
	struct vmc_guest *g = alloc(d, 1, sizeof(*g));

	if (!g)
		return NULL;
	g->domid = small(d, json, "domid");
	g->name = text(d, json, "name");
	g->uuid = text(d, json, "uuid");
	g->state = text(d, json, "state");
	g->driver = text(d, json, "driver");
	g->protocol = small(d, json, "protocol");
	g->error = text(d, json, "error");
	g->macs = texts(d, json, "macs");
	g->bridges = texts(d, json, "bridges");
	g->channels = small(d, json, "channels");
	g->quarantined = texts(d, json, "quarantined");
	g->prepared = text(d, json, "prepared");
	return g;
}

static const struct vmc_channel_end *channel_end(struct decoder *d, const json_t *json)
{
	struct vmc_channel_end *e = alloc(d, 1, sizeof(*e));

	if (!e)
		return NULL;
	e->domid = small(d, json, "domid");
	e->name = text(d, json, "name");
	e->reported = boolean(d, json, "reported");
	e->tx_streams = small(d, json, "tx_streams");
	e->rx_streams = small(d, json, "rx_streams");
	e->tx_bytes = number(d, json, "tx_bytes");
	e->rx_bytes = number(d, json, "rx_bytes");
	e->tx_packets = number(d, json, "tx_packets");
	e->rx_packets = number(d, json, "rx_packets");
	e->tx_dropped = number(d, json, "tx_dropped");
	e->rx_dropped = number(d, json, "rx_dropped");
	e->rings = small(d, json, "rings");
	e->grants = small(d, json, "grants");
	e->memory = number(d, json, "memory");
	e->events_sent = number(d, json, "events_sent");
	e->events_received = number(d, json, "events_received");
	e->takeovers = number(d, json, "takeovers");
	e->ended = number(d, json, "ended");
	return e;
}

static const void *channel(struct decoder *d, const json_t *json)
{
	struct vmc_channel *c = alloc(d, 1, sizeof(*c));

	if (!c)
		return NULL;
	c->id = small(d, json, "id");
	c->mode = text(d, json, "mode");
	c->a = channel_end(d, member(d, json, "a"));
	c->b = channel_end(d, member(d, json, "b"));
	return c;
}

static const void *fallback(struct decoder *d, const json_t *json)
{
	struct vmc_fallback *f = alloc(d, 1, sizeof(*f));

	if (!f)
		return NULL;
	f->reason = text(d, json, "reason");
	f->count = number(d, json, "count");
	return f;
}

static const struct vmc_guest_stats *stats(struct decoder *d, const json_t *json)
{
	struct vmc_guest_stats *s = alloc(d, 1, sizeof(*s));

	if (!s)
		return NULL;
	s->reported = boolean(d, json, "reported");
	s->sockets = small(d, json, "sockets");
	s->hooked = number(d, json, "hooked");
	s->memory = number(d, json, "memory");
	s->grants = small(d, json, "grants");
	s->mapped = small(d, json, "mapped");
	s->fallbacks = items(d, json, "fallbacks", fallback, &s->nr_fallbacks);
	return s;
}

/* A number that need not be there. */
static uint64_t limit(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = d->error ? NULL : json_object_get(json, key);

	return value && !json_is_null(value) ? number(d, json, key) : VMC_UNLIMITED;
}

static const struct vmc_limits *limits(struct decoder *d, const json_t *json)
{
	struct vmc_limits *l = alloc(d, 1, sizeof(*l));
	const json_t *packets = json_object_get(json, "packets");

	if (!l)
		return NULL;
	l->channels = limit(d, json, "channels");
	l->streams = limit(d, json, "streams");
	l->memory = limit(d, json, "memory");
	l->grants = limit(d, json, "grants");
	l->ring = limit(d, json, "ring");
	l->poll = limit(d, json, "poll");
	l->packets = packets && !json_is_null(packets) ? text(d, json, "packets") : NULL;
	return l;
}

/* A domid, which need not be there, and the name beside it. */
static uint32_t party(struct decoder *d, const json_t *json, const char *key, const char *name_key,
		      const char **name)
{
	const json_t *value = d->error ? NULL : json_object_get(json, key);

	if (!value || json_is_null(value)) {
		*name = copy(d, "");
		return 0;
	}
	*name = text(d, json, name_key);
	return small(d, json, key);
}

/* An object, whatever is in it. */
static const json_t *object(struct decoder *d, const json_t *json, const char *key)
{
	const json_t *value = member(d, json, key);

	if (!json_is_object(value))
		wrong(d, key);
	return value;
}

/* Starts a result of @size bytes; its end is finish(). */
static void *start(struct decoder *d, char *where, size_t size)
{
	void *out;

	d->where = where;
	d->error = 0;
	where[0] = '\0';
	out = vmc_arena_new(size, &d->arena);
	if (!out)
		d->error = VMC_ERR_NO_MEMORY;
	return out;
}

static int finish(const struct decoder *d, void *out)
{
	if (d->error)
		vmc_arena_free(out);
	return d->error;
}

int vmc_decode_status(const json_t *json, struct vmc_status **out, char *where)
{
	struct decoder d;
	struct vmc_status *s = start(&d, where, sizeof(*s));

	if (!s)
		return d.error;
	s->version = text(&d, json, "version");
	s->pid = small(&d, json, "pid");
	s->uptime = number(&d, json, "uptime");
	s->guests = small(&d, json, "guests");
	s->channels = small(&d, json, "channels");
	s->protocol_min = small(&d, json, "protocol_min");
	s->protocol_max = small(&d, json, "protocol_max");
	if (finish(&d, s))
		return d.error;
	*out = s;
	return 0;
}

int vmc_decode_guests(const json_t *json, struct vmc_guest_list **out, char *where)
{
	struct decoder d;
	struct vmc_guest_list *l = start(&d, where, sizeof(*l));

	if (!l)
		return d.error;
	l->guests = items(&d, json, "guests", guest, &l->count);
	if (finish(&d, l))
		return d.error;
	*out = l;
	return 0;
}

int vmc_decode_channels(const json_t *json, struct vmc_channel_list **out, char *where)
{
	struct decoder d;
	struct vmc_channel_list *l = start(&d, where, sizeof(*l));

	if (!l)
		return d.error;
	l->channels = items(&d, json, "channels", channel, &l->count);
	if (finish(&d, l))
		return d.error;
	*out = l;
	return 0;
}

int vmc_decode_details(const json_t *json, struct vmc_guest_details **out, char *where)
{
	struct decoder d;
	struct vmc_guest_details *x = start(&d, where, sizeof(*x));

	if (!x)
		return d.error;
	x->guest = guest(&d, member(&d, json, "guest"));
	x->limits = limits(&d, object(&d, json, "limits"));
	x->stats = stats(&d, member(&d, json, "stats"));
	x->channels = items(&d, json, "channels", channel, &x->nr_channels);
	if (finish(&d, x))
		return d.error;
	*out = x;
	return 0;
}

int vmc_decode_event(const json_t *json, struct vmc_event **out, char *where)
{
	struct decoder d;
	struct vmc_event *e = start(&d, where, sizeof(*e));
	const json_t *o, *id;

	if (!e)
		return d.error;
	o = object(&d, json, "event");
	e->time_ms = number(&d, o, "time");
	e->event = text(&d, o, "event");
	e->domid = party(&d, o, "domid", "name", &e->name);
	e->peer_domid = party(&d, o, "peer_domid", "peer", &e->peer);
	id = json_object_get(o, "channel");
	e->channel = id && !json_is_null(id) ? small(&d, o, "channel") : 0;
	e->detail = text(&d, o, "detail");
	if (finish(&d, e))
		return d.error;
	*out = e;
	return 0;
}

int vmc_decode_policy(const json_t *json, struct vmc_policy **out, char *where)
{
	struct decoder d;
	struct vmc_policy *p = start(&d, where, sizeof(*p));

	if (!p)
		return d.error;
	p->allowed = boolean(&d, json, "allowed");
	p->rule = text(&d, json, "rule");
	p->peers = boolean(&d, json, "peers");
	p->obstacle = text(&d, json, "obstacle");
	if (finish(&d, p))
		return d.error;
	*out = p;
	return 0;
}
