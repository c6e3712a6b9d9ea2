// SPDX-License-Identifier: LGPL-2.1-or-later
/* `vmcctl doctor`: looks at a host end to end, and says what to do. */
#include "vmcctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAIRS_MAX	500u	/* that are asked about */
#define REASONS_MAX	3u	/* that are told of a guest */
#define TEXT_MAX	512u

const char *vmcctl_root = "";

enum level { OK, NOTE, PROBLEM };

struct finding {
	enum level level;
	char text[TEXT_MAX];
	char todo[TEXT_MAX];	/* empty: nothing */
};

struct doctor {
	struct vmc *vmc;
	struct finding *findings;
	size_t count, room;
	bool no_memory;
};

static void say(struct doctor *d, enum level level, const char *todo, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void say(struct doctor *d, enum level level, const char *todo, const char *format, ...)
{
	struct finding *f;
	va_list args;

	if (d->count == d->room) {
		size_t room = d->room ? 2 * d->room : 32;

		f = reallocarray(d->findings, room, sizeof(*f));
		if (!f) {
			d->no_memory = true;
			return;
		}
		d->findings = f;
		d->room = room;
	}
	f = &d->findings[d->count++];
	f->level = level;
	snprintf(f->todo, sizeof(f->todo), "%s", todo);
	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
}

/* --------------------------------------------------------------------- the host */

static FILE *open_below(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s%s", vmcctl_root, path);
	return fopen(full, "re");
}

static bool may(const char *path, int mode)
{
	char full[256];

	snprintf(full, sizeof(full), "%s%s", vmcctl_root, path);
	return !access(full, mode);
}

/* The first line of a file; false if there is none. */
static bool first_line(const char *path, char *line, int size)
{
	FILE *f = open_below(path);
	bool got = f && fgets(line, size, f);

	if (f)
		fclose(f);
	if (got)
		line[strcspn(line, "\n")] = '\0';
	return got;
}

/* Returns false if nothing else makes sense. */
static bool look_at_xen(struct doctor *d)
{
	static const char *const devices[] = {
		"/dev/xen/evtchn", "/dev/xen/gntdev", "/dev/xen/privcmd", "/dev/xen/xenbus",
	};
	char major[16], minor[16], extra[64] = "", caps[64] = "";
	size_t missing = 0;

	if (!first_line("/sys/hypervisor/version/major", major, sizeof(major)) ||
	    !first_line("/sys/hypervisor/version/minor", minor, sizeof(minor))) {
		say(d, PROBLEM, "boot a Xen host, and run vmcctl in its Dom0", "this is no Xen system");
		return false;
	}
	first_line("/sys/hypervisor/version/extra", extra, sizeof(extra));
	first_line("/proc/xen/capabilities", caps, sizeof(caps));
	if (!strstr(caps, "control_d")) {
		say(d, PROBLEM, "run vmcctl in Dom0; in a guest see /sys/kernel/debug/vmc/status",
		    "Xen %s.%s%s, but this is not Dom0 (or xenfs is not mounted on /proc/xen)",
		    major, minor, extra);
		return false;
	}
	say(d, OK, "", "Xen %s.%s%s, and this is Dom0", major, minor, extra);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (may(devices[i], F_OK))
			continue;
		missing++;
		say(d, PROBLEM, "load the kernel's module for it: modprobe xen-evtchn xen-gntdev xen-privcmd",
		    "%s is missing", devices[i]);
	}
	if (!missing)
		say(d, OK, "", "Xen's devices are there");
	return true;
}

static void look_at_helper(struct doctor *d)
{
	static const char hook[] = "/etc/profile.d/vmc.sh", name[] = "LIBXL_SAVE_HELPER=";
	char line[256] = "", *path = NULL;
	FILE *f = open_below(hook);

	while (f && !path && fgets(line, sizeof(line), f))
		path = strstr(line, name);
	if (f)
		fclose(f);
	if (!path) {
		say(d, PROBLEM, "install VMC's files anew: vmc-save-helper(8)",
		    "%s does not tell xl of vmc-save-helper: guests move without being prepared", hook);
		return;
	}
	path += strlen(name);
	path[strcspn(path, " \n")] = '\0';
	if (!may(path, X_OK))
		say(d, PROBLEM, "install VMC's files anew: xl save and xl migrate fail without it",
		    "%s names %s, which is not there", hook, path);
	else
		say(d, OK, "", "xl save and xl migrate prepare guests before (%s)", path);
}

