// SPDX-License-Identifier: MIT
// One register of AVX2 + FMA. Included by targets.hpp inside a namespace and a target region; the
// operations and what each promises are listed in portable.inl.

inline constexpr Index tile_rows = 6;  // by two registers: what 16 registers hold

template <class T>
struct Register;
template <>
struct Register<float> {
  static constexpr int width = 8;
  __m256 v;
};
template <>
struct Register<double> {
  static constexpr int width = 4;
  __m256d v;
};
using Floats = Register<float>;
using Doubles = Register<double>;

EIGEN_ALWAYS_INLINE Floats load(const float* p) { return {_mm256_loadu_ps(p)}; }
EIGEN_ALWAYS_INLINE Doubles load(const double* p) { return {_mm256_loadu_pd(p)}; }
EIGEN_ALWAYS_INLINE void store(float* p, Floats a) { _mm256_storeu_ps(p, a.v); }
EIGEN_ALWAYS_INLINE void store(double* p, Doubles a) { _mm256_storeu_pd(p, a.v); }
EIGEN_ALWAYS_INLINE Floats broadcast(float x) { return {_mm256_set1_ps(x)}; }
EIGEN_ALWAYS_INLINE Doubles broadcast(double x) { return {_mm256_set1_pd(x)}; }

EIGEN_ALWAYS_INLINE Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles add(Doubles a, Doubles b) { return {_mm256_add_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles sub(Doubles a, Doubles b) { return {_mm256_sub_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles mul(Doubles a, Doubles b) { return {_mm256_mul_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Doubles fma(Doubles a, Doubles b, Doubles c) {
  return {_mm256_fmadd_pd(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles max(Doubles a, Doubles b) { return {_mm256_max_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats round(Floats a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Doubles round(Doubles a) {
  return {_mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Floats div(Floats a, Floats b) { return {_mm256_div_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles div(Doubles a, Doubles b) { return {_mm256_div_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats square_root(Floats a) { return {_mm256_sqrt_ps(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles square_root(Doubles a) { return {_mm256_sqrt_pd(a.v)}; }
EIGEN_ALWAYS_INLINE Floats absolute(Floats a) {
  return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)};
}
EIGEN_ALWAYS_INLINE Doubles absolute(Doubles a) {
  return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v)};
}
EIGEN_ALWAYS_INLINE Floats with_sign(Floats size, Floats a) {
  return {_mm256_or_ps(size.v, _mm256_and_ps(_mm256_set1_ps(-0.0f), a.v))};
}
EIGEN_ALWAYS_INLINE Doubles with_sign(Doubles size, Doubles a) {
  return {_mm256_or_pd(size.v, _mm256_and_pd(_mm256_set1_pd(-0.0), a.v))};
}

EIGEN_ALWAYS_INLINE Floats swap_pairs(Floats a) { return {_mm256_permute_ps(a.v, 0xB1)}; }
EIGEN_ALWAYS_INLINE Doubles swap_pairs(Doubles a) { return {_mm256_permute_pd(a.v, 0x5)}; }

EIGEN_ALWAYS_INLINE Floats scale_by_power(Floats y, Floats n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y.v), exponent))};
}
EIGEN_ALWAYS_INLINE Doubles scale_by_power(Doubles y, Doubles n) {
  const __m256i exponent = _mm256_slli_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n.v)), 52);
  return {_mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(y.v), exponent))};
}
EIGEN_ALWAYS_INLINE Floats zero_if_below(Floats y, Floats x, Floats limit) {
  return {_mm256_and_ps(y.v, _mm256_cmp_ps(x.v, limit.v, _CMP_NLT_UQ))};
}
EIGEN_ALWAYS_INLINE Doubles zero_if_below(Doubles y, Doubles x, Doubles limit) {
  return {_mm256_and_pd(y.v, _mm256_cmp_pd(x.v, limit.v, _CMP_NLT_UQ))};
}
EIGEN_ALWAYS_INLINE Floats select_below(Floats x, Floats limit, Floats a, Floats b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, limit.v, _CMP_LT_OQ))};
}
EIGEN_ALWAYS_INLINE Doubles select_below(Doubles x, Doubles limit, Doubles a, Doubles b) {
  return {_mm256_blendv_pd(b.v, a.v, _mm256_cmp_pd(x.v, limit.v, _CMP_LT_OQ))};
}

EIGEN_ALWAYS_INLINE Floats select(const std::uint8_t* keep, Floats a, Floats b) {
  const __m256i bytes =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(keep)));
  const __m256i hidden = _mm256_cmpeq_epi32(bytes, _mm256_setzero_si256());
  return {_mm256_blendv_ps(a.v, b.v, _mm256_castsi256_ps(hidden))};
}
EIGEN_ALWAYS_INLINE Doubles select(const std::uint8_t* keep, Doubles a, Doubles b) {
  std::int32_t four;
  std::memcpy(&four, keep, sizeof four);
  const __m256i bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
  const __m256i hidden = _mm256_cmpeq_epi64(bytes, _mm256_setzero_si256());
  return {_mm256_blendv_pd(a.v, b.v, _mm256_castsi256_pd(hidden))};
}

EIGEN_ALWAYS_INLINE Floats load_bfloat16(const std::uint16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
// By arithmetic on the bits: F16C is an extension of its own. A subnormal half is a multiple of
// 2^-24: it becomes 2^-14 plus so many, less 2^-14, where no float is subnormal.
EIGEN_ALWAYS_INLINE Floats load_half(const std::uint16_t* p) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFF));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(bits, size), 16);
  const __m256i moved = _mm256_slli_epi32(size, 13);
  const __m256i normal = _mm256_add_epi32(moved, _mm256_set1_epi32(112 << 23));
  const __m256i special = _mm256_add_epi32(moved, _mm256_set1_epi32(224 << 23));
  const __m256i least = _mm256_set1_epi32(113 << 23);
  const __m256 subnormal = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32(moved, least)),
                                         _mm256_castsi256_ps(least));
  const __m256i is_special = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7BFF));
  const __m256i is_subnormal = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x0400), size);
  __m256i result = _mm256_blendv_epi8(normal, special, is_special);
  result = _mm256_blendv_epi8(result, _mm256_castps_si256(subnormal), is_subnormal);
  return {_mm256_castsi256_ps(_mm256_or_si256(result, sign))};
}

