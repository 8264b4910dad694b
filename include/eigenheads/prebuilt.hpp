// SPDX-License-Identifier: MIT
#pragma once
// For programs of many translation units: declares that the kernels, and the layers and functions
// that call them, are compiled elsewhere in the program, once, for float and double. The CMake target
// eigenheads::prebuilt is a library that holds them; who links it includes this before every unit.
// Without CMake, include this in all units (-include eigenheads/prebuilt.hpp), and in one of them
// define EIGENHEADS_PREBUILT_SOURCE before.
//   A unit whose flags give another namespace (version.hpp) finds nothing there: it compiles its own,
// if it is told which namespace is there. EIGENHEADS_PREBUILT_KNOWN says that it is, and the macro
// EIGENHEADS_PREBUILT_<namespace> which. The target sees to both.
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

#define EIGENHEADS_PREBUILT_JOIN(first, second) first##second
#define EIGENHEADS_PREBUILT_HAS(space) EIGENHEADS_PREBUILT_JOIN(EIGENHEADS_PREBUILT_, space)
#if !defined(EIGENHEADS_PREBUILT_SOURCE) && \
    (!defined(EIGENHEADS_PREBUILT_KNOWN) || EIGENHEADS_PREBUILT_HAS(EIGENHEADS_ABI))
#define EIGENHEADS_KERNELS_ARE_ELSEWHERE
#endif

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/eigenheads.hpp>  // all that is declared here
#include <eigenheads/key_values.hpp>  // members of MultiHeadAttention, which is instantiated whole
#include <eigenheads/kv_cache.hpp>
#if defined(EIGENHEADS_PREBUILT_SOURCE) || defined(EIGENHEADS_KERNELS_ARE_ELSEWHERE)
#include <eigenheads/kernels/nn/chosen.hpp>  // nn_kernels
#endif

// DECLARE is `template` in the one unit, and `extern template` in the others.
#define EIGENHEADS_PREBUILT_SCORES(DECLARE, T, Score)            \
  DECLARE ScoreForward<T> score_forward<T, Score>(const Score&); \
  DECLARE ScoreBackward<T> score_backward<T, Score>(const Score&);

#define EIGENHEADS_PREBUILT_ALL(DECLARE, T)                                                       \
  namespace eigenheads::inline EIGENHEADS_ABI {                                                   \
  DECLARE class Linear<T>;                                                                        \
  DECLARE class Rotary<T>;                                                                        \
  DECLARE class MultiHeadAttention<T>;                                                            \
  DECLARE class DotProductAttention<T>;                                                           \
  DECLARE class HeadImportance<T>;                                                                \
  DECLARE AttentionResult<T> merge_attention<T>(const AttentionResult<T>&,                        \
                                                const AttentionResult<T>&);                       \
  DECLARE MultiHeadAttention<T> prune_heads<T>(const MultiHeadAttention<T>&,                      \
                                               const std::vector<Index>&);                        \
  namespace detail {                                                                              \
  DECLARE class HeadGates<T>;                                                                     \
  DECLARE class StepCalls<T>;                                                                     \
  DECLARE class KeyValueCalls<T>;                                                                 \
  DECLARE ProjectionKernels<T> projection_kernels<T>();                                           \
  DECLARE RotaryKernels<T> rotary_kernels<T>();                                                   \
  DECLARE AttentionKernels<T> attention_kernels<T>();                                             \
  DECLARE AttentionPartKernels<T> attention_part_kernels<T>();                                    \
  DECLARE const StoredKernels<T>* stored_kernels<T>(StoredAs);                                    \
  DECLARE BackwardKernels<T> backward_kernels<T>();                                               \
  DECLARE StatisticsKernels<T> statistics_kernels<T>();                                           \
  DECLARE ElementaryKernels<T> elementary_kernels<T>();                                           \
  DECLARE NnKernels<T> nn_kernels<T>();                                                           \
  DECLARE RowKernels<T> row_kernels<T>();                                                         \
  DECLARE AdditiveKernels<T> additive_kernels<T>();                                               \
  EIGENHEADS_PREBUILT_SCORES(DECLARE, T, Softcap<T>)                                              \
  EIGENHEADS_PREBUILT_SCORES(DECLARE, T, ScoreBias<T>)                                            \
  EIGENHEADS_PREBUILT_SCORES(DECLARE, T, Alibi<T>)                                                \
  DECLARE void project<T>(const ProjectCall<T>&, const ProjectedPart&, Context&);                 \
  DECLARE void rotate<T>(const RotateCall<T>&, Context&);                                         \
  DECLARE void attend<T>(AttentionCall<T>, Context&);                                             \
  DECLARE void attend_packed<T>(AttentionCall<T>, Context&);                                      \
  DECLARE void attend_backward<T>(const AttentionBackwardCall<T>&, Context&);                     \
  DECLARE void attend_backward_packed<T>(const AttentionBackwardCall<T>&, Context&);              \
  DECLARE void attend_into<T>(AttentionResult<T>&, const AttentionInputs<T>&, const Mask&,        \
                              const AttentionOptions<T>&, Context&);                              \
  DECLARE void attend_into<T>(TensorSpan<T, 4>, const AttentionInputs<T>&, const Mask&,           \
                              const AttentionOptions<T>&, Context&);                              \
  DECLARE AttentionGradients<T> attend_backward_checked<T>(TensorView<T, 4>,                      \
                                                           const AttentionInputs<T>&,             \
                                                           const AttentionResult<T>&,             \
                                                           const CheckedAttention<T>&, Context&); \
  DECLARE LayerCall<T> checked_call<T>(const LayerParts<T>&, Index, Index, const LayerInputs<T>&, \
                                       const Mask&);                                              \
  DECLARE void run_layer<T>(const LayerParts<T>&, const LayerCall<T>&, const LayerOutput<T>&,     \
                            Context&);                                                            \
  DECLARE void train_layer<T>(const LayerParts<T>&, const LayerCall<T>&, const Mask&,             \
                              const DropoutMask<T>&, LayerActivations<T>&, T*, Context&);         \
  DECLARE void fit_gradients<T>(const LayerParts<T>&, const LayerActivations<T>&,                 \
                                LayerGradients<T>&, bool);                                        \
  DECLARE void run_layer_backward<T>(const LayerParts<T>&, const LayerActivations<T>&,            \
                                     TensorView<T, 3>, LayerGradients<T>&, bool, Context&);       \
  }                                                                                               \
  }

#if defined(EIGENHEADS_PREBUILT_SOURCE)
EIGENHEADS_PREBUILT_ALL(template, float)
EIGENHEADS_PREBUILT_ALL(template, double)
#elif defined(EIGENHEADS_KERNELS_ARE_ELSEWHERE)
EIGENHEADS_PREBUILT_ALL(extern template, float)
EIGENHEADS_PREBUILT_ALL(extern template, double)
#endif

#include <eigenheads/detail/macros_on.inl>
