// SPDX-License-Identifier: MIT
// expects: give a mask of booleans as Mask::allowed
// each of: TENSOR VECTOR ROWS ONE BRACES BYTES CHAR UTF32
#include <cstdint>
#include <vector>

#include <eigenheads/mask.hpp>

namespace eh = eigenheads;
using Booleans = std::vector<bool>;

void call(const eh::Tensor<bool, 2>& mask) {
  (void)mask;
#if defined(TENSOR)
  (void)eh::Mask{.valid_lens = mask};
#elif defined(VECTOR)
  (void)eh::Mask{.query_lens = Booleans{true, false}};
#elif defined(ROWS)
  (void)eh::Mask{.valid_lens = std::vector<Booleans>{{true, false}}};
#elif defined(ONE)
  (void)eh::ValidLens(true);
#elif defined(BRACES)
  (void)eh::Mask{.valid_lens = {{true, false}, {true, true}}};
#elif defined(BYTES)
  (void)eh::ValidLens(eh::Tensor<std::uint8_t, 1>(3));
#elif defined(CHAR)
  (void)eh::ValidLens{'3'};
#elif defined(UTF32)
  (void)eh::ValidLens{U'3'};
#else
  (void)eh::Mask{.valid_lens = {3, 2}, .key_lens = {short{3}, 2u}};
#endif
}
