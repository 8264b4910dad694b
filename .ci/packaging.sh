#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes every package that there is, and uses each as a stranger would, by the very lines that README.md
# has. CMake is 3.22 wherever a stranger's may be. What it makes is in build/packaging/.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_arguments '' "$@"
work=$root/build/packaging
conan_tools=$root/build/conan cmake_3_22=$root/build/cmake-3.22
version=$(sed -nE 's/^#define EIGENHEADS_VERSION_(MAJOR|MINOR|PATCH) //p' \
  "$root/include/eigenheads/version.hpp" | paste -sd.)
small=$root/.packaging/conan/test_package/test_package.cpp

# The block of README.md, in language LANGUAGE, in which PATTERN is found.
readme_block() { # readme_block LANGUAGE PATTERN
  awk -v language="$1" -v pattern="$2" '
    /^```/ && inside { if (block ~ pattern) { printf "%s", block; found = 1; exit }; inside = 0; next }
    inside { block = block $0 "\n" }
    $0 == "```" language { inside = 1; block = "" }
    END { exit !found }' "$root/README.md"
}
readme_line() { readme_block sh "$1" | grep -E -- "$1"; } # readme_line PATTERN

# ---- Archives --------------------------------------------------------------------------------------

# In a folder of its own, with a clone in it (without its history), as README.md says; but the package is
# unpacked, not installed.
make_archives() {
  mkdir -p "$work/here/eigenheads" "$work/home" &&
    tar -C "$root" --exclude=./build --exclude=./out --exclude=./.git -c . |
    tar -x -C "$work/here/eigenheads" &&
    readme_block sh 'cpack -G DEB' |
    sed -E 's|^sudo apt-get install (.*)|dpkg-deb -x \1 debian|' >"$work/here/install.sh" &&
    (cd "$work/here" && HOME=$work/home bash -ex install.sh && cd build && cpack -G TGZ &&
      cpack --config CPackSourceConfig.cmake) &&
    mv "$work/home/.local" "$work/home/moved"
}
# From another folder, by somebody who keeps files to himself: the same bytes.
make_them_again() {
  local file
  cmake -S "$root" -B "$work/again" -DEIGENHEADS_BUILD_TESTS=OFF -DEIGENHEADS_BUILD_EXAMPLES=OFF &&
    (cd "$work/again" && cpack -G DEB && umask 077 && cpack -G TGZ && cpack --config CPackSourceConfig.cmake) &&
    for file in "eigenheads-$version"{,-headers}.tar.gz "libeigenheads-dev_${version}_all.deb"; do
      cmp "$work/here/build/$file" "$work/again/$file" || return
      (cd "$work/again" && sha256sum -c "$file.sha256") || return
    done &&
    [ "$(tar -xzOf "$work/again/eigenheads-$version-headers.tar.gz" \
      "eigenheads-$version-headers/LICENSE" | md5sum)" = "$(md5sum <"$root/LICENSE")" ]
}

# ---- Projects that use it --------------------------------------------------------------------------

cmake=$cmake_3_22/bin/cmake

# use NAME PATTERN [OPTIONS...]: configures a project of tests/packaging, in which README.md's block for
# CMake with PATTERN stands.
use() {
  local project=$work/$1
  mkdir -p "$project/cmake" && cp "$root/tests/packaging/CMakeLists.txt" "$project" &&
    cp "$work/here/build/eigenheads-$version.tar.gz" "$project" &&
    cp "$root/tests/packaging/cpm.cmake" "$project/cmake/CPM.cmake" &&
    { [ -e "$project/eigenheads" ] || ln -s "$work/here/eigenheads" "$project"; } &&
    readme_block cmake "$2" >"$project/readme.cmake" &&
    "$cmake" -S "$project" -B "$project/build" -DPROGRAM="$small" \
      -DSNIPPET="$project/readme.cmake" "${@:3}"
}
with_cmake_3_22() {
  local source=$work/here/eigenheads name expected=-DEXPECTED_VERSION=$version
  [[ $("$cmake" --version) == *' 3.22.'* ]] || return
  # The .deb, a folder that was moved, and the port for vcpkg, each by find_package.
  use found '^# Then' -DCMAKE_PREFIX_PATH="$work/here/debian/usr" "$expected" &&
    use moved '^# Then' -DCMAKE_PREFIX_PATH="$work/home/moved" "$expected" &&
    cmake -DPREFIX="$work/vcpkg" -P "$root/tests/packaging/portfile.cmake" &&
    use port '^# Then' -DCMAKE_PREFIX_PATH="$work/vcpkg" "$expected" &&
    # As a part of the project: from the archive, and from a folder that is named instead.
    use fetched FetchContent_Declare &&
    use overridden FetchContent_Declare -DFETCHCONTENT_SOURCE_DIR_EIGENHEADS="$source" &&
    use cpm CPMAddPackage && use cpm_source CPMAddPackage -DCPM_eigenheads_SOURCE="$source" &&
    [ ! -e "$work/overridden/build/_deps/eigenheads-src" ] || return
  local names=(found moved port fetched overridden cpm cpm_source)
  printf '%s\n' "${names[@]}" | xargs -P "$jobs" -I{} "$cmake" --build "$work/{}/build" || return
  for name in "${names[@]}"; do "$work/$name/build/mine" || return; done
  # eigenheads::prebuilt too asks the compiler for the library's namespace, which takes a second, unlike
  # the library itself.
  for name in found fetched; do
    "$cmake" --build "$work/$name/build" --target eigenheads_prebuilt_namespace || return
  done
}

