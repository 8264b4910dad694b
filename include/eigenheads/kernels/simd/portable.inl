// SPDX-License-Identifier: MIT
// A register of 16 bytes in the compiler's own vector type, for CPUs without a file of their own,
// and the list of what a register can do. Included by targets.hpp inside a namespace. Without a
// fused multiply-add in hardware its results are outside of contract C6: fma rounds twice here.

inline constexpr Index tile_rows = 4;  // by two registers: what 16 registers hold

template <class T>
struct Register {
  static constexpr int width = 16 / sizeof(T);
  using Vector [[gnu::vector_size(16)]] = T;
  using Bits [[gnu::vector_size(16)]] = detail::BitsOf<T>;
  Vector v;
};

// Memory: no alignment is asked for.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> load(const T* p) {
  Register<T> a;
  std::memcpy(&a.v, p, sizeof a.v);
  return a;
}
template <class T>
EIGEN_ALWAYS_INLINE void store(T* p, Register<T> a) {
  std::memcpy(p, &a.v, sizeof a.v);
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> broadcast(T x) {
  return {typename Register<T>::Vector{} + x};
}

// Arithmetic, lane by lane.
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
// a * b + c
template <class T>
EIGEN_ALWAYS_INLINE Register<T> fma(Register<T> a, Register<T> b, Register<T> c) {
  return {a.v * b.v + c.v};
}
// The larger; NaN if b is, and what a NaN in a gives is left open.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> max(Register<T> a, Register<T> b) {
  return {a.v > b.v ? a.v : b.v};
}
// To the nearest integer, ties to even, where |a| < 2^22; anything where it is not.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> round(Register<T> a) {
  // rint rounds as the program does, which need not be to the nearest.
  Register<T> result;
  for (int i = 0; i < Register<T>::width; ++i) {
    const T n = std::rint(a.v[i]), rest = a.v[i] - n;
    result.v[i] = n + (rest > T(0.5) ? T(1) : rest < T(-0.5) ? T(-1) : T(0));
  }
  return result;
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> div(Register<T> a, Register<T> b) {
  return {a.v / b.v};
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> square_root(Register<T> a) {
  for (int i = 0; i < Register<T>::width; ++i) a.v[i] = std::sqrt(a.v[i]);
  return a;
}
// |a|, and the other way: `size`, of 0 or more, with the sign of a. NaN stays NaN in both.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> absolute(Register<T> a) {
  for (int i = 0; i < Register<T>::width; ++i) a.v[i] = std::abs(a.v[i]);
  return a;
}
template <class T>
EIGEN_ALWAYS_INLINE Register<T> with_sign(Register<T> size, Register<T> a) {
  for (int i = 0; i < Register<T>::width; ++i) size.v[i] = std::copysign(size.v[i], a.v[i]);
  return size;
}
// y * 2^n for integral n, by adding to the exponent: y must not be 0 and the result be normal, or
// it is anything. NaN in y stays NaN.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> scale_by_power(Register<T> y, Register<T> n) {
  using Bits = detail::BitsOf<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  Register<T> result;
  for (int i = 0; i < Register<T>::width; ++i) {
    const bool known = n.v[i] > T(-4096) && n.v[i] < T(4096);
    const auto exponent = static_cast<Bits>(known ? static_cast<std::int32_t>(n.v[i]) : 0);
    result.v[i] = std::bit_cast<T>(
        static_cast<Bits>(std::bit_cast<Bits>(T(y.v[i])) + (exponent << mantissa)));
  }
  return result;
}
// Lanes 1, 0, 3, 2, ...
template <class T>
EIGEN_ALWAYS_INLINE Register<T> swap_pairs(Register<T> a) {
  Register<T> result;
  for (int i = 0; i < Register<T>::width; ++i) result.v[i] = a.v[i ^ 1];
  return result;
}
// 0 where x < limit, elsewhere (NaN in x included) y.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> zero_if_below(Register<T> y, Register<T> x, Register<T> limit) {
  return {x.v < limit.v ? typename Register<T>::Vector{} : y.v};
}
// a where x < limit, elsewhere (NaN in either included) b.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> select_below(Register<T> x, Register<T> limit, Register<T> a,
                                             Register<T> b) {
  return {x.v < limit.v ? a.v : b.v};
}
// a where the byte is not 0, else b. Reads `width` bytes.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> select(const std::uint8_t* keep, Register<T> a, Register<T> b) {
  for (int i = 0; i < Register<T>::width; ++i)
    if (keep[i] == 0) a.v[i] = b.v[i];
  return a;
}
// `width` numbers that are stored in 16 bits, exactly.
EIGEN_ALWAYS_INLINE Register<float> load_bfloat16(const std::uint16_t* p) {
  Register<float> a;
  for (int i = 0; i < Register<float>::width; ++i) a.v[i] = BFloat16{p[i]}.value();
  return a;
}
EIGEN_ALWAYS_INLINE Register<float> load_half(const std::uint16_t* p) {
  Register<float> a;
  for (int i = 0; i < Register<float>::width; ++i) a.v[i] = Half{p[i]}.value();
  return a;
}
// Decided from the bits, whatever the compiler may assume of NaN.
template <class T>
EIGEN_ALWAYS_INLINE bool all_finite(Register<T> a) {
  typename Register<T>::Bits bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bool finite = true;
  for (int i = 0; i < Register<T>::width; ++i)
    finite = finite && (bits[i] & detail::infinity_bits<T>) != detail::infinity_bits<T>;
  return finite;
}
// A square of `width` registers.
template <class T>
EIGEN_ALWAYS_INLINE void transpose(Register<T> (&r)[Register<T>::width]) {
  for (int i = 0; i < Register<T>::width; ++i)
    for (int j = 0; j < i; ++j) {
      const T x = r[i].v[j];
      r[i].v[j] = r[j].v[i];
      r[j].v[i] = x;
    }
}
