// SPDX-License-Identifier: MIT
// One register of AVX-512 (F, BW, DQ, VL). Included by targets.hpp inside a namespace and a target
// region; the operations and what each promises are listed in portable.inl. What compilers have in
// their own vector type is written in it; the rest is in a file of its own, by intrinsics, or by the
// builtins that these are made of (intrinsics.hpp says why).

inline constexpr Index tile_rows = 12;  // by two registers: what 32 registers hold

template <class T>
struct Register {
  static constexpr int width = 64 / sizeof(T);
  using Vector [[gnu::vector_size(64)]] = T;
  using InMemory [[gnu::vector_size(64), gnu::may_alias, gnu::aligned(1)]] = T;
  using Bits [[gnu::vector_size(64)]] = detail::BitsOf<T>;
  Vector v;
};
using Floats = Register<float>;
using Doubles = Register<double>;

template <class T>
EIGEN_ALWAYS_INLINE Register<T> load(const T* p) {
  return {*reinterpret_cast<const typename Register<T>::InMemory*>(p)};
}
template <class T>
EIGEN_ALWAYS_INLINE void store(T* p, Register<T> a) {
  *reinterpret_cast<typename Register<T>::InMemory*>(p) = a.v;
}
EIGEN_ALWAYS_INLINE Floats broadcast(float x) {
  return {Floats::Vector{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}};
}
EIGEN_ALWAYS_INLINE Doubles broadcast(double x) {
  return {Doubles::Vector{x, x, x, x, x, x, x, x}};
}

template <class T>
EIGEN_ALWAYS_INLINE Register<T> add(Register<T> a, Register<T> b) {
  return {a.v + b.v};
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> sub(Register<T> a, Register<T> b) {
  return {a.v - b.v};
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> mul(Register<T> a, Register<T> b) {
  return {a.v * b.v};
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> div(Register<T> a, Register<T> b) {
  return {a.v / b.v};
}

// All bits but the sign.
template <class T>
inline constexpr auto size_bits = static_cast<detail::BitsOf<T>>(~detail::BitsOf<T>{} >> 1);
template <class T>
EIGEN_ALWAYS_INLINE Register<T> absolute(Register<T> a) {
  using Bits = typename Register<T>::Bits;
  return {
      reinterpret_cast<typename Register<T>::Vector>(reinterpret_cast<Bits>(a.v) & size_bits<T>)};
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> with_sign(Register<T> size, Register<T> a) {
  using Bits = typename Register<T>::Bits;
  const Bits sign = reinterpret_cast<Bits>(a.v) & static_cast<detail::BitsOf<T>>(~size_bits<T>);
  return {reinterpret_cast<typename Register<T>::Vector>(reinterpret_cast<Bits>(size.v) | sign)};
}

EIGEN_ALWAYS_INLINE Floats swap_pairs(Floats a) {
  return {__builtin_shufflevector(a.v, a.v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)};
}
EIGEN_ALWAYS_INLINE Doubles swap_pairs(Doubles a) {
  return {__builtin_shufflevector(a.v, a.v, 1, 0, 3, 2, 5, 4, 7, 6)};
}

// Of two registers of four blocks of four lanes each, the blocks with even and with odd numbers.
EIGEN_ALWAYS_INLINE Floats even_blocks(Floats a, Floats b) {
  return {
      __builtin_shufflevector(a.v, b.v, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)};
}
EIGEN_ALWAYS_INLINE Floats odd_blocks(Floats a, Floats b) {
  return {__builtin_shufflevector(a.v, b.v, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30,
                                  31)};
}
EIGEN_ALWAYS_INLINE Doubles even_blocks(Doubles a, Doubles b) {
  return {__builtin_shufflevector(a.v, b.v, 0, 1, 4, 5, 8, 9, 12, 13)};
}
EIGEN_ALWAYS_INLINE Doubles odd_blocks(Doubles a, Doubles b) {
  return {__builtin_shufflevector(a.v, b.v, 2, 3, 6, 7, 10, 11, 14, 15)};
}
// Of four registers, the 4 x 4 blocks that stand one below the other, each transposed in its place.
EIGEN_ALWAYS_INLINE void transpose_blocks(const Floats (&x)[4], Floats* t) {
  Floats::Vector low[2], high[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto a = x[2 * i].v, b = x[2 * i + 1].v;
    low[i] =
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    high[i] =
        __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto a = i == 0 ? low[0] : high[0], b = i == 0 ? low[1] : high[1];
    t[2 * i].v =
        __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    t[2 * i + 1].v =
        __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
}
// Rows come in blocks of four lanes: 4 x 4 blocks are transposed inside, then put in their places.
EIGEN_ALWAYS_INLINE void transpose(Floats (&r)[16]) {
  Floats t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) transpose_blocks({r[i], r[i + 1], r[i + 2], r[i + 3]}, t + i);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Floats a = even_blocks(t[i], t[4 + i]), b = odd_blocks(t[i], t[4 + i]);
    const Floats c = even_blocks(t[8 + i], t[12 + i]), d = odd_blocks(t[8 + i], t[12 + i]);
    r[i] = even_blocks(a, c);
    r[8 + i] = odd_blocks(a, c);
    r[4 + i] = even_blocks(b, d);
    r[12 + i] = odd_blocks(b, d);
  }
}
EIGEN_ALWAYS_INLINE void transpose(Doubles (&r)[8]) {
  Doubles t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i].v = __builtin_shufflevector(r[i].v, r[i + 1].v, 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1].v = __builtin_shufflevector(r[i].v, r[i + 1].v, 1, 9, 3, 11, 5, 13, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Doubles a = even_blocks(t[i], t[2 + i]), b = odd_blocks(t[i], t[2 + i]);
    const Doubles c = even_blocks(t[4 + i], t[6 + i]), d = odd_blocks(t[4 + i], t[6 + i]);
    r[i] = even_blocks(a, c);
    r[4 + i] = odd_blocks(a, c);
    r[2 + i] = even_blocks(b, d);
    r[6 + i] = odd_blocks(b, d);
  }
}

#if defined(EIGENHEADS_AVX512_BY_BUILTINS)
#include <eigenheads/kernels/simd/avx512_builtins.inl>
#else
#include <eigenheads/kernels/simd/avx512_intrinsics.inl>
#endif

// Rows from[j * stride], transposed. Loads put blocks of four lanes in their places, which leaves
// half of the shuffles of transpose.
EIGEN_ALWAYS_INLINE Floats load_blocks(const float* from, Index stride) {
  const Floats a = first_block(from);
  const Floats b = with_blocks(a, 0x00F0, from + 4 * stride);
  const Floats c = with_blocks(b, 0x0F00, from + 8 * stride);
  return with_blocks(c, 0xF000, from + 12 * stride);
}
EIGEN_ALWAYS_INLINE void load_transposed(const float* from, Index stride, Floats (&r)[16]) {
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    Floats x[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) x[j] = load_blocks(from + j * stride + i, stride);
    transpose_blocks(x, r + i);
  }
}
