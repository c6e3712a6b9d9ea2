# SPDX-License-Identifier: GPL-2.0-or-later
#
# CPack runs this with the files of the packages laid out: manuals and changelogs are compressed.
file(GLOB_RECURSE texts
	${CPACK_TEMPORARY_DIRECTORY}/*/usr/share/man/man*/*.[0-9]
	${CPACK_TEMPORARY_DIRECTORY}/*/usr/share/doc/*/changelog)
if(texts)
	execute_process(COMMAND gzip -9nf ${texts} COMMAND_ERROR_IS_FATAL ANY)
endif()
