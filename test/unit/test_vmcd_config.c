// SPDX-License-Identifier: GPL-2.0-or-later
/* vmcd.conf: what is read, what is refused and how it is told, and what guests notice of it. */
#include "test_vmcd_fake.h"

#include "chan.h"
#include "config.h"
#include "guest.h"
#include "link.h"

#include <sys/stat.h>
#include <unistd.h>

struct scene {
	struct fake *f;
	struct fake_guest *a, *b;
	char dir[32];
	char path[64];		/* DIR/vmcd.conf */
	char told[4096];	/* without DIR/ before the names of files */
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	strcpy(s->dir, "/tmp/vmc-config-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/vmcd.conf", s->dir);
	s->f = fake_new();
	fake_start(s->f);
	s->f->d->timing.chan_retry = 0;
	s->a = fake_vm(s->f, 3);
	s->b = fake_vm(s->f, 4);
	s->a->minds_settings = s->b->minds_settings = true;
	fg_ready(s->a);
	fg_ready(s->b);
	fg_drain(s->a);
	fg_drain(s->b);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char command[64];

	fake_free(s->f);
	snprintf(command, sizeof(command), "rm -rf %s", s->dir);
	assert_int_equal(system(command), 0);
	free(s);
	return 0;
}

static void tell(void *arg, const char *text)
{
	struct scene *s = arg;
	size_t len = strlen(s->told), skip = strlen(s->dir) + 1;

	if (!strncmp(text, s->dir, skip - 1) && text[skip - 1] == '/')
		text += skip;
	snprintf(s->told + len, sizeof(s->told) - len, "%s\n", text);
}

static void put_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* NAME is below vmcd.conf.d */
static void dropin(struct scene *s, const char *name, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s.d", s->path);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s.d/%s", s->path, name);
	put_file(path, text);
}

static struct vmc_config *load(struct scene *s)
{
	struct vmc_config *c = NULL;
	int err;

	s->told[0] = '\0';
	err = vmc_config_load(&c, s->path, false, tell, s);
	assert_int_equal(!c, !!err);
	assert_int_equal(!!err, !!s->told[0]);
	return c;
}

static struct vmc_config *good(struct scene *s, const char *text)
{
	struct vmc_config *c;

	put_file(s->path, text);
	c = load(s);
	assert_string_equal(s->told, "");
	return c;
}

/* vmcd goes on with this configuration. */
static void configure(struct scene *s, const char *text)
{
	vmcd_configure(s->f->d, good(s, text));
	fake_settle(s->f);
}

static struct vmc_guest *guest(struct scene *s, uint32_t domid)
{
	return vmc_guest_by_domid(s->f->d, domid);
}

/* ------------------------------------------------------------------- what is read */

static void nothing(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c = load(s);

	assert_int_equal(c->log_level, VMC_LOG_INFO);
	for (size_t i = 0; i < VMC_SETTINGS; i++)
		assert_true(c->settings.max[i] == VMC_NO_LIMIT);
	assert_null(vmc_config_rule(c, guest(s, 3), guest(s, 4)));
	vmc_config_free(c);
	vmc_config_free(good(s, ""));
	vmc_config_free(good(s, "# only a remark\n"));
}

