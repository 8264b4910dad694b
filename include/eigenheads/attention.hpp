// SPDX-License-Identifier: MIT
#pragma once
// Scaled dot-product attention, after its checks: softmax(Q K^T / sqrt(D)) V over the keys that the
// mask allows. Shapes, masks and empty rows as in attention_reference.hpp, which says what is
// computed.
#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>

#include <eigenheads/attention_result.hpp>  // AttentionResult
#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>                  // Dropout
#include <eigenheads/kernels/schedule/attend.hpp>  // attend
#include <eigenheads/mask.hpp>                     // Mask, BoundMask
#include <eigenheads/score_ref.hpp>                // ScoreRef
#include <eigenheads/shape.hpp>                    // require_shape, make_tensor
#include <eigenheads/strided_view.hpp>             // StridedView
#include <eigenheads/tensor.hpp>                   // TensorOfRank, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

// Of a call of scaled_dot_product_attention.
template <class T>
struct AttentionOptions {
  std::optional<double> scale{};  // of the scores; 1 / sqrt(D) unless given
  ScoreRef<T> score{};            // of what the mask leaves, after scaling (score.hpp)
  double dropout = 0;             // of the weights, in training: which ones, the seed says
  DropoutSeed seed{};
  bool weights = false;  // whether the result holds them
  // Which scores the result holds: those that this function makes of the scaled ones. PlainScore{}
  // is the scaled ones themselves, the call's own score function what the softmax takes.
  std::optional<ScoreRef<T>> scores_after{};
  // [H]: a learnt sink of each head, a score that belongs to no key and takes its share of the
  // weights, which then sum to less than 1: O = sum_k e^S V / (sum_k e^S + e^sink), in units of the
  // scores as the softmax takes them. -inf is no sink. The log-sum-exp stays that of the keys alone,
  // so that parts of the keys, called without sinks, can be merged (merge_attention.hpp); an output
  // without sink, times 1 / (1 + e^(sink - lse)), is that with it. OpenAI, "gpt-oss-120b &
  // gpt-oss-20b Model Card", 2025.
  std::optional<TensorView<T, 1>> sink_logits{};
};

namespace detail {
template <class X>
struct ScalarOf {
  using Type = void;
};
template <TensorLike X>
struct ScalarOf<X> {
  using Type = element_of<X>;
};
template <class T, int Rank>
struct ScalarOf<StridedView<T, Rank>> {
  using Type = T;
};
}  // namespace detail

template <class X>
using scalar_of = typename detail::ScalarOf<std::remove_cvref_t<X>>::Type;

// A tensor [B, H, rows, D], or a view of one.
template <class X>
concept HeadsTensor = TensorOfRank<X, 4> || std::same_as<X, StridedView<scalar_of<X>, 4>>;

