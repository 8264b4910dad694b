// SPDX-License-Identifier: MIT
#pragma once
// Beam search: of all texts that go on from the best ones so far, the best again.
//   BeamSearch search(B, {.num_beams = 4, .stop_ids = {eos}, .max_length = 50});
//   search.advance(log_probs);          // [B * num_beams, V]: of the prompts, in rows b * num_beams
//   while (!search.is_done()) {
//     cache.reorder(search.parents());  // every row goes on from where its parent was
//     search.advance(log_softmax(model(search.tokens(), search.sequences())));
//   }
//   std::vector<Index> text = search.ids(b);
// A text of L tokens is ranked by its score, log P / L^a, with a the length penalty: 0 ranks by
// probability alone, which prefers short texts (Dive into Deep Learning, section 10.8, has a = 0.75).
// A text that has ended stays among the beams as long as it is among the best. Of equal scores the
// lower parent's is the better one, and then that of the lower id. In double, one sum a token: the
// same beams whatever the batch.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // infinity, is_finite, is_nan
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/elementary.hpp>  // exp, log
#include <eigenheads/sequences.hpp>   // Sequences
#include <eigenheads/shape.hpp>       // require_shape
#include <eigenheads/tensor.hpp>      // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

struct BeamSearchOptions {
  Index num_beams = 1;
  double length_penalty = 0;
  std::vector<Index> stop_ids{};  // a text ends with the first of them, which belongs to it
  // Tokens; 0: of any length. (By a penalty of more than 1 the longest may be the best without end.)
  Index max_length = 0;
};

// A text, by its last token and what it goes on from. A search ends as soon as no other text of the
// sequence can become better than the best: those of higher ranks may be cut off there.
struct Beam {
  static constexpr double none = -detail::infinity<double>;

  double log_probability = none;  // of all its tokens; `none`: there is no such text
  double score = none;
  Index length = 0;        // tokens
  Index parent = 0;        // row of the step before, of [B * num_beams]
  Index token = -1;        // -1: the parent itself, which had ended
  bool has_ended = false;  // no token follows

  [[nodiscard]] bool goes_on() const { return log_probability > none && !has_ended; }
};

namespace detail {

// length^penalty.
[[nodiscard]] inline double length_power(Index length, double penalty) {
  if (penalty == 0) return 1;
  double power = static_cast<double>(length);
  log(std::span<const double>(&power, 1), {&power, 1});
  power *= penalty;
  exp(std::span<const double>(&power, 1), {&power, 1});
  return power;
}

// The best so far, the best first. An equal one that comes later is worse.
class BestBeams {
 public:
  explicit BestBeams(std::span<Beam> beams) : beams_(beams) {}

  [[nodiscard]] bool takes(double score) const {
    return score > (count_ < beams_.size() ? Beam::none : beams_.back().score);
  }
  void add(const Beam& beam) {
    if (!takes(beam.score)) return;
    if (count_ < beams_.size()) ++count_;
    std::size_t at = count_ - 1;
    for (; at > 0 && beam.score > beams_[at - 1].score; --at) beams_[at] = beams_[at - 1];
    beams_[at] = beam;
  }
  // Where there are not so many texts, there is none.
  void fill(Index parent) {
    for (; count_ < beams_.size(); ++count_) beams_[count_] = {.parent = parent};
  }

 private:
  std::span<Beam> beams_;
  std::size_t count_ = 0;
};

template <Scalar T>
void require_log_probs(TensorView<T, 2> log_probs, std::span<const Beam> beams) {
  require_shape("log_probs", log_probs, "[B * num_beams, vocabulary]",
                {std::ssize(beams), any_size});
  const Index V = log_probs.dimension(1);
  for (Index row = 0; row < std::ssize(beams); ++row) {
    if (!beams[static_cast<std::size_t>(row)].goes_on()) continue;
    for (Index id = 0; id < V; ++id) {
      const T& x = log_probs.data()[row * V + id];
      if (!is_nan(x) && !(x > 0)) continue;
      refuse({"log_probs[", row, ", ", id, "] is ", number_text(static_cast<double>(x)),
              "; expected the logarithm of a probability, 0 or less"});
    }
  }
}

}  // namespace detail

