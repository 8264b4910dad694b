// SPDX-License-Identifier: MIT
// Modules against PyTorch, computed in float64: tests/golden/make_modules_golden.py made the
// references.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>

#include <eigenheads/io/npy.hpp>
#include <eigenheads/nn/additive_attention.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/normalize.hpp>
#include <eigenheads/nn/pooling.hpp>

#include "support.hpp"

namespace {

using namespace support;

class Case {
 public:
  explicit Case(const std::string& name)
      : folder_(std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/modules" / name) {}

  template <class T, int Rank>
  [[nodiscard]] Tensor<T, Rank> tensor(const std::string& name) const {
    return eh::load_npy<T, Rank>(folder_ / (name + ".npy"));
  }
  // Relative to the largest number, or to 1.
  template <class X>
  void expect(const char* name, const X& x) const {
    const auto expected = tensor<double, eh::rank_of<X>>(name);
    const TensorView<double, eh::rank_of<X>> view(expected);
    ASSERT_EQ(TensorView(x).dimensions(), view.dimensions()) << name;
    double largest = 1, difference = 0;
    for (Index i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::abs(expected.data()[i]));
      difference =
          std::max(difference, std::abs(static_cast<double>(x.data()[i]) - expected.data()[i]));
    }
    EXPECT_LE(difference / largest, sizeof(eh::element_of<X>) == 4 ? 1e-5 : 1e-12) << name;
  }

 private:
  std::filesystem::path folder_;
};

template <class T>
class ModulesGolden : public testing::Test {};
TYPED_TEST_SUITE(ModulesGolden, Scalars, ScalarNames);

template <class T>
void check_additive(const Case& golden, const eh::ValidLens& valid_lens) {
  const auto queries = golden.tensor<T, 3>("queries"), keys = golden.tensor<T, 3>("keys"),
             values = golden.tensor<T, 3>("values");
  eh::AdditiveAttention<T> module({.num_hiddens = 6, .query_size = 4, .key_size = 3});
  module.W_q.set_weight(golden.tensor<T, 2>("W_q"));
  module.W_k.set_weight(golden.tensor<T, 2>("W_k"));
  module.w_v.set_weight(golden.tensor<T, 2>("w_v"));
  const auto result = module.with_weights(queries, keys, values, valid_lens);
  golden.expect("output", result.output);
  golden.expect("weights", result.weights);
  typename eh::AdditiveAttention<T>::Activations saved;
  EXPECT_TRUE(same_bits(module.forward(queries, keys, values, valid_lens, saved), result.output));
  const auto gradients = module.backward(golden.tensor<T, 3>("grad_output"), saved);
  golden.expect("grad_queries", gradients.queries);
  golden.expect("grad_keys", gradients.keys);
  golden.expect("grad_values", gradients.values);
  golden.expect("grad_W_q", gradients.W_q.weight);
  golden.expect("grad_W_k", gradients.W_k.weight);
  golden.expect("grad_w_v", gradients.w_v.weight);
}

TYPED_TEST(ModulesGolden, AdditiveAttention) {
  const Case golden("additive"), by_query("additive_2d");
  check_additive<TypeParam>(golden, golden.tensor<std::int64_t, 1>("valid_lens"));
  check_additive<TypeParam>(by_query, by_query.tensor<std::int64_t, 2>("valid_lens"));
}

TYPED_TEST(ModulesGolden, Embedding) {
  using T = TypeParam;
  const Case golden("embedding");
  eh::Embedding<T> module({.num_embeddings = 6, .embedding_dim = 5, .padding_idx = 1});
  module.set_weight(golden.tensor<T, 2>("weight"));
  typename eh::Embedding<T>::Activations saved;
  golden.expect("output", module.forward(golden.tensor<std::int64_t, 2>("ids"), saved));
  golden.expect("grad_weight", module.backward(golden.tensor<T, 3>("grad_output"), saved).weight);
}

TYPED_TEST(ModulesGolden, Pooling) {
  using T = TypeParam;
  const Case golden("pooling");
  const auto x = golden.tensor<T, 3>("x");
  const auto grad_output = golden.tensor<T, 2>("grad_output");
  const eh::ValidLens lens = golden.tensor<std::int64_t, 1>("lens");
  golden.expect("mean", eh::pool(x, eh::Pooling::mean, lens));
  golden.expect("max", eh::pool(x, eh::Pooling::max, lens));
  golden.expect("grad_mean", eh::pool_backward(grad_output, x, eh::Pooling::mean, lens));
  golden.expect("grad_max", eh::pool_backward(grad_output, x, eh::Pooling::max, lens));
}

TYPED_TEST(ModulesGolden, Normalize) {
  using T = TypeParam;
  const Case golden("normalize");
  const auto x = golden.tensor<T, 2>("x");
  golden.expect("output", eh::normalize(x));
  golden.expect("grad_x", eh::normalize_backward(golden.tensor<T, 2>("grad_output"), x));
}

}  // namespace
