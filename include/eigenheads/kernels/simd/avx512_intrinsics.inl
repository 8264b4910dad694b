// SPDX-License-Identifier: MIT
// What avx512.inl leaves to the CPU's own instructions, by Intel's intrinsics; for g++ 12 there is
// avx512_builtins.inl beside it.

// g++ warns that its own unmasked intrinsics read an undefined register; masked by all lanes they
// are the same instructions, and it does not.
inline constexpr __mmask16 all16 = 0xFFFF;
inline constexpr __mmask8 all8 = 0xFF;

EIGEN_ALWAYS_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Floats max(Floats a, Floats b) {
  return {_mm512_maskz_max_ps(all16, a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Floats round(Floats a) {
  return {_mm512_maskz_roundscale_ps(all16, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Floats square_root(Floats a) { return {_mm512_maskz_sqrt_ps(all16, a.v)}; }
EIGEN_ALWAYS_INLINE Floats scale_by_power(Floats y, Floats n) {
  return {_mm512_maskz_scalef_ps(all16, y.v, n.v)};
}
EIGEN_ALWAYS_INLINE Floats zero_if_below(Floats y, Floats x, Floats limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), y.v)};
}
EIGEN_ALWAYS_INLINE Floats select_below(Floats x, Floats limit, Floats a, Floats b) {
  return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ), a.v)};
}

EIGEN_ALWAYS_INLINE Doubles fma(Doubles a, Doubles b, Doubles c) {
  return {_mm512_fmadd_pd(a.v, b.v, c.v)};
}
EIGEN_ALWAYS_INLINE Doubles max(Doubles a, Doubles b) {
  return {_mm512_maskz_max_pd(all8, a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Doubles round(Doubles a) {
  return {_mm512_maskz_roundscale_pd(all8, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EIGEN_ALWAYS_INLINE Doubles square_root(Doubles a) { return {_mm512_maskz_sqrt_pd(all8, a.v)}; }
EIGEN_ALWAYS_INLINE Doubles scale_by_power(Doubles y, Doubles n) {
  return {_mm512_maskz_scalef_pd(all8, y.v, n.v)};
}
EIGEN_ALWAYS_INLINE Doubles zero_if_below(Doubles y, Doubles x, Doubles limit) {
  return {_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x.v, limit.v, _CMP_NLT_UQ), y.v)};
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

// Four numbers in the first lanes, the others left open; and in the lanes of the mask, four of a.
EIGEN_ALWAYS_INLINE Floats first_block(const float* p) {
  return {_mm512_castps128_ps512(_mm_loadu_ps(p))};
}
EIGEN_ALWAYS_INLINE Floats with_blocks(Floats a, std::uint16_t mask, const float* p) {
  return {_mm512_mask_broadcast_f32x4(a.v, mask, _mm_loadu_ps(p))};
}
