// SPDX-License-Identifier: MIT
// A cache that was saved and loaded goes on with the bits of the one that was saved, rings too; the
// file holds what the projections made, and any other is refused.
#include <algorithm>
#include <array>
#include <cfenv>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/io/kv_cache.hpp>

#include "../layers.hpp"
#include "../support.hpp"
#include "io/support.hpp"

namespace {

using namespace support;
using eh::Context, eh::KvCache, eh::KvCacheOptions, eh::Safetensors, eh::Sequences;
using Lens = std::vector<Index>;

constexpr Index kSize = 12, kHeads = 2, kHeadSize = 5;

template <class T>
class KvCacheFile : public UniqueFolder {
 protected:
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "cache.safetensors"; }

  const eh::MultiHeadAttention<T> layer_ = make_layer<T>(kSize, {.num_hiddens = kSize,
                                                                 .num_heads = 4,
                                                                 .bias = true,
                                                                 .num_kv_heads = kHeads,
                                                                 .head_size = kHeadSize});
};
TYPED_TEST_SUITE(KvCacheFile, Scalars, ScalarNames);

[[nodiscard]] KvCacheOptions options(Index B, Index capacity, Index window = 0, Index sinks = 0) {
  return {.batch_size = B,
          .num_kv_heads = kHeads,
          .head_size = kHeadSize,
          .capacity = capacity,
          .window = window,
          .sinks = sinks};
}

// Steps that both caches take, the first far back if they can: they must give the same bits.
template <class T>
void expect_to_go_on_alike(const eh::MultiHeadAttention<T>& layer, eh::AnyKvCache<T>& a,
                           eh::AnyKvCache<T>& b, Index room) {
  for (Index s = 0; s < a.batch_size(); ++s) ASSERT_EQ(a.length(s), b.length(s));
  for (std::uint64_t i = 0; i < 4; ++i) {
    Lens counts;
    for (Index s = 0; s < a.batch_size(); ++s)
      counts.push_back(std::min<Index>(i == 2 ? 140 : 1, room));
    room -= counts.empty() ? 0 : counts[0];
    const Sequences sequences(counts);
    const auto x = random_tensor<T>(10 + i, sequences.rows(), kSize);
    ASSERT_TRUE(same_bits(layer.step(x, sequences, a), layer.step(x, sequences, b)))
        << "step " << i;
  }
}

// ---- There and back ------------------------------------------------------------------------------

struct Saved {
  Lens lengths;
  Index capacity, window, sinks = 0;
};
const std::vector<Saved> kSaved{
    {{7}, 10, 0},       {{0, 300, 129}, 300, 0},  {{20, 3}, 9, 9},
    {{700, 0}, 40, 33}, {{600, 299}, 400, 257},   {{511, 512, 513}, 1, 1},
    {{}, 4, 0},         {{700, 5, 0}, 40, 33, 4}, {{900, 290, 310}, 30, 30, 300}};

TYPED_TEST(KvCacheFile, GoesOnAsTheCacheThatWasSaved) {
  using T = TypeParam;
  for (const auto& [lengths, capacity, window, sinks] : kSaved)
    for (const Index more : {0, 200}) {  // capacity of the one that it is loaded into
      SCOPED_TRACE(testing::Message() << testing::PrintToString(lengths) << ", window " << window
                                      << ", capacity " << capacity << " + " << more);
      const Index B = std::ssize(lengths);
      KvCache<T> saved(options(B, capacity, window, sinks));
      const Sequences sequences(lengths);
      (void)this->layer_.step(random_tensor<T>(1, sequences.rows(), kSize), sequences, saved);
      eh::save_kv_cache(this->path(), saved);
      KvCache<T> loaded(options(B, capacity + more, window, sinks));
      // What was there before leaves no trace.
      const auto poison = constant_tensor<T>(kNan<T>, B, std::min<Index>(capacity, 3), kSize);
      (void)this->layer_.step(poison, loaded);
      eh::load_kv_cache(this->path(), loaded);
      EXPECT_EQ(loaded.capacity(), capacity + more);
      const Index longest = lengths.empty() ? 0 : *std::ranges::max_element(lengths);
      expect_to_go_on_alike(this->layer_, saved, loaded,
                            window > 0 ? Limits<Index>::max() : capacity - longest);
    }
}