static int look_at_vmcd(struct doctor *d)
{
	struct vmc_status *s;
	int ret = vmc_get_status(d->vmc, &s);
	char uptime[32];

	if (ret)
		return ret;
	writer_human_seconds(uptime, s->uptime);
	say(d, OK, "", "vmcd %s runs (process %" PRIu32 ", for %s): %" PRIu32 " guests, %" PRIu32 " channels",
	    s->version, s->pid, uptime, s->guests, s->channels);
	vmc_free(s);
	return 0;
}

/* ------------------------------------------------------------------- the guests */

static void look_at_guest(struct doctor *d, const struct vmc_guest *g)
{
	if (!strcmp(g->state, "waiting"))
		say(d, PROBLEM, "in the guest: modprobe vmc, and see dmesg; it has to be built for the guest's kernel",
		    "%s (d%" PRIu32 ") has no driver connected", g->name, g->domid);
	else if (!strcmp(g->state, "refused"))
		say(d, PROBLEM, "update the driver in the guest and load it anew: rmmod vmc; modprobe vmc",
		    "%s (d%" PRIu32 ") was refused: %s", g->name, g->domid, g->error);
	else if (!strcmp(g->state, "gone"))
		say(d, PROBLEM, "create the guest anew, or detach and attach its vif",
		    "the VMC device of %s (d%" PRIu32 ") was taken out of XenStore", g->name, g->domid);
	else
		say(d, OK, "", "%s (d%" PRIu32 "): driver %s, %" PRIu32 " channels", g->name, g->domid,
		    g->driver, g->channels);
	if (strcmp(g->prepared, "no"))
		say(d, NOTE, "it goes back by itself; at once by: vmcctl resume",
		    "%s is %s to be saved or migrated", g->name, g->prepared);
	for (size_t i = 0; g->quarantined[i]; i++)
		say(d, PROBLEM, "one of the two breaks the protocol: see journalctl -u vmcd, and dmesg in both",
		    "%s and %s have no channel for a while (quarantine)", g->name, g->quarantined[i]);
}

static bool share_bridge(const struct vmc_guest *a, const struct vmc_guest *b)
{
	for (size_t i = 0; a->bridges[i]; i++)
		for (size_t j = 0; b->bridges[j]; j++)
			if (!strcmp(a->bridges[i], b->bridges[j]))
				return true;
	return false;
}

static const struct vmc_channel *channel_of(const struct vmc_channel_list *list, uint32_t a, uint32_t b)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct vmc_channel *c = list->channels[i];

		if ((c->a->domid == a && c->b->domid == b) || (c->a->domid == b && c->b->domid == a))
			return c;
	}
	return NULL;
}

static int look_at_pair(struct doctor *d, const struct vmc_channel_list *channels,
			const struct vmc_guest *a, const struct vmc_guest *b)
{
	const struct vmc_channel *c = channel_of(channels, a->domid, b->domid);
	char ida[16], idb[16];
	struct vmc_policy *p;
	int ret;

	if (c) {
		say(d, OK, "", "%s and %s: channel %" PRIu32 " is %s", a->name, b->name, c->id, c->mode);
		return 0;
	}
	snprintf(ida, sizeof(ida), "%" PRIu32, a->domid);
	snprintf(idb, sizeof(idb), "%" PRIu32, b->domid);
	ret = vmc_test_policy(d->vmc, ida, idb, &p);
	if (ret)
		return ret == VMC_ERR_NO_GUEST ? 0 : ret;	/* it has left meanwhile */
	if (!p->allowed)
		say(d, NOTE, "", "%s and %s may not share memory: %s", a->name, b->name, p->rule);
	else if (!p->peers)
		say(d, NOTE, "see vmc-troubleshooting(7)", "%s and %s are no peers now: %s", a->name, b->name,
		    p->obstacle);
	else
		say(d, NOTE, "", "%s and %s are peers, and no traffic between them has earned a channel yet",
		    a->name, b->name);
	vmc_free(p);
	return 0;
}

static int look_at_pairs(struct doctor *d, const struct vmc_guest_list *list)
{
	struct vmc_channel_list *channels = NULL;
	unsigned int looked = 0, left = 0;
	int ret = vmc_list_channels(d->vmc, &channels);

	for (size_t i = 0; i < list->count && !ret; i++) {
		for (size_t j = i + 1; j < list->count && !ret; j++) {
			const struct vmc_guest *a = list->guests[i], *b = list->guests[j];

			if (strcmp(a->state, "connected") || strcmp(b->state, "connected") ||
			    !share_bridge(a, b))
				continue;
			if (looked == PAIRS_MAX) {
				left++;
				continue;
			}
			looked++;
			ret = look_at_pair(d, channels, a, b);
		}
	}
	if (left)
		say(d, NOTE, "ask about one of them by: vmcctl policy test", "%u more pairs not looked at", left);
	vmc_free(channels);
	return ret;
}

