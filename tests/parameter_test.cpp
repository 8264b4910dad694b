// SPDX-License-Identifier: MIT
// A parameter is a tensor in [out, in] order, wherever its numbers lie, and nothing beside them is
// touched.
#include <array>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/parameter.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Linear, eh::LinearGradients, eh::MultiHeadAttention, eh::Parameter;

// Around the widths that panels have (4 to 32), and the runs in which a panel is walked.
constexpr std::array<Index, 14> outs{1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65};
constexpr std::array<Index, 7> ins{1, 2, 17, 63, 64, 65, 130};

template <class T>
class ParameterTest : public testing::Test {
 protected:
  static Parameter<T> weight_of(Linear<T>& linear) {
    std::vector<Parameter<T>> all;
    linear.for_each_parameter([&](const Parameter<T>& parameter) { all.push_back(parameter); });
    return all.front();
  }
  template <class Module>
  static std::vector<std::string> names_of(Module&& module, std::string_view prefix = "") {
    std::vector<std::string> names;
    module.for_each_parameter([&](const auto& parameter) { names.push_back(parameter.name()); },
                              prefix);
    return names;
  }
};
TYPED_TEST_SUITE(ParameterTest, Scalars, ScalarNames);

using Names = std::vector<std::string>;

TYPED_TEST(ParameterTest, ElementsAreThoseOfTheWeightInItsOrder) {
  using T = TypeParam;
  for (const Index out : outs)
    for (const Index in : ins) {
      Linear<T> linear({.in_features = in, .out_features = out}, 7);
      const Tensor<T, 2> weight = linear.weight();
      const auto check = [&](const auto& parameter) {
        ASSERT_EQ(parameter.size(), out * in);
        ASSERT_EQ((std::vector<Index>(parameter.shape().begin(), parameter.shape().end())),
                  (std::vector<Index>{out, in}));
        Tensor<T, 2> one_by_one(out, in), together(out, in);
        for (Index i = 0; i < parameter.size(); ++i) one_by_one.data()[i] = parameter.get(i);
        parameter.copy_to({together.data(), static_cast<std::size_t>(together.size())});
        EXPECT_TRUE(same_bits(one_by_one, weight)) << out << ' ' << in;
        EXPECT_TRUE(same_bits(together, weight)) << out << ' ' << in;
      };
      linear.for_each_parameter(check);
      std::as_const(linear).for_each_parameter(check);
    }
}

TYPED_TEST(ParameterTest, WrittenInAnyWayTheLayerIsThatOfSetWeight) {
  using T = TypeParam;
  for (const Index out : outs)
    for (const Index in : {Index{1}, Index{17}, Index{65}}) {
      const auto weight = random_tensor<T>(1, out, in);
      Linear<T> expected({.in_features = in, .out_features = out});
      expected.set_weight(weight);
      const auto x = random_tensor<T>(2, 5, in);

      Linear<T> one_by_one({.in_features = in, .out_features = out}, 3), together = one_by_one,
                                                                         updated = one_by_one;
      for (Index i = 0; i < weight.size(); ++i)
        this->weight_of(one_by_one).set(i, weight.data()[i]);
      this->weight_of(together).copy_from({weight.data(), static_cast<std::size_t>(weight.size())});
      const Tensor<T, 2> before = updated.weight();
      std::vector<int> calls(static_cast<std::size_t>(weight.size()));
      this->weight_of(updated).update([&](Index i, T value) {
        ++calls[static_cast<std::size_t>(i)];
        EXPECT_EQ(bits(value), bits(before.data()[i]));
        return weight.data()[i];
      });
      EXPECT_EQ(calls, std::vector<int>(calls.size(), 1)) << out << ' ' << in;
      for (const auto& linear : {one_by_one, together, updated}) {
        EXPECT_TRUE(same_bits(linear.weight(), weight)) << out << ' ' << in;
        EXPECT_TRUE(same_bits(linear(x), expected(x))) << out << ' ' << in;
      }
    }
}

