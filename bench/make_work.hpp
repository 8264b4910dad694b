// SPDX-License-Identifier: MIT
#pragma once
// A case of any kind with its tensors.
#include <memory>

#include "cases.hpp"
#include "training_work.hpp"
#include "work.hpp"

namespace bench {

template <class T>
[[nodiscard]] std::unique_ptr<Work<T>> make_work(const Case& c) {
  switch (c.kind) {
    case Kind::projection:
      return std::make_unique<ProjectionWork<T>>(c);
    case Kind::attention:
      return std::make_unique<AttentionWork<T>>(c);
    case Kind::attention_backward:
      return std::make_unique<AttentionBackwardWork<T>>(c);
    case Kind::training:
      return std::make_unique<TrainingWork<T>>(c);
    default:
      return std::make_unique<LayerWork<T>>(c);
  }
}

}  // namespace bench
