# SPDX-License-Identifier: GPL-2.0-or-later
vmc_add_unit_test(test_libvmc SOURCES test_libvmc.c varlink_server.c LIBS vmc)
vmc_add_unit_test(test_vmcctl SOURCES test_vmcctl.c varlink_server.c LIBS vmcctl_parts)
