// SPDX-License-Identifier: LGPL-2.1-or-later
/* What each command shows. Keys are those of the control API, so that JSON reads like it. */
#include "vmcctl.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static bool at_home(const struct vmc_guest *g)
{
	return !strcmp(g->prepared, "no");
}

/* The column that tells who is prepared is there if somebody is; the state stays what it is. */
static void write_guest(struct writer *w, const struct vmc_guest *g, bool some_prepared)
{
	writer_number(w, "domid", "DOMID", g->domid);
	writer_string(w, "name", "NAME", g->name);
	writer_string(w, "uuid", "UUID", g->uuid);
	writer_string(w, "state", "STATE", g->state);
	writer_string(w, "driver", "DRIVER", g->driver);
	writer_number(w, "protocol", NULL, g->protocol);
	writer_number(w, "channels", "CHANNELS", g->channels);
	writer_strings(w, "macs", NULL, g->macs);
	writer_strings(w, "bridges", NULL, g->bridges);
	writer_strings(w, "quarantined", NULL, g->quarantined);
	writer_string(w, "prepared", some_prepared ? "PREPARED" : NULL, g->prepared);
	writer_string(w, "error", "ERROR", g->error);
}

static void write_guest_details(struct writer *w, const struct vmc_guest *g)
{
	writer_number(w, "domid", "Domain", g->domid);
	writer_string(w, "name", "Name", g->name);
	writer_string(w, "uuid", "UUID", g->uuid);
	writer_string(w, "state", "State", g->state);
	writer_string(w, "driver", "Driver", g->driver);
	writer_number(w, "protocol", "Protocol", g->protocol);
	writer_number(w, "channels", "Channels", g->channels);
	writer_strings(w, "macs", "MAC", g->macs);
	writer_strings(w, "bridges", "Bridge", g->bridges);
	writer_strings(w, "quarantined", g->quarantined[0] ? "Quarantined" : NULL, g->quarantined);
	writer_string(w, "prepared", at_home(g) ? NULL : "Prepared", g->prepared);
	writer_string(w, "error", g->error[0] ? "Error" : NULL, g->error);
}

/* In a table only the numbers that tell at a glance what a channel does. */
static void write_end(struct writer *w, const char *key, const char *label,
		      const struct vmc_channel_end *e, bool full)
{
	writer_open_object(w, key, NULL);
	writer_number(w, "domid", full ? "Domain" : NULL, e->domid);
	writer_string(w, "name", full ? "Guest" : label, e->name);
	writer_bool(w, "reported", NULL, e->reported);
	writer_known(w, e->reported);
	writer_number(w, "tx_streams", full ? "Streams sending" : "STREAMS", e->tx_streams);
	writer_number(w, "rx_streams", full ? "Streams receiving" : NULL, e->rx_streams);
	writer_bytes(w, "tx_bytes", full ? "Sent" : "SENT", e->tx_bytes);
	writer_bytes(w, "rx_bytes", full ? "Received" : NULL, e->rx_bytes);
	writer_number(w, "tx_packets", full ? "Packets sent" : "PACKETS", e->tx_packets);
	writer_number(w, "rx_packets", full ? "Packets received" : NULL, e->rx_packets);
	writer_number(w, "tx_dropped", full ? "Dropped sending" : NULL, e->tx_dropped);
	writer_number(w, "rx_dropped", full ? "Dropped receiving" : NULL, e->rx_dropped);
	writer_number(w, "rings", full ? "Rings" : NULL, e->rings);
	writer_number(w, "grants", full ? "Grants" : NULL, e->grants);
	writer_bytes(w, "memory", full ? "Memory" : "MEMORY", e->memory);
	writer_number(w, "events_sent", full ? "Events sent" : NULL, e->events_sent);
	writer_number(w, "events_received", full ? "Events received" : NULL, e->events_received);
	writer_number(w, "takeovers", full ? "Went local" : NULL, e->takeovers);
	writer_number(w, "ended", full ? "Went back to TCP" : NULL, e->ended);
	writer_known(w, true);
	writer_close_object(w);
}

static void write_channel(struct writer *w, const struct vmc_channel *c, bool full)
{
	writer_open_row(w);
	writer_number(w, "id", full ? "Channel" : "ID", c->id);
	writer_string(w, "mode", full ? "Mode" : "MODE", c->mode);
	write_end(w, "a", "GUEST", c->a, full);
	write_end(w, "b", "PEER", c->b, full);
	writer_close_row(w);
}

