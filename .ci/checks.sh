# SPDX-License-Identifier: MIT
# What .ci/run and `tests/run --full` share: checks, of which one that fails stops no other; bash.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
passed=0
failed=0
seconds_of_first=0

check() { # check TITLE COMMAND...
  local start=$SECONDS
  echo
  echo "==== $1"
  if ("${@:2}"); then
    passed=$((passed + 1))
    echo "==== $1: passed ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "==== $1: FAILED ($((SECONDS - start)) s)"
  fi
  ((seconds_of_first > 0)) || seconds_of_first=$((SECONDS - start))
}

# Checks for which there may be no time: machines differ by a factor of two. SHARE is what one takes, in
# hundredths of the time of the first check. One that would not end in so many seconds is left out;
# each day another one goes first.
seconds_in_all=2580
if_in_time=()
left_out=()
in_time() { # in_time SHARE check|check_tests TITLE ...
  if_in_time+=("$(printf '%q ' "$@")")
}
run_what_is_in_time() {
  local count=${#if_in_time[@]} today=$(($(date +%s) / 86400)) i
  for ((i = 0; i < count; ++i)); do
    eval "set -- ${if_in_time[(today + i) % count]}"
    if ((SECONDS + seconds_of_first * $1 / 100 < seconds_in_all)); then
      "${@:2}"
    else
      left_out+=("$3")
    fi
  done
}

# Tests that may be skipped, for want of a model that is downloaded, or, with a sanitizer, of address space.
may_be_skipped='/(SentenceEncoder.MiniLmTellsMeaningsApart|Tokenizers.HaveTheIdsOfMiniLM|ThreadPool.SaysThat'
may_be_skipped+='TheSystemStartsNoMoreThreads) '

# A check that runs ctest in build/NAME, of whose tests each counts. Another one that is skipped has
# failed.
check_tests() { # check_tests TITLE NAME COMMAND...
  local log=$root/build/$2/ctest.log all=0 bad=0 skipped
  local closing='s/.* tests passed, ([0-9]+) tests? failed out of ([0-9]+)/\1 \2/p'
  rm -f "$log"
  check "$1" "${@:3}"
  if [ -e "$log" ]; then read -r bad all < <(sed -nE "$closing" "$log") || true; fi
  skipped=$([ ! -e "$log" ] || grep -E ' \(Skipped\)$' "$log" | grep -vE "$may_be_skipped" || true)
  if [ -n "$skipped" ]; then
    echo "Skipped, which is to fail:"
    echo "$skipped"
    bad=$((bad + $(wc -l <<<"$skipped")))
  fi
  passed=$((passed + all - bad))
  failed=$((failed + bad))
}

# The last line, and whether all of it holds.
say_sum() {
  echo
  echo "$passed passed, $failed failed"
  ((failed == 0))
}

build_and_test() { # build_and_test NAME TARGET "CTEST OPTIONS" [CMAKE OPTIONS...]
  local build=$root/build/$1 target=$2 ctest_options
  read -ra ctest_options <<<"$3"
  build_strictly() {
    configure "$build" -DEIGENHEADS_WARNINGS_AS_ERRORS=ON -DEIGENHEADS_BUILD_BENCHMARKS=OFF "$@" &&
      build "$build" --target "$target"
  }
  step 'building' build_strictly "${@:4}" && run_tests "$build" "${ctest_options[@]}"
}

# Tests under sanitizers, and with assertions.
test_with_sanitizers() { # test_with_sanitizers NAME TARGET "CTEST OPTIONS" [FLAGS]
  local flags='-fsanitize=address,undefined -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS'
  build_and_test "$1" "$2" "$3" -DEIGENHEADS_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_CXX_FLAGS_DEBUG=-g1 -DCMAKE_CXX_FLAGS="$flags ${4:-}"
}
