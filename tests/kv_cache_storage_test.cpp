// SPDX-License-Identifier: MIT
// Steps of every length have the bits of one call over the whole sequence whose keys and values were
// rounded to what the cache stores, whatever else the call has.
#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/rotary.hpp>
#include <eigenheads/score.hpp>
#include <eigenheads/transpose.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::KvCache, eh::Mask, eh::MultiHeadAttention, eh::ScoreRef;
using Lens = std::vector<Index>;

constexpr Index kSize = 12;

// What a layer computes in whose cache stores that.
template <class Storage>
using ScalarOf = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

template <class Storage>
class Stored : public testing::Test {};
using Storages = testing::Types<float, double, eh::BFloat16, eh::Half>;
struct StorageNames {
  template <class Storage>
  static std::string GetName(int i) {
    return std::array{"Float", "Double", "BFloat16", "Half"}[static_cast<std::size_t>(i)];
  }
};
TYPED_TEST_SUITE(Stored, Storages, StorageNames);

template <class Storage, class T>
[[nodiscard]] Tensor<T, 4> rounded(Tensor<T, 4> x) {
  if constexpr (!std::is_same_v<T, Storage>)
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = Storage::rounded(x.data()[i]).value();
  return x;
}

// The call over the whole sequence, of keys and values that were rounded.
template <class Storage, class T>
[[nodiscard]] Tensor<T, 3> rounded_call(const MultiHeadAttention<T>& layer, const Tensor<T, 3>& x,
                                        const Mask& mask, const ScoreRef<T>& score = {}) {
  const Index B = x.dimension(0), H = layer.num_heads(), G = layer.num_kv_heads();
  const auto heads = [&](const eh::Linear<T>& W, Index count) {
    const Tensor<T, 3> y = eh::transpose_qkv(W(x), count);
    Tensor<T, 4> of_heads(B, count, y.dimension(1), y.dimension(2));
    std::copy_n(y.data(), y.size(), of_heads.data());
    return of_heads;
  };
  auto q = heads(layer.W_q, H), k = heads(layer.W_k, G);
  if (layer.rotary() != nullptr) {
    q = (*layer.rotary())(q);
    k = (*layer.rotary())(k);
  }
  eh::AttentionOptions<T> options{.score = score};
  if (layer.sink_logits.size() > 0) options.sink_logits = layer.sink_logits;
  const auto output =
      eh::scaled_dot_product_attention(q, rounded<Storage>(k),
                                       rounded<Storage>(heads(layer.W_v, G)), mask, options)
          .output;
  const TensorView<T, 3> joined(output.data(), {B * H, output.dimension(2), output.dimension(3)});
  return layer.W_o(eh::transpose_output(joined, H));
}

// Both sequences of x in steps of `chunk` tokens after a first one. Now and then, sequence 1 brings
// none.
template <class T>
void expect_steps(const MultiHeadAttention<T>& layer, eh::AnyKvCache<T>& cache,
                  const Tensor<T, 3>& x, const Tensor<T, 3>& whole, Index first, Index chunk,
                  const Mask& mask, const eh::CallOptions<T>& options) {
  const Index length = x.dimension(1);
  std::array<Index, 2> at{};
  for (Index step = 0; at[0] < length; ++step) {
    const Index n = std::min(step == 0 ? first : chunk, length - at[0]);
    Mask of_step = mask;
    of_step.query_lens = Lens{n, step % 4 == 2 ? 0 : n};
    auto tokens = constant_tensor<T>(kNan<T>, 2, n, kSize);
    for (Index b = 0; b < 2; ++b)
      std::copy_n(&x(b, at[static_cast<std::size_t>(b)], 0),
                  of_step.query_lens.length(b, 0) * kSize, tokens.data() + b * n * kSize);
    const Tensor<T, 3> y = layer.step(tokens, cache, of_step, options);
    for (Index b = 0; b < 2; ++b) {
      Index& token = at[static_cast<std::size_t>(b)];
      for (Index i = 0; i < of_step.query_lens.length(b, 0); ++i, ++token)
        ASSERT_TRUE(same_bits(row(y, b, i), row(whole, b, token)))
            << "token " << token << " of sequence " << b << " in steps of " << chunk;
    }
  }
}

