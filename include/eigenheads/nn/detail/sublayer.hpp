// SPDX-License-Identifier: MIT
#pragma once
// A sublayer f of a transformer, between its norm and its residual:
//   y = norm(x + F f(x))     norm last: Vaswani et al., "Attention Is All You Need", 2017, section 3.1
//   y = x + F f(norm(x))     norm first: Xiong et al., "On Layer Normalization in the Transformer
//                            Architecture", 2020
// F drops elements in training (section 5.4 of the former). It is a function of the step, the
// sublayer and the place, (sequence, row, feature), alone: the same padded or packed, on any number
// of threads.
#include <algorithm>
#include <cstring>
#include <string_view>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // blocks_of
#include <eigenheads/detail/saved_sequences.hpp>  // SavedSequences
#include <eigenheads/detail/sequence_rows.hpp>    // SequenceRows
#include <eigenheads/detail/work.hpp>             // multiply_adds_per_packed, product
#include <eigenheads/dropout.hpp>                 // DropoutMask, DropoutSeed
#include <eigenheads/kernels/loops.hpp>           // run_on_this_cpu
#include <eigenheads/nn/layer_norm.hpp>           // Norm, NormGradients
#include <eigenheads/random.hpp>                  // random_bits, random_stream, undrawn

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// The seed of a part of a module, or of its step, from the whole one's: parts that are alike draw
// other numbers.
[[nodiscard]] constexpr std::uint64_t part_seed(std::uint64_t seed, std::string_view part) {
  return seed == undrawn ? undrawn : random_bits(seed, random_stream(part), 0);
}

// to = x + y. Any two may be the same.
template <class T>
void add_elements(const T* x, const T* y, T* to, Index count, Context& context) {
  constexpr Index chunk = 8192, line = 64 / Index{sizeof(T)};
  const auto threads =
      context.threads_for(multiply_adds_per_packed * floats_per<T> * product(count));
  context.parallel_for(blocks_of(count, chunk), threads, [&](Index task) {
    run_on_this_cpu([&, task] {
      Index i = task * chunk;
      const Index end = (std::min)(i + chunk, count);
      using Line [[gnu::vector_size(64)]] = T;
      for (; i + line <= end; i += line) {
        Line a, b;
        std::memcpy(&a, x + i, sizeof a);
        std::memcpy(&b, y + i, sizeof b);
        a += b;
        std::memcpy(to + i, &a, sizeof a);
      }
      for (; i < end; ++i) to[i] = x[i] + y[i];
    });
  });
}

// to = F x, for rows of `size` features. They may be the same.
template <class T>
void drop_elements(const DropoutMask<T>& dropout, const SequenceRows& rows, Index size, const T* x,
                   T* to, Context& context) {
  constexpr Index rows_per_task = 8, piece = 256;
  const Index total = rows.total();
  const auto threads = context.threads_for(multiply_adds_per_score * product(total, size));
  context.parallel_for(blocks_of(total, rows_per_task), threads, [&](Index task) {
    T factors[piece];
    const Index first = task * rows_per_task;
    for (Index row = first; row < (std::min)(first + rows_per_task, total); ++row) {
      const Index b = rows.sequence_of(row), at = row * size;
      for (Index i = 0; i < size; i += piece) {
        const Index n = (std::min)(piece, size - i);
        dropout.factors(b, 0, row - rows.begin(b), i, i + n, factors);
        for (Index j = 0; j < n; ++j) to[at + i + j] = x[at + i + j] * factors[j];
      }
    }
  });
}

// Sublayers one after the other, for inference: norms take the residuals in with their rows.
//   SublayerRun<T, Form> run(form, norm_first, x, frame, context);
//   run.step(norm1, f1);
//   run.last(norm2, f2, y);
// f(x, y) writes f of rows x to y, which is scratch memory. Nothing else is written before `last` has
// called f2, so that what the functions refuse leaves y as it was; y may be x.
template <class T, class Form>
class SublayerRun {
 public:
  SublayerRun(const Form& form, bool norm_first, const T* x, const Frame& frame, Context& context)
      : rows_(form.rows()),
        norm_first_(norm_first),
        x_(x),
        sum_(frame.template take<T>(form.elements())),
        output_(frame.template take<T>(form.elements())),
        normed_(norm_first ? frame.template take<T>(form.elements()) : nullptr),
        count_(form.elements()),
        context_(context) {}

