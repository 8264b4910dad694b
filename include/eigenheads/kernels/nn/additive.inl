// SPDX-License-Identifier: MIT
// Additive attention, row by row: nothing of size queries x keys is built but the weights, where they
// are asked for, and nothing of size queries x keys x features at all.
//   s[q,k] = sum_h w[h] tanh(q[h] + k[h]),   P = softmax(s),   O[q] = sum_k P[q,k] F[q,k] V[k]
// Blocks of keys, their softmax and their merging are those of attention.inl.

// Rows [seen.begin, seen.end) of `matrix`, [*, features], into groups; the others of those groups are 0,
// and are not read.
template <class T>
void pack_groups(const T* matrix, Range seen, Index features, T* groups) {
  constexpr Index S = Register<T>::width, N = detail::group_keys;
  for (Index first = seen.begin / N * N; first < seen.end; first += N) {
    T* const group = groups + first * features;
    const bool is_whole = first >= seen.begin && first + N <= seen.end;
    const Index squares = is_whole ? features / S * S : 0;
    for (Index half = 0; half < N && squares > 0; half += S)
      for (Index h = 0; h < squares; h += S) {
        Register<T> square[S];
        load_transposed(matrix + (first + half) * features + h, features, square);
#pragma GCC unroll 16
        for (Index j = 0; j < S; ++j) store(group + (h + j) * N + half, square[j]);
      }
    for (Index h = squares; h < features; ++h)
      for (Index i = 0; i < N; ++i) {
        const bool is_seen = first + i >= seen.begin && first + i < seen.end;
        group[h * N + i] = is_seen ? matrix[(first + i) * features + h] : T(0);
      }
  }
}

// The scores of a group of keys; each(h, i, t) is given register i of the tanh of feature h.
template <class T, class Each>
EIGEN_ALWAYS_INLINE void score_group(const T* q, const T* k, const T* w, Index H, T* scores,
                                     const Each& each) {
  constexpr Index S = Register<T>::width, N = detail::group_keys / S;
  Register<T> sums[N];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) sums[i] = broadcast(T(0));
  for (Index h = 0; h < H; ++h) {
    const Register<T> feature = broadcast(q[h]), weight = broadcast(w[h]);
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) {
      const Register<T> t = tanh_register(add(feature, load(k + h * detail::group_keys + i * S)));
      each(h, i, t);
      sums[i] = fma(weight, t, sums[i]);
    }
  }
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) store(scores + i * S, sums[i]);
}

// y += a x
template <class T>
EIGEN_ALWAYS_INLINE void add_multiple(T a, const T* x, Index count, T* y) {
  constexpr Index S = Register<T>::width;
  const Register<T> factor = broadcast(a);
  Index i = 0;
  for (; i + S <= count; i += S) store(y + i, fma(factor, load(x + i), load(y + i)));
  for (; i < count; ++i) y[i] = std::fma(a, x[i], y[i]);
}

template <class T>
struct AdditiveScratch {
  T *scores, *factors;    // [key_block]
  T *product, *output;    // [V]
  T* maxima;              // m_b of every block
  std::uint8_t* allowed;  // [key_block]

  [[nodiscard]] static Index lay_out(AdditiveScratch& scratch, const AdditiveShape& shape,
                                     T* memory) {
    Cutter<T> cutter(memory);
    scratch.scores = cutter.take(key_block<T>);
    scratch.factors = cutter.take(key_block<T>);
    scratch.product = cutter.take(shape.V);
    scratch.output = cutter.take(shape.V);
    scratch.maxima = cutter.take(detail::blocks_of(shape.K, key_block<T>));
    scratch.allowed = cutter.template take_as<std::uint8_t>(key_block<T>);
    return cutter.used();
  }
};
template <class T>
Index additive_scratch(const AdditiveShape& shape) {
  AdditiveScratch<T> scratch;
  return AdditiveScratch<T>::lay_out(scratch, shape, nullptr);
}

// Keys of a row's range that it does not see.
struct HiddenKeys {
  const std::uint8_t* allowed;  // null: hides none
  Range gap;

  [[nodiscard]] bool are_in(Range keys) const {
    return allowed != nullptr || (gap.begin < keys.end && keys.begin < gap.end);
  }
  [[nodiscard]] bool leave(Index k) const {
    return (allowed == nullptr || allowed[k] != 0) && (k < gap.begin || k >= gap.end);
  }
};

// visit(keys) for every block of keys, from the first that the row sees to the last.
template <class T, class Visit>
void for_each_block_of_row(Range range, Range gap, const Visit& visit) {
  constexpr Index KB = key_block<T>;
  for (Index begin = range.begin; begin < range.end;) {
    const Index end = (std::min)((begin / KB + 1) * KB, range.end);
    const Range keys = detail::without_ends({begin, end}, gap);
    if (keys.begin < keys.end) visit(keys);
    begin = end;
  }
}

