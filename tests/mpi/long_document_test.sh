#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# long_document_test.sh MPIRUN LONG_DOCUMENT: the program examples/long_document.cpp gives one
# fingerprint on any number of ranks, however they deal, and says what it refuses.
set -euo pipefail
mpirun=$1
program=$(realpath "$2")
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

run() { # run RANKS ARGUMENTS...: what it prints
  bash "$here/mpirun.sh" "$mpirun" "$1" "$program" --tokens 3000 --layers 1 "${@:2}" 2>err
}
print_of() { sed -n 's/^fingerprint of the output: //p'; }
expected=$(run 1 --one-process | print_of)
[ ${#expected} -eq 16 ] || { echo "no fingerprint, but '$expected'" && exit 1; }
for arguments in "1 --threads 2" "2" "3 --deal contiguous" "4 --deal early-and-late"; do
  # shellcheck disable=SC2086
  run $arguments >out
  got=$(print_of <out)
  [ "$got" = "$expected" ] || { echo "on $arguments: $got, expected $expected" && exit 1; }
  [ "$(grep -c '^ *[0-9]* *[0-9]* *[0-9.]*  ' out)" = "${arguments%% *}" ] ||
    { echo "not a line a rank:" && cat out && exit 1; }
  grep -q '0 s left' err || { echo "no progress:" && cat err && exit 1; }
  [ "$(grep -c '0 s left' err)" = 1 ] || { echo "more than one rank draws:" && cat err && exit 1; }
done
if run 2 --deal somehow >out; then echo "took --deal somehow" && exit 1; fi
grep -q "expected contiguous, early-and-late or cyclic" err || { cat err && exit 1; }
echo "passed"
