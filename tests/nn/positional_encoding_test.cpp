// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include <eigenheads/nn/positional_encoding.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::PositionalEncoding, eh::Sequences;

template <class T>
class Positions : public testing::Test {};
TYPED_TEST_SUITE(Positions, Scalars, ScalarNames);

TYPED_TEST(Positions, AreTheWavesOfTheBook) {
  using T = TypeParam;
  for (const Index d : {1, 2, 7, 32, 384}) {
    const Tensor<T, 2> table = eh::sinusoidal_positions<T>(1200, d);
    for (Index i = 0; i < 1200; i += i < 70 ? 1 : 97)
      for (Index k = 0; k < d; ++k) {
        const long double exponent = static_cast<long double>(k / 2 * 2) / d;
        const long double angle = i / std::pow(10000.0L, exponent);
        const long double exact = k % 2 == 0 ? std::sin(angle) : std::cos(angle);
        // An angle in double is some units of its own last place off, and so is the wave; a float is
        // the nearest.
        const long double bound = 8 * angle * Limits<double>::epsilon() +
                                  std::abs(exact) * Limits<T>::epsilon() * 1.01L / 2 +
                                  2 * Limits<double>::epsilon() * std::abs(exact);
        ASSERT_LE(std::abs(table(i, k) - exact), bound) << i << ' ' << k << " of " << d;
      }
  }
}

TYPED_TEST(Positions, AreAddedToPaddedAndPackedRows) {
  using T = TypeParam;
  const std::vector<Index> lens{5, 0, 70, 1, 64}, places{0, 3, 30, 60, 36};
  const Sequences sequences(lens);
  for (const Index E : {1, 31, 32, 33}) {
    const PositionalEncoding<T> encoding({.num_hiddens = E, .max_len = 130});
    const Tensor<T, 3> x = random_tensor<T>(1, 5, 70, E);
    Context three(3, kAnyWork);
    for (const bool moves : {false, true}) {
      const eh::ValidLens first = moves ? eh::ValidLens(places) : eh::ValidLens();
      const Tensor<T, 3> y = encoding(x, first);
      for (Index b = 0; b < 5; ++b)
        for (Index i = 0; i < 70; ++i)
          for (Index e = 0; e < E; ++e) {
            const Index at = moves ? places[static_cast<std::size_t>(b)] + i : i;
            ASSERT_EQ(bits(y(b, i, e)), bits(T(x(b, i, e) + encoding.table()(at, e))));
          }
      EXPECT_TRUE(same_bits(encoding(x, first, three), y));
      const Tensor<T, 2> packed = eh::pack(x, sequences);
      const Tensor<T, 2> of_packed = encoding(packed, sequences, first);
      EXPECT_TRUE(same_bits(of_packed, eh::pack(y, sequences)));
      EXPECT_TRUE(same_bits(encoding(packed, sequences, first, three), of_packed));
      Tensor<T, 2> in_place = packed;
      encoding.forward_into(in_place, in_place, sequences, first);
      EXPECT_TRUE(same_bits(in_place, of_packed));
    }
  }
}

TYPED_TEST(Positions, ALazyModuleTakesItsSizeFromTheFirstCall) {
  using T = TypeParam;
  PositionalEncoding<T> lazy({.max_len = 6});
  const Tensor<T, 3> x = random_tensor<T>(1, 2, 5, 4);
  EXPECT_NE(refusal<std::logic_error>([&] { return std::as_const(lazy)(x); }), "not refused");
  const Tensor<T, 2> rows = random_tensor<T>(2, 5, 4);
  EXPECT_NE(refusal([&] { return lazy(random_tensor<T>(1, 2, 7, 3)); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy(rows, eh::Sequences{2, 2}); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy(rows, eh::Sequences{2, 3}, {0, 4}); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy(TensorView<T, 3>(nullptr, {1, 2, 8})); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy(TensorView<T, 2>(nullptr, {2, 8}), eh::Sequences{2}); }),
            "not refused");
  EXPECT_EQ(lazy.num_hiddens(), 0);  // a call that is refused has given it no size
  const Tensor<T, 3> y = lazy(x);
  EXPECT_TRUE(same_bits(y, PositionalEncoding<T>({.num_hiddens = 4, .max_len = 6})(x)));
  std::ostringstream text;
  text << lazy;
  EXPECT_EQ(text.str(), "PositionalEncoding(num_hiddens=4, max_len=6)");
}

TYPED_TEST(Positions, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  using Made = PositionalEncoding<T>;
  EXPECT_EQ(refusal([] { return Made({.num_hiddens = 4, .max_len = 0}); }),
            "eigenheads: PositionalEncoding: max_len is 0; expected 1 or more");
  EXPECT_EQ(
      refusal([] { return Made({.num_hiddens = -1, .max_len = 6}); }),
      "eigenheads: PositionalEncoding: num_hiddens is -1; expected 1 or more, or 0 to take it "
      "from the first input");
  Made lazy({.max_len = 6});
  EXPECT_EQ(refusal([&] { lazy.initialize(0); }),
            "eigenheads: PositionalEncoding: num_hiddens is 0; expected 1 or more");
  lazy.initialize(4);
  EXPECT_EQ(refusal([&] { lazy.initialize(5); }),
            "eigenheads: PositionalEncoding: num_hiddens is 5; expected 4");
  const Made encoding({.num_hiddens = 4, .max_len = 6});
  const Tensor<T, 3> x = random_tensor<T>(1, 2, 5, 4), other = random_tensor<T>(1, 2, 5, 3);
  Tensor<T, 3> y = constant_tensor<T>(T(7), 2, 5, 4);
  EXPECT_EQ(refusal([&] { return encoding(other); }),
            "eigenheads: x has shape [2, 5, 3]; expected [B, L, num_hiddens] = [*, *, 4]");
  EXPECT_EQ(refusal([&] { encoding.forward_into(y, x, {1, 2}); }),
            "eigenheads: PositionalEncoding: sequence 1 has 5 rows from position 2 on; expected "
            "positions below 6, max_len");
  EXPECT_EQ(refusal([&] { encoding.forward_into(y, x, {0, -1}); }),
            "eigenheads: first_positions[1] is -1; expected 0 to the positions of the table, 6");
  EXPECT_EQ(refusal([&] { encoding.forward_into(y, x, {0}); }),
            "eigenheads: first_positions has shape [1]; expected [B] = [2]");
  EXPECT_TRUE(all_are(y, T(7)));
  const TensorView<T, 2> rows(x.data(), {10, 4});
  EXPECT_EQ(refusal([&] { return encoding(rows, Sequences{7, 3}); }),
            "eigenheads: PositionalEncoding: sequence 0 has 7 rows from position 0 on; expected "
            "positions below 6, max_len");
}

}  // namespace
