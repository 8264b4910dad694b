// SPDX-License-Identifier: MIT
// Rotary position embedding: pairs of numbers turned by an angle,
//   x' = x cos - y sin = fma(-y, sin, x cos),   y' = y cos + x sin = fma(x, sin, y cos)
// with two roundings each, which are these in both layouts, whatever register a pair lies in.

// Pairs x[i], x[half + i]. `sign` is 1, or -1 to turn them back.
template <class T>
EIGEN_ALWAYS_INLINE void rotate_halves(T* x, const T* cos, const T* sin, Index half, T sign) {
  constexpr Index S = Register<T>::width;
  T* const y = x + half;
  Index i = 0;
  for (; i + S <= half; i += S) {
    const Register<T> a = load(x + i), b = load(y + i), c = load(cos + i), s = load(sin + i);
    store(x + i, fma(b, mul(s, broadcast(-sign)), mul(a, c)));
    store(y + i, fma(a, mul(s, broadcast(sign)), mul(b, c)));
  }
  for (; i < half; ++i) {
    const T a = x[i], b = y[i], c = cos[i], s = sign * sin[i];
    x[i] = std::fma(b, -s, a * c);
    y[i] = std::fma(a, s, b * c);
  }
}

// Pairs x[2i], x[2i + 1].
template <class T>
EIGEN_ALWAYS_INLINE void rotate_neighbours(T* x, const T* cos, const T* sin, Index count, T sign) {
  constexpr Index S = Register<T>::width;
  Index i = 0;
  for (; i + S <= count; i += S) {
    const Register<T> a = load(x + i), s = mul(load(sin + i), broadcast(sign));
    store(x + i, fma(swap_pairs(a), s, mul(a, load(cos + i))));
  }
  for (; i < count; i += 2) {
    const T a = x[i], b = x[i + 1];
    x[i] = std::fma(b, sign * sin[i], a * cos[i]);
    x[i + 1] = std::fma(a, sign * sin[i + 1], b * cos[i + 1]);
  }
}

template <class T>
void rotate_rows(const RotateRows<T>& call) {
  const RotaryTable<T>& table = call.table;
  const Index step = call.one_position ? 0 : table.stride;
  const T sign = call.is_inverse ? T(-1) : T(1);
  if (table.layout == RotaryLayout::half_split)
    for (Index r = 0; r < call.count; ++r)
      rotate_halves(call.x + r * call.stride, table.cos + r * step, table.sin + r * step,
                    table.rotated / 2, sign);
  else
    for (Index r = 0; r < call.count; ++r)
      rotate_neighbours(call.x + r * call.stride, table.cos + r * step, table.sin + r * step,
                        table.rotated, sign);
}