  template <class Function>
  void step(const Norm<T>& norm, const Function& f) {
    run(norm, f, sum_);
    if (!norm_first_) x_ = sum_;
  }
  template <class Function>
  void last(const Norm<T>& norm, const Function& f, T* y) {
    run(norm, f, y);
    if (norm_first_) add_elements<T>(x_, output_, y, count_, context_);
  }

 private:
  // Norm first: x_ + output_, if there is an output yet, is what the sublayer gets.
  template <class Function>
  void run(const Norm<T>& norm, const Function& f, T* y) {
    if (!norm_first_) {
      f(x_, output_);
      norm.apply({.x = x_, .y = y, .rows = rows_, .residual = output_}, context_);
      return;
    }
    if (has_output_) {
      norm.apply({.x = x_, .y = normed_, .rows = rows_, .residual = output_, .sum = sum_},
                 context_);
      x_ = sum_;
    } else {
      norm.apply({.x = x_, .y = normed_, .rows = rows_}, context_);
    }
    f(static_cast<const T*>(normed_), output_);
    has_output_ = true;
  }

  Index rows_;
  bool norm_first_, has_output_ = false;
  const T* x_;
  T *sum_, *output_, *normed_;
  Index count_;
  Context& context_;
};

// What stands around f.
template <class T>
struct Sublayer {
  const Norm<T>& norm;
  bool norm_first;
  DropoutMask<T> dropout{};  // in training
};

// What backward needs of a sublayer besides what f keeps.
template <Scalar T>
struct SublayerActivations {
  Tensor<T, 2> normed{0, 0};  // what the norm was taken of
  DropoutMask<T> dropout;
};

// In training: f(x) returns f of rows x, as a tensor of their form. Nothing is saved before it has.
template <class T, class Form, class Function>
[[nodiscard]] Tensor<T, Form::rank> train_sublayer(const Sublayer<T>& of, const Form& form,
                                                   const T* x, const Function& f,
                                                   SublayerActivations<T>& saved,
                                                   Context& context) {
  const Index rows = form.rows();
  const auto save_and_drop = [&](T* output) {
    saved.dropout = of.dropout;
    resize("normed", saved.normed, {rows, form.size});
    if (saved.dropout.threshold == 0) return;
    const SavedSequences sequences = form.sequences();
    drop_elements<T>(saved.dropout, sequences.rows(), form.size, output, output, context);
  };
  if (!of.norm_first) {
    auto y = f(x);
    save_and_drop(y.data());
    of.norm.apply(
        {.x = x, .y = y.data(), .rows = rows, .residual = y.data(), .sum = saved.normed.data()},
        context);
    return y;
  }
  Tensor<T, 2> normed(rows, form.size);
  of.norm.apply({.x = x, .y = normed.data(), .rows = rows}, context);
  auto y = f(static_cast<const T*>(normed.data()));
  save_and_drop(y.data());
  std::copy_n(x, form.elements(), saved.normed.data());
  add_elements<T>(x, y.data(), y.data(), y.size(), context);
  return y;
}

// A call that was made, as its backward pass sees it.
struct SublayerBackward {
  const SavedSequences& sequences;
  Index size;
  bool accumulate;  // the gradients of parameters
  Context& context;
};

// f_backward(grad_output) gets the gradient of f's output, and gives that of its input. grad_y and
// grad_x, [rows, size], may be the same.
template <class T, class Function>
void sublayer_backward(const Sublayer<T>& of, const SublayerBackward& call,
                       const SublayerActivations<T>& saved, const T* grad_y, T* grad_x,
                       NormGradients<T>& norm_gradients, const Function& f_backward) {
  Context& context = call.context;
  const SequenceRows rows = call.sequences.rows();
  const Index count = rows.total() * call.size;
  const Frame frame(context);
  const auto undrop = [&](const T* grad) -> const T* {
    if (saved.dropout.threshold == 0) return grad;
    T* const dropped = frame.template take<T>(count);
    drop_elements<T>(saved.dropout, rows, call.size, grad, dropped, context);
    return dropped;
  };
  of.norm.fit(norm_gradients, call.accumulate);
  const auto norm_backward = [&](const T* grad, T* to, const T* added) {
    of.norm.backward(
        {.x = saved.normed.data(), .grad_y = grad, .sequences = rows, .grad_x = to, .added = added},
        norm_gradients, call.accumulate, context);
  };
  if (!of.norm_first) {
    T* const grad_sum = frame.template take<T>(count);
    norm_backward(grad_y, grad_sum, nullptr);
    add_elements<T>(grad_sum, f_backward(undrop(grad_sum)), grad_x, count, context);
    return;
  }
  norm_backward(f_backward(undrop(grad_y)), grad_x, grad_y);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
