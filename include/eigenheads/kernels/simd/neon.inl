// SPDX-License-Identifier: MIT
// One register of NEON (AArch64). Included by targets.hpp inside a namespace; the operations and
// what each promises are listed in portable.inl.

inline constexpr Index tile_rows = 12;  // by two registers: what 32 registers hold

template <class T>
struct Register;
template <>
struct Register<float> {
  static constexpr int width = 4;
  float32x4_t v;
};
template <>
struct Register<double> {
  static constexpr int width = 2;
  float64x2_t v;
};
using Floats = Register<float>;
using Doubles = Register<double>;

EIGEN_ALWAYS_INLINE Floats load(const float* p) { return {vld1q_f32(p)}; }
EIGEN_ALWAYS_INLINE Doubles load(const double* p) { return {vld1q_f64(p)}; }
EIGEN_ALWAYS_INLINE void store(float* p, Floats a) { vst1q_f32(p, a.v); }
EIGEN_ALWAYS_INLINE void store(double* p, Doubles a) { vst1q_f64(p, a.v); }
EIGEN_ALWAYS_INLINE Floats broadcast(float x) { return {vdupq_n_f32(x)}; }
EIGEN_ALWAYS_INLINE Doubles broadcast(double x) { return {vdupq_n_f64(x)}; }

EIGEN_ALWAYS_INLINE Floats add(Floats a, Floats b) { return {vaddq_f32(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles add(Doubles a, Doubles b) { return {vaddq_f64(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats sub(Floats a, Floats b) { return {vsubq_f32(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles sub(Doubles a, Doubles b) { return {vsubq_f64(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats mul(Floats a, Floats b) { return {vmulq_f32(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles mul(Doubles a, Doubles b) { return {vmulq_f64(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats fma(Floats a, Floats b, Floats c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles fma(Doubles a, Doubles b, Doubles c) {
  return {vfmaq_f64(c.v, a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Floats max(Floats a, Floats b) { return {vmaxq_f32(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles max(Doubles a, Doubles b) { return {vmaxq_f64(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats round(Floats a) { return {vrndnq_f32(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles round(Doubles a) { return {vrndnq_f64(a.v)}; }
EIGEN_ALWAYS_INLINE Floats div(Floats a, Floats b) { return {vdivq_f32(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Doubles div(Doubles a, Doubles b) { return {vdivq_f64(a.v, b.v)}; }
EIGEN_ALWAYS_INLINE Floats square_root(Floats a) { return {vsqrtq_f32(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles square_root(Doubles a) { return {vsqrtq_f64(a.v)}; }
EIGEN_ALWAYS_INLINE Floats absolute(Floats a) { return {vabsq_f32(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles absolute(Doubles a) { return {vabsq_f64(a.v)}; }
EIGEN_ALWAYS_INLINE Floats with_sign(Floats size, Floats a) {
  return {vbslq_f32(vdupq_n_u32(0x80000000u), a.v, size.v)};
}
EIGEN_ALWAYS_INLINE Doubles with_sign(Doubles size, Doubles a) {
  return {vbslq_f64(vdupq_n_u64(0x8000000000000000u), a.v, size.v)};
}

EIGEN_ALWAYS_INLINE Floats swap_pairs(Floats a) { return {vrev64q_f32(a.v)}; }
EIGEN_ALWAYS_INLINE Doubles swap_pairs(Doubles a) { return {vextq_f64(a.v, a.v, 1)}; }

EIGEN_ALWAYS_INLINE Floats scale_by_power(Floats y, Floats n) {
  const int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(n.v), 23);
  return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(y.v), exponent))};
}
EIGEN_ALWAYS_INLINE Doubles scale_by_power(Doubles y, Doubles n) {
  const int64x2_t exponent = vshlq_n_s64(vcvtq_s64_f64(n.v), 52);
  return {vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(y.v), exponent))};
}
EIGEN_ALWAYS_INLINE Floats zero_if_below(Floats y, Floats x, Floats limit) {
  return {vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y.v), vcltq_f32(x.v, limit.v)))};
}
EIGEN_ALWAYS_INLINE Doubles zero_if_below(Doubles y, Doubles x, Doubles limit) {
  return {vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(y.v), vcltq_f64(x.v, limit.v)))};
}
EIGEN_ALWAYS_INLINE Floats select_below(Floats x, Floats limit, Floats a, Floats b) {
  return {vbslq_f32(vcltq_f32(x.v, limit.v), a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Doubles select_below(Doubles x, Doubles limit, Doubles a, Doubles b) {
  return {vbslq_f64(vcltq_f64(x.v, limit.v), a.v, b.v)};
}

EIGEN_ALWAYS_INLINE Floats select(const std::uint8_t* keep, Floats a, Floats b) {
  const std::uint32_t bytes[4] = {keep[0], keep[1], keep[2], keep[3]};
  const uint32x4_t lanes = vld1q_u32(bytes);
  return {vbslq_f32(vtstq_u32(lanes, lanes), a.v, b.v)};
}
EIGEN_ALWAYS_INLINE Doubles select(const std::uint8_t* keep, Doubles a, Doubles b) {
  const std::uint64_t bytes[2] = {keep[0], keep[1]};
  const uint64x2_t lanes = vld1q_u64(bytes);
  return {vbslq_f64(vtstq_u64(lanes, lanes), a.v, b.v)};
}

EIGEN_ALWAYS_INLINE Floats load_bfloat16(const std::uint16_t* p) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))};
}
EIGEN_ALWAYS_INLINE Floats load_half(const std::uint16_t* p) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))};
}

EIGEN_ALWAYS_INLINE bool all_finite(Floats a) {
  const uint32x4_t infinity = vdupq_n_u32(0x7F800000u);
  return vmaxvq_u32(vandq_u32(vreinterpretq_u32_f32(a.v), infinity)) != 0x7F800000u;
}
EIGEN_ALWAYS_INLINE bool all_finite(Doubles a) {
  const uint64x2_t bits = vreinterpretq_u64_f64(a.v);
  constexpr std::uint64_t infinity = 0x7FF0000000000000u;
  return (vgetq_lane_u64(bits, 0) & infinity) != infinity &&
         (vgetq_lane_u64(bits, 1) & infinity) != infinity;
}

EIGEN_ALWAYS_INLINE void transpose(Floats (&r)[4]) {
  const float32x4x2_t a = vtrnq_f32(r[0].v, r[1].v), b = vtrnq_f32(r[2].v, r[3].v);
  r[0].v = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1].v = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2].v = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3].v = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
EIGEN_ALWAYS_INLINE void transpose(Doubles (&r)[2]) {
  const float64x2_t low = vtrn1q_f64(r[0].v, r[1].v), high = vtrn2q_f64(r[0].v, r[1].v);
  r[0].v = low;
  r[1].v = high;
}
