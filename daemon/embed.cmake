# SPDX-License-Identifier: GPL-2.0-or-later
# cmake -DOUT=... -DMANAGER=... -DSERVICE=... -P embed.cmake
# Writes the interface descriptions into a C header, as arrays of bytes.
set(text "/* Made by embed.cmake. */\n")
foreach(pair "manager;${MANAGER}" "service;${SERVICE}")
	list(GET pair 0 name)
	list(GET pair 1 file)
	file(READ "${file}" bytes HEX)
	string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
	string(APPEND text "static const char vmc_varlink_${name}[] = {\n${bytes}0\n};\n")
endforeach()
file(WRITE "${OUT}" "${text}")
