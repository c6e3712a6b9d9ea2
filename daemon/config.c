// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "vmc_wire.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANY		"any"
#define LINE_MAX_LEN	1024
#define FILE_MAX	(1 << 20)

enum value {
	COUNT,		/* an integer */
	SIZE,		/* bytes, or "64K", "64M", "64G" */
	PACKETS,	/* "off", "udp", "all" */
};

static const struct {
	const char *name;
	enum value value;
	uint64_t min, max;
} settings[VMC_SETTINGS] = {
	[VMC_SET_CHANNELS] = { "channels", COUNT, 0, 65535 },
	[VMC_SET_STREAMS] = { "streams", COUNT, 0, UINT32_MAX - 1 },
	[VMC_SET_MEMORY] = { "memory", SIZE, 0, 1ull << 40 },
	[VMC_SET_GRANTS] = { "grants", COUNT, 0, UINT32_MAX - 1 },
	[VMC_SET_RING] = { "ring", SIZE, 4096, 256 << 10 },
	[VMC_SET_POLL] = { "poll", COUNT, 0, 1000000 },
	[VMC_SET_PACKETS] = { "packets", PACKETS, VMC_PACKETS_OFF, VMC_PACKETS_ALL },
};

struct reading {
	struct vmc_config *config;
	const char *file;
	bool log_level;			/* was given */
	vmc_config_tell *tell;
	void *arg;
	int err;
};

/* ------------------------------------------------------------------- what is wrong */

static void say(struct reading *r, unsigned int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct reading *r, unsigned int line, const char *fmt, ...)
{
	char text[LINE_MAX_LEN];
	va_list ap;
	int len;

	/* half of it for the place, however long its path is */
	len = snprintf(text, sizeof(text) / 2, line ? "%s:%u: " : "%s: ", r->file, line);
	if (len >= (int)sizeof(text) / 2)
		len = (int)sizeof(text) / 2 - 1;
	va_start(ap, fmt);
	vsnprintf(text + len, sizeof(text) - (size_t)len, fmt, ap);
	va_end(ap);
	r->tell(r->arg, text);
	r->err = -EINVAL;
}

static int no_memory(struct reading *r)
{
	r->err = -ENOMEM;
	return -ENOMEM;
}

/* How many characters of @a have to be added, dropped or changed to get @b. */
static size_t distance(const char *a, const char *b)
{
	size_t cost[64], width = strlen(b);

	if (width >= 64)
		return SIZE_MAX;
	for (size_t i = 0; i <= width; i++)
		cost[i] = i;
	for (size_t row = 1; *a; a++, row++) {
		size_t diagonal = cost[0];

		cost[0] = row;
		for (size_t i = 1; i <= width; i++) {
			size_t best = diagonal + (*a != b[i - 1]);

			diagonal = cost[i];
			if (cost[i] + 1 < best)
				best = cost[i] + 1;
			if (cost[i - 1] + 1 < best)
				best = cost[i - 1] + 1;
			cost[i] = best;
		}
	}
	return cost[width];
}

/* What may be meant by @text: remembers the nearest word, if it is near. */
struct hint {
	const char *text;
	const char *word;
	size_t distance;
};

static void hint(struct hint *h, const char *word)
{
	size_t d = distance(h->text, word);

	if (d <= strlen(word) / 3 + 1 && (!h->word || d < h->distance)) {
		h->word = word;
		h->distance = d;
	}
}

static void hint_settings(struct hint *h)
{
	for (size_t i = 0; i < VMC_SETTINGS; i++)
		hint(h, settings[i].name);
}

static void say_unknown(struct reading *r, unsigned int line, const char *what,
			const struct hint *h)
{
	if (h->word)
		say(r, line, "there is no %s %s; is %s meant?", what, h->text, h->word);
	else
		say(r, line, "there is no %s %s (see vmcd.conf(5))", what, h->text);
}

/* ------------------------------------------------------------------------- values */

