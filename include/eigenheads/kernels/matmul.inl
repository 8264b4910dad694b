// SPDX-License-Identifier: MIT
// Rows times panels: y = x W^T + b, written to wherever the next step reads it.

// How much of a panel is multiplied at once: 16 KiB of the first-level cache (AVX2), which leaves
// room for a tile's rows.
inline constexpr Index matmul_depth = 256;

// Some rows and columns of y, which lie in one head, from a panel's product. Rows are counted and not
// divided: divisions would cost more than the stores.
template <class T>
void store_columns(const T* product, Range rows, Range columns, const StridedMatrix<T>& y) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index width = columns.count();
  T* to = y.data + y.row_offset(rows.begin) + y.column_offset(columns.begin);
  Index in_sequence = rows.begin % y.rows_per_sequence;
  for (Index row = rows.begin; row < rows.end; ++row, product += W) {
    if (width == W) {
      store(to, load(product));
      store(to + S, load(product + S));
    } else {
      for (Index j = 0; j < width; ++j) to[j] = product[j];
    }
    to += y.row_stride;
    if (++in_sequence == y.rows_per_sequence) {
      in_sequence = 0;
      to += y.sequence_stride - y.rows_per_sequence * y.row_stride;
    }
  }
}

// The panels [panels.begin, panels.end) of W, for all rows of the call. scratch: matmul_rows *
// panel_width.
template <class T>
void matmul(const MatmulCall<T>& call, Range panels, T* scratch) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index rows = detail::total(call.rows), depth = call.weight.columns;
  for (Index p = panels.begin; p < panels.end; ++p) {
    const T* panel = call.weight.panel(p);
    bool adds = false;
    for (const Range& input : call.inputs)
      for (Index k = input.begin; k < input.end; k += matmul_depth) {
        for_each_tile(rows, [&](Index first, Index count) {
          multiply_tile<T>(count, {.a = call.x + first * depth + k,
                                   .a_stride = depth,
                                   .b = panel + k * W,
                                   .b_stride = W,
                                   .depth = (std::min)(matmul_depth, input.end - k),
                                   .c = scratch + first * W,
                                   .c_stride = W,
                                   .adds = adds});
        });
        adds = true;
      }
    if (!adds) std::fill_n(scratch, rows * W, T(0));
    const Index column = p * W, width = (std::min)(W, call.weight.rows - column);
    if (call.bias != nullptr) {
      T padded[W] = {};
      std::copy_n(call.bias + column, width, padded);
      const Register<T> low = load(padded), high = load(padded + S);
      for (Index row = 0; row < rows; ++row) {
        store(scratch + row * W, add(load(scratch + row * W), low));
        store(scratch + row * W + S, add(load(scratch + row * W + S), high));
      }
    }
    for (Index done = 0; done < width;) {
      const Index run = (std::min)(width - done, call.y.columns_left_in_head(column + done));
      const T* product = scratch + done;
      for (const Range& range : call.rows) {
        store_columns(product, range, {column + done, column + done + run}, call.y);
        product += range.count() * W;
      }
      done += run;
    }
  }
}