TYPED_TEST(KvCacheFile, GoesBackAsFarAsTheCacheThatWasSaved) {
  using T = TypeParam;
  for (const Index window : {0, 4, 200}) {
    const Index capacity = window == 0 ? 700 : window + 90;
    KvCache<T> saved(options(1, capacity, window)), loaded(options(1, capacity, window));
    for (const Index n : {500, 3, 140})
      (void)this->layer_.step(random_tensor<T>(1, 1, n, kSize), saved);
    eh::save_kv_cache(this->path(), saved);
    eh::load_kv_cache(this->path(), loaded);
    const Index least = window == 0 ? 0 : 643 - capacity + window - 1;
    for (KvCache<T>* const cache : {&saved, &loaded}) {
      if (window > 0) {
        EXPECT_NE(refusal([&] { cache->truncate(0, least - 1); }).find("has dropped some"),
                  std::string::npos);
      }
      cache->truncate(0, least);
    }
    expect_to_go_on_alike(this->layer_, saved, loaded, 700);
  }
}

TYPED_TEST(KvCacheFile, APromptIsLoadedIntoOnePlaceOfABatch) {
  using T = TypeParam;
  for (const auto& [window, sinks] : {std::pair<Index, Index>{0, 0}, {140, 0}, {33, 3}}) {
    KvCache<T> prompt(options(1, 400, window, sinks)), batch(options(3, 500, window, sinks)),
        expected(options(3, 500, window, sinks));
    const auto tokens = random_tensor<T>(1, 390, kSize), others = random_tensor<T>(2, 17, kSize);
    (void)this->layer_.step(tokens, Sequences{390}, prompt);
    eh::save_kv_cache(this->path(), prompt);
    for (KvCache<T>* const cache : {&batch, &expected})
      (void)this->layer_.step(others, Sequences{9, 0, 8}, *cache);
    batch.fork(0, 1);  // what was there is replaced, and stays where it came from
    eh::load_kv_sequence(this->path(), batch, 1);
    (void)this->layer_.step(tokens, Sequences{0, 390, 0}, expected);
    EXPECT_EQ(batch.length(0), 9);
    EXPECT_EQ(batch.length(1), 390);
    // Back into a cache of one.
    eh::save_kv_sequence(this->path(), batch, 1);
    KvCache<T> again(options(1, 400, window, sinks));
    eh::load_kv_cache(this->path(), again);
    expect_to_go_on_alike(this->layer_, batch, expected, window > 0 ? 400 : 100);
    expect_to_go_on_alike(this->layer_, prompt, again, 10);
  }
}

// Of a ring that keeps fewer tokens, the last ones.
TYPED_TEST(KvCacheFile, ARingMayBeLoadedIntoASmallerOne) {
  using T = TypeParam;
  KvCache<T> saved(options(2, 500, 130)), loaded(options(2, 131, 130));
  const Sequences sequences{490, 77};
  (void)this->layer_.step(random_tensor<T>(1, 567, kSize), sequences, saved);
  eh::save_kv_cache(this->path(), saved);
  eh::load_kv_cache(this->path(), loaded);
  EXPECT_NE(refusal([&] { loaded.truncate(0, 487); }).find("expected 488 to 490"),
            std::string::npos);
  expect_to_go_on_alike(this->layer_, saved, loaded, Limits<Index>::max());
}

