# SPDX-License-Identifier: MIT
# A port that lies in the sources: vcpkg install eigenheads --overlay-ports=<clone>/.packaging/vcpkg. In
# a registry, vcpkg_from_github(...) takes the place of the next line, and all else stays.
set(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../..")
set(VCPKG_BUILD_TYPE release) # headers are the same in both

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DEIGENHEADS_BUILD_TESTS=OFF -DEIGENHEADS_BUILD_EXAMPLES=OFF -DEIGENHEADS_FETCH_EIGEN=OFF
          -DEIGENHEADS_MPI=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/eigenheads)
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/cmake") # empty now
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
