// SPDX-License-Identifier: GPL-2.0-or-later
/* vmcctl, libvmc and vmcd together, on a host made of memory: what one says the others understand. */
#include "test_vmcd_fake.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "guest.h"
#include "prepare.h"

struct scene {
	struct fake *f;
	struct vmc_control *control;
	struct fake_guest *a, *b;
	uint32_t chan;
	bool deaf;		/* B keeps its channels */
	char dir[64], path[128];
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	strcpy(s->dir, "/tmp/vmc-test-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/run/sock", s->dir);
	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.stats = 100;
	s->a = fake_vm(s->f, 3);
	s->b = fake_vm(s->f, 4);
	fg_ready(s->a);
	fg_ready(s->b);
	s->chan = fg_open(s->a, s->b);
	assert_int_equal(vmc_control_new(&s->control, s->f->d, s->path), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	vmc_control_free(s->control);
	fake_free(s->f);
	s->path[strlen(s->path) - strlen("/sock")] = '\0';
	rmdir(s->path);
	rmdir(s->dir);
	free(s);
	return 0;
}

/* The driver's part: closes channels; A also answers when it is asked for its counters. */
static void answer(struct scene *s, struct fake_guest *g)
{
	union vmc_any_msg m;

	while (fg_recv(g, &m)) {
		struct vmc_l_stats_chan chan = {
			.h = { VMC_L_STATS_CHAN, sizeof(chan), m.h.id }, .chan = s->chan,
			.state = VMC_CHAN_UP, .tx_streams = 2, .rx_streams = 1, .rings = 3,
			.grants = 51, .bytes_granted = 1 << 20, .tx_bytes = 5ull << 30,
			.events_tx = 7, .takeovers = 4, .ended = 1, .tx_packets = 123456,
			.rx_packets = 77, .tx_dropped = 11, .rx_dropped = 13,
		};
		struct vmc_l_stats_end end = {
			.h = { VMC_L_STATS_END, sizeof(end), m.h.id }, .sockets = 9,
			.reasons = { [VMC_R_PROOF] = 6 },
		};

		if (m.h.type == VMC_L_CHAN_CLOSE && !(g == s->b && s->deaf))
			fg_close(g, VMC_L_CHAN_CLOSED, m.h.id, m.chan_close.peer, VMC_R_NONE);
		if (m.h.type != VMC_L_STATS_REQ || g != s->a)
			continue;
		fg_send(g, &chan);
		fg_send(g, &end);
	}
}

struct run {
	int code;
	char *out, *err;
};

/* Everything that was written to @fd. */
static char *slurp(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *text = calloc(1, (size_t)len + 1);

	assert_int_equal(pread(fd, text, (size_t)len, 0), len);
	close(fd);
	return text;
}

/* Runs vmcctl against the vmcd of the scene, of whose guests only A tells its counters. */
static struct run run(struct scene *s, const char *command, const char *arg, bool json)
{
	char *argv[8] = { (char *)"vmcctl", (char *)"-s", s->path, (char *)command };
	int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
	posix_spawn_file_actions_t actions;
	int argc = 4, status;
	struct run r;
	pid_t pid;

