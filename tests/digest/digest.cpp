// SPDX-License-Identifier: MIT
// Prints the digests of this build on this CPU, for tests/digest/run.
#include <cinttypes>
#include <cstdio>

#include "nn_digests.hpp"

int main() {
  for (const auto& [name, value] : digest::all())
    std::printf("%016" PRIx64 " %s\n", value, name.c_str());
  std::fprintf(stderr, "%s\n", eigenheads::name_of(eigenheads::instruction_set()));
}
