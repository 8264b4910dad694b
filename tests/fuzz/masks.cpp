// SPDX-License-Identifier: MIT
// One mask said in several ways, and one call cut into several: the same bits. And what no query sees
// may be anything.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/score.hpp>

#include "calls.hpp"

namespace {

namespace eh = eigenheads;
using eh::Causal, eh::Index, eh::Tensor, eh::TensorView;
using fuzz::PairMask, fuzz::Shape, fuzz::Tensors;
using Result = eh::AttentionResult<float>;

struct Call {
  const Shape& shape;
  const Tensors& x;
  eh::Context& context;

  [[nodiscard]] Result operator()(const eh::Mask& mask,
                                  const eh::AttentionOptions<float>& options = {}) const {
    return eh::scaled_dot_product_attention(x.queries, x.keys, x.values, mask, options, context);
  }
};

void require_same(const std::string& what, const Result& a, const Result& b) {
  fuzz::require(support::same_bits(a, b), what);
}

// Sequence b of a tensor of four axes, and query q of it.
Tensor<float, 4> part(const Tensor<float, 4>& x, Index b, Index first, Index count) {
  Tensor<float, 4> result(1, x.dimension(1), count, x.dimension(3));
  for (Index h = 0; h < x.dimension(1); ++h)
    for (Index i = 0; i < count; ++i)
      for (Index d = 0; d < x.dimension(3); ++d) result(0, h, i, d) = x(b, h, first + i, d);
  return result;
}

// Every pair for itself.
Tensor<bool, 4> pairs(const PairMask& mask, const Shape& shape) {
  Tensor<bool, 4> allowed(shape.B, shape.H, shape.Q, shape.K);
  for (Index b = 0; b < shape.B; ++b)
    for (Index h = 0; h < shape.H; ++h)
      for (Index q = 0; q < shape.Q; ++q)
        for (Index k = 0; k < shape.K; ++k) allowed(b, h, q, k) = mask.visible(b, h, q, k);
  return allowed;
}

// As pairs, as scores of -inf, and, where no query's keys have a hole, as one length a query.
void say_otherwise(const PairMask& mask, const Call& call, const Result& result) {
  const Shape& shape = call.shape;
  const Tensor<bool, 4> allowed = pairs(mask, shape);
  if (allowed.size() == 0) return;
  require_same("as pairs", result, call({.allowed = allowed}));
  Tensor<float, 4> bias(shape.B, shape.H, shape.Q, shape.K);
  for (Index i = 0; i < bias.size(); ++i)
    bias.data()[i] = allowed.data()[i] ? 0.0f : -support::kInf<float>;
  const eh::ScoreBias<float> score(bias);
  require_same("as scores of -inf", result, call({}, {.score = score}));

  Tensor<Index, 2> lens(shape.B, shape.Q);
  bool are_lengths = mask.allowed.size() == 0;
  for (Index b = 0; b < shape.B; ++b)
    for (Index q = 0; q < shape.Q; ++q) {
      Index n = 0;
      while (n < shape.K && mask.visible(b, q, n)) ++n;
      lens(b, q) = n;
      for (Index k = n; k < shape.K; ++k) are_lengths = are_lengths && !mask.visible(b, q, k);
    }
  if (are_lengths) require_same("as lengths", result, call({.valid_lens = eh::ValidLens(lens)}));
}

// Each sequence alone, and of one of them a few queries alone, by their places among the keys.
void cut(fuzz::Input& input, const PairMask& mask, const Call& call, const Result& result) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Index b = input.between(0, B - 1), first = input.between(0, Q - 1),
              count = input.between(1, Q - first);
  const Shape alone{1, H, G, Q, K, D, V}, few{1, H, G, count, K, D, V};
  const Tensors x{part(call.x.queries, b, 0, Q), part(call.x.keys, b, 0, K),
                  part(call.x.values, b, 0, K)};
  PairMask of_one = mask.of_sequence(b);
  // What is of the last query beside the last key of the longest stays so.
  const Result one = Call{alone, x, call.context}(of_one.mask());
  fuzz::require(support::same_bits(part(result.output, b, 0, Q), one.output), "a sequence alone");

  const Index beside = mask.aligned(b, first);
  if (beside < 0) return;
  of_one.first_positions = {beside};
  of_one.Q = count;
  if (of_one.causal == Causal::bottom_right) of_one.causal = Causal::top_left;
  if (!of_one.query_lens.empty())
    of_one.query_lens = {std::clamp(of_one.query_lens[0] - first, Index{0}, count)};
  if (of_one.lens_rank == 2) {
    Tensor<Index, 2> lens(1, count);
    for (Index q = 0; q < count; ++q) lens(0, q) = mask.lens(b, first + q);
    of_one.lens = lens;
  }
  if (of_one.allowed.dimension(2) > 1) {
    const Tensor<bool, 4>& from = of_one.allowed;
    Tensor<bool, 4> rows(1, from.dimension(1), count, from.dimension(3));
    for (Index h = 0; h < rows.dimension(1); ++h)
      for (Index q = 0; q < count; ++q)
        for (Index k = 0; k < rows.dimension(3); ++k) rows(0, h, q, k) = from(0, h, first + q, k);
    of_one.allowed = rows;
  }
  const Tensors y{part(call.x.queries, b, first, count), x.keys, x.values};
  const Result rows = Call{few, y, call.context}(of_one.mask());
  fuzz::require(support::same_bits(part(result.output, b, first, count), rows.output),
                "some queries alone");
}

void compare_gradients(const PairMask& mask, const Call& call, const Call& poisoned,
                       const Result& result) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const auto grad = support::random_tensor<float>(99, B, H, Q, V);
  const auto gradients = [&](const Call& of, const eh::Mask& said) {
    return eh::scaled_dot_product_attention_backward<float>(
        grad, of.x.queries, of.x.keys, of.x.values, result, said, {}, of.context);
  };
  const auto same = [](const char* what, const auto& a, const auto& b) {
    fuzz::require(support::same_bits(a.queries, b.queries), std::string("queries, ") + what);
    fuzz::require(support::same_bits(a.keys, b.keys), std::string("keys, ") + what);
    fuzz::require(support::same_bits(a.values, b.values), std::string("values, ") + what);
  };
  const auto whole = gradients(call, mask.mask());
  same("gradients beside anything", whole, gradients(poisoned, mask.mask()));
  if (const Tensor<bool, 4> allowed = pairs(mask, call.shape); allowed.size() > 0)
    same("gradients as pairs", whole, gradients(call, {.allowed = allowed}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input input(bytes, size);
  const Shape shape = fuzz::shape_from(input);
  const PairMask mask = fuzz::mask_from(input, shape);
  const Tensors x = fuzz::tensors_from(input, shape);
  if (!fuzz::fits(mask, shape)) return 0;
  const fuzz::Description description([&] { return fuzz::text_of(shape, mask); });
  eh::Context one, three(3, support::kAnyWork);
  const Call call{shape, x, one}, on_three{shape, x, three};
  const Result result = call(mask.mask());
  require_same("three threads", result, on_three(mask.mask()));
  Tensors hidden = x;
  fuzz::poison_hidden(mask, shape, hidden);
  const Call poisoned{shape, hidden, one};
  require_same("beside anything", result, poisoned(mask.mask()));
  say_otherwise(mask, input.flag() ? on_three : call, result);
  if (shape.B > 0 && shape.Q > 0) cut(input, mask, call, result);
  if (input.flag()) compare_gradients(mask, call, poisoned, result);
  return 0;
}
