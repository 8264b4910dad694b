// SPDX-License-Identifier: MIT
#pragma once
// Positions, told to a model by waves of many lengths that are added to its embeddings:
//   P[i, 2j] = sin(i / 10000^(2j / d)),   P[i, 2j + 1] = cos(i / 10000^(2j / d)),   y = x + P
// Vaswani et al., "Attention Is All You Need", 2017, section 3.5; Dive into Deep Learning, section
// 11.6. The table is reckoned in double by the library's own functions, and rounded once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // blocks_of
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/detail/work.hpp>           // product, multiply_adds_per_packed
#include <eigenheads/elementary.hpp>            // exp
#include <eigenheads/kernels/nn/chosen.hpp>     // nn_kernels, row_kernels
#include <eigenheads/sequences.hpp>             // Sequences, require_rows
#include <eigenheads/shape.hpp>                 // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                // Tensor, TensorView, TensorSpan
#include <eigenheads/valid_lens.hpp>            // ValidLens

namespace eigenheads::inline EIGENHEADS_ABI {

// P, [positions, d].
template <Scalar T>
[[nodiscard]] Tensor<T, 2> sinusoidal_positions(Index positions, Index d) {
  auto table = detail::make_tensor<T>("sinusoidal_positions", std::array{positions, d});
  const detail::NnKernels<double> kernels = detail::nn_kernels<double>();
  constexpr double ln_10000 = 9.210340371976182736072;
  const auto half = static_cast<std::size_t>((d + 1) / 2);
  std::vector<double> lengths(half), angles(half), waves(half);
  for (std::size_t j = 0; j < half; ++j)
    lengths[j] = static_cast<double>(2 * j) / static_cast<double>(d) * ln_10000;
  exp(lengths, lengths);
  for (Index i = 0; i < positions; ++i) {
    for (std::size_t j = 0; j < half; ++j) angles[j] = static_cast<double>(i) / lengths[j];
    for (const bool is_odd : {false, true}) {
      (is_odd ? kernels.cos_array : kernels.sin_array)(angles.data(), waves.data(), (d + 1) / 2);
      T* const row = table.data() + i * d;
      for (Index k = is_odd ? 1 : 0; k < d; k += 2)
        row[k] = static_cast<T>(waves[static_cast<std::size_t>(k / 2)]);
    }
  }
  return table;
}

struct PositionalEncodingOptions {
  Index num_hiddens = 0;  // 0: lazy, taken from the first input
  Index max_len = 1000;   // positions of the table: 0 to max_len - 1
};

// x + P, the waves at each row's position. The gradient of x is that of y: there is nothing to be learnt.
template <Scalar T>
class PositionalEncoding {
 public:
  // Throws std::invalid_argument for invalid sizes.
  explicit PositionalEncoding(const PositionalEncodingOptions& options)
      : max_len_(options.max_len) {
    if (options.max_len < 1)
      detail::refuse({"PositionalEncoding: max_len is ", options.max_len, "; expected 1 or more"});
    if (options.num_hiddens < 0)
      detail::refuse({"PositionalEncoding: num_hiddens is ", options.num_hiddens,
                      "; expected 1 or more, or 0 to take it from the first input"});
    if (options.num_hiddens > 0) initialize(options.num_hiddens);
  }

  // All of the other, or, without memory for it, nothing.
  PositionalEncoding(const PositionalEncoding&) = default;
  PositionalEncoding(PositionalEncoding&&) noexcept = default;
  PositionalEncoding& operator=(const PositionalEncoding& other) {
    return *this = PositionalEncoding(other);
  }
  PositionalEncoding& operator=(PositionalEncoding&&) noexcept = default;

  [[nodiscard]] Index num_hiddens() const { return table_.dimension(1); }  // 0 while lazy
  [[nodiscard]] Index max_len() const { return max_len_; }
  [[nodiscard]] const Tensor<T, 2>& table() const { return table_; }  // [max_len, num_hiddens]

  // Makes a lazy module's table; on any other it checks the size.
  void initialize(Index num_hiddens) {
    if (!is_lazy() && num_hiddens == this->num_hiddens()) return;
    if (!is_lazy() || num_hiddens < 1)
      detail::refuse({"PositionalEncoding: num_hiddens is ", num_hiddens, "; expected ",
                      (is_lazy() ? "1 or more" : std::to_string(this->num_hiddens()))});
    table_ = sinusoidal_positions<T>(max_len_, num_hiddens);
  }

  template <class Visitor>
  void for_each_parameter(Visitor&&, std::string_view = "") const {}

  // Row i of a sequence stands at position i, or, if first_positions, [B], are given, at
  // first_positions[b] + i: of tokens that go on after some that came before. On a lazy const module
  // these throw std::logic_error; std::invalid_argument, before anything is written, for what does
  // not fit, or positions from max_len on.