namespace detail {

template <class T>
struct AttentionInputs {
  StridedView<T, 4> queries, keys, values;  // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
};

// A view of no element has null for data perhaps, and any strides.
template <class T>
[[nodiscard]] StridedMatrix<const T> layout_of(const StridedView<T, 4>& x) {
  if (x.size() == 0) return {x.data(), x.dimension(2), x.dimension(3)};
  return {x.data(), x.dimension(2), x.dimension(3), x.stride(0), x.stride(2), x.stride(1)};
}

// Refuses a part of the result, of any rank, that would be written over memory that an input reaches.
template <class T, class Part>
void require_apart(std::string_view name, const Part& part, const AttentionInputs<T>& inputs) {
  const TensorView<T, 1> written(part.data(), {part.size()});
  const auto require = [&](std::string_view input, const StridedView<T, 4>& x) {
    require_disjoint(name, written, input, TensorView<T, 1>(x.data(), {x.reach()}));
  };
  require("queries", inputs.queries);
  require("keys", inputs.keys);
  require("values", inputs.values);
}

// Throws std::invalid_argument unless the three fit each other.
template <class T>
[[nodiscard]] AttentionShape require_attention_shape(const AttentionInputs<T>& inputs) {
  const auto& [queries, keys, values] = inputs;
  const auto require = [](std::string_view name, const StridedView<T, 4>& x, std::string_view axes,
                          const std::array<Index, 4>& expected) {
    require_shape(name, x.dimensions(), sizeof(T), x.data(), axes, expected);
  };
  require("queries", queries, "[B, H, Q, D]", {any_size, any_size, any_size, any_size});
  const AttentionShape shape{queries.dimension(0), queries.dimension(1), keys.dimension(1),
                             queries.dimension(2), keys.dimension(2),    queries.dimension(3),
                             values.dimension(3)};
  require("keys", keys, "[B, G, K, D]", {shape.B, any_size, any_size, shape.D});
  require("values", values, "[B, G, K, V]", {shape.B, shape.G, shape.K, any_size});
  if (shape.D == 0) refuse({"queries has a head size of 0; expected 1 or more"});
  if (shape.H > 0 && (shape.G == 0 || shape.H % shape.G != 0))
    refuse({"keys has ", shape.G, " heads; expected a divisor of the queries' ", shape.H});
  return shape;
}

template <class T>
[[nodiscard]] T attention_scale(const std::optional<double>& asked, Index head_size) {
  if (!asked) return default_scale<T>(head_size);
  if (!is_finite(*asked) || std::abs(*asked) > static_cast<double>((std::numeric_limits<T>::max)()))
    refuse({"scale is ", number_text(*asked), "; expected a finite number"});
  return static_cast<T>(*asked);
}

// One call whose parts fit each other; it must stay where it is.
template <class T>
struct CheckedAttention {
  AttentionShape shape;
  BoundMask mask;
  T scale;
  DropoutMask<T> dropout;
  const AttentionOptions<T>& options;

  CheckedAttention(const AttentionInputs<T>& inputs, const Mask& asked,
                   const AttentionOptions<T>& asked_options)
      : shape(require_attention_shape(inputs)),
        mask(asked, shape.B, shape.Q, shape.K, shape.H),
        scale(attention_scale<T>(asked_options.scale, shape.D)),
        dropout(DropoutMask<T>::of(Dropout(asked_options.dropout), asked_options.seed)),
        options(asked_options) {
    const std::array call{shape.B, shape.H, shape.Q, shape.K};
    options.score.require_fits(call);
    if (options.scores_after) options.scores_after->require_fits(call);
    if (options.sink_logits) require_shape("sink_logits", *options.sink_logits, "[H]", {shape.H});
  }
  CheckedAttention(const CheckedAttention&) = delete;
  CheckedAttention& operator=(const CheckedAttention&) = delete;

  [[nodiscard]] std::array<Index, 4> output_shape() const {
    return {shape.B, shape.H, shape.Q, shape.V};
  }
  [[nodiscard]] const T* sinks() const {
    return options.sink_logits ? options.sink_logits->data() : nullptr;
  }

