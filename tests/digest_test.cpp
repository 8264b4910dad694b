// SPDX-License-Identifier: MIT
// The bits of this build are those of every other one: tests/digest/digests.txt holds them, and
// tests/digest/run compares compilers, flags and CPUs.
#include <cstdint>
#include <fstream>
#include <gtest/gtest.h>
#include <ios>
#include <map>
#include <string>

#include "digest/nn_digests.hpp"

namespace {

std::map<std::string, std::uint64_t> committed() {
  std::ifstream file(std::string(EIGENHEADS_SOURCE_DIR) + "/tests/digest/digests.txt");
  std::map<std::string, std::uint64_t> digests;
  std::string name;
  for (std::uint64_t value = 0; file >> std::hex >> value >> name;) digests[name] = value;
  return digests;
}

TEST(Digest, EveryResultHasTheCommittedBits) {
  const auto expected = committed();
  const auto got = digest::all();
  ASSERT_EQ(got.size(), expected.size());
  // Without a fused multiply-add, bits are outside of the contract: only the list is compared.
  const bool is_fused = eigenheads::instruction_set() != eigenheads::InstructionSet::portable;
  for (const auto& [name, value] : got) {
    ASSERT_EQ(expected.count(name), 1u) << name;
    EXPECT_TRUE(!is_fused || value == expected.at(name)) << name;
  }
}

// Of the digest itself.
TEST(Digest, CountsMinusZeroAsZeroAndAllNanAlike) {
  using digest::digest_of;
  eigenheads::Tensor<float, 1> a(2), b(2), c(2);
  a.setValues({0.0f, std::numeric_limits<float>::quiet_NaN()});
  b.setValues({-0.0f, -std::numeric_limits<float>::signaling_NaN()});
  c.setValues({0.0f, 1.0f});
  EXPECT_EQ(digest_of(a), digest_of(b));
  EXPECT_NE(digest_of(a), digest_of(c));
  EXPECT_NE(digest_of(eigenheads::Tensor<float, 2>(0, 1)),
            digest_of(eigenheads::Tensor<float, 2>(1, 0)));
  c.setValues({0.0f, 1.0f + std::numeric_limits<float>::epsilon()});
  const auto next = digest_of(c);
  c.setValues({0.0f, 1.0f});
  EXPECT_NE(digest_of(c), next);
}

}  // namespace
