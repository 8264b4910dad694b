# SPDX-License-Identifier: MIT
# What `tests/run --full` does besides, and .ci/run has no time for. One more is one more row here; bash.
source "$(dirname "${BASH_SOURCE[0]}")/checks.sh"

# Calls VISITOR TITLE NAME COMMAND... for each, as check_tests is called.
each_slow_check() { # each_slow_check VISITOR
  CXX=clang++ "$1" 'all tests, clang++, Release' clang build_and_test clang all ''
  "$1" 'the same bits from every compiler at every level with every flag' digests \
    bash "$root/tests/digest/run"
}
