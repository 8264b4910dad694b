// SPDX-License-Identifier: MIT
// expects: give the tensor a name that outlives the function
// each of: ALIBI VECTOR BIAS
#include <utility>

#include <eigenheads/score.hpp>

namespace eh = eigenheads;

eh::Tensor<float, 1> slopes();
eh::Tensor<float, 4> bias();
const eh::Tensor<float, 4> constant();

void call(const eh::Tensor<float, 1>& named) {
  (void)named;
#if defined(ALIBI)
  (void)eh::Alibi<float>(slopes());
#elif defined(VECTOR)
  (void)eh::Alibi(Eigen::VectorXf());
#elif defined(BIAS)
  (void)eh::ScoreBias(bias());
#else
  (void)eh::Alibi(named);
  (void)eh::Alibi(eh::TensorView(named));
  (void)eh::Alibi(eh::TensorView<float, 1>(named.data(), {4}));
  (void)eh::Alibi<float>(eh::TensorView(named));
  (void)eh::Alibi(Eigen::TensorMap<const eh::Tensor<float, 1> >(named.data(), 4));
#endif
}
