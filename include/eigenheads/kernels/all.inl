// SPDX-License-Identifier: MIT
// The kernels for one instruction set, in the order in which they build on each other. Included by
// targets.hpp inside a namespace, after the file of that set's register.
// clang-format off
#include <eigenheads/kernels/math.inl>
#include <eigenheads/kernels/panels.inl>
#include <eigenheads/kernels/tile.inl>
#include <eigenheads/kernels/matmul.inl>
#include <eigenheads/kernels/softmax.inl>
#include <eigenheads/kernels/rows.inl>
#include <eigenheads/kernels/attention.inl>
#include <eigenheads/kernels/linear_backward.inl>
#include <eigenheads/kernels/attention_backward.inl>
#include <eigenheads/kernels/attention_statistics.inl>
#include <eigenheads/kernels/contributions.inl>
// clang-format on

// The doors of this namespace: what code that is compiled for another instruction set may call.
struct Kernels {
  template <class T>
  static constexpr Index width = panel_width<T>;
  template <class T>
  static constexpr Index keys_a_block = key_block<T>;
  static constexpr Index rows_a_tile = tile_rows;

  template <class T>
  static void pack_rows(const T* matrix, Index stride, Index begin, Index end, Index depth,
                        T* panels) {
    pack_panels(matrix, stride, begin, end, depth, panels);
  }
  template <class T>
  static bool pack_values(const T* matrix, Index stride, Index rows, Index columns, T* panels,
                          Index panel_stride) {
    return pack_columns(matrix, stride, rows, columns, panels, panel_stride);
  }
  template <class T>
  static void multiply(const T* x, std::span<const RowPiece> pieces,
                       std::span<const RowPiece> inputs, const T* panels, Index depth,
                       Index columns, const T* bias, Index panel_begin, Index panel_end,
                       const HeadLayout<T>& y, T* scratch) {
    matmul(x, pieces, inputs, panels, depth, columns, bias, panel_begin, panel_end, y, scratch);
  }
  // y[i] = e^x[i] for x[i] <= 0, and ln x[i].
  template <class T>
  static void exp_nonpositive(const T* x, T* y, Index count) {
    constexpr Index S = Register<T>::width;
    for (Index i = 0; i < count; i += S) {
      T lanes[S] = {};
      std::copy_n(x + i, (std::min)(S, count - i), lanes);
      store(lanes, exp_register(load(lanes)));
      std::copy_n(lanes, (std::min)(S, count - i), y + i);
    }
  }
  template <class T>
  static void log(const T* x, T* y, Index count) {
    for (Index i = 0; i < count; ++i) y[i] = natural_log(x[i]);
  }

  // Elements of scratch memory that a task takes.
  template <class T>
  static Index task_size(const AttentionCall<T>& call, bool packs_itself) {
    RowBlock<T> block;
    return lay_out<T>(block, call.shape, packs_itself, call.weights != nullptr, nullptr);
  }
  template <class T>
  static void attend(const AttentionCall<T>& call, const RowsOf& which, const PackedHead<T>& packed,
                     T* scratch) {
    RowBlock<T> rows;
    lay_out(rows, call.shape, packed.keys == nullptr, call.weights != nullptr, scratch);
    rows.count = which.count;
    attend_rows(call, which, rows, packed);
  }
  // The same in two steps: every block of keys by itself, then all of them.
  template <class T>
  static Index partial_elements(const AttentionCall<T>& call) {
    return partial_size<T>(call.shape);
  }
  template <class T>
  static void attend_block_alone(const AttentionCall<T>& call, const RowsOf& which, Index number,
                                 T* partial, T* scratch) {
    RowBlock<T> rows;
    lay_out(rows, call.shape, true, false, scratch);
    rows.count = which.count;
    attend_one_block(call, which, rows, number, partial);
  }
  template <class T>
  static void merge(const AttentionCall<T>& call, const RowsOf& which, const T* partials,
                    T* scratch) {
    RowBlock<T> rows;
    lay_out(rows, call.shape, true, false, scratch);
    rows.count = which.count;
    merge_blocks(call, which, rows, partials);
  }

