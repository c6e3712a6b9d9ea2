// SPDX-License-Identifier: GPL-2.0-or-later
/* Domains come and go; their devices, attach, refusal, the driver's reload. */
#include "test_vmcd_fake.h"

#include "guest.h"
#include "link.h"
#include "store.h"

static int setup(void **state)
{
	*state = fake_new();
	return 0;
}

static int teardown(void **state)
{
	fake_free(*state);
	return 0;
}

/* ------------------------------------------------------------------ the device */

static void device_nodes(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);

	assert_string_equal(fg_front(g, "backend"), "/local/domain/0/backend/vmc/3/0");
	assert_string_equal(fg_front(g, "backend-id"), "0");
	assert_string_equal(fg_front(g, "state"), "1");
	assert_string_equal(fg_back(g, "frontend"), "/local/domain/3/device/vmc/0");
	assert_string_equal(fg_back(g, "frontend-id"), "3");
	assert_string_equal(fg_back(g, "online"), "1");
	assert_string_equal(fg_back(g, "state"), "2");

	assert_string_equal(fake_perms(f, "/local/domain/3/device/vmc"), "n0,r3");
	assert_string_equal(fake_perms(f, "/local/domain/3/device/vmc/0"), "n3,r0");
	assert_string_equal(fake_perms(f, "/local/domain/3/device/vmc/0/state"), "n3,r0");
	assert_string_equal(fake_perms(f, "/local/domain/3/device/vmc/0/backend"), "n3,r0");
	assert_string_equal(fake_perms(f, "/local/domain/0/backend/vmc/3/0"), "n0,r3");
	assert_string_equal(fake_perms(f, "/local/domain/0/backend/vmc/3/0/state"), "n0,r3");
}

static void device_for_guests_that_run_already(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g = fake_vm(f, 3);

	fake_start(f);
	assert_string_equal(fg_back(g, "state"), "2");
}

static void device_when_the_vif_comes(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_domain(f, 3, "vm3");
	fake_introduce_event(f);
	fake_settle(f);
	assert_null(fg_back(g, "state"));

	fake_vif(f, 3, 0, "00:16:3e:00:00:03", NULL);	/* not on a bridge */
	fake_settle(f);
	assert_null(fg_back(g, "state"));
	fake_write(f, "/local/domain/0/backend/vif/3/0/bridge", "xenbr0");
	fake_settle(f);
	assert_string_equal(fg_back(g, "state"), "2");
}

static void device_survives_conflicts(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	f->tx_conflicts = 5;
	g = fake_vm(f, 3);
	fake_settle(f);
	assert_string_equal(fg_back(g, "state"), "2");
}

static void device_not_for_a_home_that_is_gone(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_domain(f, 3, "vm3");
	fake_rm(f, "/local/domain/3");
	fake_vif(f, 3, 0, "00:16:3e:00:00:03", "xenbr0");
	fake_introduce_event(f);
	fake_settle(f);
	assert_null(fg_front(g, ""));
	assert_null(fg_back(g, ""));
	assert_null(fake_read(f, "/local/domain/3"));
}

static void device_replaces_leftovers(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	/* of a domain with the same id that died while there was no vmcd */
	fake_write(f, "/local/domain/0/backend/vmc/3/0/state", "4");
	fake_write(f, "/local/domain/0/backend/vmc/3/0/error", "old");
	g = fake_vm(f, 3);
	fake_start(f);
	assert_string_equal(fg_back(g, "state"), "2");
	assert_null(fg_back(g, "error"));
	assert_string_equal(fg_front(g, "state"), "1");
}

static void bad_macs_make_no_device(void **state)
{
	static const char *const bad[] = {
		"", "00:16:3e:00:00", "00:16:3e:00:00:0g", "01:16:3e:00:00:03",
		"00:00:00:00:00:00", "00:16:3e:00:00:03:04", "00-16-3e-00-00-03",
	};
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_domain(f, 3, "vm3");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_vif(f, 3, (unsigned int)i, bad[i], "xenbr0");
		fake_introduce_event(f);
		fake_settle(f);
		assert_null(fg_back(g, "state"));
	}
}

/* ------------------------------------------------------------- guests leave */

