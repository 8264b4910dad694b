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

// ---- Forward -------------------------------------------------------------------------------------

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

// Of a row of queries, over the keys of `range` that lie in one block: e^(s - m_b) to scores, the product
// with the values, and m_b and l_b.
template <class T>
struct AdditiveBlock {
  T maximum, sum;
};
template <class T>
AdditiveBlock<T> additive_block(const AdditiveCall<T>& call, Index b, Index q, Range range,
                                const std::uint8_t* allowed, const AdditiveScratch<T>& scratch) {
  constexpr Index N = detail::group_keys, KB = key_block<T>;
  const auto& [B, Q, K, H, V] = call.shape;
  const Index begin = range.begin / KB * KB;
  const SeenKeys seen{range.begin - begin, range.end - begin,
                      allowed == nullptr ? nullptr : scratch.allowed};
  if (allowed != nullptr) {
    std::fill_n(scratch.allowed, KB, std::uint8_t{0});
    std::copy(allowed + range.begin, allowed + range.end, scratch.allowed + seen.begin);
  }
  const auto [first, last] = lanes_of(seen);
  for (Index k = first; k < last; k += N)
    score_group(call.q + (b * Q + q) * H, call.k_of(b, (begin + k) / N), call.w, H,
                scratch.scores + k, [](Index, Index, Register<T>) {});
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
  return {maxima[0], sums[0]};
}

template <class T>
void additive_row(const AdditiveCall<T>& call, Index b, Index q,
                  const AdditiveScratch<T>& scratch) {
  constexpr Index KB = key_block<T>;
  const auto& [B, Q, K, H, V] = call.shape;
  const Range range = call.mask->key_range(b, 0, q);
  const std::uint8_t* const allowed = call.mask->allowed_row(b, 0, q);
  T* const weights = call.weights == nullptr ? nullptr : call.weights + (b * Q + q) * K;
  if (weights != nullptr) std::fill_n(weights, K, T(0));
  T m = std::numeric_limits<T>::lowest(), l = 0;
  std::fill_n(scratch.output, V, T(0));
  for (Index begin = range.begin; begin < range.end;) {
    const Index end = (std::min)((begin / KB + 1) * KB, range.end);
    const AdditiveBlock<T> block = additive_block(call, b, q, {begin, end}, allowed, scratch);
    scratch.maxima[begin / KB] = block.maximum;
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
    begin = end;
  }
  T* const to = call.output + (b * Q + q) * V;
  const bool sees_nothing = detail::is_zero(l);
  const T reciprocal = reciprocal_of_sum(l);
  if (sees_nothing)
    std::fill_n(to, V, T(0));
  else
    scale_row(scratch.output, V, reciprocal, to);
  if (call.lse != nullptr)
    call.lse[b * Q + q] = sees_nothing ? -std::numeric_limits<T>::infinity() : m + natural_log(l);
  if (weights == nullptr) return;
  for (Index begin = range.begin; begin < range.end;) {
    const Index end = (std::min)((begin / KB + 1) * KB, range.end);
    const T factor = reciprocal * exp_far_difference(scratch.maxima[begin / KB], m);
    for (; begin < end; ++begin)
      weights[begin] = allowed == nullptr || allowed[begin] != 0 ? weights[begin] * factor : T(0);
  }
}

template <class T>
void additive_attend(const AdditiveCall<T>& call, Index b, Range queries, T* memory) {
  AdditiveScratch<T> scratch;
  (void)AdditiveScratch<T>::lay_out(scratch, call.shape, memory);
  for (Index q = queries.begin; q < queries.end; ++q) additive_row(call, b, q, scratch);
}

// ---- Backward ------------------------------------------------------------------------------------
//   D = sum_v dO O,   dP = F (dO V^T),   dS = P (dP - D),   u = dS w (1 - t^2),   t = tanh(q + k)
//   dq = sum_k u,   dk = sum_q u,   dw = sum_k dS t (then over the queries),   dV = sum_q P F dO
// One chain over the queries for what belongs to a key; 16 lanes, key k in lane k % 16, for what
// belongs to a query.

template <class T>
struct AdditiveBackwardScratch {
  T* tanhs;            // [H][16]
  T *grad_q, *grad_w;  // [H][16]

  [[nodiscard]] static Index lay_out(AdditiveBackwardScratch& scratch, const AdditiveShape& shape,
                                     T* memory) {
    Cutter<T> cutter(memory);
    for (T** part : {&scratch.tanhs, &scratch.grad_q, &scratch.grad_w})
      *part = cutter.take(shape.H * detail::group_keys);
    return cutter.used();
  }
};
template <class T>
Index additive_backward_scratch(const AdditiveShape& shape) {
  AdditiveBackwardScratch<T> scratch;
  return AdditiveBackwardScratch<T>::lay_out(scratch, shape, nullptr);
}

// Which keys of a group a query sees.
struct SeenLanes {
  std::array<std::uint8_t, static_cast<std::size_t>(detail::group_keys)> keep;
  bool any, all;
};
[[nodiscard]] inline SeenLanes lanes_seen(Range range, const std::uint8_t* allowed, Index first) {
  SeenLanes lanes{{}, false, true};
  for (Index i = 0; i < detail::group_keys; ++i) {
    const Index k = first + i;
    const bool is_seen =
        k >= range.begin && k < range.end && (allowed == nullptr || allowed[k] != 0);
    lanes.keep[static_cast<std::size_t>(i)] = is_seen;
    lanes.any = lanes.any || is_seen;
    lanes.all = lanes.all && is_seen;
  }
  return lanes;
}

