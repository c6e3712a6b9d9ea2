// SPDX-License-Identifier: GPL-2.0-or-later
/* libvmc against a vmcd that answers right, wrong, late or not at all. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "answers.h"
#include "varlink_server.h"
#include "vmc/vmc.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct varlink_server *server;

static struct vmc *connect_to(const struct reply *replies, size_t count)
{
	struct vmc *vmc = NULL;

	server = varlink_server_start(replies, count);
	assert_int_equal(vmc_connect(varlink_server_path(server), &vmc), VMC_OK);
	assert_non_null(vmc);
	assert_string_equal(vmc_error_detail(vmc), "");
	return vmc;
}

static void finish(struct vmc *vmc)
{
	vmc_close(vmc);
	varlink_server_stop(server);
}

static void test_status(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_STATUS } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_status *s;

	(void)state;
	assert_int_equal(vmc_get_status(vmc, &s), VMC_OK);
	assert_string_equal(varlink_server_call(server), "{\"method\":\"io.vmc.Manager.GetStatus\"}");
	assert_string_equal(s->version, "0.1.0");
	assert_int_equal(s->pid, 4711);
	assert_int_equal(s->uptime, 93784);
	assert_int_equal(s->guests, 2);
	assert_int_equal(s->channels, 1);
	assert_int_equal(s->protocol_min, 1);
	assert_int_equal(s->protocol_max, 1);
	finish(vmc);
	vmc_free(s);	/* results live longer than the handle */
}

static void test_guests(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_GUESTS },
						{ .data = ANSWER_NO_GUESTS } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_guest_list *l;

	(void)state;
	assert_int_equal(vmc_list_guests(vmc, &l), VMC_OK);
	assert_int_equal(l->count, 2);
	assert_int_equal(l->guests[0]->domid, 4);
	assert_string_equal(l->guests[0]->name, "web1");
	assert_string_equal(l->guests[0]->uuid, "6f1c7a52-8a0e-4b57-9f7e-000000000001");
	assert_string_equal(l->guests[0]->state, "connected");
	assert_string_equal(l->guests[0]->driver, "0.1.0");
	assert_int_equal(l->guests[0]->protocol, 1);
	assert_string_equal(l->guests[0]->error, "");
	assert_string_equal(l->guests[0]->macs[1], "00:16:3e:00:00:02");
	assert_null(l->guests[0]->macs[2]);
	assert_string_equal(l->guests[0]->bridges[0], "xenbr0");
	assert_int_equal(l->guests[0]->channels, 1);
	assert_string_equal(l->guests[0]->quarantined[1], "mail");
	assert_null(l->guests[0]->quarantined[2]);
	assert_string_equal(l->guests[0]->prepared, "no");
	assert_string_equal(l->guests[1]->name, "db");
	assert_string_equal(l->guests[1]->prepared, "prepared");
	assert_null(l->guests[1]->macs[1]);
	vmc_free(l);
	assert_int_equal(vmc_list_guests(vmc, &l), VMC_OK);
	assert_int_equal(l->count, 0);
	vmc_free(l);
	finish(vmc);
}

static void check_channel(const struct vmc_channel *c)
{
	assert_int_equal(c->id, 7);
	assert_string_equal(c->mode, "local");
	assert_int_equal(c->a->domid, 4);
	assert_string_equal(c->a->name, "web1");
	assert_true(c->a->reported);
	assert_int_equal(c->a->tx_streams, 3);
	assert_int_equal(c->a->rx_streams, 2);
	assert_int_equal(c->a->tx_bytes, 1610612736);
	assert_int_equal(c->a->rx_bytes, 2048);
	assert_int_equal(c->a->rings, 5);
	assert_int_equal(c->a->grants, 330);
	assert_int_equal(c->a->memory, 1351680);
	assert_int_equal(c->a->events_sent, 17);
	assert_int_equal(c->a->events_received, 19);
	assert_true(c->a->takeovers == 9007199254740993);	/* more than a double holds */
	assert_int_equal(c->a->ended, 4);
	assert_true(c->a->tx_packets == 9007199254740995);
	assert_int_equal(c->a->rx_packets, 12);
	assert_int_equal(c->a->tx_dropped, 8);
	assert_int_equal(c->a->rx_dropped, 6);
	assert_int_equal(c->b->domid, 12);
	assert_false(c->b->reported);
}