static void write_stats(struct writer *w, const struct vmc_guest_stats *s)
{
	size_t i;

	writer_open_object(w, "stats", "Driver");
	writer_bool(w, "reported", "Answered", s->reported);
	writer_known(w, s->reported);
	writer_number(w, "sockets", "Sockets watched", s->sockets);
	writer_number(w, "hooked", "Sockets so far", s->hooked);
	writer_bytes(w, "memory", "Memory granted", s->memory);
	writer_number(w, "grants", "Grants", s->grants);
	writer_number(w, "mapped", "Pages mapped", s->mapped);
	writer_known(w, true);
	writer_open_list(w, "fallbacks", "Connections on TCP",
			 s->reported ? "None counted." : "Not known.");
	for (i = 0; i < s->nr_fallbacks; i++) {
		writer_open_row(w);
		writer_string(w, "reason", "REASON", s->fallbacks[i]->reason);
		writer_number(w, "count", "COUNT", s->fallbacks[i]->count);
		writer_close_row(w);
	}
	writer_close_list(w);
	writer_close_object(w);
}

static void write_limit(struct writer *w, const char *key, const char *label, uint64_t max)
{
	if (max != VMC_UNLIMITED)
		writer_number(w, key, label, max);
}

static void write_limits(struct writer *w, const struct vmc_limits *l)
{
	bool any = l->packets || l->channels != VMC_UNLIMITED || l->streams != VMC_UNLIMITED ||
		   l->memory != VMC_UNLIMITED || l->grants != VMC_UNLIMITED ||
		   l->ring != VMC_UNLIMITED || l->poll != VMC_UNLIMITED;

	writer_open_object(w, "limits", any ? "Limits by vmcd.conf" : NULL);
	write_limit(w, "channels", "Channels", l->channels);
	write_limit(w, "streams", "Streams received", l->streams);
	if (l->memory != VMC_UNLIMITED)
		writer_bytes(w, "memory", "Memory granted", l->memory);
	write_limit(w, "grants", "Grants", l->grants);
	if (l->ring != VMC_UNLIMITED)
		writer_bytes(w, "ring", "Largest ring", l->ring);
	write_limit(w, "poll", "Polling, microseconds", l->poll);
	if (l->packets)
		writer_string(w, "packets", "Packets", l->packets);
	writer_close_object(w);
}

int vmcctl_list(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct vmc_guest_list *list;
	int ret = vmc_list_guests(vmc, &list);
	bool some_prepared = false;
	size_t i;

	(void)request;
	if (ret)
		return ret;
	for (i = 0; i < list->count; i++)
		some_prepared |= !at_home(list->guests[i]);
	writer_open_list(w, "guests", NULL, "No guests take part.");
	for (i = 0; i < list->count; i++) {
		writer_open_row(w);
		write_guest(w, list->guests[i], some_prepared);
		writer_close_row(w);
	}
	writer_close_list(w);
	vmc_free(list);
	return 0;
}

int vmcctl_channels(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct vmc_channel_list *list;
	int ret = vmc_list_channels(vmc, &list);
	size_t i;

	(void)request;
	if (ret)
		return ret;
	writer_open_list(w, "channels", NULL, "No channels.");
	for (i = 0; i < list->count; i++)
		write_channel(w, list->channels[i], false);
	writer_close_list(w);
	vmc_free(list);
	return 0;
}

int vmcctl_show(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct vmc_guest_details *details;
	int ret = vmc_show_guest(vmc, request->arg, &details);
	size_t i;

	if (ret)
		return ret;
	writer_open_object(w, "guest", NULL);
	write_guest_details(w, details->guest);
	writer_close_object(w);
	write_limits(w, details->limits);
	write_stats(w, details->stats);
	writer_open_blocks(w, "channels", "Channels", "None.");
	for (i = 0; i < details->nr_channels; i++)
		write_channel(w, details->channels[i], true);
	writer_close_list(w);
	vmc_free(details);
	return 0;
}

int vmcctl_status(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct vmc_status *s;
	int ret = vmc_get_status(vmc, &s);

	(void)request;
	if (ret)
		return ret;
	writer_string(w, "version", "Version of vmcd", s->version);
	writer_number(w, "pid", "Process", s->pid);
	writer_seconds(w, "uptime", "Running for", s->uptime);
	writer_number(w, "guests", "Guests", s->guests);
	writer_number(w, "channels", "Channels", s->channels);
	writer_number(w, "protocol_min", "Oldest protocol", s->protocol_min);
	writer_number(w, "protocol_max", "Newest protocol", s->protocol_max);
	vmc_free(s);
	return 0;
}

