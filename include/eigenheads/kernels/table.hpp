// SPDX-License-Identifier: MIT
#pragma once
// The kernels behind pointers: what calls them is compiled once, not once for every instruction set.
// A member has the name of the kernel that it points to, in the .inl that holds it. There are several
// tables, not one, because who names a table compiles all of its kernels for all instruction sets.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/attention_call.hpp>  // AttentionCall, PackedHead
#include <eigenheads/kernels/backward_call.hpp>   // AttentionBackwardCall
#include <eigenheads/kernels/matmul_call.hpp>     // MatmulCall, WeightGradientCall, PackColumnsCall
#include <eigenheads/kernels/rotary_call.hpp>     // RotateRows
#include <eigenheads/kernels/statistics_call.hpp>  // AttentionStatisticsCall, ContributionCall
#include <eigenheads/kernels/stored_call.hpp>      // StoredKernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
struct ProjectionKernels {  // panels.inl, matmul.inl
  Index panel_width;
  void (*pack_panels)(const T* matrix, Index stride, Range rows, Index depth, T* panels);
  void (*matmul)(const MatmulCall<T>& call, Range panels, T* scratch);
};

template <class T>
struct ElementaryKernels {  // math.inl, masked_softmax.inl, attention.inl
  Index key_block;
  void (*exp_array)(const T* x, T* y, Index count);
  void (*log_array)(const T* x, T* y, Index count);
  void (*masked_softmax_row)(const T* scores, Index visible, Index count, T* weights, T* maxima);
  void (*masked_softmax_row_backward)(const T* weights, const T* grad_weights, Index count,
                                      T* grad_scores);
  void (*merge_parts)(MergePart<T> first, MergePart<T> second, Index V, T* output, T& lse);
};

template <class T>
struct RotaryKernels {  // rotary.inl
  void (*rotate_rows)(const RotateRows<T>& call);
  // math.inl, trigonometry.inl: angles are of doubles, whatever is rotated.
  void (*exp_array)(const double* x, double* y, Index count);
  void (*log_array)(const double* x, double* y, Index count);
  void (*sin_array)(const double* x, double* y, Index count);
  void (*cos_array)(const double* x, double* y, Index count);
};

template <class T>
struct AttentionKernels {  // panels.inl, attention.inl
  Index panel_width, key_block, tile_rows;
  void (*pack_panels)(const T* matrix, Index stride, Range rows, Index depth, T* panels);
  bool (*pack_columns)(const PackColumnsCall<T>& call);
  Index (*attend_scratch)(const AttentionCall<T>& call, bool packs);
  Index (*partial_size)(const AttentionShape& shape);
  void (*attend_rows)(const AttentionCall<T>& call, const RowTask& task,
                      const PackedHead<T>& packed, T* scratch);
  void (*attend_block_alone)(const AttentionCall<T>& call, const RowTask& task, Index number,
                             T* partial, T* scratch);
  void (*merge_blocks)(const AttentionCall<T>& call, const RowTask& task, const T* partials,
                       T* scratch);
};

template <class T>
struct AttentionPartKernels {  // attention_parts.inl
  Index (*part_state)(const AttentionCall<T>& call);
  Index (*part_scratch)(const AttentionCall<T>& call);
  void (*attend_part)(const AttentionCall<T>& call, const RowTask& task,
                      const PackedHead<T>& packed, Range keys, const PartMemory<T>& memory);
  void (*end_parts)(const AttentionCall<T>& call, const RowTask& task, const PartMemory<T>& memory);
};

template <class T>
struct BackwardKernels {  // panels.inl and those of backward/
  Index panel_width, gradient_outputs;
  bool (*pack_columns)(const PackColumnsCall<T>& call);
  void (*transpose_panels)(Panels<const T> weight, Range range, T* across);
  void (*weight_gradient)(const WeightGradientCall<T>& call, T* block);
  Index (*attend_backward_scratch)(const AttentionShape& shape, bool drops);
  Index (*shared_sums)(const AttentionBackwardCall<T>& call);
  void (*find_deltas)(const AttentionBackwardCall<T>& call, Index b, Index h, Range rows, T* to);
  void (*attend_backward)(const AttentionBackwardCall<T>& call, const BackwardTask<T>& task,
                          T* scratch);
};

template <class T>
struct StatisticsKernels {  // statistics/weights.inl, statistics/contributions.inl
  Index (*measure_scratch)(const AttentionShape& shape);
  void (*measure_rows)(const AttentionStatisticsCall<T>& call, const RowTask& task, T* scratch);
  Index (*contribute_scratch)(Index E);
  void (*contribute)(const ContributionCall<T>& call, Index b, Index h, T* scratch,
                     Contributions& to);
  void (*merge_contributions)(const Contributions& from, Index E, Contributions& to);
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
