// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/tensor_feed_forward.hpp>

#include "nn/transformers.hpp"
#include "support.hpp"

namespace {

namespace mpi = eigenheads::mpi;
using namespace support;
using eh::Activation, eh::FeedForward, eh::FeedForwardOptions;
using mpi::Ranks;

// Sizes that do not divide by the ranks, and fewer hidden numbers or outputs than ranks.
const std::vector<FeedForwardOptions> kOptions = {
    {.size = 7, .hidden_size = 19, .activation = Activation::gelu},
    {.size = 13, .hidden_size = 35, .activation = Activation::silu, .gated = true},
    {.size = 3,
     .hidden_size = 5,
     .activation = Activation::gelu_tanh,
     .gated = true,
     .bias = false},
    {.size = 33, .hidden_size = 2, .activation = Activation::relu, .bias = false}};

template <class T>
class TensorParallelFeedForwardTest : public testing::Test {};
TYPED_TEST_SUITE(TensorParallelFeedForwardTest, Scalars, ScalarNames);

// check(ranks, this rank's part, the whole layer) for all options and sizes.
template <class T, class Check>
void for_each_rank(const Check& check) {
  for (const FeedForwardOptions& options : kOptions) {
    const auto whole = make<FeedForward<T>>(options);
    for (const int size : {1, 2, 3, 4, 8}) {
      SCOPED_TRACE(std::to_string(options.hidden_size) + " on " + std::to_string(size));
      mpi::run_locally(size, [&](Ranks& ranks) {
        check(ranks, mpi::TensorParallelFeedForward<T>(whole, ranks), whole);
      });
    }
  }
}

TYPED_TEST(TensorParallelFeedForwardTest, HasTheBitsOfOneProcess) {
  using T = TypeParam;
  for_each_rank<T>([](Ranks&, const auto& part, const auto& whole) {
    for (const Index rows : {Index{0}, Index{1}, Index{30}}) {
      const auto x = random_tensor<T>(1, rows, whole.size());
      EXPECT_TRUE(same_bits(part(x), whole(x))) << rows;
    }
    auto x = random_tensor<T>(2, 2, 9, whole.size());
    const auto y = whole(x);
    Context threads(3, kAnyWork);
    part.forward_into(eh::TensorSpan<T, 3>(x), TensorView<T, 3>(x), threads);  // in place
    EXPECT_TRUE(same_bits(x, y));
  });
}

TYPED_TEST(TensorParallelFeedForwardTest, GradientsHaveTheBitsOfOneProcess) {
  using T = TypeParam;
  const Sequences sequences{4, 0, 270, 1};
  for_each_rank<T>([&](Ranks& ranks, const auto& part, const auto& whole) {
    const auto x = random_tensor<T>(1, sequences.rows(), whole.size());
    auto dy = random_tensor<T>(2, sequences.rows(), whole.size());
    std::fill_n(dy.data() + 5 * whole.size(), whole.size(), T(0));
    typename FeedForward<T>::Activations of_whole, of_part;
    const auto y = whole.forward(x, sequences, of_whole);
    EXPECT_TRUE(same_bits(part.forward(x, sequences, of_part), y));
    auto expected = whole.backward(dy, of_whole);
    auto got = part.backward(dy, of_part);
    const auto compare = [&] {
      EXPECT_TRUE(same_bits(got.x, expected.x));
      const auto share = [&](const auto& of, const auto& all, const mpi::Shares& shares) {
        const auto rows = shares.of(ranks.rank());
        ASSERT_EQ(of.weight.dimension(0), rows.count());
        for (Index r = rows.begin; r < rows.end; ++r)
          EXPECT_TRUE(same_bits(row(of.weight, r - rows.begin), row(all.weight, r)));
        for (Index r = rows.begin; all.bias.size() > 0 && r < rows.end; ++r)
          EXPECT_EQ(bits(of.bias(r - rows.begin)), bits(all.bias(r)));
      };
      share(got.up, expected.up, part.hidden_shares());
      if (whole.gate) share(got.gate, expected.gate, part.hidden_shares());
      share(got.down, expected.down, part.output_shares());
    };
    compare();
    whole.backward_into(expected, dy, of_whole, true);
    part.backward_into(got, dy, of_part, true);
    compare();
  });
}

TYPED_TEST(TensorParallelFeedForwardTest, SendsToTheByteWhatItSays) {
  using T = TypeParam;
  const Index bytes = sizeof(T), rows = 11;
  for_each_rank<T>([&](Ranks& ranks, const auto& part, const auto& whole) {
    const Index rank = ranks.rank(), next = (rank + 1) % ranks.size();
    Index sent = 0, received = 0;
    const auto gather = [&](const mpi::Shares& shares) {
      sent += rows * (shares.total() - shares.count(static_cast<int>(next))) * bytes;
      received += rows * (shares.total() - shares.count(ranks.rank())) * bytes;
    };
    const auto exchange = [&](const mpi::Shares& outputs, const mpi::Shares& inputs) {
      const Index own = outputs.count(ranks.rank()), columns = inputs.count(ranks.rank());
      sent += own * (inputs.total() - columns) * bytes;
      received += (outputs.total() - own) * columns * bytes;
    };
    const auto &hidden = part.hidden_shares(), &outputs = part.output_shares();
    const auto x = random_tensor<T>(1, rows, whole.size());
    typename FeedForward<T>::Activations saved;
    ranks.reset_traffic();
    (void)part.forward(x, saved);
    gather(hidden);
    gather(outputs);
    EXPECT_EQ(ranks.traffic().bytes_sent, sent);
    EXPECT_EQ(ranks.traffic().bytes_received, received);

    (void)part.backward(x, saved);
    gather(hidden);  // h once more
    exchange(outputs, hidden);
    sent += rows * (ranks.size() - 1);  // a byte a row: whether it has a gradient
    received += rows * (ranks.size() - 1);
    for (int first = 0; first < (whole.gate ? 2 : 1); ++first) {
      gather(hidden);
      exchange(hidden, outputs);
      gather(outputs);
    }
    EXPECT_EQ(ranks.traffic().bytes_sent, sent);
    EXPECT_EQ(ranks.traffic().bytes_received, received);
  });
}

// A row counts if any rank has a gradient in it: in what lies there, NaN reaches whom it reaches in one
// process.
TYPED_TEST(TensorParallelFeedForwardTest, ARowWithoutAGradientOnOneRankIsStillARow) {
  using T = TypeParam;
  for (FeedForwardOptions options : kOptions) {
    auto whole = make<FeedForward<T>>(options);
    const Index hidden = options.hidden_size, size = options.size;
    auto down = whole.down.weight();  // the last rank's hidden numbers make nothing
    for (Index o = 0; o < size; ++o)
      for (Index h = hidden / 2; h < hidden; ++h) down(o, h) = T(0);
    whole.down.set_weight(down);
    auto x = random_tensor<T>(1, 3, size);
    x(1, 0) = kNan<T>;
    auto dy = random_tensor<T>(2, 3, size);
    typename FeedForward<T>::Activations of_whole;
    (void)whole.forward(x, of_whole);
    const auto expected = whole.backward(dy, of_whole);
    for (const int count : {2, 4})
      mpi::run_locally(count, [&](Ranks& ranks) {
        const mpi::TensorParallelFeedForward<T> part(whole, ranks);
        typename FeedForward<T>::Activations saved;
        (void)part.forward(x, saved);
        const auto got = part.backward(dy, saved);
        EXPECT_TRUE(same_bits(got.x, expected.x));
        const auto rows = part.hidden_shares().of(ranks.rank());
        for (Index r = rows.begin; r < rows.end; ++r)
          EXPECT_TRUE(same_bits(row(got.up.weight, r - rows.begin), row(expected.up.weight, r)));
      });
  }
}

TEST(TensorParallelFeedForward, OtherRowsOnARankAreRefusedOnAllBeforeAnythingIsSent) {
  const auto whole = make<FeedForward<float>>(kOptions[0]);
  for (const Index features : {Index{7}, Index{8}}) {
    std::vector<std::string> said(3);
    mpi::run_locally(3, [&](Ranks& ranks) {
      const mpi::TensorParallelFeedForward<float> part(whole, ranks);
      const Index rows = features == 7 && ranks.rank() == 2 ? 6 : 5;
      try {
        (void)part(random_tensor<float>(1, rows, features));
      } catch (const std::invalid_argument& error) {
        said[static_cast<std::size_t>(ranks.rank())] = error.what();
      }
      EXPECT_EQ(ranks.traffic().bytes_sent, 0);
    });
    const std::string expected =
        features == 7 ? "rows = 6 on rank 2" : "x has shape [5, 8]; expected [..., size] = [5, 7]";
    for (const std::string& sentence : said)
      EXPECT_NE(sentence.find(expected), std::string::npos) << sentence;
  }
}

TEST(TensorParallelFeedForward, OtherSequencesOnARankAreRefusedOnAllBeforeAnythingIsSent) {
  const auto whole = make<FeedForward<float>>(kOptions[0]);
  const auto x = random_tensor<float>(1, 7, 7);
  for (const bool in_training : {true, false}) {  // or in the backward pass
    std::vector<std::string> said(2);
    mpi::run_locally(2, [&](Ranks& ranks) {
      const mpi::TensorParallelFeedForward<float> part(whole, ranks);
      const eh::Sequences usual{3, 4}, other{4, 3};
      mpi::TensorParallelFeedForward<float>::Activations saved[2];
      const auto r = static_cast<std::size_t>(ranks.rank());
      try {
        if (!in_training) {
          (void)part.forward(x, usual, saved[0]);
          (void)part.forward(x, other, saved[1]);
        }
        ranks.reset_traffic();
        if (in_training)
          (void)part.forward(x, r == 0 ? usual : other, saved[0]);
        else
          (void)part.backward(x, saved[r]);
      } catch (const std::invalid_argument& error) {
        said[r] = error.what();
      }
      EXPECT_EQ(ranks.traffic().bytes_sent, 0);
    });
    for (const std::string& sentence : said)
      EXPECT_NE(sentence.find("a digest of the shape"), std::string::npos) << sentence;
  }
}

TEST(TensorParallelFeedForward, AnotherLayerOnARankIsRefusedOnAllBeforeAnythingIsSent) {
  const FeedForwardOptions usual{.size = 8, .hidden_size = 12};
  const std::pair<FeedForwardOptions, std::string> others[] = {
      {{.size = 8, .hidden_size = 12, .activation = Activation::silu}, "activation"},
      {{.size = 8, .hidden_size = 12, .gated = true}, "whether it is gated"},
      {usual, "whether gradients are added to"}};
  for (const auto& [other, expected] : others) {
    std::vector<std::string> said(3);
    mpi::run_locally(3, [&, options = other](Ranks& ranks) {
      const bool is_other = ranks.rank() == 1;
      const mpi::TensorParallelFeedForward<float> part(is_other ? options : usual, ranks);
      const auto x = random_tensor<float>(1, 5, 8);
      try {
        mpi::TensorParallelFeedForward<float>::Activations saved;
        (void)part.forward(x, saved);
        auto gradients = part.backward(x, saved);
        ranks.reset_traffic();
        part.backward_into(gradients, x, saved, is_other);
      } catch (const std::invalid_argument& error) {
        said[static_cast<std::size_t>(ranks.rank())] = error.what();
      }
      EXPECT_EQ(ranks.traffic().bytes_sent, 0);
    });
    for (const std::string& sentence : said)
      EXPECT_NE(sentence.find(expected), std::string::npos) << sentence;
  }
}

TEST(TensorParallelFeedForward, WhatDoesNotFitIsRefusedOnAllBeforeAnythingIsSent) {
  using Part = mpi::TensorParallelFeedForward<float>;
  const auto sentence_of = [](const auto& call) {
    std::vector<std::string> said(2, "not refused");
    mpi::run_locally(2, [&](Ranks& ranks) {
      Part part(FeedForwardOptions{.size = 8, .hidden_size = 12}, ranks);
      Part::Activations saved;
      (void)part.forward(random_tensor<float>(1, 5, 8), eh::Sequences{2, 3}, saved);
      ranks.reset_traffic();
      try {
        call(part, saved);
      } catch (const std::exception& error) {
        said[static_cast<std::size_t>(ranks.rank())] = error.what();
      }
      EXPECT_EQ(ranks.traffic().bytes_sent, 0);
    });
    EXPECT_EQ(said[0], said[1]);
    return said[0];
  };
  const auto x = random_tensor<float>(1, 5, 8);
  EXPECT_EQ(sentence_of([&](Part& part, Part::Activations&) {
              part.down = eh::Linear<float>({.in_features = 12, .out_features = 5});
              (void)part(x);
            }),
            "eigenheads: TensorParallelFeedForward: down is [5, 12]; expected this rank's outputs, "
            "[4, 12]");
  EXPECT_EQ(sentence_of([&](Part& part, Part::Activations& saved) {
              (void)part.forward(x, eh::Sequences{2, 2}, saved);
            }),
            "eigenheads: x has 5 rows; expected 4, those of its 2 sequences");
  EXPECT_EQ(sentence_of([&](Part& part, Part::Activations&) {
              (void)part.backward(x, Part::Activations());
            }),
            "eigenheads: TensorParallelFeedForward: backward needs the activations of a forward "
            "call");
  EXPECT_EQ(sentence_of([&](Part& part, Part::Activations& saved) {
              const Part other(FeedForwardOptions{.size = 8, .hidden_size = 14}, part.ranks());
              (void)other.backward(x, saved);
            }),
            "eigenheads: TensorParallelFeedForward: the activations are those of a layer of other "
            "sizes");
  EXPECT_EQ(sentence_of([&](Part& part, Part::Activations& saved) {
              (void)part.backward(random_tensor<float>(1, 4, 8), saved);
            }),
            "eigenheads: grad_y has shape [4, 8]; expected 5 rows of 2 sequences, those of the "
            "forward call");
}

TEST(TensorParallelFeedForward, OfOptionsItHasItsShareAndNoMore) {
  mpi::run_locally(4, [&](Ranks& ranks) {
    const mpi::TensorParallelFeedForward<float> part(kOptions[1], ranks);
    const Index hidden = ranks.rank() < 3 ? 9 : 8, outputs = ranks.rank() < 1 ? 4 : 3;
    Index size = 0;
    part.for_each_parameter([&](const auto& parameter) { size += parameter.size(); });
    EXPECT_EQ(size, 2 * hidden * (13 + 1) + outputs * (35 + 1));
  });
  EXPECT_NE(refusal([&] {
              mpi::run_locally(2, [&](Ranks& ranks) {
                (void)mpi::TensorParallelFeedForward<float>(FeedForwardOptions{.hidden_size = 4},
                                                            ranks);
              });
            }).find("size is 0; expected 1 or more"),
            std::string::npos);
}

}  // namespace
