// SPDX-License-Identifier: MIT
// The one product that projections, scores and outputs are made of: a tile of rows times a panel,
// held in registers.
//   c[i][j] (+)= sum_k a[i][k] b[k][j]     one chain of fused multiply-adds an element, in k order
// The chain begins at zero or goes on from what c holds, or it begins at zero and its end is added to
// that: how blocks that stand by themselves are merged.
// An element's bits depend on its row of `a` and its column of `b` alone, never on the tile that it
// falls into (contract C3).

// What a product does with c. Each kind is compiled where it is called: with all three in one, one call
// of a layer took 3 % longer to compile.
//   set      c = the chain from 0
//   chain    c = the chain from 0, or from c
//   stream   the same, of panels that come from memory: what follows is asked for
//   sum      c = c + the chain from 0, or the chain from 0
enum class Into { set, chain, stream, sum };
// A stream is asked for so many bytes ahead, by tiles of 4 rows and more: fewer read several panels at
// once. For 8 rows of 16384 to 32768 keys, 16 KiB take 0.66 to 0.76 of the time without, 4 KiB 0.8 and
// 32 KiB 0.8 (Zen 5, AVX-512). One row asks for the same places of the next panels: 32768 keys take 0.93
// to 0.96.
inline constexpr Index stream_ahead = 16384;
inline constexpr Index least_stream_rows = 4;

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
  bool goes_on = false;  // of Into::chain: from what c holds; of Into::sum: is added to it
  Index panel_stride = 0;
};

// The members of a TileCall, in registers as far as they reach: by reference a head of 128 keys took
// 1.7 % longer. Only multiply_tile and its like call one.
template <class T>
using TileProduct = void (*)(const T* a, Index a_stride, const T* b, Index b_stride, Index depth,
                             T* c, Index c_stride, bool goes_on, Index panel_stride);

// `tile_rows` by two registers. With 16 registers, 6 rows are 12 chains: enough for the latency of
// two multiply-add units, and wider tiles of fewer rows load more than they multiply. With 32, 12
// rows.
//
// Unrolled by hand: left to the optimizer, the accumulators spill at g++ -O2 and it is 2.6x slower.
// Transposed: a is read by columns, a[k][i].
template <class T, int Rows, int Registers, Into Kind, bool Transposed = false>
void tile_product(const T* a, Index a_stride, const T* b, Index b_stride, Index depth, T* c,
                  Index c_stride, [[maybe_unused]] bool goes_on, Index panel_stride) {
  constexpr Index S = Register<T>::width;
  Register<T> sum[Rows][Registers];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < Registers; ++j) sum[i][j] = broadcast(T(0));
  if ((Kind == Into::chain || Kind == Into::stream) && goes_on) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < Registers; ++j) sum[i][j] = load(c + i * c_stride + j * S);
  }
  for (Index k = 0; k < depth; ++k) {
    if constexpr (Kind == Into::stream) {
      constexpr int line = 64 / sizeof(T), panels = Registers / 2;
      const Index ahead = Rows == 1 ? panels * panel_stride : stream_ahead / Index{sizeof(T)};
#pragma GCC unroll 16
      for (int panel = 0; panel < panels; ++panel)
#pragma GCC unroll 16
        for (int j = 0; j < 2 * S; j += line)
          __builtin_prefetch(b + k * b_stride + panel * panel_stride + j + ahead);
    }
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
  if (Kind == Into::sum && goes_on) {
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

// [n - 1]: a tile of n rows by so many registers.
template <class T, int Registers, Into Kind, bool Transposed, int... Rows>
constexpr std::array<TileProduct<T>, sizeof...(Rows)> tile_products_of(
    std::integer_sequence<int, Rows...>) {
  return {tile_product<T, Rows + 1, Registers, Kind, Transposed>...};
}
template <class T, int Registers, Into Kind, bool Transposed = false>
inline constexpr auto tile_products = tile_products_of<T, Registers, Kind, Transposed>(
    std::make_integer_sequence<int, static_cast<int>(tile_rows)>());

// [n - least_stream_rows]: of n rows.
template <class T, int... Rows>
constexpr std::array<TileProduct<T>, sizeof...(Rows)> stream_products_of(
    std::integer_sequence<int, Rows...>) {
  return {tile_product<T, int{least_stream_rows} + Rows, 2, Into::stream>...};
}
template <class T>
inline constexpr auto stream_products = stream_products_of<T>(
    std::make_integer_sequence<int, static_cast<int>(tile_rows - least_stream_rows + 1)>());

// [n - 1]: one row times n panels, `panel_stride` apart.
template <class T, Into Kind>
inline constexpr std::array<TileProduct<T>, panels_per_row> row_products{
    tile_product<T, 1, 2, Kind>, tile_product<T, 1, 4, Kind>, tile_product<T, 1, 6, Kind>,
    tile_product<T, 1, 8, Kind>};

template <class T>
EIGEN_ALWAYS_INLINE void run_tile(TileProduct<T> product, const TileCall<T>& call) {
  product(call.a, call.a_stride, call.b, call.b_stride, call.depth, call.c, call.c_stride,
          call.goes_on, call.panel_stride);
}
// One tile of `rows` rows by one panel.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_tile(Index rows, const TileCall<T>& call) {
  run_tile<T>(tile_products<T, 2, Into::chain>[static_cast<std::size_t>(rows - 1)], call);
}
// The first tile that reads a panel: of a stream, it asks for the next ones.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_first_tile(Index rows, bool is_stream, const TileCall<T>& call) {
  if (is_stream && rows >= least_stream_rows)
    run_tile<T>(stream_products<T>[static_cast<std::size_t>(rows - least_stream_rows)], call);
  else
    multiply_tile(rows, call);
}
// From 0, added to what c holds if it goes on; and that with `a` read by columns.
template <class T>
EIGEN_ALWAYS_INLINE void add_tile(Index rows, const TileCall<T>& call) {
  run_tile<T>(tile_products<T, 2, Into::sum>[static_cast<std::size_t>(rows - 1)], call);
}
template <class T>
EIGEN_ALWAYS_INLINE void add_transposed_tile(Index rows, const TileCall<T>& call) {
  run_tile<T>(tile_products<T, 2, Into::sum, true>[static_cast<std::size_t>(rows - 1)], call);
}
// One row by `panels` panels.
template <class T>
EIGEN_ALWAYS_INLINE void multiply_row(Index panels, const TileCall<T>& call) {
  run_tile<T>(row_products<T, Into::chain>[static_cast<std::size_t>(panels - 1)], call);
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
