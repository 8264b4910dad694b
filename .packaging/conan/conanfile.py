# SPDX-License-Identifier: MIT
"""Conan 2: conan create .packaging/conan, from the sources that this lies in."""

import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load
from conan.tools.layout import basic_layout
from conan.tools.scm import Version


class EigenheadsRecipe(ConanFile):
    name = "eigenheads"
    description = "Header-only multi-head attention on Eigen tensors"
    license = "MIT"
    topics = ("attention", "transformer", "eigen", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_json": [True, False]}  # for safetensors and checkpoints, in eigenheads/io/
    default_options = {"with_json": False}
    no_copy_source = True

    def set_version(self):
        text = load(self, os.path.join(self._sources, "include/eigenheads/version.hpp"))
        numbers = re.findall(r"#define EIGENHEADS_VERSION_\w+ (\d+)", text)
        self.version = self.version or ".".join(numbers)

    @property
    def _sources(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def export_sources(self):
        for pattern in ("include/*", ".cmake/prebuilt.cmake", "LICENSE"):
            copy(self, pattern, src=self._sources, dst=self.export_sources_folder)

    def layout(self):
        basic_layout(self)

    def requirements(self):
        self.requires("eigen/[>=3.4.0 <6]", transitive_headers=True)
        if self.options.with_json:
            self.requires("nlohmann_json/[^3]", transitive_headers=True)

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)
        compiler = str(self.settings.compiler)
        least = {"gcc": "12", "clang": "14"}.get(compiler)
        if compiler == "msvc" or (least and Version(self.settings.compiler.version) < least):
            raise ConanInvalidConfiguration("eigenheads needs g++ 12, clang 14 or newer")

    def package(self):
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        copy(self, "include/*", src=self.source_folder, dst=self.package_folder)
        copy(self, "prebuilt.cmake", src=os.path.join(self.source_folder, ".cmake"),
             dst=os.path.join(self.package_folder, "share/eigenheads"))

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "eigenheads")
        self.cpp_info.set_property("cmake_target_name", "eigenheads::eigenheads")
        self.cpp_info.set_property("pkg_config_name", "eigenheads")
        # eigenheads::prebuilt, for programs of many files.
        self.cpp_info.set_property("cmake_build_modules", ["share/eigenheads/prebuilt.cmake"])
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
