// SPDX-License-Identifier: MIT
// The rows of queries that a task works on: what they see, their state from one block of keys to
// the next, and what becomes of it in the end.

// Scratch memory of one task, and the state of its rows between two blocks.
template <class T>
struct RowBlock {
  Index count, padded_V;
  T *queries, *scores, *output;                // [rows, D], [rows, key_block], [rows, padded_V]
  T* product;                                  // [tile_rows, padded_V]
  T *maximum, *sum;                            // m and l
  T *block_maximum, *block_sum, *keep, *take;  // m_b and l_b, e^(m - m') and e^(m_b - m')
  T *packed_keys, *packed_values;  // some panels, and a block's, where there is no PackedHead
  T* block_maxima;                 // m_b of every block, where weights are asked for
  std::uint8_t* seen;              // [rows, key_block], of each key of a block: 0 = hidden
  KeyRange* ranges;
};

template <class T>
[[nodiscard]] constexpr Index padded_columns(Index columns) {
  return (columns + panel_width<T> - 1) / panel_width<T> * panel_width<T>;
}

// Lays a RowBlock out in `memory`; with null, only counts the elements that it takes.
template <class T>
Index lay_out(RowBlock<T>& block, const AttentionShape& shape, bool packs_itself, bool has_weights,
              T* memory) {
  block.padded_V = padded_columns<T>(shape.V);
  Index used = 0;
  const auto take = [&](Index count) {
    T* part = memory == nullptr ? nullptr : memory + used;
    used += (count + 15) / 16 * 16;
    return part;
  };
  block.queries = take(query_block * shape.D);
  block.scores = take(query_block * key_block<T>);
  block.output = take(query_block * block.padded_V);
  block.product = take(tile_rows * block.padded_V);
  for (T** row : {&block.maximum, &block.sum, &block.block_maximum, &block.block_sum, &block.keep,
                  &block.take})
    *row = take(query_block);
  block.packed_keys = take(packs_itself ? panels_a_row * panel_width<T> * shape.D : 0);
  block.packed_values = take(packs_itself ? key_block<T> * block.padded_V : 0);
  block.block_maxima =
      take(has_weights ? (shape.K + key_block<T> - 1) / key_block<T> * query_block : 0);
  block.seen = reinterpret_cast<std::uint8_t*>(
      take(query_block * key_block<T> / static_cast<Index>(sizeof(T))));
  block.ranges = reinterpret_cast<KeyRange*>(
      take(query_block * static_cast<Index>(sizeof(KeyRange) / sizeof(T))));
  return used;
}

// to = factor * from
template <class T>
void scale_row(const T* from, Index count, T factor, T* to) {
  constexpr Index S = Register<T>::width;
  const Register<T> factors = broadcast(factor);
  Index i = 0;
  for (; i + S <= count; i += S) store(to + i, mul(factors, load(from + i)));
  for (; i < count; ++i) to[i] = factor * from[i];
}

// A gate of 0 leaves nothing of a row, not even NaN.
template <class T>
void gate_row(T* row, Index count, T gate) {
  if (gate == 0)
    std::fill_n(row, count, T(0));
  else
    scale_row(row, count, gate, row);
}

// Scales the queries, finds what they may see, and starts with m = lowest, l = 0; O is written by
// the first block.
template <class T>
void begin_rows(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& block) {
  const AttentionShape& shape = call.shape;
  for (Index i = 0; i < block.count; ++i) {
    const Index h = which.head(call, i), q = which.query(shape, i);
    scale_row(call.queries + call.row(which.b, h, q) * shape.D, shape.D, call.scale,
              block.queries + i * shape.D);
    block.ranges[i] = call.mask->key_range(which.b, call.heads.number(h), q);
    if (call.weights != nullptr) std::fill_n(call.weights_of(which.b, h, q), shape.K, T(0));
  }
  std::fill_n(block.maximum, query_block, std::numeric_limits<T>::lowest());
  std::fill_n(block.sum, query_block, T(0));
}

// The keys that any of the rows [first, first + count) may see, within [begin, end).
template <class T>
[[nodiscard]] KeyRange seen_by(const RowBlock<T>& block, Index first, Index count, Index begin,
                               Index end) {
  KeyRange seen{end, begin};
  for (Index i = first; i < first + count; ++i) {
    const Index from = (std::max)(block.ranges[i].begin, begin);
    const Index to = (std::min)(block.ranges[i].end, end);
    if (from < to) seen = {(std::min)(seen.begin, from), (std::max)(seen.end, to)};
  }
  return seen;
}

// A row's keys relative to the block's first, cut to [from, to); empty ones lie within it too.
[[nodiscard]] inline KeyRange within(KeyRange row, Index begin, Index from, Index to) {
  const Index first = (std::min)((std::max)(row.begin - begin, from), to);
  return {first, (std::min)((std::max)(row.end - begin, first), to)};
}