EIGEN_ALWAYS_INLINE bool all_finite(Floats a) {
  const __m256i infinity = _mm256_set1_epi32(0x7F800000);
  const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(a.v), infinity);
  return _mm256_movemask_epi8(_mm256_cmpeq_epi32(exponent, infinity)) == 0;
}
EIGEN_ALWAYS_INLINE bool all_finite(Doubles a) {
  const __m256i infinity = _mm256_set1_epi64x(0x7FF0000000000000);
  const __m256i exponent = _mm256_and_si256(_mm256_castpd_si256(a.v), infinity);
  return _mm256_movemask_epi8(_mm256_cmpeq_epi64(exponent, infinity)) == 0;
}

EIGEN_ALWAYS_INLINE void transpose(Floats (&r)[8]) {
  __m256 t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i].v = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    r[4 + i].v = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}
EIGEN_ALWAYS_INLINE void transpose(Doubles (&r)[4]) {
  const __m256d t0 = _mm256_unpacklo_pd(r[0].v, r[1].v), t1 = _mm256_unpackhi_pd(r[0].v, r[1].v);
  const __m256d t2 = _mm256_unpacklo_pd(r[2].v, r[3].v), t3 = _mm256_unpackhi_pd(r[2].v, r[3].v);
  r[0].v = _mm256_permute2f128_pd(t0, t2, 0x20);
  r[1].v = _mm256_permute2f128_pd(t1, t3, 0x20);
  r[2].v = _mm256_permute2f128_pd(t0, t2, 0x31);
  r[3].v = _mm256_permute2f128_pd(t1, t3, 0x31);
}
