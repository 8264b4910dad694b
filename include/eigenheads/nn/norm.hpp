// SPDX-License-Identifier: MIT
#pragma once
// What LayerNorm and RmsNorm (layer_norm.hpp) share: the parameters, and the doors.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/kernels/nn/norm.hpp>       // norm, norm_backward
#include <eigenheads/parameter.hpp>             // Parameter
#include <eigenheads/sequences.hpp>             // Sequences, require_rows
#include <eigenheads/shape.hpp>                 // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

// The gradients of a norm's parameters, with their shapes, names and order.
template <Scalar T>
struct NormGradients {
  Tensor<T, 1> weight{0}, bias{0};  // [size], or empty: the layer has none

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

 private:
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    using Element = std::conditional_t<std::is_const_v<Self>, const T, T>;
    const auto visit_one = [&](const char* name, auto& values) {
      if (values.size() > 0) visit(Parameter<Element>(std::string(prefix) + name, values));
    };
    visit_one("weight", self.weight);
    visit_one("bias", self.bias);
  }
};

namespace detail {

struct NormSettings {
  const char* name;
  Index size;
  double eps;
  bool has_weight, has_bias, is_centered;
  bool is_eps_given = true;
};

template <Scalar T>
class Norm {
 public:
  using Gradients = NormGradients<T>;

  // All of the other, or, without memory for it, nothing.
  Norm(const Norm&) = default;
  Norm(Norm&&) noexcept = default;
  Norm& operator=(const Norm& other) { return *this = Norm(other); }
  Norm& operator=(Norm&&) noexcept = default;

  [[nodiscard]] Index size() const { return settings_.size; }  // 0 while lazy
  [[nodiscard]] double eps() const { return settings_.eps; }
  [[nodiscard]] bool has_weight() const { return settings_.has_weight; }
  [[nodiscard]] bool has_bias() const { return settings_.has_bias; }
  [[nodiscard]] bool is_lazy() const { return size() == 0; }

  // Gives a lazy layer its size; on any other it checks the size.
  void initialize(Index size) {
    if (!is_lazy() && size == this->size()) return;
    if (!is_lazy() || size < 1)
      refuse({settings_.name, ": size is ", size, "; expected ",
              (is_lazy() ? "1 or more" : std::to_string(this->size()))});
    auto weight = constant("weight", has_weight() ? size : 0, T(1));
    bias_ = constant("bias", has_bias() ? size : 0, T(0));
    weight_ = std::move(weight);
    settings_.size = size;
  }

  // [size]. Throw std::logic_error on a layer that was made without.
  [[nodiscard]] const Tensor<T, 1>& weight() const {
    require("a weight", has_weight());
    return weight_;
  }
  [[nodiscard]] const Tensor<T, 1>& bias() const {
    require("a bias", has_bias());
    return bias_;
  }
  void set_weight(TensorView<T, 1> weight) {
    require("a weight", has_weight());
    set("weight", weight, weight_);
  }
  void set_bias(TensorView<T, 1> bias) {
    require("a bias", has_bias());
    set("bias", bias, bias_);
  }

  // visit(Parameter) for "weight" and "bias", where there are. The prefix tells layers apart. Throws
  // std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // x: [..., size] -> [..., size]; packed rows are [N, size]. A lazy layer is initialized by its first
  // call; a lazy const one throws std::logic_error. Throws std::invalid_argument if x does not fit.
  template <TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x, Context& context = default_context()) {
    const TensorView<T, rank_of<X>> view(x);
    initialize_by(view);
    return std::as_const(*this)(view, context);
  }
  template <TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> operator()(const X& x,
                                                 Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_initialized();
    require_fits("x", view);
    auto y = make_tensor<T>("y", view.dimensions());
    apply({.x = view.data(), .y = y.data(), .rows = rows_of(view)}, context);
    return y;
  }

  // y may be x.
  template <TensorLike Y, TensorLike X>
  void forward_into(Y&& y, const X& x, Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> from(x);
    const TensorSpan<T, rank_of<X>> to(y);
    require_initialized();
    require_fits("x", from);
    require_result("y", TensorView<T, rank_of<X>>(to), from);
    apply({.x = from.data(), .y = to.data(), .rows = rows_of(from)}, context);
  }

