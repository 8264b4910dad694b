// SPDX-License-Identifier: MIT
#pragma once
// Texts written token by token, a batch at a time, by any model that says what comes next:
//   auto texts = generate(model, prompts, {.sampling = {.temperature = 0.8}, .max_new_tokens = 100});
// model(ids, sequences) is given the tokens that are new to it, packed: the whole prompts first, then
// one token a sequence, and none of a sequence that has ended (its length is 0). It returns logits,
// [B, vocabulary], of what follows each sequence's last token; the rows of those that have ended are
// not read. What it remembers, as in a cache, is its own affair.
//   A sequence's text depends on its prompt, its number and the options alone: not on the batch.
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/nn/sampling.hpp>  // Sampler
#include <eigenheads/sequences.hpp>    // Sequences, require_rows
#include <eigenheads/shape.hpp>        // require_shape
#include <eigenheads/tensor.hpp>       // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Why a sequence has ended; of several reasons, the first here.
enum class StopReason { none, stop_id, max_new_tokens, condition };

struct GenerateOptions {
  SamplingOptions sampling{};
  Index max_new_tokens = 0;          // of each sequence, 1 or more
  std::vector<Index> stop_ids{};     // a sequence ends with the first of them that it writes
  std::uint64_t first_sequence = 0;  // the number of the first sequence of the batch
  // After each token: whether sequence b ends with this text, its prompt and what was written.
  std::function<bool(Index b, std::span<const Index> text)> stops{};
  // Told of each token as it is written: sequence b wrote this id.
  std::function<void(Index b, Index id)> on_token{};
};

template <class Model>
concept NextTokenModel =
    requires(Model& model, const TensorView<Index, 1>& ids, const Sequences& sequences) {
      { model(ids, sequences) } -> TensorOfRank<2>;
    };

// The loop, one step at a time. An exception of the model or of a refused draw (NaN) leaves it as it
// was before the step. One of on_token leaves it after the step: going on tells the others' tokens first,
// and none twice. One of `stops` too, which is asked again.
class Generation {
 public:
  // ids: [N], the prompts. Throws std::invalid_argument for an empty prompt, and for invalid options.
  Generation(TensorView<Index, 1> ids, const Sequences& prompts, GenerateOptions options)
      : options_(std::move(options)), sampler_(options_.sampling) {
    if (options_.max_new_tokens < 1)
      detail::refuse(
          {"generate: max_new_tokens is ", options_.max_new_tokens, "; expected 1 or more"});
    require_shape("prompts", ids, "[N]", {any_size});
    detail::require_rows("prompts", ids, prompts);
    for (Index b = 0; b < prompts.count(); ++b) {
      const Index* const first = ids.data() + prompts.begin(b);
      if (prompts.length(b) == 0)
        detail::refuse({"prompts: sequence ", b, " is empty; expected one token or more"});
      sequences_.push_back({{first, first + prompts.length(b)}, prompts.length(b)});
    }
    left_ = count();
  }

  [[nodiscard]] Index count() const { return std::ssize(sequences_); }
  [[nodiscard]] bool is_done() const { return left_ == 0 && told_ == std::ssize(new_); }
  [[nodiscard]] StopReason reason(Index b) const { return of(b).reason; }
  // The prompt and what was written so far, or the latter alone.
  [[nodiscard]] std::span<const Index> text(Index b) const { return of(b).text; }
  [[nodiscard]] std::span<const Index> new_ids(Index b) const {
    return text(b).subspan(static_cast<std::size_t>(of(b).prompt_length));
  }

  // Writes one token of each sequence that has not ended, and says whether any is left. The model is
  // not called when none is.
  template <NextTokenModel Model>
  bool step(Model&& model, Context& context = default_context()) {
    tell();
    if (left_ == 0) return false;
    const Sequences pending = collect();
    const auto& logits =
        model(TensorView<Index, 1>(pending_ids_.data(), {std::ssize(pending_ids_)}), pending);
    const TensorView<element_of<decltype(logits)>, 2> view(logits);
    require_shape("logits", view, "[B, vocabulary]", {count(), any_size});
    drawn_.resize(draws_.size());
    sampler_.sample_into(std::span(drawn_), view, std::span<const SamplingDraw>(draws_), context);
    write();
    tell();
    return left_ > 0;
  }

 private:
  struct Sequence {
    std::vector<Index> text;
    Index prompt_length = 0, known = 0;  // tokens that the model was given
    StopReason reason = StopReason::none;
  };

