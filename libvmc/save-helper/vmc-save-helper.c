// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What libxl runs instead of its own save helper, if LIBXL_SAVE_HELPER names it: has
 * vmcd part the guest from its peers, then becomes libxl's helper. Standard input
 * and output belong to libxl's protocol and are not touched, nor is any descriptor that
 * came with us. The connection to vmcd stays open in the helper: when it ends, however
 * it ends, vmcd knows.
 */
#include "vmc/vmc.h"
#include "vmc_version.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONF_DEFAULT	"/etc/vmc/save-helper.conf"
#define TIMEOUT_MAX	3600ul
#define PATH_SIZE	512

struct conf {
	bool stop;			/* the migration, if the guest can't be prepared */
	unsigned int timeout;		/* seconds */
	char helper[PATH_SIZE];		/* libxl's own; empty: look for it */
	char socket[PATH_SIZE];		/* vmcd's; empty: the default one */
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
	va_list ap;

	fputs("vmc-save-helper: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ------------------------------------------------------------ configuration */

static char *strip(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

static bool take_path(char *to, const char *value)
{
	if (*value != '/' || strlen(value) >= PATH_SIZE)
		return false;
	strcpy(to, value);
	return true;
}

/* NULL, or what is wrong with it. */
static const char *take(struct conf *conf, const char *key, const char *value)
{
	char *end;
	unsigned long n;

	if (!strcmp(key, "on-failure")) {
		conf->stop = !strcmp(value, "stop");
		return conf->stop || !strcmp(value, "continue") ? NULL :
			"on-failure is either continue or stop";
	}
	if (!strcmp(key, "timeout")) {
		errno = 0;
		n = strtoul(value, &end, 10);
		if (!isdigit((unsigned char)*value) || *end || errno || !n || n > TIMEOUT_MAX)
			return "timeout is a number of seconds from 1 to 3600";
		conf->timeout = (unsigned int)n;
		return NULL;
	}
	if (!strcmp(key, "helper"))
		return take_path(conf->helper, value) ? NULL : "helper is an absolute path";
	if (!strcmp(key, "socket"))
		return take_path(conf->socket, value) ? NULL : "socket is an absolute path";
	return "unknown key; there are on-failure, timeout, helper and socket";
}

static bool read_conf(struct conf *conf, const char *path)
{
	unsigned int number = 0;
	const char *wrong;
	char *line = NULL;
	size_t size = 0;
	bool ok = true;
	char *key, *value;
	FILE *file = fopen(path, "re");

	if (!file) {
		if (errno == ENOENT)
			return true;
		say("cannot read %s: %s", path, strerror(errno));
		return false;
	}
	while (getline(&line, &size, file) >= 0) {
		number++;
		key = strip(line);
		if (!*key || *key == '#')
			continue;
		value = strchr(key, '=');
		if (value) {
			*value++ = '\0';
			wrong = take(conf, strip(key), strip(value));
		} else {
			wrong = "not of the form key = value";
		}
		if (wrong) {
			say("%s:%u: %s", path, number, wrong);
			ok = false;
		}
	}
	if (ferror(file)) {
		say("cannot read %s: %s", path, strerror(errno));
		ok = false;
	}
	free(line);
	fclose(file);
	return ok;
}

/* ------------------------------------------------------------- libxl's helper */

static bool read_word(const char *path, char *to, size_t size)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fgets(to, (int)size, file);
	fclose(file);
	to[strcspn(to, "\n")] = '\0';
	return ok && *to;
}

/* Is it a program, and not this one? */
static bool usable(const char *path)
{
	struct stat it, self;

	if (stat(path, &it) || !S_ISREG(it.st_mode) || access(path, X_OK))
		return false;
	return stat("/proc/self/exe", &self) || it.st_dev != self.st_dev ||
	       it.st_ino != self.st_ino;
}

/* Of the Xen that runs, as Debian places it; then where others do. */
static bool find_helper(char *path)
{
	static const char *const dirs[] = {
		"/usr/lib/xen", "/usr/libexec/xen", "/usr/lib64/xen", "/usr/local/lib/xen",
		"/usr/local/libexec/xen",
	};
	char major[16], minor[16];

	if (read_word("/sys/hypervisor/version/major", major, sizeof(major)) &&
	    read_word("/sys/hypervisor/version/minor", minor, sizeof(minor))) {
		snprintf(path, PATH_SIZE, "/usr/lib/xen-%s.%s/bin/libxl-save-helper", major,
			 minor);
		if (usable(path))
			return true;
	}
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, PATH_SIZE, "%s/bin/libxl-save-helper", dirs[i]);
		if (usable(path))
			return true;
	}
	return false;
}

