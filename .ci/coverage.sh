#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# coverage.sh: which lines and branches of include/ the tests run, on all instruction sets that this CPU
# has together; bash. Prints the sum and what is left over, and fails below 98 % of lines or 92 % of
# branches, or if tests/uncovered.md gives no reason for a line. Branches are those that the text has,
# not those of exceptions. By clang: gcov 12 says of lambdas in templates that they do not run, where
# they do, and counts a branch for each call that may throw.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_arguments '' "$@"
build=$root/build/coverage
profiles=$build/profiles

can_profile() { echo 'int main() {}' | clang++ -fprofile-instr-generate -x c++ - -o /dev/null; }
need clang command -v clang++
need llvm command -v llvm-cov
need libclang-rt-dev can_profile
need libgtest-dev has_header gtest/gtest.h
need nlohmann-json3-dev has_header nlohmann/json.hpp
need libutf8proc-dev has_header utf8proc.h
need libopenmpi-dev command -v mpicxx
need openmpi-bin command -v mpirun
need python3 command -v python3
CXX=clang++ need_build_tools
install_missing 'coverage:'

# What is compiled with other flags has other branches, and what starts a compiler runs no line.
build_it() {
  CXX=clang++ configure "$build" -DEIGENHEADS_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_CXX_FLAGS_DEBUG= -DCMAKE_CXX_FLAGS='-fprofile-instr-generate -fcoverage-mapping' || return
  local targets
  mapfile -t targets < <(cmake --build "$build" --target help |
    grep -oE '\b([a-zA-Z0-9_]+_test|mpirun_[a-z_]+|end_of_program|fuzz_replay)\b' | LC_ALL=C sort -u)
  build "$build" --target "${targets[@]}"
}
# Each program once, and not once for each of its tests.
run_one() {
  timeout 900 "$1" --gtest_brief=1 >"$1.log" 2>&1 || { tail -n 20 "$1.log" && return 1; }
}
export -f run_one
test_it() { # test_it PATTERN
  find "$build/tests" -name '*_test' -type f | grep -E "/($1)[a-z_0-9]*_test\$" |
    LLVM_PROFILE_FILE=$profiles/%2m.profraw xargs -P "$jobs" -I{} bash -c 'run_one {}'
}
on_ranks() {
  LLVM_PROFILE_FILE=$profiles/%2m.profraw ctest --test-dir "$build" --output-on-failure \
    -R '^mpirun/.*/3$|^mpirun/ends|^end_of|^fuzz/'
}
count() {
  local programs
  mapfile -t programs < <(find "$build/tests" -type f -perm -u+x ! -name '*.so' | LC_ALL=C sort)
  llvm-profdata merge -sparse "$profiles"/*.profraw -o "$build/all.profdata" &&
    llvm-cov export -format=lcov -skip-functions -instr-profile="$build/all.profdata" \
      "${programs[0]}" "${programs[@]/#/-object=}" "$root/include" >"$build/coverage.lcov"
}

step 'building for coverage' build_it
rm -rf "$profiles"
step 'testing' test_it ''
step 'testing on ranks that are processes' on_ranks
for isa in portable avx2; do
  [ $isa = portable ] || grep -qw $isa /proc/cpuinfo || continue
  EIGENHEADS_ISA=$isa step "testing on $isa" test_it 'attention|contract|kernels|nn_|rotary|score|softmax|kv_cache'
done
step 'counting' count
python3 - "$build/coverage.lcov" "$root" <<'END'
import re, sys
from pathlib import Path

# Of each file: its lines that nothing ran, and how many lines and branches there are.
files, name = {}, None
for line in Path(sys.argv[1]).read_text().splitlines():
    key, _, value = line.partition(":")
    if key == "SF":
        name = value.removeprefix(sys.argv[2] + "/include/eigenheads/")
        files[name] = {"left": []}
    elif key == "DA" and value.split(",")[1] == "0":
        files[name]["left"].append(int(value.split(",")[0]))
    elif key in ("LF", "LH", "BRF", "BRH"):
        files[name][key] = int(value)
total = lambda key: sum(file.get(key, 0) for file in files.values())
lines, branches = (100 * total(hit) / total(all) for all, hit in (("LF", "LH"), ("BRF", "BRH")))

page = (Path(sys.argv[2]) / "tests/uncovered.md").read_text()
reasons = {row[1]: int(row[2]) for row in re.finditer(r"^\| `(\S+)` \| (\d+) \|", page, re.M)}
# Where the CPU has not all instruction sets, more is left over than the page says.
has_all = "avx512f" in Path("/proc/cpuinfo").read_text()
without = []
for name, file in sorted(files.items(), key=lambda entry: -len(entry[1]["left"])):
    left = file["left"]
    if left:
        print(f"{len(left):4} lines left over in {name}: {', '.join(map(str, left))}")
    if has_all and len(left) > reasons.get(name, 0):
        without.append(name)
print(f"{lines:.2f} % of lines, {branches:.2f} % of branches")
for name in without:
    print(f"{name}: {len(files[name]['left'])} lines are left over, "
          f"and tests/uncovered.md has a reason for {reasons.get(name, 0)}")
sys.exit(lines < 98 or branches < 92 or bool(without))
END