static void test_channels(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_CHANNELS } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_channel_list *l;

	(void)state;
	assert_int_equal(vmc_list_channels(vmc, &l), VMC_OK);
	assert_int_equal(l->count, 1);
	check_channel(l->channels[0]);
	vmc_free(l);
	finish(vmc);
}

static void test_details(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_DETAILS } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_guest_details *x;

	(void)state;
	assert_int_equal(vmc_show_guest(vmc, "we\"b1", &x), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.ShowGuest\","
			    "\"parameters\":{\"guest\":\"we\\\"b1\"}}");
	assert_string_equal(x->guest->name, "web1");
	assert_int_equal(x->limits->memory, 64 << 20);
	assert_int_equal(x->limits->streams, 5);
	assert_true(x->limits->poll == VMC_UNLIMITED);
	assert_true(x->limits->channels == VMC_UNLIMITED);
	assert_string_equal(x->limits->packets, "off");
	assert_true(x->stats->reported);
	assert_int_equal(x->stats->sockets, 11);
	assert_int_equal(x->stats->hooked, 1200);
	assert_int_equal(x->stats->memory, 1359872);
	assert_int_equal(x->stats->grants, 332);
	assert_int_equal(x->stats->mapped, 65);
	assert_int_equal(x->stats->nr_fallbacks, 2);
	assert_string_equal(x->stats->fallbacks[0]->reason, "no-peer");
	assert_int_equal(x->stats->fallbacks[0]->count, 12);
	assert_int_equal(x->nr_channels, 1);
	check_channel(x->channels[0]);
	vmc_free(x);
	finish(vmc);
}

static void test_no_name(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_STATUS } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_guest_details *x = NULL;
	struct vmc_status *s;

	(void)state;
	assert_int_equal(vmc_show_guest(vmc, NULL, &x), VMC_ERR_INVALID);
	assert_int_equal(vmc_show_guest(vmc, "\xff", &x), VMC_ERR_INVALID);
	assert_null(x);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_OK);	/* nothing was sent */
	vmc_free(s);
	finish(vmc);
}

static void test_prepare(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_PREPARED },
		{ .data = "{\"parameters\":{\"milliseconds\":9007199254740993,\"new\":[]}}" },
		{ .data = "{\"parameters\":{\"milliseconds\":0}}" },
		{ .data = ANSWER_RESUMED },
	};
	struct vmc *vmc = connect_to(replies, N(replies));
	uint64_t ms = 7;

	(void)state;
	assert_int_equal(vmc_prepare(vmc, "we\"b1", 0, &ms), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.Prepare\","
			    "\"parameters\":{\"guest\":\"we\\\"b1\"}}");
	assert_int_equal(ms, 12);
	assert_int_equal(vmc_prepare(vmc, "web1", 86400, &ms), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.Prepare\","
			    "\"parameters\":{\"seconds\":86400,\"guest\":\"web1\"}}");
	assert_true(ms == 9007199254740993);
	assert_int_equal(vmc_prepare(vmc, "web1", 1, NULL), VMC_OK);
	assert_int_equal(vmc_resume(vmc, "4"), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.Resume\","
			    "\"parameters\":{\"guest\":\"4\"}}");
	assert_string_equal(vmc_error_detail(vmc), "");
	finish(vmc);
}

static void test_policy(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_FORBIDDEN },
		{ .data = "{\"parameters\":{\"allowed\":1,\"rule\":\"\",\"peers\":true,\"obstacle\":\"\"}}" },
	};
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_policy *p = NULL;

	(void)state;
	assert_int_equal(vmc_test_policy(vmc, "web1", NULL, &p), VMC_ERR_INVALID);
	assert_int_equal(vmc_test_policy(vmc, NULL, "web1", &p), VMC_ERR_INVALID);
	assert_int_equal(vmc_test_policy(vmc, "\xff", "web1", &p), VMC_ERR_INVALID);
	assert_string_equal(varlink_server_call(server), "");
	assert_int_equal(vmc_test_policy(vmc, "web1", "db", &p), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.TestPolicy\","
			    "\"parameters\":{\"a\":\"web1\",\"b\":\"db\"}}");
	assert_false(p->allowed);
	assert_false(p->peers);
	assert_string_equal(p->rule, "/etc/vmc/vmcd.conf:6: deny any any");
	assert_string_equal(p->obstacle, "/etc/vmc/vmcd.conf:6: deny any any");
	vmc_free(p);
	assert_int_equal(vmc_test_policy(vmc, "web1", "db", &p), VMC_ERR_PROTOCOL);
	assert_non_null(strstr(vmc_error_detail(vmc), "allowed"));
	finish(vmc);
}

