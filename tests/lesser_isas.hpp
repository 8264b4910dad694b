// SPDX-License-Identifier: MIT
#pragma once
// A test program once more on each instruction set that this CPU has beside the best: a process runs on
// one of them.
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

#include <eigenheads/isa.hpp>

namespace support {

// All tests but those of the filter, of which this is called. EIGENHEADS_TEST_RUNNER is the command that
// runs this program, if one does (an emulator): it runs it again.
inline void run_on_lesser_instruction_sets(const std::string& but) {
  namespace eh = eigenheads;
  using enum eh::InstructionSet;
  if (std::getenv("EIGENHEADS_ISA") != nullptr) GTEST_SKIP() << "this is one of them";
  char program[4096];
  const auto length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length < 0) GTEST_SKIP() << "the program does not know where it is";
  program[length] = '\0';
  const char* runner = std::getenv("EIGENHEADS_TEST_RUNNER");
  for (const eh::InstructionSet set : {portable, neon, avx2, avx512}) {
    if (set == eh::instruction_set() || !eh::detail::runs_here(set)) continue;
    const std::string command = std::string("EIGENHEADS_ISA=") + eh::name_of(set) + ' ' +
                                (runner != nullptr ? runner : "") + " '" + program +
                                "' --gtest_brief=1 --gtest_filter=-" + but;
    EXPECT_EQ(std::system(command.c_str()), 0) << eh::name_of(set);
  }
}

}  // namespace support
