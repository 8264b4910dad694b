#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# debian.sh [--read]: a newcomer on a bare Debian, in a folder that mmdebstrap fills and that is the root
# for what runs there (it takes root). The package is installed by apt-get and used, .ci/Dockerfile is gone
# through line by line, and all tests are run. --read: only looks whether that file says what is done here.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_arguments --read "$@"
work=$root/build/debian

# Each line of the Dockerfile is one of these; what an image is made of is another instruction here.
read_dockerfile() {
  local line
  suite='' commands=()
  while IFS= read -r line; do
    case $line in
      '' | '#'*) ;;
      'FROM debian:'*-slim) suite=${line#FROM debian:} suite=${suite%-slim} ;;
      'WORKDIR /eigenheads' | 'COPY . .') ;;
      'RUN bash '*) commands+=("${line#RUN }") ;;
      *) echo "No such line is known: $line" && return 1 ;;
    esac
  done <"$root/.ci/Dockerfile"
  [ -n "$suite" ] && ((${#commands[@]} > 0)) || return
  for line in "${commands[@]}"; do
    grep -qxF "$line" "$root/README.md" || { echo "README.md does not say: $line" && return 1; }
  done
  [ "$(sed 's|^|/|' "$root/.ci/Dockerfile.dockerignore" | grep -v '^/.git$' | sort)" = \
    "$(sed 's|/$||' "$root/.gitignore" | sort)" ]
}
read_dockerfile
[ "${1:-}" != --read ] || exit 0

# inside ROOT COMMAND: as on that machine, whose mounts are gone afterwards.
inside() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork bash -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
    exec chroot "$0" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "$1"' "$@"
}
# A machine NAME, and what is needed to look names up, its own too: mpirun waits for it.
start() {
  rm -rf "${work:?}/$1" && cp -a "$work/bare" "$work/$1" && cp -L /etc/resolv.conf "$work/$1/etc" &&
    echo "127.0.0.1 localhost $(uname -n)" >"$work/$1/etc/hosts"
}
make_bare() { mmdebstrap --quiet --variant=minbase "$suite" "$work/bare"; }

use_package() {
  start package &&
    cp "$work"/build/libeigenheads-dev_*_all.deb "$root/tests/packaging/ten_lines.cpp" "$work/package/root" &&
    inside "$work/package" 'set -ex; cd; export DEBIAN_FRONTEND=noninteractive; apt-get -qq update
      apt-get -qq -y install --no-install-recommends ./libeigenheads-dev_*_all.deb g++ cmake make pkgconf
      g++ -std=c++20 -O2 ten_lines.cpp $(pkg-config --cflags --libs eigenheads)
      ./a.out >/root/printed
      echo "cmake_minimum_required(VERSION 3.22)
        project(mine LANGUAGES CXX)
        find_package(eigenheads REQUIRED)
        add_executable(mine ten_lines.cpp)
        target_link_libraries(mine PRIVATE eigenheads::eigenheads)" >CMakeLists.txt
      cmake -S . -B build && cmake --build build && build/mine | diff printed -
      dpkg --purge libeigenheads-dev && test ! -e /usr/include/eigenheads' &&
    diff "$root/tests/packaging/ten_lines.txt" "$work/package/root/printed"
}
# Tags of all severities but "pedantic" are errors.
ask_lintian() {
  lintian --allow-root --fail-on error,warning,info --display-info "$work"/build/libeigenheads-dev_*_all.deb
}
make_package() {
  cmake -S "$root" -B "$work/build" -DEIGENHEADS_BUILD_TESTS=OFF -DEIGENHEADS_BUILD_EXAMPLES=OFF &&
    (cd "$work/build" && cpack -G DEB)
}
go_through_dockerfile() {
  local command
  start docker && mkdir "$work/docker/eigenheads" &&
    tar -C "$root" --exclude=./build --exclude=./out --exclude=./.git -c . |
    tar -x -C "$work/docker/eigenheads" &&
    for command in "${commands[@]}"; do
      inside "$work/docker" "cd /eigenheads && $command" || return
    done
}
# What the Dockerfile's first lines say of the tests.
run_tests_there() { inside "$work/docker" 'cd /eigenheads && bash tests/run'; }

if (($(id -u) != 0)); then
  echo 'Please start this as root: it makes a root of its own.' && exit 1
fi
need lintian command -v lintian
need mmdebstrap command -v mmdebstrap
need_build_tools
install_missing 'a bare Debian:'
mkdir -p "$work"
step 'the package, by cpack' make_package
step 'lintian' ask_lintian
[ -d "$work/bare/usr" ] || step 'making it' make_bare
step 'the package, installed and used there' use_package
step 'Dockerfile' go_through_dockerfile
step 'all tests there' run_tests_there