#define EVENT(text)	"{\"continues\":true,\"parameters\":{\"event\":{\"time\":1700000000123," text ",\"detail\":\"x\"}}}"

/* Several events at once, in pieces, and none. */
static void test_monitor(void **state)
{
	static const char some[] =
		EVENT("\"event\":\"monitoring\"") "\0"
		EVENT("\"event\":\"channel-opened\",\"domid\":4,\"name\":\"web1\",\"peer_domid\":12,"
		      "\"peer\":\"db\",\"channel\":9,\"new\":1") "\0"
		EVENT("\"event\":\"guest-left\",\"domid\":12,\"name\":\"\",\"peer_domid\":null");
	static const struct reply replies[] = { { .data = some, .len = sizeof(some), .slow = true } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_status *status;
	struct vmc_event *e;

	(void)state;
	assert_int_equal(vmc_next_event(vmc, 0, &e), VMC_ERR_INVALID);
	assert_int_equal(vmc_monitor(vmc), VMC_OK);
	assert_string_equal(varlink_server_call(server),
			    "{\"method\":\"io.vmc.Manager.Monitor\",\"more\":true}");
	assert_int_equal(vmc_monitor(vmc), VMC_ERR_INVALID);
	assert_int_equal(vmc_get_status(vmc, &status), VMC_ERR_INVALID);
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_OK);
	assert_string_equal(e->event, "channel-opened");
	assert_true(e->time_ms == 1700000000123);
	assert_int_equal(e->domid, 4);
	assert_string_equal(e->name, "web1");
	assert_int_equal(e->peer_domid, 12);
	assert_string_equal(e->peer, "db");
	assert_int_equal(e->channel, 9);
	assert_string_equal(e->detail, "x");
	vmc_free(e);
	assert_int_equal(vmc_next_event(vmc, 5000, &e), VMC_OK);
	assert_string_equal(e->event, "guest-left");
	assert_int_equal(e->domid, 12);
	assert_int_equal(e->peer_domid, 0);
	assert_string_equal(e->peer, "");
	assert_int_equal(e->channel, 0);
	vmc_free(e);
	assert_int_equal(vmc_next_event(vmc, 0, &e), VMC_ERR_AGAIN);
	assert_int_equal(vmc_next_event(vmc, 20, &e), VMC_ERR_AGAIN);
	assert_true(vmc_fd(vmc) >= 0);
	finish(vmc);
}

static void test_monitor_errors(void **state)
{
	static const char wrong[] =
		EVENT("\"event\":\"monitoring\"") "\0" EVENT("\"event\":\"x\",\"domid\":-1,\"name\":\"\"");
	static const char ended[] = EVENT("\"event\":\"monitoring\"") "\0{\"parameters\":{}}";
	static const struct reply old[] = {
		{ .data = "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{}}" },
		{ .data = EVENT("\"event\":\"monitoring\""), .close = true },
	};
	static const struct reply garbled[] = { { .data = wrong, .len = sizeof(wrong) } };
	static const struct reply no_more[] = { { .data = ended, .len = sizeof(ended) } };
	struct vmc *vmc = connect_to(old, N(old));
	struct vmc_event *e;

	(void)state;
	assert_int_equal(vmc_monitor(vmc), VMC_ERR_REMOTE);
	assert_int_equal(vmc_monitor(vmc), VMC_OK);
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_ERR_CLOSED);
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_ERR_CLOSED);
	finish(vmc);

	vmc = connect_to(garbled, N(garbled));
	assert_int_equal(vmc_monitor(vmc), VMC_OK);
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_ERR_PROTOCOL);
	assert_non_null(strstr(vmc_error_detail(vmc), "domid"));
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_ERR_CLOSED);
	finish(vmc);

	vmc = connect_to(no_more, N(no_more));
	assert_int_equal(vmc_monitor(vmc), VMC_OK);
	assert_int_equal(vmc_next_event(vmc, -1, &e), VMC_ERR_PROTOCOL);
	finish(vmc);
}