// Panels made here: rows [0, rows) of panels[p][column][row % W], all else is padding.
TYPED_TEST(ParameterTest, PaddingIsNeitherReadNorWritten) {
  using T = TypeParam;
  for (const Index W : {1, 4, 8, 16, 32})
    for (const Index rows : {Index{1}, W - 1, W, W + 1, 2 * W + 1})
      for (const Index columns : {1, 3, 64, 65}) {
        if (rows == 0) continue;
        const Index panels = (rows + W - 1) / W;
        auto expected = constant_tensor<T>(kNan<T>, panels, columns, W);
        Tensor<T, 3> memory = expected;
        for (Index i = 0; i < rows * columns; ++i) {
          const Index row = i / columns, column = i % columns;
          memory(row / W, column, row % W) = static_cast<T>(i);
          expected(row / W, column, row % W) = static_cast<T>(3 * i + 2);
        }
        const Parameter<T> parameter("w", eh::detail::Panels<T>{memory.data(), rows, columns, W});
        for (Index i = 0; i < parameter.size(); ++i)
          ASSERT_EQ(bits(parameter.get(i)), bits(static_cast<T>(i)));
        parameter.update([](Index i, T value) { return T(2) * value + static_cast<T>(i + 1); });
        for (Index i = 0; i < parameter.size(); ++i) parameter.set(i, parameter.get(i) + T(1));
        EXPECT_TRUE(same_bits(memory, expected)) << W << ' ' << rows << ' ' << columns;
      }
}

TYPED_TEST(ParameterTest, APlainTensorIsAParameter) {
  using T = TypeParam;
  auto vector = random_tensor<T>(1, 5);
  auto matrix = random_tensor<T>(2, 3, 70);
  const Tensor<T, 2> before = matrix;
  const Parameter<T> gain("gain", vector), table("table", matrix);
  EXPECT_EQ(gain.shape().size(), 1u);
  EXPECT_EQ(gain.shape()[0], 5);
  EXPECT_EQ(table.shape().size(), 2u);
  EXPECT_EQ(table.shape()[1], 70);
  EXPECT_EQ(table.size(), 210);
  EXPECT_EQ(table.elements().data(), matrix.data());
  EXPECT_EQ(table.elements().size(), 210u);
  gain.update([](Index i, T) { return static_cast<T>(i); });
  EXPECT_EQ(vector(4), T(4));
  table.update([](Index, T value) { return -value; });
  for (Index i = 0; i < 210; ++i) EXPECT_EQ(table.get(i), -before.data()[i]);

  Eigen::TensorMap<Tensor<T, 1>> part(matrix.data() + 70, 70);
  Parameter<T>("row", part).set(1, T(9));
  EXPECT_EQ(matrix(1, 1), T(9));
  const Parameter<const T> reader("table", std::as_const(matrix));
  EXPECT_EQ(reader.get(71), T(9));

  Tensor<T, 2> none(0, 4);
  const Parameter<T> empty("empty", none);
  EXPECT_EQ(empty.size(), 0);
  empty.update([](Index, T value) { return ADD_FAILURE(), value; });
  EXPECT_TRUE(empty.elements().empty());
}

template <class P, class T>
concept Writable = requires(const P& parameter, T value) { parameter.set(0, value); };
template <class T>
struct Constant {
  T operator()(Index, auto) const { return T(0); }
};
template <class P, class T>
concept Updatable = requires(const P& parameter) { parameter.update(Constant<T>{}); };
static_assert(Writable<Parameter<float>, float> && !Writable<Parameter<const float>, float>);
static_assert(Updatable<Parameter<float>, float> && !Updatable<Parameter<const float>, float>);
static_assert(!Updatable<Parameter<float>, double>);
static_assert(eh::HasParameters<Linear<float>> && eh::HasParameters<const Linear<float>>);
static_assert(eh::HasParameters<const LinearGradients<double>>);
static_assert(eh::HasParameters<const MultiHeadAttention<double>>);
static_assert(!eh::HasParameters<Tensor<float, 2>>);

TYPED_TEST(ParameterTest, NamesAndTheirOrder) {
  using T = TypeParam;
  const Linear<T> plain({.in_features = 2, .out_features = 3}),
      biased({.in_features = 2, .out_features = 3, .bias = true});
  EXPECT_EQ(this->names_of(plain), (Names{"weight"}));
  EXPECT_EQ(this->names_of(biased), (Names{"weight", "bias"}));
  EXPECT_EQ(this->names_of(biased, "out."), (Names{"out.weight", "out.bias"}));

  MultiHeadAttention<T> attention({.num_hiddens = 6, .num_heads = 2, .bias = true});
  attention.initialize(6, 6, 6);
  EXPECT_EQ(this->names_of(attention), (Names{"W_q.weight", "W_q.bias", "W_k.weight", "W_k.bias",
                                              "W_v.weight", "W_v.bias", "W_o.weight", "W_o.bias"}));
  const MultiHeadAttention<T> unbiased(
      {.num_hiddens = 6, .num_heads = 2, .query_size = 6, .key_size = 4, .value_size = 5});
  EXPECT_EQ(this->names_of(unbiased, "decoder.0."),
            (Names{"decoder.0.W_q.weight", "decoder.0.W_k.weight", "decoder.0.W_v.weight",
                   "decoder.0.W_o.weight"}));
  const MultiHeadAttention<T> with_sinks({.num_hiddens = 6,
                                          .num_heads = 2,
                                          .query_size = 6,
                                          .key_size = 6,
                                          .value_size = 6,
                                          .sink_logits = true});
  const Names names{"a.W_q.weight", "a.W_k.weight", "a.W_v.weight", "a.W_o.weight",
                    "a.sink_logits"};
  EXPECT_EQ(this->names_of(with_sinks, "a."), names);
  const auto x = random_tensor<T>(1, 1, 3, 6);
  typename MultiHeadAttention<T>::Activations saved;
  (void)with_sinks.forward(x, x, x, {}, saved);
  auto gradients = with_sinks.backward(x, saved);
  EXPECT_EQ(this->names_of(gradients, "a."), names);
  EXPECT_EQ(this->names_of(std::as_const(gradients), "a."), names);
}