  // The norm of x + residual, in one pass over the rows.
  template <TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> add_norm(
      const X& x, std::type_identity_t<TensorView<T, rank_of<X>>> residual,
      Context& context = default_context()) {
    const TensorView<T, rank_of<X>> view(x);
    require_fits("x", view);
    require_like_x("residual", residual, view);
    initialize_by(view);
    return std::as_const(*this).add_norm(view, residual, context);
  }
  template <TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> add_norm(
      const X& x, std::type_identity_t<TensorView<T, rank_of<X>>> residual,
      Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_initialized();
    require_fits("x", view);
    require_like_x("residual", residual, view);
    auto y = make_tensor<T>("y", view.dimensions());
    add_norm_into(y, view, residual, context);
    return y;
  }
  // y may be x or the residual.
  template <TensorLike Y, TensorLike X>
  void add_norm_into(Y&& y, const X& x, std::type_identity_t<TensorView<T, rank_of<X>>> residual,
                     Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> from(x);
    const TensorSpan<T, rank_of<X>> to(y);
    require_initialized();
    require_fits("x", from);
    require_like_x("residual", residual, from);
    require_result("y", TensorView<T, rank_of<X>>(to), from, residual);
    apply({.x = from.data(), .y = to.data(), .rows = rows_of(from), .residual = residual.data()},
          context);
  }
  // And sum = x + residual, which layers that norm first go on with. Each of y and sum may be x or the
  // residual.
  template <TensorLike Y, TensorLike Sum, TensorLike X>
  void add_norm_into(Y&& y, Sum&& sum, const X& x,
                     std::type_identity_t<TensorView<T, rank_of<X>>> residual,
                     Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> from(x);
    const TensorSpan<T, rank_of<X>> to(y), kept(sum);
    require_initialized();
    require_fits("x", from);
    require_like_x("residual", residual, from);
    require_result("y", TensorView<T, rank_of<X>>(to), from, residual);
    require_result("sum", TensorView<T, rank_of<X>>(kept), from, residual);
    require_disjoint("y", TensorView<T, rank_of<X>>(to), "sum", TensorView<T, rank_of<X>>(kept));
    apply({.x = from.data(),
           .y = to.data(),
           .rows = rows_of(from),
           .residual = residual.data(),
           .sum = kept.data()},
          context);
  }

  // Backward of y = norm(x). x and grad_y: [..., size] -> the gradient of x. Those of the parameters go
  // to `gradients`, or with `accumulate` are added to what it holds. Backward of add_norm is the same at
  // the sum, whose gradient is that of x and of the residual. Throws std::logic_error while lazy,
  // std::invalid_argument, before anything is written, for shapes that do not fit. One fixed order of
  // sums, by blocks of 256 rows of a sequence, which is what the last two axes hold; rows whose grad_y
  // is all 0 are left out.
  template <TensorLike X>
  [[nodiscard]] Tensor<T, rank_of<X>> backward(
      const X& x, std::type_identity_t<TensorView<T, rank_of<X>>> grad_y, Gradients& gradients,
      bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<X>> view(x);
    require_initialized();
    require_fits("x", view);
    Index length = 1;
    if constexpr (rank_of<X> > 1) length = view.dimension(rank_of<X> - 2);
    const SequenceRows sequences(length == 0 ? 0 : rows_of(view) / length, length);
    return backward_checked(view, sequences, grad_y, gradients, accumulate, context);
  }
  // Packed: x and grad_y: [N, size].
  [[nodiscard]] Tensor<T, 2> backward(TensorView<T, 2> x, const Sequences& sequences,
                                      TensorView<T, 2> grad_y, Gradients& gradients,
                                      bool accumulate = false,
                                      Context& context = default_context()) const {
    require_initialized();
    require_fits("x", x);
    require_rows("x", x, sequences);
    return backward_checked(x, sequences.as_rows(), grad_y, gradients, accumulate, context);
  }

  // ---- Without checks: for layers that are made of norms ------------------------------------------

  // [rows, size] each; residual and sum may be null (see NormCall).
  struct Rows {
    const T* x;
    T* y;
    Index rows;
    const T* residual = nullptr;
    T* sum = nullptr;
  };
  void apply(const Rows& call, Context& context) const {
    norm<T>({.x = call.x,
             .residual = call.residual,
             .sum = call.sum,
             .y = call.y,
             .weight = has_weight() ? weight_.data() : nullptr,
             .bias = has_bias() ? bias_.data() : nullptr,
             .size = size(),
             .eps = rounded_eps(),
             .is_centered = settings_.is_centered},
            call.rows, context);
  }

  // `added`, or null, joins grad_x, whose memory it may be.
  struct Backward {
    const T *x, *grad_y;
    SequenceRows sequences;
    T* grad_x;
    const T* added = nullptr;
  };
  void backward(const Backward& call, Gradients& gradients, bool accumulate,
                Context& context) const {
    norm_backward<T>({.x = call.x,
                      .grad_y = call.grad_y,
                      .weight = has_weight() ? weight_.data() : nullptr,
                      .added = call.added,
                      .grad_x = call.grad_x,
                      .shifts = nullptr,
                      .scales = nullptr,
                      .kept = nullptr,
                      .size = size(),
                      .eps = rounded_eps(),
                      .is_centered = settings_.is_centered},
                     call.sequences,
                     {has_weight() ? gradients.weight.data() : nullptr,
                      has_bias() ? gradients.bias.data() : nullptr, accumulate},
                     context);
  }