static void destroyed(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;
	unsigned int watches;

	fake_start(f);
	watches = fake_watches(f);
	g = fake_vm(f, 3);
	fg_ready(g);
	fg_assert_attached(g);
	assert_int_equal(fake_watches(f), watches + 2);
	fake_destroy(g);
	fake_settle(f);
	assert_int_equal(g->mapped, 0);
	assert_int_equal(g->local_port, 0);
	assert_null(fake_read(f, "/local/domain/0/backend/vmc/3"));
	assert_null(fake_read(f, "/local/domain/3"));
	assert_null(vmc_guest_by_domid(f->d, 3));
	assert_int_equal(fake_watches(f), watches);
}

static void leaves_by(struct fake *f, void (*how)(struct vmc_dominfo *info), bool gone)
{
	struct fake_guest *g, *peer;
	union vmc_any_msg m;

	fake_start(f);
	g = fake_vm(f, 3);
	peer = fake_vm(f, 4);
	fg_ready(g);
	fg_ready(peer);
	how(&g->info);
	fake_release_event(f);
	fake_settle(f);
	if (gone) {
		fg_expect(peer, VMC_L_PEER_DEL, &m);
		assert_int_equal(m.peer_del.domid, 3);
		assert_int_equal(m.peer_del.reason, VMC_R_PEER_GONE);
		assert_int_equal(g->mapped, 0);
		assert_int_equal(g->local_port, 0);
		assert_null(fg_back(g, ""));
		/* still listed: it does not come back */
		fake_introduce_event(f);
		fake_settle(f);
		assert_null(fg_back(g, ""));
		fg_expect_nothing(peer);
	} else {
		fg_expect_nothing(peer);
		fg_assert_attached(g);
	}
}

static void set_dying(struct vmc_dominfo *info)
{
	info->dying = true;
}

static void set_crashed(struct vmc_dominfo *info)
{
	info->shutdown = true;
	info->crashed = true;
}

static void set_shutdown(struct vmc_dominfo *info)
{
	info->shutdown = true;
}

static void set_suspended(struct vmc_dominfo *info)
{
	info->shutdown = true;
	info->suspended = true;
}

static void dying(void **state)
{
	leaves_by(*state, set_dying, true);
}

static void crashed(void **state)
{
	leaves_by(*state, set_crashed, true);
}

static void shut_down(void **state)
{
	leaves_by(*state, set_shutdown, true);
}

static void suspended(void **state)
{
	leaves_by(*state, set_suspended, false);
}

static void domid_used_again(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fg_ready(g);
	/* between two scans: destroyed, and another one made */
	g->info.uuid[0] ^= 1;
	fg_write(g, "state", "1");
	fake_introduce_event(f);
	fake_settle(f);
	assert_int_equal(g->mapped, 0);
	assert_string_equal(fg_front(g, "state"), "1");
	assert_string_equal(fg_back(g, "state"), "2");
	fg_ready(g);
	fg_assert_attached(g);
}

static void a_failed_list_forgets_nobody(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fg_ready(g);
	f->list_error = -EIO;
	vmc_log_init((enum vmc_log_level)0, VMC_LOG_TO_STDERR);
	fake_release_event(f);
	fake_settle(f);
	fg_assert_attached(g);
	f->list_error = 0;
}

/* ----------------------------------------------------------------- attach */

static void attach(void **state)
{
	struct fake *f = *state;
	union vmc_any_msg m;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	fg_connect(g);
	fg_assert_attached(g);
	assert_true(g->rung >= 1);
	fg_expect(g, VMC_L_ATTACH, &m);
	assert_int_equal(m.attach.version, 1);
	assert_int_equal(m.attach.domid, 3);
	assert_int_not_equal(m.attach.epoch, 0);
	fg_hello(g, 0);
	fg_simple(g, VMC_L_READY, 0);
	fg_assert_attached(g);
	assert_true(vmc_link_ready(vmc_guest_by_domid(f->d, 3)));
	assert_string_equal(vmc_guest_by_domid(f->d, 3)->driver, "test-1.0");
}

