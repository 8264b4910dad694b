// SPDX-License-Identifier: MIT
#pragma once
// The feed-forward network of a transformer, which takes every row by itself:
//   y = W_down f(W_up x + b_up) + b_down
// Vaswani et al., "Attention Is All You Need", 2017, section 3.3. Or gated:
//   y = W_down (f(W_gate x + b_gate) * (W_up x + b_up)) + b_down
// which is called SwiGLU with f = silu, GEGLU with f = gelu: Shazeer, "GLU Variants Improve
// Transformer", 2020.
// At inference what lies between the projections never is a tensor: rows go through in blocks that
// stay in the cache.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/saved_sequences.hpp>            // SavedSequences
#include <eigenheads/kernels/nn/schedule/feed_forward.hpp>  // feed_forward
#include <eigenheads/linear.hpp>                            // Linear
#include <eigenheads/nn/activation.hpp>                     // Activation
#include <eigenheads/nn/detail/feed_forward_backward.hpp>   // activate_hidden_rows_backward
#include <eigenheads/nn/detail/module_text.hpp>             // print_member
#include <eigenheads/nn/feed_forward_training.hpp>  // FeedForwardActivations, FeedForwardGradients
#include <eigenheads/sequences.hpp>                 // Sequences, require_rows
#include <eigenheads/shape.hpp>                     // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                    // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct FeedForwardOptions {
  Index size = 0;  // of the inputs and the outputs; 0: lazy, taken from the first input
  Index hidden_size = 0;
  Activation activation = Activation::relu;
  bool gated = false;
  bool bias = true;  // in all projections
};

template <Scalar T>
class FeedForward {
 public:
  using Activations = FeedForwardActivations<T>;
  using Gradients = FeedForwardGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit FeedForward(const FeedForwardOptions& options, std::uint64_t seed = 0)
      : FeedForward(Checked(options), seed) {}

  Linear<T> up;
  std::optional<Linear<T>> gate;  // if it is gated
  Linear<T> down;

  [[nodiscard]] Index size() const { return up.in_features(); }  // 0 until up has one
  [[nodiscard]] Index hidden_size() const { return up.out_features(); }
  [[nodiscard]] Activation activation() const { return options_.activation; }
  [[nodiscard]] bool is_gated() const { return gate.has_value(); }
  [[nodiscard]] bool is_lazy() const {
    return up.is_lazy() || down.is_lazy() || (gate && gate->is_lazy());
  }

  // Gives a lazy layer its size, and draws weights; on any other it checks the size. Throws
  // std::logic_error if some of its parts were set, and others not.
  void initialize(Index size) {
    if (size < 1 || (!is_lazy() && size != this->size()))
      detail::refuse({"FeedForward: size is ", size, "; expected ",
                      (is_lazy() ? "1 or more" : std::to_string(this->size()))});
    if (!is_lazy()) return;
    require_none_was_set();
    auto initialized_gate = gate;  // so that nothing changes if there is no memory for all
    if (gate) initialized_gate->initialize(size);
    Linear<T> to({.in_features = hidden_size(), .out_features = size, .bias = options_.bias}, seed_,
                 "down");
    up.initialize(size);
    gate = std::move(initialized_gate);
    down = std::move(to);
  }

