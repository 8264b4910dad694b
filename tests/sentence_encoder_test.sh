#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sentence_encoder_test.sh PROGRAM: examples/sentence_encoder from the outside, with a tiny model; where
# examples/sentence_encoder/get-model has been, with MiniLM too.
source "$(dirname "${BASH_SOURCE[0]}")/program.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tiny=$root/tests/golden/sentence_encoder/bert
export HOME=$work/home
unset XDG_CACHE_HOME
cd "$work"

# Lines of files or of the input, to what NumPy reads; any number of threads gives the same bytes.
"$program" embed "$tiny/texts.txt" "$tiny/texts.txt" --model "$tiny" --out one.npy --threads 1 >out 2>err
expect 'rows' '[20, 16] in one.npy' "$(cat out)"
grep -qE '^20 texts of [0-9]+ tokens, [0-9]+ texts a second$' err || { cat err && exit 1; }
cat "$tiny/texts.txt" "$tiny/texts.txt" | "$program" embed --model "$tiny" --out three.npy --threads 3 >/dev/null 2>&1
cmp one.npy three.npy
"$program" embed --model "$tiny" </dev/null >out 2>err
expect 'no lines' '[0, 16] in embeddings.npy' "$(cat out)"

expect 'similarity' '1.0000' "$("$program" similarity 'the cat' 'THE cat' --model "$tiny")"

# The line itself is the best answer; what is kept is used again.
printf 'the river bank\n\nmoney in the bank\n' >a.txt
printf 'a dog runs fast\n' >b.txt
search=(search a.txt b.txt 'money in the bank' --model "$tiny")
"$program" "${search[@]}" >out 2>err
expect 'best' ' 1.0000  a.txt:3: money in the bank' "$(head -n 1 out)"
expect 'answers' 3 "$(wc -l <out)"
grep -q '^3 texts of' err || { cat err && exit 1; }
expect 'kept' 1 "$(find home/.cache/eigenheads -name '*.safetensors' | wc -l)"
"$program" "${search[@]}" --top 1 >again 2>err
expect 'again' "$(head -n 1 out)" "$(cat again)"
expect 'encoded again' '' "$(cat err)"
echo 'cats sleep' >>b.txt
"$program" "${search[@]}" >out 2>err
grep -q '^1 texts of' err || { echo 'not one new line:' && cat err && exit 1; }
"$program" "${search[@]}" --index kept.safetensors >/dev/null 2>&1
[ -s kept.safetensors ] || { echo 'no index' && exit 1; }
refused 'expected a file that search has written, or a new one' "${search[@]}" --index a.txt
expect 'what is no index' 'the river bank' "$(head -n 1 a.txt)"
refused 'cannot read the standard input' embed --model "$tiny" <"$work"
refused '--heatmap is the file that another option writes' attention 'a dog' --model "$tiny" \
  --view one.html --heatmap ./one.html
expect 'help' "$("$program" --help)" "$("$program" embed --help)"

"$program" attention 'the kitten sleeps' --model "$tiny" --view heads.html --heatmap heads.svg --layer 1
grep -q '"name":"Layer 2"' heads.html && grep -q 'kitten' heads.svg || { echo 'no pictures' && exit 1; }

# Heads: the page, the tables, and a smaller model that is one.
for word in the a cat dog kitten bed sofa river bank money; do
  printf '%s is slow\n%s runs fast .\n' "$word" "$word"
done >texts
"$program" heads "$tiny" --text texts --out page --keep 5 --save small --threads 2 >out 2>err
grep -q '^3 of 8 heads are pruned' out || { cat out && exit 1; }
expect 'files' 'curve.csv heads.html importance.csv pruning.csv speed.csv' "$(ls page | paste -sd' ')"
expect 'rows of importance' $((1 + 13 * 8)) "$(wc -l <page/importance.csv)"
expect 'rows of the curve' 10 "$(wc -l <page/curve.csv)"
"$program" heads --model "$tiny" --text texts --out page1 --keep 5 --threads 1 >/dev/null 2>&1
for table in importance pruning curve; do cmp "page/$table.csv" "page1/$table.csv"; done
"$program" similarity 'the cat' 'a dog' --model small >/dev/null
grep -q pruned_heads small/config.json

# ---- What is refused ------------------------------------------------------------------------------

refused 'there is no model in build/all-MiniLM-L6-v2; `bash examples/sentence_encoder/get-model`' similarity a b
refused 'there is no model in none' similarity a b --model none
mkdir empty
refused 'empty' similarity a b --model empty
refused "there is no command 'embedd'" embedd
refused 'there are 1 texts; expected two' similarity a --model "$tiny"
refused 'expected files, and a query' search a.txt --model "$tiny"
refused 'none.txt: No such file or directory' search none.txt q --model "$tiny"
refused 'a.txt/none: ' embed a.txt --model "$tiny" --out a.txt/none/x.npy
refused '--threads is' embed a.txt --threads 0
refused 'nothing is asked for' attention a --model "$tiny"
refused 'expected --heatmap' attention a --model "$tiny" --view x.html --layer 1
refused "--layer is '3'; expected a whole number, 1 to 2" attention a --model "$tiny" --heatmap x.svg --layer 3
refused '--text is missing' heads "$tiny"
refused 'a.txt: 2 different texts are too few; expected 8 or more' heads "$tiny" --text a.txt --out page
refused 'expected one of them' heads "$tiny" --text texts --keep 3 --loss 0.1
refused "--loss is 'much'; expected a number" heads "$tiny" --text texts --loss much
refused 'is there already; expected a new folder' heads "$tiny" --text texts --save small
cp -r "$tiny" broken
head -c 5000 "$tiny/model.safetensors" >broken/model.safetensors
refused 'model.safetensors' similarity a b --model broken
rm broken/model.safetensors
echo >broken/pytorch_model.bin
refused 'pytorch_model.bin' similarity a b --model broken

model=$root/build/all-MiniLM-L6-v2
[ -e "$model" ] || exit 0
expect 'get-model' "The model is in $model" "$(bash "$root/examples/sentence_encoder/get-model")"
expect 'alike' '0.7380' "$("$program" similarity 'The cat sleeps on the sofa.' 'A kitten naps on the couch.' --model "$model")"
expect 'unlike' '-0.0149' "$("$program" similarity 'The cat sleeps on the sofa.' 'Interest rates rise again.' --model "$model")"
