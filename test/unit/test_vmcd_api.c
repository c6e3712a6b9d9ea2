// SPDX-License-Identifier: GPL-2.0-or-later
/* The control socket: methods, framing, limits, credentials, hostile callers. */
#include "test_vmcd_fake.h"

#include "api.h"
#include "chan.h"
#include "config.h"
#include "control.h"
#include "events.h"
#include "guest.h"
#include "stats.h"

#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------- credentials */

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
struct group *__wrap_getgrnam(const char *name);

static struct {
	uid_t uid;
	gid_t gid;
	gid_t groups[4];
	unsigned int nr_groups;
	bool group_exists;
} caller;

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (level == SOL_SOCKET && name == SO_PEERCRED) {
		*(struct ucred *)value = (struct ucred){ .uid = caller.uid, .gid = caller.gid };
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_PEERGROUPS) {
		memcpy(value, caller.groups, sizeof(caller.groups));
		*len = caller.nr_groups * (socklen_t)sizeof(gid_t);
		return 0;
	}
	return __real_getsockopt(fd, level, name, value, len);
}

struct group *__wrap_getgrnam(const char *name)
{
	static struct group group = { .gr_gid = 777 };

	assert_string_equal(name, "vmc");
	if (!caller.group_exists)
		return NULL;
	group.gr_gid = 777;
	return &group;
}

/* ------------------------------------------------------------------ the scene */

struct scene {
	struct fake *f;
	struct vmc_control *control;
	struct fake_guest *a;
	struct fake_guest *b;
	char dir[64];
	char path[128];
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	memset(&caller, 0, sizeof(caller));
	strcpy(s->dir, "/tmp/vmcd-test.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/run/sock", s->dir);
	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->f->d->timing.stats = 50;
	s->a = fake_vm(s->f, 3);
	s->b = fake_vm(s->f, 4);
	fg_ready(s->a);
	fg_ready(s->b);
	assert_int_equal(vmc_control_new(&s->control, s->f->d, s->path), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char dir[128];

	vmc_control_free(s->control);
	fake_free(s->f);
	assert_int_equal(access(s->path, F_OK), -1);
	snprintf(dir, sizeof(dir), "%s/run", s->dir);
	rmdir(dir);
	rmdir(s->dir);
	free(s);
	return 0;
}

static int dial(struct scene *s)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, s->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static void say_bytes(struct scene *s, int fd, const char *text, size_t len)
{
	assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
	fake_settle(s->f);
}

/* With the NUL. */
static void say(struct scene *s, int fd, const char *text)
{
	say_bytes(s, fd, text, strlen(text) + 1);
}

/* The next answer, or NULL if there is none now. */
static json_t *hear(struct scene *s, int fd)
{
	static char buf[1 << 16];
	size_t len = 0;
	json_t *j;

	fake_settle(s->f);
	for (;;) {
		ssize_t n = recv(fd, buf + len, 1, 0);

		if (n <= 0) {
			assert_int_equal(len, 0);
			return NULL;
		}
		assert_true(len + 1 < sizeof(buf));
		if (!buf[len++])
			break;
	}
	j = json_loadb(buf, len - 1, JSON_REJECT_DUPLICATES, NULL);
	assert_true(json_is_object(j));
	assert_true(json_is_object(json_object_get(j, "parameters")));
	return j;
}

static bool hung_up(struct scene *s, int fd)
{
	char c;
	ssize_t n;

	fake_settle(s->f);
	n = recv(fd, &c, 1, 0);
	return !n || (n < 0 && errno == ECONNRESET);
}

/* One call on a connection of its own; while it waits, @meanwhile plays the guests. */
static json_t *call(struct scene *s, const char *request, void (*meanwhile)(struct scene *s))
{
	int fd = dial(s);
	json_t *j;

	say(s, fd, request);
	if (meanwhile)
		meanwhile(s);
	j = hear(s, fd);
	for (int i = 0; !j && i < 50; i++) {
		fake_run(s->f, 5);
		j = hear(s, fd);
	}
	close(fd);
	fake_settle(s->f);
	assert_non_null(j);
	return j;
}

static json_t *get(json_t *reply, const char *path)
{
	char copy[128], *part, *save;
	json_t *j = json_object_get(reply, "parameters");

	snprintf(copy, sizeof(copy), "%s", path);
	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		j = json_is_array(j) ? json_array_get(j, (size_t)atoi(part)) :
				       json_object_get(j, part);
		if (!j)
			fail_msg("no %s in the answer", path);
	}
	return j;
}

static void assert_int(json_t *reply, const char *path, json_int_t value)
{
	assert_true(json_is_integer(get(reply, path)));
	assert_int_equal(json_integer_value(get(reply, path)), value);
}

static void assert_str(json_t *reply, const char *path, const char *value)
{
	assert_true(json_is_string(get(reply, path)));
	assert_string_equal(json_string_value(get(reply, path)), value);
}

static void assert_error(json_t *reply, const char *error, const char *field,
			 const char *value)
{
	assert_non_null(json_object_get(reply, "error"));
	assert_string_equal(json_string_value(json_object_get(reply, "error")), error);
	if (field)
		assert_str(reply, field, value);
	json_decref(reply);
}

static uint32_t stats_query_of(struct fake_guest *g)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_STATS_REQ, &m);
	assert_int_not_equal(m.h.id, 0);
	return m.h.id;
}

static void answer_chan(struct fake_guest *g, uint32_t query, uint32_t chan, uint32_t n)
{
	struct vmc_l_stats_chan c = {
		.h = { VMC_L_STATS_CHAN, sizeof(c), query }, .chan = chan,
		.tx_streams = n, .rx_streams = n + 1, .rings = n + 2, .grants = n + 3,
		.bytes_granted = n + 4, .tx_bytes = n + 5, .rx_bytes = UINT64_MAX,
		.events_tx = n + 6, .events_rx = n + 7, .takeovers = n + 8, .ended = n + 9,
		.tx_packets = n + 10, .rx_packets = n + 11, .tx_dropped = n + 12,
		.rx_dropped = n + 13,
	};

	fg_send(g, &c);
}

static void answer_end(struct fake_guest *g, uint32_t query)
{
	struct vmc_l_stats_end e = {
		.h = { VMC_L_STATS_END, sizeof(e), query }, .sockets = 5, .hooked = 6,
		.bytes_granted = 7, .grants = 8, .mapped = 9,
		.reasons = { [VMC_R_PROOF] = 11, [VMC_R_OOB] = 1,
			     [VMC_STATS_REASONS - 1] = 99 },
	};

	fg_send(g, &e);
}

static uint32_t chan_id;

static void both_answer(struct scene *s)
{
	uint32_t q = stats_query_of(s->a);

	assert_int_equal(stats_query_of(s->b), q);
	answer_chan(s->a, q, chan_id, 100);
	answer_chan(s->a, q, 4711, 1);		/* no such channel: nothing happens */
	answer_end(s->a, q);
	answer_chan(s->b, q, chan_id, 200);
	answer_end(s->b, q);
}

static void only_a_answers(struct scene *s)
{
	uint32_t q = stats_query_of(s->a);

	answer_chan(s->a, q, chan_id, 0);
	answer_end(s->a, q);
	stats_query_of(s->b);
}

