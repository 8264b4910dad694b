# SPDX-License-Identifier: MIT
# What `tests/run --full` does besides, and .ci/run has no time for. One more is one more row here; bash.
source "$(dirname "${BASH_SOURCE[0]}")/checks.sh"

# Calls VISITOR TITLE NAME COMMAND... for each, as check_tests is called.
each_slow_check() { # each_slow_check VISITOR
  CXX=clang++ "$1" 'all tests, clang++, Release' clang build_and_test clang all ''
  # With sanitizers, g++ is wrong about what is uninitialised.
  CXX=g++ "$1" 'all tests, g++, address and undefined behaviour sanitizers, assertions' sanitize_gxx \
    test_with_sanitizers sanitize_gxx -Wno-maybe-uninitialized
  "$1" 'the same bits from every compiler at every level with every flag' digests \
    bash "$root/tests/digest/run"
}
