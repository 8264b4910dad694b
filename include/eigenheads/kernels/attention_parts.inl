// SPDX-License-Identifier: MIT
// A task of attention whose keys come one part after the other, from other ranks: what it keeps in
// between is its rows' state, to which a RowState points. Parts come in the order of their keys, so
// the blocks merge as they do in one task, and the bits are the same.
//   state: m [query_block], l [query_block], O [query_block, padded_V], and where weights are asked
//   for, m_b [blocks, query_block]
// Nothing has to be written into it before: what a mask leaves of the keys before a part says whether
// the task has begun.

template <class T>
[[nodiscard]] Index part_state(const AttentionCall<T>& call) {
  const Index maxima =
      call.weights.is_given() ? blocks_of(call.shape.K, key_block<T>) * query_block : 0;
  return partial_size<T>(call.shape) + maxima;
}
template <class T>
[[nodiscard]] Index part_scratch(const AttentionCall<T>& call) {
  RowState<T> rows;
  return lay_out<T>(rows, call.shape, {.packs = false}, tile_size<T>, nullptr);
}

template <class T>
void use_state(RowState<T>& rows, T* state) {
  rows.maximum = state;
  rows.sum = state + query_block;
  rows.output = state + 2 * query_block;
  rows.block_maxima = rows.output + query_block * rows.padded_V;
}

// Starts rows that have seen no key.
template <class T>
void begin_state(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows) {
  std::fill_n(rows.maximum, query_block, std::numeric_limits<T>::lowest());
  std::fill_n(rows.sum, query_block, T(0));
  if (call.weights.is_given()) begin_kept(call, task);
}

// The keys [keys.begin, keys.end), whole blocks, of which `packed` has those that are seen.
template <class T>
void attend_part(const AttentionCall<T>& call, const RowTask& task, const PackedHead<T>& packed,
                 Range keys, const PartMemory<T>& memory) {
  RowState<T> rows;
  lay_out(rows, call.shape, {.packs = false}, tile_size<T>, memory.scratch);
  rows.count = task.count;
  AttentionCall<T> begun = call;
  begun.weights = {};
  begin_rows(begun, task, rows);
  if (seen_by(rows, 0, rows.count, keys.begin, keys.end).count() <= 0) return;
  bool is_first = seen_by(rows, 0, rows.count, 0, keys.begin).count() <= 0;
  use_state(rows, memory.state);
  if (is_first) begin_state(call, task, rows);
  for_each_block(rows, keys, [&](Range range) {
    KeyBlock<T> block = find_keys(call, task, rows, packed, range);
    block.is_first = is_first;
    attend_block(call, task, rows, block);
    is_first = false;
  });
}

// After the last part.
template <class T>
void end_parts(const AttentionCall<T>& call, const RowTask& task, const PartMemory<T>& memory) {
  RowState<T> rows;
  lay_out(rows, call.shape, {.packs = false}, tile_size<T>, memory.scratch);
  rows.count = task.count;
  find_ranges(call, task, rows);
  use_state(rows, memory.state);
  if (seen_by(rows, 0, rows.count, 0, call.shape.K).count() <= 0) begin_state(call, task, rows);
  end_rows(call, task, rows);
}
