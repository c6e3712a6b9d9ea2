// SPDX-License-Identifier: GPL-2.0-or-later
/* vmcctl from its arguments to its output and exit code, against a vmcd of the test. */
#include "test.h"

#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answers.h"
#include "varlink_server.h"
#include "vmcctl.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static char *out, *err;

static int run_at(const char *socket, const char *const *args)
{
	char *argv[12] = { (char *)"vmcctl", (char *)"--socket", (char *)socket };
	FILE *fo, *fe;
	size_t lo, le;
	int argc = socket ? 3 : 1, code;

	free(out);
	free(err);
	while (*args)
		argv[argc++] = (char *)*args++;
	argv[argc] = NULL;
	fo = open_memstream(&out, &lo);
	fe = open_memstream(&err, &le);
	code = vmcctl_run(argc, argv, fo, fe);
	fclose(fo);
	fclose(fe);
	return code;
}

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Runs against a vmcd that answers @data. */
static int run(const char *data, const char *const *args)
{
	struct reply reply = { .data = data };
	struct varlink_server *s = varlink_server_start(&reply, 1);
	int code = run_at(varlink_server_path(s), args);

	varlink_server_stop(s);
	return code;
}

static void expect(const char *data, const char *const *args, const char *text)
{
	assert_int_equal(run(data, args), 0);
	assert_string_equal(out, text);
	assert_string_equal(err, "");
}

static void test_list(void **state)
{
	(void)state;
	expect(ANSWER_GUESTS, ARGS("list"),
	       "DOMID  NAME  UUID                                  STATE      DRIVER  CHANNELS  "
	       "PREPARED\n"
	       "    4  web1  6f1c7a52-8a0e-4b57-9f7e-000000000001  connected  0.1.0          1  no\n"
	       "   12  db    6f1c7a52-8a0e-4b57-9f7e-000000000002  waiting    -              0  "
	       "prepared\n");
	/* most of the time nobody is */
	expect("{\"parameters\":{\"guests\":[" GUEST_WEB "]}}", ARGS("list"),
	       "DOMID  NAME  UUID                                  STATE      DRIVER  CHANNELS\n"
	       "    4  web1  6f1c7a52-8a0e-4b57-9f7e-000000000001  connected  0.1.0          1\n");
	expect(ANSWER_NO_GUESTS, ARGS("list"), "No guests take part.\n");
	expect(ANSWER_NO_GUESTS, ARGS("list", "--json"), "{\n  \"guests\": []\n}\n");
	expect("{\"parameters\":{\"guests\":[" GUEST_DB "]}}", ARGS("-j", "list"),
	       "{\n"
	       "  \"guests\": [\n"
	       "    {\n"
	       "      \"domid\": 12,\n"
	       "      \"name\": \"db\",\n"
	       "      \"uuid\": \"6f1c7a52-8a0e-4b57-9f7e-000000000002\",\n"
	       "      \"state\": \"waiting\",\n"
	       "      \"driver\": \"\",\n"
	       "      \"protocol\": 0,\n"
	       "      \"channels\": 0,\n"
	       "      \"macs\": [\"00:16:3e:00:00:03\"],\n"
	       "      \"bridges\": [\"xenbr0\"],\n"
	       "      \"quarantined\": [],\n"
	       "      \"prepared\": \"prepared\",\n"
	       "      \"error\": \"\"\n"
	       "    }\n"
	       "  ]\n"
	       "}\n");
}

static void test_channels(void **state)
{
	(void)state;
	expect(ANSWER_CHANNELS, ARGS("channels"),
	       "ID  MODE   GUEST  STREAMS     SENT           PACKETS   MEMORY  "
	       "PEER  STREAMS  SENT  PACKETS  MEMORY\n"
	       " 7  local  web1         3  1.5 GiB  9007199254740995  1.2 MiB  "
	       "db          -     -        -       -\n");
	expect(ANSWER_NO_CHANNELS, ARGS("channels"), "No channels.\n");
	assert_int_equal(run(ANSWER_CHANNELS, ARGS("channels", "-j")), 0);
	assert_non_null(strstr(out, "\"tx_bytes\": 1610612736,"));
	assert_non_null(strstr(out, "\"memory\": 1351680,"));
	assert_non_null(strstr(out, "\"takeovers\": 9007199254740993,"));
	assert_non_null(strstr(out, "\"tx_packets\": 9007199254740995,"));
	assert_non_null(strstr(out, "\"rx_packets\": 12,"));
	assert_non_null(strstr(out, "\"tx_dropped\": 8,"));
	assert_non_null(strstr(out, "\"rx_dropped\": 6,"));
	assert_non_null(strstr(out, "\"reported\": false,"));
	assert_null(strstr(out, "GiB"));
}