  // visit(Parameter) for "up.weight", "up.bias", those of "gate" if there is one, and of "down".
  // Throws std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // x: [..., size] -> the same shape. A lazy layer is initialized by its first call; a lazy const one
  // throws std::logic_error. Throws std::invalid_argument if x does not fit.
  template <detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x, Context& context = default_context()) {
    initialize_for(TensorView<T, rank_of<X>>(x));
    return std::as_const(*this)(x, context);
  }
  template <detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x,
                                                 Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_input(view);
    auto y = detail::make_tensor<T>("y", view.dimensions());
    run(view, y.data(), context);
    return y;
  }

  // y: [..., size], which may be x itself, but may not overlap it otherwise. Allocates nothing once
  // the context has seen such a call.
  template <int Rank>
  void forward_into(TensorSpan<T, Rank> y, TensorView<T, Rank> x,
                    Context& context = default_context()) const {
    require_input(x);
    require_shape("y", TensorView<T, Rank>(y), "[..., size]", x.dimensions());
    detail::require_same_or_disjoint("y", TensorView<T, Rank>(y), "x", x);
    run(x, y.data(), context);
  }
  template <detail::TensorLike Y, detail::TensorLike X>
  requires(!std::same_as<std::remove_cvref_t<Y>, TensorSpan<T, rank_of<Y>>> ||
           !std::same_as<std::remove_cvref_t<X>, TensorView<T, rank_of<Y>>>)
  void forward_into(Y&& y, const X& x, Context& context = default_context()) const {
    forward_into(TensorSpan<T, rank_of<Y>>(y), TensorView<T, rank_of<Y>>(x), context);
  }

  // ---- Training ----------------------------------------------------------------------------------

  // The output of operator(), to the bit; `saved` gets what backward needs. What the last two axes
  // hold is a sequence, of which the sums of gradients are made in blocks of 256 rows.
  template <detail::TensorLike X>
  Tensor<T, rank_of<X>> forward(const X& x, Activations& saved,
                                Context& context = default_context()) {
    initialize_for(TensorView<T, rank_of<X>>(x));
    return std::as_const(*this).forward(x, saved, context);
  }
  template <detail::TensorLike X>
  Tensor<T, rank_of<X>> forward(const X& x, Activations& saved,
                                Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_input(view);
    return train(view, detail::SavedSequences(view.dimensions()), saved, context);
  }
  // Packed: [N, size], the rows of all sequences.
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, Activations& saved,
                       Context& context = default_context()) {
    detail::require_rows("x", x, sequences);
    initialize_for(x);
    return std::as_const(*this).forward(x, sequences, saved, context);
  }
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, Activations& saved,
                       Context& context = default_context()) const {
    require_input(x);
    detail::require_rows("x", x, sequences);
    return train(x, detail::SavedSequences(sequences.as_rows()), saved, context);
  }

  // grad_y: of the output's shape. Throws std::invalid_argument if it is not, std::logic_error if
  // nothing is saved or the layer has other sizes than then.
  template <detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  // The same into `gradients`; those of the parameters may be added to what it holds.
  template <detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    require_saved(saved);
    auto expected = view.dimensions();
    expected.back() = saved.size();
    require_shape("grad_y", view, "[..., size]", expected);
    if (!saved.sequences().are_of(view.dimensions()))
      detail::refuse({"grad_y has shape ", view.dimensions(), "; expected ",
                      saved.sequences().rows().total(), " rows of ",
                      saved.sequences().rows().count(), " sequences, those of the forward call"});
    fit(gradients, accumulate);
    const auto [B, L, E] = saved.sequences().shape(saved.size());
    detail::resize("gradients.x", gradients.x, {B, L, E});
    backward_rows(gradients, view.data(), saved, gradients.x.data(), {accumulate, context});
  }

  // ---- For layers that are made of this: checks, and what makes none -----------------------------

  // The projections are public, so a caller may have put others in their place. Throws
  // std::invalid_argument if they do not fit each other, std::logic_error while lazy.
  void require_parts() const {
    require_initialized();
    const auto require = [](const char* name, Index got, Index expected) {
      if (got != expected)
        detail::refuse({"FeedForward: ", name, " is ", got, "; expected ", expected});
    };
    require("down.in_features", down.in_features(), hidden_size());
    require("down.out_features", down.out_features(), size());
    if (gate) require("gate.in_features", gate->in_features(), size());
    if (gate) require("gate.out_features", gate->out_features(), hidden_size());
  }
  // And std::logic_error unless something is saved of a layer of these sizes.
  void require_saved(const Activations& saved) const {
    require_parts();
    if (!saved.is_saved())
      detail::refuse<std::logic_error>(
          {"FeedForward: backward needs the activations of a forward call"});
    if (saved.size() != size() || saved.up().dimension(1) != hidden_size() ||
        (saved.gate().dimension(1) > 0) != is_gated())
      detail::refuse<std::logic_error>(
          {"FeedForward: the activations are those of a layer of other sizes"});
  }

  [[nodiscard]] detail::FeedForwardParts<T> parts() const {
    const auto of = [](const Linear<T>& linear) -> detail::Projection<T> {
      return {linear.panels(), linear.has_bias() ? linear.bias().data() : nullptr};
    };
    return {of(up), gate ? of(*gate) : detail::Projection<T>{}, of(down), options_.activation};
  }

  // Gives `gradients` the shapes of the parameters, or, if they are added to, refuses others.
  void fit(Gradients& gradients, bool accumulate) const {
    if (!gate && accumulate && gradients.gate.weight.size() > 0)
      detail::refuse(
          {"gradients: there are some of a gate; expected none, of a layer without one"});
    up.fit(gradients.up, accumulate);
    if (gate)
      gate->fit(gradients.gate, accumulate);
    else
      gradients.gate = {};
    down.fit(gradients.down, accumulate);
  }

  struct BackwardRun {
    bool accumulate;
    Context& context;
  };
  // grad_y, grad_x: [rows, size]
  void backward_rows(Gradients& gradients, const T* grad_y, const Activations& saved, T* grad_x,
                     const BackwardRun& run) const {
    Context& context = run.context;
    const detail::FeedForwardParts<T> of = parts();
    const detail::SequenceRows sequences = saved.sequences().rows();
    const Index rows = sequences.total();
    const detail::Frame frame(context);
    T* const h = frame.template take<T>(rows * hidden_size());
    T* const grad_h = frame.template take<T>(rows * hidden_size());
    struct Step {
      const T *x, *grad_y;
      T* grad_x;
      bool adds;
    };
    const auto undo = [&](const Linear<T>& linear, LinearGradients<T>& of_linear,
                          const Step& step) {
      const detail::Range outputs{0, linear.out_features()};
      linear.backward({.x = step.x,
                       .grad_y = step.grad_y,
                       .rows = sequences,
                       .outputs = {&outputs, 1},
                       .grad_x = step.grad_x,
                       .accumulate = step.adds},
                      of_linear, run.accumulate, context);
    };
    const detail::HiddenRows<T> hidden{rows, saved.up().data(), saved.gate().data()};
    detail::activate_hidden_rows(of, hidden, h, context);
    undo(down, gradients.down, {h, grad_y, grad_h, false});
    detail::activate_hidden_rows_backward(of, hidden, grad_h, h, context);
    undo(up, gradients.up, {saved.x(), grad_h, grad_x, false});
    if (gate) undo(*gate, gradients.gate, {saved.x(), h, grad_x, true});
  }

 private:
  struct Checked {
    explicit Checked(const FeedForwardOptions& from) : options(from) {
      if (options.size < 0)
        detail::refuse({"FeedForward: size is ", options.size,
                        "; expected 1 or more, or 0 to take it from the first input"});
      if (options.hidden_size < 1)
        detail::refuse(
            {"FeedForward: hidden_size is ", options.hidden_size, "; expected 1 or more"});
      detail::require_known(options.activation);
    }
    FeedForwardOptions options;
  };
  FeedForward(const Checked& checked, std::uint64_t seed)
      : up(first(checked.options), seed, "up"),
        // A projection's outputs are never lazy: while the size is not known, they are 1.
        down({.in_features = checked.options.size > 0 ? checked.options.hidden_size : 0,
              .out_features = (std::max)(checked.options.size, Index{1}),
              .bias = checked.options.bias},
             seed, "down"),
        options_(checked.options),
        seed_(seed) {
    if (options_.gated) gate.emplace(first(options_), seed, "gate");
  }
  [[nodiscard]] static LinearOptions first(const FeedForwardOptions& options) {
    return {.in_features = options.size, .out_features = options.hidden_size, .bias = options.bias};
  }

  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    self.require_initialized();
    const std::string start(prefix);
    self.up.for_each_parameter(visit, start + "up.");
    if (self.gate) self.gate->for_each_parameter(visit, start + "gate.");
    self.down.for_each_parameter(visit, start + "down.");
  }

  void require_initialized() const {
    if (is_lazy())
      detail::refuse<std::logic_error>(
          {"FeedForward: size is not known yet; call it once on a non-const layer, or "
           "initialize(size)"});
  }
  void require_none_was_set() const {
    const Linear<T>* const gate_or_up = gate ? &*gate : &up;
    const std::array parts{std::pair{"up", &up}, std::pair{"down", &down},
                           std::pair{"gate", gate_or_up}};
    for (const auto& [set_name, set] : parts)
      for (const auto& [name, linear] : parts)
        if (!set->is_lazy() && linear->is_lazy())
          detail::refuse<std::logic_error>(
              {"FeedForward: ", set_name, " was given a size, and ", name,
               " has none; call initialize(size) before, and set weights then"});
    if (down.has_bias() && down.bias()(0) != 0)  // of the one output that it has while lazy
      detail::refuse<std::logic_error>(
          {"FeedForward: down was given a bias, and has no size; call initialize(size) before, and "
           "set biases then"});
    if (gate_or_up->out_features() != hidden_size())
      detail::refuse({"FeedForward: gate.out_features is ", gate_or_up->out_features(),
                      "; expected ", hidden_size()});
  }
  template <int Rank>
  void require_input(TensorView<T, Rank> x) const {
    require_parts();
    auto expected = x.dimensions();
    expected.back() = size();
    require_shape("x", x, "[..., size]", expected);
  }
  template <int Rank>
  void initialize_for(TensorView<T, Rank> x) {
    if (!is_lazy()) return;
    require_shape("x", x, "[..., size]", x.dimensions());
    initialize(x.dimension(Rank - 1));
  }

  template <int Rank>
  void run(TensorView<T, Rank> x, T* y, Context& context) const {
    detail::feed_forward<T>(parts(), {.x = x.data(), .y = y, .rows = x.size() / size()}, context);
  }
  template <int Rank>
  Tensor<T, Rank> train(TensorView<T, Rank> x, const detail::SavedSequences& sequences,
                        Activations& saved, Context& context) const {
    auto y = detail::make_tensor<T>("y", x.dimensions());
    const auto kept = saved.keep(sequences, parts());
    std::copy_n(x.data(), x.size(), kept.x);
    detail::feed_forward<T>(
        parts(),
        {.x = x.data(), .y = y.data(), .rows = x.size() / size(), .up = kept.up, .gate = kept.gate},
        context);
    saved.complete();
    return y;
  }

  FeedForwardOptions options_;
  std::uint64_t seed_;
};

// In PyTorch's manner.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const FeedForward<T>& layer) {
  out << "FeedForward(";
  detail::print_member(out, "up", layer.up);
  if (layer.gate) detail::print_member(out, "gate", *layer.gate);
  detail::print_member(out, "activation", layer.activation());
  detail::print_member(out, "down", layer.down);
  return out << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
