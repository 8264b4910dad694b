// SPDX-License-Identifier: MIT
// What one head adds to the output, c = gate W_o,h o: its norms, mean and spread over rows. Rows
// are taken query_block at a time, from the first of a sequence on: all of their c in scratch
// memory, their mean, then the squared distances from it. Blocks are merged by
//   mean' = mean + d n_b / n',   squares' = squares + squares_b + |d|^2 n n_b / n'
//   with d = mean_b - mean
// Chan, Golub, LeVeque, "Algorithms for Computing the Sample Variance", 1983: nothing cancels where
// the spread is small beside the mean.

template <class T>
struct ContributionScratch {
  Index padded_E;
  T *rows, *mean;     // [query_block, padded_E], [padded_E]
  double* wide_mean;  // [E]
};

template <class T>
Index lay_out(ContributionScratch<T>& s, Index E, T* memory) {
  s.padded_E = padded_columns<T>(E);
  Cutter<T> cutter(memory);
  s.rows = cutter.take(query_block * s.padded_E);
  s.mean = cutter.take(s.padded_E);
  s.wide_mean = cutter.template take_as<double>(E);
  return cutter.used();
}

// y += factor x
template <class T>
void add_scaled(const T* x, Index count, T factor, T* y) {
  constexpr Index S = Register<T>::width;
  const Register<T> factors = broadcast(factor);
  Index i = 0;
  for (; i + S <= count; i += S) store(y + i, fma(factors, load(x + i), load(y + i)));
  for (; i < count; ++i) y[i] = std::fma(factor, x[i], y[i]);
}

// `from` is used up.
inline void merge_contributions(const Contributions& from, Index E, Contributions& to) {
  if (from.rows == 0) return;
  const double rows = to.rows + from.rows, share = from.rows / rows;
  add_scaled(to.mean, E, -1.0, from.mean);
  to.squares = std::fma(dot(from.mean, from.mean, E), to.rows * share, to.squares + from.squares);
  add_scaled(from.mean, E, share, to.mean);
  to.norms += from.norms;
  to.rows = rows;
}

// Queries `rows` of sequence b and head h, before the gate.
template <class T>
[[nodiscard]] Contributions contributions_of(const ContributionCall<T>& call, Index b, Index h,
                                             Range rows, const ContributionScratch<T>& s) {
  constexpr Index W = panel_width<T>;
  const Index E = call.weight.rows, V = call.shape.V, depth = call.shape.H * V;
  const Index count = rows.count();
  const T* outputs = call.heads + (call.mask->query_rows().begin(b) + rows.begin) * depth + h * V;
  for (Index e = 0; e < s.padded_E; e += W)
    for_each_tile(count, [&](Index row, Index tile) {
      multiply_tile<T>(tile, {.a = outputs + row * depth,
                              .a_stride = depth,
                              .b = call.weight.panel(e / W) + h * V * W,
                              .b_stride = W,
                              .depth = V,
                              .c = s.rows + row * s.padded_E + e,
                              .c_stride = s.padded_E});
    });
  Contributions result{static_cast<double>(count), 0, 0, s.wide_mean};
  std::fill_n(s.mean, s.padded_E, T(0));
  for (Index row = 0; row < count; ++row) {
    const T* c = s.rows + row * s.padded_E;
    result.norms += std::sqrt(static_cast<double>(dot(c, c, E)));
    add_scaled(c, s.padded_E, T(1), s.mean);
  }
  scale_row(s.mean, s.padded_E, T(1) / static_cast<T>(count), s.mean);
  for (Index row = 0; row < count; ++row) {
    T* c = s.rows + row * s.padded_E;
    add_scaled(s.mean, s.padded_E, T(-1), c);
    result.squares += static_cast<double>(dot(c, c, E));
  }
  for (Index e = 0; e < E; ++e) result.mean[e] = static_cast<double>(s.mean[e]);
  return result;
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index contribute_scratch(Index E) {
  ContributionScratch<T> layout;
  return lay_out<T>(layout, E, nullptr);
}

// A task: all queries of sequence b that are not padding. `to` begins with zeros.
template <class T>
void contribute(const ContributionCall<T>& call, Index b, Index h, T* scratch, Contributions& to) {
  const Index queries = call.mask->query_count(b), E = call.weight.rows;
  const auto gate = static_cast<double>(call.gates.at(b, h));
  if (gate == 0) {  // not even NaN comes through
    to.rows = static_cast<double>(queries);
    return;
  }
  ContributionScratch<T> s;
  lay_out(s, E, scratch);
  for (Index first = 0; first < queries; first += query_block)
    merge_contributions(
        contributions_of(call, b, h, {first, (std::min)(first + query_block, queries)}, s), E, to);
  if (gate == 1) return;
  to.norms *= std::abs(gate);
  to.squares *= gate * gate;
  scale_row(to.mean, E, gate, to.mean);
}
