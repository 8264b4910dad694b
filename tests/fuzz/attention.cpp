// SPDX-License-Identifier: MIT
// Attention and its gradients against a textbook in double: any shapes, masks, scales, score functions
// and sinks, with NaN, infinities and subnormals among the numbers.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/score.hpp>

#include "calls.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index, eh::Tensor, eh::TensorView;
using fuzz::Input, fuzz::PairMask, fuzz::Shape, fuzz::Tensors;
using support::kInf, support::kNan;

// What is asked for besides the mask.
struct Asked {
  std::optional<double> scale{};
  Index score = 0;                    // which function
  Tensor<float, 4> bias{0, 0, 0, 0};  // NOLINT
  Tensor<float, 1> slopes{0};
  Tensor<float, 1> sinks{0};  // empty: none
};

Asked asked_from(Input& input, const Shape& shape) {
  Asked asked;
  if (input.flag())
    asked.scale = input.one_of({0.0, 1.0, -0.5, 0.001, 3.0, 1e39, support::kNan<double>});
  asked.score = input.between(0, 3);
  if (asked.score == 1) {
    const auto axis = [&](Index length) { return input.flag() ? Index{1} : length; };
    const auto seed = input.byte();
    const Index axes[] = {axis(shape.B), axis(shape.H), axis(shape.Q), axis(shape.K)};
    asked.bias = support::random_tensor<float>(seed, axes[0], axes[1], axes[2], axes[3]);
    for (Index n = input.between(0, 4); n > 0 && asked.bias.size() > 0; --n) {
      float& number = asked.bias.data()[input.raw<std::uint16_t>() % asked.bias.size()];
      number = input.one_of({-kInf<float>, -kInf<float>, 0.0f, 40.0f, kNan<float>, kInf<float>});
    }
  }
  if (asked.score == 2) asked.slopes = support::random_tensor<float>(input.byte(), shape.H);
  if (input.between(0, 3) == 3) {
    asked.sinks = support::random_tensor<float>(input.byte(), shape.H);
    if (input.flag()) asked.sinks(0) = input.one_of({-kInf<float>, 30.0f, -30.0f, -0.0f});
  }
  return asked;
}

// Special numbers at a few places. Of queries and keys none is so large that it decides which key is
// seen by its rounding.
void poke(Input& input, Tensors& x) {
  for (Index n = input.between(0, 7); n > 0; --n) {
    const Index which = input.between(0, 2);
    Tensor<float, 4>& tensor = which == 0 ? x.queries : which == 1 ? x.keys : x.values;
    const float special = input.one_of({kNan<float>, kInf<float>, -kInf<float>, 0.0f, -0.0f, 1e-45f,
                                        std::numeric_limits<float>::min(), 20.0f});
    const Index at = input.raw<std::uint16_t>();
    if (tensor.size() > 0) tensor.data()[at % tensor.size()] = special;
  }
}

Tensor<double, 4> widened(const Tensor<float, 4>& x) {
  Tensor<double, 4> wide(x.dimension(0), x.dimension(1), x.dimension(2), x.dimension(3));
  std::transform(x.data(), x.data() + x.size(), wide.data(), [](float e) { return double{e}; });
  return wide;
}

// visit(the score function, and the same for double).
template <class Visit>
void with_score(const Asked& asked, const Visit& visit) {
  const Tensor<double, 4> bias = widened(asked.bias);
  Tensor<double, 1> slopes(asked.slopes.size());
  std::copy_n(asked.slopes.data(), slopes.size(), slopes.data());
  switch (asked.score) {
    case 1:
      return visit(eh::ScoreBias<float>(asked.bias), eh::ScoreBias<double>(bias));
    case 2:
      return visit(eh::Alibi<float>(asked.slopes), eh::Alibi<double>(slopes));
    case 3:
      return visit(eh::Softcap(2.5f), eh::Softcap(2.5));
    default:
      return visit(eh::PlainScore{}, support::ScoreAsItIs{});
  }
}

// Where the exact number is none, so is the other, and a NaN is a NaN.
void require_near(const char* what, std::initializer_list<Index> at, double got, double exact,
                  double bound) {
  const bool holds = std::isnan(exact)   ? std::isnan(got)
                     : std::isinf(exact) ? !std::isfinite(got)
                                         : got == exact || std::abs(got - exact) <= bound;
  if (holds) return;
  std::string text = what;
  for (const Index i : at) text += ' ' + std::to_string(i);
  fuzz::fail(text + " is " + std::to_string(got) + ", not " + std::to_string(exact) + " +- " +
             std::to_string(bound));
}