/* -------------------------------------------------------------------- methods */

static void status(void **state)
{
	struct scene *s = *state;
	json_t *j;

	fg_open(s->a, s->b);
	j = call(s, "{\"method\":\"io.vmc.Manager.GetStatus\"}", NULL);
	assert_null(json_object_get(j, "error"));
	assert_int(j, "guests", 2);
	assert_int(j, "channels", 1);
	assert_int(j, "pid", getpid());
	assert_int(j, "protocol_min", 1);
	assert_int(j, "protocol_max", 1);
	assert_true(json_string_length(get(j, "version")) > 0);
	assert_true(json_integer_value(get(j, "uptime")) >= 0);
	json_decref(j);
}

static void guests(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c;
	json_t *j;

	fake_domain(s->f, 9, "no-vif");
	c = fake_vm(s->f, 5);
	fake_write(s->f, "/local/domain/5/name", "odd\xff\x01name");
	fake_settle(s->f);
	fg_publish(c);
	fg_write(c, "event-channel", "x");
	fg_write(c, "state", "4");
	fg_open(s->a, s->b);
	j = call(s, "{\"method\":\"io.vmc.Manager.ListGuests\",\"parameters\":{}}", NULL);
	assert_int_equal(json_array_size(get(j, "guests")), 3);
	assert_int(j, "guests/0/domid", 3);
	assert_str(j, "guests/0/name", "vm3");
	assert_str(j, "guests/0/uuid", "03030303-0303-0303-0303-030303030303");
	assert_str(j, "guests/0/state", "connected");
	assert_str(j, "guests/0/driver", "test-1.0");
	assert_int(j, "guests/0/protocol", 1);
	assert_str(j, "guests/0/error", "");
	assert_str(j, "guests/0/macs/0", "00:16:3e:00:00:03");
	assert_str(j, "guests/0/bridges/0", "xenbr0");
	assert_int(j, "guests/0/channels", 1);
	assert_str(j, "guests/2/name", "odd??name");
	assert_str(j, "guests/2/state", "refused");
	assert_str(j, "guests/2/error", "bad node event-channel: not a number");
	assert_str(j, "guests/2/driver", "");
	assert_int(j, "guests/2/protocol", 0);
	json_decref(j);
}

static void channels(void **state)
{
	struct scene *s = *state;
	json_t *j;

	chan_id = fg_open(s->a, s->b);
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", both_answer);
	assert_int_equal(json_array_size(get(j, "channels")), 1);
	assert_int(j, "channels/0/id", chan_id);
	assert_str(j, "channels/0/mode", "local");
	assert_int(j, "channels/0/a/domid", 3);
	assert_str(j, "channels/0/a/name", "vm3");
	assert_true(json_is_true(get(j, "channels/0/a/reported")));
	assert_int(j, "channels/0/a/tx_streams", 100);
	assert_int(j, "channels/0/a/rx_streams", 101);
	assert_int(j, "channels/0/a/rings", 102);
	assert_int(j, "channels/0/a/grants", 103);
	assert_int(j, "channels/0/a/memory", 104);
	assert_int(j, "channels/0/a/tx_bytes", 105);
	assert_int(j, "channels/0/a/rx_bytes", INT64_MAX);
	assert_int(j, "channels/0/a/events_sent", 106);
	assert_int(j, "channels/0/a/events_received", 107);
	assert_int(j, "channels/0/a/takeovers", 108);
	assert_int(j, "channels/0/a/ended", 109);
	assert_int(j, "channels/0/a/tx_packets", 110);
	assert_int(j, "channels/0/a/rx_packets", 111);
	assert_int(j, "channels/0/a/tx_dropped", 112);
	assert_int(j, "channels/0/a/rx_dropped", 113);
	assert_int(j, "channels/0/b/tx_streams", 200);
	json_decref(j);
}

static void channels_of_silent_guests(void **state)
{
	struct scene *s = *state;
	json_t *j;

	chan_id = fg_open(s->a, s->b);
	/* numbers of an earlier answer must not come up again */
	json_decref(call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", both_answer));
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", only_a_answers);
	assert_true(json_is_true(get(j, "channels/0/a/reported")));
	assert_true(json_is_false(get(j, "channels/0/b/reported")));
	assert_int(j, "channels/0/b/tx_bytes", 0);
	assert_int(j, "channels/0/b/tx_packets", 0);
	assert_str(j, "channels/0/mode", "local");	/* a has an inbound stream */
	json_decref(j);
	/* it comes too late, and is no violation */
	answer_chan(s->b, 2, chan_id, 1);
	answer_end(s->b, 2);
	answer_end(s->b, 12345);
	fg_assert_attached(s->b);
}

/* What the guests say about packets when they are asked the next time; no streams. */
static struct vmc_l_stats_chan said[2];
static bool silent[2];

static void say_packets(struct scene *s)
{
	struct fake_guest *const g[] = { s->a, s->b };

	for (int i = 0; i < 2; i++) {
		uint32_t query = stats_query_of(g[i]);

		said[i].h = (struct vmc_msg){ VMC_L_STATS_CHAN, sizeof(said[i]), query };
		said[i].chan = chan_id;
		if (silent[i])
			continue;
		fg_send(g[i], &said[i]);
		answer_end(g[i], query);
	}
}

static void assert_mode(struct scene *s, const char *mode)
{
	json_t *j;

	s->f->d->timing.stats = silent[0] || silent[1] ? 150 : 10000;
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", say_packets);
	assert_str(j, "channels/0/mode", mode);
	json_decref(j);
}

/* Without streams a channel is local while packets go through it, as far as one can see. */
static void mode_with_packets(void **state)
{
	struct scene *s = *state;

	memset(said, 0, sizeof(said));
	memset(silent, 0, sizeof(silent));
	chan_id = fg_open(s->a, s->b);
	assert_mode(s, "idle");
	said[0].tx_packets = 1;
	assert_mode(s, "local");
	assert_mode(s, "idle");
	said[0].rx_packets = 1;
	assert_mode(s, "local");
	assert_mode(s, "idle");
	said[1].tx_packets = UINT64_MAX;
	assert_mode(s, "local");
	said[1].rx_packets = UINT64_MAX;
	assert_mode(s, "local");
	assert_mode(s, "idle");

	/* nothing goes through where all is dropped, nor by bytes or events alone */
	said[0].tx_dropped = said[0].rx_dropped = 5;
	said[1].tx_bytes = said[1].events_tx = 5;
	assert_mode(s, "idle");

	/* one that did not answer tells of all since it last did */
	silent[0] = true;
	said[0].tx_packets = 2;
	assert_mode(s, "idle");
	said[1].rx_packets = 7;
	assert_mode(s, "local");
	assert_mode(s, "idle");
	silent[0] = false;
	assert_mode(s, "local");
	assert_mode(s, "idle");

	said[0].rx_streams = 1;
	assert_mode(s, "local");
	assert_mode(s, "local");
}

static void channel_modes(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;
	json_t *j;

	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_PREPARE, &m);
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", NULL);
	assert_str(j, "channels/0/mode", "opening");
	json_decref(j);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_half(s->a, VMC_L_CHAN_OFFER, m.h.id, 4, 1);
	fg_half(s->b, VMC_L_CHAN_ACCEPT, m.h.id, 3, 0);
	fg_simple(s->a, VMC_L_CHAN_UP, m.h.id);
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", NULL);
	assert_str(j, "channels/0/mode", "idle");
	json_decref(j);
	fg_close(s->a, VMC_L_CHAN_CLOSED, m.h.id, 4, 0);
	j = call(s, "{\"method\":\"io.vmc.Manager.ListChannels\"}", NULL);
	assert_str(j, "channels/0/mode", "closing");
	json_decref(j);
}