TYPED_TEST(KvCacheFile, ForksAreWrittenEachForItselfAndMayBeLoadedOver) {
  using T = TypeParam;
  KvCache<T> saved(options(3, 400)), loaded(options(3, 400));
  (void)this->layer_.step(random_tensor<T>(1, 3, 270, kSize), saved);
  saved.fork(1, 0);
  saved.fork(1, 2);
  (void)this->layer_.step(random_tensor<T>(2, 3, 10, kSize), loaded);
  loaded.fork(0, 1);
  loaded.fork(0, 2);
  eh::save_kv_cache(this->path(), saved);
  eh::load_kv_cache(this->path(), loaded);
  expect_to_go_on_alike(this->layer_, saved, loaded, 130);
}

// A function that throws when it meets a certain key.
template <class T>
struct Throws {
  Index from;
  T operator()(T score, eh::ScorePosition at) const {
    if (at.k >= from) throw std::runtime_error("no further");
    return score;
  }
};

// What it had reserved is there when the cache is loaded over.
TYPED_TEST(KvCacheFile, IsLoadedOverAStepThatWasGivenUp) {
  using T = TypeParam;
  KvCache<T> saved(options(2, 320, 280)), loaded(options(2, 320, 280));
  (void)this->layer_.step(random_tensor<T>(1, 2, 333, kSize), saved);
  EXPECT_EQ(refusal<std::runtime_error>([&] {
              (void)this->layer_.step(random_tensor<T>(2, 2, 300, kSize), loaded, {},
                                      {.score = Throws<T>{250}});
            }),
            "no further");
  EXPECT_EQ(loaded.length(0), 0);
  eh::save_kv_cache(this->path(), saved);
  eh::load_kv_cache(this->path(), loaded);
  expect_to_go_on_alike(this->layer_, saved, loaded, Limits<Index>::max());
}

// A ring's first token may lie within a panel of keys, which is multiplied whole.
TYPED_TEST(KvCacheFile, WhatLiesBeforeARingsFirstTokenRaisesNoException) {
  using T = TypeParam;
  KvCache<T> saved(options(1, 21, 20)), loaded(options(1, 21, 20));
  (void)this->layer_.step(random_tensor<T>(1, 1, 50, kSize), saved);
  eh::save_kv_cache(this->path(), saved);
  auto infinite = random_tensor<T>(2, 1, 50, kSize);
  for (Index t = 0; t < 50; ++t) infinite(0, t, 0) = kInf<T>;
  (void)this->layer_.step(infinite, loaded);
  eh::load_kv_cache(this->path(), loaded);
  const auto x = random_tensor<T>(3, 1, 1, kSize);
  std::feclearexcept(FE_ALL_EXCEPT);
  (void)this->layer_.step(x, loaded);
  EXPECT_EQ(std::fetestexcept(FE_INVALID), 0);
}

TYPED_TEST(KvCacheFile, KeepsNanAndInfinity) {
  using T = TypeParam;
  KvCache<T> saved(options(1, 20)), loaded(options(1, 20));
  auto x = random_tensor<T>(1, 1, 6, kSize);
  std::fill_n(&x(0, 2, 0), kSize, kInf<T>);
  std::fill_n(&x(0, 4, 0), kSize, kNan<T>);
  (void)this->layer_.step(x, saved);
  eh::save_kv_cache(this->path(), saved);
  eh::load_kv_cache(this->path(), loaded);
  for (KvCache<T>* const cache : {&saved, &loaded}) cache->truncate(0, 4);
  expect_to_go_on_alike(this->layer_, saved, loaded, 16);
}