static void values(void **state)
{
	struct scene *s = *state;
	static const struct {
		const char *text;
		enum vmc_setting which;
		uint64_t value;
	} cases[] = {
		{ "channels = 0", VMC_SET_CHANNELS, 0 },
		{ "channels = 65535", VMC_SET_CHANNELS, 65535 },
		{ "streams = 100", VMC_SET_STREAMS, 100 },
		{ "memory = 1", VMC_SET_MEMORY, 1 },
		{ "memory = \"0\"", VMC_SET_MEMORY, 0 },
		{ "memory = \"7k\"", VMC_SET_MEMORY, 7 << 10 },
		{ "memory = \"64M\"", VMC_SET_MEMORY, 64 << 20 },
		{ "memory = \"3G\"", VMC_SET_MEMORY, 3ull << 30 },
		{ "memory = 5000000000L", VMC_SET_MEMORY, 5000000000 },
		{ "grants = 4294967294L", VMC_SET_GRANTS, 4294967294 },
		{ "ring = \"4K\"", VMC_SET_RING, 4096 },
		{ "ring = 262144", VMC_SET_RING, 262144 },
		{ "poll = 1000000", VMC_SET_POLL, 1000000 },
		{ "packets = \"off\"", VMC_SET_PACKETS, VMC_PACKETS_OFF },
		{ "packets = \"udp\"", VMC_SET_PACKETS, VMC_PACKETS_UDP },
		{ "packets = \"all\"", VMC_SET_PACKETS, VMC_PACKETS_ALL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmc_config *c = good(s, cases[i].text);

		for (size_t j = 0; j < VMC_SETTINGS; j++)
			assert_true(c->settings.max[j] ==
				    (j == cases[i].which ? cases[i].value : VMC_NO_LIMIT));
		vmc_config_free(c);
	}
}

static void log_level(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c = good(s, "log-level = \"warning\"");

	assert_int_equal(c->log_level, VMC_LOG_WARNING);
	vmc_config_free(c);
}

/* ----------------------------------------------------------------- what is refused */

#define RULE	"a rule has to be \"allow GROUP GROUP\" or \"deny GROUP GROUP\", with any for every guest"

static void refused(void **state)
{
	struct scene *s = *state;
	static const struct {
		const char *text, *told;
	} cases[] = {
		{ "log-levle = \"info\"", "1: there is no setting log-levle; is log-level meant?" },
		{ "\n\npakcets = \"udp\"", "3: there is no setting pakcets; is packets meant?" },
		{ "rule = ()", "1: there is no setting rule; is rules meant?" },
		{ "something = 1", "1: there is no setting something (see vmcd.conf(5))" },
		{ "log-level = \"loud\"", "1: log-level has to be \"error\", \"warning\", \"notice\", \"info\" or \"debug\"" },
		{ "log-level = 3", "1: log-level has to be \"error\", \"warning\", \"notice\", \"info\" or \"debug\"" },
		{ "channels = -1", "1: channels has to be an integer from 0 to 65535" },
		{ "channels = 65536", "1: channels has to be an integer from 0 to 65535" },
		{ "channels = \"5\"", "1: channels has to be an integer from 0 to 65535" },
		{ "channels = 1.5", "1: channels has to be an integer from 0 to 65535" },
		{ "channels = true", "1: channels has to be an integer from 0 to 65535" },
		{ "poll = [1]", "1: poll has to be an integer from 0 to 1000000" },
		{ "memory = \"64Q\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"64MB\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"-1\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \" 1\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"2000G\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"18446744073709551615G\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "memory = \"99999999999999999999\"", "1: memory has to be a size from 0 to 1099511627776 bytes, such as \"64M\"" },
		{ "ring = 2048", "1: ring has to be a size from 4096 to 262144 bytes, such as \"64K\"" },
		{ "ring = 12288", "1: ring has to be a power of two" },
		{ "packets = \"tcp\"", "1: packets has to be \"off\", \"udp\" or \"all\"" },
		{ "packets = 1", "1: packets has to be \"off\", \"udp\" or \"all\"" },
		{ "groups = 5", "1: groups has to be { NAME: { names = [\"...\"] } ... }" },
		{ "groups = { web = 5 }", "1: group web has to be { ... }" },
		{ "groups = { any = { names = \"x\" } }", "1: there is a group any already: every guest" },
		{ "groups = {\n web = { poll = 5 } }", "2: group web needs names, uuids or bridges to say who is in it" },
		{ "groups = { web = { names = [] } }", "1: names is empty, and fits no guest" },
		{ "groups = { web = { names = 5 } }", "1: names has to be a text or a list of texts, such as names = [\"...\"]" },
		{ "groups = { web = { names = (\"a\",\n 5) } }", "2: names has to be a text or a list of texts, such as names = [\"...\"]" },
		{ "groups = { web = { names = \"\" } }", "1: names has to be a text or a list of texts, such as names = [\"...\"]" },
		{ "groups = { web = { uuids = \"813abf6c\" } }", "1: not a uuid: 813abf6c" },
		{ "groups = { web = { uuids = \"813abf6c-7e2a-4ffe-836e-8b494853509c0\" } }", "1: not a uuid: 813abf6c-7e2a-4ffe-836e-8b494853509c0" },
		{ "groups = { web = { uuids = \"813abf6c-7e2a-4ffe-836e-8b494853509g\" } }", "1: not a uuid: 813abf6c-7e2a-4ffe-836e-8b494853509g" },
		{ "groups = { web = { name = \"a\", names = \"b\" } }", "1: there is no setting of a group: name; is names meant?" },
		{ "groups = { web = { names = \"b\", groups = {} } }", "1: there is no setting of a group: groups; is grants meant?" },
		{ "rules = \"deny any any\"", "1: rules has to be ( \"...\", ... )" },
		{ "rules = ( 5 )", "1: " RULE },
		{ "rules = ( \"\" )", "1: " RULE ", not: " },
		{ "rules = ( \"deny any\" )", "1: " RULE ", not: deny any" },
		{ "rules = ( \"deny any any any\" )", "1: " RULE ", not: deny any any any" },
		{ "rules = ( \"reject any any\" )", "1: " RULE ", not: reject any any" },
		{ "rules = ( \"allowed any any\" )", "1: " RULE ", not: allowed any any" },
		{ "groups = { web = { names = \"a\" } }\nrules = (\n\"deny any wbe\")", "3: there is no group wbe; is web meant?" },
		{ "rules = ( \"deny * any\" )", "1: there is no group * (see vmcd.conf(5))" },
		{ "poll = 1\npoll = 2", "2: duplicate setting name" },
		{ "groups = { web = { names = \"a\" }", "1: syntax error" },
		{ "poll 5", "1: syntax error" },
		{ "a = \"b", "1: syntax error" },
		{ "poll = 1\n \t@include \"/\"", "2: there is no @include: put files into vmcd.conf.d" },
		{ "@InClude \"x\"", "1: there is no @include: put files into vmcd.conf.d" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[256];

		put_file(s->path, cases[i].text);
		assert_null(load(s));
		snprintf(want, sizeof(want), "vmcd.conf:%s\n", cases[i].told);
		assert_string_equal(s->told, want);
	}
}

static void all_that_is_wrong_is_told(void **state)
{
	struct scene *s = *state;
	char want[512];

	dropin(s, "10-first.conf", "poll = \"x\"\n");
	dropin(s, "20-second.conf", "groups = { web = { names = \"a\" } }\n");
	put_file(s->path, "memroy = 5\n\ngroups = { web = { names = \"b\" } }\nrules = ( \"deny db any\" )\n");
	assert_null(load(s));
	snprintf(want, sizeof(want),
		 "vmcd.conf.d/10-first.conf:1: poll has to be an integer from 0 to 1000000\n"
		 "vmcd.conf:1: there is no setting memroy; is memory meant?\n"
		 "vmcd.conf:3: there is a group web already: %s.d/20-second.conf:1\n"
		 "vmcd.conf:4: there is no group db; is web meant?\n", s->path);
	assert_string_equal(s->told, want);
}

static void a_long_word(void **state)
{
	struct scene *s = *state;
	char text[3000];

	memset(text, 'a', sizeof(text));
	snprintf(text + sizeof(text) - 10, 10, " = 1");
	put_file(s->path, text);
	assert_null(load(s));
	assert_non_null(strstr(s->told, "vmcd.conf:1: there is no setting aaaa"));
}

static void files(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c;
	FILE *file;

	/* not there, but named */
	assert_int_equal(vmc_config_load(&c, s->path, true, tell, s), -EINVAL);
	assert_string_equal(s->told, "vmcd.conf: No such file or directory\n");
	/* a directory in its place */
	assert_int_equal(mkdir(s->path, 0755), 0);
	assert_null(load(s));
	assert_string_equal(s->told, "vmcd.conf: not a file\n");
	assert_int_equal(rmdir(s->path), 0);
	/* one that would be waited for */
	assert_int_equal(mkfifo(s->path, 0644), 0);
	assert_null(load(s));
	assert_string_equal(s->told, "vmcd.conf: not a file\n");
	assert_int_equal(unlink(s->path), 0);
	/* more than text, and too much of it */
	file = fopen(s->path, "w");
	assert_int_equal(fwrite("poll = 1\0x", 1, 11, file), 11);
	fclose(file);
	assert_null(load(s));
	assert_string_equal(s->told, "vmcd.conf: not a text\n");
	assert_int_equal(truncate(s->path, (1 << 20) + 1), 0);
	assert_null(load(s));
	assert_string_equal(s->told, "vmcd.conf: longer than 1048576 bytes\n");
	assert_int_equal(unlink(s->path), 0);
	/* drop-ins without it; only those that end in .conf count */
	dropin(s, "a.conf", "poll = 1");
	dropin(s, ".b.conf", "poll = \"\"");
	dropin(s, "c.conf~", "poll = \"\"");
	dropin(s, "conf", "poll = \"\"");
	c = load(s);
	assert_true(c->settings.max[VMC_SET_POLL] == 1);
	vmc_config_free(c);
}

static void a_long_path(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c = NULL;
	char path[1600], part[201];

	memset(part, 'd', sizeof(part) - 1);
	part[sizeof(part) - 1] = '\0';
	snprintf(path, sizeof(path), "%s", s->dir);
	for (int i = 0; i < 7; i++) {
		size_t len = strlen(path);

		snprintf(path + len, sizeof(path) - len, "/%s", part);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	strcat(path, "/vmcd.conf");
	put_file(path, "poll = \"x\"");
	assert_int_equal(vmc_config_load(&c, path, true, tell, s), -EINVAL);
	assert_non_null(strstr(s->told, "dddpoll has to be an integer"));
}

static void the_first_counts(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c;

	dropin(s, "20.conf", "poll = 20\nring = 8192\nrules = ( \"allow any any\" )");
	dropin(s, "10.conf", "poll = 10\nlog-level = \"error\"");
	put_file(s->path, "poll = 1\nring = 4096\nmemory = 4\nlog-level = \"debug\"\nrules = ( \"deny any any\" )");
	c = load(s);
	assert_int_equal(c->settings.max[VMC_SET_POLL], 10);
	assert_int_equal(c->settings.max[VMC_SET_RING], 8192);
	assert_int_equal(c->settings.max[VMC_SET_MEMORY], 4);
	assert_int_equal(c->log_level, VMC_LOG_ERROR);
	assert_true(vmc_config_rule(c, guest(s, 3), guest(s, 4))->allow);
	vmc_config_free(c);
}

/* --------------------------------------------------------------------- who is meant */

static bool in_group(struct scene *s, const char *group, uint32_t domid)
{
	char text[256];
	struct vmc_config *c;
	bool yes;

	snprintf(text, sizeof(text), "groups = { x = { %s } }", group);
	c = good(s, text);
	yes = vmc_config_has(TAILQ_FIRST(&c->groups), guest(s, domid));
	vmc_config_free(c);
	return yes;
}

static void members(void **state)
{
	struct scene *s = *state;
	char uuid[VMC_UUID_TEXT], text[64];

	assert_true(in_group(s, "names = \"vm3\"", 3));
	assert_false(in_group(s, "names = \"vm3\"", 4));
	assert_true(in_group(s, "names = [\"vm4\", \"vm?\"]", 3));
	assert_true(in_group(s, "names = (\"v*\")", 4));
	assert_false(in_group(s, "names = \"VM3\"", 3));
	assert_false(in_group(s, "names = \"vm\"", 3));
	assert_true(in_group(s, "bridges = \"xenbr*\"", 3));
	assert_false(in_group(s, "bridges = \"xenbr1\"", 3));
	/* all kinds have to fit */
	assert_false(in_group(s, "names = \"vm3\", bridges = \"xenbr1\"", 3));
	assert_true(in_group(s, "names = \"vm3\", bridges = \"xenbr0\"", 3));
	vmc_uuid_text(guest(s, 3)->uuid, uuid);
	snprintf(text, sizeof(text), "uuids = \"%s\"", uuid);
	assert_true(in_group(s, text, 3));
	assert_false(in_group(s, text, 4));
	for (char *c = text + 9; *c && *c != '"'; c++)
		*c = (char)(*c >= 'a' && *c <= 'f' ? *c - 32 : *c);
	assert_true(in_group(s, text, 3));
	/* one of several bridges */
	fake_vif(s->f, 3, 1, "00:16:3e:00:01:03", "xenbr1");
	fake_settle(s->f);
	assert_true(in_group(s, "bridges = \"xenbr1\"", 3));
}

static void one_that_is_on_its_way(void **state)
{
	struct scene *s = *state;

	fake_write(s->f, "/local/domain/3/name", "db--incoming");
	fake_settle(s->f);
	assert_true(in_group(s, "names = \"db\"", 3));
	fake_write(s->f, "/local/domain/3/name", "--incoming");
	fake_settle(s->f);
	assert_true(in_group(s, "names = \"--incoming\"", 3));
}

static void rules(void **state)
{
	struct scene *s = *state;
	static const char groups[] = "groups = { three = { names = \"vm3\" } four = { names = \"vm4\" } five = { names = \"vm5\" } }\n";
	static const struct {
		const char *rules;
		const char *first;	/* that fits 3 and 4 */
	} cases[] = {
		{ "\"deny any any\"", "deny any any" },
		{ "\"deny three four\", \"allow any any\"", "deny three four" },
		{ "\"deny four three\"", "deny four three" },
		{ "\"deny three three\"", NULL },
		{ "\"deny five any\"", NULL },
		{ "\"deny any five\", \"allow four any\", \"deny any any\"", "allow four any" },
		{ "\"allow any three\", \"deny any any\"", "allow any three" },
		{ "\"  deny   any\tany \"", "deny any any" },
	};

	fg_ready(fake_vm(s->f, 5));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct vmc_rule *rule;
		char text[512], want[160];
		struct vmc_config *c;

		snprintf(text, sizeof(text), "%srules = ( %s )", groups, cases[i].rules);
		c = good(s, text);
		rule = vmc_config_rule(c, guest(s, 3), guest(s, 4));
		assert_ptr_equal(rule, vmc_config_rule(c, guest(s, 4), guest(s, 3)));
		if (cases[i].first) {
			snprintf(want, sizeof(want), "%s:2: %s", s->path, cases[i].first);
			assert_non_null(rule);
			assert_string_equal(rule->text, want);
			assert_int_equal(rule->allow, *cases[i].first == 'a');
		} else {
			assert_null(rule);
		}
		vmc_config_free(c);
	}
}

static void settings_of_guests(void **state)
{
	struct scene *s = *state;
	struct vmc_config *c = good(s,
		"poll = 1\nmemory = 2\n"
		"groups = { a = { names = \"vm3\"; poll = 10 }\n"
		"	    b = { names = \"vm*\"; poll = 20; grants = 30 } }\n");
	struct vmc_settings three = vmc_config_settings(c, guest(s, 3));
	struct vmc_settings four = vmc_config_settings(c, guest(s, 4));

	assert_int_equal(three.max[VMC_SET_POLL], 10);
	assert_int_equal(four.max[VMC_SET_POLL], 20);
	assert_int_equal(three.max[VMC_SET_GRANTS], 30);
	assert_int_equal(three.max[VMC_SET_MEMORY], 2);
	assert_true(three.max[VMC_SET_RING] == VMC_NO_LIMIT);
	vmc_config_free(c);
}

/* ------------------------------------------------------------- what guests notice */

static void expect_del(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_DEL, &m);
	assert_int_equal(m.peer_del.domid, peer);
	assert_int_equal(m.peer_del.reason, VMC_R_POLICY);
}

static void expect_add(struct fake_guest *g, uint32_t peer)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_PEER_ADD, &m);
	assert_int_equal(m.peer_add.domid, peer);
}