  // Where the output and what else is wanted go; null where it is not.
  struct Into {
    T* output;
    T *lse = nullptr, *weights = nullptr, *scores = nullptr;
  };
  void run(const AttentionInputs<T>& inputs, const Into& into, Context& context) const {
    const auto [B, H, G, Q, K, D, V] = shape;
    attend<T>(
        {.shape = shape,
         .scale = scale,
         .mask = &mask,
         .queries = layout_of(inputs.queries),
         .keys = layout_of(inputs.keys),
         .values = layout_of(inputs.values),
         .output = StridedMatrix<T>::heads_apart(into.output, Q, H, V),
         .lse = StridedMatrix<T>::heads_apart(into.lse, Q, H, 1),
         .weights = StridedMatrix<T>::heads_apart(into.weights, Q, H, K),
         .scores = StridedMatrix<T>::heads_apart(into.scores, Q, H, K),
         .score = options.score.forward(),
         .scores_after = options.scores_after ? options.scores_after->forward() : ScoreForward<T>{},
         .dropout = dropout.threshold > 0 ? &dropout : nullptr,
         .sinks = sinks()},
        context);
  }
};

// A tensor of that shape, or, if it is not wanted, an empty one. Memory is used again.
template <class T, std::size_t Rank>
void fit_part(const char* name, bool is_wanted, const std::array<Index, Rank>& shape,
              Tensor<T, static_cast<int>(Rank)>& part) {
  const std::array<Index, Rank> expected = is_wanted ? shape : std::array<Index, Rank>{};
  if (TensorView<T, static_cast<int>(Rank)>(part).dimensions() != expected)
    part = make_tensor<T>(name, expected);
}

template <class T>
void attend_into(AttentionResult<T>& result, const AttentionInputs<T>& inputs, const Mask& mask,
                 const AttentionOptions<T>& options, Context& context) {
  const CheckedAttention<T> call(inputs, mask, options);
  const auto [B, H, G, Q, K, D, V] = call.shape;
  // Also since a part that gets another size gives its memory back.
  require_apart("output", result.output, inputs);
  require_apart("lse", result.lse, inputs);
  require_apart("weights", result.weights, inputs);
  require_apart("scores", result.scores, inputs);
  fit_part("output", true, call.output_shape(), result.output);
  fit_part("lse", true, std::array{B, H, Q}, result.lse);
  fit_part("weights", options.weights, std::array{B, H, Q, K}, result.weights);
  fit_part("scores", options.scores_after.has_value(), std::array{B, H, Q, K}, result.scores);
  call.run(inputs,
           {.output = result.output.data(),
            .lse = result.lse.data(),
            .weights = options.weights ? result.weights.data() : nullptr,
            .scores = options.scores_after ? result.scores.data() : nullptr},
           context);
}

template <class T>
void attend_into(TensorSpan<T, 4> output, const AttentionInputs<T>& inputs, const Mask& mask,
                 const AttentionOptions<T>& options, Context& context) {
  if (options.weights || options.scores_after)
    refuse(
        {"scaled_dot_product_attention_into: weights and scores are wanted; expected an "
         "AttentionResult to put them in"});
  const CheckedAttention<T> call(inputs, mask, options);
  const TensorView<T, 4> written(output);
  require_shape("output", written, "[B, H, Q, V]", call.output_shape());
  require_apart("output", written, inputs);
  call.run(inputs, {.output = output.data()}, context);
}

}  // namespace detail

// queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V], G a divisor of H: query head h
// reads key/value head h / (H / G). Tensors, or views with strides of their own (strided_view.hpp).
// Throws std::invalid_argument, before anything is computed, for shapes, masks, score functions or
// scales that do not fit.
template <HeadsTensor Queries, class T = scalar_of<Queries>>
[[nodiscard]] AttentionResult<T> scaled_dot_product_attention(
    const Queries& queries, const std::type_identity_t<StridedView<T, 4>>& keys,
    const std::type_identity_t<StridedView<T, 4>>& values, const Mask& mask = {},
    const std::type_identity_t<AttentionOptions<T>>& options = {},
    Context& context = default_context()) {
  static_assert(Scalar<T>, "Attention takes tensors of float or double.");
  AttentionResult<T> result;
  detail::attend_into<T>(result, {queries, keys, values}, mask, options, context);
  return result;
}

// The same into a result that was made before, which is not allocated anew if its shapes fit, or
// into `output`, [B, H, Q, V]; neither may overlap an input. Allocates nothing once the context has seen
// such a call.
template <Scalar T>
void scaled_dot_product_attention_into(
    AttentionResult<T>& result, const std::type_identity_t<StridedView<T, 4>>& queries,
    const std::type_identity_t<StridedView<T, 4>>& keys,
    const std::type_identity_t<StridedView<T, 4>>& values, const Mask& mask = {},
    const std::type_identity_t<AttentionOptions<T>>& options = {},
    Context& context = default_context()) {
  detail::attend_into<T>(result, {queries, keys, values}, mask, options, context);
}
template <TensorOfRank<4> Output, class T = element_of<Output>>
void scaled_dot_product_attention_into(
    Output&& output, const std::type_identity_t<StridedView<T, 4>>& queries,
    const std::type_identity_t<StridedView<T, 4>>& keys,
    const std::type_identity_t<StridedView<T, 4>>& values, const Mask& mask = {},
    const std::type_identity_t<AttentionOptions<T>>& options = {},
    Context& context = default_context()) {
  detail::attend_into<T>(TensorSpan<T, 4>(output), {queries, keys, values}, mask, options, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
