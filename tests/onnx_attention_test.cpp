// SPDX-License-Identifier: MIT
// ONNX's 93 node cases of its operator Attention (opsets 23 to 25), all of them, in float and in
// double, on one thread and on three, and by attention_reference.
// tests/golden/make_onnx_attention.py made the data. In the operator's words:
//   causal, window    counted from the past's length, or where nonpad_kv_seqlen says that keys end
//   attn_mask         of booleans it is Mask::allowed, of numbers a ScoreBias; keys that it is too
//                     short for are hidden
//   past_key, _value  rows that stand before the new ones
//   qk_matmul_output  modes 0, 1 and 2: AttentionOptions::scores_after; 3: the weights
// Tensors of 16 bits are widened, and results compared to ONNX's of 16 bits; softmax_precision asks for
// no more than the softmax always has.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/io/safetensors.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::SafetensorsType;

const eh::Safetensors& cases() {
  static const eh::Safetensors file =
      eh::read_safetensors(std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests" / "golden" /
                           "onnx_attention" / "cases.safetensors");
  return file;
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& [name, words] : cases().metadata()) names.push_back(name);
  return names;
}

// Half a unit in the last place of a number of that type.
double rounding_of(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::float32:
      return 0x1p-24;
    case SafetensorsType::float16:
      return 0x1p-11;
    case SafetensorsType::bfloat16:
      return 0x1p-8;
    default:
      throw std::runtime_error("no type of a result");
  }
}

// What a case says, and its tensors in any type.
class Words {
 public:
  explicit Words(const std::string& name) {
    std::istringstream text(cases().metadata().at(name));
    std::string word, value;
    while (text >> word >> value) values_[word] = value;
  }
  [[nodiscard]] bool has(const std::string& word) const { return values_.count(word) > 0; }
  [[nodiscard]] double number(const std::string& word, double otherwise) const {
    return has(word) ? std::stod(values_.at(word)) : otherwise;
  }
  [[nodiscard]] Index integer(const std::string& word, Index otherwise) const {
    return has(word) ? std::stoll(values_.at(word)) : otherwise;
  }
  [[nodiscard]] SafetensorsType type(const std::string& tensor) const {
    return cases().type(values_.at(tensor));
  }
  // Of any rank from 1 to 4.
  [[nodiscard]] const std::vector<Index>& shape(const std::string& tensor) const {
    return cases().shape(values_.at(tensor));
  }
  template <class T>
  [[nodiscard]] std::vector<T> elements(const std::string& tensor) const {
    if (type(tensor) == SafetensorsType::boolean) return elements_from<T, bool>(tensor);
    if (type(tensor) == SafetensorsType::int64) return elements_from<T, std::int64_t>(tensor);
    return elements_from<T, float>(tensor);
  }
  // [B, H, rows, D], of that or of [B, rows, H * D].
  template <class T>
  [[nodiscard]] Tensor<T, 4> heads(const std::string& tensor, Index count) const {
    const std::vector<Index>& n = shape(tensor);
    const auto x = elements<T>(tensor);
    if (n.size() == 4) {
      Tensor<T, 4> y(n[0], n[1], n[2], n[3]);
      std::copy(x.begin(), x.end(), y.data());
      return y;
    }
    const Index D = n[2] / count;
    const auto apart = eh::heads_side_by_side(TensorView<T, 4>(x.data(), {n[0], n[1], count, D}));
    Tensor<T, 4> y(n[0], count, n[1], D);
    for (Index b = 0; b < n[0]; ++b)
      for (Index h = 0; h < count; ++h)
        for (Index i = 0; i < n[1]; ++i) std::copy_n(&apart(b, h, i, 0), D, &y(b, h, i, 0));
    return y;
  }

