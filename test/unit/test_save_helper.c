// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmc-save-helper as libxl runs it, with a vmcd that says what the test wants and a shell script
 * in libxl's helper's place, which tells what it was given.
 */
#include "test.h"
#include "varlink_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct scene {
	char dir[64], conf[96], helper[96], out[96], err[96];
	struct varlink_server *server;
};

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* Valid until the next call. */
static const char *read_file(const char *path)
{
	static char text[4096];
	FILE *f = fopen(path, "re");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

/* What came on standard input goes to standard output, arguments and sockets that are open behind it. */
static const char script[] =
	"#!/bin/sh\n"
	"cat\n"
	"echo \"arguments: $*\"\n"
	"for fd in /proc/$$/fd/*; do case $(readlink $fd) in socket:*) echo socket;; esac; done\n"
	"exit 7\n";

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	strcpy(s->dir, "/tmp/vmc-test-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->conf, sizeof(s->conf), "%s/conf", s->dir);
	snprintf(s->helper, sizeof(s->helper), "%s/helper", s->dir);
	snprintf(s->out, sizeof(s->out), "%s/out", s->dir);
	snprintf(s->err, sizeof(s->err), "%s/err", s->dir);
	write_file(s->helper, script, 0755);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	if (s->server)
		varlink_server_stop(s->server);
	unlink(s->conf);
	unlink(s->helper);
	unlink(s->out);
	unlink(s->err);
	rmdir(s->dir);
	free(s);
	return 0;
}

/* Writes the configuration: the two paths, and @more. */
static void configure(struct scene *s, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text), "# comment\n\nhelper = %s\n socket=%s \n%s", s->helper,
		 s->server ? varlink_server_path(s->server) : "/nonexistent/sock", more);
	write_file(s->conf, text, 0644);
}

