// SPDX-License-Identifier: MIT
#pragma once
// Additive attention, for queries and keys of different sizes: a score is what a small network of one
// hidden layer gives for the two.
//   s[q, k] = w_v^T tanh(W_q queries[q] + W_k keys[k]),   output[q] = sum_k softmax(s)[q, k] values[k]
// Bahdanau, Cho, Bengio, "Neural machine translation by jointly learning to align and translate",
// 2015; Dive into Deep Learning, section 11.3. Of the queries x keys x num_hiddens numbers that the
// formula speaks of none is kept: memory grows with queries + keys, in training too.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <eigenheads/attention_result.hpp>  // AttentionOutput
#include <eigenheads/call_options.hpp>      // ContextRef
#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/arena.hpp>      // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>                    // Dropout, DropoutMask
#include <eigenheads/kernels/schedule/additive.hpp>  // additive_attend, additive_backward
#include <eigenheads/linear.hpp>                     // Linear
#include <eigenheads/mask.hpp>                       // Mask, ValidLens
#include <eigenheads/shape.hpp>                      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                     // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct AdditiveAttentionOptions {
  Index num_hiddens = 0;
  Index query_size = 0, key_size = 0;  // 0: lazy, taken from the first call
  double dropout = 0;                  // of the weights, in training
};

struct AdditiveTrainingOptions {
  std::optional<DropoutSeed> seed{};  // which weights are dropped
  ContextRef context{};
};

template <Scalar T>
class AdditiveAttention {
 public:
  // Weights depend on (seed, parameter name, shape) alone. Throws std::invalid_argument for invalid
  // options.
  explicit AdditiveAttention(const AdditiveAttentionOptions& options, std::uint64_t seed = 0)
      : W_k(projection(options, options.key_size), seed, "W_k"),
        W_q(projection(options, options.query_size), seed, "W_q"),
        w_v({.in_features = options.num_hiddens, .out_features = 1}, seed, "w_v"),
        dropout_(options.dropout) {}

  Linear<T> W_k, W_q, w_v;  // without biases

  [[nodiscard]] Index num_hiddens() const { return w_v.in_features(); }
  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // Gives a lazy module its input sizes; on any other it checks them.
  void initialize(Index query_size, Index key_size) {
    Linear<T> queries = W_q;  // so that nothing changes if the other size is refused
    queries.initialize(query_size);
    W_k.initialize(key_size);
    W_q = std::move(queries);
  }

