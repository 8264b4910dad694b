# SPDX-License-Identifier: MIT
# What cpack reads once for each archive that it makes; packaging.cmake beside this names it.
if("$ENV{SOURCE_DATE_EPOCH}" STREQUAL "")
  set(ENV{SOURCE_DATE_EPOCH} ${CPACK_EIGENHEADS_EPOCH})
endif()
if(NOT CPACK_SOURCE_INSTALLED_DIRECTORIES) # of the sources nothing is installed
  set(beside archive)
  if(CPACK_GENERATOR STREQUAL "DEB")
    set(beside debian)
  endif()
  list(APPEND CPACK_INSTALL_CMAKE_PROJECTS ${CPACK_EIGENHEADS_BUILD} eigenheads ${beside} /)
endif()