void compare(const eh::AttentionResult<float>& got, const support::Textbook<float>& exact,
             const PairMask& mask, const Tensor<float, 1>& sinks, const Shape& shape) {
  const auto [B, H, G, Q, K, D, V] = shape;
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const double lse = exact.lse(b, h, q), off = exact.lse_bound(b, h, q);
        const bool is_rough = !(off < 0.01);  // scores so large that their rounding decides
        const double of_lse = off + 1e-7 * std::abs(lse);
        if (!is_rough || !std::isfinite(lse))
          require_near("lse", {b, h, q}, got.lse(b, h, q), lse, of_lse);
        // With a sink, a row is what it is without one, times 1 / (1 + e^(sink - lse)).
        double share = 1;
        if (sinks.size() > 0 && std::isfinite(lse)) share = 1 / (1 + std::exp(sinks(h) - lse));
        const auto compare = [&](const char* what, const auto& ours, const auto& exact_ones,
                                 const auto& bounds) {
          for (Index i = 0; i < ours.dimension(3); ++i) {
            const double whole = exact_ones(b, h, q, i);
            const double wanted = std::isfinite(whole) ? share * whole : whole;
            // In a row that is NaN, a key whose score is -inf may be NaN too.
            if ((is_rough || std::isnan(lse)) && std::isfinite(wanted)) continue;
            const double of_sink = sinks.size() > 0 ? 4 * (of_lse + 1e-6) * std::abs(wanted) : 0;
            require_near(what, {b, h, q, i}, ours(b, h, q, i), wanted,
                         2 * bounds(b, h, q, i) + of_sink);
          }
        };
        for (Index k = 0; k < K; ++k)
          fuzz::require(mask.visible(b, h, q, k) || got.weights(b, h, q, k) == 0,
                        "a hidden key has a weight");
        compare("weight", got.weights, exact.weights, exact.weights_bound);
        compare("output", got.output, exact.output, exact.output_bound);
      }
}

// Of a score of -inf the key is hidden.
[[nodiscard]] double largest(const Tensor<float, 4>& x) {
  double most = 0;
  for (Index i = 0; i < x.size(); ++i)
    if (std::isfinite(x.data()[i])) most = std::max(most, std::abs(double{x.data()[i]}));
  return most;
}

// Rounding moves a weight by some u (1 + A) of itself, and all else is sums of products: a gradient is
// off by some u (1 + A) times the sum of the magnitudes that it is made of. Hidden keys have none.
void compare_gradients(const Tensors& x, const PairMask& mask, const Asked& asked,
                       const Shape& shape, const eh::AttentionResult<float>& result,
                       const eh::AttentionOptions<float>& options) {
  const auto [B, H, G, Q, K, D, V] = shape;
  const Tensor<float, 4> grad = support::random_tensor<float>(77, B, H, Q, V);
  const eh::Mask said = mask.mask();
  eh::Context one;
  const auto got = eh::scaled_dot_product_attention_backward<float>(
      grad, x.queries, x.keys, x.values, result, said, options, one);
  const double scale =
      asked.scale ? static_cast<float>(*asked.scale) : eh::detail::default_scale<float>(D);
  std::vector<double> sinks(asked.sinks.data(), asked.sinks.data() + asked.sinks.size());
  const Tensor<double, 4> q = widened(x.queries), k = widened(x.keys), v = widened(x.values),
                          g = widened(grad);
  const double size_q = largest(x.queries), size_k = largest(x.keys), size_v = largest(x.values);
  const double A = std::abs(scale) * size_q * size_k * static_cast<double>(D) +
                   largest(asked.bias) + static_cast<double>(asked.slopes.size() > 0 ? K + Q : 0);
  const double u = 0x1p-24, rows = static_cast<double>(Q * (H / G)),
               columns = static_cast<double>(V);
  if (!(u * 16 * (1 + A) < 0.01)) return;
  const double of_weight = u * 64 * (1 + A) * (2 * columns * size_v);
  with_score(asked, [&](const auto&, const auto& score) {
    const auto compare = [&](const auto& function) {
      const auto exact = eh::attention_reference_backward<double>(
          g, q, k, v, said, scale, function, {}, std::span<const double>(sinks));
      const auto each = [](const char* what, const Tensor<float, 4>& a, const Tensor<double, 4>& b,
                           double bound) {
        for (Index i = 0; i < a.size(); ++i)
          require_near(what, {i}, a.data()[i], b.data()[i], bound + 1e-35);
      };
      each("gradient of queries", got.queries, exact.queries, of_weight * std::abs(scale) * size_k);
      each("gradient of keys", got.keys, exact.keys, of_weight * std::abs(scale) * size_q * rows);
      each("gradient of values", got.values, exact.values, u * 64 * (1 + A) * rows);
      for (std::size_t h = 0; h < exact.sink_logits.size(); ++h)
        require_near("gradient of a sink", {static_cast<Index>(h)},
                     got.sink_logits(static_cast<Index>(h)), exact.sink_logits[h],
                     of_weight * static_cast<double>(shape.B * shape.Q));
    };
    if constexpr (std::is_same_v<std::decay_t<decltype(score)>, support::ScoreAsItIs>)
      compare(eh::PlainScore{});
    else
      compare(score);
  });
  for (Index b = 0; b < B; ++b)
    for (Index i = 0; i < G; ++i)
      for (Index j = 0; j < K; ++j) {
        if (fuzz::is_seen(mask, shape, b, i, j)) continue;
        for (Index d = 0; d < D; ++d)
          fuzz::require(got.keys(b, i, j, d) == 0, "a hidden key has a gradient");
        for (Index d = 0; d < V; ++d)
          fuzz::require(got.values(b, i, j, d) == 0, "a hidden value has a gradient");
      }
  eh::Context three(3, support::kAnyWork);
  const auto again = eh::scaled_dot_product_attention_backward<float>(
      grad, x.queries, x.keys, x.values, result, said, options, three);
  fuzz::require(support::same_bits(got.queries, again.queries), "gradients on three threads");
  fuzz::require(support::same_bits(got.keys, again.keys), "gradients on three threads");
  fuzz::require(support::same_bits(got.values, again.values), "gradients on three threads");
}