static void one_guest(void **state)
{
	static const char *const names[] = {
		"vm3", "3", "03030303-0303-0303-0303-030303030303",
	};
	struct scene *s = *state;
	char request[256];
	json_t *j;

	chan_id = fg_open(s->a, s->b);
	for (size_t i = 0; i < 3; i++) {
		snprintf(request, sizeof(request),
			 "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"%s\"}}",
			 names[i]);
		j = call(s, request, both_answer);
		assert_int(j, "guest/domid", 3);
		assert_true(json_is_true(get(j, "stats/reported")));
		assert_int(j, "stats/sockets", 5);
		assert_int(j, "stats/hooked", 6);
		assert_int(j, "stats/memory", 7);
		assert_int(j, "stats/grants", 8);
		assert_int(j, "stats/mapped", 9);
		assert_int_equal(json_array_size(get(j, "stats/fallbacks")), 2);
		assert_str(j, "stats/fallbacks/0/reason", "proof");
		assert_int(j, "stats/fallbacks/0/count", 11);
		assert_str(j, "stats/fallbacks/1/reason", "oob");
		assert_int_equal(json_array_size(get(j, "channels")), 1);
		json_decref(j);
	}
}

static void no_such_guest(void **state)
{
	static const char *const names[] = { "nobody", "", "99", "-3", "3 ", "no-vif" };
	struct scene *s = *state;
	char request[256];

	fake_domain(s->f, 9, "no-vif");
	fake_introduce_event(s->f);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(request, sizeof(request),
			 "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"%s\"}}",
			 names[i]);
		assert_error(call(s, request, NULL), "io.vmc.Manager.NoSuchGuest", "guest",
			     names[i]);
	}
	fake_write(s->f, "/local/domain/4/name", "vm3");
	fake_settle(s->f);
	assert_error(call(s, "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"vm3\"}}",
			  NULL), "io.vmc.Manager.AmbiguousGuest", "guest", "vm3");
}

static void service_interface(void **state)
{
	struct scene *s = *state;
	char text[8192];
	size_t len;
	FILE *file;
	json_t *j;

	j = call(s, "{\"method\":\"org.varlink.service.GetInfo\"}", NULL);
	assert_str(j, "product", "vmcd");
	assert_str(j, "interfaces/0", "io.vmc.Manager");
	assert_str(j, "interfaces/1", "org.varlink.service");
	assert_true(json_is_string(get(j, "vendor")));
	assert_true(json_is_string(get(j, "version")));
	assert_true(json_is_string(get(j, "url")));
	json_decref(j);

	file = fopen(VARLINK_FILE, "r");
	assert_non_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	fclose(file);
	j = call(s, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.vmc.Manager\"}}",
		 NULL);
	assert_str(j, "description", text);
	json_decref(j);
	j = call(s, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.varlink.service\"}}",
		 NULL);
	assert_non_null(strstr(json_string_value(get(j, "description")),
			       "interface org.varlink.service"));
	json_decref(j);
	assert_error(call(s, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"a.b\"}}",
			  NULL), "org.varlink.service.InterfaceNotFound", "interface", "a.b");
}

static void bad_calls(void **state)
{
	static const struct { const char *request, *error, *field, *value; } cases[] = {
		{ "{\"method\":\"io.vmc.Manager.Nope\"}",
		  "org.varlink.service.MethodNotFound", "method", "io.vmc.Manager.Nope" },
		{ "{\"method\":\"io.vmc.Manager.\"}",
		  "org.varlink.service.MethodNotFound", "method", "io.vmc.Manager." },
		{ "{\"method\":\"a.b.C\"}",
		  "org.varlink.service.InterfaceNotFound", "interface", "a.b" },
		{ "{\"method\":\"\"}",
		  "org.varlink.service.InterfaceNotFound", "interface", "" },
		{ "{\"method\":\"io.vmc.Manager.GetStatus\",\"parameters\":{\"x\":1}}",
		  "org.varlink.service.InvalidParameter", "parameter", "x" },
		{ "{\"method\":\"io.vmc.Manager.ShowGuest\"}",
		  "org.varlink.service.InvalidParameter", "parameter", "guest" },
		{ "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":3}}",
		  "org.varlink.service.InvalidParameter", "parameter", "guest" },
		{ "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"3\",\"y\":null}}",
		  "org.varlink.service.InvalidParameter", "parameter", "y" },
		{ "{\"method\":\"io.vmc.Manager.GetStatus\",\"upgrade\":true}",
		  "org.varlink.service.InvalidParameter", "parameter", "upgrade" },
	};
	struct scene *s = *state;
	char request[4000], name[3000];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_error(call(s, cases[i].request, NULL), cases[i].error, cases[i].field,
			     cases[i].value);
	/* what is echoed is cut off and clean */
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(request, sizeof(request),
		 "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"%s\"}}", name);
	name[VMC_API_ECHO_MAX - 1] = '\0';
	assert_error(call(s, request, NULL), "io.vmc.Manager.NoSuchGuest", "guest", name);
	assert_error(call(s, "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"\\u001b\\u00e9\"}}",
			  NULL), "io.vmc.Manager.NoSuchGuest", "guest", "???");
}

/* -------------------------------------------------------------------- framing */

static void flags(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);
	json_t *j;

	say(s, fd, "{\"method\":\"io.vmc.Manager.GetStatus\",\"oneway\":true}");
	assert_null(hear(s, fd));
	say(s, fd, "{\"method\":\"io.vmc.Manager.Nope\",\"oneway\":true}");
	assert_null(hear(s, fd));
	say(s, fd, "{\"method\":\"io.vmc.Manager.ListChannels\",\"oneway\":true}");
	fake_run(s->f, 70);
	assert_null(hear(s, fd));
	say(s, fd, "{\"method\":\"io.vmc.Manager.GetStatus\",\"more\":true,\"oneway\":false}");
	j = hear(s, fd);
	assert_non_null(j);
	assert_false(json_is_true(json_object_get(j, "continues")));
	json_decref(j);
	assert_null(hear(s, fd));
	close(fd);
}

static void pipelined(void **state)
{
	static const char text[] = "{\"method\":\"io.vmc.Manager.ListChannels\"}\0"
				   "{\"method\":\"io.vmc.Manager.GetStatus\"}\0"
				   "{\"method\":\"io.vmc.Manager.ListGuests\"}";
	struct scene *s = *state;
	int fd = dial(s);
	json_t *j;

	/* the answers come in the order of the requests, though the first one has to wait */
	say_bytes(s, fd, text, sizeof(text) - 1);
	assert_null(hear(s, fd));
	say_bytes(s, fd, "", 1);
	both_answer(s);
	j = hear(s, fd);
	get(j, "channels");
	json_decref(j);
	j = hear(s, fd);
	get(j, "pid");
	json_decref(j);
	j = hear(s, fd);
	get(j, "guests");
	json_decref(j);
	close(fd);
}

