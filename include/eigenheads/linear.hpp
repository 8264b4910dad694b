// SPDX-License-Identifier: MIT
#pragma once
// A learned projection of the last axis: y = x W^T + b, W: [out_features, in_features].
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/packed_matrix.hpp>      // PackedMatrix
#include <eigenheads/kernels/schedule/backward.hpp>  // input_gradient, parameter_gradients
#include <eigenheads/kernels/schedule/project.hpp>   // project
#include <eigenheads/linear_gradients.hpp>           // LinearGradients
#include <eigenheads/parameter.hpp>                  // Parameter
#include <eigenheads/random.hpp>                     // random_symmetric, undrawn
#include <eigenheads/sequences.hpp>                  // Sequences
#include <eigenheads/shape.hpp>                      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                     // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct LinearOptions {
  Index in_features = 0;  // 0: lazy, taken from the first input
  Index out_features = 0;
  bool bias = false;
};

template <Scalar T>
class Linear {
 public:
  // The weights are Xavier-uniform (Glorot and Bengio, 2010, eq. 16), the bias is 0. They depend on
  // (seed, name, in_features, out_features) alone, so a lazy layer ends with an eager one's bits.
  // Throws std::invalid_argument for invalid sizes.
  explicit Linear(const LinearOptions& options, std::uint64_t seed = 0, std::string_view name = "")
      : out_features_(options.out_features),
        seed_(seed),
        stream_(random_stream(std::string(name) + ".weight")),
        has_bias_(options.bias) {
    if (options.out_features < 1)
      detail::refuse({"Linear: out_features is ", options.out_features, "; expected 1 or more"});
    if (options.in_features < 0)
      detail::refuse({"Linear: in_features is ", options.in_features,
                      "; expected 1 or more, or 0 to take it from the first input"});
    if (has_bias_) {
      bias_ = detail::make_tensor<T>("bias", std::array{out_features_});
      bias_.setZero();
    }
    if (options.in_features > 0) initialize(options.in_features);
  }

  // All of the other, or, without memory for it, nothing.
  Linear(const Linear&) = default;
  Linear(Linear&&) noexcept = default;
  Linear& operator=(const Linear& other) { return *this = Linear(other); }
  Linear& operator=(Linear&&) noexcept = default;

  [[nodiscard]] Index in_features() const { return weight_.columns(); }  // 0 while lazy
  [[nodiscard]] Index out_features() const { return out_features_; }
  [[nodiscard]] bool has_bias() const { return has_bias_; }
  [[nodiscard]] bool is_lazy() const { return is_lazy_; }

  // Gives a lazy layer its size and its weights; on any other it checks the size.
  void initialize(Index in_features) {
    if (!is_lazy() && in_features == this->in_features()) return;
    if (!is_lazy() || in_features < 1)
      detail::refuse({"Linear: in_features is ", in_features, "; expected ",
                      (is_lazy() ? "1 or more" : std::to_string(this->in_features()))});
    auto weight = detail::make_tensor<T>("weight", std::array{out_features_, in_features});
    const double bound = std::sqrt(6.0 / static_cast<double>(in_features + out_features_));
    if (seed_ == undrawn) weight.setZero();
    for (Index i = 0; i < weight.size() && seed_ != undrawn; ++i)
      weight.data()[i] = static_cast<T>(bound * random_symmetric(seed_, stream_, i));
    store(weight);
  }

  // [out_features, in_features], a copy. Throws std::logic_error while lazy.
  [[nodiscard]] Tensor<T, 2> weight() const {
    require_initialized();
    return weight_.unpacked("weight");
  }

  // weight: [out_features, in_features]; a lazy layer takes in_features from it.
  void set_weight(TensorView<T, 2> weight) {
    require_shape("weight", weight, "[out_features, in_features]",
                  {out_features_, is_lazy() ? any_size : in_features()});
    if (is_lazy() && weight.dimension(1) == 0)
      detail::refuse({"weight: in_features is 0; expected 1 or more"});
    store(weight);
    was_set_ = true;
  }
  [[nodiscard]] bool was_set() const { return was_set_; }  // by set_weight

  // [out_features]. Both throw std::logic_error on a layer that was made without a bias.
  [[nodiscard]] const Tensor<T, 1>& bias() const {
    require_bias();
    return bias_;
  }
  void set_bias(TensorView<T, 1> bias) {
    require_bias();
    require_shape("bias", bias, "[out_features]", {out_features_});
    std::copy_n(bias.data(), out_features_, bias_.data());
  }

  // W as it lies in memory, for layers that are made of projections.
  [[nodiscard]] detail::Panels<const T> panels() const { return weight_.panels(); }