static void test_show(void **state)
{
	(void)state;
	expect(ANSWER_DETAILS, ARGS("show", "web1"),
	       "Domain:       4\n"
	       "Name:         web1\n"
	       "UUID:         6f1c7a52-8a0e-4b57-9f7e-000000000001\n"
	       "State:        connected\n"
	       "Driver:       0.1.0\n"
	       "Protocol:     1\n"
	       "Channels:     1\n"
	       "MAC:          00:16:3e:00:00:01 00:16:3e:00:00:02\n"
	       "Bridge:       xenbr0 xenbr1\n"
	       "Quarantined:  db mail\n"
	       "\n"
	       "Limits by vmcd.conf\n"
	       "Streams received:  5\n"
	       "Memory granted:    64.0 MiB\n"
	       "Packets:           off\n"
	       "\n"
	       "Driver\n"
	       "Answered:         yes\n"
	       "Sockets watched:  11\n"
	       "Sockets so far:   1200\n"
	       "Memory granted:   1.2 MiB\n"
	       "Grants:           332\n"
	       "Pages mapped:     65\n"
	       "\n"
	       "Connections on TCP\n"
	       "REASON   COUNT\n"
	       "no-peer     12\n"
	       "oob          1\n"
	       "\n"
	       "Channels\n"
	       "Channel:            7\n"
	       "Mode:               local\n"
	       "Domain:             4                 12\n"
	       "Guest:              web1              db\n"
	       "Streams sending:    3                 -\n"
	       "Streams receiving:  2                 -\n"
	       "Sent:               1.5 GiB           -\n"
	       "Received:           2.0 KiB           -\n"
	       "Packets sent:       9007199254740995  -\n"
	       "Packets received:   12                -\n"
	       "Dropped sending:    8                 -\n"
	       "Dropped receiving:  6                 -\n"
	       "Rings:              5                 -\n"
	       "Grants:             330               -\n"
	       "Memory:             1.2 MiB           -\n"
	       "Events sent:        17                -\n"
	       "Events received:    19                -\n"
	       "Went local:         9007199254740993  -\n"
	       "Went back to TCP:   4                 -\n");
}

static void test_show_prepared(void **state)
{
#define NO_STATS "{\"reported\":false,\"sockets\":0,\"hooked\":0,\"memory\":0,"	\
		 "\"grants\":0,\"mapped\":0,\"fallbacks\":[]}"
	static const char answer[] = "{\"parameters\":{\"guest\":" GUEST_DB ",\"limits\":{},\"stats\":" NO_STATS
				     ",\"channels\":[]}}";

	(void)state;
	assert_int_equal(run(answer, ARGS("show", "db")), 0);
	assert_non_null(strstr(out, "State:     waiting\n"));
	assert_non_null(strstr(out, "Bridge:    xenbr0\nPrepared:  prepared\n\nDriver\n"));
	assert_int_equal(run(answer, ARGS("show", "db", "-j")), 0);
	assert_non_null(strstr(out, "\"prepared\": \"prepared\","));
	assert_int_equal(run(ANSWER_DETAILS, ARGS("show", "web1", "-j")), 0);
	assert_non_null(strstr(out, "\"prepared\": \"no\","));
}

/* Runs against a vmcd that answers @data; @call is what it has to be asked. */
static void expect_call(const char *data, const char *const *args, const char *call,
			const char *text)
{
	struct reply reply = { .data = data };
	struct varlink_server *s = varlink_server_start(&reply, 1);

	assert_int_equal(run_at(varlink_server_path(s), args), 0);
	assert_string_equal(varlink_server_call(s), call);
	assert_string_equal(out, text);
	assert_string_equal(err, "");
	varlink_server_stop(s);
}

