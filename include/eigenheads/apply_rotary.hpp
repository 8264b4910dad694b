// SPDX-License-Identifier: MIT
#pragma once
// Rotary position embedding by tables that are given, as ONNX's RotaryEmbedding (opset 23):
//   apply_rotary(x, cos, sin, positions, {.layout = RotaryLayout::interleaved})
// rotary.hpp makes tables. Here they may hold any numbers.
#include <algorithm>
#include <array>
#include <concepts>
#include <utility>

#include <eigenheads/call_options.hpp>  // ContextRef
#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>     // product
#include <eigenheads/kernels/chosen.hpp>  // rotary_kernels
#include <eigenheads/kernels/layout.hpp>  // StridedMatrix
#include <eigenheads/rotary_options.hpp>  // RotaryLayout
#include <eigenheads/shape.hpp>           // require_shape, make_tensor
#include <eigenheads/tensor.hpp>          // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

struct ApplyRotaryOptions {
  RotaryLayout layout = RotaryLayout::half_split;
  Index num_heads = 0;      // of x: [B, T, H * D]
  bool is_inverse = false;  // by the opposite angles, which takes the gradient of y to that of x
  ContextRef context{};
};

namespace detail {

// Heads of [B, T] rows, which are rotated where they are, row r by row row_of(r) of the tables.
template <class T>
struct GivenTables {
  StridedMatrix<T> heads;
  Index rows, H;
  const T *cos, *sin;  // [*, half]
  Index half;
};

template <class T, class RowOf>
void rotate_by_tables(const GivenTables<T>& call, const ApplyRotaryOptions& options,
                      const RowOf& row_of) {
  constexpr Index rows_per_task = 32;
  const RotaryKernels<T> kernels = rotary_kernels<T>();
  const bool is_interleaved = options.layout == RotaryLayout::interleaved;
  const Index half = call.half, unfolded = is_interleaved ? 4 * half : 0;
  Context& context = options.context.get();
  const auto threads = context.threads_for(floats_per<T> * multiply_adds_per_packed *
                                           product(call.rows, call.H, 2 * half));
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads.most * unfolded);
  context.parallel_for(blocks_of(call.rows, rows_per_task), threads, [&](Index task, int thread) {
    const Index first = task * rows_per_task;
    for (Index r = first, end = (std::min)(first + rows_per_task, call.rows); r < end; ++r) {
      const T *cos = call.cos + row_of(r) * half, *sin = call.sin + row_of(r) * half;
      if (is_interleaved) {  // as RotaryTable says
        T* const to = scratch + thread * unfolded;
        for (Index i = 0; i < half; ++i) {
          to[2 * i] = to[2 * i + 1] = cos[i];
          to[2 * half + 2 * i] = -sin[i];
          to[2 * half + 2 * i + 1] = sin[i];
        }
        cos = to;
        sin = to + 2 * half;
      }
      kernels.rotate_rows({.x = call.heads.data + call.heads.row_offset(r),
                           .stride = call.heads.head_stride,
                           .count = call.H,
                           .table = {cos, sin, 0, 1, 2 * half, options.layout},
                           .one_position = true,
                           .is_inverse = options.is_inverse});
    }
  });
}

// [B, H, T, D], or [B, T, H * D] of so many heads.
struct RotatedShape {
  Index B, H, rows, D;
};
template <class T, int Rank>
[[nodiscard]] RotatedShape rotated_shape(TensorView<T, Rank> x, const ApplyRotaryOptions& options) {
  if constexpr (Rank == 4) {
    require_shape(
        "x", x, "[B, H, T, D]",
        {any_size, options.num_heads == 0 ? any_size : options.num_heads, any_size, any_size});
    return {x.dimension(0), x.dimension(1), x.dimension(2), x.dimension(3)};
  } else {
    require_shape("x", x, "[B, T, H * D]", {any_size, any_size, any_size});
    if (options.num_heads < 1 || x.dimension(2) % options.num_heads != 0)
      refuse({"apply_rotary: num_heads is ", options.num_heads,
              "; expected a divisor of the last axis of x, ", x.dimension(2)});
    return {x.dimension(0), options.num_heads, x.dimension(1), x.dimension(2) / options.num_heads};
  }
}

