// SPDX-License-Identifier: MIT
#pragma once
// A feed-forward network whose hidden numbers and outputs are shared out over ranks, with the bits of
// one process:
//   own h = f(W_up x + b_up), or, gated, f(W_gate x + b_gate) * (W_up x + b_up)
//   h     = those of all ranks, gathered
//   own y = W_down h + b_down
//   y     = those of all ranks, gathered
// Of N rows, a rank receives N * (the hidden numbers + the outputs of all others), and sends as many.
// Columns of W_down instead of its rows would send no h, but parts of sums, whose bits depend on how
// many ranks there are.
#include <algorithm>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/schedule/feed_forward.hpp>  // FeedForwardParts, activate_hidden
#include <eigenheads/linear.hpp>                            // Linear
#include <eigenheads/mpi/ranks.hpp>                         // Ranks
#include <eigenheads/mpi/shares.hpp>                        // Shares
#include <eigenheads/mpi/tensor_backward.hpp>               // shared_backward
#include <eigenheads/mpi/tensor_exchange.hpp>               // gather_columns
#include <eigenheads/nn/feed_forward.hpp>                   // FeedForward
#include <eigenheads/sequences.hpp>                         // Sequences, require_rows
#include <eigenheads/shape.hpp>                             // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                            // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// All ranks make the same calls with the same inputs; each is a round of theirs. What throws on one
// throws on all. The ranks must outlive the layer.
template <Scalar T>
class TensorParallelFeedForward {
 public:
  using Activations = FeedForwardActivations<T>;  // of this rank's hidden numbers
  using Gradients = FeedForwardGradients<T>;

  // This rank's part of a whole layer, which every rank has alike, and which is not needed any more.
  // Throws std::logic_error for a lazy one.
  TensorParallelFeedForward(const FeedForward<T>& whole, Ranks& ranks)
      : up(empty_outputs<T>(1, 0, false)),
        down(up),
        ranks_(&ranks),
        hidden_(Shares::even(whole.hidden_size(), ranks.size())),
        outputs_(Shares::even(checked(whole).size(), ranks.size())),
        activation_(whole.activation()) {
    const int rank = ranks.rank();
    up = outputs_of(whole.up, hidden_.of(rank));
    if (whole.gate) gate = outputs_of(*whole.gate, hidden_.of(rank));
    down = outputs_of(whole.down, outputs_.of(rank));
  }
  // This rank's part of a layer of these options, with weights of 0, to be loaded
  // (tensor_checkpoints.hpp). The size may not be lazy. Throws std::invalid_argument for invalid
  // options.
  TensorParallelFeedForward(const FeedForwardOptions& options, Ranks& ranks)
      : up(empty_outputs<T>(1, 0, false)),
        down(up),
        ranks_(&ranks),
        hidden_(Shares::even(checked(options).hidden_size, ranks.size())),
        outputs_(Shares::even(options.size, ranks.size())),
        activation_(options.activation) {
    const int rank = ranks.rank();
    up = empty_outputs<T>(options.size, hidden_.count(rank), options.bias);
    if (options.gated) gate = up;
    down = empty_outputs<T>(options.hidden_size, outputs_.count(rank), options.bias);
  }

  Linear<T> up;                   // the rank's hidden numbers
  std::optional<Linear<T>> gate;  // the same of them, if it is gated
  Linear<T> down;                 // its outputs, of all hidden numbers

  [[nodiscard]] Ranks& ranks() const { return *ranks_; }
  [[nodiscard]] Index size() const { return outputs_.total(); }
  [[nodiscard]] Index hidden_size() const { return hidden_.total(); }
  [[nodiscard]] const Shares& hidden_shares() const { return hidden_; }
  [[nodiscard]] const Shares& output_shares() const { return outputs_; }
  [[nodiscard]] Activation activation() const { return activation_; }
  [[nodiscard]] bool is_gated() const { return gate.has_value(); }

  // This rank's parts of the parameters, under the whole layer's names.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }
  // visit(parameter, first, all): it is rows [first, first + its own) of `all`.
  template <class Visitor>
  void for_each_share(Visitor&& visit, std::string_view prefix = "") {
    const std::string start(prefix);
    const auto share = [&](Linear<T>& own, const char* name, const Shares& shares) {
      visit_share(own, shares, ranks_->rank(), visit, start + name);
    };
    share(up, "up.", hidden_);
    if (gate) share(*gate, "gate.", hidden_);
    share(down, "down.", outputs_);
  }

