// SPDX-License-Identifier: LGPL-2.1-or-later
/* `vmcctl metrics`: Prometheus' text format, version 0.0.4. */
#include "vmcctl.h"

#include <inttypes.h>
#include <string.h>

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: what would end it, or the line, is escaped. */
static void label(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s=\"", key);
	for (; *value; value++) {
		if (*value == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (*value == '"' || *value == '\\')
			fputc('\\', out);
		fputc(*value, out);
	}
	fputc('"', out);
}

static void guest_labels(FILE *out, uint32_t domid, const char *name)
{
	fprintf(out, "domid=\"%" PRIu32 "\",", domid);
	label(out, "guest", name);
}

/* --------------------------------------------------------------------- channels */

static const struct {
	const char *name, *type, *more, *help;
	size_t offset;
	size_t size;
} per_end[] = {
#define END(name, type, more, member, help) { name, type, more, help,			\
	offsetof(struct vmc_channel_end, member), sizeof(((struct vmc_channel_end *)NULL)->member) }
	END("vmc_streams", "gauge", ",direction=\"sent\"", tx_streams,
	    "Directions of TCP connections in shared memory."),
	END("vmc_streams", NULL, ",direction=\"received\"", rx_streams, NULL),
	END("vmc_bytes_total", "counter", ",direction=\"sent\"", tx_bytes,
	    "Bytes through shared memory since the channel opened."),
	END("vmc_bytes_total", NULL, ",direction=\"received\"", rx_bytes, NULL),
	END("vmc_packets_total", "counter", ",direction=\"sent\"", tx_packets,
	    "Packets through shared memory since the channel opened."),
	END("vmc_packets_total", NULL, ",direction=\"received\"", rx_packets, NULL),
	END("vmc_packets_dropped_total", "counter", ",direction=\"sent\"", tx_dropped,
	    "Packets for which there was no room, or which the peer may not send."),
	END("vmc_packets_dropped_total", NULL, ",direction=\"received\"", rx_dropped, NULL),
	END("vmc_went_local_total", "counter", "", takeovers,
	    "Directions of connections that went to shared memory."),
	END("vmc_went_remote_total", "counter", "", ended,
	    "Directions of connections that went back to TCP."),
	END("vmc_events_total", "counter", ",direction=\"sent\"", events_sent,
	    "Notifications since the channel opened."),
	END("vmc_events_total", NULL, ",direction=\"received\"", events_received, NULL),
	END("vmc_granted_bytes", "gauge", "", memory, "Memory that a guest grants to its peer."),
#undef END
};

static void print_end(FILE *out, size_t which, const struct vmc_channel_end *e,
		      const struct vmc_channel_end *peer)
{
	const char *value = (const char *)e + per_end[which].offset;
	uint64_t wide;
	uint32_t narrow;

	if (!e->reported)
		return;
	if (per_end[which].size == sizeof(wide)) {
		memcpy(&wide, value, sizeof(wide));
	} else {
		memcpy(&narrow, value, sizeof(narrow));
		wide = narrow;
	}
	fprintf(out, "%s{", per_end[which].name);
	guest_labels(out, e->domid, e->name);
	fprintf(out, ",peer_domid=\"%" PRIu32 "\",", peer->domid);
	label(out, "peer", peer->name);
	fprintf(out, "%s} %" PRIu64 "\n", per_end[which].more, wide);
}

static int print_channels(struct vmc *vmc, FILE *out)
{
	static const char *const modes[] = { "opening", "local", "idle", "closing" };
	struct vmc_channel_list *list;
	int ret = vmc_list_channels(vmc, &list);

	if (ret)
		return ret;
	head(out, "vmc_channels", "gauge", "Pairs of guests that share memory, by mode.");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		unsigned int n = 0;

		for (size_t j = 0; j < list->count; j++)
			n += !strcmp(list->channels[j]->mode, modes[i]);
		fprintf(out, "vmc_channels{mode=\"%s\"} %u\n", modes[i], n);
	}
	for (size_t i = 0; i < sizeof(per_end) / sizeof(per_end[0]); i++) {
		if (per_end[i].type)
			head(out, per_end[i].name, per_end[i].type, per_end[i].help);
		for (size_t j = 0; j < list->count; j++) {
			print_end(out, i, list->channels[j]->a, list->channels[j]->b);
			print_end(out, i, list->channels[j]->b, list->channels[j]->a);
		}
	}
	vmc_free(list);
	return 0;
}

/* ----------------------------------------------------------------------- guests */

/* Why connections stayed on TCP. A guest that has left meanwhile is left out. */
static int print_fallbacks(struct vmc *vmc, const struct vmc_guest_list *list, FILE *out)
{
	struct vmc_guest_details *x;
	char domid[16];
	int ret;

	head(out, "vmc_fallbacks_total", "counter",
	     "How often connections stayed on TCP, or went back to it, by reason.");
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->guests[i]->state, "connected"))
			continue;
		snprintf(domid, sizeof(domid), "%" PRIu32, list->guests[i]->domid);
		ret = vmc_show_guest(vmc, domid, &x);
		if (ret == VMC_ERR_NO_GUEST)
			continue;
		if (ret)
			return ret;
		for (size_t j = 0; j < x->stats->nr_fallbacks; j++) {
			fputs("vmc_fallbacks_total{", out);
			guest_labels(out, x->guest->domid, x->guest->name);
			fputc(',', out);
			label(out, "reason", x->stats->fallbacks[j]->reason);
			fprintf(out, "} %" PRIu64 "\n", x->stats->fallbacks[j]->count);
		}
		vmc_free(x);
	}
	return 0;
}

static int print_guests(struct vmc *vmc, FILE *out)
{
	static const char *const states[] = { "waiting", "connected", "refused", "gone" };
	struct vmc_guest_list *list;
	int ret = vmc_list_guests(vmc, &list);

	if (ret)
		return ret;
	head(out, "vmc_guests", "gauge", "Guests with a VMC device, by state.");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		unsigned int n = 0;

		for (size_t j = 0; j < list->count; j++)
			n += !strcmp(list->guests[j]->state, states[i]);
		fprintf(out, "vmc_guests{state=\"%s\"} %u\n", states[i], n);
	}
	head(out, "vmc_quarantined", "gauge", "Guests with which a guest has no channel for a while.");
	for (size_t i = 0; i < list->count; i++) {
		const struct vmc_guest *g = list->guests[i];
		unsigned int n = 0;

		while (g->quarantined[n])
			n++;
		fputs("vmc_quarantined{", out);
		guest_labels(out, g->domid, g->name);
		fprintf(out, "} %u\n", n);
	}
	ret = print_fallbacks(vmc, list, out);
	vmc_free(list);
	return ret;
}

int vmcctl_metrics(struct vmc *vmc, FILE *out)
{
	struct vmc_status *s;
	int ret = vmc_get_status(vmc, &s);

	if (ret)
		return ret;
	head(out, "vmc_info", "gauge", "The version of vmcd.");
	fputs("vmc_info{", out);
	label(out, "version", s->version);
	fputs("} 1\n", out);
	head(out, "vmc_uptime_seconds", "gauge", "How long vmcd has run.");
	fprintf(out, "vmc_uptime_seconds %" PRIu64 "\n", s->uptime);
	vmc_free(s);
	ret = print_channels(vmc, out);
	return ret ? ret : print_guests(vmc, out);
}
