#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# snippets.sh README.md COMPILER INCLUDE_FLAGS...: what README.md shows besides its first program
# compiles. The blocks are one function, one below the other; what they take for granted is
# declared before them.
set -euo pipefail
readme=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  cat <<'END'
#include <cstdint>
#include <iostream>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/checkpoints.hpp>
#include <eigenheads/io/model_config.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/pooling.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/train/optim.hpp>

int main() {
  eigenheads::Tensor<float, 4> q(2, 8, 100, 64), k(q), v(q);
  eigenheads::Tensor<float, 3> grad_y(2, 100, 512);
  std::vector<float> w(512 * 512);
  std::vector<std::pair<eigenheads::Tensor<float, 3>, eigenheads::Tensor<float, 3>>> batches;
  const std::uint64_t step = 0;
END
  awk '/^```/ { if (inside) number++; inside = 0 } inside && number > 0 { print }
       /^```cpp$/ { inside = 1 }' "$readme"
  echo '}'
} >"$work/snippets.cpp"
grep -q 'prune_heads' "$work/snippets.cpp" || { echo "no block of $readme was found" && exit 1; }
"$@" -std=c++20 -fsyntax-only "$work/snippets.cpp" || { cat -n "$work/snippets.cpp" && exit 1; }
