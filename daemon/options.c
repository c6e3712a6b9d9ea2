// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include "vmc_version.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/un.h>

static const char usage[] =
	"Usage: vmcd [OPTION]...\n"
	"Brokers shared-memory channels between the guests of this Xen host.\n"
	"\n"
	"  -f, --foreground        stay in the foreground (for service managers)\n"
	"  -l, --log-level LEVEL   error, warning, notice, info (the default) or debug\n"
	"  -s, --socket PATH       the control socket (" VMC_SOCKET_PATH ")\n"
	"  -V, --version           print the version and exit\n"
	"  -h, --help              print this help and exit\n";

int vmc_options_parse(int argc, char **argv, struct vmc_options *opt, FILE *out, FILE *err)
{
	static const struct option longopts[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "socket", required_argument, NULL, 's' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct vmc_options o = { .log_level = VMC_LOG_INFO, .socket = VMC_SOCKET_PATH };
	int c;

	optind = 0;	/* glibc: start afresh, also in tests */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":fl:s:Vh", longopts, NULL)) != -1) {
		switch (c) {
		case 'f':
			o.foreground = true;
			break;
		case 'l':
			if (vmc_log_level_parse(optarg, &o.log_level)) {
				fprintf(err, "vmcd: no such log level: %s\n", optarg);
				return -EINVAL;
			}
			break;
		case 's':
			if (!*optarg || strlen(optarg) >=
			    sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
				fprintf(err, "vmcd: not a usable socket path: %s\n", optarg);
				return -EINVAL;
			}
			o.socket = optarg;
			break;
		case 'V':
			fprintf(out, "vmcd %s\n", VMC_VERSION);
			o.quit = true;
			goto out;
		case 'h':
			fputs(usage, out);
			o.quit = true;
			goto out;
		case ':':
			fprintf(err, "vmcd: option %s needs a value\n", argv[optind - 1]);
			return -EINVAL;
		default:
			fprintf(err, "vmcd: unknown option %s (see vmcd --help)\n",
				argv[optind - 1]);
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(err, "vmcd: unexpected argument %s\n", argv[optind]);
		return -EINVAL;
	}
out:
	*opt = o;
	return 0;
}