// e^(s - m_b) goes where the weights will be, and m_b is kept until m is known.
template <class T>
void keep_weights(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& block,
                  Index begin, Index end) {
  const AttentionShape& shape = call.shape;
  std::copy_n(block.block_maximum, query_block,
              block.block_maxima + begin / key_block<T> * query_block);
  for (Index i = 0; i < block.count; ++i) {
    const KeyRange row = within(block.ranges[i], begin, 0, end - begin);
    std::copy(
        block.scores + i * key_block<T> + row.begin, block.scores + i * key_block<T> + row.end,
        call.weights_of(which.b, which.head(call, i), which.query(shape, i)) + begin + row.begin);
  }
}

// P = e^(s - m_b) e^(m_b - m) / l
template <class T>
void finish_weights(T* weights, const std::uint8_t* allowed, const RowBlock<T>& block, Index i,
                    T reciprocal) {
  const KeyRange row = block.ranges[i];
  for (Index begin = row.begin; begin < row.end;) {
    const Index number = begin / key_block<T>;
    const Index end = (std::min)((number + 1) * key_block<T>, row.end);
    const T factor =
        reciprocal * exp_difference(block.block_maxima[number * query_block + i], block.maximum[i]);
    for (; begin < end; ++begin)
      weights[begin] = allowed == nullptr || allowed[begin] != 0 ? weights[begin] * factor : T(0);
  }
}

// m, l and the two factors of the merge, for all rows at once. A row without a key in this block
// has l_b = 0 and keeps its bits.
template <class T>
void merge_sums(const RowBlock<T>& block) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < block.count; i += S) {
    const Register<T> m = load(block.maximum + i), m_b = load(block.block_maximum + i);
    const Register<T> merged = max(m, m_b);
    const Register<T> keep = exp_difference(m, merged), take = exp_difference(m_b, merged);
    store(block.keep + i, keep);
    store(block.take + i, take);
    store(block.maximum + i, merged);
    store(block.sum + i, fma(load(block.sum + i), keep, mul(take, load(block.block_sum + i))));
  }
}

// O = O e^(m - m') + O_b e^(m_b - m'), for rows [first, first + count); O_b is the product.
template <class T>
void merge_output(const RowBlock<T>& block, Index first, Index count) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < count; ++i) {
    T* output = block.output + (first + i) * block.padded_V;
    const T* product = block.product + i * block.padded_V;
    const Register<T> keep = broadcast(block.keep[first + i]);
    const Register<T> take = broadcast(block.take[first + i]);
    for (Index v = 0; v < block.padded_V; v += S)
      store(output + v, fma(keep, load(output + v), mul(take, load(product + v))));
  }
}

// O / l, times the gate, into the caller's memory, and what else was asked for. l is 0 only where a
// row sees no key at all, or none above -inf.
template <class T>
void end_rows(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& block) {
  const AttentionShape& shape = call.shape;
  for (Index i = 0; i < block.count; ++i) {
    const Index h = which.head(call, i), q = which.query(shape, i);
    const T l = block.sum[i], w = l == 0 ? T(0) : 1 / l;
    const T* from = block.output + i * block.padded_V;
    T* to = call.output.at(which.b, h, q);
    if (l == 0)
      std::fill_n(to, shape.V, T(0));
    else
      scale_row(from, shape.V, w, to);
    if (const T gate = call.gates.at(which.b, h); gate != 1) gate_row(to, shape.V, gate);
    if (call.lse != nullptr)
      *call.lse_of(which.b, h, q) =
          l == 0 ? -std::numeric_limits<T>::infinity() : block.maximum[i] + natural_log(l);
    if (call.weights != nullptr)
      finish_weights(call.weights_of(which.b, h, q),
                     call.mask->allowed_row(which.b, call.heads.number(h), q), block, i, w);
  }
}

// m, l and O of one row, as they lie between two blocks: what a task hands to another that goes on.
template <class T>
[[nodiscard]] Index partial_size(const AttentionShape& shape) {
  return query_block * (2 + padded_columns<T>(shape.V));
}

template <class T>
void save_rows(const RowBlock<T>& rows, T* partial) {
  std::copy_n(rows.maximum, query_block, partial);
  std::copy_n(rows.sum, query_block, partial + query_block);
  std::copy_n(rows.output, rows.count * rows.padded_V, partial + 2 * query_block);
}

// What attend_block does with the product of one block, for a block that was saved by itself.
template <class T>
void merge_rows(const RowBlock<T>& rows, const T* partial, bool is_first) {
  std::copy_n(partial, query_block, rows.block_maximum);
  std::copy_n(partial + query_block, query_block, rows.block_sum);
  merge_sums(rows);
  const T* output = partial + 2 * query_block;
  if (is_first) {
    std::copy_n(output, rows.count * rows.padded_V, rows.output);
    return;
  }
  for (Index i = 0; i < rows.count; ++i) {
    std::copy_n(output + i * rows.padded_V, rows.padded_V, rows.product);
    merge_output(rows, i, 1);
  }
}
