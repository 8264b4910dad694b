// SPDX-License-Identifier: MIT
// examples/tokenizers: ids as Hugging Face's tokenizers give them, and what files are refused.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/tokenizer.hpp"

namespace {

using tokenizers::Tokenizer;
using Ids = std::vector<std::int32_t>;

TEST(Tokenizers, AreRefusedWhereThereAreNone) {
  EXPECT_THROW(static_cast<void>(Tokenizer::load("/nowhere")), std::runtime_error);
}

}  // namespace