  // x: [..., size] -> the same shape.
  template <eigenheads::detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x,
                                                 Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    Tensor<T, rank_of<X>> y;
    round("a feed-forward network", view, [&] {
      require_input(view);
      y = eigenheads::detail::make_tensor<T>("y", view.dimensions());
      run(view.data(), view.size() / size(), y.data(), context);
    });
    return y;
  }
  // y may be x itself, but may not overlap it otherwise.
  template <int Rank>
  void forward_into(TensorSpan<T, Rank> y, TensorView<T, Rank> x,
                    Context& context = default_context()) const {
    round("a feed-forward network", x, [&] {
      require_input(x);
      require_shape("y", TensorView<T, Rank>(y), "[..., size]", x.dimensions());
      eigenheads::detail::require_same_or_disjoint("y", TensorView<T, Rank>(y), "x", x);
      run(x.data(), x.size() / size(), y.data(), context);
    });
  }

  // Training: as FeedForward's forward and backward. What is saved is of this rank's hidden numbers; h
  // is gathered again in the backward pass, which takes less memory, and as many bytes once more.
  template <eigenheads::detail::TensorLike X>
  Tensor<T, rank_of<X>> forward(const X& x, Activations& saved,
                                Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    return train(view, eigenheads::detail::SavedSequences(view.dimensions()), saved, context);
  }
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, Activations& saved,
                       Context& context = default_context()) const {
    return train(x, eigenheads::detail::SavedSequences(sequences.as_rows()), saved, context);
  }
  // Of the input the whole gradient, on every rank; of the parameters those of its parts.
  template <eigenheads::detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    const auto run_backward = [&] {
      require_saved(saved);
      auto expected = view.dimensions();
      expected.back() = size();
      require_shape("grad_y", view, "[..., size]", expected);
      if (!saved.sequences().are_of(view.dimensions()))
        eigenheads::detail::refuse({"grad_y has shape ", view.dimensions(), "; expected ",
                                    saved.sequences().rows().total(), " rows of ",
                                    saved.sequences().rows().count(),
                                    " sequences, those of the forward call"});
      fit(gradients, accumulate);
      const auto [B, L, E] = saved.sequences().shape(size());
      eigenheads::detail::resize("gradients.x", gradients.x, {B, L, E});
      undo(gradients, view.data(), saved, accumulate, context);
    };
    round("the backward pass of a feed-forward network", view, run_backward, accumulate,
          saved.is_saved() ? &saved.sequences() : nullptr);
  }
  template <eigenheads::detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }

  // For modules that are made of such layers: what their rounds compare of it, since no other begins in
  // one; throw if a part was replaced by one of another size, or if nothing is saved of a layer of
  // these; give gradients the shapes of the parameters.
  void add_terms(Digest& digest) const {
    digest.add(size())
        .add(hidden_size())
        .add(static_cast<Index>(activation_))
        .add(Index{is_gated()});
  }
  void require_parts() const;
  void require_saved(const Activations& saved) const;
  void fit(Gradients& gradients, bool accumulate) const;

 private:
  [[nodiscard]] static const FeedForward<T>& checked(const FeedForward<T>& whole) {
    whole.require_parts();
    return whole;
  }
  [[nodiscard]] static const FeedForwardOptions& checked(const FeedForwardOptions& options) {
    for (const auto& [name, value] :
         {std::pair{"size", options.size}, std::pair{"hidden_size", options.hidden_size}})
      if (value < 1)
        eigenheads::detail::refuse(
            {"TensorParallelFeedForward: ", name, " is ", value, "; expected 1 or more"});
    eigenheads::detail::require_known(options.activation);
    return options;
  }
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    self.up.for_each_parameter(visit, start + "up.");
    if (self.gate) self.gate->for_each_parameter(visit, start + "gate.");
    self.down.for_each_parameter(visit, start + "down.");
  }

  template <int Rank, class Run>
  void round(const char* what, TensorView<T, Rank> x, const Run& run, bool accumulate = false,
             const eigenheads::detail::SavedSequences* sequences = nullptr) const {
    Digest shape;
    for (const Index axis : x.dimensions()) shape.add(axis);
    if (sequences != nullptr)
      for (Index b = 0; b < sequences->rows().count(); ++b) shape.add(sequences->rows().length(b));
    ranks_->together(what,
                     {{"the size of a number", Index{sizeof(T)}},
                      {"size", size()},
                      {"hidden_size", hidden_size()},
                      {"activation", static_cast<Index>(activation_)},
                      {"whether it is gated", Index{is_gated()}},
                      {"rows", x.size() / (std::max)(x.dimension(Rank - 1), Index{1})},
                      {"features", x.dimension(Rank - 1)},
                      {"a digest of the shape", shape.value()},
                      {"whether gradients are added to", Index{accumulate}}},
                     run);
  }
  template <int Rank>
  void require_input(TensorView<T, Rank> x) const {
    require_parts();
    auto expected = x.dimensions();
    expected.back() = size();
    require_shape("x", x, "[..., size]", expected);
  }
  [[nodiscard]] eigenheads::detail::FeedForwardParts<T> parts() const {
    const auto of = [](const Linear<T>& linear) -> eigenheads::detail::Projection<T> {
      return {linear.panels(), linear.has_bias() ? linear.bias().data() : nullptr};
    };
    return {of(up), gate ? of(*gate) : eigenheads::detail::Projection<T>{}, of(down), activation_};
  }

  // What this rank's hidden numbers are made in: [rows, its own] each; `gate` is null without one.
  struct Hidden {
    T *up, *gate, *h;
  };
  void make_hidden(const T* x, Index rows, const Hidden& to, Context& context) const;
  void project_down(const T* own_h, Index rows, T* y, Context& context) const;
  void run(const T* x, Index rows, T* y, Context& context) const;
  template <int Rank>
  Tensor<T, Rank> train(TensorView<T, Rank> x, const eigenheads::detail::SavedSequences& sequences,
                        Activations& saved, Context& context) const;
  void undo(Gradients& gradients, const T* grad_y, const Activations& saved, bool accumulate,
            Context& context) const;

  Ranks* ranks_;
  Shares hidden_, outputs_;
  Activation activation_;
};

#include <eigenheads/mpi/tensor_feed_forward.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
