// SPDX-License-Identifier: MIT
// The kernels of nn/ for one instruction set, in the order in which they build on each other and on
// those of kernels/kernels.inl. Included by nn/targets.hpp inside a namespace.
// clang-format off
#include <eigenheads/kernels/nn/elementary.inl>
#include <eigenheads/kernels/nn/activation.inl>
#include <eigenheads/kernels/nn/norm.inl>
#include <eigenheads/kernels/nn/rows.inl>
#include <eigenheads/kernels/nn/additive.inl>
#include <eigenheads/kernels/nn/additive_backward.inl>
#include <eigenheads/kernels/nn/doors.inl>
// clang-format on
