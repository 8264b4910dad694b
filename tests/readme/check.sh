#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh README.md QUICKSTART.cpp: the first ```cpp block of the one is, byte for byte, the other
# without its licence line.
set -euo pipefail
for file in "$1" "$2"; do
  [ -s "$file" ] || { echo "$file is missing or empty" && exit 1; }
done
diff -u --label "$1, first cpp block" --label "$2, without its SPDX line" \
  <(awk '/^```/ && inside { exit } inside { print } /^```cpp$/ { inside = 1 }' "$1") \
  <(sed '/SPDX-License-Identifier/d' "$2")
