#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# without_eigen.sh ROOT: a project that includes this one has nothing downloaded that it did not ask
# for: where Eigen is not found, it is told what is expected. Environment: CMAKE, and what cmake reads.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(somebodys LANGUAGES CXX)
add_subdirectory("$1" eigenheads)
END
if "${CMAKE:-cmake}" -S "$work" -B "$work/build" -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON \
  >"$work/log" 2>&1; then
  echo 'It was configured without Eigen:' && cat "$work/log" && exit 1
fi
for part in 'Eigen was not found; expected' 'EIGENHEADS_FETCH_EIGEN=ON to download it'; do
  tr -s ' \n' ' ' <"$work/log" | grep -qF -- "$part" ||
    { echo "Nothing says '$part':" && cat "$work/log" && exit 1; }
done
