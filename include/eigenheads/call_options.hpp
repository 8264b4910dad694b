// SPDX-License-Identifier: MIT
#pragma once
// What may follow the mask in a call of a layer, all of it optional; a context may stand alone:
//   layer(x, x, x, mask, context);
//   layer(x, x, x, mask, {.score = Softcap(30.0f), .context = context});
//   layer.forward(x, x, x, mask, saved, {.seed = DropoutSeed{step}});
#include <optional>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>    // DropoutSeed
#include <eigenheads/score_ref.hpp>  // ScoreRef, TrainableScoreRef

namespace eigenheads::inline EIGENHEADS_ABI {

// A reference to a context; to the calling thread's own if none is named.
class ContextRef {
 public:
  ContextRef() = default;
  ContextRef(Context& context) : context_(&context) {}  // NOLINT: implicit
  [[nodiscard]] Context& get() const { return context_ == nullptr ? default_context() : *context_; }

 private:
  Context* context_ = nullptr;
};

// Options refer to a score function and a context: in a variable of this type, a function that is made
// in its initialiser is gone when the next line begins.
template <class T>
struct CallOptions {
  ScoreRef<T> score{};  // between the scaled scores and the softmax (score.hpp)
  ContextRef context{};
};

// As CallOptions, of forward: the score function needs a derivative, and dropout a seed.
template <class T>
struct TrainingOptions {
  TrainableScoreRef<T> score{};
  std::optional<DropoutSeed> seed{};  // which weights are dropped
  ContextRef context{};
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
