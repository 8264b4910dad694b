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

# All of the tests that tests/run has built, but for those that build something themselves.
fifty_times() {
  run_tests "$root/build/release" -E '^(browser|compile_fail|consumer|flags|readme)(/|$)' \
    --repeat until-fail:50
}

# A service under load: for a while as it is, and for a while where races are seen. In what is built
# already, and, with Eigen's fences that the sanitizer does not know, in a program of its own.
soak() { # soak SECONDS
  local program=$root/build/soak_threads
  step "soaking for $1 s" "$root/build/release/tests/soak" "$1" &&
    step 'building with the thread sanitizer' "${CXX:-g++}" -std=c++20 -O1 -g1 -fsanitize=thread \
      -Wno-tsan -I"$root/include" -I"$root/tests" -isystem /usr/include/eigen3 \
      -isystem /usr/local/include/eigen3 "$root/tests/soak/soak.cpp" -o "$program" -lgtest -pthread &&
    step "soaking for $1 s" "$program" "$1"
}

# Calls VISITOR TITLE NAME COMMAND... for each, as check_tests is called.
each_slow_check() { # each_slow_check VISITOR
  CXX=clang++ "$1" 'all tests, clang++, Release' clang build_and_test clang all ''
  # With sanitizers, g++ is wrong about what is uninitialised.
  CXX=g++ "$1" 'all tests, g++, address and undefined behaviour sanitizers, assertions' sanitize_gxx \
    test_with_sanitizers sanitize_gxx all '' -Wno-maybe-uninitialized
  "$1" 'the same bits from every compiler at every level with every flag' digests \
    bash "$root/tests/digest/run"
  "$1" 'ranks that are processes of MPICH' mpich with_mpich
  "$1" 'a newcomer on a bare Debian' debian bash "$root/.ci/debian.sh"
  "$1" 'all tests of g++, Release, fifty times' release fifty_times
  # For hours: FUZZ_SECONDS=10000 SOAK_SECONDS=10000 bash tests/run --full
  "$1" "fuzzing, ${FUZZ_SECONDS:-300} s a target" fuzz bash "$root/.ci/fuzz.sh" "${FUZZ_SECONDS:-300}"
  "$1" "a service under load, ${SOAK_SECONDS:-300} s" soak soak "${SOAK_SECONDS:-300}"
  "$1" 'every mutant is killed by its test' mutants bash "$root/.ci/mutants.sh"
  "$1" 'the tests run the lines and branches of the library' coverage bash "$root/.ci/coverage.sh"
  "$1" 'other compilers, standards, Eigens, flags, rounding and machines' matrix \
    bash "$root/.ci/matrix.sh"
}