/* ---------------------------------------------------------------- preparing */

/* Returns whether the save may go on. */
static bool prepare(const struct conf *conf, const char *domid)
{
	struct vmc *vmc;
	uint64_t ms;
	int err, fd;

	err = vmc_connect(*conf->socket ? conf->socket : NULL, &vmc);
	if (!err) {
		vmc_set_timeout(vmc, conf->timeout * 1000);
		err = vmc_prepare(vmc, domid, 0, &ms);
	}
	if (err == VMC_ERR_NO_GUEST) {		/* no network interface, so no device */
		vmc_close(vmc);
		return true;
	}
	if (!err) {
		fd = vmc_fd(vmc);
		if (fcntl(fd, F_SETFD, 0)) {
			say("cannot pass the connection to vmcd on: %s", strerror(errno));
			return !conf->stop;
		}
		say("domain %s is parted from its peers (%llu ms)", domid,
		    (unsigned long long)ms);
		return true;		/* the handle stays: its connection holds the guest */
	}
	say("domain %s could not be parted from its peers: %s%s%s; %s", domid, vmc_strerror(err),
	    *vmc_error_detail(vmc) ? ": " : "", vmc_error_detail(vmc),
	    conf->stop ? "stopping, as on-failure = stop says" :
			 "going on, its driver lets go of them when it is suspended");
	vmc_close(vmc);
	return !conf->stop;
}

static int usage(FILE *to)
{
	fputs("Usage: LIBXL_SAVE_HELPER=/path/to/vmc-save-helper xl ...\n"
	      "       vmc-save-helper --version | --help\n"
	      "\n"
	      "Run by libxl, with its arguments, when a guest is saved or migrated: has vmcd part\n"
	      "the guest from its peers, then runs libxl's own save helper. See vmc-save-helper(8).\n",
	      to);
	return to == stdout ? EXIT_SUCCESS : 2;
}

int main(int argc, char **argv)
{
	const char *path = getenv("VMC_SAVE_HELPER_CONF");
	struct conf conf = { .timeout = 20 };
	bool saves = argc > 4 && !strcmp(argv[1], "--save-domain");

	if (argc == 2 && !strcmp(argv[1], "--version")) {
		puts("vmc-save-helper " VMC_VERSION);
		return EXIT_SUCCESS;
	}
	if (argc < 2 || !strcmp(argv[1], "--help"))
		return usage(argc < 2 ? stderr : stdout);

	/* what restores a guest is not held up by a mistake in here */
	if (!read_conf(&conf, path ? path : CONF_DEFAULT) && saves) {
		say("stopping: what to do is not clear");
		return EXIT_FAILURE;
	}
	if (!*conf.helper && !find_helper(conf.helper)) {
		say("libxl's own save helper is not found; set helper in %s",
		    path ? path : CONF_DEFAULT);
		return EXIT_FAILURE;
	}
	/* --save-domain STREAM-FD BACK-CHANNEL-FD DOMID ... */
	if (saves && !prepare(&conf, argv[4]))
		return EXIT_FAILURE;
	argv[0] = conf.helper;
	execv(conf.helper, argv);
	say("cannot run %s: %s", conf.helper, strerror(errno));
	return EXIT_FAILURE;
}