/* Wrong arguments are not sent. */
static void test_prepare_nobody(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_RESUMED } };
	struct vmc *vmc = connect_to(replies, N(replies));
	uint64_t ms = 7;

	(void)state;
	assert_int_equal(vmc_prepare(vmc, NULL, 0, &ms), VMC_ERR_INVALID);
	assert_string_equal(vmc_error_detail(vmc), "no guest named");
	assert_int_equal(vmc_prepare(vmc, NULL, 5, NULL), VMC_ERR_INVALID);
	assert_int_equal(vmc_prepare(vmc, "\xff", 5, &ms), VMC_ERR_INVALID);
	assert_int_equal(vmc_prepare(vmc, "web1", 86401, &ms), VMC_ERR_INVALID);
	assert_string_equal(vmc_error_detail(vmc), "86401 seconds are more than 86400");
	assert_int_equal(vmc_prepare(vmc, "web1", UINT_MAX, &ms), VMC_ERR_INVALID);
	assert_int_equal(vmc_resume(vmc, NULL), VMC_ERR_INVALID);
	assert_int_equal(vmc_resume(vmc, "\xff"), VMC_ERR_INVALID);
	assert_int_equal(ms, 7);
	assert_string_equal(varlink_server_call(server), "");
	assert_int_equal(vmc_resume(vmc, "web1"), VMC_OK);
	finish(vmc);
}

static void test_prepare_refused(void **state)
{
#define ERROR(name, params) "{\"error\":\"io.vmc.Manager." name "\",\"parameters\":" params "}"
	static const struct {
		struct reply reply;
		int error;
		const char *detail;
	} cases[] = {
		{ { .data = ANSWER_CANNOT_PREPARE }, VMC_ERR_REFUSED,
		  "d12 does not let go of channel 7" },
		{ { .data = ANSWER_HOLDS_ANOTHER }, VMC_ERR_REFUSED,
		  "the connection holds db already" },
		{ { .data = ANSWER_DENIED }, VMC_ERR_DENIED, "" },
		{ { .data = ANSWER_NO_SUCH_GUEST }, VMC_ERR_NO_GUEST, "nobody" },
		{ { .data = ANSWER_AMBIGUOUS }, VMC_ERR_AMBIGUOUS, "web" },
		{ { .data = ERROR("CannotPrepare", "{}") }, VMC_ERR_REFUSED, "" },
		{ { .data = ERROR("CannotPrepare", "{\"reason\":7}") }, VMC_ERR_REFUSED, "" },
		{ { .data = "{\"error\":\"io.vmc.Manager.CannotPrepare\"}" }, VMC_ERR_REFUSED, "" },
		{ { .data = ERROR("HoldsAnother", "{\"guest\":[]}") }, VMC_ERR_REFUSED,
		  "the connection holds a guest already" },
		{ { .data = ERROR("HoldsAnother", "{\"guest\":\"\"}") }, VMC_ERR_REFUSED,
		  "the connection holds a guest already" },
	};
	struct reply replies[N(cases) + 1];
	struct vmc *vmc;
	uint64_t ms = 7;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++)
		replies[i] = cases[i].reply;
	replies[i] = (struct reply){ .data = ANSWER_PREPARED };
	vmc = connect_to(replies, N(replies));
	for (i = 0; i < N(cases); i++) {
		if (i % 2)
			assert_int_equal(vmc_resume(vmc, "web1"), cases[i].error);
		else
			assert_int_equal(vmc_prepare(vmc, "web1", 0, &ms), cases[i].error);
		assert_string_equal(vmc_error_detail(vmc), cases[i].detail);
	}
	assert_int_equal(ms, 7);
	/* the connection is still good */
	assert_int_equal(vmc_prepare(vmc, "web1", 0, &ms), VMC_OK);
	assert_string_equal(vmc_error_detail(vmc), "");
	finish(vmc);
}

static void test_prepare_garbled(void **state)
{
#define TOOK(value) "{\"parameters\":{\"milliseconds\":" value "}}"
	static const char *const answers[] = {
		TOOK("-1"), TOOK("-9223372036854775808"), TOOK("9223372036854775808"), TOOK("1.0"),
		TOOK("\"12\""), TOOK("null"), TOOK("[12]"), TOOK("{}"), TOOK("true"), TOOK(""),
		TOOK("12,\"milliseconds\":12"), "{\"parameters\":{}}", "{\"parameters\":[12]}",
		"{\"milliseconds\":12}", "{}", "12", "", ANSWER_STATUS,
		"{\"continues\":true,\"parameters\":{\"milliseconds\":12}}",
		"{\"error\":7,\"parameters\":{\"milliseconds\":12}}",
		ANSWER_PREPARED ANSWER_PREPARED,
	};
	size_t i;

	(void)state;
	for (i = 0; i < N(answers); i++) {
		struct reply reply = { .data = answers[i] };
		struct vmc *vmc = connect_to(&reply, 1);
		uint64_t ms = 7;

		if (vmc_prepare(vmc, "web1", 0, i % 2 ? NULL : &ms) != VMC_ERR_PROTOCOL)
			fail_msg("accepted: %s", answers[i]);
		assert_int_equal(ms, 7);
		assert_string_not_equal(vmc_error_detail(vmc), "");
		/* it ends the connection, and with it what it held */
		assert_int_equal(vmc_fd(vmc), -1);
		assert_int_equal(vmc_resume(vmc, "web1"), VMC_ERR_CLOSED);
		finish(vmc);
	}
}

