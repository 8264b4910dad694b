// SPDX-License-Identifier: MIT
// Which kernels run: the best that the CPU has, or those that EIGENHEADS_ISA asks for: CI
// runs the contract, the golden data and the kernels again with each that the CPU has.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/linear.hpp>

#include "kernels/kernels.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::InstructionSet;

constexpr const char* kVariable = "EIGENHEADS_ISA";

// Sets the variable to something else while it lives.
class Asked {
 public:
  explicit Asked(const char* value) {
    if (const char* before = std::getenv(kVariable)) before_ = before;
    set(value);
  }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;
  ~Asked() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static void set(const char* value) {
    if (value == nullptr)
      unsetenv(kVariable);
    else
      setenv(kVariable, value, 1);
  }
  std::optional<std::string> before_;
};

std::vector<InstructionSet> sets_that_run_here() {
  std::vector<InstructionSet> sets;
  for_each_instruction_set([&](auto, InstructionSet set) { sets.push_back(set); });
  return sets;
}

#if defined(__linux__) && defined(__x86_64__)
// What the first processor has, as the system says it.
std::set<std::string> flags_of_the_system() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("flags")) {
      std::istringstream words(line);
      std::set<std::string> flags;
      for (std::string word; words >> word;) flags.insert(word);
      return flags;
    }
  return {};
}

TEST(InstructionSets, AreThoseThatTheSystemSaysTheCpuHas) {
  const auto flags = flags_of_the_system();
  ASSERT_FALSE(flags.empty());
#if defined(EIGENHEADS_X86)
  const bool avx2 = flags.contains("avx2") && flags.contains("fma");
#else  // a build of the portable kernels alone
  const bool avx2 = false;
#endif
  const bool avx512 = avx2 && flags.contains("avx512f") && flags.contains("avx512bw") &&
                      flags.contains("avx512dq") && flags.contains("avx512vl");
  EXPECT_TRUE(eh::detail::runs_here(InstructionSet::portable));
  EXPECT_EQ(eh::detail::runs_here(InstructionSet::avx2), avx2);
  EXPECT_EQ(eh::detail::runs_here(InstructionSet::avx512), avx512);
}
#endif

TEST(InstructionSets, TheBestIsChosenUnlessOneIsAskedFor) {
  const auto sets = sets_that_run_here();
  const Asked nothing(nullptr);
  EXPECT_EQ(eh::detail::choose_instruction_set(), *std::max_element(sets.begin(), sets.end()));
  for (const InstructionSet set : sets) {
    const Asked one(eh::name_of(set));
    EXPECT_EQ(eh::detail::choose_instruction_set(), set);
  }
}

TEST(InstructionSets, WhatThisCpuHasNotIsRefused) {
  const auto sets = sets_that_run_here();
  for (const std::string name : {"portable", "neon", "avx2", "avx512", "AVX2", "sse"}) {
    const Asked one(name.c_str());
    const bool runs = std::any_of(sets.begin(), sets.end(),
                                  [&](InstructionSet set) { return name == eh::name_of(set); });
    EXPECT_EQ(refusal([] { return eh::detail::choose_instruction_set(); }),
              runs ? "not refused"
                   : "eigenheads: EIGENHEADS_ISA is " + name +
                         "; expected portable, neon, avx2 or avx512, and one that this CPU has");
  }
}

// One for the whole process: weights are packed for it.
TEST(InstructionSets, TheChoiceIsMadeOnce) {
  const InstructionSet chosen = eh::instruction_set();
  const char* asked = std::getenv(kVariable);
  EXPECT_EQ(asked == nullptr || std::string(asked) == eh::name_of(chosen), true);
  eh::Linear<float> linear({.in_features = 5, .out_features = 70});
  const auto weight = linear.weight();
  const Asked other(chosen == InstructionSet::portable ? nullptr : "portable");
  EXPECT_EQ(eh::instruction_set(), chosen);
  EXPECT_TRUE(same_bits(linear.weight(), weight));
}

}  // namespace
