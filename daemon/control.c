// SPDX-License-Identifier: GPL-2.0-or-later
#include "control.h"

#include "api.h"
#include "log.h"
#include "stats.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <grp.h>
#include <jansson.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OUTPUT_BUSY	(256u << 10)	/* above this no further request is taken */
#define WRITE_TIMEOUT_S	10		/* of a client that takes nothing */
#define DENIED_TIMEOUT_S	5		/* of one that is turned away */
#define CALLS_PER_TURN	16
#define GROUPS_MAX	1024

struct client {
	TAILQ_ENTRY(client) entry;
	struct vmc_control *c;
	struct bufferevent *bev;
	struct event *more;		/* further requests are in the buffer */
	struct vmc_stats_waiter waiter;
	/* The request that waits for the guests' counters. */
	const struct vmc_api_method *method;
	json_t *params;
	bool oneway;
	struct vmc_hold hold;		/* ends with the connection */
	struct vmc_listener listener;	/* so does this */
	unsigned int missed;		/* events, since it takes them too slowly */
	bool root;
	const char *denied;		/* the answer to its first request, and its last */
	bool closing;			/* that is on its way out */
	bool eof;			/* it sends no more, and still wants its answers */
};

struct vmc_control {
	struct vmcd *d;
	struct evconnlistener *listener;
	TAILQ_HEAD(, client) clients;
	unsigned int nr_clients;
	struct vmc_ratelimit log_rate;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];	/* empty: not made here */
};

static void client_free(struct client *cl)
{
	vmc_stats_cancel(cl->c->d, &cl->waiter);
	vmc_prepare_release(&cl->hold);
	vmc_events_ignore(cl->c->d, &cl->listener);
	json_decref(cl->params);
	if (cl->more)
		event_free(cl->more);
	bufferevent_free(cl->bev);
	TAILQ_REMOVE(&cl->c->clients, cl, entry);
	cl->c->nr_clients--;
	free(cl);
}

/* -------------------------------------------------------------------- output */

/* Takes over @parameters. Returns -errno if the client has to go. */
static int send_json(struct client *cl, const char *error, json_t *parameters, bool continues)
{
	struct evbuffer *out = bufferevent_get_output(cl->bev);
	json_t *message = json_object();
	char *text = NULL;
	int err = 0;

	if (!parameters)
		parameters = json_object();
	if (error && json_object_set_new(message, "error", json_string(error)))
		err = -ENOMEM;
	if (json_object_set_new(message, "parameters", parameters))
		err = -ENOMEM;
	if (continues && json_object_set_new(message, "continues", json_true()))
		err = -ENOMEM;
	if (!err)
		text = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	if (!text)
		return -ENOMEM;
	if (evbuffer_get_length(out) + strlen(text) >= VMC_CONTROL_OUTPUT_MAX)
		err = -ENOBUFS;
	else if (evbuffer_add(out, text, strlen(text) + 1))
		err = -ENOMEM;
	free(text);
	return err;
}

static int finish_call(struct client *cl, bool oneway, int err, struct vmc_api_reply *reply)
{
	if (err || oneway) {
		json_decref(reply->parameters);
		return err;
	}
	return send_json(cl, reply->error, reply->parameters, false);
}

/* -------------------------------------------------------------------- events */

static int send_event(struct client *cl, const struct vmc_event *e)
{
	json_t *parameters = vmc_api_event(cl->c->d, e);

	return parameters ? send_json(cl, NULL, parameters, true) : -ENOMEM;
}

/* Who is slow misses events, and is told how many: nothing piles up here. */
static void on_event(struct vmc_listener *l, struct vmcd *d, const struct vmc_event *e)
{
	struct client *cl = (struct client *)((char *)l - offsetof(struct client, listener));
	struct evbuffer *out = bufferevent_get_output(cl->bev);

	(void)d;
	if (cl->missed || evbuffer_get_length(out) > OUTPUT_BUSY || send_event(cl, e))
		cl->missed++;
}

static int send_missed(struct client *cl)
{
	char detail[32];
	int err;

	snprintf(detail, sizeof(detail), "%u events", cl->missed);
	err = send_event(cl, &(struct vmc_event){ .name = "missed", .detail = detail });
	if (!err)
		cl->missed = 0;
	return err;
}