// Of a row of queries, over the keys of `range` that lie in one block: e^(s - m_b) to scores, the product
// with the values, and m_b and l_b.
template <class T>
struct AdditiveBlock {
  T maximum, sum;
};
template <class T>
AdditiveBlock<T> additive_block(const AdditiveCall<T>& call, Index b, Index q, Range range,
                                const HiddenKeys& hidden, const AdditiveScratch<T>& scratch) {
  constexpr Index N = detail::group_keys, KB = key_block<T>;
  const auto& [B, Q, K, H, V] = call.shape;
  const Index begin = range.begin / KB * KB;
  const SeenKeys seen{range.begin - begin, range.end - begin,
                      hidden.are_in(range) ? scratch.allowed : nullptr};
  if (seen.allowed != nullptr) {
    std::fill_n(scratch.allowed, KB, std::uint8_t{0});
    for (Index k = range.begin; k < range.end; ++k) scratch.allowed[k - begin] = hidden.leave(k);
  }
  const auto [first, last] = lanes_of(seen);
  for (Index k = first; k < last; k += N)
    score_group(call.q + (b * Q + q) * H, call.k_of(b, (begin + k) / N), call.w, H,
                scratch.scores + k, [](Index, Index, Register<T>) {});
  // A maximum, and so the softmax, may lose a NaN.
  T lost = 0;
  for (Index k = seen.begin; detail::compiler_assumes_no_nan && k < seen.end; ++k)
    if ((seen.allowed == nullptr || seen.allowed[k] != 0) && detail::is_nan(scratch.scores[k]))
      lost = scratch.scores[k];
  T maxima[Register<T>::width], sums[Register<T>::width];
  softmax_block<T>(scratch.scores, KB, {&seen, 1}, maxima, sums);

  if (call.weights != nullptr)
    std::copy(scratch.scores + seen.begin, scratch.scores + seen.end,
              call.weights + (b * Q + q) * K + range.begin);
  if (call.dropout != nullptr) {
    call.dropout->factors(b, 0, q, range.begin, range.end, scratch.factors + seen.begin);
    for (Index k = seen.begin; k < seen.end; ++k) scratch.scores[k] *= scratch.factors[k];
  }
  // A hidden key is left out, not multiplied by 0: its value may be NaN.
  std::fill_n(scratch.product, V, T(0));
  for (Index k = seen.begin; k < seen.end; ++k)
    if (seen.allowed == nullptr || seen.allowed[k] != 0)
      add_multiple(scratch.scores[k], call.values + (b * K + begin + k) * V, V, scratch.product);
  return {maxima[0], detail::compiler_assumes_no_nan ? sums[0] + lost : sums[0]};
}

template <class T>
void additive_row(const AdditiveCall<T>& call, Index b, Index q,
                  const AdditiveScratch<T>& scratch) {
  constexpr Index KB = key_block<T>;
  const Index Q = call.shape.Q, K = call.shape.K, V = call.shape.V;
  const Range range = call.mask->key_range(b, 0, q);
  const HiddenKeys hidden{call.mask->allowed_row(b, 0, q), call.mask->gap(b, q)};
  T* const weights = call.weights == nullptr ? nullptr : call.weights + (b * Q + q) * K;
  if (weights != nullptr) std::fill_n(weights, K, T(0));
  T m = std::numeric_limits<T>::lowest(), l = 0;
  std::fill_n(scratch.output, V, T(0));
  for_each_block_of_row<T>(range, hidden.gap, [&](Range keys) {
    const AdditiveBlock<T> block = additive_block(call, b, q, keys, hidden, scratch);
    scratch.maxima[keys.begin / KB] = block.maximum;
    const MergedSums<T> next =
        merged_sums(broadcast(m), broadcast(l), broadcast(block.maximum), broadcast(block.sum));
    T maximum[Register<T>::width], sum[Register<T>::width], keep[Register<T>::width],
        take[Register<T>::width];
    store(maximum, next.maximum);
    store(sum, next.sum);
    store(keep, next.keep);
    store(take, next.take);
    m = maximum[0];
    l = sum[0];
    for (Index v = 0; v < V; ++v)
      scratch.output[v] = std::fma(keep[0], scratch.output[v], take[0] * scratch.product[v]);
  });
  T* const to = call.output + (b * Q + q) * V;
  const bool sees_nothing = detail::is_zero(l);
  const T reciprocal = reciprocal_of_sum(l);
  if (sees_nothing)
    std::fill_n(to, V, T(0));
  else
    scale_row(scratch.output, V, reciprocal, to);
  if (call.lse != nullptr)
    call.lse[b * Q + q] = sees_nothing ? -detail::infinity<T> : m + natural_log(l);
  if (weights == nullptr) return;
  for_each_block_of_row<T>(range, hidden.gap, [&](Range keys) {
    const T factor = reciprocal * exp_far_difference(scratch.maxima[keys.begin / KB], m);
    for (Index k = keys.begin; k < keys.end; ++k)
      weights[k] = hidden.leave(k) ? weights[k] * factor : T(0);
  });
}

template <class T>
void additive_attend(const AdditiveCall<T>& call, Index b, Range queries, T* memory) {
  AdditiveScratch<T> scratch;
  (void)AdditiveScratch<T>::lay_out(scratch, call.shape, memory);
  for (Index q = queries.begin; q < queries.end; ++q) additive_row(call, b, q, scratch);
}
