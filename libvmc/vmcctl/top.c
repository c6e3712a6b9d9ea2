// SPDX-License-Identifier: LGPL-2.1-or-later
/* `vmcctl top`: what channels do now, the busiest first. */
#include "vmcctl.h"

#include <stdlib.h>
#include <time.h>

struct row {
	const struct vmc_channel *c;
	uint64_t sent, received, packets, events;	/* in a second, as its first guest tells */
	bool known;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const struct vmc_channel *find(const struct vmc_channel_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->channels[i]->id == id)
			return list->channels[i];
	return NULL;
}

/* Counters start afresh with a driver: none goes backwards here. */
static uint64_t rate(uint64_t before, uint64_t now, uint64_t ms)
{
	return now > before ? (uint64_t)((double)(now - before) * 1000 / (double)ms) : 0;
}

static struct row measure(const struct vmc_channel *c, const struct vmc_channel *before, uint64_t ms)
{
	struct row r = { .c = c };
	const struct vmc_channel_end *now = c->a, *then = before ? before->a : NULL;

	if (!then || !now->reported || !then->reported)
		return r;
	r.known = true;
	r.sent = rate(then->tx_bytes, now->tx_bytes, ms);
	r.received = rate(then->rx_bytes, now->rx_bytes, ms);
	r.packets = rate(then->tx_packets + then->rx_packets, now->tx_packets + now->rx_packets, ms);
	r.events = rate(then->events_sent + then->events_received,
			now->events_sent + now->events_received, ms);
	return r;
}

/* The busiest first; of equal ones that with the smaller number. */
static int compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	uint64_t bytes_x = x->sent + x->received, bytes_y = y->sent + y->received;

	if (bytes_x != bytes_y)
		return bytes_x < bytes_y ? 1 : -1;
	return x->c->id < y->c->id ? -1 : x->c->id > y->c->id;
}

static void write_row(struct writer *w, const struct row *r)
{
	const struct vmc_channel *c = r->c;

	writer_open_row(w);
	writer_number(w, "id", "ID", c->id);
	writer_string(w, "mode", "MODE", c->mode);
	writer_string(w, "guest", "GUEST", c->a->name);
	writer_string(w, "peer", "PEER", c->b->name);
	writer_bool(w, "known", NULL, r->known);
	writer_known(w, c->a->reported);
	writer_number(w, "streams", "STREAMS", (uint64_t)c->a->tx_streams + c->a->rx_streams);
	writer_known(w, r->known);
	writer_bytes(w, "sent", "SENT/s", r->sent);
	writer_bytes(w, "received", "RECEIVED/s", r->received);
	writer_number(w, "packets", "PACKETS/s", r->packets);
	writer_number(w, "events", "EVENTS/s", r->events);
	writer_known(w, c->a->reported && c->b->reported);
	writer_bytes(w, "memory", "MEMORY", c->a->memory + c->b->memory);
	writer_known(w, true);
	writer_close_row(w);
}

int vmcctl_top(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w)
{
	struct timespec wait = { .tv_sec = request->watch ? request->watch : 1 };
	struct vmc_channel_list *before, *now;
	struct row *rows;
	uint64_t since;
	int ret = vmc_list_channels(vmc, &before);

	if (ret)
		return ret;
	since = now_ms();
	nanosleep(&wait, NULL);
	ret = vmc_list_channels(vmc, &now);
	if (ret) {
		vmc_free(before);
		return ret;
	}
	since = now_ms() - since;
	rows = calloc(now->count + 1, sizeof(*rows));
	if (!rows) {
		ret = VMC_ERR_NO_MEMORY;
		goto out;
	}
	for (size_t i = 0; i < now->count; i++)
		rows[i] = measure(now->channels[i], find(before, now->channels[i]->id),
				  since ? since : 1);
	qsort(rows, now->count, sizeof(*rows), compare);
	writer_open_list(w, "channels", NULL, "No channels.");
	for (size_t i = 0; i < now->count; i++)
		write_row(w, &rows[i]);
	writer_close_list(w);
	free(rows);
out:
	vmc_free(before);
	vmc_free(now);
	return ret;
}