// Whatever the width of a CPU's registers.
TYPED_TEST(KvCacheFile, HoldsWhatTheProjectionsMade) {
  using T = TypeParam;
  KvCache<T> cache(options(2, 300)), ring(options(2, 30, 20));
  const auto x = random_tensor<T>(1, 2, 280, kSize);
  (void)this->layer_.step(x, cache);
  (void)this->layer_.step(x, ring);
  for (const auto& [saved, oldest] : {std::pair{&cache, Index{0}}, std::pair{&ring, Index{250}}}) {
    eh::save_kv_cache(this->path(), *saved);
    const Safetensors file = eh::read_safetensors(this->path());
    EXPECT_EQ(file.names(),
              (std::vector<std::string>{"lengths", "oldest", "sequence.0.keys", "sequence.0.values",
                                        "sequence.1.keys", "sequence.1.values"}));
    EXPECT_EQ(file.metadata().at("num_kv_heads"), "2");
    EXPECT_EQ(file.metadata().at("capacity"), std::to_string(saved->capacity()));
    EXPECT_EQ(file.metadata().at("scalar"), (std::is_same_v<T, float> ? "F32" : "F64"));
    const auto first = file.tensor<std::int64_t, 1>("oldest", {2});
    EXPECT_EQ((file.tensor<std::int64_t, 1>("lengths", {2})(1)), 280);
    for (Index b = 0; b < 2; ++b) {
      EXPECT_GE(oldest, first(b));
      const auto n = static_cast<Index>(280 - first(b));
      for (const auto& [name, linear] :
           {std::pair{".keys", &this->layer_.W_k}, std::pair{".values", &this->layer_.W_v}}) {
        const Tensor<T, 3> made = (*linear)(x);
        const auto held =
            file.tensor<T, 3>("sequence." + std::to_string(b) + name, {kHeads, n, kHeadSize});
        for (Index g = 0; g < kHeads; ++g)
          for (Index i = 0; i < n; ++i)
            ASSERT_TRUE(same_bits(
                row(held, g, i),
                TensorView<T, 1>(row(made, b, first(b) + i).data() + g * kHeadSize, {kHeadSize})))
                << name << ' ' << b << ' ' << g << ' ' << i;
      }
    }
  }
}

using HalfKvCacheFile = KvCacheFile<float>;

template <class Storage>
void expect_storage_is_kept(const eh::MultiHeadAttention<float>& layer,
                            const std::filesystem::path& path, const std::string& type) {
  for (const Index window : {0, 150}) {
    KvCache<float, Storage> saved(options(2, 450, window)), loaded(options(2, 450, window));
    auto x = random_tensor<float>(1, 2, 290, kSize);
    std::fill_n(&x(0, 280, 0), kSize, 1e30f);  // infinite as a half
    std::fill_n(&x(1, 283, 0), kSize, kNan<float>);
    (void)layer.step(x, saved);
    eh::save_kv_cache(path, saved);
    const Safetensors file = eh::read_safetensors(path);
    EXPECT_EQ(file.type_name("sequence.1.values"), type);
    EXPECT_EQ(file.metadata().at("storage"), type);
    const auto keys = file.tensor<Storage, 3>("sequence.0.keys");  // not only as floats
    EXPECT_EQ(keys(0, 0, 0).value(), (file.tensor<float, 3>("sequence.0.keys")(0, 0, 0)));
    eh::load_kv_cache(path, loaded);
    for (eh::AnyKvCache<float>* const cache : {&saved, &loaded}) cache->truncate(1, 283);
    expect_to_go_on_alike(layer, saved, loaded, 160);
    KvCache<float> other(options(2, 450, window));
    EXPECT_EQ(file_refusal(path, [&] { eh::load_kv_cache(path, other); }),
              "metadata \"storage\" is \"" + type +
                  "\"; expected \"F32\", as the cache that it is loaded into");
  }
}
TEST_F(HalfKvCacheFile, NumbersAreWrittenAsTheyAreStored) {
  expect_storage_is_kept<eh::BFloat16>(layer_, path(), "BF16");
  expect_storage_is_kept<eh::Half>(layer_, path(), "F16");
}

TYPED_TEST(KvCacheFile, APrefixTellsTheCachesOfOneFileApart) {
  using T = TypeParam;
  KvCache<T> first(options(1, 9)), second(options(2, 20, 5)), loaded(options(2, 20, 5));
  (void)this->layer_.step(random_tensor<T>(1, 1, 4, kSize), first);
  (void)this->layer_.step(random_tensor<T>(2, 2, 8, kSize), second);
  Safetensors file;
  eh::add_kv_cache(file, first, "0.");
  eh::add_kv_cache(file, second, "1.");
  eh::set_kv_cache(loaded, file, "1.");
  expect_to_go_on_alike(this->layer_, second, loaded, 10);
  EXPECT_EQ(refusal([&] { eh::add_kv_cache(file, first, "0."); }),
            "eigenheads: tensor \"0.lengths\": the name is taken");
}