# Without CMake: the package by pkg-config, with the ten-line program, and from the clone.
by_pkg_config() {
  mkdir -p "$work/pkg_config" && cd "$work/pkg_config" && cp "$root/tests/packaging/ten_lines.cpp" mine.cpp &&
    readme_line pkg-config | PKG_CONFIG_PATH=$work/here/debian/usr/share/pkgconfig bash -ex &&
    ./a.out >printed && diff "$root/tests/packaging/ten_lines.txt" printed
}
from_the_clone() {
  cd "$work/here" && cp "$small" mine.cpp && readme_line '-I eigenheads/include' | bash -ex && ./a.out
}
without_cmake() {
  local other
  (from_the_clone) &
  other=$!
  (by_pkg_config) && wait $other
}

# ---- One file --------------------------------------------------------------------------------------

as_one_file() {
  cd "$work/here" && readme_line amalgamate | bash -ex &&
    mkdir -p one && cd one && mv ../eigenheads.hpp . &&
    # Two files that include it make one program,
    echo '#include "eigenheads.hpp"' | tee all_headers.hpp >all_headers_backwards.hpp &&
    g++ -std=c++20 -I. -isystem /usr/include/eigen3 -Wall -Wextra -Wpedantic -Wconversion -Wshadow \
      -Werror "$root"/tests/consumer/{main,other}.cpp -pthread -o together &&
    [ "$(./together)" = "eigenheads $version, 6 elements" ] &&
    # and it is the headers, token by token: the core, and all that can be read without MPI.
    (cd "$root/include" && find eigenheads -name '*.hpp' -exec grep -LF '<mpi.h>' {} + |
      grep -v prebuilt | LC_ALL=C sort) >names &&
    same_tokens eigenheads/eigenheads.hpp && mapfile -t names <names && same_tokens "${names[@]}"
}
same_tokens() { # same_tokens HEADER...
  local preprocess=(g++ -std=c++20 -DNDEBUG -E -x c++ -isystem /usr/include/eigen3)
  mkdir -p single && "$root/.packaging/amalgamate" "$@" >single/eigenheads.hpp &&
    printf '#include <%s>\n' "$@" | "${preprocess[@]}" -I"$root/include" - >headers.ii &&
    echo '#include <eigenheads.hpp>' | "${preprocess[@]}" -Isingle - >single.ii &&
    python3 "$root/tests/packaging/same_tokens.py" headers.ii single.ii
}

# ---- Conan -----------------------------------------------------------------------------------------

# Its packages lie in the folder, and no remote is asked.
with_conan() {
  cd "$work/here" && export CONAN_HOME=$work/conan PATH=$conan_tools/bin:$PATH && rm -rf "$CONAN_HOME" &&
    conan profile detect && conan remote disable '*' &&
    conan create eigenheads/.packaging/conan/eigen_of_the_system &&
    readme_line 'conan create' | bash -ex && conan list "eigenheads/$version" | grep -F "eigenheads/$version"
}

need pkgconf command -v pkg-config
need_build_tools
need nlohmann-json3-dev has_header nlohmann/json.hpp
need python3 command -v python3
install_missing 'packages:'
[ -x "$cmake_3_22/bin/cmake" ] || tools=$cmake_3_22 from_pypi 'packages:' 'cmake==3.22.*'
[ -x "$conan_tools/bin/conan" ] || tools=$conan_tools from_pypi 'packages:' 'conan>=2,<3'

rm -rf "$work"
mkdir -p "$work"
step 'the Dockerfile' bash "$root/.ci/debian.sh" --read
step 'archives and a Debian package' make_archives
step 'the same bytes from another folder' make_them_again
step 'by pkg-config, and from the clone' without_cmake
step 'by find_package, FetchContent and CPM, with CMake 3.22' with_cmake_3_22
step 'by Conan' with_conan
step 'as one file' as_one_file