// One step. log_probs: [B * num_beams, vocabulary]; beams, of the step before, and next: B * num_beams,
// which do not overlap. Only the rows of beams that go on are read. O(B num_beams vocabulary), or for
// texts that get better and better num_beams times that. Throws std::invalid_argument, before anything
// is written, for another shape, NaN, or numbers above 0.
template <TensorOfRank<2> LogProbs>
void next_beams(std::span<Beam> next, const LogProbs& log_probs, std::span<const Beam> beams,
                const BeamSearchOptions& options) {
  using T = element_of<LogProbs>;
  const TensorView<T, 2> view(log_probs);
  const Index V = view.dimension(1), n = options.num_beams;
  detail::require_log_probs(view, beams);
  if (n < 1 || std::ssize(beams) % n != 0 || next.size() != beams.size())
    detail::refuse({"next_beams: there are ", beams.size(), " beams and ", next.size(),
                    " next ones; expected as many, num_beams = ", n, " a sequence"});
  for (Index first = 0; first < std::ssize(beams); first += n) {
    detail::BestBeams best(
        next.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)));
    for (Index row = first; row < first + n; ++row) {
      Beam beam = beams[static_cast<std::size_t>(row)];
      beam.parent = row;
      beam.token = -1;
      if (!beam.goes_on()) {
        best.add(beam);
        continue;
      }
      const double so_far = beam.log_probability;
      const double power = detail::length_power(++beam.length, options.length_penalty);
      const T* const x = view.data() + row * V;
      for (Index id = 0; id < V; ++id) {
        beam.log_probability = so_far + static_cast<double>(x[id]);
        beam.score = beam.log_probability / power;
        if (!best.takes(beam.score)) continue;
        beam.token = id;
        beam.has_ended = std::ranges::find(options.stop_ids, id) != options.stop_ids.end();
        best.add(beam);
      }
    }
    best.fill(first);
  }
}

// Whether no text that goes on can still become better than the first of `beams`, those of one
// sequence: tokens only take from its probability.
[[nodiscard]] inline bool is_decided(std::span<const Beam> beams,
                                     const BeamSearchOptions& options) {
  const double penalty = options.length_penalty;
  return std::ranges::none_of(beams, [&](const Beam& beam) {
    if (!beam.goes_on()) return false;
    if (options.max_length > 0 && beam.length >= options.max_length) return false;
    if (!beams.front().has_ended) return true;
    if (penalty > 0 && options.max_length == 0) return true;  // it comes as near to 0 as one waits
    const Index length = penalty > 0 ? options.max_length : beam.length + 1;
    return beam.log_probability / detail::length_power(length, penalty) > beams.front().score;
  });
}

// A search for B texts at once, one for each sequence, which keeps what its steps chose.
class BeamSearch {
 public:
  // In the beginning each sequence has one text, that of no tokens, in its first row. Throws
  // std::invalid_argument for invalid options.
  BeamSearch(Index B, BeamSearchOptions options) : options_(std::move(options)) {
    const Index n = options_.num_beams;
    if (B < 0) detail::refuse({"BeamSearch: B is ", B, "; expected 0 or more"});
    if (n < 1) detail::refuse({"BeamSearch: num_beams is ", n, "; expected 1 or more"});
    if (options_.max_length < 0)
      detail::refuse({"BeamSearch: max_length is ", options_.max_length,
                      "; expected 1 or more, or 0 for any length"});
    if (!detail::is_finite(options_.length_penalty))
      detail::refuse({"BeamSearch: length_penalty is ",
                      detail::number_text(options_.length_penalty), "; expected a finite number"});
    // The power of any length is a number.
    if (std::abs(options_.length_penalty) > 32)
      detail::refuse({"BeamSearch: length_penalty is ",
                      detail::number_text(options_.length_penalty), "; expected -32 to 32"});
    detail::require_size<Beam>("the beams of BeamSearch", std::array{B, n});
    beams_.resize(static_cast<std::size_t>(B * n));
    for (Index b = 0; b < B; ++b)
      for (Index rank = 0; rank < n; ++rank) {
        const double number = rank == 0 ? 0 : Beam::none;
        beams_[static_cast<std::size_t>(b * n + rank)] = {
            .log_probability = number, .score = number, .parent = b * n};
      }
    next_ = beams_;
  }

