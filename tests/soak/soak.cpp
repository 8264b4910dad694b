// SPDX-License-Identifier: MIT
// soak [SECONDS] [THREADS]: a service under load. Many threads, each with a context and a cache of its
// own, call one const layer with requests of every kind, one in a thousand of them invalid. Every answer
// has the bits that it had when it was computed alone, every invalid request is refused, and neither
// memory nor file descriptors grow once all kinds of requests have been seen.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/context.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/score.hpp>
#include <eigenheads/sequences.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Causal, eh::Context, eh::Index, eh::Mask, eh::Sequences, eh::Tensor, eh::TensorView;
using support::Numbers, support::random_tensor;
using Layer = eh::MultiHeadAttention<float>;
using Cache = eh::KvCache<float>;
using Clock = std::chrono::steady_clock;

constexpr Index kSize = 12, kTokens = 90;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "does not hold: %s\n", what.c_str());
  std::_Exit(1);
}

// ---- Requests ------------------------------------------------------------------------------------

// What a thread brings.
struct Own {
  Context& context;
  Cache& cache;  // of one sequence
  Numbers& numbers;
};

// One call, or some that belong together; its answer does not depend on what a thread brings.
struct Request {
  std::function<std::vector<float>(const Layer&, const Own&)> run;
  std::vector<float> answer;
};

template <class X>
void append(std::vector<float>& all, const X& x) {
  all.insert(all.end(), x.data(), x.data() + x.size());
}
template <class... Tensors>
std::vector<float> numbers_of(const Tensors&... tensors) {
  std::vector<float> all;
  (append(all, tensors), ...);
  return all;
}

// Lengths of 0 among them.
std::vector<Index> lengths(Numbers& numbers, Index count, Index most) {
  std::vector<Index> result;
  for (Index i = 0; i < count; ++i) result.push_back(numbers.between(0, most));
  return result;
}

Mask random_mask(Numbers& numbers, Index B, Index Q, Index K) {
  Mask mask{.causal = numbers.between(0, 1) == 0 ? Causal::top_left : Causal::bottom_right};
  if (numbers.between(0, 1) == 0) mask.valid_lens = lengths(numbers, B, K);
  if (numbers.between(0, 2) == 0) mask.window.left = numbers.between(0, 20);
  if (numbers.between(0, 3) == 0) mask.sinks = numbers.between(1, 4);
  if (numbers.between(0, 3) == 0) {
    Tensor<bool, 4> allowed(B, 1, Q, K);
    for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.between(0, 3) > 0;
    mask.allowed = allowed;
  }
  return mask;
}

Request padded(Numbers& numbers, bool with_weights) {
  const Index B = numbers.between(0, 4), Q = numbers.between(1, kTokens),
              K = numbers.between(1, kTokens);
  const auto q = random_tensor<float>(numbers.next(), B, Q, kSize);
  const auto k = random_tensor<float>(numbers.next(), B, K, kSize);
  const Mask mask = random_mask(numbers, B, Q, K);
  return {[=](const Layer& layer, const Own& own) {
            if (!with_weights) return numbers_of(layer(q, k, k, mask, own.context));
            const auto result = layer.with_weights(q, k, k, mask, own.context);
            return numbers_of(result.output, result.weights);
          },
          {}};
}

Request packed(Numbers& numbers) {
  const Sequences sequences(lengths(numbers, numbers.between(1, 6), kTokens));
  const auto x = random_tensor<float>(numbers.next(), sequences.rows(), kSize);
  const Mask mask{.causal = Causal::top_left, .window = {.left = numbers.between(-1, 30)}};
  return {[=](const Layer& layer, const Own& own) {
            return numbers_of(layer(x, sequences, mask, own.context));
          },
          {}};
}

// Attention itself, by a score function.
Request scored(Numbers& numbers) {
  const Index H = 4, Q = numbers.between(1, kTokens), K = numbers.between(1, kTokens);
  const auto q = random_tensor<float>(numbers.next(), 2, H, Q, 8);
  const auto k = random_tensor<float>(numbers.next(), 2, 2, K, 8);
  const Mask mask = random_mask(numbers, 2, Q, K);
  return {[=](const Layer&, const Own& own) {
            const auto result = eh::scaled_dot_product_attention(
                q, k, k, mask, {.score = eh::Softcap(2.0f), .weights = true}, own.context);
            return numbers_of(result.output, result.lse, result.weights);
          },
          {}};
}

// Through the thread's own cache, in steps that differ each time, some of them taken back.
Request decoded(Numbers& numbers) {
  const Index T = numbers.between(1, kTokens);
  const auto x = random_tensor<float>(numbers.next(), 1, T, kSize);
  return {[=](const Layer& layer, const Own& own) {
            std::vector<float> rows;
            own.cache.reset();
            for (Index t = 0; t < T;) {
              const Index n = own.numbers.between(1, std::min(T - t, Index{30}));
              const TensorView<float, 3> tokens(x.data() + t * kSize, {1, n, kSize});
              const auto y = layer.step(tokens, own.cache, own.context);
              const Index kept = own.numbers.between(0, 7) == 0 ? n - 1 : n;
              own.cache.truncate(0, t + kept);
              rows.insert(rows.end(), y.data(), y.data() + kept * y.dimension(2));
              t += kept;
            }
            return rows;
          },
          {}};
}

