#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# matrix.sh [--list | --again] [NAME...]: the tests under other compilers, standards, versions of Eigen,
# flags and floating-point environments, and on other machines (under qemu-user). A line for each
# configuration, with its time; goes on after one that fails, and ends with their names. What passed is
# not run again until the sources, its row below or its compiler change (--again: it is). NAME: those
# whose name begins so; else all.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
matrix=$root/build/matrix

# Which tests a row runs: "all" and "compiler" are built by CMake, and are all there are and those that
# depend on the compiler. The others are one of these lists, and are compiled here. (uncounted_units: what
# does not define malloc, to count its calls: no static program can, and of zig's they end at once;
# narrow_units: nor says sizes that an Index of 32 bits has not; narrow_files: nor asks for a long double
# that is wider than a double; sample: likewise, and valgrind takes a minute for each, but for kv_cache
# more than half an hour.)
# shellcheck disable=SC2034,SC2086
{
  few_files='io/npy io/safetensors'
  paths='contract kv_cache multi_head_attention multi_head_attention_backward packed float_environment'
  arithmetic="accuracy contract digest golden float_environment kernels/math kernels/tile_edges kv_cache
    multi_head_attention_backward nn/transformer_golden softmax"
  units="$arithmetic allocation attention attention_backward attention_edge_cases dropout explain
    head_importance io/checkpoints io/file io/kv_cache io/model_config io/module io/npy io/safetensors
    io/safetensors_files io/safetensors_shards io/torch_weights key_values linear mask
    multi_head_attention_refusals nn/activation nn/beam_search nn/embedding nn/generate nn/layer_norm
    nn/sampling nn/transformer_layer packed plot/attention_view query_lens random rotary score sequences
    shape storage strided_view tensor train/optim valid_lens"
  uncounted_units=$(printf ' %s ' $units | sed -E 's# (allocation|nn/layer_norm|nn/transformer_layer) ##g')
  narrow_units="accuracy contract digest dropout explain float_environment golden io/checkpoints io/file
    io/kv_cache io/model_config io/module io/safetensors io/safetensors_files io/safetensors_shards
    io/torch_weights kernels/math kernels/tile_edges kv_cache mask merge_attention
    multi_head_attention_backward nn/sampling packed random rotary score sequences softmax storage
    tensor train/optim"
  narrow_files="contract io/file io/kv_cache io/module io/safetensors io/safetensors_files
    io/safetensors_shards io/torch_weights kv_cache random sequences storage"
  sample='io/file io/module io/npy io/safetensors_shards kv_cache mask merge_attention sequences storage
    strided_view tensor'
}