/* --------------------------------------------------------------------- input */

/* The guests have answered, or had their time. */
static void on_stats(void *arg)
{
	static const struct timeval soon = { 0, 0 };
	struct client *cl = arg;
	struct vmc_api_reply reply = { 0 };
	const struct vmc_api_method *method = cl->method;
	json_t *params = cl->params;
	int err;

	cl->method = NULL;
	cl->params = NULL;
	err = method->call(cl->c->d, params, &reply);
	json_decref(params);
	if (finish_call(cl, cl->oneway, err, &reply)) {
		client_free(cl);
		return;
	}
	event_add(cl->more, &soon);
}

/* The guest that this client holds is prepared, or can't be. */
static void on_prepared(struct vmc_hold *hold, const char *why)
{
	static const struct timeval soon = { 0, 0 };
	struct client *cl = (struct client *)((char *)hold - offsetof(struct client, hold));
	struct vmc_api_reply reply = { 0 };
	int err = vmc_api_prepared(hold, why, &reply);

	cl->method = NULL;
	if (finish_call(cl, cl->oneway, err, &reply)) {
		client_free(cl);
		return;
	}
	event_add(cl->more, &soon);
}

static int flag(json_t *request, const char *name, bool *value)
{
	json_t *v = json_object_get(request, name);

	*value = json_is_true(v);
	return !v || json_is_boolean(v) ? 0 : -EINVAL;
}

/*
 * One request. Returns 0, or -errno if the client has to go: what is not a
 * Varlink call at all gets no answer.
 */
static int handle(struct client *cl, const char *text, size_t len)
{
	const struct vmc_api_method *method;
	struct vmc_api_reply reply = { 0 };
	json_t *request, *params;
	bool oneway, more, upgrade;
	const char *name;
	int err = -EPROTO;

	request = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(request))
		goto out;
	name = json_string_value(json_object_get(request, "method"));
	params = json_object_get(request, "parameters");
	if (!name || flag(request, "oneway", &oneway) || flag(request, "more", &more) ||
	    flag(request, "upgrade", &upgrade))
		goto out;
	if (json_is_null(params))
		params = NULL;
	if (params && !json_is_object(params))
		goto out;

	err = 0;
	if (cl->denied) {
		cl->closing = true;
		err = oneway ? -EPERM : send_json(cl, cl->denied, NULL, false);
		goto out;
	}
	method = vmc_api_find(name, &reply);
	if (method && upgrade) {
		vmc_api_error(&reply, VMC_API_INVALID_PARAMETER, "parameter", "upgrade");
	} else if (method && method->changes && !cl->root) {
		vmc_api_error(&reply, VMC_API_PERMISSION_DENIED, NULL, NULL);
	} else if (method && method->streams) {
		if (!more || oneway) {
			vmc_api_error(&reply, VMC_API_EXPECTED_MORE, NULL, NULL);
		} else if (vmc_api_no_params(params, &reply)) {
			cl->method = method;
			vmc_events_listen(cl->c->d, &cl->listener);
			err = send_event(cl, &(struct vmc_event){ .name = "monitoring", .detail = "" });
			goto out;
		}
	} else if (method && method->hold) {
		err = method->hold(cl->c->d, params, &cl->hold, &reply);
		if (!err && !reply.error && !reply.parameters) {
			cl->method = method;
			cl->oneway = oneway;
			goto out;
		}
	} else if (method && method->needs_stats) {
		cl->method = method;
		cl->params = json_incref(params);
		cl->oneway = oneway;
		vmc_stats_ask(cl->c->d, &cl->waiter);
		goto out;
	} else if (method) {
		/* "more" allows several answers; one is enough for every other method */
		err = method->call(cl->c->d, params, &reply);
	}
	err = finish_call(cl, oneway, err, &reply);
out:
	json_decref(request);
	return err;
}

/* Does the answer, or the next one, take as long as it takes? */
static bool waits(const struct client *cl)
{
	return cl->method && (cl->method->hold || cl->method->streams);
}

/*
 * Takes requests from the buffer while it may, and reads on only if it may: what
 * piles up is the caller's, in its socket. May free @cl.
 */