static void expect_close(struct fake_guest *g, uint32_t id)
{
	union vmc_any_msg m;

	fg_expect(g, VMC_L_CHAN_CLOSE, &m);
	assert_int_equal(m.h.id, id);
	assert_int_equal(m.chan_close.reason, VMC_R_POLICY);
}

static void a_pair_is_forbidden_and_allowed(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	uint32_t id, kept;

	fg_ready(c);
	id = fg_open(s->a, s->b);
	kept = fg_open(s->b, c);
	fg_drain(s->a);
	fg_drain(s->b);
	fg_drain(c);
	configure(s, "groups = { x = { names = \"vm3\" } y = { names = \"vm4\" } }\nrules = ( \"deny x y\" )");
	expect_close(s->a, id);
	expect_del(s->a, 4);
	expect_close(s->b, id);
	expect_del(s->b, 3);
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	fg_expect_nothing(c);
	assert_non_null(vmc_chan_end(guest(s, 4), kept));
	fg_close(s->a, VMC_L_CHAN_CLOSED, id, 4, VMC_R_NONE);
	fg_close(s->b, VMC_L_CHAN_CLOSED, id, 3, VMC_R_NONE);
	/* asked for all the same */
	fg_chan_req(s->a, 4);
	fg_expect(s->a, VMC_L_CHAN_CLOSE, NULL);
	fg_expect_nothing(s->b);
	/* read again, unchanged: nobody notices */
	configure(s, "groups = { x = { names = \"vm3\" } y = { names = \"vm4\" } }\nrules = ( \"deny x y\" )");
	fg_expect_nothing(s->a);
	fg_expect_nothing(s->b);
	fg_expect_nothing(c);
	configure(s, "");
	expect_add(s->a, 4);
	expect_add(s->b, 3);
	fg_expect_nothing(c);
	assert_int_not_equal(fg_open(s->a, s->b), 0);
}