static void refused_nodes(void **state)
{
	static const struct {
		const char *node;
		const char *value;	/* NULL: removed */
		const char *error;
	} cases[] = {
		{ "ring-ref0", NULL, "ring-ref0" },
		{ "ring-ref3", "", "ring-ref3" },
		{ "ring-ref1", "-1", "ring-ref1" },
		{ "ring-ref1", "4294967296", "ring-ref1" },
		{ "ring-ref1", "99999999999999999999", "ring-ref1" },
		{ "ring-ref1", "0x10", "ring-ref1" },
		{ "ring-ref1", " 10", "ring-ref1" },
		{ "ring-ref2", "7", "ring-ref2" },	/* reserved */
		{ "ring-ref2", "12", "cannot map" },
		{ "event-channel", NULL, "event-channel" },
		{ "event-channel", "0", "event-channel" },
		{ "event-channel", "131072", "event-channel" },
		{ "event-channel", "131071", "cannot bind" },
		{ "protocol-min", NULL, "protocol-min" },
		{ "protocol-min", "0", "protocol-min" },
		{ "protocol-min", "2", "protocol-max" },	/* above max */
		{ "protocol-max", NULL, "protocol-max" },
		{ "protocol-max", "1.0", "protocol-max" },
	};
	struct fake *f = *state;
	struct fake_guest *g;
	char path[VMC_XEN_PATH_MAX];

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fg_publish(g);
		vmc_store_front_path(path, 3, cases[i].node);
		if (cases[i].value)
			fake_write(f, path, cases[i].value);
		else
			fake_rm(f, path);
		fg_write(g, "state", "4");
		fake_run(f, 30);
		fg_assert_refused(g, cases[i].error);
		assert_string_equal(vmc_guest_state_name(vmc_guest_by_domid(f->d, 3)),
				    "refused");
		/* the driver is loaded again */
		fg_write(g, "state", "1");
		fake_run(f, 30);
		assert_string_equal(fg_back(g, "state"), "2");
		assert_null(fg_back(g, "error"));
	}
	fg_ready(g);
	fg_assert_attached(g);
}

static void refused_same_ref_twice(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;
	char text[16];

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	fg_publish(g);
	snprintf(text, sizeof(text), "%u", g->ref);
	fg_write(g, "ring-ref1", text);
	fg_write(g, "state", "4");
	fg_assert_refused(g, "ring-ref1");
}

static void refused_huge_and_binary_values(void **state)
{
	char path[VMC_XEN_PATH_MAX], huge[3000];
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	memset(huge, '1', sizeof(huge));
	vmc_store_front_path(path, 3, "event-channel");
	fg_publish(g);
	fake_write_raw(f, path, huge, sizeof(huge));
	fg_write(g, "state", "4");
	fg_assert_refused(g, "event-channel");

	fg_write(g, "state", "1");
	fake_settle(f);
	fg_publish(g);
	fake_write_raw(f, path, "10\0" "1", 4);
	fg_write(g, "state", "4");
	fg_assert_refused(g, "event-channel");

	/* the driver's version is text for people: cleaned, never a reason to refuse */
	fg_write(g, "state", "1");
	fake_settle(f);
	fg_publish(g);
	fg_write(g, "driver-version", "v\033[31m1\xff");
	fg_write(g, "state", "4");
	fg_assert_attached(g);
	assert_string_equal(vmc_guest_by_domid(f->d, 3)->driver, "v?[31m1?");

	/* and a state that is rubbish says nothing */
	vmc_store_front_path(path, 3, "state");
	fake_write_raw(f, path, huge, sizeof(huge));
	fg_assert_attached(g);
	fake_write_raw(f, path, "4\0", 2);
	fg_assert_attached(g);
	fake_write(f, path, "99");
	fg_assert_attached(g);
	fake_write(f, path, "");
	fg_assert_attached(g);
}

static void refused_version(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	fg_publish(g);
	fg_write(g, "protocol-min", "2");
	fg_write(g, "protocol-max", "7");
	fg_write(g, "state", "4");
	fg_assert_refused(g, "no common protocol version");

	/* a newer driver that still speaks ours */
	fg_write(g, "state", "1");
	fake_settle(f);
	fg_publish(g);
	fg_write(g, "protocol-max", "4294967295");
	fg_write(g, "state", "4");
	fg_assert_attached(g);
}

static void refused_by_xen(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	f->map_error = -ENOMEM;
	fg_connect(g);
	fg_assert_refused(g, "cannot map");
	f->map_error = 0;
	fg_write(g, "state", "1");
	fake_settle(f);
	f->bind_error = -EINVAL;
	fg_connect(g);
	fg_assert_refused(g, "cannot bind");
	f->bind_error = 0;
}