  // Gives `gradients` the shapes of the parameters, or, if they are added to, refuses others.
  void fit(Gradients& gradients, bool accumulate) const {
    fit_gradient("gradients: weight", gradients.weight, "[size]",
                 {has_weight() ? size() : Index{0}}, accumulate);
    fit_gradient("gradients: bias", gradients.bias, "[size]", {has_bias() ? size() : Index{0}},
                 accumulate);
  }

  [[nodiscard]] const NormSettings& settings() const { return settings_; }

 protected:
  explicit Norm(const NormSettings& settings) : settings_(settings) {
    if (settings.size < 0)
      refuse({settings.name, ": size is ", settings.size,
              "; expected 1 or more, or 0 to take it from the first input"});
    if (!(settings.eps >= 0))
      refuse({settings.name, ": eps is ", number_text(settings.eps), "; expected 0 or more"});
    if (settings.eps > static_cast<double>((std::numeric_limits<T>::max)()))
      refuse({settings.name, ": eps is ", number_text(settings.eps),
              "; expected a number that the element type has"});
    settings_.size = 0;
    if (settings.size > 0) initialize(settings.size);
  }

 private:
  template <int Rank>
  [[nodiscard]] Tensor<T, Rank> backward_checked(TensorView<T, Rank> x,
                                                 const SequenceRows& sequences,
                                                 TensorView<T, Rank> grad_y, Gradients& gradients,
                                                 bool accumulate, Context& context) const {
    require_like_x("grad_y", grad_y, x);
    auto grad_x = make_tensor<T>("grad_x", x.dimensions());
    fit(gradients, accumulate);
    backward(
        {.x = x.data(), .grad_y = grad_y.data(), .sequences = sequences, .grad_x = grad_x.data()},
        gradients, accumulate, context);
    return grad_x;
  }

  // What is above 0 stays so: a constant row has 0 to divide by its root.
  [[nodiscard]] T rounded_eps() const {
    const T rounded = static_cast<T>(eps());
    return rounded == 0 && eps() > 0 ? std::numeric_limits<T>::denorm_min() : rounded;
  }

  void require_initialized() const {
    if (is_lazy())
      refuse<std::logic_error>({settings_.name,
                                ": size is not known yet; call it once on a non-const layer, or "
                                "initialize(size)"});
  }
  void require(const char* what, bool is_there) const {
    if (!is_there)
      refuse<std::logic_error>({settings_.name, ": this layer was made without ", what});
  }
  template <int Rank>
  void require_fits(std::string_view name, TensorView<T, Rank> x) const {
    static_assert(Rank >= 1, "A norm is taken over the last axis, and this tensor has none.");
    auto expected = x.dimensions();
    expected.back() = is_lazy() ? any_size : size();
    require_shape(name, x, "[..., size]", expected);
  }
  template <class Other, int Rank>
  void require_like_x(std::string_view name, const Other& other, TensorView<T, Rank> x) const {
    require_shape(name, TensorView<T, Rank>(other), "that of x", x.dimensions());
  }
  // A result may be x or the residual, and may overlap with neither otherwise.
  template <int Rank>
  void require_result(const char* name, TensorView<T, Rank> result, TensorView<T, Rank> x) const {
    require_like_x(name, result, x);
    require_same_or_disjoint(name, result, "x", x);
  }
  template <int Rank>
  void require_result(const char* name, TensorView<T, Rank> result, TensorView<T, Rank> x,
                      TensorView<T, Rank> residual) const {
    require_result(name, result, x);
    require_same_or_disjoint(name, result, "residual", residual);
  }
  template <int Rank>
  void initialize_by(TensorView<T, Rank> x) {
    if (!is_lazy()) return;
    require_fits("x", x);
    initialize(x.dimension(Rank - 1));
  }
  template <int Rank>
  [[nodiscard]] Index rows_of(TensorView<T, Rank> x) const {
    return x.size() / size();
  }

  [[nodiscard]] static Tensor<T, 1> constant(const char* name, Index size, T value) {
    auto values = make_tensor<T>(name, std::array{size});
    std::fill_n(values.data(), size, value);
    return values;
  }
  // A lazy layer takes its size from the first that is set.
  void set(const char* name, TensorView<T, 1> values, Tensor<T, 1>& to) {
    require_shape(name, values, "[size]", {is_lazy() ? any_size : size()});
    if (is_lazy()) initialize(values.dimension(0));
    std::copy_n(values.data(), size(), to.data());
  }

  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    using Element = std::conditional_t<std::is_const_v<Self>, const T, T>;
    self.require_initialized();
    if (self.has_weight()) visit(Parameter<Element>(std::string(prefix) + "weight", self.weight_));
    if (self.has_bias()) visit(Parameter<Element>(std::string(prefix) + "bias", self.bias_));
  }

  NormSettings settings_;
  Tensor<T, 1> weight_{0}, bias_{0};
};

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