static void another_name_counts_at_once(void **state)
{
	struct scene *s = *state;

	configure(s, "groups = { x = { names = \"secret\" } }\nrules = ( \"deny x any\" )");
	fg_expect_nothing(s->a);
	fake_write(s->f, "/local/domain/3/name", "secret");
	fake_settle(s->f);
	expect_del(s->a, 4);
	expect_del(s->b, 3);
	fake_write(s->f, "/local/domain/3/name", "vm3");
	fake_settle(s->f);
	expect_add(s->a, 4);
	expect_add(s->b, 3);
}

static void guests_are_told_what_they_may_use(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	configure(s, "memory = \"1M\"\npoll = 7\npackets = \"off\"\n"
		     "groups = { x = { names = \"vm4\"; ring = 8192; streams = 9; grants = 11; memory = 13 } }\n");
	fg_expect(s->a, VMC_L_SETTINGS, &m);
	assert_int_equal(m.settings.max_bytes, 1 << 20);
	assert_int_equal(m.settings.poll_us, 7);
	assert_int_equal(m.settings.packets, VMC_PACKETS_OFF);
	assert_int_equal(m.settings.max_grants, UINT32_MAX);
	assert_int_equal(m.settings.max_rings, UINT32_MAX);
	assert_int_equal(m.settings.ring_bytes, UINT32_MAX);
	fg_expect_nothing(s->a);
	fg_expect(s->b, VMC_L_SETTINGS, &m);
	assert_int_equal(m.settings.max_bytes, 13);
	assert_int_equal(m.settings.max_grants, 11);
	assert_int_equal(m.settings.max_rings, 9);
	assert_int_equal(m.settings.ring_bytes, 8192);
	fg_expect_nothing(s->b);
	/* of one nothing changes; channels are vmcd's business */
	configure(s, "memory = \"1M\"\npoll = 7\npackets = \"off\"\nchannels = 5");
	fg_expect_nothing(s->a);
	fg_expect(s->b, VMC_L_SETTINGS, &m);
	assert_int_equal(m.settings.max_bytes, 1 << 20);
	/* none any more */
	configure(s, "");
	fg_expect(s->a, VMC_L_SETTINGS, &m);
	assert_true(m.settings.max_bytes == UINT64_MAX);
	assert_int_equal(m.settings.packets, UINT32_MAX);
	fg_expect_nothing(s->a);
}

