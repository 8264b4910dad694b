#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# dates_test.sh PROGRAM: examples/dates from the outside.
source "$(dirname "${BASH_SOURCE[0]}")/program.sh"

expect 'texts as arguments' $'March 5, 1999 -> 1999-03-05\nFeb 30, 1999 -> no such day: 1999-02-30' \
  "$("$program" translate 'March 5, 1999' 'Feb 30, 1999')"
expect 'lines of the input' $'3.7.88 -> 1988-07-03\n -> no date\nhello -> no date' \
  "$(printf '3.7.88\r\n\nhello\n' | "$program" translate)"
long='a text of more than forty characters, March 5'
expect 'too long' "$long -> longer than 40 characters" "$("$program" translate "$long")"

"$program" translate '5. MÃ¤rz 1999' --heatmap "$work/heads.svg" \
  --heads "$work/heads.html" >/dev/null
grep -q 'Head 8' "$work/heads.svg" || { echo 'no eight heads are drawn' && exit 1; }
grep -q '"name":"Answer"' "$work/heads.html" || { echo 'no page of heads' && exit 1; }

# A run of 510 steps, and the same that is stopped: the checkpoint of step 500 ends in its bits.
"$program" train --steps 510 --threads 1 --out "$work/one" >"$work/out" 2>&1
grep -q 'share 0 templates, 0 years' "$work/out" || { cat "$work/out" && exit 1; }
mkdir "$work/two"
cp "$work/one/checkpoint.safetensors" "$work/two"
"$program" train --steps 510 --threads 2 --out "$work/two" --resume >"$work/out" 2>&1
cmp "$work/one/weights.safetensors" "$work/two/weights.safetensors"
grep -q '<svg' "$work/one/loss.svg" || { echo 'no loss curve' && exit 1; }
"$program" translate '2001-02-03' --weights "$work/one/weights.safetensors" >/dev/null

head -c 1000 "$work/one/checkpoint.safetensors" >"$work/two/checkpoint.safetensors"
refused 'checkpoint.safetensors: ' train --steps 510 --out "$work/two" --resume
cmp "$work/one/weights.safetensors" "$work/two/weights.safetensors"
refused 'other options' train --steps 511 --out "$work/one" --resume
refused 'No such file or directory' translate x --weights "$work/none"
refused "unknown command 'read'" read
refused '--steps is' train --steps 0

# What is asked for is made, or said not to be; nothing is trained whose weights cannot be written.
refused 'nothing is drawn' translate "$long" '5.3.1999' --heatmap "$work/none.svg"
[ ! -e "$work/none.svg" ]
refused '--heads is the file that another option writes' translate 5.3.1999 --heatmap "$work/a.svg" \
  --heads "$work/../${work##*/}/a.svg"
refused 'cannot read the standard input' translate <"$work"
mkdir -p "$work/taken/weights.safetensors"
refused 'weights.safetensors: Is a directory' train --out "$work/taken" --steps 1000000
refused 'out: ' train --out "$work/out" --steps 1000000 # a file
LC_ALL=C sed 's/"reach":"[0-9]/"reach":"x/' "$work/one/weights.safetensors" >"$work/bad"
refused "$work/bad: not a model of dates: metadata \"reach\" is \"x" translate x --weights "$work/bad"

# Help wherever it is asked for; and of nothing there is no share.
expect 'help' "$("$program" --help)" "$("$program" train --help)"
expect 'help' "$("$program" --help)" "$("$program" -h)"
"$program" evaluate --count 9 >"$work/out"
if grep ' of 0 and 0' "$work/out" | grep '%'; then exit 1; fi
grep -qE 'numbers +- ' "$work/out" || { echo 'no "-" of 0 texts:' && cat "$work/out" && exit 1; }