static bool take_integer(const config_setting_t *s, uint64_t *value)
{
	int type = config_setting_type(s);
	long long n;

	if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		return false;
	n = config_setting_get_int64(s);
	*value = (uint64_t)n;
	return n >= 0;
}

static bool take_size(const config_setting_t *s, uint64_t *value)
{
	static const char units[] = "KMG";
	const char *text = config_setting_get_string(s), *unit;
	unsigned int shift = 0;
	char *end;

	if (!text)
		return take_integer(s, value);
	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (*value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

static bool take_packets(const config_setting_t *s, uint64_t *value)
{
	static const char *const names[] = VMC_PACKETS_NAMES;
	const char *text = config_setting_get_string(s);

	for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i])) {
			*value = i;
			return true;
		}
	}
	return false;
}

static void read_setting(struct reading *r, const config_setting_t *s, enum vmc_setting which,
			 struct vmc_settings *into)
{
	unsigned int line = config_setting_source_line(s);
	uint64_t min = settings[which].min, max = settings[which].max, value = 0;
	const char *name = settings[which].name;
	bool ok;

	switch (settings[which].value) {
	case PACKETS:
		if (!take_packets(s, &value)) {
			say(r, line, "%s has to be \"off\", \"udp\" or \"all\"", name);
			return;
		}
		break;
	case SIZE:
		ok = take_size(s, &value);
		if (!ok || value < min || value > max) {
			say(r, line, "%s has to be a size from %llu to %llu bytes, such as %s",
			    name, (unsigned long long)min, (unsigned long long)max,
			    max < 1 << 20 ? "\"64K\"" : "\"64M\"");
			return;
		}
		break;
	case COUNT:
	default:
		ok = take_integer(s, &value);
		if (!ok || value < min || value > max) {
			say(r, line, "%s has to be an integer from %llu to %llu", name,
			    (unsigned long long)min, (unsigned long long)max);
			return;
		}
	}
	if (which == VMC_SET_RING && value & (value - 1)) {
		say(r, line, "%s has to be a power of two", name);
		return;
	}
	if (into->max[which] == VMC_NO_LIMIT)
		into->max[which] = value;
}

const char *vmc_setting_name(enum vmc_setting which)
{
	return settings[which].name;
}

