// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/tensor_encoder.hpp>

#include "nn/transformers.hpp"
#include "support.hpp"

namespace {

namespace mpi = eigenheads::mpi;
using namespace support;
using eh::Mask, eh::TransformerEncoder, eh::TransformerStackOptions;
using mpi::Ranks;

[[nodiscard]] std::vector<TransformerStackOptions> stacks(double dropout = 0) {
  auto gated = rms_stack_of(true, dropout);
  gated.layer.gated = true;
  gated.layer.bias = false;
  gated.layer.num_kv_heads = 1;
  return {stack_of(false, dropout), gated};
}

template <class T>
class TensorParallelEncoderTest : public testing::Test {};
TYPED_TEST_SUITE(TensorParallelEncoderTest, Scalars, ScalarNames);

TYPED_TEST(TensorParallelEncoderTest, HasTheBitsOfOneProcess) {
  using T = TypeParam;
  const Sequences sequences{5, 0, 9};
  const Mask causal{.causal = eh::Causal::top_left};
  const auto x = random_tensor<T>(1, 2, 7, 24);
  const auto rows = random_tensor<T>(2, sequences.rows(), 24);
  for (const auto& options : stacks()) {
    const auto whole = make<TransformerEncoder<T>>(options);
    for (const int size : {1, 2, 3, 8})
      mpi::run_locally(size, [&](Ranks& ranks) {
        const mpi::TensorParallelEncoder<T> part(whole, ranks);
        EXPECT_TRUE(same_bits(part(x, causal), whole(x, causal)));
        EXPECT_TRUE(same_bits(part(rows, sequences), whole(rows, sequences)));
        EXPECT_TRUE(same_bits(part.layers[0](x), whole.layers[0](x)));
        EXPECT_TRUE(same_bits(part.layers[0](rows, sequences), whole.layers[0](rows, sequences)));
      });
  }
}

TYPED_TEST(TensorParallelEncoderTest, DecodesWithTheBitsOfOneProcess) {
  using T = TypeParam;
  for (const auto& options : stacks()) {
    const auto whole = make<TransformerEncoder<T>>(options);
    for (const int size : {2, 4})
      mpi::run_locally(size, [&](Ranks& ranks) {
        const mpi::TensorParallelEncoder<T> part(whole, ranks);
        eh::TransformerCache<T> own(part, {.batch_size = 2, .capacity = 20});
        eh::TransformerCache<T> all(whole, {.batch_size = 2, .capacity = 20});
        for (const Index n : {Index{6}, Index{1}, Index{2}}) {
          const auto x = random_tensor<T>(static_cast<std::uint64_t>(n), 2, n, 24);
          EXPECT_TRUE(same_bits(part.step(x, own), whole.step(x, all)));
        }
        const Sequences sequences{1, 3};
        const auto x = random_tensor<T>(9, 4, 24);
        EXPECT_TRUE(same_bits(part.step(x, sequences, own), whole.step(x, sequences, all)));
        EXPECT_ANY_THROW((void)part.step(random_tensor<T>(1, 2, 9, 24), own));  // no room
        EXPECT_EQ(own.length(0), 10);
      });
  }
}

// Parameters minus a thousandth of their gradients.
template <class Module, class Gradients>
void descend(Module& module, const Gradients& gradients) {
  std::vector<std::vector<double>> all;
  gradients.for_each_parameter([&](const auto& gradient) {
    auto& values = all.emplace_back();
    for (Index i = 0; i < gradient.size(); ++i) values.push_back(gradient.get(i));
  });
  std::size_t next = 0;
  module.for_each_parameter([&](const auto& parameter) {
    const auto& gradient = all[next++];
    ASSERT_EQ(parameter.size(), std::ssize(gradient)) << parameter.name();
    parameter.update([&](Index i, auto value) {
      return static_cast<decltype(value)>(value - gradient[static_cast<std::size_t>(i)] / 1000);
    });
  });
}

// A few steps of training, each on what the steps before made of the weights, and the shares of the
// weights after the last.
TYPED_TEST(TensorParallelEncoderTest, TrainsWithTheBitsOfOneProcess) {
  using T = TypeParam;
  const Sequences sequences{5, 0, 9};
  const auto x = random_tensor<T>(1, sequences.rows(), 24);
  const auto dy = random_tensor<T>(2, sequences.rows(), 24);
  for (const auto& options : stacks(0.2)) {
    auto whole = make<TransformerEncoder<T>>(options);
    const auto first = whole;
    constexpr std::uint64_t steps = 3;
    std::vector<Tensor<T, 2>> outputs;
    Tensor<T, 3> dx;
    typename TransformerEncoder<T>::Activations saved;
    for (std::uint64_t step = 0; step < steps; ++step) {
      outputs.push_back(whole.forward(x, sequences, {}, saved, {.seed = eh::DropoutSeed{step}}));
      const auto gradients = whole.backward(dy, saved);
      dx = gradients.x;
      descend(whole, gradients);
    }
    std::map<std::string, std::vector<T>> expected;
    whole.for_each_parameter([&](const auto& parameter) {
      auto& values = expected[parameter.name()];
      values.resize(static_cast<std::size_t>(parameter.size()));
      parameter.copy_to(values);
    });
    for (const int size : {1, 2, 3, 8})
      mpi::run_locally(size, [&](Ranks& ranks) {
        mpi::TensorParallelEncoder<T> part(first, ranks);
        typename mpi::TensorParallelEncoder<T>::Activations of_part;
        typename mpi::TensorParallelEncoder<T>::Gradients gradients;
        for (std::uint64_t step = 0; step < steps; ++step) {
          EXPECT_TRUE(
              same_bits(part.forward(x, sequences, {}, of_part, {.seed = eh::DropoutSeed{step}}),
                        outputs[static_cast<std::size_t>(step)]));
          gradients = part.backward(dy, of_part);
          descend(part, gradients);
        }
        EXPECT_TRUE(same_bits(gradients.x, dx));
        part.for_each_share([&](const auto& parameter, Index begin, Index all) {
          const auto& values = expected.at(parameter.name());
          const Index columns = std::ssize(values) / all;
          ASSERT_LE((begin + parameter.shape()[0]) * columns, std::ssize(values));
          for (Index i = 0; i < parameter.size(); ++i)
            ASSERT_EQ(bits(parameter.get(i)),
                      bits(values[static_cast<std::size_t>(begin * columns + i)]))
                << parameter.name() << ' ' << i;
        });
      });
  }
}

// What each rank says of call(ranks), which sends nothing.
template <class Call>
[[nodiscard]] std::vector<std::string> sentences(int size, const Call& call) {
  std::vector<std::string> said(static_cast<std::size_t>(size), "not refused");
  mpi::run_locally(size, [&](Ranks& ranks) {
    ranks.reset_traffic();
    try {
      call(ranks);
    } catch (const std::invalid_argument& error) {
      said[static_cast<std::size_t>(ranks.rank())] = error.what();
    }
    EXPECT_EQ(ranks.traffic().bytes_sent, 0);
  });
  return said;
}
template <class Call>
void expect_refused(int size, const Call& call) {
  for (const std::string& sentence : sentences(size, call))
    EXPECT_NE(sentence.find("a digest of layers, mask, lengths, gates and caches"),
              std::string::npos)
        << sentence;
}

TEST(TensorParallelEncoder, ARankWithOtherSequencesIsFoundBeforeAnythingIsSent) {
  const auto whole = make<TransformerEncoder<float>>(stack_of(false));
  const auto x = random_tensor<float>(1, 6, 24);
  expect_refused(2, [&](Ranks& ranks) {
    const mpi::TensorParallelEncoder<float> part(whole, ranks);
    const Sequences sequences = ranks.rank() == 0 ? Sequences{2, 4} : Sequences{3, 3};
    (void)part(x, sequences);
  });
}

TEST(TensorParallelEncoder, NoLayersAndNoActivationsAreRefusedOnAll) {
  TransformerStackOptions options = stack_of(false);
  const auto whole = make<TransformerEncoder<float>>(options);
  options.num_layers = 0;
  mpi::run_locally(2, [&](Ranks& ranks) {
    EXPECT_EQ(refusal([&] { return mpi::TensorParallelEncoder<float>(options, ranks); }),
              "eigenheads: TensorParallelEncoder: num_layers is 0; expected 1 or more");
    const mpi::TensorParallelEncoder<float> part(whole, ranks);
    using Layer = std::remove_cvref_t<decltype(part.layers[0])>;
    EXPECT_EQ(refusal<std::logic_error>([&] {
                return part.layers[0].backward(random_tensor<float>(1, 2, 5, 24),
                                               typename Layer::Activations());
              }),
              "eigenheads: TensorParallelEncoderLayer: backward needs the activations of a forward "
              "call");
  });
}

TEST(TensorParallelEncoder, ARankWithAnotherLayerIsFoundBeforeAnythingIsSent) {
  const TransformerStackOptions usual = stack_of(false);
  std::vector<TransformerStackOptions> others(7, usual);
  others[0].layer.num_heads = 6;
  others[1].layer.head_size = 6;
  others[2].layer.feed_forward_size = 48;
  others[3].layer.activation = eh::Activation::relu;
  others[4].layer.gated = true;
  others[5].layer.norm_first = true;
  others[6].layer.norm = eh::NormKind::rms_norm;
  const auto x = random_tensor<float>(1, 2, 5, 24);
  for (std::size_t i = 0; i < others.size(); ++i) {
    SCOPED_TRACE(i);
    const auto part = [&](Ranks& ranks) {
      return mpi::TensorParallelEncoder<float>(ranks.rank() == 1 ? others[i] : usual, ranks);
    };
    expect_refused(3, [&](Ranks& ranks) { (void)part(ranks)(x); });
    expect_refused(3, [&](Ranks& ranks) { (void)part(ranks).layers[0](x); });
    expect_refused(3, [&](Ranks& ranks) {
      mpi::TensorParallelEncoderActivations<float> saved;
      (void)part(ranks).forward(x, {}, saved);
    });
  }
}

TEST(TensorParallelEncoder, ARankThatGoesBackFromAnotherCallIsFoundBeforeAnythingIsSent) {
  const auto x = random_tensor<float>(1, 2, 5, 24);
  const eh::ValidLens lens[] = {{5, 3}, {2, 4}};
  for (const bool other_call : {true, false}) {  // or adds to its gradients
    const auto go_back = [&](Ranks& ranks, const auto& module) {
      typename std::remove_cvref_t<decltype(module)>::Activations saved[2];
      for (std::size_t i = 0; i < 2; ++i)
        (void)module.forward(x, {.valid_lens = lens[i]}, saved[i]);
      auto gradients = module.backward(x, saved[0]);
      const bool is_other = ranks.rank() == 1;
      ranks.reset_traffic();
      module.backward_into(gradients, x, saved[other_call && is_other ? 1 : 0],
                           !other_call && is_other);
    };
    const auto whole = make<TransformerEncoder<float>>(stack_of(false));
    expect_refused(
        2, [&](Ranks& ranks) { go_back(ranks, mpi::TensorParallelEncoder<float>(whole, ranks)); });
    expect_refused(2, [&](Ranks& ranks) {
      go_back(ranks, mpi::TensorParallelEncoder<float>(whole, ranks).layers[0]);
    });
  }
}

}  // namespace
