#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scripts_test.sh ROOT: the scripts that build, install or measure say what they do when they are asked
# to, and do nothing else where an argument is none of theirs.
set -euo pipefail
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

refuses() { # refuses SENTENCE SCRIPT ARGUMENTS...: status 2, at once, and the sentence
  local status=0
  timeout 20 bash "${@:2}" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = 2 ] && grep -qF -- "$1" "$work/err" && [ ! -s "$work/out" ] ||
    { echo "${*:2}: status $status, expected 2 and '$1':" && cat "$work/out" "$work/err" && exit 1; }
}

for script in examples/run examples/sentence_encoder/get-model tests/run bench/run bench/peers/setup \
  .ci/run .ci/{coverage,debian,docs,fuzz,matrix,mutants,packaging}.sh .docs/build; do
  timeout 20 bash "$script" --help >"$work/out" 2>"$work/err" ||
    { echo "$script --help fails:" && cat "$work/err" && exit 1; }
  [ "$(sed -n 3p "$script" | sed 's/^# //')" = "$(head -n 1 "$work/out")" ] && [ ! -s "$work/err" ] ||
    { echo "$script --help does not begin as the script does:" && cat "$work/out" "$work/err" && exit 1; }
  case $script in *matrix.sh | *mutants.sh) continue ;; esac  # whose arguments are names
  refuses "'--nothing'" "$script" --nothing
done
refuses "'x' is not expected; expected --full" tests/run x --full
refuses "'--full' is not expected" tests/run --full --full
refuses "'0' is not expected; expected seconds, or keep" .ci/fuzz.sh 0
refuses "'none' is not expected; expected the name" .ci/fuzz.sh 1 none
refuses "'--runs x' is not expected; expected a number from 1 on" bench/run --runs x
refuses "'--runs ' is not expected" bench/run --brief --runs
refuses "'--scalars half' is not expected; expected float, double or both" bench/run --scalars half