  // log_probs: [B * num_beams, vocabulary]; rows that bring no token are not read. A call that is
  // refused changes nothing.
  template <TensorOfRank<2> LogProbs>
  void advance(const LogProbs& log_probs) {
    next_beams(std::span(next_), log_probs, std::span<const Beam>(beams_), options_);
    std::vector<std::pair<Index, Index>> step;
    step.reserve(next_.size());
    for (const Beam& beam : next_) step.emplace_back(beam.parent, beam.token);
    steps_.push_back(std::move(step));
    beams_.swap(next_);
    for (Index b = 0; b < count(); ++b)
      if (is_decided(beams(b), options_))
        for (Index row = b * options_.num_beams; row < (b + 1) * options_.num_beams; ++row)
          beams_[static_cast<std::size_t>(row)].has_ended = true;
  }

  [[nodiscard]] const BeamSearchOptions& options() const { return options_; }
  [[nodiscard]] Index count() const { return std::ssize(beams_) / options_.num_beams; }
  // Of sequence b, the best first. Throws std::invalid_argument if there is none such.
  [[nodiscard]] std::span<const Beam> beams(Index b) const {
    if (b < 0 || b >= count())
      detail::refuse({"BeamSearch: there is no sequence ", b, "; there are ", count()});
    return std::span(beams_).subspan(static_cast<std::size_t>(b * options_.num_beams),
                                     static_cast<std::size_t>(options_.num_beams));
  }
  [[nodiscard]] bool is_done(Index b) const {
    return std::ranges::none_of(beams(b), [](const Beam& beam) { return beam.goes_on(); });
  }
  [[nodiscard]] bool is_done() const {
    for (Index b = 0; b < count(); ++b)
      if (!is_done(b)) return false;
    return true;
  }

  // [B * num_beams]: which row each row goes on from.
  [[nodiscard]] std::vector<Index> parents() const {
    std::vector<Index> parents;
    parents.reserve(beams_.size());
    for (const Beam& beam : beams_) parents.push_back(beam.parent);
    return parents;
  }
  // What the model is given next: the last token of each row that goes on, and none of the others.
  [[nodiscard]] std::vector<Index> tokens() const {
    std::vector<Index> tokens;
    for (Index row = 0; row < std::ssize(beams_); ++row)
      if (brings_token(row)) tokens.push_back(beams_[static_cast<std::size_t>(row)].token);
    return tokens;
  }
  [[nodiscard]] Sequences sequences() const {
    std::vector<Index> lengths;
    for (Index row = 0; row < std::ssize(beams_); ++row)
      lengths.push_back(brings_token(row) ? 1 : 0);
    return lengths;
  }

  // The text of sequence b that is the best but `rank` others. Throws std::invalid_argument if there
  // are not so many that have a probability.
  [[nodiscard]] std::vector<Index> ids(Index b, Index rank = 0) const {
    if (b < 0 || b >= count() || rank < 0 || rank >= options_.num_beams)
      detail::refuse({"BeamSearch: there is no text ", rank, " of sequence ", b, "; there are ",
                      options_.num_beams, " of ", count()});
    std::vector<Index> ids;
    Index row = b * options_.num_beams + rank;
    if (!(beams_[static_cast<std::size_t>(row)].log_probability > Beam::none))
      detail::refuse({"BeamSearch: text ", rank, " of sequence ", b, " has probability 0"});
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      const auto [parent, token] = (*step)[static_cast<std::size_t>(row)];
      if (token >= 0) ids.push_back(token);
      row = parent;
    }
    std::ranges::reverse(ids);
    return ids;
  }

 private:
  [[nodiscard]] bool brings_token(Index row) const {
    const Beam& beam = beams_[static_cast<std::size_t>(row)];
    return beam.goes_on() && beam.token >= 0;
  }

  BeamSearchOptions options_;
  std::vector<Beam> beams_, next_;
  std::vector<std::vector<std::pair<Index, Index>>> steps_;  // (parent, token) of each row
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
