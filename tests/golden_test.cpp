// SPDX-License-Identifier: MIT
// The layer against PyTorch, computed in float64: tests/golden/make_golden.py made the references.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/npy.hpp>

namespace {

namespace eh = eigenheads;
using eh::Index;
using std::filesystem::path;

const path kCases = path(EIGENHEADS_SOURCE_DIR) / "tests" / "golden" / "cases";

const std::vector<std::string> kCaseNames = {
    "d2l_example",
    "lazy_example",
    "cross_sizes_bias",
    "valid_lens_2d",
    "no_mask",
    "causal_square",
    "causal_bottom_right",
    "causal_window_lens",
    "grouped_query",
    "empty_row",
    "large_logits",
    "long_rows",
    "causal_top_left_more_keys",
    "causal_top_left_more_queries",
    "causal_bottom_right_more_queries",
    "causal_square_long",
    "window_both_sides",
    "window_right_only",
    "window_left_only",
    "causal_top_left_window",
    "causal_window_long",
    "head_size",
    "head_size_1",
    "head_size_64",
    "head_size_128",
    "grouped_query_bias",
    "grouped_query_empty_row",
    "multi_query",
    "valid_lens_2d_causal",
    "everything",
    "additive_bias",
};

// A folder of reference tensors, and its case.txt of lines "key value".
class Case {
 public:
  explicit Case(const std::string& name) : folder_(kCases / name) {
    std::ifstream file(folder_ / "case.txt");
    if (!file) throw std::runtime_error("no case.txt in " + folder_.string());
    std::string key, value;
    while (file >> key && std::getline(file >> std::ws, value)) values_[key] = value;
  }

  Index number(const std::string& key, Index otherwise) const {
    return has(key) ? static_cast<Index>(std::stoll(values_.at(key))) : otherwise;
  }
  bool has(const std::string& key) const { return values_.count(key) > 0; }

  template <class T, int Rank>
  eh::Tensor<T, Rank> tensor(const std::string& name) const {
    return eh::load_npy<T, Rank>(folder_ / (name + ".npy"));
  }

  eh::MultiHeadAttentionOptions options() const {
    const Index num_hiddens = number("num_hiddens", 0);
    return {.num_hiddens = num_hiddens,
            .num_heads = number("num_heads", 0),
            .bias = has("bias"),
            .query_size = number("query_size", num_hiddens),
            .key_size = number("key_size", num_hiddens),
            .value_size = number("value_size", num_hiddens),
            .num_kv_heads = number("num_kv_heads", 0),
            .head_size = number("head_size", 0)};
  }

  template <class T>
  eh::MultiHeadAttention<T> layer() const {
    eh::MultiHeadAttention<T> layer(options());
    const auto set = [&](eh::Linear<T>& linear, const std::string& name) {
      linear.set_weight(tensor<T, 2>("W_" + name));
      if (has("bias")) linear.set_bias(tensor<T, 1>("b_" + name));
    };
    set(layer.W_q, "q");
    set(layer.W_k, "k");
    set(layer.W_v, "v");
    set(layer.W_o, "o");
    return layer;
  }

  eh::Mask mask() const {
    eh::Mask mask;
    if (const std::string lens = word("valid_lens"); lens == "per_sequence")
      mask.valid_lens = eh::ValidLens(tensor<std::int64_t, 1>("valid_lens"));
    else if (lens == "per_query")
      mask.valid_lens = eh::ValidLens(tensor<std::int64_t, 2>("valid_lens"));
    else if (!lens.empty())
      throw std::runtime_error("valid_lens " + lens);
    if (const std::string causal = word("causal"); causal == "top_left")
      mask.causal = eh::Causal::top_left;
    else if (causal == "bottom_right")
      mask.causal = eh::Causal::bottom_right;
    else if (!causal.empty())
      throw std::runtime_error("causal " + causal);
    if (has("window")) std::istringstream(word("window")) >> mask.window.left >> mask.window.right;
    return mask;
  }

 private:
  std::string word(const std::string& key) const { return has(key) ? values_.at(key) : ""; }

