// SPDX-License-Identifier: MIT
// Calls without a context of their own from the destructors of static and thread_local objects, when
// the thread's default context may be gone: an address sanitizer has something to find here. Prints
// what the calls gave.
#include <cstdio>
#include <thread>

#include <eigenheads/multi_head_attention.hpp>

namespace {

namespace eh = eigenheads;

// Calls a layer when it is made and when it goes.
class Caller {
 public:
  explicit Caller(const char* name)
      : name_(name), layer_({.num_hiddens = 4, .num_heads = 2}), x_(1, 300, 4) {
    x_.setConstant(0.5f);
    first_ = layer_(x_, x_, x_)(0, 0, 0);
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
  ~Caller() {
    const float last = layer_(x_, x_, x_)(0, 0, 0);
    (void)layer_(x_, x_, x_);
    std::printf("%s: %s\n", name_, first_ == last ? "the same" : "another");
  }

 private:
  const char* name_;
  eh::MultiHeadAttention<float> layer_;
  eh::Tensor<float, 3> x_;
  float first_ = 0;
};

}  // namespace

int main() {
  static Caller at_exit("static");  // its destructor runs after those of main's thread
  (void)eh::default_context();
  std::thread([] {
    thread_local Caller before("thread_local, made before the context");
    (void)eh::default_context();
  }).join();
}
