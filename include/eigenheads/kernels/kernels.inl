// SPDX-License-Identifier: MIT
// The kernels for one instruction set, in the order in which they build on each other. Included by
// targets.hpp inside a namespace, after the file of that set's register.
// clang-format off
#include <eigenheads/kernels/math.inl>
#include <eigenheads/kernels/trigonometry.inl>
#include <eigenheads/kernels/rotary.inl>
#include <eigenheads/kernels/panels.inl>
#include <eigenheads/kernels/tile.inl>
#include <eigenheads/kernels/stored.inl>
#include <eigenheads/kernels/matmul.inl>
#include <eigenheads/kernels/softmax.inl>
#include <eigenheads/kernels/rows.inl>
#include <eigenheads/kernels/masked_softmax.inl>
#include <eigenheads/kernels/key_blocks.inl>
#include <eigenheads/kernels/attention.inl>
#include <eigenheads/kernels/attention_parts.inl>
#include <eigenheads/kernels/backward/linear.inl>
#include <eigenheads/kernels/backward/scores.inl>
#include <eigenheads/kernels/backward/queries.inl>
#include <eigenheads/kernels/backward/attention.inl>
#include <eigenheads/kernels/statistics/weights.inl>
#include <eigenheads/kernels/statistics/contributions.inl>
#include <eigenheads/kernels/doors.inl>
// clang-format on