# Of the tests' own std::stable_sort, clang 19 says that libstdc++ 12 makes it of what is deprecated.
# name | compiler | flags | Eigen (-: the system's) | run by (-: itself) | tests
rows() {
  cat <<'END'
gxx-c++23         | g++        | -std=c++23  | -     | - | all
clang-c++23       | clang++    | -std=c++23  | -     | - | compiler
clang-16          | clang++-16 | -std=c++20  | -     | - | all
clang-19          | clang++-19 | -Wno-deprecated-declarations -std=c++20 | - | - | all
clang-19-c++23    | clang++-19 | -Wno-deprecated-declarations -std=c++23 | - | - | compiler
zig               | zig-c++    | -std=c++20 -fno-sanitize=undefined -idirafter /usr/include | - | - | uncounted_units
zig-c++23         | zig-c++    | -std=c++23 -fno-sanitize=undefined -idirafter /usr/include | - | - | arithmetic
eigen-3.4.1       | g++        | -std=c++20  | 3.4.1 | - | compiler
eigen-5           | g++        | -std=c++20  | 5     | - | all
eigen-5-clang-19  | clang++-19 | -Wno-deprecated-declarations -std=c++23 | 5 | - | compiler
dont-vectorize    | g++        | -DEIGEN_DONT_VECTORIZE             | - | - | units
unaligned         | g++        | -DEIGEN_MAX_ALIGN_BYTES=0          | - | - | units
trapv             | g++        | -ftrapv                            | - | - | units
glibcxx-debug     | g++        | -D_GLIBCXX_DEBUG -Wno-maybe-uninitialized | - | - | units
nan-in-new-memory | g++        | -DEIGEN_INITIALIZE_MATRICES_BY_NAN | - | - | units
no-subnormals     | g++        | -include tests/flags/environment.hpp | - | - | paths
valgrind          | g++        | -g | - | valgrind -q --error-exitcode=9  | sample
aarch64           | aarch64-linux-gnu-g++   | -static | - | qemu-aarch64 | uncounted_units
armhf             | arm-linux-gnueabihf-g++ | -static -Wno-psabi | - | qemu-arm | narrow_files
i686              | i686-linux-gnu-g++      | -static -msse2 -mfpmath=sse | - | - | narrow_units
s390x             | s390x-linux-gnu-g++     | -static | - | qemu-s390x   | uncounted_units
END
  # The longest left out: an emulator takes a minute for them.
  echo 's390x-few-files | s390x-linux-gnu-g++ | -static | - | env' \
    'GTEST_FILTER=-*RandomChanges*:*ManyTensors*:*NobodyReads* qemu-s390x | few_files'
  local mode compiler level machine
  # Errors of one sign add up: what compares float to double is left out. So is what asks for exceptions:
  # downward, the lowest number less any other is an overflow.
  for mode in UPWARD DOWNWARD TOWARDZERO; do
    echo "rounding-${mode,,} | g++ | -include tests/flags/environment.hpp" \
      "-DEIGENHEADS_TEST_ROUNDING=FE_$mode | - | env GTEST_FILTER=-*OfFloatIsThatOfDouble*:*RaisesNoException* | paths"
  done
  for compiler in g++ clang++-19; do
    for level in -O0 -O2 -O3; do
      for machine in '' '-mavx2 -mfma' -march=native; do
        echo "$compiler$level${machine%% *} | $compiler | $level $machine | - | - | arithmetic"
      done
    done
  done
}

# ---- What a row needs ----------------------------------------------------------------------------

package_of() { # package_of COMMAND
  case $1 in
    *-linux-gnu*-g++) echo "g++-${1%-g++}" ;;
    clang++*) echo "clang${1#clang++}" ;;
    qemu-*) echo qemu-user ;;
    *) echo "$1" ;;
  esac
}

# The newest clang that PyPI has; its standard library is libc++.
install_zig() {
  install_from_pypi ziglang && mkdir -p "$tools/zig" && cat >"$tools/bin/zig-c++" <<END &&
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR='$tools/zig' ZIG_LOCAL_CACHE_DIR='$tools/zig'
exec '$tools/bin/python' -m ziglang c++ "\$@"
END
    chmod +x "$tools/bin/zig-c++"
}

# Where a version of Eigen has its include/ and share/.
eigen_at() { # eigen_at VERSION
  case $1 in
    -) echo /usr ;;
    3.4.1) echo "$tools/eigen-3.4.1/cmeel.prefix" ;;
    5) echo "$tools/eigen-5/usr" ;;
  esac
}
# 3.4.1 is on PyPI. Of 5.x, Debian's unstable has a package with the Tensor module: it is unpacked, and
# nothing of it is installed.
get_eigen() { # get_eigen VERSION
  local to=$tools/eigen-$1 keys=/usr/share/keyrings/debian-archive-keyring.gpg
  rm -rf "$to" && mkdir -p "$to" && cd "$to" || return
  if [ "$1" = 3.4.1 ]; then
    { [ -x "$tools/bin/pip" ] || python3 -m venv "$tools"; } &&
      "$tools/bin/pip" download --no-deps -d . cmeel-eigen==3.4.1 &&
      python3 -m zipfile -e ./cmeel_eigen-*.whl .
    return
  fi
  mkdir -p apt/lists/partial apt/cache/archives/partial
  echo "deb [signed-by=$keys] http://deb.debian.org/debian unstable main" >apt/sources.list
  local apt=(apt-get -qq -o Dir::Etc::SourceList="$to/apt/sources.list" -o APT::Sandbox::User=root
    -o Dir::Etc::SourceParts=/nonexistent -o Dir::State::Lists="$to/apt/lists"
    -o Dir::Cache="$to/apt/cache" -o Acquire::Languages=none)
  "${apt[@]}" update && "${apt[@]}" download libeigen3-dev/unstable && rm -rf apt &&
    dpkg-deb -x libeigen3-dev_5*.deb .
}

