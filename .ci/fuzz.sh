#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fuzz.sh [SECONDS] [TARGET...]: builds the targets of tests/fuzz, or some of them, with clang's
# libFuzzer and sanitizers, and runs each for so many seconds (30), one on each core. They begin with
# the corpus of the repository, with seeds from other tests, and with what earlier runs found
# (build/fuzz/corpus). An input that breaks a target is kept in build/fuzz/found, and shown with the
# command that runs it again; then this ends non-zero.
#   fuzz.sh keep [TARGET...] makes a new corpus for the repository of all these inputs.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${1:-}" != --help ] || { print_help && exit; }
seconds=${1:-30}
[[ $seconds =~ ^([1-9][0-9]*|keep)$ ]] || refuse_argument "$seconds" 'seconds, or keep'
fuzz=$root/tests/fuzz
build=$root/build/fuzz
mkdir -p "$build/found"
targets=("${@:2}")
for name in "${targets[@]}"; do
  [ -e "$fuzz/$name.cpp" ] || refuse_argument "$name" 'the name of a file of tests/fuzz'
done
if ((${#targets[@]} == 0)); then
  for file in "$fuzz"/*.cpp; do
    name=$(basename "$file" .cpp)
    [ "$name" = replay ] || targets+=("$name")
  done
fi

has_fuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    clang++ '-fsanitize=fuzzer,address,undefined' -x c++ - -o /dev/null
}
need clang command -v clang++
need libclang-rt-dev has_fuzzer
need llvm command -v llvm-symbolizer
need libeigen3-dev has_header Eigen/Core
need libgtest-dev has_header gtest/gtest.h
need nlohmann-json3-dev has_header nlohmann/json.hpp
need libutf8proc-dev has_header utf8proc.h
need python3 command -v python3
install_missing 'fuzzing:'

# ---- Building: the library's code for float is compiled once, and its headers are read once ----------

cat >"$build/headers.hpp" <<'END'
#include <gtest/gtest.h>
#include <eigenheads/prebuilt.hpp>
END
cat >"$build/kernels.cpp" <<'END'
#define EIGENHEADS_PREBUILT_KNOWN 1
#include <eigenheads/prebuilt.hpp>
#include <eigenheads/kernels/nn/chosen.hpp>
EIGENHEADS_PREBUILT_ALL(template, float)
namespace eigenheads::inline EIGENHEADS_ABI {
template class Rotary<double>;
}
END
compile() {
  clang++ -std=c++20 -O1 -g1 '-fsanitize=fuzzer-no-link,address,undefined' -fno-sanitize-recover=all \
    -D_GLIBCXX_ASSERTIONS -I"$root/include" -I"$root/tests" -I"$root/examples" \
    -isystem /usr/include/eigen3 -isystem /usr/local/include/eigen3 "$@"
}
make_headers() { compile -x c++-header "$build/headers.hpp" -o "$build/headers.pch"; }
make_one() { # make_one kernels | a target
  if [ "$1" = kernels ]; then
    compile -c "$build/kernels.cpp" -o "$build/kernels.o"
  else
    compile -include-pch "$build/headers.pch" -c "$fuzz/$1.cpp" -o "$build/$1.o"
  fi
}
link_one() {
  clang++ '-fsanitize=fuzzer,address,undefined' "$build/$1.o" "$build/kernels.o" -o "$build/$1" \
    -lgtest -lutf8proc -pthread
}
on_all_cores() { # on_all_cores FUNCTION NAME...: the function for each name
  # shellcheck disable=SC2016
  printf '%s\n' "${@:2}" | xargs -P "$jobs" -I{} bash -c '"$@"' _ "$1" {}
}
make_all() {
  make_headers && on_all_cores make_one kernels "${targets[@]}" &&
    on_all_cores link_one "${targets[@]}" && python3 "$fuzz/make_seeds.py" "$build/seeds"
}

# ---- Running -----------------------------------------------------------------------------------------

# No file may make the library ask for more than 64 MB at once; no input takes longer than 20 s.
fuzz_one() {
  local target=$1 log=$build/$1.log input
  local options=(-timeout=20 -malloc_limit_mb=64 -rss_limit_mb=4096 -print_final_stats=1
    -max_total_time="$seconds" -artifact_prefix="$build/found/$target-")
  case $target in
    config | safetensors | safetensors_index | tokenizer) options+=(-dict="$fuzz/json.dict") ;;
  esac
  mkdir -p "$build/corpus/$target" "$build/seeds/$target"
  if "$build/$target" "${options[@]}" "$build/corpus/$target" "$fuzz/corpus/$target" \
    "$build/seeds/$target" >"$log" 2>&1; then
    awk -v target="$target" '/ cov: / { edges = $4 } /stat::number_of_executed_units/ { runs = $2 }
      /stat::average_exec_per_sec/ { speed = $2 }
      END { printf "%s: %d inputs, %d a second, %d edges\n", target, runs, speed, edges }' "$log"
    return
  fi
  tail -n 40 "$log"
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  echo "$target is broken by $input:"
  [ -z "$input" ] || head -c 2000 "$input" | base64
  echo "To run it again: $build/$target $input"
  return 1
}

# Of the inputs that reach all that is reached, sixty of all sizes, 25 kB at most. Those that were found
# to break something have names, not sums, and stay.
keep_one() {
  local target=$1 kept=$fuzz/corpus/$1 cover=$build/cover/$1
  rm -rf "$cover"
  mkdir -p "$cover" "$kept" "$build/corpus/$target" "$build/seeds/$target"
  "$build/$target" -set_cover_merge=1 -timeout=20 "$cover" "$kept" "$build/seeds/$target" \
    "$build/corpus/$target" >"$build/$target.log" 2>&1 || return
  find "$kept" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
  find "$cover" -type f -printf '%s %p\n' | sort -n | awk '{ size[NR] = $1; name[NR] = $2 }
    END {
      for (i = 1; i <= NR && bytes + size[int(i)] <= 25000; i += NR > 60 ? NR / 60 : 1) {
        bytes += size[int(i)]
        print name[int(i)]
      }
    }' | xargs -I{} cp {} "$kept/"
  echo "$target: $(find "$kept" -type f | wc -l) inputs"
}

export root build fuzz seconds
export -f compile make_one link_one fuzz_one keep_one
step "fuzzing: building ${#targets[@]} targets" make_all
# Their files are in memory, where that can be.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
if [ "$seconds" = keep ]; then
  on_all_cores keep_one "${targets[@]}"
  exit
fi
echo "fuzzing: $seconds s each"
on_all_cores fuzz_one "${targets[@]}"
