#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mutants.sh [--list | --some=N | NAME...]: breaks the library in the small ways that tests/mutants/ lists,
# one at a time, and shows that the test that is named for each finds it. All of them, or N that change
# from day to day, or those of these names; bash.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${1:-}" != --help ] || { print_help && exit; }

need g++ command -v "${CXX:-g++}"
need python3 command -v python3
need libeigen3-dev has_header Eigen/Core
need libgtest-dev has_header gtest/gtest.h
need nlohmann-json3-dev has_header nlohmann/json.hpp
install_missing 'mutants:'
exec python3 "$root/.ci/mutants.py" --jobs="$jobs" "$@"
