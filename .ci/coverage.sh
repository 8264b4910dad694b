#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# coverage.sh: which lines and branches of include/ the tests run, on all instruction sets that this CPU
# has together; bash. Prints the sum and what is left over, and fails below 98 % of lines or 92 % of
# branches. A lower bound: gcov 12 says of lambdas in templates that they do not run, where they do.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
build=$root/build/coverage

need_build_tools
need g++ command -v gcov
need libgtest-dev has_header gtest/gtest.h
need nlohmann-json3-dev has_header nlohmann/json.hpp
need libutf8proc-dev has_header utf8proc.h
need libopenmpi-dev command -v mpicxx
need openmpi-bin command -v mpirun
install_missing 'coverage:'
command -v gcovr >/dev/null || from_pypi 'coverage:' 'gcovr>=8.4,<9'

# What compiles at other flags has other branches, and what starts a compiler runs no line.
programs() {
  cmake --build "$build" --target help |
    grep -oE '\b([a-zA-Z0-9_]+_test|mpirun_[a-z_]+|end_of_program)\b' | LC_ALL=C sort -u
}
# As with sanitizers, the tests themselves are not optimised. Threads count without waiting for each
# other: a line's number may be wrong, but is not 0 where it ran.
build_it() {
  configure "$build" -DEIGENHEADS_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_CXX_FLAGS_DEBUG= -DCMAKE_CXX_FLAGS='--coverage -fprofile-abs-path' || return
  local targets
  mapfile -t targets < <(programs)
  build "$build" --target "${targets[@]}"
}
# Each program once, not once for each of its tests: at every end, all counters are written.
test_it() { # test_it PATTERN
  local program failed=0
  for program in "$build"/tests/*_test; do
    [[ ${program##*/} =~ $1 ]] || continue
    timeout 600 "$program" --gtest_brief=1 || failed=1
  done
  return $failed
}
on_ranks() { ctest --test-dir "$build" --output-on-failure -R '^mpirun/.*/3$|^mpirun/ends|^end_of'; }
count() {
  gcovr --root "$root" --filter "$root/include/" --gcov-executable gcov -j "$jobs" \
    --merge-mode-functions=merge-use-line-min \
    --gcov-ignore-parse-errors=negative_hits.warn_once_per_file --gcov-suspicious-hits-threshold=0 \
    --json "$build/coverage.json" "$build"
}

step 'building for coverage' build_it
find "$build" -name '*.gcda' -delete
step 'testing' test_it .
step 'testing on ranks that are processes' on_ranks
for isa in portable avx2; do
  [ $isa = portable ] || grep -qw $isa /proc/cpuinfo || continue
  EIGENHEADS_ISA=$isa step "testing on $isa" test_it '^(attention|contract|kernels|nn_|score|.*storage)'
done
step 'counting' count
python3 "$root/.ci/coverage.py" "$build/coverage.json" --lines=98 --branches=92
