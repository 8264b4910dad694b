# SPDX-License-Identifier: MIT
# Stands in for CPM.cmake, of which it does what its documentation says of the one line that README.md has:
# a package is fetched and added, unless CPM_<name>_SOURCE names a folder, which is added instead.
include(FetchContent)
macro(CPMAddPackage)
  cmake_parse_arguments(package "" "NAME;VERSION;URL" "" ${ARGN})
  if(package_UNPARSED_ARGUMENTS OR NOT package_VERSION)
    message(FATAL_ERROR "CPMAddPackage: '${ARGN}'")
  endif()
  if(CPM_${package_NAME}_SOURCE)
    add_subdirectory(${CPM_${package_NAME}_SOURCE} ${package_NAME} EXCLUDE_FROM_ALL)
  else()
    FetchContent_Declare(${package_NAME} URL ${package_URL})
    FetchContent_MakeAvailable(${package_NAME})
  endif()
endmacro()