  // x: [B, L, num_hiddens] -> y
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const ValidLens& first_positions = {},
                                        Context& context = default_context()) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    forward_into(y, x, first_positions, context);
    return y;
  }
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const ValidLens& first_positions = {},
                                        Context& context = default_context()) {
    const TensorView<T, 3> view(x);
    require_positions({view.dimension(0), view.dimension(1)}, first_positions);
    initialize_for(view);
    return std::as_const(*this)(x, first_positions, context);
  }
  // y may be x itself, and may not overlap with it otherwise. Allocates nothing.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, const ValidLens& first_positions = {},
                    Context& context = default_context()) const {
    const TensorView<T, 3> from(x);
    require_initialized();
    require_shape("x", from, "[B, L, num_hiddens]", {any_size, any_size, num_hiddens()});
    add({from.dimension(0), from.dimension(1)}, first_positions, from, TensorSpan<T, 3>(y),
        context);
  }

  // Packed: x: [N, num_hiddens], the rows of all sequences one below the other.
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const ValidLens& first_positions = {},
                                        Context& context = default_context()) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    forward_into(y, x, sequences, first_positions, context);
    return y;
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const ValidLens& first_positions = {},
                                        Context& context = default_context()) {
    detail::require_rows("x", TensorView<T, 2>(x), sequences);
    require_positions(sequences.as_rows(), first_positions);
    initialize_for(TensorView<T, 2>(x));
    return std::as_const(*this)(x, sequences, first_positions, context);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences,
                    const ValidLens& first_positions = {},
                    Context& context = default_context()) const {
    const TensorView<T, 2> from(x);
    require_initialized();
    require_shape("x", from, "[N, num_hiddens]", {any_size, num_hiddens()});
    detail::require_rows("x", from, sequences);
    add(sequences.as_rows(), first_positions, from, TensorSpan<T, 2>(y), context);
  }

 private:
  [[nodiscard]] bool is_lazy() const { return table_.size() == 0; }
  void require_initialized() const {
    if (is_lazy())
      detail::refuse<std::logic_error>(
          {"PositionalEncoding: num_hiddens is not known yet; call it once on a module that is not "
           "const, or initialize(num_hiddens)"});
  }
  template <int Rank>
  void initialize_for(TensorView<T, Rank> x) {
    if (!is_lazy()) return;
    require_shape("x", x, "[..., num_hiddens]", x.dimensions());
    initialize(x.dimension(Rank - 1));
  }

  [[nodiscard]] static Index first_of(const ValidLens& first_positions, Index b) {
    return first_positions.rank() == 0 ? 0 : first_positions.length(b, 0);
  }
  void require_positions(const detail::SequenceRows& rows, const ValidLens& first_positions) const {
    first_positions.require_fits("first_positions", rows.count(), max_len_,
                                 "the positions of the table, ");
    for (Index b = 0; b < rows.count(); ++b)
      if (const Index first = first_of(first_positions, b); rows.length(b) > max_len_ - first)
        detail::refuse({"PositionalEncoding: sequence ", b, " has ", rows.length(b),
                        " rows from position ", first, " on; expected positions below ", max_len_,
                        ", max_len"});
  }

  template <int Rank>
  void add(const detail::SequenceRows& rows, const ValidLens& first_positions,
           TensorView<T, Rank> x, TensorSpan<T, Rank> y, Context& context) const {
    const TensorView<T, Rank> written(y);
    require_shape("y", written, "x's", x.dimensions());
    detail::require_same_or_disjoint("y", written, "x", x);
    require_positions(rows, first_positions);

    constexpr Index rows_per_task = 64;
    const detail::RowKernels<T> kernels = detail::row_kernels<T>();
    const Index E = num_hiddens(), cuts = detail::blocks_of(rows.longest(), rows_per_task);
    const auto threads =
        context.threads_for(detail::floats_per<T> * detail::multiply_adds_per_packed *
                            detail::product(rows.total(), E));
    context.parallel_for(rows.count() * cuts, threads, [&](Index task) {
      const Index b = task / cuts, first = task % cuts * rows_per_task;
      const Index count = (std::min)(rows_per_task, rows.length(b) - first);
      if (count <= 0) return;
      // The rows of a sequence and those of the table lie one below the other.
      const Index begin = (rows.begin(b) + first) * E;
      kernels.add_array(x.data() + begin,
                        table_.data() + (first_of(first_positions, b) + first) * E,
                        y.data() + begin, count * E);
    });
  }

  Index max_len_;
  Tensor<T, 2> table_{0, 0};
};

template <Scalar T>
std::ostream& operator<<(std::ostream& out, const PositionalEncoding<T>& encoding) {
  return out << "PositionalEncoding(num_hiddens=" << std::to_string(encoding.num_hiddens())
             << ", max_len=" << std::to_string(encoding.max_len()) << ')';
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
