// SPDX-License-Identifier: MIT
// Backward of a projection, y = x W^T + b:
//   dx = dy W            matmul, with W in panels of its other side
//   dW = dy^T x,   db = sum of the rows of dy

// Outputs that a task takes, and rows of dy that it multiplies at once: together they are in the
// second-level cache.
inline constexpr Index gradient_outputs = 96, gradient_rows = 256;

// W's panels, of its columns this time: across[p][o][j] = W[o][p * panel_width + j], columns beyond
// the last are 0. Only the panels [range.begin, range.end) of `across`.
template <class T>
void transpose_panels(Panels<const T> weight, Range range, T* across) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index out = weight.rows, in = weight.columns;
  for (Index i = range.begin * W; i < range.end * W; i += S)
    for (Index o = 0; o < out; o += S) {
      const T* from = weight.row_data(o) + i * W;
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

// block: gradient_rows * gradient_outputs; call.bias: gradient_outputs.
template <class T>
void weight_gradient(const WeightGradientCall<T>& call, T* block) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index count = static_cast<Index>(call.rows.size()), columns = call.panels.count() * W;
  const Index outputs = call.outputs.count();
  T* const bias = call.bias;
  std::fill_n(call.sums, outputs * columns, T(0));
  if (bias != nullptr) std::fill_n(bias, gradient_outputs, T(0));
  for (Index row = 0; row < count; row += gradient_rows) {
    const Index taken = (std::min)(gradient_rows, count - row);
    for (Index r = 0; r < taken; ++r) {
      T* to = block + r * gradient_outputs;
      const T* from = call.dy + call.rows[row + r] * call.dy_stride + call.outputs.begin;
      std::fill_n(std::copy_n(from, outputs, to), gradient_outputs - outputs, T(0));
      for (Index o = 0; bias != nullptr && o < gradient_outputs; o += S)
        store(bias + o, add(load(bias + o), load(to + o)));
    }
    for (Index p = call.panels.begin; p < call.panels.end; ++p)
      for_each_tile(outputs, [&](Index o, Index n) {
        multiply_transposed_tile<T>(n, {.a = block + o,
                                        .a_stride = gradient_outputs,
                                        .b = call.x + (p * count + row) * W,
                                        .b_stride = W,
                                        .depth = taken,
                                        .c = call.sums + o * columns + (p - call.panels.begin) * W,
                                        .c_stride = columns,
                                        .adds = true});
      });
  }
}
