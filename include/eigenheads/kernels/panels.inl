// SPDX-License-Identifier: MIT
// A matrix in panels: what stands on the right of every product.
//   panels[p][k][j] = matrix[p * panel_width + j][k],  rows beyond the last are 0
// A register tile reads one panel from front to back.

template <class T>
inline constexpr Index panel_width = 2 * Register<T>::width;

// Asks for rows in the order of the memory, while squares are read that go from row to row, which no
// hardware foresees: into the first-level cache for the S rows that come next, and, as few lines can be
// under way to that, into the second-level one, for those 64 rows on. 16 heads of 16384 keys of D = 64
// are read as fast as by one loop over them; where the next lines of the same rows were asked for, they
// took twice as long (Zen 4, AVX-512, float and double).
template <class T>
class RowsAhead {
 public:
  RowsAhead(const T* next, Index stride, Index length)
      : next_(next), stride_(stride), length_(length) {}

  // As many lines as a square has, and one at least.
  EIGEN_ALWAYS_INLINE void ask() {
    constexpr Index S = Register<T>::width, line = Index{64} / Index{sizeof(T)}, far = 64;
#pragma GCC unroll 16
    for (Index j = 0; j < S * S; j += line) {
      __builtin_prefetch(next_ + at_);
      __builtin_prefetch(next_ + (far - S) * stride_ + at_, 0, 2);
      at_ += line;
      if (at_ >= length_) next_ += stride_, at_ = 0;
    }
  }

 private:
  const T* next_;
  Index stride_, length_, at_ = 0;
};

// Rows from[j * stride], transposed: square[k] holds number k of each. A register's file may have a
// better way.
template <class T>
EIGEN_ALWAYS_INLINE void load_transposed(const T* from, Index stride,
                                         Register<T> (&square)[Register<T>::width]) {
#pragma GCC unroll 16
  for (Index j = 0; j < Register<T>::width; ++j) square[j] = load(from + j * stride);
  transpose(square);
}

// The rows `seen` of a panel, which `matrix` is the first of, and zeros for its others. By squares
// too, but where few rows are seen: one number after the other, 8 rows of a panel take longer than 16.
template <class T>
void pack_part_of_panel(const T* matrix, Index stride, Range seen, Index depth, T* panel) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  for (Index half = 0; half < W; half += S) {
    const Index from = (std::max)(seen.begin - half, Index{0});
    const Index to = (std::min)(seen.end - half, S);
    const Index squares = to - from > S / 4 ? depth / S * S : 0;
    const T* const rows = matrix + half * stride;
    const bool is_whole = to - from == S;
    for (Index k = 0; k < squares; k += S) {
      Register<T> square[S];
      if (is_whole) {
        load_transposed(rows + k, stride, square);
      } else {
#pragma GCC unroll 16
        for (Index j = 0; j < S; ++j)
          square[j] = j >= from && j < to ? load(rows + j * stride + k) : broadcast(T(0));
        transpose(square);
      }
#pragma GCC unroll 16
      for (Index j = 0; j < S; ++j) store(panel + (k + j) * W + half, square[j]);
    }
    for (Index k = squares; k < depth; ++k) store(panel + k * W + half, broadcast(T(0)));
    for (Index row = from; row < to; ++row)
      for (Index k = squares; k < depth; ++k) panel[k * W + half + row] = rows[row * stride + k];
  }
}

// The given rows of `matrix` ([*, depth], rows `stride` apart) into the panels that hold them, one
// whole panel after the other; the panels' other rows are 0, and nothing of them is read.
template <class T>
void pack_panels(const T* matrix, Index stride, Range rows, Index depth, T* panels) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const auto [begin, end] = rows;
  for (Index first = begin / W * W; first < end; first += W) {
    T* panel = panels + first * depth;
    if (first < begin || first + W > end) {
      const Range seen{(std::max)(begin - first, Index{0}), (std::min)(end - first, W)};
      pack_part_of_panel(matrix + first * stride, stride, seen, depth, panel);
      continue;
    }
    const Index whole = depth / S * S;
    for (Index half = 0; half < W; half += S) {
      const T* const from = matrix + (first + half) * stride;
      RowsAhead<T> ahead(from + S * stride, stride, depth);
      for (Index k = 0; k < whole; k += S) {
        Register<T> square[S];
        ahead.ask();
        load_transposed(from + k, stride, square);
#pragma GCC unroll 16
        for (Index j = 0; j < S; ++j) store(panel + (k + j) * W + half, square[j]);
      }
    }
    for (Index k = whole; k < depth; ++k)
      for (Index j = 0; j < W; ++j) panel[k * W + j] = matrix[(first + j) * stride + k];
  }
}

// Columns of `matrix` ([rows, columns], rows `stride` apart) into panels of columns,
//   panels[p][row][j] = matrix[row][p * panel_width + j],  columns beyond the last are 0
// `panel_stride` from one panel to the next. Returns whether all numbers are finite, decided from
// their bits.
template <class T>
bool pack_columns(const PackColumnsCall<T>& call) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  T* panels = call.panels;
  bool is_finite = true;
  for (Index first = 0; first < call.columns; first += W, panels += call.panel_stride) {
    const Index width = (std::min)(W, call.columns - first);
    for (Index row = 0; row < call.rows; ++row) {
      const T* from = call.matrix + row * call.stride + first;
      T* to = panels + row * W;
      if (width < W) {
        std::fill_n(std::copy_n(from, width, to), W - width, T(0));
        from = to;
      }
      const Register<T> low = load(from), high = load(from + S);
      store(to, low);
      store(to + S, high);
      is_finite = is_finite && all_finite(low) && all_finite(high);
    }
  }
  return is_finite;
}

// Of `rows` rows of `columns` numbers, `stride` apart.
template <class T>
[[nodiscard]] bool all_finite(const T* x, Index stride, Index rows, Index columns) {
  constexpr Index S = Register<T>::width;
  if (stride == columns) {
    columns *= rows;
    rows = columns == 0 ? 0 : 1;
  }
  for (Index row = 0; row < rows; ++row, x += stride) {
    Index i = 0;
    for (; i + S <= columns; i += S)
      if (!all_finite(load(x + i))) return false;
    for (; i < columns; ++i)
      if (!detail::is_finite(x[i])) return false;
  }
  return true;
}
