# SPDX-License-Identifier: MIT
# Sourced by the tests of a program from the outside, whose path is $1.
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

expect() { # expect NAME EXPECTED GOT
  [ "$2" = "$3" ] || { printf '%s\nexpected: %s\ngot:      %s\n' "$1" "$2" "$3" && exit 1; }
}
refused() { # refused SENTENCE ARGUMENTS...: exit status 2, the sentence, and soon
  local sentence=$1 status=0
  shift
  timeout 20 "$program" "$@" >"$work/out" 2>"$work/err" || status=$?
  expect "status of $*" 2 "$status"
  grep -qF -- "$sentence" "$work/err" || { echo "$*: no '$sentence' in:" && cat "$work/err" && exit 1; }
}