TYPED_TEST(Stored, StepsOfAnyLengthUnderEveryOptionHaveTheBitsOfTheWholeCall) {
  using Storage = TypeParam;
  using T = ScalarOf<TypeParam>;
  const Index B = 2, length = 270;
  auto layer = make_layer<T>(kSize, {.num_hiddens = kSize,
                                     .num_heads = 4,
                                     .num_kv_heads = 2,
                                     .head_size = 6,
                                     .sink_logits = true,
                                     .rotary = eh::RotaryOptions{.max_positions = length}});
  layer.sink_logits = random_tensor<T>(8, 4);
  const auto x = random_tensor<T>(1, B, length, kSize);
  const auto slopes = random_tensor<T>(2, 4);
  const auto score = eh::chain(eh::Alibi<T>(slopes), eh::Softcap<T>(T(3)));
  const Mask window{.window = {.left = 39}, .sinks = 3}, prefix{.prefix_lens = {70, 9}};
  int threads = 0;
  for (const auto& [mask, is_ring] :
       {std::pair{window, false}, {window, true}, {prefix, false}, {Mask{}, false}}) {
    Mask of_whole = mask;
    of_whole.causal = Causal::top_left;
    const Tensor<T, 3> whole = rounded_call<Storage, T>(layer, x, of_whole, score);
    if (std::is_same_v<T, Storage>) {
      EXPECT_TRUE(same_bits(whole, layer(x, x, x, of_whole, {.score = score})));
    }
    for (const Index chunk : {1, 2, 3, 7, 64}) {
      Context context(1 + threads++ % 3, kAnyWork);
      KvCache<T, Storage> cache({.batch_size = B,
                                 .num_kv_heads = 2,
                                 .head_size = 6,
                                 .capacity = is_ring ? 40 : length,
                                 .window = is_ring ? 40 : 0,
                                 .sinks = is_ring ? 3 : 0});
      const Index first = mask.prefix_lens.rank() != 0 ? 70 : chunk;
      expect_steps<T>(layer, cache, x, whole, first, chunk, mask,
                      {.score = score, .context = context});
    }
  }
}

TYPED_TEST(Stored, HeadsOfAnySizeAndNumbersOfAnySizeAreRounded) {
  using Storage = TypeParam;
  using T = ScalarOf<TypeParam>;
  const Index length = 300;
  for (const Index D : {5, 16, 70}) {
    const auto layer = make_layer<T>(
        kSize,
        {.num_hiddens = kSize, .num_heads = 6, .bias = true, .num_kv_heads = 2, .head_size = D});
    auto x = random_tensor<T>(1, 2, length, kSize);
    x(0, 40, 3) = T(3e38f);  // more than Half holds, and what becomes of it more than float holds
    for (Index i = 0; i < kSize; ++i) x(1, 7, i) *= T(1e-6f);
    const Mask causal{.causal = Causal::top_left};
    const Tensor<T, 3> whole = rounded_call<Storage>(layer, x, causal);
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      KvCache<T, Storage> cache(
          {.batch_size = 2, .num_kv_heads = 2, .head_size = D, .capacity = length});
      expect_steps<T>(layer, cache, x, whole, 64, 7, {}, context);
      cache.truncate(0, 30);
      cache.truncate(1, 30);
      Tensor<T, 3> tokens(2, 99, kSize);
      for (Index b = 0; b < 2; ++b)
        std::copy_n(&x(b, 30, 0), 99 * kSize, tokens.data() + b * 99 * kSize);
      const Tensor<T, 3> y = layer.step(tokens, cache, context);
      for (Index b = 0; b < 2; ++b)
        for (Index i = 0; i < 99; ++i)
          ASSERT_TRUE(same_bits(row(y, b, i), row(whole, b, 30 + i))) << "head size " << D;
    }
  }
}

TYPED_TEST(Stored, ACacheTakesTheMemoryOfItsStorage) {
  using T = ScalarOf<TypeParam>;
  const eh::KvCacheOptions options{
      .batch_size = 2, .num_kv_heads = 2, .head_size = 64, .capacity = 512};
  EXPECT_EQ((KvCache<T, TypeParam>(options).bytes()) * static_cast<Index>(sizeof(T)),
            KvCache<T>(options).bytes() * static_cast<Index>(sizeof(TypeParam)));
}

}  // namespace
