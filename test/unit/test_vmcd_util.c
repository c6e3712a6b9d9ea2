// SPDX-License-Identifier: GPL-2.0-or-later
/* Command line, log lines, rate limits, and the checks of untrusted text. */
#include "test.h"

#include "log.h"
#include "options.h"
#include "util.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int parse(struct vmc_options *opt, const char *line, char *out, char *err)
{
	char copy[256], *argv[16], *save;
	FILE *fout = fmemopen(out, 2048, "w"), *ferr = fmemopen(err, 2048, "w");
	int argc = 0, ret;

	snprintf(copy, sizeof(copy), "vmcd %s", line);
	for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
		argv[argc++] = p;
	argv[argc] = NULL;
	ret = vmc_options_parse(argc, argv, opt, fout, ferr);
	fclose(fout);
	fclose(ferr);
	return ret;
}

static void options(void **state)
{
	static const char *const wrong[] = {
		"--bogus", "-x", "extra", "--log-level loud", "--log-level", "-l",
		"--socket", "--foreground=1",
		"--socket /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	struct vmc_options opt;
	char out[2048], err[2048];

	(void)state;
	assert_int_equal(parse(&opt, "", out, err), 0);
	assert_false(opt.foreground);
	assert_false(opt.quit);
	assert_int_equal(opt.log_level, VMC_LOG_INFO);
	assert_string_equal(opt.socket, "/run/vmc/vmcd.sock");

	assert_int_equal(parse(&opt, "--foreground --log-level debug --socket /x/y", out, err), 0);
	assert_true(opt.foreground);
	assert_int_equal(opt.log_level, VMC_LOG_DEBUG);
	assert_string_equal(opt.socket, "/x/y");
	assert_int_equal(parse(&opt, "-f -l error -s z", out, err), 0);
	assert_int_equal(opt.log_level, VMC_LOG_ERROR);

	assert_int_equal(parse(&opt, "--version --bogus", out, err), 0);
	assert_true(opt.quit);
	assert_int_equal(strncmp(out, "vmcd ", 5), 0);
	assert_int_equal(parse(&opt, "--help", out, err), 0);
	assert_true(opt.quit);
	assert_non_null(strstr(out, "--log-level"));

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memset(err, 0, sizeof(err));
		if (parse(&opt, wrong[i], out, err) != -EINVAL)
			fail_msg("%s was taken", wrong[i]);
		assert_int_equal(strncmp(err, "vmcd: ", 6), 0);
	}
}