static void byte_by_byte(void **state)
{
	static const char text[] = "{ \"method\" : \"io.vmc.Manager.GetStatus\", \"parameters\" : null }";
	struct scene *s = *state;
	int fd = dial(s);
	json_t *j;

	for (size_t i = 0; i < sizeof(text); i++) {
		assert_null(hear(s, fd));
		say_bytes(s, fd, text + i, 1);
	}
	j = hear(s, fd);
	get(j, "pid");
	json_decref(j);
	close(fd);
}

static void half_closed(void **state)
{
	static const char text[] = "{\"method\":\"io.vmc.Manager.ListChannels\"}\0"
				   "{\"method\":\"io.vmc.Manager.GetStatus\"}";
	struct scene *s = *state;
	int fd = dial(s);
	json_t *j;

	say_bytes(s, fd, text, sizeof(text) - 1);
	shutdown(fd, SHUT_WR);
	fake_settle(s->f);
	both_answer(s);
	j = hear(s, fd);
	get(j, "channels");
	json_decref(j);
	/* the second one is not complete: it is dropped with the connection */
	assert_true(hung_up(s, fd));
	close(fd);
}

/* ------------------------------------------------------------------------ stats */

static void concurrent_questions_are_one(void **state)
{
	struct scene *s = *state;
	int fd[3];
	json_t *j;

	chan_id = fg_open(s->a, s->b);
	for (int i = 0; i < 3; i++) {
		fd[i] = dial(s);
		say(s, fd[i], "{\"method\":\"io.vmc.Manager.ListChannels\"}");
	}
	both_answer(s);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	for (int i = 0; i < 3; i++) {
		j = hear(s, fd[i]);
		assert_int(j, "channels/0/a/tx_streams", 100);
		json_decref(j);
		close(fd[i]);
	}
}

static void caller_leaves_while_waiting(void **state)
{
	struct scene *s = *state;
	int fd = dial(s), fd2 = dial(s);
	struct linger hard = { .l_onoff = 1 };
	json_t *j;

	say(s, fd, "{\"method\":\"io.vmc.Manager.ListChannels\"}");
	say(s, fd2, "{\"method\":\"io.vmc.Manager.ListChannels\"}");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
	fake_settle(s->f);
	both_answer(s);
	j = hear(s, fd2);
	assert_non_null(j);
	json_decref(j);
	close(fd2);
	fake_run(s->f, 60);
}

static void guest_dies_while_asked(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);
	json_t *j;

	s->f->d->timing.stats = 10000;
	chan_id = fg_open(s->a, s->b);
	say(s, fd, "{\"method\":\"io.vmc.Manager.ListChannels\"}");
	only_a_answers(s);
	assert_null(hear(s, fd));
	fake_destroy(s->b);
	j = hear(s, fd);
	assert_str(j, "channels/0/mode", "closing");
	assert_true(json_is_false(get(j, "channels/0/b/reported")));
	assert_str(j, "channels/0/b/name", "");
	json_decref(j);
	close(fd);
}

static void stop_while_asked(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);

	say(s, fd, "{\"method\":\"io.vmc.Manager.ListChannels\"}");
	vmc_control_free(s->control);
	s->control = NULL;
	assert_true(hung_up(s, fd));
	close(fd);
}

/* ---------------------------------------------------------------------- hostile */

static void not_varlink(void **state)
{
	static const char *const bad[] = {
		"", "GET / HTTP/1.1\r\n", "[]", "3", "null", "\"method\"", "{", "{}}",
		"{\"method\":3}", "{\"method\":null}", "{}", "{\"parameters\":{}}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"parameters\":[]}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"parameters\":\"x\"}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"oneway\":1}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"more\":\"yes\"}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"method\":\"b\"}",
		"{\"method\":\"io.vmc\\u0000.Manager\"}",
		"{\"method\":\"\xff\xfe\"}",
		"{\"method\":\"io.vmc.Manager.GetStatus\",\"parameters\":{\"a\":1e999}}",
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = dial(s);

		say(s, fd, bad[i]);
		if (!hung_up(s, fd))
			fail_msg("%s was taken", bad[i]);
		close(fd);
	}
}

static void nested_deeply(void **state)
{
	struct scene *s = *state;
	char text[60000];
	int fd = dial(s);

	memset(text, '[', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	say_bytes(s, fd, text, sizeof(text));
	assert_true(hung_up(s, fd));
	close(fd);
}

static void endless_request(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);
	char text[4096];
	size_t sent = 0;

	memset(text, ' ', sizeof(text));
	while (sent < 10 * VMC_CONTROL_INPUT_MAX) {
		ssize_t n = send(fd, text, sizeof(text), MSG_NOSIGNAL);

		fake_settle(s->f);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			break;
		assert_true(n > 0);
		sent += (size_t)n;
	}
	assert_in_range(sent, VMC_CONTROL_INPUT_MAX, VMC_CONTROL_INPUT_MAX + 2 * sizeof(text));
	close(fd);
}