static void test_resume_garbled(void **state)
{
	static const char *const answers[] = {
		"{}", "[]", "", "{\"parameters\":7}", "{\"error\":{}}",
		"{\"continues\":true,\"parameters\":{}}",
	};
	size_t i;

	(void)state;
	for (i = 0; i < N(answers); i++) {
		struct reply reply = { .data = answers[i] };
		struct vmc *vmc = connect_to(&reply, 1);

		assert_int_equal(vmc_resume(vmc, "web1"), VMC_ERR_PROTOCOL);
		assert_int_equal(vmc_resume(vmc, "web1"), VMC_ERR_CLOSED);
		finish(vmc);
	}
}

/* A guest that does not say whether it is prepared. */
static void test_prepared_garbled(void **state)
{
#define GUEST(prepared)								\
	"{\"parameters\":{\"guests\":[{\"domid\":4,\"name\":\"\",\"uuid\":\"\","	\
	"\"state\":\"\",\"driver\":\"\",\"protocol\":1,\"error\":\"\",\"macs\":[]," \
	"\"bridges\":[],\"channels\":1,\"quarantined\":[]" prepared "}]}}"
	static const struct {
		const char *data;
		int ret;
	} cases[] = {
		{ GUEST(",\"prepared\":\"later\""), VMC_OK },
		{ GUEST(""), VMC_ERR_PROTOCOL },
		{ GUEST(",\"prepared\":true"), VMC_ERR_PROTOCOL },
		{ GUEST(",\"prepared\":null"), VMC_ERR_PROTOCOL },
		{ GUEST(",\"prepared\":[\"no\"]"), VMC_ERR_PROTOCOL },
		{ GUEST(",\"prepared\":1"), VMC_ERR_PROTOCOL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		struct reply reply = { .data = cases[i].data };
		struct vmc *vmc = connect_to(&reply, 1);
		struct vmc_guest_list *l = NULL;

		assert_int_equal(vmc_list_guests(vmc, &l), cases[i].ret);
		if (cases[i].ret)
			assert_string_equal(vmc_error_detail(vmc),
					    "missing or wrong member: prepared");
		else
			assert_string_equal(l->guests[0]->prepared, "later");
		vmc_free(l);
		finish(vmc);
	}
}

static void test_prepare_timeout(void **state)
{
	static const struct reply silent[] = { { .data = NULL } };
	static const struct reply close[] = { { .close = true } };
	struct vmc *vmc = connect_to(silent, 1);
	uint64_t ms = 7;

	(void)state;
	vmc_set_timeout(vmc, 100);
	assert_int_equal(vmc_prepare(vmc, "web1", 0, &ms), VMC_ERR_TIMEOUT);
	assert_int_equal(vmc_fd(vmc), -1);
	assert_int_equal(vmc_prepare(vmc, "web1", 0, &ms), VMC_ERR_CLOSED);
	finish(vmc);

	vmc = connect_to(silent, 1);
	vmc_set_timeout(vmc, 100);
	assert_int_equal(vmc_resume(vmc, "web1"), VMC_ERR_TIMEOUT);
	finish(vmc);

	vmc = connect_to(close, 1);
	assert_int_equal(vmc_prepare(vmc, "web1", 5, &ms), VMC_ERR_CLOSED);
	assert_int_equal(vmc_fd(vmc), -1);
	finish(vmc);
	assert_int_equal(ms, 7);
}

/* Whether a program that is started now has the descriptor. */
static bool passed_on(int fd)
{
	char command[64];
	int status;
	pid_t pid;

	snprintf(command, sizeof(command), "test -S /proc/self/fd/%d", fd);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return !WEXITSTATUS(status);
}

static void test_fd(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_PREPARED } };
	struct vmc *vmc = connect_to(replies, N(replies)), *none;
	int fd = vmc_fd(vmc);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(vmc_prepare(vmc, "web1", 0, NULL), VMC_OK);
	assert_int_equal(vmc_fd(vmc), fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_false(passed_on(fd));
	assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
	assert_true(passed_on(fd));
	/* still the handle's */
	assert_int_equal(vmc_prepare(vmc, "web1", 0, NULL), VMC_OK);
	finish(vmc);
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	assert_int_equal(vmc_connect("/nonexistent/sock", &none), VMC_ERR_NOT_RUNNING);
	assert_int_equal(vmc_fd(none), -1);
	vmc_close(none);
	assert_int_equal(vmc_fd(NULL), -1);
}