TYPED_TEST(ParameterTest, GradientsAreNamedAndShapedLikeTheirLayer) {
  using T = TypeParam;
  const Linear<T> linear({.in_features = 2, .out_features = 3, .bias = true});
  LinearGradients<T> gradients{random_tensor<T>(1, 3, 2), random_tensor<T>(2, 3)};
  EXPECT_EQ(this->names_of(gradients, "x."), this->names_of(linear, "x."));
  std::vector<std::vector<Index>> shapes;
  const auto add = [&](const auto& parameter) {
    shapes.emplace_back(parameter.shape().begin(), parameter.shape().end());
  };
  linear.for_each_parameter(add);
  std::as_const(gradients).for_each_parameter(add);
  EXPECT_EQ(shapes, (std::vector<std::vector<Index>>{{3, 2}, {3}, {3, 2}, {3}}));
  gradients.for_each_parameter([](const Parameter<T>& parameter) { parameter.set(0, T(5)); });
  EXPECT_EQ(gradients.weight(0, 0), T(5));
  EXPECT_EQ(gradients.bias(0), T(5));
  EXPECT_EQ(this->names_of(LinearGradients<T>{.weight = random_tensor<T>(1, 3, 2)}),
            (Names{"weight"}));
}

TYPED_TEST(ParameterTest, TheBiasIsTheLayersOwn) {
  using T = TypeParam;
  Linear<T> linear({.in_features = 2, .out_features = 3, .bias = true});
  linear.for_each_parameter([](const Parameter<T>& parameter) {
    if (parameter.name() == "bias") parameter.update([](Index i, T) { return static_cast<T>(i); });
  });
  EXPECT_EQ(linear.bias()(2), T(2));
  EXPECT_TRUE(same_bits(linear(constant_tensor<T>(0, 2)), linear.bias()));
}

TYPED_TEST(ParameterTest, ALazyLayerHasNoParametersYet) {
  using T = TypeParam;
  const auto visited = [](auto&& module) {
    return refusal<std::logic_error>([&] {
      module.for_each_parameter([](const auto&) { ADD_FAILURE(); });
      return 0;
    });
  };
  const std::string linear =
      "eigenheads: Linear: in_features is not known yet; call it once on a non-const layer, or "
      "initialize(in_features)";
  EXPECT_EQ(visited(Linear<T>({.out_features = 3, .bias = true})), linear);
  EXPECT_EQ(visited(std::as_const(*std::make_unique<Linear<T>>(eh::LinearOptions{0, 3, true}))),
            linear);
  const MultiHeadAttention<T> attention(
      {.num_hiddens = 6, .num_heads = 2, .bias = true, .query_size = 6, .key_size = 6});
  const std::string layer =
      "eigenheads: MultiHeadAttention: the input size of W_v is not known yet; call "
      "initialize(query_size, key_size, value_size), or call the layer once while it is not const";
  EXPECT_EQ(visited(attention), layer);
  EXPECT_EQ(visited(MultiHeadAttention<T>(attention)), layer);
}

TYPED_TEST(ParameterTest, Refusals) {
  using T = TypeParam;
  Linear<T> linear({.in_features = 2, .out_features = 3});
  const Parameter<T> weight = this->weight_of(linear);
  std::vector<T> five(5);
  EXPECT_EQ(refusal([&] { return weight.copy_to(five), 0; }),
            "eigenheads: weight has 6 elements; got 5");
  EXPECT_EQ(refusal([&] { return weight.copy_from(five), 0; }),
            "eigenheads: weight has 6 elements; got 5");
  EXPECT_EQ(refusal<std::logic_error>([&] { return weight.elements(); }),
            "eigenheads: weight does not lie in memory as a tensor does; use get() or copy_to()");
  EXPECT_EQ(refusal([&] { return Parameter<T>("x", eh::TensorSpan<T, 1>(nullptr, {3})); }),
            "eigenheads: x has shape [3] but its data pointer is null");
}

}  // namespace
