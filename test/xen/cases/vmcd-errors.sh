# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# What vmcd and vmcctl say when they can't work, and their statuses.
# limit: 120
fails() {	# WHAT PATTERN COMMAND-IN-DOM0
	local said status=0
	said=$(LIMIT=20 dom0 "$3" 2>&1) || status=$?
	echo "$1: status $status: $said"
	[ $status -ne 0 ] || die "$1: success"
	[ $status -ne 124 ] || die "$1: no end"
	assert_match "$said" "$2" "$1"
}

vmcd="\$(command -v vmcd) --foreground --socket /tmp/errors.sock"
fails "no /dev/xen" "/dev/xen/" "unshare -m sh -c 'mount -t tmpfs none /dev/xen && exec $vmcd'"
fails "no gntdev" "/dev/xen/gntdev" "unshare -m sh -c 'mkdir -p /tmp/x && mount --bind /dev/xen /tmp/x && mount -t tmpfs none /dev/xen &&
	for i in evtchn privcmd xenbus hypercall; do touch /dev/xen/\$i && mount --bind /tmp/x/\$i /dev/xen/\$i; done; exec $vmcd'"
fails "no xenstored" "[Xx]en[Ss]tore" "unshare -m sh -c 'mount -t tmpfs none /run/xenstored; mount -t tmpfs none /var/run/xenstored
	mount --bind /dev/null /dev/xen/xenbus; mount --bind /dev/null /proc/xen/xenbus; exec $vmcd'"
fails "not root" "root|right|ermission" "setpriv --reuid 65534 --regid 65534 --clear-groups $vmcd"
fails "a second vmcd" "another vmcd is running" "\$(command -v vmcd) --foreground"
fails "a folder that is not there" "/no/such/" "\$(command -v vmcd) --foreground --socket /no/such/vmcd.sock"
fails "an unknown option" "--unknown" "\$(command -v vmcd) --unknown"
vmcd_active || die "the vmcd that was running is not any more"

status() {	# WANT COMMAND-IN-DOM0
	local status=0
	dom0 "$2" >"$work/status.out" 2>&1 || status=$?
	cat "$work/status.out"
	assert_eq $status "$1" "status of $2"
}
status 0 "vmcctl status"
status 2 "vmcctl no-such-command"
status 4 "vmcctl show no-such-guest"
status 0 "vmcctl doctor"
for guest in g1 g2 g3; do assert_match "$(cat "$work/status.out")" "ok +$guest \(d[0-9]+\): driver" "vmcctl doctor"; done
assert_match "$(cat "$work/status.out")" "xl migrate prepare guests" "vmcctl doctor"
dom0 "systemctl stop vmcd.socket vmcd"
status 3 "vmcctl list"
assert_match "$(cat "$work/status.out")" "vmcd" "vmcctl without vmcd"
status 3 "vmcctl --json channels"
status 1 "vmcctl doctor"
assert_match "$(cat "$work/status.out")" "problem +cannot talk to vmcd: .*not running" "vmcctl doctor without vmcd"
dom0 "systemctl start vmcd.socket vmcd"
status 0 "vmcctl list"
for guest in $(all_guests); do wait_for 20 "connected $guest" "$guest connected"; done