  // visit(Parameter) for "W_k.weight", "W_q.weight" and "w_v.weight", after the prefix. Throws
  // std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parts(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parts(*this, visit, prefix);
  }

  // Inference, without dropout. queries: [B, Q, query_size], keys: [B, K, key_size], values: [B, K, V]
  // -> [B, Q, V]; a query that sees no key gets 0. `mask` is ValidLens, or a Mask.
  // Throws std::invalid_argument, before anything is computed, for what does not fit; on a lazy const
  // module std::logic_error.
  template <class AnyMask = ValidLens>
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const AnyMask& mask = {},
                                        Context& context = default_context()) const {
    const Inputs inputs{queries, keys, values};
    const Mask whole = mask_of(mask);
    const Checked call(*this, inputs, whole);
    auto output = detail::make_tensor<T>("output", call.output_shape());
    run(inputs, call, {.output = output.data()}, context);
    return output;
  }
  template <class AnyMask = ValidLens>
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const AnyMask& mask = {},
                                        Context& context = default_context()) {
    initialize_for({queries, keys, values}, mask_of(mask));
    return std::as_const(*this)(queries, keys, values, mask, context);
  }

  // The same into `output`, [B, Q, V], apart from the inputs. Allocates nothing once the context has
  // seen such a call: a Mask alone, for lengths would be copied into one.
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    Context& context = default_context()) const;
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    Context& context = default_context());

  // The same output to the bit, and the weights, [B, Q, K].
  template <class AnyMask = ValidLens>
  [[nodiscard]] AttentionOutput<T, 3> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                   TensorView<T, 3> values,
                                                   const AnyMask& mask = {},
                                                   Context& context = default_context()) const {
    const Inputs inputs{queries, keys, values};
    const Mask whole = mask_of(mask);
    const Checked call(*this, inputs, whole);
    const auto& [B, Q, K, H, V] = call.shape;
    AttentionOutput<T, 3> result{detail::make_tensor<T>("output", call.output_shape()),
                                 detail::make_tensor<T>("weights", std::array{B, Q, K})};
    run(inputs, call, {.output = result.output.data(), .weights = result.weights.data()}, context);
    return result;
  }
  template <class AnyMask = ValidLens>
  [[nodiscard]] AttentionOutput<T, 3> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                   TensorView<T, 3> values,
                                                   const AnyMask& mask = {},
                                                   Context& context = default_context()) {
    initialize_for({queries, keys, values}, mask_of(mask));
    return std::as_const(*this).with_weights(queries, keys, values, mask, context);
  }

  // ---- Training ----------------------------------------------------------------------------------

  // What backward needs of a call of forward, and owns.
  class Activations {
    friend AdditiveAttention;
    Tensor<T, 3> queries_, keys_, values_, output_;
    Tensor<T, 3> q_;         // [B, Q, H]
    Tensor<T, 1> k_groups_;  // [B, K, H], in groups
    Tensor<T, 2> lse_;       // [B, Q]
    Mask mask_;
    DropoutMask<T> dropout_;
    bool is_saved_ = false;
  };

  struct Gradients {
    Tensor<T, 3> queries, keys, values;  // of the shapes of those
    LinearGradients<T> W_k, W_q, w_v;

    // The parameters' alone, with their names and order.
    template <class Visitor>
    void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
      visit_parts(*this, visit, prefix);
    }
    template <class Visitor>
    void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
      visit_parts(*this, visit, prefix);
    }
  };

  // The output, after dropout. Throws std::invalid_argument also if weights are dropped and no seed is
  // given.
  template <class AnyMask = ValidLens>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const AnyMask& mask, Activations& saved,
                       const AdditiveTrainingOptions& options = {}) const {
    const Inputs inputs{queries, keys, values};
    const Mask whole = mask_of(mask);
    const Checked call(*this, inputs, whole);
    require_seed(options);
    save(inputs, whole, call.shape, saved);
    saved.dropout_ = options.seed ? DropoutMask<T>::of(dropout_, *options.seed) : DropoutMask<T>{};
    run(inputs, call,
        {.output = saved.output_.data(),
         .lse = saved.lse_.data(),
         .q = saved.q_.data(),
         .k_groups = saved.k_groups_.data(),
         .dropout = saved.dropout_.threshold > 0 ? &saved.dropout_ : nullptr},
        options.context.get());
    saved.is_saved_ = true;
    return saved.output_;
  }
  template <class AnyMask = ValidLens>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const AnyMask& mask, Activations& saved,
                       const AdditiveTrainingOptions& options = {}) {
    if (is_lazy()) {
      require_fits({queries, keys, values}, mask_of(mask));
      require_seed(options);
    }
    initialize_for({queries, keys, values}, mask_of(mask));
    return std::as_const(*this).forward(queries, keys, values, mask, saved, options);
  }

  // grad_output: [B, Q, V]. A hidden key and a query that sees no key have gradients of 0. The weights
  // must be those of the forward call. The same bits on any number of threads. Throws
  // std::invalid_argument for another shape, std::logic_error if nothing is saved, or that of a module
  // of other sizes.
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_output, saved, false, context);
    return gradients;
  }
  // The same into `gradients`, or added to what it holds.
  void backward_into(Gradients& gradients, TensorView<T, 3> grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const;

 private:
  struct Inputs {
    TensorView<T, 3> queries, keys, values;
  };
  // One call, whose parts fit each other and the module.
  struct Checked {
    Checked(const AdditiveAttention& module, const Inputs& inputs, const Mask& asked)
        : shape((module.require_initialized(), module.shape_of(inputs))),
          mask(asked, shape.B, shape.Q, shape.K) {}
    detail::AdditiveShape shape;
    BoundMask mask;

    [[nodiscard]] std::array<Index, 3> output_shape() const { return {shape.B, shape.Q, shape.V}; }
  };
  // Where results go, and, if they are kept, what lies between; null: not wanted.
  struct Into {
    T* output;
    T *lse = nullptr, *weights = nullptr, *q = nullptr, *k_groups = nullptr;
    const DropoutMask<T>* dropout = nullptr;
  };

  [[nodiscard]] static LinearOptions projection(const AdditiveAttentionOptions& options,
                                                Index size) {
    if (options.num_hiddens < 1)
      detail::refuse(
          {"AdditiveAttention: num_hiddens is ", options.num_hiddens, "; expected 1 or more"});
    return {.in_features = size, .out_features = options.num_hiddens};
  }
  template <class AnyMask>
  [[nodiscard]] static Mask mask_of(const AnyMask& mask) {
    if constexpr (std::same_as<AnyMask, Mask>)
      return mask;
    else
      return {.valid_lens = mask};
  }
  template <class Self, class Visitor>
  static void visit_parts(Self& self, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    self.W_k.for_each_parameter(visit, start + "W_k.");
    self.W_q.for_each_parameter(visit, start + "W_q.");
    self.w_v.for_each_parameter(visit, start + "w_v.");
  }

  [[nodiscard]] bool is_lazy() const { return W_q.is_lazy() || W_k.is_lazy(); }
  // Throws std::logic_error while lazy, or if a projection was replaced by one that does not fit.
  void require_initialized() const {
    if (is_lazy())
      detail::refuse<std::logic_error>(
          {"AdditiveAttention: input sizes are not known yet; call it once on a module that is not "
           "const, or initialize(query_size, key_size)"});
    require_outputs();
  }
  void require_outputs() const {
    if (W_q.out_features() != num_hiddens() || W_k.out_features() != num_hiddens() ||
        w_v.out_features() != 1 || w_v.has_bias())
      detail::refuse<std::logic_error>(
          {"AdditiveAttention: W_q has ", W_q.out_features(), " outputs, W_k ", W_k.out_features(),
           " and w_v ", w_v.out_features(), (w_v.has_bias() ? ", with a bias" : ""), "; expected ",
           num_hiddens(), " (the inputs of w_v) of W_q and W_k, and 1 of w_v without a bias"});
  }
  void require_fits(const Inputs& inputs, const Mask& mask) const {
    require_outputs();
    const detail::AdditiveShape shape = shape_of(inputs);
    static_cast<void>(BoundMask(mask, shape.B, shape.Q, shape.K));
  }
  void require_seed(const AdditiveTrainingOptions& options) const {
    if (dropout_.p() > 0 && !options.seed)
      detail::refuse({"AdditiveAttention: dropout is ", detail::number_text(dropout_.p()),
                      "; expected a DropoutSeed, {.seed = ...}, after the activations"});
  }
  void initialize_for(const Inputs& inputs, const Mask& mask) {
    if (!is_lazy()) return;
    require_fits(inputs, mask);
    initialize(inputs.queries.dimension(2), inputs.keys.dimension(2));
  }

  // Throws std::invalid_argument unless the inputs fit each other, and the module as far as its sizes
  // are known.
  [[nodiscard]] detail::AdditiveShape shape_of(const Inputs& inputs) const {
    const auto& [queries, keys, values] = inputs;
    const auto size_of = [](const Linear<T>& linear) {
      return linear.is_lazy() ? any_size : linear.in_features();
    };
    require_shape("queries", queries, "[B, Q, query_size]", {any_size, any_size, size_of(W_q)});
    const Index B = queries.dimension(0);
    require_shape("keys", keys, "[B, K, key_size]", {B, any_size, size_of(W_k)});
    require_shape("values", values, "[B, K, V]", {B, keys.dimension(1), any_size});
    return {B, queries.dimension(1), keys.dimension(1), num_hiddens(), values.dimension(2)};
  }

  static void require_output(TensorView<T, 3> output, const Inputs& inputs,
                             const detail::AdditiveShape& shape) {
    require_shape("output", output, "[B, Q, V]", {shape.B, shape.Q, shape.V});
    detail::require_disjoint("output", output, "queries", inputs.queries);
    detail::require_disjoint("output", output, "keys", inputs.keys);
    detail::require_disjoint("output", output, "values", inputs.values);
  }

  // w_v as it is read: [H].
  [[nodiscard]] const T* weights_of_features(const detail::Frame& frame) const {
    const detail::Panels<const T> panels = w_v.panels();
    T* const w = frame.take<T>(num_hiddens());
    for (Index h = 0; h < num_hiddens(); ++h) w[h] = panels.at(0, h);
    return w;
  }

  void run(const Inputs& inputs, const Checked& call, const Into& into, Context& context) const;
  static void save(const Inputs& inputs, const Mask& mask, const detail::AdditiveShape& shape,
                   Activations& saved);

  Dropout dropout_;
};

// As PyTorch prints the chapter's module.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const AdditiveAttention<T>& attention) {
  return out << "AdditiveAttention(\n  (W_k): " << attention.W_k << "\n  (W_q): " << attention.W_q
             << "\n  (w_v): " << attention.w_v << "\n  (dropout): " << attention.dropout() << "\n)";
}

#include <eigenheads/nn/additive_attention.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
