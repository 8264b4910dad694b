// SPDX-License-Identifier: MIT
// Attention reads its inputs where they are: up to their last byte, however far, and nothing else.
#include <algorithm>
#include <array>
#include <sys/mman.h>
#include <unistd.h>

#include <eigenheads/attention.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::scaled_dot_product_attention;

template <class T>
class AttentionMemory : public testing::Test {};
TYPED_TEST_SUITE(AttentionMemory, Scalars, ScalarNames);

// A copy of a tensor that may only be read, and that ends where memory does.
template <class T>
class AtTheEndOfMemory {
 public:
  explicit AtTheEndOfMemory(const Tensor<T, 4>& x) : shape_(TensorView(x).dimensions()) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto bytes = static_cast<std::size_t>(x.size()) * sizeof(T);
    readable_ = (bytes + page - 1) / page * page;
    size_ = readable_ + page;
    start_ = static_cast<char*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    data_ = reinterpret_cast<T*>(start_ + readable_ - bytes);
    std::copy_n(x.data(), x.size(), data_);
    mprotect(start_, readable_, PROT_READ);
    mprotect(start_ + readable_, page, PROT_NONE);
  }
  AtTheEndOfMemory(const AtTheEndOfMemory&) = delete;
  AtTheEndOfMemory& operator=(const AtTheEndOfMemory&) = delete;
  ~AtTheEndOfMemory() { munmap(start_, size_); }

  [[nodiscard]] TensorView<T, 4> view() const { return {data_, shape_}; }

 private:
  std::array<Index, 4> shape_;
  std::size_t readable_, size_;
  char* start_;
  T* data_;
};

TYPED_TEST(AttentionMemory, NothingIsReadBeyondTheInputs) {
  using T = TypeParam;
  const auto expect = [](Index Q, Index K, Index D, Index V) {
    const auto q = random_tensor<T>(1, 1, 2, Q, D), k = random_tensor<T>(2, 1, 1, K, D),
               v = random_tensor<T>(3, 1, 1, K, V);
    const AtTheEndOfMemory<T> q_end(q), k_end(k), v_end(v);
    const auto got =
        scaled_dot_product_attention(q_end.view(), k_end.view(), v_end.view(), {}, {.scale = 0.25});
    const auto exact = textbook<T>(q, k, v, {.Q = Q, .K = K}, Wide<T>(0.25));
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound)) << Q << ' ' << K << ' ' << D;
  };
  for (Index D = 1; D <= 67; ++D) expect(3, 5, D, D);
  for (Index K = 1; K <= 129; ++K) expect(1 + K % 9, K, 3, 2);
}

// Element numbers beyond 2^31; only the pages of four keys are ever touched.
TEST(AttentionFarAway, KeysFarAwayInMemory) {
  constexpr Index D = 65536, K = 32768 + 4;
  constexpr std::size_t bytes = std::size_t{D} * K * sizeof(float);
  const auto map = [] {
    return static_cast<float*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  };
  float *const keys = map(), *const values = map();
  ASSERT_NE(keys, MAP_FAILED);
  ASSERT_NE(values, MAP_FAILED);
  for (Index j = 0; j < 4; ++j) {
    keys[(K - 1 - j) * D] = 0.5f;
    values[(K - 1 - j) * D] = static_cast<float>(j);
    values[(K - 1 - j) * D + D - 1] = static_cast<float>(2 * j);
  }
  const auto output =
      scaled_dot_product_attention(random_tensor<float>(1, 1, 1, 1, D),
                                   TensorView<float, 4>(keys, {1, 1, K, D}),
                                   TensorView<float, 4>(values, {1, 1, K, D}),
                                   {.causal = eh::Causal::bottom_right, .window = {3, -1}})
          .output;
  EXPECT_EQ(output(0, 0, 0, 0), 1.5f);
  EXPECT_EQ(output(0, 0, 0, 1), 0);
  EXPECT_EQ(output(0, 0, 0, D - 1), 3);
  munmap(keys, bytes);
  munmap(values, bytes);
}

}  // namespace