static void test_prepare(void **state)
{
#define PREPARE(params) "{\"method\":\"io.vmc.Manager.Prepare\",\"parameters\":" params "}"
	static const char *const wrong[] = { "0",  "86401", "-1", "",	 "5x", " 5",
					     "+5", "1.5",   "x",  "0x5", "99999999999999999999" };
	size_t i;

	(void)state;
	expect_call(ANSWER_PREPARED, ARGS("prepare", "g1"),
		    PREPARE("{\"seconds\":300,\"guest\":\"g1\"}"),
		    "g1 is prepared (12 ms), for 300 s or until vmcctl resume g1\n");
	expect_call(ANSWER_PREPARED, ARGS("prepare", "--seconds", "1", "4"),
		    PREPARE("{\"seconds\":1,\"guest\":\"4\"}"),
		    "4 is prepared (12 ms), for 1 s or until vmcctl resume 4\n");
	expect_call(ANSWER_PREPARED, ARGS("prepare", "g1", "--json", "--seconds=86400"),
		    PREPARE("{\"seconds\":86400,\"guest\":\"g1\"}"),
		    "{\n"
		    "  \"guest\": \"g1\",\n"
		    "  \"milliseconds\": 12,\n"
		    "  \"seconds\": 86400\n"
		    "}\n");
	/* what was typed does not drive the terminal either */
	assert_int_equal(run(ANSWER_PREPARED, ARGS("prepare", "a\x1b[2J")), 0);
	assert_string_equal(out, "a?[2J is prepared (12 ms), for 300 s or until vmcctl resume a?[2J\n");

	for (i = 0; i < N(wrong); i++) {
		assert_int_equal(run_at("/nonexistent", ARGS("prepare", "g1", "--seconds", wrong[i])),
				 VMCCTL_USAGE);
		assert_non_null(strstr(err, "vmcctl: --seconds is a number from 1 to 86400, not "));
		assert_string_equal(out, "");
	}
	assert_int_equal(run_at(NULL, ARGS("prepare", "g1", "--seconds")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: missing argument of --seconds\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("prepare")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: missing argument GUEST\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("prepare", "a", "b")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("resume", "g1", "--seconds", "5")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: --seconds is not for resume\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("version", "--seconds", "5")), VMCCTL_USAGE);
}

static void test_resume(void **state)
{
	static const char call[] = "{\"method\":\"io.vmc.Manager.Resume\","
				   "\"parameters\":{\"guest\":\"g1\"}}";

	(void)state;
	expect_call(ANSWER_RESUMED, ARGS("resume", "g1"), call, "g1 is not prepared any more\n");
	expect_call(ANSWER_RESUMED, ARGS("resume", "g1", "-j"), call,
		    "{\n  \"guest\": \"g1\"\n}\n");
	assert_int_equal(run_at(NULL, ARGS("resume")), VMCCTL_USAGE);
}

static void test_policy(void **state)
{
	(void)state;
	expect_call(ANSWER_ALLOWED, ARGS("policy", "test", "g1", "4"),
		    "{\"method\":\"io.vmc.Manager.TestPolicy\",\"parameters\":{\"a\":\"g1\",\"b\":\"4\"}}",
		    "g1 and 4 may share memory: no rule is against it\nThey are peers now.\n");
	assert_int_equal(run(ANSWER_ALLOWED_BY_RULE, ARGS("policy", "test", "g1", "g2")), 0);
	assert_string_equal(out, "g1 and g2 may share memory: /etc/vmc/vmcd.conf:5: allow web any\n"
				 "They are no peers now: no link to both\n");
	assert_int_equal(run(ANSWER_FORBIDDEN, ARGS("policy", "test", "g1", "g2")), VMCCTL_FORBIDDEN);
	assert_string_equal(out, "g1 and g2 may not share memory: /etc/vmc/vmcd.conf:6: deny any any\n");
	assert_string_equal(err, "");
	assert_int_equal(run(ANSWER_FORBIDDEN, ARGS("policy", "test", "g1", "g2", "-j")),
			 VMCCTL_FORBIDDEN);
	assert_string_equal(out, "{\n  \"a\": \"g1\",\n  \"b\": \"g2\",\n  \"allowed\": false,\n"
				 "  \"rule\": \"/etc/vmc/vmcd.conf:6: deny any any\",\n"
				 "  \"peers\": false,\n"
				 "  \"obstacle\": \"/etc/vmc/vmcd.conf:6: deny any any\"\n}\n");
	/* of two guests, the one that is not there */
	assert_int_equal(run(ANSWER_NO_SUCH_GUEST, ARGS("policy", "test", "g1", "nobody")),
			 VMCCTL_NO_GUEST);
	assert_string_equal(err, "vmcctl: no such guest: nobody\n");
}

