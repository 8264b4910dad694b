// SPDX-License-Identifier: MIT
// What avx512.inl leaves to the CPU's own instructions, by the builtins of g++ 12, whose names and
// arguments are known: avx512_intrinsics.inl is the same for all other compilers. A last argument of
// 4 is the rounding that is set, -1 a mask of all lanes.

EIGEN_ALWAYS_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {__builtin_ia32_vfmaddps512_mask(a.v, b.v, c.v, -1, 4)};
}
EIGEN_ALWAYS_INLINE Floats max(Floats a, Floats b) {
  return {__builtin_ia32_maxps512_mask(a.v, b.v, Floats::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Floats round(Floats a) {  // 8: to nearest, and no exception
  return {__builtin_ia32_rndscaleps_mask(a.v, 8, Floats::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Floats square_root(Floats a) {
  return {__builtin_ia32_sqrtps512_mask(a.v, Floats::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Floats scale_by_power(Floats y, Floats n) {
  return {__builtin_ia32_scalefps512_mask(y.v, n.v, Floats::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Floats zero_if_below(Floats y, Floats x,
                                         Floats limit) {  // 0x15: not less, or NaN
  return {__builtin_ia32_movaps512_mask(y.v, Floats::Vector{},
                                        __builtin_ia32_cmpps512_mask(x.v, limit.v, 0x15, -1, 4))};
}
EIGEN_ALWAYS_INLINE Floats select_below(Floats x, Floats limit, Floats a, Floats b) {  // 0x11: less
  return {__builtin_ia32_movaps512_mask(a.v, b.v,
                                        __builtin_ia32_cmpps512_mask(x.v, limit.v, 0x11, -1, 4))};
}

EIGEN_ALWAYS_INLINE Doubles fma(Doubles a, Doubles b, Doubles c) {
  return {__builtin_ia32_vfmaddpd512_mask(a.v, b.v, c.v, -1, 4)};
}
EIGEN_ALWAYS_INLINE Doubles max(Doubles a, Doubles b) {
  return {__builtin_ia32_maxpd512_mask(a.v, b.v, Doubles::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Doubles round(Doubles a) {  // 8: to nearest, and no exception
  return {__builtin_ia32_rndscalepd_mask(a.v, 8, Doubles::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Doubles square_root(Doubles a) {
  return {__builtin_ia32_sqrtpd512_mask(a.v, Doubles::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Doubles scale_by_power(Doubles y, Doubles n) {
  return {__builtin_ia32_scalefpd512_mask(y.v, n.v, Doubles::Vector{}, -1, 4)};
}
EIGEN_ALWAYS_INLINE Doubles zero_if_below(Doubles y, Doubles x,
                                          Doubles limit) {  // 0x15: not less, or NaN
  return {__builtin_ia32_movapd512_mask(y.v, Doubles::Vector{},
                                        __builtin_ia32_cmppd512_mask(x.v, limit.v, 0x15, -1, 4))};
}
EIGEN_ALWAYS_INLINE Doubles select_below(Doubles x, Doubles limit, Doubles a,
                                         Doubles b) {  // 0x11: less
  return {__builtin_ia32_movapd512_mask(a.v, b.v,
                                        __builtin_ia32_cmppd512_mask(x.v, limit.v, 0x11, -1, 4))};
}

// What the builtins below take for vectors of integers.
using Bytes16 [[gnu::vector_size(16)]] = char;
using Shorts16 [[gnu::vector_size(32)]] = short;
using Ints16 [[gnu::vector_size(64)]] = int;
using Longs8 [[gnu::vector_size(64)]] = long long;
using Block [[gnu::vector_size(16)]] = float;

template <class Vector, class U>
EIGEN_ALWAYS_INLINE Vector read_vector(const U* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

EIGEN_ALWAYS_INLINE Floats select(const std::uint8_t* keep, Floats a, Floats b) {
  const Ints16 wide = __builtin_ia32_pmovzxbd512_mask(read_vector<Bytes16>(keep), Ints16{}, -1);
  return {__builtin_ia32_movaps512_mask(a.v, b.v, __builtin_ia32_ptestmd512(wide, wide, -1))};
}
EIGEN_ALWAYS_INLINE Doubles select(const std::uint8_t* keep, Doubles a, Doubles b) {
  long long eight;
  std::memcpy(&eight, keep, sizeof eight);
  using Pair [[gnu::vector_size(16)]] = long long;
  const auto bytes = reinterpret_cast<Bytes16>(Pair{eight, 0});
  const Longs8 wide = __builtin_ia32_pmovzxbq512_mask(bytes, Longs8{}, -1);
  return {__builtin_ia32_movapd512_mask(a.v, b.v, __builtin_ia32_ptestmq512(wide, wide, -1))};
}

EIGEN_ALWAYS_INLINE Floats load_bfloat16(const std::uint16_t* p) {
  const Ints16 wide = __builtin_ia32_pmovzxwd512_mask(read_vector<Shorts16>(p), Ints16{}, -1);
  return {reinterpret_cast<Floats::Vector>(wide << 16)};
}
EIGEN_ALWAYS_INLINE Floats load_half(const std::uint16_t* p) {
  return {__builtin_ia32_vcvtph2ps512_mask(read_vector<Shorts16>(p), Floats::Vector{}, -1, 4)};
}

EIGEN_ALWAYS_INLINE bool all_finite(Floats a) {
  const Ints16 infinity = Ints16{} + 0x7F800000;
  const Ints16 exponent = reinterpret_cast<Ints16>(a.v) & infinity;
  return __builtin_ia32_pcmpeqd512_mask(exponent, infinity, -1) == 0;
}
EIGEN_ALWAYS_INLINE bool all_finite(Doubles a) {
  const Longs8 infinity = Longs8{} + 0x7FF0000000000000;
  const Longs8 exponent = reinterpret_cast<Longs8>(a.v) & infinity;
  return __builtin_ia32_pcmpeqq512_mask(exponent, infinity, -1) == 0;
}

// Four numbers in the first lanes, the others left open; and in the lanes of the mask, four of a.
EIGEN_ALWAYS_INLINE Floats first_block(const float* p) {
  return {__builtin_ia32_ps512_ps(read_vector<Block>(p))};
}
EIGEN_ALWAYS_INLINE Floats with_blocks(Floats a, std::uint16_t mask, const float* p) {
  return {__builtin_ia32_broadcastf32x4_512(read_vector<Block>(p), a.v, mask)};
}