static void process(struct client *cl)
{
	static const struct timeval soon = { 0, 0 };
	struct evbuffer *in = bufferevent_get_input(cl->bev);
	struct evbuffer *out = bufferevent_get_output(cl->bev);

	/* Answers first: the write callback, or the guests' answer, comes back here. */
	for (int n = 0; !cl->closing && !cl->method &&
	     evbuffer_get_length(out) <= OUTPUT_BUSY; n++) {
		struct evbuffer_ptr end = evbuffer_search(in, "", 1, NULL);
		size_t len;

		if (end.pos < 0) {
			if (evbuffer_get_length(in) >= VMC_CONTROL_INPUT_MAX ||
			    (cl->eof && !evbuffer_get_length(out)))
				client_free(cl);
			else if (!cl->eof)
				bufferevent_enable(cl->bev, EV_READ);
			return;
		}
		if (n == CALLS_PER_TURN) {
			event_add(cl->more, &soon);
			break;
		}
		len = (size_t)end.pos + 1;
		if (handle(cl, (const char *)evbuffer_pullup(in, (ev_ssize_t)len), len - 1)) {
			client_free(cl);
			return;
		}
		evbuffer_drain(in, len);
	}
	/* that such a caller ends has to be noticed */
	if (cl->eof || !waits(cl) ||
	    evbuffer_get_length(in) >= VMC_CONTROL_INPUT_MAX)
		bufferevent_disable(cl->bev, EV_READ);
}

static void on_more(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	process(arg);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	process(arg);
}

static void on_written(struct bufferevent *bev, void *arg)
{
	struct client *cl = arg;

	(void)bev;
	if (cl->closing || (cl->missed && send_missed(cl)))
		client_free(cl);
	else
		process(cl);
}

/* Has the caller gone, rather than only said all that it has to say? */
static bool hung_up(struct bufferevent *bev)
{
	struct pollfd pfd = { .fd = bufferevent_getfd(bev) };

	return poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLHUP | POLLERR);
}

static void on_end(struct bufferevent *bev, short what, void *arg)
{
	struct client *cl = arg;

	if (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT) ||
	    (waits(cl) && hung_up(bev))) {
		client_free(cl);
		return;
	}
	cl->eof = true;
	process(cl);
}

/* ------------------------------------------------------------------ newcomers */

/* Root, and members of the group, also by a supplementary group. */
static bool may_call(int fd, bool *root)
{
	struct group *group = getgrnam(VMC_CONTROL_GROUP);
	gid_t gids[GROUPS_MAX];
	socklen_t len;
	struct ucred cred;

	len = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return false;
	*root = !cred.uid;
	if (*root)
		return true;
	if (!group)
		return false;
	if (cred.gid == group->gr_gid)
		return true;
	len = sizeof(gids);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len))
		return false;
	for (size_t i = 0; i < len / sizeof(gids[0]); i++)
		if (gids[i] == group->gr_gid)
			return true;
	return false;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
		      struct sockaddr *addr, int addrlen, void *arg)
{
	static const struct timeval timeout = { .tv_sec = WRITE_TIMEOUT_S };
	static const struct timeval denied = { .tv_sec = DENIED_TIMEOUT_S };
	struct vmc_control *c = arg;
	struct client *cl;

	(void)listener;
	(void)addr;
	(void)addrlen;
	/* A few more than the limit get an answer; beyond that they are just closed. */
	if (c->nr_clients >= 2 * VMC_CONTROL_CLIENTS_MAX) {
		close(fd);
		return;
	}
	cl = calloc(1, sizeof(*cl));
	if (!cl) {
		close(fd);
		return;
	}
	cl->c = c;
	cl->waiter.done = on_stats;
	cl->waiter.arg = cl;
	cl->hold.done = on_prepared;
	cl->listener.heard = on_event;
	cl->bev = bufferevent_socket_new(c->d->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!cl->bev) {
		close(fd);
		free(cl);
		return;
	}
	TAILQ_INSERT_TAIL(&c->clients, cl, entry);
	c->nr_clients++;
	cl->more = evtimer_new(c->d->base, on_more, cl);
	if (!cl->more) {
		client_free(cl);
		return;
	}
	bufferevent_setcb(cl->bev, on_read, on_written, on_end, cl);