std::vector<Request> all_requests(const Layer& layer) {
  Numbers numbers(16);
  std::vector<Request> requests;
  for (int i = 0; i < 24; ++i) {
    requests.push_back(padded(numbers, false));
    requests.push_back(padded(numbers, true));
    requests.push_back(packed(numbers));
    requests.push_back(scored(numbers));
    requests.push_back(decoded(numbers));
  }
  Context context;
  Cache cache({.batch_size = 1,
               .num_kv_heads = layer.num_kv_heads(),
               .head_size = layer.head_size(),
               .capacity = kTokens});
  for (Request& request : requests) request.answer = request.run(layer, {context, cache, numbers});
  return requests;
}

// Whether each is refused as it should be.
bool is_refused(const Layer& layer, const Own& own) {
  const auto x = random_tensor<float>(1, 2, 5, kSize);
  try {
    switch (own.numbers.between(0, 4)) {
      case 0:
        (void)layer(x, x, random_tensor<float>(1, 2, 6, kSize), {}, own.context);
        break;
      case 1:
        (void)layer(x, x, x, {.valid_lens = {3, 6}}, own.context);
        break;
      case 2:
        (void)layer(random_tensor<float>(1, 3, kSize), Sequences{1, 1}, {}, own.context);
        break;
      case 3:
        (void)layer.step(random_tensor<float>(1, 1, kTokens + 1, kSize), own.cache, own.context);
        break;
      default:
        own.cache.truncate(0, kTokens + 1);
    }
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// ---- Threads -------------------------------------------------------------------------------------

struct Counts {
  std::atomic<bool> goes_on{true};
  std::atomic<long> requests{0}, refused{0}, pools{0};
};

void serve(const Layer& layer, const std::vector<Request>& requests, std::uint64_t seed,
           Counts& counts) {
  Numbers numbers(seed);
  Cache cache({.batch_size = 1,
               .num_kv_heads = layer.num_kv_heads(),
               .head_size = layer.head_size(),
               .capacity = kTokens});
  auto context = std::make_unique<Context>(1, support::kAnyWork);
  while (counts.goes_on) {
    if (numbers.between(0, 399) == 0) {  // another pool, of one thread most often
      context.reset();
      context = std::make_unique<Context>(
          numbers.between(0, 3) == 0 ? static_cast<int>(numbers.between(2, 3)) : 1,
          support::kAnyWork);
      ++counts.pools;
    }
    const Own own{*context, cache, numbers};
    if (numbers.between(0, 999) == 0) {
      if (!is_refused(layer, own)) fail("an invalid request is taken");
      ++counts.refused;
    }
    const auto which = numbers.between(0, std::ssize(requests) - 1);
    const Request& request = requests[static_cast<std::size_t>(which)];
    if (!std::ranges::equal(request.run(layer, own), request.answer, {}, support::bits<float>,
                            support::bits<float>))
      fail("request " + std::to_string(which) + " has another answer");
    ++counts.requests;
  }
}

// ---- What the process holds ----------------------------------------------------------------------

long resident_kib() {
  std::ifstream statm("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}
long descriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator all("/proc/self/fd", error);
  return error ? 0 : static_cast<long>(std::distance(begin(all), end(all)));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryIsTheLibrarys = false;  // sanitizers keep what is freed
#elif defined(__has_feature)
constexpr bool kMemoryIsTheLibrarys =
    !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
constexpr bool kMemoryIsTheLibrarys = true;
#endif

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 8;
  if (!(seconds > 0) || threads < 1) {
    std::fprintf(stderr, "usage: %s [SECONDS] [THREADS]\n", argv[0]);
    return 2;
  }
  const Layer layer = support::make_layer<float>(
      kSize, {.num_hiddens = 16, .num_heads = 4, .bias = true, .num_kv_heads = 2});
  const std::vector<Request> requests = all_requests(layer);
  Counts counts;
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i)
    all.emplace_back(
        [&, i] { serve(layer, requests, 100 + static_cast<std::uint64_t>(i), counts); });

  // The largest of each quarter of the time; the first is for warming up.
  const auto start = Clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(Clock::now() - start).count() / seconds;
  };
  long memory[4] = {}, files[4] = {};
  for (double share = 0; (share = elapsed()) < 1;) {
    const auto quarter = static_cast<std::size_t>(4 * share);
    memory[quarter] = std::max(memory[quarter], resident_kib());
    files[quarter] = std::max(files[quarter], descriptors());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  counts.goes_on = false;
  for (std::thread& thread : all) thread.join();

  std::printf(
      "%ld requests on %d threads, %ld of them after an invalid one, %ld pools; resident KiB "
      "by quarters of %.0f s: %ld %ld %ld %ld; descriptors: %ld %ld %ld %ld\n",
      counts.requests.load(), threads, counts.refused.load(), counts.pools.load(), seconds,
      memory[0], memory[1], memory[2], memory[3], files[0], files[1], files[2], files[3]);
  // A leak of a few bytes a request is more than that in seconds; so much may the heap wander.
  constexpr long wandering = 8 * 1024;
  if (kMemoryIsTheLibrarys && memory[3] > memory[1] + wandering) fail("memory grows");
  if (files[3] != files[1]) fail("file descriptors grow");
  if (counts.requests < threads) fail("too few requests to speak of");
  return 0;
}
