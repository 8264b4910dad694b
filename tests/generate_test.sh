#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# generate_test.sh PROGRAM: examples/generate from the outside.
source "$(dirname "${BASH_SOURCE[0]}")/program.sh"

# The same seed, the same text; another seed, another text; the prompt comes first.
text=$("$program" 'Mira has 7 apples.' --tokens 80 --temperature 1 2>"$work/err")
expect 'written again' "$text" "$("$program" 'Mira has 7 apples.' --tokens 80 --temperature 1 2>/dev/null)"
other=$("$program" 'Mira has 7 apples.' --tokens 80 --temperature 1 --seed 2 2>/dev/null)
[ "$text" != "$other" ] || { echo 'two seeds write the same' && exit 1; }
[[ "$text" == 'Mira has 7 apples.'* ]] || { echo "no prompt in $text" && exit 1; }
grep -qE '^80 tokens, [0-9]+ a second$' "$work/err" || { cat "$work/err" && exit 1; }

# As README shows it.
expect 'README' 'Mira has 7 apples. She loses 5 in the garden and has 2 left. She loses 1 in the garden and has 1 left. She buys 2 at the market and has 3 apples. "I have 3 apples," says Mira.' \
  "$("$program" 'Mira has 7 apples.' --temperature 0 --tokens 157 2>/dev/null)"

# It ends with what it is to stop at, though that was in the prompt, or ends there without.
expect 'stop' 'Mira has 7 apples. She loses 5 in the garden and has 2 left.' \
  "$("$program" 'Mira has 7 apples.' --temperature 0 --stop left. 2>/dev/null)"
expect 'stop after the prompt' 'Mira has 7 apples. She loses 5 in the garden and has 2 left.' \
  "$("$program" 'Mira has 7 apples. She loses 5 in the garden and has 2 left' --temperature 0 --stop . 2>/dev/null)"

# All that can be asked for, and what was looked at.
"$program" 'Tom' --tokens 20 --temperature 0.7 --top-k 20 --top-p 0.9 --min-p 0.01 --penalty 1.1 \
  --attention "$work/heads.html" >/dev/null 2>&1
grep -q '"name":"Layer 3"' "$work/heads.html" || { echo 'no page of heads' && exit 1; }
likeliest=$("$program" 'Mira has 7 apples. Tom gives her 5 more, and now she has' --beams 3 2>/dev/null)
[[ "$likeliest" == *'she has 12 apples.'* ]] || { echo "no sum in $likeliest" && exit 1; }

# Any bytes come out as UTF-8.
"$program" 'Mira' --tokens 200 --temperature 9 2>/dev/null | iconv -f UTF-8 -t UTF-8 >/dev/null

# A run of 105 steps on a text of one's own, and the same that is stopped: the checkpoint of step 100
# ends in its bits.
"$program" stories --count 5 --seed 3 >"$work/text"
run=(train "$work/text" --steps 105)
"$program" "${run[@]}" --threads 1 --out "$work/one" >"$work/out" 2>&1
mkdir "$work/two"
cp "$work/one/checkpoint.safetensors" "$work/two"
"$program" "${run[@]}" --threads 2 --out "$work/two" --resume >"$work/out" 2>&1
cmp "$work/one/weights.safetensors" "$work/two/weights.safetensors"
grep -qE '^Loss of a byte: [0-9]\.[0-9]{3}, of text that is held out [0-9]\.[0-9]{3}$' "$work/out"
grep -q '<circle' "$work/one/loss.svg" || { echo 'no loss curve' && exit 1; }
"$program" "$work/one/weights.safetensors" 'Tom' --tokens 5 >/dev/null 2>&1

head -c 1000 "$work/one/checkpoint.safetensors" >"$work/two/checkpoint.safetensors"
refused 'checkpoint.safetensors: ' "${run[@]}" --out "$work/two" --resume
"$program" stories --count 5 --seed 4 >"$work/text"
refused 'other options or another text' "${run[@]}" --out "$work/one" --resume
printf 'short' >"$work/text"
refused 'the text has 5 bytes; expected more than 256' "${run[@]}"
refused 'No such file or directory' train "$work/none"
refused '--steps is' train --steps 0

# Models of other libraries: the text that transformers writes, where the program can read their words.
models=$(dirname "${BASH_SOURCE[0]}")/golden/language_models
if "$program" "$models/gpt2" x --tokens 1 >/dev/null 2>"$work/err"; then
  for model in gpt2 llama; do
    "$program" "$models/$model" 'Mira hört 2026 apples' --temperature 0 --tokens 200 \
      --attention "$work/$model.html" >"$work/out" 2>/dev/null
    cmp "$models/$model/expected.txt" "$work/out"
    grep -q '"name":"Layer 2"' "$work/$model.html" || { echo 'no page of heads' && exit 1; }
  done
  refused 'expected 256 at most' "$models/gpt2" 'Mira' --tokens 256
  refused 'there is no tokenizer.json' "$models/mistral" 'Mira'
else
  grep -q 'built without utf8proc' "$work/err" || { cat "$work/err" && exit 1; }
fi
refused 'there is no tokenizer.json' "$work" 'Mira'

refused 'the prompt is empty' ''
refused 'the prompt is no UTF-8 from byte 3 on' $'ab\xff'
refused 'there are 0 words' --tokens 3
refused 'No such file or directory' "$work/none" 'Tom'
refused "$work/text: " "$work/text" 'Tom'
refused 'not a model of this program' "$(dirname "${BASH_SOURCE[0]}")/../examples/dates/weights.safetensors" 'Tom'
refused 'temperature is -1; expected 0 or more' 'Tom' --temperature -1
refused "--top-p is 'much'; expected a number" 'Tom' --top-p much
refused 'expected no --top-k' 'Tom' --beams 2 --top-k 3
refused '--stop needs a value' 'Tom' --stop ''
refused 'expected 16384 at most' "$(head -c 10000 /dev/zero | tr '\0' 'a')" --tokens 9000

mkdir -p "$work/taken/loss.svg"
refused 'loss.svg: Is a directory' train --out "$work/taken"
expect 'help' "$("$program" --help)" "$("$program" evaluate --help)"