// ---- Refusals ------------------------------------------------------------------------------------

TYPED_TEST(KvCacheFile, IsRefusedUnlessItIsThatCacheWhichStaysAsItWas) {
  using T = TypeParam;
  using Other = std::conditional_t<std::is_same_v<T, float>, double, float>;
  const std::string type = std::is_same_v<T, float> ? "F32" : "F64",
                    other = std::is_same_v<T, float> ? "F64" : "F32";
  KvCache<T> cache(options(2, 8));
  (void)this->layer_.step(random_tensor<T>(1, 2, 4, kSize), cache);
  KvCache<T> before = cache.copy();
  const auto refused = [&](const auto& saved) {
    eh::save_kv_cache(this->path(), saved);
    return file_refusal(this->path(), [&] { eh::load_kv_cache(this->path(), cache); });
  };
  const std::string ending = ", as the cache that it is loaded into";
  EXPECT_EQ(refused(KvCache<T>(options(3, 8))),
            "metadata \"batch_size\" is \"3\"; expected \"2\"" + ending);
  EXPECT_EQ(refused(KvCache<T>(options(2, 8, 4))),
            "metadata \"window\" is \"4\"; expected \"0\"" + ending);
  auto wrong = options(2, 8);
  wrong.num_kv_heads = 1;
  EXPECT_EQ(refused(KvCache<T>(wrong)),
            "metadata \"num_kv_heads\" is \"1\"; expected \"2\"" + ending);
  wrong = options(2, 8);
  wrong.head_size = 6;
  EXPECT_EQ(refused(KvCache<T>(wrong)), "metadata \"head_size\" is \"6\"; expected \"5\"" + ending);
  EXPECT_EQ(refused(KvCache<Other>(options(2, 8))),
            "metadata \"scalar\" is \"" + other + "\"; expected \"" + type + "\"" + ending);
  KvCache<T> longer(options(2, 9));
  (void)this->layer_.step(random_tensor<T>(1, 11, kSize), Sequences{2, 9}, longer);
  EXPECT_EQ(refused(longer), "sequence 1 has 9 tokens; expected 0 to 8, the cache's capacity");
  std::filesystem::remove(this->path());
  EXPECT_EQ(file_refusal(this->path(), [&] { eh::load_kv_cache(this->path(), cache); }),
            "No such file or directory");
  expect_to_go_on_alike(this->layer_, before, cache, 4);
}

TYPED_TEST(KvCacheFile, ASequenceThatDoesNotFitIsRefusedAndAllStayAsTheyWere) {
  using T = TypeParam;
  KvCache<T> cache(options(2, 8));
  (void)this->layer_.step(random_tensor<T>(1, 2, 4, kSize), cache);
  KvCache<T> before = cache.copy();
  const auto refused = [&](const auto& saved) {
    eh::save_kv_cache(this->path(), saved);
    return file_refusal(this->path(), [&] { eh::load_kv_sequence(this->path(), cache, 1); });
  };
  const std::string ending = ", as the sequence that it is loaded into";
  EXPECT_EQ(refused(KvCache<T>(options(2, 8))),
            "metadata \"batch_size\" is \"2\"; expected \"1\"" + ending);
  EXPECT_EQ(refused(KvCache<T>(options(1, 8, 4))),
            "metadata \"window\" is \"4\"; expected \"0\"" + ending);
  KvCache<T> longer(options(1, 9));
  (void)this->layer_.step(random_tensor<T>(1, 1, 9, kSize), longer);
  EXPECT_EQ(refused(longer), "sequence 0 has 9 tokens; expected 0 to 8, the cache's capacity");
  for (const Index b : {-1, 2}) {
    EXPECT_EQ(refusal([&] { eh::load_kv_sequence(this->path(), cache, b); }),
              "eigenheads: set_kv_sequence: there is no sequence " + std::to_string(b) +
                  "; expected 0 to less than 2");
    EXPECT_EQ(refusal([&] { eh::save_kv_sequence(this->path(), cache, b); }),
              "eigenheads: add_kv_sequence: there is no sequence " + std::to_string(b) +
                  "; expected 0 to less than 2");
  }
  expect_to_go_on_alike(this->layer_, before, cache, 4);
}

