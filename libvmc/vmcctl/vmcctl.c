// SPDX-License-Identifier: LGPL-2.1-or-later
/* The command line: options, which command, and what an error means to the caller. */
#include "vmcctl.h"
#include "vmc_version.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	const char *socket;
	const char *seconds;
	const char *watch;
	bool json, help, version;
};

struct command {
	const char *name;
	const char *verb;	/* that has to follow, or NULL */
	const char *arg;	/* NULL: takes none */
	const char *summary;
	const char *help;
	/* all NULL: needs no vmcd */
	int (*run)(struct vmc *vmc, const struct vmcctl_request *request, struct writer *w);
	int (*print)(struct vmc *vmc, FILE *out);
	int (*stream)(struct vmc *vmc, bool json, FILE *out);
	int (*examine)(struct vmc *vmc, int connected, struct writer *w);	/* also without vmcd */
};

static const struct command commands[] = {
	{ "list", NULL, NULL, "the guests of this host",
	  "Lists the guests that have a VMC device: domain, name, state, the version of\n"
	  "their driver, channels that are up, whether it is prepared to be saved or migrated\n"
	  "if any guest is, and why vmcd refused it. States: waiting (no driver yet),\n"
	  "connected, refused, gone.\n",
	  .run = vmcctl_list },
	{ "channels", NULL, NULL, "the channels between guests",
	  "Lists the channels: mode (opening, local, idle, closing) and, for each end,\n"
	  "directions of connections now in shared memory, bytes and packets sent,\n"
	  "memory granted.\n"
	  "`-` stands where a guest did not answer in time.\n",
	  .run = vmcctl_channels },
	{ "top", NULL, NULL, "what the channels do now, the busiest first",
	  "Lists the channels by what went through them within a second, or within the time that\n"
	  "--watch says: bytes that the first guest sent and received, packets and notifications\n"
	  "both ways.\n",
	  .run = vmcctl_top },
	{ "show", NULL, "GUEST", "one guest in detail",
	  "Shows a guest, its driver's counters, why connections stayed on TCP, and its\n"
	  "channels. GUEST is a name, a uuid or a domain id.\n",
	  .run = vmcctl_show },
	{ "status", NULL, NULL, "vmcd itself",
	  "Shows vmcd's version, process and uptime, and how much it looks after.\n",
	  .run = vmcctl_status },
	{ "policy", "test", "GUEST GUEST", "may two guests share memory?",
	  "Says whether vmcd.conf(5) allows two guests to share memory, by which rule, and what\n"
	  "stands in the way now. GUEST is a name, a uuid or a domain id. The exit code is 0\n"
	  "if the rules allow it, and 5 if they do not.\n",
	  .run = vmcctl_policy },
	{ "prepare", NULL, "GUEST", "part a guest from its peers, to save or migrate it",
	  "Parts a guest from all its peers: their connections go on over the network, and\n"
	  "it can be saved or migrated without a trace of shared memory. Returns when that\n"
	  "is so, or after 12 s with what is in the way. The guest stays prepared for --seconds\n"
	  "(1 to 86400, default 300), or until `vmcctl resume`; if it is still here then and\n"
	  "runs, it goes back to its peers. Only needed where vmc-save-helper(8) is not in use.\n"
	  "GUEST is a name, a uuid or a domain id. Only root may.\n",
	  .run = vmcctl_prepare },
	{ "resume", NULL, "GUEST", "give a prepared guest its peers back",
	  "Ends what `vmcctl prepare`, or a save or migration that is going on, began: the guest\n"
	  "goes back to its peers. GUEST is a name, a uuid or a domain id. Only root may.\n",
	  .run = vmcctl_resume },
	{ "doctor", NULL, NULL, "what is wrong with this host, and what to do",
	  "Looks at Xen, its devices, the hook for xl save and xl migrate, vmcd, each guest's\n"
	  "driver and each pair of guests, and says what is wrong, why a pair is not local, and\n"
	  "what to do. The exit code is 0 if it finds no problem, and 1 if it does.\n",
	  .examine = vmcctl_doctor },
	{ "monitor", NULL, NULL, "what happens, as it happens",
	  "Prints events, a line each, until it is interrupted or vmcd ends: guests that join,\n"
	  "connect, are refused, leave; channels that open and close, and why; guests that are\n"
	  "prepared to be saved or migrated; pairs in quarantine; a configuration that was read\n"
	  "again. With --json each line is a JSON object.\n",
	  .stream = vmcctl_monitor },
	{ "metrics", NULL, NULL, "all numbers, for Prometheus",
	  "Prints all numbers in the text format of Prometheus, for the textfile collector of its\n"
	  "node exporter, for example. Guests that did not answer in time are left out.\n",
	  .print = vmcctl_metrics },
	{ "version", NULL, NULL, "the version of vmcctl",
	  "Prints the version of vmcctl and its library. Does not need vmcd.\n",
	  .run = NULL },
};

