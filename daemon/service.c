// SPDX-License-Identifier: GPL-2.0-or-later
#include "service.h"

#include "config.h"
#include "control.h"
#include "vmcd.h"
#include "vmc_version.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

struct service {
	const struct vmc_options *opt;
	char *config;			/* its path, absolute */
	struct vmc_config *loaded;	/* until the daemon has it */
	struct event_base *base;
	struct vmc_xen *xen;
	struct vmcd *d;
	struct vmc_control *control;
	struct event *sigterm;
	struct event *sigint;
	struct event *sighup;
	struct event *watchdog;
	unsigned int guests;		/* in the last STATUS */
	unsigned int channels;
	bool status_sent;
};

/*
 * Leaves the terminal. The parent waits on the pipe whose write end comes back
 * in *ready: one byte there is success, an end without it is failure.
 */
static int daemonize(int *ready)
{
	int fds[2], null;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid) {
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	close(fds[0]);
	setsid();
	if (chdir("/"))
		return -errno;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	*ready = fds[1];
	return 0;
}

static void daemonized(int ready)
{
	vmc_log_set_target(VMC_LOG_TO_SYSLOG);
	dup2(STDOUT_FILENO, STDERR_FILENO);
	if (write(ready, "", 1) != 1)
		vmc_log(VMC_LOG_WARNING, "service", "nobody waited for the start");
	close(ready);
}

/* --------------------------------------------------------------- configuration */

static const char *config_path(const struct vmc_options *opt)
{
	return opt->config ? opt->config : VMC_CONFIG_PATH;
}

/* A file that was not named need not be there. NULL: it is told what is wrong. */
static struct vmc_config *load(const struct vmc_options *opt, const char *path,
			       vmc_config_tell *tell)
{
	struct vmc_config *config = NULL;
	int err = vmc_config_load(&config, path, opt->config, tell, NULL);

	if (err && err != -EINVAL)
		tell(NULL, strerror(-err));
	return config;
}

static void tell_log(void *arg, const char *text)
{
	(void)arg;
	vmc_log(VMC_LOG_ERROR, "config", "%s", text);
}

static void tell_stderr(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
}

int vmc_service_check(const struct vmc_options *opt)
{
	struct vmc_config *config = load(opt, config_path(opt), tell_stderr);
	int status = config ? EXIT_SUCCESS : EX_CONFIG;

	vmc_config_free(config);
	return status;
}

static void configure(struct service *s, struct vmc_config *config)
{
	if (!s->opt->log_level_given)
		vmc_log_set_level(config->log_level);
	vmcd_configure(s->d, config);
}

static void on_reload(evutil_socket_t sig, short what, void *arg)
{
	struct service *s = arg;
	struct vmc_config *config = load(s->opt, s->config, tell_log);

	(void)sig;
	(void)what;
	if (!config) {
		vmc_log(VMC_LOG_ERROR, "config", "it stays as it was");
		return;
	}
	configure(s, config);
	vmc_log(VMC_LOG_NOTICE, "config", "read again");
}

/* One that holds when the working directory is another. NULL if there is none. */
static char *absolute(const char *path)
{
	char *dir = *path == '/' ? NULL : getcwd(NULL, 0), *text = NULL;

	if (*path == '/')
		text = strdup(path);
	else if (dir && asprintf(&text, "%s/%s", dir, path) < 0)
		text = NULL;
	free(dir);
	return text;
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct service *s = arg;

	(void)what;
	vmc_log(VMC_LOG_NOTICE, "service", "stopping on %s", strsignal((int)sig));
	event_base_loopbreak(s->base);
}

/*
 * Alive means that the loop turns and that xenstored answers: libxenstore does
 * not tell a loop that waits for events that its connection was lost.
 */
static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	struct service *s = arg;
	char value[VMC_XEN_VALUE_MAX];
	int err;

	(void)fd;
	(void)what;
	err = s->xen->ops->read(s->xen, VMC_XEN_NO_TX, "/local/domain/0/domid", value,
				sizeof(value));
	if (err < 0 && err != -ENOENT) {
		vmcd_store_lost(s->d, err);
		return;
	}
	sd_notify(0, "WATCHDOG=1");
}

static void on_changed(struct vmcd *d, void *arg)
{
	struct service *s = arg;
	unsigned int guests = 0;
	struct vmc_guest *g;

	TAILQ_FOREACH(g, &d->guests, entry)
		guests += g->state == VMC_GUEST_CONNECTED;
	if (s->status_sent && guests == s->guests && d->nr_up == s->channels)
		return;
	s->status_sent = true;
	s->guests = guests;
	s->channels = d->nr_up;
	sd_notifyf(0, "STATUS=%u guests connected, %u channels", guests, s->channels);
}

