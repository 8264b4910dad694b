// SPDX-License-Identifier: MIT
#pragma once
// What the tests of faults share about modules.
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/parameter.hpp>

#include "context.hpp"
#include "support.hpp"

namespace support {

// A context whose threads have started, and whose scratch memory each call is to take anew.
class Cold {
 public:
  explicit Cold(int threads) : context_(threads, kAnyWork) { start_threads(context_); }
  [[nodiscard]] eh::Context& context() { return context_; }

 private:
  eh::Context context_;
};

// Of modules, or of their gradients.
template <class Module>
[[nodiscard]] testing::AssertionResult same_parameters(const Module& a, const Module& b) {
  std::vector<std::pair<std::string, std::vector<double>>> of_a, of_b;
  const auto collect = [](auto& into, const Module& module) {
    module.for_each_parameter([&]<class T>(const eh::Parameter<T>& parameter) {
      std::vector<typename eh::Parameter<T>::Value> values(
          static_cast<std::size_t>(parameter.size()));
      parameter.copy_to(values);
      into.emplace_back(parameter.name(), std::vector<double>(values.begin(), values.end()));
    });
  };
  collect(of_a, a);
  collect(of_b, b);
  if (of_a.size() != of_b.size()) return testing::AssertionFailure() << "not as many parameters";
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    if (of_a[i].first != of_b[i].first)
      return testing::AssertionFailure() << of_a[i].first << " is not " << of_b[i].first;
    const auto &x = of_a[i].second, &y = of_b[i].second;
    if (auto same = same_bits(TensorView<double, 1>(x.data(), {std::ssize(x)}),
                              TensorView<double, 1>(y.data(), {std::ssize(y)}));
        !same)
      return same << ", of " << of_a[i].first;
  }
  return testing::AssertionSuccess();
}

}  // namespace support
