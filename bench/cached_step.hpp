// SPDX-License-Identifier: MIT
#pragma once
// Steps of one attention layer over a cache that is filled beforehand.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/kv_cache.hpp>              // KvCache
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention

#include "decoding_cases.hpp"
#include "inputs.hpp"
#include "language_model.hpp"  // save, save_parameters_of

namespace bench {

namespace eh = eigenheads;

template <class Stored>
class CachedStep {
 public:
  explicit CachedStep(const StepCase& c)
      : case_(c),
        layer_({.num_hiddens = c.E,
                .num_heads = c.H,
                .bias = true,
                .query_size = c.E,
                .key_size = c.E,
                .value_size = c.E,
                .num_kv_heads = c.G,
                .head_size = c.D},
               1),
        cache_({.batch_size = c.B, .num_kv_heads = c.G, .head_size = c.D, .capacity = c.K}),
        x_(c.B, 1, c.E),
        y_(c.B, 1, c.E) {
    for (Index i = 0; i < x_.size(); ++i) x_.data()[i] = number<float>(Stream::queries, i);
    // Every head gets the same keys and values, in memory of its own.
    std::vector<float> keys(static_cast<std::size_t>(c.K * c.D)), values(keys);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      keys[i] = number<float>(Stream::keys, static_cast<Index>(i));
      values[i] = number<float>(Stream::values, static_cast<Index>(i));
    }
    auto& heads = cache_.heads();
    for (Index b = 0; b < c.B; ++b) {
      heads.reserve(b, c.K - 1);
      for (Index g = 0; g < c.G; ++g) heads.write({b, g, c.K - 1, keys.data(), values.data(), c.D});
      heads.commit(b, c.K - 1);
    }
  }

  // The last token of the K.
  void run(eh::Context& context) { layer_.step_into(y_, x_, cache_, {}, {.context = context}); }

  // Milliseconds of a step, in the mean over as many as take the least time: the last of K tokens,
  // `count` of them in turns, between which the clock stands.
  [[nodiscard]] double milliseconds(double min_time, eh::Context& context) {
    using Clock = std::chrono::steady_clock;
    std::chrono::duration<double> taken{};
    Index steps = 0;
    do {
      for (Index b = 0; b < case_.B; ++b) cache_.truncate(b, case_.K - count());
      const auto start = Clock::now();
      for (Index i = 0; i < count(); ++i) run(context);
      taken += Clock::now() - start;
      steps += count();
    } while (taken.count() < min_time);
    return 1e3 * taken.count() / static_cast<double>(steps);
  }
  [[nodiscard]] double mean_keys() const {
    return static_cast<double>(case_.K) - 0.5 * static_cast<double>(count() - 1);
  }

  void write_files(const std::filesystem::path& start) {
    save_parameters_of(layer_, start);
    run(eh::default_context());
    save(start.string() + "_y.npy", {y_.data(), y_.data() + y_.size()});
  }

 private:
  [[nodiscard]] Index count() const { return std::clamp(case_.K / 1024, Index{2}, Index{4}); }

  StepCase case_;
  eh::MultiHeadAttention<float> layer_;
  eh::KvCache<float, Stored> cache_;
  eh::Tensor<float, 3> x_, y_;
};

// visit(CachedStep of the case)
template <class Visit>
void with_cached_step(const StepCase& c, const Visit& visit) {
  switch (c.storage) {
    case Storage::itself:
      return visit(*std::make_unique<CachedStep<float>>(c));
    case Storage::bfloat16:
      return visit(*std::make_unique<CachedStep<eh::BFloat16>>(c));
    case Storage::half:
      return visit(*std::make_unique<CachedStep<eh::Half>>(c));
  }
}

}  // namespace bench