// A file of the right names that no cache can have come to.
TYPED_TEST(KvCacheFile, ACacheThatCannotBeIsRefused) {
  using T = TypeParam;
  struct Parts {
    std::vector<std::int64_t> lengths{6}, oldest{2};
    Index keys = 4, values = 4;
    std::string extra{}, window = "5";
    bool has_metadata = true;
  };
  KvCache<T> ring(options(1, 8, 5));
  const auto refused = [&](const Parts& parts) {
    Safetensors file;
    const auto numbers = [](const std::vector<std::int64_t>& values) {
      return TensorView<std::int64_t, 1>(values.data(), {std::ssize(values)});
    };
    file.add("lengths", numbers(parts.lengths));
    file.add("oldest", numbers(parts.oldest));
    file.add("sequence.0.keys", random_tensor<T>(1, kHeads, parts.keys, kHeadSize));
    file.add("sequence.0.values", random_tensor<T>(2, kHeads, parts.values, kHeadSize));
    if (!parts.extra.empty()) file.add(parts.extra, T(1));
    if (parts.has_metadata) {
      for (const auto& [name, text] : eh::detail::described_cache<T>(ring.heads().size()))
        file.set_metadata(name, text);
      file.set_metadata("window", parts.window);
    }
    eh::write_safetensors(this->path(), file);
    return file_refusal(this->path(), [&] { eh::load_kv_cache(this->path(), ring); });
  };
  const std::string type = std::is_same_v<T, float> ? "F32" : "F64";
  const std::string window = ", since the next token sees a whole window";
  EXPECT_EQ(refused({}), kNothing);
  EXPECT_EQ(ring.length(0), 6);
  EXPECT_EQ(refused({.has_metadata = false}),
            "no metadata \"batch_size\", which a saved cache has");
  EXPECT_EQ(refused({.window = "5 "}),
            "metadata \"window\" is \"5 \"; expected \"5\", as the cache that it is loaded into");
  EXPECT_EQ(refused({.lengths = {-1}}),
            "sequence 0 has -1 tokens; expected 0 to 2147483646, the most that are counted");
  EXPECT_EQ(
      refused({.lengths = {std::numeric_limits<std::int64_t>::max()}}),
      "sequence 0 has 9223372036854775807 tokens; expected 0 to 2147483646, the most that are "
      "counted");
  EXPECT_EQ(refused({.oldest = {3}}),
            "sequence 0 has 6 tokens and begins with token 3; expected one from 0 to 2" + window);
  EXPECT_EQ(refused({.oldest = {std::numeric_limits<std::int64_t>::min()}}),
            "sequence 0 has 6 tokens and begins with token -9223372036854775808; expected one from "
            "0 to 2" +
                window);
  EXPECT_EQ(refused({.lengths = {6, 6}}), "tensor \"lengths\" is I64 [2]; expected I64 [1]");
  EXPECT_EQ(refused({.keys = 5}), "tensor \"sequence.0.keys\" is " + type +
                                      " [2, 5, 5]; expected " + type + " [2, 4, 5]");
  EXPECT_EQ(refused({.values = 3}), "tensor \"sequence.0.values\" is " + type +
                                        " [2, 3, 5]; expected " + type + " [2, 4, 5]");
  EXPECT_EQ(refused({.extra = "sequence.1.keys"}),
            "tensor \"sequence.1.keys\" is none of the cache's");
  EXPECT_EQ(ring.length(0), 6);
}

}  // namespace
