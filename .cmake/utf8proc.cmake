# SPDX-License-Identifier: MIT
# utf8proc, which examples/tokenizers look characters up in, as target utf8proc if it is there; if not,
# one line says what is left out.
include_guard(GLOBAL)
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h)
find_library(UTF8PROC_LIBRARY utf8proc)
mark_as_advanced(UTF8PROC_INCLUDE_DIR UTF8PROC_LIBRARY)
if(UTF8PROC_INCLUDE_DIR AND UTF8PROC_LIBRARY)
  add_library(utf8proc INTERFACE IMPORTED GLOBAL)
  target_include_directories(utf8proc INTERFACE ${UTF8PROC_INCLUDE_DIR})
  target_link_libraries(utf8proc INTERFACE ${UTF8PROC_LIBRARY})
else()
  message(STATUS "utf8proc was not found (Debian: libutf8proc-dev): programs that need "
                 "examples/tokenizers, and their tests, are left out")
endif()
