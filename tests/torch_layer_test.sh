#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# torch_layer_test.sh PROGRAM SAMPLE: examples/torch_layer.cpp on examples/sample, and on files that are
# not those of such a layer.
source "$(dirname "${BASH_SOURCE[0]}")/program.sh"
sample=$2

"$program" "$sample" >"$work/out"
grep -q 'The largest distance' "$work/out"
refused 'No such file or directory' "$work/none"
[ "$(wc -l <"$work/err")" = 1 ] || { cat "$work/err" && exit 1; }

cp -r "$sample" "$work/sample"
cp "$sample/expected_attention.npy" "$work/sample/expected_output.npy"
refused 'has shape [2, 5, 12, 14]' "$work/sample"
cp "$sample/queries.npy" "$work/sample/expected_output.npy"  # of the right shape
status=0
"$program" "$work/sample" >"$work/out" || status=$?
expect 'status of another output' 1 "$status"
size=$(stat -c %s "$sample/expected_output.npy")
cp "$sample/expected_output.npy" "$work/sample"
printf '\0\0\300\177' | dd of="$work/sample/expected_output.npy" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
status=0
"$program" "$work/sample" >"$work/out" || status=$?
expect 'status of an expected NaN' 1 "$status"

# The biases in the place of the weights: another number of rows.
sed 's/in_proj_bias/in_proj_xxxx/; s/out_proj.bias/in_proj_bias/; s/in_proj_xxxx/out_proj.bias/' \
  "$sample/layer.safetensors" >"$work/sample/layer.safetensors"
refused 'in_proj' "$work/sample"
