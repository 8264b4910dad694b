# SPDX-License-Identifier: MIT
# What cpack makes, in a build directory:
#   cpack -G DEB                              libeigenheads-dev_<version>_all.deb (on Debian)
#   cpack -G TGZ                              eigenheads-<version>-headers.tar.gz: what is installed
#   cpack --config CPackSourceConfig.cmake    eigenheads-<version>.tar.gz: the sources
# The same sources give the same bytes, whenever and wherever: unless SOURCE_DATE_EPOCH says
# otherwise, all files are of the day of the release, which the changelog names.
set(notes .github/CHANGELOG.md)
file(STRINGS ${notes} release REGEX "^## ${PROJECT_VERSION}, [0-9]+-[0-9]+-[0-9]+$")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${notes})
set(release_epoch 0) # not released yet
if(release MATCHES "([0-9]+)-0?([0-9]+)-0?([0-9]+)$")
  # Days since 1970-01-01, of years that begin in March.
  math(EXPR month "(${CMAKE_MATCH_2} + 9) % 12")
  math(EXPR year "${CMAKE_MATCH_1} - ${month} / 10")
  math(EXPR days "365 * ${year} + ${year} / 4 - ${year} / 100 + ${year} / 400
                  + (153 * ${month} + 2) / 5 + ${CMAKE_MATCH_3} - 719469")
  math(EXPR release_epoch "86400 * ${days}")
endif()

set(CPACK_PACKAGE_VENDOR "The Eigenheads authors")
set(CPACK_PACKAGE_CONTACT "${CPACK_PACKAGE_VENDOR} <authors@eigenheads.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_FILE_NAME ${PROJECT_NAME}-${PROJECT_VERSION}-headers)
set(CPACK_PACKAGE_CHECKSUM SHA256)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_THREADS 1) # several cut a compressed file in as many places
set(CPACK_GENERATOR TGZ)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/.cmake/packaging_options.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/.cmake/packaging_permissions.cmake)
set(CPACK_POST_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/.cmake/packaging_archive.cmake)
set(CPACK_EIGENHEADS_EPOCH ${release_epoch})
set(CPACK_EIGENHEADS_BUILD ${PROJECT_BINARY_DIR})

set(CPACK_SOURCE_GENERATOR TGZ)
set(CPACK_SOURCE_PACKAGE_FILE_NAME ${PROJECT_NAME}-${PROJECT_VERSION})
string(REGEX REPLACE "([+.*()?])" "[\\1]" folder "${PROJECT_SOURCE_DIR}")
set(CPACK_SOURCE_IGNORE_FILES "^${folder}/(build|out|[.]git)/" "^${folder}/[.]git$" "/__pycache__/")

# Each archive has what belongs beside the headers in it: see packaging_options.cmake.
install(FILES LICENSE DESTINATION . COMPONENT archive EXCLUDE_FROM_ALL)

find_program(GZIP_PROGRAM gzip)
mark_as_advanced(GZIP_PROGRAM)
if(GZIP_PROGRAM)
  list(APPEND CPACK_GENERATOR DEB)
  set(CPACK_DEBIAN_PACKAGE_NAME libeigenheads-dev)
  set(CPACK_DEBIAN_PACKAGE_SOURCE eigenheads)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
  set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
  set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= ${EIGENHEADS_EIGEN_MIN})")
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS
      "cmake (>= 3.22), libopenmpi-dev | libmpich-dev, nlohmann-json3-dev, pkgconf")
  set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
      "Multi-head attention in C++20, for inference and training, with masks, score
functions, packed sequences and cached decoding. It runs at the speed of the
CPU from a plain -O2 build, with the same bits from every compiler.
.
This package contains headers, which are all of the library, and files for
CMake and pkg-config.")
  set(debian ${PROJECT_BINARY_DIR}/debian)
  set(epoch_before "$ENV{SOURCE_DATE_EPOCH}")
  set(ENV{SOURCE_DATE_EPOCH} ${release_epoch})
  string(TIMESTAMP release_date "%a, %d %b %Y %H:%M:%S +0000" UTC)
  set(ENV{SOURCE_DATE_EPOCH} "${epoch_before}")
  configure_file(.packaging/debian/changelog.in ${debian}/changelog @ONLY)
  configure_file(${notes} ${debian}/NEWS COPYONLY)
  foreach(file IN ITEMS changelog NEWS)
    execute_process(COMMAND ${GZIP_PROGRAM} -9nc ${debian}/${file} OUTPUT_FILE ${debian}/${file}.gz
                    COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
  install(FILES ${debian}/changelog.gz ${debian}/NEWS.gz .packaging/debian/copyright
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_PACKAGE_NAME}
          COMPONENT debian EXCLUDE_FROM_ALL)
endif()
include(CPack)
