# SPDX-License-Identifier: MIT
"""The Eigen that is installed, as a package of Conan's: for machines that reach no remote.
conan create .packaging/conan/eigen_of_the_system, before eigenheads itself."""

import os
import re

from conan import ConanFile
from conan.errors import ConanException
from conan.tools.files import load

FOLDERS = ("/usr/include/eigen3", "/usr/local/include/eigen3")


def folder():
    for path in FOLDERS:
        if os.path.exists(os.path.join(path, "unsupported/Eigen/CXX11/Tensor")):
            return path
    raise ConanException("no Eigen in " + " or ".join(FOLDERS))


class EigenOfTheSystem(ConanFile):
    name = "eigen"
    package_type = "header-library"

    def set_version(self):
        for file, words in (("Version", ("MAJOR", "MINOR", "PATCH")),  # of Eigen 5
                            ("src/Core/util/Macros.h", ("WORLD", "MAJOR", "MINOR"))):
            path = os.path.join(folder(), "Eigen", file)
            text = load(self, path) if os.path.exists(path) else ""
            numbers = [re.search(rf"#define EIGEN_{word}_VERSION (\d+)", text) for word in words]
            if all(numbers):
                self.version = ".".join(number[1] for number in numbers)
                return

    def package_info(self):
        self.cpp_info.includedirs = [folder()]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "Eigen3")
        self.cpp_info.set_property("cmake_target_name", "Eigen3::Eigen")
        self.cpp_info.set_property("pkg_config_name", "eigen3")
