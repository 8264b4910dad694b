#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh CASE.cpp COMPILER [FLAGS...]: succeeds if the case does not compile, and an error says
# what its comment `// expects: <text>` promises.
set -euo pipefail
case=$1
shift
expected=$(sed -n 's,^// expects: ,,p' "$case")
[ -n "$expected" ] || { echo "$case has no line '// expects: <text>'" && exit 1; }

if output=$(LC_ALL=C "$@" -std=c++20 -w -fsyntax-only "$case" 2>&1); then
  echo "It compiled; expected an error that says: $expected"
  exit 1
fi
if ! grep -F 'error:' <<<"$output" | grep -F -- "$expected"; then
  echo "It was refused, but no error says: $expected"
  echo "$output"
  exit 1
fi
