# SPDX-License-Identifier: GPL-2.0-or-later
vmc_add_unit_test(test_libvmc SOURCES test_libvmc.c varlink_server.c LIBS vmc)
vmc_add_unit_test(test_vmcctl SOURCES test_vmcctl.c varlink_server.c LIBS vmcctl_parts)
vmc_add_unit_test(test_save_helper SOURCES test_save_helper.c varlink_server.c)
target_compile_definitions(test_save_helper PRIVATE VMC_SAVE_HELPER="$<TARGET_FILE:vmc-save-helper>")
add_dependencies(test_save_helper vmc-save-helper)
if(TARGET vmcd_core)
	vmc_add_unit_test(test_vmcctl_vmcd SOURCES test_vmcctl_vmcd.c LIBS vmcd_fake)
	target_compile_definitions(test_vmcctl_vmcd PRIVATE VMCCTL="$<TARGET_FILE:vmcctl>")
	add_dependencies(test_vmcctl_vmcd vmcctl)
endif()

add_test(NAME completion COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_completion
	$<TARGET_FILE:vmcctl> ${PROJECT_SOURCE_DIR}/libvmc/vmcctl)
set_tests_properties(completion PROPERTIES TIMEOUT 60 LABELS unit)
