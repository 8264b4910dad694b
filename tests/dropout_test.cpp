// SPDX-License-Identifier: MIT
// Dropout is a probability below one, and prints as PyTorch's does.
#include <sstream>
#include <string>

#include <eigenheads/dropout.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Dropout;

TEST(Dropout, ItsProbabilityIsBelowOne) {
  EXPECT_EQ(Dropout().p(), 0);
  for (const double p : {0.0, 0.1, 0.5, 1 - 0x1p-53}) EXPECT_EQ(Dropout(p).p(), p);
}

TEST(Dropout, OtherNumbersAreRefused) {
  const auto refused = [](double p) { return refusal([&] { return Dropout(p); }); };
  const auto sentence = [](const std::string& p) {
    return "eigenheads: dropout is " + p + "; expected 0 <= dropout < 1";
  };
  EXPECT_EQ(refused(1), sentence("1"));
  EXPECT_EQ(refused(1.1), sentence("1.1"));
  EXPECT_EQ(refused(-0.1), sentence("-0.1"));
  EXPECT_EQ(refused(-Limits<double>::denorm_min()), sentence("-5e-324"));
  EXPECT_EQ(refused(kNan<double>), sentence("nan"));
  EXPECT_EQ(refused(kInf<double>), sentence("inf"));
  EXPECT_EQ(refused(-kInf<double>), sentence("-inf"));
}

TEST(Dropout, PrintsTheShortestNumberThatReadsBack) {
  const auto text = [](double p) {
    std::ostringstream out;
    out.precision(1);  // of no effect
    out << Dropout(p);
    return out.str();
  };
  EXPECT_EQ(text(0), "Dropout(p=0, inplace=False)");
  EXPECT_EQ(text(0.5), "Dropout(p=0.5, inplace=False)");
  EXPECT_EQ(text(0.1), "Dropout(p=0.1, inplace=False)");
  EXPECT_EQ(text(0.1 + 0.2), "Dropout(p=0.30000000000000004, inplace=False)");
}

}  // namespace
