// SPDX-License-Identifier: MIT
// A cache under any steps, cuts, forks, reorderings and copies, between them calls that are refused,
// against lists of tokens: each row that a step gives has the bits of one causal call over the list.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/io/kv_cache.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/sequences.hpp>

#include "input.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index, eh::Sequences, eh::Tensor, eh::TensorView;
using Layer = eh::MultiHeadAttention<float>;
using Cache = eh::KvCache<float>;
using Lens = std::vector<Index>;

constexpr Index kSize = 4;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

const Layer& layer_of(Index which) {
  static const Layer layers[] = {
      support::make_layer<float>(kSize, {.num_hiddens = 4, .num_heads = 2, .bias = true}),
      support::make_layer<float>(
          kSize, {.num_hiddens = 4, .num_heads = 4, .num_kv_heads = 2, .head_size = 3}),
      support::make_layer<float>(kSize, {.num_hiddens = 4,
                                         .num_heads = 1,
                                         .head_size = 2,
                                         .sink_logits = true,
                                         .rotary = eh::RotaryOptions{.max_positions = 100'000}})};
  return layers[which];
}

// The row of a token: a function of its number.
void write_row(Index token, float* row) {
  support::Numbers numbers(static_cast<std::uint64_t>(token));
  for (Index i = 0; i < kSize; ++i) row[i] = numbers.symmetric<float>();
}

class Model {
 public:
  Model(const Layer& layer, const eh::KvCacheOptions& options)
      : layer_(layer),
        options_(options),
        cache_(std::in_place, options),
        tokens_(at(options.batch_size)),
        oldest_(tokens_.size(), 0) {}

  void run(fuzz::Input& input) {
    for (int operations = 0; !input.is_empty() && operations < 40; ++operations) {
      switch (input.between(0, 9)) {
        case 0:
          truncate(input);
          break;
        case 1:
          fork(input);
          break;
        case 2:
          reorder(input);
          break;
        case 3:
          copy(input);
          break;
        case 4:
          refuse(input);
          break;
        default:
          step(input);
      }
      check_lengths();
    }
  }

 private:
  [[nodiscard]] Index sequences() const { return options_.batch_size; }
  [[nodiscard]] Index length(Index b) const { return std::ssize(tokens_[at(b)]); }
  [[nodiscard]] Index shortest(Index b) const {
    return oldest_[at(b)] == 0 ? 0 : oldest_[at(b)] + options_.window - 1;
  }
  void check_lengths() const {
    for (Index b = 0; b < sequences(); ++b)
      fuzz::require(cache_->length(b) == length(b) && cache_->shortest(b) == shortest(b),
                    "another length");
  }

  void truncate(fuzz::Input& input) {
    const Index b = input.between(0, sequences() - 1), cut = input.between(-1, length(b) + 1);
    const bool is_cut =
        fuzz::succeeds<std::invalid_argument>([&] { return cache_->truncate(b, cut), 0; });
    fuzz::require(is_cut == (cut >= shortest(b) && cut <= length(b)), "a cut");
    if (!is_cut) return;
    tokens_[at(b)].resize(at(cut));
    if (cut == 0) oldest_[at(b)] = 0;
  }
  void fork(fuzz::Input& input) {
    const Index from = input.between(0, sequences() - 1), to = input.between(0, sequences() - 1);
    cache_->fork(from, to);
    tokens_[at(to)] = Lens(tokens_[at(from)]);
    oldest_[at(to)] = oldest_[at(from)];
  }
  void reorder(fuzz::Input& input) {
    Lens parents(at(sequences()));
    for (Index& parent : parents) parent = input.between(0, sequences() - 1);
    cache_->reorder(parents);
    const auto tokens = tokens_;
    const auto oldest = oldest_;
    for (std::size_t b = 0; b < parents.size(); ++b) {
      tokens_[b] = tokens[at(parents[b])];
      oldest_[b] = oldest[at(parents[b])];
    }
  }
  // By memory, or by a file, which is the same when it is written again.
  void copy(fuzz::Input& input) {
    if (input.flag()) {
      cache_.emplace(cache_->copy());
      return;
    }
    const auto once = fuzz::folder() / "once.safetensors",
               again = fuzz::folder() / "again.safetensors";
    eh::save_kv_cache(once, *cache_);
    Cache loaded(options_);
    eh::load_kv_cache(once, loaded);
    eh::save_kv_cache(again, loaded);
    fuzz::require(eh::read_file(once) == eh::read_file(again),
                  "saved, loaded and saved: other bytes");
    cache_.emplace(std::move(loaded));
  }
  // Nothing of it may show.
  void refuse(fuzz::Input& input) {
    const auto is_refused = [](const auto& call) {
      fuzz::require(!fuzz::succeeds<std::invalid_argument>(call), "taken");
    };
    switch (input.between(0, 4)) {
      case 0:
        return is_refused([&] { return cache_->fork(0, sequences()), 0; });
      case 1:
        return is_refused([&] { return cache_->reorder(Lens(at(sequences()), sequences())), 0; });
      case 2:
        return is_refused(
            [&] { return layer_.step(Tensor<float, 3>(sequences() + 1, 1, kSize), *cache_); });
      case 3:
        return is_refused(
            [&] { return layer_.step(Tensor<float, 3>(sequences(), 1, kSize + 1), *cache_); });
      default: {  // no room for the last
        if (options_.window > 0) return;
        Lens counts(at(sequences()), 0);
        counts.back() = options_.capacity - length(sequences() - 1) + 1;
        counts.front() = std::max(counts.front(), Index{1});
        const Sequences lengths(counts);
        return is_refused(
            [&] { return layer_.step(Tensor<float, 2>(lengths.rows(), kSize), lengths, *cache_); });
      }
    }
  }

  void step(fuzz::Input& input) {
    const Index most = input.one_of<Index>({1, 1, 3, 7, 17, 64, 200});
    Lens counts;
    for (Index b = 0; b < sequences(); ++b) {
      // A ring takes any number, but the whole call that it is compared with takes its time.
      const Index room = (options_.window > 0 ? 1200 : options_.capacity) - length(b);
      counts.push_back(std::min(input.between(0, most), room));
      for (Index t = 0; t < counts.back(); ++t) tokens_[at(b)].push_back(next_++ % 997);
    }
    const Sequences lengths(counts);
    Tensor<float, 2> x(lengths.rows(), kSize);
    for (Index b = 0; b < sequences(); ++b)
      for (Index i = 0; i < counts[at(b)]; ++i)
        write_row(tokens_[at(b)][at(length(b) - counts[at(b)] + i)],
                  x.data() + (lengths.begin(b) + i) * kSize);
    Tensor<float, 2> y;
    eh::Context context(input.between(0, 7) == 7 ? 3 : 1, support::kAnyWork);
    if (input.flag())
      y = layer_.step(x, lengths, *cache_, {}, context);
    else
      y = eh::pack(layer_.step(eh::unpack(x, lengths), *cache_, {.query_lens = counts}, context),
                   lengths);
    for (Index b = 0; b < sequences(); ++b) {
      if (options_.window > 0)
        oldest_[at(b)] = std::max(oldest_[at(b)], length(b) - options_.capacity);
      check_rows(b, counts[at(b)], y.data() + lengths.begin(b) * kSize);
    }
  }

  // Of the last tokens of a sequence.
  void check_rows(Index b, Index count, const float* rows) const {
    if (count == 0) return;
    const Index T = length(b);
    Tensor<float, 3> x(1, T, kSize);
    for (Index t = 0; t < T; ++t) write_row(tokens_[at(b)][at(t)], x.data() + t * kSize);
    eh::Mask mask{.causal = eh::Causal::top_left, .sinks = options_.sinks};
    if (options_.window > 0) mask.window.left = options_.window - 1;
    const Tensor<float, 3> y = layer_(x, x, x, mask);
    fuzz::require(
        support::same_bits(TensorView<float, 2>(rows, {count, kSize}),
                           TensorView<float, 2>(y.data() + (T - count) * kSize, {count, kSize})),
        "a step is not the end of the whole call");
  }

  const Layer& layer_;
  eh::KvCacheOptions options_;
  std::optional<Cache> cache_;
  std::vector<Lens> tokens_;
  Lens oldest_;  // of each, the first token that a ring has for certain
  Index next_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input input(bytes, size);
  const Layer& layer = layer_of(input.between(0, 2));
  eh::KvCacheOptions options{.batch_size = input.between(1, 3),
                             .num_kv_heads = layer.num_kv_heads(),
                             .head_size = layer.head_size(),
                             .capacity = input.one_of<Index>({1, 5, 16, 60, 255, 256, 257, 600})};
  if (input.flag()) {
    options.window = input.one_of<Index>({1, 2, 5, 16, 60, 200, 256});
    options.window = std::min(options.window, options.capacity);
    options.sinks = input.flag() ? input.between(0, 5) : Index{0};
  }
  Model(layer, options).run(input);
  return 0;
}
