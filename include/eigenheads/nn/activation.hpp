// SPDX-License-Identifier: MIT
#pragma once
// What stands between two projections, a function of every number by itself:
//   relu(x)       max(x, 0)
//   gelu(x)       x Phi(x), Phi the normal distribution's (Hendrycks and Gimpel, 2016)
//   gelu_tanh(x)  x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
//   silu(x)       x / (1 + e^-x)
//   tanh(x)
// Errors, in units of the last place where the result is normal (below, it may be 0): gelu 5 for every x,
// also where 1 + erf would have lost all digits; silu 4, tanh 2, relu 0; gelu_tanh 4, and 4 + 3 |z| for
// x < 0, where e^z is what its share of x has fallen to (z is -1.7 at -1, and -6.7 at -3). A gradient is
// that of the derivative to 2 epsilon, and of tanh to 6 units. NaN stays NaN; at -inf gelu, silu and relu
// are 0, and at +inf infinity.
#include <algorithm>
#include <array>
#include <cstddef>
#include <ostream>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // blocks_of
#include <eigenheads/detail/work.hpp>             // product, floats_per
#include <eigenheads/kernels/nn/chosen.hpp>       // nn_kernels, Activation
#include <eigenheads/nn/detail/enumerations.hpp>  // require_known
#include <eigenheads/shape.hpp>                   // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

constexpr void require_known(Activation activation) {
  require_known("activation", activation, Activation::tanh);
}

}  // namespace detail

// As PyTorch prints its module: GELU(approximate='none')
[[nodiscard]] constexpr const char* module_name(Activation activation) {
  constexpr std::array names{
      "Identity()", "ReLU()", "GELU(approximate='none')", "GELU(approximate='tanh')",
      "SiLU()",     "Tanh()"};
  detail::require_known(activation);
  return names[static_cast<std::size_t>(activation)];
}
inline std::ostream& operator<<(std::ostream& out, Activation activation) {
  return out << module_name(activation);
}

