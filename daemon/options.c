// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include "config.h"
#include "vmc_version.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/un.h>

static const char usage[] =
	"Usage: vmcd [OPTION]...\n"
	"Brokers shared-memory channels between the guests of this Xen host.\n"
	"\n"
	"  -c, --config FILE       the configuration (" VMC_CONFIG_PATH ")\n"
	"      --check-config      tell what is wrong with the configuration, and exit\n"
	"  -f, --foreground        stay in the foreground (for service managers)\n"
	"  -l, --log-level LEVEL   error, warning, notice, info or debug, whatever the\n"
	"                          configuration says\n"
	"  -s, --socket PATH       the control socket (" VMC_SOCKET_PATH ")\n"
	"  -V, --version           print the version and exit\n"
	"  -h, --help              print this help and exit\n";

int vmc_options_parse(int argc, char **argv, struct vmc_options *opt, FILE *out, FILE *err)
{
	static const struct option longopts[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check-config", no_argument, NULL, 'C' },
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
	while ((c = getopt_long(argc, argv, ":c:fl:s:Vh", longopts, NULL)) != -1) {
		switch (c) {
		case 'c':
			if (!*optarg) {
				fprintf(err, "vmcd: option --config needs a file\n");
				return -EINVAL;
			}
			o.config = optarg;
			break;
		case 'C':
			o.check = true;
			break;
		case 'f':
			o.foreground = true;
			break;
		case 'l':
			if (vmc_log_level_parse(optarg, &o.log_level)) {
				fprintf(err, "vmcd: no such log level: %s\n", optarg);
				return -EINVAL;
			}
			o.log_level_given = true;
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
