# SPDX-License-Identifier: GPL-2.0-or-later
# vmcd in a host made of memory.
add_library(vmcd_fake STATIC test_vmcd_fake.c)
target_link_libraries(vmcd_fake PUBLIC vmcd_core PkgConfig::CMOCKA)

foreach(test chan config device link prepare util)
	vmc_add_unit_test(test_vmcd_${test} SOURCES test_vmcd_${test}.c LIBS vmcd_fake)
endforeach()
vmc_add_unit_test(test_vmcd_api SOURCES test_vmcd_api.c LIBS vmcd_fake WRAP getsockopt getgrnam)
target_compile_definitions(test_vmcd_api PRIVATE
	VARLINK_FILE="${PROJECT_SOURCE_DIR}/proto/io.vmc.Manager.varlink")
