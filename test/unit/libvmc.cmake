# SPDX-License-Identifier: GPL-2.0-or-later
vmc_add_unit_test(test_libvmc SOURCES test_libvmc.c varlink_server.c LIBS vmc)
vmc_add_unit_test(test_vmcctl SOURCES test_vmcctl.c varlink_server.c LIBS vmcctl_parts)
if(TARGET vmcd_core)
	vmc_add_unit_test(test_vmcctl_vmcd SOURCES test_vmcctl_vmcd.c LIBS vmcd_fake)
	target_compile_definitions(test_vmcctl_vmcd PRIVATE VMCCTL="$<TARGET_FILE:vmcctl>")
	add_dependencies(test_vmcctl_vmcd vmcctl)
endif()
