# SPDX-License-Identifier: MIT
# cmake -DPREFIX=... -P portfile.cmake: runs the port for vcpkg where there is no vcpkg, into PREFIX. The
# functions below do what vcpkg's do to a package of headers, and refuse what vcpkg's do not take.
cmake_minimum_required(VERSION 3.22)
set(PORT eigenheads)
set(CURRENT_PACKAGES_DIR ${PREFIX})
cmake_path(ABSOLUTE_PATH CMAKE_CURRENT_LIST_DIR NORMALIZE OUTPUT_VARIABLE here)
set(port ${here}/../../.packaging/vcpkg/${PORT})

function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
  if(arg_UNPARSED_ARGUMENTS OR NOT EXISTS ${arg_SOURCE_PATH}/CMakeLists.txt)
    message(FATAL_ERROR "vcpkg_cmake_configure: '${ARGN}'")
  endif()
  # vcpkg asks that every option is one of the project's.
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${arg_SOURCE_PATH} -B ${PREFIX}.build ${arg_OPTIONS}
            --warn-unused-vars -DCMAKE_INSTALL_PREFIX=${PREFIX} -DCMAKE_BUILD_TYPE=Release
    OUTPUT_QUIET ERROR_VARIABLE warnings COMMAND_ERROR_IS_FATAL ANY)
  if(warnings)
    message(FATAL_ERROR "vcpkg_cmake_configure: ${warnings}")
  endif()
endfunction()

function(vcpkg_cmake_install)
  execute_process(COMMAND ${CMAKE_COMMAND} --install ${PREFIX}.build OUTPUT_QUIET
                  COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Moves the files to where vcpkg looks for them, and lets them find their prefix from there.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "CONFIG_PATH" "")
  if(arg_UNPARSED_ARGUMENTS OR NOT EXISTS ${PREFIX}/${arg_CONFIG_PATH}/eigenheadsConfig.cmake)
    message(FATAL_ERROR "vcpkg_cmake_config_fixup: '${ARGN}'")
  endif()
  file(RENAME ${PREFIX}/${arg_CONFIG_PATH} ${PREFIX}/share/${PORT})
  set(up [[get_filename_component(_IMPORT_PREFIX "${_IMPORT_PREFIX}" PATH)]])
  file(READ ${PREFIX}/share/${PORT}/eigenheadsTargets.cmake text)
  string(REPLACE "${up}\n${up}\n${up}\n" "${up}\n${up}\n" text "${text}")
  file(WRITE ${PREFIX}/share/${PORT}/eigenheadsTargets.cmake "${text}")
endfunction()

function(vcpkg_fixup_pkgconfig)
  if(ARGN OR NOT EXISTS ${PREFIX}/share/pkgconfig/eigenheads.pc)
    message(FATAL_ERROR "vcpkg_fixup_pkgconfig: '${ARGN}'")
  endif()
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
  file(INSTALL ${arg_FILE_LIST} DESTINATION ${PREFIX}/share/${PORT} RENAME copyright)
endfunction()

# Included, so that CMAKE_CURRENT_LIST_DIR is the port's, as in vcpkg.
include(${port}/portfile.cmake)

foreach(file IN ITEMS usage copyright eigenheadsConfig.cmake eigenheadsConfigVersion.cmake)
  if(NOT EXISTS ${PREFIX}/share/${PORT}/${file})
    message(FATAL_ERROR "The port installed no share/${PORT}/${file}")
  endif()
endforeach()
if(EXISTS ${PREFIX}/share/cmake OR EXISTS ${PREFIX}/debug)
  message(FATAL_ERROR "The port left share/cmake or debug, which vcpkg refuses")
endif()

file(READ ${port}/vcpkg.json manifest)
string(JSON version GET "${manifest}" version)
foreach(key IN ITEMS name license description dependencies)
  string(JSON ${key} GET "${manifest}" ${key})
endforeach()
file(STRINGS ${PREFIX}/share/pkgconfig/eigenheads.pc line REGEX "^Version: ${version}$")
if(NOT line OR NOT name STREQUAL PORT OR NOT license STREQUAL "MIT")
  message(FATAL_ERROR "vcpkg.json is of ${name} ${version}, ${license}")
endif()
