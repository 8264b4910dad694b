// SPDX-License-Identifier: MIT
// A softmax by itself, and its gradient: rows of weights as attention computes its own.

// The first `visible` of a row's `count` scores become weights, with the bits that attention's have;
// the others are not read and weigh 0. maxima: a number for each block of keys.
template <class T>
void masked_softmax_row(const T* scores, Index visible, Index count, T* weights, T* maxima) {
  constexpr Index KB = key_block<T>, S = Register<T>::width;
  Register<T> m = broadcast(std::numeric_limits<T>::lowest()), l = broadcast(T(0));
  for (Index begin = 0; begin < visible; begin += KB) {
    const Index size = (std::min)(KB, visible - begin);
    T block[KB], block_maximum[S], block_sum[S];  // of this row, and of no others
    std::copy_n(scores + begin, size, block);
    const SeenKeys seen{0, size, nullptr};
    softmax_block<T>(block, KB, {&seen, 1}, block_maximum, block_sum);
    std::copy_n(block, size, weights + begin);
    maxima[begin / KB] = block_maximum[0];
    const MergedSums<T> next =
        merged_sums(m, l, broadcast(block_maximum[0]), broadcast(block_sum[0]));
    m = next.maximum;
    l = next.sum;
  }
  T maximum[S], sum[S];
  store(maximum, m);
  store(sum, l);
  const T reciprocal = reciprocal_of_sum(sum[0]);
  for (Index begin = 0; begin < visible; begin += KB) {
    const T factor = reciprocal * exp_far_difference(maxima[begin / KB], maximum[0]);
    scale_row(weights + begin, (std::min)(KB, visible - begin), factor, weights + begin);
  }
  std::fill(weights + visible, weights + count, T(0));
}

// dS = P (dP - sum P dP), that sum in as many lanes as a softmax's. Where P is 0, dP is not read.
template <class T>
void masked_softmax_row_backward(const T* weights, const T* grad_weights, Index count,
                                 T* grad_scores) {
  T lanes[sum_lanes] = {};
  for (Index k = 0; k < count; ++k)
    if (!detail::is_zero(weights[k]))
      lanes[k % sum_lanes] = std::fma(weights[k], grad_weights[k], lanes[k % sum_lanes]);
  const T mean = fold(lanes);
  for (Index k = 0; k < count; ++k)
    grad_scores[k] = detail::is_zero(weights[k]) ? T(0) : weights[k] * (grad_weights[k] - mean);
}