static void numbers(void **state)
{
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 ", "0x1", "1.0", "a", "1\n",
	};
	uint32_t v = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vmc_parse_u32(bad[i], UINT32_MAX, &v), -EINVAL);
	assert_int_equal(vmc_parse_u32("4294967296", UINT32_MAX, &v), -ERANGE);
	assert_int_equal(vmc_parse_u32("00000000001", UINT32_MAX, &v), -ERANGE);
	assert_int_equal(vmc_parse_u32("11", 10, &v), -ERANGE);
	assert_int_equal(v, 42);
	assert_int_equal(vmc_parse_u32("0", 0, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(vmc_parse_u32("4294967295", UINT32_MAX, &v), 0);
	assert_int_equal(v, UINT32_MAX);
}

static void macs(void **state)
{
	static const uint8_t want[6] = { 0x00, 0x16, 0x3e, 0xAB, 0xcd, 0x0f };
	uint8_t mac[6];

	(void)state;
	assert_int_equal(vmc_parse_mac("00:16:3e:AB:cd:0f", mac), 0);
	assert_memory_equal(mac, want, 6);
	assert_int_equal(vmc_parse_mac("ff:ff:ff:ff:ff:ff", mac), -EINVAL);
	assert_int_equal(vmc_parse_mac("00:16:3e:AB:cd:0", mac), -EINVAL);
	assert_int_equal(vmc_parse_mac("00:16:3e:AB:cd 0f", mac), -EINVAL);
	assert_int_equal(vmc_parse_mac("00:16:3e:AB:cd:0f ", mac), -EINVAL);
}

static void texts(void **state)
{
	static const uint8_t uuid[16] = { 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0,
					  0, 1, 2, 3, 4, 5, 6, 7 };
	char text[8], id[VMC_UUID_TEXT];

	(void)state;
	vmc_sanitize(text, sizeof(text), "a\nb\x7f\xc3z", 6);
	assert_string_equal(text, "a?b??z");
	vmc_sanitize(text, sizeof(text), "longer than that", 16);
	assert_string_equal(text, "longer ");
	vmc_sanitize(text, sizeof(text), "ab\0cd", 5);
	assert_string_equal(text, "ab");
	vmc_sanitize(text, sizeof(text), "abcd", 2);
	assert_string_equal(text, "ab");
	vmc_sanitize(text, sizeof(text), "", 0);
	assert_string_equal(text, "");
	vmc_uuid_text(uuid, id);
	assert_string_equal(id, "12345678-9abc-def0-0001-020304050607");
}

static void rates(void **state)
{
	struct timespec nap = { .tv_nsec = 25000000 };
	struct vmc_ratelimit rl;
	int passed = 0;

	(void)state;
	vmc_ratelimit_init(&rl, 3, 10);
	while (vmc_ratelimit_ok(&rl) && passed < 100)
		passed++;
	assert_in_range(passed, 3, 4);
	assert_int_equal(rl.refused, 1);
	nanosleep(&nap, NULL);
	assert_true(vmc_ratelimit_ok(&rl));
	assert_true(vmc_ratelimit_ok(&rl));
	nanosleep(&nap, NULL);
	nanosleep(&nap, NULL);
	/* never more than the burst */
	for (passed = 0; vmc_ratelimit_ok(&rl) && passed < 100;)
		passed++;
	assert_in_range(passed, 3, 4);
}

static void log_dom(enum vmc_log_level level, uint32_t domid, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void log_dom(enum vmc_log_level level, uint32_t domid, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vmc_log_dom(level, domid, "link", fmt, ap);
	va_end(ap);
}

/* What one call writes to stderr, which is the journal if so said. */
static void capture(char *text, size_t size, enum vmc_log_level limit,
		    enum vmc_log_level level, bool journal)
{
	int fds[2], old = dup(STDERR_FILENO);
	char stream[64];
	struct stat st;
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	fflush(stderr);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + !journal);
	setenv("JOURNAL_STREAM", stream, 1);
	vmc_log_init(limit, VMC_LOG_TO_STDERR);
	vmc_log(level, "link", "%s %d", "hello", 7);
	log_dom(level, 3, "%s", "bye");
	fflush(stderr);
	dup2(old, STDERR_FILENO);
	close(old);
	n = read(fds[0], text, size - 1);
	close(fds[0]);
	text[n > 0 ? n : 0] = '\0';
}

static void log_lines(void **state)
{
	enum vmc_log_level level;
	char text[256];

	(void)state;
	capture(text, sizeof(text), VMC_LOG_INFO, VMC_LOG_NOTICE, false);
	assert_string_equal(text, "vmcd: notice: link: hello 7\nvmcd: notice: d3 link: bye\n");
	capture(text, sizeof(text), VMC_LOG_INFO, VMC_LOG_DEBUG, false);
	assert_string_equal(text, "");
	capture(text, sizeof(text), VMC_LOG_INFO, VMC_LOG_WARNING, true);
	assert_string_equal(text, "<4>link: hello 7\n<4>d3 link: bye\n");
	assert_int_equal(vmc_log_level_parse("notice", &level), 0);
	assert_int_equal(level, VMC_LOG_NOTICE);
	assert_int_equal(vmc_log_level_parse("Notice", &level), -EINVAL);
	assert_int_equal(vmc_log_level_parse("", &level), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options),
		cmocka_unit_test(numbers),
		cmocka_unit_test(macs),
		cmocka_unit_test(texts),
		cmocka_unit_test(rates),
		cmocka_unit_test(log_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
