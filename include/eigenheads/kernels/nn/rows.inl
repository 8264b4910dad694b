// SPDX-License-Identifier: MIT
// Rows that are added up (nn/pooling.hpp, nn/embedding.hpp, nn/positional_encoding.hpp), or made to have
// length 1 (nn/normalize.hpp).

// sum[i] = x[i] + y[i]; sum may be x or y.
template <class T>
void add_array(const T* x, const T* y, T* sum, Index count) {
  constexpr Index S = Register<T>::width;
  Index i = 0;
  for (; i + S <= count; i += S) store(sum + i, add(load(x + i), load(y + i)));
  for (; i < count; ++i) sum[i] = x[i] + y[i];
}

// maxima[i] becomes x[i] if that is larger, and NaN if either is.
template <class T>
void maximum_array(const T* x, T* maxima, Index count) {
  constexpr Index S = Register<T>::width;
  const Register<T> infinity = broadcast(detail::infinity<T>);
  for (Index i = 0; i < count; i += S) {
    const Index n = (std::min)(S, count - i);
    const Register<T> next = load_first(x + i, n, T(0)), before = load_first(maxima + i, n, T(0));
    // max passes on a NaN in its second number. Of infinity and NaN before, what follows makes
    // infinity or NaN.
    const Register<T> larger =
        select_below(before, infinity, max(before, next), add(before, absolute(next)));
    store_first(maxima + i, n, nan_kept(next, nan_kept(before, larger)));
  }
}

// sum_i a[i] b[i], of a and b times `scale`, in 16 lanes.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T dot_of_scaled(const T* a, const T* b, Index count, T scale) {
  const Register<T> factor = broadcast(scale);
  T lanes[Register<T>::width];
  store(lanes, sum_row<T>(count, [&](Index i, Index n, Register<T> total) {
          return fma(mul(load_first(a + i, n, T(0)), factor),
                     mul(load_first(b + i, n, T(0)), factor), total);
        }));
  for (Index half = Register<T>::width / 2; half > 0; half /= 2)
    for (Index i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// The length of a row, as that of the row times a power of two, `scale`, which brings its largest
// number near 1: neither overflows, nor are squares lost. With a number that is not finite, scale is 1.
template <class T>
struct RowLength {
  T length, scale;
  bool is_zero, is_finite;

  // Whether the row counts as epsilon long. One with NaN or infinity keeps its length.
  [[nodiscard]] bool is_short(T epsilon) const { return is_finite && length < epsilon * scale; }
};
template <class T>
[[nodiscard]] RowLength<T> row_length(const T* x, Index count) {
  using Bits = detail::BitsOf<T>;
  constexpr Index S = Register<T>::width;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  constexpr Bits bias = std::bit_cast<Bits>(T(1)) >> mantissa;
  if (!all_finite(x, 0, 1, count))
    return {std::sqrt(dot_of_scaled(x, x, count, T(1))), T(1), false, false};
  Register<T> sizes = broadcast(T(0));
  for (Index i = 0; i < count; i += S)
    sizes = max(sizes, absolute(load_first(x + i, (std::min)(S, count - i), T(0))));
  T lanes[S];
  store(lanes, sizes);
  const T largest = *std::max_element(lanes, lanes + S);
  // 2^-n, n the exponent of the largest; that of subnormal numbers counts as the smallest normal's,
  // and 2^-n is no subnormal number.
  const Bits exponent = (std::clamp)(static_cast<Bits>(std::bit_cast<Bits>(largest) >> mantissa),
                                     Bits(1), static_cast<Bits>(2 * bias - 1));
  const T scale = std::bit_cast<T>(static_cast<Bits>((2 * bias - exponent) << mantissa));
  return {std::sqrt(dot_of_scaled(x, x, count, scale)), scale, detail::is_zero(largest), true};
}

// y = x / max(|x|, epsilon), or 0 of a row of zeros; y may be x.
template <class T>
void normalize_row(const T* x, Index count, T epsilon, T* y) {
  constexpr Index S = Register<T>::width;
  const RowLength<T> row = row_length(x, count);
  if (row.is_zero) {
    std::fill_n(y, count, T(0));
    return;
  }
  const Register<T> scale = broadcast(row.scale);
  const Register<T> length = broadcast(row.is_short(epsilon) ? epsilon * row.scale : row.length);
  for (Index i = 0; i < count; i += S) {
    const Index n = (std::min)(S, count - i);
    store_first(y + i, n, div(mul(load_first(x + i, n, T(0)), scale), length));
  }
}

// dx = (dy - y sum(y dy)) / |x|, or, where epsilon is larger, dy / epsilon; 0 of a row of zeros.
template <class T>
void normalize_row_backward(const T* x, const T* dy, Index count, T epsilon, T* dx) {
  constexpr Index S = Register<T>::width;
  const RowLength<T> row = row_length(x, count);
  if (row.is_zero) {
    std::fill_n(dx, count, T(0));
    return;
  }
  if (row.is_short(epsilon)) {
    for (Index i = 0; i < count; ++i) dx[i] = dy[i] / epsilon;
    return;
  }
  normalize_row(x, count, T(0), dx);  // y
  const Register<T> length = broadcast(row.length), scale = broadcast(row.scale);
  const Register<T> projection = broadcast(dot_of_scaled(dx, dy, count, T(1)));
  for (Index i = 0; i < count; i += S) {
    const Index n = (std::min)(S, count - i);
    const Register<T> across =
        fma(negative(load_first(dx + i, n, T(0))), projection, load_first(dy + i, n, T(0)));
    store_first(dx + i, n, mul(div(across, length), scale));  // |x| may overflow
  }
}