  template <class T>
  static Index backward_size(const AttentionShape& shape, bool drops) {
    BackwardScratch<T> layout;
    return lay_out(layout, shape, drops, static_cast<T*>(nullptr));
  }
  template <class T>
  static void attend_backward(const AttentionBackwardCall<T>& call, Index b, Index g, T* scratch) {
    BackwardScratch<T> layout;
    lay_out(layout, call.shape, call.dropout != nullptr, scratch);
    backward_task(call, b, g, layout);
  }

  template <class T>
  static Index statistics_size(const AttentionShape& shape) {
    RowBlock<T> rows;
    return lay_out<T>(rows, shape, true, false, nullptr);
  }
  template <class T>
  static void measure(const AttentionStatisticsCall<T>& call, const RowsOf& which, T* scratch) {
    RowBlock<T> rows;
    lay_out(rows, call.attention.shape, true, false, scratch);
    rows.count = which.count;
    measure_rows(call, which, rows);
  }
  template <class T>
  static Index contribution_size(Index E) {
    ContributionScratch<T> layout;
    return lay_out(layout, E, static_cast<T*>(nullptr));
  }
  template <class T>
  static void contribute_to(const ContributionCall<T>& call, Index b, Index h, T* scratch,
                            Contributions& to) {
    ContributionScratch<T> layout;
    lay_out(layout, call.E, scratch);
    contribute(call, b, h, layout, to);
  }
  static void merge_contributions(const Contributions& from, Index E, Contributions& to) {
    add_contributions(from, E, to);
  }

  static constexpr Index outputs_a_task = gradient_outputs;
  static constexpr Index turned_block = gradient_rows * gradient_outputs;
  template <class T>
  static void turn(const T* panels, Index out, Index in, Index begin, Index end, T* across) {
    turn_panels(panels, out, in, begin, end, across);
  }
  template <class T>
  static void multiply_weights(const T* dy, Index stride, std::span<const Index> rows, const T* x,
                               Index first, Index outputs, Index panel_begin, Index panel_end,
                               T* block, T* sums, T* bias) {
    multiply_turned(dy, stride, rows, x, first, outputs, panel_begin, panel_end, block, sums, bias);
  }

  template <class T, class Score>
  static void take_back(const void* score, T* scores, T* slopes, Index begin, Index end,
                        const ScorePosition& at) {
    std::fill(slopes + begin, slopes + end, T(1));
    apply_score_turned(*static_cast<const Score*>(score), scores, slopes, begin, end, at);
  }

  // Compiles a loop in plain C++ for this instruction set, as far as the compiler inlines it: its
  // bits must not depend on that.
  template <class Body>
  [[gnu::flatten]] static void run(const Body& body) {
    body();
  }

  template <class T, class Score>
  static void take_through(const void* score, T* scores, Index begin, Index end,
                           const ScorePosition& at) {
    apply_score(*static_cast<const Score*>(score), scores, begin, end, at);
  }

  // (o, lse) of the keys of both: o = (o1 e^(lse1 - m) + o2 e^(lse2 - m)) / (their factors' sum).
  template <class T>
  static void merge_row(const T* o1, T lse1, const T* o2, T lse2, Index V, T* o, T& lse) {
    // The larger first, so that the order of the two makes no difference.
    if (lse2 > lse1) {
      std::swap(o1, o2);
      std::swap(lse1, lse2);
    }
    if (detail::is_negative_infinity(lse2)) {  // nothing to add: not even if both are
      std::copy_n(o1, V, o);
      lse = lse1;
      return;
    }
    const T second = exp_difference(lse2, lse1), sum = T(1) + second, reciprocal = T(1) / sum;
    for (Index v = 0; v < V; ++v) o[v] = std::fma(second, o2[v], o1[v]) * reciprocal;
    lse = lse1 + natural_log(sum);
  }
};
