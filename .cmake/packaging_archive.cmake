# SPDX-License-Identifier: MIT
# What cpack runs for an archive that it has made; packaging.cmake beside this names it. CPack takes
# files in the order in which the disk lists them, and with the permissions of the checkout. So a .tar.gz
# is made once more, in the order of names (a .deb is in that order).
find_program(TAR_PROGRAM tar)
find_program(GZIP_PROGRAM gzip)
execute_process(COMMAND ${TAR_PROGRAM} --version OUTPUT_VARIABLE version ERROR_QUIET)
if(NOT CPACK_PACKAGE_FILES MATCHES "[.]tar[.]gz$" OR NOT GZIP_PROGRAM OR NOT version MATCHES "GNU tar")
  return()
endif()
cmake_path(GET CPACK_TEMPORARY_DIRECTORY PARENT_PATH parent)
cmake_path(GET CPACK_TEMPORARY_DIRECTORY FILENAME folder)
execute_process(
  COMMAND ${TAR_PROGRAM} --format=gnu --sort=name --mtime=@$ENV{SOURCE_DATE_EPOCH} --owner=0 --group=0
          --numeric-owner --mode=u=rwX,go=rX -C ${parent} -cf - ${folder}
  COMMAND ${GZIP_PROGRAM} -9n
  OUTPUT_FILE ${CPACK_PACKAGE_FILES} COMMAND_ERROR_IS_FATAL ANY)
