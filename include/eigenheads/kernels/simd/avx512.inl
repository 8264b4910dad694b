// SPDX-License-Identifier: MIT
// One register of AVX-512 (F, BW, DQ, VL). Included by targets.hpp inside a namespace and a target
// region; the operations and what each promises are listed in portable.inl.

// g++ 12 warns that its own unmasked intrinsics read an undefined register; masked by all lanes
// they are the same instructions, and it does not.
inline constexpr __mmask16 all16 = 0xFFFF;
inline constexpr __mmask8 all8 = 0xFF;

inline constexpr Index tile_rows = 12;  // by two registers: what 32 registers hold

template <class T>
struct Register;
template <>
struct Register<float> {
  static constexpr int width = 16;
  __m512 v;
};
template <>
struct Register<double> {
  static constexpr int width = 8;
  __m512d v;
};
using Floats = Register<float>;
using Doubles = Register<double>;

EIGEN_ALWAYS_INLINE Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
EIGEN_ALWAYS_INLINE Doubles load(const double* p) { return {_mm512_loadu_pd(p)}; }
EIGEN_ALWAYS_INLINE void store(float* p, Floats a) { _mm512_storeu_ps(p, a.v); }
EIGEN_ALWAYS_INLINE void store(double* p, Doubles a) { _mm512_storeu_pd(p, a.v); }
EIGEN_ALWAYS_INLINE Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }
EIGEN_ALWAYS_INLINE Doubles broadcast(double x) { return {_mm512_set1_pd(x)}; }