namespace detail {

inline constexpr std::array<std::pair<std::string_view, Activation>, 11> activation_names{{
    {"identity", Activation::identity},
    {"linear", Activation::identity},
    {"relu", Activation::relu},
    {"gelu", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_fast", Activation::gelu_tanh},
    {"gelu_tanh", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"silu", Activation::silu},
    {"swish", Activation::silu},
    {"tanh", Activation::tanh},
}};

// Null: none of that name.
[[nodiscard]] constexpr const Activation* find_activation(std::string_view name) {
  for (const auto& [known, activation] : activation_names)
    if (known == name) return &activation;
  return nullptr;
}

}  // namespace detail

// By the name that a model's config.json has for it: "gelu" is the exact one, and "gelu_new",
// "gelu_fast", "gelu_tanh" and "gelu_pytorch_tanh" all are gelu_tanh. Throws std::invalid_argument for
// any other function ("quick_gelu" is one), rather than to take one that is nearly right.
[[nodiscard]] inline Activation activation_named(std::string_view name) {
  if (const Activation* const activation = detail::find_activation(name)) return *activation;
  detail::refuse(
      {"activation is \"", name,
       "\"; expected gelu, gelu_new, gelu_fast, gelu_tanh, gelu_pytorch_tanh, relu, silu, "
       "swish, tanh, identity or linear"});
}

namespace detail {

// To take the activation of a number takes as long as so many multiply-adds.
inline constexpr double multiply_adds_per_activation = 32;

// run(first, count) for pieces of `size` numbers that threads share.
template <class T, class Run>
void in_pieces(Index size, Context& context, const Run& run) {
  constexpr Index piece = 4096;
  const auto threads =
      context.threads_for(floats_per<T> * multiply_adds_per_activation * product(size));
  context.parallel_for(blocks_of(size, piece), threads,
                       [&](Index i) { run(i * piece, (std::min)(piece, size - i * piece)); });
}

}  // namespace detail

// y = f(x), of the same shape; y may be x, and may not overlap it otherwise. Throws
// std::invalid_argument for another shape.
template <detail::TensorLike Y, detail::TensorLike X>
void activate_into(Y&& y, Activation activation, const X& x, Context& context = default_context()) {
  using T = element_of<X>;
  const TensorView<T, rank_of<X>> from(x);
  const TensorSpan<T, rank_of<X>> to(y);
  detail::require_known(activation);
  require_shape("x", from, "its own shape", from.dimensions());
  require_shape("y", TensorView<T, rank_of<X>>(to), "that of x", from.dimensions());
  detail::require_same_or_disjoint("y", TensorView<T, rank_of<X>>(to), "x", from);
  const detail::NnKernels<T> kernels = detail::nn_kernels<T>();
  detail::in_pieces<T>(from.size(), context, [&](Index first, Index count) {
    kernels.activate(activation, from.data() + first, to.data() + first, count);
  });
}
template <detail::TensorLike X>
[[nodiscard]] Tensor<element_of<X>, rank_of<X>> activate(Activation activation, const X& x,
                                                         Context& context = default_context()) {
  const TensorView view(x);
  auto y = detail::make_tensor<element_of<X>>("y", view.dimensions());
  activate_into(y, activation, view, context);
  return y;
}

// grad_x = f'(x) grad_y, all of one shape; grad_x may be one of the others.
template <detail::TensorLike GradX, detail::TensorLike X>
void activate_backward_into(GradX&& grad_x, Activation activation, const X& x,
                            std::type_identity_t<TensorView<element_of<X>, rank_of<X>>> grad_y,
                            Context& context = default_context()) {
  using T = element_of<X>;
  const TensorView<T, rank_of<X>> from(x);
  const TensorSpan<T, rank_of<X>> to(grad_x);
  detail::require_known(activation);
  require_shape("x", from, "its own shape", from.dimensions());
  require_shape("grad_y", grad_y, "that of x", from.dimensions());
  const TensorView<T, rank_of<X>> written(to);
  require_shape("grad_x", written, "that of x", from.dimensions());
  detail::require_same_or_disjoint("grad_x", written, "x", from);
  detail::require_same_or_disjoint("grad_x", written, "grad_y", grad_y);
  const detail::NnKernels<T> kernels = detail::nn_kernels<T>();
  detail::in_pieces<T>(from.size(), context, [&](Index first, Index count) {
    kernels.activate_backward(activation, from.data() + first, grad_y.data() + first,
                              to.data() + first, count);
  });
}
template <detail::TensorLike X>
[[nodiscard]] Tensor<element_of<X>, rank_of<X>> activate_backward(
    Activation activation, const X& x,
    std::type_identity_t<TensorView<element_of<X>, rank_of<X>>> grad_y,
    Context& context = default_context()) {
  const TensorView view(x);
  require_shape("grad_y", grad_y, "that of x", view.dimensions());
  auto grad_x = detail::make_tensor<element_of<X>>("grad_x", view.dimensions());
  activate_backward_into(grad_x, activation, view, grad_y, context);
  return grad_x;
}

template <detail::TensorLike X>
[[nodiscard]] auto relu(const X& x, Context& context = default_context()) {
  return activate(Activation::relu, x, context);
}
template <detail::TensorLike X>
[[nodiscard]] auto gelu(const X& x, Context& context = default_context()) {
  return activate(Activation::gelu, x, context);
}
template <detail::TensorLike X>
[[nodiscard]] auto gelu_tanh(const X& x, Context& context = default_context()) {
  return activate(Activation::gelu_tanh, x, context);
}
template <detail::TensorLike X>
[[nodiscard]] auto silu(const X& x, Context& context = default_context()) {
  return activate(Activation::silu, x, context);
}
template <detail::TensorLike X>
[[nodiscard]] auto tanh(const X& x, Context& context = default_context()) {
  return activate(Activation::tanh, x, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