/* Runs it with "in" on standard input. Returns its status. */
static int run(struct scene *s, const char *mode)
{
	int in[2], status;
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int out = open(s->out, O_CREAT | O_TRUNC | O_WRONLY, 0600);
		int err = open(s->err, O_CREAT | O_TRUNC | O_WRONLY, 0600);

		setenv("VMC_SAVE_HELPER_CONF", s->conf, 1);
		dup2(in[0], 0);
		dup2(out, 1);
		dup2(err, 2);
		close(out);
		close(err);
		execl(VMC_SAVE_HELPER, "anything", mode, "9", "-1", "12", "0", "31", "0",
		      (char *)NULL);
		_exit(99);
	}
	close(in[0]);
	assert_int_equal(write(in[1], "in\n", 3), 3);
	close(in[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void answers(struct scene *s, const struct reply *reply)
{
	s->server = varlink_server_start(reply, 1);
	configure(s, "");
}

#define ARGUMENTS "arguments: --save-domain 9 -1 12 0 31 0\n"

static const struct reply good = { .data = "{\"parameters\":{\"milliseconds\":42}}" };
static const struct reply no_guest = {
	.data = "{\"error\":\"io.vmc.Manager.NoSuchGuest\",\"parameters\":{\"guest\":\"12\"}}"
};
static const struct reply refused = {
	.data = "{\"error\":\"io.vmc.Manager.CannotPrepare\","
		"\"parameters\":{\"reason\":\"d12 does not let go of channel 4\"}}"
};

static void prepares(void **state)
{
	struct scene *s = *state;

	answers(s, &good);
	assert_int_equal(run(s, "--save-domain"), 7);
	/* libxl's streams as they were, and vmcd's connection still open in its helper */
	assert_string_equal(read_file(s->out), "in\n" ARGUMENTS "socket\n");
	assert_string_equal(read_file(s->err),
			    "vmc-save-helper: domain 12 is parted from its peers (42 ms)\n");
	assert_non_null(strstr(varlink_server_call(s->server), "io.vmc.Manager.Prepare"));
	assert_non_null(strstr(varlink_server_call(s->server), "\"guest\":\"12\""));
	assert_null(strstr(varlink_server_call(s->server), "seconds"));
}

static void restores(void **state)
{
	struct scene *s = *state;

	answers(s, &good);
	assert_int_equal(run(s, "--restore-domain"), 7);
	assert_string_equal(read_file(s->out), "in\narguments: --restore-domain 9 -1 12 0 31 0\n");
	assert_string_equal(read_file(s->err), "");
	assert_string_equal(varlink_server_call(s->server), "");
	/* nor does a mistake in the configuration keep a guest from being restored */
	configure(s, "nonsense\n");
	assert_int_equal(run(s, "--restore-domain"), 7);
}

static void a_guest_without_a_device(void **state)
{
	struct scene *s = *state;

	answers(s, &no_guest);
	configure(s, "on-failure = stop\n");
	assert_int_equal(run(s, "--save-domain"), 7);
	assert_string_equal(read_file(s->out), "in\n" ARGUMENTS);
	assert_string_equal(read_file(s->err), "");
}

static void vmcd_refuses(void **state)
{
	struct scene *s = *state;

	answers(s, &refused);
	assert_int_equal(run(s, "--save-domain"), 7);
	assert_string_equal(read_file(s->out), "in\n" ARGUMENTS);
	assert_string_equal(read_file(s->err),
			    "vmc-save-helper: domain 12 could not be parted from its peers: "
			    "vmcd can't do that now: d12 does not let go of channel 4; going on, "
			    "its driver lets go of them when it is suspended\n");
	configure(s, "on-failure = stop\n");
	assert_int_equal(run(s, "--save-domain"), 1);
	assert_string_equal(read_file(s->out), "");
	assert_non_null(strstr(read_file(s->err), "stopping, as on-failure = stop says"));
}

static void vmcd_does_not_run(void **state)
{
	struct scene *s = *state;

	configure(s, "on-failure=continue\n");
	assert_int_equal(run(s, "--save-domain"), 7);
	assert_string_equal(read_file(s->out), "in\n" ARGUMENTS);
	assert_non_null(strstr(read_file(s->err), "vmcd is not running"));
	configure(s, "on-failure=stop\n");
	assert_int_equal(run(s, "--save-domain"), 1);
}

static void vmcd_does_not_answer(void **state)
{
	static const struct reply never = { .data = NULL };
	struct scene *s = *state;

	answers(s, &never);
	configure(s, "timeout = 1\n");
	assert_int_equal(run(s, "--save-domain"), 7);
	assert_non_null(strstr(read_file(s->err), "vmcd does not answer"));
	assert_string_equal(read_file(s->out), "in\n" ARGUMENTS);
}

static void configurations_that_make_no_sense(void **state)
{
	static const char *const wrong[][2] = {
		{ "on-failure = maybe\n", ":5: on-failure is either continue or stop\n" },
		{ "on-failure\n", ":5: not of the form key = value\n" },
		{ "\ntimeout = 0\n", ":6: timeout is a number of seconds from 1 to 3600\n" },
		{ "timeout = 3601\n", ":5: timeout" },
		{ "timeout = -1\n", ":5: timeout" },
		{ "timeout = 5s\n", ":5: timeout" },
		{ "timeout =\n", ":5: timeout" },
		{ "timeout = 99999999999999999999999\n", ":5: timeout" },
		{ "helper = sbin/helper\n", ":5: helper is an absolute path\n" },
		{ "colour = red\n", ":5: unknown key" },
		{ "= stop\n", ":5: unknown key" },
	};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		configure(s, wrong[i][0]);
		assert_int_equal(run(s, "--save-domain"), 1);
		assert_string_equal(read_file(s->out), "");
		assert_non_null(strstr(read_file(s->err), wrong[i][1]));
		assert_non_null(strstr(read_file(s->err), "stopping"));
	}
}

static void no_helper(void **state)
{
	struct scene *s = *state;

	configure(s, "helper = /nonexistent\n");
	assert_int_equal(run(s, "--restore-domain"), 1);
	assert_non_null(strstr(read_file(s->err), "cannot run /nonexistent: No such file"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(prepares),
		TEST(restores),
		TEST(a_guest_without_a_device),
		TEST(vmcd_refuses),
		TEST(vmcd_does_not_run),
		TEST(vmcd_does_not_answer),
		TEST(configurations_that_make_no_sense),
		TEST(no_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