  path folder_;
  std::map<std::string, std::string> values_;
};

// [[5, 3, 2]] for a message and for ==, from a tensor of any rank.
template <class Tensor>
std::vector<Index> shape(const Tensor& tensor) {
  return {tensor.dimensions().begin(), tensor.dimensions().end()};
}

// The largest difference, in units of max(1, the largest magnitude). NaN is infinitely bad.
template <class Got, class Expected>
double worst_difference(const Got& got, const Expected& expected) {
  EXPECT_EQ(shape(got), shape(expected));
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, scale = 1;
  for (Index i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got.data()[i]) - expected.data()[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
    scale = std::max(scale, std::abs(expected.data()[i]));
  }
  return worst / scale;
}

// Every row sums to 1, or is all 0 where the reference's is (C2); what is 0 in the reference,
// hidden keys above all, is 0 here. The bound: a sum of K numbers, each rounded once before.
template <class T>
void expect_rows_of_weights(const eh::Tensor<T, 4>& weights,
                            const eh::Tensor<double, 4>& expected) {
  ASSERT_EQ(shape(weights), shape(expected));
  const Index K = weights.dimension(3), rows = K > 0 ? weights.size() / K : 0;
  const double bound = 4 * static_cast<double>(K) * std::numeric_limits<T>::epsilon();
  for (Index row = 0; row < rows; ++row) {
    const T* const w = weights.data() + row * K;
    const double* const e = expected.data() + row * K;
    double sum = 0;
    Index visible = 0, not_zero = 0;
    for (Index k = 0; k < K; ++k) {
      sum += static_cast<double>(w[k]);
      visible += e[k] != 0;
      not_zero += e[k] == 0 && w[k] != 0;
    }
    EXPECT_EQ(not_zero, 0) << "hidden keys with a weight in row " << row;
    EXPECT_NEAR(sum, visible > 0 ? 1.0 : 0.0, visible > 0 ? bound : 0.0) << "row " << row;
  }
}

template <class T, class Score>
void expect_forward(const Case& c, const Score& score, double bound) {
  const auto queries = c.tensor<T, 3>("queries"), keys = c.tensor<T, 3>("keys"),
             values = c.tensor<T, 3>("values");
  const auto expected_weights = c.tensor<double, 4>("attention_weights");
  const auto layer = c.layer<T>();
  const eh::Mask mask = c.mask();

  const auto with_weights = layer.with_weights(queries, keys, values, mask, {.score = score});
  EXPECT_LE(worst_difference(with_weights.output, c.tensor<double, 3>("output")), bound);
  EXPECT_LE(worst_difference(with_weights.weights, expected_weights), bound);
  expect_rows_of_weights<T>(with_weights.weights, expected_weights);

  const eh::Tensor<T, 3> output = layer(queries, keys, values, mask, {.score = score});
  ASSERT_EQ(shape(output), shape(with_weights.output));
  Index other_bits = 0;  // C4: asking for the weights changes nothing
  for (Index i = 0; i < output.size(); ++i)
    other_bits += !(output.data()[i] == with_weights.output.data()[i]);
  EXPECT_EQ(other_bits, 0);
}

template <class T>
void expect_forward(const std::string& name, double bound) {
  const Case c(name);
  if (!c.has("score_bias")) return expect_forward<T>(c, eh::PlainScore{}, bound);
  const auto bias = c.tensor<T, 4>("bias");
  expect_forward<T>(c, eh::ScoreBias<T>(bias), bound);
}

class GoldenForward : public testing::TestWithParam<std::string> {};

TEST_P(GoldenForward, Double) { expect_forward<double>(GetParam(), 1e-11); }

// Scores near 300 carry a float error of 300 eps into the exponent.
TEST_P(GoldenForward, Float) {
  expect_forward<float>(GetParam(), GetParam() == "large_logits" ? 2e-4 : 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenForward, testing::ValuesIn(kCaseNames),
                         [](const auto& instance) { return instance.param; });

template <class T, class Score>
void expect_backward(const Case& c, const Score& score, double bound) {
  const auto queries = c.tensor<T, 3>("queries"), keys = c.tensor<T, 3>("keys"),
             values = c.tensor<T, 3>("values");
  const auto layer = c.layer<T>();
  typename eh::MultiHeadAttention<T>::Activations saved;
  const auto output = layer.forward(queries, keys, values, c.mask(), saved, {.score = score});
  const eh::Tensor<T, 3> inferred = layer(queries, keys, values, c.mask(), {.score = score});
  ASSERT_EQ(shape(output), shape(inferred));
  EXPECT_TRUE(std::equal(output.data(), output.data() + output.size(), inferred.data()));
  const auto gradients = layer.backward(c.tensor<T, 3>("grad_output"), saved);

  const auto expect_3 = [&](const auto& got, const std::string& of) {
    EXPECT_LE(worst_difference(got, c.tensor<double, 3>("grad_" + of)), bound) << of;
  };
  expect_3(gradients.queries, "queries");
  expect_3(gradients.keys, "keys");
  expect_3(gradients.values, "values");
  const auto expect_linear = [&](const eh::LinearGradients<T>& got, const std::string& of) {
    EXPECT_LE(worst_difference(got.weight, c.tensor<double, 2>("grad_W_" + of)), bound) << of;
    if (c.has("bias"))
      EXPECT_LE(worst_difference(got.bias, c.tensor<double, 1>("grad_b_" + of)), bound) << of;
    else
      EXPECT_EQ(got.bias.size(), 0) << of;
  };
  expect_linear(gradients.W_q, "q");
  expect_linear(gradients.W_k, "k");
  expect_linear(gradients.W_v, "v");
  expect_linear(gradients.W_o, "o");
  if (c.has("score_bias"))
    EXPECT_LE(worst_difference(gradients.score_bias, c.tensor<double, 4>("grad_bias")), bound);
  else
    EXPECT_EQ(gradients.score_bias.size(), 0);
}

template <class T>
void expect_backward(const std::string& name, double bound) {
  const Case c(name);
  if (!c.has("score_bias")) return expect_backward<T>(c, eh::PlainScore{}, bound);
  const auto bias = c.tensor<T, 4>("bias");
  expect_backward<T>(c, eh::ScoreBias<T>(bias), bound);
}

class GoldenBackward : public testing::TestWithParam<std::string> {};

TEST_P(GoldenBackward, Double) { expect_backward<double>(GetParam(), 1e-11); }

TEST_P(GoldenBackward, Float) {
  expect_backward<float>(GetParam(), GetParam() == "large_logits" ? 2e-3 : 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenBackward, testing::ValuesIn(kCaseNames),
                         [](const auto& instance) { return instance.param; });

class GoldenData : public testing::TestWithParam<std::string> {};

// Every tensor has the shape that case.txt says, and its gradient has it too.
TEST_P(GoldenData, HasTheShapesOfItsCase) {
  const Case c(GetParam());
  const auto o = c.options();
  const Index B = c.number("batch", -1), Q = c.number("num_queries", -1),
              K = c.number("num_kvpairs", -1), H = o.num_heads, E = o.num_hiddens,
              G = o.num_kv_heads > 0 ? o.num_kv_heads : H,
              D = o.head_size > 0 ? o.head_size : E / H;
  using Shape = std::vector<Index>;
  const auto expect_3 = [&](const std::string& name, const Shape& expected) {
    EXPECT_EQ(shape(c.tensor<double, 3>(name)), expected) << name;
    EXPECT_EQ(shape(c.tensor<double, 3>("grad_" + name)), expected) << name;
  };
  expect_3("queries", {B, Q, o.query_size});
  expect_3("keys", {B, K, o.key_size});
  expect_3("values", {B, K, o.value_size});
  const auto expect_linear = [&](const std::string& name, Index out, Index in) {
    EXPECT_EQ(shape(c.tensor<double, 2>("W_" + name)), (Shape{out, in})) << name;
    EXPECT_EQ(shape(c.tensor<double, 2>("grad_W_" + name)), (Shape{out, in})) << name;
    if (!o.bias) return;
    EXPECT_EQ(shape(c.tensor<double, 1>("b_" + name)), Shape{out}) << name;
    EXPECT_EQ(shape(c.tensor<double, 1>("grad_b_" + name)), Shape{out}) << name;
  };
  expect_linear("q", H * D, o.query_size);
  expect_linear("k", G * D, o.key_size);
  expect_linear("v", G * D, o.value_size);
  expect_linear("o", E, H * D);
  EXPECT_EQ(shape(c.tensor<double, 3>("output")), (Shape{B, Q, E}));
  EXPECT_EQ(shape(c.tensor<double, 3>("grad_output")), (Shape{B, Q, E}));
  EXPECT_EQ(shape(c.tensor<double, 4>("attention_weights")), (Shape{B, H, Q, K}));
  if (c.has("score_bias")) {
    EXPECT_EQ(shape(c.tensor<double, 4>("bias")), (Shape{B, H, Q, K}));
    EXPECT_EQ(shape(c.tensor<double, 4>("grad_bias")), (Shape{B, H, Q, K}));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenData, testing::ValuesIn(kCaseNames),
                         [](const auto& instance) { return instance.param; });

TEST(Golden, EveryFolderIsATest) {
  std::set<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(kCases))
    folders.insert(entry.path().filename().string());
  EXPECT_EQ(folders, std::set<std::string>(kCaseNames.begin(), kCaseNames.end()));
}

}  // namespace
