// SPDX-License-Identifier: MIT
// examples/generate with models of other libraries, against what transformers made of them
// (tests/golden/make_language_models.py): all logits, through a cache in pieces with the same bits, and
// the likeliest text of 200 tokens.
#include "generate/pretrained.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <eigenheads/io/safetensors.hpp>

#include "generate/writing.hpp"
#include "support.hpp"

namespace {

using namespace support;
using namespace language_model;

class PretrainedModels : public testing::TestWithParam<const char*> {
 protected:
  const std::filesystem::path folder_ = std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests" /
                                        "golden" / "language_models" / GetParam();
  const eh::Safetensors expected_ = eh::read_safetensors(folder_ / "expected.safetensors");
  const Pretrained pretrained_ = load_pretrained(folder_, 256);
  eh::Context context_{1};

  [[nodiscard]] Ids ids(const std::string& name) const {
    const auto ids = expected_.tensor<std::int64_t, 1>(name);
    return Ids(ids.data(), ids.data() + ids.size());
  }
};

TEST_P(PretrainedModels, LogitsAreThoseOfTransformers) {
  const auto expected = expected_.tensor<double, 2>("logits");
  const Ids text = ids("ids");
  const Tensor<float, 2> logits = pretrained_.model(text, {std::ssize(text)}, context_);
  ASSERT_EQ(logits.dimensions(), expected.dimensions());
  for (Index i = 0; i < logits.size(); ++i)
    EXPECT_NEAR(static_cast<double>(logits.data()[i]), expected.data()[i], 1e-5) << i;
}

TEST_P(PretrainedModels, TokenByTokenTheLogitsHaveTheBitsOfTheWhole) {
  const Ids text = ids("ids");
  const Tensor<float, 2> whole = pretrained_.model(text, {std::ssize(text)}, context_);
  for (const Index piece : {Index{1}, Index{5}}) {
    Reader<float> reader(pretrained_.model, 1, 256, context_);
    for (Index first = 0; first < std::ssize(text); first += piece) {
      const Index count = (std::min)(piece, std::ssize(text) - first);
      const Tensor<float, 2> last =
          reader(TensorView<Index, 1>(text.data() + first, {count}), {count});
      for (Index i = 0; i < last.size(); ++i)
        ASSERT_EQ(last.data()[i], whole(first + count - 1, i)) << first << ' ' << i;
    }
  }
}

TEST_P(PretrainedModels, TheLikeliestTextIsThatOfTransformers) {
  const Ids greedy = ids("greedy");
  const auto written =
      write_after(pretrained_.model, {ids("begin")},
                  {.sampling = {.temperature = 0}, .max_new_tokens = std::ssize(greedy)}, context_);
  EXPECT_EQ(written.front(), greedy);
}

TEST_P(PretrainedModels, ATextEndsAsTheConfigurationSays) {
  EXPECT_EQ(pretrained_.end_ids, Ids{1});
}

INSTANTIATE_TEST_SUITE_P(Families, PretrainedModels,
                         testing::Values("gpt2", "llama", "llama_options", "mistral", "qwen2"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