static void caller_that_does_not_read(void **state)
{
	static const char text[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.vmc.Manager\"}}";
	struct scene *s = *state;
	int fd = dial(s), n, got = 0;
	static char buf[1 << 16];

	/* vmcd stops taking its requests when the answers pile up */
	for (n = 0; n < 100000; n++) {
		if (send(fd, text, sizeof(text), MSG_NOSIGNAL) != sizeof(text))
			break;
		if (!(n % 100))
			fake_settle(s->f);
	}
	assert_true(n < 100000);
	json_decref(call(s, "{\"method\":\"io.vmc.Manager.GetStatus\"}", NULL));
	/* and goes on when they are read */
	for (int idle = 0; got < n && idle < 100; idle++) {
		ssize_t len;

		event_base_loop(s->f->base, EVLOOP_NONBLOCK);
		while ((len = recv(fd, buf, sizeof(buf), 0)) > 0) {
			for (ssize_t i = 0; i < len; i++)
				got += !buf[i];
			idle = 0;
		}
	}
	assert_int_equal(got, n);
	close(fd);
}

static void many_callers(void **state)
{
	struct scene *s = *state;
	int fd[VMC_CONTROL_CLIENTS_MAX], more;
	json_t *j;

	vmc_log_init(VMC_LOG_ERROR, VMC_LOG_TO_STDERR);
	for (unsigned int i = 0; i < VMC_CONTROL_CLIENTS_MAX; i++) {
		fd[i] = dial(s);
		fake_settle(s->f);
	}
	more = dial(s);
	say(s, more, "{\"method\":\"io.vmc.Manager.GetStatus\"}");
	j = hear(s, more);
	assert_error(j, "io.vmc.Manager.TooManyClients", NULL, NULL);
	assert_true(hung_up(s, more));
	close(more);
	/* the others are served; a place that gets free is used */
	say(s, fd[63], "{\"method\":\"io.vmc.Manager.GetStatus\"}");
	j = hear(s, fd[63]);
	get(j, "pid");
	json_decref(j);
	close(fd[0]);
	fake_settle(s->f);
	j = call(s, "{\"method\":\"io.vmc.Manager.GetStatus\"}", NULL);
	get(j, "pid");
	json_decref(j);
	for (unsigned int i = 1; i < VMC_CONTROL_CLIENTS_MAX; i++)
		close(fd[i]);
	fake_settle(s->f);
}

static void credentials(void **state)
{
	static const char status_call[] = "{\"method\":\"io.vmc.Manager.GetStatus\"}";
	static const char denied[] = "io.vmc.Manager.PermissionDenied";
	struct scene *s = *state;
	json_t *j;

	caller.uid = 1000;
	caller.gid = 1000;
	assert_error(call(s, status_call, NULL), denied, NULL, NULL);
	caller.gid = 777;		/* a group that happens to have this number */
	assert_error(call(s, status_call, NULL), denied, NULL, NULL);
	caller.group_exists = true;
	j = call(s, status_call, NULL);
	get(j, "pid");
	json_decref(j);
	caller.gid = 1000;
	assert_error(call(s, status_call, NULL), denied, NULL, NULL);
	caller.groups[0] = 5;
	caller.groups[1] = 777;
	caller.nr_groups = 2;
	j = call(s, status_call, NULL);
	get(j, "pid");
	json_decref(j);
	caller.nr_groups = 1;
	assert_error(call(s, status_call, NULL), denied, NULL, NULL);
}

static void the_socket(void **state)
{
	struct scene *s = *state;
	struct vmc_control *second;
	struct stat st;
	char path[128];
	int fd;

	assert_int_equal(stat(s->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);

	/* another vmcd is alive there */
	vmc_log_init((enum vmc_log_level)0, VMC_LOG_TO_STDERR);
	assert_int_equal(vmc_control_new(&second, s->f->d, s->path), -EADDRINUSE);
	/* what is no socket stays */
	snprintf(path, sizeof(path), "%s/file", s->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(vmc_control_new(&second, s->f->d, path), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	/* what a dead one left is replaced */
	vmc_control_free(s->control);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un sun = { .sun_family = AF_UNIX };

		strcpy(sun.sun_path, s->path);
		assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	}
	close(fd);
	assert_int_equal(vmc_control_new(&s->control, s->f->d, s->path), 0);
	json_decref(call(s, "{\"method\":\"io.vmc.Manager.GetStatus\"}", NULL));
}

/* ----------------------------------------------------------- prepare and resume */

#define PREPARE(params)	"{\"method\":\"io.vmc.Manager.Prepare\",\"parameters\":" params "}"
#define RESUME(params)	"{\"method\":\"io.vmc.Manager.Resume\",\"parameters\":" params "}"

static const char *prepared(struct scene *s, uint32_t domid)
{
	return vmc_prepare_state(vmc_guest_by_domid(s->f->d, domid));
}

static void prepare_holds_by_the_connection(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);
	json_t *j;

	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	assert_null(hear(s, fd));
	assert_string_equal(prepared(s, 3), "preparing");
	/* what is asked meanwhile has its turn afterwards */
	say(s, fd, "{\"method\":\"io.vmc.Manager.ListGuests\"}");
	assert_null(hear(s, fd));
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	assert_null(hear(s, fd));
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	j = hear(s, fd);
	assert_non_null(j);
	assert_null(json_object_get(j, "error"));
	assert_true(json_integer_value(get(j, "milliseconds")) >= 0);
	json_decref(j);
	j = hear(s, fd);
	assert_str(j, "guests/0/prepared", "prepared");
	assert_str(j, "guests/1/prepared", "no");
	json_decref(j);
	/* one is enough */
	say(s, fd, PREPARE("{\"guest\":\"4\"}"));
	assert_error(hear(s, fd), "io.vmc.Manager.HoldsAnother", "guest", "vm3");
	assert_string_equal(prepared(s, 3), "prepared");
	close(fd);
	fake_settle(s->f);
	assert_string_equal(prepared(s, 3), "no");
}

static void prepare_for_a_caller_that_leaves(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);

	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	close(fd);
	fake_settle(s->f);
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	fake_settle(s->f);
	assert_string_equal(prepared(s, 3), "no");
	fg_drain(s->a);
	fg_drain(s->b);
	assert_int_not_equal(fg_open(s->b, s->a), 0);
}

static void prepare_for_a_time(void **state)
{
	struct scene *s = *state;

	json_decref(call(s, PREPARE("{\"guest\":\"3\",\"seconds\":1}"), NULL));
	assert_string_equal(prepared(s, 3), "prepared");	/* the connection is gone */
	fake_run(s->f, 1200);
	assert_string_equal(prepared(s, 3), "no");
	json_decref(call(s, PREPARE("{\"guest\":\"3\",\"seconds\":86400}"), NULL));
	json_decref(call(s, RESUME("{\"guest\":\"3\"}"), NULL));
	fake_settle(s->f);
	assert_string_equal(prepared(s, 3), "no");
}

#define POLICY(a, b)	"{\"method\":\"io.vmc.Manager.TestPolicy\",\"parameters\":{\"a\":\"" a "\",\"b\":\"" b "\"}}"

static void assert_policy(struct scene *s, const char *request, bool allowed, const char *rule,
			  bool peers, const char *obstacle)
{
	json_t *j = call(s, request, NULL);

	assert_null(json_object_get(j, "error"));
	assert_int_equal(json_is_true(get(j, "allowed")), allowed);
	assert_string_equal(json_string_value(get(j, "rule")), rule);
	assert_int_equal(json_is_true(get(j, "peers")), peers);
	assert_string_equal(json_string_value(get(j, "obstacle")), obstacle);
	json_decref(j);
}

static void tell_nobody(void *arg, const char *text)
{
	(void)arg;
	fail_msg("%s", text);
}

static void test_policy(void **state)
{
	char path[] = "/tmp/vmc-api-XXXXXX", rule[64];
	struct scene *s = *state;
	struct vmc_config *c;
	int fd = mkstemp(path);

	assert_policy(s, POLICY("3", "4"), true, "", true, "");
	assert_policy(s, POLICY("3", "vm3"), true, "", false, "the same guest");
	assert_error(call(s, POLICY("3", "nobody"), NULL), "io.vmc.Manager.NoSuchGuest", "guest",
		     "nobody");
	assert_error(call(s, POLICY("nobody", "3"), NULL), "io.vmc.Manager.NoSuchGuest", "guest",
		     "nobody");
	assert_error(call(s, "{\"method\":\"io.vmc.Manager.TestPolicy\",\"parameters\":{\"a\":\"3\"}}", NULL),
		     VMC_API_INVALID_PARAMETER, "parameter", "b");
	assert_true(fd >= 0);
	assert_true(write(fd, "rules = ( \"deny any any\" )", 26) == 26);
	close(fd);
	assert_int_equal(vmc_config_load(&c, path, true, tell_nobody, NULL), 0);
	unlink(path);
	vmcd_configure(s->f->d, c);
	snprintf(rule, sizeof(rule), "%s:1: deny any any", path);
	assert_policy(s, POLICY("3", "4"), false, rule, false, rule);
}

static void prepare_that_fails(void **state)
{
	struct scene *s = *state;

	s->f->d->timing.prepare = 50;
	s->f->d->timing.prepare_look = 10;
	s->b->lent_to = 3;
	s->b->lent = 2;
	assert_error(call(s, PREPARE("{\"guest\":\"3\"}"), NULL), "io.vmc.Manager.CannotPrepare",
		     "reason", "it still has 2 pages of d4 mapped");
	assert_string_equal(prepared(s, 3), "no");
}

static void prepare_of_a_guest_that_dies(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);

	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	fake_destroy(s->a);
	fake_release_event(s->f);
	assert_error(hear(s, fd), "io.vmc.Manager.CannotPrepare", "reason", "it is gone");
	/* and the connection can go on */
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	say(s, fd, PREPARE("{\"guest\":\"4\"}"));
	json_decref(hear(s, fd));
	assert_string_equal(prepared(s, 4), "prepared");
	close(fd);
}