	/* The answer waits for the request: it would be lost if it came before. */
	if (!may_call(fd, &cl->root))
		cl->denied = VMC_API_PERMISSION_DENIED;
	else if (c->nr_clients > VMC_CONTROL_CLIENTS_MAX)
		cl->denied = VMC_API_TOO_MANY_CLIENTS;
	if (cl->denied && vmc_ratelimit_ok(&c->log_rate))
		vmc_log(VMC_LOG_NOTICE, "control", "turned a caller away: %s", cl->denied);
	bufferevent_set_timeouts(cl->bev, cl->denied ? &denied : NULL, &timeout);
	bufferevent_enable(cl->bev, EV_READ | EV_WRITE);
}

/* A service manager makes the directory; without one it may be missing. */
static void make_directory(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return;
	*slash = '\0';
	if (mkdir(dir, 0755) && errno != EEXIST)
		vmc_log(VMC_LOG_WARNING, "control", "cannot make %s: %s", dir,
			strerror(errno));
}

static struct vmc_control *control_new(struct vmcd *d)
{
	struct vmc_control *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->d = d;
	TAILQ_INIT(&c->clients);
	vmc_ratelimit_init(&c->log_rate, 10, 10000);
	return c;
}

/* Takes over @fd, also on failure. */
static int control_listen(struct vmc_control *c, int fd)
{
	evutil_make_socket_nonblocking(fd);
	c->listener = evconnlistener_new(c->d->base, on_accept, c,
					 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 64,
					 fd);
	if (c->listener)
		return 0;
	close(fd);
	return -ENOMEM;
}

/* Only a socket, and only a dead one, is taken out of the way. */
static int bind_to(int fd, const struct sockaddr_un *sun)
{
	struct group *group = getgrnam(VMC_CONTROL_GROUP);
	struct stat st;
	mode_t mask;
	int err;

	if (!lstat(sun->sun_path, &st) && S_ISSOCK(st.st_mode)) {
		if (!connect(fd, (const struct sockaddr *)sun, sizeof(*sun)))
			return -EADDRINUSE;
		if (errno == ECONNREFUSED)
			unlink(sun->sun_path);
	}
	mask = umask(0117);
	err = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) ? -errno : 0;
	umask(mask);
	if (!err && group && chown(sun->sun_path, 0, group->gr_gid))
		vmc_log(VMC_LOG_WARNING, "control", "cannot give %s to group %s: %s",
			sun->sun_path, VMC_CONTROL_GROUP, strerror(errno));
	return err;
}

int vmc_control_new(struct vmc_control **ret, struct vmcd *d, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct vmc_control *c;
	int fd, err;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path));
	c = control_new(d);
	if (!c)
		return -ENOMEM;
	make_directory(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		err = -errno;
		goto fail;
	}
	err = bind_to(fd, &sun);
	if (err) {
		close(fd);
		goto fail;
	}
	err = control_listen(c, fd);
	if (err) {
		unlink(path);
		goto fail;
	}
	memcpy(c->path, sun.sun_path, sizeof(c->path));
	*ret = c;
	return 0;
fail:
	vmc_log(VMC_LOG_ERROR, "control", "cannot listen on %s: %s", path,
		err == -EADDRINUSE ? "another vmcd is running" : strerror(-err));
	free(c);
	return err;
}

int vmc_control_inherit(struct vmc_control **ret, struct vmcd *d, int fd)
{
	struct vmc_control *c = control_new(d);
	int err = c ? control_listen(c, fd) : -ENOMEM;

	if (!c)
		close(fd);
	if (err) {
		vmc_log(VMC_LOG_ERROR, "control", "cannot listen on the socket that was given: %s",
			strerror(-err));
		free(c);
		return err;
	}
	*ret = c;
	return 0;
}

void vmc_control_free(struct vmc_control *c)
{
	struct client *cl;

	if (!c)
		return;
	while ((cl = TAILQ_FIRST(&c->clients)))
		client_free(cl);
	evconnlistener_free(c->listener);
	if (c->path[0])
		unlink(c->path);
	free(c);
}