  // The projection to these outputs from these inputs alone: those rows and columns of W, in this
  // order. There may be none of either. Throws std::logic_error while lazy, std::invalid_argument
  // for one that is not there.
  [[nodiscard]] Linear part(std::span<const Index> outputs, std::span<const Index> inputs) const {
    const Tensor<T, 2> whole = weight();
    const auto require = [](const char* name, std::span<const Index> features, Index count) {
      for (const Index i : features)
        if (i < 0 || i >= count)
          detail::refuse(
              {"Linear: there is no ", name, " ", i, "; it has ", count, ", counted from 0"});
    };
    require("output", outputs, out_features_);
    require("input", inputs, in_features());
    Tensor<T, 2> kept(std::ssize(outputs), std::ssize(inputs));
    for (Index o = 0; o < kept.dimension(0); ++o)
      for (Index i = 0; i < kept.dimension(1); ++i)
        kept(o, i) =
            whole(outputs[static_cast<std::size_t>(o)], inputs[static_cast<std::size_t>(i)]);
    Linear linear(*this);
    linear.out_features_ = std::ssize(outputs);
    linear.store(kept);
    if (has_bias_) {
      linear.bias_ = Tensor<T, 1>(std::ssize(outputs));
      for (Index o = 0; o < linear.out_features_; ++o)
        linear.bias_(o) = bias_(outputs[static_cast<std::size_t>(o)]);
    }
    return linear;
  }