static bool has_line(const char *line)
{
	const char *at = strstr(out, line);

	return at && (at == out || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void test_metrics(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_STATUS }, { .data = ANSWER_CHANNELS }, { .data = ANSWER_GUESTS },
		{ .data = ANSWER_DETAILS },
	};
	struct varlink_server *s = varlink_server_start(replies, N(replies));

	(void)state;
	assert_int_equal(run_at(varlink_server_path(s), ARGS("metrics")), 0);
	assert_string_equal(err, "");
	assert_true(has_line("# TYPE vmc_bytes_total counter"));
	assert_true(has_line("vmc_channels{mode=\"local\"} 1"));
	assert_true(has_line("vmc_channels{mode=\"idle\"} 0"));
	assert_true(has_line("vmc_streams{domid=\"4\",guest=\"web1\",peer_domid=\"12\",peer=\"db\",direction=\"sent\"} 3"));
	assert_true(has_line("vmc_bytes_total{domid=\"4\",guest=\"web1\",peer_domid=\"12\",peer=\"db\",direction=\"sent\"} 1610612736"));
	assert_true(has_line("vmc_granted_bytes{domid=\"4\",guest=\"web1\",peer_domid=\"12\",peer=\"db\"} 1351680"));
	/* the other end did not report */
	assert_null(strstr(out, "{domid=\"12\",guest=\"db\",peer"));
	assert_true(has_line("vmc_guests{state=\"connected\"} 1"));
	assert_true(has_line("vmc_guests{state=\"waiting\"} 1"));
	assert_true(has_line("vmc_quarantined{domid=\"4\",guest=\"web1\"} 2"));
	assert_true(has_line("vmc_fallbacks_total{domid=\"4\",guest=\"web1\",reason=\"no-peer\"} 12"));
	assert_string_equal(varlink_server_call(s),
			    "{\"method\":\"io.vmc.Manager.ShowGuest\",\"parameters\":{\"guest\":\"4\"}}");
	varlink_server_stop(s);
	assert_int_equal(run_at(NULL, ARGS("metrics", "-j")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: --json is not for metrics\nTry: vmcctl --help\n");
}

static void test_metrics_escapes(void **state)
{
	static const struct reply replies[] = {
		{ .data = "{\"parameters\":{\"version\":\"1\\\"\\\\\\n2\",\"pid\":1,\"uptime\":2,\"guests\":0,"
			  "\"channels\":0,\"protocol_min\":1,\"protocol_max\":1}}" },
		{ .data = ANSWER_NO_CHANNELS }, { .data = ANSWER_NO_GUESTS },
	};
	struct varlink_server *s = varlink_server_start(replies, N(replies));

	(void)state;
	assert_int_equal(run_at(varlink_server_path(s), ARGS("metrics")), 0);
	assert_true(has_line("vmc_info{version=\"1\\\"\\\\\\n2\"} 1"));
	varlink_server_stop(s);
}

#define EVENT(text)	"{\"continues\":true,\"parameters\":{\"event\":{\"time\":1700000000123," text "}}}"

static void test_monitor(void **state)
{
	static const char data[] =
		EVENT("\"event\":\"monitoring\",\"detail\":\"\"") "\0"
		EVENT("\"event\":\"configured\",\"detail\":\"\"") "\0"
		EVENT("\"event\":\"channel-closed\",\"domid\":4,\"name\":\"we\\u001bb1\",\"peer_domid\":12,"
		      "\"peer\":\"db\",\"channel\":9,\"detail\":\"policy\"");
	static const struct reply reply = { .data = data, .len = sizeof(data), .close = true };
	struct varlink_server *s = varlink_server_start(&reply, 1);

	(void)state;
	setenv("TZ", "UTC", 1);
	assert_int_equal(run_at(varlink_server_path(s), ARGS("monitor")), VMCCTL_FAILED);
	assert_string_equal(out,
			    "2023-11-14 22:13:20.123  configured\n"
			    "2023-11-14 22:13:20.123  channel-closed      we?b1 (d4)  db (d12)  channel 9  policy\n");
	assert_string_equal(err, "vmcctl: connection closed: vmcd closed the connection\n");
	assert_int_equal(run_at(varlink_server_path(s), ARGS("monitor", "-j")), VMCCTL_FAILED);
	assert_string_equal(out,
			    "{\"time\": 1700000000123, \"event\": \"configured\", \"detail\": \"\"}\n"
			    "{\"time\": 1700000000123, \"event\": \"channel-closed\", \"domid\": 4, "
			    "\"name\": \"we\\u001bb1\", \"peer_domid\": 12, \"peer\": \"db\", \"channel\": 9, "
			    "\"detail\": \"policy\"}\n");
	varlink_server_stop(s);
}

#define TOP_END(domid, name, bytes, packets) "{\"domid\":" domid ",\"name\":\"" name "\",\"reported\":true,"	\
	"\"tx_streams\":1,\"rx_streams\":2,\"tx_bytes\":" bytes ",\"rx_bytes\":7,\"tx_packets\":" packets ","	\
	"\"rx_packets\":0,\"tx_dropped\":0,\"rx_dropped\":0,\"rings\":1,\"grants\":1,\"memory\":4096,"	\
	"\"events_sent\":0,\"events_received\":0,\"takeovers\":1,\"ended\":0}"
#define TOP_CHANNEL(id, bytes, packets) "{\"id\":" id ",\"mode\":\"local\",\"a\":"				\
	TOP_END("1", "g" id, bytes, packets) ",\"b\":" TOP_END("2", "p" id, "0", "0") "}"
#define TOP_ANSWER(list) "{\"parameters\":{\"channels\":[" list "]}}"

static void test_top(void **state)
{
	static const struct reply replies[] = {
		{ .data = TOP_ANSWER(TOP_CHANNEL("1", "500", "9") "," TOP_CHANNEL("2", "1000", "10")) },
		{ .data = TOP_ANSWER(TOP_CHANNEL("1", "400", "9") "," TOP_CHANNEL("2", "104858600", "1010") ","
				     TOP_CHANNEL("3", "5", "5")), .close = true },
	};
	struct varlink_server *s = varlink_server_start(replies, N(replies));
	const char *first, *second, *third;
	unsigned int mib = 0;

	(void)state;
	assert_int_equal(run_at(varlink_server_path(s), ARGS("top")), 0);
	varlink_server_stop(s);
	assert_string_equal(err, "");
	assert_non_null(strstr(out, "SENT/s"));
	/* 100 MiB within a second or a little more; one that started afresh; one that is new */
	first = strstr(out, "g2");
	second = strstr(out, "g1");
	third = strstr(out, "g3");
	assert_true(first && second && third && first < second && second < third);
	assert_int_equal(sscanf(strstr(first, "3 "), "3 %u", &mib), 1);
	assert_in_range(mib, 20, 100);
	assert_non_null(strstr(first, " MiB"));
	assert_non_null(strstr(second, "0 B"));
	assert_non_null(strstr(third, "-  "));
}

static void test_watch(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_NO_GUESTS }, { .data = ANSWER_GUESTS, .close = true },
	};
	struct varlink_server *s = varlink_server_start(replies, N(replies));

	(void)state;
	assert_int_equal(run_at(varlink_server_path(s), ARGS("list", "--watch", "1")), VMCCTL_FAILED);
	varlink_server_stop(s);
	assert_int_equal(strncmp(out, "No guests take part.\nDOMID ", 27), 0);
	assert_string_equal(err, "vmcctl: connection closed: vmcd closed the connection\n");
	assert_int_equal(run_at(NULL, ARGS("list", "-w", "0")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("monitor", "-w", "1")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: --watch is not for monitor\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("prepare", "x", "-w", "1")), VMCCTL_USAGE);
}