#define CLEAR	"\033[H\033[2J"	/* the terminal */

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char option_help[] =
	"Options:\n"
	"  -j, --json           print JSON: bytes and seconds as plain integers\n"
	"      --seconds N      of `prepare`: for how long, 1 to 86400 (300)\n"
	"  -w, --watch N        again every N seconds, 1 to 86400, until it is interrupted or fails\n"
	"  -s, --socket PATH    talk to the vmcd at PATH (" VMC_DEFAULT_SOCKET ")\n"
	"  -h, --help           print help, after a command the command's\n"
	"  -V, --version        print the version\n";

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* "show GUEST", in pieces that depend on what there is */
static void print_form(FILE *out, const struct command *c)
{
	fprintf(out, "%s%s%s%s%s", c->name, c->verb ? " " : "", c->verb ? c->verb : "",
		c->arg ? " " : "", c->arg ? c->arg : "");
}

static int form_width(const struct command *c)
{
	return (int)(strlen(c->name) + (c->verb ? 1 + strlen(c->verb) : 0) +
		     (c->arg ? 1 + strlen(c->arg) : 0));
}

static void print_usage(FILE *out)
{
	size_t i;

	fputs("usage: vmcctl [OPTIONS] COMMAND\n\nCommands:\n", out);
	for (i = 0; i < NR_COMMANDS; i++) {
		fputs("  ", out);
		print_form(out, &commands[i]);
		fprintf(out, "%*s%s\n", 25 - form_width(&commands[i]), "", commands[i].summary);
	}
	fprintf(out, "\n%s\nSee vmcctl(1).\n", option_help);
}

static void print_command_help(FILE *out, const struct command *c)
{
	fputs("usage: vmcctl [OPTIONS] ", out);
	print_form(out, c);
	fprintf(out, "\n\n%s\n%s", c->help, option_help);
}

static int usage_error(FILE *err, const char *what, const char *which)
{
	fprintf(err, "vmcctl: %s%s\nTry: vmcctl --help\n", what, which);
	return VMCCTL_USAGE;
}

/* Takes options from anywhere on the command line. Returns 0, or an exit code after a message. */
static int parse_options(int argc, char **argv, struct options *opt, FILE *err)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "socket", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 'S' },
		{ "watch", required_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	optind = 0;	/* starts afresh: tests call this more than once */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":js:w:hV", longs, NULL)) != -1) {
		switch (c) {
		case 'j':
			opt->json = true;
			break;
		case 's':
			opt->socket = optarg;
			break;
		case 'S':
			opt->seconds = optarg;
			break;
		case 'w':
			opt->watch = optarg;
			break;
		case 'h':
			opt->help = true;
			break;
		case 'V':
			opt->version = true;
			break;
		case ':':
			return usage_error(err, "missing argument of ", argv[optind - 1]);
		default:
			return usage_error(err, "unknown option ", argv[optind - 1]);
		}
	}
	return 0;
}

static bool take_seconds(const char *text, unsigned int *seconds)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || n < 1 || n > 86400)
		return false;
	*seconds = (unsigned int)n;
	return true;
}