  // visit(Parameter) for "weight" and, if there is one, "bias". The prefix tells layers apart:
  // "decoder." makes it "decoder.weight". Throws std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // x: [..., in_features] -> [..., out_features]. A lazy layer is initialized by its first call; a
  // lazy const one throws std::logic_error. Throws std::invalid_argument if x does not fit.
  template <detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x, Context& context = default_context()) {
    const TensorView<T, rank_of<X>> view(x);
    if (is_lazy()) {
      require_input(view);
      initialize(view.dimension(rank_of<X> - 1));
    }
    return std::as_const(*this)(view, context);
  }
  template <detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x,
                                                 Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_initialized();
    require_input(view);
    auto shape = view.dimensions();
    shape.back() = out_features_;
    auto y = detail::make_tensor<T>("y", shape);
    forward_into(TensorSpan<T, rank_of<X>>(y), view, context);
    return y;
  }

  // y: [..., out_features], x: [..., in_features]; y must not overlap x.
  template <int Rank>
  void forward_into(TensorSpan<T, Rank> y, TensorView<T, Rank> x,
                    Context& context = default_context()) const {
    require_initialized();
    require_input(x);
    auto expected = x.dimensions();
    expected.back() = out_features_;
    require_shape("y", TensorView<T, Rank>(y), "[..., out_features]", expected);
    detail::require_disjoint("y", TensorView<T, Rank>(y), "x", x);
    const Index rows = out_features_ == 0 ? 0 : y.size() / out_features_;
    const detail::Range all{0, rows}, inputs{0, in_features()}, outputs{0, out_features_};
    project(x.data(), {{&all, 1}, {&inputs, 1}, {&outputs, 1}},
            detail::StridedMatrix<T>::plain(y.data(), rows, out_features_), context);
  }
  template <detail::TensorLike Y, detail::TensorLike X>
  requires(!std::same_as<std::remove_cvref_t<Y>, TensorSpan<T, rank_of<Y>>> ||
           !std::same_as<std::remove_cvref_t<X>, TensorView<T, rank_of<Y>>>)
  void forward_into(Y&& y, const X& x, Context& context = default_context()) const {
    forward_into(TensorSpan<T, rank_of<Y>>(y), TensorView<T, rank_of<Y>>(x), context);
  }

  // Backward of y = x W^T + b. x: [..., in_features], grad_y, the gradient of y: [...,
  // out_features] -> the gradient of x. Those of W and b go to `gradients`, or with `accumulate` are
  // added to what it holds. Throws std::logic_error while lazy, std::invalid_argument, before
  // anything is written, for shapes that do not fit. One fixed order of sums, by blocks of 256 rows of
  // a sequence; a sequence is what the last two axes hold, so [N, in_features] is one. The same bits
  // on any number of threads, and from the sums of all blocks, added up one by one.
  template <detail::TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> backward(
      const X& x, std::type_identity_t<TensorView<T, rank_of<X>>> grad_y,
      LinearGradients<T>& gradients, bool accumulate = false,
      Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_initialized();
    require_input(view);  // whose rows can be counted then
    const auto shape = view.dimensions();
    Index rows = 1;
    for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis];
    const Index per_sequence = shape.size() > 1 ? shape[shape.size() - 2] : 1;
    const Index sequences = per_sequence == 0 ? 0 : rows / per_sequence;
    return backward_checked(view, {sequences, per_sequence}, grad_y, gradients, accumulate,
                            context);
  }
  // The same for packed sequences, x: [N, in_features].
  [[nodiscard]] Tensor<T, 2> backward(TensorView<T, 2> x, const Sequences& sequences,
                                      TensorView<T, 2> grad_y, LinearGradients<T>& gradients,
                                      bool accumulate = false,
                                      Context& context = default_context()) const {
    detail::require_rows("x", x, sequences);
    require_initialized();
    require_input(x);
    return backward_checked(x, sequences.as_rows(), grad_y, gradients, accumulate, context);
  }

  // ---- Without checks: for layers that are made of projections -----------------------------------

  // Some rows and features, into any layout.
  void project(const T* x, const detail::ProjectedPart& part, const detail::StridedMatrix<T>& y,
               Context& context) const {
    detail::project<T>(
        {.x = x, .weight = weight_.panels(), .bias = has_bias_ ? bias_.data() : nullptr, .y = y},
        part, context);
  }

  // y has a gradient of 0 outside of `outputs`, which then take no part in grad_x.
  struct Backward {
    const T *x, *grad_y;  // [rows, in_features], [rows, out_features]
    detail::SequenceRows rows;
    std::span<const detail::Range> outputs;
    T* grad_x;        // null: not wanted
    bool accumulate;  // into grad_x
  };
  void backward(const Backward& call, LinearGradients<T>& gradients, bool accumulate,
                Context& context) const {
    const detail::Projected<T> y{weight_.panels(), call.rows, call.x, call.grad_y};
    const detail::Frame frame(context);
    const detail::KeptRows kept = detail::keep_rows(y, frame);
    if (call.grad_x != nullptr)
      detail::input_gradient<T>(y, {kept.ranges, call.outputs, {}}, call.grad_x, call.accumulate,
                                context);
    detail::parameter_gradients<T>(
        y, kept.rows,
        {gradients.weight.data(), has_bias_ ? gradients.bias.data() : nullptr, accumulate},
        context);
  }

  // Gives `gradients` the shapes of the parameters, or, if they are added to, refuses others.
  void fit(LinearGradients<T>& gradients, bool accumulate) const {
    detail::fit_gradient("gradients: weight", gradients.weight, "[out_features, in_features]",
                         {out_features_, in_features()}, accumulate);
    detail::fit_gradient("gradients: bias", gradients.bias, "[out_features]",
                         {has_bias_ ? out_features_ : Index{0}}, accumulate);
  }

 private:
  // Of an x that was checked.
  template <int Rank>
  [[nodiscard]] Tensor<T, Rank> backward_checked(TensorView<T, Rank> x,
                                                 const detail::SequenceRows& rows,
                                                 TensorView<T, Rank> grad_y,
                                                 LinearGradients<T>& gradients, bool accumulate,
                                                 Context& context) const {
    auto expected = x.dimensions();
    expected.back() = out_features_;
    require_shape("grad_y", grad_y, "[..., out_features]", expected);
    auto grad_x = detail::make_tensor<T>("grad_x", x.dimensions());
    fit(gradients, accumulate);
    const detail::Range all{0, out_features_};
    backward({.x = x.data(),
              .grad_y = grad_y.data(),
              .rows = rows,
              .outputs = {&all, 1},
              .grad_x = grad_x.data(),
              .accumulate = false},
             gradients, accumulate, context);
    return grad_x;
  }

  void require_initialized() const {
    if (is_lazy())
      detail::refuse<std::logic_error>(
          {"Linear: in_features is not known yet; call it once on a non-const layer, or "
           "initialize(in_features)"});
  }
  template <int Rank>
  void require_input(TensorView<T, Rank> x) const {
    auto expected = x.dimensions();
    expected.back() = is_lazy() ? any_size : in_features();
    require_shape("x", x, "[..., in_features]", expected);
  }
  void require_bias() const {
    if (!has_bias_)
      detail::refuse<std::logic_error>({"Linear: this layer was made without a bias"});
  }

  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    using Element = std::conditional_t<std::is_const_v<Self>, const T, T>;
    self.require_initialized();
    visit(Parameter<Element>(std::string(prefix) + "weight", self.weight_.panels()));
    if (self.bias_.size() > 0) visit(Parameter<Element>(std::string(prefix) + "bias", self.bias_));
  }

  void store(TensorView<T, 2> weight) {
    weight_ = detail::PackedMatrix<T>(weight);
    is_lazy_ = false;
  }

  Index out_features_;
  std::uint64_t seed_, stream_;
  bool has_bias_, is_lazy_ = true, was_set_ = false;
  // W, [out_features, in_features]: the only copy. One chain of multiply-adds an output, in the order
  // of the inputs, then the bias: a row's bits depend on nothing but the row.
  detail::PackedMatrix<T> weight_;
  Tensor<T, 1> bias_{0};
};

// As PyTorch prints it: Linear(in_features=100, out_features=100, bias=False)
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const Linear<T>& linear) {
  return out << (linear.is_lazy() ? "LazyLinear" : "Linear")
             << "(in_features=" << std::to_string(linear.in_features())
             << ", out_features=" << std::to_string(linear.out_features())
             << ", bias=" << (linear.has_bias() ? "True" : "False") << ')';
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