/* What kept connections of a guest on TCP most often. */
static int look_at_fallbacks(struct doctor *d, const struct vmc_guest *g)
{
	struct vmc_guest_details *x;
	char domid[16], text[TEXT_MAX];
	uint64_t below = UINT64_MAX;
	size_t len = 0;
	int ret;

	if (strcmp(g->state, "connected"))
		return 0;
	snprintf(domid, sizeof(domid), "%" PRIu32, g->domid);
	ret = vmc_show_guest(d->vmc, domid, &x);
	if (ret)
		return ret == VMC_ERR_NO_GUEST ? 0 : ret;
	if (!x->stats->reported)
		say(d, PROBLEM, "see whether it runs (xl list), and dmesg in it",
		    "%s does not answer when it is asked for its counters", g->name);
	for (unsigned int n = 0; n < REASONS_MAX && len < sizeof(text); n++) {
		const struct vmc_fallback *most = NULL;

		for (size_t i = 0; i < x->stats->nr_fallbacks; i++) {
			const struct vmc_fallback *f = x->stats->fallbacks[i];

			if (f->count < below && (!most || f->count > most->count))
				most = f;
		}
		if (!most)
			break;
		below = most->count;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s (%" PRIu64 ")", len ? ", " : "",
					most->reason, most->count);
	}
	if (len)
		say(d, NOTE, "vmcctl(1) explains them; vmcctl show has all",
		    "%s: connections stayed on TCP or went back to it mostly for: %s", g->name, text);
	vmc_free(x);
	return 0;
}

static int look_at_guests(struct doctor *d)
{
	struct vmc_guest_list *list;
	int ret = vmc_list_guests(d->vmc, &list);

	if (ret)
		return ret;
	if (!list->count)
		say(d, NOTE, "", "no guests: those with a vif on a bridge get a VMC device");
	for (size_t i = 0; i < list->count; i++)
		look_at_guest(d, list->guests[i]);
	ret = look_at_pairs(d, list);
	for (size_t i = 0; i < list->count && !ret; i++)
		ret = look_at_fallbacks(d, list->guests[i]);
	vmc_free(list);
	return ret;
}

/* --------------------------------------------------------------------- findings */

static void write_findings(const struct doctor *d, struct writer *w, unsigned int problems)
{
	static const char *const levels[] = { "ok", "note", "problem" };

	for (size_t i = 0; i < d->count; i++) {
		const struct finding *f = &d->findings[i];

		writer_sentence(w, "%-7s  %s", levels[f->level], f->text);
		if (f->todo[0])
			writer_sentence(w, "         -> %s", f->todo);
	}
	writer_sentence(w, "%u problem%s", problems, problems == 1 ? "" : "s");
	if (!writer_has_values(w))
		return;
	writer_open_list(w, "findings", NULL, NULL);
	for (size_t i = 0; i < d->count; i++) {
		const struct finding *f = &d->findings[i];

		writer_open_row(w);
		writer_string(w, "level", NULL, levels[f->level]);
		writer_string(w, "text", NULL, f->text);
		writer_string(w, "advice", NULL, f->todo);
		writer_close_row(w);
	}
	writer_close_list(w);
	writer_number(w, "problems", NULL, problems);
}

int vmcctl_doctor(struct vmc *vmc, int connected, struct writer *w)
{
	struct doctor d = { .vmc = vmc };
	unsigned int problems = 0;
	int ret = 0;

	if (look_at_xen(&d)) {
		look_at_helper(&d);
		if (connected)
			say(&d, PROBLEM, connected == VMC_ERR_DENIED ? "run vmcctl as root" :
			    "systemctl start vmcd, and if it does not: journalctl -u vmcd",
			    "cannot talk to vmcd: %s%s%s", vmc_strerror(connected),
			    *vmc_error_detail(vmc) ? ": " : "", vmc_error_detail(vmc));
		else
			ret = look_at_vmcd(&d);
		if (!connected && !ret)
			ret = look_at_guests(&d);
	}
	for (size_t i = 0; i < d.count; i++)
		problems += d.findings[i].level == PROBLEM;
	if (!ret && d.no_memory)
		ret = VMC_ERR_NO_MEMORY;
	if (!ret)
		write_findings(&d, w, problems);
	free(d.findings);
	if (ret)
		return ret;
	return problems ? VMCCTL_FAILED : VMCCTL_OK;
}
