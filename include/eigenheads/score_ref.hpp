// SPDX-License-Identifier: MIT
#pragma once
// A score function without its type: what the doors take, so that they are ordinary functions.
#include <array>
#include <concepts>
#include <memory>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/kernels/loops.hpp>  // score_forward, score_backward
#include <eigenheads/score.hpp>          // ScoreFunction, PlainScore, ScoreBias, last_bias

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// What is done with a score function whose type is known. The last three are null where it cannot
// be trained through.
template <class T>
struct ScoreTable {
  void (*require_fits)(const void* score, const std::array<Index, 4>& call);
  ScoreForward<T> (*forward)(const void* score);
  ScoreBackward<T> (*backward)(const void* score);
  const ScoreBias<T>* (*last_bias)(const void* score);
  std::shared_ptr<const void> (*copy)(const void* score);
};

template <class Score, class T>
concept TrainableScore =
    std::copy_constructible<Score> &&
    (AddsToScore<Score> ||
     requires(const Score& score, T value, ScorePosition at) { score.derivative(value, at); });

template <class T, class Score>
[[nodiscard]] constexpr ScoreTable<T> score_table() {
  ScoreTable<T> table{};
  table.require_fits = [](const void* score, const std::array<Index, 4>& call) {
    if constexpr (requires(const Score& s) { s.require_fits(call); })
      static_cast<const Score*>(score)->require_fits(call);
  };
  table.forward = [](const void* score) {
    return score_forward<T>(*static_cast<const Score*>(score));
  };
  if constexpr (TrainableScore<Score, T>) {
    table.backward = [](const void* score) {
      return score_backward<T>(*static_cast<const Score*>(score));
    };
    table.last_bias = [](const void* score) -> const ScoreBias<T>* {
      return last_bias<T>(*static_cast<const Score*>(score));
    };
    table.copy = [](const void* score) -> std::shared_ptr<const void> {
      return std::make_shared<const Score>(*static_cast<const Score*>(score));
    };
  }
  return table;
}
template <class T, class Score>
inline constexpr ScoreTable<T> score_table_of = score_table<T, Score>();

}  // namespace detail

// Like std::string_view it does not own: the function must outlive it. One that is made in the
// argument list of a call outlives the call; a forward pass in training keeps a copy.
template <class T>
class ScoreRef {
 public:
  ScoreRef() = default;           // the score itself, and so is
  ScoreRef(const PlainScore&) {}  // NOLINT: implicit, as the next

  template <class Score>
  requires(!std::derived_from<Score, ScoreRef>)
  ScoreRef(const Score& score)  // NOLINT: implicit, for {.score = Softcap(30.0f)}
      : score_(&score) {
    detail::require_score_function<Score, T>();
    if constexpr (ScoreFunction<Score, T>) table_ = &detail::score_table_of<T, Score>;
  }

  [[nodiscard]] bool is_plain() const { return table_ == nullptr; }

  // Throws std::invalid_argument if the function holds a tensor that does not fit [B, H, Q, K].
  void require_fits(const std::array<Index, 4>& call) const {
    if (!is_plain()) table_->require_fits(score_, call);
  }
  // Throws std::invalid_argument unless it only adds or has a derivative.
  void require_trainable() const {
    if (!is_plain() && table_->backward == nullptr)
      detail::refuse(
          {"this score function is for inference; to train through it, give it a member "
           "T derivative(T score, ScorePosition) const, or static constexpr bool adds = true if "
           "all it does is to add to the score"});
  }

  // For the kernels.
  [[nodiscard]] detail::ScoreForward<T> forward() const {
    return is_plain() ? detail::ScoreForward<T>{} : table_->forward(score_);
  }
  [[nodiscard]] detail::ScoreBackward<T> backward() const {
    return is_plain() ? detail::ScoreBackward<T>{} : table_->backward(score_);
  }
  // The ScoreBias that is added last, whose gradient is that of the scores; null without one.
  [[nodiscard]] const ScoreBias<T>* last_bias() const {
    return is_plain() ? nullptr : table_->last_bias(score_);
  }

  // A reference to a copy, which `owner` keeps alive.
  [[nodiscard]] ScoreRef copy(std::shared_ptr<const void>& owner) const {
    ScoreRef result;
    owner = is_plain() ? nullptr : table_->copy(score_);
    result.table_ = table_;
    result.score_ = owner.get();
    return result;
  }

 private:
  const void* score_ = nullptr;
  const detail::ScoreTable<T>* table_ = nullptr;
};

// A ScoreRef that a call in training takes: one for inference alone does not compile.
template <class T>
class TrainableScoreRef : public ScoreRef<T> {
 public:
  TrainableScoreRef() = default;
  template <class Score>
  requires(!std::derived_from<Score, ScoreRef<T>>)
  TrainableScoreRef(const Score& score) : ScoreRef<T>(score) {  // NOLINT: implicit
    static_assert(!ScoreFunction<Score, T> || detail::TrainableScore<Score, T>,
                  "This score function is for inference. To train through it, give it a member "
                  "`T derivative(T score, ScorePosition) const`, or `static constexpr bool adds = "
                  "true` if all it does is to add to the score.");
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
