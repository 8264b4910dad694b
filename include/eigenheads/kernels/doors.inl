// SPDX-License-Identifier: MIT
// The doors of this namespace: what code that is compiled for another instruction set may call.

struct Kernels {
  template <class T>
  static ProjectionKernels<T> projection() {
    return {.panel_width = panel_width<T>, .pack_panels = pack_panels<T>, .matmul = matmul<T>};
  }

  template <class T>
  static ElementaryKernels<T> elementary() {
    return {.key_block = key_block<T>,
            .exp_array = exp_array<T>,
            .log_array = log_array<T>,
            .masked_softmax_row = masked_softmax_row<T>,
            .masked_softmax_row_backward = masked_softmax_row_backward<T>,
            .merge_parts = merge_parts<T>};
  }

  template <class T>
  static RotaryKernels<T> rotary() {
    return {.rotate_rows = rotate_rows<T>,
            .exp_array = exp_array<double>,
            .log_array = log_array<double>,
            .sin_array = sin_array<double>,
            .cos_array = cos_array<double>};
  }

  template <class T>
  static AttentionKernels<T> attention() {
    return {.panel_width = panel_width<T>,
            .key_block = key_block<T>,
            .tile_rows = tile_rows,
            .pack_panels = pack_panels<T>,
            .pack_columns = pack_columns<T>,
            .attend_scratch = attend_scratch<T>,
            .partial_size = partial_size<T>,
            .attend_rows = attend_rows<T>,
            .attend_block_alone = attend_block_alone<T>,
            .merge_blocks = merge_blocks<T>};
  }

  template <class T>
  static AttentionPartKernels<T> attention_parts() {
    return {.part_state = part_state<T>,
            .part_scratch = part_scratch<T>,
            .attend_part = attend_part<T>,
            .end_parts = end_parts<T>};
  }

  template <class T>
  static const StoredKernels<T>* stored(StoredAs stored_as) {
    if constexpr (std::is_same_v<T, float>) {
      if (stored_as == StoredAs::bfloat16) return &stored_as_kernels<StoredAs::bfloat16, T>;
      if (stored_as == StoredAs::half) return &stored_as_kernels<StoredAs::half, T>;
    }
    return nullptr;
  }

  template <class T>
  static BackwardKernels<T> backward() {
    return {.panel_width = panel_width<T>,
            .gradient_outputs = gradient_outputs,
            .pack_columns = pack_columns<T>,
            .transpose_panels = transpose_panels<T>,
            .weight_gradient = weight_gradient<T>,
            .attend_backward_scratch = attend_backward_scratch<T>,
            .shared_sums = shared_sums<T>,
            .find_deltas = find_deltas<T>,
            .attend_backward = attend_backward<T>};
  }

  template <class T>
  static StatisticsKernels<T> statistics() {
    return {.measure_scratch = measure_scratch<T>,
            .measure_rows = measure_rows<T>,
            .contribute_scratch = contribute_scratch<T>,
            .contribute = contribute<T>,
            .merge_contributions = merge_contributions};
  }
};