static void a_newcomer_is_told_before_it_has_peers(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c;

	configure(s, "memory = \"1M\"");
	c = fake_vm(s->f, 5);
	c->minds_settings = true;
	fg_connect(c);
	fg_expect(c, VMC_L_ATTACH, NULL);
	fg_hello(c, 0);
	fg_simple(c, VMC_L_READY, 0);
	fg_expect(c, VMC_L_SETTINGS, NULL);
	expect_add(c, 3);
	expect_add(c, 4);
}

static void a_new_vmcd_takes_back_what_the_former_said(void **state)
{
	struct scene *s = *state;
	union vmc_any_msg m;

	configure(s, "memory = \"1M\"");
	fg_drain(s->a);
	fg_drain(s->b);
	fake_stop(s->f);
	fake_start(s->f);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	fg_hello(s->a, 0);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_expect(s->a, VMC_L_SETTINGS, &m);
	assert_true(m.settings.max_bytes == UINT64_MAX);
	fg_expect_nothing(s->a);
	/* a driver that was never told of any is not told that there are none */
	fg_drain(s->b);
	fg_write(s->a, "state", "1");
	fake_settle(s->f);
	fg_connect(s->a);
	fg_expect(s->a, VMC_L_ATTACH, NULL);
	fg_hello(s->a, 0);
	fg_simple(s->a, VMC_L_READY, 0);
	fg_expect_nothing(s->a);
}