 private:
  template <class T, class Element>
  [[nodiscard]] std::vector<T> elements_from(const std::string& tensor) const {
    const std::string& id = values_.at(tensor);
    std::vector<T> elements;
    const auto copy = [&elements](const auto& x) {
      for (Index i = 0; i < x.size(); ++i) elements.push_back(static_cast<T>(x.data()[i]));
    };
    const std::size_t rank = shape(tensor).size();
    if (rank == 1) copy(cases().tensor<Element, 1>(id));
    if (rank == 2) copy(cases().tensor<Element, 2>(id));
    if (rank == 3) copy(cases().tensor<Element, 3>(id));
    if (rank == 4) copy(cases().tensor<Element, 4>(id));
    return elements;
  }

  std::map<std::string, std::string> values_;
};

template <class T>
struct Case {
  explicit Case(const std::string& name) : words(name) {
    if (words.has("past_key")) {
      const auto past_key = words.heads<T>("past_key", 0),
                 past_value = words.heads<T>("past_value", 0);
      past = past_key.dimension(2);
      k = Tensor<T, 4>(past_key.concatenate(k, 2));
      v = Tensor<T, 4>(past_value.concatenate(v, 2));
    }
    pairs.Q = q.dimension(2), pairs.K = k.dimension(2);
    read_places();
    if (words.has("attn_mask")) read_mask();
  }

  Words words;
  Index kv_heads = words.integer("kv_num_heads", 0), past = 0;
  Tensor<T, 4> q = words.heads<T>("Q", words.integer("q_num_heads", 0)),
               k = words.heads<T>("K", kv_heads), v = words.heads<T>("V", kv_heads);
  PairMask pairs{};
  Tensor<T, 4> bias{0, 0, 0, 0};  // NOLINT: none
  T cap = static_cast<T>(words.number("softcap", 0));
  double scale = words.number("scale", 1 / std::sqrt(static_cast<double>(q.dimension(3))));

  // visit(the case's score function)
  template <class Visit>
  void with_score(const Visit& visit) const {
    const eh::ScoreBias<T> added(bias);
    if (cap > 0 && bias.size() > 0)
      visit(eh::chain(eh::Softcap<T>(cap), added));
    else if (cap > 0)
      visit(eh::Softcap<T>(cap));
    else if (bias.size() > 0)
      visit(added);
    else
      visit(eh::PlainScore{});
  }
  [[nodiscard]] Wide<T> exact_score(Wide<T> score, eh::ScorePosition at) const {
    using W = Wide<T>;
    if (cap > 0) score = W(cap) * std::tanh(score / W(cap));
    const auto along = [this](std::size_t axis, Index i) {
      return bias.dimension(axis) == 1 ? 0 : i;
    };
    if (bias.size() > 0)
      score += W(bias(along(0, at.b), along(1, at.h), along(2, at.q), along(3, at.k)));
    return score;
  }

 private:
  // Which key stands beside which query, and what is hidden by it.
  void read_places() {
    pairs.window = {words.integer("left_window_size", -1), words.integer("right_window_size", -1)};
    const bool is_causal = words.integer("is_causal", 0) != 0;
    if (words.has("nonpad_kv_seqlen")) {
      pairs.key_lens = words.elements<Index>("nonpad_kv_seqlen");
      if (is_causal) pairs.causal = Causal::bottom_right;
    } else {
      pairs.first_positions.assign(static_cast<std::size_t>(q.dimension(0)), past);
      if (is_causal) pairs.causal = Causal::top_left;
    }
  }
  void read_mask() {
    std::vector<Index> shape = words.shape("attn_mask");
    shape.insert(shape.begin(), 4 - shape.size(), 1);  // of rank 3 it is [H, Q, K]
    const bool is_of_pairs = words.type("attn_mask") == SafetensorsType::boolean;
    auto mask =
        constant_tensor<T>(is_of_pairs ? T(0) : -kInf<T>, shape[0], shape[1], shape[2], pairs.K);
    const auto x = words.elements<T>("attn_mask");
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Index at = static_cast<Index>(i);
      mask.data()[at / shape[3] * pairs.K + at % shape[3]] = x[i];
    }
    if (is_of_pairs)
      pairs.allowed = mask.template cast<bool>();
    else
      bias = mask;
  }
};