static void refused_stays_refused(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	fg_publish(g);
	fg_write(g, "event-channel", "0");
	fg_write(g, "state", "4");
	fg_assert_refused(g, "event-channel");
	/* good values don't help while the driver is the same */
	fg_publish(g);
	fg_write(g, "state", "4");
	fg_assert_refused(g, "event-channel");
	/* it reacts to our state 6, and closes */
	fg_write(g, "state", "6");
	fg_assert_refused(g, "event-channel");
	assert_string_equal(fg_front(g, "state"), "6");
	/* a restart of vmcd is not a reload of the driver */
	fake_stop(f);
	fake_start(f);
	fg_assert_refused(g, "event-channel");
	/* loaded again: 6, and 4 at once */
	fg_publish(g);
	fg_write(g, "state", "4");
	fg_assert_attached(g);
}

static void impossible_ring_positions(void **state)
{
	struct fake *f = *state;
	struct vmc_ring_hdr *h;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	for (int i = 0; i < 4; i++) {
		fg_publish(g);
		h = (void *)(g->pages + (i < 3 ? 0 : 2 * VMC_PAGE_SIZE));
		switch (i) {
		case 0:
			h->prod = (uint64_t)10000 << 1;	/* more than a ring unread */
			break;
		case 1:
			h->cons = 8;			/* read what was not written */
			break;
		case 2:
			h->prod = 1;			/* closed */
			break;
		default:
			h->prod = (uint64_t)5000 << 1;
			break;
		}
		fg_write(g, "state", "4");
		fake_run(f, 30);
		fg_assert_refused(g, "impossible index");
		fg_write(g, "state", "1");
		fake_run(f, 30);
	}
}

/* --------------------------------------------------------- the driver's life */

static void unload_and_load(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g, *peer;
	union vmc_any_msg m;

	fake_start(f);
	g = fake_vm(f, 3);
	peer = fake_vm(f, 4);
	fg_ready(peer);
	for (int i = 0; i < 3; i++) {
		fg_ready(g);
		fg_simple(g, VMC_L_BYE, 0);
		assert_int_equal(g->mapped, 0);
		assert_int_equal(g->local_port, 0);
		assert_string_equal(fg_back(g, "state"), "4");
		fg_expect(peer, VMC_L_PEER_DEL, &m);
		assert_int_equal(m.peer_del.domid, 3);
		fg_write(g, "state", "6");
		fake_run(f, 30);
		assert_string_equal(fg_front(g, "state"), "1");
		assert_string_equal(fg_back(g, "state"), "2");
	}
	fg_ready(g);
	fg_assert_attached(g);
}

static void unload_without_bye(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fg_ready(g);
	fg_write(g, "state", "5");
	fake_settle(f);
	assert_int_equal(g->mapped, 0);
	fg_write(g, "state", "6");
	fake_settle(f);
	assert_string_equal(fg_front(g, "state"), "1");
	assert_string_equal(fg_back(g, "state"), "2");
	fg_ready(g);
	fg_assert_attached(g);
}

static void reload_faster_than_vmcd_looks(void **state)
{
	struct vmc_msg bye = { VMC_L_BYE, sizeof(bye), 0 };
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	/* vmcd sees BYE, and then 4 instead of 6 */
	for (int i = 0; i < 2; i++) {
		fg_ready(g);
		fg_put(g, &bye);
		fg_notify(g);
		if (i)
			fake_settle(f);	/* unmapped: the same references come again */
		fg_write(g, "state", "6");
		if (i) {
			memset(g->pages, 0, VMC_LINK_PAGES * (size_t)VMC_PAGE_SIZE);
			vmc_ring_cons_init(&g->cons, (void *)g->pages, VMC_MSG_RING_SIZE);
		} else {
			fg_publish(g);
		}
		fg_write(g, "state", "4");
		fg_expect(g, VMC_L_ATTACH, NULL);
		fg_expect_nothing(g);
		fg_assert_attached(g);
		fg_write(g, "state", "6");
		fake_run(f, 30);
	}
}