static void so_many_channels(void **state)
{
	struct scene *s = *state;
	struct fake_guest *c = fake_vm(s->f, 5);
	union vmc_any_msg m;
	uint32_t id;

	fg_ready(c);
	fg_drain(s->a);
	fg_drain(s->b);
	configure(s, "groups = { x = { names = \"vm3\"; channels = 1 } }");
	id = fg_open(s->a, s->b);
	for (int i = 0; i < 2; i++) {	/* whoever asks */
		fg_chan_req(i ? c : s->a, i ? 3 : 5);
		fg_expect(i ? c : s->a, VMC_L_CHAN_CLOSE, &m);
		assert_int_equal(m.chan_close.reason, VMC_R_LIMIT);
	}
	assert_int_not_equal(fg_open(s->b, c), 0);
	/* fewer than there are: those stay */
	configure(s, "channels = 0");
	assert_non_null(vmc_chan_end(guest(s, 3), id));
	fg_expect_nothing(s->a);
	configure(s, "");
	assert_int_not_equal(fg_open(s->a, c), 0);
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing),
		T(values),
		T(log_level),
		T(refused),
		T(all_that_is_wrong_is_told),
		T(a_long_word),
		T(files),
		T(a_long_path),
		T(the_first_counts),
		T(members),
		T(one_that_is_on_its_way),
		T(rules),
		T(settings_of_guests),
		T(a_pair_is_forbidden_and_allowed),
		T(another_name_counts_at_once),
		T(guests_are_told_what_they_may_use),
		T(a_newcomer_is_told_before_it_has_peers),
		T(a_new_vmcd_takes_back_what_the_former_said),
		T(so_many_channels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