static void prepare_wrongly(void **state)
{
	static const char *const wrong[][3] = {
		{ PREPARE("{\"guest\":\"3\",\"seconds\":0}"), VMC_API_INVALID_PARAMETER, "seconds" },
		{ PREPARE("{\"guest\":\"3\",\"seconds\":86401}"), VMC_API_INVALID_PARAMETER, "seconds" },
		{ PREPARE("{\"guest\":\"3\",\"seconds\":-1}"), VMC_API_INVALID_PARAMETER, "seconds" },
		{ PREPARE("{\"guest\":\"3\",\"seconds\":\"5\"}"), VMC_API_INVALID_PARAMETER, "seconds" },
		{ PREPARE("{\"guest\":\"3\",\"seconds\":1.5}"), VMC_API_INVALID_PARAMETER, "seconds" },
		{ PREPARE("{\"guest\":3}"), VMC_API_INVALID_PARAMETER, "guest" },
		{ PREPARE("{\"seconds\":5}"), VMC_API_INVALID_PARAMETER, "guest" },
		{ PREPARE("{\"guest\":\"3\",\"force\":true}"), VMC_API_INVALID_PARAMETER, "force" },
		{ RESUME("{}"), VMC_API_INVALID_PARAMETER, "guest" },
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_error(call(s, wrong[i][0], NULL), wrong[i][1], "parameter", wrong[i][2]);
	assert_error(call(s, PREPARE("{\"guest\":\"9\"}"), NULL), "io.vmc.Manager.NoSuchGuest",
		     "guest", "9");
	assert_error(call(s, RESUME("{\"guest\":\"\"}"), NULL), "io.vmc.Manager.NoSuchGuest",
		     "guest", "");
	assert_string_equal(prepared(s, 3), "no");
}

static void prepare_is_for_root(void **state)
{
	static const char denied[] = "io.vmc.Manager.PermissionDenied";
	struct scene *s = *state;

	caller.uid = 1000;
	caller.gid = 777;
	caller.group_exists = true;
	json_decref(call(s, "{\"method\":\"io.vmc.Manager.GetStatus\"}", NULL));
	assert_error(call(s, PREPARE("{\"guest\":\"3\"}"), NULL), denied, NULL, NULL);
	assert_error(call(s, RESUME("{\"guest\":\"3\"}"), NULL), denied, NULL, NULL);
	assert_string_equal(prepared(s, 3), "no");
}

static void stop_while_preparing(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);

	fg_open(s->a, s->b);
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	close(fd);	/* and teardown ends the rest */
}

static void assert_milliseconds(json_t *j)
{
	assert_non_null(j);
	assert_null(json_object_get(j, "error"));
	assert_true(json_is_integer(get(j, "milliseconds")));
	assert_in_range(json_integer_value(get(j, "milliseconds")), 0, 5000);
	json_decref(j);
}

/* The operator sees it, by another connection. */
static void assert_listed(struct scene *s, const char *a, const char *b)
{
	json_t *j = call(s, "{\"method\":\"io.vmc.Manager.ListGuests\"}", NULL);

	assert_str(j, "guests/0/prepared", a);
	assert_str(j, "guests/1/prepared", b);
	json_decref(j);
}

static void channel_closed(struct scene *s, uint32_t id)
{
	fg_drain(s->a);
	fg_drain(s->b);
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	fake_settle(s->f);
}

static void prepare_is_listed(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);

	assert_listed(s, "no", "no");
	say(s, fd, PREPARE("{\"guest\":\"vm3\"}"));
	assert_listed(s, "preparing", "no");	/* others are answered meanwhile */
	assert_null(hear(s, fd));
	fake_run(s->f, 60);
	channel_closed(s, id);
	{
		json_t *j = hear(s, fd);

		assert_in_range(json_integer_value(get(j, "milliseconds")), 50, 5000);
		json_decref(j);
	}
	assert_listed(s, "prepared", "no");
	close(fd);
	fake_settle(s->f);
	assert_listed(s, "no", "no");
}

static void prepare_by_any_name(void **state)
{
	static const char *const names[] = {
		PREPARE("{\"guest\":\"vm4\"}"), PREPARE("{\"guest\":\"4\"}"),
		PREPARE("{\"guest\":\"04040404-0404-0404-0404-040404040404\"}"),
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd = dial(s);

		say(s, fd, names[i]);
		assert_milliseconds(hear(s, fd));
		assert_listed(s, "no", "prepared");
		close(fd);
		fake_settle(s->f);
	}
	/* one guest's name is the other one's number */
	fake_write(s->f, "/local/domain/3/name", "4");
	fake_settle(s->f);
	assert_error(call(s, PREPARE("{\"guest\":\"4\"}"), NULL),
		     "io.vmc.Manager.AmbiguousGuest", "guest", "4");
	assert_error(call(s, RESUME("{\"guest\":\"4\"}"), NULL),
		     "io.vmc.Manager.AmbiguousGuest", "guest", "4");
	assert_listed(s, "no", "no");
}

static void prepare_pipelined(void **state)
{
	static const char text[] = PREPARE("{\"guest\":\"3\"}") "\0"
				   "{\"method\":\"io.vmc.Manager.GetStatus\"}\0"
				   PREPARE("{\"guest\":\"3\"}") "\0"
				   RESUME("{\"guest\":\"3\"}") "\0"
				   PREPARE("{\"guest\":\"4\"}");
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);
	json_t *j;

	say_bytes(s, fd, text, sizeof(text));
	fake_run(s->f, 30);
	assert_null(hear(s, fd));
	channel_closed(s, id);
	assert_milliseconds(hear(s, fd));
	j = hear(s, fd);
	get(j, "pid");
	json_decref(j);
	/* the same guest, too, is one that it holds already */
	assert_error(hear(s, fd), "io.vmc.Manager.HoldsAnother", "guest", "vm3");
	j = hear(s, fd);
	assert_null(json_object_get(j, "error"));
	json_decref(j);
	assert_milliseconds(hear(s, fd));
	assert_listed(s, "no", "prepared");
	close(fd);
}

