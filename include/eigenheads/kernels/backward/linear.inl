// SPDX-License-Identifier: MIT
// Backward of a projection, y = x W^T + b:
//   dx = dy W            matmul, with W in panels of its other side
//   dW = dy^T x,   db = sum of the rows of dy, both by blocks (matmul_call.hpp)

// Outputs that a task takes. Together with as many rows of dy as it multiplies at once, those of one
// long block or of several short ones, they are in the second-level cache.
inline constexpr Index gradient_outputs = 96;
using detail::gradient_rows;

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

// Adds a block of dy's rows, copied next to each other, to the gradient of the bias.
template <class T>
void add_to_bias(const T* dy, Index rows, T* bias) {
  constexpr Index S = Register<T>::width;
  for (Index o = 0; o < gradient_outputs; o += S) {
    Register<T> sum = broadcast(T(0));
    for (Index r = 0; r < rows; ++r) sum = add(sum, load(dy + r * gradient_outputs + o));
    store(bias + o, add(load(bias + o), sum));
  }
}

// copy: gradient_rows * gradient_outputs; call.bias: gradient_outputs.
template <class T>
void weight_gradient(const WeightGradientCall<T>& call, T* copy) {
  constexpr Index W = panel_width<T>;
  const Index count = static_cast<Index>(call.rows.size());
  const Index outputs = call.outputs.count();
  for (std::size_t first = 0, end = 0; first < call.ends.size(); first = end) {
    const Index begin = first == 0 ? 0 : call.ends[first - 1];
    while (end < call.ends.size() && call.ends[end] - begin <= gradient_rows) ++end;
    for (Index r = begin; r < call.ends[end - 1]; ++r) {
      T* to = copy + (r - begin) * gradient_outputs;
      const T* from = call.dy + call.rows[r] * call.dy_stride + call.outputs.begin;
      std::fill_n(std::copy_n(from, outputs, to), gradient_outputs - outputs, T(0));
    }
    const auto for_each_block = [&](const auto& visit) {
      Index row = begin;
      for (std::size_t i = first; i < end; row = call.ends[i++]) visit(row, call.ends[i] - row);
    };
    if (call.bias != nullptr)
      for_each_block([&](Index row, Index rows) {
        add_to_bias(copy + (row - begin) * gradient_outputs, rows, call.bias);
      });
    for (Index p = call.panels.begin; p < call.panels.end; ++p)
      for_each_tile(outputs, [&](Index o, Index n) {
        for_each_block([&](Index row, Index rows) {
          add_transposed_tile<T>(
              n, {.a = copy + (row - begin) * gradient_outputs + o,
                  .a_stride = gradient_outputs,
                  .b = call.x + (p * count + row) * W,
                  .b_stride = W,
                  .depth = rows,
                  .c = call.sums + o * call.sums_stride + (p - call.panels.begin) * W,
                  .c_stride = call.sums_stride,
                  .goes_on = call.goes_on || row > 0});
        });
      });
  }
}
