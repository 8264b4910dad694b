// SPDX-License-Identifier: MIT
// Numbers that are stored in 16 bits and read as floats.

template <StoredAs Stored>
EIGEN_ALWAYS_INLINE Register<float> load_stored(const std::uint16_t* p) {
  if constexpr (Stored == StoredAs::bfloat16)
    return load_bfloat16(p);
  else
    return load_half(p);
}

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
      sum[j] = fma(factor, load_stored<Stored>(from), sum[j]);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < registers; ++j) store(c + j * S, sum[j]);
}

template <StoredAs Stored, class T>
void widen(const void* stored, Index first, std::span<T> to) {
  constexpr Index S = Register<T>::width;
  const auto* const from = static_cast<const std::uint16_t*>(stored) + first;
  const auto count = static_cast<Index>(to.size());
  for (Index i = 0; i < count; i += S) store(to.data() + i, load_stored<Stored>(from + i));
}

template <StoredAs Stored, class T>
inline constexpr StoredKernels<T> stored_as_kernels{
    .multiply_row = {stored_row_product<Stored, T, 1>, stored_row_product<Stored, T, 2>,
                     stored_row_product<Stored, T, 3>, stored_row_product<Stored, T, 4>},
    .widen = widen<Stored, T>};
