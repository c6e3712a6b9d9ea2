// SPDX-License-Identifier: GPL-2.0-or-later
/* vmcctl, libvmc and vmcd together, on a host made of memory: what one says the others understand. */
#include "test_vmcd_fake.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "guest.h"

struct scene {
	struct fake *f;
	struct vmc_control *control;
	struct fake_guest *a, *b;
	uint32_t chan;
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

/* The driver's part: answers when it is asked for its counters. */
static void answer_stats(struct scene *s, struct fake_guest *g)
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

		if (m.h.type != VMC_L_STATS_REQ)
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

/* Runs vmcctl against the vmcd of the scene, of whose guests only A answers. */
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
		answer_stats(s, s->a);
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
	};

	return cmocka_run_group_tests_name("vmcctl with vmcd", tests, skip_unless_root, NULL);
}
