// SPDX-License-Identifier: MIT
#pragma once
// Positions, told to attention by turning queries and keys: pair (x, y) of a head at position p becomes
//   (x cos(p w) - y sin(p w), y cos(p w) + x sin(p w)),
// with a frequency w for each pair, so that the product of a query and a key depends on how far apart
// they stand. A layer does it by itself (MultiHeadAttentionOptions::rotary).
// Su et al., "RoFormer", 2021.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <limits>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/apply_rotary.hpp>  // by tables that are given
#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/rotary_frequencies.hpp>  // completed, rotary_frequencies
#include <eigenheads/kernels/schedule/rotate.hpp>    // rotate
#include <eigenheads/rotary_options.hpp>             // RotaryOptions
#include <eigenheads/shape.hpp>                      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                     // Tensor, TensorView, TensorSpan
#include <eigenheads/valid_lens.hpp>                 // ValidLens

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// Writes rows of the table.
template <class T>
class RotaryRows {
 public:
  explicit RotaryRows(const RotaryOptions& completed_options)
      : kernels_(rotary_kernels<T>()),
        made_(rotary_frequencies(completed_options, {kernels_.exp_array, kernels_.log_array})),
        is_interleaved_(completed_options.layout == RotaryLayout::interleaved),
        angles_(made_.frequencies),
        waves_(angles_) {
    const double factor = made_.attention_factor;
    if (factor > static_cast<double>((std::numeric_limits<T>::max)()) ||
        static_cast<T>(factor) == 0)
      refuse({"Rotary: the attention factor of YarnScaling is ", number_text(factor),
              "; expected a number that the element type has"});
  }

  [[nodiscard]] const RotaryFrequencies& made() const { return made_; }
  [[nodiscard]] Index size() const { return std::ssize(angles_) * (is_interleaved_ ? 4 : 2); }

  void write(Index position, T* row) {  // [size], as RotaryTable says
    for (std::size_t i = 0; i < angles_.size(); ++i)
      angles_[i] = static_cast<double>(position) * made_.frequencies[i];
    const auto wave = [&](std::size_t i) {
      return static_cast<T>(waves_[i] * made_.attention_factor);
    };
    kernels_.cos_array(angles_.data(), waves_.data(), std::ssize(angles_));
    for (std::size_t i = 0; i < waves_.size(); ++i) {
      *row++ = wave(i);
      if (is_interleaved_) *row++ = wave(i);
    }
    kernels_.sin_array(angles_.data(), waves_.data(), std::ssize(angles_));
    for (std::size_t i = 0; i < waves_.size(); ++i) {
      if (is_interleaved_) *row++ = -wave(i);
      *row++ = wave(i);
    }
  }

 private:
  RotaryKernels<T> kernels_;
  RotaryFrequencies made_;
  bool is_interleaved_;
  std::vector<double> angles_, waves_;
};

}  // namespace detail

// A table of cosines and sines, made once. Angles are products in double, whose sines and cosines are
// the library's own, rounded once: within 2^-23 for float, up to a hundred million positions; of a
// double, within position * 2^-51. An object is never changed, so any number of threads may share it.
template <Scalar T>
class Rotary {
 public:
  // Throws std::invalid_argument for invalid options.
  explicit Rotary(const RotaryOptions& options);

  [[nodiscard]] const RotaryOptions& options() const { return options_; }  // zeros filled in
  [[nodiscard]] Index head_size() const { return options_.head_size; }
  [[nodiscard]] Index max_positions() const { return options_.max_positions; }
  // Of each pair, [rotated / 2], after scaling; and what all cosines and sines are multiplied by.
  [[nodiscard]] const std::vector<double>& frequencies() const { return made_.frequencies; }
  [[nodiscard]] double attention_factor() const { return made_.attention_factor; }
  [[nodiscard]] T cos(Index position, Index pair) const {
    return table().cos[position * table().stride + pair * (is_interleaved() ? 2 : 1)];
  }
  [[nodiscard]] T sin(Index position, Index pair) const {
    return table().sin[position * table().stride + (is_interleaved() ? 2 * pair + 1 : pair)];
  }

