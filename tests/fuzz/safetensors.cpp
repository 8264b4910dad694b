// SPDX-License-Identifier: MIT
// A .safetensors file of any bytes.
#include "safetensors.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::check_safetensors(fuzz::text_of(bytes, size));
  return 0;
}
