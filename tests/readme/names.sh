#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# names.sh ROOT: what README.md, .github/*.md, the documentation's pages, tests/edge_cases.md and
# tests/invariants.md name is there:
#   `folder/file/Suite.Test`   a test of tests/folder/file_test.cpp; each promise C1 to C11 names one
#   `kind/name`                a test of another kind, such as compile_fail; each row of
#                              edge_cases.md, numbered without a gap, names a test
#   `name.hpp`                 a header of include/eigenheads, where a table's row begins with it
#   (path)                     the target of a link within the repository
# and the version, wherever one is written down, is that of version.hpp.
set -euo pipefail
cd "$1"
bad=0
missing() { echo "$1" && bad=1; }

tests() { grep -ohE '`[a-z0-9_/]+/[A-Za-z]+\.[A-Z][A-Za-z0-9]+`' "$@" | tr -d '`' | sort -u; }
pages=(README.md .github/*.md .docs/pages/*.md tests/edge_cases.md tests/invariants.md)
for test in $(tests "${pages[@]}"); do
  file=tests/${test%/*}_test.cpp name=${test##*/}
  [ -e "$file" ] && tr -d '\n' <"$file" | grep -qE "TEST(_F|_P)?\\(${name%.*}, *${name#*.}\\)" ||
    missing "$test: no such test in $file"
done

programs='`(compile_fail|consumer|example|flags|mpirun|readme)/[a-z0-9_/]+`'
for test in $(grep -ohE "$programs" tests/edge_cases.md | tr -d '`' | sort -u); do
  name=${test#*/}
  case $test in
    compile_fail/*) [ -e "tests/$test.cpp" ] ;;
    mpirun/*/*) [ -e "tests/mpi/ranks/${name%/*}.cpp" ] ;;
    *) grep -qw "$name" tests/CMakeLists.txt ;;
  esac || missing "$test: tests/CMakeLists.txt makes no such test"
done

group='' expected=1
while read -r row; do
  [ -n "$(tests <<<"$row")" ] || grep -qE "$programs" <<<"$row" ||
    missing "tests/edge_cases.md: a row without a test: ${row:0:60}"
  number=${row:2:5}
  [ "${number%.*}" = "$group" ] || { group=${number%.*} expected=1; }
  [ "$number" = "$group.$(printf %02d $expected)" ] || missing "tests/edge_cases.md: $number is out of order"
  expected=$((10#${number#*.} + 1))
done < <(grep -E '^\| [A-Z][0-9]\.[0-9]{2} \|' tests/edge_cases.md)
[ -n "$group" ] || missing 'tests/edge_cases.md has no rows'

for promise in C{1..11}; do
  grep -q "^| $promise |" README.md || missing "README.md does not say what $promise is"
  [ -n "$(tests <(sed -n "/^## $promise:/,/^## /p" .github/CONTRACT.md))" ] ||
    missing "CONTRACT.md names no test for $promise"
done

for header in $(grep -E '^\| `' README.md | cut -d'|' -f2 | grep -oE '[a-z_/]+\.hpp'); do
  [ -e "include/eigenheads/$header" ] || missing "README.md: there is no $header"
done

outside_code() { awk '/^```/ { inside = !inside } !inside' "$1"; } # [&](...) is no link
for page in "${pages[@]}"; do
  for link in $(outside_code "$page" | grep -oE '\]\([^)#]+' | sed 's/](//' | grep -vE '^https?:' || true); do
    [ -e "$(dirname "$page")/$link" ] || missing "$page: there is no $link"
  done
done
version=$(sed -nE 's/^#define EIGENHEADS_VERSION_(MAJOR|MINOR|PATCH) //p' \
  include/eigenheads/version.hpp | paste -sd.)
grep -qF "version = {$version}" README.md || missing "README.md cites another version than $version"
grep -qF "\"version\": \"$version\"," .packaging/vcpkg/eigenheads/vcpkg.json ||
  missing "vcpkg.json is of another version than $version"
# The newest in the changelog: a release, or one to come.
heading=$(grep -m1 '^## ' .github/CHANGELOG.md)
[[ $heading =~ ^"## $version, "([0-9]{4}-[0-9]{2}-[0-9]{2}|not released yet)$ ]] ||
  missing "CHANGELOG.md begins with \"$heading\"; expected \"## $version, \" and a day"
for other in $(grep -ohE '(eigenheads-|eigenheads-dev_|eigenheads/|eigenheads VERSION )[0-9.]+[0-9]' \
  README.md .packaging/README.md | grep -oE '[0-9.]+$' || true); do
  [ "$other" = "$version" ] || missing "README.md names version $other; expected $version"
done
exit $bad
