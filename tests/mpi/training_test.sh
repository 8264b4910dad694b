#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# training_test.sh PROGRAM MPIRUN: examples/generate, training on the ranks of mpirun: the same model as
# one process makes of as many shards, also if a rank is killed and the run goes on.
source "$(dirname "${BASH_SOURCE[0]}")/../program.sh"
mpirun=$2
on_ranks() { # on_ranks SIZE ARGUMENTS...
  local size=$1
  shift
  bash "$(dirname "${BASH_SOURCE[0]}")/mpirun.sh" "$mpirun" "$size" "$program" "$@"
}
"$program" stories --count 5 --seed 3 >"$work/text"
run=(train "$work/text" --threads 1 --steps 200)

"$program" "${run[@]}" --shards 8 --out "$work/one" >"$work/out" 2>&1
grep '^Loss' "$work/out" >"$work/loss"
on_ranks 3 "${run[@]}" --out "$work/three" >"$work/out" 2>"$work/err"
cmp "$work/one/weights.safetensors" "$work/three/weights.safetensors"
cmp "$work/one/checkpoint.safetensors" "$work/three/checkpoint.safetensors"
expect 'one rank speaks' "$(cat "$work/loss")" "$(grep '^Loss' "$work/out")"
expect 'one rank draws' 10 "$(grep -c ' step ' "$work/err")"

# What is wrong with the command line is said once, and so is what the first rank cannot write.
for words in '--shards 0' '--out /dev/null/no_folder'; do
  status=0
  # shellcheck disable=SC2086
  on_ranks 2 train "$work/text" $words >"$work/out" 2>&1 || status=$?
  [[ "$status" != 0 && "$status" != 124 ]] || { echo "$words: status $status" && exit 1; }
  expect "$words" 1 "$(grep -cE "^rank [01]: .*('0'|no_folder)" "$work/out")"
done

# So is what is wrong with the checkpoint that they go on from.
said_once() { # said_once SENTENCE ARGUMENTS...
  local sentence=$1 status=0
  shift
  on_ranks 3 "${run[@]}" "$@" --resume >"$work/out" 2>&1 || status=$?
  [[ "$status" != 0 && "$status" != 124 ]] || { echo "$sentence: status $status" && exit 1; }
  expect "$sentence" 1 "$(grep -cE "^rank [0-2]: .*($sentence)" "$work/out")"
}
said_once 'a checkpoint of a run with 8 shards; this one has 4' --out "$work/three" --shards 4
mkdir "$work/cut"
head -c 5000 "$work/three/checkpoint.safetensors" >"$work/cut/checkpoint.safetensors"
said_once 'checkpoint.safetensors: ' --out "$work/cut"

# A rank is killed after the first checkpoint: mpirun ends within 10 s, and a run on another number of
# ranks ends in the bits of the one that nobody disturbed.
on_ranks 2 "${run[@]}" --out "$work/two" >"$work/out" 2>&1 &
started=$!
until [ -e "$work/two/checkpoint.safetensors" ]; do
  sleep 0.05
  kill -0 $started || { cat "$work/out" && exit 1; }
done
ranks=()
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/exe")" = "$(readlink -f "$program")" ] &&
    grep -qF "$work/two" "$process/cmdline" && ranks+=("${process#/proc/}")
done
expect 'ranks' 2 "${#ranks[@]}"
kill -KILL "${ranks[1]}"
status=0
SECONDS=0
wait $started || status=$?
[ "$status" != 0 ] || { echo 'mpirun says that all is well' && exit 1; }
[ $SECONDS -le 10 ] || { echo "mpirun ended after $SECONDS s" && exit 1; }
[ ! -e "$work/two/weights.safetensors" ] || { echo 'the run was over' && exit 1; }
on_ranks 4 "${run[@]}" --out "$work/two" --resume >"$work/out" 2>&1
cmp "$work/one/weights.safetensors" "$work/two/weights.safetensors"
cmp "$work/one/checkpoint.safetensors" "$work/two/checkpoint.safetensors"

# Alone it goes on with the shards that the checkpoint has, and with no others.
"$program" "${run[@]}" --out "$work/two" --resume >"$work/out" 2>&1
cmp "$work/one/weights.safetensors" "$work/two/weights.safetensors"
refused 'a checkpoint of a run with 8 shards; this one has 4' "${run[@]}" --out "$work/two" --resume --shards 4
