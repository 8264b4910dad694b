// SPDX-License-Identifier: MIT
// The one product that projections, scores and outputs are made of: a tile of rows times a panel,
// held in registers.
//   c[i][j] (+)= sum_k a[i][k] b[k][j]     one chain of fused multiply-adds an element, in k order
// The chain begins at zero or goes on from what c holds, or it begins at zero and its end is added to
// that: how blocks that stand by themselves are merged.
// An element's bits depend on its row of `a` and its column of `b` alone, never on the tile that it
// falls into (contract C3).

enum class Into { set, chain, sum };  // c = chain from 0; chain from c; c + chain from 0

// Where the factors and the product of a tile lie. Rows of `b` are panels' rows: W numbers, then W
// more `panel_stride` further on for each panel after the first.
template <class T>
struct TileCall {
  const T* a;
  Index a_stride;
  const T* b;
  Index b_stride;
  Index depth;
  T* c;
  Index c_stride;
  Into into = Into::set;
  Index panel_stride = 0;
};

// The members of a TileCall, in registers as far as they reach: by reference a head of 128 keys took
// 1.7 % longer. Only multiply_tile and its like call one.
template <class T>
using TileProduct = void (*)(const T* a, Index a_stride, const T* b, Index b_stride, Index depth,
                             T* c, Index c_stride, Into into, Index panel_stride);

// `tile_rows` by two registers. With 16 registers, 6 rows are 12 chains: enough for the latency of
// two multiply-add units, and wider tiles of fewer rows load more than they multiply. With 32, 12
// rows.
//
// Unrolled by hand: left to the optimizer, the accumulators spill at g++ -O2 and it is 2.6x slower.
// Transposed: a is read by columns, a[k][i].
template <class T, int Rows, int Registers, bool Transposed = false>
void tile_product(const T* a, Index a_stride, const T* b, Index b_stride, Index depth, T* c,
                  Index c_stride, Into into, Index panel_stride) {
  constexpr Index S = Register<T>::width;
  Register<T> sum[Rows][Registers];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < Registers; ++j) sum[i][j] = broadcast(T(0));
  if (into == Into::chain) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < Registers; ++j) sum[i][j] = load(c + i * c_stride + j * S);
  }
  for (Index k = 0; k < depth; ++k) {
    Register<T> row[Registers];
#pragma GCC unroll 16
    for (int j = 0; j < Registers; ++j)
      row[j] = load(b + k * b_stride + j / 2 * panel_stride + j % 2 * S);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const Register<T> factor = broadcast(Transposed ? a[k * a_stride + i] : a[i * a_stride + k]);
#pragma GCC unroll 16
      for (int j = 0; j < Registers; ++j) sum[i][j] = fma(factor, row[j], sum[i][j]);
    }
  }
  if (into == Into::sum) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < Registers; ++j)
        sum[i][j] = add(load(c + i * c_stride + j * S), sum[i][j]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < Registers; ++j) store(c + i * c_stride + j * S, sum[i][j]);
}

template <class T, bool Transposed, int... Rows>
constexpr std::array<TileProduct<T>, sizeof...(Rows)> tile_products_of(
    std::integer_sequence<int, Rows...>) {
  return {tile_product<T, Rows + 1, 2, Transposed>...};
}

// tile_products[n - 1]: a tile of n rows.
template <class T>
inline constexpr auto tile_products =
    tile_products_of<T, false>(std::make_integer_sequence<int, static_cast<int>(tile_rows)>());
template <class T>
inline constexpr auto transposed_products =
    tile_products_of<T, true>(std::make_integer_sequence<int, static_cast<int>(tile_rows)>());

// row_products[n - 1]: one row times n panels, `panel_stride` apart.
template <class T>
inline constexpr std::array<TileProduct<T>, panels_per_row> row_products{
    tile_product<T, 1, 2>, tile_product<T, 1, 4>, tile_product<T, 1, 6>, tile_product<T, 1, 8>};

template <class T>
EIGEN_ALWAYS_INLINE void run_tile(TileProduct<T> product, const TileCall<T>& call) {
  product(call.a, call.a_stride, call.b, call.b_stride, call.depth, call.c, call.c_stride,
          call.into, call.panel_stride);
}
// One tile of `rows` rows by one panel.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_tile(Index rows, const TileCall<T>& call) {
  run_tile<T>(tile_products<T>[static_cast<std::size_t>(rows - 1)], call);
}
// The same with `a` read by columns.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_transposed_tile(Index rows, const TileCall<T>& call) {
  run_tile<T>(transposed_products<T>[static_cast<std::size_t>(rows - 1)], call);
}
// One row by `panels` panels.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_row(Index panels, const TileCall<T>& call) {
  run_tile<T>(row_products<T>[static_cast<std::size_t>(panels - 1)], call);
}

// One row by n panels of numbers that are stored in 16 bits, widened on the way to the registers:
// panels that are widened to memory first are read in one stream, not n, and take twice as long.
template <class T>
struct StoredRowCall {
  const T* a;
  const std::uint16_t* b;
  Index b_stride, depth;
  T* c;
  bool goes_on;  // from what c holds
  Index panel_stride;
  Index ahead;  // numbers so far on are asked for; floats, the CPU itself foresees
};
template <StoredAs Stored, class T, int Panels>
void stored_row_product(const StoredRowCall<T>& call) {
  constexpr Index S = Register<T>::width;
  constexpr int registers = 2 * Panels;
  const auto [a, b, b_stride, depth, c, goes_on, panel_stride, ahead] = call;
  Register<T> sum[registers];
#pragma GCC unroll 16
  for (int j = 0; j < registers; ++j) sum[j] = goes_on ? load(c + j * S) : broadcast(T(0));
  for (Index k = 0; k < depth; ++k) {
    const Register<T> factor = broadcast(a[k]);
#pragma GCC unroll 16
    for (int j = 0; j < registers; ++j) {
      const std::uint16_t* const from = b + k * b_stride + j / 2 * panel_stride + j % 2 * S;
      if (j % 2 == 0) __builtin_prefetch(from + ahead);
      if constexpr (Stored == StoredAs::bfloat16)
        sum[j] = fma(factor, load_bfloat16(from), sum[j]);
      else
        sum[j] = fma(factor, load_half(from), sum[j]);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < registers; ++j) store(c + j * S, sum[j]);
}
template <StoredAs Stored, class T>
inline constexpr std::array<void (*)(const StoredRowCall<T>&), panels_per_row> stored_products{
    stored_row_product<Stored, T, 1>, stored_row_product<Stored, T, 2>,
    stored_row_product<Stored, T, 3>, stored_row_product<Stored, T, 4>};
template <class T>
void multiply_stored_row(StoredAs stored_as, Index panels, const StoredRowCall<T>& call) {
  if constexpr (std::is_same_v<T, float>) {
    const auto& products = stored_as == StoredAs::bfloat16 ? stored_products<StoredAs::bfloat16, T>
                                                           : stored_products<StoredAs::half, T>;
    products[static_cast<std::size_t>(panels - 1)](call);
  }
}

// Cuts `rows` into tiles and calls visit(first, count). Evenly: 8 rows are 4 + 4, because 6 + 2
// would end in a tile too small to hide its latency.
template <class Visit>
EIGEN_ALWAYS_INLINE void for_each_tile(Index rows, const Visit& visit) {
  for (Index tiles = (rows + tile_rows - 1) / tile_rows, first = 0; tiles > 0; --tiles) {
    const Index count = (rows - first) / tiles;
    visit(first, count);
    first += count;
  }
}
