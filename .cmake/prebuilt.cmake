# SPDX-License-Identifier: MIT
# eigenheads::prebuilt, to be linked instead of eigenheads::eigenheads by a program of many
# translation units: the library's code for float and double is compiled once, with the flags that
# hold in this directory, when the first such program is built. See eigenheads/prebuilt.hpp.
include_guard(GLOBAL)
get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT CXX IN_LIST languages OR TARGET eigenheads::prebuilt)
  return()
endif()
set(dir ${CMAKE_CURRENT_BINARY_DIR}/eigenheads_prebuilt)

# The namespace that these flags give is only known to the preprocessor. So its output is made a
# header: "# define EIGENHEADS_PREBUILT_<namespace> 1".
file(CONFIGURE OUTPUT ${dir}/namespace.cpp CONTENT [[
#include <eigenheads/version.hpp>
#define EIGENHEADS_PREBUILT_JOIN(first, second) first##second
#define EIGENHEADS_PREBUILT_NAME(space) EIGENHEADS_PREBUILT_JOIN(EIGENHEADS_PREBUILT_, space)
#define EIGENHEADS_PREBUILT_HASH #
EIGENHEADS_PREBUILT_HASH define EIGENHEADS_PREBUILT_KNOWN 1
EIGENHEADS_PREBUILT_HASH define EIGENHEADS_PREBUILT_NAME(EIGENHEADS_ABI) 1
]] @ONLY)
add_library(eigenheads_prebuilt_namespace OBJECT EXCLUDE_FROM_ALL ${dir}/namespace.cpp)
target_link_libraries(eigenheads_prebuilt_namespace PRIVATE eigenheads::eigenheads)
target_compile_options(eigenheads_prebuilt_namespace PRIVATE -E -P)
set_target_properties(eigenheads_prebuilt_namespace PROPERTIES CXX_CLANG_TIDY "")
file(CONFIGURE OUTPUT ${dir}/namespace.cmake CONTENT [[
file(STRINGS ${TEXT} lines REGEX "# define EIGENHEADS_PREBUILT_")
list(JOIN lines "\n" lines)
file(WRITE ${HEADER} "${lines}\n")
]] @ONLY)
set(namespace ${dir}/$<CONFIG>/namespace.hpp)
add_custom_command(
  OUTPUT ${namespace}
  COMMAND ${CMAKE_COMMAND} -DTEXT=$<TARGET_OBJECTS:eigenheads_prebuilt_namespace>
          -DHEADER=${namespace} -P ${dir}/namespace.cmake
  DEPENDS eigenheads_prebuilt_namespace $<TARGET_OBJECTS:eigenheads_prebuilt_namespace>
  COMMENT "Naming the namespace of eigenheads::prebuilt"
  VERBATIM)

file(CONFIGURE OUTPUT ${dir}/prebuilt.cpp CONTENT [[
#define EIGENHEADS_PREBUILT_SOURCE
#include <eigenheads/prebuilt.hpp>
]] @ONLY)
add_library(eigenheads_prebuilt STATIC EXCLUDE_FROM_ALL ${dir}/prebuilt.cpp ${namespace})
add_library(eigenheads::prebuilt ALIAS eigenheads_prebuilt)
target_link_libraries(eigenheads_prebuilt PUBLIC eigenheads::eigenheads)
target_compile_options(
  eigenheads_prebuilt INTERFACE "SHELL:-include \"${namespace}\""
                                "SHELL:-include eigenheads/prebuilt.hpp")