// sum_v a[v] b[v] in 16 lanes.
template <class T>
[[nodiscard]] T dot_in_lanes(const T* a, const T* b, Index count) {
  T lanes[sum_lanes] = {};
  for (Index v = 0; v < count; ++v)
    lanes[v % sum_lanes] = std::fma(a[v], b[v], lanes[v % sum_lanes]);
  return fold(lanes);
}

template <class T>
void additive_backward_row(const AdditiveBackwardCall<T>& call, const AdditiveBackwardTask& task,
                           Index q, const AdditiveBackwardScratch<T>& scratch) {
  constexpr Index S = Register<T>::width, N = detail::group_keys, R = N / S;
  const auto& [B, Q, K, H, V] = call.shape;
  const Index b = task.b, row = b * Q + q;
  const T *const features = call.q + row * H, *const dO = call.grad_output + row * V;
  const Range range = call.mask->key_range(b, 0, q);
  const std::uint8_t* const allowed = call.mask->allowed_row(b, 0, q);
  if (task.for_queries) {
    std::fill_n(scratch.grad_q, H * N, T(0));
    std::fill_n(scratch.grad_w, H * N, T(0));
  }
  // Without a gradient there is nothing to pass on, whatever the row holds.
  const bool is_empty =
      range.begin == range.end || detail::is_negative_infinity(call.lse[row]) ||
      std::all_of(dO, dO + V, [](const T& value) { return detail::is_zero(value); });
  const T D = is_empty ? T(0) : dot_in_lanes(dO, call.output + row * V, V);
  const Index begin = (std::max)(range.begin / N * N, task.keys.begin);
  const Index end = is_empty ? begin : (std::min)(range.end, task.keys.end);
  const Register<T> zero = broadcast(T(0)), one = broadcast(T(1));
  for (Index first = begin; first < end; first += N) {
    const SeenLanes seen = lanes_seen(range, allowed, first);
    if (!seen.any) continue;
    const std::uint8_t* const keep = seen.keep.data();
    T scores[N], factors[N], kept[N];
    score_group(features, call.k + b * call.shape.grouped(H) + first * H, call.w, H, scores,
                [&](Index h, Index i, Register<T> t) {
                  store(scratch.tanhs + h * N + i * S,
                        seen.all ? t : select(keep + i * S, t, zero));
                });
    if (call.dropout == nullptr)
      std::fill_n(factors, N, T(1));
    else
      call.dropout->factors(b, 0, q, first, first + N, factors);

    Register<T> dS[R];
    const T* const values = call.values + b * call.shape.grouped(V) + first * V;
#pragma GCC unroll 16
    for (Index i = 0; i < R; ++i) dS[i] = zero;  // of dO V^T
    for (Index v = 0; v < V; ++v)
#pragma GCC unroll 16
      for (Index i = 0; i < R; ++i)
        dS[i] = fma(broadcast(dO[v]), load(values + v * N + i * S), dS[i]);
#pragma GCC unroll 16
    for (Index i = 0; i < R; ++i) {
      const Register<T> F = load(factors + i * S);
      const Register<T> P = exp_difference(load(scores + i * S), broadcast(call.lse[row]));
      dS[i] = select(keep + i * S, mul(P, fma(F, dS[i], broadcast(-D))), zero);
      store(kept + i * S, mul(P, F));
    }

    T* const grad_k = call.grad_k + b * call.shape.grouped(H) + first * H;
    for (Index h = 0; h < H; ++h)
#pragma GCC unroll 16
      for (Index i = 0; i < R; ++i) {
        const Index at = h * N + i * S;
        const Register<T> t = load(scratch.tanhs + at);
        const Register<T> u = mul(mul(dS[i], broadcast(call.w[h])), fma(sub(zero, t), t, one));
        if (task.for_queries) {
          store(scratch.grad_q + at, add(load(scratch.grad_q + at), u));
          store(scratch.grad_w + at, fma(dS[i], t, load(scratch.grad_w + at)));
        }
        if (task.for_keys) store(grad_k + at, add(load(grad_k + at), u));
      }
    if (!task.for_keys) continue;
    for (Index i = 0; i < N; ++i)
      if (keep[i] != 0) add_multiple(kept[i], dO, V, call.grad_values + (b * K + first + i) * V);
  }
  if (!task.for_queries) return;
  for (Index h = 0; h < H; ++h) {
    call.grad_q[row * H + h] = fold(scratch.grad_q + h * N);
    call.grad_w[row * H + h] = fold(scratch.grad_w + h * N);
  }
}

template <class T>
void additive_backward(const AdditiveBackwardCall<T>& call, const AdditiveBackwardTask& task,
                       T* memory) {
  AdditiveBackwardScratch<T> scratch;
  (void)AdditiveBackwardScratch<T>::lay_out(scratch, call.shape, memory);
  const auto& [B, Q, K, H, V] = call.shape;
  if (task.for_keys) {
    const auto [begin, end] = task.keys;
    const Index last = (std::min)(end, K);
    std::fill_n(call.grad_k + task.b * call.shape.grouped(H) + begin * H, (end - begin) * H, T(0));
    std::fill_n(call.grad_values + (task.b * K + begin) * V, (last - begin) * V, T(0));
  }
  for (Index q = task.queries.begin; q < task.queries.end; ++q)
    additive_backward_row(call, task, q, scratch);
}