	if (arg)
		argv[argc++] = (char *)arg;
	if (json)
		argv[argc++] = (char *)"--json";
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, err, 2);
	assert_int_equal(posix_spawn(&pid, VMCCTL, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	while (!waitpid(pid, &status, WNOHANG)) {
		fake_run(s->f, 2);
		answer(s, s->a);
		answer(s, s->b);
	}
	assert_true(WIFEXITED(status));
	r = (struct run){ WEXITSTATUS(status), slurp(out), slurp(err) };
	if (!r.code)
		assert_string_equal(r.err, "");
	return r;
}

static void end(struct run *r)
{
	free(r->out);
	free(r->err);
}

static void has(const struct run *r, const char *text)
{
	if (!strstr(r->out, text))
		fail_msg("no `%s` in:\n%s%s", text, r->out, r->err);
}

static void test_status(void **state)
{
	struct run r = run(*state, "status", NULL, false);

	assert_int_equal(r.code, 0);
	has(&r, "Guests:           2\n");
	has(&r, "Channels:         1\n");
	end(&r);
}

static void test_list(void **state)
{
	struct run r = run(*state, "list", NULL, false);

	assert_int_equal(r.code, 0);
	has(&r, "DOMID  NAME");
	has(&r, "\n    3  ");
	has(&r, "\n    4  ");
	has(&r, "connected");
	end(&r);
	r = run(*state, "list", NULL, true);
	assert_int_equal(r.code, 0);
	has(&r, "\"domid\": 3,");
	has(&r, "\"state\": \"connected\",");
	end(&r);
}

static void test_channels(void **state)
{
	struct run r = run(*state, "channels", NULL, false);

	assert_int_equal(r.code, 0);
	has(&r, "local");
	has(&r, "5.0 GiB");
	has(&r, "1.0 MiB");
	has(&r, "123456");
	has(&r, "-     -        -       -\n");	/* B did not answer */
	end(&r);
	r = run(*state, "channels", NULL, true);
	has(&r, "\"tx_bytes\": 5368709120,");
	has(&r, "\"takeovers\": 4,");
	has(&r, "\"tx_packets\": 123456,");
	has(&r, "\"rx_packets\": 77,");
	has(&r, "\"tx_dropped\": 11,");
	has(&r, "\"rx_dropped\": 13,");
	has(&r, "\"reported\": false,");
	end(&r);
}

static void test_show(void **state)
{
	struct run r = run(*state, "show", "3", false);

	assert_int_equal(r.code, 0);
	has(&r, "Domain:    3\n");
	has(&r, "Sockets watched:  9\n");
	has(&r, "proof");
	has(&r, "5.0 GiB");
	has(&r, "Packets sent:       123456");
	has(&r, "Dropped receiving:  13");
	end(&r);
	r = run(*state, "show", "4", false);
	assert_int_equal(r.code, 0);
	has(&r, "Answered:         no\n");
	end(&r);
	r = run(*state, "show", "99", false);
	assert_int_equal(r.code, 4);
	assert_string_equal(r.out, "");
	assert_string_equal(r.err, "vmcctl: no such guest: 99\n");
	end(&r);
	r = run(*state, "show", "no\nbody \xe2\x80\xae", false);
	assert_int_equal(r.code, 4);
	end(&r);
}

/* A guest that went away is not there any more; neither is its channel. */
static void test_gone(void **state)
{
	struct scene *s = *state;
	struct run r;

	fake_destroy(s->b);
	fake_release_event(s->f);
	fake_settle(s->f);
	r = run(s, "list", NULL, true);
	assert_int_equal(r.code, 0);
	has(&r, "\"domid\": 3,");
	assert_null(strstr(r.out, "\"domid\": 4,"));
	end(&r);
}

static const char *state_of(struct scene *s, uint32_t domid)
{
	return vmc_prepare_state(vmc_guest_by_domid(s->f->d, domid));
}

static void test_prepare(void **state)
{
	struct scene *s = *state;
	struct run r = run(s, "prepare", "3", false);

	assert_int_equal(r.code, 0);
	has(&r, "3 is prepared (");
	has(&r, " ms), for 300 s or until vmcctl resume 3\n");
	end(&r);
	/* without a connection that holds it */
	fake_run(s->f, 50);
	assert_string_equal(state_of(s, 3), "prepared");
	r = run(s, "list", NULL, false);
	has(&r, "  PREPARED\n");
	has(&r, "  prepared\n");
	has(&r, "  no\n");
	end(&r);
	r = run(s, "list", NULL, true);
	has(&r, "\"prepared\": \"prepared\",");
	has(&r, "\"prepared\": \"no\",");
	end(&r);
	r = run(s, "show", "3", false);
	has(&r, "Channels:  0\n");
	has(&r, "\nPrepared:  prepared\n");
	end(&r);
	r = run(s, "prepare", "vm3", true);	/* again */
	assert_int_equal(r.code, 0);
	has(&r, "{\n  \"guest\": \"vm3\",\n  \"milliseconds\": ");
	has(&r, ",\n  \"seconds\": 300\n}\n");
	end(&r);

	r = run(s, "resume", "3", false);
	assert_int_equal(r.code, 0);
	assert_string_equal(r.out, "3 is not prepared any more\n");
	end(&r);
	fake_settle(s->f);
	assert_string_equal(state_of(s, 3), "no");
	r = run(s, "list", NULL, false);
	assert_null(strstr(r.out, "PREPARED"));
	end(&r);
	r = run(s, "resume", "3", true);	/* nothing to do */
	assert_int_equal(r.code, 0);
	assert_string_equal(r.out, "{\n  \"guest\": \"3\"\n}\n");
	end(&r);
	r = run(s, "prepare", "99", false);
	assert_int_equal(r.code, 4);
	assert_string_equal(r.err, "vmcctl: no such guest: 99\n");
	end(&r);
	r = run(s, "resume", "99", false);
	assert_int_equal(r.code, 4);
	end(&r);
}

/* The peer does not let go: the guest goes on, and it is told who is in the way. */
static void test_prepare_refused(void **state)
{
	struct scene *s = *state;
	char text[200];
	struct run r;

	s->f->d->timing.prepare = 1000;
	s->f->d->timing.prepare_look = 10;
	s->deaf = true;
	r = run(s, "prepare", "3", true);
	assert_int_equal(r.code, 1);
	assert_string_equal(r.out, "");
	snprintf(text, sizeof(text), "vmcctl: cannot prepare 3: d4 does not let go of channel %u: "
		 "try again, and see what vmcd logs: journalctl -u vmcd\n", s->chan);
	assert_string_equal(r.err, text);
	end(&r);
	assert_string_equal(state_of(s, 3), "no");
}

/* vmcd takes longer than the timeout of a new handle. */
static void test_prepare_slowly(void **state)
{
	struct scene *s = *state;
	struct timespec before, after;
	struct run r;

	s->f->d->timing.prepare = 6000;
	s->b->lent_to = 3;
	s->b->lent = 2;
	clock_gettime(CLOCK_MONOTONIC, &before);
	r = run(s, "prepare", "3", false);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_int_equal(r.code, 1);
	if (!strstr(r.err, "cannot prepare 3: it still has 2 pages of d4 mapped: "))
		fail_msg("%s", r.err);
	assert_true(after.tv_sec - before.tv_sec >= 5);
	end(&r);
}

static int skip_unless_root(void **state)
{
	(void)state;
	if (!geteuid())
		return 0;
	print_message("vmcd talks to root only\n");
	exit(0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_status), T(test_list), T(test_channels), T(test_show), T(test_gone),
		T(test_prepare), T(test_prepare_refused), T(test_prepare_slowly),
	};

	return cmocka_run_group_tests_name("vmcctl with vmcd", tests, skip_unless_root, NULL);
}
