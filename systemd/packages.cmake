# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian packages, by `cpack` in a build directory that was configured for /usr:
# vmcd for Dom0, libvmc0 and libvmc-dev, and vmc-guest-dkms for guests.
set(dkms ${PROJECT_SOURCE_DIR}/guest-driver/dkms)
set(deb ${PROJECT_SOURCE_DIR}/systemd/deb)
set(generated ${PROJECT_BINARY_DIR}/packages)
set(sources /usr/src/vmc-${PROJECT_VERSION})
file(GLOB driver CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/guest-driver/*.[ch])
file(GLOB wire CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.h)

configure_file(${deb}/changelog.in ${generated}/changelog @ONLY)
configure_file(${dkms}/dkms.conf.in ${generated}/dkms.conf @ONLY)
foreach(script postinst prerm)
	configure_file(${dkms}/${script}.in ${generated}/${script} @ONLY
		FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
		WORLD_READ WORLD_EXECUTE)
endforeach()
# Not of a plain installation: a guest's sources.
install(FILES ${generated}/dkms.conf DESTINATION ${sources}
	COMPONENT vmc-guest-dkms EXCLUDE_FROM_ALL)
install(FILES ${driver} ${PROJECT_SOURCE_DIR}/guest-driver/Kbuild DESTINATION ${sources}/guest-driver
	COMPONENT vmc-guest-dkms EXCLUDE_FROM_ALL)
install(PROGRAMS ${PROJECT_SOURCE_DIR}/guest-driver/build DESTINATION ${sources}/guest-driver
	COMPONENT vmc-guest-dkms EXCLUDE_FROM_ALL)
install(FILES ${wire} DESTINATION ${sources}/proto COMPONENT vmc-guest-dkms EXCLUDE_FROM_ALL)
install(FILES ${PROJECT_SOURCE_DIR}/guest-driver/vmc.4 DESTINATION /usr/share/man/man4
	COMPONENT vmc-guest-dkms EXCLUDE_FROM_ALL)
foreach(package vmcd libvmc0 libvmc-dev vmc-guest-dkms)
	install(FILES ${deb}/copyright ${generated}/changelog DESTINATION /usr/share/doc/${package}
		COMPONENT ${package} EXCLUDE_FROM_ALL)
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME vmc)
set(CPACK_PACKAGE_VENDOR VMC)
set(CPACK_PACKAGE_CONTACT "The VMC developers <vmc@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${deb}/compress.cmake)
set(CPACK_COMPONENTS_ALL vmcd libvmc0 libvmc-dev vmc-guest-dkms)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/libvmc)

set(CPACK_DEBIAN_VMCD_PACKAGE_NAME vmcd)
set(CPACK_DEBIAN_VMCD_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_VMCD_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_VMCD_PACKAGE_DEPENDS "libvmc0 (= ${PROJECT_VERSION}), systemd")
set(CPACK_DEBIAN_VMCD_PACKAGE_RECOMMENDS xen-utils-common)
set(CPACK_DEBIAN_VMCD_PACKAGE_CONTROL_EXTRA ${deb}/postinst ${deb}/prerm ${deb}/postrm ${deb}/conffiles)
set(CPACK_DEBIAN_VMCD_DESCRIPTION "Applications, kernels and the hypervisor stay as they are. This package is for
Dom0: the daemon that brokers, its command line, and what prepares guests to be
saved or migrated.")

set(CPACK_DEBIAN_LIBVMC0_PACKAGE_NAME libvmc0)
set(CPACK_DEBIAN_LIBVMC0_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBVMC0_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_LIBVMC0_PACKAGE_CONTROL_EXTRA ${deb}/shlibs ${deb}/triggers)
set(CPACK_DEBIAN_LIBVMC0_DESCRIPTION "This package is the client library of vmcd: which guests of this host talk
through shared memory, and what their channels do.")

set(CPACK_DEBIAN_LIBVMC-DEV_PACKAGE_NAME libvmc-dev)
set(CPACK_DEBIAN_LIBVMC-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBVMC-DEV_PACKAGE_DEPENDS "libvmc0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_LIBVMC-DEV_DESCRIPTION "This package has the header, the pkg-config file and the manual of libvmc, the
client library of vmcd.")

set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_NAME vmc-guest-dkms)
set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_SECTION kernel)
set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_DEPENDS "dkms")
set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_RECOMMENDS "linux-headers-amd64")
set(CPACK_DEBIAN_VMC-GUEST-DKMS_PACKAGE_CONTROL_EXTRA ${generated}/postinst ${generated}/prerm)
set(CPACK_DEBIAN_VMC-GUEST-DKMS_DESCRIPTION "Applications, kernels and the hypervisor stay as they are. This package is for
guests: the driver's sources, which DKMS builds for each kernel. udev loads it.")
include(CPack)
