#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# attend_test.sh ATTEND SAMPLE: the program examples/attend.cpp on examples/sample, on the golden
# cases beside this script, and on everything that it has to refuse.
set -euo pipefail
export LC_ALL=C
attend=$(realpath "$1")
sample=$(realpath "$2")
golden=$(realpath "$(dirname "${BASH_SOURCE[0]}")")/golden/cases
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp -r "$sample" sample # so that messages do not depend on where it is
mkdir out

failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

# Runs attend; what it says is then in ./stdout and ./stderr.
run() { # run STATUS ARGUMENTS...
  local expected=$1 status=0
  shift
  "$attend" "$@" >stdout 2>stderr || status=$?
  ((status == expected)) ||
    fail "exit status $status, expected $expected: attend $*"$'\n'"$(cat stderr)"
}
says() { # says TEXT: in the output of the last run
  grep -qF -- "$1" stdout || fail "did not say '$1', but:"$'\n'"$(cat stdout)"
}
# That it fails, says exactly this line, and has written nothing.
refuses() { # refuses LINE ARGUMENTS...
  local line=$1
  rm -rf out/*
  run 2 "${@:2}"
  [ "$(cat stderr)" = "attend: $line" ] ||
    fail "attend ${*:2}"$'\n'"  said:     $(cat stderr)"$'\n'"  expected: attend: $line"
  [ -z "$(ls out)" ] || fail "attend ${*:2} wrote $(ls out)"
}

# A .npy file: 10 bytes, of which the last two are the length of the header, the header, the data.
data_offset() { echo $((10 + $(od -An -tu2 -j8 -N2 "$1"))); }
# That two files have the same header, and their numbers differ by ALLOWED of max(1, largest
# magnitude) at most. Read without the library, by od. TYPE: f4 or f8
npy_close() { # npy_close TYPE ALLOWED GOT EXPECTED
  local offset numbers=(od -An -v -w"${1#f}" -t"$1" -j)
  offset=$(data_offset "$4")
  cmp -n "$offset" "$3" "$4" || fail "$3 and $4 have different headers"
  paste <("${numbers[@]}" "$offset" "$3") <("${numbers[@]}" "$offset" "$4") |
    awk -v allowed="$2" '
      function abs(x) { return x < 0 ? -x : x }
      NF != 2 || /[nN]/ { bad = 1 }  # of different lengths, or not finite
      { if (abs($1 - $2) > worst) worst = abs($1 - $2); if (abs($2) > scale) scale = abs($2) }
      END { exit bad || NR == 0 || worst > allowed * (scale > 1 ? scale : 1) }' ||
    fail "$3 is not close to $4"
}

# ---- Help ----------------------------------------------------------------------------------------

run 0 --help
[ -s stderr ] && fail "--help writes to stderr"
says 'Usage: attend --queries FILE --weights PATH... --num-heads N --output FILE [OPTION...]'
says 'bottom-right aligned'
says '--expect FILE'
run 0 -h
says 'Usage: attend'
run 0 --queries --help # wherever it stands
says 'Usage: attend'

# ---- The sample ----------------------------------------------------------------------------------

layer=(--weights sample/weights --num-heads 5)
pair=(--keys sample/keys.npy --values sample/values.npy --valid-lens sample/valid_lens.npy)
given=(--queries sample/queries.npy "${pair[@]}" "${layer[@]}")

run 0 "${given[@]}" --output out/y.npy --attention out/w.npy --heatmap out/w.svg \
  --query-labels sample/query_labels.txt --key-labels sample/key_labels.txt \
  --expect sample/expected_output.npy
says '  (W_q): Linear(in_features=100, out_features=100, bias=True)'
says 'queries [2, 12, 100], keys [2, 14, 100], values [2, 14, 100], all in float32'
says 'within the 1e-05 allowed'
says 'wrote out/y.npy: the output [2, 12, 100]'
says 'wrote out/w.npy: the attention weights [2, 5, 12, 14]'
says 'wrote out/w.svg: a drawing of them'
npy_close f4 1e-5 out/y.npy sample/expected_output.npy
npy_close f4 1e-5 out/w.npy sample/expected_attention.npy
head -n 2 out/w.svg | grep -q '^<svg ' || fail 'out/w.svg is not SVG'
[ "$(tail -c 7 out/w.svg)" = '</svg>' ] || fail 'out/w.svg does not end'
[ "$(grep -c 'class="panel"' out/w.svg)" = 10 ] || fail 'out/w.svg has not 10 panels'
for text in 'Head 1' 'Head 5' captain tonight; do
  grep -qF ">$text<" out/w.svg || fail "out/w.svg does not show '$text'"
done

# The same bits on two threads, without the weights, and from the files one by one.
run 0 "${given[@]}" --output out/y2.npy --threads 2
cmp out/y.npy out/y2.npy || fail 'two threads give other numbers'
run 0 --queries sample/queries.npy "${pair[@]}" --num-heads 5 --output out/y3.npy \
  --weights sample/weights/*.npy
cmp out/y.npy out/y3.npy || fail 'listed files give other numbers'

# Keys are the queries unless given, values the keys.
self=(--queries sample/queries.npy "${layer[@]}")
run 0 "${self[@]}" --output out/a.npy
run 0 "${self[@]}" --output out/b.npy --keys sample/queries.npy --values sample/queries.npy
cmp out/a.npy out/b.npy || fail 'keys and values are not the queries'
run 0 --queries sample/queries.npy --keys sample/keys.npy "${layer[@]}" --output out/c.npy \
  --valid-lens sample/valid_lens.npy
cmp out/y.npy out/c.npy || fail 'values are not the keys'
run 0 "${self[@]}" --output out/c.npy --causal
! cmp -s out/a.npy out/c.npy || fail '--causal changes nothing'

# A difference is reported, and the output is still written.
rm -rf out/*
run 1 "${given[@]}" --output out/y.npy --expect sample/queries.npy
says 'more than the 1e-05 allowed'
[ -s out/y.npy ] || fail '--expect kept the output from being written'

# ---- float64: golden cases, which have float32 inputs and float64 results ------------------------

# The numbers of a float32 file, none of them subnormal, as float64.
widened() {
  local offset bits wide
  offset=$(data_offset "$1")
  head -c "$offset" "$1" | sed 's/<f4/<f8/'
  od -An -v -w4 -tx4 -j "$offset" "$1" | while read -r bits; do
    bits=$((16#$bits))
    wide=$((bits >> 31 << 63))
    ((bits & 0x7fffffff)) &&
      wide=$((wide | ((bits >> 23 & 0xff) + 1023 - 127) << 52 | (bits & 0x7fffff) << 29))
    printf -v wide %016x "$wide"
    printf "\x${wide:14:2}\x${wide:12:2}\x${wide:10:2}\x${wide:8:2}"
    printf "\x${wide:6:2}\x${wide:4:2}\x${wide:2:2}\x${wide:0:2}"
  done
}
golden_case() { # golden_case NAME NUM_HEADS OPTIONS...
  local files=$golden/$1 part
  rm -rf weights && mkdir weights
  for part in q k v; do cp "$files/W_$part.npy" weights/${part}_proj_weight.npy; done
  cp "$files/W_o.npy" weights/out_proj.weight.npy
  widened "$files/queries.npy" >queries.npy # one float64 file is enough
  run 0 --queries queries.npy --keys "$files/keys.npy" --values "$files/values.npy" \
    --weights weights --num-heads "$2" --output out/y.npy --attention out/w.npy \
    --expect "$files/output.npy" "${@:3}"
  says 'all in float64'
  says 'within the 1e-11 allowed'
  npy_close f8 1e-11 out/y.npy "$files/output.npy"
  npy_close f8 1e-11 out/w.npy "$files/attention_weights.npy"
}
golden_case no_mask 8
golden_case valid_lens_2d 2 --valid-lens "$golden/valid_lens_2d/valid_lens.npy"
golden_case causal_bottom_right 3 --causal
golden_case d2l_example 5 --valid-lens "$golden/d2l_example/valid_lens.npy"

# float64 weights do as well; and no float32 file can be met to 1e-11.
widened sample/weights/out_proj.bias.npy >out_proj.bias.npy
run 0 --queries sample/queries.npy "${pair[@]}" --num-heads 5 --output out/y.npy \
  --expect sample/expected_output.npy \
  --weights sample/weights/in_proj_*.npy sample/weights/out_proj.weight.npy out_proj.bias.npy
says 'all in float64'
says 'within the 1e-05 allowed'

# ---- What is wrong with the command line ---------------------------------------------------------

usage='(attend --help lists the options)'
all=("${given[@]}" --output out/y.npy)
refuses "--queries is missing $usage"
refuses "--queries is missing $usage" "${layer[@]}" --output out/y.npy
refuses "--weights is missing $usage" --queries q.npy --num-heads 5 --output out/y.npy
refuses "--num-heads is missing $usage" --queries q.npy --weights w --output out/y.npy
refuses "--output is missing $usage" "${given[@]}"
refuses "unknown option '--quiet' $usage" "${all[@]}" --quiet
refuses "unknown option '-h' $usage" "${all[@]}" -h
refuses "unknown option '--threads=2' $usage" "${all[@]}" --threads=2
refuses "unexpected word 'more' $usage" "${all[@]}" more
refuses "unexpected word 'yes' $usage" "${all[@]}" --causal yes
refuses "--causal is given twice $usage" "${all[@]}" --causal --causal
refuses "--output is given twice $usage" "${all[@]}" --output out/z.npy
refuses "--weights is given twice $usage" "${all[@]}" --weights sample/weights
refuses "--heatmap needs a value $usage" "${all[@]}" --heatmap
refuses "--attention needs a value $usage" "${all[@]}" --attention --causal
refuses "--weights needs a value $usage" --weights --num-heads 5
refuses "--attention needs a value $usage" "${all[@]}" --attention ''
for number in 0 -1 2.5 five 5x '5 ' 1025 99999999999999999999; do
  refuses "--threads is '$number'; expected a whole number, 1 to 1024 $usage" "${all[@]}" \
    --threads "$number"
done
refuses "--num-heads is 'x'; expected a whole number, 1 to 2147483647 $usage" --num-heads x \
  --queries q.npy --weights w --output out/y.npy
refuses "--query-labels needs --heatmap $usage" "${all[@]}" --query-labels sample/query_labels.txt
refuses "--key-labels needs --heatmap $usage" "${all[@]}" --key-labels sample/key_labels.txt
refuses "--attention is the file that another option writes $usage" "${all[@]}" \
  --attention out/../out/y.npy
mkdir kept && touch kept/y.npy && ln -s kept/y.npy link.npy
refuses "--attention is the file that another option writes $usage" "${given[@]}" \
  --output kept/y.npy --attention link.npy
refuses '/dev/null: not a regular file' "${all[@]}" --attention /dev/null
refuses 'none/y.npy: there is no such folder' "${given[@]}" --output none/y.npy
refuses 'none/w.npy: there is no such folder' "${all[@]}" --attention none/w.npy
refuses 'sample: Is a directory' "${all[@]}" --heatmap sample

# ---- What is wrong with the files ----------------------------------------------------------------

queries() { # queries LINE FILE: in place of the sample's
  refuses "$1" --queries "$2" "${pair[@]}" "${layer[@]}" --output out/y.npy --attention out/w.npy
}
queries 'none.npy: No such file or directory' none.npy
queries 'sample: Is a directory' sample
queries 'sample/valid_lens.npy: holds int64 values; expected float32 or float64' \
  sample/valid_lens.npy
queries 'sample/expected_attention.npy: has shape [2, 5, 12, 14]; 3 dimensions were asked for' \
  sample/expected_attention.npy
queries "sample/README.md: not a .npy file: it does not begin with \"\\x93NUMPY\"" sample/README.md
refuses 'values has shape [2, 14, 100]; expected [B, K, value_size] = [2, 12, 100]' "${self[@]}" \
  --output out/y.npy --values sample/values.npy
refuses 'queries has shape [2, 6, 16]; expected [B, Q, query_size] = [*, *, 100]' \
  --queries "$golden/no_mask/queries.npy" "${layer[@]}" --output out/y.npy
refuses 'valid_lens[0] is 14; expected 0 to the number of keys, 12' "${self[@]}" \
  --output out/y.npy --valid-lens sample/valid_lens.npy
refuses 'sample/keys.npy: holds float32 values; expected int32 or int64' "${self[@]}" \
  --output out/y.npy --valid-lens sample/keys.npy
refuses 'valid_lens has shape [1]; expected [B] = [2] or [B, Q] = [2, 12]' "${self[@]}" \
  --output out/y.npy --valid-lens "$golden/lazy_example/valid_lens.npy"

refuses 'none: No such file or directory' --queries sample/queries.npy --weights none \
  --num-heads 5 --output out/y.npy
refuses 'out: a folder without .npy files; expected in_proj_weight.npy and others' \
  --queries sample/queries.npy --weights out --num-heads 5 --output out/y.npy
in_weight=sample/weights/in_proj_weight.npy out_weight=sample/weights/out_proj.weight.npy
refuses "$in_weight: found only in_proj_weight; expected also out_proj.weight" \
  --queries sample/queries.npy --weights $in_weight --num-heads 5 --output out/y.npy
refuses "num_heads is 7; expected a divisor of E = 100, the size of $out_weight" \
  --queries sample/queries.npy --weights sample/weights --num-heads 7 --output out/y.npy

refuses 'none.npy: No such file or directory' "${all[@]}" --expect none.npy
refuses 'sample/valid_lens.npy: holds int64 values; expected float32 or float64' "${all[@]}" \
  --expect sample/valid_lens.npy
refuses 'sample/keys.npy has shape [2, 14, 100]; expected [B, Q, E] = [2, 12, 100]' "${all[@]}" \
  --expect sample/keys.npy
refuses 'sample/key_labels.txt: has 14 lines; expected 12, one for each query' "${all[@]}" \
  --heatmap out/w.svg --query-labels sample/key_labels.txt
refuses 'sample/query_labels.txt: has 12 lines; expected 14, one for each key' "${all[@]}" \
  --heatmap out/w.svg --key-labels sample/query_labels.txt
refuses '/dev/null: not a regular file' "${all[@]}" --heatmap out/w.svg --key-labels /dev/null

# ---- Damaged files -------------------------------------------------------------------------------

# Cut anywhere, or made of other bytes: one line, and no crash.
refuses_damaged() {
  rm -rf out/*
  run 2 --queries damaged.npy "${layer[@]}" --output out/y.npy
  [[ $(cat stderr) == 'attend: damaged.npy: '* && $(wc -l <stderr) == 1 ]] ||
    fail "$1: said '$(cat stderr)'"
  [ -z "$(ls out)" ] || fail "$1: wrote $(ls out)"
}
size=$(wc -c <sample/queries.npy)
for bytes in 0 1 5 6 7 8 9 10 11 64 127 128 129 5000 $((size - 1)); do
  head -c "$bytes" sample/queries.npy >damaged.npy
  refuses_damaged "the first $bytes bytes"
done
for seed in 1 2 3 4 5; do
  awk -v seed=$seed >noise \
    'BEGIN { srand(seed); for (i = 0; i < 3000; i++) printf "%c", int(256 * rand()) }'
  cp noise damaged.npy
  refuses_damaged "noise of seed $seed"
  { head -c 10 sample/queries.npy && cat noise; } >damaged.npy
  refuses_damaged "a header of noise of seed $seed"
done
# One byte of the header changed: either it still says something, or it is refused.
for ((at = 0; at < $(data_offset sample/queries.npy); ++at)); do
  for byte in '\x00' '9' '\xff'; do
    cp sample/queries.npy damaged.npy
    printf "$byte" | dd of=damaged.npy bs=1 seek=$at conv=notrunc status=none
    status=0
    "$attend" --queries damaged.npy "${layer[@]}" --output out/y.npy >stdout 2>stderr || status=$?
    ((status == 0 || status == 2)) || fail "status $status with byte $at = $byte: $(cat stderr)"
  done
done

((failures == 0))