need_what_rows_need() { # need_what_rows_need ROW...
  local row compiler eigen runner command package
  need_build_tools
  need libgtest-dev has_header gtest/gtest.h
  need googletest test -e /usr/src/googletest/CMakeLists.txt
  need nlohmann-json3-dev has_header nlohmann/json.hpp
  need python3-venv python3 -c 'import ensurepip, venv'
  for row in "$@"; do
    IFS='|' read -r _ compiler _ _ runner _ <<<"$row"
    for command in $compiler $runner; do  # of the runner's words, those that are no options
      package=$(package_of "$command")
      case $command in -* | *=* | zig-c++) continue ;; esac
      case " ${missing[*]} " in *" $package "*) continue ;; esac
      need "$package" command -v "$command"
    done
  done
  install_missing 'compilers and machines:'
  for row in "$@"; do
    IFS='|' read -r _ compiler _ eigen _ _ <<<"$row"
    if [ "$compiler" = zig-c++ ] && ! command -v zig-c++ >/dev/null; then
      step 'installing ziglang from PyPI into build/tools' install_zig
    fi
    [ "$eigen" = - ] || [ -e "$(eigen_at "$eigen")/include/eigen3/unsupported/Eigen/CXX11/Tensor" ] ||
      step "getting Eigen $eigen into build/tools" get_eigen "$eigen"
  done
}

# ---- One row -------------------------------------------------------------------------------------

# Both with the variables of run_row.
by_cmake() {
  local target=$tests options=()
  [ "$tests" = all ] || target=compiler_tests options=(-L compiler)
  configure "$build" -DEIGENHEADS_WARNINGS_AS_ERRORS=ON -DEIGENHEADS_BUILD_EXAMPLES=OFF \
    -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_STANDARD="${flags##*c++}" \
    -DCMAKE_CXX_FLAGS="${flags%-std=*}" \
    -DCMAKE_CXX_EXTENSIONS=OFF -DCMAKE_PREFIX_PATH="$(eigen_at "$eigen")" &&
    build "$build" --target "$target" && run_tests "$build" "${options[@]}"
}