static char host[] = "/tmp/vmcctl-test.XXXXXX";

/* A file of the host that doctor looks at; NULL: none. */
static void host_file(const char *path, const char *text)
{
	char full[256], *slash;
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", host, path);
	if (!text) {
		unlink(full);
		return;
	}
	for (slash = full + strlen(host) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(full, 0755);
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(full, 0755);
}

static void test_doctor(void **state)
{
	static const struct reply replies[] = {
		{ .data = ANSWER_STATUS }, { .data = ANSWER_GUESTS }, { .data = ANSWER_CHANNELS },
		{ .data = ANSWER_DETAILS },
	};
	struct varlink_server *s;
	char rm[64];

	(void)state;
	assert_non_null(mkdtemp(host));
	vmcctl_root = host;
	assert_int_equal(run_at("/nonexistent/sock", ARGS("doctor")), VMCCTL_FAILED);
	assert_string_equal(out, "problem  this is no Xen system\n"
			    "         -> boot a Xen host, and run vmcctl in its Dom0\n1 problem\n");
	assert_string_equal(err, "");

	host_file("/sys/hypervisor/version/major", "4\n");
	host_file("/sys/hypervisor/version/minor", "17\n");
	host_file("/sys/hypervisor/version/extra", ".5\n");
	assert_int_equal(run_at("/nonexistent/sock", ARGS("doctor")), VMCCTL_FAILED);
	assert_non_null(strstr(out, "problem  Xen 4.17.5, but this is not Dom0"));

	host_file("/proc/xen/capabilities", "control_d\n");
	host_file("/dev/xen/evtchn", "");
	host_file("/dev/xen/privcmd", "");
	host_file("/dev/xen/xenbus", "");
	host_file("/etc/profile.d/vmc.sh", "# x\nexport LIBXL_SAVE_HELPER=/lib/helper\n");
	assert_int_equal(run_at("/nonexistent/sock", ARGS("doctor")), VMCCTL_FAILED);
	assert_true(has_line("ok       Xen 4.17.5, and this is Dom0"));
	assert_true(has_line("problem  /dev/xen/gntdev is missing"));
	assert_true(has_line("problem  /etc/profile.d/vmc.sh names /lib/helper, which is not there"));
	assert_non_null(strstr(out, "problem  cannot talk to vmcd: vmcd is not running"));
	assert_true(has_line("3 problems"));

	host_file("/dev/xen/gntdev", "");
	host_file("/lib/helper", "");
	s = varlink_server_start(replies, N(replies));
	assert_int_equal(run_at(varlink_server_path(s), ARGS("doctor")), VMCCTL_FAILED);
	assert_string_equal(err, "");
	assert_true(has_line("ok       Xen's devices are there"));
	assert_true(has_line("ok       xl save and xl migrate prepare guests before (/lib/helper)"));
	assert_non_null(strstr(out, "ok       vmcd "));
	assert_true(has_line("ok       web1 (d4): driver 0.1.0, 1 channels"));
	assert_true(has_line("problem  db (d12) has no driver connected"));
	assert_non_null(strstr(out, "note     web1: connections stayed on TCP or went back to it mostly for: no-peer (12)"));
	varlink_server_stop(s);

	s = varlink_server_start(replies, N(replies));
	assert_int_equal(run_at(varlink_server_path(s), ARGS("doctor", "--json")), VMCCTL_FAILED);
	assert_non_null(strstr(out, "\"level\": \"problem\""));
	assert_non_null(strstr(out, "\"problems\": "));
	varlink_server_stop(s);

	/* nothing wrong */
	s = varlink_server_start((const struct reply[]){ { .data = ANSWER_STATUS },
				 { .data = ANSWER_NO_GUESTS }, { .data = ANSWER_NO_CHANNELS } }, 3);
	assert_int_equal(run_at(varlink_server_path(s), ARGS("doctor")), VMCCTL_OK);
	assert_true(has_line("0 problems"));
	varlink_server_stop(s);
	vmcctl_root = "";
	snprintf(rm, sizeof(rm), "rm -r %s", host);
	assert_int_equal(system(rm), 0);
}

static void test_policy_usage(void **state)
{
	(void)state;
	assert_int_equal(run_at(NULL, ARGS("policy")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: after policy comes test\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("policy", "g1", "g2")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("policy", "test", "g1")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: missing argument GUEST GUEST\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("policy", "test", "g1", "g2", "g3")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: too many arguments after policy\nTry: vmcctl --help\n");
}

static void test_prepare_errors(void **state)
{
#define MAYBE "vmcctl: g1 may be prepared all the same: end that with: vmcctl resume g1\n"
#define TRY_AGAIN ": try again, and see what vmcd logs: journalctl -u vmcd\n"
	static const struct reply ends[] = { { .close = true } };
	struct varlink_server *s;

	(void)state;
	assert_int_equal(run(ANSWER_CANNOT_PREPARE, ARGS("prepare", "g1")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: cannot prepare g1: d12 does not let go of channel 7" TRY_AGAIN);
	assert_string_equal(out, "");
	assert_int_equal(run("{\"error\":\"io.vmc.Manager.CannotPrepare\"}", ARGS("prepare", "g1", "-j")),
			 VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: cannot prepare g1: vmcd can't do that now" TRY_AGAIN);
	assert_string_equal(out, "");
	assert_int_equal(run(ANSWER_DENIED, ARGS("prepare", "g1")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: cannot prepare g1: only root may: run vmcctl as root\n");
	assert_int_equal(run(ANSWER_DENIED, ARGS("resume", "g1")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: cannot resume g1: only root may: run vmcctl as root\n");
	assert_int_equal(run(ANSWER_NO_SUCH_GUEST, ARGS("prepare", "nobody")), VMCCTL_NO_GUEST);
	assert_string_equal(err, "vmcctl: no such guest: nobody\n");
	assert_int_equal(run(ANSWER_NO_SUCH_GUEST, ARGS("resume", "nobody")), VMCCTL_NO_GUEST);
	assert_int_equal(run(ANSWER_AMBIGUOUS, ARGS("prepare", "web")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: several guests are called web: use the domain id or uuid\n");
	assert_int_equal(run_at("/nonexistent/vmcd.sock", ARGS("prepare", "g1")), VMCCTL_NOT_RUNNING);
	assert_null(strstr(err, "may be prepared"));

	/* without vmcd's word it is not known what became of it */
	assert_int_equal(run("{\"parameters\":{\"milliseconds\":-1}}", ARGS("prepare", "g1")),
			 VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: vmcd's answer makes no sense: "
				 "missing or wrong member: milliseconds\n" MAYBE);
	assert_string_equal(out, "");
	s = varlink_server_start(ends, 1);
	assert_int_equal(run_at(varlink_server_path(s), ARGS("prepare", "g1")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: connection closed: vmcd closed the connection\n" MAYBE);
	assert_int_equal(run_at(varlink_server_path(s), ARGS("resume", "g1")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: connection closed: vmcd closed the connection\n");
	varlink_server_stop(s);
}

/* Whatever vmcd says about the channel in `channels`, `show` says the same in JSON. */
static void test_json_agrees(void **state)
{
	char *channels;

	(void)state;
	assert_int_equal(run(ANSWER_CHANNELS, ARGS("channels", "--json")), 0);
	channels = strdup(out + 2);
	assert_int_equal(run(ANSWER_DETAILS, ARGS("show", "4", "--json")), 0);
	assert_non_null(strstr(out, channels));
	assert_non_null(strstr(out, "\"reason\": \"no-peer\",\n        \"count\": 12"));
	free(channels);
}

static void test_status(void **state)
{
	(void)state;
	expect(ANSWER_STATUS, ARGS("status"),
	       "Version of vmcd:  0.1.0\n"
	       "Process:          4711\n"
	       "Running for:      1 d 2 h\n"
	       "Guests:           2\n"
	       "Channels:         1\n"
	       "Oldest protocol:  1\n"
	       "Newest protocol:  1\n");
	expect(ANSWER_STATUS, ARGS("--json", "status"),
	       "{\n"
	       "  \"version\": \"0.1.0\",\n"
	       "  \"pid\": 4711,\n"
	       "  \"uptime\": 93784,\n"
	       "  \"guests\": 2,\n"
	       "  \"channels\": 1,\n"
	       "  \"protocol_min\": 1,\n"
	       "  \"protocol_max\": 1\n"
	       "}\n");
}

/* What a guest calls itself must not reach the terminal as it is. */
static void test_hostile_names(void **state)
{
#define GUEST(name, error)							\
	"{\"domid\":1,\"name\":\"" name "\",\"uuid\":\"\",\"state\":\"refused\","	\
	"\"driver\":\"\",\"protocol\":0,\"error\":\"" error "\",\"macs\":[],"	\
	"\"bridges\":[],\"channels\":0,\"quarantined\":[],\"prepared\":\"no\"}"
#define LIST(guest) "{\"parameters\":{\"guests\":[" guest "]}}"
	static const char answer[] =
		LIST(GUEST("\\u001b[2Jx\\n\\u009by\\u202ez\\u007f", "no\\tversion"));

	(void)state;
	expect(answer, ARGS("list"),
	       "DOMID  NAME         STATE    CHANNELS  ERROR\n"
	       "    1  ?[2Jx??y?z?  refused         0  no?version\n");
	assert_int_equal(run(answer, ARGS("list", "-j")), 0);
	assert_non_null(strstr(out, "\"\\u001b[2Jx\\u000a\\u009by\xe2\x80\xaez\\u007f\""));
	assert_non_null(strstr(out, "\"no\\u0009version\""));

	/* other scripts are fine, and aligned by their width */
	expect(LIST(GUEST("\xc3\xa4", "") "," GUEST("\xe6\xbc\xa2\xe5\xad\x97", "")), ARGS("list"),
	       "DOMID  NAME  STATE    CHANNELS\n"
	       "    1  \xc3\xa4     refused         0\n"
	       "    1  \xe6\xbc\xa2\xe5\xad\x97  refused         0\n");
}

static void test_errors(void **state)
{
	(void)state;
	assert_int_equal(run_at("/nonexistent/vmcd.sock", ARGS("list")), VMCCTL_NOT_RUNNING);
	assert_string_equal(err, "vmcctl: vmcd is not running (no socket at /nonexistent/vmcd.sock): "
				 "start it with: systemctl start vmcd\n");
	assert_string_equal(out, "");
	assert_int_equal(run(ANSWER_NO_SUCH_GUEST, ARGS("show", "nobody")), VMCCTL_NO_GUEST);
	assert_string_equal(err, "vmcctl: no such guest: nobody\n");
	assert_int_equal(run(ANSWER_AMBIGUOUS, ARGS("show", "web")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: several guests are called web: use the domain id or uuid\n");
	assert_int_equal(run(ANSWER_DENIED, ARGS("status")), VMCCTL_FAILED);
	assert_non_null(strstr(err, "permission denied"));
	assert_int_equal(run(ANSWER_BUSY, ARGS("status")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: vmcd has too many clients\n");
	assert_int_equal(run("{", ARGS("list", "-j")), VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: vmcd's answer makes no sense: the answer is no JSON object\n");
	assert_string_equal(out, "");
	assert_int_equal(run("{\"parameters\":{\"guests\":[{\"domid\":1}]}}", ARGS("list")),
			 VMCCTL_FAILED);
	assert_string_equal(err, "vmcctl: vmcd's answer makes no sense: missing or wrong member: name\n");
	assert_string_equal(out, "");
}

static void test_usage(void **state)
{
	(void)state;
	assert_int_equal(run_at(NULL, (const char *const[]){ NULL }), VMCCTL_USAGE);
	assert_string_equal(out, "");
	assert_non_null(strstr(err, "usage: vmcctl"));
	assert_int_equal(run_at(NULL, ARGS("frobnicate")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: unknown command frobnicate\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("list", "x")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("show")), VMCCTL_USAGE);
	assert_string_equal(err, "vmcctl: missing argument GUEST\nTry: vmcctl --help\n");
	assert_int_equal(run_at(NULL, ARGS("show", "a", "b")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("--wrong", "list")), VMCCTL_USAGE);
	assert_non_null(strstr(err, "--wrong"));
	assert_int_equal(run_at(NULL, ARGS("list", "--socket")), VMCCTL_USAGE);
	assert_int_equal(run_at(NULL, ARGS("list", "--json=1")), VMCCTL_USAGE);
	assert_string_equal(out, "");
}

static void test_help(void **state)
{
	static const char *const names[] = { "list",	"channels", "show",   "status",
					     "policy",	"prepare",  "resume", "version" };
	size_t i;

	(void)state;
	assert_int_equal(run_at(NULL, ARGS("--help")), 0);
	assert_string_equal(err, "");
	for (i = 0; i < N(names); i++)
		assert_non_null(strstr(out, names[i]));
	for (i = 0; i < N(names); i++) {
		char *help;

		assert_int_equal(run_at(NULL, ARGS(names[i], "--help")), 0);
		assert_non_null(strstr(out, names[i]));
		assert_non_null(strstr(out, "--json"));
		help = strdup(out);
		assert_int_equal(run_at(NULL, ARGS("help", names[i])), 0);
		assert_string_equal(out, help);
		free(help);
	}
	assert_int_equal(run_at(NULL, ARGS("help")), 0);
	assert_int_equal(run_at(NULL, ARGS("help", "frobnicate")), VMCCTL_USAGE);
}

static void test_version(void **state)
{
	(void)state;
	assert_int_equal(run_at(NULL, ARGS("version")), 0);
	assert_string_equal(out, "vmcctl 0.1.0 (libvmc 0.1.0)\n");
	assert_int_equal(run_at(NULL, ARGS("--version")), 0);
	assert_string_equal(out, "vmcctl 0.1.0 (libvmc 0.1.0)\n");
	assert_int_equal(run_at(NULL, ARGS("--json", "version")), 0);
	assert_string_equal(out, "{\n  \"vmcctl\": \"0.1.0\",\n  \"libvmc\": \"0.1.0\"\n}\n");
}

static void test_full_disk(void **state)
{
	static const struct reply reply = { .data = ANSWER_GUESTS };
	struct varlink_server *s = varlink_server_start(&reply, 1);
	char *argv[] = { (char *)"vmcctl", (char *)"-s", (char *)varlink_server_path(s),
			 (char *)"list", NULL };
	FILE *full = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(full);
	assert_int_equal(vmcctl_run(4, argv, full, full), VMCCTL_FAILED);
	fclose(full);
	varlink_server_stop(s);
}

static void test_human(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} bytes[] = {
		{ 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1536, "1.5 KiB" },
		{ 1048575, "1023.9 KiB" }, { 1048576, "1.0 MiB" }, { 5ull << 30, "5.0 GiB" },
		{ 1ull << 40, "1.0 TiB" }, { 1ull << 50, "1.0 PiB" }, { UINT64_MAX, "15.9 EiB" },
	};
	static const struct {
		uint64_t seconds;
		const char *text;
	} times[] = {
		{ 0, "0 s" }, { 59, "59 s" }, { 60, "1 min 0 s" }, { 3599, "59 min 59 s" },
		{ 3600, "1 h 0 min" }, { 86399, "23 h 59 min" }, { 86400, "1 d 0 h" },
		{ UINT64_MAX, "213503982334601 d 7 h" },
	};
	char buf[32];
	size_t i;

	(void)state;
	for (i = 0; i < N(bytes); i++) {
		writer_human_bytes(buf, bytes[i].bytes);
		assert_string_equal(buf, bytes[i].text);
	}
	for (i = 0; i < N(times); i++) {
		writer_human_seconds(buf, times[i].seconds);
		assert_string_equal(buf, times[i].text);
	}
}

static int teardown(void **state)
{
	(void)state;
	free(out);
	free(err);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_show_prepared),
		cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_metrics_escapes),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_monitor),
		cmocka_unit_test(test_doctor),
		cmocka_unit_test(test_top),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_policy_usage),
		cmocka_unit_test(test_prepare_errors),
		cmocka_unit_test(test_json_agrees),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_version),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_human),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests_name("vmcctl", tests, NULL, teardown);
}