bool is_finite(const Tensor<float, 4>& x) {
  return std::all_of(x.data(), x.data() + x.size(), [](float e) { return std::isfinite(e); });
}
bool hides_or_is_finite(const Tensor<float, 4>& bias) {
  return std::all_of(bias.data(), bias.data() + bias.size(),
                     [](float e) { return e < kInf<float>; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  Input input(bytes, size);
  const Shape shape = fuzz::shape_from(input);
  const PairMask mask = fuzz::mask_from(input, shape);
  Tensors x = fuzz::tensors_from(input, shape);
  const Asked asked = asked_from(input, shape);
  poke(input, x);
  const bool has_backward = input.flag();
  const fuzz::Description description([&] {
    return fuzz::text_of(shape, mask) + ", scale " +
           (asked.scale ? std::to_string(*asked.scale) : "as usual") + ", score function " +
           std::to_string(asked.score) + (asked.sinks.size() > 0 ? ", sinks" : "");
  });
  const bool scale_fits = !asked.scale || std::abs(*asked.scale) < 1e38;
  const eh::Mask said = mask.mask();
  with_score(asked, [&](const auto& score, const auto& wide_score) {
    eh::AttentionOptions<float> options{.scale = asked.scale, .score = score, .weights = true};
    if (asked.sinks.size() > 0) options.sink_logits = TensorView<float, 1>(asked.sinks);
    eh::Context one, three(3, support::kAnyWork);
    eh::AttentionResult<float> result;
    const bool is_taken = fuzz::succeeds<std::invalid_argument>([&] {
      result = eh::scaled_dot_product_attention(x.queries, x.keys, x.values, said, options, one);
    });
    fuzz::require(is_taken == (scale_fits && fuzz::fits(mask, shape)),
                  (is_taken ? "taken: " : "refused: ") + mask.text());
    if (!is_taken) return;
    const float scale =
        asked.scale ? static_cast<float>(*asked.scale) : eh::detail::default_scale<float>(shape.D);
    compare(result,
            support::textbook<float>(x.queries, x.keys, x.values, mask, double{scale}, wide_score),
            mask, asked.sinks, shape);
    const auto again =
        eh::scaled_dot_product_attention(x.queries, x.keys, x.values, said, options, three);
    fuzz::require(support::same_bits(result, again), "three threads");
    fuzz::require(support::same_bits(result.weights, again.weights), "weights on three threads");
    options.weights = false;
    const auto without =
        eh::scaled_dot_product_attention(x.queries, x.keys, x.values, said, options, one);
    fuzz::require(support::same_bits(result, without), "without weights");
    if (has_backward && is_finite(x.queries) && is_finite(x.keys) && is_finite(x.values) &&
        hides_or_is_finite(asked.bias))
      compare_gradients(x, mask, asked, shape, result, options);
  });
  return 0;
}