/* The control socket: the service manager's, if there is one, or its own. */
static int listen_for_callers(struct service *s)
{
	int n = sd_listen_fds(1), first = SD_LISTEN_FDS_START;

	if (n < 0)
		return n;
	if (!n)
		return vmc_control_new(&s->control, s->d, s->opt->socket);
	if (n > 1 || sd_is_socket_unix(first, SOCK_STREAM, 1, NULL, 0) <= 0) {
		vmc_log(VMC_LOG_ERROR, "service", "not one Unix socket that listens: %d descriptors were given",
			n);
		return -EINVAL;
	}
	return vmc_control_inherit(&s->control, s->d, first);
}

static int start(struct service *s)
{
	struct timeval tv;
	uint64_t usec;
	int err;

	err = vmc_xen_open(&s->xen);
	if (err)
		return err;
	s->base = event_base_new();
	if (!s->base)
		return -ENOMEM;
	s->sigterm = evsignal_new(s->base, SIGTERM, on_stop, s);
	s->sigint = evsignal_new(s->base, SIGINT, on_stop, s);
	s->sighup = evsignal_new(s->base, SIGHUP, on_reload, s);
	s->watchdog = event_new(s->base, -1, EV_PERSIST, on_watchdog, s);
	if (!s->sigterm || !s->sigint || !s->sighup || !s->watchdog ||
	    evsignal_add(s->sigterm, NULL) || evsignal_add(s->sigint, NULL) ||
	    evsignal_add(s->sighup, NULL))
		return -ENOMEM;
	signal(SIGPIPE, SIG_IGN);
	/* No guest is touched before the loop runs: a second vmcd fails at the socket. */
	err = vmcd_new(&s->d, s->base, s->xen);
	if (err) {
		vmc_log(VMC_LOG_ERROR, "service", "cannot start: %s", strerror(-err));
		return err;
	}
	configure(s, s->loaded);
	s->loaded = NULL;
	s->d->changed = on_changed;
	s->d->changed_arg = s;
	err = listen_for_callers(s);
	if (err)
		return err;
	if (sd_watchdog_enabled(0, &usec) > 0) {
		tv.tv_sec = (time_t)(usec / 2 / 1000000);
		tv.tv_usec = (suseconds_t)(usec / 2 % 1000000);
	} else {
		tv = vmc_timeval(60000);
	}
	return event_add(s->watchdog, &tv) ? -ENOMEM : 0;
}

static void stop(struct service *s)
{
	vmc_control_free(s->control);
	if (s->d)
		vmcd_free(s->d);
	if (s->watchdog)
		event_free(s->watchdog);
	if (s->sighup)
		event_free(s->sighup);
	if (s->sigint)
		event_free(s->sigint);
	if (s->sigterm)
		event_free(s->sigterm);
	if (s->base)
		event_base_free(s->base);
	if (s->xen)
		vmc_xen_close(s->xen);
	vmc_config_free(s->loaded);
	free(s->config);
}

int vmc_service_run(const struct vmc_options *opt)
{
	struct service s = { .opt = opt };
	int ready = -1, status = EXIT_FAILURE;

	vmc_log_init(opt->log_level, VMC_LOG_TO_STDERR);
	s.config = absolute(config_path(opt));
	if (!s.config) {
		vmc_log(VMC_LOG_ERROR, "config", "%s: %s", config_path(opt), strerror(errno));
		return EXIT_FAILURE;
	}
	s.loaded = load(opt, s.config, tell_log);
	if (!s.loaded) {
		status = EX_CONFIG;
		goto out;
	}
	if (!opt->foreground && daemonize(&ready)) {
		vmc_log(VMC_LOG_ERROR, "service", "cannot go to the background: %s",
			strerror(errno));
		goto out;
	}
	if (start(&s))
		goto out;
	if (ready >= 0)
		daemonized(ready);
	vmc_log(VMC_LOG_NOTICE, "service", "vmcd %s, protocol %u to %u, control socket %s",
		VMC_VERSION, VMC_PROTO_MIN, VMC_PROTO_MAX, opt->socket);
	sd_notify(0, "READY=1");
	event_base_dispatch(s.base);
	status = s.d->exit_code;
	sd_notify(0, "STOPPING=1");
out:
	stop(&s);
	return status;
}