// Both computed what is exact to within its own rounding: `off` is the bound for T, and ONNX's is as
// many times larger as its half unit in the last place is.
template <class T, class Off>
void expect_onnxs(const Case<T>& onnx, const std::string& output, const Tensor<T, 4>& got,
                  const Off& off) {
  const Tensor<T, 4> expected = onnx.words.template heads<T>(output, onnx.q.dimension(1));
  ASSERT_EQ(got.dimensions(), expected.dimensions()) << output;
  const double ratio =
      1 + rounding_of(onnx.words.type(output)) / (static_cast<double>(Limits<T>::epsilon()) / 2);
  for (Index b = 0, i = 0; b < got.dimension(0); ++b)
    for (Index h = 0; h < got.dimension(1); ++h)
      for (Index row = 0; row < got.dimension(2); ++row)
        for (Index column = 0; column < got.dimension(3); ++column, ++i) {
          const T x = got.data()[i], y = expected.data()[i];
          if (x == y) continue;  // infinite too
          ASSERT_LE(std::abs(x - y), ratio * static_cast<double>(off(b, h, row, column)))
              << output << ' ' << b << ' ' << h << ' ' << row << ' ' << column << ": " << x
              << ", not " << y;
        }
}

template <class T>
void expect_case(const std::string& name) {
  const Case<T> onnx(name);
  const eh::Mask mask = onnx.pairs.mask();
  const Index mode = onnx.words.integer("qk_matmul_output_mode", 0);
  const bool has_scores = onnx.words.has("qk_matmul_output") && mode < 3;
  const auto exact =
      textbook<T>(onnx.q, onnx.k, onnx.v, onnx.pairs, onnx.scale,
                  [&](Wide<T> score, eh::ScorePosition at) { return onnx.exact_score(score, at); });
  const auto output_bound = [&](Index b, Index h, Index i, Index c) {
    return exact.output_bound(b, h, i, c);
  };
  const auto weights_bound = [&](Index b, Index h, Index i, Index key) {
    return exact.weights_bound(b, h, i, key);
  };
  // A score, as their sum's logarithm.
  const auto score_bound = [&](Index b, Index h, Index i, Index) {
    return exact.lse_bound(b, h, i);
  };

  onnx.with_score([&](const auto& score) {
    const auto reference =
        eh::attention_reference<T>(onnx.q, onnx.k, onnx.v, mask, static_cast<T>(onnx.scale), score);
    expect_onnxs(onnx, "Y", reference.output, output_bound);
    for (const int threads : {1, 3}) {
      eh::Context context(threads, kAnyWork);
      eh::AttentionOptions<T> options{.scale = onnx.scale, .score = score, .weights = true};
      const eh::Softcap<T> softcap(onnx.cap > 0 ? onnx.cap : T(1));
      if (has_scores && mode == 0) options.scores_after = eh::PlainScore{};
      if (has_scores && mode == 1) options.scores_after = softcap;
      if (has_scores && mode == 2) options.scores_after = options.score;
      const auto got =
          eh::scaled_dot_product_attention(onnx.q, onnx.k, onnx.v, mask, options, context);
      EXPECT_TRUE(within(got.output, exact.output, exact.output_bound));
      expect_onnxs(onnx, "Y", got.output, output_bound);
      if (has_scores) expect_onnxs(onnx, "qk_matmul_output", got.scores, score_bound);
      if (onnx.words.has("qk_matmul_output") && mode == 3)
        expect_onnxs(onnx, "qk_matmul_output", got.weights, weights_bound);
    }
  });
}

class OnnxAttention : public testing::TestWithParam<std::string> {};

TEST_P(OnnxAttention, IsOnnxs) {
  expect_case<float>(GetParam());
  expect_case<double>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, OnnxAttention, testing::ValuesIn(names()),
                         [](const auto& instance) { return instance.param; });

TEST(OnnxAttentionCases, AreAllThatThereAre) { EXPECT_EQ(names().size(), 93U); }

}  // namespace