static int print_version(FILE *out, bool json)
{
	struct writer *w = json ? writer_json_new(out) : NULL;

	if (!json) {
		fprintf(out, "vmcctl %s (libvmc %s)\n", VMC_VERSION, vmc_library_version());
		return fflush(out) || ferror(out) ? VMCCTL_FAILED : VMCCTL_OK;
	}
	if (!w)
		return VMCCTL_FAILED;
	writer_string(w, "vmcctl", NULL, VMC_VERSION);
	writer_string(w, "libvmc", NULL, vmc_library_version());
	return writer_end(w) ? VMCCTL_FAILED : VMCCTL_OK;
}

/* Only root may change anything. */
static bool changes(const struct command *c)
{
	return c->run == vmcctl_prepare || c->run == vmcctl_resume;
}

static bool can_watch(const struct command *c)
{
	return c->run && !changes(c) && c->run != vmcctl_policy;
}

/* Says what went wrong in the operator's terms. */
static int report(FILE *err, const struct options *opt, const struct vmc *vmc,
		  const struct command *c, const char *arg, int error)
{
	const char *socket = opt->socket ? opt->socket : VMC_DEFAULT_SOCKET;
	const char *detail = vmc_error_detail(vmc);
	/* of two, the one that is meant */
	const char *guest = c->run == vmcctl_policy && detail[0] ? detail : arg;

	switch (error) {
	case VMC_ERR_NOT_RUNNING:
		fprintf(err,
			"vmcctl: vmcd is not running (no socket at %s): start it with: systemctl start vmcd\n",
			socket);
		return VMCCTL_NOT_RUNNING;
	case VMC_ERR_DENIED:
		if (changes(c)) {
			fprintf(err, "vmcctl: cannot %s %s: only root may: run vmcctl as root\n",
				c->name, arg);
			return VMCCTL_FAILED;
		}
		fprintf(err, "vmcctl: permission denied at %s: run vmcctl as root\n", socket);
		return VMCCTL_FAILED;
	case VMC_ERR_NO_GUEST:
		fprintf(err, "vmcctl: no such guest: %s\n", guest);
		return VMCCTL_NO_GUEST;
	case VMC_ERR_REFUSED:
		fprintf(err,
			"vmcctl: cannot %s %s: %s: try again, and see what vmcd logs: journalctl -u vmcd\n",
			c->name, arg, detail[0] ? detail : vmc_strerror(error));
		return VMCCTL_FAILED;
	case VMC_ERR_AMBIGUOUS:
		fprintf(err, "vmcctl: several guests are called %s: use the domain id or uuid\n",
			guest);
		return VMCCTL_FAILED;
	default:
		fprintf(err, "vmcctl: %s%s%s\n", vmc_strerror(error), detail[0] ? ": " : "",
			detail);
		return VMCCTL_FAILED;
	}
}

/* Did it end without vmcd's word on what became of it? */
static bool unsure(int error)
{
	return error == VMC_ERR_TIMEOUT || error == VMC_ERR_CLOSED || error == VMC_ERR_PROTOCOL;
}

/* Asks once and prints the answer: an exit code. */
static int answer(const struct command *c, const struct vmcctl_request *request,
		  const struct options *opt, struct vmc *vmc, int connected, FILE *out, FILE *err)
{
	const char *arg = request->arg;
	struct writer *w = NULL;
	char *buf = NULL;
	size_t len = 0;
	FILE *mem;
	int ret;

	/* Nothing reaches @out before it is known that all of it is there. */
	mem = open_memstream(&buf, &len);
	if (mem && !c->print)
		w = opt->json ? writer_json_new(mem) : writer_text_new(mem);
	if (!mem || (!w && !c->print)) {
		ret = report(err, opt, NULL, c, arg, VMC_ERR_NO_MEMORY);
		goto out;
	}
	if (c->print) {
		ret = c->print(vmc, mem);
		if ((fflush(mem) || ferror(mem)) && ret >= 0)
			ret = VMC_ERR_NO_MEMORY;
	} else {
		ret = c->run ? c->run(vmc, request, w) : c->examine(vmc, connected, w);
		if (writer_end(w) && ret >= 0)
			ret = VMC_ERR_NO_MEMORY;
	}
	if (ret < 0) {
		bool maybe = c->run == vmcctl_prepare && unsure(ret);

		ret = report(err, opt, vmc, c, arg, ret);
		if (maybe)
			fprintf(err, "vmcctl: %s may be prepared all the same: end that with: vmcctl resume %s\n",
				arg, arg);
		goto out;
	}
	if (request->watch && isatty(fileno(out)))
		fputs(CLEAR, out);
	fwrite(buf, 1, len, out);
	if (fflush(out) || ferror(out)) {
		fprintf(err, "vmcctl: cannot write the output\n");
		ret = VMCCTL_FAILED;
	}
out:
	if (mem)
		fclose(mem);
	free(buf);
	return ret;
}