static void prepare_oneway(void **state)
{
	static const char text[] = "{\"method\":\"io.vmc.Manager.Prepare\",\"oneway\":true,"
				   "\"parameters\":{\"guest\":\"3\"}}";
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);
	json_t *j;

	say(s, fd, text);
	say(s, fd, "{\"method\":\"io.vmc.Manager.GetStatus\"}");
	assert_null(hear(s, fd));
	channel_closed(s, id);
	j = hear(s, fd);		/* of the second one */
	get(j, "pid");
	json_decref(j);
	assert_listed(s, "prepared", "no");
	close(fd);
	fake_settle(s->f);
	assert_listed(s, "no", "no");
	/* it leaves while it waits: no answer fails to be written, and yet it ends */
	fg_drain(s->a);
	fg_drain(s->b);
	id = fg_open(s->a, s->b);
	fd = dial(s);
	say(s, fd, text);
	close(fd);
	fake_settle(s->f);
	channel_closed(s, id);
	assert_listed(s, "no", "no");
}

static void prepare_half_closed(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);

	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	shutdown(fd, SHUT_WR);
	fake_settle(s->f);
	channel_closed(s, id);
	assert_milliseconds(hear(s, fd));
	assert_true(hung_up(s, fd));
	close(fd);
	assert_listed(s, "no", "no");
}

static void prepare_is_left_at_once(void **state)
{
	struct scene *s = *state;
	int fd = dial(s);

	fg_open(s->a, s->b);
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	assert_listed(s, "preparing", "no");
	close(fd);
	fake_run(s->f, 100);		/* nobody says CLOSED */
	assert_listed(s, "no", "no");
}

/* Who has left while the guest can't be prepared does not disturb the others who wait. */
static void prepare_by_two(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s), fd2 = dial(s), fd3 = dial(s);

	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	say(s, fd2, PREPARE("{\"guest\":\"3\"}"));
	say(s, fd3, PREPARE("{\"guest\":\"3\"}"));
	close(fd2);
	fake_settle(s->f);
	channel_closed(s, id);
	assert_milliseconds(hear(s, fd));
	assert_milliseconds(hear(s, fd3));
	close(fd);
	fake_run(s->f, 50);
	assert_listed(s, "prepared", "no");
	close(fd3);
	fake_settle(s->f);
	assert_listed(s, "no", "no");
}

static void prepare_that_fails_for_one_who_left(void **state)
{
	struct scene *s = *state;
	int fd = dial(s), fd2 = dial(s);

	s->f->d->timing.prepare = 80;
	s->f->d->timing.prepare_look = 10;
	fg_open(s->a, s->b);
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	say(s, fd2, PREPARE("{\"guest\":\"3\"}"));
	close(fd);
	fake_run(s->f, 150);
	assert_error(hear(s, fd2), "io.vmc.Manager.CannotPrepare", "reason",
		     "d3 does not let go of channel 1");
	assert_listed(s, "no", "no");
	/* it may try again on the same connection */
	channel_closed(s, 1);
	say(s, fd2, PREPARE("{\"guest\":\"3\"}"));
	assert_milliseconds(hear(s, fd2));
	close(fd2);
}

static void resume_while_one_waits(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);
	json_t *j;

	say(s, fd, PREPARE("{\"guest\":\"3\",\"seconds\":1000}"));
	j = call(s, RESUME("{\"guest\":\"3\"}"), NULL);
	assert_null(json_object_get(j, "error"));
	assert_int_equal(json_object_size(json_object_get(j, "parameters")), 0);
	json_decref(j);
	assert_error(hear(s, fd), "io.vmc.Manager.CannotPrepare", "reason",
		     "resumed by the operator");
	assert_listed(s, "no", "no");
	channel_closed(s, id);
	/* the connection is of use still, and so is another Resume */
	json_decref(call(s, RESUME("{\"guest\":\"3\"}"), NULL));
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	assert_milliseconds(hear(s, fd));
	close(fd);
}

static void prepare_for_a_time_by_one_who_leaves(void **state)
{
	struct scene *s = *state;
	uint32_t id = fg_open(s->a, s->b);
	int fd = dial(s);

	/* before it is prepared: that calls it off */
	say(s, fd, PREPARE("{\"guest\":\"3\",\"seconds\":60}"));
	assert_listed(s, "preparing", "no");
	close(fd);
	fake_settle(s->f);
	channel_closed(s, id);
	assert_listed(s, "no", "no");
	/* afterwards: it stays so */
	fd = dial(s);
	say(s, fd, PREPARE("{\"guest\":\"3\",\"seconds\":60}"));
	assert_milliseconds(hear(s, fd));
	close(fd);
	fake_settle(s->f);
	assert_listed(s, "prepared", "no");
	/* it does not hold by its connection: another one is no other */
	fd = dial(s);
	say(s, fd, PREPARE("{\"guest\":\"4\",\"seconds\":60}"));
	assert_milliseconds(hear(s, fd));
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	assert_milliseconds(hear(s, fd));
	close(fd);
	fake_settle(s->f);
	assert_listed(s, "prepared", "prepared");
	json_decref(call(s, RESUME("{\"guest\":\"4\"}"), NULL));
	assert_listed(s, "prepared", "no");
}

static void prepare_without_a_time(void **state)
{
	struct scene *s = *state;

	/* of an optional number null says as much as its absence: the answer is the same */
	assert_error(call(s, PREPARE("{\"guest\":null}"), NULL), VMC_API_INVALID_PARAMETER,
		     "parameter", "guest");
	assert_milliseconds(call(s, PREPARE("{\"guest\":\"3\",\"seconds\":null}"), NULL));
}

static void stop_while_one_waits_and_one_holds(void **state)
{
	struct scene *s = *state;
	int fd = dial(s), fd2 = dial(s), fd3 = dial(s);

	s->a->lent_to = 4;
	s->a->lent = 1;
	say(s, fd, PREPARE("{\"guest\":\"3\"}"));
	assert_milliseconds(hear(s, fd));
	say(s, fd2, PREPARE("{\"guest\":\"4\"}"));
	say(s, fd3, PREPARE("{\"guest\":\"4\",\"seconds\":60}"));
	assert_listed(s, "prepared", "preparing");
	vmc_control_free(s->control);
	s->control = NULL;
	assert_true(hung_up(s, fd));
	assert_true(hung_up(s, fd2));
	assert_true(hung_up(s, fd3));
	assert_string_equal(prepared(s, 3), "no");
	assert_string_equal(prepared(s, 4), "no");
	close(fd);
	close(fd2);
	close(fd3);
}

#define GET_STATUS	"{\"method\":\"io.vmc.Manager.GetStatus\"}"

/* A service manager's socket: it stays when vmcd ends. */
static void inherited_socket(void **state)
{
	struct scene *s = *state;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), early;

	vmc_control_free(s->control);
	s->control = NULL;
	assert_int_equal(access(s->path, F_OK), -1);
	strcpy(sun.sun_path, s->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 8), 0);
	early = dial(s);
	assert_int_equal(send(early, GET_STATUS, sizeof(GET_STATUS), 0), sizeof(GET_STATUS));
	assert_int_equal(vmc_control_inherit(&s->control, s->f->d, dup(fd)), 0);
	json_decref(hear(s, early));
	json_decref(call(s, GET_STATUS, NULL));
	vmc_control_free(s->control);
	s->control = NULL;
	assert_true(hung_up(s, early));
	close(early);
	/* who comes now waits for the next vmcd */
	early = dial(s);
	assert_int_equal(send(early, GET_STATUS, sizeof(GET_STATUS), 0), sizeof(GET_STATUS));
	assert_int_equal(vmc_control_inherit(&s->control, s->f->d, fd), 0);
	json_decref(hear(s, early));
	close(early);
	unlink(s->path);
}