  [[nodiscard]] const Sequence& of(Index b) const {
    return sequences_[static_cast<std::size_t>(b)];
  }

  // The tokens that the model has not been given, and what is to be drawn after them. Room for one
  // more token, so that write() cannot fail.
  [[nodiscard]] Sequences collect() {
    pending_ids_.clear();
    draws_.clear();
    std::vector<Index> lengths;
    for (Index b = 0; b < count(); ++b) {
      Sequence& sequence = sequences_[static_cast<std::size_t>(b)];
      std::vector<Index>& text = sequence.text;
      if (sequence.reason != StopReason::none) {
        lengths.push_back(0);
        continue;
      }
      if (text.size() == text.capacity()) text.reserve(2 * text.size());
      pending_ids_.insert(pending_ids_.end(), text.begin() + sequence.known, text.end());
      lengths.push_back(std::ssize(text) - sequence.known);
      draws_.push_back({.row = b,
                        .sequence = options_.first_sequence + static_cast<std::uint64_t>(b),
                        .position = std::ssize(text),
                        .seen = text});
    }
    new_.reserve(draws_.size());
    return lengths;
  }

  void write() noexcept {
    new_.clear();
    for (std::size_t i = 0; i < draws_.size(); ++i) {
      Sequence& sequence = sequences_[static_cast<std::size_t>(draws_[i].row)];
      sequence.known = std::ssize(sequence.text);
      sequence.text.push_back(drawn_[i]);
      if (std::ranges::find(options_.stop_ids, drawn_[i]) != options_.stop_ids.end())
        end(sequence, StopReason::stop_id);
      else if (std::ssize(sequence.text) - sequence.prompt_length >= options_.max_new_tokens)
        end(sequence, StopReason::max_new_tokens);
      new_.push_back(draws_[i].row);
    }
    asked_ = told_ = 0;
  }

  void end(Sequence& sequence, StopReason reason) {
    sequence.reason = reason;
    --left_;
  }

  void tell() {
    for (; asked_ < std::ssize(new_); ++asked_) {
      const Index b = new_[static_cast<std::size_t>(asked_)];
      Sequence& sequence = sequences_[static_cast<std::size_t>(b)];
      if (options_.stops && sequence.reason == StopReason::none && options_.stops(b, sequence.text))
        end(sequence, StopReason::condition);
    }
    while (told_ < std::ssize(new_)) {
      const Index b = new_[static_cast<std::size_t>(told_++)];
      if (options_.on_token) options_.on_token(b, of(b).text.back());
    }
  }

  GenerateOptions options_;
  Sampler sampler_;
  std::vector<Sequence> sequences_;
  Index left_ = 0;  // sequences that have not ended
  // Of a step: what is drawn, and the sequences that wrote, of which so many were asked and told.
  std::vector<Index> pending_ids_, drawn_, new_;
  std::vector<SamplingDraw> draws_;
  Index asked_ = 0, told_ = 0;
};

// What a sequence wrote after its prompt, the stop id included, and why it ended.
struct GeneratedText {
  std::vector<Index> ids;
  StopReason reason = StopReason::none;
};

// All steps, until every sequence has ended. ids: [N], the prompts.
template <NextTokenModel Model>
[[nodiscard]] std::vector<GeneratedText> generate(Model&& model, TensorView<Index, 1> ids,
                                                  const Sequences& prompts,
                                                  const GenerateOptions& options,
                                                  Context& context = default_context()) {
  Generation generation(ids, prompts, options);
  while (generation.step(model, context)) {
  }
  std::vector<GeneratedText> texts;
  for (Index b = 0; b < generation.count(); ++b) {
    const std::span<const Index> written = generation.new_ids(b);
    texts.push_back({{written.begin(), written.end()}, generation.reason(b)});
  }
  return texts;
}
template <NextTokenModel Model>
[[nodiscard]] std::vector<GeneratedText> generate(Model&& model,
                                                  const std::vector<std::vector<Index>>& prompts,
                                                  const GenerateOptions& options,
                                                  Context& context = default_context()) {
  std::vector<Index> ids, lengths;
  for (const std::vector<Index>& prompt : prompts) {
    ids.insert(ids.end(), prompt.begin(), prompt.end());
    lengths.push_back(std::ssize(prompt));
  }
  return generate(model, TensorView<Index, 1>(ids.data(), {std::ssize(ids)}), Sequences(lengths),
                  options, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
