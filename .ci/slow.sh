# SPDX-License-Identifier: MIT
# What `tests/run --full` does besides, and .ci/run has no time for. One more is one more row here; bash.
source "$(dirname "${BASH_SOURCE[0]}")/checks.sh"

# Ranks that are processes of MPICH: tests/run takes Open MPI, if nothing else is there.
with_mpich() {
  local name program flags=(-std=c++20 -O1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
  flags+=(-DMPICH_SKIP_MPICXX -I"$root/include" -I"$root/tests" -isystem /usr/include/eigen3)
  mkdir -p "$root/build/mpich"
  for name in ranks/rounds ends; do
    program=$root/build/mpich/${name##*/}
    step "building $name" mpicxx.mpich "${flags[@]}" "$root/tests/mpi/$name.cpp" -o "$program" || return
  done
  for size in 2 3 8; do
    step "on $size ranks" bash "$root/tests/mpi/mpirun.sh" mpirun.mpich $size \
      "$root/build/mpich/rounds" || return
  done
  step 'ranks that end' bash "$root/tests/mpi/ends_test.sh" mpirun.mpich "$root/build/mpich/ends"
}

# Calls VISITOR TITLE NAME COMMAND... for each, as check_tests is called.
each_slow_check() { # each_slow_check VISITOR
  CXX=clang++ "$1" 'all tests, clang++, Release' clang build_and_test clang all ''
  # With sanitizers, g++ is wrong about what is uninitialised.
  CXX=g++ "$1" 'all tests, g++, address and undefined behaviour sanitizers, assertions' sanitize_gxx \
    test_with_sanitizers sanitize_gxx -Wno-maybe-uninitialized
  "$1" 'the same bits from every compiler at every level with every flag' digests \
    bash "$root/tests/digest/run"
  "$1" 'ranks that are processes of MPICH' mpich with_mpich
  "$1" 'every mutant is killed by its test' mutants bash "$root/.ci/mutants.sh"
}