static int run_command(const struct command *c, const struct vmcctl_request *request,
		       const struct options *opt, FILE *out, FILE *err)
{
	int connected, ret;
	struct vmc *vmc;

	connected = vmc_connect(opt->socket, &vmc);
	if (connected && (!c->examine || !vmc)) {
		ret = report(err, opt, vmc, c, request->arg, connected);
		goto out;
	}
	if (c->stream) {
		ret = c->stream(vmc, opt->json, out);
		if (ferror(out)) {
			fprintf(err, "vmcctl: cannot write the output\n");
			ret = VMCCTL_FAILED;
		} else {
			ret = report(err, opt, vmc, c, request->arg, ret);
		}
		goto out;
	}
	ret = answer(c, request, opt, vmc, connected, out, err);
	while (request->watch && !ret) {
		if (c->run != vmcctl_top)
			sleep(request->watch);
		ret = answer(c, request, opt, vmc, connected, out, err);
	}
out:
	vmc_close(vmc);
	return ret;
}

int vmcctl_run(int argc, char **argv, FILE *out, FILE *err)
{
	struct vmcctl_request request = { 0 };
	struct options opt = { 0 };
	const struct command *c;
	int left, args, ret;

	ret = parse_options(argc, argv, &opt, err);
	if (ret)
		return ret;
	argv += optind;
	left = argc - optind;

	if (opt.version)
		return print_version(out, opt.json);
	if (left && !strcmp(argv[0], "help")) {
		opt.help = true;
		argv++;
		left--;
	}
	if (!left) {
		print_usage(opt.help ? out : err);
		return opt.help ? VMCCTL_OK : VMCCTL_USAGE;
	}
	c = find_command(argv[0]);
	if (!c)
		return usage_error(err, "unknown command ", argv[0]);
	if (opt.help) {
		print_command_help(out, c);
		return VMCCTL_OK;
	}
	if (c->verb) {
		if (left < 2 || strcmp(argv[1], c->verb)) {
			fprintf(err, "vmcctl: after %s comes %s\nTry: vmcctl --help\n", c->name, c->verb);
			return VMCCTL_USAGE;
		}
		argv++;
		left--;
	}
	args = !c->arg ? 0 : strchr(c->arg, ' ') ? 2 : 1;
	if (left <= args && args)
		return usage_error(err, "missing argument ", c->arg);
	if (left > 1 + args)
		return usage_error(err, "too many arguments after ", c->name);
	if (opt.seconds && c->run != vmcctl_prepare)
		return usage_error(err, "--seconds is not for ", c->name);
	if (opt.watch && !can_watch(c))
		return usage_error(err, "--watch is not for ", c->name);
	if (opt.json && c->print)
		return usage_error(err, "--json is not for ", c->name);
	if (!c->run && !c->print && !c->stream && !c->examine)
		return print_version(out, opt.json);
	if (opt.seconds && !take_seconds(opt.seconds, &request.seconds))
		return usage_error(err, "--seconds is a number from 1 to 86400, not ", opt.seconds);
	if (opt.watch && !take_seconds(opt.watch, &request.watch))
		return usage_error(err, "--watch is a number from 1 to 86400, not ", opt.watch);
	request.arg = args ? argv[1] : NULL;
	request.more = args > 1 ? argv[2] : NULL;
	return run_command(c, &request, &opt, out, err);
}