/* Members that a later vmcd may add are skipped. */
static void test_unknown_members(void **state)
{
	static const struct reply replies[] = {
		{ .data = "{\"parameters\":{\"new\":[{}],\"version\":\"9\",\"pid\":1,\"uptime\":2,"
			  "\"guests\":3,\"channels\":4,\"protocol_min\":1,\"protocol_max\":9},"
			  "\"continues\":false,\"more\":null}" },
	};
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_status *s;

	(void)state;
	assert_int_equal(vmc_get_status(vmc, &s), VMC_OK);
	assert_string_equal(s->version, "9");
	vmc_free(s);
	finish(vmc);
}

static void test_slow_answer(void **state)
{
	static const struct reply replies[] = { { .data = ANSWER_GUESTS, .slow = true } };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_guest_list *l;
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		assert_int_equal(vmc_list_guests(vmc, &l), VMC_OK);
		vmc_free(l);
	}
	finish(vmc);
}

static void test_large_answer(void **state)
{
	static struct reply reply;
	struct vmc_guest_list *l;
	size_t size = 0;
	struct vmc *vmc;
	char *text;
	FILE *f = open_memstream(&text, &size);
	int i;

	(void)state;
	fputs("{\"parameters\":{\"guests\":[" GUEST_WEB, f);
	for (i = 1; i < 5000; i++)
		fputs("," GUEST_DB, f);
	fputs("]}}", f);
	fclose(f);
	reply.data = text;
	vmc = connect_to(&reply, 1);
	assert_int_equal(vmc_list_guests(vmc, &l), VMC_OK);
	assert_int_equal(l->count, 5000);
	assert_string_equal(l->guests[4999]->name, "db");
	vmc_free(l);
	finish(vmc);
	free(text);
}

/* An answer without end does not fill the memory. */
static void test_endless_answer(void **state)
{
	static struct reply reply;
	struct vmc_guest_list *l = NULL;
	size_t size = 20u << 20;
	struct vmc *vmc;
	char *text = malloc(size);

	(void)state;
	memset(text, ' ', size);
	reply = (struct reply){ .data = text, .len = size };
	vmc = connect_to(&reply, 1);
	assert_int_equal(vmc_list_guests(vmc, &l), VMC_ERR_PROTOCOL);
	assert_null(l);
	finish(vmc);
	free(text);
}

static void test_remote_errors(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_NO_SUCH_GUEST }, { .data = ANSWER_AMBIGUOUS },
		{ .data = ANSWER_DENIED },	  { .data = ANSWER_BUSY },
		{ .data = ANSWER_NO_METHOD },	  { .data = ANSWER_STATUS },
	};
	static const int errors[] = { VMC_ERR_NO_GUEST, VMC_ERR_AMBIGUOUS, VMC_ERR_DENIED,
				      VMC_ERR_BUSY, VMC_ERR_REMOTE };
	struct vmc *vmc = connect_to(replies, N(replies));
	struct vmc_guest_details *x = NULL;
	struct vmc_status *s;
	size_t i;

	(void)state;
	for (i = 0; i < N(errors); i++) {
		assert_int_equal(vmc_show_guest(vmc, "nobody", &x), errors[i]);
		assert_null(x);
		if (errors[i] == VMC_ERR_NO_GUEST)
			assert_string_equal(vmc_error_detail(vmc), "nobody");
		if (errors[i] == VMC_ERR_REMOTE)
			assert_string_equal(vmc_error_detail(vmc),
					    "org.varlink.service.MethodNotFound");
	}
	/* the connection is still good, and the old detail gone */
	assert_int_equal(vmc_get_status(vmc, &s), VMC_OK);
	assert_string_equal(vmc_error_detail(vmc), "");
	vmc_free(s);
	finish(vmc);
}