template <class T, int Rank, int TableRank, class RowOf>
[[nodiscard]] Tensor<T, Rank> apply_rotary(TensorView<T, Rank> x, TensorView<T, TableRank> cos,
                                           TensorView<T, TableRank> sin,
                                           const ApplyRotaryOptions& options, const RowOf& row_of) {
  const auto [B, H, rows, D] = rotated_shape(x, options);
  const Index half = cos.dimension(TableRank - 1);
  require_shape("sin", sin, "cos's", cos.dimensions());
  if (half > D / 2)
    refuse({"apply_rotary: the tables have ", half, " columns; expected at most ", D / 2,
            ", half of a head of size ", D});
  auto y = make_tensor<T>("y", x.dimensions());
  std::copy_n(x.data(), x.size(), y.data());
  using Layout = StridedMatrix<T>;
  const Layout heads = Rank == 4 ? Layout::heads_apart(y.data(), rows, H, D)
                                 : Layout::heads_together(y.data(), rows, H, D);
  rotate_by_tables<T>({heads, B * rows, H, cos.data(), sin.data(), half}, options, row_of);
  return y;
}

template <class X>
concept RotatedTensor = TensorLike<X> && (rank_of<X> == 3 || rank_of<X> == 4);

}  // namespace detail

// x: [B, H, T, D] or, with options.num_heads, [B, T, H * D]; cos, sin: [positions, rotated / 2], of
// whose rows positions, [B, T], says which; the first `rotated` numbers of a head are rotated. Throws
// std::invalid_argument for a shape that does not fit, or a position that the tables do not have.
template <detail::RotatedTensor X, TensorOfRank<2> Table, TensorOfRank<2> Positions>
requires std::integral<element_of<Positions>>
[[nodiscard]] auto apply_rotary(const X& x, const Table& cos, const Table& sin,
                                const Positions& positions,
                                const ApplyRotaryOptions& options = {}) {
  using T = element_of<X>;
  constexpr int rank = rank_of<X>;
  const TensorView<T, rank> from(x);
  const TensorView<T, 2> cosines(cos);
  const TensorView<element_of<Positions>, 2> places(positions);
  const detail::RotatedShape shape = detail::rotated_shape(from, options);
  require_shape("cos", cosines, "[positions, rotated / 2]", {any_size, any_size});
  require_shape("positions", places, "[B, T]", {shape.B, shape.rows});
  const Index known = cosines.dimension(0);
  for (Index r = 0; r < places.size(); ++r)
    if (const auto place = places.data()[r];
        std::cmp_less(place, 0) || std::cmp_greater_equal(place, known))
      detail::refuse({"apply_rotary: positions", std::array{r / shape.rows, r % shape.rows}, " is ",
                      place, "; expected 0 or more and below ", known, ", the rows of the tables"});
  return detail::apply_rotary<T, rank, 2>(
      from, cosines, TensorView<T, 2>(sin), options,
      [&](Index r) { return static_cast<Index>(places.data()[r]); });
}

// cos, sin: [B, T, rotated / 2], a row for each of x; or [positions, rotated / 2], where row t of every
// sequence stands at position t.
template <detail::RotatedTensor X, detail::TensorLike Table>
requires(rank_of<Table> == 2 || rank_of<Table> == 3)
[[nodiscard]] auto apply_rotary(const X& x, const Table& cos, const Table& sin,
                                const ApplyRotaryOptions& options = {}) {
  using T = element_of<X>;
  constexpr int rank = rank_of<X>, table_rank = rank_of<Table>;
  const TensorView<T, rank> from(x);
  const TensorView<T, table_rank> cosines(cos);
  const detail::RotatedShape shape = detail::rotated_shape(from, options);
  if constexpr (table_rank == 3) {
    require_shape("cos", cosines, "[B, T, rotated / 2]", {shape.B, shape.rows, any_size});
  } else {
    require_shape("cos", cosines, "[positions, rotated / 2]", {any_size, any_size});
    if (shape.rows > cosines.dimension(0))
      detail::refuse({"apply_rotary: x reaches position ", shape.rows - 1,
                      "; expected positions below ", cosines.dimension(0),
                      ", the rows of the tables"});
  }
  return detail::apply_rotary<T, rank, table_rank>(
      from, cosines, TensorView<T, table_rank>(sin), options,
      [&](Index r) { return table_rank == 3 ? r : r % shape.rows; });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