/* ---------------------------------------------------------------------- monitor */

#define MONITOR	"{\"method\":\"io.vmc.Manager.Monitor\",\"more\":true}"

static void assert_event(struct scene *s, int fd, const char *event, json_int_t domid, json_int_t peer,
			 const char *detail)
{
	json_t *j = hear(s, fd);

	assert_non_null(j);
	assert_true(json_is_true(json_object_get(j, "continues")));
	assert_str(j, "event/event", event);
	assert_true(json_integer_value(get(j, "event/time")) > 1700000000000);
	assert_str(j, "event/detail", detail);
	if (domid)
		assert_int(j, "event/domid", domid);
	else
		assert_null(json_object_get(get(j, "event"), "domid"));
	if (peer)
		assert_int(j, "event/peer_domid", peer);
	else
		assert_null(json_object_get(get(j, "event"), "peer_domid"));
	json_decref(j);
}

static void monitor(void **state)
{
	struct scene *s = *state;
	int fd = dial(s), fd2 = dial(s);
	struct fake_guest *c;
	uint32_t id;
	json_t *j;

	say(s, fd, MONITOR);
	assert_event(s, fd, "monitoring", 0, 0, "");
	assert_null(hear(s, fd));
	id = fg_open(s->a, s->b);
	j = hear(s, fd);
	assert_str(j, "event/event", "channel-opened");
	assert_int(j, "event/domid", 3);
	assert_str(j, "event/name", "vm3");
	assert_int(j, "event/peer_domid", 4);
	assert_str(j, "event/peer", "vm4");
	assert_int(j, "event/channel", id);
	json_decref(j);

	c = fake_vm(s->f, 5);
	assert_event(s, fd, "guest-joined", 5, 0, "");
	fg_ready(c);
	assert_event(s, fd, "guest-connected", 5, 0, "test-driver");
	vmcd_configure(s->f->d, vmc_config_new());
	assert_event(s, fd, "configured", 0, 0, "");

	/* one who is parted, and comes back */
	say(s, fd2, PREPARE("{\"guest\":\"3\"}"));
	assert_event(s, fd, "preparing", 3, 0, "");
	assert_event(s, fd, "channel-closed", 3, 4, "prepare");
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	assert_event(s, fd, "prepared", 3, 0, "");
	close(fd2);
	assert_event(s, fd, "resumed", 3, 0, "");

	/* one that breaks the protocol, and one that dies */
	fg_simple(c, 0x7777, 0);
	assert_event(s, fd, "guest-disconnected", 5, 0, "protocol");
	j = hear(s, fd);
	assert_str(j, "event/event", "guest-refused");
	assert_true(json_string_length(get(j, "event/detail")) > 5);
	json_decref(j);
	fake_destroy(c);
	assert_event(s, fd, "guest-left", 5, 0, "is gone");
	assert_null(hear(s, fd));
	close(fd);
	fake_settle(s->f);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_open(s->a, s->b);	/* and nobody listens */
}

static void monitor_has_to_ask_for_more(void **state)
{
	struct scene *s = *state;

	assert_error(call(s, "{\"method\":\"io.vmc.Manager.Monitor\"}", NULL),
		     "org.varlink.service.ExpectedMore", NULL, NULL);
	assert_error(call(s, "{\"method\":\"io.vmc.Manager.Monitor\",\"more\":true,"
			  "\"parameters\":{\"x\":1}}", NULL),
		     "org.varlink.service.InvalidParameter", "parameter", "x");
}

/* One that does not read costs a bounded amount, and hears how much it has missed. */
static void monitor_that_is_slow(void **state)
{
	static const struct vmc_event e = { .name = "guest-joined", .domid = 3, .detail = "" };
	struct scene *s = *state;
	json_int_t heard = 0, missed = 0;
	int fd = dial(s), fd2 = dial(s);
	json_t *j;

	say(s, fd, MONITOR);
	assert_event(s, fd, "monitoring", 0, 0, "");
	say(s, fd2, MONITOR);
	assert_event(s, fd2, "monitoring", 0, 0, "");
	for (int i = 0; i < 8000; i++) {
		vmc_event(s->f->d, &e);
		if (i % 100)
			continue;
		while ((j = hear(s, fd2))) {	/* who is not loses none */
			assert_str(j, "event/event", "guest-joined");
			json_decref(j);
		}
	}
	while ((j = hear(s, fd))) {
		if (!strcmp(json_string_value(get(j, "event/event")), "missed"))
			missed += atoi(json_string_value(get(j, "event/detail")));
		else
			heard++;
		json_decref(j);
	}
	assert_true(missed > 0);
	assert_true(heard > 100);
	assert_int_equal(heard + missed, 8000);
	/* and is told of what comes next */
	vmc_event(s->f->d, &e);
	assert_event(s, fd, "guest-joined", 3, 0, "");
	close(fd);
	close(fd2);
}

static void monitor_hangs_up(void **state)
{
	struct scene *s = *state;
	int fds[VMC_CONTROL_CLIENTS_MAX];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < VMC_CONTROL_CLIENTS_MAX; i++) {
			fds[i] = dial(s);
			say(s, fds[i], MONITOR);
			assert_event(s, fds[i], "monitoring", 0, 0, "");
		}
		for (size_t i = 0; i < VMC_CONTROL_CLIENTS_MAX; i++)
			close(fds[i]);
		fake_settle(s->f);
	}
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(status),
		T(guests),
		T(channels),
		T(channels_of_silent_guests),
		T(mode_with_packets),
		T(channel_modes),
		T(one_guest),
		T(no_such_guest),
		T(service_interface),
		T(bad_calls),
		T(flags),
		T(pipelined),
		T(byte_by_byte),
		T(half_closed),
		T(concurrent_questions_are_one),
		T(caller_leaves_while_waiting),
		T(guest_dies_while_asked),
		T(stop_while_asked),
		T(not_varlink),
		T(nested_deeply),
		T(endless_request),
		T(caller_that_does_not_read),
		T(many_callers),
		T(credentials),
		T(prepare_holds_by_the_connection),
		T(prepare_for_a_caller_that_leaves),
		T(test_policy),
		T(prepare_for_a_time),
		T(prepare_that_fails),
		T(prepare_of_a_guest_that_dies),
		T(prepare_wrongly),
		T(prepare_is_for_root),
		T(stop_while_preparing),
		T(prepare_is_listed),
		T(prepare_by_any_name),
		T(prepare_pipelined),
		T(prepare_oneway),
		T(prepare_half_closed),
		T(prepare_is_left_at_once),
		T(prepare_by_two),
		T(prepare_that_fails_for_one_who_left),
		T(resume_while_one_waits),
		T(prepare_for_a_time_by_one_who_leaves),
		T(prepare_without_a_time),
		T(stop_while_one_waits_and_one_holds),
		T(inherited_socket),
		T(monitor),
		T(monitor_has_to_ask_for_more),
		T(monitor_that_is_slow),
		T(monitor_hangs_up),
		T(the_socket),
	};

	signal(SIGPIPE, SIG_IGN);	/* as the service does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
