#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh CASE.cpp COMPILER [FLAGS...]: succeeds if the case does not compile, and an error says
# what its comment `// expects: <text>` promises. With a comment `// each of: A B C` that holds with
# each of these macros defined, and it compiles with none.
set -euo pipefail
case=$1
shift
expected=$(sed -n 's,^// expects: ,,p' "$case")
[ -n "$expected" ] || { echo "$case has no line '// expects: <text>'" && exit 1; }
read -ra macros <<<"$(sed -n 's,^// each of: ,,p' "$case")"

compile() { LC_ALL=C "$@" -std=c++20 -w -fsyntax-only "$case" 2>&1; }

must_fail() { # must_fail COMPILER FLAGS...
  local output
  if output=$(compile "$@"); then
    echo "It compiled; expected an error that says: $expected ($*)"
    return 1
  fi
  if ! grep -F 'error:' <<<"$output" | grep -F -- "$expected"; then
    echo "It was refused, but no error says: $expected ($*)"
    echo "$output"
    return 1
  fi
}

if [ ${#macros[@]} -eq 0 ]; then
  must_fail "$@"
  exit
fi
compile "$@" || { echo 'It does not compile without any of its macros' && exit 1; }
for macro in "${macros[@]}"; do must_fail "$@" "-D$macro"; done