EIGEN_ALWAYS_INLINE Floats add(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles add(Doubles a, Doubles b) { return {_mm512_add_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats sub(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles sub(Doubles a, Doubles b) { return {_mm512_sub_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats mul(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles mul(Doubles a, Doubles b) { return {_mm512_mul_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Doubles fma(Doubles a, Doubles b, Doubles c) {
  return {_mm512_fmadd_pd(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Floats max(Floats a, Floats b) {
  return {_mm512_maskz_max_ps(all16, a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Doubles max(Doubles a, Doubles b) {
  return {_mm512_maskz_max_pd(all8, a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Floats round(Floats a) {
  return {_mm512_maskz_roundscale_ps(all16, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Doubles round(Doubles a) {
  return {_mm512_maskz_roundscale_pd(all8, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Floats div(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles div(Doubles a, Doubles b) { return {_mm512_div_pd(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats square_root(Floats a) { return {_mm512_maskz_sqrt_ps(all16, a.v)}; }
EIGEN_ALWAYS_INLINE Doubles square_root(Doubles a) { return {_mm512_maskz_sqrt_pd(all8, a.v)}; }
EIGEN_ALWAYS_INLINE Floats absolute(Floats a) { return {_mm512_abs_ps(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles absolute(Doubles a) { return {_mm512_abs_pd(a.v)}; }
EIGEN_ALWAYS_INLINE Floats with_sign(Floats size, Floats a) {
  const __m512i sign = _mm512_castps_si512(_mm512_set1_ps(-0.0f));
  const __m512i of_a = _mm512_and_si512(_mm512_castps_si512(a.v), sign);
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(size.v), of_a))};
}
EIGEN_ALWAYS_INLINE Doubles with_sign(Doubles size, Doubles a) {
  const __m512i sign = _mm512_castpd_si512(_mm512_set1_pd(-0.0));
  const __m512i of_a = _mm512_and_si512(_mm512_castpd_si512(a.v), sign);
  return {_mm512_castsi512_pd(_mm512_or_si512(_mm512_castpd_si512(size.v), of_a))};
}

EIGEN_ALWAYS_INLINE Floats swap_pairs(Floats a) {
  return {_mm512_maskz_permute_ps(all16, a.v, 0xB1)};
}
EIGEN_ALWAYS_INLINE Doubles swap_pairs(Doubles a) {
  return {_mm512_maskz_permute_pd(all8, a.v, 0x55)};
}

EIGEN_ALWAYS_INLINE Floats scale_by_power(Floats y, Floats n) {
  return {_mm512_maskz_scalef_ps(all16, y.v, n.v)};
}
EIGEN_ALWAYS_INLINE Doubles scale_by_power(Doubles y, Doubles n) {
  return {_mm512_maskz_scalef_pd(all8, y.v, n.v)};
}
EIGEN_ALWAYS_INLINE Floats zero_if_below(Floats y, Floats x, Floats limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), y.v)};
}
EIGEN_ALWAYS_INLINE Doubles zero_if_below(Doubles y, Doubles x, Doubles limit) {
  return {_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x.v, limit.v, _CMP_NLT_UQ), y.v)};
}
EIGEN_ALWAYS_INLINE Floats select_below(Floats x, Floats limit, Floats a, Floats b) {
  return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ), a.v)};
}
EIGEN_ALWAYS_INLINE Doubles select_below(Doubles x, Doubles limit, Doubles a, Doubles b) {
  return {_mm512_mask_mov_pd(b.v, _mm512_cmp_pd_mask(x.v, limit.v, _CMP_LT_OQ), a.v)};
}

EIGEN_ALWAYS_INLINE Floats select(const std::uint8_t* keep, Floats a, Floats b) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(keep));
  const __m512i wide = _mm512_maskz_cvtepu8_epi32(all16, bytes);
  return {_mm512_mask_mov_ps(b.v, _mm512_test_epi32_mask(wide, wide), a.v)};
}
EIGEN_ALWAYS_INLINE Doubles select(const std::uint8_t* keep, Doubles a, Doubles b) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(keep));
  const __m512i wide = _mm512_maskz_cvtepu8_epi64(all8, bytes);
  return {_mm512_mask_mov_pd(b.v, _mm512_test_epi64_mask(wide, wide), a.v)};
}

EIGEN_ALWAYS_INLINE Floats load_bfloat16(const std::uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(all16, bits);
  return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(all16, wide, 16))};
}
EIGEN_ALWAYS_INLINE Floats load_half(const std::uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_maskz_cvtph_ps(all16, bits)};
}

EIGEN_ALWAYS_INLINE bool all_finite(Floats a) {
  const __m512i infinity = _mm512_set1_epi32(0x7F800000);
  const __m512i exponent = _mm512_and_si512(_mm512_castps_si512(a.v), infinity);
  return _mm512_cmpeq_epi32_mask(exponent, infinity) == 0;
}
EIGEN_ALWAYS_INLINE bool all_finite(Doubles a) {
  const __m512i infinity = _mm512_set1_epi64(0x7FF0000000000000);
  const __m512i exponent = _mm512_and_si512(_mm512_castpd_si512(a.v), infinity);
  return _mm512_cmpeq_epi64_mask(exponent, infinity) == 0;
}

// Of four registers, the 4 x 4 blocks that stand one below the other, each transposed in its place.
EIGEN_ALWAYS_INLINE void transpose_blocks(const __m512 (&x)[4], __m512* t) {
  const __m512 a = _mm512_maskz_unpacklo_ps(all16, x[0], x[1]);
  const __m512 b = _mm512_maskz_unpackhi_ps(all16, x[0], x[1]);
  const __m512 c = _mm512_maskz_unpacklo_ps(all16, x[2], x[3]);
  const __m512 d = _mm512_maskz_unpackhi_ps(all16, x[2], x[3]);
  t[0] = _mm512_shuffle_ps(a, c, 0x44);
  t[1] = _mm512_shuffle_ps(a, c, 0xEE);
  t[2] = _mm512_shuffle_ps(b, d, 0x44);
  t[3] = _mm512_shuffle_ps(b, d, 0xEE);
}
// Rows come in blocks of four lanes: 4 x 4 blocks are transposed inside, then put in their places.
EIGEN_ALWAYS_INLINE void transpose(Floats (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
    transpose_blocks({r[i].v, r[i + 1].v, r[i + 2].v, r[i + 3].v}, t + i);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_maskz_shuffle_f32x4(all16, t[i], t[4 + i], 0x88);
    const __m512 b = _mm512_maskz_shuffle_f32x4(all16, t[i], t[4 + i], 0xDD);
    const __m512 c = _mm512_maskz_shuffle_f32x4(all16, t[8 + i], t[12 + i], 0x88);
    const __m512 d = _mm512_maskz_shuffle_f32x4(all16, t[8 + i], t[12 + i], 0xDD);
    r[i].v = _mm512_maskz_shuffle_f32x4(all16, a, c, 0x88);
    r[8 + i].v = _mm512_maskz_shuffle_f32x4(all16, a, c, 0xDD);
    r[4 + i].v = _mm512_maskz_shuffle_f32x4(all16, b, d, 0x88);
    r[12 + i].v = _mm512_maskz_shuffle_f32x4(all16, b, d, 0xDD);
  }
}
EIGEN_ALWAYS_INLINE void transpose(Doubles (&r)[8]) {
  __m512d t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_maskz_unpacklo_pd(all8, r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_maskz_unpackhi_pd(all8, r[i].v, r[i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m512d a = _mm512_maskz_shuffle_f64x2(all8, t[i], t[2 + i], 0x88);
    const __m512d b = _mm512_maskz_shuffle_f64x2(all8, t[i], t[2 + i], 0xDD);
    const __m512d c = _mm512_maskz_shuffle_f64x2(all8, t[4 + i], t[6 + i], 0x88);
    const __m512d d = _mm512_maskz_shuffle_f64x2(all8, t[4 + i], t[6 + i], 0xDD);
    r[i].v = _mm512_maskz_shuffle_f64x2(all8, a, c, 0x88);
    r[4 + i].v = _mm512_maskz_shuffle_f64x2(all8, a, c, 0xDD);
    r[2 + i].v = _mm512_maskz_shuffle_f64x2(all8, b, d, 0x88);
    r[6 + i].v = _mm512_maskz_shuffle_f64x2(all8, b, d, 0xDD);
  }
}
// Rows from[j * stride], transposed. Loads put blocks of four lanes in their places, which leaves
// half of the shuffles of transpose.
EIGEN_ALWAYS_INLINE __m512 load_blocks(const float* from, Index stride) {
  const __m512 a = _mm512_castps128_ps512(_mm_loadu_ps(from));
  const __m512 b = _mm512_mask_broadcast_f32x4(a, 0x00F0, _mm_loadu_ps(from + 4 * stride));
  const __m512 c = _mm512_mask_broadcast_f32x4(b, 0x0F00, _mm_loadu_ps(from + 8 * stride));
  return _mm512_mask_broadcast_f32x4(c, 0xF000, _mm_loadu_ps(from + 12 * stride));
}
EIGEN_ALWAYS_INLINE void load_transposed(const float* from, Index stride, Floats (&r)[16]) {
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    __m512 x[4], t[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) x[j] = load_blocks(from + j * stride + i, stride);
    transpose_blocks(x, t);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) r[i + j].v = t[j];
  }
}
