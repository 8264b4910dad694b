// SPDX-License-Identifier: MIT
// The gradients of additive attention (additive.inl), from its log-sum-exp:
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
[[nodiscard]] inline SeenLanes lanes_seen(Range range, const HiddenKeys& hidden, Index first) {
  SeenLanes lanes{{}, false, true};
  for (Index i = 0; i < detail::group_keys; ++i) {
    const Index k = first + i;
    const bool is_seen = k >= range.begin && k < range.end && hidden.leave(k);
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
  const HiddenKeys hidden{call.mask->allowed_row(b, 0, q), call.mask->gap(b, q)};
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
    const SeenLanes seen = lanes_seen(range, hidden, first);
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
      const Register<T> score = load(scores + i * S), lse = broadcast(call.lse[row]);
      const Register<T> P = nan_kept(sub(score, lse), exp_difference(score, lse));
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
