// SPDX-License-Identifier: MIT
// The products behind a projection, y = x W^T + b:
//   dx = dy W            matmul, with W in panels of its other side
//   dW = dy^T x,   db = sum of the rows of dy

// Outputs that a task takes, and rows of dy that it multiplies at once: together they are in the
// second-level cache.
inline constexpr Index gradient_outputs = 96, gradient_rows = 256;

// across[p][o][j] = W[o][p * panel_width + j] from panels[p][i][j] = W[p * panel_width + j][i];
// W: [out, in], columns beyond `in` are 0. Only the panels [begin, end) of `across`.
template <class T>
void turn_panels(const T* panels, Index out, Index in, Index begin, Index end, T* across) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  for (Index i = begin * W; i < end * W; i += S)
    for (Index o = 0; o < out; o += S) {
      const T* from = panels + (o / W * in + i) * W + o % W;
      T* to = across + (i / W * out + o) * W + i % W;
      Register<T> square[S];
#pragma GCC unroll 16
      for (Index j = 0; j < S; ++j) square[j] = i + j < in ? load(from + j * W) : broadcast(T(0));
      transpose(square);
#pragma GCC unroll 16
      for (Index j = 0; j < S; ++j)
        if (o + j < out) store(to + j * W, square[j]);
    }
}

// sums[o][j] = sum_r dy[rows[r]][first + o] x[r][j] for `outputs` rows of dW and the panels
// [panel_begin, panel_end) of its columns; bias (if not null): sum_r dy[rows[r]][first + o].
// x: its rows `rows` in panels of columns. block: gradient_rows * gradient_outputs.
template <class T>
void multiply_turned(const T* dy, Index stride, std::span<const Index> rows, const T* x,
                     Index first, Index outputs, Index panel_begin, Index panel_end, T* block,
                     T* sums, T* bias) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index count = static_cast<Index>(rows.size()), columns = (panel_end - panel_begin) * W;
  std::fill_n(sums, outputs * columns, T(0));
  if (bias != nullptr) std::fill_n(bias, gradient_outputs, T(0));
  for (Index row = 0; row < count; row += gradient_rows) {
    const Index taken = (std::min)(gradient_rows, count - row);
    for (Index r = 0; r < taken; ++r) {
      T* to = block + r * gradient_outputs;
      std::fill_n(std::copy_n(dy + rows[row + r] * stride + first, outputs, to),
                  gradient_outputs - outputs, T(0));
      for (Index o = 0; bias != nullptr && o < gradient_outputs; o += S)
        store(bias + o, add(load(bias + o), load(to + o)));
    }
    for (Index p = panel_begin; p < panel_end; ++p)
      for_each_tile(outputs, [&](Index o, Index n) {
        turned_products<T>[static_cast<std::size_t>(n - 1)](
            block + o, gradient_outputs, x + (p * count + row) * W, W, taken,
            sums + o * columns + (p - panel_begin) * W, columns, true, 0);
      });
  }
}