# Without CMake, whose tests have levels of their own. GoogleTest is compiled too: flags and machines
# have their own. So are the kernels, once, where many programs would have them.
as_programs() {
  local words programs parts run=() name status=0 gtest=/usr/src/googletest/googletest
  read -ra words <<<"$flags"
  read -rd '' -a programs <<<"${!tests}" || true
  local -x EIGENHEADS_TEST_RUNNER=${runner#-}
  read -ra run <<<"$EIGENHEADS_TEST_RUNNER"
  local command=("$compiler" -std=c++20 -O1 "${words[@]}" -pthread -I"$root/include"
    -isystem "$(eigen_at "$eigen")/include/eigen3" -isystem "$gtest/include")
  local own=("${command[@]}" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
    -I"$root/tests" -I"$root/examples" -DEIGENHEADS_SOURCE_DIR="\"$root\"")
  local each=(xargs -P "$jobs" -I{})
  cd "$root" || return  # flags name files
  parts=("$build/gtest-all.o" "$build/gtest_main.o")
  printf '%s\n' gtest-all gtest_main |
    "${each[@]}" "${command[@]}" -I"$gtest" -O0 -c "$gtest/src/{}.cc" -o "$build/{}.o" || return
  if ((${#programs[@]} > 3)); then
    parts+=("$build/kernels.o")
    printf '#define %s\n#include <%s>\n' EIGENHEADS_PREBUILT_SOURCE eigenheads/prebuilt.hpp \
      >"$build/kernels.cpp"
    "${own[@]}" -c "$build/kernels.cpp" -o "$build/kernels.o" || return
    printf '#include <%s>\n' gtest/gtest.h eigenheads/eigenheads.hpp eigenheads/prebuilt.hpp \
      >"$build/first.hpp"
    # Compiled once, which saves a third of each program's time; not where flags include a file too.
    case $flags in
      *-include*) own+=(-include eigenheads/prebuilt.hpp) ;;
      *)
        "${own[@]}" -x c++-header "$build/first.hpp" -o "$build/first.hpp.gch" || return
        own+=(-include "$build/first.hpp")
        ;;
    esac
  fi
  mkdir -p "${programs[@]/#/$build/}"
  printf '%s\n' "${programs[@]}" |
    "${each[@]}" "${own[@]}" "tests/{}_test.cpp" "${parts[@]}" -o "$build/{}/test" || return
  # shellcheck disable=SC2016
  printf '%s\n' "${programs[@]}" | "${each[@]}" bash -c \
    'timeout 7200 "${@:2}" "$0/$1/test" --gtest_brief=1 >"$0/$1/log" 2>&1 || exit 1' \
    "$build" {} "${run[@]}" || status=1
  for name in "${programs[@]}"; do
    echo "---- $name" && cat "$build/$name/log"
  done
  return $status
}

run_row() { # run_row ROW
  local name compiler flags eigen runner tests start=$SECONDS state how=as_programs
  IFS='|' read -r name compiler flags eigen runner tests <<<"$1"
  local build=$matrix/$name stamp=$matrix/$name.passed log=$matrix/$name.log
  printf '%-28s ' "$name"
  state=$({ echo "$sources $1" && "$compiler" --version; } | sha256sum)
  if [ $again = no ] && [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
    echo 'passed before'
    return
  fi
  rm -rf "$build" "$stamp"
  mkdir -p "$build"
  case $tests in all | compiler) how=by_cmake ;; esac
  if $how >"$log" 2>&1; then
    echo "passed ($((SECONDS - start)) s)"
    echo "$state" >"$stamp"
    rm -rf "$build"
  else
    echo "FAILED ($((SECONDS - start)) s), see $log"
    failed+=("$name")
  fi
}

again=no names=() chosen=() failed=()
for word in "$@"; do
  case $word in
    --list) rows && exit ;;
    --again) again=yes ;;
    --help) print_help && exit ;;
    *) names+=("$word") ;;
  esac
done
mapfile -t all < <(rows | sed -E 's/ *\| */|/g')
for row in "${all[@]}"; do
  for name in "${names[@]-}"; do
    if [[ $row == "$name"* ]]; then chosen+=("$row") && break; fi
  done
done
if ((${#chosen[@]} == 0)); then
  echo "no configuration begins with ${names[*]}; --list shows them" && exit 1
fi

tracked() {
  cd "$root" && { git ls-files -co --exclude-standard 2>/dev/null || find ./* .c* -type f; } |
    grep -E '^(\./)?(include/|tests/|examples/|\.cmake/|\.ci/|CMakeLists)' | LC_ALL=C sort
}
sources=$(tracked | (cd "$root" && xargs sha256sum) | sha256sum)
mkdir -p "$matrix"
need_what_rows_need "${chosen[@]}"
for row in "${chosen[@]}"; do run_row "$row"; done
if ((${#failed[@]} > 0)); then
  echo "${#failed[@]} of ${#chosen[@]} configurations failed: ${failed[*]}"
  exit 1
fi
echo "all ${#chosen[@]} configurations passed"