static int garbled(const char *data, size_t len)
{
	struct reply reply = { .data = data, .len = len };
	struct vmc *vmc = connect_to(&reply, 1);
	struct vmc_status *s = NULL;
	int ret = vmc_get_status(vmc, &s), again;

	assert_null(s);
	assert_string_not_equal(vmc_error_detail(vmc), "");
	again = vmc_get_status(vmc, &s);
	assert_null(s);
	assert_int_equal(again, VMC_ERR_CLOSED);
	finish(vmc);
	return ret;
}

static void test_garbled(void **state)
{
#define STATUS(version, pid, rest) \
	"{\"parameters\":{\"version\":" version ",\"pid\":" pid ",\"uptime\":1,\"guests\":1," \
	"\"channels\":1,\"protocol_min\":1" rest "}}"
	static const char *const answers[] = {
		"", " ", "{", "}", "[]", "null", "\"x\"", "1", "{}", "\x01\x02", "\xff\xfe",
		"{\"parameters\":[]}", "{\"parameters\":null}", "{\"parameters\":{}}",
		"{\"error\":7}", "{\"error\":null}", "{\"error\":\"x\",\"parameters\":7}",
		"{\"parameters\":{},\"parameters\":{}}",
		"{\"continues\":true,\"parameters\":{}}",
		STATUS("\"x\"", "1", ""),
		STATUS("7", "1", ",\"protocol_max\":1"),
		STATUS("null", "1", ",\"protocol_max\":1"),
		STATUS("\"a\\u0000b\"", "1", ",\"protocol_max\":1"),
		STATUS("\"\xc3\"", "1", ",\"protocol_max\":1"),
		STATUS("\"x\"", "-1", ",\"protocol_max\":1"),
		STATUS("\"x\"", "1.0", ",\"protocol_max\":1"),
		STATUS("\"x\"", "4294967296", ",\"protocol_max\":1"),
		STATUS("\"x\"", "99999999999999999999", ",\"protocol_max\":1"),
		STATUS("\"x\"", "\"1\"", ",\"protocol_max\":1"),
		STATUS("\"x\"", "1", ",\"protocol_max\":[1]"),
		STATUS("\"x\"", "1", ",\"protocol_max\":1") "trailing",
		ANSWER_GUESTS, ANSWER_CHANNELS, ANSWER_DETAILS,
	};
	char *deep = malloc(200002);
	size_t i;

	(void)state;
	for (i = 0; i < N(answers); i++)
		if (garbled(answers[i], 0) != VMC_ERR_PROTOCOL)
			fail_msg("accepted: %s", answers[i]);
	/* more than was asked for */
	assert_int_equal(garbled(ANSWER_STATUS "\0" ANSWER_STATUS, 2 * sizeof(ANSWER_STATUS)),
			 VMC_ERR_PROTOCOL);
	assert_int_equal(garbled("\0\0", 2), VMC_ERR_PROTOCOL);
	/* nested too deep for any stack */
	memset(deep, '[', 200001);
	deep[200001] = '\0';
	assert_int_equal(garbled(deep, 0), VMC_ERR_PROTOCOL);
	free(deep);
}

/* Every prefix of an answer, and every byte changed: an error, or a sound result. */
static void test_mangled(void **state)
{
	static const char good[] = ANSWER_DETAILS;
	char text[sizeof(good)];
	struct reply reply = { .data = text };
	size_t at, accepted = 0;

	(void)state;
	server = varlink_server_start(&reply, 1);
	for (at = 0; at < sizeof(good) - 1; at++) {
		static const char bytes[] = "\0\"{}[],:-9x\\";
		struct vmc_guest_details *x = NULL;
		struct vmc *vmc;
		int ret;

		memcpy(text, good, sizeof(text));
		text[at] = bytes[at % (sizeof(bytes) - 1)];
		reply.len = text[at] ? 0 : at + 1;
		assert_int_equal(vmc_connect(varlink_server_path(server), &vmc), VMC_OK);
		ret = vmc_show_guest(vmc, "x", &x);
		if (ret) {
			assert_int_equal(ret, VMC_ERR_PROTOCOL);
			assert_null(x);
		} else {
			accepted++;
			assert_non_null(x->guest->name);
			assert_non_null(x->channels[0]->b->name);
			vmc_free(x);
		}
		vmc_close(vmc);
	}
	assert_true(accepted > 0 && accepted < sizeof(good));
	varlink_server_stop(server);
}

