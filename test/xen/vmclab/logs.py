# SPDX-License-Identifier: GPL-2.0-or-later
"""Bringing home what Dom0 and the guests have written."""

import os
import subprocess

from .remote import capture
from .util import Fail, run

# Each part bounded by itself: a hung tool must not cost us the rest.
COLLECT = r"""
rm -rf /run/lab-logs; mkdir -p /run/lab-logs; cd /run/lab-logs
keep() { name=$1; shift; timeout 5 "$@" >"$name" 2>&1; }
keep journal.txt journalctl -b --no-pager -o short-monotonic
keep vmcd.txt journalctl -b --no-pager -o short-monotonic -u vmcd.service
keep xl-dmesg.txt xl dmesg
keep xl-list.txt xl list -v
keep xl-info.txt xl info
keep xenstore.txt xenstore-ls -fp
keep dmesg.txt dmesg
keep processes.txt ps auxw
keep units.txt systemctl --no-pager --failed
keep vmcctl.txt sh -c 'command -v vmcctl >/dev/null && vmcctl status'
mkdir console; cp /var/log/xen/console/* console/ 2>/dev/null; cp /var/log/xen/*.log . 2>/dev/null
mkdir crash; for core in /var/crash/core*; do
	[ -e "$core" ] && [ "$(stat -c %s "$core")" -lt 268435456 ] && cp "$core" crash/
done
tar -czf - .; rm -rf /run/lab-logs
"""


def collect(nodes, directory, progress, seconds=40, connect=5):
    """Fetch each Dom0's logs into DIRECTORY/h1 and so on. Says what could not be had, and never fails."""
    for node in nodes:
        try:
            _, data, _ = capture(node, COLLECT, timeout=seconds, connect=connect)
            target = os.path.join(directory, node.host)
            os.makedirs(target, exist_ok=True)
            run(["tar", "-C", target, "--no-same-owner", "-xzf", "-"], input=data, stderr=subprocess.PIPE)
        except (Fail, OSError) as error:
            progress.say(f"notice: no logs from {node.host}'s Dom0 ({error}); its serial console is in {directory}")
