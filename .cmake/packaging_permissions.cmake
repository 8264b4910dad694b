# SPDX-License-Identifier: MIT
# What cpack runs before it makes an archive; packaging.cmake beside this names it. Folders have the
# permissions that the umask left, and a package that took them from one of 077 would be nobody's but root's.
file(GLOB_RECURSE entries LIST_DIRECTORIES TRUE ${CPACK_TEMPORARY_DIRECTORY}/*)
foreach(entry IN LISTS entries)
  if(IS_DIRECTORY ${entry})
    file(CHMOD ${entry} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                                    WORLD_READ WORLD_EXECUTE)
  endif()
endforeach()
