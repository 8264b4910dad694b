#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# prune_heads_test.sh PROGRAM: examples/prune_heads from the outside.
source "$(dirname "${BASH_SOURCE[0]}")/program.sh"

# So few phrases say nothing of heads, but all that is computed of them is.
tiny=(--quick --phrases 4 --steps 1)
"$program" "${tiny[@]}" --threads 2 --out "$work/two" >"$work/out" 2>"$work/err"
grep -q '(margin_gradient) choose better than chance?' "$work/out" || { cat "$work/out" && exit 1; }
grep -q 'left' "$work/err" || { echo 'no progress' && exit 1; }
expect 'files' 'candidates.csv fine_tuning.csv importance.csv rank_correlation.csv report.html speed.csv' \
  "$(ls "$work/two" | paste -sd' ')"
# 13 measures, 5 splits, 24 heads; 13 measures, random and oracle, 5 levels, 5 splits, and the whole
expect 'rows of importance' 1561 "$(wc -l <"$work/two/importance.csv")"
expect 'rows of candidates' 381 "$(wc -l <"$work/two/candidates.csv")"
grep -q '</html>' "$work/two/report.html" || { echo 'the report has no end' && exit 1; }

# Any number of threads gives the same numbers, and over what was there before.
mkdir "$work/one"
echo old >"$work/one/importance.csv"
"$program" "${tiny[@]}" --threads 1 --out "$work/one" >/dev/null 2>&1
for table in importance candidates fine_tuning rank_correlation; do
  cmp "$work/one/$table.csv" "$work/two/$table.csv"
done

# What cannot be written is said before the work, not after it.
echo file >"$work/file"
refused "$work/file: Not a directory" --out "$work/file"
refused "$work/file/inside: Not a directory" --out "$work/file/inside"
mkdir -p "$work/taken/report.html"
refused "$work/taken/report.html: Is a directory" --out "$work/taken"
expect 'left behind' 'report.html' "$(ls "$work/taken")"
if [ "$(id -u)" = 0 ]; then
  refused '/proc/self/importance.csv: ' --out /proc/self # root may write to any folder but such
else
  mkdir -m 500 "$work/closed"
  refused "$work/closed: Permission denied" --out "$work/closed"
  expect 'written' '' "$(ls "$work/closed")"
fi
refused "$work/none: No such file or directory" --out "$work/x" --weights "$work/none"
refused '--phrases is' --phrases 0
refused '--threads is' --threads none
refused "unknown option '--slow'" --slow