  // x: [B, H, T, head_size] -> the same, of which row t stands at position t, or, if first_positions,
  // [B], are given, at first_positions[b] + t. Throws std::invalid_argument, before anything is
  // written, for what does not fit, or positions from max_positions on.
  template <TensorOfRank<4> X>
  [[nodiscard]] Tensor<T, 4> operator()(const X& x, const ValidLens& first_positions = {},
                                        Context& context = default_context()) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 4>(x).dimensions());
    forward_into(y, x, first_positions, context);
    return y;
  }
  // y may be x itself, and may not overlap with it otherwise. Allocates nothing once the context has
  // seen such a call.
  template <TensorOfRank<4> Y, TensorOfRank<4> X>
  void forward_into(Y&& y, const X& x, const ValidLens& first_positions = {},
                    Context& context = default_context()) const {
    turn(TensorSpan<T, 4>(y), TensorView<T, 4>(x), first_positions, false, context);
  }
  // The gradient of x.
  template <TensorOfRank<4> X>
  [[nodiscard]] Tensor<T, 4> backward(const X& grad_y, const ValidLens& first_positions = {},
                                      Context& context = default_context()) const {
    auto grad_x = detail::make_tensor<T>("grad_x", TensorView<T, 4>(grad_y).dimensions());
    turn(TensorSpan<T, 4>(grad_x), TensorView<T, 4>(grad_y), first_positions, true, context);
    return grad_x;
  }

  // Throws std::invalid_argument, naming the rows by `name`, unless the last of them, in sequence b,
  // stands on a position of the table.
  void require_position(std::string_view name, Index b, Index last) const {
    if (last >= max_positions())
      detail::refuse({"Rotary: the ", name, " of sequence ", b, " reach position ", last,
                      "; expected positions below ", max_positions(), ", max_positions"});
  }

  // For the steps of a layer (kernels/schedule/rotate.hpp): heads of any rows, by this table.
  void rotate(detail::RotateCall<T> call, Context& context) const {
    call.table = table();
    rotate_(call, context);
  }
  // As the kernels read it. Refers to this object.
  [[nodiscard]] detail::RotaryTable<T> table() const {
    const Index row = std::ssize(table_) / max_positions();
    return {table_.data(),   table_.data() + row / 2, row,
            max_positions(), options_.rotated,        options_.layout};
  }

 private:
  [[nodiscard]] bool is_interleaved() const { return options_.layout == RotaryLayout::interleaved; }
  void turn(TensorSpan<T, 4> y, TensorView<T, 4> x, const ValidLens& first_positions,
            bool is_inverse, Context& context) const;

  RotaryOptions options_;
  detail::RotaryFrequencies made_;
  std::vector<T> table_;  // [max_positions, cosines and sines]
  void (*rotate_)(const detail::RotateCall<T>& call, Context& context) = detail::rotate<T>;
};

template <Scalar T>
Rotary<T>::Rotary(const RotaryOptions& options) : options_(detail::completed(options)) {
  detail::RotaryRows<T> rows(options_);
  made_ = rows.made();
  const std::array shape{max_positions(), rows.size()};
  table_.resize(static_cast<std::size_t>(detail::require_size<T>("Rotary: the table", shape)));
  for (Index position = 0; position < max_positions(); ++position)
    rows.write(position, table_.data() + position * rows.size());
}

template <Scalar T>
void Rotary<T>::turn(TensorSpan<T, 4> y, TensorView<T, 4> x, const ValidLens& first_positions,
                     bool is_inverse, Context& context) const {
  const TensorView<T, 4> written(y);
  require_shape("x", x, "[B, H, T, head_size]", {any_size, any_size, any_size, head_size()});
  require_shape("y", written, "x's", x.dimensions());
  detail::require_same_or_disjoint("y", written, "x", x);
  const auto [B, H, rows, D] = x.dimensions();
  first_positions.require_fits("first_positions", B, max_positions(), "max_positions, ");
  const detail::Frame frame(context);
  Index* const first = frame.take<Index>(B);
  for (Index b = 0; b < B; ++b) {
    first[b] = first_positions.rank() == 0 ? 0 : first_positions.length(b, 0);
    if (rows > 0) require_position("rows", b, first[b] + (rows - 1));
  }
  if (y.data() != x.data()) std::copy_n(x.data(), x.size(), y.data());
  const detail::SequenceRows sequences(B, rows);
  const detail::Range all{0, B * rows}, columns{0, H * D};
  rotate({.heads = detail::StridedMatrix<T>::heads_apart(y.data(), rows, H, D),
          .sequences = sequences,
          .rows = {&all, 1},
          .columns = {&columns, 1},
          .first_positions = first,
          .is_inverse = is_inverse},
         context);
}

namespace detail {

template <class T>
[[nodiscard]] std::shared_ptr<const Rotary<T>> make_rotary(const RotaryOptions& options) {
  return std::make_shared<const Rotary<T>>(options);
}
template <class>
RotaryMakers rotary_makers() {
  return {make_rotary<float>, make_rotary<double>};
}

}  // namespace detail

// Rotary(head_size=64, rotated=64, base=10000, max_positions=4096, layout=half_split, scaling=none)
[[nodiscard]] inline std::string rotary_text(const RotaryOptions& options) {
  constexpr std::array names{"none", "linear", "ntk", "dynamic_ntk", "yarn", "llama3"};
  return "Rotary(head_size=" + std::to_string(options.head_size) +
         ", rotated=" + std::to_string(options.rotated) +
         ", base=" + detail::number_text(options.base) +
         ", max_positions=" + std::to_string(options.max_positions) +
         ", layout=" + (options.layout == RotaryLayout::half_split ? "half_split" : "interleaved") +
         ", scaling=" + names[options.scaling.index()] + ')';
}
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const Rotary<T>& rotary) {
  return out << rotary_text(rotary.options());
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