/* Is it one of those that hosts and groups have? */
static bool find_setting(const char *name, enum vmc_setting *which)
{
	for (size_t i = 0; i < VMC_SETTINGS; i++) {
		if (!strcmp(name, settings[i].name)) {
			*which = (enum vmc_setting)i;
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------------------- groups */

static char *where(const struct reading *r, const config_setting_t *s)
{
	char *text;

	return asprintf(&text, "%s:%u", r->file, config_setting_source_line(s)) < 0 ? NULL : text;
}

static void patterns_free(struct vmc_patterns *list)
{
	struct vmc_pattern *p;

	while ((p = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, p, entry);
		free(p);
	}
}

static void group_free(struct vmc_group *group)
{
	patterns_free(&group->names);
	patterns_free(&group->uuids);
	patterns_free(&group->bridges);
	free(group->where);
	free(group->name);
	free(group);
}

static bool is_uuid(const char *text)
{
	for (size_t i = 0; i < VMC_UUID_TEXT - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return !text[VMC_UUID_TEXT - 1];
}

static int read_pattern(struct reading *r, const config_setting_t *s, const char *name,
			struct vmc_patterns *list)
{
	const char *text = config_setting_get_string(s);
	struct vmc_pattern *p;

	if (!text || !*text) {
		say(r, config_setting_source_line(s),
		    "%s has to be a text or a list of texts, such as %s = [\"...\"]", name, name);
		return 0;
	}
	if (!strcmp(name, "uuids") && !is_uuid(text)) {
		say(r, config_setting_source_line(s), "not a uuid: %s", text);
		return 0;
	}
	p = malloc(sizeof(*p) + strlen(text) + 1);
	if (!p)
		return no_memory(r);
	memcpy(p->text, text, strlen(text) + 1);
	TAILQ_INSERT_TAIL(list, p, entry);
	return 0;
}

/* A text, or a list of them; no list is one that fits nobody. */
static int read_patterns(struct reading *r, const config_setting_t *s, struct vmc_patterns *list)
{
	const char *name = config_setting_name(s);

	if (!config_setting_is_array(s) && !config_setting_is_list(s))
		return read_pattern(r, s, name, list);
	if (!config_setting_length(s))
		say(r, config_setting_source_line(s), "%s is empty, and fits no guest", name);
	for (int i = 0; i < config_setting_length(s); i++)
		if (read_pattern(r, config_setting_get_elem(s, (unsigned int)i), name, list))
			return -ENOMEM;
	return 0;
}

static struct vmc_group *find_group(const struct vmc_config *c, const char *name)
{
	struct vmc_group *group;

	TAILQ_FOREACH(group, &c->groups, entry)
		if (!strcmp(group->name, name))
			return group;
	return NULL;
}

static int read_group_member(struct reading *r, const config_setting_t *s, struct vmc_group *group)
{
	const struct {
		const char *name;
		struct vmc_patterns *list;
	} kinds[] = {
		{ "names", &group->names },
		{ "uuids", &group->uuids },
		{ "bridges", &group->bridges },
	};
	struct hint h = { .text = config_setting_name(s) };
	enum vmc_setting which;

	if (find_setting(h.text, &which)) {
		read_setting(r, s, which, &group->settings);
		return 0;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!strcmp(h.text, kinds[i].name))
			return read_patterns(r, s, kinds[i].list);
		hint(&h, kinds[i].name);
	}
	hint_settings(&h);
	say_unknown(r, config_setting_source_line(s), "setting of a group:", &h);
	return 0;
}

void vmc_config_no_limits(struct vmc_settings *s)
{
	for (size_t i = 0; i < VMC_SETTINGS; i++)
		s->max[i] = VMC_NO_LIMIT;
}

static int read_group(struct reading *r, const config_setting_t *s)
{
	unsigned int line = config_setting_source_line(s);
	const char *name = config_setting_name(s);
	const struct vmc_group *same = find_group(r->config, name);
	struct vmc_group *group;

	if (!config_setting_is_group(s)) {
		say(r, line, "group %s has to be { ... }", name);
		return 0;
	}
	if (same || !strcmp(name, ANY)) {
		say(r, line, "there is a group %s already: %s", name,
		    same ? same->where : "every guest");
		return 0;
	}
	group = calloc(1, sizeof(*group));
	if (!group)
		return no_memory(r);
	TAILQ_INIT(&group->names);
	TAILQ_INIT(&group->uuids);
	TAILQ_INIT(&group->bridges);
	vmc_config_no_limits(&group->settings);
	TAILQ_INSERT_TAIL(&r->config->groups, group, entry);
	group->name = strdup(name);
	group->where = where(r, s);
	if (!group->name || !group->where)
		return no_memory(r);
	for (int i = 0; i < config_setting_length(s); i++)
		if (read_group_member(r, config_setting_get_elem(s, (unsigned int)i), group))
			return -ENOMEM;
	if (!config_setting_get_member(s, "names") && !config_setting_get_member(s, "uuids") &&
	    !config_setting_get_member(s, "bridges"))
		say(r, line, "group %s needs names, uuids or bridges to say who is in it", name);
	return 0;
}

static int read_groups(struct reading *r, const config_setting_t *s)
{
	if (!config_setting_is_group(s)) {
		say(r, config_setting_source_line(s),
		    "groups has to be { NAME: { names = [\"...\"] } ... }");
		return 0;
	}
	for (int i = 0; i < config_setting_length(s); i++)
		if (read_group(r, config_setting_get_elem(s, (unsigned int)i)))
			return -ENOMEM;
	return 0;
}

/* -------------------------------------------------------------------------- rules */

/* Groups are looked for when all files are read: @rule has only their names until then. */
struct named_rule {
	struct vmc_rule rule;
	unsigned int line;
	char *file;
	char *name[2];
};

static void rule_free(struct vmc_rule *rule)
{
	struct named_rule *n = (struct named_rule *)rule;

	free(n->name[0]);
	free(n->name[1]);
	free(n->file);
	free(rule->text);
	free(n);
}

static int read_rule(struct reading *r, const config_setting_t *s)
{
	static const char form[] = "a rule has to be \"allow GROUP GROUP\" or \"deny GROUP GROUP\", with "
				   ANY " for every guest";
	const char *text = config_setting_get_string(s);
	unsigned int line = config_setting_source_line(s);
	char action[8], more[2];
	struct named_rule *n;
	int words;

	if (!text) {
		say(r, line, "%s", form);
		return 0;
	}
	n = calloc(1, sizeof(*n));
	if (!n)
		return no_memory(r);
	words = sscanf(text, "%7s %ms %ms %1s", action, &n->name[0], &n->name[1], more);
	if (words != 3 || (strcmp(action, "allow") && strcmp(action, "deny"))) {
		rule_free(&n->rule);
		say(r, line, "%s, not: %s", form, text);
		return 0;
	}
	TAILQ_INSERT_TAIL(&r->config->rules, &n->rule, entry);
	n->rule.allow = *action == 'a';
	n->line = line;
	n->file = strdup(r->file);
	if (!n->file || asprintf(&n->rule.text, "%s:%u: %s %s %s", n->file, line, action,
				 n->name[0], n->name[1]) < 0) {
		n->rule.text = NULL;
		return no_memory(r);
	}
	return 0;
}

static int read_rules(struct reading *r, const config_setting_t *s)
{
	if (!config_setting_is_list(s) && !config_setting_is_array(s)) {
		say(r, config_setting_source_line(s), "rules has to be ( \"...\", ... )");
		return 0;
	}
	for (int i = 0; i < config_setting_length(s); i++)
		if (read_rule(r, config_setting_get_elem(s, (unsigned int)i)))
			return -ENOMEM;
	return 0;
}

static const struct vmc_group *resolve(struct reading *r, const struct named_rule *n,
				       const char *name)
{
	struct hint h = { .text = name };
	struct vmc_group *group;

	if (!strcmp(name, ANY))
		return NULL;
	group = find_group(r->config, name);
	if (group)
		return group;
	hint(&h, ANY);
	TAILQ_FOREACH(group, &r->config->groups, entry)
		hint(&h, group->name);
	r->file = n->file;
	say_unknown(r, n->line, "group", &h);
	return NULL;
}

static void resolve_rules(struct reading *r)
{
	struct vmc_rule *rule;

	TAILQ_FOREACH(rule, &r->config->rules, entry) {
		struct named_rule *n = (struct named_rule *)rule;

		rule->a = resolve(r, n, n->name[0]);
		rule->b = resolve(r, n, n->name[1]);
	}
}

/* -------------------------------------------------------------------------- files */

static void read_log_level(struct reading *r, const config_setting_t *s)
{
	const char *text = config_setting_get_string(s);
	enum vmc_log_level level;

	if (!text || vmc_log_level_parse(text, &level))
		say(r, config_setting_source_line(s),
		    "log-level has to be \"error\", \"warning\", \"notice\", \"info\" or \"debug\"");
	else if (!r->log_level)
		r->config->log_level = level;
	r->log_level = true;
}

static int read_top(struct reading *r, const config_setting_t *s)
{
	struct hint h = { .text = config_setting_name(s) };
	enum vmc_setting which;

	if (find_setting(h.text, &which))
		read_setting(r, s, which, &r->config->settings);
	else if (!strcmp(h.text, "log-level"))
		read_log_level(r, s);
	else if (!strcmp(h.text, "groups"))
		return read_groups(r, s);
	else if (!strcmp(h.text, "rules"))
		return read_rules(r, s);
	else {
		hint(&h, "log-level");
		hint(&h, "groups");
		hint(&h, "rules");
		hint_settings(&h);
		say_unknown(r, config_setting_source_line(s), "setting", &h);
	}
	return 0;
}

static int read_tree(struct reading *r, const config_setting_t *root)
{
	for (int i = 0; i < config_setting_length(root); i++)
		if (read_top(r, config_setting_get_elem(root, (unsigned int)i)))
			return -ENOMEM;
	return 0;
}

/*
 * libconfig's scanner ends the process if it cannot read what an @include names, and ends
 * the text at a NUL: neither gets that far.
 */
static bool check_text(struct reading *r, const char *text, size_t len)
{
	unsigned int line = 1;

	if (memchr(text, '\0', len)) {
		say(r, 0, "not a text");
		return false;
	}
	for (const char *at = text; at; line++) {
		at += strspn(at, " \t\r\f\v");
		if (*at == '@') {
			say(r, line, "there is no @include: put files into vmcd.conf.d");
			return false;
		}
		at = strchr(at, '\n');
		if (at)
			at++;
	}
	return true;
}

static int read_text(struct reading *r, const char *text)
{
	config_t tree;
	int err = 0;

	config_init(&tree);
	if (config_read_string(&tree, text) != CONFIG_TRUE)
		say(r, (unsigned int)config_error_line(&tree), "%s",
		    config_error_text(&tree) ? config_error_text(&tree) : "cannot be read");
	else
		err = read_tree(r, config_root_setting(&tree));
	config_destroy(&tree);
	return err;
}

static int read_file(struct reading *r, const char *path, bool must_exist)
{
	struct stat st;
	ssize_t len = 0;
	char *text = NULL;
	int fd, err = 0;

	r->file = path;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);	/* whatever it is */
	if (fd < 0) {
		if (errno != ENOENT || must_exist)
			say(r, 0, "%s", strerror(errno));
		return 0;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		say(r, 0, "not a file");
	} else if (st.st_size > FILE_MAX) {
		say(r, 0, "longer than %d bytes", FILE_MAX);
	} else {
		text = malloc((size_t)st.st_size + 1);
		len = text ? read(fd, text, (size_t)st.st_size) : 0;
		if (!text)
			err = no_memory(r);
		else if (len < 0)
			say(r, 0, "%s", strerror(errno));
	}
	close(fd);
	if (text && len >= 0) {
		text[len] = '\0';
		if (check_text(r, text, (size_t)len))
			err = read_text(r, text);
	}
	free(text);
	return err;
}

static int is_conf(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return *e->d_name != '.' && dot && !strcmp(dot, ".conf");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_dropins(struct reading *r, const char *dir)
{
	struct dirent **entry = NULL;
	int n = scandir(dir, &entry, is_conf, by_bytes), err = 0;
	char *path;

	if (n < 0) {
		if (errno == ENOENT)
			return 0;
		r->file = dir;
		say(r, 0, "%s", strerror(errno));
		return 0;
	}
	for (int i = 0; i < n; i++) {
		if (!err && asprintf(&path, "%s/%s", dir, entry[i]->d_name) < 0) {
			err = no_memory(r);
		} else if (!err) {
			err = read_file(r, path, true);
			free(path);
		}
		free(entry[i]);
	}
	free(entry);
	return err;
}

struct vmc_config *vmc_config_new(void)
{
	struct vmc_config *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->log_level = VMC_LOG_INFO;
	vmc_config_no_limits(&c->settings);
	TAILQ_INIT(&c->groups);
	TAILQ_INIT(&c->rules);
	return c;
}

int vmc_config_load(struct vmc_config **ret, const char *path, bool must_exist,
		    vmc_config_tell *tell, void *arg)
{
	struct reading r = { .config = vmc_config_new(), .tell = tell, .arg = arg };
	char *dir;

	if (!r.config || asprintf(&dir, "%s.d", path) < 0) {
		vmc_config_free(r.config);
		return -ENOMEM;
	}
	if (!read_dropins(&r, dir) && !read_file(&r, path, must_exist))
		resolve_rules(&r);
	free(dir);
	if (r.err) {
		vmc_config_free(r.config);
		return r.err;
	}
	*ret = r.config;
	return 0;
}

void vmc_config_free(struct vmc_config *c)
{
	struct vmc_group *group;
	struct vmc_rule *rule;

	if (!c)
		return;
	while ((rule = TAILQ_FIRST(&c->rules))) {
		TAILQ_REMOVE(&c->rules, rule, entry);
		rule_free(rule);
	}
	while ((group = TAILQ_FIRST(&c->groups))) {
		TAILQ_REMOVE(&c->groups, group, entry);
		group_free(group);
	}
	free(c);
}

/* -------------------------------------------------------------------------- guests */

static bool fits(const struct vmc_patterns *list, const char *text)
{
	const struct vmc_pattern *p;

	TAILQ_FOREACH(p, list, entry)
		if (!fnmatch(p->text, text, 0))
			return true;
	return false;
}

/* xl has given a guest that is on its way here another name: it may do there what it may do under its own. */
static bool fits_name(const struct vmc_patterns *list, const struct vmc_guest *g)
{
	static const char incoming[] = "--incoming";
	char name[VMC_NAME_MAX];
	size_t len;

	snprintf(name, sizeof(name), "%s", g->name);
	len = strlen(name);
	if (len >= sizeof(incoming) && !strcmp(name + len - (sizeof(incoming) - 1), incoming))
		name[len - (sizeof(incoming) - 1)] = '\0';
	return fits(list, name);
}

static bool fits_uuid(const struct vmc_patterns *list, const struct vmc_guest *g)
{
	char uuid[VMC_UUID_TEXT];
	const struct vmc_pattern *p;

	vmc_uuid_text(g->uuid, uuid);
	TAILQ_FOREACH(p, list, entry)
		if (!strcasecmp(p->text, uuid))
			return true;
	return false;
}

static bool fits_bridge(const struct vmc_patterns *list, const struct vmc_guest *g)
{
	for (unsigned int i = 0; i < g->vifs.count; i++)
		if (fits(list, g->vifs.vif[i].bridge))
			return true;
	return false;
}

bool vmc_config_has(const struct vmc_group *group, const struct vmc_guest *g)
{
	return (TAILQ_EMPTY(&group->names) || fits_name(&group->names, g)) &&
	       (TAILQ_EMPTY(&group->uuids) || fits_uuid(&group->uuids, g)) &&
	       (TAILQ_EMPTY(&group->bridges) || fits_bridge(&group->bridges, g));
}

struct vmc_settings vmc_config_settings(const struct vmc_config *c, const struct vmc_guest *g)
{
	struct vmc_settings s = { 0 };
	const struct vmc_group *group;

	vmc_config_no_limits(&s);
	TAILQ_FOREACH(group, &c->groups, entry) {
		if (!vmc_config_has(group, g))
			continue;
		for (size_t i = 0; i < VMC_SETTINGS; i++)
			if (s.max[i] == VMC_NO_LIMIT)
				s.max[i] = group->settings.max[i];
	}
	for (size_t i = 0; i < VMC_SETTINGS; i++)
		if (s.max[i] == VMC_NO_LIMIT)
			s.max[i] = c->settings.max[i];
	return s;
}

static bool in(const struct vmc_group *group, const struct vmc_guest *g)
{
	return !group || vmc_config_has(group, g);
}

const struct vmc_rule *vmc_config_rule(const struct vmc_config *c, const struct vmc_guest *a,
				       const struct vmc_guest *b)
{
	const struct vmc_rule *rule;

	TAILQ_FOREACH(rule, &c->rules, entry)
		if ((in(rule->a, a) && in(rule->b, b)) || (in(rule->a, b) && in(rule->b, a)))
			return rule;
	return NULL;
}