static void restarted_frontend(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g, *peer;
	union vmc_any_msg m;

	fake_start(f);
	g = fake_vm(f, 3);
	peer = fake_vm(f, 4);
	fg_ready(peer);
	fg_ready(g);
	fg_write(g, "state", "4");	/* nothing new */
	fg_assert_attached(g);
	fg_expect_nothing(peer);
	fg_connect(g);			/* new pages and port, and no word before */
	fg_assert_attached(g);
	fg_expect(peer, VMC_L_PEER_DEL, &m);
	fg_expect(g, VMC_L_ATTACH, NULL);
}

static void frontend_removed(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g, *peer;
	union vmc_any_msg m;

	fake_start(f);
	g = fake_vm(f, 3);
	peer = fake_vm(f, 4);
	fg_ready(peer);
	fg_ready(g);
	fake_rm(f, "/local/domain/3/device/vmc/0");
	fake_settle(f);
	assert_int_equal(g->mapped, 0);
	fg_expect(peer, VMC_L_PEER_DEL, &m);
	assert_string_equal(vmc_guest_state_name(vmc_guest_by_domid(f->d, 3)), "gone");
	assert_null(fg_front(g, ""));
	/* the guest makes one by hand: vmcd has nothing to do with it */
	fg_publish(g);
	fg_write(g, "state", "4");
	fake_settle(f);
	assert_int_equal(g->mapped, 0);
	fake_destroy(g);
	fake_settle(f);
	assert_null(fake_read(f, "/local/domain/0/backend/vmc/3"));
}

static void flapping_frontend(void **state)
{
	struct fake *f = *state;
	struct fake_guest *g;

	fake_start(f);
	g = fake_vm(f, 3);
	fake_settle(f);
	for (int i = 0; i < 300; i++) {
		fg_publish(g);
		fg_write(g, "event-channel", "0");
		fg_write(g, "state", "4");
		event_base_loop(f->base, EVLOOP_NONBLOCK);
		fg_write(g, "state", "1");
		event_base_loop(f->base, EVLOOP_NONBLOCK);
	}
	fake_run(f, 100);
	assert_string_equal(fg_back(g, "state"), "2");
	fg_ready(g);
	fake_run(f, 100);
	fg_assert_attached(g);
}

static void lost_xenstored(void **state)
{
	struct fake *f = *state;

	fake_start(f);
	vmc_log_init((enum vmc_log_level)0, VMC_LOG_TO_STDERR);
	f->store_dead = true;
	fake_introduce_event(f);
	fake_settle(f);
	assert_int_equal(f->d->exit_code, EXIT_FAILURE);
}

static void no_watches(void **state)
{
	struct fake *f = *state;
	struct vmcd *d;

	vmc_log_init((enum vmc_log_level)0, VMC_LOG_TO_STDERR);
	f->watch_error = -EACCES;
	assert_int_equal(vmcd_new(&d, f->base, &f->xen), -EACCES);
}

static void names_follow(void **state)
{
	struct fake *f = *state;
	struct vmc_guest *g;

	fake_start(f);
	fake_vm(f, 3);
	fake_settle(f);
	g = vmc_guest_by_domid(f->d, 3);
	assert_string_equal(g->name, "vm3");
	fake_write(f, "/local/domain/3/name", "web--incoming");
	fake_settle(f);
	assert_string_equal(g->name, "web--incoming");
	fake_write(f, "/local/domain/3/name", "web");
	fake_settle(f);
	assert_string_equal(g->name, "web");
}

#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(device_nodes),
		T(device_for_guests_that_run_already),
		T(device_when_the_vif_comes),
		T(device_survives_conflicts),
		T(device_not_for_a_home_that_is_gone),
		T(device_replaces_leftovers),
		T(bad_macs_make_no_device),
		T(destroyed),
		T(dying),
		T(crashed),
		T(shut_down),
		T(suspended),
		T(domid_used_again),
		T(a_failed_list_forgets_nobody),
		T(attach),
		T(refused_nodes),
		T(refused_same_ref_twice),
		T(refused_huge_and_binary_values),
		T(refused_version),
		T(refused_by_xen),
		T(refused_stays_refused),
		T(impossible_ring_positions),
		T(unload_and_load),
		T(unload_without_bye),
		T(reload_faster_than_vmcd_looks),
		T(restarted_frontend),
		T(frontend_removed),
		T(flapping_frontend),
		T(lost_xenstored),
		T(no_watches),
		T(names_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
