// SPDX-License-Identifier: MIT
#include <iostream>

#include <eigenheads/eigenheads.hpp>

int main() {
  eigenheads::Tensor<float, 3> scores(1, 1, 4);  // [batch, queries, keys]
  scores.setConstant(1);
  const auto weights = eigenheads::masked_softmax(scores, eigenheads::ValidLens{2});
  std::cout << weights << '\n';  // of 4 keys, 2 may be seen
  return weights(0, 0, 0) == 0.5f && weights(0, 0, 3) == 0 ? 0 : 1;
}
