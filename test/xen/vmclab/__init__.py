# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of test/xen/lab; see README.md beside it for the map."""