int vmcctl_policy(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct vmc_policy *p;
	int ret = vmc_test_policy(vmc, request->arg, request->more, &p);
	bool allowed;

	if (ret)
		return ret;
	allowed = p->allowed;
	writer_string(w, "a", NULL, request->arg);
	writer_string(w, "b", NULL, request->more);
	writer_bool(w, "allowed", NULL, p->allowed);
	writer_string(w, "rule", NULL, p->rule);
	writer_bool(w, "peers", NULL, p->peers);
	writer_string(w, "obstacle", NULL, p->obstacle);
	writer_sentence(w, "%s and %s %s share memory: %s", request->arg, request->more,
			allowed ? "may" : "may not", *p->rule ? p->rule : "no rule is against it");
	if (p->peers)
		writer_sentence(w, "They are peers now.");
	else if (allowed)
		writer_sentence(w, "They are no peers now: %s", p->obstacle);
	vmc_free(p);
	return allowed ? VMCCTL_OK : VMCCTL_FORBIDDEN;
}

int vmcctl_prepare(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	unsigned int seconds = request->seconds ? request->seconds : VMCCTL_PREPARE_SECONDS;
	uint64_t ms;
	int ret;

	vmc_set_timeout(vmc, VMCCTL_PREPARE_TIMEOUT_MS);
	ret = vmc_prepare(vmc, request->arg, seconds, &ms);
	if (ret)
		return ret;
	writer_string(w, "guest", NULL, request->arg);
	writer_number(w, "milliseconds", NULL, ms);
	writer_seconds(w, "seconds", NULL, seconds);
	writer_sentence(w, "%s is prepared (%" PRIu64 " ms), for %u s or until vmcctl resume %s",
			request->arg, ms, seconds, request->arg);
	return 0;
}

static void write_party(struct writer *w, const char *key, const char *name_key, uint32_t domid,
			const char *name)
{
	if (!domid)
		return;
	writer_number(w, key, NULL, domid);
	writer_string(w, name_key, NULL, name);
}

/* "  web1 (d5)", or nothing */
static void party_text(char *buf, size_t size, uint32_t domid, const char *name)
{
	buf[0] = '\0';
	if (domid)
		snprintf(buf, size, "  %s (d%" PRIu32 ")", name, domid);
}

static void write_event(struct writer *w, const struct vmc_event *e)
{
	char when[32] = "", guest[192], peer[192], channel[24] = "";
	time_t seconds = (time_t)(e->time_ms / 1000);
	struct tm tm;

	writer_number(w, "time", NULL, e->time_ms);
	writer_string(w, "event", NULL, e->event);
	write_party(w, "domid", "name", e->domid, e->name);
	write_party(w, "peer_domid", "peer", e->peer_domid, e->peer);
	if (e->channel)
		writer_number(w, "channel", NULL, e->channel);
	writer_string(w, "detail", NULL, e->detail);

	if (localtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	party_text(guest, sizeof(guest), e->domid, e->name);
	party_text(peer, sizeof(peer), e->peer_domid, e->peer);
	if (e->channel)
		snprintf(channel, sizeof(channel), "  channel %" PRIu32, e->channel);
	writer_sentence(w, "%s.%03u  %-*s%s%s%s%s%s", when, (unsigned int)(e->time_ms % 1000),
			e->domid ? 18 : 0, e->event, guest, peer, channel, *e->detail ? "  " : "", e->detail);
}

int vmcctl_monitor(struct vmc *vmc, bool json, FILE *out)
{
	struct vmc_event *event;
	struct writer *w;
	int ret = vmc_monitor(vmc);

	while (!ret) {
		ret = vmc_next_event(vmc, -1, &event);
		if (ret)
			break;
		w = json ? writer_json_line_new(out) : writer_text_new(out);
		if (w) {
			write_event(w, event);
			ret = writer_end(w) ? VMC_ERR_SYSTEM : 0;
		} else {
			ret = VMC_ERR_NO_MEMORY;
		}
		vmc_free(event);
	}
	return ret;
}

int vmcctl_resume(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	int ret = vmc_resume(vmc, request->arg);

	if (ret)
		return ret;
	writer_string(w, "guest", NULL, request->arg);
	writer_sentence(w, "%s is not prepared any more", request->arg);
	return 0;
}
