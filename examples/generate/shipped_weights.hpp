// SPDX-License-Identifier: MIT
#pragma once
// The model that `generate train` makes with no options, as this program holds it: the bytes of
// weights.safetensors beside this file.
#include <string_view>

namespace byte_model {

[[nodiscard]] std::string_view shipped_weights();

}  // namespace byte_model
