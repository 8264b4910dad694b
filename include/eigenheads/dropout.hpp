// SPDX-License-Identifier: MIT
#pragma once
// Dropout of attention weights: a setting of the layer, and which weights a training step drops.
// Inference never drops.
//   O[q, v] = sum_k P[q, k] F[q, k] V[k, v],   F = 0 with probability p, else 1 / (1 - p)
// F is a function of a seed and a place alone, so backward makes it again instead of storing it,
// and it is the same in every order, on any number of threads and for both scalar types.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/random.hpp>  // philox4x32
#include <eigenheads/shape.hpp>   // refuse, make_tensor
#include <eigenheads/tensor.hpp>  // Index, Scalar, Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

class Dropout {
 public:
  // Throws std::invalid_argument unless 0 <= p < 1.
  explicit Dropout(double p = 0) : p_(p) {
    if (!detail::is_finite(p) || p < 0 || p >= 1)
      detail::refuse({"dropout is ", detail::number_text(p), "; expected 0 <= dropout < 1"});
  }

  [[nodiscard]] double p() const { return p_; }

 private:
  double p_;
};

inline std::ostream& operator<<(std::ostream& out, const Dropout& dropout) {
  return out << "Dropout(p=" << detail::number_text(dropout.p()) << ", inplace=False)";
}

// Which weights a step drops. Another step, or another layer of it, takes another value.
struct DropoutSeed {
  std::uint64_t value = 0;
};

// F, place by place. As it is made by default, it keeps everything: every factor is 1.
template <Scalar T>
struct DropoutMask {
  std::uint32_t threshold = 0;  // random words below it drop: p, in steps of 2^-32
  T scale = 1;                  // 1 / (1 - p)
  DropoutSeed seed{};

  [[nodiscard]] static DropoutMask of(const Dropout& dropout, DropoutSeed step) {
    const double steps = (std::min)(std::round(dropout.p() * 0x1p32), 0x1p32 - 1);
    // Where few are kept, a step more or less of those is much: then as many as are kept count. So do
    // they where none is dropped.
    const double kept = 1 - dropout.p(), counted = 1 - steps * 0x1p-32;
    const bool counts = steps == 0 || kept < 0x1p-12;
    return {static_cast<std::uint32_t>(steps), static_cast<T>(1 / (counts ? counted : kept)), step};
  }

  // The factor of weight (b, h, q, k): 0 or scale.
  [[nodiscard]] T factor(Index b, Index h, Index q, Index k) const {
    return factor_of(four_words(b, h, q, k), k);
  }

  // Those of keys [begin, end), to `to` and what follows it: four neighbours share their words.
  void factors(Index b, Index h, Index q, Index begin, Index end, T* to) const {
    if (threshold == 0) {
      std::fill_n(to, end - begin, scale);
      return;
    }
    for (Index k = begin; k < end;) {
      const auto words = four_words(b, h, q, k);
      const Index next = (std::min)(k - k % 4 + 4, end);
      for (; k < next; ++k) *to++ = factor_of(words, k);
    }
  }

 private:
  // Of keys k - k % 4 to k - k % 4 + 3. Places count modulo 2^32.
  [[nodiscard]] std::array<std::uint32_t, 4> four_words(Index b, Index h, Index q, Index k) const {
    return philox4x32(
        {static_cast<std::uint32_t>(k / 4), static_cast<std::uint32_t>(q),
         static_cast<std::uint32_t>(h), static_cast<std::uint32_t>(b)},
        {static_cast<std::uint32_t>(seed.value), static_cast<std::uint32_t>(seed.value >> 32)});
  }
  [[nodiscard]] T factor_of(const std::array<std::uint32_t, 4>& words, Index k) const {
    return words[static_cast<std::size_t>(k % 4)] < threshold ? T(0) : scale;
  }
};

// F whole, [B, H, Q, K]: to do a step again by other means. Throws std::invalid_argument unless
// 0 <= p < 1.
template <Scalar T>
[[nodiscard]] Tensor<T, 4> dropout_mask(double p, DropoutSeed seed, Index B, Index H, Index Q,
                                        Index K) {
  const auto mask = DropoutMask<T>::of(Dropout(p), seed);
  auto factors = detail::make_tensor<T>("dropout mask", std::array{B, H, Q, K});
  T* row = factors.data();
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q, row += K) mask.factors(b, h, q, 0, K, row);
  return factors;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
