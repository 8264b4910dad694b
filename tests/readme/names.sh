#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# names.sh ROOT: what README.md, .github/*.md and the documentation's pages name is there:
#   `folder/file/Suite.Test`   a test of tests/folder/file_test.cpp; each promise C1 to C11 names one
#   `name.hpp`                 a header of include/eigenheads, where a table's row begins with it
#   (path)                     the target of a link within the repository
# and the version is that of version.hpp.
set -euo pipefail
cd "$1"
bad=0
missing() { echo "$1" && bad=1; }

tests() { grep -ohE '`[a-z0-9_/]+/[A-Za-z]+\.[A-Z][A-Za-z0-9]+`' "$@" | tr -d '`' | sort -u; }
for test in $(tests README.md .github/*.md .docs/pages/*.md); do
  file=tests/${test%/*}_test.cpp name=${test##*/}
  [ -e "$file" ] && tr -d '\n' <"$file" | grep -qE "TEST(_F|_P)?\\(${name%.*}, *${name#*.}\\)" ||
    missing "$test: no such test in $file"
done

for promise in C{1..11}; do
  grep -q "^| $promise |" README.md || missing "README.md does not say what $promise is"
  [ -n "$(tests <(sed -n "/^## $promise:/,/^## /p" .github/CONTRACT.md))" ] ||
    missing "CONTRACT.md names no test for $promise"
done

for header in $(grep -E '^\| `' README.md | cut -d'|' -f2 | grep -oE '[a-z_/]+\.hpp'); do
  [ -e "include/eigenheads/$header" ] || missing "README.md: there is no $header"
done

outside_code() { awk '/^```/ { inside = !inside } !inside' "$1"; } # [&](...) is no link
for page in README.md .github/*.md .docs/pages/*.md; do
  for link in $(outside_code "$page" | grep -oE '\]\([^)#]+' | sed 's/](//' | grep -vE '^https?:' || true); do
    [ -e "$(dirname "$page")/$link" ] || missing "$page: there is no $link"
  done
done
version=$(sed -nE 's/^#define EIGENHEADS_VERSION_(MAJOR|MINOR|PATCH) //p' \
  include/eigenheads/version.hpp | paste -sd.)
grep -qF "version = {$version}" README.md || missing "README.md cites another version than $version"
exit $bad