static void test_closed(void **state)
{
	static const struct reply half[] = { { .data = ANSWER_STATUS, .len = 20, .close = true } };
	static const struct reply none[] = { { .close = true } };
	static const struct reply after[] = { { .data = ANSWER_STATUS, .close = true } };
	struct vmc_status *s = NULL;
	struct vmc *vmc;

	(void)state;
	vmc = connect_to(half, 1);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);
	assert_string_equal(vmc_error_detail(vmc), "vmcd closed the connection");
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);
	finish(vmc);

	vmc = connect_to(none, 1);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);
	finish(vmc);
	assert_null(s);

	vmc = connect_to(after, 1);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_OK);
	vmc_free(s);
	varlink_server_stop(server);
	s = NULL;
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);	/* and no SIGPIPE */
	assert_null(s);
	vmc_close(vmc);
}

static void test_timeout(void **state)
{
	static const struct reply replies[] = { { .data = "{\"par", .len = 5 } };
	struct vmc *vmc = connect_to(replies, 1);
	struct timespec before, after;
	struct vmc_status *s = NULL;

	(void)state;
	vmc_set_timeout(vmc, 100);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_TIMEOUT);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_in_range((after.tv_sec - before.tv_sec) * 1000 +
			(after.tv_nsec - before.tv_nsec) / 1000000, 99, 20000);
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);
	assert_null(s);
	finish(vmc);
}

static void test_not_running(void **state)
{
	char dir[] = "/tmp/vmc-test-XXXXXX", path[64], far[200];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct vmc_status *s = NULL;
	struct vmc *vmc;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	assert_int_equal(vmc_connect(path, &vmc), VMC_ERR_NOT_RUNNING);
	assert_non_null(strstr(vmc_error_detail(vmc), path));
	assert_int_equal(vmc_get_status(vmc, &s), VMC_ERR_CLOSED);
	assert_null(s);
	vmc_close(vmc);

	/* a socket that nobody listens on: vmcd was killed */
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	assert_int_equal(vmc_connect(path, &vmc), VMC_ERR_NOT_RUNNING);
	vmc_close(vmc);

	/* a file that is none */
	unlink(path);
	assert_int_equal(vmc_connect(dir, &vmc), VMC_ERR_NOT_RUNNING);
	vmc_close(vmc);
	rmdir(dir);

	memset(far, 'x', sizeof(far));
	far[sizeof(far) - 1] = '\0';
	assert_int_equal(vmc_connect(far, &vmc), VMC_ERR_INVALID);
	vmc_close(vmc);
	assert_int_equal(vmc_connect("", &vmc), VMC_ERR_INVALID);
	vmc_close(vmc);
}

static void test_texts(void **state)
{
	int i, j;

	(void)state;
	for (i = VMC_OK; i >= VMC_ERR_REFUSED; i--) {
		assert_true(strlen(vmc_strerror(i)) > 0);
		assert_string_not_equal(vmc_strerror(i), "unknown error");
		for (j = VMC_OK; j > i; j--)
			assert_string_not_equal(vmc_strerror(i), vmc_strerror(j));
	}
	assert_string_equal(vmc_strerror(-1000), "unknown error");
	assert_string_equal(vmc_strerror(5), "unknown error");
	assert_string_equal(vmc_error_detail(NULL), "");
	assert_string_equal(vmc_library_version(), "0.1.0");
	vmc_free(NULL);
	vmc_close(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_guests),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_details),
		cmocka_unit_test(test_no_name),
		cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_monitor),
		cmocka_unit_test(test_monitor_errors),
		cmocka_unit_test(test_prepare_nobody),
		cmocka_unit_test(test_prepare_refused),
		cmocka_unit_test(test_prepare_garbled),
		cmocka_unit_test(test_resume_garbled),
		cmocka_unit_test(test_prepared_garbled),
		cmocka_unit_test(test_prepare_timeout),
		cmocka_unit_test(test_fd),
		cmocka_unit_test(test_unknown_members),
		cmocka_unit_test(test_slow_answer),
		cmocka_unit_test(test_large_answer),
		cmocka_unit_test(test_endless_answer),
		cmocka_unit_test(test_remote_errors),
		cmocka_unit_test(test_garbled),
		cmocka_unit_test(test_mangled),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_not_running),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests_name("libvmc", tests, NULL, NULL);
}
